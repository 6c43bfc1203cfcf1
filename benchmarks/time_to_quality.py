"""Scores on validation scenes against CPU time of training, recipe by recipe

Every recipe is trained with every seed, one run after the other, each in a process and a folder of its own below `out`.
What is there is not trained again, and what was stopped goes on: repeat the command. Times are `train/cpu_seconds` of a
run's metrics.csv, which leave out validation, so that it does not matter how often one looks. "ours" is the worst seed.
The curves are written to OUT/curves.csv and OUT/curves.png.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from benchmarks.measure import Row, row
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.cli.benchmark import locked, plan
from objectscape.evaluation.results import group_runs
from objectscape.evaluation.summary import diverged
from objectscape.files import write_text
from objectscape.training.logs import read_csv
from objectscape.viz.files import save_figure
from objectscape.viz.palette import SLOT_COLORS

SCORES = {"ari_fg": "ARI-FG", "ari": "ARI", "miou": "mIoU"}
THRESHOLDS = (0.9, 0.95, 0.99)
"""Of ARI-FG: how long until a validation exceeds them for the first time."""
TIME = "train/cpu_seconds"
WORDS = ["every.validate=100", "every.picture=0", "loggers.tensorboard=false"]
QUICK = """
    data.count=64 batch_size=4 model.width=8 model.hidden=8 trainer.max_steps=6 every.log=1 every.validate=2
    validation.images=4
""".split()
LOOK = 0.5  # seconds between looks at the log of a run that has a budget

Curve = dict[str, np.ndarray]
"""`step`, `minutes` of CPU time, and the scores at each validation of a run."""


def run(
    *,
    quick: bool = False,
    recipes: str | None = None,
    seeds: str = "0,1,2",
    minutes: float = math.inf,
    out: Path = Path("runs/time_to_quality"),
    runs: Sequence[Path] = (),
) -> list[Row]:
    """Rows of every recipe: the last scores, and the CPU time until ARI-FG exceeds some values; of the worst seed.

    Args:
        recipes: with commas between them, or lists of `objectscape benchmark`; None for the quick start and all that
            are called "minutes".
        seeds: with commas between them.
        minutes: CPU time that a run may take; it can go on with more later.
        out: folder of runs, figure and curves.
        runs: draw these, and train nothing.
    """
    if quick and not runs:
        with tempfile.TemporaryDirectory() as folder:
            folders = train("quickstart", "0", minutes, Path(folder) / "runs", [*WORDS, *QUICK])
            return report(folders, Path(folder))
    if recipes is None:
        recipes = ",".join(["quickstart", *(name for name in configs.options("recipe") if name.endswith("/minutes"))])
    folders = [RunFolder.open(path) for path in runs] or train(recipes, seeds, minutes, out.resolve(), WORDS)
    return report(folders, out)


def train(recipes: str, seeds: str, minutes: float, out: Path, words: list[str]) -> list[RunFolder]:
    """Bring all runs to their end, or as far as the budget reaches."""
    jobs = plan(out, recipes, seeds, words)
    with locked(out):
        for job in jobs:
            train_one(job, minutes, words)
    return [RunFolder(Path(job.run_dir)) for job in jobs]


def train_one(job: DictConfig, minutes: float, words: list[str]) -> None:
    run = RunFolder(Path(job.run_dir))
    if run.status()["state"] == "done" or diverged(run) or spent(run) >= 60 * minutes:
        return
    command = [f"resume={run.path}"]
    if not run.checkpoint.is_file():
        shutil.rmtree(run.path, ignore_errors=True)  # it was stopped before its first checkpoint
        command = [f"recipe={job.name}", f"seed={job.seed}", f"run_dir={run.path}", *words]
    process = subprocess.Popen([sys.executable, "-m", "objectscape", "train", *command])
    over = False
    try:
        while process.poll() is None:
            time.sleep(LOOK)
            if not over and spent(run) >= 60 * minutes:
                over = True
                process.send_signal(signal.SIGINT)  # it saves its state, and ends
    except KeyboardInterrupt:
        process.wait()  # it got the Ctrl-C as well
        raise KeyboardInterrupt("the same command goes on from here") from None
    if process.returncode and not over and not diverged(run):
        raise ValueError(f"{run.path} did not end well; its own message says why")


def spent(run: RunFolder) -> float:
    """CPU seconds of training that the log of a run has got to."""
    file = run.path / "metrics.csv"
    return max((float(line[TIME]) for line in (read_csv(file) if file.is_file() else []) if line.get(TIME)), default=0)


def curve(run: RunFolder) -> Curve:
    """The validations of a run.

    Raises:
        ValueError: if its log has no times, or no scores.
    """
    file = run.path / "metrics.csv"
    lines = read_csv(file) if file.is_file() else []
    times = [(int(line["step"]), float(line[TIME])) for line in lines if line.get(TIME)]
    if not times or not all(math.isfinite(seconds) for _, seconds in times):
        raise ValueError(f"{file} has no {TIME}: it was begun before that was logged, or stopped at once")
    seen = [line for line in lines if all(line.get(f"val/{name}") for name in SCORES)]
    if not seen:
        raise ValueError(f"{file} has no val/ari_fg: it was not validated, or model and data have no segments")
    steps = np.array([int(line["step"]) for line in seen])
    step, seconds = times[-1]
    if steps[-1] > step:  # a run is validated where it stops, which may be between two rows
        times.append((int(steps[-1]), seconds * steps[-1] / step))
    scores = {name: np.array([float(line[f"val/{name}"]) for line in seen]) for name in SCORES}
    return {"step": steps, "minutes": np.interp(steps, *zip((0, 0.0), *times, strict=True)) / 60, **scores}


def report(runs: Sequence[RunFolder], out: Path) -> list[Row]:
    """The rows of some runs; their curves are written to `out`."""
    curves: dict[str, list[Curve]] = {}
    lost: dict[str, list[str]] = {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["recipe", "run", "step", "cpu_minutes", *SCORES])
    for label, members in group_runs(runs).items():
        curves[label], lost[label] = [], []
        for member in members:
            try:
                found = curve(member)
            except ValueError as error:
                lost[label].append(str(error))
                continue
            curves[label].append(found)
            lines = zip(*(found[name].tolist() for name in ("step", "minutes", *SCORES)), strict=True)
            writer.writerows([label, member.path, *line] for line in lines)
    if not any(curves.values()):
        raise ValueError(next(message for messages in lost.values() for message in messages))
    write_text(out / "curves.csv", text.getvalue())
    draw({label: members for label, members in curves.items() if members}, out / "curves.png")
    return [entry for label, members in curves.items() for entry in rows(label, members, lost[label])]


def rows(label: str, members: Sequence[Curve], lost: Sequence[str]) -> list[Row]:
    """The last scores of the worst seed, and when the slowest one passed the thresholds."""
    found = []
    ended = f"after {max((member['minutes'][-1] for member in members), default=0):.3g} CPU min"
    without = f"; {len(lost)} without: {lost[0]}" if lost else ""
    for name, heading in SCORES.items():
        last = [float(member[name][-1]) for member in members]
        note = f"seeds: {', '.join(f'{value:.4f}' for value in last)}, {ended}" if last else ""
        found.append(row(f"{label}, worst {heading}", min(last, default=None), None, "score", note=note + without))
    for threshold in THRESHOLDS:
        times = [first_above(member, threshold) for member in members]
        note = f"seeds: {', '.join('never' if minutes is None else f'{minutes:.3g}' for minutes in times)}"
        reached = [minutes for minutes in times if minutes is not None]
        slowest = max(reached) if members and len(reached) == len(times) and not lost else None
        found.append(row(f"{label}, until ARI-FG {threshold:g}", slowest, None, "CPU min", note=note))
    return found


def first_above(member: Curve, threshold: float) -> float | None:
    """CPU minutes at the first validation whose ARI-FG is above."""
    above = member["ari_fg"] >= threshold
    return float(member["minutes"][above.argmax()]) if above.any() else None


def draw(curves: Mapping[str, Sequence[Curve]], file: Path) -> None:
    """A panel per score: every run thin, the worst at each time thick."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), dpi=150, layout="constrained", facecolor="white")
    for axes, (name, heading) in zip(figure.subplots(1, len(SCORES)), SCORES.items(), strict=True):
        for number, (label, members) in enumerate(curves.items()):
            color = SLOT_COLORS[number % len(SLOT_COLORS)]
            for member in members:
                axes.plot(member["minutes"], member[name], color=color, linewidth=0.5, alpha=0.45)
            times = np.unique(np.concatenate([member["minutes"] for member in members]))
            first, last = (pick(m["minutes"][i] for m in members) for i, pick in ((0, max), (-1, min)))
            times = times[(times >= first) & (times <= last)]
            worst = np.min([np.interp(times, member["minutes"], member[name]) for member in members], 0)
            many = f", worst of {len(members)}" if len(members) > 1 else ""
            axes.plot(times, worst, color=color, linewidth=1.6, label=label + many)
        axes.set_title(f"{heading} ↑", fontsize=9)
        axes.set_xlabel("CPU minutes of training", fontsize=8)
        axes.set_xlim(left=0)
        axes.set_ylim(top=1.01)
        axes.tick_params(labelsize=7, length=2.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color="#E4E4E4", linewidth=0.6)
        axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    save_figure(figure, file, dpi=150)
