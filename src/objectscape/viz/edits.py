"""Edited scenes: walks between scenes, objects that change places, and what the dimensions of a latent do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from objectscape.scene import Decomposition, Scene
from objectscape.viz.captions import caption_figure
from objectscape.viz.palette import color_masks, palette
from objectscape.viz.sheet import GAP, TILE_PIXELS, Sheet, frame_color, slot_color
from objectscape.viz.tiles import (
    Panel,
    Tiles,
    clip_colors,
    composite,
    decomposition_panels,
    enlarge,
    enlargement,
    parts_of,
    to_tiles,
    unit,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRIANGLES = "Triangle below a row: the value that this object's own latent has; the other columns are edits of it."
HEADING_ROOM, MARKER = 0.2, 0.05  # inches


@dataclass(kw_only=True)
class Traversal:
    """One slot of one scene, with some of its dimensions moved through some values each, all else held."""

    slot: int
    """Which slot."""
    dims: list[int]
    """The M dimensions that are moved, in the order of the rows."""
    values: Tensor
    """(M, S) to which each of them is set, rising."""
    current: Tensor
    """(M,) what each of them was."""
    images: Tensor
    """(M, S, 3, H, W) the scene, redrawn."""


def interpolation_figure(scene_a: Scene, scene_b: Scene, line: Decomposition) -> Figure:
    """The way from one scene to another: one pair per row, the scenes themselves at both ends, the masks below.

    Args:
        scene_a: (B, 3, H, W) images.
        scene_b: as many.
        line: (B * S, ...) S points from each of a to its partner in b, such as `evaluation.edits.interpolate` gives.

    Raises:
        ValueError: if there are not as many points from every pair.
    """
    pairs = len(scene_a)
    if not pairs or len(scene_b) != pairs or len(line) % pairs or len(line) < 2 * pairs:
        raise ValueError(
            f"{pairs} and {len(scene_b)} scenes with {len(line)} points between them; expected as many of one as of "
            "the other, and the same number of points, at least 2, for each pair"
        )
    steps = len(line) // pairs
    parts = parts_of(line, len(line), TILE_PIXELS)
    ends = [_tiles(scene.pixels, TILE_PIXELS) for scene in (scene_a, scene_b)]
    drawn = {"scene": to_tiles(parts.recon)}
    if line.masks.shape[1] > 1:
        drawn["masks"] = to_tiles(color_masks(parts.masks))
    rows = len(drawn)
    sheet = Sheet(
        pairs * rows,
        steps + 2,
        ends[0].shape[1:3],
        headings=["image a", *(f"{i / (steps - 1):.2f}" for i in range(steps)), "image b"],
        labels=list(drawn) * pairs if rows > 1 else [],
        row_spaces={pair * rows: 0.1 for pair in range(1, pairs)} if rows > 1 else None,
        column_spaces={1: 0.1, steps + 1: 0.1},
    )
    for pair in range(pairs):
        for column, tiles in ((0, ends[0]), (steps + 1, ends[1])):
            sheet.draw(pair * rows, column, tiles[pair])
        for i, tiles in enumerate(drawn.values()):
            for step in range(steps):
                sheet.draw(pair * rows + i, step + 1, tiles[pair * steps + step])
    return sheet.figure


def swap_figure(
    scenes: tuple[Scene, Scene],
    before: tuple[Decomposition, Decomposition],
    after: tuple[Decomposition, Decomposition],
    slots: tuple[Tensor, Tensor],
) -> Figure:
    """Scenes that exchange an object: one pair per row.

    For each of the two scenes: the image, what its latents draw, and the object that goes, in the frame of its slot's
    color; then both scenes with the other's object.

    Args:
        scenes: a and b, (B, 3, H, W) images each.
        before: the two, drawn from their own latents.
        after: a with the object of b, and b with the object of a, such as `evaluation.edits.swap_objects` gives.
        slots: (B,) each: the slots that changed places.

    Raises:
        ValueError: if the batches differ in size.
    """
    pairs = len(scenes[0])
    if {len(part) for part in (*scenes, *before, *after, *slots)} != {pairs}:
        raise ValueError("scenes, before, after and slots differ in their number; give one of each for every pair")
    columns: list[tuple[str, Tiles, list[int] | None]] = []
    rows = torch.arange(pairs)
    numbers = [clip_colors(scene, output.masks) for scene, output in zip(scenes, before, strict=True)]
    for name, scene, output, slot, color in zip("ab", scenes, before, slots, numbers, strict=True):
        parts = parts_of(output, pairs, TILE_PIXELS)
        chosen = slot.cpu()
        away = composite(parts.components[rows, chosen], parts.masks[rows, chosen])  # (B, 3, h, w)
        columns += [
            (f"image {name}", _tiles(scene.pixels, TILE_PIXELS), None),
            (f"recon {name}", to_tiles(parts.recon), None),
            (f"object of {name}", to_tiles(away), color[rows, chosen].tolist()),
        ]
    for name, output in zip(("a + object of b", "b + object of a"), after, strict=True):
        columns.append((name, _tiles(output.recon, TILE_PIXELS), None))
    headings = [name for name, _, _ in columns]
    sheet = Sheet(pairs, len(columns), columns[0][1].shape[1:3], headings=headings, column_spaces={3: 0.1, 6: 0.1})
    for column, (name, tiles, colors) in enumerate(columns):
        panel = Panel(name=name, tiles=tiles, colors=colors)
        for row in range(pairs):
            sheet.draw(row, column, tiles[row], color=frame_color(panel, row))
    return sheet.figure


def traversal_figure(
    scene: Scene, output: Decomposition, traversals: Sequence[Traversal], *, labels: Sequence[str] | None = None
) -> Figure:
    """What the dimensions of the objects of one scene do.

    Above, the scene taken apart; then a block for each object, headed by its slot in its color: one row per dimension,
    the scene redrawn with that dimension at ever larger values. The triangle below a row points to the value
    that the dimension had; a line at the foot says so.

    Args:
        scene: (1, 3, H, W) the image.
        output: what its latents draw.
        traversals: one per object, all of the same dimensions and number of values.
        labels: a text for each dimension; its number and range if not given.

    Raises:
        ValueError: if there is no traversal, or they do not fit together.
    """
    _check(traversals)
    first = traversals[0]
    dims, steps = first.values.shape
    texts = list(labels) if labels is not None else [dimension_label(first, m) for m in range(dims)]
    if len(texts) != dims:
        raise ValueError(f"labels has {len(texts)} entries for {dims} dimensions")
    panels = decomposition_panels(scene, output, count=1, pixels=TILE_PIXELS, max_slots=16)
    across = 1 if len(traversals) == 1 else 2  # blocks side by side
    down = -(-len(traversals) // across)
    sheet = Sheet(
        1 + down * dims,
        max(across * steps, len(panels)),
        panels[0].tiles.shape[1:3],
        headings=[panel.name for panel in panels],
        labels=["", *texts * down],
        row_spaces={1 + block * dims: HEADING_ROOM + 0.05 for block in range(down)},
        column_spaces={steps: 0.2} if across == 2 else None,
        spaced_from=1,
        side=0.7,
    )
    for column, panel in enumerate(panels):
        sheet.draw(0, column, panel.tiles[0], color=frame_color(panel, 0))
    colors = {panel.slot: frame_color(panel, 0) for panel in panels}
    for number, traversal in enumerate(traversals):
        top, left = 1 + number // across * dims, number % across * steps
        color = colors.get(traversal.slot) or slot_color(traversal.slot)
        sheet.heading(top, left, f"slot {traversal.slot}", span=steps, color=color, bold=True)
        for m in range(dims):
            tiles = _tiles(traversal.images[m], TILE_PIXELS)
            for step in range(steps):
                sheet.draw(top + m, left + step, tiles[step])
            _mark(sheet, top + m, left, traversal, m, color)
    return caption_figure(sheet.figure, TRIANGLES)


def traversal_frames(
    traversals: Sequence[Traversal], *, pixels: int = 96, colors: Tensor | None = None
) -> list[np.ndarray]:
    """All objects and dimensions moving at once, up and down again: one row per object, one column per dimension.

    Objects are framed in their slot's color; above the columns stands which dimension moves.

    Args:
        traversals: one per object.
        pixels: least length of a tile's longer side.
        colors: (K,) number of each slot's color, from `colors_of_slots`; None for the slots' own numbers.

    Returns:
        2 S - 2 arrays (height, width, 3) uint8 for `save_animation`.

    Raises:
        ValueError: if there is no traversal, or they do not fit together.
    """
    from PIL import Image, ImageDraw, ImageFont

    _check(traversals)
    first = traversals[0]
    dims, steps = first.values.shape
    tiles = np.stack([_tiles(traversal.images, pixels) for traversal in traversals])  # (objects, M, S, h, w, 3)
    h, w = tiles.shape[3:5]
    edge, points = max(2, h // 32), max(12, h // 8)
    font = ImageFont.load_default(points)
    band = points + 8
    own = torch.arange(max(traversal.slot for traversal in traversals) + 1)
    edges = palette(own if colors is None else colors).numpy()
    cell_h, cell_w = h + 3 * edge, w + 3 * edge
    base = Image.new("RGB", (dims * cell_w + edge, band + len(traversals) * cell_h), "white")
    for m, dim in enumerate(first.dims):
        middle = edge + m * cell_w + edge + w // 2
        ImageDraw.Draw(base).text((middle, band - 4), f"dim {dim}", fill="black", font=font, anchor="ms")
    frames = []
    for step in [*range(steps), *range(steps - 2, 0, -1)]:
        frame = np.array(base)
        for row, traversal in enumerate(traversals):
            for m in range(dims):
                y, x = band + row * cell_h, edge + m * cell_w
                frame[y : y + h + 2 * edge, x : x + w + 2 * edge] = edges[traversal.slot]
                frame[y + edge : y + edge + h, x + edge : x + edge + w] = tiles[row, m, step]
        frames.append(frame)
    return frames


def dimension_label(traversal: Traversal, m: int) -> str:
    """ "dim 12" and the range it moves through, for the m-th dimension of a traversal."""
    low, high = traversal.values[m, 0].item(), traversal.values[m, -1].item()
    return f"dim {traversal.dims[m]}\n{low:.2g} to {high:.2g}"


def _tiles(images: Tensor, pixels: int) -> Tiles:
    """(..., 3, H, W) in [0, 1] -> (..., h, w, 3) uint8 array."""
    return to_tiles(enlarge(unit(images), enlargement(images.shape[-2], images.shape[-1], pixels)))


def _mark(sheet: Sheet, row: int, column: int, traversal: Traversal, m: int, color: str) -> None:
    """A triangle below a row where the dimension's own value lies between the values drawn."""
    from matplotlib.patches import Polygon

    values = traversal.values[m].double().cpu().numpy()
    place = float(np.interp(float(traversal.current[m]), values, np.arange(len(values))))
    (x, y), (end, _) = sheet.corner(row, column), sheet.corner(row, column + len(values) - 1)
    x += place / (len(values) - 1) * (end - x) + sheet.w / 2
    y += sheet.h + GAP - MARKER - 0.005
    sheet.axes.add_patch(
        Polygon([(x, y), (x - MARKER, y + MARKER), (x + MARKER, y + MARKER)], facecolor=color, edgecolor="none")
    )


def _check(traversals: Sequence[Traversal]) -> None:
    if not traversals:
        raise ValueError("no traversals to draw; give one for each object")
    shapes = {(traversal.images.shape, traversal.values.shape) for traversal in traversals}
    dims = {tuple(traversal.dims) for traversal in traversals}
    images, values = min(shapes)
    if len(shapes) > 1 or len(dims) > 1 or images[:2] != values or values[0] != len(min(dims)) or values[1] < 2:
        raise ValueError(
            f"images and values of the traversals have shapes {sorted(shapes)}, dims are {sorted(dims)}; expected "
            "(M, S, 3, H, W) and (M, S) with at least 2 values of the same M dimensions for every object"
        )
