"""Any folder of pictures as a data set: `data=folder data.path=my_images`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.folder_files import mixed_splits, read_folder, split_folder
from objectscape.data.formats.opening import existing_folder
from objectscape.data.pictures import (
    IGNORE,
    SUFFIXES,
    TRANSPARENCY,
    check_fit_options,
    fit,
    printable,
    read_labels,
    read_rgb,
)
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

log = logging.getLogger(__name__)

ALL = "all"


class ImageFolder(SceneDataset):
    """The pictures of a folder and its sub-folders: png, jpg, webp, bmp, gif (first frame), tif; any size, any mode.

    Every picture becomes RGB uint8 of one size: turned upright by its EXIF tag, gray repeated, 16 bit reduced to 8,
    transparent pixels black. Hidden files and what systems leave behind are passed over, links are followed.

    Splits: if the folder has a sub-folder train, sub-folders train, val and test (in any case, or under another usual
    name such as validation) are the splits, and other pictures are passed over. Otherwise the pictures are put in the
    order of the SHA-256 of their names (path below the folder); the first tenth, at least one, is the test split, the
    next tenth, at least one, the validation split, the rest trains.

    Labels are optional: an image of integer labels (0 background) called `NAME_mask` beside the picture, or
    `masks/NAME` in a folder masks beside it, with any suffix. Labels are renumbered 1, 2, ... in each picture.
    Where other pictures have labels, one without is all -1 (ignore).

    Args:
        path: the folder.
        split: "train", "val", "test", or "all" for every picture.
        image_size: side of the square result in pixels.
        resize: "crop" scales the short side to `image_size` and takes the center; "pad" scales the long side and pads
            with black (labels: -1); "stretch" ignores the aspect ratio. Pictures bicubic, labels nearest.
        transparency: color behind transparent pixels, "black", "white" or "#rrggbb".
        ignore_label: a value of the label images, often 255, that means "ignore" (-1).

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no pictures in it, an empty split, splits that are not clear, or unknown options; reading a damaged
            picture names it.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        split: str = "train",
        image_size: int = 64,
        resize: str = "crop",
        transparency: str = TRANSPARENCY,
        ignore_label: int | None = None,
    ) -> None:
        if split not in (*SPLITS, ALL):
            raise ValueError(f"split={split!r}: {unknown('split', split, (*SPLITS, ALL))}")
        check_fit_options(resize, transparency)
        if image_size < 1:
            raise ValueError(f"image_size={image_size}; expected a positive number of pixels")
        self.path = existing_folder(path, "a folder of images")
        self.split, self.image_size, self.resize = split, image_size, resize
        self.transparency, self.ignore_label = transparency, ignore_label
        contents = read_folder(self.path)
        files, self.labels = contents.pictures, contents.labels
        remarks = contents.remarks()
        if not files:
            raise ValueError(
                f"{printable(self.path)} holds no images; expected files ending in {', '.join(SUFFIXES)}, at any depth."
                + (f" ({remarks})" if remarks else "")
            )
        splits = {} if split == ALL else split_folder(self.path, files)
        if splits is None:
            splits = mixed_splits(self.path, files)
        outside = len(files) - sum(len(part) for part in splits.values()) if splits else 0
        if outside:
            remarks = f"{remarks or 'passed over:'}{',' if remarks else ''} {outside} outside of the splits' folders"
        splits[ALL] = files
        self.files = splits[split]
        if not self.files:
            raise ValueError(
                f"split={split!r} of {printable(self.path)} is empty: {len(files)} images, of which "
                f"{', '.join(f'{len(part)} {name}' for name, part in splits.items())}. Add images, or make "
                "sub-folders train, val and test."
            )
        if remarks and split in ("train", ALL):
            log.info("%s: %s", printable(self.path), remarks)
        fields = {"image": f"(3, {image_size}, {image_size}) uint8 RGB"}
        if self.labels:
            fields["segments"] = f"({image_size}, {image_size}) int16: 0 background, 1.. objects, -1 ignore"
        self.spec = Spec(
            name=printable(self.path.resolve().name),
            image_size=(image_size, image_size),
            splits={name: len(part) for name, part in splits.items()},
            fields=fields,
            license="the user's own images",
            source=printable(self.path),
            notes=f"resize={resize}" + (f"; {remarks}" if remarks else ""),
        )

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        pairs = [self._read(self.files[index]) for index in indices]
        segments = torch.stack([segments for _, segments in pairs]) if self.labels else None
        return Scene(image=torch.stack([image for image, _ in pairs]), segments=segments)

    def _read(self, file: Path) -> tuple[Tensor, Tensor]:
        size = (self.image_size, self.image_size)
        image = fit(read_rgb(file, transparency=self.transparency), size, resize=self.resize)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()  # 3, H, W
        if file not in self.labels:
            return pixels, torch.full(size, IGNORE, dtype=torch.int16)
        label_image = read_labels(self.labels[file], of=file)
        labels = np.array(fit(label_image, size, resize=self.resize, labels=True)).astype(np.int64)
        if self.ignore_label is not None:
            labels[labels == self.ignore_label] = IGNORE
        values = np.unique(labels[labels > 0])
        numbers = np.where(labels > 0, np.searchsorted(values, labels) + 1, labels)
        return pixels, torch.from_numpy(numbers.astype(np.int16))
