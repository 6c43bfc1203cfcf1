"""What may change when a run goes on. A changed setting takes effect, or is refused by its name: never neither."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from objectscape.building import build

MISSING = object()
STATE_OF_ITS_OWN = ("amsgrad", "centered", "momentum")
"""Options of optimizers that need state which a run without them does not have."""


def check_changes(before: DictConfig, after: DictConfig) -> None:
    """Raise ValueError for a setting that a run cannot change on its way, because its checkpoint would undo it.

    Args:
        before: the configuration that the run was trained with.
        after: the one it is to go on with.
    """
    changed = _changes(before, after)
    for key, (old, new) in changed.items():
        leaf = key.rpartition(".")[2]
        own = f"it is {_text(old)} in this run, and the checkpoint holds what came of that"
        if key in ("seed", "warm_start"):
            raise _refusal(key, new, own)
        if key == "ema" and (old is None) != (new is None):
            raise _refusal(key, new, own)
        if key.startswith(("optimizer", "groups")):
            if leaf == "_target_" or old is None or new is None:
                raise _refusal(key, new, own)
            if leaf in STATE_OF_ITS_OWN and bool(old is not MISSING and old) != bool(new is not MISSING and new):
                raise _refusal(key, new, own)
    if _keys(before.get("groups")) != _keys(after.get("groups")):
        raise _refusal("groups", _keys(after.get("groups")), "the optimizer's state is kept by group")
    for part, kind in (("model", "model"), ("geco", "geco")):
        _check_part(part, kind, before, after, [key for key in changed if key == part or key.startswith(f"{part}.")])


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process of this run left behind."""
    for place in (folder, folder / "checkpoints", folder / "model", folder / "figures", folder / "evaluation"):
        for file in place.glob(".*-????????.*"):  # as files.replacing names them
            file.unlink(missing_ok=True)


def _check_part(part: str, kind: str, before: DictConfig, after: DictConfig, keys: list[str]) -> None:
    """Refuse a changed argument that acts through weights or buffers, which the checkpoint replaces."""
    if not keys:
        return
    old, new = before.get(part), after.get(part)
    if old is None or new is None or old.get("_target_") != new.get("_target_"):
        raise _refusal(part if old is None or new is None else f"{part}._target_", new, "the checkpoint is of another")
    arguments, changed = (OmegaConf.to_container(node, resolve=True) for node in (old, new))
    assert isinstance(arguments, dict)
    assert isinstance(changed, dict)
    start = _state(arguments, kind)
    for name in dict.fromkeys(key.split(".")[1] for key in keys):
        one = {key: value for key, value in arguments.items() if key != name}
        if name in changed:
            one[name] = changed[name]
        if not _same(start, _state(one, kind)):
            raise _refusal(f"{part}.{name}", changed.get(name), "it acts through what the checkpoint restores")


def _state(description: Mapping[Any, Any], kind: str) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build(description, kind)
    return built.state_dict() if isinstance(built, torch.nn.Module) else {}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        value.shape == other[name].shape
        and value.dtype == other[name].dtype
        and torch.equal(value.nan_to_num(), other[name].nan_to_num())
        for name, value in one.items()
    )


def _refusal(key: str, value: Any, reason: str) -> ValueError:
    return ValueError(
        f"{key}={_text(value)} cannot be changed when a run goes on: {reason}. Leave it out, or begin a new run: "
        f"objectscape train config=RUN {key}=..."
    )


def _text(value: Any) -> str:
    return "not set" if value is MISSING else "null" if value is None else str(value)


def _keys(node: Any) -> list[str]:
    return [] if node is None else [str(key) for key in node]


def _changes(before: DictConfig, after: DictConfig) -> dict[str, tuple[Any, Any]]:
    """{key: (old, new)} of the leaves that differ, as they are written (references unresolved)."""
    old, new = (_leaves(OmegaConf.to_container(config, resolve=False)) for config in (before, after))
    keys = dict.fromkeys([*old, *new])
    return {
        key: (old.get(key, MISSING), new.get(key, MISSING))
        for key in keys
        if old.get(key, MISSING) != new.get(key, MISSING)
    }


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        leaves |= _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    return leaves
