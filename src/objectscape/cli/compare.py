"""objectscape compare: one table over runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import console, note, print_fitting
from objectscape.evaluation.results import as_csv, as_latex, as_markdown, beside, compare, mismatches, number


def main(words: list[str]) -> int:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(
        prog="objectscape compare",
        description="Compare evaluated runs: runs that differ only in their seed form one group, with mean, sample "
        "standard deviation, extremes and failures over the seeds.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="only these, e.g. ari_fg miou mse")
    parser.add_argument("--format", choices=["table", "markdown", "csv", "json", "latex"], default="table")
    parser.add_argument(
        "--wide", action="store_true", help="a line per model, with the metrics beside each other (latex always does)"
    )
    options = parser.parse_args(words)
    runs = [RunFolder.open(path) for path in options.runs]
    rows = compare(runs, metrics=options.metrics)
    for sentence in mismatches(runs):
        note(f"note: {sentence}")
    if not any(row["n"] for row in rows):
        hint = "run `objectscape evaluate RUN` first"
        if options.metrics:
            raise ValueError(f"found no metrics {', '.join(options.metrics)} in these runs; {hint}")
        note(f"found no evaluations of these runs; {hint}")
    if options.format == "json":
        print(json.dumps(rows, indent=2))
        return 0
    if options.format == "latex":
        from objectscape.evaluation.questions import meaning_of

        meanings = {row["metric"]: meaning_of(row["metric"]) for row in rows}
        print(as_latex(rows, {name: meaning.better for name, meaning in meanings.items() if meaning}), end="")
        return 0
    columns = ["name", "evaluation", "images", "step", "metric", "mean", "sd", "min", "max", "n", "failed"]
    cells = [[_cell(row[c]) for c in columns] for row in rows]
    if options.wide:
        columns, cells = beside(rows)
    if options.format == "markdown":
        print(as_markdown(columns, cells), end="")
        return 0
    if options.format == "csv":
        print(as_csv(columns, cells if options.wide else [[row[c] for c in columns] for row in rows]), end="")
        return 0
    if options.wide:
        print_fitting(columns, cells, keep=3, whole="--format csv or markdown has them all; --metrics chooses")
        return 0
    for title in dict.fromkeys(tuple(row[:4]) for row in cells):
        name, evaluation, images, step = title
        console.print(f"\n{name}\n{evaluation}: {images} images, step {step}" if evaluation else f"\n{name}")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns[4:]:
            left = column == "metric"
            table.add_column(column, justify="left" if left else "right", overflow="fold", no_wrap=not left)
        for row in cells:
            if tuple(row[:4]) == title:
                table.add_row(*row[4:])
        console.print(table)
    return 0


def _cell(value: Any) -> str:
    return "-" if value is None else number(value) if isinstance(value, float) else str(value)
