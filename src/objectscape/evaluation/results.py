"""Evaluations as files: one JSON per data set and split, next to the run."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.files import read_json, write_text

if TYPE_CHECKING:
    from objectscape.evaluation.asking import Evaluation
    from objectscape.scene import Spec


ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
"""Which way a score is better."""


def write_result(
    run: RunFolder,
    evaluation: Evaluation,
    *,
    spec: Spec,
    split: str,
    name: str,
    asked: Mapping[str, Any] | None = None,
    replace: bool = False,
    **details: Any,
) -> Path:
    """Write `evaluation/<name>-<split>.json`, replacing an earlier answer to the same question.

    One that was asked otherwise (`asked`: data, images, seed, ...) stays, unless told to `replace` it; the new name
    then says what differs. `step` says after how many steps the weights were saved. `headline` says which scores to
    look at first, and how, so that a reader needs to know no question.
    """
    path = _free_name(run.home / "evaluation", name, split, {} if replace else dict(asked or {}))
    content = {
        "asked": dict(asked or {}),
        "data": spec.to_dict(),
        "split": split,
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        **details,
        **evaluation.details,
        "headline": {
            name: {
                "label": kind.scores[name].label or name,
                "better": kind.scores[name].better,
                "passing": kind.passing if name == kind.headline[0] else None,
                "quick": kind.quick,
            }
            for kind in evaluation.asked
            for name in kind.headline
            if name in evaluation.scores
        },
        "scores": {key: score._asdict() for key, score in evaluation.scores.items()},
        "baseline": {key: score._asdict() for key, score in evaluation.baseline.items()},
    }
    write_text(path, json.dumps(content, indent=2) + "\n")
    return path


def _free_name(folder: Path, name: str, split: str, asked: dict[str, Any]) -> Path:
    path = folder / f"{name}-{split}.json"
    if not path.is_file() or not asked:
        return path
    before, now = _flat(read_json(path).get("asked") or asked), _flat(asked)
    differing = {key: now.get(key) for key in {**before, **now} if before.get(key) != now.get(key)}
    if not differing:
        return path
    return _free_name(folder, f"{name}-{'-'.join(option_words(differing))}", split, asked)


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Options as parts of a file's name: {"clip": {"length": 6}} is "clip.length=6"; a list has x between its items."""
    words = []
    for key, value in _flat(options).items():
        items = value if isinstance(value, list | tuple) else [value]
        texts = [
            "null" if item is None else str(item).lower() if isinstance(item, bool) else str(item) for item in items
        ]
        words.append(file_name(f"{key}={'x'.join(texts)}"))
    return words


def file_name(text: str) -> str:
    """A text as part of a file's name."""
    return re.sub(r"[^\w.=+-]+", "_", text).strip("_")[:100]


def read_results(run: RunFolder) -> dict[str, dict[str, Any]]:
    """{file stem: content} of every evaluation of a run."""
    results = {}
    for file in sorted((run.home / "evaluation").glob("*.json")):
        results[file.stem] = content = read_json(file)
        scores = content.get("scores")
        good = isinstance(scores, dict) and all(
            isinstance(score, dict) and isinstance(score.get("mean"), int | float) for score in scores.values()
        )
        if not good or not isinstance(content.get("data"), dict) or not isinstance(content.get("headline", {}), dict):
            raise ValueError(f"{file} is damaged: it is no evaluation of objectscape")
    return results


def headline_of(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{score: label, direction, passing value, quick} of an evaluation's scores to look at first, best first."""
    found = content.get("headline", _HEADLINE_BEFORE)  # files of version 0.1 do not tell
    return {name: about for name, about in found.items() if name in content["scores"]}


_HEADLINE_BEFORE = {
    "ari_fg": {"label": "ARI-FG", "better": "higher", "passing": 0.9, "quick": True},
    "ari": {"label": "ARI", "better": "higher", "passing": None, "quick": True},
    "miou": {"label": "mIoU", "better": "higher", "passing": None, "quick": True},
    "mse": {"label": "MSE", "better": "lower", "passing": None, "quick": True},
    "kl": {"label": "KL", "better": "neither", "passing": None, "quick": True},
}


def number(value: float) -> str:
    """Four significant digits, or "-" for what is not known."""
    return "-" if math.isnan(value) else f"{value:.4g}"


Asked = dict[str, Any]
"""What an evaluation was of: `images`, `step` of the weights, `seed` of the draws, options of data and model."""


def asked_of(content: Mapping[str, Any]) -> Asked:
    """What an evaluation was of, as far as its file says; where data lie does not matter."""
    asked = _flat(content.get("asked") or {})
    known = {key: value for key, value in asked.items() if key.rsplit(".", 1)[-1] not in ("_target_", "path")}
    known |= {"images": content.get("images"), "step": content.get("step")}
    return {key: value for key, value in known.items() if value is not None}


def is_old(run: RunFolder, content: Mapping[str, Any]) -> bool:
    """Whether a run has gone on since it was evaluated."""
    step, now = content.get("step"), run.status().get("step")
    return step is not None and now is not None and run.status()["state"] != "running" and step != now


def mismatches(runs: Sequence[RunFolder], *, only: str | None = None) -> list[str]:
    """Sentences about evaluations that are no answers to one question, or of weights that a run has left behind.

    Args:
        runs: of any recipes.
        only: name of the evaluation to look at; None for all.
    """
    said: list[str] = []
    askings: dict[str, list[tuple[str, Asked]]] = {}
    for run in runs:
        for evaluation, content in read_results(run).items():
            if only not in (None, evaluation):
                continue
            askings.setdefault(evaluation, []).append((run.path.name, asked_of(content)))
            if is_old(run, content):
                said.append(
                    f"{run.path}: {evaluation} was measured at step {content['step']}, the run is at step "
                    f"{run.status()['step']}: objectscape evaluate {run.path}"
                )
    for evaluation, members in askings.items():
        for key in _differing([asked for _, asked in members]):
            values: dict[str, list[str]] = {}
            for name, asked in members:
                values.setdefault(str(asked.get(key, "?")), []).append(name)
            texts = [f"{value} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})" for value, names in values.items()]
            said.append(f"{evaluation} is not the same question everywhere: {key} is {'; '.join(texts)}")
    return said


def _differing(askings: Sequence[Asked]) -> list[str]:
    """Keys in which some askings differ."""
    keys = list(dict.fromkeys(key for asked in askings for key in asked))
    return [key for key in keys if any(asked.get(key) != askings[0].get(key) for asked in askings)]


def compare(runs: Sequence[RunFolder], *, metrics: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """One row per configuration (runs that differ only in the seed), evaluation and metric.

    Evaluations of one name that were asked otherwise (other images, step, data options) have rows of their own: no
    mean is taken over them, and the name of the evaluation says what differs.

    Returns:
        Rows with `name`, `evaluation`, `images`, `step` (of the weights; None where the file does not tell), `metric`,
        `mean`, `sd` (sample standard deviation over runs, NaN for one run), `min`, `max`, `n` runs that have the
        metric, and `failed`: runs that ended with an error, or whose metric is not finite.
    """
    rows = []
    for label, members in group_runs(runs).items():
        broken = sum(run.status()["state"] == "failed" for run in members)
        results = [(name, content) for run in members for name, content in read_results(run).items()]
        found: dict[tuple[str, str, Any, Any], list[float]] = {}
        for evaluation, content in results:
            asked = asked_of(content)
            differing = _differing([asked_of(other) for name, other in results if name == evaluation])
            words = ", ".join(f"{key}={asked.get(key, '?')}" for key in differing)
            title = f"{evaluation} ({words})" if words else evaluation
            for metric, score in content["scores"].items():
                if metrics is None or metric in metrics:
                    place = (title, metric, asked.get("images"), asked.get("step"))
                    found.setdefault(place, []).append(score["mean"])
        for (evaluation, metric, images, step), values in found.items() or [(("", "", None, None), [])]:
            finite = [value for value in values if math.isfinite(value)]
            rows.append(
                {
                    "name": label,
                    "evaluation": evaluation,
                    "images": images,
                    "step": step,
                    "metric": metric,
                    "mean": statistics.fmean(finite) if finite else math.nan,
                    "sd": statistics.stdev(finite) if len(finite) > 1 else math.nan,
                    "min": min(finite, default=math.nan),
                    "max": max(finite, default=math.nan),
                    "n": len(finite),
                    "failed": broken + len(values) - len(finite),
                }
            )
    return rows


def beside(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Rows of `compare` with the metrics beside each other: headings, and a line per configuration and evaluation.

    A cell is "mean ± sample standard deviation" over the runs, "-" where no run has the metric.
    """
    metrics = list(dict.fromkeys(row["metric"] for row in rows if row["metric"]))
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        lines.setdefault((row["name"], row["evaluation"]), {})[row["metric"]] = row
    cells = []
    for (name, evaluation), found in lines.items():
        values = [_spread(found[metric]) if metric in found else "-" for metric in metrics]
        cells.append([name, evaluation, str(max(row["n"] for row in found.values())), *values])
    return ["name", "evaluation", "runs", *metrics], cells


def _spread(row: Mapping[str, Any]) -> str:
    return number(row["mean"]) + ("" if math.isnan(row["sd"]) else f" ± {row['sd']:.2g}")


def judge(value: float, known: Mapping[str, Any]) -> str:
    """How a value compares with one measured over several seeds: "as measured", "better" or "worse".

    Another seed, precision, thread count or processor makes another run of the same distribution, so "as measured" is
    the 95 % prediction interval of one more run, from the mean and the sample standard deviation over `seeds` runs, or
    one percent of the mean if that is wider. A value that is not finite is worse.
    """
    from scipy.stats import t  # here, because commands that only read results should start fast

    seeds = known["seeds"]
    spread = t.ppf(0.975, seeds - 1) * known["sd"] * math.sqrt(1 + 1 / seeds) if seeds > 1 else 0.0
    margin = max(spread, 0.01 * abs(known["mean"]))
    if abs(value - known["mean"]) <= margin:
        return "as measured"
    better = value < known["mean"] if known.get("lower_is_better") else value > known["mean"]
    return "better" if better else "worse"


NOT_COMPARED = ("expected", "seed", "run_dir", "runs", "every", "loggers", "validation", "strict", "workers", "storage")


def group_runs(runs: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """{label: runs that differ only in their seed}. The label is the recipe's name and what sets the group apart."""
    settings = [_flat(run.config(), without=NOT_COMPARED) for run in runs]
    keys = sorted({key for values in settings for key in values})
    names = [str(values.get("name", run.path.name)) for run, values in zip(runs, settings, strict=True)]
    groups: dict[str, list[RunFolder]] = {}
    for run, name, values in zip(runs, names, settings, strict=True):
        others = [other for other_name, other in zip(names, settings, strict=True) if other_name == name]
        differing = [key for key in keys if any(other.get(key) != values.get(key) for other in others)]
        label = " ".join([name, *(f"{key}={values.get(key)}" for key in differing)])
        groups.setdefault(label, []).append(run)
    return groups


def differences(config: Any, other: Any) -> list[str]:
    """Settings in which two configurations differ, seeds and folders aside: "key=this, not that"."""
    one, two = _flat(config, without=NOT_COMPARED), _flat(other, without=NOT_COMPARED)
    keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    return [f"{key}={one.get(key)}, not {two.get(key)}" for key in keys]


def as_markdown(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = (columns, ["---"] * len(columns), *cells)
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def as_latex(rows: Sequence[Mapping[str, Any]], better: Mapping[str, str]) -> str:
    """Rows of `compare` as `beside` puts them, as a LaTeX table (package booktabs).

    Args:
        rows: as `compare` gives them.
        better: {metric: "higher" or "lower"}; of these, what is within one percent of an evaluation's best is bold.
    """
    columns, cells = beside(rows)
    means = {(row["name"], row["evaluation"], row["metric"]): row["mean"] for row in rows}
    lines = []
    for name, evaluation, runs, *values in cells:
        line = [name, evaluation, runs]
        for metric, value in zip(columns[3:], values, strict=True):
            rivals = [m for (_, e, k), m in means.items() if (e, k) == (evaluation, metric) and math.isfinite(m)]
            direction, mean = better.get(metric), means.get((name, evaluation, metric), math.nan)
            leads = False
            if direction in ("higher", "lower") and len(rivals) > 1 and math.isfinite(mean):
                best = max(rivals) if direction == "higher" else min(rivals)
                leads = abs(best - mean) <= 0.01 * abs(best)
            line.append(f"\\textbf{{{_tex(value)}}}" if leads else _tex(value))
        lines.append([_tex(cell) for cell in line[:3]] + line[3:])
    head = " & ".join(_tex(column) for column in columns)
    body = "".join(" & ".join(line) + " \\\\\n" for line in lines)
    layout = "llr" + "r" * (len(columns) - 3)
    return f"\\begin{{tabular}}{{{layout}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"


def _tex(text: str) -> str:
    """Text as LaTeX prints it."""
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", **{sign: f"\\{sign}" for sign in "&%$#_{}"}}
    return "".join(special.get(sign, sign) for sign in text)


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of comma-separated values; nothing stands for NaN."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if value != value else value for value in row] for row in rows])
    return text.getvalue()


def _flat(config: Any, prefix: str = "", without: Sequence[str] = ()) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in without:
            continue
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
