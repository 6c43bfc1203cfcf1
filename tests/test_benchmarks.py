"""Every benchmark runs, at tiny sizes, and returns rows that the table can print. Speed itself is not tested."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import originals, ports
from benchmarks.measure import MIB, in_turns, kept_for_backward, peak_memory, row, seconds


@pytest.mark.parametrize("name", [*command.DEFAULT, "iterative", "originals", "explorer"])
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
            one, other = entry["ours"] / entry["theirs"], entry["theirs"] / entry["ours"]
            assert entry["ratio"] in (pytest.approx(one), pytest.approx(other))
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


def test_the_command_writes_a_line_per_model(tmp_path: Path) -> None:
    rows = [row("VAE, step", 1.0, 2.0, "ms"), row("VAE, memory", 3.0, 3.0, "MiB"), row("MONet, step", 4.0, 2.0, "ms")]
    command.write_csv(tmp_path / "rows.csv", {"originals": rows})
    with (tmp_path / "rows.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["subject"] for line in lines] == ["VAE", "MONet"]
    assert (lines[0]["step [ms] ratio"], lines[0]["memory [MiB] ours"]) == ("2.0", "3.0")
    assert lines[1]["memory [MiB] ours"] == ""
    assert torch.__version__ in lines[0]["machine"]


def test_a_port_with_other_arithmetic_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    case = originals.QUICK["MONet"]
    ours, theirs, image = case.ours(), case.theirs(), torch.rand(1, 3, case.side, case.side)
    originals.same(ours, theirs, case, image)
    monkeypatch.setattr(ports, "STD", 0.69)
    with pytest.raises(AssertionError):
        originals.same(ours, theirs, case, image)


def test_activations_are_counted_while_a_graph_holds_them() -> None:
    weight = torch.randn(8, 8, requires_grad=True)
    x = torch.randn(MIB // 32, 8)  # 1 MiB

    def work() -> None:
        for _ in range(2):  # the second graph begins when the first is gone
            (x @ weight).exp().sum().backward()  # keeps x and the result of exp

    assert kept_for_backward(work) == 2
    assert kept_for_backward(work, without=[x, weight]) == 1


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
