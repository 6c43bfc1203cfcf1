"""Learn structured representations of scenes without labels.

import objectscape
from objectscape import Scene

model = objectscape.load("runs/my_run")       # or a saved model's folder
output = model(Scene(image=images))           # images (B, 3, H, W), uint8 or float in [0, 1]
objectscape.show(images, output).savefig("objects.png")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from objectscape.version import __version__

if TYPE_CHECKING:
    from objectscape.api import evaluate, load, show
    from objectscape.building import trust
    from objectscape.check import check_model
    from objectscape.contract import Model
    from objectscape.scene import Decomposition, Losses, Scene, Spec

_HOMES = {
    "check_model": "objectscape.check",
    "evaluate": "objectscape.api",
    "load": "objectscape.api",
    "show": "objectscape.api",
    "trust": "objectscape.building",
    "Model": "objectscape.contract",
    "Scene": "objectscape.scene",
    "Decomposition": "objectscape.scene",
    "Losses": "objectscape.scene",
    "Spec": "objectscape.scene",
}
__all__ = [
    "Decomposition",
    "Losses",
    "Model",
    "Scene",
    "Spec",
    "__version__",
    "check_model",
    "evaluate",
    "load",
    "show",
    "trust",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import objectscape` and `objectscape --help` do not wait for torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'objectscape' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
