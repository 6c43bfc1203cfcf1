"""Invariant Slot Attention: frames are the moments of attention, and what is drawn moves, grows and turns with them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from objectscape.models.isa import SMALLEST, Frames, InvariantSlotAttention, centers, turned
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene


def model(**options: Any) -> InvariantSlotAttention:
    torch.manual_seed(0)
    small = {"image_size": 24, "slots": 3, "slot_size": 8, "hidden_size": 12, "encoder_channels": 8}
    return InvariantSlotAttention(**{**small, "decoder_channels": 8, **options}).eval()


def blob(row: float, column: float, long: float, wide: float, angle: float, side: int = 24) -> Tensor:
    """(1, 1, N) attention: a Gaussian whose first axis lies `angle` from the row axis; sums to 1."""
    away = (centers((side, side), torch.empty(0)) - torch.tensor([row, column]))[None, None]
    along = turned(away, torch.tensor([[[angle]]])) / torch.tensor([long, wide])
    weights = (-along.square().sum(-1) / 2).exp()
    return weights / weights.sum(-1, keepdim=True)


def fresh() -> Frames:
    return Frames(torch.zeros(1, 1, 2), torch.ones(1, 1, 2), torch.zeros(1, 1, 1))


def test_a_frame_is_the_mean_and_spread_of_the_attention() -> None:
    found = model(frames="scale").measure(blob(0.2, -0.3, 0.15, 0.1, 0.0), fresh())
    torch.testing.assert_close(found.position[0, 0], torch.tensor([0.2, -0.3]), atol=1e-3, rtol=0)
    expected = (torch.tensor([0.15, 0.1]).square() + SMALLEST**2).sqrt()
    torch.testing.assert_close(found.scale[0, 0], expected, atol=1e-3, rtol=0)
    only = model(frames="translation").measure(blob(0.2, -0.3, 0.15, 0.1, 0.0), fresh())
    assert (only.scale == 1).all()


@pytest.mark.parametrize("degrees", [-40, -20, 0, 30, 44])
def test_the_angle_is_that_of_the_principal_axis(degrees: float) -> None:
    angle = math.radians(degrees)
    turning = model(frames="rotation")
    found = turning.measure(blob(0.1, 0.0, 0.25, 0.1, angle), fresh())
    assert found.angle.item() == pytest.approx(angle, abs=0.01)
    assert found.scale[0, 0].tolist() == pytest.approx([0.25, 0.1], abs=0.005)
    beyond = turning.measure(blob(0.1, 0.0, 0.25, 0.1, angle + math.pi / 2), fresh())  # lies: the other axis is long
    assert beyond.angle.item() == pytest.approx(angle, abs=0.01)
    assert beyond.scale[0, 0].tolist() == pytest.approx([0.1, 0.25], abs=0.005)


def test_what_moves_and_grows_with_its_frame_has_the_same_coordinates() -> None:
    invariant = model(frames="rotation", spread=5.0)
    frames = Frames(torch.tensor([[[0.1, -0.2]]]), torch.tensor([[[0.1, 0.2]]]), torch.tensor([[[0.3]]]))
    grid = centers((24, 24), frames.position)
    seen = invariant.relative(frames, (24, 24))
    point = torch.tensor([0.1, -0.2]) + 5 * 0.1 * torch.tensor([math.cos(0.3), math.sin(0.3)])  # along the first axis
    nearest = (grid - point).norm(dim=-1).argmin()
    torch.testing.assert_close(seen[0, 0, nearest], torch.tensor([1.0, 0.0]), atol=0.1, rtol=0)
    larger = Frames(frames.position, 2 * frames.scale, frames.angle)
    torch.testing.assert_close(invariant.relative(larger, (24, 24)), seen / 2)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["broadcast", "patch"])
def test_an_object_is_moved_by_writing_two_numbers(decoder: str) -> None:
    drawing = model(decoder=decoder)
    latents = drawing.latents(drawing(Scene(image=torch.rand(2, 3, 24, 24))))
    moved = drawing.shift(latents, torch.full((2, 3, 2), 4.0), size=(24, 24))
    assert ((moved != latents).sum(-1) == 2).all()
    before, after = (drawing.redraw(each, size=(24, 24)).components for each in (latents, moved))
    # of the pixels that no convolution joins to an edge, before or after
    torch.testing.assert_close(after[..., 12:16, 12:16], before[..., 8:12, 8:12])
    without = drawing.redraw(latents, size=(24, 24), present=torch.tensor([[1.0, 0, 1], [0, 1, 1]]))
    assert without.masks[0, 1].max() == 0
    torch.testing.assert_close(without.masks.sum(1), torch.ones(2, 1, 24, 24))


@pytest.mark.parametrize("frames", ["translation", "scale", "rotation"])
def test_it_learns_and_sets_frames_of_the_last_contents(frames: Any) -> None:
    learning = model(frames=frames, decoder="patch", initialization="sharp").train()
    scene = Scene(image=torch.rand(4, 3, 24, 24).round())
    optimizer = torch.optim.Adam(learning.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        with posterior_means():
            output = learning(scene)
        loss = learning.loss(scene, output, 0).total
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in learning.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    with posterior_means():
        output = learning(scene)
    width = {"translation": 10, "scale": 12, "rotation": 13}[frames]
    assert output.slots.shape == (4, 3, width)
    assert output.step_slots.shape == (4, 3, 3, width)
    measured = learning.measure(
        (output.attention.flatten(2) + 1e-8) / (output.attention.flatten(2) + 1e-8).sum(-1, keepdim=True), fresh()
    )
    torch.testing.assert_close(output.slots[..., 8:10], measured.position, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(learning.decode(output.slots).recon, output.recon)


def test_wrong_options_are_said() -> None:
    with pytest.raises(ValueError, match="frames"):
        model(frames="shear")
    with pytest.raises(ValueError, match="multiples of 16"):
        model(decoder="deconvolution")
    with pytest.raises(ValueError, match=r"D \+ 4"):
        model()(Scene(image=torch.rand(2, 3, 24, 24)), noise=torch.zeros(2, 3, 8))
