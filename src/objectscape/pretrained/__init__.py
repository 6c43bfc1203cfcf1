"""Trained models that come with the package: small ones, so that something can be seen before something is trained.

`objectscape.load("pretrained/NAME")`, `objectscape explore pretrained/NAME`, `objectscape list pretrained`. Each is a
run folder without checkpoints: `config.yaml`, `model/` with weights in half precision, and `card.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from objectscape.files import read_json
from objectscape.names import unknown

HERE = Path(__file__).resolve().parent
PREFIX = "pretrained/"
FIRST = "instance_coloring-tetrominoes"
"""What is shown to someone who names no run."""


def names() -> list[str]:
    """The models that there are."""
    return sorted(path.parent.name for path in HERE.glob("*/card.json"))


def folder(name: str) -> Path:
    """The run folder of a model that comes with the package.

    Raises:
        ValueError: if there is none of that name, with near matches.
    """
    if name not in names():
        raise ValueError(unknown("pretrained model", name, names()))
    return HERE / name


def resolve(source: str | Path) -> Path:
    """The folder that `source` names: "pretrained/NAME" for the package's, unless such a folder is here."""
    text = str(source)
    if text.startswith(PREFIX) and not Path(text).exists():
        return folder(text.removeprefix(PREFIX))
    return Path(source)


def is_one(path: Path) -> bool:
    """Is this the folder of a model that comes with the package?"""
    return path.resolve().parent == HERE


def card(name: str) -> dict[str, Any]:
    """What a model is: `what`, `recipe`, `seed`, `steps`, `data`, `images`, `scores`, `spread`, `fails`, `license`.

    `scores` {name: mean over the first `images` test scenes}; `spread` {name: [mean, standard deviation, seeds]} of the
    recipe's runs in full precision.
    """
    return read_json(folder(name) / "card.json")
