"""The sprites of dSprites (Matthey et al., 2017): drawn by us, or read from the original archive.

Sprite number s in 0..737279 counts the published factors, the last one fastest: shape 3 (square, ellipse, heart), scale
6 (0.5..1), orientation 40 (0..2 pi), x 32, y 32 (positions 0..1, rightwards and downwards).

The drawn sprites are look-alikes. Published: 64 x 64 binary images, vector shapes rasterized without antialiasing, the
factor values, and the mean pixel 0.042494, to which our sizes are fitted. Ours: side 18 for the square, half axes 12
and 7.2 for the ellipse, the curve (u^2 + v^2 - 1)^3 = u^2 v^3 for the heart (all in pixels at scale 1), one pixel per
position step, and the center of a sprite at pixel 16..47, so that every sprite is inside the image.
"""

from __future__ import annotations

import logging
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Protocol

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)

SIZE = 64
SIZES = (3, 6, 40, 32, 32)
"""Values of shape, scale, orientation, x, y."""
FACTORS = ("shape", "scale", "orientation", "x", "y")
COUNT = math.prod(SIZES)  # 737 280

_REACH = 13  # no drawn sprite reaches further than this from its center, in pixels
_FIRST = 16  # center of the sprites at position 0, in pixels


class Sprites(Protocol):
    """A bank of binary sprites."""

    def masks(self, numbers: Tensor, device: torch.device | str) -> Tensor:
        """(..., 64, 64) bool on `device` for (...) int64 sprite numbers on the CPU."""


def sprite_factors(numbers: Tensor) -> dict[str, Tensor]:
    """{factor: (...) float32} as in dSprites: shape 1..3, scale 0.5..1, orientation in radians, x and y 0..1."""
    classes = _classes(numbers)
    return {
        "shape": classes["shape"] + 1.0,
        "scale": 0.5 + classes["scale"] / 10,
        "orientation": classes["orientation"] * (2 * math.pi / 39),
        "x": classes["x"] / 31,
        "y": classes["y"] / 31,
    }


def _classes(numbers: Tensor) -> dict[str, Tensor]:
    classes = {}
    for name, size in zip(reversed(FACTORS), reversed(SIZES), strict=True):
        classes[name] = numbers % size
        numbers = numbers // size
    return classes


class DrawnSprites:
    """The look-alikes: 720 small masks (shape, scale, orientation), placed where they belong when asked for."""

    def masks(self, numbers: Tensor, device: torch.device | str) -> Tensor:
        """See `Sprites`."""
        numbers = numbers.to(device)
        stencils, offsets = _stencils(str(device))
        place = numbers % (32 * 32)
        corner = (place // 32) + (place % 32) * SIZE  # x moves right, y moves down
        pixels = corner.unsqueeze(-1) + offsets  # (..., 729)
        canvas = torch.zeros(*numbers.shape, SIZE * SIZE, dtype=torch.bool, device=device)
        canvas.scatter_(-1, pixels, stencils[numbers // (32 * 32)])
        return canvas.unflatten(-1, (SIZE, SIZE))


@lru_cache(maxsize=4)
def _stencils(device: str) -> tuple[Tensor, Tensor]:
    """stencils (720, 27 27) bool; offsets (27 27) of their pixels in the image when x = y = 0."""
    span = torch.arange(-_REACH, _REACH + 1)
    offsets = ((span[:, None] + _FIRST) * SIZE + span + _FIRST).flatten()
    down, right = (t.double() for t in torch.meshgrid(span, span, indexing="ij"))
    scale = 0.5 + torch.arange(6, dtype=torch.float64)[:, None, None, None] / 10
    angle = torch.arange(40, dtype=torch.float64)[:, None, None] * (2 * math.pi / 39)
    across = (right * angle.cos() + down * angle.sin()) / scale  # (6, 40, 27, 27) in the sprite's own frame
    up = (right * angle.sin() - down * angle.cos()) / scale
    square = torch.maximum(across.abs(), up.abs()) <= 9 + 1e-9  # the margin decides ties the same way on every machine
    ellipse = (across / 12) ** 2 + (up / 7.2) ** 2 <= 1 + 1e-9
    u, v = across / 8.837, up / 8.837 + 0.118  # 0.118 is the middle of the heart's height
    heart = (u**2 + v**2 - 1) ** 3 <= u**2 * v**3 + 1e-9
    return torch.stack([square, ellipse, heart]).flatten(3).flatten(0, 2).to(device), offsets.to(device)


@dataclass(frozen=True)
class StoredSprites:
    """The original images, eight pixels to the byte (377 MB)."""

    packed: Tensor
    """(number of sprites, 512) uint8, rows of the image one after the other, first pixel in the highest bit."""

    def masks(self, numbers: Tensor, device: torch.device | str) -> Tensor:
        """See `Sprites`."""
        rows = self.packed[numbers].to(device)  # (..., 512)
        bits = (rows.unsqueeze(-1) >> torch.arange(7, -1, -1, dtype=torch.uint8, device=device)) & 1
        return bits.bool().flatten(-2).unflatten(-1, (SIZE, SIZE))


@lru_cache(maxsize=1)
def read_sprites(path: str | os.PathLike[str], sizes: tuple[int, ...] = SIZES) -> StoredSprites:
    """Reads `dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz` (github.com/google-deepmind/dsprites-dataset).

    Only `imgs` and `latents_classes` are read; the archive's `metadata` is a pickle and stays closed. The images are
    read in blocks, because all of them at once would take 3 GB.

    Args:
        path: of the archive.
        sizes: number of values of shape, scale, orientation, x, y.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not that archive, or damaged.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"sprites={path}: no such file. It should be dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz from "
            "https://github.com/google-deepmind/dsprites-dataset; without `sprites` our own look-alikes are used."
        )
    count = math.prod(sizes)
    try:
        with zipfile.ZipFile(path) as archive:
            missing = {"imgs.npy", "latents_classes.npy"} - set(archive.namelist())
            if missing:
                raise ValueError(f"it lacks {', '.join(sorted(missing))} and holds {', '.join(archive.namelist())}")
            with archive.open("latents_classes.npy") as file:
                classes = np.lib.format.read_array(file, allow_pickle=False)
            expected = np.stack(np.unravel_index(np.arange(count), (1, *sizes)), 1)
            if classes.shape != expected.shape or not (classes == expected).all():
                raise ValueError(
                    f"latents_classes {classes.shape} do not count the factors 1, {', '.join(map(str, sizes))}"
                )
            log.info("reading %d sprites from %s", count, path)
            with archive.open("imgs.npy") as file:
                packed = _pack(file, count)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"sprites={path} is not the dSprites archive, or it is damaged: {error}; fetch it again."
        ) from error
    return StoredSprites(torch.from_numpy(packed))


def _pack(file: IO[bytes], count: int) -> np.ndarray:
    """(count, 512) uint8 from an .npy stream of (count, 64, 64) zeros and ones."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if shape != (count, SIZE, SIZE) or fortran or dtype != np.uint8:
        raise ValueError(f"imgs are {dtype} {shape}, expected uint8 {(count, SIZE, SIZE)}")
    packed = np.empty((count, SIZE * SIZE // 8), np.uint8)
    for start in range(0, count, 4096):
        rows = min(4096, count - start)
        block = np.frombuffer(_read_exactly(file, rows * SIZE * SIZE), np.uint8).reshape(rows, SIZE * SIZE)
        if block.max() > 1:
            raise ValueError(f"imgs holds the value {block.max()}, expected only 0 and 1")
        packed[start : start + rows] = np.packbits(block, axis=1)
    return packed


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError(f"imgs ends {size - len(data)} bytes too early")
    return data
