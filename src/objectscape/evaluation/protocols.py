"""What is asked of a model, by ability, and the metrics that answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple, Self

import torch
from torch import nn
from torchmetrics import Metric

from objectscape.contract import Decomposes
from objectscape.metrics import (
    PSNR,
    AdjustedRandIndex,
    MatchedIoU,
    MeanBestOverlap,
    ReconstructionMSE,
    SegmentationCovering,
)
from objectscape.scene import Decomposition, Scene


class Score(NamedTuple):
    """A metric over a set of images."""

    mean: float
    sd: float
    """population standard deviation over images"""
    n: int
    """images that count"""


def segmentation_metrics() -> dict[str, Metric]:
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


def reconstruction_metrics() -> dict[str, Metric]:
    """The metrics of a redrawn image against the image."""
    return {"mse": ReconstructionMSE(), "psnr": PSNR()}


class Evaluator:
    """Runs a model over scenes and accumulates every metric that its abilities and the data's ground truth allow.

    Random draws of the model (initial slots, latents) stay random; seed torch before for a repeatable result.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.metrics: dict[str, Metric] = dict(reconstruction_metrics())
        self._segmentation = segmentation_metrics() if isinstance(model, Decomposes) else {}
        self._labelled = False

    def to(self, device: torch.device | str) -> Self:
        self.device = torch.device(device)
        for metric in (*self.metrics.values(), *self._segmentation.values()):
            metric.to(device)
        return self

    @torch.no_grad()
    def update(self, batch: Scene) -> Decomposition:
        """Score one batch; returns what the model made of it."""
        batch = batch.to(self.device)
        scene = replace(batch, image=batch.pixels)
        output: Decomposition = self.model(scene)
        for metric in self.metrics.values():
            metric.update(scene.image, output.recon.float())
        if batch.segments is not None and self._segmentation:
            self._labelled = True
            for metric in self._segmentation.values():
                metric.update(batch.segments, output.masks)
        return output

    def compute(self) -> dict[str, Score]:
        """Every metric so far (over all processes of a distributed run)."""
        metrics = {**(self._segmentation if self._labelled else {}), **self.metrics}
        results = {}
        for name, metric in metrics.items():
            mean = float(metric.compute())
            spread = metric.spread()  # type: ignore[operator]
            results[name] = Score(mean, spread.sd, spread.n)
        return results


def evaluate(
    model: nn.Module, batches: Iterable[Scene], *, device: torch.device | str = "cpu", seed: int = 0
) -> dict[str, Score]:
    """Every metric of `model` on `batches`."""
    torch.manual_seed(seed)
    evaluator = Evaluator(model.to(device).eval()).to(device)
    for batch in batches:
        evaluator.update(batch)
    return evaluator.compute()
