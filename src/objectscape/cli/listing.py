"""objectscape list: what there is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import console, note
from objectscape.cli.config import RECIPES, options
from objectscape.evaluation.results import ARROWS, headline_of, is_old, number, read_results

KINDS = ("recipes", "models", "data", "metrics", "pretrained", "runs")
COLUMNS = {
    "pretrained": ("model", "kB", "what"),
    "runs": ("run", "state", "step", "score"),
}


def main(words: list[str]) -> int:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(prog="objectscape list", description="List what there is.")
    parser.add_argument("kind", nargs="?", choices=KINDS, help="all of them if left out, runs excepted")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are (default: runs)")
    chosen = parser.parse_args(words)
    for kind in [chosen.kind] if chosen.kind else KINDS[:-1]:
        if kind == "metrics":
            _print_metrics()
            continue
        rows = _runs(chosen.runs) if kind == "runs" else _pretrained() if kind == "pretrained" else _group(kind)
        table = Table(title=kind, title_justify="left", show_header=kind in COLUMNS)
        for column in COLUMNS.get(kind, ("name", "what")):
            table.add_column(column, overflow="fold", no_wrap=column == "model")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    return 0


def _group(kind: str) -> list[tuple[str, str]]:
    group = {"recipes": "recipe", "models": "model", "data": "data"}[kind]
    rows = []
    for name in options(group):
        lines = (RECIPES / group / f"{name}.yaml").read_text().splitlines()
        first = next(line for line in lines if not line.startswith("# @package"))
        rows.append((name, first.removeprefix("#").strip()))
    return rows


def _print_metrics() -> None:
    """Every question with its scores: which way they are better, and what they say."""
    from objectscape.evaluation.questions import QUESTIONS

    for question in QUESTIONS.values():
        console.print(f"\n{question.name}: {(question.__doc__ or '').splitlines()[0]}\nNeeds {question.needs}.")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("score", no_wrap=True)
        table.add_column("better", no_wrap=True)
        table.add_column("what it says", overflow="fold")
        for name, meaning in question.scores.items():
            table.add_row(name, f"{ARROWS[meaning.better]} {meaning.better}".strip(), meaning.text)
        console.print(table)


def _pretrained() -> list[tuple[str, ...]]:
    from objectscape import pretrained

    rows: list[tuple[str, ...]] = []
    for name in pretrained.names():
        card = pretrained.card(name)
        size = sum(file.stat().st_size for file in pretrained.folder(name).rglob("*") if file.is_file())
        scores = ", ".join(f"{score} {number(value)}" for score, value in card["scores"].items())
        rows.append((pretrained.PREFIX + name, str(round(size / 1000)), f"{card['what']} ({scores})"))
    return rows


def _runs(root: Path) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for file in sorted(root.rglob("status.json")):
        try:
            run = RunFolder(file.parent)
            status, results = run.status(), list(read_results(run).values())
        except ValueError as error:
            note(str(error))
            rows.append((str(file.parent), "damaged", "", ""))
            continue
        value = next((first for result in results if (first := _first(run, result))), "")
        rows.append((str(file.parent), status["state"], str(status.get("step", "")), value))
    if not rows:
        raise FileNotFoundError(f"there are no runs below {root}; train one (objectscape train) or give --runs FOLDER")
    return rows


def _first(run: RunFolder, result: dict[str, Any]) -> str:
    """The headline score of an evaluation, with its name, what it is of, and whether the run has gone on since."""
    for name, about in headline_of(result).items():
        images = f", {result['images']} images" if "images" in result else ""
        old = f", old: of step {result['step']}" if is_old(run, result) else ""
        return f"{about['label']} {number(result['scores'][name]['mean'])} ({result['data']['name']}{images}{old})"
    return ""
