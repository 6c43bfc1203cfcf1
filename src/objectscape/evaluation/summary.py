"""One line per recipe: how well its seeds find the objects, how many fail, and what that costs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.evaluation.results import compare, group_runs, headline_of, is_old, mismatches, number, read_results

EVALUATION = "benchmark-test"
"""Name of the evaluation that is summed up, among those of a run."""


def diverged(run: RunFolder) -> bool:
    """Whether a run has ended because its loss was not finite: the same again would end the same."""
    status = run.status()
    return status["state"] == "failed" and status["reason"].startswith("NonFiniteLossError")


def evaluated(run: RunFolder) -> bool:
    """Whether a run is trained and has the evaluation that is summed up, of its present weights."""
    file = run.path / "evaluation" / f"{EVALUATION}.json"
    return run.status()["state"] == "done" and file.is_file() and not is_old(run, read_results(run)[EVALUATION])


@dataclass(frozen=True)
class Summary:
    """One row per recipe (runs that differ only in their seed), about the headline scores of their evaluations."""

    rows: list[dict[str, Any]]
    """Each with `recipe`; `seeds` that are evaluated; `unfinished` ones; `failures` among the evaluated and the
    diverged; `_mean`, `_sd` and `_min` (`_max` where lower is better) of the first score; means of the other scores
    over the evaluated seeds; `_baseline` of every score, the mean of what needs no learning; and the mean cost of a
    seed: `minutes` of training, validation included, `steps_per_second`, `parameters`. NaN stands for what is not
    known."""
    scores: dict[str, dict[str, Any]]
    """{score: label, better} of what the rows are about, the most telling first"""
    threshold: float | None
    """From which value of the first score on a seed is a success; None: any value."""

    @property
    def first(self) -> str:
        """The score that says whether a seed has failed."""
        return next(iter(self.scores), "")


def summarize(runs: Sequence[RunFolder], *, threshold: float | None = None) -> Summary:
    """Sum up runs in any state.

    Args:
        runs: of any recipes; the scores are the headline scores of the quick questions to them.
        threshold: a seed whose first score is worse, or is not a number, counts as failed; None for what the question
            says itself.
    """
    results = {run.path: read_results(run)[EVALUATION] for run in runs if evaluated(run)}
    known = sorted((headline_of(result) for result in results.values()), key=len, reverse=True)
    scores = {name: about for headline in known for name, about in headline.items() if about["quick"]}
    first = next(iter(scores), "")
    about = scores.get(first, {"better": "higher", "passing": None})
    threshold = about["passing"] if threshold is None else threshold
    rows = []
    for label, members in group_runs(runs).items():
        done = [run for run in members if run.path in results]
        if differing := mismatches(done, only=EVALUATION):
            raise ValueError(
                f"{label}: no mean is taken over different questions. {differing[0]}. Remove those of "
                f"RUN/evaluation/{EVALUATION}.json that are not wanted, and repeat the command."
            )
        values = {row["metric"]: row for row in compare(done, metrics=[*scores]) if row["evaluation"] == EVALUATION}
        found = [scores_of[first]["mean"] for run in done if first in (scores_of := results[run.path]["scores"])]
        status = [run.status() for run in done]
        seconds = [max(state["seconds"], 1e-9) for state in status]
        worst = {"higher": "min", "lower": "max"}.get(about["better"], "min")
        rows.append(
            {
                "recipe": label,
                "seeds": len(done),
                "unfinished": sum(not evaluated(run) and not diverged(run) for run in members),
                "failures": sum(not _passes(v, threshold, about["better"]) for v in found)
                + sum(diverged(run) for run in members),
                f"{first}_mean": _value(values, first, "mean"),
                f"{first}_sd": _value(values, first, "sd"),
                f"{first}_{worst}": _value(values, first, worst),
                **{name: _value(values, name, "mean") for name in list(scores)[1:]},
                **_baselines([results[run.path] for run in done], list(scores)),
                "minutes": _mean([value / 60 for value in seconds]),
                "steps_per_second": _mean([state["step"] / s for state, s in zip(status, seconds, strict=True)]),
                "parameters": results[done[0].path]["parameters"] if done else math.nan,
            }
        )
    return Summary(rows, scores, threshold)


def _passes(value: float, threshold: float | None, better: str) -> bool:
    if threshold is None:
        return math.isfinite(value)
    return value <= threshold if better == "lower" else value >= threshold


def table(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """A summary for the eye: headings and cells."""
    first, *others = summary.scores or [""]
    labels = {name: about["label"] for name, about in summary.scores.items()}
    headings = ["recipe", "seeds", labels.get(first, "score"), "worst", "failures", *(labels[name] for name in others)]
    cells = []
    for row in summary.rows:
        seeds = str(row["seeds"]) + (f" ({row['unfinished']} unfinished)" if row["unfinished"] else "")
        spread = "" if math.isnan(row[f"{first}_sd"]) else f" ± {row[f'{first}_sd']:.2g}"
        worst = row[f"{first}_min"] if f"{first}_min" in row else row[f"{first}_max"]
        size = "-" if math.isnan(row["parameters"]) else f"{row['parameters']:,}"
        found = (number(row[f"{first}_mean"]) + spread + _bracket(row, first), number(worst), str(row["failures"]))
        scores = (number(row[name]) + _bracket(row, name) for name in others)
        cost = (number(row[name]) for name in ("minutes", "steps_per_second"))
        cells.append([row["recipe"], seeds, *found, *scores, *cost, size])
    return [*headings, "minutes", "steps/s", "parameters"], cells


def to_json(summary: Summary) -> str:
    """A summary as JSON, with null for what is not known."""
    rows = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in summary.rows]
    content = {"evaluation": EVALUATION, "score": summary.first, "threshold": summary.threshold, "rows": rows}
    return json.dumps(content, indent=2) + "\n"


def _baselines(results: Sequence[dict[str, Any]], scores: Sequence[str]) -> dict[str, float]:
    """{score_baseline: mean over the evaluations that have it, NaN without any}"""
    found = {name: [r["baseline"][name]["mean"] for r in results if name in r.get("baseline", {})] for name in scores}
    return {f"{name}_baseline": _mean(values) for name, values in found.items()}


def _bracket(row: dict[str, Any], score: str) -> str:
    """What needs no learning, after the score."""
    baseline = row.get(f"{score}_baseline", math.nan)
    return "" if math.isnan(baseline) else f" ({number(baseline)})"


def _value(scores: dict[str, dict[str, Any]], metric: str, key: str) -> float:
    return scores[metric][key] if metric in scores else math.nan


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
