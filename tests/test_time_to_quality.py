"""Curves of score against CPU time, from logs and from short trainings."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import time_to_quality as benchmark
from objectscape.checkpoints.run_folder import RunFolder


def logged(folder: Path, *, seed: int, scores: list[float], speed: float = 1.0, steps: int = 100) -> Path:
    """A run with a row of the log every 10 steps, 6 s of CPU time each, and a validation every 20 steps."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"name: a\nseed: {seed}\n")
    (folder / "status.json").write_text(json.dumps({"state": "done", "step": steps, "seconds": 1.0}))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "train/cpu_seconds", *(f"val/{name}" for name in benchmark.SCORES)])
        writer.writeheader()
        for step in range(10, steps + 1, 10):
            line: dict[str, Any] = {"step": step, "train/cpu_seconds": 0.6 * step / speed}
            if step % 20 == 0:
                line |= {f"val/{name}": scores[step // 20 - 1] for name in benchmark.SCORES}
            writer.writerow(line)
    return folder


def test_the_worst_seed_and_the_slowest_count(tmp_path: Path) -> None:
    quick = logged(tmp_path / "0", seed=0, scores=[0.5, 0.9, 0.96, 0.97, 0.98], speed=2)
    slow = logged(tmp_path / "1", seed=1, scores=[0.1, 0.2, 0.95, 0.9, 0.97])
    rows = {row["name"]: row for row in benchmark.run(runs=[quick, slow], out=tmp_path / "out")}
    assert rows["a, worst ARI-FG"]["ours"] == 0.97
    assert rows["a, until ARI-FG 0.9"]["ours"] == pytest.approx(0.6), "the first time, step 60 of the slow one"
    assert rows["a, until ARI-FG 0.9"]["note"] == "seeds: 0.2, 0.6"
    assert rows["a, until ARI-FG 0.99"]["ours"] is None
    assert rows["a, until ARI-FG 0.99"]["note"] == "seeds: never, never"
    lines = list(csv.DictReader((tmp_path / "out" / "curves.csv").open()))
    assert [float(line["cpu_minutes"]) for line in lines[:5]] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert (lines[0]["recipe"], lines[0]["step"], lines[0]["miou"]) == ("a", "20", "0.5")
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000


def test_where_a_run_was_stopped_between_two_rows_of_the_log(tmp_path: Path) -> None:
    run = logged(tmp_path / "0", seed=0, scores=[0.9] * 5)
    with (run / "metrics.csv").open("a") as file:
        file.write("105,,0.95,0.95,0.95\n")
    assert benchmark.curve(RunFolder(run))["minutes"][-1] == pytest.approx(1.05)


def test_a_run_without_times_or_scores_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = logged(tmp_path / "good", seed=0, scores=[0.9] * 5)
    old = logged(tmp_path / "old", seed=1, scores=[0.9] * 5)
    (old / "metrics.csv").write_text("step,val/ari_fg,val/ari,val/miou\n10,0.9,0.9,0.9\n")
    rows = {row["name"]: row for row in benchmark.run(runs=[good, old], out=tmp_path / "out")}
    assert "train/cpu_seconds" in rows["a, worst ARI"]["note"]
    assert rows["a, until ARI-FG 0.9"]["ours"] is None, "one seed is missing"
    for words, said in (
        (["--runs", str(old)], "has no train/cpu_seconds"),
        (["--runs", str(tmp_path / "nowhere")], "no run folder"),
        (["--recipes", "quickstrat", "--out", str(tmp_path / "o")], "quickstart"),
    ):
        monkeypatch.setattr(sys, "argv", ["benchmarks", "time_to_quality", *words])
        with pytest.raises(SystemExit):
            command.main()
        assert said in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["benchmarks", "startup", "--seeds", "1"])
    with pytest.raises(SystemExit):
        command.main()
    assert "time_to_quality alone" in capsys.readouterr().err


def test_a_budget_stops_a_run_and_more_of_it_lets_the_run_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*benchmark.WORDS, *benchmark.QUICK, "trainer.max_steps=100000"]
    (run,) = benchmark.train("quickstart", "3", 0.2 / 60, tmp_path, words)
    assert run.path == tmp_path / "quickstart" / "seed-3"
    status = run.status()
    assert status["state"] == "interrupted"
    assert benchmark.spent(run) >= 0.2
    (worst, *_) = benchmark.report([run], tmp_path)
    assert (worst["name"], worst["unit"]) == ("quickstart, worst ARI-FG", "score")
    assert worst["ours"] is not None

    started: list[list[str]] = []
    monkeypatch.setattr(benchmark.subprocess, "Popen", lambda command: started.append(command) or Ended())
    benchmark.train("quickstart", "3", 0.2 / 60, tmp_path, words)
    assert not started, "it has had its time"
    benchmark.train("quickstart", "3,4", 100.0, tmp_path, words)
    resumed, new = started
    assert resumed[-1] == f"resume={run.path}"
    assert {"recipe=quickstart", "seed=4", f"run_dir={tmp_path / 'quickstart' / 'seed-4'}"} < set(new)


class Ended:
    """A process that has ended well."""

    returncode = 0

    def poll(self) -> int:
        return 0


def test_the_default_trains_the_quick_start_and_minutes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(benchmark, "train", lambda *given: asked.append(given) or [RunFolder(tmp_path / "0")])
    logged(tmp_path / "0", seed=0, scores=[0.9] * 5)
    benchmark.run(out=tmp_path)
    recipes, seeds, minutes, *_ = asked[0]
    assert recipes.startswith("quickstart,")
    assert "instance_coloring/minutes" in recipes.split(",")
    assert (seeds, minutes) == ("0,1,2", float("inf"))
