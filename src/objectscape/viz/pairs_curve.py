"""Error against the number of matched pairs, a line for each set of losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pairs_figure(panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]], notes: Mapping[str, str]) -> Figure:
    """A panel for each error: the mean over seeds as a line, each seed as a dot, both axes logarithmic.

    Args:
        panels: {error: {set of losses: {pairs: error of each seed}}}.
        notes: {error: text under its panel}.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    for place, (error, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for number, (name, curve) in enumerate(curves.items()):
            pairs = sorted(curve)
            means = [sum(curve[n]) / len(curve[n]) for n in pairs]
            axes.plot(pairs, means, color=f"C{number}", label=name)
            dots = [(n, value) for n in pairs for value in curve[n]]
            axes.scatter([n for n, _ in dots], [v for _, v in dots], color=f"C{number}", s=10, alpha=0.6)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylabel(error)
        axes.set_xlabel("matched pairs" + (f"\n{notes[error]}" if notes.get(error) else ""))
        axes.legend(frameon=False, fontsize="small")
    return figure
