"""Models that follow gradients inside their forward pass, whatever the caller records."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def follows_gradients(method: Callable[P, R]) -> Callable[P, R]:
    """Let `method` take gradients under `torch.inference_mode` as well.

    Inference mode forbids gradients even below `torch.enable_grad`. So the call leaves it, records nothing for the
    caller, and works on copies of its tensors, for those made in inference mode cannot be differentiated.
    """

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
            return method(*args, **kwargs)
        with torch.inference_mode(False), torch.no_grad():
            return method(*map(_copied, args), **{key: _copied(value) for key, value in kwargs.items()})

    return wrapped


def _copied(value: Any) -> Any:
    if isinstance(value, torch.nn.Module):
        return value
    if isinstance(value, Tensor):
        return value.clone()
    return value.map(torch.clone) if hasattr(value, "map") else value


def node(params: Tensor, recording: bool = True) -> Tensor:
    """`params` as something to differentiate by: cut off from the past unless the caller records it."""
    if not torch.is_grad_enabled() or (recording and params.requires_grad):
        return params
    return params.detach().requires_grad_()
