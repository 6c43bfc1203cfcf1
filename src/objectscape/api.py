"""The two doors for Python users: load a model, draw what it sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from objectscape.checkpoints.native import load_model
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.scene import Decomposition, Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def load(source: str | Path, **overrides: Any) -> nn.Module:
    """A trained model, in eval mode on the CPU.

    Args:
        source: a run folder, a folder with config.json and model.safetensors, or "hf://owner/name" on the Hugging Face
            hub (downloaded).
        overrides: constructor arguments to change, such as `slots=11` or `iterations=5`.

    Raises:
        FileNotFoundError, ValueError: if there is nothing to load, or it does not fit this version.
    """
    if isinstance(source, str) and source.startswith("hf://"):
        from huggingface_hub import snapshot_download

        folder = snapshot_download(source.removeprefix("hf://"), allow_patterns=["config.json", "model.safetensors"])
        return load_model(Path(folder), **overrides)
    path = Path(source)
    if (path / "config.json").is_file():
        return load_model(path, **overrides)
    return RunFolder.open(path).load_model(**overrides)


def show(images: Tensor | Scene, output: Decomposition, *, count: int = 8) -> Figure:
    """A figure of a decomposition: image, reconstruction, masks and every slot, one row per image.

    Args:
        images: (B, 3, H, W) uint8 or float in [0, 1], or a Scene (whose ground truth is drawn too).
        output: what a model made of them.
        count: rows at most.
    """
    from objectscape.viz import decomposition_figure

    scene = images if isinstance(images, Scene) else Scene(image=images)
    return decomposition_figure(scene.to("cpu"), output.detach().to("cpu"), count=min(count, len(scene)))
