"""KL divergence between two sets of masks, seen as one categorical distribution over slots per pixel."""

from __future__ import annotations

from torch import Tensor

MASK_FLOOR = 1e-5
"""Smallest mask value, before renormalization, in the mask KL of MONet and GENESIS-V2."""


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
