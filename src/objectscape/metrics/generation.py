"""How far imagined images are from real ones: the Frechet distance between two Gaussians fitted to their features.

Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local
Nash Equilibrium" (NeurIPS 2017, arXiv 1706.08500). The distance is an FID only with the features of
`objectscape.nn.inception` and its public weights; with any other network it has another name and another scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchmetrics import Metric

from objectscape.nn.inception import InceptionFeatures, load_inception
from objectscape.nn.small_features import SmallFeatures
from objectscape.nn.validation import check_at_least

SMALL_WEIGHTS = Path(__file__).parent / "weights" / "small_features.safetensors"


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """|mean1 - mean2|^2 + tr(cov1) + tr(cov2) - 2 tr((cov1 cov2)^(1/2)), a float64 scalar.

    The last trace is the sum of the roots of the eigenvalues of cov1^(1/2) cov2 cov1^(1/2), which is symmetric: no
    complex numbers, and singular covariances (fewer images than features, constant features) need no offset on the
    diagonal. Eigenvalues below zero are rounding and count as zero, and so does a result below zero.

    Args:
        mean1: (D,)
        cov1: (D, D) symmetric positive semi-definite.
        mean2: (D,)
        cov2: (D, D)

    Returns:
        NaN if any input is not finite.

    Raises:
        ValueError: if the shapes do not agree.
    """
    shape = (len(mean1),) if mean1.ndim else ()
    if len(shape) != 1 or mean2.shape != shape or cov1.shape != shape * 2 or cov2.shape != shape * 2:
        raise ValueError(
            f"means of shape {tuple(mean1.shape)}, {tuple(mean2.shape)} and covariances of shape {tuple(cov1.shape)}, "
            f"{tuple(cov2.shape)}; expected (D,) and (D, D) for one D"
        )
    mean1, cov1, mean2, cov2 = (t.double() for t in (mean1, cov1, mean2, cov2))
    difference = (mean1 - mean2).square().sum()
    total = difference + cov1.trace() + cov2.trace()
    if not (total.isfinite() and cov1.isfinite().all() and cov2.isfinite().all()):
        return torch.full_like(total, torch.nan)
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = root @ cov2 @ root
    spectrum = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0)
    return (total - 2 * spectrum.sqrt().sum()).clamp_min(0)


def merge_statistics(states: Tensor) -> Tensor:
    """(M, D + 2, D) statistics of M disjoint sets of features -> (D + 2, D) of their union.

    Row 0 of a set holds its size n, row 1 its mean, the others the sum over features of outer products of the
    deviations from that mean. Chan, Golub and LeVeque's update: unlike sums of squares it does not cancel.
    """
    n, means = states[:, 0, :1], states[:, 1]  # (M, 1), (M, D)
    total = n.sum()
    mean = (n * means).sum(0) / total.clamp_min(1)  # (D,)
    away = means - mean
    scatter = states[:, 2:].sum(0) + (n * away).T @ away
    return torch.cat([total.expand(1, len(mean)), mean[None], scatter])


class SampleCounts(NamedTuple):
    """How many images went into a distance."""

    real: int
    generated: int


class FrechetDistance(Metric):
    """Frechet distance between the features of real and of generated images, with unbiased covariances (n - 1).

    Statistics are accumulated in float64 (so not on an MPS device, which has none), batch by batch, and merge over
    processes. `compute()` is a float64 scalar.

    Args:
        extractor: from images (B, 3, H, W) in [0, 1] to features (B, D). It is used in evaluation mode, without
            gradients; how images are resized and scaled is its own business (`InceptionFeatures`, `SmallFeatures`).
            `nn.Identity()` for features that were computed elsewhere.
        dim: D.
        scaled: measure every feature in standard deviations of the real images (at least 1 % of the mean one), so that
            large features do not hide small ones. Not for distances that others define.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    real: Tensor
    generated: Tensor

    def __init__(self, extractor: nn.Module, *, dim: int, scaled: bool = False) -> None:
        super().__init__()
        check_at_least(1, dim=dim)
        self.extractor, self.dim, self.scaled = extractor, dim, scaled
        for name in ("real", "generated"):
            empty = torch.zeros(dim + 2, dim, dtype=torch.float64)
            self.add_state(name, empty, dist_reduce_fx=merge_statistics)

    @torch.no_grad()
    def update(self, images: Tensor, *, real: bool) -> None:
        """Take in images (B, 3, H, W), uint8 or floating point in [0, 1]."""
        features = self.extractor.eval()(images)
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(
                f"the extractor made features of shape {tuple(features.shape)}; expected (B, {self.dim}): set dim"
            )
        name = "real" if real else "generated"
        state: Tensor = getattr(self, name)
        if not len(features):
            return
        features = features.to(state)
        mean = features.mean(0, keepdim=True)  # (1, D)
        away = features - mean
        batch = torch.cat([torch.full_like(mean, len(features)), mean, away.T @ away])
        setattr(self, name, merge_statistics(torch.stack([state, batch])))

    def compute(self) -> Tensor:
        """The distance, over all processes.

        Raises:
            ValueError: if there are fewer than two real or two generated images.
        """
        sizes = [int(state[0, 0]) for state in (self.real, self.generated)]
        if min(sizes) < 2:
            raise ValueError(f"{sizes[0]} real and {sizes[1]} generated images; a covariance needs two of each")
        (mean1, cov1), (mean2, cov2) = ((s[1], s[2:] / (s[0, 0] - 1)) for s in (self.real, self.generated))
        if self.scaled:
            std = cov1.diagonal().sqrt()
            std = std.clamp_min(0.01 * float(std.mean()))
            mean1, mean2 = mean1 / std, mean2 / std
            cov1, cov2 = cov1 / std.outer(std), cov2 / std.outer(std)
        return frechet_distance(mean1, cov1, mean2, cov2)

    def counts(self) -> SampleCounts:
        """Images so far, over all processes: call it on every process, as `compute`."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return SampleCounts(int(self.real[0, 0]), int(self.generated[0, 0]))


def small_features() -> SmallFeatures:
    """The small network with the weights that are part of the package (see `objectscape.nn.small_features`)."""
    network = SmallFeatures()
    network.load_state_dict(load_file(SMALL_WEIGHTS))
    return network.eval().requires_grad_(False)


def frechet_small() -> FrechetDistance:
    """The distance on the small network's features. Not an FID: never report it under that name."""
    return FrechetDistance(small_features(), dim=SmallFeatures.dim)


def fid(weights: str | Path) -> FrechetDistance:
    """The FID: the distance on the 2048 features of the public Inception weights, preprocessed in the standard way.

    Args:
        weights: path of the weights file; see `objectscape.nn.inception.load_inception`, which says how to get it.
    """
    features = InceptionFeatures(load_inception(weights))
    return FrechetDistance(features, dim=features.dim)
