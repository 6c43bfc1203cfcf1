"""How far a predicted scene is from a wanted one. Lower is better.

The slot costs are OP3's (Veerapaneni et al. 2019, section 4 and the released planner). Slots of a prediction and of a
goal come in different orders, so they are matched: the nearest one, or the best one-to-one assignment. The difference
of flattened slot sets means nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from objectscape.nn.validation import check_choice
from objectscape.scene import Decomposition

COMPARE = ("mse", "intersection")
NOTICEABLE, ALIKE = 0.01, 0.08  # OP3's thresholds of "intersection", on values and squared differences


def slot_costs(
    goal: Tensor,
    predicted: Tensor,
    *,
    compare: Literal["mse", "intersection"] = "mse",
    bounded: bool = False,
    together: Literal["sum", "min", "assignment"] = "sum",
) -> tuple[Tensor, Tensor]:
    """Costs of N predictions.

    Args:
        goal: (G, ...) wanted slots: latents, pictures times masks, or one whole picture.
        predicted: (N, K, ...) predicted ones.
        compare: "mse", the mean squared difference; or "intersection", one minus the share of noticeable values that
            are alike (a Dice without its factor of two, as released).
        bounded: -exp(-distance) instead of the distance.
        together: "sum" of every wanted slot's nearest one; "min", the wanted slot that is easiest; "assignment", the
            mean over the best one-to-one assignment.

    Returns:
        costs (N,), and (N,) the wanted slot that is easiest, 0 unless `together` is "min".
    """
    check_choice("compare", compare, COMPARE)
    check_choice("together", together, ("sum", "min", "assignment"))
    wanted, found = goal.flatten(1), predicted.flatten(2)
    if wanted.shape[-1] != found.shape[-1]:
        raise ValueError(
            f"goal slots of {tuple(goal.shape[1:])} and predicted ones of {tuple(predicted.shape[2:])}; they must "
            "have the same shape."
        )
    wanted, found = wanted[None, :, None], found[:, None]  # (1, G, 1, D), (N, 1, K, D)
    square = (wanted - found).square()
    if compare == "mse":
        distance = square.mean(-1)  # (N, G, K)
    else:
        seen, shown = wanted > NOTICEABLE, found > NOTICEABLE
        alike = (seen & shown & (square < ALIKE)).sum(-1)
        distance = 1 - alike / (seen.sum(-1) + shown.sum(-1)).clamp_min(1)
    if bounded:
        distance = -(-distance).exp()
    none = torch.zeros(len(found), dtype=torch.long, device=found.device)
    if together == "assignment":
        return assigned(distance), none
    nearest = distance.amin(2)  # (N, G)
    if together == "sum":
        return nearest.sum(1), none
    cost, index = nearest.min(1)
    return cost, index


def assigned(distance: Tensor) -> Tensor:
    """(N, G, K) -> (N,): mean distance under the best one-to-one assignment of the smaller set."""
    table = distance.detach().cpu().double().numpy()
    best = [each[linear_sum_assignment(each)].mean() for each in table]
    return torch.as_tensor(np.array(best), dtype=distance.dtype, device=distance.device)


def image_cost(goal: Tensor, futures: Decomposition) -> Tensor:
    """(N,) mean squared difference of the last pictures (N, S, T, 3, H, W) and a goal (3, H, W), over all futures."""
    return (futures.recon[:, :, -1] - goal).square().mean((1, 2, 3, 4))


def subimage_cost(goal: Decomposition, futures: Decomposition) -> Tensor:
    """(N,) slots as pictures, each wanted one's nearest; `goal` is one scene (1, K, ...)."""
    wanted = (goal.masks * goal.components)[0]
    found = (futures.masks * futures.components)[:, :, -1]  # (N, S, K, 3, H, W)
    costs, _ = slot_costs(wanted, found.flatten(0, 1))
    return costs.unflatten(0, found.shape[:2]).mean(1)


def place_cost(goal: Tensor, places: Tensor) -> Tensor:
    """(N,) mean distance to wanted places (G, 2) of places (N, S, K, 2), one place for each."""
    distance = (goal[None, :, None] - places.flatten(0, 1)[:, None]).norm(dim=-1)  # (N*S, G, K)
    return assigned(distance).unflatten(0, places.shape[:2]).mean(1)


def mask_places(masks: Tensor) -> Tensor:
    """(..., K, 1, H, W) masks -> (..., K, 2) the column and row of each one's middle, 0..1."""
    height, width = masks.shape[-2:]
    weight = masks.squeeze(-3) / (masks.sum((-3, -2, -1))[..., None, None] + 1e-6)
    columns = (torch.arange(width, device=masks.device) + 0.5) / width
    rows = (torch.arange(height, device=masks.device) + 0.5) / height
    return torch.stack([(weight.sum(-2) * columns).sum(-1), (weight.sum(-1) * rows).sum(-1)], -1)
