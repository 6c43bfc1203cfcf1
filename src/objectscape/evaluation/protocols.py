"""What is asked of a model, by ability, and the metrics that answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple, Self

import torch
from torch import nn

from objectscape.contract import Decomposes
from objectscape.metrics import (
    PSNR,
    AdjustedRandIndex,
    MatchedIoU,
    MeanBestOverlap,
    PerImageMetric,
    ReconstructionMSE,
    SegmentationCovering,
)
from objectscape.metrics.bound import BoundMetric, bound_values
from objectscape.scene import Decomposition, Scene


class Score(NamedTuple):
    """A metric over a set of images."""

    mean: float
    sd: float
    """population standard deviation over images"""
    n: int
    """images that count"""


def segmentation_metrics() -> dict[str, PerImageMetric]:
    """The metrics of a decomposition against ground-truth segments, by the name they have in logs and tables."""
    return {
        "ari_fg": AdjustedRandIndex(foreground=True),
        "ari": AdjustedRandIndex(foreground=False),
        "mbo": MeanBestOverlap(),
        "miou": MatchedIoU(foreground=False),
        "miou_fg": MatchedIoU(foreground=True),
        "msc": SegmentationCovering(foreground=False),
        "msc_fg": SegmentationCovering(foreground=True),
        "sc": SegmentationCovering(weighted=True, foreground=False),
        "sc_fg": SegmentationCovering(weighted=True, foreground=True),
    }


def reconstruction_metrics() -> dict[str, PerImageMetric]:
    """The metrics of a redrawn image against the image."""
    return {"mse": ReconstructionMSE(), "psnr": PSNR()}


class Evaluator:
    """Runs a model over scenes and accumulates every metric that its abilities and the data's ground truth allow.

    Segmentation (with ground truth), reconstruction, and the likelihood bound with its KLs if the model has one.
    Random draws of the model (initial slots, latents) stay random; seed torch before for a repeatable result.

    Args:
        model: any model of the contract.
        per_slot: also every slot's own KL.
    """

    def __init__(self, model: nn.Module, *, per_slot: bool = False) -> None:
        self.model, self.per_slot = model, per_slot
        self._reconstruction = reconstruction_metrics()
        self._bounds: dict[str, BoundMetric] = {}
        self._segmentation = segmentation_metrics() if isinstance(model, Decomposes) else {}
        self._labelled = False

    def to(self, device: torch.device | str) -> Self:
        self.device = torch.device(device)
        for metric in (*self._reconstruction.values(), *self._segmentation.values()):
            metric.to(device)
        return self

    @torch.no_grad()
    def update(self, batch: Scene) -> Decomposition:
        """Score one batch; returns what the model made of it."""
        batch = batch.to(self.device)
        scene = replace(batch, image=batch.pixels)
        output: Decomposition = self.model(scene)
        for metric in self._reconstruction.values():
            metric.update(scene.image, output.recon.float())
        for name in bound_values(output, per_slot=self.per_slot):
            self._bounds.setdefault(name, BoundMetric(name).to(self.device)).update(output)
        if batch.segments is not None and self._segmentation:
            self._labelled = True
            for metric in self._segmentation.values():
                metric.update(batch.segments, output.masks)
        return output

    def compute(self) -> dict[str, Score]:
        """Every metric so far (over all processes of a distributed run)."""
        metrics = {**(self._segmentation if self._labelled else {}), **self._reconstruction, **self._bounds}
        results = {}
        for name, metric in metrics.items():
            mean, spread = float(metric.compute()), metric.spread()
            results[name] = Score(mean, spread.sd, spread.n)
        return results


def evaluate(
    model: nn.Module, batches: Iterable[Scene], *, device: torch.device | str = "cpu", seed: int = 0
) -> dict[str, Score]:
    """Every metric of `model` on `batches`."""
    torch.manual_seed(seed)
    evaluator = Evaluator(model.to(device).eval(), per_slot=True).to(device)
    for batch in batches:
        evaluator.update(batch)
    return evaluator.compute()
