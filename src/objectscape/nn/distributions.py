"""Every random draw of the library, and the densities that go with them.

Models never call `torch.randn` or `.rsample` themselves: with all draws in these few functions,
`with posterior_means():` makes any model deterministic (parity tests, pictures, evaluation).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_means = False  # a plain global: torch.compile guards on it, and cannot trace a ContextVar


@contextmanager
def posterior_means() -> Iterator[None]:
    """Inside this context every draw returns the mean (or the median, for uniform noise) of its distribution."""
    global _means
    before, _means = _means, True
    try:
        yield
    finally:
        _means = before


def drawing_means() -> bool:
    """Whether `posterior_means` is in force."""
    return _means


def sample_gaussian(mean: Tensor, std: Tensor, noise: Tensor | None = None) -> Tensor:
    """A reparameterized draw `mean + std * noise`; `noise` is standard normal unless given (shape of the result)."""
    if noise is None:
        if drawing_means():
            return mean.expand(torch.broadcast_shapes(mean.shape, std.shape))
        noise = torch.randn(torch.broadcast_shapes(mean.shape, std.shape), dtype=mean.dtype, device=mean.device)
    return mean + std * noise


def fixed_noise(shape: tuple[int, ...] | torch.Size, like: Tensor) -> Tensor:
    """Standard normal numbers, the same at every call, for draws that break a symmetry.

    Slots that start at their common mean stay identical for ever; under `posterior_means` they start from these.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(dtype=like.dtype, device=like.device)


def sample_uniform(shape: tuple[int, ...] | torch.Size, like: Tensor, noise: Tensor | None = None) -> Tensor:
    """Uniform numbers in [0, 1) with the dtype and device of `like`; 0.5 under `posterior_means`."""
    if noise is not None:
        return noise
    if drawing_means():
        return torch.full(shape, 0.5, dtype=like.dtype, device=like.device)
    return torch.rand(shape, dtype=like.dtype, device=like.device)


def gaussian_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Elementwise log N(x; mean, std^2) in nats, the constant included."""
    return -0.5 * ((x - mean) / std) ** 2 - torch.log(std) - 0.9189385332046727


def gaussian_kl(mean: Tensor, std: Tensor, prior_mean: Tensor | float = 0.0, prior_std: Tensor | float = 1.0) -> Tensor:
    """Elementwise closed-form KL(N(mean, std^2) || N(prior_mean, prior_std^2)) in nats."""
    prior_std = torch.as_tensor(prior_std, dtype=mean.dtype, device=mean.device)
    ratio = std / prior_std
    return 0.5 * (ratio**2 + ((mean - prior_mean) / prior_std) ** 2 - 1) - torch.log(ratio)
