"""Training keeps its promises: same seed same weights, killed and resumed as if nothing had happened."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from objectscape.checkpoints.run_folder import RunFolder, read_checkpoint
from objectscape.cli import main

TINY = [
    "recipe=quickstart",
    "data.count=64",
    "batch_size=8",
    "model.width=16",
    "model.hidden=16",
    "every.log=2",
    "every.validate=4",
    "every.picture=0",
    "every.checkpoint=2",
    "validation.images=8",
    "loggers.tensorboard=false",
    "trainer.accelerator=cpu",
    "ema=0.9",
]


def run_train(*words: str) -> int:
    return main(["train", *TINY, *words])


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "objectscape", "train", *words]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return RunFolder(folder).load_model().state_dict()


def assert_identical(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run_train(f"run_dir={folder}", "trainer.max_steps=12") == 0
    return folder


def test_the_same_seed_gives_identical_weights(uninterrupted: Path, tmp_path: Path) -> None:
    assert run_train(f"run_dir={tmp_path / 'again'}", "trainer.max_steps=12") == 0
    assert_identical(uninterrupted, tmp_path / "again")


def test_another_seed_gives_other_weights(uninterrupted: Path, tmp_path: Path) -> None:
    assert run_train(f"run_dir={tmp_path / 'other'}", "trainer.max_steps=12", "seed=1") == 0
    first, second = weights(uninterrupted), weights(tmp_path / "other")
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_killed_and_resumed_equals_uninterrupted(uninterrupted: Path, tmp_path: Path) -> None:
    """SIGKILL at a moment nobody chose, between the first checkpoint and the end; twice."""
    folder = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    words = [*TINY, f"run_dir={folder}", "trainer.max_steps=12", "data.count=64"]
    slow = "import time, objectscape.training.task as t; s = t.Task.training_step\n" + (
        "t.Task.training_step = lambda self, *a: (time.sleep(0.15), s(self, *a))[1]\n"
        "import sys; from objectscape.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for attempt, first_words in enumerate((words, [f"resume={folder}"])):
        process = subprocess.Popen([sys.executable, "-c", slow, "train", *first_words], env=environment)
        before = 0 if attempt == 0 else read_checkpoint(RunFolder(folder).checkpoint)["global_step"]
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            checkpoint = RunFolder(folder).checkpoint
            if checkpoint.is_file() and read_checkpoint(checkpoint)["global_step"] > before:
                time.sleep(0.1 + 0.07 * attempt)
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
        assert read_checkpoint(RunFolder(folder).checkpoint)["global_step"] < 12
    assert main(["train", f"resume={folder}"]) == 0
    assert_identical(uninterrupted, folder)
    with (uninterrupted / "metrics.csv").open() as a, (folder / "metrics.csv").open() as b:
        one, two = ({row["step"]: row["train/loss"] for row in csv.DictReader(file)} for file in (a, b))
    assert one == two, "the log has every step once"


def test_a_finished_run_is_extended_exactly(tmp_path: Path) -> None:
    schedule = ["schedule.steps=20"]
    assert run_train(f"run_dir={tmp_path / 'short'}", "trainer.max_steps=5", *schedule) == 0
    assert main(["train", f"resume={tmp_path / 'short'}", "trainer.max_steps=11"]) == 0
    assert run_train(f"run_dir={tmp_path / 'long'}", "trainer.max_steps=11", *schedule) == 0
    assert_identical(tmp_path / "short", tmp_path / "long")


def test_killed_before_its_model_was_written(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "died"
    shutil.copytree(uninterrupted, folder)
    shutil.rmtree(folder / "model")
    run = RunFolder(folder)
    before = run.status()
    run.write_status("running", step=0)
    assert main(["train", f"resume={folder}"]) == 0
    assert run.status()["state"] == "done"
    assert run.status()["seconds"] > before["seconds"] / 2, "what came before the checkpoint counts"
    assert_identical(uninterrupted, folder)


def test_gradient_accumulation_resumes_exactly(tmp_path: Path) -> None:
    words = ["trainer.accumulate_grad_batches=2", "batch_size=4", "schedule.steps=20"]
    assert run_train(f"run_dir={tmp_path / 'a'}", "trainer.max_steps=3", *words) == 0
    assert main(["train", f"resume={tmp_path / 'a'}", "trainer.max_steps=7"]) == 0
    assert run_train(f"run_dir={tmp_path / 'b'}", "trainer.max_steps=7", *words) == 0
    assert_identical(tmp_path / "a", tmp_path / "b")


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """The same global batch on two gloo processes gives the same weights, up to the order of additions."""
    words = [*TINY, "model.noise=0", "trainer.max_steps=6", "optimizer._target_=torch.optim.SGD"]
    words += ["optimizer.lr=0.001", "ema=null"]
    seeds = "import objectscape.nn.distributions as d; d.drawing_means = lambda: True\n"
    start = seeds + "import sys; from objectscape.cli import main; sys.exit(main(sys.argv[1:]))"
    script = tmp_path / "train_means.py"
    script.write_text(start)
    for name, extra in {
        "one": ["batch_size=8"],
        "two": ["batch_size=4", "trainer.devices=2", "+trainer.strategy=ddp"],
    }.items():
        done = subprocess.run([sys.executable, str(script), "train", *words, f"run_dir={tmp_path / name}", *extra],
                              capture_output=True, text=True, timeout=300, cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)
    assert json.loads((tmp_path / "two" / "status.json").read_text())["state"] == "done"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()].count("two") == 1
    assert not (tmp_path / "runs").exists(), "only the first process makes a run folder"


def test_ctrl_c_saves_and_says_how_to_continue(tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    words = [*TINY, f"run_dir={folder}", "trainer.max_steps=100000", "every.checkpoint=100000"]
    process = subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (folder / "metrics.csv").is_file():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"resume={folder}" in text
    assert "Traceback" not in text
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "interrupted"
    assert read_checkpoint(RunFolder(folder).checkpoint)["global_step"] == status["step"]


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "nan"
    assert (
        run_train(f"run_dir={folder}", "trainer.max_steps=50", "optimizer.lr=1e30", "schedule.warmup=8", "ema=null")
        == 1
    )
    text = capsys.readouterr().err
    assert "NaN or infinite" in text
    assert "Traceback" not in text
    assert json.loads((folder / "status.json").read_text())["state"] == "failed"
    for name, value in read_checkpoint(RunFolder(folder).checkpoint)["state_dict"].items():
        assert value.isfinite().all(), name


def test_a_full_disk_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "full"
    real, calls = torch.save, []

    def save(content: object, path: object) -> None:
        calls.append(path)
        if len(calls) == 2:
            Path(str(path)).write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        real(content, path)

    monkeypatch.setattr(torch, "save", save)
    assert run_train(f"run_dir={folder}", "trainer.max_steps=12") == 1
    assert "No space left" in capsys.readouterr().err
    assert read_checkpoint(RunFolder(folder).checkpoint)["global_step"] == 2
    assert [file.name for file in (folder / "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_run_never_writes_into_another(uninterrupted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (uninterrupted / "metrics.csv").read_bytes()
    assert run_train(f"run_dir={uninterrupted}") == 1
    assert "exists and is not empty" in capsys.readouterr().err
    assert (uninterrupted / "metrics.csv").read_bytes() == before


def test_a_pickle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run_train(f"run_dir={folder}", "trainer.max_steps=2") == 0
    torch.save({"state_dict": {}, "loops": {}, "evil": Path}, RunFolder(folder).checkpoint)
    assert main(["train", f"resume={folder}", "trainer.max_steps=4"]) == 1
    assert "refused" in capsys.readouterr().err
    RunFolder(folder).checkpoint.write_bytes(b"PK\x03\x04 cut short")
    assert main(["train", f"resume={folder}", "trainer.max_steps=4"]) == 1
    assert "damaged" in capsys.readouterr().err


def test_a_step_is_seeded_as_torch_would() -> None:
    from objectscape.training.task import _seed

    torch.manual_seed(7)
    expected = torch.randn(4), torch.nn.functional.dropout(torch.ones(50))
    _seed(7, torch.device("cpu"))
    assert torch.equal(torch.randn(4), expected[0])
    assert torch.equal(torch.nn.functional.dropout(torch.ones(50)), expected[1])


def test_geco_steers_the_kl_and_survives_a_resume(tmp_path: Path) -> None:
    words = ["model=vae", "model.image_size=32", "data=colored_shapes", "data.count=32", "batch_size=4", "every.log=1",
             "every.validate=0", "every.picture=0", "every.checkpoint=2", "trainer.accelerator=cpu",
             "+geco._target_=objectscape.training.geco.GECO", "+geco.image_size=32"]  # fmt: skip
    assert main(["train", *words, "trainer.max_steps=6", f"run_dir={tmp_path / 'whole'}"]) == 0
    assert main(["train", *words, "trainer.max_steps=3", f"run_dir={tmp_path / 'parts'}"]) == 0
    assert main(["train", f"resume={tmp_path / 'parts'}", "trainer.max_steps=6"]) == 0
    assert_identical(tmp_path / "whole", tmp_path / "parts")
    with (tmp_path / "whole" / "metrics.csv").open() as file:
        betas = [float(row["train/beta"]) for row in csv.DictReader(file)]
    assert betas[0] == 1
    assert all(later < earlier for earlier, later in itertools.pairwise(betas)), (
        "far from the goal, the KL loses weight"
    )


def test_parameters_can_have_options_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frozen = [
        "groups.stem.lr=0",
        "optimizer._target_=torch.optim.SGD",
        "schedule.steps=20",
        "ema=null",
    ]
    starts = []
    for steps in (1, 3):
        folder = tmp_path / str(steps)
        assert run_train(f"run_dir={folder}", f"trainer.max_steps={steps}", "optimizer.lr=0.01", *frozen) == 0
        starts.append(weights(folder))
    assert torch.equal(starts[0]["stem.weight"], starts[1]["stem.weight"])
    assert not torch.equal(starts[0]["mix.weight"], starts[1]["mix.weight"])
    assert run_train(f"run_dir={tmp_path / 'x'}", "groups.nothing.lr=0") == 1
    assert "parts are" in capsys.readouterr().err
