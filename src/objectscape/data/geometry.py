"""Crops and resizing of stored images and labels, exactly as the published pipelines do them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

NEAREST = "nearest"
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}  # both antialiased


def crop_center(images: Tensor, size: int) -> Tensor:
    """The central `size` x `size` pixels of (..., H, W); an odd rest loses its extra row below and on the right."""
    top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
    return images[..., top : top + size, left : left + size]


def to_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) uint8 of an RGB image."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def resize_nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., H, W) to `size` by source index floor(i * H / h) in float32, as torch's `interpolate`; any dtype."""
    height, width = maps.shape[-2:]
    if (height, width) == size:
        return maps
    rows = (torch.arange(size[0], dtype=torch.float32) * (height / size[0])).long()
    columns = (torch.arange(size[1], dtype=torch.float32) * (width / size[1])).long()
    return maps[..., rows[:, None], columns]


def owns_pixels(segments: Tensor, objects: int) -> Tensor:
    """(B, objects) bool: which of the labels 1..objects occur in (B, H, W) non-negative segments."""
    found = torch.zeros(len(segments), objects + 1, dtype=torch.bool)
    return found.scatter_(1, segments.flatten(1).long(), True)[:, 1:]


def resize_image(image: Tensor, size: tuple[int, int], filter: str) -> Tensor:
    """One image to `size` (H, W) with "nearest" or Pillow's antialiased "bilinear" or "bicubic".

    Args:
        image: (3, H, W) uint8, rounded after each pass as Pillow does; or (H, W) float32.
    """
    if filter == NEAREST or tuple(image.shape[-2:]) == size:
        return resize_nearest(image, size)
    array = image.numpy() if image.ndim == 2 else image.permute(1, 2, 0).contiguous().numpy()
    resized = torch.from_numpy(np.array(Image.fromarray(array).resize((size[1], size[0]), FILTERS[filter])))
    return resized if image.ndim == 2 else resized.permute(2, 0, 1)  # 3, h, w
