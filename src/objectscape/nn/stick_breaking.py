"""Masks by stick-breaking in log space: each slot takes a fraction of what is left, the last slot takes the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
