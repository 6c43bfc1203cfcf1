"""The first convolution of a broadcast decoder, without the broadcast image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve_broadcast(
    vectors: Tensor, place: Tensor, weight: Tensor, bias: Tensor | None, *, on_place: Tensor, padding: int | str
) -> Tensor:
    """The convolution of vectors broadcast over an image, joined with (or added to) something that all images share.

    A vector is the same at every pixel, so its part of the result differs only where the kernel reaches over the
    border. One tile as large as the kernel shows all these cases; its middle is repeated up to the size of the image.
    The shared part, such as coordinates, is convolved once for all N.

    Args:
        vectors: (N, D).
        place: (C, H, W) what all images share, in float32; bfloat16 would blur neighboring coordinates.
        weight: (O, D, k, k) the kernel on the vectors.
        bias: (O,) or None.
        on_place: (O, C, k, k) the kernel on `place`: `weight` itself if `place` is added to the vectors.
        padding: of the convolution, at most (k - 1) / 2, or "same".

    Returns:
        (N, O, H', W')
    """
    kernel = weight.shape[-1]
    tile = F.conv2d(vectors[:, :, None, None].expand(-1, -1, kernel, kernel), weight, bias, padding=padding)
    with torch.autocast(vectors.device.type, enabled=False):
        shared = F.conv2d(place[None], on_place, padding=padding)  # (1, O, H', W')
    for dim in (2, 3):
        margin = tile.shape[dim] // 2
        start, middle, end = tile.split([margin, 1, tile.shape[dim] - margin - 1], dim)
        repeated = middle.repeat_interleave(shared.shape[dim] - tile.shape[dim] + 1, dim)
        tile = torch.cat([start, repeated, end], dim)
    return tile + shared.to(tile.dtype)
