"""What several verbs need."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from objectscape.cli import config as configs

if TYPE_CHECKING:  # torch is imported by the functions that need it, so that `objectscape list` does not wait for it
    from torch import nn

    from objectscape.checkpoints.run_folder import RunFolder
    from objectscape.data.dataset import SceneDataset

console = Console(soft_wrap=True, highlight=False)
errors = Console(stderr=True, highlight=False)


class HelpText(argparse.HelpFormatter):
    """Help as wide as the terminal: paragraphs are wrapped, lines that begin with a space are examples and stay."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = []
        for line in text.splitlines():
            command, hash, comment = line.partition("  # ")
            if line.startswith(" ") and hash and len(line) > width:
                lines += [f"  # {comment.strip()}", command.rstrip()]
            else:
                lines.append(line if line.startswith(" ") else textwrap.fill(line, width))
        return "\n".join(f"{indent}{line}" for line in lines)


def note(text: str) -> None:
    """A line for the person at the terminal, on stderr so that stdout stays usable in pipes."""
    print(text, file=sys.stderr)


def print_fitting(columns: Sequence[str], cells: Sequence[Sequence[str]], *, keep: int, whole: str) -> None:
    """A table on the terminal with as many columns as fit its width; if some do not, a note says where they are.

    Args:
        columns: headings.
        cells: rows.
        keep: columns at the left that are always there.
        whole: where the others are.
    """
    from rich import box
    from rich.table import Table

    widths = [max(len(row[i]) for row in (columns, *cells)) for i in range(len(columns))]
    shown = keep
    while shown < len(columns) and sum(widths[: shown + 1]) + 2 * shown + 2 <= console.width:
        shown += 1
    shown = min(max(shown, keep + 1), len(columns))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns[:shown]):
        table.add_column(column, justify="left" if i < keep else "right", overflow="fold", no_wrap=i >= keep)
    for row in cells:
        table.add_row(*row[:shown])
    console.print(table)
    if shown < len(columns):
        note(f"{len(columns) - shown} more columns do not fit {console.width} characters: {whole}")


def add_device(parser: argparse.ArgumentParser, text: str | None = None) -> None:
    """The option `--device`, which `device_of` reads."""
    parser.add_argument("--device", type=_device, help=text)


def device_of(options: argparse.Namespace) -> str:
    """Where to compute: `--device`, or the best that there is."""
    import torch

    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _device(text: str) -> str:
    """The name of a device that is there."""
    import torch

    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises all three for a missing device
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise argparse.ArgumentTypeError(f"cannot compute on {text!r}; this machine has {', '.join(there)}") from error
    return text


def at_least(minimum: int) -> Callable[[str], int]:
    """A number on the command line that is no smaller than `minimum`."""

    def read(text: str) -> int:
        if not text.removeprefix("-").isdigit() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number, at least {minimum}")
        return int(text)

    return read


def split_words(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """({model option: value text}, the other words)."""
    model = [word for word in words if word.startswith("model.")]
    return (
        {word.partition("=")[0].removeprefix("model."): word.partition("=")[2] for word in model},
        [word for word in words if not word.startswith("model.")],
    )


def open_model(folder: Path, options: dict[str, str]) -> nn.Module:
    """The model of a run (or saved model), with `model.x=y` options applied."""
    from objectscape.checkpoints.run_folder import RunFolder

    values = OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}={value}" for key, value in options.items()]))
    assert isinstance(values, dict)
    try:
        return RunFolder.open(folder).load_model(**{str(key): value for key, value in values.items()})
    except ValueError as error:
        if not options:
            raise
        raise ValueError(f"with {' '.join(f'model.{k}={v}' for k, v in options.items())}: {error}") from error


def data_config(run: RunFolder | None, words: list[str]) -> DictConfig:
    """The data a command works on: `data=NAME data.x=y clip.x=y` words, on top of what the run was trained on.

    Raises:
        ValueError: if neither says which data.
    """
    from objectscape.data.building import data_of

    for word in words:
        if not word.startswith(("data=", "data.", "clip.")):
            raise ValueError(
                f"cannot use {word!r} here; this command takes data=NAME, data.KEY=VALUE and clip.KEY=VALUE"
            )
    if any(word.startswith("data=") for word in words):
        return data_of(configs.load(words))
    if run is not None and run.config().get("data") is not None:
        return data_of(configs.from_file(run.path / "config.yaml", words))
    names = ", ".join(configs.options("data"))
    raise ValueError(f"specify the data: data=NAME, one of {names}")


def trained_size(folder: Path) -> tuple[int, int] | None:
    """(H, W) of the images a model was trained on, if it is known."""
    from objectscape.checkpoints.native import read_config
    from objectscape.pretrained import resolve
    from objectscape.scene import Spec

    folder = resolve(folder)
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            data = read_config(place).get("data")
            return Spec.from_dict(data).image_size if data else None
    return None


def build_split(config: DictConfig, split: str) -> SceneDataset:
    """A split of the configured data set."""
    from objectscape.data.building import build_data

    return build_data(config, split)
