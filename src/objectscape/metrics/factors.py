"""Ground-truth properties of objects as things to predict: what kind each is, and how a prediction of it is scored.

`Scene.factors` holds numbers without saying what they mean. Here a factor is

- "categorical": one of a few kinds (shape, material, a palette's colors). Predicted as probabilities; score: accuracy.
- "continuous": one or several real numbers (position, RGB). Score: R2, 1 for perfect, 0 for predicting the mean.
- "angle": continuous on a circle. Predicted as cosine and sine, so that 359 and 1 degrees are neighbors. Score: R2.

`skill` puts all of them on one scale: 0 for guessing without looking (the mean, the most frequent category), 1 for
perfect. A factor that is the same for all objects tells nothing and has no skill; leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor

FactorKind = Literal["categorical", "continuous", "angle"]

CATEGORIES = ("shape", "size", "material", "color", "texture", "label", "class")
"""Factors that are kinds even where they are stored as real numbers, unless they take too many values."""
MOST_CATEGORIES = 32
PERIODS = {"orientation": 2 * math.pi, "rotation": 360.0}
"""{name: period} of the angles: dSprites counts in radians, CLEVR in degrees."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One property and how to score predictions of it. Make it with `Factor.fit`."""

    name: str
    kind: FactorKind
    categories: Tensor
    """(P, ...) the values that occur, if categorical; else (0,)."""
    center: Tensor
    """(P,) mean over objects, if not categorical; else (0,)."""
    scale: Tensor
    """(P,) standard deviation over objects, if not categorical; else (0,)."""

    @classmethod
    def fit(cls, name: str, values: Tensor, kind: FactorKind | None = None) -> Self:
        """The factor that `values` (n,) or (n, P) are of; `kind` None finds out by name and values.

        Without `kind`: an angle if its name is in `PERIODS`; categorical if it takes at most `MOST_CATEGORIES` values
        and its name is in `CATEGORIES` or its numbers are integers; continuous otherwise.

        Raises:
            ValueError: if the kind is unknown, or values are not finite.
        """
        if kind is not None and kind not in get_args(FactorKind):
            raise ValueError(f"factor {name!r} has kind {kind!r}; choose one of {', '.join(get_args(FactorKind))}")
        if values.ndim not in (1, 2) or not bool(values.isfinite().all()):
            raise ValueError(
                f"factor {name!r} has shape {tuple(values.shape)}; expected finite numbers (n,) or (n, P), "
                "one row per object"
            )
        values = values.cpu()
        distinct = values.unique(dim=0)
        if kind is None:
            few = len(distinct) <= MOST_CATEGORIES and (name in CATEGORIES or not values.is_floating_point())
            kind = "angle" if name in PERIODS else "categorical" if few else "continuous"
        nothing = torch.empty(0)
        if kind == "categorical":
            return cls(name=name, kind=kind, categories=distinct, center=nothing, scale=nothing)
        numbers = _numbers(name, kind, values)
        scale = numbers.std(0, correction=0)
        return cls(
            name=name,
            kind=kind,
            categories=nothing,
            center=numbers.mean(0),
            scale=torch.where(scale > 0, scale, 1.0),
        )

    @property
    def width(self) -> int:
        """P: how many numbers a prediction has."""
        return len(self.categories) if self.kind == "categorical" else len(self.center)

    def encode(self, values: Tensor) -> Tensor:
        """What is to be predicted: (n,) or (n, ...) values -> (n, P) one-hot, or standardized numbers; float32.

        A value that is no known category becomes a row of zeros.
        """
        values = values.cpu()
        if self.kind == "categorical":
            same = values[:, None] == self.categories  # (n, P, ...)
            return same.flatten(2).all(2).float() if same.ndim > 2 else same.float()
        return ((_numbers(self.name, self.kind, values) - self.center) / self.scale).float()

    def score(self, prediction: Tensor, target: Tensor) -> float:
        """Accuracy of a categorical factor, R2 of the others (NaN if all targets are the same).

        Both arguments are (n, P); `target` is from `encode`.
        """
        if self.kind == "categorical":
            return float((prediction.argmax(1) == target.argmax(1)).float().mean())
        spread = float((target - target.mean(0)).square().sum())
        return 1 - float((prediction - target).square().sum()) / spread if spread else math.nan

    def chance(self, target: Tensor) -> float:
        """The score of the best constant prediction."""
        return float(target.mean(0).max()) if self.kind == "categorical" else 0.0

    def skill(self, prediction: Tensor, target: Tensor) -> float:
        """(score - chance) / (1 - chance), at least 0; NaN if the targets are all the same."""
        chance = self.chance(target)
        if chance == 1 or bool((target == target[:1]).all()):
            return math.nan
        return max(0.0, (self.score(prediction, target) - chance) / (1 - chance))


def fit_factors(
    values: Mapping[str, Tensor], kinds: Mapping[str, FactorKind] | None = None
) -> tuple[list[Factor], list[str]]:
    """The factors worth predicting, and the names of those that are the same for all objects.

    Args:
        values: {name: (n,) or (n, P)} of n objects.
        kinds: {name: kind} where `Factor.fit` would guess wrong.

    Raises:
        ValueError: if `kinds` names no factor, or what `Factor.fit` refuses.
    """
    kinds = kinds or {}
    unknown = sorted(set(kinds) - set(values))
    if unknown:
        raise ValueError(f"kinds names {', '.join(unknown)}, but the factors are {', '.join(values) or 'none'}")
    constant = [name for name, value in values.items() if bool((value == value[:1]).all())]
    return [Factor.fit(name, v, kinds.get(name)) for name, v in values.items() if name not in constant], constant


def _numbers(name: str, kind: FactorKind, values: Tensor) -> Tensor:
    """(n,) or (n, P) -> (n, P') float64; an angle's cosine and sine."""
    numbers = values.double().view(len(values), -1)
    if kind == "angle":
        turns = numbers * (2 * math.pi / PERIODS.get(name, 2 * math.pi))
        numbers = torch.cat([turns.cos(), turns.sin()], 1)
    return numbers
