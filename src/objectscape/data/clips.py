"""Clips are windows over frames: a data set of long clips, or of episodes, read in windows of equal length.

Nothing is stored twice. A window is (episode, first frame, length); reading it is one index-select over frames.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from objectscape.data.dataset import SceneDataset
from objectscape.nn.ramps import Stages
from objectscape.scene import Scene

log = logging.getLogger(__name__)

Window = tuple[int, int, int]
"""Episode, first frame within it, number of frames."""


@runtime_checkable
class StoresFrames(Protocol):
    """A data set that stores single frames, and knows which of them are one episode."""

    episodes: Tensor
    """(E, 2) int64: row of the first frame, number of frames."""

    def frames(self, rows: Sequence[int]) -> Scene:
        """The frames at `rows`, in that order, as a batch without time axis, on the CPU, `image` uint8."""


class Clips(SceneDataset):
    """Windows of equal length over another data set of clips.

    Item i is the i-th window when every episode is cut into windows that do not overlap. What is left at its end, and
    episodes that are too short, belong to no item. Training moves the windows about if `random_start`.

    Args:
        dataset: clips of one length (its items have a time axis), or episodes of any lengths (`StoresFrames`).
        length: frames of a window, T. `Stages` of it change while a model is trained; items have the last one.
        stride: frames from one frame of a window to the next; 1 takes every frame.
        random_start: training draws the first frame of a window anywhere in the item's episode.

    Attributes:
        lengths: (E,) int64, frames of every episode.

    Raises:
        ValueError: if the data have no time axis, or no episode is long enough.
    """

    def __init__(
        self,
        dataset: SceneDataset,
        *,
        length: int | Sequence[Sequence[int]],
        stride: int = 1,
        random_start: bool = True,
    ) -> None:
        self.length = Stages(length)
        if any(type(value) is not int or value < 1 for value in (*self.length.values, stride)):
            raise ValueError(
                f"clip.length={length}, clip.stride={stride}: both are whole numbers of frames, at least 1"
            )
        self.dataset, self.stride, self.random_start = dataset, stride, random_start
        self.split = dataset.split
        if isinstance(dataset, StoresFrames):
            self.first, self.lengths = dataset.episodes.unbind(1)
        else:
            image = dataset.batch([0]).image
            if image.ndim != 5:
                raise ValueError(
                    f"{dataset.spec.name} has still images, so there are no clips to cut from it; set clip=null, or "
                    "give it frames (data.frames=...) if it can move"
                )
            self.lengths = torch.full((len(dataset),), image.shape[1])
            self.first = torch.arange(len(dataset)) * image.shape[1]
        self._tables = {value: self._cut(value) for value in self.length.values}
        final = self.length.values[-1]
        self.items = self._tables[final]
        self.spec = replace(dataset.spec, frames=final, splits={**dataset.spec.splits, self.split: len(self.items)})

    def table(self, length: int) -> Tensor:
        """(N, 2) int64, episode and first frame of every window of that length, one of `self.length`."""
        return self._tables[length]

    def span(self, length: int) -> int:
        """Frames from the first to the last of a window, both counted."""
        return (length - 1) * self.stride + 1

    def _cut(self, length: int) -> Tensor:
        span = self.span(length)
        counts = torch.where(self.lengths >= span, (self.lengths - span) // (length * self.stride) + 1, 0)
        if not counts.any():
            raise ValueError(
                f"clip.length={length} with clip.stride={self.stride} needs {span} frames, but the longest clip of "
                f"{self.dataset.spec.name} ({self.split}) has {int(self.lengths.max())}"
            )
        short = int((counts == 0).sum())
        if short:
            log.warning(
                "%d of %d clips of %s have fewer than %d frames and are left out",
                short, len(counts), self.dataset.spec.name, span,
            )  # fmt: skip
        episode = torch.arange(len(counts)).repeat_interleave(counts)
        number = torch.arange(len(episode)) - (counts.cumsum(0) - counts)[episode]
        return torch.stack([episode, number * length * self.stride], 1)

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        numbers = torch.as_tensor(indices, dtype=torch.long)
        outside = numbers[(numbers < 0) | (numbers >= len(self))]
        if len(outside):
            raise IndexError(
                f"{self.spec.name} ({self.split}) has {len(self)} clips; there is no clip {int(outside[0])}"
            )
        length = self.length.values[-1]
        return self.read([(episode, start, length) for episode, start in self.items[numbers].tolist()])

    def read(self, windows: Sequence[Window]) -> Scene:
        """Windows of one length as a batch (B, T, ...)."""
        episodes, starts, lengths = torch.tensor(windows).unbind(1)
        if isinstance(self.dataset, StoresFrames):
            rows = self.rows(episodes, starts, int(lengths[0]))
            return self.dataset.frames(rows.flatten().tolist()).unfold_time(int(lengths[0]))
        return cut(self.dataset.batch(episodes.tolist()), starts, int(lengths[0]), self.stride)

    def __getitems__(self, indices: Sequence[Any]) -> Scene:
        """The batch fetch hook of `torch.utils.data.DataLoader`, for numbers of items or for windows."""
        return self.read(indices) if isinstance(indices[0], tuple) else self.batch(indices)

    def rows(self, episodes: Tensor, starts: Tensor, length: int) -> Tensor:
        """(B, T) rows of the frames of windows, in a table of all frames of the split in the order of the episodes."""
        return (self.first[episodes] + starts)[:, None] + self.stride * torch.arange(length)


def cut(clips: Scene, starts: Tensor, length: int, stride: int = 1) -> Scene:
    """From each clip (B, T, ...) the window that begins at its frame `starts` (B,): (B, length, ...)."""

    def select(t: Tensor) -> Tensor:
        times = starts[:, None] + stride * torch.arange(length)
        return t[torch.arange(len(t))[:, None].to(t.device), times.to(t.device)]

    return clips.map(select)
