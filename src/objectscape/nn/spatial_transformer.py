"""Cutting glimpses out of images and pasting them back, by boxes without rotation (Jaderberg et al. 2015).

A box is `where` = (sx, sy, tx, ty): width and height as fractions of the image, center from -1 (left, top) to 1.
Without rotation, bilinear interpolation separates: every output row is a blend of at most two input rows, and so for
columns. Both directions are therefore two small matrix products, with hat functions as weights. They equal
`affine_grid` and `grid_sample(padding_mode="zeros")`, values and gradients, at a fraction of the time on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.nn.mixtures import full_precision

SMALLEST = 1e-9  # added to a size before division, as in the released code of SPACE


def extract(images: Tensor, where: Tensor, size: int, *, align_corners: bool = True) -> Tensor:
    """The image under each box, resampled.

    Args:
        images: (B, C, H, W)
        where: (B, K, 4)
        size: side G of the glimpses in pixels.
        align_corners: whether -1 and 1 are the centers of the outermost pixels (else their outer edges).

    Returns:
        (B, K, C, G, G); zero outside the image.
    """
    sizes, centers = where.split(2, -1)
    height, width = images.shape[-2:]
    columns = _hats(sizes[..., 0], centers[..., 0], size, width, align_corners)  # (B, K, G, W)
    rows = _hats(sizes[..., 1], centers[..., 1], size, height, align_corners)  # (B, K, G, H)
    with torch.autocast(images.device.type, enabled=False):  # half precision would shift what is cut out
        flat = full_precision(images).flatten(1, 2) @ columns.flatten(1, 2).mT  # (B, C * H, K * G)
        strips = flat.unflatten(1, images.shape[1:3]).unflatten(3, columns.shape[1:3])  # (B, C, H, K, G)
        return rows.unsqueeze(2) @ strips.permute(0, 3, 1, 2, 4)  # (B, K, C, G, G)


def paste(glimpses: Tensor, where: Tensor, size: tuple[int, int], *, align_corners: bool = True) -> Tensor:
    """Each glimpse on an empty canvas, at its box.

    Args:
        glimpses: (B, K, C, G, G)
        where: (B, K, 4)
        size: (H, W) of the canvas.
        align_corners: see `extract`.

    Returns:
        (B, K, C, H, W); zero outside the box.
    """
    sizes, centers = where.split(2, -1)
    inverse = 1 / (sizes + SMALLEST)
    shift = -centers * inverse
    side = glimpses.shape[-1]
    columns = _hats(inverse[..., 0], shift[..., 0], size[1], side, align_corners)  # (B, K, W, G)
    rows = _hats(inverse[..., 1], shift[..., 1], size[0], side, align_corners)  # (B, K, H, G)
    with torch.autocast(glimpses.device.type, enabled=False):
        return rows.unsqueeze(2) @ full_precision(glimpses) @ columns.unsqueeze(2).mT


def _hats(scale: Tensor, shift: Tensor, outputs: int, inputs: int, align_corners: bool) -> Tensor:
    """(..., outputs, inputs) weights of bilinear interpolation at scale * u + shift, u from -1 to 1."""
    scale, shift = full_precision(scale), full_precision(shift)
    steps = torch.arange(outputs, dtype=scale.dtype, device=scale.device)
    pixels = torch.arange(inputs, dtype=scale.dtype, device=scale.device)
    if align_corners:
        u = 2 * steps / max(outputs - 1, 1) - 1
        at = (scale.unsqueeze(-1) * u + shift.unsqueeze(-1) + 1) * ((inputs - 1) / 2)
    else:
        u = (2 * steps + 1) / outputs - 1
        at = ((scale.unsqueeze(-1) * u + shift.unsqueeze(-1) + 1) * inputs - 1) / 2
    return (1 - (at.unsqueeze(-1) - pixels).abs()).clamp_min(0)


def boxes_of(where: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 4) pixels x0 y0 x1 y1 in an image of `size` (H, W), from `where` (..., 4). They may leave the image."""
    half, center = where.split(2, -1)[0] / 2, (where.split(2, -1)[1] + 1) / 2
    edges = torch.cat([center - half, center + half], -1)
    return edges * edges.new_tensor([size[1], size[0], size[1], size[0]])


def where_of(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `boxes_of`."""
    first, last = (boxes / boxes.new_tensor([size[1], size[0], size[1], size[0]])).split(2, -1)
    return torch.cat([last - first, first + last - 1], -1)
