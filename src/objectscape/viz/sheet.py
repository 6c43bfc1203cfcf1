"""The sheet that figures are drawn on: tiles on a grid, measured in inches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from objectscape.viz.palette import BACKGROUND, BACKGROUND_COLOR, SLOT_COLORS
from objectscape.viz.tiles import Panel, Tiles

TILE_PIXELS = 256  # more than a tile has on paper, so that outlines stay even after resampling
FONT_POINTS = 8.0
GAP, FRAME = 0.07, 0.022  # inches


def _text_width(text: str, points: float) -> float:
    """Inches, of the longest line."""
    from matplotlib.textpath import TextPath

    lines = [line for line in text.split("\n") if line.strip()]  # matplotlib has no path for blanks alone
    return max((TextPath((0, 0), line, size=points).get_extents().x1 for line in lines), default=0.0) / 72


def _places(start: float, count: int, step: float, spaces: Mapping[int, float]) -> list[float]:
    """Where `count` tiles begin, and where the last one and its gap end."""
    places = [start + spaces.get(0, 0.0)]
    for i in range(1, count + 1):
        places.append(places[-1] + step + spaces.get(i, 0.0))
    return places


class Sheet:
    """A figure with one pair of axes that covers it, measured in inches from the top left; tiles are placed on a grid.

    Args:
        rows, columns: of the grid.
        shape: (h, w) of a tile in pixels; only their ratio matters.
        headings: above the columns; none for no heading line.
        labels: left of the rows; none for no margin.
        row_spaces: {row: inches more above it}, to set groups of rows apart.
        column_spaces: {column: inches more at its left}, from row `spaced_from` on.
        side: inches of a tile's longer side; chosen by the number of columns if not given.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        shape: tuple[int, int],
        *,
        headings: Sequence[str] = (),
        labels: Sequence[str] = (),
        row_spaces: Mapping[int, float] | None = None,
        column_spaces: Mapping[int, float] | None = None,
        spaced_from: int = 0,
        side: float | None = None,
    ) -> None:
        from matplotlib.figure import Figure

        side = side or min(0.95, max(0.75, 13 / columns))
        self.h, self.w = side * shape[0] / max(shape), side * shape[1] / max(shape)
        widest = max((_text_width(heading, FONT_POINTS) for heading in headings), default=0.0)
        points = FONT_POINTS * min(1.0, self.w / max(widest, 1e-6))
        left = GAP + max((_text_width(label, FONT_POINTS) + GAP for label in labels), default=0.0)
        top = 0.2 if headings else GAP
        self._x = _places(left, columns, self.w + GAP, column_spaces or {})
        self._x_above, self._spaced_from = _places(left, columns, self.w + GAP, {}), spaced_from
        self._y = _places(top, rows, self.h + GAP, row_spaces or {})
        width, height = self._x[-1], self._y[-1]
        self.figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self.axes.set_axis_off()
        for column, heading in enumerate(headings):
            self.heading(0, column, heading, points=points)
        for row, label in enumerate(labels):
            y = self.corner(row, 0)[1] + self.h / 2
            self.axes.text(left - GAP, y, label, fontsize=FONT_POINTS, ha="right", va="center")

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Top left of a tile: x, y in inches."""
        return (self._x if row >= self._spaced_from else self._x_above)[column], self._y[row]

    def heading(
        self,
        row: int,
        column: int,
        text: str,
        *,
        span: int = 1,
        points: float = FONT_POINTS,
        color: str = "black",
        bold: bool = False,
    ) -> None:
        """A text above a tile, or in the middle above `span` tiles."""
        x, y = self.corner(row, column)
        middle = (x + self.corner(row, column + span - 1)[0] + self.w) / 2
        self.axes.text(
            middle,
            y - 0.05,
            text,
            fontsize=points,
            ha="center",
            va="baseline",
            color=color,
            fontweight="bold" if bold else "normal",
        )

    def draw(self, row: int, column: int, tile: Tiles, *, color: str | None = None) -> None:
        """Place a (h, w, 3) tile, in a frame of `color` or else in a thin gray one."""
        x, y = self.corner(row, column)
        extent = (x, x + self.w, y + self.h, y)
        self.axes.imshow(tile, extent=extent, aspect="auto", interpolation="auto")
        outside = FRAME if color else 0.005
        self.box((x - outside / 2, y - outside / 2, x + self.w + outside / 2, y + self.h + outside / 2), color, outside)

    def box(self, box: tuple[float, float, float, float], color: str | None, width: float) -> None:
        """A rectangle x0 y0 x1 y1 with a line of `width` inches."""
        from matplotlib.patches import Rectangle

        x0, y0, x1, y1 = box
        style: dict[str, Any] = {"fill": False, "edgecolor": color or "#B0B0B0", "linewidth": width * 72}
        self.axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, joinstyle="miter", **style))


def slot_color(k: int) -> str:
    """The palette's color of slot k."""
    return SLOT_COLORS[k % len(SLOT_COLORS)]


def frame_color(panel: Panel, tile: int) -> str | None:
    """The color that frames a tile of a panel; None for no frame."""
    if panel.colors is None:
        return None
    number = panel.colors[tile]
    return BACKGROUND_COLOR if number == BACKGROUND else slot_color(number)


def checked_titles(titles: Sequence[str] | None, rows: int) -> list[str]:
    """The texts of the first `rows` scenes; none if there are no titles."""
    if titles is None:
        return []
    if len(titles) < rows:
        raise ValueError(f"titles has {len(titles)} entries for {rows} scenes drawn; give one text per scene")
    return list(titles[:rows])
