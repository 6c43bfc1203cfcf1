"""Picture files of any kind, read in one way and fitted to a size in one way, for training and for `show` alike."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageOps

from objectscape.names import unknown

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
RESIZES = ("crop", "stretch", "pad")
TRANSPARENCY = "black"
IGNORE = -1
ORIENTATION = 0x0112  # the EXIF tag


def printable(path: str | os.PathLike[str]) -> str:
    """A path that can be printed and written, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "replace")


def check_fit_options(resize: str, transparency: str) -> None:
    """Raise ValueError for an unknown way to resize, or something that is no color."""
    if resize not in RESIZES:
        raise ValueError(f"resize={resize!r}: {unknown('way to resize', resize, RESIZES)}")
    try:
        ImageColor.getrgb(transparency)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            f"transparency={transparency!r}: expected the color behind transparent pixels: black, white or #rrggbb"
        ) from None


def read_rgb(file: str | os.PathLike[str], *, transparency: str = TRANSPARENCY) -> Image.Image:
    """A picture file as an RGB image, turned upright by its EXIF tag.

    Grays of more than 8 bits are scaled to 8: 16-bit files from 0..65535; others from [0, 1] (floating point), from
    [0, 255] or from [0, 65535], whichever holds their largest value, and beyond that from [0, largest]. Of an animation
    the first frame is taken.

    Args:
        file: of any kind that Pillow reads.
        transparency: color behind transparent pixels.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is a folder or cannot be read to its end.
    """
    return to_rgb(open_image(file, upright=True), transparency=transparency)


def to_rgb(image: Image.Image, *, transparency: str = TRANSPARENCY) -> Image.Image:
    """An image of any mode in RGB; see `read_rgb`."""
    if image.mode.startswith(("I", "F")):  # Pillow's own conversion would cut them off at 255
        values = np.asarray(image).astype(np.float64)
        largest = float(values.max(initial=0.0, where=np.isfinite(values)))
        full = 1.0 if image.mode == "F" and largest <= 1 else 255.0 if largest <= 255 else max(65535.0, largest)
        full = 65535.0 if image.mode.startswith("I;16") else full
        gray = (np.nan_to_num(values) / full).clip(0, 1) * 255
        return Image.fromarray(gray.round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, (*ImageColor.getrgb(transparency)[:3], 255))
        return Image.alpha_composite(behind, image).convert("RGB")
    return image.convert("RGB")


def read_labels(file: str | os.PathLike[str], *, of: str | os.PathLike[str] | None = None) -> Image.Image:
    """A label image in mode I (32-bit integers), turned upright; the picture `of` which it is turns it too.

    Raises:
        ValueError: if it has colors, another size than its picture, or could be meant upright or as the camera took it.
    """
    image = open_image(file, upright=True)
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(
            f"{printable(file)} has mode {image.mode}; labels are one integer per pixel (gray or palette)."
        )
    labels = Image.fromarray(np.asarray(image).astype(np.int32))
    return labels if of is None else _turned_alike(labels, file, of)


def _turned_alike(labels: Image.Image, file: str | os.PathLike[str], of: str | os.PathLike[str]) -> Image.Image:
    picture = open_image(of)
    turn = picture.getexif().get(ORIENTATION, 1)
    upright = picture.size[::-1] if turn in (5, 6, 7, 8) else picture.size
    own = open_image(file).getexif().get(ORIENTATION, 1)
    if turn in (1, 0) or own != 1:
        pass
    elif upright == picture.size:
        raise ValueError(
            f"{printable(of)} is turned by its EXIF tag, and {printable(file)} fits it in both positions; save the "
            "picture upright, or give its label file the same tag."
        )
    elif labels.size == picture.size:
        marked = labels.copy()
        marked.getexif()[ORIENTATION] = turn
        labels = ImageOps.exif_transpose(marked)
    if labels.size != upright:
        raise ValueError(
            f"{printable(file)} has {labels.size} pixels (width, height), {printable(of)} has {upright}; make them "
            "equal."
        )
    return labels


def open_image(file: str | os.PathLike[str], *, upright: bool = False) -> Image.Image:
    """A picture file as Pillow reads it, whatever its name ends in; closed again.

    Args:
        file: what to read.
        upright: turn it as its EXIF tag says.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is a folder or cannot be read to its end.
    """
    path, name = Path(file), printable(file)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {name} (looked in {printable(path.absolute().parent)})")
    if path.is_dir():
        raise ValueError(f"{name} is a folder; give one picture file, or use data=folder data.path={name} for all")
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image) if upright else image
    except PermissionError as error:
        raise PermissionError(f"{name} may not be read; change its permissions") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large a picture: {error}. Make it smaller first.") from error
    except Exception as error:  # Pillow has a dozen types for damaged files
        raise ValueError(
            f"{name} cannot be read as an image ({path.stat().st_size} bytes; damaged, cut off or something else: "
            f"{type(error).__name__}: {printable(str(error))}). Repair or remove it."
        ) from error


def fit(image: Image.Image, size: tuple[int, int], *, resize: str, labels: bool = False) -> Image.Image:
    """An image in another size: pictures bicubic, labels nearest.

    Args:
        image: RGB, or labels in mode I.
        size: (H, W) in pixels.
        resize: "crop" scales until the size is covered and takes the center; "pad" scales until the image fits and
            pads with black (labels: -1); "stretch" ignores the aspect ratio.
        labels: whether it is a label image.
    """
    wanted = (size[1], size[0])
    filter = Image.Resampling.NEAREST if labels else Image.Resampling.BICUBIC
    if resize == "crop":
        return ImageOps.fit(image, wanted, filter)
    if resize == "stretch":
        return image.resize(wanted, filter)
    fitted = ImageOps.contain(image, wanted, filter)
    result = Image.new(image.mode, wanted, IGNORE if labels else 0)
    result.paste(fitted, ((wanted[0] - fitted.width) // 2, (wanted[1] - fitted.height) // 2))
    return result
