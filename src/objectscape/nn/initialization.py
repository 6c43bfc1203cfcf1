"""Initial weights that several models share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def initialize_glorot(module: nn.Module, *, weights: Callable[[Tensor], Tensor] = nn.init.xavier_uniform_) -> None:
    """Glorot weights and zero biases in linear layers and convolutions; orthogonal recurrence in GRUs.

    With the uniform `weights` these are Keras' defaults.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            weights(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.GRUCell):
            nn.init.xavier_uniform_(layer.weight_ih)
            nn.init.orthogonal_(layer.weight_hh)
            nn.init.zeros_(layer.bias_ih)
            nn.init.zeros_(layer.bias_hh)


def scale_weights(*modules: nn.Module, gain: float) -> None:
    """Multiply the weights, not the biases, of all linear layers and convolutions in `modules` by `gain`."""
    with torch.no_grad():
        for module in modules:
            for layer in module.modules():
                if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                    layer.weight.mul_(gain)
