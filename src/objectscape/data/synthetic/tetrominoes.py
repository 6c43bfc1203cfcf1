"""Tetrominoes: three pieces of four textured tiles each on black, 35 x 35 (Kabra et al., Multi-Object Datasets, 2019).

Rules reconstructed from real scenes, which they reproduce bit for bit from their published factors: 19 fixed forms
(the README of the original says 17), six colors, any pixel position at which the bounding box lies inside the image.
A scene is three independent draws; if any two pieces share a pixel, the whole scene is drawn again (that, and not
redrawing only the clashing piece, gives the shape statistics of the published million scenes).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from objectscape.data.synthetic.base import Draws, SyntheticScenes
from objectscape.scene import Scene, Spec

SIZE, TILE, PIECES = 35, 5, 3
PUBLISHED = {"train": 60_000, "val": 320, "test": 320}

# fmt: off
FORMS = (
    "####", "#/#/#/#", "###/#..", "#../###", "..#/###", "###/..#", "##/.#/.#", ".#/.#/##", "##/#./#.", "#./#./##",
    "##./.##", ".##/##.", ".#/##/#.", "#./##/.#", ".#./###", "###/.#.", ".#/##/.#", "#./##/#.", "##/##",
)
# fmt: on
"""The 19 forms in the order of the published index 1..19; # is a tile, / starts the next row."""

COLORS = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.uint8)
"""Red, green, blue, yellow, magenta, cyan."""

TEXTURE = torch.tensor(
    [
        [191, 255, 255, 255, 223],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [95, 63, 63, 63, 127],
    ],
    dtype=torch.uint8,
)
"""Intensity of each pixel of a tile."""

# Every number of rows or columns a piece can start at (36 minus 5, 10, 15 or 20) divides this, so that the remainder of
# a uniform draw below it is exactly uniform.
_PLACES = 135_408  # lcm(31, 26, 21, 16)


@lru_cache(maxsize=4)
def _catalogue(device: str) -> tuple[Tensor, Tensor]:
    """tiles (19, 4, 2) pixel row and column of each tile's corner; extent (19, 2) height and width in pixels."""
    places = [
        [(r, c) for r, row in enumerate(form.split("/")) for c, t in enumerate(row) if t == "#"] for form in FORMS
    ]
    tiles = torch.tensor(places, device=device) * TILE
    return tiles, tiles.amax(1) + TILE


class Tetrominoes(SyntheticScenes):
    """The Tetrominoes data set, rendered.

    Factors, with the published names and meaning: `x` ROW of the top edge and `y` COLUMN of the left edge of the
    bounding box in pixels (x is the vertical one), `shape` 1..19, `color` RGB of zeros and ones, `visibility` 1.
    Objects come in the order in which they were drawn. `labels` are `shape` - 1.

    Args:
        split: "train", "val" or "test".
        count: scenes in this split; None for 60 000 (train) or 320 (val, test).
        seed: of the stream.
    """

    def __init__(self, *, split: str = "train", count: int | None = None, seed: int = 0) -> None:
        super().__init__(split=split, count=count, seed=seed, published=PUBLISHED)
        self.spec = Spec(
            name="tetrominoes",
            image_size=(SIZE, SIZE),
            splits={**PUBLISHED, split: self.count},
            fields={
                "image": "(3, 35, 35) uint8 RGB",
                "segments": "(35, 35) int8: 0 background, 1..3 pieces",
                "boxes": "(3, 4) float32 pixels x0 y0 x1 y1, exclusive",
                "present": "(3,) bool, always true",
                "labels": "(3,) int64 form 0..18",
                "factors": "x (row of the top edge), y (column of the left edge), shape 1..19, visibility 1: (3,) "
                "float32; color (3, 3) float32 RGB of zeros and ones",
            },
            max_objects=PIECES,
            license="Apache-2.0 (rendered by objectscape; the original data set is Apache-2.0 too)",
            source="rendered after Tetrominoes of https://github.com/google-deepmind/multi_object_datasets",
            notes="Pixels follow the real scenes exactly; the distribution of scenes is reconstructed and agrees with "
            "the published statistics; the original random stream is not reproduced.",
        )

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """See `SyntheticScenes.draw`; `paint` says what is drawn."""
        tiles, extent = _catalogue("cpu")
        accepted: list[tuple[Tensor, Tensor]] = []
        missing = n
        while missing > 0:
            tries = int(missing / 0.1456 * 1.05) + 64  # 14.56% of all draws are free of overlaps
            shape = torch.randint(len(FORMS), (tries, PIECES), generator=generator)
            place = torch.randint(_PLACES, (tries, PIECES, 2), generator=generator) % (SIZE + 1 - extent[shape])
            corner = (tiles[shape] + place.unsqueeze(2)).to(torch.int8)  # (tries, 3, 4, 2)
            free = torch.ones(tries, dtype=torch.bool)
            for i, j in ((0, 1), (0, 2), (1, 2)):
                distance = (corner[:, i, :, None] - corner[:, j, None]).abs_()  # (tries, 4, 4, 2)
                free &= (distance.amax(-1) >= TILE).flatten(1).all(1)  # two tiles overlap if both distances are below 5
            accepted.append((shape[free], place[free]))
            missing -= int(free.sum())
        shape, place = (torch.cat(parts)[:n] for parts in zip(*accepted))
        color = COLORS[torch.randint(len(COLORS), (n, PIECES), generator=generator)]
        return {"shape": shape + 1, "row": place[..., 0], "column": place[..., 1], "color": color}

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """See `SyntheticScenes.paint`. `draws`: shape 1..19, row, column (n, 3) int64; color (n, 3, 3) uint8 0 or 1."""
        shape, row, column, color = (draws[key].to(device) for key in ("shape", "row", "column", "color"))
        tiles, extent = _catalogue(str(device))
        n, form = len(shape), shape - 1
        inside = torch.arange(TILE, device=device)
        inside = (inside[:, None] * SIZE + inside).flatten()  # (25,) pixels of a tile, from its corner
        corner = tiles[form, :, 0] * SIZE + tiles[form, :, 1] + (row * SIZE + column).unsqueeze(-1)  # (n, 3, 4)
        pixels = (corner.unsqueeze(-1) + inside).flatten(1)  # (n, 300), no two alike because no pieces overlap
        texture = TEXTURE.to(device).flatten().repeat(4)  # (100,)
        values = (color.unsqueeze(-1) * texture).transpose(1, 2).flatten(2)  # (n, 3 RGB, 300)
        image = torch.zeros(n, 3, SIZE * SIZE, dtype=torch.uint8, device=device)
        image.scatter_(2, pixels.unsqueeze(1).expand(-1, 3, -1), values)
        segments = torch.zeros(n, SIZE * SIZE, dtype=torch.int8, device=device)
        numbers = torch.arange(1, PIECES + 1, dtype=torch.int8, device=device).repeat_interleave(4 * TILE * TILE)
        segments.scatter_(1, pixels, numbers.expand(n, -1))
        height, width = extent[form].unbind(-1)
        return Scene(
            image=image.unflatten(2, (SIZE, SIZE)),
            segments=segments.unflatten(1, (SIZE, SIZE)),
            boxes=torch.stack([column, row, column + width, row + height], -1).float(),
            present=torch.ones_like(shape, dtype=torch.bool),
            labels=form,
            factors={
                "x": row.float(),
                "y": column.float(),
                "shape": shape.float(),
                "color": color.float(),
                "visibility": torch.ones_like(shape, dtype=torch.float32),
            },
        )
