"""SAVi: what a slot knows comes from its past, the frame at hand and, if it is conditioned, the first frame's boxes."""

from __future__ import annotations

import pytest
import torch

from objectscape.check import check_model
from objectscape.data.synthetic.moving_shapes import MovingShapes
from objectscape.models.savi import SAVi
from objectscape.scene import Scene

SMALL = {
    "image_size": 16, "slots": 4, "slot_size": 8, "hidden_size": 8, "predictor_heads": 2, "predictor_hidden": 8,
    "encoder_channels": 8, "encoder_strides": [2, 2, 1, 1], "decoder": "patch", "decoder_channels": 8,
}  # fmt: skip


def make(**options) -> SAVi:
    torch.manual_seed(0)
    return SAVi(**{**SMALL, **options}).eval()


@pytest.fixture(scope="module")
def clips() -> Scene:
    scene = MovingShapes(count=3, frames=4, image_size=16, split="test").batch([0, 1, 2])
    return Scene(image=scene.pixels, boxes=scene.boxes)


VARIANTS = [{}, {"initial_slots": "sampled", "iterations": 2}, {"condition": "boxes"}, {"condition": "centers"}]


@pytest.mark.parametrize("options", VARIANTS)
def test_keeps_the_contract(options, clips: Scene):
    # a shift of all queries cancels in the softmax over slots, and so does one of all keys of the predictor
    check_model(
        make(**options), clips, without_gradient=("corrector.norm_slots.bias", "predictor.attention.in_proj_bias")
    )


@torch.no_grad()
def test_a_frame_does_not_depend_on_later_ones(clips: Scene):
    model = make()
    whole, part = model(clips), model(Scene(image=clips.image[:, :2]))
    torch.testing.assert_close(whole.slots[:, :2], part.slots)
    torch.testing.assert_close(whole.recon[:, :2], part.recon)
    changed = clips.image.clone()
    changed[:, 0] = 0
    assert not torch.allclose(model(Scene(image=changed)).slots[:, 3], whole.slots[:, 3], atol=1e-4), "memory"


@torch.no_grad()
def test_a_frame_begins_with_what_was_predicted_from_the_one_before(clips: Scene):
    model = make()
    output = model(clips)
    torch.testing.assert_close(
        output.predicted[:, 1:].flatten(0, 1), model.predictor(output.slots[:, :-1].flatten(0, 1))
    )
    torch.testing.assert_close(output.predicted[:, 0], model.corrector.start(3))
    torch.testing.assert_close(output.attention.sum(2), torch.ones(3, 4, 4, 4))


@torch.no_grad()
@pytest.mark.parametrize("condition", ["boxes", "centers"])
def test_the_hint_says_which_slot_gets_which_object(condition: str, clips: Scene):
    model = make(condition=condition)
    assert model.hints == ("boxes",)
    output = model(clips)
    assert clips.boxes is not None
    order = [2, 0, 1]
    other = model(Scene(image=clips.image, boxes=clips.boxes[:, :, order]))
    torch.testing.assert_close(other.slots, output.slots[:, :, [0, *(n + 1 for n in order)]])
    later = clips.boxes.clone()
    later[:, 1:] = 0
    assert torch.equal(model(Scene(image=clips.image, boxes=later)).slots, output.slots), "only the first frame's"


@torch.no_grad()
def test_rows_without_an_object_start_alike(clips: Scene):
    model = make(condition="boxes", slots=6)
    boxes = torch.full((3, 4, 3, 4), torch.nan)
    boxes[:, :, 0] = torch.tensor([2.0, 3.0, 8.0, 9.0])
    first = model.initial(Scene(image=clips.image, boxes=boxes))
    assert first.isfinite().all()
    assert torch.equal(first[:, 2:], model.unhinted[1].expand(3, 4, -1))
    assert torch.equal(first[:, 0], model.unhinted[0].expand(3, -1))
    assert not torch.equal(first[:, 1], first[:, 2])


def test_messages(clips: Scene):
    with pytest.raises(ValueError, match="the data have no boxes"):
        make(condition="boxes")(Scene(image=clips.image))
    with pytest.raises(ValueError, match="sees clips"):
        make()(Scene(image=clips.image[:, 0]))
    with pytest.raises(ValueError, match="not a multiple of predictor_heads=3"):
        make(predictor_heads=3)
    with pytest.raises(ValueError, match="condition='box'"):
        make(condition="box")


def test_learns_a_clip_by_heart(clips: Scene):
    torch.manual_seed(0)
    model = SAVi(**{**SMALL, "slot_size": 16, "encoder_channels": 16, "decoder_channels": 16}).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    errors = []
    for step in range(120):
        losses = model.loss(clips, model(clips), step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        errors.append(float(losses.terms["mse"]))
    empty = float((clips.image - clips.image.mean((3, 4), keepdim=True)).square().mean())
    assert errors[-1] < 0.6 * empty, "better than a plain picture"


@torch.no_grad()
def test_frames_alone_are_matched_so_that_slots_continue():
    from benchmarks.frame_by_frame import NAMES, closeness, compare, matched, overlap
    from objectscape.data.loading import EvalLoader
    from objectscape.scene import Decomposition

    masks = torch.rand(2, 1, 4, 1, 8, 8).softmax(2)
    still = masks.expand(-1, 5, -1, -1, -1, -1)
    slots = torch.randn(2, 1, 4, 3).expand(-1, 5, -1, -1)
    orders = torch.stack([torch.stack([torch.randperm(4) for _ in range(5)]) for _ in range(2)])  # (2, 5, 4)
    rows = torch.arange(2)[:, None, None], torch.arange(5)[None, :, None], orders
    recon = torch.zeros(2, 5, 3, 8, 8)
    mixed = Decomposition(recon=recon, masks=still[rows], components=recon.unsqueeze(2).expand(-1, -1, 4, -1, -1, -1),
                          slots=slots[rows])  # fmt: skip
    for score in (overlap, closeness):
        again = matched(mixed, score)
        assert torch.equal(again.masks, mixed.masks[:, :1].expand_as(still))
        assert torch.equal(again.slots, mixed.slots[:, :1].expand_as(slots))
    data = MovingShapes(count=3, frames=4, image_size=16, split="test")
    table = compare(make(condition="boxes"), EvalLoader(data, batch_size=2))
    assert len(table) == 5
    assert all(values.shape == (len(NAMES),) and values.isfinite().all() for values in table.values())
