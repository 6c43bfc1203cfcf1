"""Which pixels belong to which object? The masks of a model against the true segments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Self

from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import Decomposes
from objectscape.evaluation.baselines import kmeans_segments
from objectscape.evaluation.questions.question import Answer, Means, Question, higher, lower
from objectscape.metrics.segmentation import (
    adjusted_rand_index,
    contingency,
    hard_segments,
    hungarian_miou,
    mean_best_overlap,
    segmentation_covering,
)
from objectscape.metrics.spatial import boundary_f, fragmentation
from objectscape.nn.validation import check_at_least
from objectscape.scene import Decomposition, Scene, Tensors

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "ari_fg": adjusted_rand_index,
    "ari": partial(adjusted_rand_index, foreground=False),
    "mbo": mean_best_overlap,
    "miou": partial(hungarian_miou, foreground=False),
    "miou_fg": hungarian_miou,
    "msc": partial(segmentation_covering, foreground=False),
    "msc_fg": segmentation_covering,
    "sc": partial(segmentation_covering, weighted=True, foreground=False),
    "sc_fg": partial(segmentation_covering, weighted=True),
}
"""{score: function of a table of `contingency`}"""
SPATIAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"boundary_f": boundary_f, "fragmentation": fragmentation}
"""{score: function of true and predicted segments}"""


class Decompose(Question):
    """Which pixels belong to which object?

    A clip counts as one image: a slot that changes its object over time is a mistake.

    Args:
        other_masks: also score the model's further kinds of masks (`Decomposition.other_masks`).
        clusters: K of the k-means baseline on color and position; None for the number of segments in the batch's
            fullest scene, background included.
    """

    name = "decompose"
    needs = "a model that decomposes (`slots`, masks) and scenes with `segments`"
    scores = {
        "ari_fg": higher("Agreement about which pairs of object pixels belong together; 0 chance, 1 equal.", "ARI-FG"),
        "ari": higher("The same over all pixels: finding the background counts.", "ARI"),
        "mbo": higher("Best IoU of any slot with each object; mean over objects.", "mBO"),
        "miou": higher("IoU of segments and slots matched one to one (Hungarian), background included.", "mIoU"),
        "miou_fg": higher("The same, mean over objects only.", "mIoU-FG"),
        "msc": higher("Segmentation covering: best IoU for each segment, all segments alike.", "mSC"),
        "msc_fg": higher("The same over objects only.", "mSC-FG"),
        "sc": higher("Segmentation covering, segments weighted by their size.", "SC"),
        "sc_fg": higher("The same over objects only.", "SC-FG"),
        "boundary_f": higher("F of precision and recall of boundaries, within .8 % of the diagonal.", "boundary F"),
        "fragmentation": lower(
            "Connected pieces per slot that owns pixels; 1: every slot is whole.", "pieces per slot"
        ),
        "fragmentation_<masks>": lower("The same of a further kind of masks."),
        "<score>_<masks>": higher("A segmentation score of a further kind of masks, such as attention."),
    }
    headline = ("ari_fg", "ari", "miou")
    passing = 0.9

    def __init__(self, *, other_masks: bool = True, clusters: int | None = None) -> None:
        check_at_least(1, **({} if clusters is None else {"clusters": clusters}))
        self.other_masks, self.clusters = other_masks, clusters
        self.means = Means()

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(model, Decomposes) and isinstance(batch, Scene) and batch.segments is not None

    @classmethod
    def at_validation(cls) -> Self:
        return cls(other_masks=False)

    def update(self, batch: Scene, seen: Decomposition) -> None:
        assert batch.segments is not None
        for kind, masks in {"": seen.masks, **(seen.other_masks if self.other_masks else {})}.items():
            segments = _segments(_enlarge(masks, batch.segments))  # (B, [T,] H, W)
            table = contingency(batch.segments, segments)  # (B, N+1, K+1)
            values = {name: function(table) for name, function in FUNCTIONS.items()}
            values |= {name: function(batch.segments, segments) for name, function in SPATIAL.items()}
            ending = f"_{kind}" if kind else ""
            self.means.add({name + ending: value for name, value in values.items()})

    def compute(self, model: nn.Module) -> Answer:
        return Answer(self.means.scores())

    def baseline(self, batch: Scene) -> Decomposition:
        """k-means on color and position; of clips on color only, all frames together."""
        assert batch.segments is not None
        clusters = self.clusters or int(batch.segments.max()) + 1
        image, clip = batch.pixels, batch.image.ndim == 5
        if clip:
            image = image.transpose(1, 2).flatten(2, 3)  # (B, 3, T*H, W)
        found = kmeans_segments(
            image, clusters, 0.0 if clip else 0.25, restarts=BASELINE_RESTARTS, pixels=BASELINE_PIXELS
        )
        masks = F.one_hot(found.view(batch.segments.shape), clusters).movedim(-1, -3).unsqueeze(-3).float()
        shape: Any = masks.shape
        return Decomposition(
            recon=batch.pixels,
            masks=masks,
            components=batch.pixels.unsqueeze(-4).expand(*shape[:-3], 3, *shape[-2:]),
            slots=masks.new_zeros(*shape[:-3], 0),
        )


BASELINE_RESTARTS, BASELINE_PIXELS = 3, 512
"""Of k-means as a baseline: it must not take longer than the model."""


def _segments(masks: Tensor) -> Tensor:
    """Masks (..., K, 1, H, W) -> (..., H, W) int32, -1 where nobody owns the pixel: found once for all scores."""
    owner = hard_segments(masks).int()
    return owner.masked_fill(owner == masks.shape[-4], -1)


def _enlarge(masks: Tensor, segments: Tensor) -> Tensor:
    """Masks (..., K, 1, h, w) of a coarser grid to the pixels of `segments`, by nearest."""
    size = segments.shape[-2:]
    if masks.shape[-2:] == size:
        return masks
    return F.interpolate(masks.flatten(0, -4), size).view(*masks.shape[:-2], *size)
