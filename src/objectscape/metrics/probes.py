"""Property prediction: can a small network read an object's position, color, shape, size from its slot alone?

One network per slot predicts all factors at once: linear, or with one hidden layer. It learns on half of the scenes and
is scored on the other half. Linear probes ask whether a property is laid out plainly, larger ones whether it is there.

Which slot must tell about which object is decided by masks, or by the prediction itself: in every scene the assignment
of objects to slots with the smallest sum of losses, in learning and in testing. The latter also works where masks are
poor, and scores higher: it may look at the answers.

Source: Dittadi et al., Generalization and robustness implications in object-centric learning, 2022, section 3 and
appendix B (probes, both ways of matching); Greff et al., IODINE, 2019, section 4.2 (linear probe on matched slots).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.metrics.disentanglement import FEWEST_OBJECTS, FactorScore, split_scenes
from objectscape.metrics.factors import Factor, FactorKind, fit_factors
from objectscape.seeding import derive_seed

Matching = Literal["mask", "loss"]

STEPS, CHECK_EVERY, PATIENCE = 500, 20, 5
"""Full-batch steps at most; how often the loss on held-out scenes is looked at; how many looks without a new best."""


class ObjectSlots(NamedTuple):
    """The slots of some scenes beside what is true of their objects."""

    slots: Tensor
    """(S, K, D)"""
    factors: dict[str, Tensor]
    """{name: (S, N) or (S, N, P)}"""
    objects: Tensor
    """(S, N) bool: objects that are to be found"""
    matches: Tensor
    """(S, N) int64: the slot that stands for each object, -1 for none; by mask"""

    def matched(self) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """(n, D) slots of the n matched objects, {name: (n, ...)} their factors, (n,) the scene each is from."""
        rows, columns = (self.matches >= 0).nonzero(as_tuple=True)
        factors = {name: values[rows, columns] for name, values in self.factors.items()}
        return self.slots[rows, self.matches[rows, columns]], factors, rows


def probe_properties(
    data: ObjectSlots,
    *,
    hidden: int = 0,
    matching: Matching = "mask",
    kinds: Mapping[str, FactorKind] | None = None,
    seed: int = 0,
) -> tuple[FactorScore, ...]:
    """How well each factor can be read off the slots of scenes that the probe has not seen.

    Args:
        data: slots and objects; factors that are the same for all objects are left out.
        hidden: width of the hidden layer; 0 for a linear probe.
        matching: "mask" takes `data.matches`, "loss" finds its own.
        kinds: {name: kind} of factors whose kind `objectscape.metrics.factors.Factor.fit` would guess wrong.
        seed: of the split and of the network's start.

    Returns:
        One per factor: accuracy or R2 on the test half. `chance` is what a guess without looking would get.

    Raises:
        ValueError: for an unknown matching, fewer than `FEWEST_OBJECTS` objects, or slots that are not finite.
    """
    if matching not in get_args(Matching):
        raise ValueError(f"matching={matching!r}; choose one of {', '.join(get_args(Matching))}")
    if hidden < 0:
        raise ValueError(f"hidden={hidden}; give the width of the hidden layer, 0 for none")
    used = data.objects if matching == "loss" else data.matches >= 0
    if int(used.sum()) < FEWEST_OBJECTS:
        raise ValueError(f"{int(used.sum())} objects are too few to learn from; give at least {FEWEST_OBJECTS}")
    if not bool(data.slots.isfinite().all()):
        raise ValueError("slots hold NaN or infinite values: the model has diverged")
    known, constant = fit_factors({name: values[used] for name, values in data.factors.items()}, kinds)
    if not known:
        raise ValueError(f"no factor varies between the objects: {', '.join(constant) or 'there are none'}")
    shape = used.shape
    target = torch.cat([f.encode(data.factors[f.name].flatten(0, 1)) for f in known], 1).unflatten(
        0, shape
    )  # (S, N, P)
    train, test = split_scenes(torch.arange(len(data.slots)), seed)
    fit, check = (train[part] for part in split_scenes(torch.arange(len(train)), derive_seed(seed, "probe"), share=0.8))

    slots = data.slots.float().cpu()
    seen = slots[fit].flatten(0, 1)
    slots = (slots - seen.mean(0)) / seen.std(0, correction=0).clamp_min(1e-6)
    matches = data.matches.cpu()
    if matching == "loss":  # found by a linear probe, whichever comes after: larger ones settle on wrong pairs
        probe = _learn(_network(slots, 0, target, seed), known, slots, target, fit, check, objects=used.cpu())
        matches = _match(probe, known, slots, target, used.cpu())
    network = _learn(_network(slots, hidden, target, seed), known, slots, target, fit, check, matches=matches)
    rows, columns, matched = _pairs(matches, test)
    with torch.no_grad():
        predictions = network(slots[rows, matched])
    return tuple(
        FactorScore(f.name, f.kind, f.score(p, t), f.chance(t), f.skill(p, t))
        for f, p, t in zip(known, _parts(known, predictions), _parts(known, target[rows, columns]), strict=True)
    )


def _learn(
    network: nn.Module,
    factors: list[Factor],
    slots: Tensor,
    target: Tensor,
    fit: Tensor,
    check: Tensor,
    *,
    matches: Tensor | None = None,
    objects: Tensor | None = None,
) -> nn.Module:
    """Train on the scenes `fit` until those of `check` gain no more; without `matches`, `objects` find their slots."""

    def error(scenes: Tensor) -> Tensor:
        if matches is None:
            assert objects is not None
            found = torch.full(objects.shape, -1)
            found[scenes] = _match(network, factors, slots[scenes], target[scenes], objects[scenes])
        else:
            found = matches
        rows, columns, matched = _pairs(found, scenes)
        return _loss(factors, network(slots[rows, matched]), target[rows, columns]).mean()

    linear = isinstance(network, nn.Linear)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-2 if linear else 3e-3, weight_decay=0.1)
    least, best, since = math.inf, copy.deepcopy(network.state_dict()), 0
    for step in range(STEPS):
        if step % CHECK_EVERY == 0:
            with torch.no_grad():
                now = float(error(check))
            since = 0 if now < least else since + 1
            if now < least:
                least, best = now, copy.deepcopy(network.state_dict())
            if since > PATIENCE:
                break
        optimizer.zero_grad()
        error(fit).backward()
        optimizer.step()
    network.load_state_dict(best)
    return network


def _network(slots: Tensor, hidden: int, target: Tensor, seed: int) -> nn.Module:
    width, outputs = slots.shape[-1], target.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "probe", hidden))
        if not hidden:
            return nn.Linear(width, outputs)
        return nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(), nn.Linear(hidden, outputs))


def _pairs(matches: Tensor, scenes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(S, N) slots or -1, (s,) scenes to use -> (m,) scene, object and slot of each of their m matched objects."""
    rows, columns = (matches[scenes] >= 0).nonzero(as_tuple=True)
    return scenes[rows], columns, matches[scenes[rows], columns]


@torch.no_grad()
def _match(network: nn.Module, factors: list[Factor], slots: Tensor, target: Tensor, objects: Tensor) -> Tensor:
    """(S, K, D) slots, (S, N, P) targets, (S, N) bool -> (S, N) slots whose predictions cost least, -1 for none."""
    costs = _loss(factors, network(slots)[:, None], target[:, :, None])  # (S, N, K)
    matches = np.full(objects.shape, -1)
    for found, cost, there in zip(matches, costs.numpy(), objects.numpy(), strict=True):
        rows, columns = linear_sum_assignment(cost[there])
        found[there.nonzero()[0][rows]] = columns
    return torch.from_numpy(matches)


def _parts(factors: list[Factor], joined: Tensor) -> tuple[Tensor, ...]:
    return joined.split([factor.width for factor in factors], -1)


def _loss(factors: list[Factor], prediction: Tensor, target: Tensor) -> Tensor:
    """(...) sum over factors, of (..., P) tensors that broadcast: cross-entropy, or mean squared error."""
    losses = []
    for factor, p, t in zip(factors, _parts(factors, prediction), _parts(factors, target), strict=True):
        if factor.kind == "categorical":
            losses.append(-(t * F.log_softmax(p, -1)).sum(-1))
        else:
            losses.append((p - t).square().mean(-1))
    return torch.stack(losses).sum(0)
