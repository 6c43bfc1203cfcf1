"""How good futures are: PSNR and SSIM per frame, the best, mean and worst of many, and their diversity.

Shapes are those of `predict`: futures (B, S, T, 3, H, W), truth (B, T, 3, H, W), and tables of scores (B, S, T).
Sources: Wang et al. 2004 (SSIM, 11-tap Gaussian window); Emami et al. 2020 (best, random and worst of S, diversity).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.metrics.segmentation import contingency, iou

WINDOW, SIGMA = 11, 1.5


def ssim(true: Tensor, pred: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity of each picture: (..., 3, H, W) twice -> (...), shapes broadcast.

    Gaussian window, sample covariance, mean over the region where the window fits, and over channels.

    Args:
        true: in [0, 1].
        pred: likewise.
        data_range: 1 for pictures in [0, 1]. SSWM's published values are computed with 2, which hides errors: use it
            only to compare with them.

    Raises:
        ValueError: for pictures smaller than the window.
    """
    true, pred = torch.broadcast_tensors(true.float(), pred.float())
    if min(true.shape[-2:]) < WINDOW:
        raise ValueError(f"pictures of {true.shape[-2]} x {true.shape[-1]} pixels; SSIM needs at least {WINDOW}.")
    lead, size = true.shape[:-3], true.shape[-2:]
    x, y = (t.reshape(-1, 1, *size) for t in (true, pred))
    taps = torch.exp(-0.5 * ((torch.arange(WINDOW, device=x.device) - WINDOW // 2) / SIGMA) ** 2)
    taps = taps / taps.sum()

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(image, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))

    mean_x, mean_y = blur(x), blur(y)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    var_x, var_y = (unbiased * (blur(a * a) - mean * mean) for a, mean in ((x, mean_x), (y, mean_y)))
    cov = unbiased * (blur(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    index = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return index.mean((1, 2, 3)).view(-1, true.shape[-3]).mean(1).view(lead)


class Tiers(NamedTuple):
    """Of every clip, the scores (B, T) of the future with the best sum over time, of the worst, and their mean."""

    best: Tensor
    mean: Tensor
    worst: Tensor


def tiers(scores: Tensor, *, larger_is_better: bool) -> Tiers:
    """Scores (B, S, T) -> best, mean and worst of S, each (B, T). The first of equal futures is taken."""
    sums = scores.sum(2) if larger_is_better else -scores.sum(2)
    rows = torch.arange(len(scores), device=scores.device)
    return Tiers(scores[rows, sums.argmax(1)], scores.mean(1), scores[rows, sums.argmin(1)])


def diversity(similarities: Tensor) -> Tensor:
    """(B,) mean over time of best minus worst SSIM (B, S, T): 0 if all futures are alike.

    Too much is as wrong as too little; compare with the simulator's, where there is one.
    """
    best, _, worst = tiers(similarities, larger_is_better=True)
    return (best - worst).mean(1)


def mean_future_mse(true: Tensor, futures: Tensor) -> Tensor:
    """(B, T) squared error of the mean of all futures, the best guess in this sense."""
    return (futures.mean(1) - true).square().mean((2, 3, 4))


def same_slot(true: Tensor, pred: Tensor) -> tuple[Tensor, Tensor]:
    """Does an object keep its slot?

    Args:
        true: (B, T, H, W) integer segments: 0 background, 1..N objects.
        pred: (B, T, K, 1, H, W) masks, or (B, T, H, W) integer segments.

    Returns:
        (B,) share of (object, frame) pairs in which most pixels of the object are of the slot it has in most frames,
        NaN without objects; and (B,) 1 where these slots differ for all objects of a clip, else 0.
    """
    batch, frames = true.shape[:2]
    table = contingency(true, pred, per_frame=True)[:, 1:, :].unflatten(0, (batch, frames))  # (B, T, N, K + 1)
    seen = table.sum(-1) > 0  # (B, T, N)
    votes = F.one_hot(table.argmax(-1), table.shape[-1]) * seen[..., None]
    counts, slot = votes.sum(1).max(-1)  # (B, N)
    share = counts.sum(1) / seen.sum((1, 2))
    exists = seen.any(1)
    clash = (slot[:, :, None] == slot[:, None]) & exists[:, :, None] & exists[:, None]
    clash &= ~torch.eye(slot.shape[1], dtype=torch.bool, device=slot.device)
    return share, (~clash.any((1, 2))).to(share.dtype)


def average_recall(true: Tensor, pred: Tensor) -> Tensor:
    """(B,) SSWM's recall: share of objects whose best slot overlaps by a threshold, over thresholds 0, 0.1 .. 1.

    As released, every label up to the batch's largest counts as an object of every image, an absent one with overlap
    0, and threshold 0 is always reached.

    Args:
        true: (B, H, W) integer segments.
        pred: (B, K, 1, H, W) masks or (B, H, W) integer segments.
    """
    best = iou(contingency(true, pred))[:, 1:].amax(-1).nan_to_num(0)  # (B, N)
    thresholds = torch.linspace(0, 1, 11, dtype=best.dtype, device=best.device)
    return (best[..., None] >= thresholds - 1e-9).to(best.dtype).mean((1, 2))
