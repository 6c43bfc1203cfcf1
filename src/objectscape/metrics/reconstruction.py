"""How well an image is redrawn: mean squared error and peak signal-to-noise ratio, per image and over a data set.

Images are (B, [T,] C, H, W) in [0, 1], or uint8, which is divided by 255. Nothing is clipped or quantized: a decoder
that leaves [0, 1] pays for it. Every pixel counts, the background included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.metrics.per_image import PerImageMetric


def mse(true: Tensor, pred: Tensor) -> Tensor:
    """(B,) squared error, averaged over [T,] C, H, W."""
    return _squared_error(true, pred).flatten(1).mean(1)


def psnr(true: Tensor, pred: Tensor, *, data_range: float = 1.0) -> Tensor:
    """(B,) 10 log10(data_range^2 / MSE) in dB; infinite for equal images. A clip's value is the mean over its frames.

    Args:
        true: (B, [T,] C, H, W) the images.
        pred: the redrawn images, same shape.
        data_range: largest minus smallest possible value of a pixel.
    """
    errors = _squared_error(true, pred).mean((-3, -2, -1))  # (B, [T])
    return (10 * torch.log10(data_range**2 / errors)).view(len(errors), -1).mean(1)


def _squared_error(true: Tensor, pred: Tensor) -> Tensor:
    if true.shape != pred.shape or true.ndim not in (4, 5) or not true.numel():
        raise ValueError(
            f"images of shape {tuple(true.shape)} and {tuple(pred.shape)} cannot be compared; "
            "expected two of the same shape (B, [T,] C, H, W) with at least one pixel."
        )
    return (_pixels(true) - _pixels(pred)).square()


def _pixels(image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image.float() / 255
    if not image.is_floating_point():
        raise ValueError(f"images have dtype {image.dtype}; expected uint8 (0..255) or floating point ([0, 1]).")
    return image if image.dtype == torch.float64 else image.float()


class ReconstructionMSE(PerImageMetric):
    """Mean over images of `mse`."""

    higher_is_better = False
    plot_lower_bound = 0.0

    def __init__(self) -> None:
        super().__init__()

    def update(self, true: Tensor, pred: Tensor) -> None:
        """Take in a batch of images and their reconstructions, both (B, [T,] C, H, W)."""
        self._add(mse(true, pred))


class PSNR(PerImageMetric):
    """Mean over images of `psnr`, in dB: the mean of logarithms, not the logarithm of the mean error.

    Args:
        data_range: largest minus smallest possible value of a pixel.
    """

    higher_is_better = True

    def __init__(self, *, data_range: float = 1.0) -> None:
        if data_range <= 0:
            raise ValueError(f"data_range is {data_range}; it must be positive: 1.0 for images in [0, 1].")
        super().__init__(data_range)
        self.data_range = data_range

    def update(self, true: Tensor, pred: Tensor) -> None:
        """Take in a batch of images and their reconstructions, both (B, [T,] C, H, W)."""
        self._add(psnr(true, pred, data_range=self.data_range))
