"""Slot Attention taught by motion and continuity: the losses by hand, and the contract on clips."""

from __future__ import annotations

import pytest
import torch

from objectscape.check import check_model
from objectscape.models.slot_attention_moc import SlotAttentionMOC, centers_of, motion_loss, slot_continuity
from objectscape.nn.motion_supervision import continuity_loss
from objectscape.scene import Scene


def small(**options: object) -> SlotAttentionMOC:
    torch.manual_seed(0)
    sizes = {"image_size": 32, "slots": 4, "slot_size": 16, "hidden_size": 16, "encoder_channels": 8}
    return SlotAttentionMOC(**{**sizes, "decoder": "broadcast", "decoder_channels": 8, **options})  # type: ignore[arg-type]


def clips() -> Scene:
    """A bright square that moves to the right."""
    image = torch.full((2, 3, 3, 32, 32), 0.2)
    motion = torch.zeros(2, 3, 1, 32, 32)
    for t in range(3):
        image[:, t, 0, 8:14, 4 + 6 * t : 10 + 6 * t] = 0.9
        motion[:, t, :, 8:14, 4 + 6 * t : 10 + 6 * t] = 1
    return Scene(image=image, motion=motion)


def test_it_keeps_the_contract_on_clips_and_reads_images() -> None:
    check_model(
        small(), clips(), without_gradient=("image.attention.norm_slots.bias",)
    )  # cancels in the softmax over slots
    with torch.no_grad():
        output = small().eval()(Scene(image=clips().image[:, 0]))
    assert output.masks.shape == (2, 4, 1, 32, 32)
    assert (output.behind.sum(-1) == 1).all()


def test_motion_wants_what_moves_covered_and_nothing_else() -> None:
    motion = clips().motion
    assert motion is not None
    behind = torch.tensor([True, False]).expand(2, 3, 2)
    perfect = torch.stack([1 - motion, motion], 2)
    assert float(motion_loss(perfect, behind, motion)) == pytest.approx(0, abs=1e-7)
    assert float(motion_loss(perfect, ~behind, motion)) == pytest.approx(1)
    nothing = torch.stack([torch.ones_like(motion), torch.zeros_like(motion)], 2)
    assert float(motion_loss(nothing, behind, motion)) == pytest.approx(0.5)  # however small the object


def test_centers_are_where_the_masks_are() -> None:
    motion = clips().motion
    assert motion is not None
    assert centers_of(motion[0])[:, 0].tolist() == [
        [pytest.approx((7 + 6 * t) / 32), pytest.approx(11 / 32)] for t in (0, 1, 2)
    ]


@pytest.mark.parametrize("agreement", [False, True])
def test_continuity_is_that_of_space_time(agreement: bool) -> None:
    """On a grid of 3 x 3 cells, where all cells are neighbors, it is the same loss."""
    torch.manual_seed(1)
    what, where = torch.randn(2, 3, 9, 5), torch.rand(2, 3, 9, 2)
    objects = torch.rand(2, 3, 9) > 0.4
    grid = continuity_loss(
        what.unflatten(2, (3, 3)),
        torch.cat([torch.zeros_like(where), where], -1).unflatten(2, (3, 3)),
        objects.float().unflatten(2, (3, 3)),
        agreement=agreement,
    )
    ours = slot_continuity(what, where, objects, reach=9, match_weight=5, agreement=agreement)
    same = torch.nn.functional.cosine_similarity(what[:, :-1].unsqueeze(3), what[:, 1:].unsqueeze(2), -1)
    assert same.abs().max() > 0.5
    parts = [slot_continuity(what[b, None], where[b, None], objects[b, None], reach=9, match_weight=5,
                             agreement=agreement) for b in range(2)]  # fmt: skip
    ratio = [float(grid.loss[b] / parts[b]) for b in range(2)]  # the number of objects that take part
    assert ratio == pytest.approx([round(r) for r in ratio], abs=1e-3)
    assert float(ours) == pytest.approx(float(grid.loss.sum()) / sum(ratio), rel=1e-4)


def test_far_objects_are_no_candidates() -> None:
    slots = torch.eye(2).expand(1, 2, 2, 2)
    centers = torch.tensor([[[0.1, 0.1], [0.9, 0.9]], [[0.9, 0.9], [0.1, 0.1]]])[None]
    objects = torch.ones(1, 2, 2, dtype=torch.bool)
    near = slot_continuity(slots, centers, objects, reach=0.2, match_weight=5, agreement=True)
    assert float(near) == pytest.approx(0)  # each has one candidate, the other object, which is not like it
    still = slot_continuity(
        slots, centers[:, :1].expand(-1, 2, -1, -1), objects, reach=0.2, match_weight=5, agreement=True
    )
    assert float(still) == pytest.approx(1 - 5)


def test_a_training_without_motion_says_what_is_missing() -> None:
    model, scene = small(), Scene(image=clips().image)
    with pytest.raises(ValueError, match="learns from motion"):
        model.loss(scene, model(scene), 0)
    plain = small(motion_weight=0, continuity_weight=0)
    assert set(plain.loss(scene, plain(scene), 0).terms) == {"mse", "lambda"}


def test_it_learns_what_moves() -> None:
    model, scene = small(decoder="patch", initialization="sharp", schedule=[0, 1, 1.0, 1.0]), clips()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    motion = []
    for step in range(120):
        losses = model.loss(scene, model(scene), step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        motion.append(float(losses.terms["motion"]))
    assert sum(motion[-5:]) < 0.5 * sum(motion[:5])
