"""Kill and resume: runs that are killed again and again end as those that nobody touched, bit by bit

Every run is killed (SIGKILL, from inside or at a random time) while it steps, writes its checkpoint, renames it, logs,
validates or exports its model, and resumed after each kill. At the end its weights, its checkpoint and its log are
compared with those of an unbroken run. A difference is an error.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Row, row
from objectscape.checkpoints import native
from objectscape.checkpoints.run_folder import RunFolder, read_checkpoint
from objectscape.cli import main
from objectscape.training import callbacks
from objectscape.training.logs import CSVLog, read_csv
from objectscape.training.task import Task

STEPS = 9
TINY = f"""
    recipe=quickstart data.count=64 batch_size=4 model.width=8 model.hidden=8 every.log=1 every.validate=3
    every.picture=0 every.checkpoint=2 validation.images=4 loggers.tensorboard=false trainer.accelerator=cpu
    trainer.precision=32-true trainer.max_steps={STEPS}
""".split()
EMA, ACCUMULATED, WORKERS = "ema=0.9", "trainer.accumulate_grad_batches=3", "storage=workers"
RUNS = {
    "plain": ["ema=null"],
    "averaged weights": [EMA],
    "accumulation": ["ema=null", ACCUMULATED],
    "reading processes": ["ema=null", WORKERS],
    "all three": [EMA, ACCUMULATED, WORKERS],
}
VOLATILE = {"train/images_per_second", "train/wait_share", "train/seconds", "train/cpu_seconds"}
PATIENCE = 600.0


def run(*, quick: bool = False) -> list[Row]:
    """Kills survived; a note says in which moments."""
    threads, rng = torch.get_num_threads(), random.Random(0)
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as place:
            rows: list[Row] = []
            for name in list(RUNS)[: 1 if quick else None]:
                moments = ["saving", "exporting"] if quick else list(MOMENTS)
                kills = killed_runs(Path(place) / name.replace(" ", "_"), RUNS[name], moments, rng)
                rows.append(survived(name, kills))
            if not quick:
                rows.append(survived("sweep of two", killed_sweep(Path(place) / "sweep", rng)))
                rows.append(survived("two processes", killed_pair(Path(place) / "pair", rng)))
    finally:
        torch.set_num_threads(threads)
    return rows


def survived(name: str, kills: Counter[str]) -> Row:
    where = ", ".join(f"{moment} {count}" for moment, count in kills.items())
    return row(f"{name}, kills survived", float(kills.total()), None, "kills", note=where)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def trap(owner: Any, name: str, call: int, *, after: bool = False, first: Callable[..., object] | None = None) -> None:
    """Let the process die at the `call`-th call of `owner.name`: before it, after it, or after `first` in its place."""
    original, calls = getattr(owner, name), []

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) != call:
            return original(*arguments, **options)
        if first is not None:
            first(original, *arguments, **options)
        elif after:
            original(*arguments, **options)
        return die()

    setattr(owner, name, wrapped)


def half_saved(save: Callable[..., None], content: Any, path: Path) -> None:
    save(content, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def half_a_row(log_metrics: Callable[..., None], log: CSVLog, *arguments: Any) -> None:
    log_metrics(log, *arguments)
    log.path.write_bytes(log.path.read_bytes()[:-7])


MOMENTS: dict[str, Callable[[random.Random], None]] = {
    "any time": lambda rng: signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.05, 2)) and None,  # kills by default
    "stepping": lambda rng: trap(Task, "training_step", rng.randint(1, 4), after=rng.random() < 0.5),
    "saving": lambda rng: trap(callbacks.torch, "save", rng.randint(1, 2), first=half_saved),
    "renaming": lambda rng: trap(Path, "replace", rng.randint(1, 4), after=rng.random() < 0.5),
    "logging": lambda rng: trap(CSVLog, "log_metrics", rng.randint(1, 3), first=half_a_row),
    "validating": lambda rng: trap(Task, "validation_step", 1),
    "exporting": lambda rng: trap(native, rng.choice(["save_file", "sha256", "write_text"]), 1, after=True),
}
"""What lets a process die in that moment, if it comes to it."""


def fork(words: list[str], log: Path, before: Callable[[], object] = lambda: None) -> int:
    """Exit status of `objectscape WORDS` in a copy of this process."""

    def child() -> None:
        with log.open("a") as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        before()
        status = main(words)
        sys.stderr.flush()
        os._exit(status)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"{words} does not end")
    return process.exitcode


def killed_runs(place: Path, words: list[str], moments: list[str], rng: random.Random) -> Counter[str]:
    """One kill per moment, in random order (exporting comes last), then to the end; compared with an unbroken run."""
    place.mkdir()
    log, whole, broken = place / "log.txt", place / "whole", place / "broken"
    assert fork(["train", *TINY, *words, f"run_dir={whole}"], log) == 0, log.read_text()
    kills: Counter[str] = Counter()
    order = rng.sample(moments, len(moments))
    for moment in sorted(order, key=lambda moment: moment == "exporting"):
        status = fork(begin_or_resume(broken, words), log, partial(MOMENTS[moment], random.Random(rng.random())))
        assert status <= 0, log.read_text()
        kills[moment] += status != 0
        if status == 0 or RunFolder(broken).status()["state"] == "done":
            break
    if RunFolder(broken).status()["state"] != "done":
        assert fork(begin_or_resume(broken, words), log) == 0, log.read_text()
    compare(whole, broken)
    return +kills


def begin_or_resume(run: Path, words: list[str]) -> list[str]:
    if RunFolder(run).checkpoint.is_file():
        return ["train", f"resume={run}"]
    shutil.rmtree(run, ignore_errors=True)
    return ["train", *TINY, *words, f"run_dir={run}"]


def killed_sweep(place: Path, rng: random.Random) -> Counter[str]:
    """A sweep over two seeds that is killed in steps, and started again with the same folder of jobs."""
    place.mkdir()
    log, kills = place / "log.txt", 0
    words = ["train", "--multirun", *TINY, "ema=null", "seed=0,1", f"runs={place / 'runs'}", "name=broken"]
    while True:
        steps = rng.randint(3, 7)
        status = fork(
            [*words, f"hydra.sweep.dir={place / 'jobs'}"], log, lambda n=steps: trap(Task, "training_step", n)
        )
        if status == 0:
            break
        assert status == -signal.SIGKILL, log.read_text()
        kills += 1
    for seed in range(2):
        whole = place / f"whole{seed}"
        assert fork(["train", *TINY, "ema=null", f"seed={seed}", f"run_dir={whole}"], log) == 0, log.read_text()
        compare(whole, Path((place / "jobs" / str(seed) / "run.txt").read_text()))
    return Counter({"stepping": kills})


def killed_pair(place: Path, rng: random.Random, kills: int = 4) -> Counter[str]:
    """A run in two processes (gloo), of which one is killed, in turns; the other must end by itself."""
    place.mkdir()
    more = ["ema=null", "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_steps=600", "every.validate=0"]
    command = [sys.executable, "-m", "objectscape", "train"]
    whole, broken = place / "whole", place / "broken"
    subprocess.run([*command, *TINY, *more, f"run_dir={whole}"], check=True, stderr=subprocess.DEVNULL)
    found: Counter[str] = Counter()
    for kill in range(kills):
        words = [f"resume={broken}"] if kill else [*TINY, *more, f"run_dir={broken}"]
        first = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True)
        step = steps_of(broken) + rng.randint(10, 60)
        while steps_of(broken) < step and first.poll() is None:
            time.sleep(0.01)
        (other,) = map(int, Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())
        os.kill(other if kill % 2 else first.pid, signal.SIGKILL)
        said = first.communicate()[1]  # until both have closed it
        assert "of this run" in said, said
        assert "Traceback" not in said, said
        found["the second" if kill % 2 else "the first"] += 1
    subprocess.run([*command, f"resume={broken}"], check=True, stderr=subprocess.DEVNULL)
    compare(whole, broken)
    return found


def steps_of(run: Path) -> int:
    log = run / "metrics.csv"
    rows = read_csv(log) if log.is_file() else []
    return int(rows[-1]["step"]) if rows else 0


def compare(whole: Path, broken: Path) -> None:
    """Raise AssertionError if two runs differ in anything that is not time."""
    for run in (whole, broken):
        assert json.loads((run / "status.json").read_text())["state"] == "done", run
        left = [file.name for file in run.rglob(".*-????????.*")]
        assert not left, f"{run}: {left}"
    one, other = (run / "model" / "model.safetensors" for run in (whole, broken))
    assert one.read_bytes() == other.read_bytes(), "the models differ"
    states = [read_checkpoint(RunFolder(run).checkpoint) for run in (whole, broken)]
    for state in states:
        state["callbacks"].pop("KeepCheckpoint")  # how long it took
        state["callbacks"]["StepLog"].pop("spent")
        state["loops"].pop("fit_loop")  # Lightning's counts, of validations that were cut short too
    same(*states, name="checkpoint")
    logs = [read_log(run) for run in (whole, broken)]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]], "the logs have other steps"
    for one_line, other_line in zip(*logs, strict=True):
        for key in one_line.keys() - VOLATILE:
            values = one_line[key], other_line.get(key, "")
            # a run that is killed in a validation, right after its checkpoint, goes on without that score
            lost = key.startswith("val/") and not values[1]
            assert values[0] == values[1] or lost, f"{key} in step {one_line['step']}: {values}"


def read_log(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same(one: Any, other: Any, *, name: str) -> None:
    assert type(one) is type(other), name
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), name
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one:
            same(one[key], other[key], name=f"{name}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), name
        for index, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, name=f"{name}[{index}]")
    else:
        assert one == other, f"{name}: {one} and {other}"
