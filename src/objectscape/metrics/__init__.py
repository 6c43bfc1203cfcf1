"""Scores: how well a decomposition agrees with the truth. The classes are `torchmetrics.Metric`s, the others functions.

`objectscape.metrics.<tab>` shows them; each is imported on first use.
"""

from __future__ import annotations

from objectscape.lazy import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "AdjustedRandIndex": "objectscape.metrics.segmentation",
        "BoundaryF": "objectscape.metrics.spatial",
        "BoundMetric": "objectscape.metrics.bound",
        "DCI": "objectscape.metrics.disentanglement",
        "DetectionScores": "objectscape.metrics.detection",
        "FactorScore": "objectscape.metrics.disentanglement",
        "Fragmentation": "objectscape.metrics.spatial",
        "FrechetDistance": "objectscape.metrics.generation",
        "MatchedIoU": "objectscape.metrics.segmentation",
        "MeanBestOverlap": "objectscape.metrics.segmentation",
        "MeanOverImages": "objectscape.metrics.refinement",
        "PSNR": "objectscape.metrics.reconstruction",
        "PerImageMetric": "objectscape.metrics.per_image",
        "ReconstructionMSE": "objectscape.metrics.reconstruction",
        "SegmentationCovering": "objectscape.metrics.segmentation",
        "Spread": "objectscape.metrics.per_image",
        "adjusted_rand_index": "objectscape.metrics.segmentation",
        "attribute_errors": "objectscape.metrics.attributes",
        "average_precision": "objectscape.metrics.detection",
        "average_recall": "objectscape.metrics.prediction",
        "bound_values": "objectscape.metrics.bound",
        "boundary_f": "objectscape.metrics.spatial",
        "box_iou": "objectscape.metrics.detection",
        "class_scores": "objectscape.metrics.few_shot",
        "cluster_accuracy": "objectscape.metrics.few_shot",
        "contingency": "objectscape.metrics.segmentation",
        "count_accuracy": "objectscape.metrics.segmentation",
        "dci": "objectscape.metrics.disentanglement",
        "few_shot_accuracy": "objectscape.metrics.few_shot",
        "fid": "objectscape.metrics.generation",
        "fit_factors": "objectscape.metrics.factors",
        "fragmentation": "objectscape.metrics.spatial",
        "frechet_distance": "objectscape.metrics.generation",
        "frechet_small": "objectscape.metrics.generation",
        "hard_segments": "objectscape.metrics.segmentation",
        "hungarian_dice": "objectscape.metrics.segmentation",
        "hungarian_miou": "objectscape.metrics.segmentation",
        "mean_best_iou": "objectscape.metrics.segmentation",
        "mean_best_overlap": "objectscape.metrics.segmentation",
        "mse": "objectscape.metrics.reconstruction",
        "probe_properties": "objectscape.metrics.probes",
        "psnr": "objectscape.metrics.reconstruction",
        "recall": "objectscape.metrics.attributes",
        "refinement_values": "objectscape.metrics.refinement",
        "segmentation_covering": "objectscape.metrics.segmentation",
        "ssim": "objectscape.metrics.prediction",
    },
)
