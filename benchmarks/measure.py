"""What the benchmarks share: rows, turns, peak memory, the machine.

A benchmark is a module whose `run(*, quick=False)` returns rows. Its docstring is the heading of its table.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

Row = dict[str, Any]
"""name, ours, theirs, ratio, unit; `note` where there is something to say, None where there is nothing to compare."""
MIB = 2**20


def row(name: str, ours: float | None, theirs: float | None, unit: str, *, higher: bool = False, note: str = "") -> Row:
    """A row of a table. The ratio says how many times better ours is: smaller, or with `higher` larger, is better."""
    ratio = None
    if ours and theirs:
        ratio = ours / theirs if higher else theirs / ours
    return {"name": name, "ours": ours, "theirs": theirs, "ratio": ratio, "unit": unit, "note": note}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    """Wait until the accelerator has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def cpu_seconds(work: Callable[[], object]) -> float:
    """User and system time that this process spends on one call: other work on the machine moves it little."""
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turns(works: Mapping[str, Callable[[], object]], *, turns: int, warm: bool = True) -> dict[str, float]:
    """Seconds of the fastest call of each. They take turns, A B A B, so that all meet the same state of the machine."""
    if warm:
        for work in works.values():
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: min(values) for name, values in times.items()}


def peak_memory(prepare: Callable[..., Callable[[], object]], *arguments: Any) -> float:
    """MiB that the function which `prepare(*arguments)` returns adds while it runs, at the worst moment.

    On a GPU: of the device, in this process. On a CPU: main memory, in a fresh process that does nothing else;
    `prepare` must then be a function at the top of a module.
    """
    if torch.cuda.is_available():
        work = prepare(*arguments)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "objectscape.training.task", __name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_peak, args=(sender, torch.get_num_threads(), prepare, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"the process that measures the memory of {prepare} ended early; see its message") from None
    finally:
        process.join()


class _Held:
    """A tensor that a graph holds; counts while it does."""

    def __init__(self, tensor: Tensor, live: dict[int, int]) -> None:
        self.tensor, self.live, self.key = tensor, live, tensor.untyped_storage().data_ptr()
        live[self.key] = live.get(self.key, 0) + 1

    def __del__(self) -> None:
        self.live[self.key] -= 1
        if not self.live[self.key]:
            del self.live[self.key]


def kept_for_backward(work: Callable[[], object], *, without: Iterable[Tensor] = ()) -> float:
    """MiB of activations that graphs hold for their backward passes while `work` runs, at the worst moment.

    Every storage counts once. Exact, unlike a process's memory, and the same on every machine.

    Args:
        work: forward and backward pass.
        without: tensors that do not count, such as the model's parameters and the images.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in without}
    live: dict[int, int] = {}  # address of a storage: how many graph nodes hold it
    size: dict[int, int] = {}
    peak = 0

    def pack(tensor: Tensor) -> Tensor | _Held:
        nonlocal peak
        key = tensor.untyped_storage().data_ptr()
        if key in known:
            return tensor
        held = _Held(tensor, live)
        if live[key] == 1:
            size[key] = tensor.untyped_storage().nbytes()
            peak = max(peak, sum(size[k] for k in live))
        return held

    def unpack(held: Tensor | _Held) -> Tensor:
        return held.tensor if isinstance(held, _Held) else held

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        work()
    return peak / MIB


def _report_peak(
    sender: Connection, threads: int, prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(threads)
    work = prepare(*arguments)
    before = _resident()
    work()
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss counts bytes there, KiB elsewhere
    sender.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale - before) / MIB)


def _resident() -> int:
    """Bytes of main memory that this process holds."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # no /proc: macOS, where the unit is bytes


def machine() -> str:
    """Processor, threads, load, version of torch, date."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads{gpu}, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}, Python {platform.python_version()}, {date.today().isoformat()}"
    )


def why_no_compiler() -> str:
    """Why torch.compile cannot work here; "" if it can."""
    if torch.cuda.is_available():
        return ""
    command = os.environ.get("CXX", "g++")
    try:
        subprocess.run([command, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"skipped: torch.compile needs a C++ compiler, and {command} does not run"
    return ""


@contextmanager
def empty_compile_cache() -> Iterator[None]:
    """Inside, torch.compile finds nothing that an earlier run has left."""
    with TemporaryDirectory() as folder, patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": folder}):
        yield
