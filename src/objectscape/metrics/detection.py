"""How well predicted boxes agree with true ones: average precision, precision and recall, counts.

Two definitions of average precision stand beside each other:

- SPACE's (Lin et al. 2020, and Delfosse et al. 2023): a prediction belongs to its best true box alone, and is a hit if
  their IoU is above the threshold and no surer prediction has hit that box; precision at 11 recalls.
- COCO's (Lin et al. 2014): a prediction takes the best true box that is still free, if their IoU reaches the
  threshold; precision at 101 recalls; at most 100 predictions.

Precision, recall and F at one operating point, all predictions above `CONFIDENT`, by IoU and by alignment: 1 minus the
distance of the centers over the true box's diagonal. Alignment forgives a box that is too large or too small.

Boxes are x0 y0 x1 y1 in pixels; all functions take batches and loop over neither images nor boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from objectscape.metrics.segmentation import hard_segments
from objectscape.scene import Decomposition, Detections

CONFIDENT = 0.5
"""A prediction is one from this confidence on (exclusive)."""
SPACE_TIME_IOUS = tuple(i / 10 for i in range(1, 10))
"""The nine thresholds of SPACE-Time."""
COCO_IOUS = tuple(i / 100 for i in range(50, 100, 5))
"""The ten of SPACE and of COCO."""
COCO_LIMIT = 100


# ------------------------------------------------------------------------------------------------------- similarities
def area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...) square pixels; 0 for a box without width or height."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)


def intersections(a: Tensor, b: Tensor) -> Tensor:
    """(..., K, 4) and (..., N, 4) -> (..., K, N) square pixels that two boxes share."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    return (high - low).clamp_min(0).prod(-1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """(..., K, 4) and (..., N, 4) -> (..., K, N) intersection over union; 0 for two empty boxes."""
    both = intersections(a, b)
    return both / (area(a)[..., :, None] + area(b)[..., None, :] - both).clamp_min(1e-9)


def alignment(predicted: Tensor, true: Tensor) -> Tensor:
    """(..., K, 4) and (..., N, 4) -> (..., K, N) 1 - distance of centers / diagonal of the true box, at least 0."""
    centers = (predicted[..., :, None, :2] + predicted[..., :, None, 2:]) / 2
    true_centers = (true[..., None, :, :2] + true[..., None, :, 2:]) / 2
    diagonal = (true[..., 2:] - true[..., :2]).norm(dim=-1)[..., None, :].clamp_min(1e-9)
    return (1 - (centers - true_centers).norm(dim=-1) / diagonal).clamp_min(0)


def coverage(predicted: Tensor, true: Tensor) -> Tensor:
    """(..., K, 4) and (..., N, 4) -> (..., K, N) share of the true box that the predicted one covers."""
    return intersections(predicted, true) / area(true)[..., None, :].clamp_min(1e-9)


def match_labels(predicted: Tensor, true: Tensor, labels: Tensor, present: Tensor, *, least: float = 0.5) -> Tensor:
    """The class of each prediction: that of the true box of which it covers the largest share, -1 below `least`.

    As published with SPACE-Time; predictions that are too large lose nothing.

    Args:
        predicted: (..., K, 4)
        true: (..., N, 4)
        labels: (..., N) classes of the true boxes.
        present: (..., N) which true boxes count.

    Returns:
        (..., K) int64.
    """
    if not true.shape[-2]:
        return torch.full(predicted.shape[:-1], -1, dtype=torch.long, device=predicted.device)
    best, index = coverage(predicted, true).masked_fill(~present[..., None, :], -1.0).max(-1)
    found = labels[..., None, :].expand(*index.shape, -1).gather(-1, index[..., None])[..., 0]
    return torch.where(best >= least, found, -1)


# ------------------------------------------------------------------------------------------------------------ matching
def hits(similarity: Tensor, valid: Tensor, present: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Which predictions hit an object, by SPACE's rule.

    Args:
        similarity: (B, K, N), the predictions of an image in falling order of confidence.
        valid: (B, K) which rows are predictions.
        present: (B, N) which true boxes there are.
        thresholds: R least similarities, exclusive.

    Returns:
        (B, K, R) bool.
    """
    if not similarity.shape[-1]:
        return similarity.new_zeros(*valid.shape, len(thresholds), dtype=torch.bool)
    value, best = similarity.masked_fill(~present[:, None], -1.0).max(-1)  # (B, K)
    # as numbers of the similarities' type: .5 in float32 is not above .5
    able = (value[..., None] > value.new_tensor(thresholds)) & valid[..., None]  # (B, K, R)
    own = torch.nn.functional.one_hot(best, similarity.shape[-1]).bool()  # (B, K, N)
    claims = own[..., None] & able[:, :, None]  # (B, K, N, R)
    first = claims & (claims.cumsum(1) == 1)
    return first.any(2)


def coco_hits(similarity: Tensor, valid: Tensor, present: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Which predictions hit an object, by COCO's rule; arguments and result as for `hits`, thresholds inclusive."""
    limits = similarity.new_tensor(thresholds)
    free = present[:, None].expand(-1, len(limits), -1).clone()  # (B, R, N)
    found = similarity.new_zeros(*valid.shape, len(limits), dtype=torch.bool)
    if not similarity.shape[-1]:
        return found
    for k in range(similarity.shape[1]):  # sequential by definition: what is free depends on surer predictions
        value, best = similarity[:, k, None].expand_as(free).masked_fill(~free, -1.0).max(-1)  # (B, R)
        found[:, k] = (value >= limits) & valid[:, k, None]
        free = free & ~(torch.nn.functional.one_hot(best, free.shape[-1]).bool() & found[:, k, :, None])
    return found


def average_precision(confidence: Tensor, hit: Tensor, objects: int | Tensor, *, points: int = 11) -> Tensor:
    """Mean over `points` recalls from 0 to 1 of the best precision at that recall or a higher one.

    Args:
        confidence: (P,) of all predictions of all images, in the order of the images.
        hit: (P, R) for R thresholds.
        objects: number of true boxes.
        points: 11 as in SPACE; 101 as in COCO.

    Returns:
        (R,) in [0, 1]; 0 without a hit.
    """
    order = confidence.sort(descending=True, stable=True).indices
    found = hit[order].double().cumsum(0)  # (P, R)
    if not len(found):
        return found.new_zeros(hit.shape[1])
    precision = found / torch.arange(1, len(found) + 1, device=found.device, dtype=found.dtype)[:, None]
    recall = found / max(int(objects), 1)
    best = precision.flip(0).cummax(0).values.flip(0)  # best precision from here on
    # multiples of the step, as NumPy makes them: 3 * .1 is a hair above .3, which 12 of 40 objects do not reach
    at = torch.arange(points, device=found.device, dtype=found.dtype) * (1 / (points - 1))
    index = torch.searchsorted(recall.T.contiguous(), at.expand(hit.shape[1], -1).contiguous())  # (R, points)
    padded = torch.cat([best.T, best.new_zeros(hit.shape[1], 1)], 1)
    return padded.gather(1, index).mean(1) * (found[-1] > 0)


def f_score(precision: Tensor, recall: Tensor) -> Tensor:
    """Harmonic mean, with the released code's epsilon."""
    return 2 * precision * recall / (precision + recall + 1e-8)


# --------------------------------------------------------------------------------------------------------- detections
def detections_of(output: Decomposition) -> Detections:
    """Boxes of a decomposition: the model's own, or else those around the segments of its masks.

    From masks: a slot's box surrounds the pixels that it owns; its confidence is the mean of its mask there, and 0 for
    a segment that touches all four edges of the image, which is background, or owns nothing.
    """
    if output.boxes is not None:
        present = output.boxes.new_ones(output.boxes.shape[:-1]) if output.present is None else output.present
        real = area(output.boxes) > 0  # background components have empty boxes
        return Detections(boxes=output.boxes, confidence=present * real, latents=output.slots)
    masks = output.masks.squeeze(-3)  # (..., K, H, W)
    slots, height, width = masks.shape[-3:]
    owner = hard_segments(output.masks.flatten(0, -5)).view(*masks.shape[:-3], 1, height, width)
    own = owner == torch.arange(slots, device=masks.device)[:, None, None]  # (..., K, H, W)
    columns, rows = own.any(-2), own.any(-1)
    x0, x1 = columns.float().argmax(-1), width - columns.flip(-1).float().argmax(-1)
    y0, y1 = rows.float().argmax(-1), height - rows.flip(-1).float().argmax(-1)
    owns = columns.any(-1)
    everywhere = (x0 == 0) & (y0 == 0) & (x1 == width) & (y1 == height)
    sure = (masks * own).sum((-2, -1)) / own.sum((-2, -1)).clamp_min(1)
    boxes = torch.stack([x0, y0, x1, y1], -1).to(masks.dtype) * owns[..., None]
    return Detections(boxes=boxes, confidence=sure * (owns & ~everywhere), latents=output.slots)


class DetectionScores(Metric):
    """All detection scores of a set of images.

    Args:
        coco: also COCO's average precision, which takes a step per prediction of an image.

    `compute()` returns {name: number}: `ap_0.10` .. `ap_0.90` and their mean `ap` (SPACE-Time); `ap_space` (mean over
    .50 to .95, SPACE); `coco_ap`, `coco_ap_50`; `precision`, `recall` and `f` by alignment, and with `_iou_25` and
    `_iou_50` by IoU; `count_error` (mean of |found - true|), `count_bias` (mean of found - true), `count_error_rate`
    (relative to the true number; images without objects are left out), `count_accuracy`, `perfect`, `over`, `under`
    (images). With `labels`: `recall_<class>` by alignment and `recall_iou_50_<class>`.
    """

    is_differentiable = False
    full_state_update = False
    confidence: list[Tensor]
    hit: list[Tensor]
    coco_hit: list[Tensor]
    counts: list[Tensor]
    found: list[Tensor]

    def __init__(self, *, coco: bool = True) -> None:
        super().__init__()
        self.coco = coco
        for name in ("confidence", "hit", "coco_hit", "counts", "found"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        boxes: Tensor,
        confidence: Tensor,
        true: Tensor,
        present: Tensor,
        labels: Tensor | None = None,
    ) -> None:
        """Take in a batch of images.

        Args:
            boxes: (B, K, 4) predictions, pixels.
            confidence: (B, K) in [0, 1]; up to `CONFIDENT` a row is no prediction.
            true: (B, N, 4)
            present: (B, N) which rows are objects.
            labels: (B, N) their classes, for recall by class.
        """
        present = present.bool()
        valid = confidence > CONFIDENT
        order = torch.where(valid, confidence, -1.0).sort(dim=1, descending=True, stable=True).indices
        order = order[:, : int(valid.sum(1).max()) if len(valid) else 0]  # (B, K')
        boxes = boxes.take_along_dim(order[..., None], 1)
        confidence, valid = confidence.take_along_dim(order, 1), valid.take_along_dim(order, 1)
        iou, aligned = box_iou(boxes, true), alignment(boxes, true)
        by_iou = hits(iou, valid, present, (*SPACE_TIME_IOUS, *COCO_IOUS, 0.25))  # (B, K', 20)
        by_alignment = hits(aligned, valid, present, (CONFIDENT,))
        self.confidence.append(confidence[valid])
        self.hit.append(torch.cat([by_iou, by_alignment], -1)[valid])
        if self.coco:
            limited = valid[:, :COCO_LIMIT]
            found = coco_hits(iou[:, :COCO_LIMIT], limited, present, COCO_IOUS)
            found = torch.nn.functional.pad(found, (0, 0, 0, valid.shape[1] - limited.shape[1]))
            self.coco_hit.append(found[valid])
        self.counts.append(torch.stack([valid.sum(1), present.sum(1)], 1))
        if labels is not None:
            hit_50 = _is_hit(iou, valid, present, 0.5)
            hit_aligned = _is_hit(aligned, valid, present, CONFIDENT)
            self.found.append(torch.stack([labels, hit_50.long(), hit_aligned.long()], -1)[present])

    def compute(self) -> dict[str, float]:
        """{name: score}; NaN where nothing was to be found."""
        confidence, hit = _cat(self.confidence), _cat(self.hit)
        counts = _cat(self.counts).double()
        found, true = counts.unbind(1)
        objects = int(true.sum())
        ap = average_precision(confidence, hit[:, :19], objects)
        scores = {f"ap_{t:.2f}": ap[i] for i, t in enumerate(SPACE_TIME_IOUS)}
        scores |= {"ap": ap[:9].mean(), "ap_space": ap[9:].mean()}
        if self.coco:
            coco = average_precision(confidence, _cat(self.coco_hit), objects, points=101)
            scores |= {"coco_ap": coco.mean(), "coco_ap_50": coco[0]}
        for suffix, column in (("", -1), ("_iou_25", -2), ("_iou_50", len(SPACE_TIME_IOUS))):
            hits_ = hit[:, column].double().sum()
            precision, recall = hits_ / max(len(hit), 1), hits_ / max(objects, 1)
            scores |= {f"precision{suffix}": precision, f"recall{suffix}": recall}
            scores[f"f{suffix}"] = f_score(precision, recall)
        off = found - true
        some = true > 0
        scores |= {
            "count_error": off.abs().mean(),
            "count_bias": off.mean(),
            "count_error_rate": (off.abs()[some] / true[some]).mean(),
            "count_accuracy": (off == 0).double().mean(),
            "perfect": (off == 0).sum(),
            "over": (off > 0).sum(),
            "under": (off < 0).sum(),
        }
        for label, by_iou, by_alignment in self._recalls():
            scores |= {f"recall_{label}": by_alignment, f"recall_iou_50_{label}": by_iou}
        return {name: float(value) for name, value in scores.items()}

    def _recalls(self) -> list[tuple[int, Tensor, Tensor]]:
        if not len(self.found):
            return []
        labels, by_iou, by_alignment = _cat(self.found).unbind(1)
        classes = labels.unique().tolist()
        return [(c, by_iou[labels == c].double().mean(), by_alignment[labels == c].double().mean()) for c in classes]


def _is_hit(similarity: Tensor, valid: Tensor, present: Tensor, threshold: float) -> Tensor:
    """(B, N) which true boxes are hit, by SPACE's rule."""
    if not similarity.shape[1] or not similarity.shape[2]:
        return torch.zeros_like(present)
    best = similarity.masked_fill(~present[:, None], -1.0).argmax(-1)  # (B, K)
    hit = hits(similarity, valid, present, (threshold,))[..., 0]
    return (torch.nn.functional.one_hot(best, similarity.shape[2]).bool() & hit[..., None]).any(1)


def _cat(values: list[Tensor] | Tensor) -> Tensor:
    return torch.cat(list(values)) if isinstance(values, list | tuple) else values


# ----------------------------------------------------------------------------------------------- which boxes count
Rule = Mapping[str, tuple[float, float]]
RELEVANT: dict[str, tuple[Rule, ...]] = {
    "MsPacman": ({"y1": (-999, 104)},),
    "Carnival": ({"y0": (15, 999)},),
    "SpaceInvaders": ({"y1": (16, 999)},),
    "Pong": ({"y1": (21, 999)},),
    "Boxing": ({"y0": (19, 999), "y1": (-999, 110)},),
    "AirRaid": ({"y0": (8, 999)},),
    "Riverraid": ({"y0": (-999, 98)},),
    "Tennis": ({"y0": (8, 999), "y1": (-999, 60)}, {"y0": (68, 999), "y1": (-999, 116)}),
}
"""Published filters of predictions: edges of a box between (exclusive) 128ths of the image; one rule is enough."""


def relevant(boxes: Tensor, game: str, height: int, *, true: Tensor | None = None) -> Tensor:
    """(B, K) which predicted boxes (B, K, 4) lie where the game is played, by the published filter; all elsewhere.

    Args:
        boxes: pixels, in images of `height`.
        game: name in the environment's id, such as "Pong"; case is ignored.
        height: H.
        true: (B, N, 4) true boxes: in Space Invaders nothing is left out while more than one of them is at the top.
    """
    rules = {name.lower(): rule for name, rule in RELEVANT.items()}.get(game.lower())
    if rules is None:
        return torch.ones(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    edges = {"y0": boxes[..., 1] * (128 / height), "y1": boxes[..., 3] * (128 / height)}
    each = [torch.stack([(edges[e] > a) & (edges[e] < b) for e, (a, b) in rule.items()]).all(0) for rule in rules]
    kept = torch.stack(each).any(0)
    if game.lower() == "spaceinvaders" and true is not None:
        at_top = ((true[..., 3] * (128 / height) < 16) & (area(true) > 0)).sum(-1, keepdim=True)
        kept = kept | (at_top > 1)
    return kept
