"""Tables of the documentation, from results that are kept beside it as JSON.

    python -m benchmarks.result_tables NAME RUN [RUN ...]   # evaluated runs -> docs/results/NAME.json, and the tables
    python -m benchmarks.result_tables                      # the tables alone
    python -m benchmarks.result_tables --curves NAME RUN .. # learning curves -> docs/images/NAME-curves.png as well

A table stands in a page between `<!-- results: NAME (SCORE, ...) -->` and `<!-- end of results -->`: a line per run,
and per recipe its worst run and its mean. `(SCORE, ...; recipes)` gives a line per recipe. The baseline is the one that
`evaluate` prints.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import machine
from objectscape import viz
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.evaluation.results import headline_of, read_results
from objectscape.files import read_json, write_text

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS / "results"
MARKED = re.compile(r"(<!-- results: (\S+) \(([^);]+)(; recipes)?\) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def collect(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """What evaluations of runs on their own data say, with what is needed to read and to repeat them."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    rows, labels = [], {}
    for run in runs:
        config, status = run.config(), run.status()
        evaluation, content = min(read_results(run).items(), key=lambda item: len(item[0]))  # on the run's own data
        scores = headline_of(content)
        labels |= {name: (about["label"], about["better"]) for name, about in scores.items()}
        baseline = content.get("baseline", {})
        rows.append(
            {
                "recipe": config.name,
                "seed": config.seed,
                "evaluation": evaluation,
                "images": content["images"],
                "step": content.get("step", status.get("step")),
                "seconds": status.get("seconds"),
                "precision": status.get("precision"),
                "threads": status.get("threads"),
                "scores": {name: round(content["scores"][name]["mean"], 6) for name in scores},
                "baseline": {name: round(baseline[name]["mean"], 6) for name in scores if name in baseline},
            }
        )
    rows.sort(key=lambda row: (row["recipe"], row["seed"]))
    told = {"commit": commit.stdout.strip(), "machine": machine()}
    return {**told, "labels": labels, "rows": rows}


def draw_curves(runs: Sequence[RunFolder], results: Mapping[str, Any], file: Path) -> None:
    """Learning curves of the first three scores that all runs were validated by, a line per recipe."""
    logs = [set((run.path / "metrics.csv").read_text().partition("\n")[0].split(",")) for run in runs]
    known = [f"val/{name}" for name in results["labels"] if all(f"val/{name}" in columns for columns in logs)]
    recipes: dict[str, list[Path]] = {}
    for run in sorted(runs, key=lambda run: run.config().name):
        recipes.setdefault(run.config().name, []).append(run.path)
    if known:
        better = {f"val/{name}": better for name, (_, better) in results["labels"].items()}
        viz.save_figure(viz.learning_curves(recipes, keys=known[:3], better=better), file)


def table(results: Mapping[str, Any], scores: Sequence[str], *, by_recipe: bool) -> str:
    """The Markdown of one table."""
    heads = [_head(*results["labels"].get(name, (name, "neither"))) for name in scores]
    recipes: dict[str, list[dict[str, Any]]] = {}
    for row in results["rows"]:
        recipes.setdefault(row["recipe"], []).append(row)
    lines = []
    for recipe, rows in recipes.items():
        values = {name: [row["scores"][name] for row in rows if name in row["scores"]] for name in scores}
        worst = [_cell(_worst(found, results["labels"].get(name, (name, ""))[1])) for name, found in values.items()]
        mean = [_spread(found) for found in values.values()]
        if by_recipe:
            lines.append([recipe, str(len(rows)), *mean])
            continue
        first = [f"`{recipe}`, "] if len(recipes) > 1 else [""]
        lines += [[f"{first[0]}{row['seed']}", *(_cell(row["scores"].get(name)) for name in scores)] for row in rows]
        if len(rows) > 1:
            lines += [[f"{first[0]}worst", *worst], [f"{first[0]}mean ± sd", *mean]]
        floors = {name: [row["baseline"][name] for row in rows if name in row["baseline"]] for name in scores}
        if any(floors.values()):
            lines.append([f"{first[0]}baseline", *(_cell(statistics.fmean(v) if v else None) for v in floors.values())])
    heads = [*(["recipe", "runs"] if by_recipe else ["seed"]), *heads]
    rule = ["---"] * len(heads)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [heads, rule, *lines])


def with_tables(page: str) -> str:
    """A page with its tables as the results say."""

    def written(match: re.Match[str]) -> str:
        start, name, scores, by_recipe, end = match.groups()
        asked = [score.strip() for score in scores.split(",")]
        return start + table(read_json(RESULTS / f"{name}.json"), asked, by_recipe=bool(by_recipe)) + end

    return MARKED.sub(written, page)


def _head(label: str, better: str) -> str:
    return label + {"higher": " ↑", "lower": " ↓"}.get(better, "")


def _worst(values: Sequence[float], better: str) -> float | None:
    choose = {"higher": min, "lower": max}.get(better)
    return choose(values) if choose and values else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if 0.01 <= abs(value) < 10 else f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return _cell(values[0] if values else None)
    return f"{_cell(statistics.fmean(values))} ± {statistics.stdev(values):.2g}"


def main(words: list[str]) -> None:
    if words:
        curves = words[0] == "--curves"
        name, *paths = words[curves:]
        runs = [RunFolder.open(Path(path)) for path in paths]
        results = collect(runs)
        if curves:
            draw_curves(runs, results, DOCS / "images" / f"{name}-curves.png")
        write_text(RESULTS / f"{name}.json", json.dumps(results, indent=1) + "\n")
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text()
        if with_tables(text) != text:
            page.write_text(with_tables(text))
            print(f"wrote the tables of {page.relative_to(DOCS)}")


if __name__ == "__main__":
    main(sys.argv[1:])
