"""Rows of attributes of a Simple Shape as vectors that networks read and write.

A row is (class, x, y, size, rotation, red, green, blue): pixels with y pointing up, radians, 0..255. A vector is
(one-hot class; x, y, size, cos, sin, red, green, blue) with numbers in [-1, 1]. bimGW divides lengths by the size of
the image ("image"), shimmer-ssd by the ranges that occur ("ranges").
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

CLASSES, NUMBERS, WIDTH = 3, 8, 8
RANGES = {"x": (7.0, 25.0), "y": (7.0, 25.0), "size": (7.0, 14.0)}
"""Smallest and largest pixels of the published data, as shimmer-ssd scales them."""

Scale = Literal["image", "ranges"]


def _lengths(scale: Scale, image_size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(3,) smallest and largest x, y, size."""
    if scale not in ("image", "ranges"):
        raise ValueError(f"scale={scale!r}; choose image or ranges")
    bounds = list(RANGES.values()) if scale == "ranges" else [(0.0, float(image_size))] * 3
    low, high = torch.tensor(bounds, dtype=like.dtype, device=like.device).T
    return low, high


def to_vector(rows: Tensor, *, scale: Scale = "image", image_size: int = 32) -> Tensor:
    """(B, 8 or more) attribute rows -> (B, 11): one-hot class, then numbers in about [-1, 1]."""
    low, high = _lengths(scale, image_size, rows)
    lengths = 2 * (rows[:, 1:4] - low) / (high - low) - 1
    angle = rows[:, 4:5]
    kind = F.one_hot(rows[:, 0].long(), CLASSES).to(rows.dtype)
    return torch.cat([kind, lengths, angle.cos(), angle.sin(), 2 * rows[:, 5:8] / 255 - 1], 1)


def to_rows(vector: Tensor, *, scale: Scale = "image", image_size: int = 32) -> Tensor:
    """(B, 11) scores of the classes and numbers -> (B, 8) attribute rows; undoes `to_vector`."""
    low, high = _lengths(scale, image_size, vector)
    lengths = low + (vector[:, 3:6] + 1) / 2 * (high - low)
    angle = torch.atan2(vector[:, 7], vector[:, 6]) % (2 * math.pi)
    kind = vector[:, :3].argmax(1).to(vector.dtype)
    return torch.cat([kind[:, None], lengths, angle[:, None], (vector[:, 8:11] + 1) / 2 * 255], 1)


def complete(rows: Tensor, said: Tensor, drawn: Tensor) -> Tensor:
    """Attribute rows with what a sentence leaves open taken from other rows.

    Args:
        rows: (B, 8) what was understood.
        said: (B, 5) what was named; see `Text.understand`.
        drawn: (B, 8) rows to fill in from.

    Returns:
        (B, 8).
    """
    shape, rotation, color, size, place = said.unbind(1)
    keep = torch.stack([shape, place, place, size, rotation, color, color, color], 1)
    return torch.where(keep, rows, drawn)
