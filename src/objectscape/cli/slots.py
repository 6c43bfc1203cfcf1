"""The slots of a data set as numbers, for a task downstream: NumPy, CSV or HDF5."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import track
from torch import nn

from objectscape.check import check_fit
from objectscape.cli.common import build_split, console, errors
from objectscape.contract import see
from objectscape.data.loading import EvalLoader
from objectscape.files import replacing
from objectscape.metrics.segmentation import contingency, match_objects
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Decomposition, Scene

if TYPE_CHECKING:
    from objectscape.data.dataset import SceneDataset

BATCH = 64
LEAST_IOU = 0.1
"""Overlap below which a slot stands for no object."""


def write_slots(model: nn.Module, config: DictConfig, target: Path, *, splits: list[str], images: int | None) -> None:
    """Decompose every split and write what `slots_of` gives, as SPLIT/NAME arrays or as one row per slot.

    Args:
        model: decomposes; in evaluation mode.
        config: a recipe's `data`.
        target: ends in .npz, .csv, .h5 or .hdf5.
        splits: their names; those of no scenes are left out.
        images: the first ones of each split; None for all.
    """
    tables = {}
    for split in splits:
        dataset = build_split(config, split)
        if len(dataset):
            check_fit(model, dataset)
            tables[split] = _slots_of_split(model, dataset, split, images)
    with replacing(target) as temporary:
        _write(temporary, tables)
    for split, table in tables.items():
        *lead, width = table["slots"].shape
        console.print(f"{target}: {split}/slots {' x '.join(map(str, lead))} slots of {width} numbers")
    console.print(f"beside them: {', '.join(name for name in next(iter(tables.values())) if name != 'slots')}")


def slots_of(scene: Scene, output: Decomposition) -> dict[str, np.ndarray]:
    """What a model found in still images, slot by slot.

    Returns:
        slots (B, K, D); share (B, K) of the image that the slot's mask takes; present (B, K) and boxes (B, K, 4) where
        the model has them. With ground truth also object (B, K): the number of the object that the slot stands for,
        0 for none; and factor_NAME (B, K, ...): that object's properties, NaN or -1 for none.
    """
    found = {"slots": output.slots, "share": output.masks.mean((-3, -2, -1))}
    found |= {name: value for name in ("present", "boxes") if (value := getattr(output, name)) is not None}
    if scene.segments is not None:
        segments, masks = scene.segments.cpu(), output.masks.cpu()
        partner = match_objects(contingency(segments, masks), min_pixels=1, min_iou=LEAST_IOU)  # (B, N)
        slots = masks.shape[1]
        table = torch.zeros(len(partner), slots + 1, dtype=torch.int64)
        numbers = torch.arange(1, partner.shape[1] + 1).expand_as(partner)
        table.scatter_(1, torch.where(partner < 0, slots, partner), numbers)  # the last column takes those without
        found["object"] = table[:, :slots]
        for name, values in (scene.factors or {}).items():
            count = values.shape[1]
            index = (found["object"] - 1).clamp(0, count - 1)
            own = values.cpu()[torch.arange(len(index))[:, None], index]  # (B, K, ...)
            nothing = ((found["object"] == 0) | (found["object"] > count)).reshape(*index.shape, *[1] * (own.ndim - 2))
            own = own if own.is_floating_point() else own.long()
            found[f"factor_{name}"] = own.masked_fill(nothing, float("nan") if own.is_floating_point() else -1)
    return {name: (v.float() if v.is_floating_point() else v).cpu().numpy() for name, v in found.items()}


@torch.no_grad()
def _slots_of_split(model: nn.Module, dataset: SceneDataset, split: str, images: int | None) -> dict[str, np.ndarray]:
    loader = EvalLoader(dataset, batch_size=BATCH, images=images)
    torch.manual_seed(0)  # of models that draw their first slots
    parts: dict[str, list[np.ndarray]] = {}
    for scene in track(loader, description=split, total=len(loader), console=errors, transient=True):
        if not isinstance(scene, Scene):
            raise ValueError(
                f"{dataset.spec.name} has domains, not scenes, which {type(model).__name__} reads; scenes of several "
                "shapes with their attributes are data=simple_shapes_scenes"
            )
        with posterior_means():
            output: Decomposition = see(model, scene)
        clips = scene.image.ndim == 5
        found = slots_of(scene.fold_time(), output.fold_time()) if clips else slots_of(scene, output)
        for name, values in found.items():
            values = values.reshape(*scene.image.shape[:2], *values.shape[1:]) if clips else values
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _write(file: Path, tables: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    suffix = file.suffix.lower()
    arrays = {f"{split}/{name}": values for split, table in tables.items() for name, values in table.items()}
    if suffix == ".npz":
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    elif suffix == ".csv":
        with file.open("w", newline="") as text:
            csv.writer(text).writerows(_rows(tables))
    else:
        import h5py

        with h5py.File(file, "w") as archive:
            for name, values in arrays.items():
                archive.create_dataset(name, data=values, compression="gzip")


def _rows(tables: Mapping[str, Mapping[str, np.ndarray]]) -> Iterator[list[object]]:
    """A heading, then a row per slot; an entry of several numbers has several columns."""
    first = next(iter(tables.values()))
    lead = first["share"].ndim
    heading: list[object] = ["split", "scene", *["frame"] * (lead == 3), "slot"]
    names = [name for name in first if name != "slots"] + ["slots"]
    for name in names:
        width = int(np.prod(first[name].shape[lead:], dtype=int))
        heading += (
            [name] if first[name].ndim == lead else [f"{'z' if name == 'slots' else name}_{i}" for i in range(width)]
        )
    yield heading
    for split, table in tables.items():
        columns = [table[name].reshape(*table["share"].shape, -1) for name in names]
        for index in np.ndindex(*table["share"].shape):
            yield [split, *index, *(value.item() for column in columns for value in column[index])]
