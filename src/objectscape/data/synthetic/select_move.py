"""Spriteworld's "select and move" world: click on a sprite, and move it. A small world to plan in.

After the author's fork of Spriteworld (Watters et al. 2019; pemami4911/spriteworld, Apache-2.0) of SSWM's time, whose
configurations it follows; its pictures and moves are reproduced exactly. `MovingSprites(actions=True)` makes large data
sets of the same kind faster, with pictures that differ a little at the edges.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

SIDES = {"square": (4, 45.0), "circle": (30, 0.0), "triangle": (3, 90.0)}
"""Number of vertices of each shape, and the angle of the first one in degrees, counterclockwise."""
MOTION_SCALE = 0.5
ANTI_ALIASING = 5
GOAL, GOAL_RADIUS = (0.5, 0.5), 0.075


def vertices(shape: str, scale: float) -> np.ndarray:
    """(V, 2) corners of a regular polygon of area scale^2 around the origin, x rightwards, y upwards."""
    sides, first = SIDES[shape]
    radius = scale * np.sqrt(2 / (sides * np.sin(2 * np.pi / sides)))
    angles = np.deg2rad(first) + 2 * np.pi * np.arange(sides) / sides
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


@dataclass(frozen=True, kw_only=True)
class SelectMove:
    """A state of the world, which never changes: `step` returns the next one.

    Places are in [0, 1], x rightwards, y upwards; later sprites lie on top.
    """

    places: np.ndarray
    """(N, 2)"""
    shapes: tuple[str, ...]
    scales: np.ndarray
    """(N,) square roots of the areas."""
    colors: np.ndarray
    """(N, 3) hue, saturation, value."""
    background: int
    """Gray level 0..255."""

    @classmethod
    def find_goal(cls, generator: np.random.Generator, *, sprites: int = 2) -> SelectMove:
        """A start of the task "find goal": sprites anywhere but at the goal, in three colors that differ."""
        places = generator.uniform(0.1, 0.9, (sprites, 2))
        while cls._at_goal(places).any():
            places = generator.uniform(0.1, 0.9, (sprites, 2))
        hues = generator.permutation([0.9, 0.55, 0.27])[:sprites]
        colors = np.stack([hues, np.full(sprites, 0.6), np.full(sprites, 0.95)], 1)
        shapes = tuple(generator.choice(["square", "circle", "triangle"], sprites, p=[0.55, 0.25, 0.20]))
        return cls(
            places=places,
            shapes=shapes,
            scales=np.full(sprites, 0.2),
            colors=colors,
            background=int(generator.integers(0, 200)),
        )

    def selected(self, click: np.ndarray) -> int:
        """Number of the topmost sprite under a click (2,), -1 for none."""
        for index in reversed(range(len(self.shapes))):
            corners = vertices(self.shapes[index], self.scales[index]) + self.places[index]
            edges = np.roll(corners, -1, 0) - corners
            to_click = click - corners
            if np.all(edges[:, 0] * to_click[:, 1] - edges[:, 1] * to_click[:, 0] >= 0):
                return index
        return -1

    def step(self, action: np.ndarray, noise: np.ndarray | float = 0.0) -> SelectMove:
        """Move what is under (action[0], action[1]) by half of (action[2], action[3]) - 0.5; `noise` is added first."""
        action = np.asarray(action, dtype=np.float64) + noise
        index = self.selected(action[:2])
        if index < 0:
            return self
        places = self.places.copy()
        places[index] = np.clip(places[index] + MOTION_SCALE * (action[2:] - 0.5), 0, 1)
        return replace(self, places=places)

    def picture(self, size: int = 64) -> np.ndarray:
        """(H, W, 3) uint8."""
        side = ANTI_ALIASING * size
        canvas = Image.new("RGB", (side, side), (self.background,) * 3)
        pen = ImageDraw.Draw(canvas)
        for place, shape, scale, color in zip(self.places, self.shapes, self.scales, self.colors, strict=True):
            corners = side * (vertices(shape, scale) + place)
            rgb = tuple(int(255 * value) for value in colorsys.hsv_to_rgb(*color))
            pen.polygon([tuple(corner) for corner in corners], fill=rgb)
        return np.flipud(np.array(canvas.resize((size, size), resample=Image.Resampling.LANCZOS)))

    @property
    def solved(self) -> bool:
        """Whether a sprite's middle is at the goal, the middle of the picture."""
        return bool(self._at_goal(self.places).any())

    @staticmethod
    def _at_goal(places: np.ndarray) -> np.ndarray:
        return np.linalg.norm(places - np.array(GOAL), axis=1) <= GOAL_RADIUS
