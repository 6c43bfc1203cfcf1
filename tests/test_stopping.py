"""A run that stops, for whatever reason, and one that goes on with other settings."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from objectscape.checkpoints.run_folder import RunFolder, read_checkpoint
from objectscape.cli import main
from objectscape.training.settings import OURS
from objectscape.training.stopping import StopOnSignal
from objectscape.training.task import Task

SMALL = """
    model=slot_attention model.image_size=32 model.slots=3 model.slot_size=8 model.hidden_size=8
    model.encoder_channels=4 data=colored_shapes data.image_size=32 data.count=16 batch_size=4 every.validate=0
    every.picture=0 every.log=1 validation.images=4 loggers.tensorboard=false trainer.accelerator=cpu
    trainer.precision=32-true
""".split()

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*words: str, run: str = "r") -> int:
    return main(["train", *SMALL, f"run_dir={run}", *words])


def resume(*words: str, run: str = "r") -> int:
    return main(["train", f"resume={run}", *words])


def rows(run: str = "r") -> list[dict[str, str]]:
    with Path(run, "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def rates(run: str = "r") -> list[float]:
    return [float(row["train/lr"]) for row in rows(run)]


def saved(run: str = "r") -> dict[str, Any]:
    return read_checkpoint(RunFolder(Path(run)).checkpoint)


def test_changed_settings_of_the_optimizer_take_effect() -> None:
    assert train("trainer.max_steps=2") == 0
    words = ["optimizer.lr=1e-5", "optimizer.betas=[0.8,0.9]", "optimizer.weight_decay=0.01", "trainer.max_steps=4"]
    assert resume(*words) == 0
    assert rates() == [4e-4, 4e-4, 1e-5, 1e-5]
    (group,) = saved()["optimizer_states"][0]["param_groups"]
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (1e-5, 1e-5, 0.01)
    assert list(group["betas"]) == [0.8, 0.9]
    schedule = ["schedule._target_=objectscape.training.schedules.Exponential", "+schedule.warmup=0"]
    assert resume(*schedule, "+schedule.rate=0.5", "+schedule.steps=1", "trainer.max_steps=6") == 0
    assert rates()[-2:] == pytest.approx([1e-5 * 0.5**5, 1e-5 * 0.5**6])  # of the next step
    assert resume("schedule.rate=0.25", "trainer.max_steps=7") == 0
    assert rates()[-1] == pytest.approx(1e-5 * 0.25**7)
    config = OmegaConf.load("r/config.yaml")
    assert (config.optimizer.lr, config.schedule.rate, config.trainer.max_steps) == (1e-5, 0.25, 7)


def test_a_group_of_its_own_can_change_its_rate() -> None:
    assert train("trainer.max_steps=1", "+groups.encoder.lr=0.002") == 0
    assert resume("trainer.max_steps=2", "groups.encoder.lr=0.003") == 0
    assert [float(row["train/lr_encoder"]) for row in rows()] == [0.002, 0.003]
    assert rates() == [4e-4, 4e-4]


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("model.slot_size=16", "model.slot_size=16"),
        ("model.encoder_channels=8", "model.encoder_channels=8"),
        ("seed=3", "seed=3"),
        ("ema=0.9", "ema=0.9"),
        ("optimizer._target_=torch.optim.SGD", "optimizer._target_=torch.optim.SGD"),
        ("optimizer.amsgrad=true", "optimizer.amsgrad=True"),
        ("+groups.encoder.lr=0.1", "groups"),
        ("run_dir=elsewhere", "run_dir=elsewhere"),
        ("name=other", "name=other"),
        ("trainer.max_steps=2", "trainer.max_steps=2"),
        ("+geco._target_=objectscape.training.geco.GECO", "geco"),
    ],
)
def test_what_cannot_change_is_refused_by_name(
    word: str, named: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in (trained / "config.yaml", trained / "status.json")}
    assert resume("trainer.max_steps=3", word, run=str(trained)) == 1
    assert named in capsys.readouterr().err
    assert {file: file.read_bytes() for file in before} == before


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopping") / "run"
    assert train("trainer.max_steps=2", run=str(folder)) == 0
    return folder


def test_the_number_of_slots_can_change() -> None:
    assert train("trainer.max_steps=1") == 0
    assert resume("trainer.max_steps=2", "model.slots=5") == 0
    assert json.loads(Path("r/model/config.json").read_text())["slots"] == 5


def test_images_seen_counts_what_was_seen() -> None:
    assert train("trainer.max_steps=2") == 0
    assert resume("trainer.max_steps=3", "batch_size=8") == 0
    assert resume("trainer.max_steps=4", "batch_size=2", "trainer.accumulate_grad_batches=3") == 0
    assert [int(row["train/images_seen"]) for row in rows()] == [4, 8, 16, 22]


def test_the_time_of_steps_goes_on_where_a_run_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def pass_time(seconds: float) -> list[float]:
        clock[0] += seconds
        return [clock[0], clock[0] / 2]

    monkeypatch.setattr("objectscape.training.callbacks._clocks", lambda: pass_time(0))
    step, validate = Task.training_step, Task.validation_step
    monkeypatch.setattr(Task, "training_step", lambda *a: (pass_time(3), step(*a))[1])
    monkeypatch.setattr(Task, "validation_step", lambda *a: (pass_time(500), validate(*a))[1])
    assert train("trainer.max_steps=2", "every.validate=1") == 0
    pass_time(7000)  # until it is resumed
    assert resume("trainer.max_steps=3") == 0
    assert [float(row["train/seconds"]) for row in rows()] == [3, 6, 9]
    assert [float(row["train/cpu_seconds"]) for row in rows()] == [1.5, 3, 4.5]


@pytest.mark.parametrize("more", [[], ["trainer.accumulate_grad_batches=3"], ["ema=0.9"]])
def test_max_time_saves_and_says_how_to_go_on(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train("trainer.max_steps=100000", "trainer.max_time=00:00:00:01", *more) == 0
    said = capsys.readouterr().err
    step = saved()["global_step"]
    assert f"stopped at step {step} of 100000, saved; go on with: objectscape train resume=r" in said
    assert "done" not in said
    assert RunFolder(Path("r")).status()["state"] == "interrupted"
    assert resume(f"trainer.max_steps={step + 1}", "trainer.max_time=null") == 0
    assert [int(row["step"]) for row in rows()][-1] == step + 1


def test_epochs_stop_in_order_and_see_the_same_batches() -> None:
    assert train("trainer.max_steps=6", run="whole") == 0
    assert train("trainer.max_steps=6", "trainer.limit_train_batches=2", "trainer.max_epochs=2") == 0
    assert saved()["global_step"] == 4
    assert resume("trainer.max_epochs=-1") == 0
    losses = [[row["train/loss"] for row in rows(run)] for run in ("whole", "r")]
    assert losses[0] == losses[1]


def test_no_step_at_all_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("trainer.max_steps=4", "trainer.limit_train_batches=0") == 1
    assert "trainer.limit_train_batches=0: no step would be made" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_last_whole_step(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, calls = Task.training_step, []

    def step(self: Task, batch: Any, batch_idx: int) -> Any:
        calls.append(batch_idx)
        if len(calls) == 5:  # the second batch of the second step
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # as a shell and its wrapper do
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", step)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # below nohup it is ignored, and stays so
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert train("trainer.max_steps=9", "trainer.accumulate_grad_batches=3") == 130
    assert "stopped at step 2 of 9; go on with: objectscape train resume=r" in capsys.readouterr().err
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    assert saved()["global_step"] == 2
    assert len(calls) == 6
    assert RunFolder(Path("r")).status()["state"] == "interrupted"
    assert resume("trainer.max_steps=3") == 0


def test_a_second_signal_stops_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("objectscape.training.stopping.ONE_PRESS", -1.0)
    original = Task.training_step

    def step(self: Task, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", step)
    assert train("trainer.max_steps=9", "every.checkpoint=1") == 130
    assert "stopped at step 2 of 9" in capsys.readouterr().err
    assert RunFolder(Path("r")).status()["state"] == "interrupted"
    assert saved()["global_step"] == 2


def test_nohup_is_respected() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopOnSignal(lambda: None) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.received
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_dead_run_is_told_from_a_live_one(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("live", "dead"):
        Path(name).mkdir()
    RunFolder(Path("live")).write_status("running", step=3)
    code = "from pathlib import Path; from objectscape.checkpoints.run_folder import RunFolder; "
    subprocess.run([sys.executable, "-c", code + "RunFolder(Path('dead')).write_status('running', step=3)"], check=True)
    assert RunFolder(Path("live")).status()["state"] == "running"
    assert RunFolder(Path("dead")).status()["state"] == "died"
    assert main(["list", "runs", "--runs", "."]) == 0
    assert "died" in capsys.readouterr().out
    status = json.loads(Path("live/status.json").read_text())
    Path("live/status.json").write_text(json.dumps({**status, "pid": 1, "began": None}))
    assert RunFolder(Path("live")).status()["state"] == "died"


def test_a_run_is_not_trained_twice_at_a_time(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained / "status.json"
    before = file.read_text()
    RunFolder(trained).write_status("running", step=2)
    other = {**json.loads(file.read_text()), "pid": os.getppid()}
    other["began"] = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
    file.write_text(json.dumps(other))
    assert resume("trainer.max_steps=3", run=str(trained)) == 1
    assert f"is being trained by process {os.getppid()}" in capsys.readouterr().err
    file.write_text(before)


def test_what_a_killed_process_left_is_removed() -> None:
    assert train("trainer.max_steps=1") == 0
    left = [Path("r/checkpoints/.last-abcd_123.ckpt"), Path("r/.metrics-xyz01234.csv")]
    for file in left:
        file.write_text("half")
    assert resume("trainer.max_steps=2") == 0
    assert not any(file.exists() for file in left)


def test_a_full_disk_does_not_hide_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    original = RunFolder.write_status

    def full(self: RunFolder, state: str, **details: Any) -> None:
        if state == "failed":
            raise OSError(28, "No space left on device")
        original(self, state, **details)

    monkeypatch.setattr(RunFolder, "write_status", full)

    def no_space(*arguments: Any) -> None:
        raise OSError(28, "No space for the checkpoint")

    monkeypatch.setattr("objectscape.training.callbacks.torch.save", no_space)
    assert train("trainer.max_steps=1") == 1
    assert "No space for the checkpoint" in capsys.readouterr().err
    assert "status.json could not be written" in caplog.text


@pytest.mark.parametrize("name", OURS)
def test_what_the_program_sets_is_refused(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(f"+trainer.{name}=1") == 1
    assert f"trainer.{name} is set by objectscape: {OURS[name]}" in capsys.readouterr().err
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0: expected a whole number, at least 1"),
        ("schedule=null", "schedule=null: a run needs one"),
        ("optimizer=null", "optimizer=null: a run needs one"),
        ("seed=-1", "seed=-1: expected a whole number, at least 0"),
        ("seed=99999999999999999999", "expected a whole number below 2^63"),
        ("trainer.precision=bf16-true", "trainer.precision=bf16-true"),
    ],
)
def test_a_setting_out_of_range_is_a_sentence(
    word: str, answer: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(word) == 1
    assert answer in capsys.readouterr().err
    assert not list(place.iterdir())


def test_a_sweep_that_was_stopped_goes_on(
    monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a queue does that starts a job again: what is done stays, what was begun is resumed, the rest begins."""
    original, calls = Task.training_step, []

    def step(self: Task, batch: Any, batch_idx: int) -> Any:
        calls.append(batch_idx)
        if len(calls) == 6:  # the second step of the second run
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", step)
    words = [*SMALL, "--multirun", "seed=0,1,2", "name=s", "trainer.max_steps=4"]
    assert main(["train", *words, "hydra.sweep.dir=jobs"]) == 130
    states = [Path("jobs", f"{job}", "run.txt") for job in range(3)]
    assert [file.is_file() for file in states] == [True, True, False]
    assert main(["train", *words, "hydra.sweep.dir=jobs"]) == 0
    assert len(calls) == 12, "no step was made twice"
    runs = [Path(file.read_text()) for file in states]
    assert [RunFolder(run).status()["state"] for run in runs] == ["done"] * 3
    assert train("name=s", "seed=1", "trainer.max_steps=4", run="whole") == 0
    losses = [[row["train/loss"] for row in rows(str(run))] for run in ("whole", runs[1])]
    assert losses[0] == losses[1]
    assert len(list(Path("runs/s").iterdir())) == 3
    capsys.readouterr()
    assert main(["train", *words, "hydra.sweep.dir=jobs", "optimizer.lr=0.1"]) == 1
    assert "is of a sweep with other settings" in capsys.readouterr().err


def test_what_puts_a_job_into_the_queue_again_is_called_when_all_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    original, found = Task.training_step, []

    def queue_again(number: int, frame: Any) -> None:
        found.append((saved()["global_step"], RunFolder(Path("r")).status()["state"]))
        raise SystemExit(7)

    def step(self: Task, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 4:
            os.kill(os.getpid(), signal.SIGUSR2)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", step)
    previous = signal.signal(signal.SIGUSR2, queue_again)
    try:
        with pytest.raises(SystemExit):
            train("trainer.max_steps=9", "trainer.accumulate_grad_batches=3")
    finally:
        signal.signal(signal.SIGUSR2, previous)
    assert found == [(2, "interrupted")]
