"""What is asked of a model, by ability, and the metrics that answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
from objectscape.metrics.refinement import MeanOverImages, refinement_values
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
        detailed: also the segmentation by the model's further kinds of masks (`Decomposition.other_masks`; the name
            of the kind follows that of the metric, as in `ari_fg_attention`), every slot's own KL, and what each step
            of an iterative model gains (`objectscape.metrics.refinement`).
    """

    def __init__(self, model: nn.Module, *, detailed: bool = False) -> None:
        self.model, self.detailed = model, detailed
        self._reconstruction = reconstruction_metrics()
        self._bounds: dict[str, BoundMetric] = {}
        self._segmentation: dict[str, dict[str, PerImageMetric]] = {}  # by the kind of masks; "" the model's own
        self._refinement: dict[str, MeanOverImages] = {}

    def to(self, device: torch.device | str) -> Self:
        self.device = torch.device(device)
        for metric in self._reconstruction.values():
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
        for name in bound_values(output, per_slot=self.detailed):
            self._bounds.setdefault(name, BoundMetric(name).to(self.device)).update(output)
        if batch.segments is not None and isinstance(self.model, Decomposes):
            kinds = {"": output.masks, **(output.other_masks if self.detailed else {})}
            for kind, masks in kinds.items():
                if kind not in self._segmentation:
                    self._segmentation[kind] = {n: m.to(self.device) for n, m in segmentation_metrics().items()}
                for metric in self._segmentation[kind].values():
                    metric.update(batch.segments, _enlarge(masks, batch.segments))
        if self.detailed:
            for name, values in refinement_values(scene.image, output, batch.segments).items():
                self._refinement.setdefault(name, MeanOverImages(name).to(self.device)).update(values)
        return output

    def compute(self) -> dict[str, Score]:
        """Every metric so far (over all processes of a distributed run)."""
        metrics: dict[str, PerImageMetric] = {}
        for kind, group in self._segmentation.items():
            metrics |= {f"{name}_{kind}" if kind else name: metric for name, metric in group.items()}
        metrics |= {**self._reconstruction, **self._bounds, **self._refinement}
        results = {}
        for name, metric in metrics.items():
            mean, spread = float(metric.compute()), metric.spread()
            results[name] = Score(mean, spread.sd, spread.n)
        return results


def _enlarge(masks: Tensor, segments: Tensor) -> Tensor:
    """Masks (..., K, 1, h, w) of a coarser grid to the pixels of `segments`, by nearest."""
    size = segments.shape[-2:]
    if masks.shape[-2:] == size:
        return masks
    return F.interpolate(masks.flatten(0, -4), size).view(*masks.shape[:-2], *size)


def evaluate(
    model: nn.Module, batches: Iterable[Scene], *, device: torch.device | str = "cpu", seed: int = 0
) -> dict[str, Score]:
    """Every metric of `model` on `batches`."""
    torch.manual_seed(seed)
    evaluator = Evaluator(model.to(device).eval(), detailed=True).to(device)
    for batch in batches:
        evaluator.update(batch)
    return evaluator.compute()
