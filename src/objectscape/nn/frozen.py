"""A trained part inside a model that is being trained."""

from __future__ import annotations

from typing import Any, Self

from torch import nn


class Frozen(nn.Module):
    """Keeps a module as it is: its parameters require no gradient, and `train()` leaves it in eval mode.

    Gradients still flow through it to its inputs.

    Args:
        module: what to freeze, in place; reached as `.module`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever `mode` is."""
        return super().train(False)

    def forward(self, *inputs: Any) -> Any:
        """What the module makes of the inputs."""
        return self.module(*inputs)
