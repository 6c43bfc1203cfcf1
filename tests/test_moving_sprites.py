"""Moving sprites, their simulator, and the small worlds with actions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from objectscape.data.synthetic.block_stacking import BlockStacking
from objectscape.data.synthetic.moving_sprites import MovingSprites
from objectscape.data.synthetic.select_move import SelectMove
from objectscape.scene import Scene


def test_a_seed_gives_the_same_clips_whatever_else_is_asked_for() -> None:
    some, all_ = (
        MovingSprites(count=6, image_size=24, split="test"),
        MovingSprites(count=300, image_size=24, split="test"),
    )
    scene = some.batch([4, 1])
    assert torch.equal(scene.image, all_.batch([0, 4, 1]).image[1:])
    assert not torch.equal(scene.image, MovingSprites(count=6, image_size=24, split="test", seed=1).batch([4, 1]).image)


def test_sprites_fly_straight_until_they_meet_a_wall() -> None:
    factors = MovingSprites(count=200, image_size=16).all().factors
    assert factors is not None
    place, velocity = (torch.stack([factors[a], factors[b]], -1) for a, b in (("x", "y"), ("vx", "vy")))
    there = factors["visibility"] > 0
    assert float(place[there].min()) >= 0.1 - 1e-6
    assert float(place[there].max()) <= 0.9 + 1e-6
    speed = velocity.norm(dim=-1)
    assert (speed - speed[:, :1]).abs().max() < 1e-5
    assert ((speed >= 0.02 - 1e-6) & (speed <= 0.06 + 1e-6))[there].all()
    turned = (velocity[:, 1:] - velocity[:, :-1]).norm(dim=-1) > 1e-5
    straight = (place[:, 1:] - place[:, :-1] - velocity[:, :-1]).norm(dim=-1) < 1e-5
    assert (straight | turned)[there[:, 1:]].all()
    assert turned[there[:, 1:]].any()
    away = torch.stack([(place[..., 0] - 0.5).abs(), (place[..., 1] - 0.5).abs()], -1).amax(-1)[:, 1:]
    assert (away[turned] > 0.3).all(), "a sprite turned far from a wall"


def test_segments_are_where_the_colors_are() -> None:
    scene = MovingSprites(count=20, image_size=32, max_objects=1, min_objects=1).all()
    assert scene.factors is not None and scene.segments is not None  # noqa: PT018
    share = (scene.segments == 1).float().mean((2, 3))
    assert (share - 0.04).abs().max() < 0.012, "a sprite of scale 0.2 has 4 % of the picture"
    inside = (scene.segments == 1)[:, :, None].expand_as(scene.image)
    color = scene.factors["color"][..., 0, :, None, None].expand_as(scene.image)
    solid = torch.nn.functional.avg_pool2d(inside[:, :, 0].float(), 3, 1, 1) > 0.999
    solid = solid[:, :, None].expand_as(inside)
    assert (scene.pixels[solid] - color[solid]).abs().max() < 0.01


@pytest.mark.parametrize("options", [{"bounce": "mirror"}, {"bounce": "mirror", "collisions": True}])
def test_the_simulator_knows_a_world_without_chance(options: dict[str, object]) -> None:
    data = MovingSprites(count=8, image_size=24, **options)  # type: ignore[arg-type]
    scene = data.all()
    futures = data.simulator.predict(scene.map(lambda x: x[:, :3]), steps=7, samples=2)
    assert futures.recon.shape == (8, 2, 7, 3, 24, 24)
    assert (futures.recon - scene.pixels[:, None, 3:]).abs().max() < 0.01
    assert torch.equal(futures.segments[:, 0], scene.segments[:, 3:].long())  # type: ignore[index]


def test_chance_spreads_the_futures_and_actions_are_obeyed() -> None:
    data = MovingSprites(count=16, image_size=24)
    recon = data.simulator.predict(data.all().map(lambda x: x[:, :2]), steps=8, samples=4).recon
    assert recon.std(1).amax() > 0.05
    acted = MovingSprites(count=6, image_size=24, actions=True, frames=5)
    scene = acted.all()
    assert scene.actions is not None
    assert scene.actions.shape == (6, 5, 4)
    first = scene.map(lambda x: x[:, :1])
    futures = acted.simulator.predict(first, steps=4, actions=scene.actions[:, :4])
    assert (futures.recon[:, 0] - scene.pixels[:, 1:]).abs().max() < 0.01
    with pytest.raises(ValueError, match="moved by actions"):
        acted.simulator.predict(first, steps=4)
    with pytest.raises(ValueError, match="true state"):
        data.simulator.predict(Scene(image=torch.rand(1, 2, 3, 24, 24)), steps=1)


def test_collisions_keep_momentum_and_energy() -> None:
    data = MovingSprites(
        count=60, image_size=16, frames=12, min_objects=3, max_objects=3, collisions=True, bounce="mirror", edge=0.0,
        scale=0.3,
    )  # fmt: skip
    factors = data.all().factors
    assert factors is not None
    velocity = torch.stack([factors["vx"], factors["vy"]], -1)
    place = torch.stack([factors["x"], factors["y"]], -1)
    inner = ((place > 0.1) & (place < 0.9)).flatten(2).all(-1)  # no wall is near
    quiet = (inner[:, 1:] & inner[:, :-1])[:, :, None].expand(-1, -1, 2)
    momentum = velocity.sum(2)
    assert (momentum[:, 1:] - momentum[:, :-1])[quiet].abs().max() < 1e-5
    energy = velocity.square().sum((2, 3))
    assert (energy[:, 1:] / energy[:, :-1] - 1)[quiet[..., 0]].abs().max() < 0.35  # three at once are not exact
    assert (velocity[:, 1:] - velocity[:, :-1]).norm(dim=-1)[quiet[..., :1].expand(-1, -1, 3)].max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 8}, "16 pixels"),
        ({"min_objects": 4}, "min <= max"),
        ({"frames": 0}, "at least 1"),
        ({"noise": -1.0}, "0 or more"),
        ({"bounce": "mirro"}, "'mirror'"),
        ({"shapes": ["star"]}, "square, circle, triangle"),
        ({"background": [9, 3]}, "darkest"),
        ({"max_speed": 0.5}, "per frame"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MovingSprites(**options)  # type: ignore[arg-type]


def test_a_click_moves_the_topmost_sprite() -> None:
    world = SelectMove(
        places=np.array([[0.5, 0.5], [0.55, 0.5]]), shapes=("square", "square"), scales=np.full(2, 0.2),
        colors=np.array([[0.1, 0.6, 0.9], [0.5, 0.6, 0.9]]), background=40,
    )  # fmt: skip
    assert world.selected(np.array([0.52, 0.5])) == 1
    assert world.selected(np.array([0.42, 0.5])) == 0
    assert world.selected(np.array([0.9, 0.9])) == -1
    moved = world.step(np.array([0.52, 0.5, 1.0, 0.5]))
    assert moved.places[1].tolist() == pytest.approx([0.8, 0.5])
    assert world.places[1].tolist() == pytest.approx([0.55, 0.5]), "states do not change"
    assert world.solved
    assert not SelectMove.find_goal(np.random.default_rng(0)).solved


def test_clips_of_cubes() -> None:
    pytest.importorskip("mujoco")
    data = BlockStacking(count=4, image_size=24, frames=4, cubes=2)
    scene = data.all()
    assert scene.image.shape == (4, 4, 3, 24, 24)
    assert scene.actions is not None
    assert scene.actions.abs().max() <= 1.3
    futures = data.simulator.predict(scene.map(lambda x: x[:, :1]), steps=3, actions=scene.actions[:, :3])
    assert (futures.recon[:, 0] - scene.pixels[:, 1:]).abs().mean() < 0.01
    with pytest.raises(ValueError, match="cubes=9"):
        BlockStacking(cubes=9)
