"""How a decomposition comes about: every layer and refinement step of an iterative model, as a figure and as frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from objectscape.scene import Decomposition, Scene, Stage
from objectscape.viz.animation import titled_frames
from objectscape.viz.palette import color_masks
from objectscape.viz.sheet import TILE_PIXELS, Sheet, frame_color
from objectscape.viz.tiles import (
    Panel,
    clip_colors,
    decomposition_array,
    decomposition_panels,
    shown_slots,
    to_tiles,
    unit,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def refinement_figure(scene: Scene, stages: Sequence[Stage], *, count: int = 1, max_slots: int = 16) -> Figure:
    """How scenes are taken apart, stage by stage: a block of rows per scene, a row per stage.

    The columns are those of `decomposition_figure`, and after the segments, if any stage has it, the attention in the
    slots' colors.

    Args:
        scene: (B, 3, H, W) images.
        stages: in their order, each of the same batch.
        count: scenes drawn, the first ones of the batch.
        max_slots: if there are more slots, those with the largest masks at the last stage are shown.

    Raises:
        ValueError: if there is no stage, or as in `decomposition_figure`.
    """
    _check(stages)
    count = min(count, len(scene))
    attends = any(stage.attention is not None for stage in stages)
    last = _drawn(stages[-1]).masks[:count]
    slots, colors = shown_slots(unit(last), max_slots), clip_colors(scene[:count], last)  # those of the last stage
    sheet: Sheet | None = None
    for line, stage in enumerate(stages):
        most = _drawn(stage).masks.shape[1]
        panels: list[Panel | None] = [
            panel
            for panel in decomposition_panels(
                scene, _drawn(stage), count=count, pixels=TILE_PIXELS, max_slots=most, colors=colors
            )
            if panel.slot is None or panel.slot in slots
        ]
        if attends:
            panels.insert(len(panels) - len(slots), _attention_panel(stage, count, panels[0], colors))
        if sheet is None:
            sheet = Sheet(
                count * len(stages),
                len(panels),
                _shape(panels[0]),
                headings=["attention" if panel is None else panel.name for panel in panels],
                labels=[stage.name for stage in stages] * count,
                row_spaces={block * len(stages): 0.12 for block in range(1, count)},
            )
        for block in range(count):
            for column, panel in enumerate(panels):
                if panel is not None:
                    tile, color = panel.tiles[block], frame_color(panel, block)
                    sheet.draw(block * len(stages) + line, column, tile, color=color)
    assert sheet is not None
    return sheet.figure


def refinement_frames(
    scene: Scene, stages: Sequence[Stage], *, count: int = 4, pixels: int = 96, max_slots: int = 16
) -> list[np.ndarray]:
    """The same as frames of an animation: a frame per stage, its name written above, one row per scene.

    Returns:
        Arrays (height, width, 3) uint8 for `save_animation`; below the name what `decomposition_array` draws.

    Raises:
        ValueError: if there is no stage, or as in `decomposition_array`.
    """
    _check(stages)
    colors = clip_colors(scene[:count], _drawn(stages[-1]).masks[:count])
    return titled_frames(
        {
            stage.name.replace("\n", " "): decomposition_array(
                scene, _drawn(stage), count, pixels=pixels, max_slots=max_slots, colors=colors
            )
            for stage in stages
        }
    )


def _drawn(stage: Stage) -> Decomposition:
    if stage.drawn is None:
        raise ValueError(f"stage {stage.name!r} is not decoded; pass what evaluation.pictures.decoded_stages returns")
    return stage.drawn


def _check(stages: Sequence[Stage]) -> None:
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"stages are {names}; expected at least one, each with a name of its own")


def _shape(panel: Panel | None) -> tuple[int, int]:
    assert panel is not None
    return panel.tiles.shape[1], panel.tiles.shape[2]


def _attention_panel(stage: Stage, count: int, like: Panel | None, colors: Tensor) -> Panel | None:
    if stage.attention is None:
        return None
    attention = F.interpolate(unit(stage.attention[:count]), size=_shape(like), mode="nearest")
    return Panel(name="attention", tiles=to_tiles(color_masks(attention.unsqueeze(2), colors)))
