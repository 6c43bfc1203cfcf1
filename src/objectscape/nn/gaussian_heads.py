"""How the GENESIS family turns network outputs into Gaussians, and its one-sample KL estimate.

Source: Engelcke et al., "GENESIS" (ICLR 2020) and its released code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.nn.distributions import gaussian_log_prob


def full_precision(x: Tensor) -> Tensor:
    """`x` in float32 if it came out of autocast in half precision, unchanged otherwise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def posterior_parameters(raw: Tensor, *, offset: float = 0.5) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of an approximate posterior from raw (..., 2D): std = softplus(. + offset) + 1e-8.

    With the published 0.5 a fresh network's std is near 1 and its means are near 0, so its draws hardly know the image.
    """
    mean, std = full_precision(raw).chunk(2, dim=-1)
    return mean, F.softplus(std + offset) + 1e-8


def prior_parameters(raw: Tensor, *, tanh_mean: bool = True) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a learned prior from raw (..., 2D).

    The mean is tanh(.), the std sigmoid(. + 4) + 1e-4: it starts near 1 and never exceeds it by more than 1e-4.
    `tanh_mean=False` leaves the mean unbounded.
    """
    mean, std = full_precision(raw).chunk(2, dim=-1)
    return mean.tanh() if tanh_mean else mean, torch.sigmoid(std + 4.0) + 1e-4


def sampled_kl(z: Tensor, mean: Tensor, std: Tensor, prior_mean: Tensor, prior_std: Tensor) -> Tensor:
    """One-sample Monte Carlo KL in nats, summed over the latent axis: (..., D) -> (...). Can be negative."""
    return (gaussian_log_prob(z, mean, std) - gaussian_log_prob(z, prior_mean, prior_std)).sum(-1)
