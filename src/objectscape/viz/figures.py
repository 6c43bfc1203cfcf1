"""Figures for papers and notebooks: decompositions, data sets, imagined scenes and how they were built up.

Each function returns a `matplotlib.figure.Figure` that pyplot knows nothing of: no global state, no window, safe in
worker threads and without a display. `objectscape.viz.save_figure` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from objectscape.scene import Decomposition, Scene
from objectscape.viz.palette import SLOT_COLORS, color_segments
from objectscape.viz.tiles import (
    Tiles,
    checkerboard,
    decomposition_panels,
    enlarge,
    enlargement,
    parts_of,
    refuse_video,
    shown_slots,
    to_tiles,
    unit,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILE_PIXELS = 256  # more than a tile has on paper, so that outlines stay even after resampling
FONT_POINTS = 8.0
GAP, FRAME = 0.07, 0.022  # inches


def _text_width(text: str, points: float) -> float:
    """Inches, of the longest line."""
    from matplotlib.textpath import TextPath

    return max(TextPath((0, 0), line or " ", size=points).get_extents().x1 for line in text.split("\n")) / 72


class _Sheet:
    """A figure with one pair of axes that covers it, measured in inches from the top left; tiles are placed on a grid.

    Args:
        rows, columns: of the grid.
        shape: (h, w) of a tile in pixels; only their ratio matters.
        headings: above the columns; none for no heading line.
        labels: left of the rows; none for no margin.
    """

    def __init__(
        self, rows: int, columns: int, shape: tuple[int, int], *, headings: Sequence[str], labels: Sequence[str]
    ) -> None:
        from matplotlib.figure import Figure

        side = min(0.95, max(0.75, 13 / columns))  # of a tile's longer side
        self.h, self.w = side * shape[0] / max(shape), side * shape[1] / max(shape)
        widest = max((_text_width(heading, FONT_POINTS) for heading in headings), default=0.0)
        points = FONT_POINTS * min(1.0, self.w / max(widest, 1e-6))
        self.left = GAP + max((_text_width(label, FONT_POINTS) + GAP for label in labels), default=0.0)
        self.top = 0.2 if headings else GAP
        width = self.left + columns * (self.w + GAP)
        height = self.top + rows * (self.h + GAP)
        self.figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self.axes.set_axis_off()
        for column, heading in enumerate(headings):
            x = self.corner(0, column)[0] + self.w / 2
            self.axes.text(x, self.top - 0.05, heading, fontsize=points, ha="center", va="baseline")
        for row, label in enumerate(labels):
            y = self.corner(row, 0)[1] + self.h / 2
            self.axes.text(self.left - GAP, y, label, fontsize=FONT_POINTS, ha="right", va="center")

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Top left of a tile: x, y in inches."""
        return self.left + column * (self.w + GAP), self.top + row * (self.h + GAP)

    def draw(self, row: int, column: int, tile: Tiles, *, color: str | None = None) -> None:
        """Place a (h, w, 3) tile, in a frame of `color` or else in a thin grey one."""
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


def _slot_color(k: int) -> str:
    return SLOT_COLORS[k % len(SLOT_COLORS)]


def _checked_titles(titles: Sequence[str] | None, rows: int) -> list[str]:
    if titles is None:
        return []
    if len(titles) < rows:
        raise ValueError(f"titles has {len(titles)} entries for {rows} scenes drawn; give one text per scene")
    return list(titles[:rows])


def decomposition_figure(
    scene: Scene, output: Decomposition, *, count: int = 8, titles: Sequence[str] | None = None, max_slots: int = 16
) -> Figure:
    """What a model made of a batch: one row per scene.

    Columns: the image; the ground truth if the scene has it (background dark grey, ignored pixels light grey); the
    reconstruction; the masks as a mixture of the slots' colors; the segments (each pixel's largest mask) as outlines
    over the image; then each slot's component where its mask is, on a checkerboard, framed in the slot's color.
    Slots count from 0, as in `output.masks[:, k]`. The colors of the ground truth say nothing about the slots.

    Args:
        scene: (B, 3, H, W) images.
        output: what the model made of them.
        count: scenes drawn, the first ones of the batch.
        titles: a short text for each scene, drawn at the left, such as "ARI-FG 0.98".
        max_slots: if there are more slots, those with the largest masks are shown.

    Raises:
        ValueError: if there is a time axis (pass `scene[i]`, `output[i]` for the frames of clip i), if shapes
            disagree, if `count` is below 1, or if there are fewer titles than rows.
    """
    panels = decomposition_panels(scene, output, count=count, pixels=TILE_PIXELS, max_slots=max_slots)
    rows, h, w, _ = panels[0].tiles.shape
    headings = [panel.name for panel in panels]
    sheet = _Sheet(rows, len(panels), (h, w), headings=headings, labels=_checked_titles(titles, rows))
    for column, panel in enumerate(panels):
        for row in range(rows):
            color = None if panel.slot is None else _slot_color(panel.slot)
            sheet.draw(row, column, panel.tiles[row], color=color)
    return sheet.figure


def dataset_figure(scene: Scene, *, count: int = 8, columns: int = 8) -> Figure:
    """Samples of a data set: images, under them the ground-truth segments and boxes where the data have them.

    Args:
        scene: (B, 3, H, W) images with any ground truth.
        count: scenes drawn, the first ones of the batch.
        columns: scenes side by side; further ones go below.

    Raises:
        ValueError: if there is a time axis (pass `scene[i]` for the frames of clip i), or if `count` or `columns`
            is below 1.
    """
    if count < 1 or columns < 1:
        raise ValueError(f"count={count}, columns={columns}; both must be at least 1")
    refuse_video("scene.image", scene.image)
    n = min(count, len(scene))
    columns = min(columns, n)
    height, width = scene.image.shape[-2:]
    factor = enlargement(height, width, TILE_PIXELS)
    image = to_tiles(enlarge(unit(Scene(image=scene.image[:n]).pixels), factor))
    layers = {"image": image}
    if scene.segments is not None:
        layers["segments"] = to_tiles(enlarge(color_segments(scene.segments[:n].cpu()), factor))
    if scene.boxes is not None:
        layers["boxes"] = image
    blocks = -(-n // columns)
    labels = list(layers) * blocks if len(layers) > 1 else []
    sheet = _Sheet(blocks * len(layers), columns, image.shape[1:3], headings=[], labels=labels)
    for i in range(n):
        for line, (name, tiles) in enumerate(layers.items()):
            row, column = i // columns * len(layers) + line, i % columns
            sheet.draw(row, column, tiles[i])
            if name == "boxes":
                _draw_boxes(sheet, row, column, scene, i)
    return sheet.figure


def _draw_boxes(sheet: _Sheet, row: int, column: int, scene: Scene, i: int) -> None:
    assert scene.boxes is not None
    boxes = scene.boxes[i].float().cpu()  # (N, 4)
    present = scene.present[i].bool().cpu() if scene.present is not None else (boxes[:, 2:] > boxes[:, :2]).all(-1)
    x, y = sheet.corner(row, column)
    scale = sheet.w / scene.image.shape[-1]  # inches per pixel
    for n in present.nonzero()[:, 0].tolist():
        x0, y0, x1, y1 = (boxes[n] * scale).tolist()
        place = (x + x0, y + y0, x + x1, y + y1)
        sheet.box(place, "white", 2.2 / 72)  # a casing: the color must be seen on any image
        sheet.box(place, _slot_color(n), 1.2 / 72)


def samples_figure(
    images: Decomposition | Tensor,
    *,
    columns: int = 8,
    row_labels: Sequence[str] | None = None,
    headings: Sequence[str] | None = None,
) -> Figure:
    """A grid of pictures, row by row: generated scenes, or interpolations (one per row, `columns` steps).

    Args:
        images: (B, 3, H, W), uint8 or in [0, 1]; or a decomposition, whose `recon` is drawn.
        columns: pictures side by side.
        row_labels: a text at the left of each row.
        headings: a text above each column.

    Raises:
        ValueError: if there is a time axis, no picture at all, or too few labels or headings.
    """
    pictures = images.recon if isinstance(images, Decomposition) else Scene(image=images).pixels
    refuse_video("images", pictures)
    n = len(pictures)
    if n < 1 or columns < 1:
        raise ValueError(f"{n} pictures in {columns} columns; both must be at least 1")
    columns = min(columns, n)
    rows = -(-n // columns)
    tops = list(headings or [])
    if tops and len(tops) != columns:
        raise ValueError(f"headings has {len(tops)} entries for {columns} columns")
    tiles = to_tiles(enlarge(unit(pictures), enlargement(pictures.shape[-2], pictures.shape[-1], TILE_PIXELS)))
    labels = _checked_titles(row_labels, rows)
    sheet = _Sheet(rows, columns, tiles.shape[1:3], headings=tops, labels=labels)
    for i, tile in enumerate(tiles):
        sheet.draw(i // columns, i % columns, tile)
    return sheet.figure


def construction_figure(
    output: Decomposition, *, count: int = 8, titles: Sequence[str] | None = None, max_slots: int = 16
) -> Figure:
    """How scenes are built up, slot after slot: one row per scene.

    The tile of slot k shows the sum of components times masks of slots 0..k, on a checkerboard where later slots are
    still to come; its frame has the color of slot k. The last column is the finished scene.

    Args:
        output: (B, ...) scenes in parts, such as what `sample(n)` returns.
        count: scenes drawn, the first ones.
        titles: a short text for each scene, drawn at the left.
        max_slots: if there are more slots, those with the largest masks get a tile. All are summed.

    Raises:
        ValueError: as in `decomposition_figure`.
    """
    parts = parts_of(output, count, TILE_PIXELS)
    painted = (parts.masks * parts.components).cumsum(1)  # (n, K, 3, h, w)
    covered = parts.masks.cumsum(1).clamp(max=1)  # (n, K, 1, h, w)
    rows, _, _, h, w = painted.shape
    stages = to_tiles((painted + (1 - covered) * checkerboard(h, w)).clamp(0, 1))  # (n, K, h, w, 3)
    final = to_tiles(parts.recon)
    slots = shown_slots(parts.masks, max_slots)
    headings = [f"slot {k}" if k == 0 else f"+ slot {k}" for k in slots] + ["scene"]
    sheet = _Sheet(rows, len(headings), (h, w), headings=headings, labels=_checked_titles(titles, rows))
    for row in range(rows):
        for column, k in enumerate(slots):
            sheet.draw(row, column, stages[row, k], color=_slot_color(k))
        sheet.draw(row, len(slots), final[row])
    return sheet.figure
