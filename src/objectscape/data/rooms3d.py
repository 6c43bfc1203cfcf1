"""The 3-D Room sets of SPACE (Lin et al. 2020): walled rooms with 4 to 8 (small) or 18 to 24 (large) solids.

OBJ3D_SMALL/train/12-0.png          128 x 128; the number before the dash is the order
            test/bb/bb_0.txt        cx,cy,w,h of every object of image 0 of that order, pixels; val has them too
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.folder import read_rgb
from objectscape.data.formats.opening import existing_folder
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

BOX_SIDE = 128  # boxes are given for images of this side
SUFFIXES = (".png", ".jpg", ".jpeg")


class Rooms3D(SceneDataset):
    """One split of a 3-D Room set, in the published order.

    Args:
        path: the folder that holds train, val and test.
        split: "train", "val" or "test".
        image_size: side of the images in pixels, bilinear.
        labelled: only images with boxes; the published scores are those of the first images that have them.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no images in it, a name without a number, or a line that is no box.
    """

    def __init__(
        self, *, path: str | os.PathLike[str], split: str = "train", image_size: int = 128, labelled: bool = False
    ) -> None:
        if split not in SPLITS:
            raise ValueError(unknown("split", split, SPLITS))
        self.path, self.split, self.image_size = existing_folder(path, "a 3-D Room set"), split, image_size
        counts = {name: len(self._order(name)) for name in SPLITS if (self.path / name).is_dir()}
        if not counts.get(split):
            raise ValueError(f"{self.path} has no images in {split}; expected files such as {split}/0-0.png")
        self.files = self._order(split)
        tables = {i: self._boxes(i) for i in range(len(self.files)) if self._table(i).is_file()}
        if labelled:
            self.files = self.files[: len(tables)]
        self.boxes = tables
        self.rows = max((len(boxes) for boxes in tables.values()), default=0)
        fields = {"image": f"(3, {image_size}, {image_size}) uint8 RGB"}
        if self.rows:
            fields |= {"boxes": "(N, 4) float32 pixels x0 y0 x1 y1", "present": "(N) bool"}
        self.spec = Spec(
            name=self.path.resolve().name,
            image_size=(image_size, image_size),
            splits=dict(counts),
            fields=fields,
            max_objects=self.rows or None,
            source=str(self.path),
            notes=f"{len(tables)} images of this split have boxes",
        )

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        size = (self.image_size, self.image_size)
        images = [read_rgb(self.files[index]).resize(size, Image.Resampling.BILINEAR) for index in indices]
        scene = Scene(image=torch.from_numpy(np.stack([np.array(image) for image in images])).permute(0, 3, 1, 2))
        scene.image = scene.image.contiguous()
        if self.rows:
            scene.boxes = torch.zeros(len(images), self.rows, 4)
            for place, index in enumerate(indices):
                found = self.boxes.get(index)
                if found is not None:
                    scene.boxes[place, : len(found)] = torch.from_numpy(found) * (self.image_size / BOX_SIDE)
            scene.present = (scene.boxes[..., 2:] > scene.boxes[..., :2]).all(-1)
        return scene

    def _order(self, split: str) -> list[Path]:
        found = []
        for file in (self.path / split).iterdir():
            if file.suffix.lower() in SUFFIXES:
                match = re.match(r"(\d+)-", file.name)
                if match is None:
                    raise ValueError(f"{file}: expected a name that starts with a number and a dash, as in 12-0.png")
                found.append((int(match[1]), file.name, file))
        return [file for *_, file in sorted(found)]

    def _table(self, index: int) -> Path:
        return self.path / self.split / "bb" / f"bb_{index}.txt"

    def _boxes(self, index: int) -> np.ndarray:
        """(n, 4) float32 x0 y0 x1 y1."""
        file = self._table(index)
        rows = [line.split(",") for line in file.read_text().splitlines() if line.strip()]
        try:
            table = np.array(rows, np.float32).reshape(len(rows), 4)
        except ValueError as error:
            raise ValueError(f"{file}: expected lines cx,cy,w,h in pixels ({error})") from error
        center, extent = table[:, :2], table[:, 2:]
        return np.concatenate([center - extent / 2, center + extent / 2], 1)
