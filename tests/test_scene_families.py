"""The families of rendered 3-D scenes keep their rules: counts, distances, visibility, stability, shifts, labels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import chisquare
from torch import Tensor

from objectscape.cli import main
from objectscape.data.boxes import boxes_from_segments
from objectscape.data.synthetic import clevr_like, clevrtex_like, shapestacks_like
from objectscape.data.synthetic.base import Draws
from objectscape.data.synthetic.clevr_like import ClevrLike
from objectscape.data.synthetic.clevrtex_like import ClevrTexLike
from objectscape.data.synthetic.objects_room_like import ObjectsRoomLike, open_room
from objectscape.data.synthetic.rendered import Dice, RenderedScenes, Solids, redraw
from objectscape.data.synthetic.rooms_ring_camera_like import RING, RoomsRingCameraLike
from objectscape.data.synthetic.scene3d import TEXTURES, Camera, Material, render, visible
from objectscape.data.synthetic.shapestacks_like import BALL, BLOCK, CYLINDER, LYING, ShapeStacksLike, support_margin
from objectscape.scene import Scene
from objectscape.seeding import derive_generator

FAMILIES: tuple[type[RenderedScenes], ...] = (
    ClevrLike,
    ClevrTexLike,
    ObjectsRoomLike,
    RoomsRingCameraLike,
    ShapeStacksLike,
)
pytestmark = pytest.mark.usefixtures("one_thread")
VARIANTS = [(family, variant) for family in FAMILIES for variant in family.VARIANTS]
N = 256


def make(family: type[RenderedScenes], variant: str | None = None, **options: Any) -> RenderedScenes:
    options = {"split": "test", "image_size": 32, "quality": "fast"} | options
    return family(**options, **({"variant": variant} if variant else {}))


@cache
def draws(family: type[RenderedScenes], variant: str | None = None, n: int = N, **options: Any) -> Draws:
    return make(family, variant, **options).draw(n, derive_generator(0, "test"))


def there(draws: Draws, rows: int) -> Tensor:
    return torch.arange(rows) < draws["count"][:, None]


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=lambda v: v if isinstance(v, str) else v.NAME)
def test_a_scene_is_what_the_spec_says(family: type[RenderedScenes], variant: str) -> None:
    data = make(family, variant)
    found = data.paint({name: values[:6] for name, values in draws(family, variant, 16).items()})
    rows, factors = data.rows, found.factors
    assert found.segments is not None
    assert found.boxes is not None
    assert found.present is not None
    assert factors is not None
    assert found.image.shape == (6, 3, 32, 32)
    assert found.image.dtype == torch.uint8
    assert found.image.flatten(1).float().std(1).min() > 3  # not a plain picture
    assert found.segments.min() >= 0
    assert found.segments.max() <= rows == max(data.spec.max_objects or 0, 1)
    boxes, present = boxes_from_segments(found.segments, rows)
    assert torch.equal(found.boxes, boxes)
    assert torch.equal(found.present, present)
    placed = there(draws(family, variant, 16), rows)[:6]
    assert not bool((found.present & ~placed).any())
    assert bool((factors["visibility"][found.present] > 0).all())
    assert factors["visibility"].max() <= 1
    assert factors.keys() == {*family.FACTORS, "pixel_coords", "visibility"}
    assert all(not bool(values[~placed].any()) for values in factors.values())
    assert found.labels is not None
    assert torch.equal(found.labels[placed], factors["shape"][placed].long() - 1)
    assert found.labels.dtype == torch.int64
    assert not found.labels[~placed].any()
    assert bool((factors["pixel_coords"][..., 2][placed] > 0).all())  # before the camera
    # where an object is seen in full, its middle is inside its box
    whole = (
        found.present & (factors["visibility"] > 0.99) & (boxes[..., :2] > 0).all(-1) & (boxes[..., 2:] < 32).all(-1)
    )
    x, y = factors["pixel_coords"][..., 0], factors["pixel_coords"][..., 1]
    inside = (x > boxes[..., 0]) & (x < boxes[..., 2]) & (y > boxes[..., 1]) & (y < boxes[..., 3])
    assert bool(inside[whole].all())


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.NAME)
def test_a_seed_is_a_scene(family: type[RenderedScenes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RenderedScenes, "chunk", 12)
    data, again, longer = make(family, count=10), make(family, count=10), make(family, count=14)
    batch = data.batch([3, 0, 9])
    for one, two in ((batch, again.batch([3, 0, 9])), (batch, longer.batch([3, 0, 9])), (batch[2], data[9])):
        same(one, two)
    same(data.all()[3], batch[0])
    assert not torch.equal(batch.image, make(family, count=10, seed=1).batch([3, 0, 9]).image)
    assert not torch.equal(batch.image, make(family, count=10, split="val").batch([3, 0, 9]).image)
    same(data.stream(5, 4), again.stream(5, 4))


def test_rendering_a_split_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(RenderedScenes, "chunk", 80)
    monkeypatch.setattr("objectscape.data.synthetic.base.SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level("INFO", logger="objectscape"):
        assert len(make(RoomsRingCameraLike, image_size=16, count=80).all()) == 80
    assert [record.getMessage().rpartition(",")[0] for record in caplog.records] == [
        "rooms_ring_camera_like: rendered 64 of 80 scenes",
        "rooms_ring_camera_like: rendered 80 of 80 scenes",
    ]


def same(one: Scene, two: Scene) -> None:
    """All fields alike; pixels up to one gray level, because rounding may depend on the size of a batch."""
    assert (one.image.int() - two.image.int()).abs().max() <= 1
    parts = ((scene.segments, scene.boxes, scene.present, scene.labels) for scene in (one, two))
    for a, b in zip(*parts, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)
    assert one.factors is not None
    assert two.factors is not None
    for name, values in one.factors.items():
        assert torch.allclose(values.float(), two.factors[name].float(), atol=1e-5)


def test_drawing_again_leaves_the_other_scenes_alone() -> None:
    def drawn(limit: float, only: int | None) -> Tensor:
        def attempt(dice: Dice) -> tuple[Draws, Tensor]:
            value = dice.uniform(0, 1)
            return {"value": value}, (value < limit) if only is None else (value < limit) | (dice.rows != only)

        return redraw(64, derive_generator(0), attempt)["value"]

    first, some, all_ = drawn(2.0, None), drawn(0.5, int(drawn(2.0, None).argmax())), drawn(0.5, None)
    worst = first.argmax()
    assert torch.equal(some[worst], all_[worst])
    assert all_.max() < 0.5
    assert torch.equal(torch.cat([first[:worst], first[worst + 1 :]]), torch.cat([some[:worst], some[worst + 1 :]]))
    # what never succeeds ends soon: all at once, and the last scene alone
    for stuck in (range(64), [5]):
        rounds = 0

        def hopeless(dice: Dice, stuck: Sequence[int] = stuck) -> tuple[Draws, Tensor]:
            nonlocal rounds
            rounds += 1
            return {"value": dice.uniform(0, 1)}, ~torch.isin(dice.rows, torch.tensor(stuck))

        with pytest.raises(ValueError, match=f"{len(stuck)} of 64 scenes cannot be drawn: .* fewer or"):
            redraw(64, derive_generator(0), hopeless, most=1280)
        assert rounds == (20 if len(stuck) == 64 else 1 + 128 + 4)


def test_rules_that_cannot_be_kept_are_an_error_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clevr_like, "SIZES", (3.0, 3.0))
    with pytest.raises(ValueError, match=r"clevr_like with 10 to 10 objects in a scene: 320 of 320 scenes .* fewer"):
        ClevrLike(count=1, min_objects=10).batch([0])


def uniform(values: Tensor, kinds: int) -> bool:
    counts = torch.bincount(values.flatten().long(), minlength=kinds)[-kinds:]
    return bool(chisquare(counts.numpy()).pvalue > 1e-4)


@pytest.mark.parametrize("family", [ClevrLike, ClevrTexLike], ids=lambda family: family.NAME)
def test_clevr_places(family: type[RenderedScenes]) -> None:
    made = draws(family, n=N if family is ClevrLike else 96)
    placed = there(made, 10)
    assert uniform(made["count"] - 3, 8)
    place = torch.stack([made["x"], made["y"]], -1)
    assert place[placed].abs().max() <= 3
    assert place[placed].abs().max() > 2.8
    sizes = torch.tensor(clevr_like.SIZES if family is ClevrLike else clevrtex_like.SIZES)
    radius = sizes[made["size"] - 1]
    taken = torch.where(made["shape"] == 1, radius / math.sqrt(2), radius)
    behind = -made["camera"][:, :2] / made["camera"][:, :2].norm(dim=1, keepdim=True)
    right = torch.stack([behind[:, 1], -behind[:, 0]], 1)
    assert bool((behind[:, 0] < 0).all() and (behind[:, 1] > 0).all())  # as in the published scene files
    for i in range(10):
        for j in range(i):  # j was there first
            both = placed[:, i] & placed[:, j]
            offset = (place[:, i] - place[:, j])[both]
            assert bool((offset.norm(dim=1) >= (radius[:, i] + taken[:, j] + 0.25)[both] - 1e-6).all())
            for axis in (behind, right):
                assert bool(((offset * axis[both]).sum(1).abs() >= 0.4 - 1e-5).all())
    upright = torch.isin(made["shape"], torch.tensor([1, 2, 3])) & placed
    assert torch.allclose(made["z"][upright], taken[upright])  # they stand on the ground
    shift = made["camera"] - torch.tensor(clevr_like.CAMERA)
    assert shift.abs().max() <= 0.5
    assert shift.abs().max() > 0.45
    shift = made["lamps"] - torch.tensor(clevr_like.LAMPS)
    assert shift.abs().max() <= 1
    assert shift.abs().max() > 0.95


def test_clevr_properties_are_uniform() -> None:
    made = draws(ClevrLike, n=N)
    placed = there(made, 10)
    for name, kinds in (("size", 2), ("material", 2), ("color", 8)):
        assert int(made[name].min()) == 1
        assert int(made[name].max()) == kinds
        # sizes are less than uniform after rejection: small things fit more easily
        assert name == "size" or uniform(made[name][placed] - 1, kinds)
    assert torch.bincount(made["shape"][placed])[1:].shape == (3,)
    assert clevr_like.COLORS["purple"] == (129, 38, 192)
    assert next(iter(clevr_like.COLORS)) == "gray"


def test_near_clevr_is_large_and_never_gray() -> None:
    data = ClevrLike(near=True, variant="cogent_a", min_objects=2, max_objects=3, count=1)
    made = data.draw(64, derive_generator(0))
    placed = there(made, 3)
    assert (made["size"][placed] == 1).all()
    assert torch.equal(made["color"][placed & (made["shape"] == 1)].unique(), torch.tensor([3, 5, 8]))  # no gray cube
    assert 1.5 < torch.stack([made["x"], made["y"]])[:, placed].abs().max() <= 1.7
    assert torch.equal(made["zoom"], torch.full((64,), 0.7))
    twice = ClevrLike(near=True, variant="close_up", max_objects=3, count=1)
    assert twice.rules.zoom == pytest.approx(0.49)
    more = ClevrLike(near=True, variant="more_objects", max_objects=3, count=8)
    assert set(more.draw(8, derive_generator(0))["count"].tolist()) == {4, 5}
    with pytest.raises(ValueError, match="max_objects=10 with near=True"):
        ClevrLike(near=True)


def test_clevr_objects_are_seen() -> None:
    data = make(ClevrLike, crop="none", image_size=240)
    made = {name: values[:48] for name, values in draws(ClevrLike, n=N).items()}
    area = visible(data.world(made), (240, 320)).pixels[there(made, 10)]  # the rule, on every pixel
    assert area.min() > 120
    assert (area >= 200).float().mean() > 0.98
    assert data.size == (240, 320)


@pytest.mark.parametrize("crop", ["benchmark", "center"])
def test_a_crop_is_a_part_of_the_frame(crop: str) -> None:
    made = {name: values[:4] for name, values in draws(ClevrLike, n=N).items()}
    frame = make(ClevrLike, crop="none", image_size=240).paint(made)
    part = make(ClevrLike, crop=crop, image_size=192).paint(made)
    top, left, bottom, right = clevr_like.CROPS[crop]
    assert (bottom - top, right - left) == (192, 192)
    assert frame.segments is not None
    assert part.segments is not None
    cut = frame.segments[:, top:bottom, left:right]
    assert (cut == part.segments).float().mean() > 0.999
    moved = frame.factors["pixel_coords"][..., :2] - torch.tensor([left, top])  # type: ignore[index]
    placed = there(made, 10)
    assert torch.allclose(moved[placed], part.factors["pixel_coords"][..., :2][placed], atol=1e-2)  # type: ignore[index]


def test_clevr6_and_its_shifts() -> None:
    six = draws(ClevrLike, n=N, max_objects=6)
    assert uniform(six["count"] - 3, 4)
    assert make(ClevrLike, max_objects=6).spec.max_objects == 6
    more = draws(ClevrLike, "more_objects", 64, max_objects=6)
    assert set(more["count"].tolist()) == {7, 8, 9, 10}
    assert make(ClevrLike, "more_objects", max_objects=6).rows == 10
    unseen = draws(ClevrLike, "unseen_colors", 32)
    assert unseen["color"].min() > 8
    assert unseen["color"].max() <= 16
    assert set(draws(ClevrLike, "unseen_shapes", 32)["shape"].unique().tolist()) == {4, 5}
    a, b = (draws(ClevrLike, f"cogent_{letter}", 64) for letter in "ab")
    cubes = [set(made["color"][made["shape"] == 1].tolist()) for made in (a, b)]
    cylinders = [set(made["color"][made["shape"] == 3].tolist()) for made in (a, b)]
    assert cubes == [{1, 3, 5, 8}, {2, 4, 6, 7}]
    assert cylinders == cubes[::-1]
    assert len(a["color"][a["shape"] == 2].unique()) == 8


LOOKS = [
    (family, variant) for family, variant in VARIANTS if variant in ("textures", "lighting", "occluders", "close_up")
]


@pytest.mark.parametrize(("family", "variant"), LOOKS, ids=lambda v: v if isinstance(v, str) else v.NAME)
def test_a_shift_of_the_look_keeps_the_scenes(family: type[RenderedScenes], variant: str) -> None:
    usual, shifted = draws(family, n=16), draws(family, variant, 16)
    assert all(torch.equal(values, shifted[name]) for name, values in usual.items())
    one, two = (make(family, v).paint({k: t[:4] for k, t in d.items()}) for v, d in ((None, usual), (variant, shifted)))
    assert (one.image != two.image).float().mean() > 0.02
    assert one.segments is not None
    assert two.segments is not None
    if variant in ("textures", "lighting"):
        assert torch.equal(one.segments, two.segments)
    elif variant == "occluders":
        assert bool(((two.segments == one.segments) | (two.segments == 0)).all())
        assert (two.segments == 0).sum() > (one.segments == 0).sum()
        assert (two.factors["visibility"] <= one.factors["visibility"] + 1e-6).all()  # type: ignore[index]
    else:  # twice as large, around the middle
        assert (two.segments > 0).float().mean() > (one.segments > 0).float().mean()


def test_clevrtex_variants() -> None:
    full = draws(ClevrTexLike, n=96)
    placed = there(full, 10)
    assert len(full["material"][placed].unique()) == 60
    assert full["ground"].min() >= 1
    assert full["ground"].max() <= 60
    assert set(full["shape"].unique().tolist()) == {1, 2, 3, 4}
    assert set(full["size"].unique().tolist()) == {1, 2, 3}
    camo = draws(ClevrTexLike, "camo", 16)
    assert bool((camo["material"] == camo["ground"][:, None]).all())
    outd = draws(ClevrTexLike, "outd", 16)
    assert outd["material"].min() > 60
    assert outd["material"].max() <= 85
    assert outd["ground"].min() > 60
    assert outd["shape"].min() > 4
    assert outd["size"].min() > 3
    assert not draws(ClevrTexLike, "pbg", 16)["ground"].any()
    assert set(draws(ClevrTexLike, "vbg", 16)["material"].unique().tolist()) == {86, 87}
    assert len(draws(ClevrTexLike, "grassbg", 16)["ground"].unique()) == 1
    assert len(clevrtex_like.MATERIALS) == 60
    assert len(clevrtex_like.OTHER_MATERIALS) == 25
    assert not set(clevrtex_like.MATERIALS) & set(clevrtex_like.OTHER_MATERIALS)


def test_objects_room_variants() -> None:
    assert uniform(draws(ObjectsRoomLike, n=N)["count"] - 1, 3)
    assert set(draws(ObjectsRoomLike, "six_objects", 32)["count"].tolist()) == {6}
    same_color = draws(ObjectsRoomLike, "identical_color", 32)
    assert set(same_color["count"].tolist()) == {4, 5, 6}
    assert bool((same_color["hue"] == same_color["hue"][:, :1]).all())
    empty = make(ObjectsRoomLike, "empty_room")
    scene = empty.batch(range(3))
    assert scene.segments is not None
    assert not scene.segments.any()
    assert scene.present is not None
    assert not scene.present.any()
    assert empty.spec.max_objects == 1
    usual, between = draws(ObjectsRoomLike, n=N)["hue"], draws(ObjectsRoomLike, "unseen_colors", 32)["hue"]
    assert (between[..., None] - usual.unique()).abs().min() > 0.04
    six = {name: values[:16] for name, values in draws(ObjectsRoomLike, "six_objects", 32).items()}
    world = make(ObjectsRoomLike, "six_objects").world(six)
    assert visible(world, (64, 64)).pixels.min() >= 12  # the rule says 20, estimated on every fourth pixel
    made = draws(ObjectsRoomLike, n=N)
    place, placed = torch.stack([made["x"], made["y"]], -1), there(made, 3)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        apart = (place[:, i] - place[:, j]).norm(dim=1) - made["scale"][:, i] - made["scale"][:, j]
        assert bool((apart[placed[:, i] & placed[:, j]] >= 0.1 - 1e-6).all())


def test_views_of_a_room() -> None:
    room = make(RoomsRingCameraLike, frames=4)
    clip, frames = room.batch([0, 5]), make(RoomsRingCameraLike).batch([0, 5])
    assert clip.image.shape == (2, 4, 3, 32, 32)
    assert clip.actions is not None
    assert clip.actions.shape == (2, 4, 7)
    assert clip.boxes is not None
    assert clip.boxes.shape == (2, 4, 3, 4)
    assert clip.segments is not None
    assert torch.equal(clip.image[:, 0], frames.image)
    assert torch.equal(clip.segments[:, 0], frames.segments)
    assert clip.factors is not None
    assert frames.factors is not None
    for name, values in clip.factors.items():
        assert values.shape[:3] == (2, 4, 3)
        assert torch.equal(values[:, 0], frames.factors[name])
        if name not in ("pixel_coords", "visibility"):
            assert bool((values == values[:, :1]).all())
    place, yaw, pitch = clip.actions[..., :3], clip.actions[..., 3:5], clip.actions[..., 5:]
    assert torch.allclose(place[..., :2].norm(dim=-1), torch.tensor(RING))
    assert len(place[..., 2].unique()) == 1
    assert torch.allclose(yaw.flip(-1), -place[..., :2] / RING, atol=1e-6)  # faces the middle
    assert torch.allclose(yaw.norm(dim=-1), torch.ones(2, 4))
    assert bool((pitch[..., 0] < 0).all())
    made = draws(RoomsRingCameraLike, n=N)
    assert uniform(made["wall"][:, 0] - 1, 5)
    assert uniform(made["floor"][:, 0] - 1, 3)
    assert uniform(made["count"] - 1, 3)
    assert set(made["shape"].unique().tolist()) == set(range(1, 8))
    assert made["hue"].max() <= 0.8
    assert draws(RoomsRingCameraLike, "unseen_colors", 16)["hue"].min() >= 0.8


def test_stripes_are_seen_on_every_wall() -> None:
    paint = Material(color=torch.ones(1, 5, 3), second=0.0, texture=TEXTURES.index("stripes"), roughness=1.0)
    room = open_room(3.5, 2.4, floor=paint.map(lambda t: t[:, :1]), wall=paint.map(lambda t: t[:, 1:]))
    world = make(ObjectsRoomLike, "empty_room").world(draws(ObjectsRoomLike, "empty_room", 1))
    walls = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])[None]
    camera = Camera(position=torch.tensor([0.0, 0, 1.2]).expand(1, 4, 3), target=walls + torch.tensor([0, 0, 1.2]))
    image = render(replace(world, planes=room, camera=camera), (16, 16), shadows="none").image[0, :, 0].float()
    assert image.mean(1).std(-1).min() > 30  # from column to column, in each of the four views


def test_stacks_touch_and_break_as_they_say() -> None:
    made = draws(ShapeStacksLike, n=N)
    count, shape, kind = made["count"], made["shape"], made["kind"]
    assert uniform(count - 2, 5)
    assert 0.4 < made["unstable"][:, 0].float().mean() < 0.6
    assert torch.equal(made["unstable"][:, 0] == 1, kind > 0)
    assert 0.3 < (kind == 2).float().mean() * 4 < 1.7
    height = torch.where(shape == LYING, made["scale"][..., 0], made["scale"][..., 2])
    bottom = made["z"] - height
    for i in range(1, 6):
        here = count > i
        assert torch.allclose(bottom[here, i], (made["z"] + height)[here, i - 1], atol=1e-5)  # stands on the one below
    assert torch.allclose(bottom[:, 0], torch.zeros(N), atol=1e-6)
    below = torch.arange(6) < count[:, None] - 1
    round_ = torch.isin(shape, torch.tensor([LYING, BALL])) & below
    assert torch.equal(round_.any(1), kind == 2)
    violated = (made["violation"] > 0) & there(made, 6)
    assert torch.equal(violated.sum(1), (kind > 0).long())
    assert bool((made["support"][violated] <= 0).all())
    assert bool((made["support"][below & ~violated] > 0.05).all())
    blocks = draws(ShapeStacksLike, "blocks", 64)
    assert set(blocks["shape"].unique().tolist()) == {BLOCK}
    assert not (blocks["kind"] == 2).any()
    assert not make(ShapeStacksLike, stable=True).draw(16, derive_generator(0))["unstable"].any()
    assert make(ShapeStacksLike, stable=False).draw(16, derive_generator(0))["unstable"].all()
    crowned = draws(ShapeStacksLike, "unseen_shapes", 32)
    assert bool((crowned["shape"].gather(1, crowned["count"][:, None] - 1) > 4).all())


def outline(made: Draws, scene: int, i: int) -> np.ndarray:
    """(V, 2) corners of the region that an object rests on, or carries on."""
    shape, half = int(made["shape"][scene, i]), made["scale"][scene, i].numpy()
    if shape == BLOCK:
        corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * half[:2]
    elif shape == CYLINDER:
        angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        corners = np.stack([np.cos(angle), np.sin(angle)], 1) * half[0]
    elif shape == LYING:
        corners = np.array([[0, half[2]], [0, -half[2]]])
    else:
        corners = np.zeros((1, 2))
    angle = math.radians(float(made["rotation"][scene, i]))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return corners @ turn.T + np.array([float(made["x"][scene, i]), float(made["y"][scene, i])])


def clipped(polygon: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The part of a polygon inside a convex, counterclockwise window (Sutherland and Hodgman)."""
    for start, end in zip(window, np.roll(window, -1, 0), strict=True):
        normal = np.array([start[1] - end[1], end[0] - start[0]])
        side = (polygon - start) @ normal
        kept = []
        for k in range(len(polygon)):
            here, there_ = side[k - 1], side[k]
            if (here >= 0) != (there_ >= 0):
                kept.append(polygon[k - 1] + (polygon[k] - polygon[k - 1]) * here / (here - there_))
            if there_ >= 0:
                kept.append(polygon[k])
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def imbalance(made: Draws, scene: int) -> float:
    """Least force and torque that is missing for every object of a stack to be at rest, if contacts only push."""
    count = int(made["count"][scene])
    mass = shapestacks_like.volumes(made["shape"], made["scale"])[scene].numpy()
    contacts = [(0, -1, outline(made, scene, 0))]
    contacts += [(i, i - 1, clipped(outline(made, scene, i), outline(made, scene, i - 1))) for i in range(1, count)]
    columns = []
    for upper, lower, points in contacts:
        for x, y in points:  # a unit force at the point: force and two torques on each object
            column = np.zeros((count, 3))
            column[upper] += (1, x, y)
            if lower >= 0:
                column[lower] -= (1, x, y)
            columns.append(column.ravel())
    place = np.stack([made["x"][scene].numpy(), made["y"][scene].numpy()], 1)[:count]
    weight = (mass[:count, None] * np.concatenate([np.ones((count, 1)), place], 1)).ravel()
    forces, slack = np.array(columns).T, np.eye(3 * count)
    result = linprog(
        np.r_[np.zeros(forces.shape[1]), np.ones(6 * count)], A_eq=np.c_[forces, slack, -slack], b_eq=weight
    )
    assert result.success
    return float(result.fun)


def test_stability_is_that_of_statics() -> None:
    """Against the equations of rest, solved as a linear program over the forces at the corners of all contacts."""
    made = draws(ShapeStacksLike, n=N)
    flat = (
        (made["kind"] < 2).nonzero().flatten()[:60].tolist()
    )  # on a ball, a balance would be possible, but not stable
    missing = np.array([imbalance(made, scene) for scene in flat])
    stable = (made["kind"][flat] == 0).numpy()
    assert 10 < stable.sum() < 50
    assert missing[stable].max() < 1e-3 < missing[~stable].min()


def test_support_margin_in_closed_form() -> None:
    """A block of side 1 carries another one, pushed out by 0.3, 0.7 and 0.3 along the diagonal of a turned one."""
    place = torch.tensor([[[0, 0, 0.5], [0.3, 0, 1.5]], [[0, 0, 0.5], [0.7, 0, 1.5]], [[0, 0, 0.5], [0.3, 0, 1.5]]])
    margin, touching = support_margin(
        shape=torch.full((3, 2), BLOCK),
        scale=torch.full((3, 2, 3), 0.5),
        rotation=torch.tensor([[0.0, 0], [0, 0], [45, 0]]),
        place=place,
        count=torch.tensor([2, 2, 2]),
    )
    assert torch.allclose(margin[:, 0], torch.tensor([0.2, -0.2, 0.5 - 0.3 / math.sqrt(2)]), atol=1e-6)
    assert bool(touching.all())
    apart = torch.tensor([[[0, 0, 0.5], [1.1, 0, 1.5]]])
    settings = {"scale": torch.full((1, 2, 3), 0.5), "rotation": torch.zeros(1, 2), "count": torch.tensor([2])}
    assert not support_margin(shape=torch.tensor([[BLOCK, CYLINDER]]), place=apart, **settings)[1][0, 0]
    assert not support_margin(shape=torch.tensor([[CYLINDER, CYLINDER]]), place=apart, **settings)[1][0, 0]


def test_solids_lie_on_a_face() -> None:
    """The three lowest corners are `height` below the middle."""
    solids = Solids.of(["octahedron", "icosahedron"])
    golden = (math.sqrt(5) - 1) / 2
    edges = [(0.0, sign * golden, other) for sign in (1, -1) for other in (1.0, -1.0)]
    corners = [torch.cat([torch.eye(3), -torch.eye(3)]), torch.tensor([p[i:] + p[:i] for p in edges for i in range(3)])]
    for some, tilt, height in zip(corners, solids.tilt, solids.height, strict=True):
        lowest = (some @ tilt.T)[:, 2].sort().values
        assert torch.allclose(lowest[:3], -height.expand(3), atol=1e-6)
        assert lowest[3] > -height + 0.1


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        (ClevrLike, {"variant": "unseen_colours"}, "unseen_colors"),
        (ClevrLike, {"quality": "best"}, "quality='best'"),
        (ClevrLike, {"crop": "middle"}, "crop='middle'"),
        (ClevrLike, {"max_objects": 11}, "max_objects=11"),
        (ClevrTexLike, {"min_objects": 5, "max_objects": 4}, "min_objects=5"),
        (ClevrTexLike, {"crop": "all"}, "crop='all'"),
        (ObjectsRoomLike, {"image_size": 8}, "at least 16"),
        (RoomsRingCameraLike, {"frames": 11}, "frames=11"),
        (ShapeStacksLike, {"count": 0}, "count=0"),
    ],
)
def test_wrong_options_are_named(family: type[RenderedScenes], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(**options)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RenderedScenes, "chunk", 8)
    made = ["data", "make", "objects_room_like", "n=6", "val=4", "test=4", "size=32", "quality=fast", "path=room.h5"]
    assert main(made) == 0
    assert main(["data", "check", "room.h5"]) == 0
    views = ["data=rooms_ring_camera_like", "data.frames=3", "data.quality=fast"]
    assert main(["show", *views, "-n", "1", "--out", "views.png"]) == 0
    assert (tmp_path / "views.png").is_file()
    assert "train: 6, val: 4, test: 4" in capsys.readouterr().out
    assert main(["data", "make", "tetrominoes", "n=4", "size=64"]) == 0
    assert "Resized from 35x35 to 64x64" in " ".join(capsys.readouterr().out.split())
    words = [
        "data=objects_room_like",
        "data.image_size=32",
        "data.quality=fast",
        "data.count=64",
        "model.image_size=32",
    ]
    small = ["model.slots=3", "batch_size=2", "trainer.max_steps=1", "every.validate=0", "every.picture=0"]
    assert main(["train", "model=slot_attention", *words, *small, "run_dir=run", "trainer.accelerator=cpu"]) == 0
    some = {name: ObjectsRoomLike.VARIANTS[name] for name in ("room", "six_objects", "empty_room")}
    monkeypatch.setattr(ObjectsRoomLike, "VARIANTS", some)
    assert main(["evaluate", "run", "--shifts", "--images", "2"]) == 0
    out = capsys.readouterr().out
    assert all(variant in out for variant in some)
    results = [json.loads(file.read_text()) for file in sorted((tmp_path / "run" / "evaluation").glob("*.json"))]
    names = {result["data"]["name"] for result in results}
    assert names == {"objects_room_like", "objects_room_like-six_objects", "objects_room_like-empty_room"}
    assert main(["evaluate", "run", "--shifts", "data=tetrominoes"]) != 0
    assert "no variants" in capsys.readouterr().err
