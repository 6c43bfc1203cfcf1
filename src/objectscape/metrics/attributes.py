"""How far attributes of a Simple Shape are off: class, place, size, direction, color, and the words for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

WORDS = {
    "shape": "shape",
    "size": "size bin of four",
    "cell": "cell of a 3x3 grid",
    "direction": "direction of eight",
}


def attribute_errors(found: Tensor, true: Tensor) -> dict[str, Tensor]:
    """{attribute: (B,) error} of rows (class, x, y, size, rotation, red, green, blue).

    Returns:
        `class` 1 where right, `position` distance of the centers in pixels, `size` in pixels, `rotation` in degrees (0
        to 180), `color` mean absolute difference of the three channels in levels of 255.
    """
    turn = (found[:, 4] - true[:, 4] + math.pi) % (2 * math.pi) - math.pi
    return {
        "class": (found[:, 0].round() == true[:, 0]).float(),
        "position": (found[:, 1:3] - true[:, 1:3]).norm(dim=1),
        "size": (found[:, 3] - true[:, 3]).abs(),
        "rotation": turn.abs().rad2deg(),
        "color": (found[:, 5:8] - true[:, 5:8]).abs().mean(1),
    }


def attribute_words(rows: Tensor) -> dict[str, Tensor]:
    """{word: (B,) which} a sentence would use for attribute rows, with the published bins (pictures of 32 pixels)."""
    sizes = torch.bucketize(rows[:, 3].contiguous(), torch.tensor([9.0, 11.0, 13.0], device=rows.device), right=True)
    cells = torch.bucketize(rows[:, 1:3].contiguous(), torch.tensor([13.0, 19.0], device=rows.device))
    anchors = torch.arange(8, device=rows.device) * math.pi / 4
    turns = (rows[:, 4:5] - anchors + math.pi) % (2 * math.pi) - math.pi
    return {
        "shape": rows[:, 0].round().long(),
        "size": sizes,
        "cell": cells[:, 0] + 3 * cells[:, 1],
        "direction": turns.abs().argmin(1),
    }


def recall(queries: Tensor, keys: Tensor, ranks: Sequence[int] = (1, 10)) -> dict[int, Tensor]:
    """{k: (B,) 1 where a query's own key is among its k nearest by cosine}."""
    scores = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(keys, dim=1).T
    better = (scores > scores.diagonal()[:, None]).sum(1)
    return {k: (better < k).float() for k in ranks}
