"""One run in two processes that is stopped, or of which one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from objectscape.checkpoints.run_folder import RunFolder, read_checkpoint

WORDS = """
    recipe=quickstart data.count=64 batch_size=4 model.width=8 model.hidden=8 every.log=1 every.validate=0
    every.picture=0 every.checkpoint=1000000 loggers.tensorboard=false trainer.accelerator=cpu trainer.devices=2
    trainer.strategy=ddp trainer.max_steps=1000000 trainer.precision=32-true trainer.accumulate_grad_batches=2
""".split()
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds children in /proc")


def start(place: Path, *words: str) -> tuple[subprocess.Popen[str], list[int]]:
    """The first process, and all of them, once they train."""
    process = subprocess.Popen(
        [sys.executable, "-m", "objectscape", "train", *words],
        stderr=subprocess.PIPE, text=True, cwd=place, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    log = place / "r" / "metrics.csv"
    before = log.stat().st_size if log.is_file() else 60
    while process.poll() is None and not (log.is_file() and log.stat().st_size > before + 100):
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return process, [process.pid, *map(int, children)]


@pytest.mark.slow
def test_both_stop_and_go_on_until_one_dies(tmp_path: Path) -> None:
    process, everyone = start(tmp_path, *WORDS, "run_dir=r")
    for pid in everyone:
        os.kill(pid, signal.SIGTERM)
    said = process.communicate()[1]
    run = RunFolder(tmp_path / "r")
    step = read_checkpoint(run.checkpoint)["global_step"]
    assert process.returncode == 130, said
    assert f"stopped at step {step} of 1000000; go on with: objectscape train resume=r" in said
    assert "Traceback" not in said
    assert (run.status()["state"], run.status()["step"]) == ("interrupted", step)

    process, everyone = start(tmp_path, "resume=r")
    os.kill(everyone[1], signal.SIGKILL)
    said = process.communicate()[1]
    assert process.returncode == 1, said
    assert "of this run" in said
    assert "so this one ends too" in said
    assert f"stopped at step {step} of 1000000; go on with: objectscape train resume=r" in said
    assert "Traceback" not in said
    assert run.status()["state"] == "failed"
    assert read_checkpoint(run.checkpoint)["global_step"] == step
