"""Scenes by the rules of ClevrTex (Karazija et al., NeurIPS 2021 Datasets and Benchmarks): textured things on textured
ground, and its variants.

Counts, sizes, placement and variants are those of the published generator (github.com/karazijal/clevrtex-generation:
`generate.py` and `data/*.json`), which in turn are CLEVR's. The 60 scanned materials of the original cannot be had
freely; ours are 60 procedural ones, and 25 others for the variant `outd`. docs/data/clevrtex_like.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from objectscape.data.synthetic.base import Draws
from objectscape.data.synthetic.clevr_like import (
    CAMERA,
    COLORS,
    FRAME,
    LAMPS,
    MARGIN,
    MIN_PIXELS,
    TRIES,
    clevr_world,
    crop_frame,
    picture_size,
    put_down,
)
from objectscape.data.synthetic.rendered import Dice, RenderedScenes, Rules, redraw, seen_enough
from objectscape.data.synthetic.scene3d import TEXTURES, Material, Planes, World, turn

SHAPES = ("cube", "sphere", "cylinder", "octahedron", "cone", "icosahedron", "pyramid", "prism")
"""Code 1 is the cube. The first four are the family's (the octahedron stands for the original's monkey head); the other
four, `outd`'s: cone and icosahedron as published, pyramid and prism for torus and teapot."""
USUAL, OTHER = SHAPES[:4], SHAPES[4:]

SIZES = (0.9, 0.6, 0.4, 1.0, 0.8, 0.6)
"""Half sizes: codes 1 to 3 large, medium, small; 4 to 6 those of `outd`."""

_PAIRS = (
    ((0.62, 0.42, 0.25), (0.24, 0.13, 0.06)),  # wood
    ((0.55, 0.16, 0.10), (0.70, 0.62, 0.52)),  # brick and mortar
    ((0.78, 0.76, 0.72), (0.28, 0.28, 0.30)),  # white marble
    ((0.10, 0.22, 0.10), (0.34, 0.42, 0.12)),  # moss
    ((0.36, 0.38, 0.42), (0.13, 0.14, 0.16)),  # steel
    ((0.12, 0.20, 0.38), (0.42, 0.52, 0.66)),  # denim
    ((0.70, 0.34, 0.10), (0.30, 0.14, 0.08)),  # rust
    ((0.60, 0.52, 0.36), (0.38, 0.30, 0.18)),  # sand
    ((0.10, 0.34, 0.34), (0.62, 0.66, 0.56)),  # sage tiles
    ((0.32, 0.10, 0.26), (0.72, 0.56, 0.30)),  # brocade
)
_OTHER_PAIRS = (
    ((0.85, 0.75, 0.10), (0.10, 0.10, 0.12)),
    ((0.80, 0.20, 0.50), (0.95, 0.80, 0.85)),
    ((0.05, 0.45, 0.80), (0.90, 0.92, 0.95)),
    ((0.15, 0.60, 0.20), (0.90, 0.30, 0.10)),
    ((0.45, 0.20, 0.75), (0.10, 0.80, 0.75)),
)
KINDS = ("checker", "stripes", "noise", "marble", "wood", "bricks")
MATERIALS = [(kind, pair) for kind in KINDS for pair in _PAIRS]
"""The 60 materials, code 1 first."""
OTHER_MATERIALS = [("dots", pair) for pair in (*_PAIRS, *_OTHER_PAIRS)] + [
    (kind, pair) for kind in ("stripes", "marble") for pair in _OTHER_PAIRS
]
"""The 25 of `outd`, codes 61 to 85."""
PLAIN = 86
"""Codes 86 and 87: rubber and metal in one of CLEVR's eight colors."""

_ALL = [*MATERIALS, *OTHER_MATERIALS]
_TEXTURE = torch.tensor([TEXTURES.index(kind) for kind, _ in _ALL] + [0, 0])
_FIRST = torch.tensor([pair[0] for _, pair in _ALL] + [(0.5, 0.5, 0.5)] * 2)
_SECOND = torch.tensor([pair[1] for _, pair in _ALL] + [(0.5, 0.5, 0.5)] * 2)
_STEEL = torch.tensor([4, 6])  # pairs that are half metal
_METAL = torch.cat([torch.isin(torch.arange(len(_ALL)) % 10, _STEEL) * 0.4, torch.tensor([0.0, 0.85])])
_ROUGH = torch.cat([torch.linspace(0.35, 0.9, 7).repeat(13)[: len(_ALL)], torch.tensor([0.7, 0.2])])
_GRASS = 24
"""Noise of mosses."""


@dataclass(frozen=True, kw_only=True)
class ClevrTexRules(Rules):
    """What a variant of `ClevrTexLike` changes."""

    shapes: tuple[str, ...] = USUAL
    sizes: tuple[int, int] = (1, 3)
    objects: tuple[int, int] = (1, 60)
    """First and last material code of objects."""
    ground: tuple[int, int] | None = (1, 60)
    """First and last material code of the ground; None: plain gray."""
    camo: bool = False
    """One material for everything in a scene."""
    margin: float = MARGIN


class ClevrTexLike(RenderedScenes):
    """Textured things on textured ground, by the rules of ClevrTex.

    Args:
        split: "train", "val" or "test".
        count: scenes in this split; None for 50 000 (train) or 320 (val, test).
        seed: of the stream.
        variant: one of `VARIANTS`: "full", the original's pbg, vbg, grassbg, camo and outd, or a shift.
        image_size: side of the picture in pixels; with crop="none", its height, and the width is 4/3 of that.
        crop: the part of the 320 x 240 frame that is the picture: "center" (the benchmark's), "benchmark" (that of
            CLEVR) or "none".
        min_objects: fewest objects in a scene.
        max_objects: most objects in a scene.
        quality: of the shading: "fast", "normal" or "high".
    """

    NAME = "clevrtex_like"
    SOURCE = "rendered after ClevrTex, https://github.com/karazijal/clevrtex-generation"
    FACTORS: ClassVar[Mapping[str, str]] = {
        "x": "in the world",
        "y": "in the world",
        "z": "of the middle, in the world",
        "rotation": "about the vertical, degrees 0..360",
        "size": "code 1 large, 2 medium, 3 small; 4 to 6 those of outd",
        "material": "code 1..60; 61..85 those of outd; 86 rubber, 87 metal",
        "shape": "code 1.. in the order " + ", ".join(SHAPES),
        "color": "RGB 0..1, linear: the material's first color",
    }
    VARIANTS: ClassVar[Mapping[str, ClevrTexRules]] = {
        "full": ClevrTexRules(text="60 materials on objects and ground"),
        "pbg": ClevrTexRules(text="plain gray ground", ground=None),
        "vbg": ClevrTexRules(text="rubber and metal objects in CLEVR's colors on textured ground", objects=(86, 87)),
        "grassbg": ClevrTexRules(text="grass for the ground", ground=(_GRASS, _GRASS)),
        "camo": ClevrTexRules(text="one material for objects and ground", camo=True),
        "outd": ClevrTexRules(text="four other shapes, other sizes and 25 other materials",
                              shapes=OTHER, sizes=(4, 6), objects=(61, 85), ground=(61, 85)),
        "unseen_shapes": ClevrTexRules(text="the shapes of outd alone", shapes=OTHER),
        "unseen_textures": ClevrTexRules(text="the materials of outd alone", objects=(61, 85), ground=(61, 85)),
        "more_objects": ClevrTexRules(text="1 to 4 objects more than usual, margin 0.1", more=4, margin=0.1),
        "lighting": ClevrTexRules(text="one strong colored lamp from any side", lighting=True),
        "occluders": ClevrTexRules(text="two dark posts before the scene", occluders=2),
        "close_up": ClevrTexRules(text="the middle 70% of the picture", zoom=0.7),
    }  # fmt: skip

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        variant: str = "full",
        image_size: int = 128,
        crop: str = "center",
        min_objects: int = 3,
        max_objects: int = 10,
        quality: str = "normal",
    ) -> None:
        if not 1 <= min_objects <= max_objects <= 10:
            raise ValueError(f"min_objects={min_objects}, max_objects={max_objects}; need 1 <= min <= max <= 10")
        super().__init__(
            split=split,
            count=count,
            seed=seed,
            variant=variant,
            size=picture_size(image_size, crop),
            objects=(min_objects, max_objects),
            quality=quality,
        )
        self.crop = crop

    def draw_scenes(self, n: int, generator: torch.Generator) -> Draws:
        """See `RenderedScenes.draw_scenes`."""
        most, rules, dice = self.rows, self.rules, Dice(n, generator)
        ground = dice.integers(*(rules.ground or (0, 0)))  # 0: plain
        material = dice.integers(*rules.objects, most)
        material = ground[:, None].expand(-1, most) if rules.camo else material
        palette = torch.tensor(list(COLORS.values())) / 255
        plain = dice.choice(palette, most)
        once = {
            "count": dice.integers(*self.objects),
            "camera": torch.tensor(CAMERA) + dice.uniform(-0.5, 0.5, 3),
            "lamps": torch.tensor(LAMPS) + dice.uniform(-1, 1, 3, 3),
            "ground": ground,
            "ground_offset": dice.uniform(0, 10, 1, 3),
            "ground_turn": dice.turn(1),
            "material": material,
            "color": torch.where((material >= PLAIN)[..., None], plain, _FIRST[material - 1]),
            "offset": dice.uniform(0, 10, most, 3),
            "texture_turn": dice.turn(most),
            "texture_tip": dice.turn(most),
            "frequency": dice.uniform(0.8, 1.25, most),
        }

        def attempt(dice: Dice) -> tuple[Draws, Tensor]:
            draws = {name: values[dice.rows] for name, values in once.items()} | {
                "size": dice.integers(*rules.sizes, most),
                "shape": dice.choice(torch.tensor([SHAPES.index(s) + 1 for s in rules.shapes]), most),
                "candidates": dice.uniform(-3, 3, most, TRIES, 2),
                "rotation": dice.uniform(0, 360, most),
            }
            good = put_down(draws, SHAPES, SIZES, rules.margin)
            return draws, seen_enough(self._frame(draws), good, draws["count"], FRAME, MIN_PIXELS)

        return once | redraw(n, generator, attempt)

    def world(self, draws: Draws) -> World:
        """See `RenderedScenes.world`."""
        return crop_frame(self._frame(draws), self.crop)

    def _frame(self, draws: Draws) -> World:
        """The whole frame."""
        code, ground = draws["material"] - 1, draws["ground"][:, None] - 1
        size = torch.tensor(SIZES)[draws["size"] - 1]
        material = Material(
            color=draws["color"],
            second=_SECOND[code],
            metal=_METAL[code],
            roughness=_ROUGH[code],
            texture=_TEXTURE[code],
            frequency=draws["frequency"] * 1.6 / size.sqrt(),
            orientation=turn(draws["texture_turn"]) @ turn(draws["texture_tip"], "y"),
            offset=draws["offset"],
        )
        plain = ground < 0
        under = Material(
            color=torch.where(plain[..., None], 0.3, _FIRST[ground]),
            second=_SECOND[ground],
            metal=torch.where(plain, 0.0, _METAL[ground] * 0.5),
            roughness=torch.where(plain | (_METAL[ground] == 0), 1.0, _ROUGH[ground]),
            texture=torch.where(plain, 0, _TEXTURE[ground]),
            frequency=0.8,
            orientation=turn(draws["ground_turn"]),
            offset=draws["ground_offset"],
        )
        world = clevr_world(draws, material, Planes.ground(under), SHAPES, SIZES)
        return replace(world, ambient=0.3)
