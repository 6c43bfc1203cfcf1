"""Memory tables of nine games; see `objectscape.data.atari.labels` for how to read and write one.

Addresses and offsets were compared with the pixels of recorded frames, sprite by sprite (docs/data/atari.md has the
table). What a game draws only every other frame (flicker) is present in memory all the time: see `visible`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from objectscape.data.atari.labels import Kind, Ram, game

Rows = Iterator[tuple[Any, ...]]

COURT = (0, 34, 160, 194)
GREEN, ORANGE, WHITE = (92, 186, 92), (213, 130, 74), (236, 236, 236)


@game(
    "Pong",
    Kind("player", colors=[GREEN], field=COURT),
    Kind("enemy", colors=[ORANGE], field=COURT),
    Kind("ball", colors=[WHITE], field=COURT),
    Kind("enemy_score", hud=True, colors=[ORANGE]),
    Kind("player_score", hud=True, colors=[GREEN]),
)
def pong(ram: Ram) -> Rows:
    """Paddles right and left; the ball is absent between points."""
    yield "player", 140, ram[51] - 14 + ram[51] % 2, 4, 16, ram[51] > 13
    yield "enemy", 16, ram[50] - 15, 4, 16, ram[50] > 18
    yield "ball", ram[49] - 49, ram[54] - 14, 2, 4, (ram[54] != 0) & (ram[49] > 49)
    yield "enemy_score", np.where(ram[13] < 10, 36, 20), 1, np.where(ram[13] < 10, 12, 28), 20
    yield "player_score", np.where(ram[14] < 10, 116, 100), 1, np.where(ram[14] < 10, 12, 28), 20
