"""Planning with anything that predicts: the cross-entropy method, path integrals, and a loop that plans again.

A plan is a list of actions; candidates are imagined, all in one call of `predict`, and compared by a cost (see
`costs`). Sources: de Boer et al. 2005 (cross-entropy method), Williams et al. 2017 (MPPI, path integrals), Veerapaneni
et al. 2019 (actions that name an object, called entity actions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from objectscape.nn.validation import check_at_least, check_positive

Cost = Callable[[Tensor], Tensor]
"""Plans (N, H, A) -> (N,); lower is better."""


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """What an action may be.

    Args:
        low: (A,) smallest values.
        high: (A,) largest.
        entities: (E, P) places of objects that may be picked, or None. With them the first P values of an action are
            one of these places, or the one that the plan has moved the object to; the next P say where it goes.
        reach: how far a full range of these P values moves the object, if they are a way and not a place: it goes to
            place + reach * (value - 0.5).
    """

    low: Tensor
    high: Tensor
    entities: Tensor | None = None
    reach: float | None = None

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or not bool((self.low < self.high).all()):
            raise ValueError(f"bounds {self.low.tolist()} and {self.high.tolist()}; every low must be below its high")
        if self.entities is not None and not len(self.entities):
            raise ValueError("there is no object to pick; use actions without entities")

    @property
    def free(self) -> slice:
        """The values of an action that are drawn freely."""
        return slice(0 if self.entities is None else self.entities.shape[1], None)

    def actions(self, free: Tensor, chosen: Tensor | None) -> Tensor:
        """Free values (N, H, F) and chosen entities (N, H) as actions (N, H, A)."""
        if self.entities is None or chosen is None:
            return free
        size = self.entities.shape[1]
        places = self.entities.expand(len(free), -1, -1).clone()  # (N, E, P)
        rows, told = torch.arange(len(free)), []
        for step in range(free.shape[1]):
            here, to = places[rows, chosen[:, step]], free[:, step, :size]
            told.append(torch.cat([here, free[:, step]], 1))
            places[rows, chosen[:, step]] = to if self.reach is None else here + self.reach * (to - 0.5)
        return torch.stack(told, 1)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The best candidate that was seen."""

    actions: Tensor
    """(H, A)"""
    cost: float
    candidates: int
    """How many were imagined for it."""


class Planner(Protocol):
    """Finds a plan of `horizon` actions with a low cost."""

    def plan(self, cost: Cost, space: ActionSpace, *, horizon: int, generator: torch.Generator) -> Plan: ...


@dataclass(frozen=True, kw_only=True)
class CEM:
    """The cross-entropy method: draw candidates, keep the best, draw around them.

    Args:
        candidates: drawn in every iteration.
        iterations: 1 is random shooting.
        elites: how many are kept; they stay in the next iteration.
        spread: smallest standard deviation, as a share of the range.
        floor: added to the odds of every entity, so that none is lost.
    """

    candidates: int = 64
    iterations: int = 3
    elites: int = 8
    spread: float = 0.02
    floor: float = 0.1

    def __post_init__(self) -> None:
        check_at_least(1, candidates=self.candidates, iterations=self.iterations, elites=self.elites)
        if self.elites > self.candidates:
            raise ValueError(f"elites={self.elites} of candidates={self.candidates}; there cannot be more")

    def plan(self, cost: Cost, space: ActionSpace, *, horizon: int, generator: torch.Generator) -> Plan:
        """See `Planner`."""
        low, high = space.low[space.free], space.high[space.free]
        entities = 0 if space.entities is None else len(space.entities)
        odds = torch.ones(horizon, max(entities, 1))
        mean = std = None
        kept: tuple[Tensor, Tensor, Tensor] | None = None  # free values, entities, costs
        for _ in range(self.iterations):
            shape = (self.candidates, horizon, len(low))
            if mean is None or std is None:
                free = low + (high - low) * torch.rand(shape, generator=generator)
            else:
                free = mean + std * torch.randn(shape, generator=generator)
            free = free.clamp(low, high)
            chosen = torch.multinomial(odds, self.candidates, replacement=True, generator=generator).T
            costs = cost(space.actions(free, chosen if entities else None)).cpu()
            if kept is not None:
                free, chosen, costs = (torch.cat(pair) for pair in zip(kept, (free, chosen, costs), strict=True))
            best = costs.argsort()[: self.elites]
            kept = free[best], chosen[best], costs[best]
            mean = kept[0].mean(0)
            std = kept[0].std(0, correction=0).clamp_min(0).maximum(self.spread * (high - low))
            share = torch.nn.functional.one_hot(kept[1], odds.shape[1]).float().mean(0)
            odds = share + self.floor
        assert kept is not None
        actions = space.actions(kept[0][:1], kept[1][:1] if entities else None)[0]
        return Plan(actions=actions, cost=float(kept[2][0]), candidates=self.candidates * self.iterations)


@dataclass(frozen=True, kw_only=True)
class MPPI:
    """Path integrals: every candidate counts, good ones exponentially more. For actions without entities.

    Args:
        candidates: drawn in every iteration.
        iterations: how often.
        temperature: of the weights, in standard deviations of the costs; low ones trust the best.
        spread: standard deviation of the candidates, as a share of the range.
    """

    candidates: int = 64
    iterations: int = 3
    temperature: float = 0.3
    spread: float = 0.3

    def __post_init__(self) -> None:
        check_at_least(1, candidates=self.candidates, iterations=self.iterations)
        check_positive(temperature=self.temperature, spread=self.spread)

    def plan(self, cost: Cost, space: ActionSpace, *, horizon: int, generator: torch.Generator) -> Plan:
        """See `Planner`."""
        if space.entities is not None:
            raise ValueError("MPPI averages actions, which objects to pick cannot be; use CEM, or no entities")
        low, high = space.low, space.high
        mean = ((low + high) / 2).expand(horizon, -1)
        best: tuple[Tensor, float] | None = None
        for _ in range(self.iterations):
            noise = torch.randn(self.candidates, *mean.shape, generator=generator)
            plans = (mean + self.spread * (high - low) * noise).clamp(low, high)
            costs = cost(plans).cpu()
            first = int(costs.argmin())
            if best is None or float(costs[first]) < best[1]:
                best = plans[first], float(costs[first])
            scale = self.temperature * costs.std().clamp_min(1e-9)
            weights = ((costs.min() - costs) / scale).softmax(0)
            mean = (weights[:, None, None] * plans).sum(0)
        assert best is not None
        return Plan(actions=best[0], cost=best[1], candidates=self.candidates * self.iterations)


@dataclass(kw_only=True)
class Outcome:
    """What came of one goal."""

    solved: bool
    score: float
    """Share of the objects that are where they should be, at the end."""
    before: float
    """The same if nothing is done."""
    actions: list[list[float]] = field(default_factory=list)
    candidates: int = 0
    """Futures that were imagined for it."""


class Pursuit(Protocol):
    """A goal in a world: what planning needs to know of it. See `tasks`."""

    def space(self) -> ActionSpace: ...

    def cost(self, plans: Tensor) -> Tensor: ...

    def act(self, action: Tensor) -> None: ...

    @property
    def score(self) -> float: ...

    @property
    def solved(self) -> bool: ...


def pursue(goal: Pursuit, planner: Planner | None, *, plans: int, horizon: int = 1, seed: int = 0) -> Outcome:
    """Plan, do the first action, look, and plan again, until the goal is reached.

    Args:
        goal: with its world, in which actions are done.
        planner: None does nothing.
        plans: how often at most.
        horizon: actions of a plan.
        seed: of the candidates.
    """
    check_at_least(0, plans=plans)
    check_at_least(1, horizon=horizon)
    generator = torch.Generator().manual_seed(seed)
    outcome = Outcome(solved=goal.solved, score=goal.score, before=goal.score)
    for _ in range(plans if planner is not None else 0):
        assert planner is not None
        if outcome.solved:
            break
        plan = planner.plan(goal.cost, goal.space(), horizon=horizon, generator=generator)
        goal.act(plan.actions[0])
        outcome.actions.append(plan.actions[0].tolist())
        outcome.candidates += plan.candidates
        outcome.solved, outcome.score = goal.solved, goal.score
    return outcome
