"""The autoregressive prior over a sequence of slot latents (GENESIS mask latents, GENESIS-V2 slot latents)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from objectscape.nn.distributions import gaussian_log_prob, sample_gaussian
from objectscape.nn.mixtures import prior_parameters
from objectscape.nn.recurrent import LSTM
from objectscape.nn.validation import check_at_least


class AutoregressivePrior(nn.Module):
    """p(z_1) = N(0, I); p(z_k | z_<k) = N(tanh(a), sigmoid(b + 4) + 1e-4) with [a, b] = Linear(LSTM(z_1 .. z_{k-1})).

    Args:
        latent_dim: D.
        hidden_dim: width of the LSTM (256 in GENESIS, 4 * feature width in GENESIS-V2).
    """

    def __init__(self, *, latent_dim: int, hidden_dim: int = 256) -> None:
        super().__init__()
        check_at_least(1, latent_dim=latent_dim, hidden_dim=hidden_dim)
        self.latent_dim = latent_dim
        self.lstm = LSTM(latent_dim, hidden_dim, batch_first=True)
        self.head = nn.Linear(hidden_dim, 2 * latent_dim)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std (B, K, D) of every step, given the latents z (B, K, D) of the steps before it."""
        first = torch.zeros_like(z[:, :1])
        if z.shape[1] == 1:  # an LSTM refuses an empty sequence
            return first, torch.ones_like(first)
        mean, std = prior_parameters(self.head(self.lstm(z[:, :-1])[0]))  # (B, K-1, D)
        return torch.cat([first, mean], dim=1), torch.cat([torch.ones_like(first), std], dim=1)

    def log_prob(self, z: Tensor) -> Tensor:
        """(B, K) log density in nats of each step of z (B, K, D), summed over D."""
        return gaussian_log_prob(z, *self(z)).sum(-1)

    def sample(self, n: int, steps: int, *, noise: Tensor | None = None, tanh_mean: bool = True) -> Tensor:
        """n sequences (n, steps, D), drawn one step after the other.

        Args:
            n: number of sequences.
            steps: K.
            noise: (n, steps, D) standard normal numbers; drawn if None.
            tanh_mean: False leaves out the tanh of the mean, as the released GENESIS sampler does.
        """
        mean = self.head.weight.new_zeros(n, self.latent_dim)
        z = [sample_gaussian(mean, torch.ones_like(mean), None if noise is None else noise[:, 0])]
        state = None
        for k in range(1, steps):
            hidden, state = self.lstm(z[-1][:, None], state)  # (n, 1, hidden_dim)
            mean, std = prior_parameters(self.head(hidden[:, 0]), tanh_mean=tanh_mean)
            z.append(sample_gaussian(mean, std, None if noise is None else noise[:, k]))
        return torch.stack(z, dim=1)
