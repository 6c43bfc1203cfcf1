"""Multi-dSprites: a few sprites of dSprites on a plain 64 x 64 background, later ones hiding earlier ones.

Five variants. Three follow the README of the Multi-Object Datasets (Kabra et al., 2019), whose generator was never
published: `binarized` (2-3 white sprites on black), `colored_on_grayscale` (2-5 sprites of saturated hues on gray) and
`colored_on_colored` (1-4 sprites, every color uniform). Two are the generator of GENESIS (Engelcke et al., 2020):
`genesis` (1-4 sprites, every color one of 125) and `genesis_unique` (no color twice in an image); their numbered scenes
follow the published random stream draw by draw, so with the original sprites they are the published images.
"""

from __future__ import annotations

import os
import random
from functools import lru_cache

import torch
from torch import Tensor

from objectscape.data.boxes import boxes_from_segments
from objectscape.data.dataset import SPLITS
from objectscape.data.synthetic.base import Draws, SyntheticScenes, paint_layers
from objectscape.data.synthetic.dsprites import COUNT, SIZE, DrawnSprites, Sprites, read_sprites, sprite_factors
from objectscape.scene import Scene, Spec

OBJECTS = {
    "binarized": (2, 3),
    "colored_on_grayscale": (2, 5),
    "colored_on_colored": (1, 4),
    "genesis": (1, 4),
    "genesis_unique": (1, 4),
}
"""{variant: smallest and largest number of sprites}; every number in between is equally likely."""

LEVELS = (0, 63, 127, 191, 255)
"""What GENESIS draws each of R, G and B from."""

PUBLISHED = {"train": 60_000, "val": 320, "test": 320}
PUBLISHED_GENESIS = {"train": 50_000, "val": 10_000, "test": 10_000}

_PALETTE = torch.cartesian_prod(*[torch.tensor(LEVELS, dtype=torch.uint8)] * 3)  # (125, 3)


class MultiDSprites(SyntheticScenes):
    """The Multi-dSprites data sets, rendered.

    Factors, with the published names and meaning: `x`, `y` 0..1 (rightwards, downwards), `shape` 1 square, 2 ellipse,
    3 heart, `scale` 0.5..1, `orientation` in radians, `color` RGB in [0, 1], `visibility` 1 for every sprite that was
    placed. Rows of sprites that were not placed are zero. A sprite that others hide completely keeps its factors, but
    is not `present`, because no pixel is its own. `labels` are `shape` - 1.

    Args:
        variant: one of `OBJECTS`.
        split: "train", "val" or "test".
        count: scenes in this split; None for 60 000 / 320 / 320, or 50 000 / 10 000 / 10 000 for the GENESIS variants.
        seed: of the stream; 0 gives the published one of the GENESIS variants.
        sprites: path of the original dSprites archive; None for our look-alikes (see `dsprites`).
    """

    def __init__(
        self,
        *,
        variant: str = "colored_on_grayscale",
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        sprites: str | os.PathLike[str] | None = None,
    ) -> None:
        if variant not in OBJECTS:
            raise ValueError(f"variant={variant!r}; choose one of {', '.join(OBJECTS)}")
        if sprites is not None and not os.path.isfile(sprites):
            raise FileNotFoundError(f"sprites={os.fspath(sprites)}: no such file; leave it out to use our look-alikes.")
        published = PUBLISHED_GENESIS if variant.startswith("genesis") else PUBLISHED
        super().__init__(split=split, count=count, seed=seed, published=published)
        if variant.startswith("genesis") and self.count > published[split]:
            raise ValueError(
                f"count={count}; variant={variant!r} has {published[split]} {split} scenes, and what follows them in "
                "the published stream is the next split. Use stream() for more."
            )
        self.variant, self.sprites = variant, sprites
        most = OBJECTS[variant][1]
        self.spec = Spec(
            name=f"multi_dsprites_{variant}",
            image_size=(SIZE, SIZE),
            splits={**published, split: self.count},
            fields={
                "image": "(3, 64, 64) uint8 RGB",
                "segments": f"(64, 64) int8: 0 background, 1..{most} sprites",
                "boxes": f"({most}, 4) float32 pixels x0 y0 x1 y1 of the visible part, exclusive",
                "present": f"({most},) bool: has a visible pixel",
                "labels": f"({most},) int64: 0 square, 1 ellipse, 2 heart",
                "factors": f"x, y 0..1, shape 1..3, scale 0.5..1, orientation in radians, visibility 0 or 1: ({most},) "
                f"float32; color ({most}, 3) float32 RGB in [0, 1]",
            },
            max_objects=most,
            license="Apache-2.0 (rendered by objectscape" + (")" if sprites is None else "; dSprites: Apache-2.0)"),
            source="scripts/generate_multid.py of https://github.com/applied-ai-lab/genesis, reimplemented"
            if variant.startswith("genesis")
            else "rendered after the README of https://github.com/google-deepmind/multi_object_datasets",
            notes=(
                "Sprites are look-alikes of dSprites. " if sprites is None else "Sprites are the original dSprites. "
            )
            + (
                "Numbered scenes follow the published random stream (seed 0)."
                if variant.startswith("genesis")
                else "The original generator is not public: color and background distributions are our reading."
            ),
        )

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """See `SyntheticScenes.draw`; `paint_sprites` says what is drawn."""
        fewest, most = OBJECTS[self.variant]

        def integers(high: int, *shape: int) -> Tensor:
            return torch.randint(high, (n, *shape), generator=generator)

        objects = integers(most - fewest + 1) + fewest
        sprite = integers(COUNT, most)
        match self.variant:
            case "binarized":
                colors = torch.tensor([0] + [255] * most, dtype=torch.uint8)[:, None].expand(n, -1, 3)
            case "colored_on_grayscale":
                gray = integers(256, 1, 1).to(torch.uint8).expand(-1, -1, 3)
                colors = torch.cat([gray, hue_to_rgb(integers(1530, most))], 1)
            case "colored_on_colored":
                colors = integers(256, most + 1, 3).to(torch.uint8)
            case "genesis":
                colors = _PALETTE[integers(len(_PALETTE), most + 1)]
            case _:  # the largest of 125 random numbers choose colors without repetition
                ranks = torch.rand(n, len(_PALETTE), generator=generator).topk(most + 1).indices
                colors = _PALETTE[ranks]
        return {"objects": objects, "sprite": sprite, "background": colors[:, 0], "color": colors[:, 1:]}

    def draw_split(self) -> Draws:
        """See `SyntheticScenes.draw_split`. The GENESIS variants take their part of the published stream."""
        if not self.variant.startswith("genesis"):
            return super().draw_split()
        unique = self.variant == "genesis_unique"
        return _genesis_stream(self.seed, _GENESIS_PARTS.index((unique, self.split))).draw(self.count, unique=unique)

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """See `SyntheticScenes.paint`; `paint_sprites` says what is in `draws`."""
        bank = DrawnSprites() if self.sprites is None else read_sprites(os.fspath(self.sprites))
        return paint_sprites(draws, bank, device)


def paint_sprites(draws: Draws, sprites: Sprites, device: torch.device | str = "cpu") -> Scene:
    """Scenes from what was drawn.

    Args:
        draws: objects (n,) int64 number of sprites; sprite (n, N) int64 sprite numbers; color (n, N, 3) uint8;
            background (n, 3) uint8. Rows beyond `objects` are ignored.
        sprites: the bank that the numbers refer to.
        device: of the result.
    """
    numbers = draws["sprite"]
    placed = torch.arange(numbers.shape[1]) < draws["objects"].unsqueeze(1)  # (n, N)
    factors = {**sprite_factors(numbers), "visibility": torch.ones_like(numbers, dtype=torch.float32)}
    factors = {name: values * placed for name, values in factors.items()}
    factors["color"] = draws["color"].float() / 255 * placed.unsqueeze(-1)
    factors = {name: values.to(device) for name, values in factors.items()}
    masks = sprites.masks(numbers, device)  # (n, N, 64, 64)
    image, segments = paint_layers(masks, *(t.to(device) for t in (placed, draws["color"], draws["background"])))
    boxes, present = boxes_from_segments(segments, numbers.shape[1])
    labels = (factors["shape"].long() - 1) * present
    return Scene(image=image, segments=segments, boxes=boxes, present=present, labels=labels, factors=factors)


def hue_to_rgb(hue: Tensor) -> Tensor:
    """(..., 3) uint8 RGB of full saturation and value for a (...) hue 0..1529: one of R, G, B is 255 and one is 0."""
    offset = torch.tensor([0, 510, 1020], device=hue.device)  # where R, G and B are brightest
    distance = (hue.unsqueeze(-1) + 765 - offset).remainder(1530).sub(765).abs()  # 0..765 along the color circle
    return (510 - distance).clamp(0, 255).to(torch.uint8)


class GenesisStream:
    """The random stream of GENESIS' generator: Python's `random`, consumed image after image.

    Args:
        seed: 0 is the published one.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def copy(self) -> GenesisStream:
        """A stream that goes on from here."""
        other = GenesisStream()
        other._random.setstate(self._random.getstate())
        return other

    def draw(self, n: int, *, unique: bool = False, objects: int | None = None) -> Draws:
        """The next n images, as `paint_sprites` takes them.

        Args:
            n: number of images.
            unique: no color twice in an image, the background's included.
            objects: sprites in every image; None to draw 1 to 4.
        """
        most = objects or OBJECTS["genesis"][1]
        counts, numbers, colors = [], [], []
        for _ in range(n):
            used = [self._color()]  # the background
            count = objects or self._random.randint(*OBJECTS["genesis"])
            chosen = []
            for _ in range(count):
                chosen.append(self._random.randint(0, COUNT - 1))
                color = self._color()
                while unique and color in used:
                    color = self._color()
                used.append(color)
            counts.append(count)
            numbers.append(chosen + [0] * (most - count))
            colors.append(used + [(0, 0, 0)] * (most - count))
        table = torch.tensor(colors, dtype=torch.uint8)  # (n, 1 + most, 3)
        return {
            "objects": torch.tensor(counts),
            "sprite": torch.tensor(numbers),
            "background": table[:, 0],
            "color": table[:, 1:],
        }

    def _color(self) -> tuple[int, ...]:
        return tuple(self._random.choice(LEVELS) for _ in range(3))


_GENESIS_PARTS = [(unique, split) for unique in (False, True) for split in SPLITS]  # in the order of the script


def _genesis_stream(seed: int, part: int) -> GenesisStream:
    """The published script's stream where `part` begins."""
    return _stream_before(seed, part).copy()


@lru_cache(maxsize=16)
def _stream_before(seed: int, part: int) -> GenesisStream:
    if part == 0:
        return GenesisStream(seed)
    unique, split = _GENESIS_PARTS[part - 1]
    stream = _genesis_stream(seed, part - 1)
    stream.draw(PUBLISHED_GENESIS[split], unique=unique)
    return stream
