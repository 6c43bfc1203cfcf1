"""The processes of one run on this machine: when one of them dies, the others end with a sentence.

Without this, the first process would be killed by Lightning within five seconds and leave a run that says "running";
the others would wait for it, for as long as the network's patience lasts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.plugins.environments import LightningEnvironment

LOOKS = 0.1  # seconds between looks at the others


class Companions:
    """Inside `with`, a thread watches the processes that Lightning starts, or the one that started this one.

    Args:
        trainer: of the run.
        on_death: called in that thread, with what has happened; then this process ends.
    """

    def __init__(self, trainer: pl.Trainer, on_death: Callable[[str], None]) -> None:
        self.trainer, self.on_death = trainer, on_death
        self.parent = os.getppid()
        self._over = threading.Event()
        self._told = threading.Lock()

    def __enter__(self) -> Companions:
        if isinstance(getattr(self.trainer.strategy, "cluster_environment", None), LightningEnvironment):
            threading.Thread(target=self._watch, daemon=True, name="companions").start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._over.set()

    def claim(self) -> bool:
        """Whether the caller is the one to say that a process has died; nobody else is from then on."""
        return self._told.acquire(blocking=False)

    def _watch(self) -> None:
        while not self._over.wait(LOOKS):
            dead = self._dead()
            if dead and self.claim():
                try:
                    self.on_death(dead)
                finally:
                    for process in self._children():
                        process.kill()
                    os._exit(1)

    def _children(self) -> list[subprocess.Popen[bytes]]:
        return list(getattr(self.trainer.strategy.launcher, "procs", []))

    def _dead(self) -> str | None:
        if self.trainer.local_rank:
            gone = os.getppid() != self.parent
            return (
                f"process 0 of this run, which started this one ({self.trainer.local_rank}), has died" if gone else None
            )
        for number, process in enumerate(self._children(), 1):
            code = process.poll()
            if code:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
                return f"process {number} of this run {how}"
        return None
