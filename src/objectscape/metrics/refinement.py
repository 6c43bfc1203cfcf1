"""What each step of an iterative model adds: segmentation, error and likelihood of every drawing of the scene."""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.metrics.per_image import PerImageMetric
from objectscape.metrics.reconstruction import mse
from objectscape.metrics.segmentation import adjusted_rand_index, contingency
from objectscape.scene import Decomposition


def refinement_values(image: Tensor, output: Decomposition, segments: Tensor | None = None) -> dict[str, Tensor]:
    """Scores of single images at each of the stages that a model decodes.

    `ari_fg_step_0` (with `segments`), `mse_step_0`, `nll_step_0` and so on; step 0 is the image before any refinement.
    `ari_fg_gain`, `mse_gain` and `nll_gain` say how much better the last one is than the first: positive is better,
    whether the score is to be high or low.

    Args:
        image: (B, 3, H, W) the images in [0, 1].
        output: what a model's `forward` returned; read are those of its `stages` that are decoded.
        segments: (B, H, W) integer ground truth; see `objectscape.metrics.segmentation`.

    Returns:
        {name: (B,)}, NaN where an image has no score; {} if fewer than two stages are decoded.
    """
    stages = [stage for stage in output.stages if stage.drawn is not None]
    drawn = [stage.drawn for stage in stages if stage.drawn is not None]
    if len(drawn) < 2:
        return {}
    scores = {}
    if segments is not None:
        tables = [contingency(segments, stage.masks) for stage in drawn]  # (B, N+1, K+1)
        scores["ari_fg"] = torch.stack([adjusted_rand_index(table) for table in tables], 1)  # (B, I)
    scores["mse"] = torch.stack([mse(image, stage.recon) for stage in drawn], 1)
    nll = [stage.nll for stage in stages if stage.nll is not None]
    if len(nll) == len(drawn):
        scores["nll"] = torch.stack(nll, 1)
    values = {f"{name}_step_{i}": column for name, score in scores.items() for i, column in enumerate(score.unbind(1))}
    for name, score in scores.items():
        gain = score[:, -1] - score[:, 0]
        values[f"{name}_gain"] = gain if name == "ari_fg" else -gain
    return values


class MeanOverImages(PerImageMetric):
    """Mean over images of values that are there already; NaN leaves an image out.

    Args:
        name: tells apart the means of different values.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def update(self, values: Tensor) -> None:
        """Take in the (B,) values of a batch."""
        values = values.detach().float()
        self._add(values, skip=torch.isnan(values))
