"""Learning curves from the `metrics.csv` of one or more runs."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from objectscape.viz.palette import SLOT_COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
Run = str | Path | Rows
"""A `metrics.csv`, the run folder that holds it, or its rows: {column: number, or empty where it was not logged}."""
Curve = tuple[np.ndarray, np.ndarray]

POINTS = 200
LOG_RANGE = 30.0  # what stays positive and falls by more than this factor gets a logarithmic axis


def learning_curves(
    runs: Run | Sequence[Run] | Mapping[str, Run | Sequence[Run]],
    *,
    keys: Sequence[str] | None = None,
    x: str = "step",
    scale: str = "auto",
    columns: int = 3,
    better: Mapping[str, str] | None = None,
) -> Figure:
    """Losses and metrics against the step, one panel per key.

    Several runs given as a list are seeds of one experiment: their mean is a line, one standard deviation around it a
    band, each run a thin line. A dictionary {name: run or list of runs} compares experiments. A curve of more than
    200 points is drawn as the means of 200 equal intervals of steps, since noise would fill the panel.

    Args:
        runs: what to draw.
        keys: columns to draw; None for every loss and every column whose name begins with "val".
        x: the column of the horizontal axis.
        scale: vertical axis "linear", "log", or "auto": logarithmic for what stays positive, covers more than a factor
            of 30, and falls (a loss, not an accuracy that starts near zero).
        columns: most panels side by side.
        better: {key: "higher", "lower" or "neither"}; what is called a loss is better lower. The heading of a panel has
            an arrow for it and, for a single run, says the best and the last value.

    Raises:
        FileNotFoundError: if a path leads to no `metrics.csv`.
        ValueError: if a key is in none of the runs (near matches are named), there is nothing to draw, or `scale` is
            unknown.
    """
    from matplotlib.figure import Figure

    if scale not in ("auto", "linear", "log"):
        raise ValueError(f"scale={scale!r}; choose one of auto, linear, log")
    if columns < 1:
        raise ValueError(f"columns={columns}; must be at least 1")
    groups = {name: [_rows(run) for run in members] for name, members in _groups(runs).items()}
    chosen = _choose_keys([rows for members in groups.values() for rows in members], keys, x)
    lines = -(-len(chosen) // columns)
    columns = -(-len(chosen) // lines)  # as even as the number of panels allows
    legend_lines = -(-len(groups) // columns)  # an entry is about as wide as a panel
    height = 2.3 * lines + 0.1 + 0.2 * legend_lines
    figure = Figure(figsize=(3.1 * columns, height), dpi=150, layout="constrained", facecolor="white")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels[len(chosen) :]:
        axes.remove()
    legend: dict[str, Any] = {}
    for axes, key in zip(panels, chosen):
        _draw_panel(axes, groups, key, x)
        axes.set_title(
            _heading(axes, key, (better or {}).get(key) or ("lower" if _is_loss(key) else "neither")), fontsize=9
        )
        _set_scale(axes, scale)
        handles, labels = axes.get_legend_handles_labels()
        legend |= dict(zip(labels, handles))
    if legend:
        figure.legend(legend.values(), legend, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return figure


def _groups(runs: Any) -> dict[str, list[Run]]:
    """{name: runs}; the name is empty where the user gave none."""

    def single(value: Any) -> bool:
        return isinstance(value, (str, Path)) or (len(value) > 0 and isinstance(value[0], Mapping))

    if isinstance(runs, Mapping):
        groups = {str(name): [value] if single(value) else list(value) for name, value in runs.items()}
    else:
        groups = {"": [runs] if single(runs) else list(runs)}
    empty = [name for name, members in groups.items() if not members]
    if empty or not groups:
        raise ValueError(f"no runs to draw{f' for {empty[0]!r}' if empty and empty[0] else ''}")
    return groups


def _rows(run: Run) -> Rows:
    if not isinstance(run, (str, Path)):
        return run
    path = Path(run)
    if path.is_dir():
        path = path / "metrics.csv"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; give a run folder or its metrics.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _choose_keys(runs: Sequence[Rows], keys: Sequence[str] | None, x: str) -> list[str]:
    names = list(dict.fromkeys(name for rows in runs for row in rows for name in row))
    if x not in names:
        raise ValueError(f"no run has the column {x!r}; the columns are {', '.join(names) or '(none)'}")
    known = [name for name in names if name != x and any(len(_curve(rows, name, x)[0]) for rows in runs)]
    if keys is None:
        chosen = [name for name in known if _is_loss(name) or name.startswith("val")]
        if not chosen:
            raise ValueError(
                f"no loss or validation metric among {', '.join(known) or '(no numbers)'}; pass keys=[...]"
            )
        return chosen
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"the columns are {', '.join(known)}"
            raise ValueError(f"no run has numbers for {key!r}; {hint}")
    if not keys:
        raise ValueError("keys is empty; name at least one column")
    return list(keys)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _curve(rows: Rows, key: str, x: str) -> Curve:
    """Steps in rising order and the finite values there; of a step logged twice the later row counts."""
    table = {_number(row.get(x)): _number(row.get(key)) for row in rows if row.get(key) not in (None, "")}
    points = sorted((step, value) for step, value in table.items() if math.isfinite(step) and math.isfinite(value))
    steps, values = (np.array(column, dtype=np.float64) for column in (zip(*points) if points else ((), ())))
    return _thin(steps, values) if len(steps) > POINTS else (steps, values)


def _thin(steps: np.ndarray, values: np.ndarray) -> Curve:
    place = np.minimum(((steps - steps[0]) / (steps[-1] - steps[0]) * POINTS).astype(int), POINTS - 1)
    size = np.bincount(place, minlength=POINTS)
    full = size > 0
    means = [np.bincount(place, weights=v, minlength=POINTS)[full] / size[full] for v in (steps, values)]
    return means[0], means[1]


def _draw_panel(axes: Axes, groups: Mapping[str, Sequence[Rows]], key: str, x: str) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for number, (name, members) in enumerate(groups.items()):
        curves = [curve for curve in (_curve(rows, key, x) for rows in members) if len(curve[0])]
        if not curves:
            continue
        color = SLOT_COLORS[number % len(SLOT_COLORS)]
        label = name if len(curves) == 1 else f"{name + ': ' if name else ''}{len(curves)} runs, mean ± s.d."
        if len(curves) == 1:
            marker = "o" if len(curves[0][0]) < 20 else None
            axes.plot(*curves[0], color=color, linewidth=1.4, marker=marker, markersize=2.5, label=label)
            continue
        for curve in curves:
            axes.plot(*curve, color=color, linewidth=0.5, alpha=0.45)
        steps = np.unique(np.concatenate([curve[0] for curve in curves]))
        steps = steps[(steps >= max(c[0][0] for c in curves)) & (steps <= min(c[0][-1] for c in curves))]
        if not len(steps):  # no step that all runs reached: there is no mean to show
            continue
        values = np.stack([np.interp(steps, *curve) for curve in curves])
        mean, spread = values.mean(0), values.std(0, ddof=1)
        axes.plot(steps, mean, color=color, linewidth=1.6, label=label)
        axes.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)
    axes.set_xlabel(x, fontsize=8)
    axes.tick_params(labelsize=7, length=2.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)


def _is_loss(key: str) -> bool:
    return key.rsplit("/", 1)[-1].endswith("loss")


def _heading(axes: Axes, key: str, better: str) -> str:
    """The name of a panel, which way is better, and of a single curve its best and its last value."""
    arrow = {"higher": " ↑", "lower": " ↓"}.get(better, "")
    if len(axes.lines) != 1:
        return key + arrow
    steps, values = (np.asarray(data, dtype=np.float64) for data in axes.lines[0].get_data())
    last = f"last {values[-1]:.4g}"
    if not arrow:
        return f"{key}\n{last}"
    best = int(values.argmax() if better == "higher" else values.argmin())
    return f"{key}{arrow}\nbest {values[best]:.4g} at {steps[best]:.0f}, {last}"


def _set_scale(axes: Axes, scale: str) -> None:
    from matplotlib.ticker import LogFormatterSciNotation, MaxNLocator

    lines = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    values = np.concatenate(lines)
    low, high = values.min(), values.max()
    falls = low > 0 and high > LOG_RANGE * low and all(line[-1] < np.sqrt(low * high) for line in lines)
    if scale == "log" or (scale == "auto" and falls):
        axes.set_yscale("log", nonpositive="clip")
        if low > 0:  # a band may reach below zero, where a logarithm has no place for it
            axes.set_ylim(low / 1.25, high * 1.25)
        axes.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1, 0.4)))
        axes.tick_params(axis="y", which="minor", labelsize=6)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
