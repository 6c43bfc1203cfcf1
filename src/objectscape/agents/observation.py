"""Detections as an observation: a table with a row per object, filtered, with velocities and last known positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from objectscape.names import unknown
from objectscape.scene import Detections

COLUMNS = ("x", "y", "width", "height", "dx", "dy", "confidence", "present")
"""Columns of a row: center and size as shares of the image, their change since the previous frame, confidence, and 1
where the object is there; all zero in rows without an object."""
MATCHED = 0.2  # largest distance, as a share of the image, between an object's centers in two frames


class ObjectTable:
    """Turns the detections of one frame after the other into tables, for B environments at once.

    Two forms. Without `rows`, a table lists the `max_objects` most confident objects. With `rows`, it has a row per
    named class, the most confident object of it, which keeps its last known position while the object is not found
    (`present` is 0 then).

    Args:
        max_objects: rows K of a table without `rows`.
        classes: names of the classes that the labels of the detections count.
        keep: names of classes to list; None for all.
        rows: names of classes that have a row each.
        region: x0 y0 x1 y1 as shares of the image; objects with their center outside are left out (score bars).
        confidence: least confidence of an object.

    Raises:
        ValueError: for unknown classes.
    """

    def __init__(
        self,
        *,
        max_objects: int = 16,
        classes: Sequence[str] = (),
        keep: Sequence[str] | None = None,
        rows: Sequence[str] = (),
        region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
        confidence: float = 0.5,
    ) -> None:
        for name in (*(keep or ()), *rows):
            if name not in classes:
                raise ValueError(unknown("class", name, classes) if classes else f"class {name!r}: give classes= too")
        self.classes, self.rows = list(classes), list(rows)
        self.keep = None if keep is None else [self.classes.index(name) for name in keep]
        self.max_objects = len(rows) if rows else max_objects
        self.region, self.confidence = region, confidence
        self._previous: Tensor | None = None  # B, K, 8
        self._labels: Tensor | None = None  # B, K

    @property
    def shape(self) -> tuple[int, int]:
        """(K, 8) of one table."""
        return self.max_objects, len(COLUMNS)

    def reset(self, which: Tensor | None = None) -> None:
        """Forget earlier frames, of all environments or of those where (B,) `which` is true."""
        if which is None or self._previous is None:
            self._previous = None
        else:
            self._previous[which] = 0

    def __call__(self, detections: Detections, size: tuple[int, int]) -> Tensor:
        """(B, K, 8) tables with the columns `COLUMNS`.

        Args:
            detections: of B images.
            size: (H, W) of the images in pixels.

        Raises:
            ValueError: if classes are asked for and the detections have no labels.
        """
        if detections.labels is None and (self.keep is not None or self.rows):
            raise ValueError("choosing classes needs detections with labels; give the wrapper a classifier.")
        height, width = size
        low, high = detections.boxes[..., :2].float(), detections.boxes[..., 2:].float()
        scale = torch.tensor([width, height], dtype=torch.float32, device=low.device)
        center, extent = (low + high) / 2 / scale, (high - low) / scale  # B, N, 2
        x0, y0, x1, y1 = self.region
        x, y = center.unbind(-1)
        listed = (detections.confidence >= self.confidence) & (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        labels = detections.labels
        if labels is None:
            labels = torch.zeros_like(listed, dtype=torch.int64)
        if self.keep is not None:
            listed &= torch.isin(labels, torch.tensor(self.keep, device=labels.device))
        score = torch.where(listed, detections.confidence.float(), -1.0)
        values = torch.cat([center, extent, torch.zeros_like(center), score.unsqueeze(-1)], -1)
        values = torch.cat([values, listed.unsqueeze(-1).float()], -1)  # B, N, 8
        if self.rows:
            wanted = torch.tensor([self.classes.index(name) for name in self.rows], device=labels.device)
            mine = torch.where(labels.unsqueeze(1) == wanted[:, None], score.unsqueeze(1), -1.0)  # B, K, N
            order = mine.argmax(-1) if values.shape[1] else wanted.new_zeros(len(values), len(wanted))
            found = mine.amax(-1) >= 0 if values.shape[1] else order.bool()
        else:
            order = score.sort(dim=-1, descending=True, stable=True).indices[:, : self.max_objects]
            found = score.gather(1, order) >= 0
        table, names = self._pick(values, labels, order, found)
        table = self._follow(table, names)
        self._previous, self._labels = table.clone(), names
        return table

    def _pick(self, values: Tensor, labels: Tensor, order: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, 8) the chosen rows, zero where nothing was found, and (B, K) their classes."""
        table = values.new_zeros(len(values), self.max_objects, values.shape[-1])
        names = labels.new_zeros(table.shape[:2])
        if values.shape[1]:
            rows = order.shape[1]
            table[:, :rows] = values.gather(1, order.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
            names[:, :rows] = labels.gather(1, order)
            table[:, :rows] *= found.unsqueeze(-1)
        return table, names

    def _follow(self, table: Tensor, names: Tensor) -> Tensor:
        """Velocities from the previous tables and, for rows of classes, the last known position."""
        before, known = self._previous, self._labels
        if before is None or known is None or before.shape != table.shape:
            return table
        present, was = table[..., 7] > 0, before[..., 7] > 0
        if self.rows:
            moved = (table[..., :2] - before[..., :2]) * (present & was).unsqueeze(-1)
            table[..., 4:6] = moved
            last = before.clone()
            last[..., 4:8] = 0
            return torch.where(present.unsqueeze(-1), table, last)
        distance = torch.cdist(table[..., :2], before[..., :2])  # B, K, K
        other = (names.unsqueeze(2) != known.unsqueeze(1)) | ~was.unsqueeze(1)
        nearest, index = distance.masked_fill(other, float("inf")).min(-1)
        moved = table[..., :2] - before[..., :2].gather(1, index.unsqueeze(-1).expand(-1, -1, 2))
        table[..., 4:6] = moved * (present & (nearest < MATCHED)).unsqueeze(-1)
        return table
