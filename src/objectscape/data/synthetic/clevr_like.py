"""Scenes by the rules of CLEVR (Johnson et al., CVPR 2017): cubes, balls and cylinders on a gray ground.

Counts, sizes, colors, distances, margins, jitter of camera and lamps, and the least visible area are those of the
published generator (github.com/facebookresearch/clevr-dataset-gen, `render_images.py` and `properties.json`); positions
of camera and lamps are those of its base scene as Kubric (github.com/google-research/kubric) gives them. The renderer
and the materials are ours: docs/data/clevr_like.md says how pictures differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from objectscape.data.synthetic.base import Draws
from objectscape.data.synthetic.rendered import Dice, RenderedScenes, Rules, Solids, place, redraw, seen_enough
from objectscape.data.synthetic.scene3d import Camera, Lights, Material, Objects, Planes, World, turn
from objectscape.names import unknown

COLORS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
"""CLEVR's colors; code 1 is gray."""

OTHER_COLORS = {
    "orange": (255, 120, 20),
    "pink": (255, 130, 190),
    "lime": (150, 230, 40),
    "navy": (16, 24, 84),
    "white": (240, 240, 240),
    "black": (16, 16, 16),
    "teal": (8, 90, 90),
    "magenta": (225, 20, 120),
}
"""What `unseen_colors` takes instead: codes 9 to 16."""

NAMES = ("cube", "sphere", "cylinder", "cone", "icosahedron")
"""Code 1 is the cube."""

PALETTE = torch.tensor([*COLORS.values(), *OTHER_COLORS.values()]) / 255

SIZES = (0.7, 0.35)
"""Half sizes: code 1 large, code 2 small; a cube is smaller by the square root of 2."""

MATERIALS = ("rubber", "metal")
GAP, MARGIN, TRIES, MIN_PIXELS = 0.25, 0.4, 50, 200

CAMERA = (7.48113, -6.50764, 5.34367)
FIELD_OF_VIEW = 0.6607
"""Vertical, of a 35 mm lens on a 32 mm sensor at 4:3."""
LAMPS = ((6.44671, -2.90517, 4.25840), (-4.67112, -4.01360, 3.01122), (-1.16850, 2.64602, 5.81574))
"""Key, fill and back light."""
SUN = (11.6608, -6.62799, 25.8232)

FRAME = (240, 320)
CROPS = {"benchmark": (29, 64, 221, 256), "center": (24, 64, 216, 256), "none": (0, 0, 240, 320)}
"""{crop: top, left, bottom, right in the frame of 240 x 320}. benchmark: what Slot Attention, IODINE and EfficientMORL
cut out; center: GENESIS and ClevrTex."""

_COGENT = (("gray", "blue", "brown", "yellow"), ("red", "green", "purple", "cyan"))


def picture_size(image_size: int, crop: str) -> tuple[int, int]:
    """(H, W) of a picture: the whole 4:3 frame, `image_size` high, for crop "none"; a square for the others."""
    if crop not in CROPS:
        raise ValueError(f"crop={crop!r}: {unknown('crop', crop, CROPS)}")
    return image_size, round(image_size * 4 / 3) if crop == "none" else image_size


@dataclass(frozen=True, kw_only=True)
class ClevrRules(Rules):
    """What a variant of `ClevrLike` changes."""

    shapes: tuple[str, ...] = ("cube", "sphere", "cylinder")
    colors: tuple[str, ...] = tuple(COLORS)
    cubes: tuple[str, ...] = ()
    """Those of `colors` that cubes have; cylinders have the others. Empty: all."""
    margin: float = MARGIN
    sizes: tuple[int, ...] = (1, 2)
    """Codes of `SIZES`."""
    area: float = 3.0
    """Centers lie within this of the middle, along x and y."""


class ClevrLike(RenderedScenes):
    """Cubes, balls and cylinders on a gray ground, by CLEVR's rules.

    Args:
        split: "train", "val" or "test".
        count: scenes in this split; None for 50 000 (train) or 320 (val, test).
        seed: of the stream.
        variant: one of `VARIANTS`: "clevr", or a shift of it.
        image_size: side of the picture in pixels; with crop="none", its height, and the width is 4/3 of that.
        crop: the part of CLEVR's 320 x 240 frame that is the picture, one of `CROPS`. Rendered at `image_size`, not
            cut out and resized.
        min_objects: fewest objects in a scene.
        max_objects: most objects in a scene; 6 is "CLEVR6".
        near: what a small picture can show: large objects only, none of them gray, within 1.7 of the middle along x and
            y, and the middle 70% of the picture; at most 3 objects. Every variant can be near.
        quality: of the shading: "fast", "normal" or "high".
    """

    NAME = "clevr_like"
    SOURCE = "rendered after CLEVR, https://github.com/facebookresearch/clevr-dataset-gen"
    FACTORS: ClassVar[Mapping[str, str]] = {
        "x": "in the world",
        "y": "in the world",
        "z": "of the middle, in the world",
        "rotation": "about the vertical, degrees 0..360",
        "size": "code 1 large, 2 small",
        "material": "code 1 rubber, 2 metal",
        "shape": "code 1.. in the order cube, sphere, cylinder, cone, icosahedron",
        "color": "code 1.. in the order " + ", ".join((*COLORS, *OTHER_COLORS)),
    }
    VARIANTS: ClassVar[Mapping[str, ClevrRules]] = {
        "clevr": ClevrRules(text="CLEVR's rules"),
        "unseen_colors": ClevrRules(text="eight colors that CLEVR does not have", colors=tuple(OTHER_COLORS)),
        "unseen_shapes": ClevrRules(text="only cones and icosahedra", shapes=("cone", "icosahedron")),
        "more_objects": ClevrRules(text="1 to 4 objects more than usual, margin 0.1", more=4, margin=0.1),
        "textures": ClevrRules(text="textured objects", textures=True),
        "lighting": ClevrRules(text="one strong colored lamp from any side", lighting=True),
        "occluders": ClevrRules(text="two dark posts before the scene", occluders=2),
        "close_up": ClevrRules(text="the middle 70% of the picture", zoom=0.7),
        "cogent_a": ClevrRules(text="CLEVR-CoGenT A: cubes gray, blue, brown or yellow, cylinders the others",
                               cubes=_COGENT[0]),
        "cogent_b": ClevrRules(text="CLEVR-CoGenT B: cubes red, green, purple or cyan, cylinders the others",
                               cubes=_COGENT[1]),
    }  # fmt: skip

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        variant: str = "clevr",
        image_size: int = 128,
        crop: str = "benchmark",
        min_objects: int = 3,
        max_objects: int = 10,
        near: bool = False,
        quality: str = "normal",
    ) -> None:
        if not 1 <= min_objects <= max_objects <= 10:
            raise ValueError(f"min_objects={min_objects}, max_objects={max_objects}; need 1 <= min <= max <= 10")
        if near and max_objects > 3:
            raise ValueError(f"max_objects={max_objects} with near=True; at most 3 find room in the middle")
        self.near = near
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
        if near:
            self.spec = replace(self.spec, name=f"tiny_{self.spec.name}")  # as the configuration is called

    def rules_of(self, variant: str) -> ClevrRules:
        """See `RenderedScenes.rules_of`. More than 2 further objects would find no room in the middle."""
        rules = self.VARIANTS[variant]
        if not self.near:
            return rules
        colors, cubes = (tuple(color for color in some if color != "gray") for some in (rules.colors, rules.cubes))
        more, text = (2, "1 or 2 objects more than usual, margin 0.1") if rules.more else (0, rules.text)
        zoom = 0.7 * rules.zoom
        return replace(
            rules, text=f"{text}, near", colors=colors, cubes=cubes, sizes=(1,), area=1.7, more=more, zoom=zoom
        )

    def draw_scenes(self, n: int, generator: torch.Generator) -> Draws:
        """See `RenderedScenes.draw_scenes`."""
        dice = Dice(n, generator)
        once = {
            "count": dice.integers(*self.objects),
            "camera": torch.tensor(CAMERA) + dice.uniform(-0.5, 0.5, 3),
            "lamps": torch.tensor(LAMPS) + dice.uniform(-1, 1, 3, 3),
        }

        def attempt(dice: Dice) -> tuple[Draws, Tensor]:
            draws = {name: values[dice.rows] for name, values in once.items()} | self._objects(dice)
            good = put_down(draws, NAMES, SIZES, self.rules.margin)
            return draws, seen_enough(self._frame(draws), good, draws["count"], FRAME, MIN_PIXELS)

        return once | redraw(n, generator, attempt)

    def _objects(self, dice: Dice) -> Draws:
        most, rules = self.rows, self.rules
        colors = [*COLORS, *OTHER_COLORS]
        draws = {
            "size": dice.choice(torch.tensor(rules.sizes), most),
            "candidates": dice.uniform(-rules.area, rules.area, most, TRIES, 2),
            "shape": dice.choice(torch.tensor([NAMES.index(s) + 1 for s in rules.shapes]), most),
            "color": dice.choice(torch.tensor([colors.index(c) + 1 for c in rules.colors]), most),
            "rotation": dice.uniform(0, 360, most),
            "material": dice.integers(1, 2, most),
        }
        if rules.cubes:
            first = torch.tensor([colors.index(c) + 1 for c in rules.cubes])
            other = torch.tensor([colors.index(c) + 1 for c in rules.colors if c not in rules.cubes])
            cubes, cylinders = dice.choice(first, most), dice.choice(other, most)
            draws["color"] = torch.where(draws["shape"] == 1, cubes, draws["color"])
            draws["color"] = torch.where(draws["shape"] == 3, cylinders, draws["color"])
        return draws

    def world(self, draws: Draws) -> World:
        """See `RenderedScenes.world`."""
        return crop_frame(self._frame(draws), self.crop)

    def _frame(self, draws: Draws) -> World:
        """The whole frame."""
        metal = draws["material"] == 2
        material = Material(
            color=PALETTE[draws["color"] - 1], metal=metal.float() * 0.85, roughness=torch.where(metal, 0.2, 0.7)
        )
        return clevr_world(draws, material, gray_ground(len(metal)), NAMES, SIZES)


def put_down(draws: Draws, names: Sequence[str], sizes: Sequence[float], margin: float) -> Tensor:
    """Turns `candidates` in `draws` to `x`, `y`, `z` by CLEVR's rules; (n,) bool: whether every object found a place.

    Args:
        draws: count (n,); camera (n, 3); candidates (n, N, tries, 2); size and shape (n, N) codes.
        names: shape of each code.
        sizes: half size of each code.
        margin: least distance of two centers as seen from the camera, to the side and to the back.
    """
    solids = Solids.of(names)
    radius = torch.tensor(sizes)[draws["size"] - 1]
    half = radius * solids.shrink[draws["shape"] - 1]
    spot, good = place(
        draws.pop("candidates"),
        radius,
        half,  # as published: a cube is shrunk once it has its place
        draws["count"],
        gap=GAP,
        axes=sight_axes(draws["camera"]),
        margin=margin,
    )
    draws |= {"x": spot[..., 0], "y": spot[..., 1], "z": half * solids.height[draws["shape"] - 1]}
    return good


def clevr_world(
    draws: Draws, material: Material, ground: Planes, names: Sequence[str], sizes: Sequence[float]
) -> World:
    """Camera, lamps and objects of a frame of CLEVR.

    Args:
        draws: count (n,); camera (n, 3); lamps (n, 3, 3); x, y, z, size, shape, rotation (n, N) as `ClevrLike.FACTORS`.
        material: of the objects.
        ground: what they stand on.
        names: shape of each code.
        sizes: half size of each code, before `Solids.shrink`.
    """
    solids, code = Solids.of(names), draws["shape"] - 1
    size = torch.tensor(sizes)[draws["size"] - 1]
    objects = Objects(
        shape=solids.shape[code],
        position=torch.stack([draws["x"], draws["y"], draws["z"]], -1),
        scale=(size * solids.shrink[code])[..., None],
        rotation=turn(torch.deg2rad(draws["rotation"])) @ solids.tilt[code],
        material=material,
        present=torch.arange(size.shape[1]) < draws["count"][:, None],
    )
    sun = torch.tensor(SUN).expand(len(size), 1, 3)
    lights = Lights(
        position=torch.cat([draws["lamps"], sun], 1),
        color=torch.tensor([[0.62, 0.57, 0.50], [0.15, 0.16, 0.20], [0.12, 0.12, 0.12], [0.20, 0.20, 0.20]]),
        size=torch.tensor([0.5, 0.5, 0.5, 2.0]),
    )
    camera = Camera(position=draws["camera"], target=torch.zeros(3), field_of_view=FIELD_OF_VIEW)
    return World(objects=objects, planes=ground, camera=camera, lights=lights, ambient=0.32)


def gray_ground(n: int) -> Planes:
    """CLEVR's ground, for n scenes."""
    return Planes.ground(Material(color=torch.full((n, 1, 3), 0.3), roughness=1.0))


def crop_frame(world: World, crop: str) -> World:
    """The world seen in one of `CROPS` of its frame only."""
    return replace(world, camera=world.camera.cropped(size=FRAME, window=CROPS[crop]))


def sight_axes(camera: Tensor) -> Tensor:
    """(n, 2, 2) the horizontal directions behind and right of cameras (n, 3) that look at the z axis."""
    behind = -camera[:, :2] / camera[:, :2].norm(dim=-1, keepdim=True)
    return torch.stack([behind, torch.stack([behind[:, 1], -behind[:, 0]], -1)], 1)
