"""What the families of rendered 3-D scenes have in common: a family only says how its scenes are drawn.

A family is a small file: a table of named variants (`Rules`), `draw` (the random choices) and `world` (what they look
like). Here are the dice, the rejection of scenes, the controlled shifts that every family shares, and the way from a
rendered picture to a `Scene`.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from objectscape.data.boxes import boxes_from_segments
from objectscape.data.synthetic.base import Draws, SyntheticScenes
from objectscape.data.synthetic.scene3d import (
    SHAPES,
    TEXTURES,
    Camera,
    Lights,
    Material,
    Planes,
    World,
    render,
    turn,
    visible,
)
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

COUNTS = {"train": 50_000, "val": 320, "test": 320}
"""Scenes of a split unless `count` says otherwise."""

QUALITIES: Mapping[str, Mapping[str, Any]] = {
    "fast": {"antialias": 1, "shadows": "hard", "reflections": False},
    "normal": {"antialias": 2, "shadows": "hard", "reflections": True},
    "high": {"antialias": 3, "shadows": "soft", "shadow_samples": 4, "reflections": True},
}
"""{quality: options of `scene3d.render`}"""

TEXTURED = tuple(TEXTURES.index(name) for name in ("checker", "stripes", "noise", "marble"))
"""What the shift `textures` paints on objects."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a variant of a family changes. The shifts that every family knows; families add their own fields."""

    text: str
    """One line for `objectscape data info` and the table of `objectscape evaluate --shifts`."""
    more: int = 0
    """Scenes have 1 to `more` objects beyond the usual most."""
    textures: bool = False
    """Objects get a random texture: their color, and a darker shade of it."""
    lighting: bool = False
    """One strong lamp, warm or cold, from any side at 20 to 50 degrees, and half the ambient light."""
    occluders: int = 0
    """Dark posts that stand between the camera and the scene; they belong to the background."""
    zoom: float = 1.0
    """The picture shows this part of the usual height."""


class Dice:
    """Random numbers for some rows of a batch, the same for a row whatever the other rows are.

    Every call draws for all `n` rows. So a scene that is drawn again does not depend on how many others were, and a
    float that rounds differently on another machine cannot change the scenes after it.
    """

    def __init__(self, n: int, generator: torch.Generator, rows: Tensor | None = None) -> None:
        self.n, self.generator = n, generator
        self.rows = torch.arange(n) if rows is None else rows

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(rows, *shape) float32 in [low, high)."""
        return torch.rand(self.n, *shape, generator=self.generator)[self.rows] * (high - low) + low

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """(rows, *shape) int64 in low..high, both included."""
        return torch.randint(low, high + 1, (self.n, *shape), generator=self.generator)[self.rows]

    def choice(self, values: Tensor, *shape: int) -> Tensor:
        """(rows, *shape, ...) elements of the first axis of `values`."""
        return values[self.integers(0, len(values) - 1, *shape)]

    def turn(self, *shape: int) -> Tensor:
        """(rows, *shape) angles in [0, 2 pi)."""
        return self.uniform(0, 2 * math.pi, *shape)


def redraw(
    n: int, generator: torch.Generator, attempt: Callable[[Dice], tuple[Draws, Tensor]], *, most: int = 20_000
) -> Draws:
    """Draw n scenes, and draw those again that break a rule, until none does.

    Args:
        n: scenes.
        generator: on the CPU.
        attempt: from dice for some rows to their draws and (rows,) bool: does the scene keep the rules?
        most: scenes tried since the last success after which it is an error. So are `most` / 10 rounds since then, and
            four for each round before, because few scenes are left by then and a round tries only them.

    Raises:
        ValueError: if some scene cannot be drawn.
    """
    rows = torch.arange(n)
    draws: Draws = {}
    rounds = success = failed = 0
    while True:
        tried, good = attempt(Dice(n, generator, rows))
        if not draws:
            draws = {name: values.clone() for name, values in tried.items()}
        else:
            for name, values in tried.items():
                draws[name][rows] = values
        rounds += 1
        rows = rows[~good]
        if not len(rows):
            return draws
        success, failed = (rounds, 0) if good.any() else (success, failed + len(rows))
        if failed >= most or rounds - success >= most / 10 + 4 * success:
            raise ValueError(
                f"{len(rows)} of {n} scenes cannot be drawn: they broke a rule in each of {rounds} rounds. Ask for "
                "fewer or smaller objects, less distance between them, more room, or a smaller least area"
            )


def place(
    candidates: Tensor, radius: Tensor, taken: Tensor, count: Tensor, *, gap: float, axes: Tensor, margin: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Put objects on the ground one after the other, each at its first candidate that keeps its distance.

    Args:
        candidates: (n, N, tries, 2) places to try.
        radius: (n, N) that an object keeps free around it while it is placed.
        taken: (n, N) radius that it takes once it is there.
        count: (n,) objects to place; the others may lie anywhere.
        gap: least distance between two such circles.
        axes: (n, 2, 2) two horizontal directions of length 1.
        margin: least distance between two centers along each of the two.

    Returns:
        (n, N, 2) places, and (n,) whether every object found one.
    """
    n, most = candidates.shape[:2]
    spots, good = candidates[:, :, 0].clone(), torch.ones(n, dtype=torch.bool)
    for i in range(1, most):  # each depends on those before
        offset = candidates[:, i, :, None] - spots[:, None, :i]  # n, tries, i, 2
        reach = radius[:, i, None] + taken[:, :i] + gap  # n, i
        free = offset.norm(dim=-1) >= reach[:, None]
        if margin:
            along = torch.einsum("ntic,nac->ntia", offset, axes)
            free &= (along.abs() >= margin).all(-1)
        fits = free.all(-1)  # n, tries
        first = fits.float().argmax(1)
        spots[:, i] = candidates[torch.arange(n), i, first]
        good &= fits.any(1) | (count <= i)
    return spots, good


def seen_enough(
    world: World, good: Tensor, count: Tensor, frame: tuple[int, int], pixels: int, *, step: int = 4
) -> Tensor:
    """(n,) bool: which of the scenes that are `good` so far show at least `pixels` of each of their objects.

    Args:
        world: n scenes with the camera of the whole frame.
        good: (n,) bool. The others are not looked at, and stay bad.
        count: (n,) objects of each scene, first in their rows.
        frame: (H, W) of the frame that the rule counts pixels of.
        pixels: least area of an object.
        step: one ray for so many pixels each way.
    """
    rows = good.nonzero().flatten()
    if len(rows):
        size = (frame[0] // step, frame[1] // step)
        area = visible(world.map(lambda t: t[rows]), size).pixels * step**2
        absent = torch.arange(area.shape[1]) >= count[rows, None]
        good = good.clone()
        good[rows] = ((area >= pixels) | absent).all(1)
    return good


@dataclass(frozen=True)
class Solids:
    """How the renderer's solids stand on the ground, for a list of names: fields with an axis of codes."""

    shape: Tensor
    """(S,) index into `scene3d.SHAPES`"""
    shrink: Tensor
    """(S,) factor that brings the corners of a base into the circle of the half size"""
    height: Tensor
    """(S,) height of the middle above the ground, in (shrunk) half sizes"""
    tilt: Tensor
    """(S, 3, 3) rotation that puts the solid on a face"""

    @classmethod
    def of(cls, names: Sequence[str]) -> Solids:
        """`names`: shapes of the renderer, or "cube"."""
        on_face = {"octahedron": 1 / math.sqrt(3), "icosahedron": (1 + math.sqrt(5)) / 2 / math.sqrt(3)}
        square = ("cube", "pyramid", "prism")
        # turns the face whose normal is (1, 1, 1) down
        down = turn(torch.tensor(math.pi - math.atan(math.sqrt(2))), "y") @ turn(torch.tensor(-math.pi / 4))
        return cls(
            shape=torch.tensor([SHAPES.index("box" if name == "cube" else name) for name in names]),
            shrink=torch.tensor([math.sqrt(0.5) if name in square else 1.0 for name in names]),
            height=torch.tensor([on_face.get(name, 1.0) for name in names]),
            tilt=torch.stack([down if name in on_face else torch.eye(3) for name in names]),
        )


class RenderedScenes(SyntheticScenes):
    """Base of the families. A subclass sets `NAME`, `VARIANTS`, `FACTORS`, and implements `draw_scenes` and `world`.

    Scene i is the same on every device up to rounding in its pixels. `draw_scenes` returns at least `count` (n,), the
    number of objects, which come first in their rows, and a tensor (n, N, ...) for each name in `FACTORS`.

    Args:
        split: "train", "val" or "test".
        count: scenes in this split; None for 50 000 (train) or 320 (val, test).
        seed: of the stream.
        variant: one of `VARIANTS`.
        size: (H, W) of the picture in pixels.
        objects: fewest and most objects in a scene, before the variant's `more`.
        quality: of the shading: "fast", "normal" or "high"; see `QUALITIES`.
        views: pictures of a scene, from one camera each, which get a time axis; 0: one, without that axis.
        frames: pictures of a scene while it changes, which get a time axis; 0: one, without that axis. For families
            whose `paint` moves the objects.

    Attributes:
        objects: fewest and most objects in a scene of this variant.
        rows: N, the rows of `boxes`, `present`, `labels` and `factors`.
    """

    NAME: ClassVar[str]
    VARIANTS: ClassVar[Mapping[str, Any]]
    """{variant: Rules}; the first one is the family itself, the others are shifts of it."""
    FACTORS: ClassVar[Mapping[str, str]]
    """{name: meaning} of what `draw_scenes` says of each object, besides `pixel_coords` and `visibility`."""
    SOURCE: ClassVar[str]
    NOTES: ClassVar[str] = "A look-alike, rendered by objectscape: never compare scores with published ones."

    chunk = 320  # a validation or test split; drawing costs more here, because it looks what is visible

    rules: Any

    def __init__(
        self,
        *,
        split: str,
        count: int | None,
        seed: int,
        variant: str,
        size: tuple[int, int],
        objects: tuple[int, int],
        quality: str,
        views: int = 0,
        frames: int = 0,
    ) -> None:
        if variant not in self.VARIANTS:
            raise ValueError(f"variant={variant!r}: {unknown('variant', variant, self.VARIANTS)}")
        if quality not in QUALITIES:
            raise ValueError(f"quality={quality!r}: {unknown('quality', quality, QUALITIES)}")
        if min(size) < 16:
            raise ValueError(f"image_size={size}; scenes need at least 16 pixels each way")
        super().__init__(split=split, count=count, seed=seed, published=COUNTS)
        self.variant, self.size, self.quality, self.views, self.frames = variant, size, quality, views, frames
        self.rules = self.rules_of(variant)
        fewest, most = objects
        self.objects = (most + 1, most + self.rules.more) if self.rules.more else (fewest, most)
        self.rows = most = max(self.objects[1], 1)  # an empty room has a row, too, which is never present
        first = next(iter(self.VARIANTS))
        time = f"{views or frames}, " if views or frames else ""
        height, width = size
        self.spec = Spec(
            name=self.NAME if variant == first else f"{self.NAME}-{variant}",
            image_size=size,
            splits={**COUNTS, split: self.count},
            fields={
                "image": f"({time}3, {height}, {width}) uint8 RGB",
                "segments": f"({time}{height}, {width}) int8: 0 background, 1..{most} objects",
                "boxes": f"({time}{most}, 4) float32 pixels x0 y0 x1 y1 of the visible part, exclusive",
                "present": f"({time}{most},) bool: owns a pixel of the image",
                "labels": f"({time}{most},) int64: shape, 0..",
                "factors": "; ".join(
                    f"{name}: {text}"
                    for name, text in {
                        **self.factors,
                        "pixel_coords": "column, row (pixels) and depth (along the optical axis) of the middle",
                        "visibility": "share of the object's own pixels in the picture that nothing hides",
                    }.items()
                ),
            }
            | ({"actions": f"({views}, 7) camera: x, y, z, sin yaw, cos yaw, sin pitch, cos pitch"} if views else {}),
            max_objects=most,
            license="Apache-2.0",
            source=self.SOURCE,
            notes=f"variant={variant}: {self.rules.text}. {self.NOTES}",
        )

    def rules_of(self, variant: str) -> Any:
        """The `Rules` of a variant; families with options that change them override this."""
        return self.VARIANTS[variant]

    @property
    def factors(self) -> Mapping[str, str]:
        """`FACTORS`; families with options that add to them override this."""
        return self.FACTORS

    @abstractmethod
    def draw_scenes(self, n: int, generator: torch.Generator) -> Draws:
        """The choices that define n scenes, without the shifts that every family shares."""

    @abstractmethod
    def world(self, draws: Draws) -> World:
        """What the choices look like, on the CPU, before the shifts that every family shares."""

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """See `SyntheticScenes.draw`. What a shared shift needs comes last, so that the scenes stay the same."""
        try:
            draws = self.draw_scenes(n, generator)
        except ValueError as error:
            fewest, most = self.objects
            raise ValueError(f"{self.spec.name} with {fewest} to {most} objects in a scene: {error}") from None
        dice = Dice(n, generator)
        if self.rules.textures:
            most = self.rows
            draws["texture"] = dice.choice(torch.tensor(TEXTURED), most)
            draws["texture_frequency"] = dice.uniform(1.0, 2.5, most)
            draws["texture_offset"] = dice.uniform(0, 10, most, 3)
        if self.rules.lighting:
            draws["lamp_azimuth"], draws["lamp_warmth"] = dice.turn(), dice.uniform(-1, 1)
            draws["lamp_elevation"] = dice.uniform(math.radians(20), math.radians(50))
        if self.rules.occluders:
            draws["posts"] = dice.uniform(-0.8, 0.8, self.rules.occluders)
        if self.rules.zoom != 1:
            draws["zoom"] = torch.full((n,), self.rules.zoom)
        return draws

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """See `SyntheticScenes.paint`."""
        world = shifted(self.world(draws), draws).to(device)
        picture = render(world, self.size, **QUALITIES[self.quality])
        placed = torch.arange(self.rows) < draws["count"][:, None]  # n, N
        values = {name: draws[name] for name in self.factors} | {"placed": placed, "middle": world.objects.position}
        values = {name: value.to(device) for name, value in values.items()}
        if self.views:
            values = {
                name: value.unsqueeze(1).expand(-1, self.views, *value.shape[1:]) for name, value in values.items()
            }
        placed, middle = values.pop("placed"), values.pop("middle")  # n, [V,] N
        place, depth = world.camera.project(middle, self.size)
        values |= {"pixel_coords": torch.cat([place, depth[..., None]], -1), "visibility": picture.visibility}
        factors = {name: _where(placed, value) for name, value in values.items()}
        _, present = boxes_from_segments(picture.segments, self.rows)
        return Scene(
            image=picture.image,
            segments=picture.segments.to(torch.int8),
            boxes=picture.boxes,
            present=present,
            labels=(values["shape"].long() - 1) * placed,
            factors=factors,
            actions=camera_poses(world.camera) if self.views else None,
        )


def _where(placed: Tensor, value: Tensor) -> Tensor:
    """`value` (n, [V,] N, ...), zero for objects that are not there; codes as bytes, as in the published files."""
    value = value.float() if value.is_floating_point() else value.to(torch.uint8)
    return value * placed.view(*placed.shape, *(1,) * (value.ndim - placed.ndim))


def camera_poses(camera: Camera) -> Tensor:
    """(n, V, 7) x, y, z, sin yaw, cos yaw, sin pitch, cos pitch of cameras (n, V), as `GQN` has them.

    Yaw is the heading of the optical axis, counterclockwise from the x axis; pitch its angle above the horizon.
    """
    _, _, forward = camera.axes
    level = forward[..., :2].norm(dim=-1, keepdim=True)
    heading = forward[..., :2] / level.clamp_min(1e-9)
    return torch.cat([camera.position, heading[..., 1:], heading[..., :1], forward[..., 2:], level], -1)


def shifted(world: World, draws: Draws) -> World:
    """The world under the shared shifts that `draws` holds choices for; see `RenderedScenes.draw`."""
    camera = world.camera
    if "zoom" in draws:
        zoom = draws["zoom"].view(-1, *(1,) * (camera.position.ndim - 2))
        angle = 2 * ((camera.field_of_view / 2).tan() * zoom).atan()
        camera = replace(camera, field_of_view=angle, shift=camera.shift / zoom[..., None])
        world = replace(world, camera=camera)
    if "texture" in draws:
        material = world.objects.material
        size = world.objects.scale.amax(-1)
        material = replace(
            material,
            second=material.color * 0.25,
            texture=draws["texture"],
            frequency=draws["texture_frequency"] / size,
            offset=draws["texture_offset"],
        )
        world = replace(world, objects=replace(world.objects, material=material))
    if "lamp_azimuth" in draws:
        azimuth, elevation, warmth = (draws[f"lamp_{name}"] for name in ("azimuth", "elevation", "warmth"))
        level = elevation.cos()
        way = torch.stack([level * azimuth.cos(), level * azimuth.sin(), elevation.sin()], -1)
        far = 2.5 * world.lights.position.norm(dim=-1).amin(1)  # far enough to light all of the scene alike
        color = 1.2 * (1 + 0.35 * warmth[:, None] * torch.tensor([1.0, 0.0, -1.0]))
        lights = Lights(position=(way * far[:, None])[:, None], color=color[:, None], size=1.0)
        world = replace(world, lights=lights, ambient=world.ambient * 0.5)
    if "posts" in draws:
        world = replace(world, planes=join(world.planes, _posts(camera, draws["posts"])))
    return world


def _posts(camera: Camera, columns: Tensor) -> Planes:
    """Upright dark boards (n, P) that face cameras (n,), at `columns` in half picture heights from the middle."""
    right, _, forward = camera.frame()
    across, _, ahead = camera.axes
    depth = 0.4 * (camera.target - camera.position).norm(dim=-1)[:, None, None]
    point = camera.position[:, None] + depth * (forward[:, None] + columns[..., None] * right[:, None])
    width = (0.07 * depth[..., 0] * right.norm(dim=-1)[:, None]).expand_as(columns)
    color = torch.tensor([0.012, 0.012, 0.015]).expand(*columns.shape, 3)
    return Planes(
        point=point,
        normal=-ahead[:, None],
        tangent=across[:, None].expand_as(point),
        extent=torch.stack([width, 100 * width], -1),
        material=Material(color=color, roughness=1.0),
    )


def join(one: Any, two: Any) -> Any:
    """Two dataclasses of tensors (n, ...), such as Planes or Objects, behind each other along the second axis."""
    parts = {f.name: (getattr(one, f.name), getattr(two, f.name)) for f in dataclasses.fields(one)}
    return replace(
        one,
        **{name: torch.cat(pair, 1) if isinstance(pair[0], Tensor) else join(*pair) for name, pair in parts.items()},
    )
