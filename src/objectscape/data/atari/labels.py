"""Objects of Atari games from the console's 128 bytes of memory: class, box, and whether the pixels show it.

A table is a function of the memory and nothing else: no state is kept, so the same bytes give the same boxes in any
order, in any number of environments, after skipped frames and restored states. `objectscape.data.atari.games` holds the
tables of nine games. One for another game takes a few lines:

    @game("Breakout", Kind("player", colors=[(200, 72, 72)]), Kind("ball", colors=[(200, 72, 72)]))
    def breakout(ram):
        yield "player", ram[72] - 47, 189, 16, 4
        yield "ball", ram[99] - 49, ram[101] - 8, 2, 4, ram[101] > 0

`ram[i]` is (n,) int64, byte i of n frames. Each row is: class, x, y, width, height in pixels of the native frame and,
where the object can be absent, whether it is there; numbers or (n,) arrays. A class may have several rows. Boxes are
cut to the class's `field`; what is left without area is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from objectscape.names import unknown
from objectscape.scene import Spec

MARGIN = (2, 1)  # columns and rows around a box in which its pixels are sought
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Kind:
    """A class of objects in a game."""

    name: str
    hud: bool = False
    """Part of the display (scores, lives, clock), not of the game."""
    moving: bool = True
    """Whether objects of the class change place or shape in the course of the game."""
    colors: Sequence[Color] = ()
    """RGB colors of its pixels. Without them, its pixels are those whose color does not occur around the box."""
    field: tuple[int, int, int, int] | None = None
    """x0 y0 x1 y1 to which boxes are cut; None for the whole frame."""


class Ram:
    """The memory of n frames: `ram[i]` is byte i, (n,) int64."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = np.asarray(memory).astype(np.int64)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.memory[:, index]

    def __len__(self) -> int:
        return len(self.memory)


Table = Callable[[Ram], Iterable[tuple[Any, ...]]]


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The objects of n frames in N rows; a row keeps its class."""

    boxes: np.ndarray
    """(n, N, 4) float32 pixels x0 y0 x1 y1; zero where absent."""
    present: np.ndarray
    """(n, N) bool: the memory says that it is there."""
    labels: np.ndarray
    """(N,) int64 index of the class."""
    visible: np.ndarray
    """(n, N) bool: present, and at least one of its pixels is in the frame."""
    tight: np.ndarray
    """(n, N, 4) float32 the box of its pixels; zero where not visible."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """What is known of a game: its classes and how to find them in memory."""

    name: str
    """As in the environment's id, ALE/<name>-v5."""
    kinds: tuple[Kind, ...]
    table: Table

    @property
    def classes(self) -> list[str]:
        """Names of the classes; `labels` counts in this order."""
        return [kind.name for kind in self.kinds]

    def locate(self, memory: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (n, N, 4) float32, present (n, N) and labels (N,) of (n, 128) uint8 memory, frames of `size` (H, W).

        Raises:
            ValueError: if the table names a class that the game does not have.
        """
        ram = Ram(memory)
        boxes, present, labels = [], [], []
        for name, x, y, width, height, *there in self.table(ram):
            if name not in self.classes:
                raise ValueError(f"table of {self.name}: {unknown('class', name, self.classes)}")
            label = self.classes.index(name)
            x0, y0, x1, y1 = self.kinds[label].field or (0, 0, size[1], size[0])
            corners = (np.clip(x, x0, x1), np.clip(y, y0, y1), np.clip(x + width, x0, x1), np.clip(y + height, y0, y1))
            box = np.stack([np.broadcast_to(value, len(ram)) for value in corners], 1)
            seen = np.broadcast_to(there[0] if there else True, len(ram)).astype(bool)
            seen = seen & (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
            boxes.append(box * seen[:, None])
            present.append(seen)
            labels.append(label)
        if not labels:
            return np.zeros((len(ram), 0, 4), np.float32), np.zeros((len(ram), 0), bool), np.zeros(0, np.int64)
        return np.stack(boxes, 1).astype(np.float32), np.stack(present, 1), np.array(labels)

    def objects(self, memory: np.ndarray, frames: np.ndarray, before: np.ndarray | None = None) -> Objects:
        """The objects of (n, 128) memory with their visibility in (n, H, W, 3) frames.

        Args:
            memory: uint8.
            frames: uint8 RGB, as the game draws them.
            before: the emulated frames before them, where the maximum of two frames is recorded: an object is visible
                if one of the two shows it (the maximum mixes colors).
        """
        boxes, present, labels = self.locate(memory, frames.shape[1:3])
        visible, tight = np.zeros_like(present), np.zeros_like(boxes)
        for images in (frames,) if before is None else (frames, before):
            codes = _pack(images)
            for row, label in enumerate(labels):
                where = np.flatnonzero(present[:, row] & ~visible[:, row])
                if len(where):
                    found = _look(codes[where], boxes[where, row].astype(np.int64), self.kinds[label].colors)
                    visible[where, row], tight[where, row] = found
        return Objects(boxes=boxes, present=present, labels=labels, visible=visible, tight=tight)


GAMES: dict[str, Game] = {}


def game(name: str, *kinds: Kind) -> Callable[[Table], Game]:
    """Decorator: makes a `Game` of a table, see the top of this file, and enters it in `GAMES`."""

    def make(table: Table) -> Game:
        made = Game(name=name, kinds=kinds, table=table)
        GAMES[name] = made
        return made

    return make


def class_names(spec: Spec) -> list[str]:
    """Names of the classes that `labels` counts, from what a recorded file says of itself; none if it does not."""
    names = spec.fields.get("labels", "").partition("classes: ")[2]
    return names.split(", ") if names else []


def _pack(frames: np.ndarray) -> np.ndarray:
    channels = frames.astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]


def _look(codes: np.ndarray, boxes: np.ndarray, colors: Sequence[Color]) -> tuple[np.ndarray, np.ndarray]:
    """Visible (n,) and tight (n, 4): the pixels of one object in n frames.

    Args:
        codes: (n, H, W) packed colors.
        boxes: (n, 4) integer x0 y0 x1 y1.
        colors: of the object; none means every color that does not occur in the ring of pixels around the box.
    """
    height, width = codes.shape[1:]
    dx, dy = MARGIN
    extra = 0 if len(colors) else 1  # one more pixel all around: the ring
    span_x = int((boxes[:, 2] - boxes[:, 0]).max()) + 2 * (dx + extra)
    span_y = int((boxes[:, 3] - boxes[:, 1]).max()) + 2 * (dy + extra)
    x = boxes[:, :1] - dx - extra + np.arange(span_x)  # n, w
    y = boxes[:, 1:2] - dy - extra + np.arange(span_y)  # n, h
    inside_x = (x >= 0) & (x < width) & (x < boxes[:, 2:3] + dx + extra)
    inside_y = (y >= 0) & (y < height) & (y < boxes[:, 3:4] + dy + extra)
    patch = codes[
        np.arange(len(codes))[:, None, None], y.clip(0, height - 1)[:, :, None], x.clip(0, width - 1)[:, None]
    ]
    own = inside_y[:, :, None] & inside_x[:, None]  # n, h, w
    if len(colors):
        own &= np.isin(patch, [red << 16 | green << 8 | blue for red, green, blue in colors])
    else:
        core = ((y >= boxes[:, 1:2] - dy) & (y < boxes[:, 3:4] + dy))[:, :, None] & (
            (x >= boxes[:, :1] - dx) & (x < boxes[:, 2:3] + dx)
        )[:, None]
        ring = own & ~core
        own &= core
        for index in range(len(codes)):  # each has colors of its own
            own[index] &= ~np.isin(patch[index], np.unique(patch[index][ring[index]]))
    visible = own.any((1, 2))
    columns, rows = own.any(1), own.any(2)
    tight = np.stack(
        [
            x[:, 0] + columns.argmax(1),
            y[:, 0] + rows.argmax(1),
            x[:, 0] + span_x - columns[:, ::-1].argmax(1),
            y[:, 0] + span_y - rows[:, ::-1].argmax(1),
        ],
        1,
    )
    return visible, tight * visible[:, None]
