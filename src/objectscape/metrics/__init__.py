"""Scores: how well a decomposition agrees with the truth. Each is a `torchmetrics.Metric` and a plain function."""

from objectscape.metrics.per_image import PerImageMetric, Spread
from objectscape.metrics.reconstruction import PSNR, ReconstructionMSE
from objectscape.metrics.segmentation import AdjustedRandIndex, MatchedIoU, MeanBestOverlap, SegmentationCovering

__all__ = [
    "PSNR",
    "AdjustedRandIndex",
    "MatchedIoU",
    "MeanBestOverlap",
    "PerImageMetric",
    "ReconstructionMSE",
    "SegmentationCovering",
    "Spread",
]
