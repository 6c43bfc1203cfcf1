"""Entry points for Python users: load a model, draw what it sees, evaluate it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from objectscape.checkpoints.native import load_model
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.pretrained import FIRST, resolve
from objectscape.scene import Decomposition, Scene, Tensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from objectscape.data.dataset import SceneDataset
    from objectscape.evaluation.asking import Evaluation
    from objectscape.evaluation.questions import Question
    from objectscape.explorer.session import Session
    from objectscape.explorer.words import WordsSession


def load(source: str | Path, **overrides: Any) -> nn.Module:
    """A trained model, in eval mode on the CPU.

    Args:
        source: a model that comes with the package, "pretrained/NAME" (`objectscape list pretrained`); a run folder; a
            folder with config.json and model.safetensors; or "hf://owner/name" on the Hugging Face hub (downloaded).
        overrides: constructor arguments to change, such as `slots=11` or `iterations=5`.

    Raises:
        FileNotFoundError, ValueError: if there is nothing to load, or it does not fit this version.
    """
    if isinstance(source, str) and source.startswith("hf://"):
        from huggingface_hub import snapshot_download

        folder = snapshot_download(source.removeprefix("hf://"), allow_patterns=["config.json", "model.safetensors"])
        return load_model(Path(folder), **overrides)
    path = resolve(source)
    if (path / "config.json").is_file():
        return load_model(path, **overrides)
    return RunFolder.open(path).load_model(**overrides)


def evaluate(
    model: nn.Module,
    data: SceneDataset | Iterable[Tensors] | str | Path,
    *,
    split: str = "test",
    images: int | None = 320,
    batch_size: int = 64,
    ask: Sequence[Question] | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Evaluation:
    """Everything that a model can be asked about a data set, beside baselines that need no learning.

    Args:
        model: any that follows the contract; it is moved to `device` and set to evaluation mode.
        data: a data set; or batches; or the name of a data set as on the command line, with options after it:
            "tetrominoes", "clevr_like data.variant=textures"; or the folder of a run, for the data it was trained on.
        split: of a named data set or a run's data.
        images: from the start of a data set; None for all.
        batch_size: images that the model sees at once.
        ask: questions, each of which must fit; None for all that do (`objectscape list metrics`).
        device: where to compute.
        seed: of the model's random draws.

    Returns:
        Scores by name: `evaluate(model, "tetrominoes")["ari_fg"].mean`. Printing it shows the headline scores.

    Raises:
        ValueError, FileNotFoundError: if there is no such data, or it does not fit the model or a question.
    """
    from objectscape.data.dataset import SceneDataset
    from objectscape.data.loading import EvalLoader
    from objectscape.evaluation.asking import evaluate as put

    if isinstance(data, str | Path):
        data = _named_data(data, split)
    batches: Iterable[Tensors] = (
        data if not isinstance(data, SceneDataset) else EvalLoader(data, batch_size=batch_size, images=images)
    )
    spec = data.spec if isinstance(data, SceneDataset) else None
    return put(model, batches, ask=ask, spec=spec, device=device, seed=seed)


def explore(
    run: str | Path = "pretrained/" + FIRST,
    *words: str,
    serve: bool = True,
    port: int = 0,
    device: str = "cpu",
    seed: int = 0,
) -> Exploration:
    """A page in which a person takes hold of what a model has found, as `objectscape explore` shows it.

    Args:
        run: a run folder, or a saved model as for `load`; without one, the first that comes with the package.
        words: as on the command line: further runs to stand beside it, and "data=multi_dsprites", "data.count=100",
            "model.slots=7".
        serve: start the page's server, in a thread that ends with the program; without it only `session` and `export`.
        port: of 127.0.0.1; 0 takes any that is free.
        device: where to compute.
        seed: of the model's random draws.

    Returns:
        `url` of the page, `session` to ask the same questions from Python, `export(file)`. The last line of a
        notebook's cell shows the page.

    Raises:
        FileNotFoundError, ValueError: if there is no such model or data, or it does not divide images into objects.
    """
    from objectscape.cli.explore import open_sessions

    runs, options = [run, *(word for word in words if "=" not in word)], [word for word in words if "=" in word]
    exploration = Exploration(open_sessions(runs, options, device=device, seed=seed))
    if serve:
        exploration.serve(port)
    return exploration


class Exploration:
    """What `explore` returns."""

    def __init__(self, sessions: list[Session] | list[WordsSession]) -> None:
        self.sessions = sessions
        self.session: Any = sessions[0]
        self.url: str | None = None

    def serve(self, port: int = 0) -> None:
        """Start the server in a thread of its own."""
        from objectscape.explorer.server import Serving

        serving = Serving(self.sessions, port=port)
        serving.start()
        self.url = serving.url

    def export(self, file: str | Path, *, scenes: int = 8) -> Path:
        """Write one HTML file that works without a server."""
        from objectscape.explorer.export import page_of
        from objectscape.files import write_text

        write_text(Path(file), page_of(self.session, scenes=scenes))
        return Path(file)

    def _repr_html_(self) -> str | None:
        """The page inside a notebook."""
        if self.url is None:
            return None
        return f'<iframe src="{self.url}" width="100%" height="760" title="objectscape explore"></iframe>'


def _named_data(data: str | Path, split: str) -> SceneDataset:
    from objectscape.cli.common import data_config
    from objectscape.data.building import build_data

    folder = resolve(data)
    if folder.is_dir():
        return build_data(data_config(RunFolder.open(folder), []), split)
    name, *options = shlex.split(str(data))
    return build_data(data_config(None, [f"data={name}", *options]), split)


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
