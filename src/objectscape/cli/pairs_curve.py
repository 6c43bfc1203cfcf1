"""`objectscape benchmark recipes=workspace/curve`: how many matched pairs a workspace needs with which losses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.cli.common import console, note
from objectscape.evaluation.pairs_curve import LOSSES, PAIRS, STAGE, Curve, pair_factor
from objectscape.evaluation.results import read_results
from objectscape.evaluation.summary import EVALUATION, evaluated
from objectscape.files import write_text

RECIPE = "workspace/curve"
VARIANTS = {f"{RECIPE}/{losses}-{pairs}": (losses, pairs) for losses in LOSSES for pairs in PAIRS}
"""{name: (set of losses, number of matched pairs)}"""
ASK = ["ask.translate.probe_rows=0"]
"""Of the evaluations: no probes, which would cost as much as a short training."""
ERRORS = {
    "translation": "translation loss",
    "v_to_attr_position": "place told of images, pixels",
    "v_to_attr_rotation": "direction told of images, degrees",
    "v_to_attr_color": "color told of images, levels of 255",
}
"""{score: what the axis says}"""


def load(name: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a variant: the recipe workspace/v_attr with its pairs and losses.

    Cycles begin after the same share of the steps, however many there are; without cycles none are computed.
    """
    losses, pairs = VARIANTS[name]
    words = [f"data.matched={pairs}", *(f"model.weights.{term}={weight}" for term, weight in LOSSES[losses].items())]
    config = configs.load(["recipe=workspace/v_attr", *words, *overrides])
    if not any(word.startswith("model.cycles_from=") for word in overrides):
        steps = config.trainer.max_steps
        config.model.cycles_from = round(STAGE * steps) if config.model.weights.cycle else steps
    config.name = name
    return config


def report(runs: Sequence[RunFolder], out: Path) -> None:
    """Draw the curves of the finished runs and write them down; nothing without such runs."""
    curves: dict[str, dict[str, dict[int, list[float]]]] = {score: {} for score in ERRORS}
    for run in runs:
        name = str(run.config().get("name"))
        if name not in VARIANTS or not evaluated(run):
            continue
        losses, pairs = VARIANTS[name]
        scores = read_results(run)[EVALUATION]["scores"]
        for score, found in curves.items():
            if score in scores:
                found.setdefault(losses, {}).setdefault(pairs, []).append(float(scores[score]["mean"]))
    if not any(curves.values()):
        return
    factors = {score: _factor(found) for score, found in curves.items()}
    write_text(out / "curve.json", json.dumps({"errors": curves, "factor": factors}, indent=1))
    from objectscape.viz import save_figure
    from objectscape.viz.pairs_curve import pairs_figure

    notes = {ERRORS[score]: _sentence(factors[score]) for score in ERRORS}
    save_figure(pairs_figure({ERRORS[s]: found for s, found in curves.items() if found}, notes), out / "curve.png")
    for error, text in notes.items():
        console.print(f"{error}: {text}")
    note(f"written to {out / 'curve.png'} and curve.json")


def _factor(found: dict[str, dict[int, list[float]]]) -> dict[str, float] | None:
    """Of translation alone against all losses."""
    better: Curve = found.get("full", {})
    worse: Curve = found.get("tr", {})
    factor = pair_factor(better, worse) if better and worse else None
    return None if factor is None else factor._asdict()


def _sentence(factor: dict[str, float] | None) -> str:
    if factor is None:
        return "tr does not span the errors of full: no factor"
    low, high = factor["low"], factor["high"]
    return f"tr needs {factor['mean']:.2g} x the pairs of full (95 %: {low:.2g} to {high:.2g})"
