"""SPACE and SPACE-Time: geometry, sparse rendering, priors, losses, schedules, the importer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from objectscape.check import check_model
from objectscape.checkpoints import space as importer
from objectscape.checkpoints.space import OPTIONS, PREFIXES
from objectscape.metrics.few_shot import RidgeClassifier
from objectscape.models.space import Space
from objectscape.models.space_time import SpaceTime
from objectscape.nn.distributions import posterior_means
from objectscape.nn.grid_objects import describe
from objectscape.nn.motion_supervision import MotionTargets, continuity_loss, motion_targets, relative_box_loss
from objectscape.nn.spatial_transformer import boxes_of, extract, paste, where_of
from objectscape.scene import Scene

SMALL: dict[str, Any] = {
    "image_size": 32, "grid": 4, "components": 3, "glimpse_size": 8, "width": 4, "what_size": 6, "mask_size": 4,
    "component_size": 4, "features": 8, "background_features": 8, "mask_hidden_size": 8, "prior_hidden_size": 8,
    "component_hidden_size": 8,
}  # fmt: skip


def clip(batch: int = 2, frames: int = 3, size: int = 32) -> Scene:
    """A bright square that moves to the right."""
    image = torch.full((batch, frames, 3, size, size), 0.2)
    boxes = torch.zeros(batch, frames, 2, 4)
    for b in range(batch):
        for t in range(frames):
            x, y = 4 + 3 * t + 2 * b, 9
            image[b, t, :, y : y + 6, x : x + 5] = 0.9
            boxes[b, t, 0] = torch.tensor([x, y, x + 5, y + 6])
    return Scene(image=image, motion=(image[:, :, :1] > 0.5).float(), motion_boxes=boxes)


# ------------------------------------------------------------------------------------------------------------ geometry
@settings(deadline=None, max_examples=30)
@given(
    st.floats(0.05, 1.5), st.floats(0.05, 1.5), st.floats(-1.2, 1.2), st.floats(-1.2, 1.2), st.booleans(),
)  # fmt: skip
def test_matrix_products_are_grid_sample(sx: float, sy: float, tx: float, ty: float, align: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    image, glimpse = (torch.rand(1, 2, *size, generator=generator) for size in ((20, 24), (8, 8)))

    def sampled(picture: Tensor, sizes: tuple[Tensor, Tensor], size: tuple[int, int]) -> Tensor:
        scale, shift = sizes
        theta = torch.cat([torch.diag(scale), shift[:, None]], 1)[None]
        grid = F.affine_grid(theta, [1, 2, *size], align_corners=align)
        return F.grid_sample(picture, grid, align_corners=align)

    where = torch.tensor([sx, sy, tx, ty], requires_grad=True)
    cut = extract(image, where[None, None], 8, align_corners=align)[:, 0]
    expected = sampled(image, (where[:2], where[2:]), (8, 8))
    torch.testing.assert_close(cut, expected, atol=1e-4, rtol=0)
    pasted = paste(glimpse[:, None], where[None, None], (20, 24), align_corners=align)[:, 0]
    inverse = 1 / (where[:2] + 1e-9)
    drawn = sampled(glimpse, (inverse, -where[2:] * inverse), (20, 24))
    torch.testing.assert_close(pasted, drawn, atol=1e-4, rtol=0)


def test_gradients_reach_the_box_as_through_grid_sample() -> None:
    torch.manual_seed(0)
    image = F.interpolate(torch.rand(1, 3, 5, 5), 24, mode="bicubic")
    goal = torch.rand(1, 3, 8, 8)
    ours, theirs = (torch.tensor([0.43, 0.31, 0.13, -0.2], requires_grad=True) for _ in range(2))
    (extract(image, ours[None, None], 8)[:, 0] * goal).sum().backward()
    theta = torch.cat([torch.diag(theirs[:2]), theirs[2:, None]], 1)[None]
    grid = F.affine_grid(theta, [1, 3, 8, 8], align_corners=True)
    (F.grid_sample(image, grid, align_corners=True) * goal).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@given(st.lists(st.floats(0, 100), min_size=4, max_size=4))
def test_boxes_and_where_are_inverse(numbers: list[float]) -> None:
    boxes = torch.tensor(numbers).double()
    torch.testing.assert_close(boxes_of(where_of(boxes, (50, 80)), (50, 80)), boxes)


# -------------------------------------------------------------------------------------------------------------- SPACE
@pytest.mark.parametrize("cells", [None, 5])
def test_space_keeps_the_contract(cells: int | None) -> None:
    check_model(Space(**SMALL, cells=cells), Scene(image=torch.rand(2, 3, 32, 32)))


def test_space_time_keeps_the_contract_of_clips() -> None:
    model = SpaceTime(**SMALL, cells=5)
    scene = clip()
    model.train().set_step(10)
    output = model(scene)
    assert output.masks.shape == (2, 3, model.slots, 1, 32, 32)
    torch.testing.assert_close(output.masks.sum(2), torch.ones(2, 3, 1, 32, 32))
    losses = model.loss(scene, output, 10)
    losses.total.backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unreached
    assert model.eval()(Scene(image=scene.image)).recon.shape == scene.image.shape
    assert model(Scene(image=scene.image[:, 0])).recon.shape == scene.image[:, 0].shape


def test_drawing_the_most_present_cells_alone_is_exact_where_the_others_are_absent() -> None:
    torch.manual_seed(1)
    dense, sparse = Space(**SMALL).double().eval(), Space(**SMALL, cells=4).double().eval()
    # presence that depends on the place, from sure to impossible
    for model in (dense, sparse):
        model.load_state_dict(dense.state_dict())
    image = torch.rand(2, 3, 32, 32, dtype=torch.double)
    seen = dense.foreground.encoder(image)
    chosen = dense.foreground.choose(seen.presence, 4)
    presence = torch.zeros(2, 16, 1, dtype=torch.double).scatter(1, chosen, 0.9)
    where = dense.foreground.where(seen.scale[0], seen.shift[0])
    what = torch.randn(2, 16, 6, dtype=torch.double)
    whole = dense.foreground.draw(what, where, seen.depth[0], presence, 32)
    few = [x.take_along_dim(chosen, 1) for x in (what, where, seen.depth[0], presence)]
    part = dense.foreground.draw(*few, 32, absent=12)  # type: ignore[arg-type]
    torch.testing.assert_close(part.color, whole.color, atol=1e-4, rtol=0)
    torch.testing.assert_close(part.alpha, whole.alpha, atol=1e-4, rtol=0)


def test_evaluation_is_deterministic_and_ends_all_ramps() -> None:
    model = Space(**SMALL).eval()
    scene = Scene(image=torch.rand(1, 3, 32, 32))
    model.set_step(0)
    assert torch.equal(model(scene).kl_scale, model(scene).kl_scale)
    first = model(scene)
    model.set_step(10**6)
    assert torch.equal(model(scene).kl_presence, first.kl_presence)
    drawn = Space(**SMALL, sample_in_eval=True).eval()
    assert not torch.equal(drawn(scene).recon, drawn(scene).recon)


def test_bgr_weights_see_swapped_channels_and_answer_in_rgb() -> None:
    rgb, bgr = Space(**SMALL).eval(), Space(**SMALL, channel_order="bgr").eval()
    bgr.load_state_dict(rgb.state_dict())
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(bgr(Scene(image=image.flip(1))).recon.flip(1), rgb(Scene(image=image)).recon)


def test_a_smaller_canvas_gives_pictures_of_the_image_size() -> None:
    model = Space(**{**SMALL, "image_size": 64}, render_size=32)
    output = model(Scene(image=torch.rand(2, 3, 64, 64)))
    assert output.recon.shape == (2, 3, 64, 64)
    assert output.masks.shape[-2:] == (64, 64)
    assert model.sample(3).recon.shape == (3, 3, 64, 64)


def test_decode_redraws_what_was_seen() -> None:
    model = Space(**SMALL).eval()
    with torch.no_grad(), posterior_means():
        output = model(Scene(image=torch.rand(1, 3, 32, 32)))
        again = model.decode(output.slots, present=output.present)
    # colors where an object is seen; how much it is seen differs, as presence is relaxed in `forward`
    seen = torch.minimum(again.masks, output.masks) > 0.01
    torch.testing.assert_close(again.components * seen, output.components * seen, atol=1e-4, rtol=1e-4)
    assert torch.equal(again.boxes, output.boxes)


def test_moving_a_slot_moves_its_picture() -> None:
    torch.manual_seed(0)
    model = Space(**SMALL).eval()
    with torch.no_grad():
        slots = model(Scene(image=torch.rand(1, 3, 32, 32))).slots
        slots[0, 0, :4] = torch.tensor([0.25, 0.25, -0.5, -0.5])
        present = torch.zeros(1, model.slots)
        present[0, 0] = 1
        left = model.decode(slots, present=present).masks[0, 0, 0]
        slots[0, 0, 2] = 0.5
        right = model.decode(slots, present=present).masks[0, 0, 0]
    assert (left.sum(0) > 0).nonzero().max() < 16
    assert (right.sum(0) > 0).nonzero().min() >= 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 48}, "times the grid"),
        ({"glimpse_size": 12}, "choose one of 8, 16, 32"),
        ({"render_size": 40}, "multiple of 32"),
        ({"cells": 17}, "1 to 16"),
        ({"channel_order": "gbr"}, "channel_order"),
        ({"foreground_std": 0}, "greater than 0"),
    ],
)
def test_bad_options_say_what_is_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Space(**{**SMALL, **options})


def test_the_number_of_slots_is_that_of_the_grid() -> None:
    model = Space(**SMALL)
    assert model.slots == 16 + 3
    with pytest.raises(ValueError, match="grid"):
        model.slots = 5


# ----------------------------------------------------------------------------------------------------- motion and time
def test_of_two_boxes_in_a_cell_the_larger_counts() -> None:
    boxes = torch.tensor([[[1, 1, 4, 4], [0, 0, 6, 6], [20, 9, 24, 11], [0, 0, 0, 0], [float("nan")] * 4]])
    found = motion_targets(boxes, 4, (32, 32))
    assert found.presence[0, :, 0].nonzero()[:, 0].tolist() == [0, 4 + 2]
    torch.testing.assert_close(boxes_of(found.where[0, 0], (32, 32)), torch.tensor([0.0, 0, 6, 6]))
    torch.testing.assert_close(boxes_of(found.where[0, 6], (32, 32)), torch.tensor([20.0, 9, 24, 11]))
    assert found.where[0, found.presence[0, :, 0] == 0].abs().sum() == 0


def test_of_equally_large_boxes_the_first_counts() -> None:
    found = motion_targets(torch.tensor([[[1, 1, 4, 4], [3, 3, 6, 6]]]), 4, (32, 32))
    torch.testing.assert_close(boxes_of(found.where[0, 0], (32, 32)), torch.tensor([1.0, 1, 4, 4]))


def test_the_relative_box_loss_does_not_depend_on_the_size() -> None:
    presence = torch.ones(1, 1, 1)
    losses = []
    for size in (0.1, 0.01):
        true = torch.tensor([[[size, size, 0.0, 0.0]]])
        losses.append(relative_box_loss(true * 1.2 + torch.tensor([0, 0, size, 0]), MotionTargets(presence, true)))
    torch.testing.assert_close(losses[0], losses[1])


def continuity_by_hand(what: Tensor, where: Tensor, on: Tensor, weight: float, agreement: bool) -> float:
    """As the definition reads, one object after the other."""
    total = 0.0
    batch, frames, grid = on.shape[:3]
    for b in range(batch):
        for t in range(frames - 1):
            for y in range(grid):
                for x in range(grid):
                    around = [((y + i) % grid, (x + j) % grid) for i in (-1, 0, 1) for j in (-1, 0, 1)]
                    near = [c for c in around if on[b, t + 1, c[0], c[1]] > 0.5]
                    if on[b, t, y, x] <= 0.5 or not near:
                        continue
                    similar = [float(F.cosine_similarity(what[b, t, y, x], what[b, t + 1, *c], 0)) for c in near]
                    apart = [float((where[b, t, y, x] - where[b, t + 1, *c]).square().sum()) for c in near]
                    best = max(range(len(near)), key=similar.__getitem__)
                    if agreement and len(near) > 1 and best != min(range(len(near)), key=apart.__getitem__):
                        continue
                    total += sum(similar) - weight * similar[best]
    return total


@pytest.mark.parametrize("agreement", [True, False])
def test_continuity_is_its_definition(agreement: bool) -> None:
    torch.manual_seed(3)
    what, where, on = torch.randn(2, 3, 5, 5, 4), torch.rand(2, 3, 5, 5, 4), torch.rand(2, 3, 5, 5)
    found = continuity_loss(what, where, on, match_weight=5.0, agreement=agreement)
    expected = continuity_by_hand(what, where, on, 5.0, agreement)
    assert float(found.loss.sum()) == pytest.approx(expected, rel=1e-4)
    alone = continuity_loss(what[1:], where[1:], on[1:], match_weight=5.0, agreement=agreement)
    torch.testing.assert_close(alone.loss, found.loss[1:])


def test_the_size_prior_is_that_of_what_moves() -> None:
    model = SpaceTime(**SMALL, size_prior="motion").train()
    model.set_step(1)
    model(clip())
    assert model.sizes is not None
    mean, _ = model.sizes()
    torch.testing.assert_close(mean.sigmoid(), torch.tensor([5 / 32, 6 / 32]), atol=1e-4, rtol=0)
    before = model.sizes.sums.clone()
    model.eval()(Scene(image=clip().image))
    assert torch.equal(model.sizes.sums, before)


def test_training_without_motion_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="motion"):
        SpaceTime(**SMALL).train()(Scene(image=clip().image))


def test_injected_motion_is_where_the_objects_are() -> None:
    model = SpaceTime(**SMALL).train()
    model.set_step(0)  # all motion
    scene = clip()
    with posterior_means():
        output = model(scene)
    cell = 4 * 1 + 0  # the square's center is in row 1, column 0
    assert output.presence[0, 0, cell] > 0.99
    torch.testing.assert_close(output.boxes[0, 0, cell], torch.tensor([4.0, 9, 9, 15]), atol=1e-4, rtol=0)
    assert (output.presence[0, 0] > 0.5).sum() == 1


def test_a_dead_presence_head_raises_the_alarm(caplog: pytest.LogCaptureFixture) -> None:
    model = SpaceTime(**SMALL, injection=None).train()
    torch.nn.init.constant_(model.foreground.encoder.presence.bias, -20.0)  # type: ignore[arg-type]
    model.set_step(100)
    model(clip())
    model(clip())
    assert [record.message.count("collapsed") for record in caplog.records] == [1]


def test_flow_is_time_without_continuity() -> None:
    scene = clip()
    torch.manual_seed(0)
    model = SpaceTime(**SMALL, continuity_weight=0.0, schedule=(0, 100, 0.5, 0.5)).train()
    model.set_step(100)
    assert float(model(scene).continuity.sum()) == 0


def test_overfits_a_moving_square() -> None:
    torch.manual_seed(0)
    model = SpaceTime(
        **{**SMALL, "components": 1}, cells=3, static_background=True, size_prior="motion", injection=None,
        schedule=(0, 1, 1.0, 1.0), motion_weight=1.0, presence_weight=100.0, box_weight=300.0, continuity_weight=0.0,
        presence_loss="cross_entropy", box_loss="relative", alpha_loss="motion", bound="sum", initial_presence=0.07,
    ).train()  # fmt: skip
    scene = clip()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(120):
        model.set_step(step)
        losses = model.loss(scene, model(scene), step)
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    found = model.eval().detect(Scene(image=scene.image))
    assert (found.confidence > 0.5).sum(-1).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert scene.motion_boxes is not None
    error = (found.boxes[:, :, 0] - scene.motion_boxes[:, :, 0]).abs().max()
    assert error < 2.5, error  # at the start boxes are up to 12 pixels off


# ---------------------------------------------------------------------------------------------- description, importer
def test_describe_names_what_is_where() -> None:
    model = Space(**SMALL).eval()
    image = torch.rand(3, 32, 32)
    found = model.detect(Scene(image=image[None]))
    there = found.confidence[0] > 0.5
    labels = torch.arange(int(there.sum())) % 2
    classifier = RidgeClassifier.fit(
        found.latents[0][there], labels, alpha=1e-6, names=["a", "b"], model=model.fingerprint()
    )
    description = model.describe(image, classifier)
    assert set(description) <= {"a", "b"}
    assert sum(map(len, description.values())) == int(there.sum())
    other = Space(**SMALL)
    with pytest.raises(ValueError, match="another model"):
        other.describe(image, classifier)


def test_an_empty_frame_has_an_empty_description() -> None:
    model = Space(**SMALL).eval()
    torch.nn.init.constant_(model.foreground.encoder.presence.bias, -20.0)  # type: ignore[arg-type]
    classifier = RidgeClassifier.fit(torch.randn(4, 6), torch.tensor([0, 0, 1, 1]))
    assert model.describe(torch.rand(3, 32, 32), classifier) == {}
    assert model.describe(torch.rand(3, 32, 32), None) == {}
    assert describe(torch.zeros(0, 6), torch.zeros(0, 4), classifier) == {}


def upstream(model: Space | SpaceTime, prefix: str = "") -> dict[str, Tensor]:
    """Our weights under the original names, with the constants that original checkpoints hold."""
    decoder = "dec" if model.components == 1 else "decoder"
    names = {key: importer._source(key, decoder) for key in model.state_dict() if not key.startswith("dynamic.")}
    weights = {prefix + theirs: model.state_dict()[ours] for ours, theirs in names.items()}
    weights[f"{prefix}fg_module.img_encoder.offset"] = torch.zeros(2, model.grid, model.grid)
    return weights | {f"{prefix}fg_module.tau": torch.tensor(2.5)}


PUBLISHED: dict[str, Any] = {"image_size": 128, "glimpse_size": 32, "width": 16, "grid": 4, "components": 2}
SMALL_LATENTS: dict[str, Any] = {**SMALL, **PUBLISHED}


def test_a_checkpoint_comes_back_as_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Space(**SMALL_LATENTS).eval()
    torch.save({"model": upstream(model), "global_step": 3}, tmp_path / "model.pth")
    config, weights = importer.read(tmp_path / "model.pth")
    for missing, message in ((config, "K=3"), ({**config, "K": 2}, "channel_order=bgr")):
        with pytest.raises(ValueError, match=message):
            importer.build(missing)
    config |= {"K": 2, "channel_order": "bgr"}
    again = importer.build(config).eval()
    again.load_state_dict(importer.convert(weights, config))
    assert isinstance(again, Space)
    image = torch.rand(1, 3, 128, 128)
    torch.testing.assert_close(again(Scene(image=image.flip(1))).recon.flip(1), model(Scene(image=image)).recon)
    with pytest.raises(ValueError, match="Check K"):
        importer.convert(weights, {**config, "K": 1})


def test_a_moc_checkpoint_becomes_space_time(tmp_path: Path) -> None:
    model = SpaceTime(**SMALL_LATENTS)
    stored = {**upstream(model, "module.space."), "module.zero": torch.zeros(())}
    torch.save({"model": stored}, tmp_path / "model.pth")
    config, weights = importer.read(tmp_path / "model.pth")
    again = importer.build({**config, "K": 2, "channel_order": "bgr"})
    assert isinstance(again, SpaceTime)
    again.load_state_dict(importer.convert(weights, {**config, "K": 2, "channel_order": "bgr"}))


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="not weights of SPACE"):
        importer.read(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError):
        importer.read(tmp_path / "nothing.pth")


def test_every_weight_has_a_source() -> None:
    for key in Space(**SMALL).state_dict():
        assert importer._source(key, "decoder").startswith(("fg_module.", "bg_module."))
    assert len(set(PREFIXES.values())) == len(PREFIXES)
    assert len(set(OPTIONS.values())) == len(OPTIONS)
