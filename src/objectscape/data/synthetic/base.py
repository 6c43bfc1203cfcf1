"""Scenes rendered by us: a pure function of a seed, in batches, on any device."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import torch

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.scene import Scene
from objectscape.seeding import derive_generator

CHUNK = 256  # scenes rendered together; part of the definition of "scene number i", so changing it changes the data


class SyntheticScenes(SceneDataset):
    """Base of the synthetic data sets. Scene i of a split is a pure function of (seed, split, i).

    Subclasses set `spec` and implement `render`. Factors are drawn on the CPU and only drawn into pixels on the device,
    so that a seed gives the same scenes everywhere.

    Args:
        split: "train", "val" or "test": independent streams of the same distribution.
        count: scenes in this split.
        seed: of the stream.
    """

    def __init__(self, *, split: str, count: int, seed: int) -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r}; choose one of {', '.join(SPLITS)}")
        if count < 1:
            raise ValueError(f"count={count}; a data set needs at least one scene")
        self.split, self.count, self.seed = split, count, seed
        self._chunk = lru_cache(maxsize=2)(self._render_chunk)

    @abstractmethod
    def render(self, n: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Scene:
        """n scenes on `device`, `image` uint8; `generator` lives on the CPU."""

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int]) -> Scene:
        numbers = torch.as_tensor(indices, dtype=torch.long)
        chunks = numbers // CHUNK
        parts, places = [], torch.empty_like(numbers)
        filled = 0
        for chunk in chunks.unique().tolist():
            here = (chunks == chunk).nonzero().squeeze(1)
            parts.append(self._chunk(chunk)[numbers[here] % CHUNK])
            places[here] = torch.arange(filled, filled + len(here))
            filled += len(here)
        return Scene.cat(parts)[places]

    def all(self, device: torch.device | str = "cpu") -> Scene:
        """Every scene of the split as one batch on `device`: the resident form."""
        chunks = -(-self.count // CHUNK)
        return Scene.cat([self._render_chunk(c, device) for c in range(chunks)])[: self.count]

    def stream(self, step: int, batch_size: int, device: torch.device | str = "cpu") -> Scene:
        """Batch number `step` of an endless stream that never repeats a scene."""
        return self.render(batch_size, derive_generator(self.seed, self.split, "stream", step, batch_size), device)

    def _render_chunk(self, chunk: int, device: torch.device | str = "cpu") -> Scene:
        return self.render(CHUNK, derive_generator(self.seed, self.split, "chunk", chunk), device)
