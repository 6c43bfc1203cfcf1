"""Shared by all importers: files read without executing them, and the weights in them without their wrappers."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NESTED = ("model_state_dict", "state_dict", "model")
COMPILED = re.compile(r"(?:^|(?<=\.))_orig_mod\.")
PARALLEL = re.compile(r"^(?:module\.)+")


def unwrapped(stored: Any) -> dict[str, Any]:
    """The entries of a stored state, nested ones taken out, with their names as the model has them; {} for no state."""
    for name in NESTED:
        if isinstance(stored, dict) and isinstance(stored.get(name), dict):
            stored = stored[name]
    if not isinstance(stored, dict):
        return {}
    return {PARALLEL.sub("", COMPILED.sub("", str(key))): value for key, value in stored.items()}


def read_plain(path: str | Path) -> dict[str, Any]:
    """What `torch.save` stored in a file, if it holds tensors and plain values only; {} if it is no dictionary.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or could only be read by running code that it contains.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a plain file of tensors. It holds Python objects, which loading would execute, or it is "
            "damaged; re-save the state dict alone with torch.save(model.state_dict(), ...) where you trust the file."
        ) from error
    return stored if isinstance(stored, dict) else {}


def tensors(stored: Any) -> dict[str, Tensor]:
    """The tensors among the entries of a stored state, as in `unwrapped`."""
    return {key: value for key, value in unwrapped(stored).items() if isinstance(value, Tensor)}


def check_keys(missing: Iterable[str], unexpected: Iterable[str], *, hint: str) -> None:
    """Raise ValueError if weights are missing or nothing accounts for them; `hint` says what to check."""
    missing, unexpected = sorted(missing), sorted(unexpected)
    if missing or unexpected:
        raise ValueError(
            f"these are not the weights of this configuration: missing {_shorten(missing)}; unexpected "
            f"{_shorten(unexpected)}. {hint}"
        )


def _shorten(names: list[str], count: int = 4) -> str:
    return (", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")) or "none"
