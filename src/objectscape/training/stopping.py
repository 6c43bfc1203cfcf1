"""Signals stop a run in order: Ctrl-C, SIGTERM and SIGUSR1 or 2 (a cluster's ways to say that the time is up), SIGHUP.

SIGUSR1 and SIGUSR2 may have had a handler before, of what submitted the job (submitit): it is called once everything is
saved, and may put the job into the queue again.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

REQUEUE = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)] + REQUEUE
ONE_PRESS = 1.0  # seconds; a shell and its wrapper may both pass on one Ctrl-C


class StopOnSignal:
    """Inside `with`, the first signal calls `stop`; a later one raises KeyboardInterrupt, a third ends the process.

    Attributes:
        received: the signals, except for those that arrived within a second after the first.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self.stop = stop
        self.received: list[int] = []
        self._since = 0.0
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Take over the signals; again, after something else did. Outside of the main thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            current = signal.getsignal(number)
            if number not in self._previous:
                self._previous[number] = current
            if self._previous[number] is not signal.SIG_IGN or number != getattr(signal, "SIGHUP", None):  # of nohup
                signal.signal(number, self._handle)

    def __enter__(self) -> StopOnSignal:
        self.install()
        return self

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def pass_on(self) -> None:
        """Call the handlers that the signals received had before, of those that put a job into the queue again."""
        for number in self.received:
            handler = self._previous.get(number)
            if number in REQUEUE and callable(handler):
                handler(number, None)

    def _handle(self, number: int, frame: Any) -> None:
        if self.received and time.monotonic() < self._since + ONE_PRESS:
            return
        self.received.append(number)
        if len(self.received) == 1:
            self._since = time.monotonic()
            self.stop()
            log.warning("stopping after this step, then the state is saved (again to stop at once)")
            return
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt
