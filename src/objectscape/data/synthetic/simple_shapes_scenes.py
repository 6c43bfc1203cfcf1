"""Several Simple Shapes in a picture, with what is said of each: for models that find objects, and for workspaces.

Every object has the attributes and the sentence that it would have alone (`simple_shapes`); places are told in 32nds of
the side of the picture, so that the words for them are the same in pictures of any size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.data.boxes import boxes_from_segments
from objectscape.data.synthetic.base import Draws, SyntheticScenes
from objectscape.data.synthetic.simple_shapes import SimpleShapes
from objectscape.data.synthetic.simple_shapes_render import hls_to_rgb, render
from objectscape.scene import Multimodal, Scene, Spec

COUNTS = {"train": 50_000, "val": 320, "test": 320}
SIDE = 32
"""Places are told as in a picture of this side."""
MARGIN = 7
"""Pixels from the frame to the nearest center."""
TRIES = 50
"""How often places are drawn again where shapes would hide one another."""


class SimpleShapesScenes(SyntheticScenes):
    """Simple Shapes side by side on black: items are `Scene`; `described` adds attributes and sentences.

    Class, size, rotation and color of each are drawn as in `SimpleShapes`; centers at whole pixels. Two shapes of sizes
    a and b have at least (a + b) / 2 pixels between their centers wherever 50 draws find such places; else later shapes
    hide earlier ones in part.

    Factors: `x` column and `y` row of the center in pixels, `shape` 1 diamond, 2 egg, 3 triangle, `scale` size in
    pixels, `orientation` radians counter-clockwise, 0 points up, `color` RGB in [0, 1]; zero in rows without an object.
    `labels` are `shape` - 1.

    Args:
        split: "train", "val" or "test".
        count: scenes in this split; None for 50 000 (train) or 320 (val, test).
        seed: of the stream.
        image_size: side of the picture in pixels, at least 32.
        min_objects: fewest objects in a scene.
        max_objects: most objects in a scene.
        open_sentences: share of the sentences of `described` that leave attributes open and follow no template.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        image_size: int = 40,
        min_objects: int = 1,
        max_objects: int = 3,
        open_sentences: float = 0.0,
    ) -> None:
        if image_size < SIDE:
            raise ValueError(f"image_size={image_size}; the shapes need at least {SIDE} pixels")
        if not 1 <= min_objects <= max_objects <= 100:
            raise ValueError(f"min_objects={min_objects}, max_objects={max_objects}; need 1 <= min <= max <= 100")
        super().__init__(split=split, count=count, seed=seed, published=COUNTS)
        self.image_size, self.min_objects, self.max_objects = image_size, min_objects, max_objects
        self.open_sentences, most = open_sentences, max_objects
        self.spec = Spec(
            name="simple_shapes_scenes",
            image_size=(image_size, image_size),
            splits={**COUNTS, split: self.count},
            fields={
                "image": f"(3, {image_size}, {image_size}) uint8 RGB",
                "segments": f"({image_size}, {image_size}) int8: 0 background, 1..{most} objects",
                "boxes": f"({most}, 4) float32 pixels x0 y0 x1 y1 of the visible part, exclusive",
                "present": f"({most},) bool: has a visible pixel",
                "labels": f"({most},) int64: 0 diamond, 1 egg, 2 triangle",
                "factors": "x, y center in pixels, shape 1..3, scale (pixels), orientation (radians), color RGB in "
                f"[0, 1]: ({most},) or ({most}, 3) float32",
            },
            max_objects=most,
            license="Apache-2.0 (rendered by objectscape; the words are of attributes-to-language, MIT)",
            source="rendered after Simple Shapes (Devillers et al., 2023, arXiv 2306.15711), several at once",
            notes="For workspaces whose domain are slots: objectscape latents RUN data=simple_shapes_scenes. No "
            "published results exist on it.",
        )

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """Label rows (n, N, 8), a number for the wording of each sentence, and how many objects a scene has."""
        most = self.max_objects

        def integers(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high, (n, *shape), generator=generator)

        def places() -> Tensor:
            return integers(MARGIN, self.image_size - MARGIN, most, 2)

        objects = integers(self.min_objects, most + 1)
        kind, size = integers(0, 3, most), integers(7, 15, most)
        rotation = torch.rand(n, most, generator=generator) * 2 * torch.pi
        hls = torch.stack([integers(0, 181, most), integers(46, 256, most), integers(0, 256, most)], 2)
        place = places()
        for _ in range(TRIES):
            clash = _hide(place, size, objects)
            if not clash.any():
                break
            place = torch.where(clash[:, None, None], places(), place)
        columns = [kind, *place.unbind(2), size, rotation, *hls_to_rgb(hls).unbind(2)]
        wording = torch.randint(2**62, (n, most), generator=generator)
        return {"objects": objects, "labels": torch.stack([c.float() for c in columns], 2), "wording": wording}

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """See `SyntheticScenes.paint`."""
        draws = {name: values.to(device) for name, values in draws.items()}
        most = draws["labels"].shape[1]
        placed = torch.arange(most, device=device) < draws["objects"].unsqueeze(1)  # (n, N)
        pictures, cover = self._alone(draws["labels"])
        cover = cover / 255 * placed[..., None, None]  # (n, N, H, W)
        shown = (1 - cover).flip(1).cumprod(1).flip(1)  # of what lies below object n, object n itself included
        above = torch.cat([shown[:, 1:], torch.ones_like(shown[:, :1])], 1)  # (n, N, H, W) not hidden by later ones
        image = (pictures * (placed[..., None, None] * above).unsqueeze(2)).sum(1).round().clamp(0, 255)
        owner = torch.cat([shown[:, :1], cover * above], 1).argmax(1)
        segments = owner.to(torch.int8)
        boxes, present = boxes_from_segments(segments, most)
        kind, x, y, size, rotation, red, green, blue = draws["labels"].unbind(2)
        factors = {"x": x, "y": self.image_size - y, "shape": kind + 1, "scale": size, "orientation": rotation}
        factors = {name: values * placed for name, values in factors.items()}
        factors["color"] = torch.stack([red, green, blue], 2) / 255 * placed.unsqueeze(-1)
        return Scene(
            image=image.to(torch.uint8), segments=segments, boxes=boxes, present=present,
            labels=kind.long() * present, factors=factors,
        )  # fmt: skip

    def described(self, indices: list[int] | range) -> Multimodal:
        """Scenes with what is said of each object; rows of zeros where there is no object, or none that is seen.

        Returns:
            "image" (B, 3, H, W), "segments" (B, H, W), "attr" (B, N, 8) rows of `SimpleShapes` with places in 32nds of
            the side, "t" (B, N, 48) words, "said" (B, N, 6), "grammar" (B, N, 39), and "alone" (B, N, 3, H, W): each
            object in a picture of its own.
        """
        rows = torch.as_tensor(list(indices), dtype=torch.long)
        draws = {name: values[rows] for name, values in self._table.items()}
        scene = self.paint(draws)
        assert scene.present is not None
        assert scene.segments is not None
        labels = draws["labels"].clone()
        labels[..., 1:3] *= SIDE / self.image_size
        words: Tensor | dict[str, Tensor]
        shapes = SimpleShapes(count=1, domains=["attr", "t", "said", "grammar"], open_sentences=self.open_sentences)
        told = shapes.paint({"labels": labels.flatten(0, 1), "wording": draws["wording"].flatten()}).domains
        words = {name: values.unflatten(0, labels.shape[:2]) for name, values in told.items()}
        words["alone"] = self._alone(draws["labels"])[0]
        seen = {
            name: values * scene.present.reshape(*scene.present.shape, *[1] * (values.ndim - 2)).to(values.dtype)
            for name, values in words.items()
        }
        domains = {"image": scene.image, "segments": scene.segments, **seen}
        everywhere = torch.ones(len(rows), dtype=torch.bool)
        return Multimodal(domains=domains, present=dict.fromkeys(domains, everywhere))

    def _alone(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(n, N, 3, H, W) and cover (n, N, H, W) uint8 of each object by itself."""
        kind, x, y, size, rotation = labels[..., :5].flatten(0, 1).unbind(1)
        color = labels[..., 5:8].flatten(0, 1)
        image, cover = render(kind.long(), x, y, size, rotation, color, image_size=self.image_size)
        return image.unflatten(0, labels.shape[:2]), cover.unflatten(0, labels.shape[:2])


def _hide(place: Tensor, size: Tensor, objects: Tensor) -> Tensor:
    """(n,) bool: are two of the first `objects` (n,) of sizes (n, N) at (n, N, 2) too near each other?"""
    most = size.shape[1]
    distance = (place.unsqueeze(2) - place.unsqueeze(1)).float().norm(dim=-1)  # (n, N, N)
    near = distance < (size.unsqueeze(2) + size.unsqueeze(1)) / 2
    placed = torch.arange(most) < objects.unsqueeze(1)
    pairs = torch.ones(most, most, dtype=torch.bool).triu(1)
    return (near & pairs & placed.unsqueeze(2) & placed.unsqueeze(1)).flatten(1).any(1)
