"""Changes to initial weights, for models that are trained in minutes."""

from __future__ import annotations

import torch
from torch import nn


def scale_weights(*modules: nn.Module, gain: float) -> None:
    """Multiply the weights, not the biases, of all linear layers and convolutions in `modules` by `gain`."""
    with torch.no_grad():
        for module in modules:
            for layer in module.modules():
                if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                    layer.weight.mul_(gain)
