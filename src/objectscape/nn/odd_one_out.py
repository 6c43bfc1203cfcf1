"""Which of three states is the odd one: by distance, or by a small classifier (bimGW's downstream task)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def distance_logits(states: Tensor) -> Tensor:
    """(B, 3, k) -> (B, 3): minus the mean squared distance between the other two."""
    distance = (states[:, :, None] - states[:, None]).square().mean(3)  # (B, 3, 3)
    return -torch.stack([distance[:, 1, 2], distance[:, 0, 2], distance[:, 0, 1]], 1)


class OddClassifier(nn.Module):
    """Reads three states at once.

    Args:
        state_size: k.
        hidden_size: of its one hidden layer.
    """

    def __init__(self, *, state_size: int = 12, hidden_size: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3 * state_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 3))

    def forward(self, states: Tensor) -> Tensor:
        """(B, 3, k) -> (B, 3) logits."""
        return self.layers(states.flatten(1))


def swap_one(states: Tensor, other: Tensor, place: Tensor) -> Tensor:
    """(B, 3, k) with the state at `place` (B,) of each triplet taken from `other`: the cross-modal test."""
    swapped = nn.functional.one_hot(place, 3).bool().unsqueeze(2)
    return torch.where(swapped, other, states)
