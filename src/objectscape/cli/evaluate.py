"""objectscape evaluate: every metric a model's abilities and the data's ground truth allow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from rich.progress import track
from rich.table import Table

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import (
    add_device,
    at_least,
    build_split,
    console,
    data_config,
    device_of,
    errors,
    note,
    open_model,
    split_words,
)
from objectscape.cli.shifts import evaluate_shifts
from objectscape.contract import Generates
from objectscape.data.loading import EvalLoader
from objectscape.evaluation.disentanglement import evaluate_latents
from objectscape.evaluation.generation import evaluate_generation
from objectscape.evaluation.protocols import Score, evaluate
from objectscape.evaluation.report import write_readme
from objectscape.evaluation.results import number, write_result
from objectscape.metrics.disentanglement import Scoring


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="objectscape evaluate",
        description="Evaluate trained models on the test split of their data, or of any other data set.",
        epilog="examples:\n"
        "  objectscape evaluate RUN\n"
        "  objectscape evaluate RUN RUN2 data=multi_dsprites data.variant=binarized\n"
        "  objectscape evaluate RUN model.slots=11 model.iterations=5 --tag more-slots\n"
        "  objectscape evaluate RUN --shifts             # every controlled shift of a rendered data set, in one table",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="RUN | key=value", help="run folders, and data/model options")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument(
        "--images", type=at_least(0), default=320, help="from the start of the split; 0 for all (default 320)"
    )
    parser.add_argument("--batch-size", type=at_least(1), default=64)
    parser.add_argument("--seed", type=int, default=0, help="of the model's random draws")
    add_device(parser)
    parser.add_argument(
        "--samples", type=at_least(1), help="scenes to imagine for the Frechet distance (default: --images)"
    )
    parser.add_argument("--inception", type=Path, help="weights for the FID: objectscape data fetch inception")
    parser.add_argument(
        "--latents",
        action=argparse.BooleanOptionalAction,
        help="what the latents know: DCI and property probes where the data have factors, activeness "
        "(default: yes, but for --shifts)",
    )
    parser.add_argument("--dci", choices=get_args(Scoring), default="corrected", help="scoring of DCI")
    parser.add_argument("--tag", help="name of the result file, if not the data set's name")
    parser.add_argument("--shifts", action="store_true", help="on every variant of the data set, as one table")
    return parser


def main(words: list[str]) -> int:
    """Parse the command line, measure, print and save."""
    options = build_parser().parse_intermixed_args(words)
    runs = [RunFolder.open(Path(word)) for word in options.words if "=" not in word]
    if not runs:
        raise ValueError("name at least one run folder: objectscape evaluate RUN")
    settings = [word for word in options.words if "=" in word]
    if options.tag is not None and (not options.tag or Path(options.tag).name != options.tag):
        raise ValueError(f"--tag {options.tag!r}: expected a name without slashes; the result goes to RUN/evaluation")
    for run in runs:
        if options.shifts:
            evaluate_shifts(run, settings, options, evaluate_run)
        else:
            print_scores(str(run.path), evaluate_run(run, settings, options))
    return 0


def evaluate_run(run: RunFolder, words: list[str], options: argparse.Namespace) -> dict[str, Score]:
    """Evaluate one run and write the result into it."""
    from objectscape.training.run import check_fit

    model_words, data_words = split_words(words)
    device = device_of(options)
    dataset = build_split(data_config(run, data_words), options.split)
    model = open_model(run.path, model_words)
    check_fit(model, dataset)
    loader = EvalLoader(dataset, batch_size=options.batch_size, images=options.images or None)
    batches = track(loader, description="evaluating", total=len(loader), console=errors, transient=True)
    scores = evaluate(model, batches, device=device, seed=options.seed)
    details: dict[str, object] = {
        "seed": options.seed,
        "images": loader.images,
        "model": model_words,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if isinstance(model, Generates) and not options.shifts:  # what it imagines is the same on every variant
        result = evaluate_generation(
            model,
            loader,
            samples=options.samples or loader.images,
            inception=options.inception,
            device=device,
            seed=options.seed,
        )
        scores |= result.scores
        details["generation"] = result.details
    if options.latents if options.latents is not None else not options.shifts:
        with errors.status("asking the latents"):
            latents = evaluate_latents(
                model,
                loader,
                scoring=options.dci,
                active_images=10 if device == "cpu" else 100,  # the paper: 100
                device=device,
                seed=options.seed,
            )
        scores |= latents.scores
        details["latents"] = latents.details
    tag = options.tag or "-".join([dataset.spec.name, *(f"{key}={value}" for key, value in model_words.items())])
    path = write_result(run, scores, spec=dataset.spec, split=options.split, name=tag, **details)
    write_readme(run)
    note(f"{loader.images} images of {dataset.spec.name} ({options.split}); written to {path}")
    return scores


def print_scores(title: str, scores: dict[str, Score]) -> None:
    """A table on the terminal."""
    table = Table(title=title, title_justify="left")
    for column in ("metric", "mean", "sd", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, score in scores.items():
        table.add_row(name, number(score.mean), number(score.sd), str(score.n))
    console.print(table)
