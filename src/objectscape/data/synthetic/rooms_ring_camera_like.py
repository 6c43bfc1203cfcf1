"""Rooms seen by a camera that walks on a ring, after GQN's rooms_ring_camera (Eslami et al., Science 2018).

Known from the original's README: a square room of 7 x 7, five wall textures (red, green, cerise, orange, yellow), three
floor textures (yellow, white, blue), one to three objects of seven shapes, and a camera that moves on a fixed ring and
always faces the middle; 64 x 64 pictures, ten views. The rest is our reading: docs/data/rooms_ring_camera_like.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from objectscape.data.synthetic.base import Draws
from objectscape.data.synthetic.objects_room_like import blue_sky, hue_to_linear, open_room, put_in_room, room_objects
from objectscape.data.synthetic.rendered import Dice, RenderedScenes, Rules, redraw
from objectscape.data.synthetic.scene3d import TEXTURES, Camera, Lights, Material, World

SHAPES = ("cube", "sphere", "cylinder", "capsule", "cone", "icosahedron", "prism", "octahedron", "pyramid")
"""Code 1 is the cube. The first seven are the original's, in the order of its README (prism: "triangle")."""

WALLS = ((0.65, 0.06, 0.05), (0.08, 0.40, 0.10), (0.60, 0.05, 0.25), (0.75, 0.25, 0.03), (0.75, 0.60, 0.08))
"""Codes 1 to 5: red, green, cerise, orange, yellow; linear."""
FLOORS = ((0.65, 0.52, 0.15), (0.70, 0.70, 0.68), (0.10, 0.20, 0.55))
"""Codes 1 to 3: yellow, white, blue."""
_WALL_TEXTURES = torch.tensor([TEXTURES.index(t) for t in ("bricks", "noise", "stripes", "checker", "marble")])
_FLOOR_TEXTURES = torch.tensor([TEXTURES.index(t) for t in ("wood", "checker", "noise")])

HALF_ROOM, WALL, AREA = 3.5, 2.4, 1.6
RING, HEIGHT, LOOK = 3.2, 1.6, 0.5
"""Radius and height of the ring of cameras, and the height of what they look at."""
MOST_VIEWS = 10


@dataclass(frozen=True, kw_only=True)
class RingRules(Rules):
    """What a variant of `RoomsRingCameraLike` changes."""

    shapes: tuple[str, ...] = SHAPES[:7]
    hues: tuple[float, float] = (0.0, 0.8)
    """Objects' hues lie between."""


class RoomsRingCameraLike(RenderedScenes):
    """A few things in a textured room, seen from a ring of cameras.

    Args:
        split: "train", "val" or "test".
        count: rooms in this split; None for 50 000 (train) or 320 (val, test).
        seed: of the stream.
        variant: one of `VARIANTS`: "rooms", or a shift of it.
        frames: 0: an item is one image of its room, the first view. Otherwise an item is a room, T = `frames` views of
            it (at most 10) with their labels, and `actions` (T, 7) is where each was taken from: x, y, z, sin yaw, cos
            yaw, sin pitch, cos pitch, as `GQN` has it. Boxes, visibility and pixel_coords are those of each view.
        image_size: side of the picture in pixels.
        quality: of the shading: "fast", "normal" or "high".
    """

    NAME = "rooms_ring_camera_like"
    SOURCE = "rendered after rooms_ring_camera, https://github.com/google-deepmind/gqn-datasets"
    FACTORS: ClassVar[Mapping[str, str]] = {
        "x": "in the world; the room is 7 wide",
        "y": "in the world",
        "z": "of the middle, in the world",
        "rotation": "about the vertical, degrees 0..360",
        "scale": "half size",
        "shape": "code 1.. in the order " + ", ".join(SHAPES),
        "hue": "of the object, 0..1",
        "wall": "of the room, code 1.. red, green, cerise, orange, yellow",
        "floor": "of the room, code 1.. yellow, white, blue",
    }
    VARIANTS: ClassVar[Mapping[str, RingRules]] = {
        "rooms": RingRules(text="one to three objects"),
        "unseen_colors": RingRules(text="object hues 0.8 to 1, which the family leaves out", hues=(0.8, 1.0)),
        "unseen_shapes": RingRules(text="octahedra and pyramids", shapes=SHAPES[7:]),
        "more_objects": RingRules(text="four to six objects", more=3),
        "textures": RingRules(text="textured objects", textures=True),
        "lighting": RingRules(text="one strong colored lamp from any side", lighting=True),
        "close_up": RingRules(text="the middle 70% of the picture", zoom=0.7),
    }

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        variant: str = "rooms",
        frames: int = 0,
        image_size: int = 64,
        quality: str = "normal",
    ) -> None:
        if not 0 <= frames <= MOST_VIEWS:
            raise ValueError(f"frames={frames}; a room has 1 to {MOST_VIEWS} views (0: one image of each room)")
        super().__init__(
            split=split,
            count=count,
            seed=seed,
            variant=variant,
            size=(image_size, image_size),
            objects=(1, 3),
            quality=quality,
            views=frames,
        )

    def draw_scenes(self, n: int, generator: torch.Generator) -> Draws:
        """See `RenderedScenes.draw_scenes`."""
        most, rules, dice = self.rows, self.rules, Dice(n, generator)
        once = {
            "count": dice.integers(*self.objects),
            "wall": dice.integers(1, len(WALLS), 1).expand(-1, most),
            "floor": dice.integers(1, len(FLOORS), 1).expand(-1, most),
            "azimuth": dice.turn(MOST_VIEWS),
            "lamp": torch.cat([dice.uniform(-2.5, 2.5, 2), dice.uniform(4, 6, 1)], 1),
        }

        def attempt(dice: Dice) -> tuple[Draws, Tensor]:
            draws = {name: values[dice.rows] for name, values in once.items()} | {
                "shape": dice.choice(torch.tensor([SHAPES.index(s) + 1 for s in rules.shapes]), most),
                "scale": dice.uniform(0.35, 0.65, most),
                "rotation": dice.uniform(0, 360, most),
                "hue": dice.uniform(*rules.hues, most),
            }
            return draws, put_in_room(draws, dice, SHAPES, self.world, AREA, 0.1, 0)

        return once | redraw(n, generator, attempt)

    def world(self, draws: Draws) -> World:
        """See `RenderedScenes.world`."""
        n = len(draws["count"])
        wall, floor = (draws[name][:, :1] - 1 for name in ("wall", "floor"))
        one, two = torch.tensor(WALLS)[wall], torch.tensor(FLOORS)[floor]
        walls = Material(
            color=one.expand(-1, 4, -1), second=one * 0.5, texture=_WALL_TEXTURES[wall], frequency=1.0, roughness=1.0
        )
        ground = Material(color=two, second=two * 0.55, texture=_FLOOR_TEXTURES[floor], frequency=0.8, roughness=1.0)
        azimuth = draws["azimuth"][:, : self.views] if self.views else draws["azimuth"][:, 0]
        place = torch.stack([RING * azimuth.cos(), RING * azimuth.sin(), torch.full_like(azimuth, HEIGHT)], -1)
        camera = Camera(position=place, target=torch.tensor([0.0, 0.0, LOOK]), field_of_view=math.radians(60))
        lights = Lights(position=draws["lamp"][:, None], color=0.65, size=0.6)
        material = Material(color=hue_to_linear(draws["hue"]), roughness=0.4)
        return World(
            objects=room_objects(draws, SHAPES, material),
            planes=open_room(HALF_ROOM, WALL, floor=ground, wall=walls),
            camera=camera,
            lights=lights,
            ambient=0.45,
            sky=blue_sky(n),
        )
