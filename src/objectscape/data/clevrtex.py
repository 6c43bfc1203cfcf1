"""ClevrTex: up to ten textured objects on a textured ground, and its test sets.

Karazija, Laina, Rupprecht, "ClevrTex: A Texture-Rich Benchmark for Unsupervised Multi-Object Segmentation", NeurIPS
2021 (datasets and benchmarks), arXiv 2111.10265; https://www.robots.ox.ac.uk/~vgg/research/clevrtex.

    clevrtex_<variant>/<number // 1000>/CLEVRTEX_<variant>_<6 digits>.png      320x240
                                        CLEVRTEX_<variant>_<6 digits>_flat.png labels, 0 background
                                        CLEVRTEX_<variant>_<6 digits>.json     the objects, in the order of the labels

The benchmark's use of it: the central square of 0.8 times the short side (192 pixels), shrunk to 128 pixels by Pillow,
images bilinear, labels nearest. By number, the first tenth is the test split, the second the validation split.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.opening import existing_folder
from objectscape.data.geometry import owns_pixels, to_tensor
from objectscape.data.pictures import read_labels, read_rgb
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

PAGE = "https://www.robots.ox.ac.uk/~vgg/research/clevrtex"
OBJECTS = 10
CROP = 0.8
VARIANTS = {
    "full": "60 materials, 4 shapes",
    "outd": "out of distribution: 25 other materials, 4 other shapes; all of it is the test split",
    "camo": "all objects of a scene and its ground have the same material",
    "pbg": "plain background",
    "vbg": "plain colored objects on varied backgrounds",
    "grassbg": "varied objects on grass",
}
SHAPES = ("cube", "cylinder", "monkey", "sphere", "cone", "icosahedron", "teapot", "torus")
SIZES = ("small", "medium", "large")
COLORS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
MATERIALS = tuple(
    """
    bricks01 bricksflemishred001 brickspaintedwhite001 carpettwistnatural001 chainmailcopperroundedthin001
    citystreetasphaltgenericcracked002 citystreetroadasphalttwolaneworn001 cliffjagged004 cobblestonearches002
    concretewall001 fabricdenim003 fabricfleece001 fabricleatherbuffalorustic001 fabricrope001
    fabricupholsterybrightanglepattern001 groundclay002 grounddirtforest014 grounddirtrocky002 groundforest003
    groundforest008 groundforestmulch001 groundforestroots001 groundmoss001 groundsnowpitted003 groundtiretracks001
    interiordesignrugstarrynight001 marble062 marble13 metalcorrodedheavy001 metalcorrugatedironsheet002
    metaldesignerweavesteel002 metalpanelrectangular001 metalspottydiscoloration001 metalstainlesssteelbrushed plaster07
    plaster17 roadcityworn001 rooftilesterracotta004 rustmixedonpaint012 rustplain007
    solarpanelspolycrystallinetypebframedclean001 stonebricksbeige015 stonemarblecalacatta004
    terrazzovenetianmattewhite001 tiles05 tilesmarblechevroncreamgrey001 tilesmarblesagegreenbrickbondhoned001
    tilesonyxopaloblack001 tilesrectangularmirrorgray001 wallmedieval003 waterdropletsmixedbubbled001 woodfinedark004
    woodflooring044 woodflooring061 woodflooringmahoganyafricansanded001 woodflooringmerbaubrickbondnatural001
    woodplanks028 woodplanksworn33 woodquarteredchiffon001 whitemarble
    brickoldred001 carpetplushdesignerrhombus001 chainmailgoldrounded001 chippedpaint015 cliffjagged007
    drywallprepared007 fabricupholsterypyramidspattern001 groundclay006 groundclay008 grounddirtforestroots004
    grounddirtrocky006 groundgrassgreen groundrocky006 groundrocky014 groundsandfootprintsleaves001 metalsiding004
    metalstainlesssteelbraided001 panelsacousticfoamtiles004 plastersloppy rooftilesceramic001 rooftilescopper003
    rooftilesquarry001 rustplain030 steelfloordiamond001 tilesterrazzopalladianahonedgreen001
    rubber mymetal tabularasa
    """.split()
)
"""In lower case and without "poliigon": those of `full`, those of `outd`, CLEVR's."""
CODES = {"shape": SHAPES, "size": SIZES, "material": MATERIALS, "color": COLORS}
NUMBERS = ("x", "y", "z", "rotation")


class ClevrTex(SceneDataset):
    """One split of one variant.

    Args:
        path: the folder `clevrtex_<variant>`, or the folder that holds it.
        split: "train", "val" or "test".
        variant: "full", "outd" (only a test split), "camo", "pbg", "vbg" or "grassbg".
        factors: read the objects' properties, if their .json files are there. Codes are 1 + the position in SHAPES,
            SIZES, MATERIALS and COLORS, 0 for no object, -1 for a name that is not listed. Rotation is in degrees;
            x, y, z are world coordinates. Only vbg has meaningful colors.
        image_size: side of the result in pixels.

    Attributes:
        files: the image files, by number.

    Raises:
        FileNotFoundError, ValueError: a folder or file is missing (with how to get it), or damaged.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        split: str = "train",
        variant: str = "full",
        factors: bool = True,
        image_size: int = 128,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: {unknown('split', split, SPLITS)}")
        if variant not in VARIANTS:
            raise ValueError(f"variant={variant!r}: {unknown('variant', variant, VARIANTS)}")
        if image_size < 1:
            raise ValueError(f"image_size={image_size}; expected a positive number of pixels")
        self.split, self.variant, self.image_size = split, variant, image_size
        images, names = _find(
            existing_folder(path, f"the folder clevrtex_{variant}, or the one that holds it"), variant
        )
        count = len(images)
        tenth, fifth = int(0.1 * count), int(0.2 * count)
        bounds = {"test": (0, tenth), "val": (tenth, fifth), "train": (fifth, count)}[split]
        if variant == "outd":
            bounds = (0, count) if split == "test" else (0, 0)
        self.files = images[slice(*bounds)]
        if not self.files and variant != "outd":
            raise ValueError(f"split={split!r} of {images[0].parent.parent} is empty: there are {count} images in all.")
        without = [file for file in self.files if f"{file.stem}_flat.png" not in names]
        if without:
            raise FileNotFoundError(
                f"{len(without)} of {len(self.files)} images have no labels: {without[0].stem}_flat.png is missing. "
                f"Unpack the archive again; see {PAGE}"
            )
        described = sum(f"{file.stem}.json" in names for file in self.files) if factors else 0
        if 0 < described < len(self.files):
            raise FileNotFoundError(
                f"{len(self.files) - described} of {len(self.files)} images have no .json file with the properties of "
                "their objects. Unpack the archive again, or set factors=False."
            )
        self._factors = tuple(name for name in (*NUMBERS, *CODES) if name != "color" or variant == "vbg")
        self.factors = described > 0
        size = f"{image_size}, {image_size}"
        self.spec = Spec(
            name=f"clevrtex_{variant}",
            image_size=(image_size, image_size),
            splits={split: len(self.files)},
            fields={
                "image": f"(3, {size}) uint8 RGB",
                "segments": f"({size}) int8: 0 background, 1..{OBJECTS} objects",
                "present": f"({OBJECTS},) bool: owns a pixel of the image",
            }
            | ({"factors": f"per object: {', '.join(self._factors)}"} if self.factors else {}),
            max_objects=OBJECTS,
            license="see its page",
            source=PAGE,
            notes=f"{VARIANTS[variant]}. Central {CROP} of the short side, Pillow bilinear (labels nearest). By "
            "number, the first tenth is test, the second val. Codes of factors: 1 + the position in SHAPES, SIZES, "
            "MATERIALS, COLORS of objectscape.data.clevrtex.",
        )

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        files = [self.files[index] for index in indices]
        segments = torch.stack([self._labels(file) for file in files])
        factors = [self._properties(file) for file in files] if self.factors else []
        return Scene(
            image=torch.stack([to_tensor(self._shrink(read_rgb(file), Image.Resampling.BILINEAR)) for file in files]),
            segments=segments,
            present=owns_pixels(segments, OBJECTS),
            factors={name: torch.stack([one[name] for one in factors]) for name in self._factors} if factors else None,
        )

    def _shrink(self, image: Image.Image, filter: Image.Resampling) -> Image.Image:
        side = int(CROP * min(image.size))
        left, top = ((length - side) // 2 for length in image.size)
        right, bottom = ((length + side) // 2 for length in image.size)
        return image.crop((left, top, right, bottom)).resize((self.image_size, self.image_size), filter)

    def _labels(self, file: Path) -> Tensor:
        labels = np.array(self._shrink(read_labels(_beside(file, "_flat.png")), Image.Resampling.NEAREST))
        if labels.max(initial=0) > OBJECTS:
            raise ValueError(f"{_beside(file, '_flat.png')} has label {labels.max()}; ClevrTex has {OBJECTS} objects.")
        return torch.from_numpy(labels.astype(np.int8))

    def _properties(self, file: Path) -> dict[str, Tensor]:
        """{factor: (10,)} of one scene."""
        source = _beside(file, ".json")
        values: dict[str, Tensor] = {name: torch.zeros(OBJECTS) for name in NUMBERS}
        values |= {name: torch.zeros(OBJECTS, dtype=torch.int64) for name in self._factors if name in CODES}
        try:
            objects = json.loads(source.read_text())["objects"]
            for row, item in enumerate(objects):
                for name in self._factors:
                    values[name][row] = _value(name, item)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"{source} does not describe the objects of a scene ({type(error).__name__}: {error}). Unpack the "
                "archive again, or set factors=False."
            ) from error
        return values


def _value(name: str, item: dict[str, Any]) -> float:
    if name in CODES:
        word = item[name].lower().removeprefix("poliigon")
        return CODES[name].index(word) + 1 if word in CODES[name] else -1
    return item["rotation"] if name == "rotation" else item["3d_coords"]["xyz".index(name)]


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(file.stem + ending)


def _find(folder: Path, variant: str) -> tuple[list[Path], set[str]]:
    """The variant's images by number, and the names of all files beside them.

    Raises:
        ValueError: if there are none, or some are missing.
    """
    name = f"clevrtex_{variant}"
    root = next((entry for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name.lower() == name), folder)
    pattern = re.compile(rf"CLEVRTEX_{variant}_(\d{{6}})\.png", re.IGNORECASE)
    images: dict[int, Path] = {}
    names: set[str] = set()
    for part in [root, *(Path(entry.path) for entry in os.scandir(root) if entry.is_dir())]:
        for file in os.listdir(part):
            names.add(file)
            if match := pattern.fullmatch(file):
                images[int(match[1])] = part / file
    if not images:
        others = {match[1] for file in names if (match := re.match(r"CLEVRTEX_([a-z]+)_\d{6}\.png", file))}
        held = f"it holds variant={sorted(others)[0]!r}" if others else "unpack the archive there"
        raise ValueError(
            f"{root} holds no images CLEVRTEX_{variant}_NNNNNN.png, nor do its sub-folders; {held}. See {PAGE}"
        )
    missing = sorted(set(range(max(images) + 1)) - set(images))
    if missing:
        raise ValueError(
            f"{root} lacks {len(missing)} images, such as number {missing[0]}. The splits are counted by number, so "
            "all parts of the archive are needed."
        )
    return [images[number] for number in sorted(images)], names
