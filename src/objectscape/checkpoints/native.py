"""Saving and loading models: `config.json` + `model.safetensors`, without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from objectscape import building
from objectscape.card import model_card
from objectscape.contract import FORMAT, Model
from objectscape.files import read_json, replacing, sha256_of, write_text
from objectscape.scene import Spec
from objectscape.version import __version__

WEIGHTS = "model.safetensors"
NOT_ARGUMENTS = ("format", "objectscape", "step", "data", "sha256")
"""What config.json holds besides the description of the model."""


def save_model(model: Model, folder: Path, *, data: Spec | None = None, step: int | None = None) -> None:
    """Write the model to `folder`; an earlier model there is replaced only once the new one is complete."""
    with replacing(folder / WEIGHTS) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, temporary)
        checksum = sha256_of(temporary)
    description = {**model.description, "step": step, "data": data.to_dict() if data else None, "sha256": checksum}
    write_text(folder / "config.json", json.dumps(description, indent=2) + "\n")
    write_text(folder / "README.md", model_card(model, description))


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a saved model.

    Raises:
        FileNotFoundError, ValueError: if it is missing, broken or of another format.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a saved model: it has no config.json")
    config = read_json(file)
    if config.get("format") != FORMAT or "_target_" not in config:
        raise ValueError(
            f"{file} has format {config.get('format')!r}; objectscape {__version__} reads format {FORMAT}. "
            f"Load it with the version that wrote it ({config.get('objectscape', 'unknown')})."
        )
    return config


def load_model(folder: Path, **overrides: Any) -> nn.Module:
    """Build the model that `save_model` wrote and give it its weights. `overrides` replace constructor arguments.

    Raises:
        FileNotFoundError, ValueError: if a file is missing, damaged, or names a class that a file may not name (see
            `objectscape.building`).
    """
    config = read_config(folder)
    try:
        model = building.build({**{k: v for k, v in config.items() if k not in NOT_ARGUMENTS}, **overrides}, "model")
    except ValueError as error:
        raise ValueError(str(error) if overrides else f"{folder / 'config.json'}: {error}") from error
    file = folder / WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has a config.json but no {WEIGHTS}; copy it there")
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is not a complete safetensors file ({error}); copy or save it again") from error
    load_weights(model, weights, source=str(file))
    if config.get("sha256") not in (None, sha256_of(file)):
        raise ValueError(
            f"{file} is not the file that config.json describes (its SHA-256 is another): copy it again, or save the "
            "model again"
        )
    return model.eval()


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], *, source: str) -> None:
    """`load_state_dict` that says in one line what does not fit.

    Raises:
        ValueError: on missing, unexpected or misshapen weights.
    """
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    misshapen = [
        f"{name} is {tuple(weights[name].shape)}, the model has {tuple(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if own[name].shape != weights[name].shape
    ]
    problems = [f"{len(missing)} missing ({', '.join(missing[:3])} ...)"] if missing else []
    problems += [f"{len(unexpected)} unexpected ({', '.join(unexpected[:3])} ...)"] if unexpected else []
    problems += sorted(misshapen)[:3]
    if problems:
        raise ValueError(
            f"{source} does not fit {type(model).__name__}: {'; '.join(problems)}. "
            "It belongs to another model, or to this model with other options."
        )
    model.load_state_dict(weights)
