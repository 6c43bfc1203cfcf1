"""Bounding boxes of instance maps."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_from_segments(segments: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where the visible part of each object is.

    Args:
        segments: (..., H, W) integer instance map: 0 background, 1..count objects; other values are nobody's.
        count: number of rows N of the result.

    Returns:
        boxes (..., N, 4) float32 x0 y0 x1 y1 with x1, y1 exclusive, and present (..., N) bool: owns at least one pixel.
        Boxes of rows that are not present are zero.
    """
    height, width = segments.shape[-2:]
    numbers = segments.to(torch.int32)
    boxes = torch.empty(*segments.shape[:-2], count, 4, dtype=torch.int64, device=segments.device)
    present = torch.empty(boxes.shape[:-1], dtype=torch.bool, device=segments.device)
    for n in range(count):  # one pass per object keeps the (..., N, H, W) masks out of memory
        distance = (numbers - (n + 1)).abs_()  # zero inside; int32 arithmetic is 5x faster than bool masks on a CPU
        columns, rows = ((distance.amin(axis) == 0).int() for axis in (-2, -1))  # (..., W), (..., H)
        boxes[..., n, 0] = columns.argmax(-1)  # the first 1
        boxes[..., n, 1] = rows.argmax(-1)
        boxes[..., n, 2] = width - columns.flip(-1).argmax(-1)
        boxes[..., n, 3] = height - rows.flip(-1).argmax(-1)
        present[..., n] = columns.amax(-1).bool()
    return (boxes * present.unsqueeze(-1)).float(), present
