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


def digits(ram: Ram, *low_to_high: int) -> np.ndarray:
    """(n,) decimal digits, at least one, of a number that is stored two to a byte (binary-coded decimal)."""
    count = np.ones(len(ram), np.int64)
    for place, address in enumerate(low_to_high):
        count = np.where(ram[address] % 16 > 0, 2 * place + 1, count) if place else count
        count = np.where(ram[address] >= 16, 2 * place + 2, count)
    return count


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


@game(
    "Boxing",
    Kind("player", colors=[(214, 214, 214)]),
    Kind("enemy", colors=[(0, 0, 0)]),
    Kind("player_score", hud=True, colors=[(214, 214, 214)]),
    Kind("enemy_score", hud=True, colors=[(0, 0, 0)]),
    Kind("clock", hud=True),
    Kind("logo", hud=True, moving=False),
)
def boxing(ram: Ram) -> Rows:
    """The boxes are those of the bodies: an arm that is stretched out leaves them."""
    yield "player", ram[32] + 5, ram[34] + 38, 14, 46
    yield "enemy", ram[33] + 3, ram[35] + 38, 14, 46
    yield "player_score", np.where(ram[18] < 16, 47, 39), 5, np.where(ram[18] < 16, 6, 14), 7
    yield "enemy_score", np.where(ram[19] < 16, 111, 103), 5, np.where(ram[19] < 16, 6, 14), 7
    yield "clock", 63, 17, 30, 7
    yield "logo", 62, 189, 32, 7


ALIEN = (134, 134, 29)


@game(
    "SpaceInvaders",
    Kind("player", colors=[(50, 132, 50)]),
    Kind("alien", colors=[ALIEN]),
    Kind("shield", moving=False, colors=[(181, 83, 40)]),
    Kind("bullet", colors=[(142, 142, 142)]),
    Kind("satellite", colors=[(151, 25, 122)]),
    Kind("player_score", hud=True),
    Kind("enemy_score", hud=True),
    Kind("lives", hud=True, colors=[(162, 134, 56)]),
)
def space_invaders(ram: Ram) -> Rows:
    """Aliens by the bits of six bytes; scores give way to the satellite."""
    yield "player", ram[28] - 1, 185, 7, 10
    for row in range(6):
        for column in range(6):
            alive = ram[23 - row] >> column & 1
            yield "alien", ram[26] - 1 + 16 * column, 31 + 2 * ram[16] + 18 * row, 8, 10, alive == 1
    for shield in range(3):
        yield "shield", 42 + 32 * shield, 157, 8, 18
    for bullet in range(2):
        y = ram[81 + bullet]
        yield "bullet", ram[83 + bullet] - 2, 2 * y + 3, 1, np.minimum(8, 192 - 2 * y), y < 96
    yield "bullet", ram[87] - 2, 2 * ram[85] + 5, 1, 7, (ram[85] > 8) & (ram[85] < 96)
    satellite = (ram[76] & 4) > 0
    yield "satellite", ram[30] - 1, 12, 7, 8, satellite
    yield "player_score", 4, 10, 60, 10, ~satellite
    yield "enemy_score", 84, 10, 60, 10, ~satellite
    yield "lives", 84, 185, 12, 10, (ram[42] & 1) > 0


@game(
    "MsPacman",
    Kind("player", colors=[(210, 164, 74)]),
    Kind(
        "ghost", colors=[(180, 122, 48), (84, 184, 153), (198, 89, 179), (200, 72, 72), (66, 114, 194), (214, 214, 214)]
    ),
    Kind("fruit", colors=[(184, 50, 50), (198, 108, 58), (162, 162, 42), (110, 156, 66)]),
    Kind("bonus", hud=True, moving=False),
    Kind("life", hud=True),
    Kind("score", hud=True),
)
def ms_pacman(ram: Ram) -> Rows:
    """Pills are not listed; ghosts flicker, two of four in each frame."""
    yield "player", ram[10] - 12, ram[16] + 1, 8, 10
    for ghost in range(4):
        yield "ghost", ram[6 + ghost] - 12, ram[12 + ghost] + 1, 8, 10
    yield "fruit", ram[11] - 12, ram[17] + 1, 8, 10, (ram[11] > 0) & (ram[17] > 0)
    yield "bonus", 126, 173, 8, 10
    for life in range(3):
        yield "life", 12 + 16 * life, 173, 7, 10, ram[123] % 4 > life
    width = 8 * digits(ram, 120, 121, 122) - 1
    yield "score", 102 - width, 187, width, 7


@game(
    "Tennis",
    Kind("player", colors=[(240, 128, 128)]),
    Kind("enemy", colors=[(117, 128, 240)]),
    Kind("ball", colors=[(236, 236, 236)]),
    Kind("ball_shadow", colors=[(74, 74, 74)]),
    Kind("player_score", hud=True, colors=[(240, 128, 128)]),
    Kind("enemy_score", hud=True, colors=[(117, 128, 240)]),
    Kind("logo", hud=True, moving=False),
)
def tennis(ram: Ram) -> Rows:
    """Players change sides; they look left or right. The half below the net is drawn one row lower."""
    above = ram[26] + np.where(ram[56] == 255, 2, -2), 166 - ram[24]
    below = ram[27] + np.where(ram[57] == 255, 2, -2), 167 - ram[25]
    up = ram[80] == 0
    yield "player", np.where(up, above[0], below[0]), np.where(up, above[1], below[1]), 12, 23
    yield "enemy", np.where(up, below[0], above[0]), np.where(up, below[1], above[1]), 12, 23
    for name, address in (("ball", 54), ("ball_shadow", 55)):
        y = 189 - ram[address]
        yield name, ram[16] - 2, y + (y >= 98), 2, 2, ram[16] > 2
    for name, points, x in (("player_score", ram[69], 41), ("enemy_score", ram[70], 105)):
        left = np.select([points == 0, points == 1], [8, 1], 0)  # 0, 15, 30 or 40
        yield name, x + left, 5, 14 - left, 7
    yield "logo", 40, 193, 32, 7


COPIES = {0: range(8), 1: (1, 3), 2: (2, 3, 6), 4: (4, 6)}  # places of a group: codes in which they are taken


@game(
    "Carnival",
    Kind("player", colors=[(66, 158, 130)]),
    Kind("shot", colors=[(183, 194, 95)]),
    Kind("duck", colors=[(187, 187, 53)]),
    Kind("rabbit", colors=[(192, 192, 192)]),
    Kind("owl", colors=[(214, 92, 92)]),
    Kind("extra_bullets", colors=[(192, 192, 192)]),
    Kind("flying_duck", colors=[(187, 187, 53)]),
    Kind("wheel"),
    Kind("ammunition", hud=True),
    Kind("bonus", hud=True),
    Kind("score", hud=True, colors=[(160, 171, 79)]),
)
def carnival(ram: Ram) -> Rows:
    """Three shelves with two groups each, of up to three targets; what leaves on the right comes back on the left."""
    yield "player", ram[2] - 4, 186, 6, 13
    yield "shot", ram[4] - 5, ram[55] + 6 * (ram[55] > 99), 1, 5, ram[55] > 34
    for row in range(6):
        x, y, sprite, copies = ram[18 + row] - 4, (89, 68, 47)[row // 2], ram[24 + 2 * row], ram[36 + row]
        for place, taken in COPIES.items():
            there = np.isin(copies, taken)
            for code, name in enumerate(("duck", "rabbit", "owl", "extra_bullets")):
                low = 6 if name == "extra_bullets" else 0
                yield name, (x + 16 * place) % 160, y + low, 8, 15 - low, there & (sprite == 16 * code)
    flying = np.isin(np.stack([ram[24 + 2 * row] for row in range(6)]), 92).any(0)
    yield "flying_duck", ram[111] - 4, 109 + ram[1], 16, 15, flying & (ram[1] != 79) & (ram[1] != 0)
    yield "wheel", 70, 15, 28, 12, (ram[121] != 84) & (ram[123] != 84)
    yield "ammunition", 0, 203, 4 * ram[3], 5
    yield "bonus", 12, 29, 32, 9, ram[9] != 79
    yield "score", 65, 2, 38, 7


RUINS = np.array([178, 181, 181, 181, 183, 187, 189, 191, 195, 191, 187, 185, 185, 202, 178])  # top row by damage
RAIDERS = (  # class, width, height, columns by which it is shifted in each of three places
    ("enemy25", 16, 18, (2, 0, 0)),
    ("enemy50", 14, 16, (0, 0, 0)),
    ("enemy75", 14, 16, (2, 2, 2)),
    ("enemy100", 14, 14, (0, 2, 0)),
)


@game(
    "AirRaid",
    Kind("player"),
    Kind("building"),
    *(Kind(name, field=(0, 0, 160, 152)) for name in ("enemy25", "enemy50", "enemy75", "enemy100")),
    Kind("missile", colors=[(236, 236, 236), (252, 252, 84)]),
    Kind("score", hud=True),
    Kind("lives", hud=True),
)
def air_raid(ram: Ram) -> Rows:
    """Two buildings that scroll around the screen; in its gray phases the game draws one row higher."""
    gray = (ram[84] != 248).astype(int)
    yield "player", ram[19] - 3, 157 - gray, 14, 12
    for building in range(2):
        left, top = ram[20 + building] - 4, RUINS[ram[27 + building].clip(max=len(RUINS) - 1)]
        for turn in (0, 160):  # the part beyond the right border comes in on the left
            yield "building", left - turn, top, 32, 211 - top
    for enemy in range(3):
        kind, x, y = ram[63 + enemy] // 2, ram[66 + enemy] - 3, 195 - gray - ram[29 + enemy]
        there = (ram[29 + enemy] != 44) & (ram[78 + enemy] != 236)
        for code, (name, width, height, shifts) in enumerate(RAIDERS):
            yield name, x + shifts[enemy], y, width, height, there & (kind == code)
    yield "missile", ram[86] - 5, 194 - ram[85], 2, 2, (ram[85] != 35) & (ram[85] != 34)
    yield "missile", ram[84] - 5, 193 - ram[83], 2, 2, (ram[83] != 0) & (ram[83] != 248)
    wide = 8 * digits(ram, 42, 41, 40) - 2
    yield "score", 102 - wide, 11, wide, 8
    yield "lives", 55, 220 - gray, np.where(ram[39] == 1, 7, 15), 5 + gray, np.isin(ram[39], (1, 2))


SLOPE = (8, 27, 152, 177)


@game(
    "Skiing",
    Kind("player", colors=[(214, 92, 92)]),
    Kind("flag", colors=[(66, 72, 200), (184, 50, 50), (10, 10, 255)], field=SLOPE),
    Kind("mogul", colors=[(214, 214, 214), (192, 192, 192)], field=SLOPE),
    Kind("tree", colors=[(158, 208, 101), (82, 126, 45), (110, 156, 66), (72, 160, 72)], field=SLOPE),
    Kind("score", hud=True),
    Kind("clock", hud=True),
    Kind("logo", hud=True, moving=False),
)
def skiing(ram: Ram) -> Rows:
    """Eight items that come up from below; a gate is one item with two flags, blue or, the last one, red."""
    yield "player", ram[25] + 1, ram[26] - 80, 8, 17
    for item in range(8):
        x, y, kind = ram[62 + item], 178 - ram[86 + item], ram[70 + item]
        for pole in (0, 32):
            yield "flag", x + np.where(ram[78 + item] == 4, 4, 1) + pole, y + 3, 5, 14, kind == 2
        yield "mogul", x + 2, y + 3, 16, 7, kind == 5
        yield "tree", x - 3, y + 3, 16, 30, kind == 85
    yield "score", 67, 6, 14, 7
    yield "clock", 59, 16, 38, 7
    yield "logo", 65, 187, 32, 7


RIVER = (0, 2, 160, 163)
RIVER_ITEMS = {  # code: (class, columns from the item's position, rows above the end of its band, width, height)
    4: ("jet", 0, 15, 9, 6),
    5: ("helicopter", 0, 16, 8, 10),
    6: ("helicopter", 0, 16, 8, 10),
    7: ("tanker", 1, 13, 16, 8),
    8: ("bridge", 0, 21, 33, 23),
    9: ("house", 1, 20, 16, 19),
    10: ("fuel", 0, 23, 7, 24),
}


@game(
    "Riverraid",
    Kind("player", colors=[(232, 232, 74)]),
    Kind("missile", colors=[(232, 232, 74)]),
    *(Kind(name, field=RIVER) for name in ("jet", "helicopter", "tanker", "bridge", "house", "fuel")),
    Kind("score", hud=True, colors=[(232, 232, 74)]),
    Kind("lives", hud=True, colors=[(232, 232, 74)]),
    Kind("logo", hud=True, moving=False, colors=[(232, 232, 74)]),
    Kind("gauge", hud=True),
)
def river_raid(ram: Ram) -> Rows:
    """Six bands of 32 rows with one item each, scrolling down."""
    yield "player", ram[51] + 1, 145, 7, 13, ram[58] != 0
    yield "missile", ram[117] - 1, 162 - ram[50], 1, 8, ram[117] != 0
    for band in range(6):
        shift = ram[26 + band] >> 4
        x = 15 * ram[20 + band] + 6 - np.where(shift > 7, shift - 16, shift)
        for code, (name, left, above, width, height) in RIVER_ITEMS.items():
            y = 32 * (5 - band) + ram[11] - above
            yield name, x + left, y, width, height, ram[32 + band] == code
    width = 8 * sum((ram[77 + 2 * place] != 88).astype(int) for place in range(6)) - 2
    yield "score", 103 - width, 165, width, 8
    yield "lives", 57, 192, 6, 8
    yield "logo", 72, 193, 32, 7
    yield "gauge", 65, 175, 39, 15
