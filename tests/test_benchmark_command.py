"""`objectscape benchmark`: every recipe with every seed, in parallel, resumed after anything, one table."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from objectscape.checkpoints.run_folder import RunFolder, read_checkpoint
from objectscape.cli import main
from objectscape.cli.benchmark import locked, plan
from objectscape.cli.config import RECIPES, prepare
from objectscape.evaluation.summary import summarize, table

TINY = """
    data.count=16 batch_size=2 every.log=1 every.validate=0 every.picture=0 every.checkpoint=2 validation.images=4
    trainer.max_steps=6 trainer.accelerator=cpu loggers.tensorboard=false
""".split()
END = ["--images", "4", "--device", "cpu"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes, two seeds, through a launcher."""
    folder = tmp_path_factory.mktemp("bench") / "with space"
    words = ["recipes=quickstart,efficientmorl/tetrominoes", "seeds=0,1", f"out={folder}", *TINY, *END]
    assert main(["benchmark", *words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]) == 0
    return folder


def scores(run: Path) -> dict[str, float]:
    content = json.loads((run / "evaluation" / "benchmark-test.json").read_text())
    return {name: score["mean"] for name, score in content["scores"].items()}


def test_one_row_per_recipe(out: Path) -> None:
    content = json.loads((out / "table.json").read_text())
    rows = {row["recipe"]: row for row in content["rows"]}
    assert content["threshold"] == 0.9
    assert set(rows) == {"quickstart", "efficientmorl/tetrominoes"}
    for recipe, row in rows.items():
        found = [scores(out / recipe / f"seed-{seed}") for seed in (0, 1)]
        assert row["seeds"] == row["failures"] == 2, "four steps teach nobody anything"
        assert row["unfinished"] == 0
        assert row["ari_fg_mean"] == pytest.approx(sum(s["ari_fg"] for s in found) / 2)
        assert row["ari_fg_min"] == min(s["ari_fg"] for s in found)
        assert row["mse"] == pytest.approx(sum(s["mse"] for s in found) / 2)
        assert row["minutes"] > 0
        assert row["steps_per_second"] > 0
    assert rows["quickstart"]["kl"] is None
    assert rows["efficientmorl/tetrominoes"]["kl"] > 0
    assert rows["efficientmorl/tetrominoes"]["parameters"] == 467_236  # the paper's model, less two scalars of GECO
    with (out / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["recipe"]: float(line["miou"]) for line in lines} == {name: row["miou"] for name, row in rows.items()}
    assert "| efficientmorl/tetrominoes | 2 |" in (out / "table.md").read_text()
    assert "below 0.9 is a failure" in (out / "table.md").read_text()
    for run in out.glob("**/seed-*"):
        assert RunFolder(run).config().name == run.parent.relative_to(out).as_posix()


def test_what_is_done_is_not_repeated(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def times() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in out.glob("**/seed-*/**/*") if file.is_file()}

    before = times()
    words = ["recipes=quickstart,efficientmorl/tetrominoes", "seeds=0,1", f"out={out}", *TINY, *END]
    assert main(["benchmark", *words]) == 0
    printed = capsys.readouterr()
    assert "4 of 4 runs are done" in printed.err
    assert "quickstart" in printed.out
    assert times() == before
    assert main(["benchmark", f"out={out}", "--table", "--threshold", "-1"]) == 0
    assert [row["failures"] for row in json.loads((out / "table.json").read_text())["rows"]] == [0, 0]


def test_other_settings_need_another_folder(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recipes=quickstart", "seeds=0,7", f"out={out}", *TINY, "batch_size=4", *END]
    assert main(["benchmark", *words]) == 1
    assert "was started with batch_size=2, not 4" in capsys.readouterr().err
    assert not (out / "quickstart" / "seed-7").exists()


def test_stopped_and_killed_and_resumed_equals_uninterrupted(out: Path, tmp_path: Path) -> None:
    words = ["benchmark", "recipes=quickstart", "seeds=0", f"out={tmp_path}", *TINY, *END]
    run = RunFolder(tmp_path / "quickstart" / "seed-0")
    slow = (
        "import sys, time, objectscape.training.task as t; s = t.Task.training_step\n"
        "t.Task.training_step = lambda self, *a: (time.sleep(1.5), s(self, *a))[1]\n"
        "from objectscape.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = read_checkpoint(run.checkpoint)["global_step"] if run.checkpoint.is_file() else 0
        process = subprocess.Popen(
            [sys.executable, "-c", slow, *words], env=environment, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and process.poll() is None:
            if run.checkpoint.is_file() and read_checkpoint(run.checkpoint)["global_step"] > before:
                break
            time.sleep(0.02)
        process.send_signal(number)
        _, text = process.communicate(timeout=240)
        assert process.returncode == code, text
        assert read_checkpoint(run.checkpoint)["global_step"] < 6
        if number == signal.SIGINT:
            assert "1 of 1 runs are left; the same command goes on from here" in text
            assert run.status()["state"] == "interrupted"
    assert main(["benchmark", f"out={tmp_path}", "--table"]) == 1, "nothing is finished"
    assert main(words) == 0
    first, second = (RunFolder(f).load_model().state_dict() for f in (run.path, out / "quickstart" / "seed-0"))
    assert all(torch.equal(first[name], second[name]) for name in second)
    assert scores(run.path) == scores(out / "quickstart" / "seed-0")


def test_a_run_that_cannot_go_on_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from objectscape.training import run as training

    fit = training.fit

    def fails(config: Any, run: RunFolder, *, resume: bool = False) -> Any:
        if config.seed == 0:
            raise OSError("no space left")
        return fit(config, run, resume=resume)

    monkeypatch.setattr(training, "fit", fails)
    (tmp_path / "quickstart" / "seed-1").mkdir(parents=True)
    (tmp_path / "quickstart" / "seed-1" / "config.yaml").write_text("")  # killed before its first checkpoint
    assert main(["benchmark", "recipes=quickstart", "seeds=0,1", f"out={tmp_path}", *TINY, *END]) == 1
    assert "quickstart, seed 0: no space left" in capsys.readouterr().err
    assert json.loads((tmp_path / "table.json").read_text())["rows"][0]["seeds"] == 1


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["recipes=quickstart", "seeds=0"], "out=FOLDER"),
        (["out=b"], "say recipes=A,B and seeds=0,1,2"),
        (["out=b", "--table"], "no finished run below b"),
        (["out=b", "recipes=quickstrat", "seeds=0"], "Did you mean 'quickstart'"),
        (["out=b", "recipes=multi_objects", "seeds=0"], "'multi_object'"),
        (["out=b", "recipes=quickstart", "seeds=0,x"], "seeds=0,x: expected whole numbers"),
        (["out=b", "recipes=quickstart", "seeds=0", "seed=3"], "here it is seeds=0,1,2"),
        (["out=b", "recipes=quickstart", "seeds=0", "model.slots=4,5"], "one value for all runs"),
        (["out=b", "recipes=quickstart", "seeds=0", "model.sltos=4"], "recipe quickstart: unknown option"),
        (["out=b", "recipes=slot_attention/clevr6", "seeds=0"], "clevr6: MultiObject needs data.path"),
        (["out=b", "recipes=quickstart", "seeds=0", "trainer.devices=2"], "every run on one device"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_before_anything_starts(
    words: list[str], answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", *words]) == 1
    assert answer in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_one_benchmark_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ValueError, match="another `objectscape benchmark` is at work"):  # noqa: SIM117
        with locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


def test_a_list_stands_for_its_recipes(tmp_path: Path) -> None:
    jobs = plan(tmp_path, "multi_object,quickstart", "3", [])
    assert {job.name for job in jobs} >= {"quickstart", "iodine/multi_dsprites", "efficientmorl/tetrominoes"}
    assert all(job.seed == 3 and job.run_dir == f"{tmp_path}/{job.name}/seed-3" for job in jobs)
    files = {f"{path.parent.name}/tiny3d" for path in RECIPES.glob("recipe/*/tiny3d.yaml")}
    assert {job.name for job in plan(tmp_path, "tiny3d", "0", [])} == files


def test_a_sweep_over_recipes_names_each_run_by_its_recipe() -> None:
    assert "name=${hydra:runtime.choices.recipe}" in prepare(["recipe=quickstart,slot_attention/tetrominoes"])
    assert "name=quickstart" in prepare(["recipe=quickstart", "seed=1,2"])
    assert "++data.count=8" in prepare(["recipe=quickstart,slot_attention/tetrominoes", "data.count=8"])


def write_run(folder: Path, *, state: str = "done", ari_fg: float | None = 0.95, **status: Any) -> RunFolder:
    run = RunFolder(folder)
    (folder / "evaluation").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"name: some\nseed: {folder.name}\n")
    run.write_status(state, step=100, seconds=50.0, **status)
    if ari_fg is not None:
        result = {
            "data": {"name": "toy"},
            "parameters": 1000,
            "scores": {"ari_fg": {"mean": ari_fg}, "mse": {"mean": 0.01}},
            "baseline": {"ari_fg": {"mean": 0.3}},
        }
        (folder / "evaluation" / "benchmark-test.json").write_text(json.dumps(result))
    return run


def test_what_counts_as_a_failure(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "0"),
        write_run(tmp_path / "1", ari_fg=0.5),
        write_run(tmp_path / "2", ari_fg=math.nan),
        write_run(tmp_path / "3", state="failed", ari_fg=None, reason="NonFiniteLossError: the loss"),
        write_run(tmp_path / "4", state="failed", ari_fg=None, reason="OSError: no space"),
        write_run(tmp_path / "5", state="interrupted", ari_fg=None),
        write_run(tmp_path / "6", state="done", ari_fg=None),
    ]
    summary = summarize(runs, threshold=0.9)
    (row,) = summary.rows
    assert (row["seeds"], row["failures"], row["unfinished"]) == (3, 3, 3)
    assert row["ari_fg_mean"] == pytest.approx((0.95 + 0.5) / 2)
    assert row["minutes"] == pytest.approx(50 / 60)
    assert row["steps_per_second"] == 2
    headings, (cells,) = table(summary)
    assert dict(zip(headings, cells, strict=True)) == {
        "recipe": "some", "seeds": "3 (3 unfinished)", "ARI-FG": "0.725 ± 0.32 (0.3)", "worst": "0.5", "failures": "3",
        "MSE": "0.01", "minutes": "0.8333", "steps/s": "2", "parameters": "1,000",
    }  # fmt: skip
