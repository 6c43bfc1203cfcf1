"""Stacks of blocks, cylinders and balls after ShapeStacks (Groth et al., ECCV 2018), stable ones and others.

Sizes, colors, offsets, the two ways to break a stack, cameras and room are those of the published generator
(github.com/ogroth/shapestacks, `create_scenario.py`). Stability there is what construction intends; here it follows
exactly from the geometry of the stack (`support_margin`), and a stack whose parts do not touch is drawn again. A clip
shows it falling (`physics.fall`).
Textures, lamps and materials are ours: docs/data/shapestacks_like.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from objectscape.data.synthetic import physics
from objectscape.data.synthetic.base import Draws
from objectscape.data.synthetic.objects_room_like import blue_sky, open_room
from objectscape.data.synthetic.rendered import Dice, RenderedScenes, Rules, redraw
from objectscape.data.synthetic.scene3d import SHAPES as SOLIDS
from objectscape.data.synthetic.scene3d import TEXTURES, Camera, Lights, Material, Objects, World, turn
from objectscape.scene import Scene

SHAPES = ("block", "cylinder", "lying cylinder", "ball", "cone", "pyramid")
"""Code 1 is the block. The first four are the family's; cones and pyramids crown the stacks of `unseen_shapes`."""
BLOCK, CYLINDER, LYING, BALL, CONE, PYRAMID = range(1, 7)

COLORS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1))
OTHER_COLORS = ((1, 0.25, 0), (0.3, 0, 1), (0.5, 1, 0.1), (1, 1, 1), (0.05, 0.05, 0.05), (0.2, 0.06, 0.02))

MOST = 6
SIZE = (0.5, 1.0)
"""Length of every edge and diameter, uniform."""
STABLE_PART, BEYOND, TOUCH, SPREAD = 0.5, 0.05, 0.03, 2.0
"""Stable: the center of mass above lies within this part of the support's half size. Broken: so far beyond its edge.
Parts overlap by at least TOUCH. The stack stands up to SPREAD from the middle of the room, each way."""
PUSH = 0.02
"""Speed of every object at the beginning of a clip, level, to a random side. What is balanced on a ball falls only if
something disturbs it; and a ball on a stable stack, which nothing stops, stays on it for seven seconds at least."""

CAMERAS = ((-7, -7, 5), (-7, 7, 5), (7, 7, 5), (7, -7, 5))
"""The cameras 1, 4, 7 and 10 of the original; all look 15 degrees down, to the room's middle axis."""
HALF_ROOM, WALL = 10.0, 20.0
CROP = 196 / 224
LAMPS = ((0.1, 0.1, 20), (-9, -9, 20), (-9, 9, 20), (9, 9, 20), (9, -9, 20))

_RGB = tuple[float, float, float]
_WALLS = (
    ("bricks", (0.45, 0.20, 0.14), (0.60, 0.55, 0.50)),
    ("noise", (0.55, 0.52, 0.45), (0.42, 0.40, 0.36)),
    ("stripes", (0.50, 0.48, 0.40), (0.30, 0.34, 0.40)),
    ("marble", (0.62, 0.60, 0.58), (0.36, 0.36, 0.38)),
    ("wood", (0.42, 0.27, 0.14), (0.28, 0.16, 0.08)),
    ("checker", (0.34, 0.40, 0.36), (0.50, 0.54, 0.48)),
)
_FLOORS = (
    ("wood", (0.45, 0.28, 0.14), (0.28, 0.16, 0.07)),
    ("checker", (0.50, 0.50, 0.48), (0.24, 0.24, 0.26)),
    ("noise", (0.20, 0.26, 0.12), (0.34, 0.36, 0.18)),
    ("marble", (0.58, 0.56, 0.52), (0.32, 0.30, 0.30)),
    ("bricks", (0.36, 0.34, 0.33), (0.20, 0.19, 0.18)),
    ("dots", (0.30, 0.33, 0.40), (0.44, 0.45, 0.48)),
)


@dataclass(frozen=True, kw_only=True)
class StackRules(Rules):
    """What a variant of `ShapeStacksLike` changes."""

    shapes: tuple[int, ...] = (BLOCK, CYLINDER, LYING, BALL)
    crowns: tuple[int, ...] = ()
    """Codes of the top object; empty: any of `shapes`."""
    colors: tuple[tuple[float, float, float], ...] = COLORS


class ShapeStacksLike(RenderedScenes):
    """A stack of two to six objects in a room, half of the time about to fall.

    An unstable stack breaks one rule at one place: the center of mass of everything above an object lies beyond its top
    ("vcom"), or something rests on a ball or on a lying cylinder ("vpsf"). Objects are numbered from the bottom up.

    Args:
        split: "train", "val" or "test".
        count: scenes in this split; None for 50 000 (train) or 320 (val, test).
        seed: of the stream.
        variant: one of `VARIANTS`: "ccs" (cuboids, cylinders, spheres), "blocks" (cuboids), or a shift.
        stable: True: only stable stacks; False: only unstable ones; None: half and half.
        frames: 0: an item is one picture of its stack. Else an item is a clip of T = `frames` pictures of what becomes
            of the stack, with labels; the first is the same picture. Needs MuJoCo (`objectscape[physics]`).
        fps: pictures per second of a clip; the original's 8.
        image_size: side of the picture in pixels: the central 196 of the original's 224, as GENESIS takes it.
        quality: of the shading: "fast", "normal" or "high".
    """

    NAME = "shapestacks_like"
    SOURCE = "rendered after ShapeStacks, https://shapestacks.robots.ox.ac.uk"
    FACTORS: ClassVar[Mapping[str, str]] = {
        "x": "in the world; the room is 20 wide",
        "y": "in the world",
        "z": "of the middle, in the world",
        "rotation": "about the vertical, degrees 0..360; in a clip, at its beginning",
        "scale": "(3,) half sizes along the object's own axes",
        "shape": "code 1.. in the order " + ", ".join(SHAPES),
        "color": "RGB 0..1, linear",
        "support": "distance of the center of mass of all that lies on the object from the edge of its top: negative "
        "beyond the edge, at most 0 on a round top; 0 for the top object; in a clip, at its beginning",
        "violation": "code 1 center of mass, 2 surface, where the stack breaks; else 0",
        "unstable": "1 if the stack falls, for all its objects",
        "wall": "of the room, code 1..6",
        "floor": "of the room, code 1..6",
    }
    VARIANTS: ClassVar[Mapping[str, StackRules]] = {
        "ccs": StackRules(text="cuboids, cylinders and balls"),
        "blocks": StackRules(text="cuboids only", shapes=(BLOCK,)),
        "unseen_colors": StackRules(text="orange, violet, lime, white, black and brown", colors=OTHER_COLORS),
        "unseen_shapes": StackRules(text="a cone or a pyramid on top", crowns=(CONE, PYRAMID)),
        "more_objects": StackRules(text="stacks of seven or eight", more=2),
        "textures": StackRules(text="textured objects", textures=True),
        "lighting": StackRules(text="one strong colored lamp from any side", lighting=True),
        "occluders": StackRules(text="two dark posts before the scene", occluders=2),
        "close_up": StackRules(text="the middle 70% of the picture", zoom=0.7),
    }

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        variant: str = "ccs",
        stable: bool | None = None,
        frames: int = 0,
        fps: float = 8.0,
        image_size: int = 64,
        quality: str = "normal",
    ) -> None:
        if frames < 0 or not 0 < fps < math.inf:
            raise ValueError(f"frames={frames}, fps={fps}; give at least 0 frames (0: a picture) and a positive fps")
        super().__init__(
            split=split,
            count=count,
            seed=seed,
            variant=variant,
            size=(image_size, image_size),
            objects=(2, MOST),
            quality=quality,
            frames=frames,
        )
        self.stable, self.fps = stable, fps
        if frames:
            version = physics.mujoco(f"frames={frames}").__version__
            notes = f"{self.spec.notes} {frames} frames, {fps:g} a second, by MuJoCo {version}."
            self.spec = replace(self.spec, notes=notes)

    @property
    def factors(self) -> Mapping[str, str]:
        """See `RenderedScenes.factors`."""
        more = "(4,) unit quaternion w x y z, w >= 0, from the object's own axes to the world's, in each frame"
        return {**self.FACTORS, "orientation": more} if self.frames else self.FACTORS

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """See `RenderedScenes.draw`. What a clip needs comes last, so that it begins with the same scene."""
        draws = super().draw(n, generator)
        if self.frames:
            draws["push"] = Dice(n, generator).turn(self.rows)
        return draws

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """See `SyntheticScenes.paint`. The frames of a clip are painted as scenes of their own."""
        if not self.frames:
            return super().paint(draws, device)
        place, pose = self.motion(draws)
        moved = dict(zip("xyz", place.unbind(-1))) | {"pose": pose, "orientation": physics.quaternions(pose)}
        frames = {name: value.repeat_interleave(self.frames, 0) for name, value in draws.items()}
        frames |= {name: value.flatten(0, 1) for name, value in moved.items()}
        return super().paint(frames, device).map(lambda t: t.unflatten(0, (-1, self.frames)))

    def motion(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """(n, T, N, 3) positions and (n, T, N, 3, 3) rotations of the objects in every frame of n clips."""
        side = draws["push"]
        velocity = PUSH * torch.stack([side.cos(), side.sin(), torch.zeros_like(side)], -1)
        objects = self.world(draws).objects
        return physics.fall(objects, frames=self.frames, fps=self.fps, velocity=velocity, walls=HALF_ROOM)

    def draw_scenes(self, n: int, generator: torch.Generator) -> Draws:
        """See `RenderedScenes.draw_scenes`."""
        most, dice = self.rows, Dice(n, generator)
        broken = dice.integers(0, 1) if self.stable is None else torch.full((n,), int(not self.stable))
        kinds = 2 if len(self.rules.shapes) > 1 else 1  # blocks cannot break the rule of surfaces
        count = dice.integers(*self.objects)
        room = {name: dice.integers(1, len(_WALLS), 1).expand(-1, most) for name in ("wall", "floor")}
        once = room | {
            "count": count,
            "kind": broken * dice.integers(1, kinds),
            "broken": (dice.uniform(0, 1) * (count - 1)).long(),  # which object, 0 the lowest; never the top one
            "unstable": broken[:, None].expand(-1, most),
            "camera": dice.choice(torch.tensor(CAMERAS, dtype=torch.float32)),
            "lamp": dice.integers(0, len(LAMPS) - 1),
            "color": dice.choice(torch.tensor(self.rules.colors, dtype=torch.float32), most),
        }

        def attempt(dice: Dice) -> tuple[Draws, Tensor]:
            draws = {name: values[dice.rows] for name, values in once.items()}
            draws |= _stack(draws, dice, self.rules)
            known = {key: draws[key] for key in ("shape", "scale", "rotation", "place", "count")}
            margin, touching = support_margin(**known)
            there = torch.arange(margin.shape[1]) < draws["count"][:, None] - 1  # has something above it
            falls = ((margin <= 0) & there).any(1)
            draws["support"] = margin * there
            place = draws.pop("place")
            draws |= {"x": place[..., 0], "y": place[..., 1], "z": place[..., 2]}
            return draws, (falls == (draws["unstable"][:, 0] == 1)) & (touching | ~there).all(1)

        return once | redraw(n, generator, attempt)

    def world(self, draws: Draws) -> World:
        """See `RenderedScenes.world`."""
        n, shape = len(draws["count"]), draws["shape"]
        solid = torch.tensor([SOLIDS.index(s) for s in ("box", "cylinder", "cylinder", "sphere", "cone", "pyramid")])
        pose = draws.get("pose")  # of a frame
        if pose is None:
            tilt = torch.where((shape == LYING)[..., None, None], turn(torch.tensor(math.pi / 2), "x"), torch.eye(3))
            pose = turn(torch.deg2rad(draws["rotation"])) @ tilt
        objects = Objects(
            shape=solid[shape - 1],
            position=torch.stack([draws["x"], draws["y"], draws["z"]], -1),
            scale=draws["scale"],
            rotation=pose,
            material=Material(color=draws["color"] * 0.8 + 0.01, roughness=0.5),
            present=torch.arange(shape.shape[1]) < draws["count"][:, None],
        )
        wall = _surface(_WALLS, draws["wall"][:, :1].expand(-1, 4), 0.5)
        floor = _surface(_FLOORS, draws["floor"][:, :1], 0.5)
        main = torch.arange(len(LAMPS)) == draws["lamp"][:, None]
        lights = Lights(
            position=torch.tensor(LAMPS).expand(n, -1, 3),
            color=torch.where(main, 0.5, 0.06)[..., None],
            size=torch.where(main, 1.0, 0.0),
        )
        eye = draws["camera"]
        level = eye[:, :2].norm(dim=-1)
        target = torch.stack([*torch.zeros(2, n), eye[:, 2] - level * math.tan(math.radians(15))], -1)
        angle = 2 * math.atan(math.tan(math.radians(45) / 2) * CROP)  # MuJoCo's 45 degrees, cropped
        return World(
            objects=objects,
            planes=open_room(HALF_ROOM, WALL, floor=floor, wall=wall),
            camera=Camera(position=eye, target=target, field_of_view=angle),
            lights=lights,
            ambient=0.4,
            sky=blue_sky(n),
        )


def _surface(table: Sequence[tuple[str, _RGB, _RGB]], code: Tensor, frequency: float) -> Material:
    """Walls or floors of the room (n, P) by their codes."""
    texture, one, two = (torch.tensor(column) for column in zip(*((TEXTURES.index(t), a, b) for t, a, b in table)))
    return Material(
        color=one[code - 1], second=two[code - 1], texture=texture[code - 1], frequency=frequency, roughness=1.0
    )


def _stack(draws: Draws, dice: Dice, rules: StackRules) -> Draws:
    """Builds stacks from the top down, each object under the center of mass of all above it, as published.

    Args:
        draws: count, kind (0 stable, 1 center of mass, 2 surface), broken (n,).
        dice: for everything else.
        rules: which shapes.

    Returns:
        shape, rotation, violation (n, N), scale and place (n, N, 3), all from the bottom up.
    """
    n, most = len(draws["count"]), draws["color"].shape[1]
    flat = torch.tensor([code for code in rules.shapes if code in (BLOCK, CYLINDER)])
    round_ = torch.tensor([code for code in rules.shapes if code in (LYING, BALL)] or [BALL])
    crown = torch.tensor(rules.crowns or rules.shapes)
    row = torch.arange(most)
    top, bad = row == draws["count"][:, None] - 1, row == draws["broken"][:, None]
    surface = bad & (draws["kind"] == 2)[:, None]
    shape = torch.where(surface, dice.choice(round_, most), dice.choice(flat, most))
    shape = torch.where(top, dice.choice(crown, most), shape)
    half = dice.uniform(*SIZE, most, 3) / 2
    half[..., 1] = torch.where(shape == BLOCK, half[..., 1], half[..., 0])
    half[..., 2] = torch.where(shape == BALL, half[..., 0], half[..., 2])
    rotation = dice.uniform(0, 360, most)
    within, beyond, signs = dice.uniform(-1, 1, most, 2), dice.integers(0, 2, most), dice.integers(0, 1, most, 2)
    # where the object lies under the center of mass of all above it, in its own frame
    edge, line = _tops(shape, half)
    reach = torch.where((edge > 0)[..., None], 0.0, line)  # of a rectangle or a line; nothing of a circle or a point
    offset = within * reach * STABLE_PART
    radius = edge * within[..., 0].abs().sqrt() * STABLE_PART
    angle = math.pi * within[..., 1]
    offset = offset + torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
    out = (2 * signs - 1) * (reach + BEYOND)
    broken = torch.stack(
        [
            torch.where(beyond == 1, within[..., 0] * reach[..., 0], out[..., 0]),
            torch.where(beyond == 0, within[..., 1] * reach[..., 1], out[..., 1]),
        ],
        -1,
    )
    out_of_circle = torch.stack([angle.cos(), angle.sin()], -1) * (edge + BEYOND)[..., None]
    broken = torch.where((edge > 0)[..., None], out_of_circle, broken)
    mass_rule = bad & (draws["kind"] == 1)[:, None]
    offset = torch.where(mass_rule[..., None], broken, offset)
    offset = (turn(torch.deg2rad(rotation))[..., :2, :2] @ offset[..., None])[..., 0]
    offset = offset * (row < draws["count"][:, None] - 1)[..., None]
    volume = volumes(shape, half)
    place = torch.zeros(n, most, 3)
    center, mass = torch.zeros(n, 2), torch.zeros(n)
    for i in reversed(range(most)):  # from the top down
        here = (i < draws["count"]).float()
        place[:, i, :2] = center + offset[:, i]
        share = here * volume[:, i] / (mass + here * volume[:, i]).clamp_min(1e-9)
        center = center + share[:, None] * (place[:, i, :2] - center)
        mass = mass + here * volume[:, i]
    tall = heights(shape, half)
    tall = tall * (row < draws["count"][:, None])
    place[..., 2] = tall.cumsum(1) - tall / 2
    place[..., :2] += dice.uniform(-SPREAD, SPREAD, 1, 2)
    violation = (bad & (draws["kind"] > 0)[:, None]) * draws["kind"][:, None]
    return {"shape": shape, "rotation": rotation, "violation": violation, "scale": half, "place": place}


def _tops(shape: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """What objects carry on, or rest on: (n, N) radius of a circle (0: none), (n, N, 2) half sizes in their own frames.

    A block has a rectangle, an upright cylinder a circle, a lying one a line along its y, a ball a point.
    """
    radius = torch.where((shape == CYLINDER) | (shape == CONE), half[..., 0], 0.0)
    flat = (shape == BLOCK) | (shape == PYRAMID)
    line = torch.stack([torch.zeros_like(radius), torch.where(shape == LYING, half[..., 2], 0.0)], -1)
    return radius, torch.where(flat[..., None], half[..., :2], line)


def volumes(shape: Tensor, half: Tensor) -> Tensor:
    """(n, N) of objects with (n, N, 3) half sizes; all have one density."""
    part = torch.tensor([8.0, 2 * math.pi, 2 * math.pi, 4 / 3 * math.pi, 2 / 3 * math.pi, 8 / 3])
    return half.prod(-1) * part[shape - 1]


def heights(shape: Tensor, half: Tensor) -> Tensor:
    """(n, N) from the lowest to the highest point, in a stack."""
    return 2 * torch.where(shape == LYING, half[..., 0], half[..., 2])


def support_margin(
    *, shape: Tensor, scale: Tensor, rotation: Tensor, place: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Whether each object carries what lies on it.

    A stack stands if the center of mass of all above each object lies over the region in which it touches the next one.
    That region is the intersection of its top and the next one's bottom; the latter need not be looked at, because the
    center of mass lies over it whenever the next object carries its own load. Round tops carry nothing for long.

    Args:
        shape: (n, N) codes, from the bottom up.
        scale: (n, N, 3) half sizes.
        rotation: (n, N) degrees.
        place: (n, N, 3) of the middles.
        count: (n,) objects.

    Returns:
        (n, N) distance of the center of mass from the edge of the top, negative beyond it; on a round top, minus its
        distance from the line or point of contact. And (n, N) bool: does the next object touch this one? Both mean
        something for all but the top object of a stack.
    """
    n, most = shape.shape
    mass = volumes(shape, scale) * (torch.arange(most) < count[:, None])
    above = (mass[..., None] * place[..., :2]).flip(1).cumsum(1).flip(1) - mass[..., None] * place[..., :2]
    total = mass.flip(1).cumsum(1).flip(1) - mass
    center = above / total.clamp_min(1e-9)[..., None]
    radius, half = _tops(shape, scale)
    axes = turn(torch.deg2rad(rotation))[..., :2, :2]
    local = (axes.mT @ (center - place[..., :2])[..., None])[..., 0]
    margin = radius - _outside(local, half)
    margin = torch.where((shape == LYING) | (shape == BALL), margin.clamp_max(0), margin)
    lower, upper = slice(0, most - 1), slice(1, most)
    touching = torch.ones(n, most, dtype=torch.bool)
    pairs = [(part[:, lower], part[:, upper]) for part in (place[..., :2], axes, half, radius)]
    touching[:, lower] = _overlap(*pairs)
    return margin, touching


def _outside(point: Tensor, half: Tensor) -> Tensor:
    """(...) signed distance of points (..., 2) from a rectangle of (..., 2) half sizes: negative inside."""
    away = point.abs() - half
    return away.clamp_min(0).norm(dim=-1) + away.amax(-1).clamp_max(0)


_Pair = tuple[Tensor, Tensor]


def _overlap(place: _Pair, axes: _Pair, half: _Pair, radius: _Pair) -> Tensor:
    """(...) bool: do pairs of (rounded) rectangles overlap, by `TOUCH` or as far as a line or a point can?"""
    offset = place[1] - place[0]
    both = torch.cat([axes[0].mT, axes[1].mT], -2)  # ..., 4 directions, 2
    reach = [((both @ axes[i]).abs() @ half[i][..., None])[..., 0] + radius[i][..., None] for i in (0, 1)]
    extent = reach[0] + reach[1]
    apart = ((both @ offset[..., None])[..., 0].abs() - extent).amax(-1)  # separating axes
    for one, two, sign in ((0, 1, 1), (1, 0, -1)):  # a circle against a rectangle: its nearest point
        local = (axes[one].mT @ (sign * offset)[..., None])[..., 0]
        distance = _outside(local, half[one]) - radius[two] - radius[one]
        circle = (half[two] == 0).all(-1)
        apart = torch.where(circle, torch.maximum(apart, distance), apart)
    return apart <= -TOUCH
