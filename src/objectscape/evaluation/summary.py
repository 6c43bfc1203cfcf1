"""One line per recipe: how well its seeds find the objects, how many fail, and what that costs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.evaluation.results import compare, group_runs, number, read_results

EVALUATION = "benchmark-test"
"""Name of the evaluation that is summed up, among those of a run."""
HEADINGS = (
    "recipe",
    "seeds",
    "ARI-FG",
    "worst",
    "failures",
    "ARI",
    "mIoU",
    "MSE",
    "KL",
    "minutes",
    "steps/s",
    "parameters",
)
METRICS = ("ari_fg", "ari", "miou", "mse", "kl")


def diverged(run: RunFolder) -> bool:
    """Whether a run has ended because its loss was not finite: the same again would end the same."""
    status = run.status()
    return status["state"] == "failed" and status["reason"].startswith("NonFiniteLossError")


def evaluated(run: RunFolder) -> bool:
    """Whether a run is trained and has the evaluation that is summed up."""
    return run.status()["state"] == "done" and (run.path / "evaluation" / f"{EVALUATION}.json").is_file()


def summarize(runs: Sequence[RunFolder], *, threshold: float) -> list[dict[str, Any]]:
    """One row per recipe (runs that differ only in their seed).

    Args:
        runs: in any state.
        threshold: a seed whose mean foreground ARI is below it, or is not a number, counts as failed.

    Returns:
        Rows with `recipe`; `seeds` that are evaluated; `unfinished` ones; `failures` among the evaluated and the
        diverged; mean, `_sd` and `_min` of `ari_fg`, means of `ari`, `miou`, `mse` and `kl` over the evaluated seeds;
        and the mean cost of a seed: `minutes` of training, validation included, `steps_per_second`, `parameters`.
        NaN stands for what is not known.
    """
    rows = []
    for label, members in group_runs(runs).items():
        done = [run for run in members if evaluated(run)]
        results = [read_results(run)[EVALUATION] for run in done]
        scores = {row["metric"]: row for row in compare(done, metrics=METRICS) if row["evaluation"] == EVALUATION}
        found = [result["scores"]["ari_fg"]["mean"] for result in results if "ari_fg" in result["scores"]]
        status = [run.status() for run in done]
        seconds = [max(state["seconds"], 1e-9) for state in status]
        rows.append(
            {
                "recipe": label,
                "seeds": len(done),
                "unfinished": sum(not evaluated(run) and not diverged(run) for run in members),
                "failures": sum(not value >= threshold for value in found) + sum(diverged(run) for run in members),
                **{f"ari_fg_{key}": _value(scores, "ari_fg", key) for key in ("mean", "sd", "min")},
                **{metric: _value(scores, metric, "mean") for metric in METRICS[1:]},
                "minutes": _mean([value / 60 for value in seconds]),
                "steps_per_second": _mean([state["step"] / s for state, s in zip(status, seconds, strict=True)]),
                "parameters": results[0]["parameters"] if results else math.nan,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Rows of `summarize` for the eye: headings and cells."""
    cells = []
    for row in rows:
        seeds = str(row["seeds"]) + (f" ({row['unfinished']} unfinished)" if row["unfinished"] else "")
        spread = "" if math.isnan(row["ari_fg_sd"]) else f" ± {row['ari_fg_sd']:.2g}"
        names = ("ari", "miou", "mse", "kl", "minutes", "steps_per_second")
        size = "-" if math.isnan(row["parameters"]) else f"{row['parameters']:,}"
        found = (number(row["ari_fg_mean"]) + spread, number(row["ari_fg_min"]), str(row["failures"]))
        cells.append([row["recipe"], seeds, *found, *(number(row[name]) for name in names), size])
    return list(HEADINGS), cells


def to_json(rows: Sequence[dict[str, Any]], *, threshold: float) -> str:
    """Rows of `summarize` as JSON, with null for what is not known."""
    clean = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    return json.dumps({"evaluation": EVALUATION, "threshold": threshold, "rows": clean}, indent=2) + "\n"


def _value(scores: dict[str, dict[str, Any]], metric: str, key: str) -> float:
    return scores[metric][key] if metric in scores else math.nan


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
