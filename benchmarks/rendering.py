"""Rendering: our batched painters against a per-image NumPy loop that does the same work, both on one CPU thread

Both sides draw the factors, paint the image and the instance map, and find the boxes of what is visible.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.measure import Row, row
from objectscape.data.synthetic.base import SyntheticScenes
from objectscape.data.synthetic.dsprites import COUNT, DrawnSprites
from objectscape.data.synthetic.multi_dsprites import MultiDSprites
from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.data.synthetic.tetrominoes import COLORS, FORMS, TEXTURE, Tetrominoes

BATCH = 64
SECONDS, TURNS = 0.7, 3

Image = tuple[np.ndarray, np.ndarray, list[tuple[int, int, int, int]]]


def boxes(segments: np.ndarray) -> list[tuple[int, int, int, int]]:
    found = []
    for number in range(1, segments.max() + 1):
        rows, columns = np.nonzero(segments == number)
        if len(rows):
            found.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return found


def tetrominoes_loop(rng: np.random.Generator) -> Image:
    texture, palette = TEXTURE.numpy(), COLORS.numpy()
    forms = [np.array([[tile == "#" for tile in row] for row in form.split("/")]) for form in FORMS]
    while True:
        image = np.zeros((35, 35, 3), np.uint8)
        segments = np.zeros((35, 35), np.int8)
        for number in range(1, 4):
            form = forms[rng.integers(19)]
            height, width = form.shape[0] * 5, form.shape[1] * 5
            row, column = rng.integers(36 - height), rng.integers(36 - width)
            mask = np.kron(form, np.ones((5, 5), bool))
            window = (slice(row, row + height), slice(column, column + width))
            if (segments[window] > 0)[mask].any():
                break
            segments[window][mask] = number
            value = np.kron(form, texture)[..., None] * palette[rng.integers(6)]
            image[window][mask] = value[mask]
        else:
            return image, segments, boxes(segments)


def multi_dsprites_loop(sprites: np.ndarray) -> Callable[[np.random.Generator], Image]:
    def render(rng: np.random.Generator) -> Image:
        image = np.empty((64, 64, 3), np.uint8)
        image[:] = rng.integers(256)
        segments = np.zeros((64, 64), np.int8)
        for number in range(1, rng.integers(2, 6) + 1):
            mask = sprites[rng.integers(len(sprites))]
            image[mask] = rng.integers(0, 256, 3)
            segments[mask] = number
        return image, segments, boxes(segments)

    return render


def shapes_loop(rng: np.random.Generator) -> Image:
    image = np.zeros((32, 32, 3), np.uint8)
    segments = np.zeros((32, 32), np.int8)
    rows, columns = np.mgrid[:32, :32]
    for number in range(1, rng.integers(2, 5) + 1):
        radius = rng.integers(4, 7)
        down = rows - rng.integers(radius, 32 - radius)
        right = columns - rng.integers(radius, 32 - radius)
        kind = rng.integers(3)
        if kind == 0:
            mask = right**2 + down**2 <= radius**2 + radius // 2
        elif kind == 1:
            mask = (abs(right) < radius) & (abs(down) < radius)
        else:
            mask = (2 * abs(right) <= down + radius) & (down <= radius)
        image[mask] = COLORS.numpy()[rng.integers(6)] * 255
        segments[mask] = number
    return image, segments, boxes(segments)


def rate(function: Callable[[], object], images: int, duration: float) -> float:
    """Images per second, after one call to warm up."""
    function()
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < duration or not calls:
        function()
        calls += 1
    return calls * images / elapsed


def run(*, quick: bool = False) -> list[Row]:
    """One row per family: images per second of ours and of the loop ("theirs")."""
    sample = torch.randint(COUNT, (2000,), generator=torch.Generator().manual_seed(0))
    sprites = DrawnSprites().masks(sample, "cpu").numpy()  # the loop gets its sprites for nothing, as from the archive
    pairs: list[tuple[SyntheticScenes, Callable[[np.random.Generator], Image]]] = [
        (Tetrominoes(), tetrominoes_loop),
        (MultiDSprites(variant="colored_on_grayscale"), multi_dsprites_loop(sprites)),
        (ColoredShapes(), shapes_loop),
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[Row] = []
    turns, duration = (1, 0.0) if quick else (TURNS, SECONDS)
    try:
        for dataset, loop in pairs:
            generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
            rates = [
                (rate(lambda d=dataset, g=generator: d.render(BATCH, g), BATCH, duration),  # type: ignore[misc]
                 rate(lambda f=loop, r=rng: f(r), 1, duration))  # type: ignore[misc]
                for _ in range(turns)
            ]  # fmt: skip
            ours, theirs = (max(values) for values in zip(*rates))
            rows.append(row(f"rendering {dataset.spec.name}", ours, theirs, "images/s", higher=True))
    finally:
        torch.set_num_threads(threads)
    return rows
