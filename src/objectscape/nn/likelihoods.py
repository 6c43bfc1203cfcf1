"""Image likelihoods in nats, per pixel and channel: the caller sums, so that every reduction is visible."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from objectscape.nn.gaussian_heads import full_precision

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def gaussian_log_likelihood(image: Tensor, mean: Tensor, std: float) -> Tensor:
    """log N(image; mean, std^2) per pixel and channel, constants included; shapes broadcast."""
    return -0.5 * ((image - full_precision(mean)) / std) ** 2 - (math.log(std) + _HALF_LOG_2PI)


def mixture_log_likelihood(image: Tensor, means: Tensor, log_masks: Tensor, std: Tensor | float) -> Tensor:
    """log sum_k m_k N(x; mu_k, std_k^2): slots are mixed independently at each pixel and channel.

    By log-sum-exp, so it stays finite where the released GENESIS code, which exponentiates first, returns inf
    (small `std`, large residual).

    Args:
        image: (B, C, H, W) in [0, 1].
        means: (B, K, C, H, W) appearance of each slot.
        log_masks: (B, K, 1, H, W) natural logarithm of masks that sum to one over K.
        std: one standard deviation for all slots, or (K,).

    Returns:
        (B, C, H, W) nats.
    """
    means = full_precision(means)
    std = torch.as_tensor(std, dtype=means.dtype, device=means.device).reshape(-1, 1, 1, 1)  # (K or 1, 1, 1, 1)
    log_prob = -0.5 * ((image[:, None] - means) / std) ** 2 - std.log() - _HALF_LOG_2PI  # (B, K, C, H, W)
    return torch.logsumexp(full_precision(log_masks) + log_prob, dim=1)
