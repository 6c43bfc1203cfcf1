"""A line below a picture: which run, which step, which data, and what to know before reading it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS, LINE = 7.0, 0.14
"""Size of the letters, and inches per line."""
LETTER = 0.058
"""Inches that a letter takes on the average."""


def caption_figure(figure: Figure, text: str) -> Figure:
    """Put a text below a figure, wrapped to its width; the figure grows by the lines it takes.

    Args:
        figure: from any function of `objectscape.viz`.
        text: paragraphs, one per line.
    """
    width, height = figure.get_size_inches()
    lines = _wrapped(text, max(20, int(width / LETTER)))
    if not lines:
        return figure
    room = LINE * len(lines) + 0.08
    engine, taller = figure.get_layout_engine(), height + room
    if engine is None:
        for axes in figure.axes:
            x, y, w, h = axes.get_position().bounds
            axes.set_position((x, (y * height + room) / taller, w, h * height / taller))
    else:
        engine.set(rect=(0, room / taller, 1, height / taller))  # type: ignore[call-arg]
    figure.set_size_inches(width, taller)
    for number, line in enumerate(lines):
        y = (room - 0.06 - LINE * number) / taller
        figure.text(0.07 / width, y, line, fontsize=POINTS, va="top", color="#505050")
    return figure


def caption_frames(frames: Sequence[np.ndarray], text: str) -> list[np.ndarray]:
    """The frames of an animation, (H, W, 3) uint8, with a text below each."""
    from PIL import Image, ImageDraw, ImageFont

    if not frames:
        return []
    width = frames[0].shape[1]
    font = ImageFont.load_default(11)
    lines = _wrapped(text, max(12, int(width / 6)))
    band = Image.new("RGB", (width, 14 * len(lines) + 6), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(band).text((4, 2 + 14 * number), line, fill="#505050", font=font)
    below = np.array(band)
    return [np.concatenate([frame, below]) for frame in frames]


def _wrapped(text: str, letters: int) -> list[str]:
    return [line for part in text.splitlines() for line in textwrap.wrap(part, letters)]
