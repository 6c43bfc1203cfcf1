"""How long a run will take, said before it starts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from objectscape.contract import Scheduled, readable
from objectscape.scene import Tensors

WORTH = 300
"""A run of fewer steps is over before an estimate helps."""


def seconds_per_step(
    model: nn.Module,
    batch: Tensors,
    *,
    steps: int = 3,
    step: int = 0,
    context: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> float:
    """Time of a forward and a backward pass, measured on a copy of the model: nothing of the run changes.

    Args:
        model: as the run trains it.
        batch: as large as the run's batches, on any device; it is moved to the model's.
        steps: that are timed, after one that is not.
        step: of the run, for schedules of the model.
        context: precision of the passes.
    """
    model = copy.deepcopy(model).train()
    device = next(model.parameters()).device
    batch = batch.to(device)
    began = 0.0
    with torch.random.fork_rng():
        for number in range(steps + 1):
            if number == 1:
                _wait(device)
                began = time.perf_counter()
            if isinstance(model, Scheduled):
                model.set_step(step)
            with context():
                scene = readable(model, batch)
                losses = model.loss(scene, model(scene), step)  # type: ignore[operator]
            losses.total.backward()
            model.zero_grad(set_to_none=True)
        _wait(device)
    return (time.perf_counter() - began) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def duration(seconds: float) -> str:
    """ "45 s", "6 min 5 s", "2 h 10 min", "3 days 4 h"."""
    whole = round(seconds)
    for unit, name, smaller, part in ((86400, "days", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            count, rest = whole // unit, whole % unit // smaller
            name = "day" if name == "days" and count == 1 else name
            return f"{count} {name}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"
