"""Segmentation scores of a batch against one image at a time with scikit-learn and NumPy

320 images of 64x64 pixels with up to 6 objects and 7 slots. Both sides read the same label maps (the last row: the
same soft masks) and their results are compared before anything is timed. CPU time of one thread, the best of several
runs. Counting
pixels takes most of our time, once for all scores: a score by itself has the whole of it, one of five a fifth. The
last two scores need the places of the pixels, not their numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from benchmarks.measure import Row, cpu_seconds, row
from objectscape.metrics import AdjustedRandIndex, MatchedIoU, MeanBestOverlap, SegmentationCovering
from objectscape.metrics.per_image import PerImageMetric
from objectscape.metrics.segmentation import contingency, hard_segments
from objectscape.metrics.spatial import boundary_f, fragmentation

IMAGES, SIZE, SLOTS = 320, 64, 7


def scenes(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """True labels (B, H, W), squares that occlude each other; soft masks (B, K, 1, H, W), a noisy guess."""
    generator = torch.Generator().manual_seed(0)
    true = torch.zeros(images, SIZE, SIZE, dtype=torch.long)
    pixel = torch.arange(SIZE)
    for label in range(1, SLOTS):
        corner = torch.randint(0, SIZE - 16, (2, images, 1), generator=generator)
        rows, columns = ((pixel >= c) & (pixel < c + 16) for c in corner)
        true[rows[:, :, None] & columns[:, None, :]] = label
    guess = true.roll((2, 1), (1, 2))
    logits = 4 * torch.nn.functional.one_hot(guess, SLOTS).permute(0, 3, 1, 2).float()
    masks = (logits + torch.randn(logits.shape, generator=generator)).softmax(1)
    return true, masks[:, :, None]


def overlaps(true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """IoU of every true segment, the background first, with every predicted segment of one image."""
    rows = [true == i for i in np.unique(true)]
    columns = [pred == j for j in np.unique(pred)]
    return np.array([[(r & c).sum() / (r | c).sum() for c in columns] for r in rows])


def ari(true: np.ndarray, pred: np.ndarray) -> float:
    return adjusted_rand_score(true.ravel(), pred.ravel())


def ari_foreground(true: np.ndarray, pred: np.ndarray) -> float:
    return adjusted_rand_score(true[true > 0], pred[true > 0])


def best_overlap(true: np.ndarray, pred: np.ndarray) -> float:
    return overlaps(true, pred)[1:].max(1).mean()


def matched_iou(true: np.ndarray, pred: np.ndarray) -> float:
    table = overlaps(true, pred)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return table[rows, columns][rows > 0].sum() / (len(table) - 1)


def edges(segments: np.ndarray) -> np.ndarray:
    found = np.zeros(segments.shape, dtype=bool)
    found[:, :-1] |= segments[:, 1:] != segments[:, :-1]
    found[:-1] |= segments[1:] != segments[:-1]
    found[:-1, :-1] |= segments[1:, 1:] != segments[:-1, :-1]
    return found


def boundary_f_image(true: np.ndarray, pred: np.ndarray) -> float:
    """With a tolerance of one pixel, as 64x64 images have it."""
    one, other = edges(true), edges(pred)
    recall = (one & ndimage.binary_dilation(other)).sum() / one.sum()
    precision = (other & ndimage.binary_dilation(one)).sum() / other.sum()
    return 2 * precision * recall / (precision + recall)


def fragmentation_image(true: np.ndarray, pred: np.ndarray) -> float:
    return np.mean([ndimage.label(pred == slot)[1] for slot in np.unique(pred)])


PAIRS: dict[str, tuple[Callable[[], PerImageMetric], Callable[[np.ndarray, np.ndarray], float]]] = {
    "ARI": (lambda: AdjustedRandIndex(foreground=False), ari),
    "foreground ARI": (AdjustedRandIndex, ari_foreground),
    "mBO": (MeanBestOverlap, best_overlap),
    "mSC, foreground": (SegmentationCovering, best_overlap),
    "matched mIoU": (MatchedIoU, matched_iou),
}


def best_time(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the fastest run."""
    return min(cpu_seconds(work) for _ in range(repeats))


def mean(score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], *segments: torch.Tensor) -> list[float]:
    return [score(*segments).mean().item()]


def run(*, quick: bool = False) -> list[Row]:
    """Two rows per score of a table, by itself and as one of five, one row per other; in milliseconds."""
    true, masks = scenes(8 if quick else IMAGES)
    pred = hard_segments(masks)
    true_np, pred_np, masks_np = true.numpy(), pred.long().numpy(), masks.squeeze(2).numpy()

    def ours(*make: Callable[[], PerImageMetric]) -> list[float]:
        """Each score by itself, or all of one table."""
        return scores(contingency(true, pred), *make)

    def scores(table: torch.Tensor, *make: Callable[[], PerImageMetric]) -> list[float]:
        metrics = [one() for one in make]
        for metric in metrics:
            metric.update(table=table)
        return [metric.compute().item() for metric in metrics]

    def theirs(*score: Callable[[np.ndarray, np.ndarray], float]) -> list[float]:
        return [float(np.mean([one(t, p) for t, p in zip(true_np, pred_np)])) for one in score]

    def ours_from_masks() -> list[float]:
        return scores(contingency(true, masks), *(make for make, _ in PAIRS.values()))

    def count_pixels() -> torch.Tensor:
        return contingency(true, pred)

    def theirs_from_masks() -> list[float]:
        segments = [m.argmax(0) for m in masks_np]
        return [float(np.mean([score(t, p) for t, p in zip(true_np, segments)])) for _, score in PAIRS.values()]

    rivals: dict[str, tuple[Callable[[], list[float]], Callable[[], list[float]]]] = {
        name: (partial(ours, make), partial(theirs, score)) for name, (make, score) in PAIRS.items()
    }
    every = tuple(zip(*PAIRS.values(), strict=True))
    rivals["all five"] = (partial(ours, *every[0]), partial(theirs, *every[1]))
    rivals["all five, from soft masks"] = (ours_from_masks, theirs_from_masks)
    for name, score, alone in (
        ("boundary F", boundary_f, boundary_f_image),
        ("fragmentation", fragmentation, fragmentation_image),
    ):
        rivals[name] = (partial(mean, score, true, pred), partial(theirs, alone))
    table = contingency(true, pred)

    rows = []
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, (batched, per_image) in rivals.items():
        np.testing.assert_allclose(batched(), per_image(), rtol=1e-5)
        # taken in turns, so that both meet the same state of the machine
        times = [(best_time(batched, 10), best_time(per_image, 1)) for _ in range(1 if quick else 3)]
        fast, slow = (min(t) for t in zip(*times))
        rows.append(row(name, 1e3 * fast, 1e3 * slow, "ms"))
        if name in PAIRS:
            count, alone = (best_time(work, 10) for work in (count_pixels, partial(scores, table, PAIRS[name][0])))
            rows.append(row(f"{name}, one of five", 1e3 * (alone + count / 5), 1e3 * slow, "ms"))
    torch.set_num_threads(before)
    return rows
