"""Start-up: from the command to its end, against `python -c "import torch"`

What the user waits for before anything happens, the median over processes that take turns. The first row is meant to
stay below 0.7 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.measure import Row, row, seconds

COMMANDS = {
    "objectscape --help": ["-m", "objectscape", "--help"],
    "objectscape list recipes": ["-m", "objectscape", "list", "recipes"],
    "import objectscape": ["-c", "import objectscape"],
}
YARDSTICK = ["-c", "import torch"]


def run(*, quick: bool = False) -> list[Row]:
    """Seconds per process; "theirs" is the import of torch alone."""

    def start(words: list[str]) -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    commands = {**COMMANDS, "yardstick": YARDSTICK}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(1 if quick else 7):
        for name, words in commands.items():
            times[name].append(seconds(lambda words=words: start(words)))  # type: ignore[misc]
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [row(name, medians[name], medians["yardstick"], "s") for name in COMMANDS]
