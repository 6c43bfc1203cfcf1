"""Scenes rendered by us: a pure function of a seed, in batches, on any device."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.scene import Scene
from objectscape.seeding import derive_generator

SECONDS_BETWEEN_LINES = 30.0
"""Time between two lines that say how far rendering a whole split is."""

log = logging.getLogger(__name__)

Draws = dict[str, Tensor]
"""{name: (n, ...)} the random choices that define n scenes; lives on the CPU."""


class SyntheticScenes(SceneDataset):
    """Base of the synthetic data sets. Scene i of a split is a pure function of (seed, split, i).

    Subclasses set `spec` and implement `draw` and `paint`. All choices are drawn on the CPU; painting them is integer
    arithmetic and selection only, so that a seed gives the same bytes on every device (3-D scenes: up to rounding).
    What defines a split is a small table of draws: it is made once, when first needed, and any scenes of it are painted
    in one batch.

    Args:
        split: "train", "val" or "test": independent streams of the same distribution.
        count: scenes in this split; None for the published number. A smaller split is the beginning of a larger one.
        seed: of the stream.
        published: {split: number of scenes} of the published data set.
    """

    chunk: ClassVar[int] = 1024
    """Scenes drawn from one generator: part of the definition of "scene number i", so changing it changes the data."""

    def __init__(self, *, split: str, count: int | None, seed: int, published: Mapping[str, int]) -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r}; choose one of {', '.join(SPLITS)}")
        if count is not None and count < 1:
            raise ValueError(
                f"count={count}; a data set needs at least one scene (None: the published {published[split]})"
            )
        self.split, self.count, self.seed = split, published[split] if count is None else count, seed

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """The choices that define n scenes; `generator` lives on the CPU."""

    @abstractmethod
    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """The scenes that `draws` define, on `device`, `image` uint8."""

    def render(self, n: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Scene:
        """n scenes on `device`, `image` uint8; `generator` lives on the CPU."""
        return self.paint(self.draw(n, generator), device)

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int]) -> Scene:
        """The scenes at `indices`, in that order, on the CPU, painted in one go."""
        numbers = torch.as_tensor(indices, dtype=torch.long)
        outside = numbers[(numbers < 0) | (numbers >= self.count)]
        if len(outside):
            raise IndexError(
                f"{self.spec.name} ({self.split}) has {self.count} scenes; there is no scene {int(outside[0])}"
            )
        return self.paint({name: values[numbers] for name, values in self._table.items()})

    def all(self, device: torch.device | str = "cpu") -> Scene:
        """Every scene of the split as one batch on `device`: the resident form. Logs how far it is if it takes long."""
        block = 64 if torch.device(device).type == "cpu" else 1024  # a small block stays in a processor's cache
        parts, begin, said = [], time.monotonic(), 0.0
        for start in range(0, self.count, block):
            part = slice(start, start + block)
            parts.append(self.paint({k: v[part] for k, v in self._table.items()}, device))
            passed = time.monotonic() - begin
            if passed > said + SECONDS_BETWEEN_LINES:
                done = min(start + block, self.count)
                left = passed * (self.count - done) / done
                log.info("%s: rendered %d of %d scenes, %.0f s to go", self.spec.name, done, self.count, left)
                said = passed
        return type(parts[0]).cat(parts)

    def stream(self, step: int, batch_size: int, device: torch.device | str = "cpu") -> Scene:
        """Batch number `step` of an endless stream, drawn apart from the numbered scenes."""
        return self.render(batch_size, derive_generator(self.seed, self.split, "stream", step, batch_size), device)

    def draw_split(self) -> Draws:
        """The draws of every scene of the split, in order."""
        chunks = -(-self.count // self.chunk)
        parts = [self.draw(self.chunk, derive_generator(self.seed, self.split, "chunk", c)) for c in range(chunks)]
        return {name: torch.cat([part[name] for part in parts])[: self.count] for name in parts[0]}

    @cached_property
    def _table(self) -> Draws:
        return self.draw_split()


def paint_layers(masks: Tensor, placed: Tensor, colors: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """Flat-colored shapes on a plain background, each hiding what came before it.

    Args:
        masks: (B, N, H, W) bool, in painting order.
        placed: (B, N) bool: which of them are in the scene.
        colors: (B, N, 3) uint8.
        background: (B, 3) uint8.

    Returns:
        image (B, 3, H, W) uint8 and segments (B, H, W) int8: 0 background, n + 1 where object n is on top.
    """
    numbers = torch.arange(1, masks.shape[1] + 1, dtype=torch.int8, device=masks.device) * placed  # (B, N)
    segments = (masks.view(torch.int8) * numbers[..., None, None]).amax(1)  # (B, H, W): the last one is on top
    palette = torch.cat([background.unsqueeze(1), colors], 1).transpose(1, 2)  # (B, 3, N + 1)
    owner = segments.flatten(1).long().unsqueeze(1).expand(-1, 3, -1)  # (B, 3, H W)
    return palette.gather(2, owner).unflatten(2, segments.shape[1:]), segments
