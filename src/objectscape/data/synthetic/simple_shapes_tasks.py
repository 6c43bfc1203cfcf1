"""What Simple Shapes are asked beyond translation: regions held out of training, and the odd one of three.

A hole is a region of attributes that training does not see. bimGW holds out rows inside *all* drawn intervals, the
Simple Shapes package rows inside *any* of them. The odd-one-out task shows three shapes of which two share one
attribute.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from objectscape.names import unknown

Bounds = tuple[float, float]

COLUMNS = {"shape": 0, "x": 1, "y": 2, "size": 3, "rotation": 4, "color": 8}
"""Attribute -> column of a label row; "color" is the hue."""
EDGES: dict[str, tuple[float, ...]] = {
    "shape": (0, 1, 2, 3),
    "color": (0, 60, 120, 181),
    "size": (7, 28 / 3, 35 / 3, 15),
    "rotation": (0, 2 * math.pi / 3, 4 * math.pi / 3, 2 * math.pi),
    "x": (7, 13, 19, 25),
    "y": (7, 13, 19, 25),
}
"""Three intervals [low, high) of each attribute; unlike in the published codes the last hold hue 180 and size 14."""


def inside(labels: Tensor, hole: Mapping[str, Bounds], *, rule: Literal["all", "any"] = "all") -> Tensor:
    """Which rows lie in a hole.

    Args:
        labels: (n, 12) label rows.
        hole: {attribute: [low, high)} with the keys of `COLUMNS`; "position" is (x low, x high), as in "x" and "y".
        rule: "all" intervals at once (bimGW) or "any" of them (the Simple Shapes package, where x and y go together).

    Returns:
        (n,) bool.
    """
    for name in hole:
        if name not in COLUMNS:
            raise ValueError(unknown("attribute", name, COLUMNS))

    def within(name: str) -> Tensor:
        low, high = hole[name]
        values = labels[:, COLUMNS[name]]
        return (values >= low) & (values < high)

    if rule == "all":
        parts = [within(name) for name in hole]
        return torch.stack(parts).all(0) if parts else torch.zeros(len(labels), dtype=torch.bool)
    parts = [within(name) for name in hole if name not in ("x", "y")]
    if "x" in hole or "y" in hole:
        parts.append(torch.stack([within(name) for name in ("x", "y") if name in hole]).all(0))
    return torch.stack(parts).any(0) if parts else torch.zeros(len(labels), dtype=torch.bool)


def draw_hole(attributes: int, seed: int) -> dict[str, Bounds]:
    """An interval of each of `attributes` attributes, drawn from `seed`."""
    if not 0 < attributes <= len(EDGES):
        raise ValueError(f"attributes={attributes}; a hole is made of 1 to {len(EDGES)} of {', '.join(EDGES)}")
    rng = random.Random(seed)
    hole = {}
    for name in rng.sample(sorted(EDGES), attributes):
        part = rng.randrange(3)
        hole[name] = (EDGES[name][part], EDGES[name][part + 1])
    return hole


# --- the odd one of three ---

SHARED = ((0,), (1, 2), (3,), (4,), (5, 6, 7))
"""Columns of the attributes that a pair can share: class, place, size, rotation, color."""


def scaled(labels: Tensor) -> Tensor:
    """(n, 8) class, x, y, size, rotation and RGB, each column from 0 to 1 over the rows."""
    rows = labels[:, :8]
    low, high = rows.amin(0), rows.amax(0)
    return (rows - low) / (high - low).clamp_min(1e-12)


def partners(rows: Tensor, references: Tensor, columns: tuple[int, ...]) -> Tensor:
    """(m,) the row most like each reference in `columns`, other than itself.

    The published code takes the second of all rows in ascending order, which is the same unless rows are equal.
    """
    chosen = rows[:, list(columns)]
    distance = torch.cdist(chosen[references].double(), chosen.double())
    distance[torch.arange(len(references)), references] = math.inf
    return distance.argmin(1)


def oddness(rows: Tensor, references: Tensor, others: Tensor) -> Tensor:
    """(m, n) how far each row is from a pair: the smallest difference of any column to either of the two."""
    found = torch.full((len(references), len(rows)), math.inf, dtype=rows.dtype)
    for column in range(rows.shape[1]):
        values = rows[:, column]
        for pair in (references, others):
            torch.minimum(found, (values - values[pair][:, None]).abs(), out=found)
    return found


def odd_one_out(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Triplets of rows of which the odd one shares nothing with the other two.

    Args:
        labels: (n, 12) label rows; at least 1000.
        count: of triplets; the references are the first `count` rows, again from the start when there are fewer.
        seed: of the choices.

    Returns:
        (count, 3) rows in random order and (count,) which of the three is the odd one.

    Raises:
        ValueError: with fewer than 1000 rows: the odd one is drawn from the oddest thousandth.
    """
    if len(labels) < 1000:
        raise ValueError(f"{len(labels)} rows; the odd one is drawn from the oddest thousandth, so give at least 1000")
    rows, generator = scaled(labels), torch.Generator().manual_seed(seed)
    references = torch.arange(count) % len(rows)
    shared = torch.randint(len(SHARED), (count,), generator=generator)
    pick = torch.randint(len(rows) // 1000, (count,), generator=generator)
    triplets = torch.empty(count, 3, dtype=torch.int64)
    for which, columns in enumerate(SHARED):
        for block in (shared == which).nonzero().flatten().split(256):
            partner = partners(rows, references[block], columns)
            score = oddness(rows, references[block], partner)
            odd = score.topk(len(rows) // 1000, dim=1).indices.gather(1, pick[block, None]).squeeze(1)
            triplets[block] = torch.stack([references[block], partner, odd], 1)
    order = torch.rand(count, 3, generator=generator).argsort(1)
    return triplets.gather(1, order), (order == 2).int().argmax(1)
