"""Values that change while a model is trained: linear ramps, and stages that hold until the next one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from objectscape.nn.validation import check_at_least


class Ramp:
    """A value that moves in a straight line from `start` to `end` between two steps, and is constant outside them.

    Args:
        start_step: the last step with the value `start`.
        end_step: the first step with the value `end`. Equal to `start_step`: a jump after that step.
        start: value at the beginning.
        end: value at the end.

    Raises:
        ValueError: if `end_step` is before `start_step`, or a value is not finite.
    """

    def __init__(self, start_step: int, end_step: int, start: float, end: float) -> None:
        check_at_least(0, start_step=start_step)
        if end_step < start_step:
            raise ValueError(f"a ramp from step {start_step} to step {end_step}: it must not end before it starts.")
        if not (math.isfinite(start) and math.isfinite(end)):
            raise ValueError(f"a ramp from {start} to {end}: both values must be finite.")
        self.start_step, self.end_step, self.start, self.end = start_step, end_step, start, end

    def at(self, step: int) -> float:
        """The value after `step` optimizer steps."""
        if step <= self.start_step:
            return self.start
        if step >= self.end_step:
            return self.end
        done = (step - self.start_step) / (self.end_step - self.start_step)
        return self.start + done * (self.end - self.start)


class Stages:
    """A value for each part of a training: [[0, 3], [5000, 10]] is 3 before step 5000 and 10 from there on.

    Args:
        pairs: [first step, value] in rising order of the steps, the first at step 0. A single value is constant.

    Raises:
        ValueError: if the list is empty, or its steps do not rise from 0.
    """

    def __init__(self, pairs: Sequence[Sequence[Any]] | float) -> None:
        if isinstance(pairs, int | float):
            pairs = [[0, pairs]]
        if not pairs or any(isinstance(pair, int | float | str) or len(pair) != 2 for pair in pairs):
            raise ValueError(f"stages {pairs!r}: expected [step, value] pairs such as [[0, 3], [5000, 10]]")
        steps = [pair[0] for pair in pairs]
        rising = all(a < b for a, b in itertools.pairwise(steps))
        if steps[0] != 0 or not rising or any(type(step) is not int for step in steps):
            raise ValueError(f"stages {pairs!r}: expected whole steps that rise from 0, as in [[0, 3], [5000, 10]]")
        self.steps: list[int] = steps
        self.values: list[Any] = [pair[1] for pair in pairs]

    def at(self, step: int) -> Any:
        """The value after `step` optimizer steps."""
        return self.values[self.index(step)]

    def index(self, step: int) -> int:
        """Which stage, from 0, `step` belongs to."""
        return sum(first <= step for first in self.steps) - 1
