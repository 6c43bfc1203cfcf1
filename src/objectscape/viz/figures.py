"""Figures for papers and notebooks: decompositions, data sets, imagined scenes and how they were built up.

Each function returns a `matplotlib.figure.Figure` that pyplot knows nothing of: no global state, no window, safe in
worker threads and without a display. `objectscape.viz.save_figure` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from objectscape.scene import Decomposition, Scene
from objectscape.viz.palette import color_segments
from objectscape.viz.sheet import TILE_PIXELS, Sheet, checked_titles, frame_color, slot_color
from objectscape.viz.tiles import (
    ABSENT,
    clip_panels,
    decomposition_panels,
    enlarge,
    enlargement,
    ground,
    parts_of,
    refuse_video,
    shown_slots,
    to_tiles,
    unit,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def decomposition_figure(
    scene: Scene,
    output: Decomposition,
    *,
    count: int = 8,
    titles: Sequence[str] | None = None,
    max_slots: int = 16,
    frames: int = 12,
) -> Figure:
    """What a model made of a batch: one row per scene.

    Clips lie on their side: frames are columns, and every clip has a row for each of what follows.

    Columns: the image; the ground truth if the scene has it (background dark gray, ignored pixels light gray); the
    reconstruction; the masks as a mixture of the slots' colors; the segments (each pixel's largest mask), filled and
    as outlines over the image; then each slot's component where its mask is, framed in the slot's color: paler where
    the mask is less than one, a checkerboard where the slot is not at all. Slots count from 0, as in
    `output.masks[:, k]`. With a ground truth a slot has the color of the object that it matches in that scene
    (`colors_of_slots`), the one that matches the background dark gray. Slots that are nowhere are left out.

    Args:
        scene: (B, [T,] 3, H, W) images.
        output: what the model made of them.
        count: scenes drawn, the first ones of the batch.
        titles: a short text for each scene, drawn at the left (of clips: above), such as "ARI-FG 0.98".
        max_slots: if there are more slots, those with the largest masks are shown.
        frames: of a clip that are drawn, evenly spaced.

    Raises:
        ValueError: if shapes disagree, if `count` is below 1, or if there are fewer titles than scenes.
    """
    if scene.image.ndim == 5:
        return _clips_figure(scene, output, count=count, titles=titles, max_slots=max_slots, frames=frames)
    panels = decomposition_panels(scene, output, count=count, pixels=TILE_PIXELS, max_slots=max_slots, least=ABSENT)
    rows, h, w, _ = panels[0].tiles.shape
    headings = [panel.name for panel in panels]
    sheet = Sheet(rows, len(panels), (h, w), headings=headings, labels=checked_titles(titles, rows))
    for column, panel in enumerate(panels):
        for row in range(rows):
            sheet.draw(row, column, panel.tiles[row], color=frame_color(panel, row))
    return sheet.figure


def _clips_figure(
    scene: Scene, output: Decomposition, *, count: int, titles: Sequence[str] | None, max_slots: int, frames: int
) -> Figure:
    if count < 1:
        raise ValueError(f"count={count}; draw at least one clip")
    n = min(count, len(scene))
    clips = [
        clip_panels(scene, output, i, frames=frames, pixels=TILE_PIXELS // 2, max_slots=max_slots, least=ABSENT)
        for i in range(n)
    ]
    columns, h, w, _ = clips[0][0].tiles.shape
    tops = [sum(len(panels) for panels in clips[:i]) for i in range(n)]  # a clip may have fewer slots than another
    labels = [panel.name for panels in clips for panel in panels]
    spaces = {tops[i]: 0.2 for i in range(0 if titles else 1, n)}
    sheet = Sheet(len(labels), columns, (h, w), labels=labels, row_spaces=spaces)
    for i, title in enumerate(checked_titles(titles, n)):
        sheet.heading(tops[i], 0, title.replace("\n", "   "), span=columns)
    for row, panel in enumerate(panel for panels in clips for panel in panels):
        for column in range(columns):
            sheet.draw(row, column, panel.tiles[column], color=frame_color(panel, column))
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
    sheet = Sheet(blocks * len(layers), columns, image.shape[1:3], headings=[], labels=labels)
    for i in range(n):
        for line, (name, tiles) in enumerate(layers.items()):
            row, column = i // columns * len(layers) + line, i % columns
            sheet.draw(row, column, tiles[i])
            if name == "boxes":
                _draw_boxes(sheet, row, column, scene, i)
    return sheet.figure


def _draw_boxes(sheet: Sheet, row: int, column: int, scene: Scene, i: int) -> None:
    assert scene.boxes is not None
    boxes = scene.boxes[i].float().cpu()  # (N, 4)
    present = scene.present[i].bool().cpu() if scene.present is not None else (boxes[:, 2:] > boxes[:, :2]).all(-1)
    x, y = sheet.corner(row, column)
    scale = sheet.w / scene.image.shape[-1]  # inches per pixel
    for n in present.nonzero()[:, 0].tolist():
        x0, y0, x1, y1 = (boxes[n] * scale).tolist()
        place = (x + x0, y + y0, x + x1, y + y1)
        sheet.box(place, "white", 2.2 / 72)  # a casing: the color must be seen on any image
        sheet.box(place, slot_color(n), 1.2 / 72)


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
    labels = checked_titles(row_labels, rows)
    sheet = Sheet(rows, columns, tiles.shape[1:3], headings=tops, labels=labels)
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
    stages = to_tiles((painted + (1 - covered) * ground(covered)).clamp(0, 1))  # (n, K, h, w, 3)
    final = to_tiles(parts.recon)
    slots = shown_slots(parts.masks, max_slots)
    headings = [f"slot {k}" if k == 0 else f"+ slot {k}" for k in slots] + ["scene"]
    sheet = Sheet(rows, len(headings), (h, w), headings=headings, labels=checked_titles(titles, rows))
    for row in range(rows):
        for column, k in enumerate(slots):
            sheet.draw(row, column, stages[row, k], color=slot_color(k))
        sheet.draw(row, len(slots), final[row])
    return sheet.figure
