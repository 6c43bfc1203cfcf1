"""ShapeStacks: simulated stacks of two to six blocks, some about to fall.

Groth et al., "ShapeStacks: Learning Vision-Based Physical Intuition for Stacked Objects", ECCV 2018;
https://shapestacks.robots.ox.ac.uk. GENESIS' use of it: every camera of every listed scenario is one image; the central
196 of 224 pixels are resized to 64, the image with Pillow's antialiased bilinear filter, the labels by nearest.

    splits/<split_name>/{train,eval,test}.txt           scenarios, one per line
    recordings/<scenario>/rgb-w=..-f=..-l=..-c=..-cam_<n>-mono-0.png
    iseg/<scenario>/iseg-w=0-f=0-l=0-c=original-cam_<n>-mono-0.map      a PNG of gray value 32 * label
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.opening import existing_file, existing_folder
from objectscape.data.geometry import crop_center, owns_pixels, resize_image, resize_nearest, to_tensor
from objectscape.data.pictures import open_image, read_rgb
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

CROP = 196
OBJECTS = 6
UNASSIGNED = 7
FILES = {"train": "train.txt", "val": "eval.txt", "test": "test.txt"}


class ShapeStacks(SceneDataset):
    """Images of one split, with instance labels.

    Args:
        path: the folder with `splits`, `recordings` and `iseg`.
        split: "train", "val" (the file eval.txt) or "test".
        split_name: "default", "blocks_all" or "ccs_all".
        labels: read the instance labels (a separate download).
        image_size: side of the result in pixels.

    Attributes:
        files: the image files, sorted by scenario as listed, then by name.
        unstable: (len,) bool, whether the stack of each image is about to fall.

    Raises:
        FileNotFoundError, ValueError: a folder or file is missing (with how to get it) or damaged.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        split: str = "train",
        split_name: str = "default",
        labels: bool = True,
        image_size: int = 64,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: {unknown('split', split, SPLITS)}")
        self.path = existing_folder(path, "the folder of ShapeStacks, with splits, recordings and iseg")
        self.split, self.labels, self.image_size = split, labels, image_size
        splits = existing_folder(
            self.path / "splits" / split_name, "a folder of split files (archive shapestacks-meta)"
        )
        listed = existing_file(splits / FILES[split], "a list of scenarios").read_text().split()
        self.files: list[Path] = []
        for scenario in listed:
            folder = existing_folder(self.path / "recordings" / scenario, "a recording (archive shapestacks-rgb)")
            self.files += sorted(
                f for f in folder.iterdir() if f.name.startswith("rgb-") and f.name.endswith("-mono-0.png")
            )
        if not self.files:
            raise ValueError(
                f"{splits / FILES[split]} lists {len(listed)} scenarios, but they hold no images rgb-*-mono-0.png."
            )
        self.unstable = torch.tensor([is_unstable(file.parent.name) for file in self.files])
        if labels:
            existing_folder(self.path / "iseg", "the instance labels (archive shapestacks-iseg), or set labels=False")
        self.spec = Spec(
            name="shapestacks",
            image_size=(image_size, image_size),
            splits={split: len(self.files)},
            fields={"image": f"(3, {image_size}, {image_size}) uint8 RGB"}
            | (
                {
                    "segments": f"({image_size}, {image_size}) int8: 0 background, 1..6 from bottom to top, -1 ignore",
                    "present": "(6,) bool: owns a pixel of the image",
                }
                if labels
                else {}
            ),
            max_objects=OBJECTS,
            license="not stated for the data; code GPL-3.0",
            source="https://shapestacks.robots.ox.ac.uk",
            notes=f"split_name={split_name}; val is eval.txt. Label 7 (unassigned, not expected) becomes -1.",
        )

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        size = (self.image_size, self.image_size)
        files = [self.files[index] for index in indices]
        image = torch.stack([resize_image(crop_center(to_tensor(read_rgb(f)), CROP), size, "bilinear") for f in files])
        if not self.labels:
            return Scene(image=image)
        segments = torch.stack([resize_nearest(crop_center(self._labels(file), CROP), size) for file in files])
        present = owns_pixels(segments.clamp_min(0), OBJECTS)
        return Scene(image=image, segments=segments, present=present)

    def _labels(self, file: Path) -> Tensor:
        """(H, W) int8 labels of one image: only the camera counts, as walls, floor and light change no label."""
        match = re.search(r"-cam_(\d+)-mono-0\.png$", file.name)
        if match is None:
            raise ValueError(f"{file}: expected a name like rgb-w=4-f=1-l=3-c=original-cam_1-mono-0.png")
        name = f"iseg-w=0-f=0-l=0-c=original-cam_{match[1]}-mono-0.map"
        label_file = existing_file(
            self.path / "iseg" / file.parent.name / name,
            "instance labels (archive shapestacks-iseg), or set labels=False",
        )
        values = np.asarray(open_image(label_file).convert("RGBA"))[..., 0] // 32
        labels = torch.from_numpy(values.astype(np.int8))
        return labels.masked_fill(labels == UNASSIGNED, -1)


def is_unstable(scenario: str) -> bool:
    """Whether a stack falls, by its name: vcom and vpsf name the object whose center of mass or surface is at fault."""
    match = re.search(r"-vcom=(\d+)-vpsf=(\d+)", scenario)
    if match is None:
        raise ValueError(f"{scenario!r}: expected a scenario like env_ccs-hard-h=2-vcom=0-vpsf=0-v=60")
    return int(match[1]) > 0 or int(match[2]) > 0
