"""MIT-Princeton's images of the Amazon Picking Challenge 2016: objects in a shelf or tote, with foreground masks.

Zeng et al., "Multi-view Self-supervised Deep Learning for 6D Pose Estimation in the Amazon Picking Challenge", ICRA
2017; http://apc.cs.princeton.edu, "Object Segmentation Training Dataset".

    training/<container>/<object>/scene-<n>/frame-<6 digits>.color.png
    training/<container>/<object>/scene-<n>/masks/frame-<6 digits>.mask.png     255 where the object is

GENESIS-V2's use of it (Engelcke et al. 2021): the short side is shrunk to 128 pixels (images bilinear, masks nearest)
and the central square taken; scenes are sorted and shuffled with Python's generator seeded 0, the first tenth is the
validation split, the second tenth the test split. The labels are foreground and background only.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.opening import existing_folder
from objectscape.data.geometry import owns_pixels, to_tensor
from objectscape.data.pictures import open_image, read_rgb
from objectscape.names import unknown
from objectscape.scene import Scene, Spec


class APC(SceneDataset):
    """The images of one split.

    Args:
        path: the folder `training`, or the folder that holds it.
        split: "train", "val" or "test".
        image_size: side of the result in pixels.

    Raises:
        FileNotFoundError, ValueError: no such folder, no scenes in it, an empty split, or a damaged image.
    """

    def __init__(self, *, path: str | os.PathLike[str], split: str = "train", image_size: int = 128) -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: {unknown('split', split, SPLITS)}")
        folder = existing_folder(path, "the folder `training` of the APC data")
        root = folder / "training" if (folder / "training").is_dir() else folder
        self.split, self.image_size = split, image_size
        scenes = sorted(scene.relative_to(root).as_posix() for scene in root.glob("*/*/scene-*") if scene.is_dir())
        if not scenes:
            raise ValueError(
                f"{root} holds no scenes <container>/<object>/scene-*. `objectscape data info apc` prints more."
            )
        count = len(scenes)
        random.Random(0).shuffle(scenes)
        tenth = count // 10
        bounds = {"val": (0, tenth), "test": (tenth, 2 * tenth), "train": (2 * tenth, None)}[split]
        self.files = [
            file for scene in scenes[slice(*bounds)] for file in sorted((root / scene).glob("frame-*.color.png"))
        ]
        if not self.files:
            raise ValueError(
                f"split={split!r} is empty: {root} has {count} scenes, and the split's tenth holds no image."
            )
        self.spec = Spec(
            name="apc",
            image_size=(image_size, image_size),
            splits={split: len(self.files)},
            fields={
                "image": f"(3, {image_size}, {image_size}) uint8 RGB",
                "segments": f"({image_size}, {image_size}) int8: 0 background, 1 foreground",
                "present": "(1,) bool: is there any foreground",
            },
            max_objects=1,
            license="not stated",
            source="http://apc.cs.princeton.edu",
            notes="Labels are foreground and background only: report all-pixel scores. A scene without masks "
            "(scene-empty) is all background. Split by scene, Python's random with seed 0.",
        )

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        files = [self.files[index] for index in indices]
        image = torch.stack([to_tensor(self._shrink(read_rgb(file), Image.Resampling.BILINEAR)) for file in files])
        segments = torch.stack([self._mask(file) for file in files])
        return Scene(image=image, segments=segments, present=owns_pixels(segments, 1))

    def _mask(self, file: Path) -> Tensor:
        mask = file.parent / "masks" / file.name.replace(".color.png", ".mask.png")
        if not mask.is_file():
            return torch.zeros(self.image_size, self.image_size, dtype=torch.int8)
        values = np.array(self._shrink(open_image(mask).convert("L"), Image.Resampling.NEAREST))
        return torch.from_numpy((values == 255).astype(np.int8))

    def _shrink(self, image: Image.Image, filter: Image.Resampling) -> Image.Image:
        short, size = min(image.size), self.image_size
        width, height = (size * side // short for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        return image.resize((width, height), filter).crop((left, top, left + size, top + size))
