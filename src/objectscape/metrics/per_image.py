"""The base of metrics that are a mean over images: what `torchmetrics` accumulates, and how it merges processes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


class Spread(NamedTuple):
    """How the scores of single images scatter around their mean."""

    sd: float
    """population standard deviation over the images that count; NaN if there are none"""
    n: int
    """images that count"""
    skipped: int
    """images without anything to score"""


def merge_moments(moments: Tensor) -> Tensor:
    """(M, 4) rows (n, mean, sum of squared deviations, skipped) of M disjoint sets of images -> (4,) of their union.

    Chan, Golub and LeVeque's pairwise update. Unlike a sum of squares it keeps its precision in float32,
    which is all that some devices have.
    """
    n, mean, squares, skipped = moments.unbind(-1)
    total = n.sum()
    center = (n * mean).sum() / total.clamp_min(1)
    return torch.stack([total, center, (squares + n * (mean - center) ** 2).sum(), skipped.sum()])


class PerImageMetric(Metric):
    """Mean over images of a score that each image has by itself; `compute()` is NaN while no image counts.

    Args:
        options: the subclass's options, which become part of the state's name. `MetricCollection` lets metrics share
            one state if they hold equally named states with equal values after the first batch - as two different
            scores do that both start at 1.0.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, *options: object) -> None:
        super().__init__()
        self._state = "_".join(["moments", type(self).__name__, *map(str, options)])
        self.add_state(self._state, torch.zeros(4), dist_reduce_fx=merge_moments)

    def _add(self, values: Tensor, skip: Tensor | None = None) -> None:
        """Take in the (B,) scores of a batch, without those where the (B,) bool `skip` is set."""
        skip = torch.zeros_like(values, dtype=torch.bool) if skip is None else skip
        n = (~skip).sum()
        mean = values.masked_fill(skip, 0).sum() / n.clamp_min(1)
        squares = (values - mean).masked_fill(skip, 0).square().sum()
        state: Tensor = getattr(self, self._state)
        batch = torch.stack([n.to(mean), mean, squares, skip.sum().to(mean)]).to(state)
        setattr(self, self._state, merge_moments(torch.stack([state, batch])))

    def compute(self) -> Tensor:
        """Scalar: the mean over all images of all processes."""
        n, mean, _, _ = getattr(self, self._state)
        return torch.where(n > 0, mean, torch.nan)

    def spread(self) -> Spread:
        """Standard deviation and number of images, over all processes: call it on every process, as `compute`."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            n, _, squares, skipped = getattr(self, self._state).tolist()
        return Spread((squares / n) ** 0.5 if n else float("nan"), int(n), int(skipped))
