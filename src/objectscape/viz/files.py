"""Pictures on disk: figures and arrays written so that a half-written file is never seen, a user's picture read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from objectscape.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

FIGURE_FORMATS = (".png", ".pdf", ".svg")


def check_suffix(path: Path, allowed: tuple[str, ...]) -> str:
    """The suffix in lower case, if it is one of `allowed`."""
    suffix = path.suffix.lower()
    if suffix not in allowed:
        raise ValueError(f"cannot write {path}: the name must end in {', '.join(allowed)}, not {suffix or 'nothing'!r}")
    return suffix


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 200) -> Path:
    """Write a figure as PNG, PDF or SVG, by the suffix of `path`; folders are made, an old file is replaced at once.

    Text in PDF files is real text (TrueType), and no date is stored: the same figure gives the same bytes.

    Args:
        figure: from any function of `objectscape.viz`, or your own.
        path: where to.
        dpi: dots per inch of a PNG and of the pictures inside a PDF or SVG.

    Raises:
        ValueError: if the suffix is another one.
    """
    import matplotlib

    path = Path(path)
    suffix = check_suffix(path, FIGURE_FORMATS)
    dates = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "objectscape"}), replacing(path) as draft:
        figure.savefig(draft, format=suffix[1:], dpi=dpi, bbox_inches="tight", pad_inches=0.02, metadata=dates[suffix])
    return path


def save_image(array: np.ndarray, path: str | Path) -> Path:
    """Write a (H, W, 3) uint8 array as PNG, pixel by pixel; folders are made, an old file is replaced at once."""
    from PIL import Image

    path = Path(path)
    check_suffix(path, (".png",))
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"array is {array.dtype} of shape {array.shape}; expected uint8 of shape (H, W, 3)")
    with replacing(path) as draft:
        Image.fromarray(array).save(draft, format="PNG")
    return path


def load_image(path: str | Path) -> Tensor:
    """One picture file of the user's own, of any kind that Pillow reads.

    It is turned upright as its EXIF data say; transparent parts become white; 16-bit and floating-point grays are
    brought to 8 bits; of an animation the first frame is taken.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a folder, or not a picture that can be read to its end.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path} (looked in {path.absolute().parent})")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give one picture file, or use data=folder data.path={path} for all")
    try:
        with Image.open(path) as file:
            picture = _to_rgb(ImageOps.exif_transpose(file))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} ({path.stat().st_size} bytes) is not a picture that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large a picture: {error}. Make it smaller first.") from error
    except (OSError, SyntaxError) as error:  # Pillow reports some damaged PNG files as SyntaxError
        raise ValueError(f"{path} ({path.stat().st_size} bytes) is damaged or cut off: {error}") from error
    return torch.from_numpy(np.array(picture)).movedim(-1, 0).contiguous()


def _to_rgb(picture: Image) -> Image:
    """Any Pillow mode to RGB."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):  # grays of more than 8 bits: Pillow's own conversion would cut them off
        values = np.asarray(picture, dtype=np.float64)
        largest = float(np.nanmax(values))
        full = 1.0 if picture.mode == "F" and largest <= 1 else 255.0 if largest <= 255 else 65535.0
        gray: Any = (np.nan_to_num(values) / full).clip(0, 1) * 255
        return Image.fromarray(gray.round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert("RGB")
