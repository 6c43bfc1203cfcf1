"""Colors of slots and segments, the same in every picture of the library.

The first seven are those of Okabe and Ito (2008, "Color universal design"). The others were found by a greedy search
for the color that is farthest, in OKLab, from all chosen ones, from white, black and the two grays below, as seen with
normal vision and with simulated protanopia and deuteranopia (matrices of Machado, Oliveira and Fernandes, 2009).
"""

from __future__ import annotations

import torch
from torch import Tensor

SLOT_COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#3C0F87"),
    *("#784B0F", "#78FFB4", "#8778FF", "#690F00", "#E10FD2", "#0000FF", "#00D287", "#964B78"),
)
"""Color of slot k (0-based) and of ground-truth object k + 1."""
BACKGROUND_COLOR = "#404040"
"""Ground-truth background (segment 0), and the slot that matches it."""
BACKGROUND = -1
"""Number of that color, where colors have numbers."""
IGNORE_COLOR = "#C8C8C8"
"""Pixels that the ground truth asks to ignore (segment -1)."""


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def slot_colors(count: int) -> Tensor:
    """(count, 3) uint8 RGB colors of slots 0..count-1; from the 17th on they repeat."""
    return torch.tensor([_rgb(SLOT_COLORS[k % len(SLOT_COLORS)]) for k in range(count)], dtype=torch.uint8).view(-1, 3)


def palette(numbers: Tensor) -> Tensor:
    """The colors with these numbers: (...) -> (..., 3) uint8. `BACKGROUND` is that of the true background."""
    colors = torch.cat([slot_colors(len(SLOT_COLORS)), torch.tensor([_rgb(BACKGROUND_COLOR)], dtype=torch.uint8)])
    places = torch.where(numbers < 0, len(SLOT_COLORS), numbers.long() % len(SLOT_COLORS))
    return colors.to(numbers.device)[places]


def color_slots(owners: Tensor, numbers: Tensor | None = None) -> Tensor:
    """Colors of the slots that own the pixels.

    Args:
        owners: (..., H, W) integer slot numbers from 0, such as `Decomposition.segments`.
        numbers: (..., K) of the slots' colors, from `colors_of_slots`; None for the slots' own numbers.

    Returns:
        (..., 3, H, W) uint8.
    """
    owners = owners.long()
    if numbers is not None:
        owners = numbers.gather(-1, owners.flatten(-2)).view(owners.shape)
    return palette(owners).movedim(-1, -3)


def color_segments(segments: Tensor) -> Tensor:
    """Colors of a ground-truth map: object n as slot n - 1, background and ignored pixels in grays of their own.

    Args:
        segments: (..., H, W) integers: 0 background, 1..N objects, -1 ignore, as in `Scene.segments`.

    Returns:
        (..., 3, H, W) uint8.
    """
    ids = segments.long()
    grays = torch.tensor([_rgb(BACKGROUND_COLOR), _rgb(IGNORE_COLOR)], dtype=torch.uint8, device=ids.device)
    objects = color_slots((ids - 1).clamp_min(0)).movedim(-3, -1)  # (..., H, W, 3)
    return torch.where((ids > 0)[..., None], objects, grays[(ids < 0).long()]).movedim(-1, -3)


def color_masks(masks: Tensor, numbers: Tensor | None = None) -> Tensor:
    """Mixture of the slots' colors, weighted by the masks: a pixel shared by two slots has a color between theirs.

    Args:
        masks: (..., K, 1, H, W) non-negative; weights are normalized over K.
        numbers: (..., K) of the slots' colors, from `colors_of_slots`; None for the slots' own numbers.

    Returns:
        (..., 3, H, W) uint8.
    """
    weights = masks.squeeze(-3).float()  # (..., K, H, W)
    weights = weights / weights.sum(-3, keepdim=True).clamp_min(1e-8)
    own = torch.arange(weights.shape[-3], device=weights.device)
    colors = palette(own if numbers is None else numbers).to(weights.device, torch.float32)  # (..., K, 3)
    return torch.einsum("...khw,...kc->...chw", weights, colors).round().clamp(0, 255).to(torch.uint8)
