"""DCI: does each dimension of a code stand for one factor, each factor for one dimension, and is everything there?

Boosted trees predict every factor from the codes of objects; how much each dimension d matters for factor f is the
importance R[d, f]. A dimension is disentangled if its row of R is concentrated on one factor, a factor is completely
captured if its column is concentrated on one dimension; informativeness is how well the trees predict.

Two ways of scoring. "corrected" is what to use. "released" is what the evaluation code of EfficientMORL computes (after
mending a loop variable that overwrote the type of estimator), for comparing with published numbers:

|                   | corrected                                          | released                                |
|-------------------|----------------------------------------------------|-----------------------------------------|
| split in halves   | by scene                                           | by object                               |
| importance        | loss of R2 on the other half, dimension shuffled   | impurity gain while training, sums to 1 |
| informativeness   | mean skill: 0 for guessing, 1 for perfect          | share of predictions that equal exactly |
| constant factors  | left out                                           | count, and raise the result             |

Sources: Eastwood and Williams, A framework for the quantitative evaluation of disentangled representations, 2018;
Emami et al., EfficientMORL, 2021, section 4.3 and the released code. Shuffling: Breiman, Random forests, 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.model_selection import train_test_split
from torch import Tensor

from objectscape.metrics.factors import Factor, FactorKind, fit_factors
from objectscape.seeding import derive_generator, derive_seed

Scoring = Literal["corrected", "released"]
Predict = Callable[[np.ndarray], Tensor]
"""(n, D) codes -> (n, P) predictions, as `Factor.score` takes them."""

FEWEST_OBJECTS = 40
"""Below this, half of the objects are too few to learn from."""
SHUFFLES = 3
TEST_OBJECTS = 500
"""Of the test half, at most so many measure importances: the cost is objects times dimensions times trees."""
TREES, TREES_AT_ONCE = 100, 20


class FactorScore(NamedTuple):
    """How well one factor is predicted."""

    name: str
    kind: FactorKind
    score: float
    """accuracy (categorical) or R2, on the test half"""
    chance: float
    """the score of a guess that does not look at the code"""
    informativeness: float
    """its part in the mean: the skill, or in released scoring the share of exact predictions"""


class DCI(NamedTuple):
    """Disentanglement, completeness, informativeness, and what they are made of."""

    disentanglement: float
    completeness: float
    informativeness: float
    """on the test half"""
    importance: Tensor
    """(D, F) float64"""
    factors: tuple[FactorScore, ...]
    """F, in the order of the columns"""
    constant: tuple[str, ...]
    """factors left out because all objects have the same value"""
    informativeness_train: float


def disentanglement_per_code(importance: Tensor) -> Tensor:
    """(..., D, F) importances -> (..., D): 1 - entropy of each row in units of log F; 0 for a row of zeros."""
    return _concentration(importance, -1)


def completeness_per_factor(importance: Tensor) -> Tensor:
    """(..., D, F) importances -> (..., F): 1 - entropy of each column in units of log D; 0 for a column of zeros."""
    return _concentration(importance, -2)


def disentanglement(importance: Tensor) -> Tensor:
    """(..., D, F) importances -> (...): mean over codes, weighted by their importance (all alike if there is none)."""
    return (_weight(importance.sum(-1)) * disentanglement_per_code(importance)).sum(-1)


def completeness(importance: Tensor) -> Tensor:
    """(..., D, F) importances -> (...): mean over factors, weighted by importance (all alike if there is none)."""
    return (_weight(importance.sum(-2)) * completeness_per_factor(importance)).sum(-1)


def dci(
    codes: Tensor,
    factors: Mapping[str, Tensor],
    *,
    scenes: Tensor | None = None,
    kinds: Mapping[str, FactorKind] | None = None,
    scoring: Scoring = "corrected",
    seed: int = 0,
) -> DCI:
    """DCI of the codes of n objects.

    Args:
        codes: (n, D) one row per object.
        factors: {name: (n,) or (n, P)} what is true of it.
        scenes: (n,) number of the scene that each object is from, so that objects of one scene are not divided between
            learning and testing; None if each has its own. Released scoring does not use it.
        kinds: {name: kind} of factors whose kind `objectscape.metrics.factors.Factor.fit` would guess wrong.
        scoring: "corrected" or "released", see above. Released scoring takes a factor with several numbers as several
            factors, and an angle as a number.
        seed: of the split (released: always 5), of the trees and of the shuffling.

    Returns:
        Numbers in [0, 1]. Corrected disentanglement and completeness are NaN where no factor can be predicted at all,
        or there is only one dimension or factor to tell apart.

    Raises:
        ValueError: if there are fewer than `FEWEST_OBJECTS`, a code is not finite, or no factor varies.
    """
    if scoring not in get_args(Scoring):
        raise ValueError(f"scoring={scoring!r}; choose one of {', '.join(get_args(Scoring))}")
    if codes.ndim != 2 or not bool(codes.isfinite().all()):
        raise ValueError(f"codes have shape {tuple(codes.shape)}; expected finite numbers (n, D), one row per object")
    wrong = [f"{name} {tuple(v.shape)}" for name, v in factors.items() if len(v) != len(codes)]
    if wrong:
        raise ValueError(f"{len(codes)} codes, but factors {', '.join(wrong)}; give one row per object")
    if len(codes) < FEWEST_OBJECTS:
        raise ValueError(
            f"{len(codes)} objects are too few to learn from; give at least {FEWEST_OBJECTS}: more scenes, or a model "
            "that finds their objects"
        )
    numbers = codes.detach().double().cpu().numpy()
    if scoring == "released":
        return _released(numbers, factors, kinds, seed)
    known, constant = fit_factors(factors, kinds)
    if not known:
        raise ValueError(f"no factor varies between the objects: {', '.join(constant) or 'there are none'}")
    train, test = split_scenes(torch.arange(len(codes)) if scenes is None else scenes.cpu(), seed)
    columns, scores, skills = [], [], []
    for factor in known:
        target = factor.encode(factors[factor.name])
        predict = _boost(factor, numbers[train], target[train], seed)
        columns.append(_importance(predict, numbers[test], target[test], derive_generator(seed, "dci", factor.name)))
        seen, unseen = predict(numbers[train]), predict(numbers[test])
        skills.append(factor.skill(seen, target[train]))
        scores.append(
            FactorScore(
                factor.name,
                factor.kind,
                factor.score(unseen, target[test]),
                factor.chance(target[test]),
                factor.skill(unseen, target[test]),
            )
        )
    importance = torch.stack(columns, 1)  # (D, F)
    predictable = bool((importance > 0).any())
    return DCI(
        disentanglement=float(disentanglement(importance)) if predictable and len(known) > 1 else math.nan,
        completeness=float(completeness(importance)) if predictable and len(importance) > 1 else math.nan,
        informativeness=float(np.nanmean([score.informativeness for score in scores])),
        importance=importance,
        factors=tuple(scores),
        constant=tuple(constant),
        informativeness_train=float(np.nanmean(skills)),
    )


def split_scenes(scenes: Tensor, seed: int, share: float = 0.5) -> tuple[Tensor, Tensor]:
    """Positions of the objects of a random `share` of the scenes, and of the others; `scenes` (n,) int64.

    Raises:
        ValueError: if there are fewer than two scenes.
    """
    kinds, number = scenes.unique(return_inverse=True)
    if len(kinds) < 2:
        raise ValueError(f"{len(kinds)} scene(s) with objects; learning and testing need at least two")
    chosen = torch.zeros(len(kinds), dtype=torch.bool)
    order = torch.randperm(len(kinds), generator=derive_generator(seed, "split"))
    chosen[order[: min(max(1, round(share * len(kinds))), len(kinds) - 1)]] = True
    first = chosen[number]
    return first.nonzero().squeeze(1), (~first).nonzero().squeeze(1)


def _concentration(importance: Tensor, dim: int) -> Tensor:
    """1 - normalized entropy along `dim`; the released code's epsilon makes it 0 where everything is zero."""
    shares = importance + 1e-11
    shares = shares / shares.sum(dim, keepdim=True)
    count = importance.shape[dim]
    return 1 - torch.special.entr(shares).sum(dim) / math.log(count) if count > 1 else torch.ones_like(shares.sum(dim))


def _weight(sums: Tensor) -> Tensor:
    total = sums.sum(-1, keepdim=True)
    return torch.where(total > 0, sums / total, 1 / sums.shape[-1])


def _boost(factor: Factor, codes: np.ndarray, target: Tensor, seed: int) -> Predict:
    """Boosted trees of depth 3, as many as still help on a fifth of the objects (20 to 100)."""
    fit, check = split_scenes(torch.arange(len(codes)), derive_seed(seed, "boost"), share=0.8)
    options = {"max_depth": 3, "min_samples_leaf": 5, "early_stopping": False, "warm_start": True, "random_state": 0}
    if factor.kind == "categorical":
        labels = target.argmax(1).numpy()
        if len(np.unique(labels[fit])) < 2:  # then there is nothing to learn
            guess = target[fit].mean(0)
            return lambda x: guess.expand(len(x), -1)
        trees: list[HistGradientBoostingClassifier | HistGradientBoostingRegressor] = [
            HistGradientBoostingClassifier(max_iter=TREES_AT_ONCE, **options)
        ]
        answers = [labels]

        def predict(x: np.ndarray) -> Tensor:
            result = torch.zeros(len(x), factor.width)
            result[:, trees[0].classes_] = torch.from_numpy(trees[0].predict_proba(x)).float()
            return result
    else:
        trees = [HistGradientBoostingRegressor(max_iter=TREES_AT_ONCE, **options) for _ in range(factor.width)]
        answers = list(target.numpy().T)

        def predict(x: np.ndarray) -> Tensor:
            return torch.stack([torch.from_numpy(tree.predict(x)).float() for tree in trees], 1)

    least = math.inf
    for count in range(TREES_AT_ONCE, TREES + 1, TREES_AT_ONCE):
        for tree, answer in zip(trees, answers, strict=True):
            tree.set_params(max_iter=count).fit(codes[fit], answer[fit])
        error = float((predict(codes[check]) - target[check]).square().sum())
        if error >= least:
            break
        least = error
    return predict


def _importance(predict: Predict, codes: np.ndarray, target: Tensor, generator: torch.Generator) -> Tensor:
    """(D,) how much R2 falls when one dimension is shuffled between objects; of probabilities, R2 is Brier's skill.

    All together they are at most R2 itself: of a factor that cannot be predicted, what is left is noise.
    """
    codes, target = codes[:TEST_OBJECTS], target[:TEST_OBJECTS]
    count, width = codes.shape
    total = (target - target.mean(0)).square().sum()
    error = (predict(codes) - target).square().sum()
    lost = torch.zeros(width, dtype=torch.float64)
    for _ in range(SHUFFLES):
        order = torch.randperm(count, generator=generator).numpy()
        copies = np.repeat(codes[None], width, 0)  # (D, n, D)
        dims = np.arange(width)
        copies[dims, :, dims] = codes[order].T
        shuffled = predict(copies.reshape(-1, width)).view(width, count, -1)
        lost += ((shuffled - target).square().sum((1, 2)) - error).double() / SHUFFLES
    lost = lost.clamp_min(0)
    known = (total - error).double().clamp_min(0)
    return lost * (known / lost.sum().clamp_min(1e-9)).clamp_max(1) / total.clamp_min(1e-9)


def _released(
    codes: np.ndarray, factors: Mapping[str, Tensor], kinds: Mapping[str, FactorKind] | None, seed: int
) -> DCI:
    """See the module's table. scikit-learn's defaults everywhere: 100 trees of depth 3, learning rate 0.1."""
    columns, scores, exact_train = [], [], []
    for name, values in factors.items():
        kind = Factor.fit(name, values, (kinds or {}).get(name)).kind
        parts = values.detach().double().cpu().view(len(values), -1).numpy().T  # (P, n)
        for index, part in enumerate(parts):
            label = name if len(parts) == 1 else f"{name}_{index}"
            discrete = kind == "categorical"
            x_train, x_test, y_train, y_test = train_test_split(codes, part, test_size=0.5, random_state=5)
            if len(np.unique(y_train)) < 2:  # no tree has a split; upstream's classifier stops with an error
                gain, seen, unseen = (
                    np.zeros(codes.shape[1]),
                    np.full_like(y_train, y_train[0]),
                    y_test * 0 + y_train[0],
                )
            else:
                estimator = GradientBoostingClassifier if discrete else GradientBoostingRegressor
                trees = estimator(random_state=seed).fit(x_train, y_train)
                gain, seen, unseen = trees.feature_importances_, trees.predict(x_train), trees.predict(x_test)
            equal = float((unseen == y_test).mean())
            exact_train.append(float((seen == y_train).mean()))
            columns.append(torch.from_numpy(np.abs(gain)))
            spread = float(((y_test - y_test.mean()) ** 2).sum())
            r2 = 1 - float(((unseen - y_test) ** 2).sum()) / spread if spread else math.nan
            chance = float(np.unique(y_test, return_counts=True)[1].max() / len(y_test)) if discrete else 0.0
            kind_of_part: FactorKind = "categorical" if discrete else "continuous"
            scores.append(FactorScore(label, kind_of_part, equal if discrete else r2, chance, equal))
    importance = torch.stack(columns, 1)
    return DCI(
        disentanglement=float(disentanglement(importance)),
        completeness=float(completeness(importance)),
        informativeness=float(np.mean([score.informativeness for score in scores])),
        importance=importance,
        factors=tuple(scores),
        constant=(),
        informativeness_train=float(np.mean(exact_train)),
    )
