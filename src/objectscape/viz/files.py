"""Pictures on disk: figures and arrays written so that a half-written file is never seen, a user's picture read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from objectscape.files import FIGURE_FORMATS, check_suffix, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def load_image(path: str | Path, *, transparency: str = "black") -> Tensor:
    """One picture file of the user's own, of any kind that Pillow reads, as `data=folder` reads it.

    It is turned upright as its EXIF data say; 16-bit and floating-point grays are brought to 8 bits; of an animation
    the first frame is taken.

    Args:
        path: the file.
        transparency: color behind transparent pixels.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a folder, or not a picture that can be read to its end.
    """
    from objectscape.data.pictures import read_rgb

    picture = read_rgb(path, transparency=transparency)
    return torch.from_numpy(np.array(picture)).movedim(-1, 0).contiguous()
