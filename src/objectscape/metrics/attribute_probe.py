"""What a small network can read of a Simple Shape's attributes from a latent: what the latent knows.

A workspace that translates the latent into attributes has lost nothing if it does as well as this probe, which learns
from every matched row and serves no other purpose.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.nn.attribute_vectors import CLASSES, NUMBERS, to_rows, to_vector
from objectscape.seeding import derive_seed

DEAD = 0.1
"""Share of the largest standard deviation below which a latent dimension counts as dead: a VAE has given it up."""
STEPS, BATCH, HIDDEN, RATE = 2000, 256, 256, 3e-3


def live_dimensions(latents: Tensor) -> Tensor:
    """(n, D) latents -> (D,) bool: which dimensions carry something."""
    spread = latents.std(0, correction=0)
    return (spread >= DEAD * spread.max()) & (spread > 0)


def unexplained(found: Tensor, true: Tensor) -> Tensor:
    """(n, D) latents -> (n,) error of each row over the variance of the dimensions: R2 is one minus its mean.

    Every live dimension counts the same; dead ones, whose variance is next to nothing, are left out.
    """
    live = live_dimensions(true)
    if not live.any():
        return torch.full((len(true),), math.nan)
    spread = true[:, live].var(0, correction=0)
    return ((found[:, live] - true[:, live]).square() / spread).mean(1)


class AttributeProbe:
    """Two hidden layers from a latent to the class and the numbers of a row; `AttributeProbe(...)(latents)` gives rows.

    Args:
        latents: (n, D) to learn from.
        rows: (n, 8) their attributes.
        steps: of Adam, with batches of 256.
        seed: of the network and the order of rows.

    Raises:
        ValueError: if there are no rows, or latents that are not finite.
    """

    def __init__(self, latents: Tensor, rows: Tensor, *, steps: int = STEPS, seed: int = 0) -> None:
        if not len(latents) or not bool(latents.isfinite().all()):
            raise ValueError("a probe needs rows with finite latents to learn from")
        self._mean, spread = latents.mean(0), latents.std(0, correction=0)
        self._spread = torch.where(
            live_dimensions(latents), spread, spread.max().clamp_min(1e-6)
        )  # dead ones stay small
        generator = torch.Generator().manual_seed(derive_seed(seed, "attribute probe"))
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(derive_seed(seed, "attribute probe"))
            self._network = nn.Sequential(
                nn.Linear(latents.shape[1], HIDDEN), nn.SiLU(),
                nn.Linear(HIDDEN, HIDDEN), nn.SiLU(),
                nn.Linear(HIDDEN, CLASSES + NUMBERS),
            ).to(latents.device)  # fmt: skip
            seen, target = (latents - self._mean) / self._spread, to_vector(rows)
            optimizer = torch.optim.AdamW(self._network.parameters(), lr=RATE, weight_decay=1e-4)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                some = torch.randint(len(seen), (min(BATCH, len(seen)),), generator=generator).to(seen.device)
                told = self._network(seen[some])
                kind = F.cross_entropy(told[:, :CLASSES], rows[some, 0].long())
                error = kind + NUMBERS * F.mse_loss(told[:, CLASSES:], target[some, CLASSES:])
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
                schedule.step()

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """(B, D) latents -> (B, 8) attribute rows."""
        return to_rows(self._network((latents - self._mean) / self._spread))
