"""Gaussians from network outputs, masks by stick-breaking, and the likelihoods of images that are mixtures of slots.

Likelihoods are in nats per pixel and channel: the caller sums, so that every reduction is visible.

Source: Engelcke et al., "GENESIS" (ICLR 2020), and its released code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.nn.distributions import gaussian_log_prob

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
MASK_FLOOR = 1e-5
"""Smallest mask value, before renormalization, in the mask KL of MONet and GENESIS-V2."""


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


def stick_breaking(log_fraction: Tensor, log_rest: Tensor) -> tuple[Tensor, Tensor]:
    """K masks from the fractions that the first K-1 slots take.

    log s_1 = 0; log m_k = log s_k + log a_k; log s_{k+1} = log s_k + log(1 - a_k); m_K = s_K.

    Args:
        log_fraction: (B, K-1, 1, H, W) log a_k.
        log_rest: (B, K-1, 1, H, W) log(1 - a_k).

    Returns:
        log masks and log scopes, both (B, K, 1, H, W). The masks sum to one; K-1 = 0 gives one mask of ones.
    """
    whole = log_rest.new_zeros(log_rest.shape[0], 1, *log_rest.shape[2:])
    log_scopes = torch.cat([whole, log_rest.cumsum(1)], dim=1)  # (B, K, 1, H, W)
    return torch.cat([log_scopes[:, :-1] + log_fraction, log_scopes[:, -1:]], dim=1), log_scopes


def stick_breaking_from_logits(logits: Tensor) -> tuple[Tensor, Tensor]:
    """`stick_breaking` with a_k = sigmoid(logits), logits (B, K-1, 1, H, W)."""
    return stick_breaking(F.logsigmoid(logits), F.logsigmoid(-logits))


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


def mask_kl(log_masks: Tensor, log_other: Tensor, *, present: Tensor | None = None) -> Tensor:
    """KL(masks || other) in nats, summed over pixels.

    Both are floored at 1e-5 (no gradient below it) and renormalized over slots, as in the released GENESIS code: a mask
    that is zero where the other is not would otherwise cost infinitely much.

    Args:
        log_masks: (B, K, 1, H, W) log masks.
        log_other: (B, K, 1, H, W) log masks.
        present: (B, K) bool, the slots in use; None if all are.

    Returns:
        (B,)
    """
    first, second = _floored(log_masks, present), _floored(log_other, present)
    ratio = first.clamp_min(MASK_FLOOR / 2).log() - second.clamp_min(MASK_FLOOR / 2).log()  # only zeros are clamped
    return (first * ratio).flatten(1).sum(1)


def _floored(log_masks: Tensor, present: Tensor | None) -> Tensor:
    masks = log_masks.float().exp().clamp_min(MASK_FLOOR)
    if present is not None:
        masks = masks * present[:, :, None, None, None]
    return masks / masks.sum(1, keepdim=True)
