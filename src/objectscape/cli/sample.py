"""objectscape sample: scenes imagined from the prior."""

from __future__ import annotations

import argparse
from pathlib import Path

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import add_device, at_least, device_of, open_model, split_words


def main(words: list[str]) -> int:
    """Parse the command line, sample, draw and save."""
    parser = argparse.ArgumentParser(
        prog="objectscape sample",
        description="Draw scenes that a trained model imagines, and how each is built up slot by slot.",
    )
    parser.add_argument("words", nargs="+", metavar="RUN | model.KEY=VALUE")
    parser.add_argument("-n", type=at_least(1), default=64, help="scenes (default 64)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder to write to (default: RUN/figures)")
    add_device(parser)
    options = parser.parse_intermixed_args(words)
    if options.out is not None and (options.out.suffix or options.out.is_file()):
        raise ValueError(f"--out {options.out}: expected a folder; samples.png and construction.png go into it")
    model_words, other = split_words(options.words)
    if len(other) != 1 or "=" in other[0]:
        raise ValueError(f"give one run folder and model.KEY=VALUE options; found {' '.join(other) or 'no folder'}")
    run = RunFolder.open(Path(other[0]))
    import torch

    from objectscape.contract import Generates, abilities
    from objectscape.evaluation.report import write_readme
    from objectscape.viz import construction_figure, samples_figure, save_figure

    model = open_model(run.path, model_words).to(device_of(options))
    if not isinstance(model, Generates):
        can = " and ".join(abilities(model)) or "reconstruct"
        raise ValueError(f"{type(model).__name__} cannot imagine scenes: it can only {can}")
    torch.manual_seed(options.seed)
    with torch.no_grad():
        output = model.sample(options.n).to("cpu")
    folder = options.out or run.figures
    print(save_figure(samples_figure(output), folder / "samples.png"))
    if output.masks.shape[1] > 1:
        print(save_figure(construction_figure(output[: min(8, options.n)]), folder / "construction.png"))
    if not options.out:
        write_readme(run)
    return 0
