"""What happens to an image before a feature extractor sees it: part of the definition of a Frechet distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.nn.validation import check_at_least


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From images (B, 3, H, W) in [0, 1] to a network's input. The defaults are those of the standard FID.

    Args:
        eight_bit: quantize as a picture file does, by truncating 255 x (not rounding); values outside [0, 1] are
            clipped.
        size: side S of the square to resize to, bilinear, `align_corners=False`, no antialiasing; None keeps the size.
        symmetric: 2 x - 1 at the end, for networks that expect [-1, 1].
    """

    eight_bit: bool = True
    size: int | None = 299
    symmetric: bool = True

    def __post_init__(self) -> None:
        if self.size is not None:
            check_at_least(1, size=self.size)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or floating point in [0, 1] -> (B, 3, S, S) float32."""
        if images.ndim != 4 or images.shape[1] != 3 or not (images.dtype == torch.uint8 or images.is_floating_point()):
            raise ValueError(
                f"images of shape {tuple(images.shape)} and type {images.dtype}; expected (B, 3, H, W), uint8 or "
                "floating point in [0, 1] (clips: fold the time axis into the batch)"
            )
        x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        if self.eight_bit:
            x = (255 * x).clamp(0, 255).floor() / 255
        if self.size is not None:
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return 2 * x - 1 if self.symmetric else x

    def __str__(self) -> str:
        steps = ["8-bit by truncation"] if self.eight_bit else []
        steps += [f"bilinear to {self.size}x{self.size}"] if self.size is not None else []
        return ", ".join([*steps, "2x-1"] if self.symmetric else steps) or "none"
