"""Several optimizers behind one, for models whose parts are trained by different methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer


class Optimizers(Optimizer):
    """One optimizer made of several, each for parameters of its own.

    To its surroundings (learning-rate schedule, joint gradient clipping, mixed precision, checkpoints) it is a single
    optimizer with all the parameter groups. The children share its groups and its state, and do the stepping.

    Args:
        optimizers: the children; no parameter belongs to two of them.

    Raises:
        ValueError: without children, or for a parameter that two of them have.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for child in self.optimizers for group in child.param_groups], {})
        self._bind()

    def _bind(self) -> None:
        """Give the children the groups and the state of the whole."""
        groups = iter(self.param_groups)
        for child in self.optimizers:
            child.param_groups = [next(groups) for _ in child.param_groups]
            child.state = self.state

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every child, after one evaluation of `closure`, whose value is returned."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for child in self.optimizers:
            child.step()
        return value

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Called by `load_state_dict`, which puts new objects in the place of the groups and the state."""
        super().__setstate__(state)
        self._bind()
