"""Clips of colored shapes that move, cross and hide one another. Cheap clips for tests and tiny recipes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from objectscape.data.boxes import boxes_from_segments
from objectscape.data.synthetic.base import Draws, SyntheticScenes, paint_layers
from objectscape.data.synthetic.shapes import SHAPES, shape_masks
from objectscape.data.synthetic.tetrominoes import COLORS
from objectscape.scene import Scene, Spec

COUNTS = {"train": 20_000, "val": 320, "test": 320}


class MovingShapes(SyntheticScenes):
    """Clips of flat shapes in six colors on black. They move in straight lines and bounce off the edges of the image.

    The number of objects, and each object's shape, color, radius, first center, direction and speed, are uniform and
    independent, but no two objects of a clip have the same color. The radius lies between an eighth and a fifth of the
    image side. Objects pass through one another; later ones hide earlier ones. The way of a center is computed in
    fractions of a pixel and rounded to whole pixels for drawing.

    Factors, in every frame: `x` column and `y` row of the center in pixels, `shape` 1 circle, 2 square, 3 triangle,
    `scale` radius in pixels, `color` RGB of zeros and ones, `visibility` the share of the object's own pixels that
    nothing hides; zero in rows of objects that were not placed. `labels` are `shape` - 1.

    Args:
        split: "train", "val" or "test".
        count: clips in this split; None for 20 000 (train) or 320 (val, test).
        seed: of the stream.
        image_size: side of the image in pixels, at least 16.
        frames: T of a clip.
        min_objects: fewest objects in a clip.
        max_objects: most objects in a clip, at most 6.
        speed: slowest and fastest objects, in pixels per frame.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        image_size: int = 32,
        frames: int = 12,
        min_objects: int = 2,
        max_objects: int = 3,
        speed: tuple[float, float] = (0.5, 2.5),
    ) -> None:
        if image_size < 16:
            raise ValueError(f"image_size={image_size}; shapes need at least 16 pixels")
        if frames < 1:
            raise ValueError(f"frames={frames}; a clip has at least 1 frame")
        if not 1 <= min_objects <= max_objects <= len(COLORS):
            raise ValueError(
                f"min_objects={min_objects}, max_objects={max_objects}; need 1 <= min <= max <= {len(COLORS)}, the "
                "number of colors"
            )
        if len(speed) != 2 or not 0 <= speed[0] <= speed[1]:
            raise ValueError(f"speed={tuple(speed)}; expected slowest and fastest, in pixels per frame")
        super().__init__(split=split, count=count, seed=seed, published=COUNTS)
        self.image_size, self.frames, self.min_objects, self.max_objects = image_size, frames, min_objects, max_objects
        self.speed = (float(speed[0]), float(speed[1]))
        most = max_objects
        self.spec = Spec(
            name="moving_shapes",
            image_size=(image_size, image_size),
            splits={**COUNTS, split: self.count},
            fields={
                "image": f"({frames}, 3, {image_size}, {image_size}) uint8 RGB",
                "segments": f"({frames}, {image_size}, {image_size}) int8: 0 background, 1..{most} objects",
                "boxes": f"({frames}, {most}, 4) float32 pixels x0 y0 x1 y1 of the visible part, exclusive",
                "present": f"({frames}, {most}) bool: has a visible pixel",
                "labels": f"({frames}, {most}) int64: 0 circle, 1 square, 2 triangle",
                "factors": "x, y center in pixels, shape 1..3, scale (radius in pixels), visibility 0..1: "
                f"({frames}, {most}) float32; color ({frames}, {most}, 3) float32 RGB of zeros and ones",
            },
            max_objects=most,
            frames=frames,
            license="Apache-2.0",
            source="objectscape's own generator",
            notes="For tests and small experiments; no published results exist on it.",
        )

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """See `SyntheticScenes.draw`; `paint` says what is drawn."""
        most = self.max_objects

        def integers(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high, (n, *shape), generator=generator)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=generator, dtype=torch.float64)

        objects = integers(self.min_objects, most + 1)
        shape, radius = integers(0, len(SHAPES), most), integers(self.image_size // 8, self.image_size // 5 + 1, most)
        color = uniform(len(COLORS)).argsort(1)[:, :most]
        start, angle = uniform(most, 2), 2 * math.pi * uniform(most)
        speed = self.speed[0] + (self.speed[1] - self.speed[0]) * uniform(most)
        velocity = speed[..., None] * torch.stack([angle.cos(), angle.sin()], -1)  # (n, N, 2)
        free = (self.image_size - 1 - 2 * radius).unsqueeze(-1).double()  # centers that keep the shape inside
        time = torch.arange(self.frames, dtype=torch.float64)[:, None, None]
        way = (start * free).unsqueeze(1) + time * velocity.unsqueeze(1)  # (n, T, N, 2) without edges
        center = _bounce(way, free.unsqueeze(1)).round().long() + radius[:, None, :, None]
        return {"objects": objects, "shape": shape, "color": color, "radius": radius, "center": center}

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """See `SyntheticScenes.paint`. `draws`: objects (n,); shape, color, radius (n, N); center (n, T, N, 2)."""
        n, frames = draws["center"].shape[:2]
        draws = {name: values.to(device) for name, values in draws.items()}
        placed = torch.arange(self.max_objects, device=device) < draws["objects"].unsqueeze(1)  # (n, N)
        still = {"shape": draws["shape"], "radius": draws["radius"], "color": COLORS.to(device)[draws["color"]]}
        still["placed"] = placed
        every = {name: t.repeat_interleave(frames, 0) for name, t in still.items()}  # (n T, N, ...)
        shape, radius, color, placed = (every[name] for name in ("shape", "radius", "color", "placed"))
        center = draws["center"].flatten(0, 1)  # (n T, N, 2)
        masks = shape_masks(shape, radius, center, self.image_size)
        background = torch.zeros(len(masks), 3, dtype=torch.uint8, device=device)
        image, segments = paint_layers(masks, placed, color * 255, background)
        boxes, present = boxes_from_segments(segments, self.max_objects)
        numbers = torch.arange(1, self.max_objects + 1, device=device)[:, None, None]
        seen = (segments.unsqueeze(1) == numbers).sum((2, 3)) / masks.sum((2, 3)).clamp_min(1)
        factors = {"x": center[..., 0], "y": center[..., 1], "shape": shape + 1, "scale": radius, "visibility": seen}
        factors = {name: values * placed.float() for name, values in factors.items()}
        factors["color"] = color * placed.unsqueeze(-1).float()
        scene = Scene(
            image=image, segments=segments, boxes=boxes, present=present, labels=shape * present, factors=factors
        )
        return scene.map(lambda t: t.unflatten(0, (n, frames)))


def _bounce(way: Tensor, free: Tensor) -> Tensor:
    """Positions on a line -> positions in [0, free] of what moves on the same way but is reflected at both ends."""
    return free - (way.remainder(2 * free) - free).abs()
