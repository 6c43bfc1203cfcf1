"""LPIPS, how different two pictures look to a network: AlexNet, version 0.1.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR 2018, arXiv 1801.03924).

Features of the five convolutions are normalized at every pixel; their squared differences are weighed by channel with
learned weights, averaged over the picture, and summed over the layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 31
"""Side in pixels below which AlexNet has nothing left."""
WIDTHS = (64, 192, 384, 256, 256)


class AlexNetFeatures(nn.Module):
    """The convolutions of AlexNet, with torchvision's keys."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the five layers after their ReLU."""
        found = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return found


class LPIPS(nn.Module):
    """Distance of pictures; symmetric, 0 for equal ones.

    Args:
        network: with the ImageNet weights.
        weights: of the channels of the five layers, each (C,), not negative.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: AlexNetFeatures, weights: list[Tensor]) -> None:
        super().__init__()
        if [tuple(weight.shape) for weight in weights] != [(width,) for width in WIDTHS]:
            raise ValueError(f"weights of {[tuple(w.shape) for w in weights]} channels; expected {WIDTHS}")
        self.network = network.eval()
        self.weights = nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight in weights)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1] twice -> (N,).

        Raises:
            ValueError: for pictures with fewer than 31 pixels on a side.
        """
        if min(one.shape[-2:]) < SMALLEST:
            raise ValueError(f"pictures of {one.shape[-2]} x {one.shape[-1]} pixels; LPIPS needs at least {SMALLEST}.")
        layers = [self.network((2 * x.float() - 1 - self.shift) / self.scale) for x in (one, other)]
        total = one.new_zeros(len(one), dtype=torch.float32)
        for a, b, weight in zip(*layers, self.weights, strict=True):
            square = (_normalized(a) - _normalized(b)).square()
            total = total + F.conv2d(square, weight.view(1, -1, 1, 1)).mean((1, 2, 3))
        return total


def _normalized(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
