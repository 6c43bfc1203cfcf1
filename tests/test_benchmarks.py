"""Every benchmark runs, at tiny sizes, and returns rows that the table can print. Speed itself is not tested."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.measure import MIB, in_turns, peak_memory, row, seconds


@pytest.mark.parametrize("name", [*command.DEFAULT, "iterative"])
def test_every_benchmark_gives_rows(name: str) -> None:
    threads = torch.get_num_threads()
    rows = importlib.import_module(f"benchmarks.{name}").run(quick=True)
    assert torch.get_num_threads() == threads
    assert rows
    for entry in rows:
        assert {"name", "ours", "theirs", "ratio", "unit", "note"} == entry.keys()
        assert entry["unit"]
        assert (entry["ours"] is None) == entry["note"].startswith("skipped"), entry
        if entry["ours"] and entry["theirs"]:
            assert entry["ratio"] in (entry["ours"] / entry["theirs"], entry["theirs"] / entry["ours"])
        else:
            assert entry["ratio"] is None
    assert command.table(name, rows).row_count == len(rows) == len({entry["name"] for entry in rows})


def test_the_command_prints_a_table_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "rendering", "--quick", "--json", str(tmp_path / "rows.json")])
    command.main()
    assert "tetrominoes" in capsys.readouterr().out
    written = json.loads((tmp_path / "rows.json").read_text())
    assert torch.__version__ in written["machine"]
    assert len(written["results"]["rendering"]) == 3


def test_an_unknown_name_is_answered_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "renderer"])
    with pytest.raises(SystemExit):
        command.main()
    assert "rendering" in capsys.readouterr().err


def test_a_ratio_above_one_is_in_our_favor() -> None:
    assert row("time", 1.0, 2.0, "s")["ratio"] == 2
    assert row("rate", 2.0, 1.0, "images/s", higher=True)["ratio"] == 2
    assert row("alone", 2.0, None, "s")["ratio"] is None


def test_turns_alternate() -> None:
    calls: list[str] = []
    in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, turns=2)
    assert calls == ["a", "b"] * 3, "once to warm up, then twice"
    assert seconds(lambda: None) >= 0


def fill(mebibytes: int) -> Callable[[], object]:
    return lambda: torch.ones(mebibytes, MIB, dtype=torch.uint8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures main memory")
def test_peak_memory_sees_what_is_allocated_for_a_moment() -> None:
    assert 64 < peak_memory(fill, 64) < 128


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0"), (0.01234, "0.0123"), (9.999, "10.00"), (12345.6, "12,346")]
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert command.number(value) == text
