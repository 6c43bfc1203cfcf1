"""Solids that are let go obey mechanics, and what it makes of stacks is what their labels say.

`python -m tests.test_physics 160` counts that on more stacks: the table of docs/data/shapestacks_like.md.
"""

from __future__ import annotations

import math
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from objectscape.cli import main
from objectscape.data.synthetic.base import Draws
from objectscape.data.synthetic.physics import GRAVITY, STEP, fall, quaternions
from objectscape.data.synthetic.rendered import RenderedScenes
from objectscape.data.synthetic.scene3d import SHAPES, Material, Objects, turn
from objectscape.data.synthetic.shapestacks_like import BALL, BLOCK, ShapeStacksLike, volumes
from objectscape.scene import Scene
from objectscape.seeding import derive_generator

pytestmark = pytest.mark.usefixtures("one_thread")
needs_mujoco = pytest.mark.usefixtures("_mujoco")
FPS = 40
SOLIDS = ("box", "sphere", "cylinder", "cone", "pyramid")


@pytest.fixture
def _mujoco() -> None:
    pytest.importorskip("mujoco")


def solids(*names: str, position: Any, scale: Any = 0.4, rotation: Tensor | None = None) -> Objects:
    """Scenes of one object each."""
    shape = torch.tensor([[SHAPES.index(name)] for name in names])
    place = torch.as_tensor(position).expand(len(names), 3)[:, None]
    scale = torch.as_tensor(scale).expand(len(names), 3)[:, None]
    color = torch.zeros(len(names), 1, 3)
    return Objects(shape=shape, position=place, scale=scale, rotation=rotation, material=Material(color=color))


@needs_mujoco
def test_free_fall() -> None:
    """z = z0 - g t^2 / 2, plus what the integrator's first order adds, for every solid, turned or not."""
    tilted = (turn(torch.tensor(0.7), "x") @ turn(torch.tensor(0.4))).expand(5, 1, 3, 3)
    velocity = torch.tensor([0.3, -0.2, 0.1]).expand(5, 1, 3)
    objects = solids(*SOLIDS, position=[0.5, -0.3, 8.0], rotation=tilted)
    place, rotation = fall(objects, frames=FPS + 1, fps=FPS, velocity=velocity)
    t = torch.arange(FPS + 1) / FPS
    straight = torch.stack([0.5 + 0.3 * t, -0.3 - 0.2 * t, 8 + 0.1 * t - GRAVITY * t**2 / 2], -1)
    away = place[:, :, 0] - straight
    away[..., 2] += GRAVITY * t * STEP / 2
    # a cone's middle is not its center of mass, but nothing turns it
    assert away.abs().max() < 1e-4
    assert torch.allclose(rotation, tilted[:, None], atol=1e-5)
    assert torch.equal(place[:, 0], objects.position)
    assert torch.equal(rotation[:, 0], tilted)


@needs_mujoco
@pytest.mark.parametrize("name", SOLIDS)
def test_solids_come_to_rest_on_a_face(name: str) -> None:
    """Dropped upright from a small height, each stands on the ground: neither in it nor above it, and still."""
    half = torch.tensor([0.4, 0.4, 0.4 if name == "sphere" else 0.3])
    place, rotation = fall(solids(name, position=[0.0, 0, 0.5], scale=half), frames=2 * FPS, fps=FPS)
    assert float(place[0, -1, 0, 2]) == pytest.approx(float(half[2]), abs=1e-3)
    assert (place[0, -1] - place[0, -FPS // 4]).abs().max() < 1e-4
    assert (rotation[0, -1] - torch.eye(3)).abs().max() < 2e-3
    assert place[..., 2].min() > float(half[2]) - 0.05  # deepest while it hits the ground


@needs_mujoco
def test_a_tipped_cone_lies_on_its_side() -> None:
    """Its axis ends at the angle of its side, and its middle where that puts it: the mass is where a cone has it."""
    tipped = turn(torch.tensor(math.pi / 2), "y").expand(2, 1, 3, 3)
    place, rotation = fall(
        solids("cone", "pyramid", position=[0.0, 0, 0.5], rotation=tipped), frames=6 * FPS, fps=FPS, walls=3.0
    )
    slope = math.atan(0.5)  # of a side against the axis
    for axis, z in zip(rotation[:, -1, 0, :, 2], place[:, -1, 0, 2]):
        assert math.asin(-float(axis[2])) == pytest.approx(slope, abs=0.02)
        # the base's lowest point is on the ground: 0.4 cos(slope) above it in the middle of the base
        assert float(z) == pytest.approx(0.4 * math.cos(slope) + 0.4 * float(axis[2]), abs=0.01)


@needs_mujoco
def test_a_rolling_ball_stops_at_a_wall() -> None:
    ball = solids("sphere", position=[0.0, 0, 0.4])
    place, _ = fall(ball, frames=2 * FPS, fps=FPS, velocity=torch.tensor([[[3.0, 0, 0]]]), walls=2.0)
    # it slips at first, then rolls, with 5/7 of its speed
    rolling = (place[0, 20, 0, 0] - place[0, 18, 0, 0]) * FPS / 2
    assert float(rolling) == pytest.approx(3 * 5 / 7, rel=0.01)
    assert float(place[0, :, 0, 0].max()) == pytest.approx(1.6, abs=0.03)
    assert float(place[0, :, 0, 2].min()) > 0.39
    free, _ = fall(ball, frames=2 * FPS, fps=FPS, velocity=torch.tensor([[[3.0, 0, 0]]]))
    assert float(free[0, -1, 0, 0]) > 3


@cache
def stacks(variant: str, n: int) -> tuple[Draws, Tensor, Tensor]:
    """Draws of n stacks, and five seconds of their motion."""
    data = ShapeStacksLike(split="test", variant=variant, frames=41)
    draws = {name: values[:n] for name, values in data.draw(n, derive_generator(0, variant)).items()}
    return draws, *data.motion(draws)


def deepest(draws: Draws, place: Tensor) -> Tensor:
    """(n, T) how far some object of each stack has come down so far."""
    there = torch.arange(place.shape[2]) < draws["count"][:, None]
    return ((place[:, :1, :, 2] - place[..., 2]) * there[:, None]).amax(2).cummax(1).values


@needs_mujoco
@pytest.mark.parametrize(("variant", "n"), [("ccs", 24), ("blocks", 10), ("unseen_shapes", 12), ("more_objects", 6)])
def test_physics_agrees_with_the_labels(variant: str, n: int) -> None:
    """Stable stacks stand; those whose mass is not carried fall in two seconds, balanced ones give way in five."""
    draws, place, _ = stacks(variant, n)
    down, kind = deepest(draws, place), draws["kind"]
    assert set(kind.tolist()) >= {0, 1}
    assert down[kind == 0].max() < 0.003
    assert down[kind == 1, 16].min() > 0.2
    assert (down[kind == 2, -1] > 0.05).all()


@needs_mujoco
def test_nothing_gains_energy_or_leaves_the_room() -> None:
    draws, place, rotation = stacks("ccs", 24)
    there = (torch.arange(place.shape[2]) < draws["count"][:, None])[:, None]
    mass = volumes(draws["shape"], draws["scale"])[:, None] * there  # n, 1, N
    potential = GRAVITY * (mass * place[..., 2]).sum(-1)  # n, T
    # of the center of mass of each object between two frames: a lower bound of its mean square
    kinetic = (mass / 2 * (place.diff(dim=1) * 8).square().sum(-1)).sum(-1)
    start = potential[:, :1] + mass[:, 0].sum(-1, keepdim=True) * 0.02**2 / 2
    assert ((potential[:, 1:] + potential[:, :-1]) / 2 + kinetic <= start * 1.002 + 1e-3).all()
    shape, half = draws["shape"][:, None], draws["scale"][:, None]
    axis = rotation[..., 2, 2].abs()
    drum = half[..., 2] * axis + half[..., 0] * (1 - axis.square()).clamp_min(0).sqrt()
    block = (rotation[..., 2, :].abs() * half).sum(-1)
    reach = torch.where(shape == BALL, half[..., 0], torch.where(shape == BLOCK, block, drum))  # down from the middle
    sunk = (reach - place[..., 2]) * there
    assert sunk.max() < 0.04  # for a moment, after a fall from the top of a stack
    assert sunk[:, 0].max() < 1e-5
    assert sunk[draws["kind"] == 0].max() < 0.001
    assert place[..., :2].abs().max() < 10


@needs_mujoco
def test_absent_objects_stay_and_scenes_do_not_meet() -> None:
    draws, place, rotation = stacks("ccs", 24)
    data = ShapeStacksLike(split="test", frames=41)
    some = torch.tensor([17, 3])
    again, turned = data.motion({name: values[some] for name, values in draws.items()})
    assert torch.equal(again, place[some])
    assert torch.equal(turned, rotation[some])
    gone = torch.arange(place.shape[2]) >= draws["count"][:, None]
    assert torch.equal(place[:, -1][gone], place[:, 0][gone])
    short, _ = ShapeStacksLike(split="test", frames=5).motion(draws)
    assert torch.equal(short, place[:, :5])  # a longer clip begins as a shorter one


@needs_mujoco
def test_absent_objects_are_in_nobodys_way() -> None:
    color = torch.zeros(2, 2, 3)
    objects = Objects(
        shape=torch.full((2, 2), SHAPES.index("box")),
        position=torch.tensor([0.0, 0, 5]).expand(2, 2, 3),
        scale=0.5,
        present=torch.tensor([[False, True], [False, False]]),
        material=Material(color=color),
    )
    place, _ = fall(objects, frames=5, fps=8)
    assert float(place[0, -1, 1, 2]) == pytest.approx(5 - GRAVITY / 8, abs=0.01)
    assert torch.equal(place[0, :, 0], place[1, :, 1])


def test_quaternions() -> None:
    angle = torch.tensor([0.3, 2.0, -1.0])
    found = quaternions(turn(angle))
    zero = torch.zeros(3)
    assert torch.allclose(found, torch.stack([(angle / 2).cos(), zero, zero, (angle / 2).sin()], -1), atol=1e-6)


@needs_mujoco
@pytest.mark.parametrize("variant", ["ccs", "textures", "unseen_shapes"])
def test_a_clip_begins_with_the_picture(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RenderedScenes, "chunk", 8)
    options: dict[str, Any] = {"split": "test", "count": 6, "image_size": 32, "variant": variant}
    still, single = ShapeStacksLike(**options).batch([1, 4]), ShapeStacksLike(frames=1, **options).batch([1, 4])
    data = ShapeStacksLike(frames=4, **options)
    clip = data.batch([1, 4])
    assert clip.image.shape == (2, 4, 3, 32, 32)
    assert torch.equal(single.image[:, 0], still.image)
    for now in (clip.map(lambda t: t[:, 0]), single.map(lambda t: t[:, 0])):
        same(now, still)
    other = data.batch([4, 5, 0])  # in other company
    same(other[0:1], clip[1:2])
    same(data.all()[4:5], clip[1:2])
    same(data.stream(3, 2), data.stream(3, 2))


def same(one: Scene, two: Scene) -> None:
    """What `two` knows, alike; pixels up to one gray level, because rounding may depend on the size of a batch."""
    assert (one.image.int() - two.image.int()).abs().max() <= 1
    for name in ("segments", "boxes", "present", "labels"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert one.factors is not None
    assert two.factors is not None
    for name, values in two.factors.items():
        assert torch.allclose(one.factors[name].float(), values.float(), atol=1e-5)


@needs_mujoco
def test_labels_of_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments lie where the factors say, in every frame of a collapse."""
    monkeypatch.setattr(RenderedScenes, "chunk", 4)
    data = ShapeStacksLike(split="test", count=4, stable=False, frames=12, fps=4.0, image_size=48, quality="fast")
    scene = data.batch(range(4))
    assert scene.segments is not None
    assert scene.factors is not None
    assert scene.boxes is not None
    factors, placed = scene.factors, scene.factors["shape"] > 0  # n, T, N
    assert {tuple(values.shape[:3]) for values in factors.values()} == {(4, 12, 6)}
    assert set(data.spec.fields["factors"].split("; ")[-3].split(":")) >= {"orientation"}
    assert data.spec.fields["segments"].startswith("(12, 48, 48)")
    assert "by MuJoCo" in data.spec.notes
    assert torch.allclose(factors["orientation"][placed].norm(dim=-1), torch.ones(int(placed.sum())), atol=1e-5)
    assert not factors["orientation"][~placed].any()
    for name in ("support", "violation", "unstable", "rotation", "scale", "shape", "color"):
        assert torch.equal(factors[name], factors[name][:, :1].expand_as(factors[name]))
    x, y, _ = factors["pixel_coords"].unbind(-1)
    boxes = scene.boxes
    whole = (factors["visibility"] > 0.99) & placed & (boxes[..., :2] > 0).all(-1) & (boxes[..., 2:] < 48).all(-1)
    assert whole[:, 1:].sum() > 20
    inside = (x > boxes[..., 0]) & (x < boxes[..., 2]) & (y > boxes[..., 1]) & (y < boxes[..., 3])
    assert inside[whole].all()
    for n, t, i in whole.nonzero().tolist():
        assert scene.segments[n, t, int(y[n, t, i]), int(x[n, t, i])] == i + 1  # solids are convex
    assert (scene.segments[:, 0] != scene.segments[:, -1]).flatten(1).any(1).all()


def test_wrong_options_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where MuJoCo writes its log
    with pytest.raises(ValueError, match="frames=-1"):
        ShapeStacksLike(frames=-1)
    with pytest.raises(ValueError, match=r"fps=0\.0"):
        ShapeStacksLike(frames=2, fps=0.0)
    pytest.importorskip("mujoco")
    with pytest.raises(ValueError, match=r"no physics for shape prism"):
        fall(solids("prism", position=[0.0, 0, 1]), frames=2, fps=8)
    with pytest.raises(ValueError, match=r"sphere .* round"):
        fall(solids("sphere", position=[0.0, 0, 1], scale=[0.4, 0.4, 0.3]), frames=2, fps=8)
    with pytest.raises(ValueError, match=r"frames=0"):
        fall(solids("box", position=[0.0, 0, 1]), frames=0, fps=8)
    fast = torch.full((1, 1, 3), 1e15)
    with pytest.raises(RuntimeError, match="broke down"):
        fall(solids("box", position=[0.0, 0, 1]), frames=2, fps=8, velocity=fast)


def test_without_mujoco_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mujoco", None)  # its import fails
    with pytest.raises(ModuleNotFoundError, match=r"frames=2 .*objectscape\[physics\]"):
        ShapeStacksLike(frames=2)
    ShapeStacksLike()  # pictures need none
    assert main(["show", "data=shapestacks_like", "data.frames=2"]) == 1
    error = capsys.readouterr().err
    assert "pip install 'objectscape[physics]'" in error
    assert "Traceback" not in error


@needs_mujoco
def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RenderedScenes, "chunk", 4)
    small = ["quality=fast", "frames=3", "fps=4", "stable=false"]
    assert main(["data", "make", "shapestacks_like", "n=3", "val=2", "test=2", "size=32", *small, "path=falls.h5"]) == 0
    assert main(["data", "check", "falls.h5"]) == 0
    with h5py.File("falls.h5") as file:
        assert file["train/image"].shape == (9, 3, 32, 32), "frames as rows"
        assert file["train/factors/orientation"].shape == (9, 6, 4)
    clip = ["data.image_size=32", *(f"data.{word}" for word in small)]
    assert main(["show", "data=hdf5", "data.path=falls.h5", "-n", "2", "--out", "file.png"]) == 0
    assert main(["show", "data=shapestacks_like", *clip, "-n", "2", "--out", "falls.png"]) == 0
    assert main(["show", "data=shapestacks_like", *clip, "-n", "2", "--out", "falls.gif"]) == 0
    with Image.open("falls.gif") as film:
        assert film.n_frames == 3
        assert film.size == (2 * 96, 2 * 96)
        lower = np.asarray(film.convert("RGB"))[96:]
    assert len(np.unique(lower.reshape(-1, 3), axis=0)) >= 3  # segments, in colors
    assert main(["show", "data=shapestacks_like", "data.image_size=32", "-n", "1", "--out", "still.gif"]) == 1
    assert "has still images; a film needs clips" in capsys.readouterr().err


def measure(n: int, seconds: int = 5) -> None:
    """Print how many stacks of each variant and kind have come down by 0.1, and how far the stable ones have."""
    print(
        "variant | kind | stacks | down after " + ", ".join(f"{s} s" for s in range(1, seconds + 1)) + " | lowest, most"
    )
    for variant in ("ccs", "blocks", "unseen_shapes", "more_objects"):
        data = ShapeStacksLike(split="test", variant=variant, frames=8 * seconds + 1)
        draws = data.draw(n, derive_generator(1, variant))
        begin = time.process_time()
        place, _ = data.motion(draws)
        cost = (time.process_time() - begin) / n * 1000
        down = deepest(draws, place)
        for kind, name in enumerate(("stable", "center of mass", "surface")):
            some = down[draws["kind"] == kind]
            if len(some):
                counts = ", ".join(str(int((some[:, 8 * s] > 0.1).sum())) for s in range(1, seconds + 1))
                extreme = f"{float(some[:, -1].min()):.4f}, {float(some[:, -1].max()):.4f}"
                print(f"{variant} | {name} | {len(some)} | {counts} | {extreme}")
        print(f"{variant}: {cost:.0f} ms a stack of {seconds} s", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure(int(sys.argv[1]))
