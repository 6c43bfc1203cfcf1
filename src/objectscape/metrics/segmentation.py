"""How well predicted segments agree with true ones: ARI, segmentation covering, mBO, matched IoU.

All scores are functions of one table per image: how many pixels have true label i and predicted label j.
`contingency` counts the tables of a whole batch at once; the functions after it turn tables into one score per
image; the classes at the end average scores over a data set.

Conventions, the same everywhere:

- True label 0 is background, 1..N are objects, negative labels are ignored: their pixels count nowhere.
- A predicted segment is the set of pixels whose largest mask is that slot's (ties: the lowest slot).
- Pixels with a negative predicted label belong to no segment. They still count as pixels of their true segment.
- An image where nothing is to be scored (no object, or nothing but ignored pixels) has no score: `empty="skip"`
  leaves it out of the mean and counts it. Published codes let it score 1 or 0: `empty="one"`, `empty="zero"`.

Sources: Hubert and Arabie, Comparing partitions, 1985 (ARI); Arbelaez et al., Contour detection and hierarchical
image segmentation, 2011, section 3.1.1 (covering); Engelcke et al., GENESIS, 2020, section 4.3 (SC, mSC);
Pont-Tuset et al., Multiscale combinatorial grouping, 2017 (mean best overlap);
Karazija et al., ClevrTex, 2021, section 4 (matched mIoU).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from objectscape.metrics.per_image import PerImageMetric

Empty = Literal["skip", "one", "zero"]
Average = Literal["objects", "pairs"]

_MAX_CELLS = 2**26  # of all tables of a batch together: 512 MiB
_CACHED = 2**18  # values


def hard_segments(masks: Tensor) -> Tensor:
    """Which slot owns each pixel: (B, [T,] K, 1, H, W) masks -> (B, [T,] H, W) uint8 (int32 from K = 256 on).

    Ties go to the lowest slot. Where the masks are NaN nobody owns the pixel: the value is K.
    """
    slots = masks.shape[-4]
    # the first slot that reaches the maximum: these steps vectorize on CPUs, where `argmax` is 15 times slower
    rank = torch.arange(slots, 0, -1, dtype=torch.uint8 if slots < 256 else torch.int32, device=masks.device)
    rank = rank[:, None, None, None]
    images = masks.reshape(-1, *masks.shape[-4:])  # (B [T], K, 1, H, W)
    parts = [((part >= part.amax(1, keepdim=True)) * rank).amax(1) for part in _parts(images, images[0].numel())]
    return (slots - torch.cat(parts)).view(*masks.shape[:-4], *masks.shape[-2:])


def _parts(images: Tensor, values: int) -> Sequence[Tensor]:
    """Images with so many values each, in parts that stay in a CPU's cache through several passes over them."""
    whole = images.device.type != "cpu" or not values
    return images.split(len(images) if whole else max(1, _CACHED // values))


def _countable(labels: Tensor) -> Tensor:
    """Labels of the unsigned types that torch only stores, as int64."""
    return labels.long() if labels.dtype in (torch.uint16, torch.uint32, torch.uint64) else labels


def aligned(true: Tensor, pred: Tensor) -> tuple[Tensor, Tensor, int]:
    """Check two segmentations of the same pixels; see `contingency` for arguments and errors.

    Returns:
        `true` and the predicted segments, both (B, [T,] H, W) integers, and K, the number of predicted segments: 0..K-1
        are segments, K stands for the pixels that are in none.
    """
    true, pred = _countable(true), _countable(pred)
    if true.is_floating_point() or true.ndim not in (3, 4):
        raise ValueError(f"true segments are {_describe(true)}; expected integer labels (B, [T,] H, W).")
    if not true.numel():
        raise ValueError(f"true segments are {_describe(true)}: there is no pixel to score.")
    lead = true.shape[:-2]  # B, [T]
    if pred.ndim == true.ndim + 2 and pred.shape == (*lead, pred.shape[-4], 1, *true.shape[-2:]):
        columns = pred.shape[-4]
        pred = hard_segments(pred)
    elif pred.shape == true.shape and not pred.is_floating_point():
        low, high = (int(x) for x in pred.aminmax())
        columns = max(high, 0) + 1
        if low < 0:
            pred = torch.where(pred < 0, columns, pred)
    else:
        raise ValueError(
            f"predicted segments are {_describe(pred)} for true segments {tuple(true.shape)}; expected masks "
            "(B, [T,] K, 1, H, W) or integer labels of the true segments' shape. Resize one to the other's size."
        )
    return true, pred, columns


def contingency(true: Tensor, pred: Tensor, *, per_frame: bool = False) -> Tensor:
    """Count, for each image, the pixels with true label i and predicted label j.

    Args:
        true: (B, [T,] H, W) integer labels; 0 background, 1..N objects, negative ignored.
        pred: (B, [T,] K, 1, H, W) masks, or (B, [T,] H, W) integer segments (negative: in no segment).
        per_frame: with a time axis, every frame is an image of its own (B becomes B * T). By default the clip is
            one image, so that a segment that changes its slot over time is a mistake.

    Returns:
        (B, N+1, K+1) int64. Rows are true labels 0..N, N the largest in the batch. Columns are the predicted
        segments 0..K-1, then one for the pixels that are in no segment.

    Raises:
        ValueError: if shapes or types do not fit, the batch is empty, or labels are so large that they cannot be
            consecutive numbers.
    """
    true, pred, columns = aligned(true, pred)
    low, high = (int(x) for x in true.aminmax())
    if low < 0:
        true = true.clamp_min(-1)
    if per_frame and true.ndim == 4:
        true, pred = true.flatten(0, 1), pred.flatten(0, 1)
    batch, rows, columns = len(true), max(high, 0) + 2, columns + 1
    if batch * rows * columns > _MAX_CELLS:
        raise ValueError(
            f"labels go up to {rows - 2} (true) and {columns - 2} (predicted), too many for a table. "
            "Number the segments of each image consecutively, for example with torch.unique(..., return_inverse=True)."
        )
    # a bincount over (image, true label + 1, predicted label); row 0 holds the ignored pixels
    cells, counts = rows * columns, []
    true, pred = true.flatten(1), pred.flatten(1)  # (B, TxHxW)
    for t, p in zip(_parts(true, true.shape[1]), _parts(pred, pred.shape[1]), strict=True):
        dtype = torch.int16 if len(t) * cells < 2**15 else torch.int32  # narrow numbers: this is bound by memory
        first = torch.arange(0, len(t) * cells, cells, device=t.device, dtype=dtype) + columns
        cell = t.to(dtype).mul(columns).add_(p).add_(first[:, None])
        counts.append(cell.flatten().bincount(minlength=len(t) * cells))
    return torch.cat(counts).view(batch, rows, columns)[:, 1:]


def adjusted_rand_index(table: Tensor, *, foreground: bool = True, empty: Empty = "skip") -> Tensor:
    """Agreement of two partitions over pairs of pixels, corrected for chance: 1 equal, 0 on average for random ones.

    Args:
        table: (B, N+1, K+1) from `contingency`. Pixels in no predicted segment form one cluster.
        foreground: compare only the pixels whose true label is above 0 ("ARI-FG", "FG-ARI"; plain "ARI" in the
            papers of the Multi-Object Datasets line).
        empty: score of an image without such pixels.

    Returns:
        (B,) at most 1; NaN where skipped. If both sides are one cluster, or every pixel is a cluster of its own
        on both sides, the formula is 0/0 and the score is 1: the partitions are equal.
    """
    counts = _real(table[:, 1:] if foreground else table)
    both, true, pred = (_pairs(x).flatten(1).sum(1) for x in (counts, counts.sum(2), counts.sum(1)))
    pixels = counts.flatten(1).sum(1)
    expected = true * (pred / _pairs(pixels).clamp_min(1))  # in this order it equals `true` exactly if pred = all pairs
    possible = (true + pred) / 2 - expected
    values = torch.where(possible == 0, 1.0, (both - expected) / possible)
    return _settle(values, pixels == 0, empty)


def iou(table: Tensor) -> Tensor:
    """Intersection over union of every true with every predicted segment: (B, N+1, K+1) table -> (B, N+1, K)."""
    counts = _real(table)
    shared = counts[..., :-1]
    return shared / (counts.sum(2, keepdim=True) + shared.sum(1, keepdim=True) - shared).clamp_min(1)


def dice(table: Tensor) -> Tensor:
    """2 |A and B| / (|A| + |B|) of every true with every predicted segment: (B, N+1, K+1) table -> (B, N+1, K)."""
    counts = _real(table)
    shared = counts[..., :-1]
    return 2 * shared / (counts.sum(2, keepdim=True) + shared.sum(1, keepdim=True)).clamp_min(1)


def segmentation_covering(
    table: Tensor, *, weighted: bool = False, foreground: bool = True, empty: Empty = "skip"
) -> Tensor:
    """Mean over true segments of the best IoU that any predicted segment has with them.

    Args:
        table: (B, N+1, K+1) from `contingency`.
        weighted: weight each true segment by its number of pixels: SC. Otherwise all count the same: mSC.
        foreground: cover only the objects. A predicted segment's pixels on the background still enlarge its union,
            so that, unlike in ARI-FG, spilling into the background costs.
        empty: score of an image without segments to cover.

    Returns:
        (B,) in [0, 1]; NaN where skipped. Several true segments may be covered by the same predicted one.
    """
    best = iou(table).amax(2)[:, int(foreground) :]  # (B, N)
    size = _real(table).sum(2)[:, int(foreground) :]
    weight = size if weighted else (size > 0).to(size)
    total = weight.sum(1)
    return _settle((weight * best).sum(1) / total.clamp_min(1), total == 0, empty)


def mean_best_iou(table: Tensor, *, foreground: bool = True, empty: Empty = "skip") -> Tensor:
    """(B,) mean over true segments of the best IoU with a predicted one: another name of the unweighted covering."""
    return segmentation_covering(table, weighted=False, foreground=foreground, empty=empty)


def mean_best_overlap(table: Tensor, *, empty: Empty = "skip") -> Tensor:
    """(B,) mBO: `mean_best_iou` over the objects, which is how the literature on real images uses the name."""
    return mean_best_iou(table, foreground=True, empty=empty)


def hungarian_miou(
    table: Tensor, *, foreground: bool = True, average: Average = "objects", empty: Empty = "skip"
) -> Tensor:
    """Mean IoU after matching each true segment to a predicted one of its own, so that the sum of IoUs is largest.

    Args:
        table: (B, N+1, K+1) from `contingency`.
        foreground: leave the background out of the mean. It takes part in the matching either way, so that no
            object is matched to the segment that is the background's.
        average: "objects" divides by the number of true segments: surplus predicted segments cost nothing beyond
            what they take away. "pairs" divides by the number of matched pairs of which at least one side is not
            empty: surplus segments cost, as in ClevrTex's evaluation.
        empty: score of an image without segments to average.

    Returns:
        (B,) in [0, 1]; NaN where skipped. A true segment that gets no partner scores 0.
    """
    overlap = iou(table)
    return _matched_mean(table, overlap, overlap, foreground=foreground, average=average, empty=empty)


def hungarian_dice(
    table: Tensor, *, foreground: bool = True, average: Average = "objects", empty: Empty = "skip"
) -> Tensor:
    """As `hungarian_miou`, with the same matching (by IoU), but the mean is over the pairs' Dice coefficients."""
    return _matched_mean(table, iou(table), dice(table), foreground=foreground, average=average, empty=empty)


def match_objects(table: Tensor, *, min_pixels: int = 50, min_iou: float = 0.1) -> Tensor:
    """Which predicted segment stands for each object; for comparing latents with the objects' properties.

    Args:
        table: (B, N+1, K+1) from `contingency`.
        min_pixels: smaller objects get no partner.
        min_iou: pairs that overlap less are dropped again.

    Returns:
        (B, N) int64: for object i the segment matched to true label i + 1, or -1.
    """
    scores = iou(table)[:, 1:] * (table.sum(2)[:, 1:, None] >= min_pixels)
    objects, slots = scores.shape[1:]
    columns = _assign(scores)[:, :objects]  # (B, N)
    found = F.pad(scores, (0, max(objects - slots, 0))).gather(2, columns[..., None]).squeeze(2)
    return columns.masked_fill((found < min_iou) | (found == 0), -1)


def count_accuracy(table: Tensor) -> Tensor:
    """(B,) 1 where as many predicted segments as true ones (background included) are not empty, else 0."""
    return _real((table.sum(2) > 0).sum(1) == (table[..., :-1].sum(1) > 0).sum(1))


def _matched_mean(
    table: Tensor, by: Tensor, overlap: Tensor, *, foreground: bool, average: Average, empty: Empty
) -> Tensor:
    """Mean of `overlap` (B, N+1, K) over the pairs of the matching whose sum of `by` (B, N+1, K) is largest."""
    if average not in get_args(Average):
        raise ValueError(f"average is {average!r}; choose one of {', '.join(map(repr, get_args(Average)))}.")
    rows, slots = overlap.shape[1:]
    size = max(rows, slots)  # with empty segments on one side, both sides have as many
    columns = _assign(by)  # (B, size)
    scores = F.pad(overlap, (0, size - slots, 0, size - rows)).gather(2, columns[..., None]).squeeze(2)
    true = F.pad(table.sum(2) > 0, (0, size - rows))
    pred = F.pad(table[..., :-1].sum(1) > 0, (0, size - slots)).gather(1, columns)
    first = int(foreground)
    count = (true if average == "objects" else true | pred)[:, first:].sum(1)
    return _settle(scores[:, first:].sum(1) / count.clamp_min(1), count == 0, empty)


def _assign(scores: Tensor) -> Tensor:
    """Matching of largest sum: (B, R, C) scores, filled up with zeros to (B, S, S) -> (B, S) the column of each row."""
    _, rows, columns = scores.shape
    size = max(rows, columns)
    square = F.pad(scores, (0, size - columns, 0, size - rows)).cpu()
    best, found = square.max(2)  # (B, S)
    # Where the rows want different columns, each of them one column more than all others, that is the matching. Rows
    # of zeros take what is left; the background's must not be one of them, for it may be left out of a mean later.
    some = best > 0
    wanted = (found[..., None] == torch.arange(size)) & some[..., None]  # (B, S, S)
    takers = wanted.sum(1)  # (B, S) of each column
    clear = (((square == best[..., None]).sum(2) == 1) | ~some).all(1)
    hard = ~(clear & some[:, 0] & (takers <= 1).all(1))  # (B,)
    if not some.all():
        free = takers.argsort(dim=1, stable=True)  # columns that nobody wants first
        found = torch.where(some, found, free.gather(1, (~some).cumsum(1).sub_(1).clamp_min_(0)))
    if hard.any():
        left = square[hard].numpy()
        found[hard] = torch.from_numpy(np.stack([linear_sum_assignment(s, maximize=True)[1] for s in left]))
    return found.to(scores.device)


def _settle(values: Tensor, nothing: Tensor, empty: Empty) -> Tensor:
    """`values`, and where there is `nothing` to score what `empty` says."""
    if empty not in get_args(Empty):
        raise ValueError(f"empty is {empty!r}; choose one of {', '.join(map(repr, get_args(Empty)))}.")
    return values.masked_fill(nothing, {"skip": torch.nan, "one": 1.0, "zero": 0.0}[empty])


def _pairs(counts: Tensor) -> Tensor:
    """Ordered pairs within groups of these sizes."""
    return counts * (counts - 1)


def _real(counts: Tensor) -> Tensor:
    """Counts as floating point, in which squares of pixel counts stay exact (Apple's GPUs have float32 only)."""
    return counts.to(torch.float32 if counts.device.type == "mps" else torch.float64)


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


class _SegmentationMetric(PerImageMetric):
    """What the classes below share: tables in, one score per image out."""

    higher_is_better = True
    plot_upper_bound = 1.0

    def __init__(self, *options: object, empty: Empty, per_frame: bool) -> None:
        if empty not in get_args(Empty):
            raise ValueError(f"empty is {empty!r}; choose one of {', '.join(map(repr, get_args(Empty)))}.")
        super().__init__(*options, empty, per_frame)
        self.empty = empty
        self.per_frame = per_frame

    @abstractmethod
    def _score(self, table: Tensor) -> Tensor:
        """(B,) scores of (B, N+1, K+1) tables; NaN leaves an image out."""

    def update(self, true: Tensor | None = None, pred: Tensor | None = None, *, table: Tensor | None = None) -> None:
        """Take in a batch: segments, or the table of them, which several metrics can share.

        Args:
            true: (B, [T,] H, W) integer labels; 0 background, negative ignored.
            pred: (B, [T,] K, 1, H, W) masks or (B, [T,] H, W) integer segments.
            table: (B, N+1, K+1) what `contingency` counts in them; counting takes most of the time of a score.
        """
        if table is None:
            if true is None or pred is None:
                raise ValueError("nothing to score: give true and predicted segments, or table=contingency(true, pred)")
            table = contingency(true, pred, per_frame=self.per_frame)
        elif true is not None or pred is not None:
            raise ValueError("give true and predicted segments, or their table, not both")
        values = self._score(table)
        self._add(values, skip=values.isnan())


class AdjustedRandIndex(_SegmentationMetric):
    """Mean over images of `adjusted_rand_index`.

    Args:
        foreground: only pixels whose true label is above 0.
        empty: "skip", "one" (scikit-learn, GENESIS) or "zero" (EfficientMORL).
        per_frame: score the frames of a clip one by one.
    """

    def __init__(self, *, foreground: bool = True, empty: Empty = "skip", per_frame: bool = False) -> None:
        super().__init__(foreground, empty=empty, per_frame=per_frame)
        self.foreground = foreground

    def _score(self, table: Tensor) -> Tensor:
        return adjusted_rand_index(table, foreground=self.foreground, empty=self.empty)


class SegmentationCovering(_SegmentationMetric):
    """Mean over images of `segmentation_covering`: mSC, or SC if weighted.

    Args:
        weighted: weight segments by their size.
        foreground: cover only the objects.
        empty: "skip" or "zero" (GENESIS); "one" also exists.
        per_frame: score the frames of a clip one by one.
    """

    def __init__(
        self, *, weighted: bool = False, foreground: bool = True, empty: Empty = "skip", per_frame: bool = False
    ) -> None:
        super().__init__(weighted, foreground, empty=empty, per_frame=per_frame)
        self.weighted = weighted
        self.foreground = foreground

    def _score(self, table: Tensor) -> Tensor:
        return segmentation_covering(table, weighted=self.weighted, foreground=self.foreground, empty=self.empty)


class MeanBestOverlap(_SegmentationMetric):
    """Mean over images of `mean_best_overlap` (mBO).

    Args:
        empty: "skip", "one" or "zero".
        per_frame: score the frames of a clip one by one.
    """

    def __init__(self, *, empty: Empty = "skip", per_frame: bool = False) -> None:
        super().__init__(empty=empty, per_frame=per_frame)

    def _score(self, table: Tensor) -> Tensor:
        return mean_best_overlap(table, empty=self.empty)


class MatchedIoU(_SegmentationMetric):
    """Mean over images of `hungarian_miou`.

    Args:
        foreground: leave the background out of the mean.
        average: "objects", or "pairs" (ClevrTex).
        empty: "skip", "one" or "zero".
        per_frame: score the frames of a clip one by one.
    """

    def __init__(
        self,
        *,
        foreground: bool = True,
        average: Average = "objects",
        empty: Empty = "skip",
        per_frame: bool = False,
    ) -> None:
        if average not in get_args(Average):
            raise ValueError(f"average is {average!r}; choose one of {', '.join(map(repr, get_args(Average)))}.")
        super().__init__(foreground, average, empty=empty, per_frame=per_frame)
        self.foreground = foreground
        self.average: Average = average

    def _score(self, table: Tensor) -> Tensor:
        return hungarian_miou(table, foreground=self.foreground, average=self.average, empty=self.empty)
