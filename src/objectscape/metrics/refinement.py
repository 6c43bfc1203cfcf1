"""What each step of an iterative model adds: segmentation, error and likelihood of every drawing of the scene."""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.metrics.per_image import PerImageMetric
from objectscape.metrics.reconstruction import mse
from objectscape.metrics.segmentation import adjusted_rand_index, contingency
from objectscape.scene import Decomposition


def refinement_values(image: Tensor, output: Decomposition, segments: Tensor | None = None) -> dict[str, Tensor]:
    """Scores of single images at each of the S times that a model drew the scene.

    `ari_fg_step_0` (with `segments`), `mse_step_0`, `nll_step_0` and so on up to step S - 1; step 0 is the drawing
    before any refinement. `ari_fg_gain`, `mse_gain` and `nll_gain` say how much better the last one is than the first:
    positive is better, whether the score is to be high or low.

    Args:
        image: (B, 3, H, W) the images in [0, 1].
        output: what a model's `forward` returned; read are its `step_masks` (B, S, K, 1, H, W), `step_recon`
            (B, S, 3, H, W) and, if it is there, `step_nll` (B, S).
        segments: (B, H, W) integer ground truth; see `objectscape.metrics.segmentation`.

    Returns:
        {name: (B,)}, NaN where an image has no score; {} if the output has no steps, or only one.
    """
    recon: Tensor | None = getattr(output, "step_recon", None)
    if recon is None or recon.shape[1] < 2:
        return {}
    steps = recon.shape[1]
    scores = {}
    if segments is not None:
        masks: Tensor = output.step_masks  # type: ignore[attr-defined]
        table = contingency(segments.repeat_interleave(steps, 0), masks.flatten(0, 1))  # (B*S, N+1, K+1)
        scores["ari_fg"] = adjusted_rand_index(table).view(-1, steps)  # (B, S)
    scores["mse"] = mse(image.repeat_interleave(steps, 0), recon.flatten(0, 1)).view(-1, steps)
    nll: Tensor | None = getattr(output, "step_nll", None)
    if nll is not None:
        scores["nll"] = nll
    values = {f"{name}_step_{s}": column for name, score in scores.items() for s, column in enumerate(score.unbind(1))}
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
