"""objectscape evaluate: every question that a model can be asked about some data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from rich.progress import track
from rich.table import Table

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.ask import read_questions
from objectscape.cli.common import (
    HelpText,
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
from objectscape.evaluation.results import ARROWS, file_name, number, option_words, write_result

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

    from objectscape.cli.ask import Chosen
    from objectscape.data.dataset import SceneDataset
    from objectscape.evaluation.asking import Evaluation
    from objectscape.evaluation.questions import Question

UNCHANGED = ("generate", "latents")
"""Questions that `--shifts` leaves out unless told otherwise: samples are the same on every variant, latents costly."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="objectscape evaluate",
        description="Evaluate trained models on the test split of their data, or of any other data set: every question "
        "that model and data can answer (objectscape list metrics), beside a baseline that needs no learning.",
        epilog="examples:\n"
        "  objectscape evaluate RUN\n"
        "  objectscape evaluate RUN RUN2 data=multi_dsprites data.variant=binarized\n"
        "  objectscape evaluate RUN model.slots=11 model.iterations=5 --tag more-slots\n"
        "  objectscape evaluate RUN ask=decompose,reconstruct      # only these questions\n"
        "  objectscape evaluate RUN ask.generate.samples=10000 ask.generate.inception=FILE\n"
        "  objectscape evaluate RUN ask=my_module.MyQuestion       # your own, by import path\n"
        "  objectscape evaluate RUN --shifts             # every controlled shift of a rendered data set, in one table",
        formatter_class=HelpText,
    )
    parser.add_argument("words", nargs="+", metavar="RUN | key=value", help="run folders; data, model and ask options")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument(
        "--images", type=at_least(0), default=320, help="from the start of the split; 0 for all (default 320)"
    )
    parser.add_argument("--batch-size", type=at_least(1), default=64)
    parser.add_argument("--seed", type=int, default=0, help="of the model's random draws")
    add_device(parser)
    parser.add_argument("--all", action="store_true", help="print every score, not only the headline ones")
    parser.add_argument("--samples", type=at_least(1), help="short for ask.generate.samples=N (default: --images)")
    parser.add_argument("--inception", type=Path, help="short for ask.generate.inception=FILE: weights for the FID")
    parser.add_argument(
        "--latents",
        action=argparse.BooleanOptionalAction,
        help="--no-latents is short for ask.latents=null (with --shifts that is the default)",
    )
    parser.add_argument("--dci", choices=["corrected", "released"], help="short for ask.latents.scoring=...")
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
            from objectscape.cli.shifts import evaluate_shifts

            evaluate_shifts(run, settings, options, evaluate_run)
        else:
            print_scores(run.name, evaluate_run(run, settings, options), everything=options.all)
    return 0


def evaluate_run(run: RunFolder, words: list[str], options: argparse.Namespace) -> Evaluation:
    """Evaluate one run and write the result into it."""
    asks = [word for word in words if word.startswith(("ask=", "ask."))]
    model_words, data_words = split_words([word for word in words if word not in asks])
    described = data_config(run, data_words)  # before the slow imports: a mistake is answered at once
    from objectscape.check import check_fit
    from objectscape.data.loading import EvalLoader
    from objectscape.evaluation.asking import evaluate
    from objectscape.evaluation.report import write_readme

    chosen = read_questions([*_short_forms(options), *asks])
    device = device_of(options)
    dataset = build_split(described, options.split)
    model = open_model(run.path, model_words)
    check_fit(model, dataset)
    loader = EvalLoader(dataset, batch_size=options.batch_size, images=options.images or None)
    batches = track(loader, description="evaluating", total=len(loader), console=errors, transient=True)
    questions = _asked(chosen, model, dataset)
    evaluation = evaluate(model, batches, ask=questions, spec=dataset.spec, device=device, seed=options.seed)
    asked = _plain(described)
    own = _plain(data_config(run, [])) if data_words and run.config().get("data") is not None else asked
    other = {k: v for k, v in asked.items() if own.get(k) != v and k not in ("_target_", "path")}
    if own.get("_target_") != asked["_target_"]:
        other = {}
    named = {k: v for k, v in other.items() if k != "variant"}
    tag = options.tag or "-".join([file_name(dataset.spec.name), *option_words({**named, **model_words})])
    asked |= {"images": loader.images, "seed": options.seed, **model_words}
    for key, _, value in (word.partition("=") for word in asks):
        asked[key] = f"{asked[key]},{value}" if key in asked else value
    path = write_result(
        run,
        evaluation,
        spec=dataset.spec,
        split=options.split,
        name=tag,
        seed=options.seed,
        images=loader.images,
        model=model_words,
        asked=asked,
        replace=bool(options.tag),
        step=run.weights_step(),
        parameters=sum(p.numel() for p in model.parameters()),
    )
    write_readme(run)
    note(f"{loader.images} images of {dataset.spec.name} ({options.split}); every score is in {path}")
    return evaluation


def _plain(config: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _asked(chosen: Chosen, model: nn.Module, dataset: SceneDataset) -> list[Question]:
    """The questions that fit, which may compare with the simulator that the data come from."""
    questions = chosen.fitting(model, dataset.batch([0]))
    source = getattr(dataset, "dataset", dataset)  # of windows: the clips that they are cut from
    for question in questions:
        question.simulator = getattr(source, "simulator", None)
        question.learning = dataset.learning()
    return questions


def _short_forms(options: argparse.Namespace) -> list[str]:
    """The `ask` words that options stand for."""
    words = []
    if options.samples is not None:
        words.append(f"ask.generate.samples={options.samples}")
    if options.inception is not None:
        words.append(f"ask.generate.inception='{options.inception}'")
    if options.dci is not None:
        words.append(f"ask.latents.scoring={options.dci}")
    left_out = [name for name in UNCHANGED if options.shifts and not (name == "latents" and options.latents)]
    if options.latents is False and "latents" not in left_out:
        left_out.append("latents")
    return words + [f"ask.{name}=null" for name in left_out]


def print_scores(title: str, evaluation: Evaluation, *, everything: bool) -> None:
    """A table on the terminal: the headline scores, or every score, beside the baseline."""
    from objectscape.evaluation.questions import meaning_of

    scores, baseline = evaluation.scores, evaluation.baseline
    shown = list(scores) if everything else list(evaluation.headline or scores)
    table = Table(title=title, title_justify="left")
    for column in ("metric", "mean", "baseline", "sd", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name in shown:
        score, meaning = scores[name], meaning_of(name, evaluation.asked)
        beside = number(baseline[name].mean) if name in baseline else "-"
        arrow = ARROWS[meaning.better] if meaning else ""
        table.add_row(f"{name} {arrow}", number(score.mean), beside, number(score.sd), str(score.n))
    console.print(table)
    if len(shown) < len(scores):
        note(f"{len(scores) - len(shown)} more scores with --all; what they say: objectscape list metrics")
