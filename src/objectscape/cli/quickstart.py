"""objectscape quickstart: objects found from scratch, in minutes, on a laptop CPU."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.cli.common import build_split, console, data_config
from objectscape.cli.train import train
from objectscape.evaluation.results import number

IMAGES = 320
SCORES = {
    "ari_fg": ("ARI-FG", "are the objects' pixels grouped as in the truth? 1: yes; 0: as by chance"),
    "ari": ("ARI", "the same with the background, which color alone finds on these scenes"),
    "miou": ("mIoU", "how much of each object and of the background one slot covers, and nothing else; at most 1"),
    "mse": ("MSE", "squared error of the redrawn image; 0 is best"),
}


def main(words: list[str]) -> int:
    """Train, evaluate beside the baseline, draw, and say where to look next."""
    parser = argparse.ArgumentParser(
        prog="objectscape quickstart",
        description="Render Tetrominoes scenes, train a network that never sees a label to find the pieces, measure "
        "it on fresh scenes beside k-means, and draw what it found. A few minutes on two CPU cores.",
    )
    parser.add_argument(
        "settings", nargs="*", default=[], metavar="key=value", help="change anything: seed=1 run_dir=my_first_run"
    )
    options = parser.parse_args(words)
    import torch

    from objectscape.cli import evaluate, show

    began = time.perf_counter()
    torch.set_num_threads(choose_threads())
    config = configs.load(["recipe=quickstart", *options.settings])
    console.print(
        f"1/3  Training on {config.data.count:,} rendered scenes: images only, no labels, nothing pretrained "
        f"(threads: {torch.get_num_threads()})."
    )
    run = train(config)
    console.print("2/3  Measuring on fresh scenes.")
    words = [str(run.path), "--images", str(IMAGES), "--device", "cpu", "--no-latents"]
    scores = evaluate.evaluate_run(run, [], evaluate.build_parser().parse_args(words)).scores
    baseline = measure_baseline(run)
    console.print("3/3  Drawing.")
    show.main([str(run.path), "--device", "cpu"])
    console.print(
        f"\nDone in {(time.perf_counter() - began) / 60:.1f} minutes, "
        f"{run.status()['seconds'] / 60:.1f} of them training.\n\n"
        f"{score_table({name: score.mean for name, score in scores.items()}, baseline)}\n"
        "k-means (on color and position) is given the best of four settings for each score, chosen with the labels;\n"
        "the network never sees a label.\n\n"
        f"Look at:\n"
        f"  {next(run.figures.glob('decomposition-*.png'))}   what it found, slot by slot\n"
        f"  {run.figures / 'training.gif'}   how it learned to\n"
        f"  {run.path / 'README.md'}   everything about this run, all other scores too\n\n"
        "Next:\n"
        f"  objectscape show {shlex.quote(str(run.path))} PICTURE   # decompose your own image\n"
        "  objectscape train recipe=quickstart data=folder data.path=FOLDER data.image_size=35   # your own images\n"
        "  objectscape list recipes   # the papers' experiments"
    )
    return 0


def choose_threads() -> int:
    """Two, or one where a core is busy: a thread that waits for one without a core is slower than one alone."""
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    return max(1, min(2, (os.cpu_count() or 1) - busy_cores()))


def busy_cores() -> int:
    """How many other processes want a core now: the median of a few looks (0 where Linux does not tell)."""
    looks = []
    for _ in range(7):
        time.sleep(0.05)
        try:
            running = Path("/proc/loadavg").read_text().split()[3].partition("/")[0]
        except OSError:
            return 0
        looks.append(int(running) - 1)  # this process is one of them
    return sorted(looks)[len(looks) // 2]


def measure_baseline(run: RunFolder) -> dict[str, float]:
    """Scores of k-means on the same scenes, shading divided out: for each score the best of four settings."""
    from objectscape.evaluation.baselines import chromaticity, kmeans_segments, mean_colors
    from objectscape.evaluation.questions.decompose import FUNCTIONS
    from objectscape.metrics.reconstruction import mse
    from objectscape.metrics.segmentation import contingency

    dataset = build_split(data_config(run, []), "test")
    scene = dataset.batch(list(range(min(IMAGES, len(dataset)))))
    if scene.segments is None:
        return {}
    found: dict[str, list[float]] = {}
    for clusters, weight in ((4, 0.0), (4, 0.25), (5, 0.25), (6, 0.25)):  # by color alone more clusters stay empty
        segments = kmeans_segments(chromaticity(scene.image), clusters, weight, restarts=2)
        table = contingency(scene.segments, segments)
        for name in SCORES.keys() & FUNCTIONS.keys():
            found.setdefault(name, []).append(float(FUNCTIONS[name](table).nanmean()))
        found.setdefault("mse", []).append(float(mse(scene.image, mean_colors(scene.image, segments)).mean()))
    return {name: min(values) if name == "mse" else max(values) for name, values in found.items()}


def score_table(network: Mapping[str, float], baseline: Mapping[str, float]) -> str:
    """The scores that matter, the network's beside the baseline's."""
    lines = [f"  {'':8}{'network':>9}{'k-means':>9}"]
    for name, (label, meaning) in SCORES.items():
        ours, theirs = network.get(name, math.nan), baseline.get(name, math.nan)
        lines.append(f"  {label:8}{number(ours):>9}{number(theirs):>9}   {meaning}")
    return "\n".join(lines) + "\n"
