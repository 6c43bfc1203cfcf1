"""Colored shapes: circles, squares and triangles that may hide one another. Cheap scenes for tests and tiny recipes."""

from __future__ import annotations

import torch

from objectscape.data.boxes import boxes_from_segments
from objectscape.data.synthetic.base import Draws, SyntheticScenes, paint_layers
from objectscape.data.synthetic.tetrominoes import COLORS
from objectscape.scene import Scene, Spec

COUNTS = {"train": 60_000, "val": 320, "test": 320}
SHAPES = ("circle", "square", "triangle")


class ColoredShapes(SyntheticScenes):
    """Scenes of flat shapes in six colors.

    The number of objects, and each object's shape, color, radius and center, are uniform and independent; the radius
    lies between an eighth and a fifth of the image side, and every shape is inside the image. The background is black.
    Later objects hide earlier ones.

    Factors: `x` column and `y` row of the center in pixels, `shape` 1 circle, 2 square, 3 triangle, `scale` radius in
    pixels, `color` RGB of zeros and ones, `visibility` 1 for every object that was placed; zero in rows of objects that
    were not. An object that others hide completely keeps its factors, but is not `present`. `labels` are `shape` - 1.

    Args:
        split: "train", "val" or "test".
        count: scenes in this split; None for 60 000 (train) or 320 (val, test).
        seed: of the stream.
        image_size: side of the image in pixels, at least 16.
        min_objects: fewest objects in a scene.
        max_objects: most objects in a scene, at most 100.
        same_color: all objects of a scene have one color, so that color does not tell them apart.
        overlap: objects may hide one another. False: their places and radii are drawn again until no two of their
            bounding squares meet; at most 4 objects.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        image_size: int = 32,
        min_objects: int = 2,
        max_objects: int = 4,
        same_color: bool = False,
        overlap: bool = True,
    ) -> None:
        if image_size < 16:
            raise ValueError(f"image_size={image_size}; shapes need at least 16 pixels")
        if not 1 <= min_objects <= max_objects <= 100:
            raise ValueError(f"min_objects={min_objects}, max_objects={max_objects}; need 1 <= min <= max <= 100")
        if not overlap and max_objects > 4:
            raise ValueError(f"max_objects={max_objects} with overlap=False; at most 4 find room beside each other")
        super().__init__(split=split, count=count, seed=seed, published=COUNTS)
        self.image_size, self.min_objects, self.max_objects = image_size, min_objects, max_objects
        self.same_color, self.overlap = same_color, overlap
        most = max_objects
        self.spec = Spec(
            name="colored_shapes" if overlap else "tiny_shapes",  # the configurations' names
            image_size=(image_size, image_size),
            splits={**COUNTS, split: self.count},
            fields={
                "image": f"(3, {image_size}, {image_size}) uint8 RGB",
                "segments": f"({image_size}, {image_size}) int8: 0 background, 1..{most} objects",
                "boxes": f"({most}, 4) float32 pixels x0 y0 x1 y1 of the visible part, exclusive",
                "present": f"({most},) bool: has a visible pixel",
                "labels": f"({most},) int64: 0 circle, 1 square, 2 triangle",
                "factors": f"x, y center in pixels, shape 1..3, scale (radius in pixels), visibility 0 or 1: ({most},) "
                f"float32; color ({most}, 3) float32 RGB of zeros and ones",
            },
            max_objects=most,
            license="Apache-2.0",
            source="objectscape's own generator",
            notes="For tests and small experiments; no published results exist on it.",
        )

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """See `SyntheticScenes.draw`; `paint` says what is drawn."""
        most = self.max_objects

        def integers(low: int, high: int, *shape: int) -> torch.Tensor:
            return torch.randint(low, high, (n, *shape), generator=generator)

        objects = integers(self.min_objects, most + 1)
        shape = integers(0, len(SHAPES), most)
        color = integers(0, len(COLORS), 1 if self.same_color else most).expand(-1, most)

        def somewhere() -> tuple[torch.Tensor, torch.Tensor]:
            radius = integers(self.image_size // 8, self.image_size // 5 + 1, most)
            free = self.image_size - 2 * radius  # centers that keep the shape inside
            place = torch.rand(n, most, 2, generator=generator, dtype=torch.float64)
            return radius, (place * free.unsqueeze(-1)).long() + radius.unsqueeze(-1)

        radius, center = somewhere()
        while not self.overlap and (clash := _meet(radius, center, objects)).any():
            other = somewhere()
            radius = torch.where(clash[:, None], other[0], radius)
            center = torch.where(clash[:, None, None], other[1], center)
        return {"objects": objects, "shape": shape, "color": color, "radius": radius, "center": center}

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """See `SyntheticScenes.paint`. `draws`: objects (n,); shape, color, radius (n, N); center (n, N, 2)."""
        draws = {name: values.to(device) for name, values in draws.items()}
        shape, radius, center = draws["shape"], draws["radius"], draws["center"]
        placed = torch.arange(self.max_objects, device=device) < draws["objects"].unsqueeze(1)  # (n, N)
        masks = shape_masks(shape, radius, center, self.image_size)
        color = COLORS.to(device)[draws["color"]]  # (n, N, 3)
        background = torch.zeros(len(shape), 3, dtype=torch.uint8, device=device)
        image, segments = paint_layers(masks, placed, color * 255, background)
        boxes, present = boxes_from_segments(segments, self.max_objects)
        factors = {"x": center[..., 0], "y": center[..., 1], "shape": shape + 1, "scale": radius, "visibility": placed}
        factors = {name: values * placed.float() for name, values in factors.items()}
        factors["color"] = color * placed.unsqueeze(-1).float()
        return Scene(
            image=image, segments=segments, boxes=boxes, present=present, labels=shape * present, factors=factors
        )


def shape_masks(shape: torch.Tensor, radius: torch.Tensor, center: torch.Tensor, image_size: int) -> torch.Tensor:
    """(..., N, H, W) bool: the pixels of shapes (..., N) of `SHAPES`, with their radius and center (..., N, 2)."""
    span = torch.arange(image_size, dtype=torch.int16, device=center.device)
    right = (span - center[..., :1].to(torch.int16)).unsqueeze(-2)  # (..., N, 1, W)
    down = (span - center[..., 1:].to(torch.int16)).unsqueeze(-1)  # (..., N, H, 1)
    r, kind = (t.to(torch.int16)[..., None, None] for t in (radius, shape))
    circle = right**2 + down**2 <= r * r + r // 2  # the half radius rounds the circle off
    square = (right.abs() < r) & (down.abs() < r)
    triangle = (2 * right.abs() <= down + r) & (down <= r)  # tip up
    return torch.where(kind == 0, circle, torch.where(kind == 1, square, triangle))


def _meet(radius: torch.Tensor, center: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """(n,) bool: whether bounding squares of the first `objects` (n,) of radius (n, N), center (n, N, 2) meet."""
    most = radius.shape[1]
    distance = (center.unsqueeze(2) - center.unsqueeze(1)).abs().amax(-1)  # (n, N, N)
    meet = distance <= radius.unsqueeze(2) + radius.unsqueeze(1)
    placed = torch.arange(most) < objects.unsqueeze(1)
    pairs = torch.ones(most, most, dtype=torch.bool).triu(1)
    return (meet & pairs & placed.unsqueeze(2) & placed.unsqueeze(1)).flatten(1).any(1)
