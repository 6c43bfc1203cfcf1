"""python -m benchmarks [NAME ...]: one table each, ours against theirs."""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Row, machine

DEFAULT = ("startup", "rendering", "rendering3d", "metrics", "training", "models")
NAMES = (
    *DEFAULT, "models:bf16", "models:compiled", "iterative", "iterative:bf16", "iterative:compiled", "sparse",
    "originals", "time_to_quality", "explorer", "kills", "clusters", "clusters:torchrun", "clusters:fsdp",
    "clusters:ray", "clusters:slurm",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Speed and memory against the obvious alternative, measured in one run. A ratio of 2 means "
        "twice as good; docs/benchmarks.md says what is compared with what.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: {', '.join(DEFAULT)}"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write one line per model, or what a row is about"
    )
    own = parser.add_argument_group("time_to_quality").add_argument
    given = [
        own("--recipes", metavar="A,B", help="what is trained (default: quickstart and all NAME/minutes)"),
        own("--seeds", metavar="0,1", help="(default 0,1,2)"),
        own("--minutes", type=float, metavar="M", help="CPU time that a run may take (default: what it needs)"),
        own("--out", type=Path, metavar="FOLDER", help="of runs, figure and curves (default runs/time_to_quality)"),
        own("--runs", type=Path, nargs="+", metavar="RUN", help="draw these runs, and train nothing"),
    ]
    options = parser.parse_args()
    settings = {each.dest: value for each in given if (value := getattr(options, each.dest)) is not None}
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose from {', '.join(NAMES)}")
    if settings and options.names != ["time_to_quality"]:
        parser.error(f"--{next(iter(settings))} is for time_to_quality alone")
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(machine())
    results = {}
    for name in options.names or DEFAULT:
        module, _, mode = name.partition(":")
        benchmark = importlib.import_module(f"benchmarks.{module}")
        start = time.perf_counter()
        try:
            results[name] = benchmark.run(quick=options.quick, **({"mode": mode} if mode else {}), **settings)
        except (ValueError, FileNotFoundError) as error:
            if name != "time_to_quality":  # the only one that can be asked for something that is not there
                raise
            parser.error(str(error))
        except KeyboardInterrupt as error:
            sys.exit(f"stopped; {error}" if str(error) else "stopped")
        title = f"{(benchmark.__doc__ or name).splitlines()[0]} ({time.perf_counter() - start:.0f} s)"
        console.print()
        console.print(table(title, results[name]))
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
    if options.csv is not None:
        write_csv(options.csv, results)


def write_csv(path: Path, results: dict[str, list[Row]]) -> None:
    """One line per benchmark and subject: rows that differ only in what follows their last comma stand side by side."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for benchmark, rows in results.items():
        for row in rows:
            subject, _, quantity = row["name"].rpartition(", ")
            line = lines.setdefault((benchmark, subject or quantity), {})
            for side in ("ours", "theirs", "ratio"):
                line[f"{quantity} [{row['unit']}] {side}"] = row[side]
    columns = dict.fromkeys(column for line in lines.values() for column in line)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["benchmark", "subject", *columns, "machine"])
        writer.writeheader()
        for (benchmark, subject), line in lines.items():
            writer.writerow({"benchmark": benchmark, "subject": subject, **line, "machine": machine()})


def table(title: str, rows: list[Row]) -> Table:
    """Rows as a table; a column of notes if there are any."""
    notes = any(row.get("note") for row in rows)
    result = Table(title=title, title_justify="left")
    result.add_column("name", overflow="fold")
    for column in ("ours", "theirs", "ratio"):
        result.add_column(column, justify="right", no_wrap=True)
    result.add_column("unit", no_wrap=True)
    if notes:
        result.add_column("note", overflow="fold")
    for row in rows:
        cells = [row["name"], number(row["ours"]), number(row["theirs"]), number(row["ratio"]), row["unit"]]
        result.add_row(*cells, *([row.get("note", "")] if notes else []))
    return result


def number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


if __name__ == "__main__":
    main()
