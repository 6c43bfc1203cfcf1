"""What moving one dimension of a slot does to the picture: ranges of latents, values to move to, activeness.

A dimension is active if the picture changes as it runs through the values that latents take. Emami et al. call the
change "activeness": the variance of the drawn image over the values, averaged over pixels and channels. This file is
the arithmetic; `objectscape.evaluation.traversals` draws the images.

Source: Emami et al., Efficient Iterative Amortized Inference for Learning Symmetric and Disentangled Multi-Object
Representations, 2021, section 4.3 and appendix E, and the released evaluation code.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

LimitRule = Literal["range", "corrected", "released"]


def latent_ranges(slots: Tensor) -> Tensor:
    """Smallest and largest value of every dimension over all scenes and slots: (..., D) -> (D, 2).

    Raises:
        ValueError: if there is no slot, or a value is not finite.
    """
    values = slots.flatten(0, -2) if slots.ndim > 1 else slots
    if values.ndim != 2 or not len(values):
        raise ValueError(f"slots have shape {tuple(slots.shape)}; expected (..., D) with at least one slot.")
    if not bool(values.isfinite().all()):
        raise ValueError("slots hold NaN or infinite values: the model has diverged, and its latents have no range.")
    return torch.stack(values.aminmax(dim=0), -1)


def traversal_limits(ranges: Tensor, *, rule: LimitRule = "range") -> Tensor:
    """Between which values to move each dimension.

    Args:
        ranges: (D, 2) from `latent_ranges`, or (D, 2) lower and upper ends of your choice.
        rule: "range" runs from the smallest to the largest value that occurs. "released" is the formula of
            EfficientMORL's code: m - sqrt|m - min| to m + sqrt|max - m| with m = (max - min) / 2, half the width where
            the midpoint was meant, so that the limits leave the range unless it is symmetric about zero or nearly so.
            "corrected" is that formula with the midpoint, m = (max + min) / 2. Both widen ranges narrower than 2 and
            narrow wider ones.

    Returns:
        (D, 2) lower and upper limits.
    """
    if rule not in get_args(LimitRule):
        raise ValueError(f"rule is {rule!r}; choose one of {', '.join(map(repr, get_args(LimitRule)))}.")
    if ranges.ndim != 2 or ranges.shape[1] != 2 or bool((ranges[:, 0] > ranges[:, 1]).any()):
        raise ValueError(f"ranges are {tuple(ranges.shape)}; expected (D, 2), every row smallest then largest value.")
    if rule == "range":
        return ranges
    low, high = ranges.unbind(1)
    middle = (high - low) / 2 if rule == "released" else (high + low) / 2
    return torch.stack([middle - (middle - low).abs().sqrt(), middle + (high - middle).abs().sqrt()], 1)


def traversal_values(limits: Tensor, steps: int) -> Tensor:
    """`steps` evenly spaced values from the lower to the upper limit, both included: (D, 2) -> (D, steps)."""
    if steps < 2:
        raise ValueError(f"steps={steps}; a traversal has two ends, so at least 2.")
    weight = torch.linspace(0, 1, steps, dtype=limits.dtype, device=limits.device)
    return torch.lerp(limits[:, :1], limits[:, 1:], weight)  # (D, steps)


def image_variance(images: Tensor) -> Tensor:
    """Unbiased variance over the S images of a traversal, averaged over pixels: (..., S, C, H, W) -> (...)."""
    return images.var(-4).mean((-3, -2, -1))


def active_dimensions(activeness: Tensor) -> Tensor:
    """How many dimensions share the activeness: exp of the entropy of its distribution over them, between 1 and D.

    D equally active dimensions count D, one alone counts 1, whatever the contrast of the pictures; dimensions that do
    next to nothing count next to nothing, without a threshold.

    Args:
        activeness: (..., D) not negative.

    Returns:
        (...): NaN where no dimension does anything.
    """
    share = activeness / activeness.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).exp()
