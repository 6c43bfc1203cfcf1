"""Scores against scikit-learn and NumPy, their properties, their edge cases, and how they accumulate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torchmetrics import MetricCollection

from objectscape.metrics import (
    PSNR,
    AdjustedRandIndex,
    MatchedIoU,
    MeanBestOverlap,
    PerImageMetric,
    ReconstructionMSE,
    SegmentationCovering,
)
from objectscape.metrics.reconstruction import mse, psnr
from objectscape.metrics.segmentation import (
    _assign,
    adjusted_rand_index,
    contingency,
    count_accuracy,
    dice,
    hard_segments,
    hungarian_dice,
    hungarian_miou,
    iou,
    match_objects,
    mean_best_iou,
    mean_best_overlap,
    segmentation_covering,
)


def label_maps(seed: int, *, batch: int = 6, low: int = 0, high: int = 5, size: int = 12) -> tuple[Tensor, Tensor]:
    """Blocky random true and predicted label maps that agree in part, (B, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(low, high, (batch, 4, 4), generator=generator)
    true = coarse.repeat_interleave(size // 4, 1).repeat_interleave(size // 4, 2)
    noise = torch.randint(0, high, true.shape, generator=generator)
    keep = torch.rand(true.shape, generator=generator) < 0.7
    return true, torch.where(keep, true.clamp_min(0), noise)


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "ari": lambda table: adjusted_rand_index(table, foreground=False),
    "ari_fg": adjusted_rand_index,
    "msc": lambda table: segmentation_covering(table, foreground=False),
    "sc": lambda table: segmentation_covering(table, foreground=False, weighted=True),
    "msc_fg": segmentation_covering,
    "sc_fg": lambda table: segmentation_covering(table, weighted=True),
    "mbo": mean_best_overlap,
    "miou": lambda table: hungarian_miou(table, foreground=False),
    "miou_fg": hungarian_miou,
    "miou_pairs": lambda table: hungarian_miou(table, foreground=False, average="pairs"),
    "miou_fg_pairs": lambda table: hungarian_miou(table, average="pairs"),
    "dice": lambda table: hungarian_dice(table, foreground=False, average="pairs"),
    "dice_fg": hungarian_dice,
}


# --- oracles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("high", [1, 2, 5, 9])
def test_ari_equals_scikit_learn(seed: int, high: int) -> None:
    true, pred = label_maps(seed, high=high)
    table = contingency(true, pred)
    every = [adjusted_rand_score(t.ravel(), p.ravel()) for t, p in zip(true.numpy(), pred.numpy())]
    foreground = [adjusted_rand_score(t[t > 0], p[t > 0]) for t, p in zip(true.numpy(), pred.numpy())]
    np.testing.assert_allclose(adjusted_rand_index(table, foreground=False), every, atol=1e-12)
    np.testing.assert_allclose(adjusted_rand_index(table, empty="one"), foreground, atol=1e-12)


def overlap_oracle(true: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU of every true label 0..N and every predicted label 0..K-1 of one image, and the true segments' sizes."""
    seen = true >= 0
    rows = [true == i for i in range(max(true.max(), 0) + 1)]
    columns = [(pred == j) & seen for j in range(max(pred.max(), 0) + 1)]
    return (
        np.array([[(r & c).sum() / max((r | c).sum(), 1) for c in columns] for r in rows]),
        np.array([r.sum() for r in rows]),
    )


@pytest.mark.parametrize("seed", range(5))
def test_overlap_scores_equal_a_direct_computation(seed: int) -> None:
    true, pred = label_maps(seed, low=-1)
    pred[:, :2, :3] = -1
    table = contingency(true, pred)
    for b in range(len(true)):
        overlap, size = overlap_oracle(true[b].numpy(), pred[b].numpy())
        there, best = size > 0, overlap.max(1)
        rows, columns = linear_sum_assignment(overlap, maximize=True)
        matched = np.zeros(len(size))
        matched[rows] = overlap[rows, columns]
        objects = there & (np.arange(len(size)) > 0)
        expected = {
            "msc": best[there].mean(),
            "sc": np.average(best, weights=size),
            "msc_fg": best[objects].mean(),
            "sc_fg": np.average(best[objects], weights=size[objects]),
            "mbo": best[objects].mean(),
            "miou": matched[there].mean(),
            "miou_fg": matched[objects].mean(),
        }
        for name, value in expected.items():
            assert SCORES[name](table)[b].item() == pytest.approx(value, abs=1e-12), name


def test_dice_follows_from_iou() -> None:
    table = contingency(*label_maps(3))
    torch.testing.assert_close(dice(table), 2 * iou(table) / (1 + iou(table)))


def test_table_counts_pixels() -> None:
    true = torch.tensor([[[0, 0, 1], [2, -1, -7]]])
    pred = torch.tensor([[[0, 1, -1], [1, 0, -2]]])
    expected = torch.tensor([[[1, 1, 0], [0, 0, 1], [0, 1, 0]]])  # last column: in no segment
    assert torch.equal(contingency(true, pred), expected)
    for dtype in (torch.int8, torch.int16, torch.int32):
        assert torch.equal(contingency(true.to(dtype), pred.to(dtype)), expected)
    assert torch.equal(contingency(true.clamp_min(0).byte(), pred.clamp_min(0).byte())[0].sum(), torch.tensor(6))


@pytest.mark.parametrize("slots", [1, 7, 300])
def test_hard_segments_is_argmax_with_ties_to_the_lowest(slots: int) -> None:
    masks = torch.randint(0, 4, (2, 3, slots, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 4
    assert torch.equal(hard_segments(masks).long(), masks.argmax(2).squeeze(2))
    masks[0, 0, :, :, 0, 0] = torch.nan
    assert hard_segments(masks)[0, 0, 0, 0] == slots


@pytest.mark.parametrize("name", SCORES)
def test_soft_masks_equal_their_segments(name: str) -> None:
    true, pred = label_maps(1)
    masks = torch.nn.functional.one_hot(pred, 8).permute(0, 3, 1, 2)[:, :, None].float() * 0.3 + 0.1
    torch.testing.assert_close(SCORES[name](contingency(true, masks)), SCORES[name](contingency(true, pred)))


# --- properties ------------------------------------------------------------------------------------------------------

SEEDS = st.integers(0, 2**31)


@pytest.mark.parametrize("name", SCORES)
@given(seed=SEEDS, low=st.integers(-1, 0), high=st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_labels_are_only_names_and_scores_are_bounded(name: str, seed: int, low: int, high: int) -> None:
    true, pred = label_maps(seed, batch=3, low=low, high=high)
    values = SCORES[name](contingency(true, pred))
    known = values[~values.isnan()]
    assert (known <= 1 + 1e-12).all()
    assert (known >= (-1 if name.startswith("ari") else 0)).all()

    generator = torch.Generator().manual_seed(seed)
    objects = torch.cat([torch.tensor([0]), 1 + torch.randperm(high + 2, generator=generator)])  # 0 stays background
    slots = torch.randperm(high + 1, generator=generator)
    renamed = contingency(torch.where(true < 0, true, objects[true.clamp_min(0)]), slots[pred])
    if not name.endswith("pairs") and not name.startswith("dice"):  # those depend on which empty overlaps are paired
        torch.testing.assert_close(SCORES[name](renamed), values, equal_nan=True)


@pytest.mark.parametrize("name", SCORES)
@given(seed=SEEDS, high=st.integers(2, 7))
@settings(max_examples=25, deadline=None)
def test_a_perfect_prediction_scores_one(name: str, seed: int, high: int) -> None:
    true, _ = label_maps(seed, batch=3, high=high)
    slots = torch.randperm(high + 2, generator=torch.Generator().manual_seed(seed))
    values = SCORES[name](contingency(true, slots[true]))
    assert torch.equal(values.isnan(), (true == 0).all(-1).all(-1) & (("fg" in name) | (name == "mbo")))
    torch.testing.assert_close(values.nan_to_num(1), torch.ones_like(values))


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_ari_is_symmetric_and_ignored_pixels_count_nowhere(seed: int) -> None:
    true, pred = label_maps(seed)
    forward = adjusted_rand_index(contingency(true, pred), foreground=False)
    torch.testing.assert_close(adjusted_rand_index(contingency(pred, true), foreground=False), forward)

    hidden, changed = true.clone(), pred.clone()
    hidden[:, :, :4] = -1
    changed[:, :, :4] = 0
    for score in SCORES.values():
        torch.testing.assert_close(
            score(contingency(hidden, pred)), score(contingency(hidden, changed)), equal_nan=True
        )


# --- edge cases ------------------------------------------------------------------------------------------------------

NAN = float("nan")
EDGES = {  # true row, predicted row: (ARI, ARI-FG, mSC-FG, matched IoU of objects)
    "empty frame, one segment": ("000000", "000000", (1, NAN, NAN, NAN)),
    "empty frame, two segments": ("000000", "000111", (0, NAN, NAN, NAN)),
    "one object, found": ("001111", "110000", (1, 1, 1, 1)),
    "one object, split in two": ("001111", "001122", (4 / 9, 0, 1 / 2, 1 / 2)),
    "one object, whole image": ("111111", "000000", (1, 1, 1, 1)),
    "two objects, merged": ("001122", "001111", (4 / 9, 0, 1 / 2, 1 / 4)),
    "one-pixel object, found": ("000010", "000010", (1, 1, 1, 1)),
    "one-pixel object, missed": ("000010", "000000", (0, 1, 1 / 6, 0)),
    "more slots than objects": ("001122", "003355", (1, 1, 1, 1)),
    "fewer slots than objects": ("112233", "001100", (4 / 9, 4 / 9, 2 / 3, 1 / 2)),
    "spills into the background": ("000011", "000111", (12 / 37, 1, 2 / 3, 2 / 3)),
    "ignored pixels": ("0011--", "000110", (0, 0, 1 / 2, 1 / 2)),
    "nothing but ignored pixels": ("------", "001122", (NAN, NAN, NAN, NAN)),
    "predicted nowhere": ("0011", "00--", (1, 1, 0, 0)),
}


def row(text: str) -> Tensor:
    return torch.tensor([[[-1 if c == "-" else int(c) for c in text]]])  # (1, 1, W)


@pytest.mark.parametrize("case", EDGES)
def test_edge_cases(case: str) -> None:
    true, pred, expected = EDGES[case]
    table = contingency(row(true), row(pred))
    actual = [
        adjusted_rand_index(table, foreground=False),
        adjusted_rand_index(table),
        segmentation_covering(table),
        hungarian_miou(table),
    ]
    assert [x.item() for x in actual] == pytest.approx(expected, nan_ok=True)
    if "-" not in true + pred:
        t, p = row(true).numpy().ravel(), row(pred).numpy().ravel()
        assert adjusted_rand_score(t, p) == pytest.approx(expected[0])


@pytest.mark.parametrize(("empty", "value"), [("skip", NAN), ("one", 1.0), ("zero", 0.0)])
@pytest.mark.parametrize("score", [adjusted_rand_index, segmentation_covering, mean_best_iou, hungarian_miou])
def test_empty_foreground_follows_the_chosen_convention(score: Callable, empty: str, value: float) -> None:
    table = contingency(torch.stack([row("0000")[0], row("0011")[0]]), torch.stack([row("0011")[0], row("0011")[0]]))
    assert score(table, empty=empty).tolist() == pytest.approx([value, 1.0], nan_ok=True)


def test_matching_is_one_to_one_and_pairs_count_surplus_segments() -> None:
    true, pred = row("00001111"), row("00001122")
    table = contingency(true, pred)
    assert hungarian_miou(table, foreground=False).item() == pytest.approx((1 + 1 / 2) / 2)
    assert hungarian_miou(table, foreground=False, average="pairs").item() == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert hungarian_miou(table, average="pairs").item() == pytest.approx((1 / 2 + 0) / 2)
    assert hungarian_dice(table).item() == pytest.approx(2 * 2 / (4 + 2))
    assert count_accuracy(table).item() == 0
    assert count_accuracy(contingency(true, row("00003333"))).item() == 1


def test_match_objects_leaves_out_the_small_and_the_missed() -> None:
    true = torch.zeros(1, 20, 20, dtype=torch.long)
    true[:, :10, :10], true[:, 10:, :10], true[:, :3, 15:] = 1, 2, 3  # 100, 100 and 15 pixels
    pred = torch.tensor([4, 2, 0, 1])[true]
    pred[:, 10:, :10] = 4  # the second object is the background's
    assert match_objects(contingency(true, pred)).tolist() == [[2, 4, -1]]
    assert match_objects(contingency(true, pred), min_iou=0.5).tolist() == [[2, -1, -1]]
    assert match_objects(contingency(true, pred), min_pixels=10, min_iou=0).tolist() == [[2, 4, 1]]
    assert match_objects(contingency(true, torch.zeros_like(pred))).tolist() in ([[0, -1, -1]], [[-1, 0, -1]])


def test_a_clip_is_one_image_unless_taken_per_frame() -> None:
    frame = row("001122")[0]
    true = torch.stack([frame, frame])[None]  # (B, T, H, W)
    swapped = torch.stack([frame, torch.tensor([0, 2, 1])[frame]])[None]
    clip, frames = contingency(true, swapped), contingency(true, swapped, per_frame=True)
    assert (len(clip), len(frames)) == (1, 2)
    assert adjusted_rand_index(frames).tolist() == [1, 1]
    assert adjusted_rand_index(clip).item() == pytest.approx(
        adjusted_rand_score([1, 1, 2, 2] * 2, [1, 1, 2, 2, 2, 2, 1, 1])
    )
    masks = torch.nn.functional.one_hot(swapped, 3).permute(0, 1, 4, 2, 3)[:, :, :, None].float()
    assert torch.equal(contingency(true, masks), clip)
    metric = AdjustedRandIndex(per_frame=True)
    metric.update(true, masks)
    assert metric.spread().n == 2


def test_bad_input_is_named() -> None:
    true = torch.zeros(2, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="expected integer labels"):
        contingency(true.float(), true)
    with pytest.raises(ValueError, match="expected masks"):
        contingency(true, torch.rand(2, 3, 1, 8, 8))
    with pytest.raises(ValueError, match="expected masks"):
        contingency(true, torch.rand(2, 4, 4))
    with pytest.raises(ValueError, match="no pixel"):
        contingency(true[:0], true[:0])
    with pytest.raises(ValueError, match="consecutively"):
        contingency(true + 10**8, true)
    with pytest.raises(ValueError, match="'skip', 'one', 'zero'"):
        AdjustedRandIndex(empty="nan")
    with pytest.raises(ValueError, match="'objects', 'pairs'"):
        MatchedIoU(average="images")
    with pytest.raises(ValueError, match="same shape"):
        mse(torch.rand(2, 3, 4, 4), torch.rand(2, 3, 5, 5))
    with pytest.raises(ValueError, match="dtype"):
        mse(true[:, None], true[:, None])
    with pytest.raises(ValueError, match="positive"):
        PSNR(data_range=0)


# --- reconstruction --------------------------------------------------------------------------------------------------


def test_reconstruction_scores_equal_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    true, pred = torch.rand(2, 4, 2, 3, 8, 8, generator=generator)  # (B, T, C, H, W)
    errors = ((true - pred).numpy().astype(np.float64) ** 2).mean((2, 3, 4))  # (B, T)
    np.testing.assert_allclose(mse(true, pred), errors.mean(1), rtol=1e-5)
    np.testing.assert_allclose(psnr(true, pred), (-10 * np.log10(errors)).mean(1), rtol=1e-5)
    np.testing.assert_allclose(psnr(2 * true, 2 * pred, data_range=2.0), psnr(true, pred), rtol=1e-5)
    assert psnr(true[:, 0], true[:, 0]).isinf().all()
    stored = (true * 255).round().byte()
    torch.testing.assert_close(mse(stored, stored.float() / 255), torch.zeros(4))
    torch.testing.assert_close(mse(stored, pred), mse(stored.float() / 255, pred))


def test_a_nan_reconstruction_is_not_hidden() -> None:
    metric = ReconstructionMSE()
    metric.update(torch.rand(2, 3, 4, 4), torch.full((2, 3, 4, 4), torch.nan))
    assert metric.compute().isnan()
    assert metric.spread().n == 2


# --- accumulation ----------------------------------------------------------------------------------------------------


def segmentation_metrics() -> list[PerImageMetric]:
    return [
        AdjustedRandIndex(),
        AdjustedRandIndex(foreground=False),
        SegmentationCovering(),
        SegmentationCovering(weighted=True, foreground=False),
        MeanBestOverlap(),
        MatchedIoU(),
        MatchedIoU(average="pairs", foreground=False),
    ]


@pytest.mark.parametrize("index", range(len(segmentation_metrics())))
def test_several_updates_and_several_processes_equal_one_update(index: int) -> None:
    true, pred = label_maps(0, batch=9)
    true[4] = 0  # no object
    whole, parts, first, second = (segmentation_metrics()[index] for _ in range(4))
    whole.update(true, pred)
    for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
        parts.update(true[part], pred[part])
    first.update(true[:3], pred[:3])
    second.update(true[3:], pred[3:])

    def gather(state: Tensor, group: object = None) -> list[Tensor]:
        return [state, getattr(second, second._state)]

    first.dist_sync_fn = gather
    first.distributed_available_fn = lambda: True
    for metric in (parts, first):
        torch.testing.assert_close(metric.compute(), whole.compute())
        assert metric.spread() == pytest.approx(whole.spread(), abs=1e-6)
    assert first.metric_state[first._state][0] == 3  # what was gathered is put back

    values = whole._score(contingency(true, pred))
    values = values[~values.isnan()]
    assert whole.compute().item() == pytest.approx(values.mean().item(), abs=1e-6)
    assert whole.spread() == pytest.approx((values.std(correction=0).item(), len(values), 9 - len(values)), abs=1e-6)


def test_metrics_share_one_table() -> None:
    true, pred = label_maps(2)
    collection = MetricCollection([AdjustedRandIndex(), MeanBestOverlap(), MatchedIoU(), SegmentationCovering()])
    alone = collection.clone()
    collection.update(table=contingency(true, pred))
    alone.update(true, pred)
    assert collection.compute() == alone.compute()
    for arguments in ({}, {"true": true}, {"true": true, "pred": pred, "table": contingency(true, pred)}):
        with pytest.raises(ValueError, match="true and predicted segments"):
            AdjustedRandIndex().update(**arguments)


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 3), (1, 5)])
def test_the_matching_without_a_search_is_the_one_that_the_search_finds(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(400, *shape, generator=generator) * (torch.rand(400, *shape, generator=generator) < 0.5)
    scores[::4] = scores[::4].mul(3).round()  # ties
    columns = _assign(scores)
    assert torch.equal(columns.sort(1).values, torch.arange(max(shape)).expand(400, -1))
    square = torch.nn.functional.pad(scores, (0, max(shape) - shape[1], 0, max(shape) - shape[0]))
    for s, chosen in zip(square.numpy(), columns.numpy(), strict=True):
        rows, best = linear_sum_assignment(s, maximize=True)
        assert s[rows, chosen].sum() == pytest.approx(s[rows, best].sum(), abs=1e-6)


def test_spread_keeps_its_precision_far_from_zero() -> None:
    metric = PSNR()
    noise = torch.linspace(1, 1.001, 500)
    for part in noise.split(7):
        metric.update(torch.zeros(len(part), 1, 2, 2), part[:, None, None, None].expand(-1, 1, 2, 2) * 1e-4)
    values = -10 * np.log10((noise.double().numpy() * 1e-4) ** 2)
    assert metric.compute().item() == pytest.approx(values.mean(), rel=1e-6)
    assert metric.spread().sd == pytest.approx(values.std(), rel=1e-2)  # 0.0025 dB around 80 dB


def test_no_score_is_nan() -> None:
    metric = AdjustedRandIndex()
    metric.update(row("0000"), row("0011"))
    assert metric.compute().isnan()
    assert metric.spread() == pytest.approx((NAN, 0, 1), nan_ok=True)
    metric.update(row("0011"), row("0011"))
    assert metric.compute() == 1
    metric.reset()
    assert metric.spread().n == 0


def test_a_collection_keeps_metrics_apart_that_start_equal() -> None:
    true, pred = label_maps(2)
    collection = MetricCollection({str(i): metric for i, metric in enumerate(segmentation_metrics())})
    collection.update(true, true)  # every score is 1: their states look alike
    collection.update(true, pred)
    values = collection.compute()
    for i, metric in enumerate(segmentation_metrics()):
        metric.update(true, true)
        metric.update(true, pred)
        torch.testing.assert_close(values[str(i)], metric.compute())


def test_forward_gives_the_batch_and_accumulates() -> None:
    true, pred = label_maps(5)
    metric = MeanBestOverlap()
    assert metric(true, true) == 1
    batch = metric(true, pred)
    torch.testing.assert_close(metric.compute(), (1 + batch) / 2)
