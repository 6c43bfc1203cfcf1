"""How much each domain says in a workspace state: weights for a group of domains (shimmer, section 3.4 of its code).

A selection reads {domain: (B, D)} latents and {domain: (B, k)} encodings of the same rows, and returns
{domain: (B,) or (B, k)} weights. bimGW adds encodings (weight 1 each); shimmer weighs them so that they sum to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

Group = Mapping[str, Tensor]


def random_weights(uniform: Tensor, temperature: float) -> Tensor:
    """(B, D) uniform numbers -> (B, D) weights that sum to 1: softmax of uniform / temperature."""
    return (uniform / temperature).softmax(1)


def one_hot_weights(choice: Tensor, domains: int) -> Tensor:
    """(B,) which domain -> (B, D) weights."""
    return nn.functional.one_hot(choice, domains).float()


def fuse(encodings: Group, weights: Group) -> Tensor:
    """(B, k) weighted sum of the encodings, before tanh."""
    parts = [weights[name].reshape(len(z), -1) * z for name, z in encodings.items()]
    return torch.stack(parts).sum(0)


class SumSelection(nn.Module):
    """Weight 1 for every domain."""

    def forward(self, latents: Group, encodings: Group) -> dict[str, Tensor]:
        return {name: z.new_ones(len(z)) for name, z in encodings.items()}


class EqualSelection(nn.Module):
    """The same share for every domain."""

    def forward(self, latents: Group, encodings: Group) -> dict[str, Tensor]:
        return {name: z.new_full((len(z),), 1 / len(encodings)) for name, z in encodings.items()}


class SingleSelection(nn.Module):
    """One domain for each row, drawn uniformly."""

    def forward(self, latents: Group, encodings: Group) -> dict[str, Tensor]:
        rows = len(next(iter(encodings.values())))
        weights = one_hot_weights(torch.randint(len(encodings), (rows,)), len(encodings))
        return dict(zip(encodings, weights.to(next(iter(encodings.values()))).unbind(1), strict=True))


class RandomSelection(nn.Module):
    """Random shares; a small `temperature` brings them near one domain."""

    def __init__(self, *, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, latents: Group, encodings: Group) -> dict[str, Tensor]:
        rows = len(next(iter(encodings.values())))
        weights = random_weights(torch.rand(rows, len(encodings)), self.temperature)
        return dict(zip(encodings, weights.to(next(iter(encodings.values()))).unbind(1), strict=True))


class AttentionSelection(nn.Module):
    """Shares from keys of the latents and a query that the fused state refines (shimmer's DynamicQueryAttention).

    Args:
        domains: names.
        size: width of every latent and of the state.
        head_size: of keys and queries.
        steps: refinements of the query.
    """

    def __init__(self, *, domains: Sequence[str], size: int, head_size: int, steps: int = 1) -> None:
        super().__init__()
        self.steps = steps
        self.query = nn.Linear(size, head_size)
        self.keys = nn.ModuleDict({name: nn.Linear(size, head_size) for name in domains})
        self.register_buffer("first", torch.rand(size))

    def forward(self, latents: Group, encodings: Group) -> dict[str, Tensor]:
        keys = torch.stack([self.keys[name](latents[name]) for name in encodings], 1)  # (B, D, head)
        stacked = torch.stack(list(encodings.values()), 1)  # (B, D, k)
        query = self.query(self.first).expand(len(keys), -1)
        weights = torch.einsum("bdh,bh->bd", keys, query).softmax(1)
        for _ in range(self.steps):
            query = self.query((weights[..., None] * stacked).sum(1))
            weights = torch.einsum("bdh,bh->bd", keys, query).softmax(1)
        return dict(zip(encodings, weights.unbind(1), strict=True))


class PrecisionSelection(nn.Module):
    """A share for each domain and number of the state, from a log-precision that is read from the domain's encoding.

    How far an encoding is from the mean of all is read too; equal shares before training.

    Args:
        domains: names.
        state_size: k.
        hidden_size: of the one hidden layer.
    """

    def __init__(self, *, domains: Sequence[str], state_size: int, hidden_size: int = 64) -> None:
        super().__init__()
        self.precision = nn.ModuleDict()
        for name in domains:
            last = nn.Linear(hidden_size, state_size)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.precision[name] = nn.Sequential(nn.Linear(2 * state_size, hidden_size), nn.SiLU(), last)

    def forward(self, latents: Group, encodings: Group) -> dict[str, Tensor]:
        mean = torch.stack(list(encodings.values())).mean(0)
        seen = {name: torch.cat([z, z - mean], 1) for name, z in encodings.items()}
        scores = torch.stack([self.precision[name](z) for name, z in seen.items()], 1)  # (B, D, k)
        return dict(zip(encodings, scores.softmax(1).unbind(1), strict=True))
