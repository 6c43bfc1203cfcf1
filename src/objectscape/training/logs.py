"""The run's log: `metrics.csv` always, other loggers beside it."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from objectscape.files import write_text


class CSVLog(Logger):
    """One row per logged step, one column per quantity; a quantity that appears later adds a column.

    Args:
        path: of the file. Rows that are there stay, except those after `resume_step`.
        resume_step: the step a resumed run continues from; None starts a fresh file.
    """

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] = ["step"]
        self.rows: dict[int, dict[str, str]] = {}
        if resume_step is not None and path.is_file():
            for row in read_csv(path):
                if int(row["step"]) <= resume_step:
                    self._merge(int(row["step"]), row)
        self._flushed_columns: list[str] = []

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is in the run folder's config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {key: f"{float(value):.8g}" for key, value in metrics.items() if key != "epoch"}
        if not values:
            return
        fresh = (step or 0) not in self.rows
        self._merge(step or 0, values)
        if fresh and self._flushed_columns == self.columns and self.path.is_file():
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(self.rows[step or 0])
        else:
            self.rewrite()

    def rewrite(self) -> None:
        """Write the whole file anew, in one step."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows[step] for step in sorted(self.rows))
        write_text(self.path, text.getvalue())
        self._flushed_columns = list(self.columns)

    def _merge(self, step: int, values: Mapping[str, str]) -> None:
        self.columns += [key for key in values if key not in self.columns]
        row = self.rows.setdefault(step, {"step": str(step)})
        row.update({key: value for key, value in values.items() if value})


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a `metrics.csv`, as text; a row cut short by a crash is left out."""
    try:
        with path.open(newline="") as file:
            return [
                row
                for row in csv.DictReader(file)
                if None not in row and row["step"].isdigit() and None not in row.values()
            ]
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: expected comma-separated numbers with a column step ({error})") from error
