"""Whom a workspace trusts: shares of its domains in fused states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def selection_figure(levels: Sequence[float], panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A panel for each domain that is corrupted, a line for each domain of the state.

    Args:
        levels: of the noise, in standard deviations of the latent.
        panels: {corrupted domain, with its partner: {domain: mean share at each level}}.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(panels), 3.2), layout="constrained")
    for place, (title, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for name, shares in lines.items():
            axes.plot(levels, shares, marker="o", label=name)
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("noise, standard deviations")
        axes.set_ylabel("mean share in the state")
        axes.legend(frameon=False, fontsize="small")
    return figure
