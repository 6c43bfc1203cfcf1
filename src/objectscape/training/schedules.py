"""Learning-rate schedules: the factor on the base rate after `step` optimizer steps.

Each is a small callable object, named by import path in a recipe's `schedule`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Linear warm-up over `warmup` steps, then constant."""

    warmup: int = 0

    def __call__(self, step: int) -> float:
        return min(1.0, step / self.warmup) if self.warmup else 1.0


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """Linear warm-up over `warmup` steps times `rate ** (s / steps)`.

    With `decay_during_warmup` s counts from step 0 (Locatello et al. 2020, released code); otherwise from the end of
    the warm-up (EfficientMORL's released code).
    """

    warmup: int = 10_000
    rate: float = 0.5
    steps: int = 100_000
    decay_during_warmup: bool = False

    def __call__(self, step: int) -> float:
        decayed = step if self.decay_during_warmup else max(0, step - self.warmup)
        return Constant(warmup=self.warmup)(step) * self.rate ** (decayed / self.steps)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Linear warm-up over `warmup` steps, then a half cosine from 1 to `final` at `steps`."""

    steps: int
    warmup: int = 0
    final: float = 0.0

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return step / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Times `factor` after every `every` steps."""

    every: int
    factor: float

    def __call__(self, step: int) -> float:
        return self.factor ** (step // self.every)


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """A half cosine from 1/25 up to 1 over the first `rise` of the steps, another one down to `last` for the rest."""

    steps: int
    rise: float = 0.3
    first: float = 1 / 25
    last: float = 1 / 250_000

    def __call__(self, step: int) -> float:
        top = max(1.0, self.rise * self.steps - 1)
        rising, rest = step <= top, max(1.0, self.steps - 1 - top)
        start, end, share = (self.first, 1.0, step / top) if rising else (1.0, self.last, (step - top) / rest)
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
