"""objectscape explore: a page in the browser in which a person takes hold of what a network has found."""

from __future__ import annotations

import argparse
import os
import platform
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import (
    HelpText,
    add_device,
    at_least,
    data_config,
    device_of,
    note,
    open_model,
    split_words,
    trained_size,
)
from objectscape.pretrained import FIRST, PREFIX, resolve

if TYPE_CHECKING:
    from objectscape.data.dataset import SceneDataset
    from objectscape.explorer.session import Session
    from objectscape.explorer.words import WordsSession

PORT = 8760


def main(words: list[str]) -> int:
    """Parse the command line; serve the page until Ctrl-C, or write it into a file."""
    parser = argparse.ArgumentParser(
        prog="objectscape explore",
        description="Open a page in the browser in which objects light up under the mouse and are moved, removed, "
        "copied and exchanged, and latents have sliders.",
        epilog="examples:\n"
        "  objectscape explore                            # a model that comes with the package\n"
        "  objectscape explore RUN                        # a trained model, on the data it was trained on\n"
        "  objectscape explore RUN data=multi_dsprites    # on other data\n"
        "  objectscape explore RUN RUN2                   # two models on the same scenes\n"
        "  objectscape explore RUN --export page.html     # one file for a talk, a paper, a web site",
        formatter_class=HelpText,
    )
    parser.add_argument("words", nargs="*", metavar="RUN | key=value")
    parser.add_argument("--port", type=at_least(0), default=PORT, help=f"of 127.0.0.1; 0 takes any (default {PORT})")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write one self-contained HTML file instead")
    parser.add_argument("--scenes", type=at_least(1), default=8, help="of an export (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the model's random draws")
    add_device(parser)
    options = parser.parse_intermixed_args(words)
    if options.port > 65535:
        raise ValueError(f"--port {options.port}: ports go from 0 to 65535")
    if options.export is not None and options.export.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--export {options.export}: expected a file that ends in .html")
    folders = [word for word in options.words if "=" not in word] or [PREFIX + FIRST]
    for folder in folders:
        if not resolve(folder).exists() and not folder.startswith("hf://"):
            RunFolder.open(Path(folder))  # says what there is, before anything slow is imported
    sessions = open_sessions(
        folders, [word for word in options.words if "=" in word], device=device_of(options), seed=options.seed
    )
    if options.export is not None:
        from objectscape.explorer.export import page_of
        from objectscape.files import write_text

        write_text(options.export, page_of(sessions[0], scenes=options.scenes))
        print(options.export)
        return 0
    from objectscape.explorer.server import Serving

    serving = Serving(sessions, port=options.port)

    def ready() -> None:
        print(serving.url, flush=True)
        note("Ctrl-C ends it.")
        if "SSH_CONNECTION" in os.environ:
            note(f"From your own machine: ssh -L {serving.port}:127.0.0.1:{serving.port} {platform.node()}")
        if not options.no_browser:
            webbrowser.open(serving.url)

    serving.run(ready)
    return 0


def open_sessions(
    folders: Sequence[str | Path], words: list[str], *, device: str = "cpu", seed: int = 0
) -> list[Session] | list[WordsSession]:
    """Sessions of runs or saved models, all on the data of the first, or on what `words` (data=..., model.x=y) say.

    Raises:
        FileNotFoundError, ValueError: if there is no such model, it has nothing to take hold of, or it does not fit the
            data.
    """
    first = open_session(folders[0], words, device=device, seed=seed)
    if len(folders) == 1:
        return [first]  # type: ignore[return-value]
    others = [open_session(folder, words, device=device, seed=seed, beside=first) for folder in folders[1:]]
    return [first, *others]  # type: ignore[return-value]


def open_session(
    folder: str | Path,
    words: list[str],
    *,
    device: str = "cpu",
    seed: int = 0,
    beside: Session | WordsSession | None = None,
) -> Session | WordsSession:
    """The session of a run or a saved model, on its own data, on what `words` (data=..., model.x=y) say, or on those of
    the session that it stands `beside`.

    Raises:
        FileNotFoundError, ValueError: if there is no such model, it does not divide images into objects, or it does not
            fit the data that are asked for.
    """
    path = resolve(folder)
    model_words, data_words = split_words(words)
    from objectscape.check import check_fit
    from objectscape.contract import Decomposes, Translates
    from objectscape.explorer.session import Session
    from objectscape.explorer.words import WordsSession

    run = RunFolder(path)
    if run.is_run():
        model = open_model(path, model_words)
    else:
        from objectscape.api import load

        model = load(folder, **_values(model_words))
    given = ", ".join([repr(str(folder)), *(repr(word) for word in words)])
    name = path.name if run.is_run() or path.is_dir() else str(folder)
    if isinstance(model, Translates) and not isinstance(model, Decomposes):
        if beside is not None:
            raise ValueError(f"{folder} translates; beside another model it has nothing to show. Explore it alone.")
        return WordsSession(model, name=name, device=device, seed=seed, source=given)
    if isinstance(beside, WordsSession):
        raise ValueError(f"a workspace is explored alone, not beside {folder}")
    side = getattr(model, "image_size", None) or trained_size(path)
    size = (side, side) if isinstance(side, int) else side
    if beside is not None:
        for split in beside.splits[:1]:
            check_fit(model, beside.data(split))
        return Session(
            model,
            dataset=beside.data if beside.splits else None,
            splits=beside.splits,
            name=name,
            image_size=size,
            device=device,
            seed=seed,
            source=given,
        )
    data = None
    try:
        first = _split(run if run.is_run() else None, data_words, "test")
        check_fit(model, first)
        sets: dict[str, SceneDataset] = {"test": first}
        splits = [name for name in ("test", "val", "train") if name == "test" or first.spec.splits.get(name)]

        def data(split: str) -> SceneDataset:
            if split not in sets:
                sets[split] = _split(run if run.is_run() else None, data_words, split)
            return sets[split]
    except (ValueError, OSError) as error:
        if data_words:
            raise
        note(f"no data ({error}); drop or paste pictures on the page")
        splits = []
    return Session(
        model,
        dataset=data,
        splits=splits,
        name=name,
        image_size=size,
        device=device,
        seed=seed,
        source=given,
    )


def _split(run: RunFolder | None, words: list[str], split: str) -> SceneDataset:
    from objectscape.data.building import build_data

    return build_data(data_config(run, words), split)


def _values(options: dict[str, str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}={value}" for key, value in options.items()]))
    return values
