"""Learning-rate schedules of the original code bases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from objectscape.training.schedules import Exponential
from tests.parity.case import Case


def run_efficientmorl(case: Case) -> None:
    """The learning rate at recorded steps: warm-up, then halved every 100 000 steps.

    The original's wrapper repeats the peak for one step when it hands over from warm-up to decay; ours does not.
    """
    arrays = case.arrays
    warmup = int(arrays["inputs/warmup"])
    schedule = Exponential(warmup=warmup, rate=0.5, steps=100_000)
    steps = [warmup if step == warmup + 1 else int(step) for step in arrays["inputs/step"]]
    rates = [float(arrays["inputs/base_lr"]) * schedule(step) for step in steps]
    case.compare("lr", np.array(rates))
    case.finish()


KINDS: dict[str, Callable[[Case], None]] = {"metrics/lr_schedule_emorl": run_efficientmorl}
