"""The table of `objectscape evaluate --shifts`: one run on every variant of a rendered data set."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.cli.common import build_split, console, data_config, print_fitting, split_words

if TYPE_CHECKING:
    from objectscape.evaluation.asking import Evaluation

Evaluate = Callable[[RunFolder, list[str], argparse.Namespace], "Evaluation"]


def evaluate_shifts(
    run: RunFolder, words: list[str], options: argparse.Namespace, evaluate_run: Evaluate
) -> dict[str, Evaluation]:
    """Evaluate a run on every variant of its data, or of the data that `words` name, and print the table.

    Args:
        run: a trained run.
        words: `data` and `model` options; not `data.variant`.
        options: of `objectscape evaluate`.
        evaluate_run: evaluates on one variant and writes the result into the run.

    Raises:
        ValueError: if the data set has no variants.
    """
    data_words = [word for word in split_words(words)[1] if not word.startswith("ask")]
    dataset = build_split(data_config(run, data_words), options.split)
    variants = getattr(dataset, "VARIANTS", None)
    if variants is None:
        families = ", ".join(name for name in configs.options("data") if name.endswith("_like"))
        raise ValueError(f"{dataset.spec.name} has no variants to shift to; add data=NAME, one of {families}")
    home = dataset.variant  # type: ignore[attr-defined]
    found = {}
    for variant in sorted(variants, key=lambda name: name != home):  # its own variant first
        tag = f"{options.tag}-{variant}" if options.tag else None
        tagged = argparse.Namespace(**{**vars(options), "tag": tag})
        found[variant] = evaluate_run(run, [*words, f"data.variant={variant}"], tagged)
    texts = {name: dataset.rules_of(name).text for name in variants}  # type: ignore[attr-defined]
    _print(run, home, texts, found)
    return found


def _print(run: RunFolder, home: str, texts: dict[str, str], found: dict[str, Evaluation]) -> None:
    names = list({name: None for evaluation in found.values() for name in evaluation.headline})
    rows = []
    for variant, evaluation in found.items():
        cells, scores = [], evaluation.scores
        for name in names:
            if name not in scores:
                cells.append("-")
                continue
            mean = scores[name].mean
            reference = found[home].scores[name].mean if name in found[home].scores else math.nan
            change = mean - reference
            digits = 4 if abs(reference) < 0.1 else 3 if abs(reference) < 10 else 1
            shown = f"{mean:.{digits}f}"
            cells.append(shown if variant == home or math.isnan(change) else f"{shown} {change:+.{digits}f}")
        rows.append([variant, *cells])
    console.print(f"{run.path}: mean, and the change against {home}")
    print_fitting(
        ["variant", *names], rows, keep=1, whole=f"every score of every variant is in {run.home / 'evaluation'}"
    )
    for variant in found:
        console.print(f"{variant}: {texts[variant]}")
