"""Boxes over frames by class, and whether a background image is good: to look at before training on motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from objectscape.viz.palette import SLOT_COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 4
DOUBTFUL = 0.6
"""Share of the frames in which a pixel of a good background image has its color."""


def boxes_figure(
    images: Tensor, boxes: Tensor, labels: Tensor, names: Sequence[str], *, dashed: Tensor | None = None
) -> Figure:
    """Frames with boxes in the color of their class, and a legend.

    Args:
        images: (B, 3, H, W) uint8 or float in [0, 1].
        boxes: (B, N, 4) pixels x0 y0 x1 y1; rows without area are no boxes.
        labels: (B, N) index into `names`.
        names: of the classes.
        dashed: (B, N) bool: boxes to draw dashed, of what the pixels do not show.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    count, _, height, width = images.shape
    rows = math.ceil(count / COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 2.6 * rows * height / width + 0.7), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    seen: dict[int, Rectangle] = {}
    for place, axes in enumerate(grid):
        axes.axis("off")
        if place >= count:
            continue
        axes.imshow(images[place].permute(1, 2, 0).numpy(), interpolation="nearest")
        for n, (x0, y0, x1, y1) in enumerate(boxes[place].tolist()):
            if x1 <= x0 or y1 <= y0:
                continue
            label = int(labels[place, n])
            style = "--" if dashed is not None and bool(dashed[place, n]) else "-"
            color = SLOT_COLORS[label % len(SLOT_COLORS)]
            frame = Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=color, lw=1.2, ls=style)
            seen.setdefault(label, axes.add_patch(frame))
    order = sorted(seen)
    figure.legend(
        [seen[label] for label in order], [names[label] for label in order], loc="outside lower center", ncols=6
    )
    return figure


def background_figure(backgrounds: dict[str, Tensor], agreement: Tensor) -> Figure:
    """Background images beside each other, and how often each pixel of the first one has its color.

    Args:
        backgrounds: {name: (H, W, 3) uint8}.
        agreement: (H, W) share of the frames in [0, 1].
    """
    from matplotlib.figure import Figure

    height, width = agreement.shape
    count = len(backgrounds) + 1
    figure = Figure(figsize=(3 * count + 0.8, 3 * height / width + 0.5), layout="constrained")
    axes = figure.subplots(1, count)
    for place, (name, image) in zip(axes, backgrounds.items(), strict=False):
        place.imshow(image.numpy(), interpolation="nearest")
        place.set_title(name)
    drawn = axes[-1].imshow(agreement.numpy(), vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    doubtful = float((agreement < DOUBTFUL).double().mean())
    axes[-1].set_title(f"share of the frames; {doubtful:.1%} of the pixels below {DOUBTFUL:.0%}", fontsize=8)
    figure.colorbar(drawn, ax=axes[-1], fraction=0.06)
    for place in axes:
        place.axis("off")
    return figure
