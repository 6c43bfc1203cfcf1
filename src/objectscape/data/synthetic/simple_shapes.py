"""Simple Shapes (Devillers et al., 2023): one colored diamond, egg or triangle on black, with its attributes in words.

The label rows are those of the published generators, bit for bit for a seed (`published_labels`); pictures and
sentences come from `simple_shapes_render` and `captions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch

from objectscape.data.dataset import SPLITS
from objectscape.data.synthetic.simple_shapes_render import hls_to_rgb

PUBLISHED = {"train": 500_000, "val": 1000, "test": 1000}
COLUMNS = ("class", "x", "y", "size", "rotation", "red", "green", "blue", "hue", "lightness", "saturation", "unpaired")
"""Of a label row. x, y: the center in pixels from the left and BOTTOM edge; rotation: radians counter-clockwise."""


def published_labels(
    counts: Mapping[str, int],
    seed: int,
    *,
    image_size: int = 32,
    sizes: tuple[int, int] = (7, 14),
    lightness: tuple[int, int] = (46, 255),
    generator: Literal["package", "bimgw"] = "package",
) -> dict[str, np.ndarray]:
    """The label rows that the published generators make from a seed.

    Args:
        counts: {split: rows}; the splits are drawn one after the other from one stream, in this order.
        seed: of NumPy's legacy generator.
        image_size: pixels.
        sizes: smallest and largest size, pixels.
        lightness: smallest and largest lightness.
        generator: the two codes call the upper bound of the lightness differently. In the "package" (command `shapesd`)
            it is exclusive, 256 by default; given 255, as on its command line, nothing lighter than 254 comes out. Here
            the bound is always the largest value that can occur, so that both make the same rows.

    Returns:
        {split: (n, 12) float32} with the columns `COLUMNS`.
    """
    if generator not in ("package", "bimgw"):
        raise ValueError(f"generator={generator!r}; choose package or bimgw")
    stream = np.random.RandomState(seed)
    low, high = sizes
    margin = high // 2
    found = {}
    for split, n in counts.items():
        kind = stream.randint(3, size=n)
        size = stream.randint(low, high + 1, n)
        place = stream.randint(margin, image_size - margin, (n, 2))
        rotation = stream.rand(n) * 2 * np.pi
        bounds = [181, lightness[1] + 1, 256]
        hls = stream.randint([0, lightness[0], 0], bounds, size=(1, n, 3), dtype=np.uint8)[0]
        rgb = hls_to_rgb(torch.from_numpy(hls)).numpy()
        unpaired = stream.rand(n)
        columns = [kind[:, None], place, size[:, None], rotation[:, None], rgb, hls, unpaired[:, None]]
        found[split] = np.concatenate(columns, axis=1).astype(np.float32)
    return found


def published_unpaired(counts: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """{split: (n, 32) float64} the package's numbers that no other domain can tell."""
    stream = np.random.RandomState(seed)
    return {split: stream.normal(size=(n, 32)) for split, n in counts.items()}


__all__ = ["COLUMNS", "PUBLISHED", "SPLITS", "published_labels", "published_unpaired"]
