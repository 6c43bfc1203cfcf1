"""objectscape quickstart: objects found from scratch, in minutes, on a laptop CPU."""

from __future__ import annotations

import argparse
import time

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.cli import evaluate, show
from objectscape.cli.common import console
from objectscape.cli.train import train

IMAGES = 320


def main(words: list[str]) -> int:
    """Train, evaluate beside the baseline, draw, and say where to look next."""
    parser = argparse.ArgumentParser(
        prog="objectscape quickstart",
        description="Render Tetrominoes scenes, train a network that has never seen a label to find the pieces, measure "
        "it on fresh scenes beside k-means, and draw what it found. A few minutes on two CPU cores.",
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="change anything, e.g. seed=1 run_dir=my_first_run")
    options = parser.parse_intermixed_args(words)
    began = time.perf_counter()
    config = configs.load(["recipe=quickstart", *options.settings])
    console.print(
        f"[bold]1/4[/bold] Training on {config.data.count} rendered scenes, images only: no labels, no pretrained weights."
    )
    run = train(config)
    minutes = run.status()["seconds"] / 60
    console.print(f"[bold]2/4[/bold] Evaluating on {IMAGES} fresh scenes.")
    score = evaluate.main([str(run.path), "--images", str(IMAGES), "--device", "cpu"])
    baseline = measure_baseline(run)
    found = evaluate.read_results(run)["tetrominoes-test"]["scores"]["ari_fg"]["mean"]
    console.print("[bold]3/4[/bold] Drawing.")
    show.main([str(run.path), "--device", "cpu"])
    console.print(
        f"[bold]4/4[/bold] Done in {(time.perf_counter() - began) / 60:.1f} minutes ({minutes:.1f} of them training).\n\n"
        f"  foreground ARI   this network {found:.3f}   k-means on color and position {baseline:.3f}\n"
        "  (1 = every pixel of every object is grouped as in the truth, 0 = chance; 0.80 is what color alone gives)\n\n"
        "Look at:\n"
        f"  {run.figures / 'decomposition-tetrominoes-test.png'}   what it found: each slot is one object\n"
        f"  {run.figures / 'training.gif'}   how it learned to\n"
        f"  {run.path / 'README.md'}   everything about this run\n\n"
        "Next:\n"
        f"  objectscape show {run.path} PICTURE            decompose a picture of yours\n"
        "  objectscape train recipe=quickstart data=folder data.path=FOLDER   train on your own images\n"
        "  objectscape list recipes                       the papers' experiments",
        highlight=False,
    )
    return score


def measure_baseline(run: RunFolder) -> float:
    """Foreground ARI of the better of two k-means settings on the same scenes."""
    from objectscape.cli.common import build_split, data_config
    from objectscape.evaluation.baselines import kmeans_segments
    from objectscape.metrics import AdjustedRandIndex

    dataset = build_split(data_config(run, []), "test")
    scene = dataset.batch(list(range(IMAGES)))
    values = []
    for clusters, weight in ((5, 0.25), (6, 0.25)):
        metric = AdjustedRandIndex()
        metric.update(scene.segments, kmeans_segments(scene.pixels, clusters=clusters, position_weight=weight))
        values.append(float(metric.compute()))
    return max(values)
