"""Learn structured representations of scenes without labels.

import objectscape

model = objectscape.load("runs/my_run")       # or a saved model's folder
output = model(images)                        # (B, 3, H, W), uint8 or float in [0, 1]; or Scene(image=images)
objectscape.show(images, output).savefig("objects.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from objectscape.lazy import lazy
from objectscape.version import __version__

if TYPE_CHECKING:
    from objectscape.api import evaluate, explore, load, show
    from objectscape.building import trust
    from objectscape.check import check_model
    from objectscape.contract import Model
    from objectscape.scene import Decomposition, Losses, Scene, Spec

__all__ = [
    "Decomposition",
    "Losses",
    "Model",
    "Scene",
    "Spec",
    "__version__",
    "check_model",
    "evaluate",
    "explore",
    "load",
    "show",
    "trust",
]

# on first use, so that `import objectscape` and `objectscape --help` do not wait for torch
__getattr__, __dir__ = lazy(
    __name__,
    {
        "check_model": "objectscape.check",
        "evaluate": "objectscape.api",
        "explore": "objectscape.api",
        "load": "objectscape.api",
        "show": "objectscape.api",
        "trust": "objectscape.building",
        "Model": "objectscape.contract",
        "Scene": "objectscape.scene",
        "Decomposition": "objectscape.scene",
        "Losses": "objectscape.scene",
        "Spec": "objectscape.scene",
        "__version__": "objectscape.version",
        **{package: f"objectscape.{package}" for package in ("data", "metrics", "models", "viz")},
    },
)
