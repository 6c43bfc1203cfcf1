"""Gaussians whose variance is the softplus of a raw scale, as the slot world models store them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def std_of(raw: Tensor) -> Tensor:
    """Standard deviation sqrt(softplus(raw) + 1e-5)."""
    return (F.softplus(raw.clamp_max(80)) + 1e-5).sqrt()


def mean_and_std(params: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (..., D) from mean and raw scale (..., 2D)."""
    mean, raw = params.chunk(2, -1)
    return mean, std_of(raw)
