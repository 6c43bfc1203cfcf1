"""Losses that bring two encodings of the same rows together and keep other rows apart."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_SCALE = math.log(1 / 0.07)
"""CLIP's first logit scale, and bimGW's only one."""
LARGEST_SCALE = 100.0


def similarities(x: Tensor, y: Tensor, log_scale: Tensor | float = LOG_SCALE) -> Tensor:
    """(B, B) cosines of rows of x and y, times exp(log_scale), at most 100."""
    scale = torch.as_tensor(log_scale, dtype=x.dtype, device=x.device).exp().clamp(max=LARGEST_SCALE)
    return scale * F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def info_nce(x: Tensor, y: Tensor, log_scale: Tensor | float = LOG_SCALE) -> Tensor:
    """(B,) how badly each row of x finds its row of y among all (van den Oord et al., 2018)."""
    return F.cross_entropy(similarities(x, y, log_scale), torch.arange(len(x), device=x.device), reduction="none")


def clip_loss(x: Tensor, y: Tensor, log_scale: Tensor | float = LOG_SCALE) -> Tensor:
    """(B,) the mean of both directions (Radford et al., 2021)."""
    scores, own = similarities(x, y, log_scale), torch.arange(len(x), device=x.device)
    return 0.5 * (F.cross_entropy(scores, own, reduction="none") + F.cross_entropy(scores.T, own, reduction="none"))


def vse_loss(
    x: Tensor,
    y: Tensor,
    *,
    margin: float = 0.2,
    measure: Literal["cosine", "order"] = "cosine",
    hardest: bool = True,
) -> Tensor:
    """Scalar margin loss of VSE++ (Faghri et al., 2018), summed over the rows.

    Args:
        x, y: (B, k).
        margin: by which a pair must win.
        measure: "cosine", or "order": minus the length by which y is not above x.
        hardest: only the worst other row counts; otherwise all.
    """
    x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    scores = x @ y.T if measure == "cosine" else -(y[None] - x[:, None]).clamp_min(0).square().sum(2).sqrt()
    own = scores.diagonal()
    other = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    wrong_y = (margin + scores - own[:, None]).clamp_min(0) * other
    wrong_x = (margin + scores - own[None]).clamp_min(0) * other
    return wrong_y.amax(1).sum() + wrong_x.amax(0).sum() if hardest else wrong_y.sum() + wrong_x.sum()
