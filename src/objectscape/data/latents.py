"""Files of several domains: latents that a model made of a data set with everything else that was known, or raw data.

/                        attributes: format, name, origin (JSON {entry: hash of the model}), fields (JSON), notes
/train/v_latent          (n, D) float32; entries end in "_latent" for the domain that they are latents of
/train/attr ...          other entries as they were; pictures only in val and test

Of scenes with several objects:

/train/slots_latent      (n, K, D) the slots of each scene; zeros where a slot holds no object
/train/attr ...          (n, N, ...) what is said of each object, in an order of its own; zeros where there is none
/train/slots_partner     (n, N) int8 the slot that covers the object, by its pixels; -1 where none does. Such a pair is
                         an item of the data set; training with `sets` is not told it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from objectscape.data.dataset import SceneDataset
from objectscape.data.formats.hdf5 import naming, open_hdf5
from objectscape.data.formats.opening import existing_file
from objectscape.data.matched import MatchedOrder, pairs_of, reveal
from objectscape.files import expanded
from objectscape.names import unknown
from objectscape.scene import Multimodal, Spec

FORMAT = "objectscape latents"
PARTNER = "_partner"
LATENT = "_latent"
PIECE = 1024


def write_latents(
    path: str | os.PathLike[str],
    splits: Mapping[str, Mapping[str, np.ndarray]],
    *,
    origin: Mapping[str, str],
    fields: Mapping[str, str],
    name: str,
) -> Path:
    """Write {split: {entry: (n, ...)}} to a new file.

    Args:
        path: of the new file.
        splits: what to write.
        origin: {entry: hash of the weights of the model that made it}.
        fields: {entry: meaning}.
        name: of the data that the models saw.

    Raises:
        FileExistsError: if there is such a file: nothing is overwritten.
    """
    target = expanded(path)
    if target.exists():
        raise FileExistsError(f"{target} exists and is not overwritten; delete it or choose another name.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    with h5py.File(unfinished, "w") as file:
        file.attrs["format"], file.attrs["name"] = FORMAT, name
        file.attrs["origin"], file.attrs["fields"] = json.dumps(dict(origin)), json.dumps(dict(fields))
        for split, entries in splits.items():
            for entry, values in entries.items():
                file.create_dataset(f"{split}/{entry}", data=values)
    os.replace(unfinished, target)
    return target


def write_multimodal(
    path: str | os.PathLike[str],
    splits: Mapping[str, SceneDataset],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Spec:
    """Write data sets of `Multimodal` items to a file of the same layout, piece by piece.

    Args:
        path: of the new file.
        splits: {split: data set}.
        progress: called with (rows written, rows in all).

    Raises:
        FileExistsError: if there is such a file: nothing is overwritten.
    """
    target = expanded(path)
    if target.exists():
        raise FileExistsError(f"{target} exists and is not overwritten; delete it or choose another name.")
    unfinished = target.with_name(f".{target.name}.part")
    spec = next(iter(splits.values())).spec
    total, done = sum(len(dataset) for dataset in splits.values()), 0
    try:
        with h5py.File(unfinished, "w") as file:
            file.attrs["format"], file.attrs["name"], file.attrs["origin"] = FORMAT, spec.name, "{}"
            fields = {name.removeprefix("domains/"): text for name, text in spec.fields.items()}
            file.attrs["fields"] = json.dumps(fields)
            for split, dataset in splits.items():
                for first in range(0, len(dataset), PIECE):
                    rows = range(first, min(first + PIECE, len(dataset)))
                    batch: Any = dataset.batch(rows)
                    for name, values in batch.domains.items():
                        entry = f"{split}/{name}"
                        if entry not in file:
                            file.create_dataset(entry, (len(dataset), *values.shape[1:]), values.numpy().dtype)
                        file[entry][rows.start : rows.stop] = values.numpy()
                    done += len(rows)
                    if progress is not None:
                        progress(done, total)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    return replace(spec, splits={split: len(dataset) for split, dataset in splits.items()})


class Latents(SceneDataset):
    """A file of `objectscape latents`, held in memory.

    Args:
        path: the file.
        split: "train", "val" or "test".
        domains: entries that training sees; None for all. Validation and test give everything that is there.
        matched: share of the training rows (or, above 1, their number) that are known in all domains at once.
        matched_part: share of a training batch that is matched rows.
        sets: of a file of scenes: training items are whole scenes, whose slots and descriptions are not paired, in
            place of single objects. Validation and test are of single objects.

    Raises:
        FileNotFoundError, ValueError: no such file, split or entry; more matched rows than rows.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        split: str = "train",
        domains: Sequence[str] | None = None,
        matched: float = 1.0,
        matched_part: float = 0.75,
        sets: bool = False,
    ) -> None:
        self.path, self.split, self.matched_part = (
            existing_file(path, "a file of `objectscape latents`"),
            split,
            matched_part,
        )
        with naming(self.path), open_hdf5(self.path) as file:
            if file.attrs.get("format") != FORMAT:
                raise ValueError(f"{self.path} is no file of latents; make one: objectscape latents RUN out=FILE")
            if split not in file:
                raise ValueError(unknown("split", split, file.keys()))
            entries = list(file[split])
            for name in domains or ():
                if name not in entries:
                    raise ValueError(f"{self.path}: {unknown('entry', name, entries)}")
            scenes = [name for name in entries if name.endswith(PARTNER)]
            if sets and not scenes:
                raise ValueError(f"{self.path} holds single objects, no scenes: leave sets={sets} away")
            self._partner = None if not scenes or (sets and split == "train") else scenes[0]
            shown = [name for name in entries if name not in scenes]
            self._entries = list(domains) if domains and split == "train" else shown
            self._count = len(file[f"{split}/{self._entries[0]}"])
            if self._partner:
                self._count = int((file[f"{split}/{self._partner}"][...] >= 0).sum())
            self.origin: dict[str, str] = json.loads(file.attrs["origin"])
            fields = json.loads(file.attrs["fields"])
            counts: dict[str, int | None] = {name: len(next(iter(group.values()))) for name, group in file.items()}
            self.spec = Spec(
                name=str(file.attrs["name"]),
                image_size=None,
                splits=counts,
                fields={f"domains/{name}": fields.get(name, "") for name in entries},
                source=str(self.path),
                notes="latents of " + ", ".join(f"{name}: model {digest[:12]}" for name, digest in self.origin.items()),
            )
        self.pairs = pairs_of(matched, self._count, split)

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        with naming(self.path), open_hdf5(self.path) as file:
            found = {name: torch.from_numpy(file[f"{self.split}/{name}"][...]) for name in self._entries}
            if self._partner is None:
                return found
            partner = torch.from_numpy(file[f"{self.split}/{self._partner}"][...]).long()
        scene, place = (partner >= 0).nonzero(as_tuple=True)  # a row for each object that has a slot
        slots = self._partner.removesuffix(PARTNER) + LATENT
        return {n: values[scene, partner[scene, place] if n == slots else place] for n, values in found.items()}

    def batch(self, indices: Sequence[int]) -> Any:
        """See `SceneDataset.batch`."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        domains = {name: values[rows] for name, values in self._tensors.items()}
        return Multimodal(domains=domains, present=dict.fromkeys(domains, torch.ones(len(rows), dtype=torch.bool)))

    def scenes(self) -> Latents:
        """The split with whole scenes as items, and all their entries; itself where there are none."""
        if self._partner is None:
            return self
        whole = Latents(path=self.path, split=self.split)
        assert whole._partner is not None
        with naming(self.path), open_hdf5(self.path) as file:
            whole._count = len(file[f"{self.split}/{whole._partner}"])
        whole._entries.append(whole._partner)
        whole._partner = None
        return whole

    def learning(self) -> Latents:
        """See `SceneDataset.learning`: every entry of every row."""
        return Latents(path=self.path, split="train")

    def order(self, **options: Any) -> Iterator[list[int]] | None:
        """Batches for training with few pairs; see `MatchedOrder`. None if every row is matched."""
        if self.pairs == self._count:
            return None
        domains = len(self._entries)
        return iter(MatchedOrder(self._count, pairs=self.pairs, domains=domains, part=self.matched_part, **options))

    def pick(self, resident: Any, indices: Sequence[int]) -> Any:
        """Rows of a resident split, of which `order` shows some in one domain only."""
        return reveal(resident, indices, self._count)
