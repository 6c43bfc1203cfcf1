"""DeepMind's Multi-Object Datasets: Tetrominoes, Multi-dSprites, Objects Room and CLEVR with masks.

Kabra et al., "Multi-Object Datasets", https://github.com/google-deepmind/multi_object_datasets (Apache-2.0).

One TFRecord file per variant (nine in all); every entity has a 0/255 mask, the first ones are background. Here the
masks become one integer map: 0 background (Objects Room: sky, floor and two wall halves together), 1..N the objects, a
later entity in front of an earlier one.

Papers split the same file differently, so the rule has a name:

- `"emorl"` (EfficientMORL, Emami et al. 2021): the first 60 000 scenes train, the next 320 test; CLEVR: the first
  50 000 and the next 320 of those scenes that pass the filter on the number of objects (CLEVR6: `max_objects=6`).
- `"slot_attention"` (Locatello et al. 2020): the first 60 000 scenes train, CLEVR 70 000, and then the filter; test:
  the first 320 scenes after those that pass the filter.
- `"genesis"` (Engelcke et al.): the first 10 000 scenes test, the next 10 000 validation, the rest train.
- `"all"`: every scene in every split, for the test variants of Objects Room and for your own files.

The first two have no validation split in their papers; ours is the 320 scenes after the test scenes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.hdf5 import HDF5Scenes
from objectscape.data.formats.opening import HDF5_SIGNATURE, existing_file, signature
from objectscape.data.formats.tfrecord import Feature, TFRecordFile, parse_example
from objectscape.data.geometry import NEAREST, owns_pixels, resize_image, resize_nearest
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

SOURCE = "https://github.com/google-deepmind/multi_object_datasets"
RULES = ("emorl", "slot_attention", "genesis", "all")


@dataclass(frozen=True)
class Variant:
    """How one of the published files is laid out."""

    file: str
    size: tuple[int, int]
    entities: int
    channels: int = 3
    background: int = 1
    """Number of leading entities that are background."""
    masks_last: bool = False
    """Masks are stored (H, W, E) rather than (E, H, W)."""
    factors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """{name: shape per entity}, float32."""
    codes: tuple[str, ...] = ()
    """Further factors: one uint8 per entity."""


_SPRITE = ("x", "y", "shape", "visibility", "orientation", "scale")
VARIANTS: dict[str, dict[str, Variant]] = {
    "tetrominoes": {
        "train": Variant(
            "tetrominoes/tetrominoes_train.tfrecords",
            (35, 35),
            4,
            factors={**dict.fromkeys(("x", "y", "shape", "visibility"), ()), "color": (3,)},
        )
    },
    "multi_dsprites": {
        name: Variant(
            f"multi_dsprites/multi_dsprites_{name}.tfrecords",
            (64, 64),
            entities,
            channels=channels,
            masks_last=True,
            factors={**dict.fromkeys(_SPRITE, ()), "color": (channels,)},
        )
        for name, entities, channels in (
            ("binarized", 4, 1),
            ("colored_on_grayscale", 6, 3),
            ("colored_on_colored", 5, 3),
        )
    },
    "objects_room": {
        name: Variant(f"objects_room/objects_room_{name}.tfrecords", (64, 64), entities, background=4)
        for name, entities in (("train", 7), ("six_objects", 10), ("empty_room", 4), ("identical_color", 10))
    },
    "clevr": {
        "train": Variant(
            "clevr_with_masks/clevr_with_masks_train.tfrecords",
            (240, 320),
            11,
            factors={**dict.fromkeys(("x", "y", "z", "rotation", "visibility"), ()), "pixel_coords": (3,)},
            codes=("size", "material", "shape", "color"),
        )
    },
}

# name: (rows, columns, filter for images). Segments are always resized by nearest.
CROPS: dict[str, tuple[slice, slice, str]] = {
    "none": (slice(None), slice(None), NEAREST),
    "emorl": (slice(29, 221), slice(64, 256), "bicubic"),  # HdF5Dataset, clevr-small (96) and clevr-large (128)
    "slot_attention": (slice(29, 221), slice(64, 256), "bilinear"),  # Locatello et al. 2020, 128
    "genesis": (slice(24, 216), slice(64, 256), NEAREST),  # multi_object_config.py, 128
}


class MultiObject(SceneDataset):
    """One split of one of the published files, or of our HDF5 file converted from it.

    A gzip-compressed TFRecord can only be read forwards, so convert it once (`write_hdf5`) before training on it.

    Args:
        name: "tetrominoes", "multi_dsprites", "objects_room" or "clevr".
        variant: multi_dsprites: "binarized", "colored_on_grayscale" or "colored_on_colored" (must be given);
            objects_room: "train", "six_objects", "empty_room" or "identical_color"; the others have one only.
        path: the TFRecord file, or an HDF5 file of ours; which it is, its content tells.
        split: "train", "val" or "test".
        split_rule: "emorl", "slot_attention", "genesis" or "all"; see the module.
        min_objects, max_objects: keep only scenes with so many objects, by their `visibility` (CLEVR6: max_objects=6).
        limit: take only the first so many records of the file before splitting.
        crop: of CLEVR: "emorl" or "slot_attention" (rows 29..220, columns 64..255), "genesis" (rows 24..215, columns
            64..255), or "none". Images are then resized with Pillow's bicubic filter, its bilinear filter, and nearest;
            without a crop, nearest.
        image_size: side of the square result in pixels; None keeps the size after the crop.
        check: verify the checksum of every record, not only of every 16th (for converting).

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown options, a file that is damaged or holds another variant, or an empty split.
    """

    def __init__(
        self,
        *,
        name: str,
        path: str | os.PathLike[str],
        split: str = "train",
        variant: str | None = None,
        split_rule: str = "emorl",
        min_objects: int = 0,
        max_objects: int | None = None,
        limit: int | None = None,
        crop: str = "none",
        image_size: int | None = None,
        check: bool = False,
    ) -> None:
        self.variant = find_variant(name, variant)
        _one_of("split", split, SPLITS)
        _one_of("split_rule", split_rule, RULES)
        _one_of("crop", crop, CROPS)
        if crop != "none" and name != "clevr":
            raise ValueError(f"crop={crop!r} is for name='clevr'; for {name!r} leave crop='none'.")
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size={image_size}; expected a positive number of pixels, or None.")
        if not self.variant.factors and (min_objects > 0 or max_objects is not None):
            raise ValueError(f"min_objects, max_objects: {name} does not store the number of objects; leave them out.")
        self.split, self.crop, self.check = split, crop, check
        rows, columns, self._filter = CROPS[crop]
        cropped = tuple(len(range(size)[part]) for size, part in zip(self.variant.size, (rows, columns), strict=True))
        self.image_size = (image_size, image_size) if image_size is not None else (cropped[0], cropped[1])
        self._area = (rows, columns)
        objects = self.variant.entities - self.variant.background
        most = objects if max_objects is None else min(objects, max_objects)
        selection = f"split_rule={split_rule}, objects={min_objects}..{most}, limit={limit}"
        kind = f"{name}_{variant}" if variant is not None else name
        self.spec = Spec(
            name=f"multi_object/{kind}",
            image_size=self.image_size,
            splits={split: None},
            fields=_describe(self.variant, self.image_size),
            max_objects=most,
            license="Apache-2.0",
            source=f"{SOURCE}, {self.variant.file}",
            notes=f"{selection}. crop={crop}, {self._filter}. "
            + (
                "Background entities (sky, floor, two wall halves) are merged into segment 0. "
                if not self.variant.factors
                else ""
            )
            + "Segment n is entity n + background entities - 1; `present` means that it owns a pixel of the image.",
        )
        file = existing_file(path, f"{self.variant.file} or our HDF5 file made from it")
        self._hdf5: HDF5Scenes | None = None
        if signature(file) == HDF5_SIGNATURE:
            self._hdf5 = self._open_converted(file, split, selection)
            count = len(self._hdf5)
            self.spec.content_hash = self._hdf5.spec.content_hash
        else:
            self._records = TFRecordFile(file)
            self._check_layout()
            self._numbers = self._select(split, split_rule, min_objects, most, limit)
            count = len(self._numbers)
            if count == 0:
                raise ValueError(
                    f"split={split!r} is empty: {file} has {self._records.count()} records, and none is left for it "
                    f"under {selection}. Use the full file, or split_rule='all'."
                )
        self.spec.splits = {split: count}

    def __len__(self) -> int:
        return len(self._numbers) if self._hdf5 is None else len(self._hdf5)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        if self._hdf5 is not None:
            return self._resize(self._hdf5.batch(indices))
        wanted = np.asarray(indices, dtype=np.int64)
        order, back = np.unique(wanted, return_inverse=True)
        numbers = self._numbers[order].tolist()
        scenes = [
            self._scene(self._parse(payload, number))
            for number, payload in zip(numbers, self._records.read(numbers, check=self.check), strict=True)
        ]
        return Scene.stack(scenes)[torch.from_numpy(back)]

    def _parse(self, payload: bytes, number: int) -> dict[str, Feature]:
        return parse_example(payload, f"{self._records.path}, record {number}")

    def _scene(self, features: dict[str, Feature]) -> Scene:
        image, masks, factors = decode(features, self.variant)
        objects = len(masks) - self.variant.background
        labels = np.arange(1, objects + 1, dtype=np.uint8)[:, None, None]
        segments = ((masks[self.variant.background :] == 255) * labels).max(0, initial=0)  # H, W: later entities win
        scene = Scene(
            image=torch.from_numpy(image).permute(2, 0, 1).expand(3, -1, -1)[None],  # 1, 3, H, W
            segments=torch.from_numpy(segments.astype(np.int8))[None],
            factors={name: torch.from_numpy(value[self.variant.background :])[None] for name, value in factors.items()}
            or None,
        )
        return self._resize(scene)[0]

    def _resize(self, scene: Scene) -> Scene:
        """Crop and resize what has the stored size; leave what was converted at the final size."""
        assert scene.segments is not None
        image, segments = scene.image, scene.segments
        if tuple(image.shape[-2:]) != self.image_size:
            cropped = image[..., *self._area]
            image = torch.stack([resize_image(item, self.image_size, self._filter) for item in cropped])
            segments = resize_nearest(segments[..., *self._area], self.image_size).contiguous()
        elif scene.present is not None:
            return scene
        present = owns_pixels(segments, self.variant.entities - self.variant.background)
        return Scene(image=image, segments=segments, present=present, factors=scene.factors)

    def _open_converted(self, file: Any, split: str, selection: str) -> HDF5Scenes:
        scenes = HDF5Scenes(path=file, split=split)
        stored = scenes.spec
        if stored.name != self.spec.name:
            raise ValueError(f"{file} holds {stored.name}, not {self.spec.name}; correct `name`, `variant` or `path`.")
        if not stored.notes.startswith(selection + ". "):
            raise ValueError(
                f"{file} was converted with {stored.notes.partition('. ')[0]}, but {selection} is asked "
                "for. Convert the original file again, or ask for what the file holds."
            )
        same = stored.image_size == self.image_size and f"crop={self.crop}, " in stored.notes
        if stored.image_size != self.variant.size and not same:
            raise ValueError(
                f"{file} holds images of {stored.image_size} pixels ({stored.notes.split('. ')[1]}); they cannot be "
                f"turned into crop={self.crop!r} at {self.image_size}. Convert the original file again."
            )
        return scenes

    def _check_layout(self) -> None:
        features = self._parse(next(self._records.read([0])), 0)
        found = recognize(features)
        if self.variant.file not in {variant.file for variant in found}:
            looks = " or ".join(variant.file for variant in found) or "none of the nine published files"
            raise ValueError(
                f"{self._records.path} does not hold {self.variant.file}; it looks like {looks}. Correct `name`, "
                "`variant` or `path`."
            )

    def _select(self, split: str, rule: str, least: int, most: int, limit: int | None) -> np.ndarray:
        """(n,) numbers of the records that belong to the split."""
        clevr = self.variant is VARIANTS["clevr"]["train"]
        filtered = least > 0 or most < self.variant.entities - self.variant.background
        if rule in ("genesis", "all"):
            numbers = self._passing(0, limit, least, most, None) if filtered else np.arange(self._records.count(limit))
            if rule == "all":
                return numbers
            first = {"test": (0, 10_000), "val": (10_000, 20_000), "train": (20_000, None)}[split]
            if not filtered:
                return numbers[slice(*first)]
            return numbers[(numbers >= first[0]) & (numbers < (first[1] or np.inf))]
        skip = {"train": 0, "test": 0, "val": 320}[split]
        if rule == "emorl" and clevr:  # the filter comes before the counting
            start, stop = (0, 50_000) if split == "train" else (50_000 + skip, 50_320 + skip)
            return self._passing(0, limit, least, most, stop)[start:stop]
        boundary = 70_000 if clevr else 60_000
        if split == "train":
            return self._passing(0, boundary if limit is None else min(limit, boundary), least, most, None)
        return self._passing(boundary, limit, least, most, skip + 320)[skip:]

    def _passing(self, start: int, stop: int | None, least: int, most: int, enough: int | None) -> np.ndarray:
        """Numbers of records in [start, stop) whose number of objects is in [least, most]; at most `enough` of them."""
        if least == 0 and most == self.variant.entities - self.variant.background:
            last = stop if enough is None else min(start + enough, stop if stop is not None else start + enough)
            return np.arange(start, max(start, self._records.count(last)))
        numbers: list[int] = []
        number = start
        while (stop is None or number < stop) and (enough is None or len(numbers) < enough):
            if self._records.count(number + 1) <= number:
                break
            visibility = self._parse(next(self._records.read([number], check=self.check)), number)[
                "visibility"
            ].floats()
            if least <= round(float(visibility[self.variant.background :].sum())) <= most:
                numbers.append(number)
            number += 1
        return np.array(numbers, dtype=np.int64)


def find_variant(name: str, variant: str | None) -> Variant:
    """The layout of one of the nine files; ValueError names what is allowed."""
    if name not in VARIANTS:
        raise ValueError(f"name={name!r}: {unknown('data set', name, VARIANTS)}")
    variants = VARIANTS[name]
    if variant is None and "train" in variants:
        return variants["train"]
    if variant not in variants:
        raise ValueError(f"variant={variant!r}; for name={name!r} choose one of {', '.join(variants)}.")
    return variants[variant]


def recognize(features: dict[str, Feature]) -> list[Variant]:
    """Which of the nine files a record comes from (two variants of Objects Room look alike)."""
    names = {name: len(feature.data) // 3 for name, feature in features.items() if name in ("image", "mask")}
    return [
        variant
        for variants in VARIANTS.values()
        for variant in variants.values()
        if {"image", "mask"} <= names.keys()
        and features.keys() - names.keys() == {*variant.factors, *variant.codes}
        and names["image"] == variant.size[0] * variant.size[1] * variant.channels
        and names["mask"] == variant.size[0] * variant.size[1] * variant.entities
    ]


def decode(features: dict[str, Feature], variant: Variant) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """One record: image (H, W, C) uint8, masks (E, H, W) uint8, factors {name: (E,) or (E, n)} float32 or uint8.

    Raises:
        ValueError: a feature is missing or has another size.
    """
    height, width = variant.size

    def values(name: str, shape: tuple[int, ...], octets: bool) -> np.ndarray:
        if name not in features:
            raise ValueError(f"a record of {variant.file} lacks the feature {name!r}; it has {', '.join(features)}.")
        array = features[name].octets() if octets else features[name].floats()
        if array.size != np.prod(shape):
            raise ValueError(f"{features[name].where} has {array.size} values; expected {' x '.join(map(str, shape))}.")
        return array.reshape(shape)

    image = values("image", (height, width, variant.channels), True).copy()
    if variant.masks_last:
        masks = values("mask", (height, width, variant.entities), True).transpose(2, 0, 1)
    else:
        masks = values("mask", (variant.entities, height, width), True)
    factors = {name: values(name, (variant.entities, *shape), False).copy() for name, shape in variant.factors.items()}
    factors |= {name: values(name, (variant.entities,), True).copy() for name in variant.codes}
    return image, masks, factors


def _describe(variant: Variant, size: tuple[int, int]) -> dict[str, str]:
    objects, (height, width) = variant.entities - variant.background, size
    fields = {
        "image": f"(3, {height}, {width}) uint8 RGB",
        "segments": f"({height}, {width}) int8: 0 background, 1..{objects} objects",
        "present": f"({objects},) bool: owns a pixel of the image",
    }
    if variant.factors:
        names = ", ".join(f"{name} {shape}" if shape else name for name, shape in variant.factors.items())
        fields["factors"] = f"per object: {names}: float32"
        if variant.codes:
            fields["factors"] += f"; {', '.join(variant.codes)}: uint8 codes, 0 for none"
    return fields


def _one_of(option: str, value: str, allowed: Sequence[str] | dict[str, Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{option}={value!r}: {unknown(option, value, allowed)}")
