"""How many matched pairs does a workspace need? Error against the number of pairs, and the factor between two curves.

The paper's question (Devillers et al., 2023): cycles, which need no pairs, should reach with few pairs what translation
alone reaches with many. The factor is read off at equal error between the two curves, in the logarithm of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

LOSSES = {
    "tr": {"contrastive": 0.0, "demi_cycle": 0.0, "cycle": 0.0},
    "tr+cont": {"demi_cycle": 0.0, "cycle": 0.0},
    "tr+dcy+cy": {"contrastive": 0.0},
    "full": {},
}
"""{set of losses: weights that differ from the recipe's}."""
PAIRS = (100, 300, 1000, 3000, 10000)
STAGE = 0.7
"""Share of the steps after which cycles are trained."""

Curve = Mapping[int, Sequence[float]]
"""{number of pairs: error of each seed}."""


class Factor(NamedTuple):
    """How many times as many pairs one curve needs for the errors of another."""

    mean: float
    low: float
    high: float
    """bounds of the 95 % interval of the bootstrap over seeds"""
    points: int
    """numbers of pairs whose error lies within the other curve"""


def pair_factor(better: Curve, worse: Curve, *, draws: int = 2000, seed: int = 0) -> Factor | None:
    """The factor by which `worse` needs more pairs than `better` for the same error.

    At each number of pairs of `better` the number is found at which `worse`, made monotone, has the same error; the
    ratios are averaged in their logarithm. Errors that `worse` does not span count for nothing.

    Args:
        better, worse: errors over seeds; every number of pairs needs at least one.
        draws: of the bootstrap, which draws seeds anew at every number of pairs.
        seed: of the draws.

    Returns:
        None if no error of `better` lies within `worse`.
    """
    whole = _ratio(_means(better, None), _means(worse, None))
    if whole is None:
        return None
    generator = np.random.default_rng(seed)
    found = [_ratio(_means(better, generator), _means(worse, generator)) for _ in range(draws)]
    ratios = [r[0] for r in found if r is not None]
    low, high = np.quantile(ratios, [0.025, 0.975]) if ratios else (whole[0], whole[0])
    return Factor(whole[0], float(low), float(high), whole[1])


def _means(curve: Curve, generator: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the pairs and of the mean errors, of seeds drawn anew with a generator."""
    pairs = sorted(n for n, errors in curve.items() if len(errors))
    means = []
    for n in pairs:
        errors = np.asarray(curve[n], dtype=float)
        drawn = errors if generator is None else errors[generator.integers(len(errors), size=len(errors))]
        means.append(drawn.mean())
    return np.log(np.asarray(pairs, dtype=float)), np.log(np.asarray(means))


def _ratio(better: tuple[np.ndarray, np.ndarray], worse: tuple[np.ndarray, np.ndarray]) -> tuple[float, int] | None:
    pairs, errors = worse[0], np.minimum.accumulate(worse[1])
    logs = []
    for n, error in zip(*better, strict=True):
        if len(errors) and errors[-1] <= error <= errors[0]:
            logs.append(float(np.interp(-error, -errors, pairs)) - n)
    return (float(np.exp(np.mean(logs))), len(logs)) if logs else None
