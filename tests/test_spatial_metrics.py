"""Boundaries and pieces of segments against plain loops, their properties, their edge cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from objectscape.evaluation.questions import meaning_of
from objectscape.metrics import BoundaryF, Fragmentation, boundary_f, fragmentation
from tests.test_metrics import label_maps, row

SEEDS = st.integers(0, 2**31)


# --- oracles ---------------------------------------------------------------------------------------------------------


def boundary_pixels(labels: np.ndarray, known: np.ndarray) -> list[tuple[int, int]]:
    height, width = labels.shape
    found = []
    for y in range(height):
        for x in range(width):
            beside = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [(v, u) for v, u in beside if v < height and u < width and known[v, u] and known[y, x]]
            if any(labels[v, u] != labels[y, x] for v, u in inside):
                found.append((y, x))
    return found


def share_within(some: list[tuple[int, int]], others: list[tuple[int, int]], reach: int) -> float:
    near = [any((y - v) ** 2 + (x - u) ** 2 <= reach**2 for v, u in others) for y, x in some]
    return sum(near) / len(near)


def boundary_f_oracle(true: np.ndarray, pred: np.ndarray, reach: int) -> float:
    known = true >= 0
    if not known.any():
        return math.nan
    ours, theirs = boundary_pixels(pred, known), boundary_pixels(true, known)
    if not ours or not theirs:
        return float(not ours and not theirs)
    precision, recall = share_within(ours, theirs, reach), share_within(theirs, ours, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def fragmentation_oracle(true: np.ndarray, pred: np.ndarray) -> float:
    pieces = [ndimage.label((pred == slot) & (true >= 0))[1] for slot in range(pred.max() + 1)]
    return float(np.mean([p for p in pieces if p])) if any(pieces) else math.nan


def with_gaps(seed: int) -> tuple[Tensor, Tensor]:
    """Segments with ignored pixels, pixels in no segment, and an image that is ignored altogether."""
    true, pred = label_maps(seed, low=-1)
    pred[:, :2, :3] = -1
    true[-1] = -1
    return true, pred


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tolerance", [0.0, 0.008, 0.17])  # of 12 x 12 pixels: 0, 1 and 3
def test_boundary_f_equals_a_direct_computation(seed: int, tolerance: float) -> None:
    true, pred = with_gaps(seed)
    pred = torch.where(torch.rand(pred.shape, generator=torch.Generator().manual_seed(seed)) < 0.7, true, pred)
    reach = math.ceil(tolerance * math.hypot(12, 12))
    expected = [boundary_f_oracle(t, p, reach) for t, p in zip(true.numpy(), pred.numpy(), strict=True)]
    np.testing.assert_allclose(boundary_f(true, pred, tolerance=tolerance), expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_fragmentation_equals_a_direct_computation(seed: int) -> None:
    true, pred = with_gaps(seed)
    expected = [fragmentation_oracle(t, p) for t, p in zip(true.numpy(), pred.numpy(), strict=True)]
    np.testing.assert_allclose(fragmentation(true, pred), expected, rtol=1e-6)
    images = torch.randint(0, 2, (1, 4, 30, 7), generator=torch.Generator().manual_seed(seed))  # not square
    frames = fragmentation(images, images, per_frame=True)
    np.testing.assert_allclose(frames, [fragmentation_oracle(i, i) for i in images[0].numpy()], rtol=1e-6)


@pytest.mark.parametrize("score", [boundary_f, fragmentation])
def test_soft_masks_equal_their_segments(score) -> None:
    true, pred = label_maps(1)
    masks = torch.nn.functional.one_hot(pred, 8).permute(0, 3, 1, 2)[:, :, None].float() * 0.3 + 0.1
    torch.testing.assert_close(score(true, masks), score(true, pred))
    masks[0], pred[0] = torch.nan, -1
    torch.testing.assert_close(score(true, masks), score(true, pred), equal_nan=True)


# --- properties ------------------------------------------------------------------------------------------------------


@given(seed=SEEDS, high=st.integers(1, 7), tolerance=st.floats(0, 2))
@settings(max_examples=25, deadline=None)
def test_properties_of_boundary_f(seed: int, high: int, tolerance: float) -> None:
    true, pred = label_maps(seed, batch=3, high=high)
    values = boundary_f(true, pred, tolerance=tolerance)
    assert ((values >= 0) & (values <= 1 + 1e-6)).all()
    torch.testing.assert_close(boundary_f(pred, true, tolerance=tolerance), values)
    names = torch.randperm(high, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(boundary_f(names[true], names[pred], tolerance=tolerance), values)
    assert torch.equal(boundary_f(true, names[true], tolerance=tolerance), torch.ones(3))
    more = boundary_f(true, pred, tolerance=tolerance + 0.2)
    assert (more >= values - 1e-6).all()


@given(seed=SEEDS, high=st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_properties_of_fragmentation(seed: int, high: int) -> None:
    true, pred = label_maps(seed, batch=3, high=high)
    values = fragmentation(true, pred)
    assert (values >= 1).all()
    names = torch.randperm(high, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(fragmentation(true, names[pred]), values)
    torch.testing.assert_close(fragmentation(true.flip(2), pred.flip(2)), values)
    torch.testing.assert_close(fragmentation(true.mT, pred.mT), values)
    large = [x.repeat_interleave(2, 1).repeat_interleave(2, 2) for x in (true, pred)]
    torch.testing.assert_close(fragmentation(*large), values)
    assert torch.equal(fragmentation(true, torch.zeros_like(pred)), torch.ones(3))


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_what_is_predicted_on_ignored_pixels_has_no_influence(seed: int) -> None:
    true, pred = label_maps(seed)
    changed = pred.clone()
    true[:, :, 4:8] = -1
    changed[:, :, 4:8] = 0
    for score in (boundary_f, fragmentation):
        torch.testing.assert_close(score(true, pred), score(true, changed))


# --- edge cases ------------------------------------------------------------------------------------------------------

NAN = math.nan
EDGES = {  # true row, predicted row: (boundary F without tolerance, fragmentation)
    "empty frame, one segment": ("000000", "111111", (1, 1)),
    "empty frame, two segments": ("000000", "000111", (0, 1)),
    "object missed": ("000111", "000000", (0, 1)),
    "other names": ("001122", "220011", (1, 1)),
    "split in two": ("001111", "001122", (2 / 3, 1)),
    "one slot in two places": ("001122", "001100", (1, 3 / 2)),
    "a pixel off": ("000111", "001111", (0, 1)),
    "an ignored band cuts a segment": ("00--11", "000000", (1, 2)),
    "boundary on ignored pixels": ("000-11", "000-11", (1, 1)),
    "nothing but ignored pixels": ("------", "001122", (NAN, NAN)),
    "predicted nowhere": ("0011", "----", (0, NAN)),
    "predicted in part": ("0011", "00--", (1, 1)),
}


@pytest.mark.parametrize("case", EDGES)
def test_edge_cases(case: str) -> None:
    true, pred, expected = EDGES[case]
    actual = boundary_f(row(true), row(pred), tolerance=0), fragmentation(row(true), row(pred))
    assert [x.item() for x in actual] == pytest.approx(expected, nan_ok=True)


def test_pieces_touch_across_edges_and_boundaries_match_within_reach() -> None:
    diagonal = torch.eye(4, dtype=torch.long)[None]
    assert fragmentation(diagonal, diagonal).item() == (4 + 2) / 2, "the background falls into two triangles"
    assert boundary_f(row("00011111"), row("00111111")).item() == 1, "0.8 % of the diagonal is at least a pixel"
    assert boundary_f(row("00001111"), row("00111111")).item() == 0
    true = torch.zeros(1, 200, 200, dtype=torch.long)
    true[:, 100:] = 1
    for below, expected in ((103, 1), (104, 0)):  # 0.8 % of 283 pixels are 3, rounded up
        pred = torch.zeros_like(true)
        pred[:, below:] = 1
        assert boundary_f(true, pred).item() == expected


def test_a_clip_is_one_image_unless_taken_per_frame() -> None:
    true = torch.stack([row("001122")[0], row("000000")[0]])[None]  # (B, T, H, W)
    pred = torch.stack([row("001100")[0], row("000011")[0]])[None]
    assert boundary_f(true, pred, tolerance=0, per_frame=True).tolist() == [1, 0]
    assert boundary_f(true, pred, tolerance=0).item() == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))
    assert fragmentation(true, pred, per_frame=True).tolist() == [3 / 2, 1]
    assert fragmentation(true, pred).item() == (3 + 2) / 4, "frames do not touch"
    metric = Fragmentation(per_frame=True)
    metric.update(true, pred)
    assert metric.spread().n == 2


def test_means_leave_out_images_without_a_score() -> None:
    true, pred = with_gaps(0)
    for metric, score in ((BoundaryF(), boundary_f), (Fragmentation(), fragmentation)):
        for part in (slice(0, 4), slice(4, None)):
            metric.update(true[part], pred[part])
        assert metric.compute().item() == pytest.approx(score(true, pred).nanmean().item(), rel=1e-6)
        assert (metric.spread().n, metric.spread().skipped) == (5, 1)


def test_bad_input_is_named() -> None:
    true = torch.zeros(2, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="at least 0"):
        boundary_f(true, true, tolerance=-1)
    for score in (boundary_f, fragmentation):
        with pytest.raises(ValueError, match="expected masks"):
            score(true, torch.rand(2, 3, 1, 8, 8))


def test_fewer_pieces_are_better_of_any_masks() -> None:
    for name in ("fragmentation", "fragmentation_attention"):
        assert meaning_of(name).better == "lower"
    for name in ("boundary_f", "boundary_f_attention"):
        assert meaning_of(name).better == "higher"
