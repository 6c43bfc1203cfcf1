"""Scores: how well a decomposition agrees with the truth. Each is a `torchmetrics.Metric` and a plain function."""

from objectscape.metrics.bound import BoundMetric
from objectscape.metrics.generation import FrechetDistance, fid, frechet_small
from objectscape.metrics.per_image import PerImageMetric, Spread
from objectscape.metrics.reconstruction import PSNR, ReconstructionMSE
from objectscape.metrics.segmentation import AdjustedRandIndex, MatchedIoU, MeanBestOverlap, SegmentationCovering

__all__ = [
    "PSNR",
    "AdjustedRandIndex",
    "BoundMetric",
    "FrechetDistance",
    "MatchedIoU",
    "MeanBestOverlap",
    "PerImageMetric",
    "ReconstructionMSE",
    "SegmentationCovering",
    "Spread",
    "fid",
    "frechet_small",
]
