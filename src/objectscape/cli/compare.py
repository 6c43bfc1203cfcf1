"""objectscape compare: one table over runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.table import Table

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import console, note
from objectscape.evaluation.results import as_csv, as_latex, as_markdown, beside, compare, number


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
    rows = compare([RunFolder.open(path) for path in options.runs], metrics=options.metrics)
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
    columns = ["name", "evaluation", "metric", "mean", "sd", "min", "max", "n", "failed"]
    cells = [[number(row[c]) if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    if options.wide:
        columns, cells = beside(rows)
    if options.format == "markdown":
        print(as_markdown(columns, cells), end="")
        return 0
    if options.format == "csv":
        print(as_csv(columns, cells if options.wide else [[row[c] for c in columns] for row in rows]), end="")
        return 0
    if options.wide:
        table = Table(*columns)
        for line in cells:
            table.add_row(*line)
        console.print(table)
        return 0
    for name in dict.fromkeys(row[0] for row in cells):
        console.print(f"\n{name}")
        table = Table()
        for column in columns[1:]:
            table.add_column(column, justify="left" if column in columns[:3] else "right")
        for row in cells:
            if row[0] == name:
                table.add_row(*row[1:])
        console.print(table)
    return 0
