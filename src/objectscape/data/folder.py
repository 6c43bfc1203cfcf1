"""Any folder of pictures as a data set: `data=folder data.path=my_images`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.opening import existing_folder
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
RESIZES = ("crop", "stretch", "pad")
ALL = "all"
IGNORE = -1


class ImageFolder(SceneDataset):
    """The pictures of a folder and its sub-folders: png, jpg, webp, bmp, gif (first frame), tif; any size, any mode.

    Every picture becomes RGB uint8 of one size: turned upright by its EXIF tag, gray repeated, 16 bit reduced to the
    upper 8, transparent pixels black.

    Splits: if the folder has a sub-folder train, sub-folders train, val and test are the splits. Otherwise the
    pictures are put in the order of the SHA-256 of their names (path below the folder); the first tenth, at least one,
    is the test split, the next tenth, at least one, the validation split, the rest trains.

    Labels are optional: an image of integer labels (0 background) called `NAME_mask.png` beside the picture, or
    `masks/NAME.png` in a folder masks beside it. Labels are renumbered 1, 2, ... in each picture. Where other pictures
    have labels, one without is all -1 (ignore).

    Args:
        path: the folder.
        split: "train", "val", "test", or "all" for every picture.
        image_size: side of the square result in pixels.
        resize: "crop" scales the short side to `image_size` and takes the center; "pad" scales the long side and pads
            with black (labels: -1); "stretch" ignores the aspect ratio. Pictures bicubic, labels nearest.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no pictures in it, an empty split, or unknown options; reading a damaged picture names it.
    """

    def __init__(
        self, *, path: str | os.PathLike[str], split: str = "train", image_size: int = 64, resize: str = "crop"
    ) -> None:
        if split not in (*SPLITS, ALL):
            raise ValueError(f"split={split!r}: {unknown('split', split, (*SPLITS, ALL))}")
        if resize not in RESIZES:
            raise ValueError(f"resize={resize!r}: {unknown('way to resize', resize, RESIZES)}")
        if image_size < 1:
            raise ValueError(f"image_size={image_size}; expected a positive number of pixels")
        self.path = existing_folder(path, "a folder of images")
        self.split, self.image_size, self.resize = split, image_size, resize
        files = sorted(file for file in self.path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        files = [file for file in files if not is_mask(file)]
        if not files:
            raise ValueError(
                f"{self.path} holds no images; expected files ending in {', '.join(SUFFIXES)}, at any depth."
            )
        splits = self._split(files)
        self.files = splits[split]
        if not self.files:
            raise ValueError(
                f"split={split!r} of {self.path} is empty: {len(files)} images, of which "
                f"{', '.join(f'{len(part)} {name}' for name, part in splits.items())}. Add images, or make "
                "sub-folders train, val and test."
            )
        self._labeled = any(find_mask(file) is not None for file in files)
        fields = {"image": f"(3, {image_size}, {image_size}) uint8 RGB"}
        if self._labeled:
            fields["segments"] = f"({image_size}, {image_size}) int16: 0 background, 1.. objects, -1 ignore"
        self.spec = Spec(
            name=self.path.resolve().name,
            image_size=(image_size, image_size),
            splits={name: len(part) for name, part in splits.items()},
            fields=fields,
            license="the user's own images",
            source=str(self.path),
            notes=f"resize={resize}",
        )

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        pairs = [self._read(self.files[index]) for index in indices]
        segments = torch.stack([segments for _, segments in pairs]) if self._labeled else None
        return Scene(image=torch.stack([image for image, _ in pairs]), segments=segments)

    def _split(self, files: list[Path]) -> dict[str, list[Path]]:
        if (self.path / "train").is_dir():
            parts = {name: [file for file in files if (self.path / name) in file.parents] for name in SPLITS}
        else:

            def key(file: Path) -> bytes:
                return hashlib.sha256(file.relative_to(self.path).as_posix().encode()).digest()

            order, tenth = sorted(files, key=key), max(1, round(len(files) / 10))
            parts = {"train": order[2 * tenth :], "val": order[tenth : 2 * tenth], "test": order[:tenth]}
        return {**parts, ALL: files}

    def _read(self, file: Path) -> tuple[Tensor, Tensor]:
        upright = read_rgb(file)
        image = self._fit(upright, Image.Resampling.BICUBIC, 0)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()  # 3, H, W
        size = (self.image_size, self.image_size)
        mask = find_mask(file)
        if mask is None:
            return pixels, torch.full(size, IGNORE, dtype=torch.int16)
        label_image = read_labels(mask)
        if label_image.size != upright.size:
            raise ValueError(
                f"{mask} has {label_image.size} pixels (width, height), {file} has {upright.size}; make them equal."
            )
        labels = np.array(self._fit(label_image, Image.Resampling.NEAREST, IGNORE)).astype(np.int64)
        values = np.unique(labels[labels > 0])
        numbers = np.where(labels > 0, np.searchsorted(values, labels) + 1, labels)
        return pixels, torch.from_numpy(numbers.astype(np.int16))

    def _fit(self, image: Image.Image, filter: Image.Resampling, fill: int) -> Image.Image:
        size = (self.image_size, self.image_size)
        if self.resize == "crop":
            return ImageOps.fit(image, size, filter)
        if self.resize == "stretch":
            return image.resize(size, filter)
        fitted = ImageOps.contain(image, size, filter)
        result = Image.new(image.mode, size, fill if image.mode == "I" else (fill, fill, fill))
        result.paste(fitted, ((size[0] - fitted.width) // 2, (size[1] - fitted.height) // 2))
        return result


def is_mask(file: Path) -> bool:
    """Whether a picture is the label image of another one."""
    return file.stem.endswith("_mask") or file.parent.name == "masks"


def find_mask(file: Path) -> Path | None:
    """The label image of a picture, if there is one."""
    candidates = (file.with_name(f"{file.stem}_mask.png"), file.parent / "masks" / f"{file.stem}.png")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def read_rgb(file: str | os.PathLike[str]) -> Image.Image:
    """A picture file as an upright RGB image; ValueError names a file that cannot be read."""
    image = ImageOps.exif_transpose(open_image(file))
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        values = np.asarray(image).astype(np.int64)
        values = values >> 8 if image.mode != "I" or values.max() > 255 else values
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError(f"{file} holds floating-point values; save it as an 8 or 16 bit image.")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert("RGB")


def read_labels(file: str | os.PathLike[str]) -> Image.Image:
    """A label image in mode I (32 bit integers); ValueError if it has colors."""
    image = ImageOps.exif_transpose(open_image(file))
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(f"{file} has mode {image.mode}; labels are one integer per pixel (gray or palette).")
    return Image.fromarray(np.asarray(image).astype(np.int32))


def open_image(file: str | os.PathLike[str]) -> Image.Image:
    """A picture file as Pillow reads it, whatever its name ends in; ValueError names a file that cannot be read."""
    try:
        image = Image.open(file)
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image ({error}); repair or remove it.") from error
    return image
