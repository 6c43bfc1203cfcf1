"""objectscape sample: scenes imagined from the prior, or clips imagined from their first frames."""

from __future__ import annotations

import argparse
from pathlib import Path

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import HelpText, add_device, at_least, device_of, open_model, split_words


def main(words: list[str]) -> int:
    """Parse the command line, sample, draw and save."""
    parser = argparse.ArgumentParser(
        prog="objectscape sample",
        description="Draw scenes that a trained model imagines, and how each is built up slot by slot; or write clips "
        "that it continues into a file.",
        epilog="examples:\n"
        "  objectscape sample RUN -n 64\n"
        "  objectscape sample RUN --videos imagined.h5 --real real.h5      # clips, for a Frechet video distance\n"
        "  objectscape sample RUN data=moving_sprites data.image_size=32 --videos imagined.h5 --seed 1",
        formatter_class=HelpText,
    )
    parser.add_argument("words", nargs="+", metavar="WORD", help="RUN, model.KEY=VALUE, data=NAME, data.KEY=VALUE")
    parser.add_argument("-n", type=at_least(1), help="scenes (default 64), or clips (default 256, or all there are)")
    parser.add_argument("--seed", type=int, default=0, help="of the model's draws, and of which clips are taken")
    parser.add_argument("--videos", type=Path, metavar="FILE", help="continue clips of the data, into a new .h5 file")
    parser.add_argument("--real", type=Path, metavar="FILE", help="with --videos: the clips themselves, likewise")
    parser.add_argument("--context", type=at_least(1), default=2, help="with --videos: frames seen (default 2)")
    parser.add_argument("--frames", type=at_least(2), help="with --videos: of a clip in all (default: all it has)")
    parser.add_argument("--rollouts", type=at_least(1), default=1, help="with --videos: futures of each (default 1)")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"], help="with --videos")
    parser.add_argument("--out", type=Path, help="folder to write to (default: RUN/figures)")
    add_device(parser)
    options = parser.parse_intermixed_args(words)
    if options.out is not None and (options.out.suffix or options.out.is_file()):
        raise ValueError(f"--out {options.out}: expected a folder; samples.png and construction.png go into it")
    model_words, other = split_words(options.words)
    if options.videos is not None:
        return _videos(model_words, other, options)
    if options.real is not None:
        raise ValueError("--real goes with --videos")
    if len(other) != 1 or "=" in other[0]:
        raise ValueError(f"give one run folder and model.KEY=VALUE options; found {' '.join(other) or 'no folder'}")
    run = RunFolder.open(Path(other[0]))
    import torch

    from objectscape.contract import Generates, abilities
    from objectscape.evaluation.pictures import about
    from objectscape.evaluation.report import write_readme
    from objectscape.viz import caption_figure, construction_figure, samples_figure, save_figure

    model = open_model(run.path, model_words).to(device_of(options))
    if not isinstance(model, Generates):
        can = " and ".join(abilities(model)) or "reconstruct"
        raise ValueError(f"{type(model).__name__} cannot imagine scenes: it can only {can}")
    torch.manual_seed(options.seed)
    with torch.no_grad():
        output = model.sample(options.n or 64).to("cpu")
    folder = options.out or run.figures
    text = about(run, model, f"imagined, seed {options.seed}")
    print(save_figure(caption_figure(samples_figure(output), text), folder / "samples.png"))
    if output.masks.shape[1] > 1:
        figure = construction_figure(output[: min(8, len(output))])
        print(save_figure(caption_figure(figure, text), folder / "construction.png"))
    if not options.out:
        write_readme(run)
    return 0


def _videos(model_words: dict[str, str], other: list[str], options: argparse.Namespace) -> int:
    from objectscape.cli.videos import write_videos

    runs = [word for word in other if "=" not in word]
    if len(runs) != 1:
        raise ValueError(f"give one run folder; found {' '.join(runs) or 'none'}")
    if options.out is not None:
        raise ValueError("--out is for pictures; with --videos FILE there are none")
    return write_videos(RunFolder.open(Path(runs[0])), model_words, [word for word in other if "=" in word], options)
