"""Moving sprites: clips of two or three flat shapes that fly straight, bounce off walls, and may push each other.

`moving_sprites` is the name of a data set of Emami et al.'s world model (SSWM) of which nothing was published. These
are ours, in the look of the author's fork of Spriteworld; numbers compare with nobody else's. What a model cannot know
is the angle at which a sprite leaves a wall. The same simulator, started from the true state, is the best model there
can be: `SpriteSimulator.predict` gives the upper end of every table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from objectscape.data.boxes import boxes_from_segments
from objectscape.data.synthetic.base import Draws, SyntheticScenes
from objectscape.scene import Decomposition, Scene, Spec

COUNTS = {"train": 50_000, "val": 1_000, "test": 1_000}
SHAPES = ("square", "circle", "triangle")
SHAPE_ODDS = {"square": 0.55, "circle": 0.25, "triangle": 0.20}
HUES, HUE_ODDS = (0.9, 0.55, 0.27), (0.4, 0.25, 0.35)
SATURATION, LEAST_VALUE = 0.6, 0.9
ACTION_SIZE = 4
MOTION_SCALE = 0.5
"""How far an action moves a sprite, in picture widths, if its move goes from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """The laws of motion. Places are in picture widths, rightwards and downwards; velocities per frame.

    Args:
        noise: standard deviation of what is added to a velocity in every frame.
        bounce: a sprite leaves a wall at a "random" angle, up to 60 degrees off the mirrored one, or "mirror".
        collisions: sprites push each other like discs of equal mass.
        radius: of these discs.
        edge: centers stay this far from the picture's edge.
        actions: sprites stand still, and an action (click x, click y, move x, move y), each 0..1, moves the topmost one
            under the click by half of (move - 0.5); `noise` is then added to what it is moved by.
    """

    noise: float = 0.0
    bounce: Literal["random", "mirror"] = "random"
    collisions: bool = False
    radius: float = 0.1
    edge: float = 0.1
    actions: bool = False

    def step(
        self, place: Tensor, velocity: Tensor, exists: Tensor, generator: torch.Generator | None, action: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The next frame of (n, N, 2) places and velocities; `exists` (n, N), action (n, 4) or None."""
        if self.actions:
            return self._moved(place, exists, generator, action), velocity
        if self.noise:
            velocity = velocity + self.noise * torch.randn(velocity.shape, generator=generator)
        if self.collisions:
            velocity = self._collided(place, velocity, exists)
        place = place + velocity
        for axis in (0, 1):
            low, high = place[..., axis] < self.edge, place[..., axis] > 1 - self.edge
            mirrored = 2 * torch.where(low, self.edge, 1 - self.edge) - place[..., axis]
            hit = low | high
            place = _with(place, axis, torch.where(hit, mirrored, place[..., axis]))
            speed = velocity.norm(dim=-1)
            inward = torch.where(low, velocity[..., axis].abs(), -velocity[..., axis].abs())
            angle = torch.zeros_like(speed)
            if self.bounce == "random":
                angle = (torch.rand(speed.shape, generator=generator) - 0.5) * (2 * math.pi / 3)
            angle = angle + torch.atan2(velocity[..., 1 - axis], inward)  # from the axis, the mirrored direction
            along, across = speed * angle.cos(), speed * angle.sin()
            along = torch.where(low, along.abs(), -along.abs())  # never back into the wall
            velocity = torch.where(
                hit[..., None], torch.stack([along, across] if axis == 0 else [across, along], -1), velocity
            )
        return place, velocity

    def _moved(self, place: Tensor, exists: Tensor, generator: torch.Generator | None, action: Tensor | None) -> Tensor:
        assert action is not None
        click, move = action[:, :2], MOTION_SCALE * (action[:, 2:] - 0.5)
        if self.noise:
            move = move + MOTION_SCALE * self.noise * torch.randn(move.shape, generator=generator)
        under = ((place - click[:, None]).abs().amax(-1) <= self.radius) & exists  # (n, N)
        order = torch.arange(1, place.shape[1] + 1)
        topmost = (under * order).argmax(1)
        chosen = under.any(1)[:, None] & (torch.arange(place.shape[1]) == topmost[:, None])
        return torch.where(chosen[..., None], (place + move[:, None]).clamp(0, 1), place)

    def _collided(self, place: Tensor, velocity: Tensor, exists: Tensor) -> Tensor:
        """Elastic pushes between discs that meet and approach each other."""
        apart = place[:, :, None] - place[:, None]  # (n, N, N, 2)
        distance = apart.norm(dim=-1).clamp_min(1e-6)
        normal = apart / distance[..., None]
        approach = ((velocity[:, :, None] - velocity[:, None]) * normal).sum(-1)
        both = exists[:, :, None] & exists[:, None] & ~torch.eye(place.shape[1], dtype=torch.bool)
        meet = both & (distance < 2 * self.radius) & (approach < 0)
        return velocity - (torch.where(meet, approach, 0)[..., None] * normal).sum(2)

    def run(
        self,
        place: Tensor,
        velocity: Tensor,
        exists: Tensor,
        *,
        steps: int,
        generator: torch.Generator | None = None,
        actions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`steps` frames after the given one: places and velocities (n, steps, N, 2)."""
        places, velocities = [], []
        for t in range(steps):
            told = None if actions is None else actions[:, t]
            place, velocity = self.step(place, velocity, exists, generator, told)
            places.append(place)
            velocities.append(velocity)
        return torch.stack(places, 1), torch.stack(velocities, 1)


class MovingSprites(SyntheticScenes):
    """Clips of sprites.

    Number of sprites, their shapes and hues, the gray background, places and velocities are drawn as the sheet of the
    data set says; later sprites hide earlier ones. Factors: `x`, `y` center and `vx`, `vy` change to the next frame in
    picture widths (rightwards, downwards), `shape` 1 square, 2 circle, 3 triangle, `color` RGB in [0, 1], `visibility`
    1 for every sprite that there is; `background` gray level in [0, 1], the same in every row. `labels` are shape - 1.

    Args:
        split: "train", "val" or "test".
        count: clips in this split; None for 50 000 (train) or 1 000 (val, test).
        seed: of the stream.
        image_size: side of the picture in pixels, at least 16.
        frames: T, frames of a clip.
        min_objects: fewest sprites.
        max_objects: most sprites, at most 8.
        shapes: which there are, of "square", "circle" and "triangle".
        background: darkest and brightest gray level.
        edge: see `Motion`.
        scale: side of a square in picture widths; all shapes have its area.
        min_speed: slowest sprite, picture widths per frame.
        max_speed: fastest sprite.
        noise: see `Motion`; 0.01 is the sheet's, with which the mean of perfect futures is soon worse than an empty
            picture. With `actions` 0.05 is Spriteworld's.
        bounce: see `Motion`.
        collisions: see `Motion`.
        actions: see `Motion`. Clicks hit a random sprite.
    """

    chunk = 256

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        image_size: int = 64,
        frames: int = 10,
        min_objects: int = 2,
        max_objects: int = 3,
        shapes: Sequence[str] = SHAPES,
        background: Sequence[int] = (0, 199),
        edge: float = 0.1,
        scale: float = 0.2,
        min_speed: float = 0.02,
        max_speed: float = 0.06,
        noise: float = 0.0,
        bounce: Literal["random", "mirror"] = "random",
        collisions: bool = False,
        actions: bool = False,
    ) -> None:
        if image_size < 16:
            raise ValueError(f"image_size={image_size}; sprites need at least 16 pixels")
        if not 1 <= min_objects <= max_objects <= 8:
            raise ValueError(f"min_objects={min_objects}, max_objects={max_objects}; need 1 <= min <= max <= 8")
        if frames < 1:
            raise ValueError(f"frames={frames}; a clip has at least 1")
        if not 0.05 <= scale <= 0.4:
            raise ValueError(f"scale={scale}; a sprite's side is 0.05 to 0.4 of the picture")
        if not 0 <= min_speed <= max_speed <= 0.2:
            raise ValueError(f"min_speed={min_speed}, max_speed={max_speed}; need 0 <= min <= max <= 0.2 per frame")
        if not shapes or set(shapes) - set(SHAPES):
            raise ValueError(f"shapes={list(shapes)}; choose some of {', '.join(SHAPES)}")
        if len(background) != 2 or not 0 <= background[0] <= background[1] <= 255:
            raise ValueError(f"background={list(background)}; expected the darkest and the brightest gray, 0 to 255")
        if not 0 <= edge <= 0.4:
            raise ValueError(f"edge={edge}; a wall is 0 to 0.4 of the picture from its edge")
        if noise < 0:
            raise ValueError(f"noise={noise}; a standard deviation is 0 or more")
        if bounce not in ("random", "mirror"):
            raise ValueError(f"bounce={bounce!r}; choose 'random' or 'mirror'")
        super().__init__(split=split, count=count, seed=seed, published=COUNTS)
        self.image_size, self.frames, self.scale = image_size, frames, scale
        self.min_objects, self.max_objects = min_objects, max_objects
        self.min_speed, self.max_speed = min_speed, max_speed
        self.shapes, self.background = tuple(shapes), tuple(background)
        self.motion = Motion(
            noise=noise,
            bounce=bounce,
            collisions=collisions,
            radius=scale / math.sqrt(math.pi),
            edge=edge,
            actions=actions,
        )
        most, t, side = max_objects, frames, image_size
        fields = {
            "image": f"({t}, 3, {side}, {side}) uint8 RGB",
            "segments": f"({t}, {side}, {side}) int8: 0 background, 1..{most} sprites",
            "boxes": f"({t}, {most}, 4) float32 pixels x0 y0 x1 y1 of the visible part, exclusive",
            "present": f"({t}, {most}) bool: has a visible pixel",
            "labels": f"({t}, {most}) int64: 0 square, 1 circle, 2 triangle",
            "factors": f"x, y, vx, vy in picture widths, shape 1..3, visibility 0 or 1, background: ({t}, {most}) "
            f"float32; color ({t}, {most}, 3) float32 RGB",
        }
        if actions:
            fields["actions"] = f"({t}, 4) float32 click x, click y, move x, move y in [0, 1]; action t leads to t + 1"
        self.spec = Spec(
            name="select_move"
            if actions
            else "bouncing_balls"
            if collisions
            else "moving_sprites",  # as configurations
            image_size=(image_size, image_size),
            splits={**COUNTS, split: self.count},
            fields=fields,
            max_objects=most,
            frames=frames,
            actions=ACTION_SIZE if actions else None,
            license="Apache-2.0",
            source="objectscape's own generator",
            notes="The published data set of this name was never available; numbers compare with nobody else's.",
        )

    @property
    def simulator(self) -> SpriteSimulator:
        """The world itself as a model that predicts."""
        return SpriteSimulator(motion=self.motion, scale=self.scale)

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """See `SyntheticScenes.draw`; places and velocities are those of all frames, (n, T, N, 2)."""
        most = self.max_objects

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand((n, *shape), generator=generator)

        def choice(odds: Sequence[float], *shape: int) -> Tensor:
            edges = torch.tensor(odds).cumsum(0)
            return torch.bucketize(edges[-1] * torch.rand((n, *shape), generator=generator), edges[:-1])

        objects = torch.randint(self.min_objects, most + 1, (n,), generator=generator)
        exists, edge = torch.arange(most) < objects[:, None], self.motion.edge
        numbers = torch.tensor([SHAPES.index(name) for name in self.shapes])
        shape = numbers[choice([SHAPE_ODDS[name] for name in self.shapes], most)]
        hue = choice(HUE_ODDS, most)
        value = uniform(LEAST_VALUE, 1, most)
        background = torch.randint(self.background[0], self.background[1] + 1, (n,), generator=generator)
        place = uniform(edge, 1 - edge, most, 2)
        for _ in range(20):  # sprites start apart, if there is room
            near = (torch.cdist(place, place) < self.scale) & exists[:, :, None] & exists[:, None]
            near &= ~torch.eye(most, dtype=torch.bool)
            again = near.triu().any(1)[..., None]
            if not again.any():
                break
            place = torch.where(again, uniform(edge, 1 - edge, most, 2), place)
        speed, angle = uniform(self.min_speed, self.max_speed, most), uniform(0, 2 * math.pi, most)
        velocity = speed[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
        draws = {
            "exists": exists,
            "shape": shape,
            "color": _hsv(torch.tensor(HUES)[hue], SATURATION, value),
            "background": background,
        }
        if self.motion.actions:
            return draws | self._acted(place, exists, n, generator)
        places, velocities = self.motion.run(place, velocity, exists, steps=self.frames, generator=generator)
        draws["place"] = torch.cat([place[:, None], places[:, :-1]], 1)
        draws["velocity"] = torch.cat([velocity[:, None], velocities[:, :-1]], 1)
        return draws

    def _acted(self, place: Tensor, exists: Tensor, n: int, generator: torch.Generator) -> Draws:
        """Places and actions of clips in which random sprites are moved."""
        places, actions = [place], []
        for _ in range(self.frames):
            target = (torch.rand(n, place.shape[1], generator=generator) * exists).argmax(1)
            inside = (torch.rand(n, 2, generator=generator) - 0.5) * self.scale
            click = place[torch.arange(n), target] + inside
            action = torch.cat([click, torch.rand(n, 2, generator=generator)], 1)
            place, _ = self.motion.step(place, torch.zeros_like(place), exists, generator, action)
            places.append(place)
            actions.append(action)
        together = torch.stack(places[:-1], 1)
        return {"place": together, "velocity": torch.zeros_like(together), "actions": torch.stack(actions, 1)}

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """See `SyntheticScenes.paint`."""
        draws = {name: values.to(device) for name, values in draws.items()}
        place, frames = draws["place"], draws["place"].shape[1]
        image, segments = paint_sprites(
            place, draws["shape"], draws["exists"], draws["color"], draws["background"], self.image_size, self.scale
        )
        boxes, present = boxes_from_segments(segments.flatten(0, 1), self.max_objects)
        exists = draws["exists"][:, None].expand(-1, frames, -1)
        shape = draws["shape"][:, None].expand(-1, frames, -1)
        velocity = draws["velocity"]
        factors = {
            "x": place[..., 0] * exists,
            "y": place[..., 1] * exists,
            "vx": velocity[..., 0] * exists,
            "vy": velocity[..., 1] * exists,
            "shape": (shape + 1) * exists.float(),
            "visibility": exists.float(),
            "background": (draws["background"][:, None, None] / 255).expand_as(exists).float(),
            "color": draws["color"][:, None] / 255 * exists[..., None].float(),
        }
        present = present.unflatten(0, (-1, frames))
        return Scene(
            image=image,
            segments=segments,
            boxes=boxes.unflatten(0, (-1, frames)),
            present=present,
            labels=shape * present,
            factors=factors,
            actions=draws.get("actions"),
        )


@dataclass(frozen=True, kw_only=True)
class SpriteSimulator:
    """The world of moving sprites, started from the true state of a clip's last frame."""

    hints = ("factors",)  # ground truth that it is told

    motion: Motion
    scale: float

    def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Decomposition:
        """Futures (B, S, T, ...) of clips with factors; slot 0 is the background. `actions` as models take them.

        Raises:
            ValueError: without the factors of moving sprites, or without actions in a world that is moved by them.
        """
        factors = context.factors
        if factors is None or not {"x", "y", "vx", "vy", "color", "background"} <= set(factors):
            raise ValueError("the simulator starts from the true state, but these clips have no factors of sprites")
        if self.motion.actions and actions is None:
            raise ValueError(f"sprites that stand still are moved by actions (B, {steps}, {ACTION_SIZE}); give them")
        last = {name: values[:, -1].cpu() for name, values in factors.items()}
        place, velocity = torch.stack([last["x"], last["y"]], -1), torch.stack([last["vx"], last["vy"]], -1)
        exists = last["visibility"] > 0
        if actions is not None:
            actions = actions.cpu() if actions.ndim == 4 else actions.cpu()[:, None].expand(-1, samples, -1, -1)
            actions = actions.flatten(0, 1)
        rows = [x.repeat_interleave(samples, 0) for x in (place, velocity, exists)]
        places, _ = self.motion.run(*rows, steps=steps, actions=actions)  # (B*S, T, N, 2)
        shape, color = (last["shape"].long() - 1).clamp_min(0), (last["color"] * 255).round().to(torch.uint8)
        gray = (last["background"][:, 0] * 255).round().long()
        size, device = context.image.shape[-1], context.image.device
        described = (x.repeat_interleave(samples, 0).to(device) for x in (shape, exists, color, gray))
        shape, exists, color, gray = described
        places = places.to(device)
        image, segments = paint_sprites(places, shape, exists, color, gray, size, self.scale)
        masks = torch.nn.functional.one_hot(segments.long(), color.shape[1] + 1).movedim(-1, 2)  # (B*S, T, K, H, W)
        flat = torch.cat([gray[:, None, None].expand(-1, 1, 3), color.long()], 1) / 255  # (B*S, K, 3)
        flat = flat[:, None, :, :, None, None].expand(-1, steps, -1, -1, size, size)
        slots = torch.cat([torch.zeros_like(places[:, :, :1]), places], 2)
        parts = (image.float() / 255, masks.float().unsqueeze(3), flat, slots)
        recon, masks, components, slots = (x.unflatten(0, (-1, samples)) for x in parts)
        return Decomposition(recon=recon, masks=masks, components=components, slots=slots)


def paint_sprites(
    place: Tensor, shape: Tensor, exists: Tensor, color: Tensor, background: Tensor, size: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Clips from what is in them: anti-aliased pictures and sharp segments.

    Args:
        place: (n, T, N, 2) centers in picture widths, rightwards and downwards.
        shape: (n, N) 0 square, 1 circle, 2 triangle.
        exists: (n, N) bool.
        color: (n, N, 3) uint8.
        background: (n,) gray level 0..255.
        size: side in pixels.
        scale: side of a square in picture widths.

    Returns:
        image (n, T, 3, H, W) uint8 and segments (n, T, H, W) int8.
    """
    clips, frames, sprites = place.shape[:3]
    span = (torch.arange(size, device=place.device) + 0.5) / size
    x = (span - place[..., :1]).unsqueeze(-2)  # (n, T, N, 1, W)
    y = (span - place[..., 1:]).unsqueeze(-1)  # (n, T, N, H, 1)
    image = (background / 255)[:, None, None, None, None].expand(-1, frames, 3, size, size).float()
    segments = torch.zeros(clips, frames, size, size, dtype=torch.int8, device=place.device)
    circle, corner = scale / math.sqrt(math.pi), scale * math.sqrt(4 / (3 * math.sqrt(3)))  # radii of equal area
    for index in range(sprites):  # a later sprite hides what is there
        right, down = x[:, :, index], y[:, :, index]
        kind = shape[:, index]
        # Distance inside the outline in picture widths; each shape is computed for the clips that show it.
        inside = torch.empty(clips, frames, size, size, device=place.device)
        for number in range(len(SHAPES)):
            rows = kind == number
            if not rows.any():
                continue
            r, d = right[rows], down[rows]
            if number == 0:
                inside[rows] = torch.minimum(scale / 2 - r.abs(), scale / 2 - d.abs())
            elif number == 1:
                inside[rows] = circle - (r.square() + d.square()).sqrt()
            else:  # tip up
                slope = corner / 2 - (math.sqrt(3) / 2) * r.abs() + 0.5 * d
                inside[rows] = torch.minimum(slope, corner / 2 - d)
        inside[~exists[:, index]] = -1
        cover = (inside * size + 0.5).clamp_(0, 1).unsqueeze(2)
        image = torch.lerp(image, (color[:, index].float() / 255)[:, None, :, None, None], cover)
        segments.masked_fill_(inside > 0, index + 1)
    return (image * 255).round_().to(torch.uint8), segments


def _with(place: Tensor, axis: int, values: Tensor) -> Tensor:
    """`place` with one coordinate replaced."""
    return torch.stack([values, place[..., 1]] if axis == 0 else [place[..., 0], values], -1)


def _hsv(hue: Tensor, saturation: float, value: Tensor) -> Tensor:
    """(...,) hue and value -> (..., 3) uint8 RGB, truncated as Spriteworld does."""
    sector = (hue[..., None] * 6 + torch.tensor([5.0, 3.0, 1.0])) % 6
    rgb = value[..., None] * (1 - saturation * torch.minimum(sector, 4 - sector).clamp(0, 1))
    return (255 * rgb).to(torch.uint8)
