"""objectscape quickstart: objects found from scratch, in minutes, on a laptop CPU."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import time
from pathlib import Path

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.cli.common import build_split, console, data_config
from objectscape.cli.train import train
from objectscape.evaluation.results import read_results

IMAGES = 320


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
    evaluate.main([str(run.path), "--images", str(IMAGES), "--device", "cpu", "--no-latents"])
    (result,) = read_results(run).values()
    scores = {name: score["mean"] for name, score in result["scores"].items()}
    baseline = measure_baseline(run)
    console.print("3/3  Drawing.")
    show.main([str(run.path), "--device", "cpu"])
    console.print(
        f"\nDone in {(time.perf_counter() - began) / 60:.1f} minutes, "
        f"{run.status()['seconds'] / 60:.1f} of them training.\n\n"
        f"  foreground ARI: this network {scores.get('ari_fg', math.nan):.3f}, k-means on color and position "
        f"{baseline:.3f}\n"
        "  (1: every object's pixels are grouped as in the truth; 0: chance)\n\n"
        f"Look at:\n"
        f"  {next(run.figures.glob('decomposition-*.png'))}   what it found, slot by slot\n"
        f"  {run.figures / 'training.gif'}   how it learned to\n"
        f"  {run.path / 'README.md'}   everything about this run\n\n"
        "Next:\n"
        f"  objectscape show {shlex.quote(str(run.path))} PICTURE   # decompose a picture of yours\n"
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


def measure_baseline(run: RunFolder) -> float:
    """Foreground ARI of k-means on the same scenes, with shading divided out and the best of 4, 5 and 6 clusters."""
    from objectscape.evaluation.baselines import chromaticity, kmeans_segments
    from objectscape.metrics import AdjustedRandIndex

    dataset = build_split(data_config(run, []), "test")
    scene = dataset.batch(list(range(min(IMAGES, len(dataset)))))
    if scene.segments is None:
        return math.nan
    values = []
    for clusters in (4, 5, 6):
        metric = AdjustedRandIndex()
        metric.update(scene.segments, kmeans_segments(chromaticity(scene.image), clusters=clusters))
        values.append(float(metric.compute()))
    return max(values)
