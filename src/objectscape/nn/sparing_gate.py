"""value * sigmoid(gate), computed once more in the backward pass in place of keeping what lies between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def gate_sparingly(halves: Tensor, value_norm: nn.Module, gate_norm: nn.Module) -> Tensor:
    """`value_norm(value) * sigmoid(gate_norm(gate))` of (N, 2C, H, W) halves -> (N, C, H, W).

    Autograd would keep four maps of C channels: both halves, both factors. This keeps the halves, and normalizes them
    again when the gradient comes, which costs little beside the convolution before.

    Args:
        halves: first the value, then the gate.
        value_norm: `nn.BatchNorm2d`, `nn.InstanceNorm2d` or `nn.Identity`.
        gate_norm: the same.
    """
    result: Tensor = _Gate.apply(value_norm, gate_norm, halves, *value_norm.parameters(), *gate_norm.parameters())
    return result


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value_norm: nn.Module, gate_norm: nn.Module, halves: Tensor, *weights: Tensor) -> Tensor:
        value, gate = halves.chunk(2, 1)
        ctx.again = _again(value_norm), _again(gate_norm)
        ctx.save_for_backward(halves, *weights)
        return value_norm(value) * torch.sigmoid(gate_norm(gate))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        halves, *weights = ctx.saved_tensors
        first = len(weights) // 2
        with torch.enable_grad():
            halves = halves.detach().requires_grad_()
            value, gate = halves.chunk(2, 1)
            result = ctx.again[0](value, *weights[:first]) * torch.sigmoid(ctx.again[1](gate, *weights[first:]))
        needed = ctx.needs_input_grad[2:]
        wanted = [x for x, need in zip([halves, *weights], needed, strict=True) if need]
        slopes = iter(torch.autograd.grad(result, wanted, slope))
        return (None, None, *(next(slopes) if need else None for need in needed))


def _again(norm: nn.Module) -> Callable[..., Tensor]:
    """(x, weight, bias) -> what `norm` makes of x now, without another count of it in running means.

    The module may be in another state when the gradient comes, as after `functional_call`.
    """
    if isinstance(norm, nn.BatchNorm2d):
        mean, variance = (None, None) if norm.training else (norm.running_mean, norm.running_var)
        return lambda x, weight, bias: F.batch_norm(x, mean, variance, weight, bias, mean is None, eps=norm.eps)
    if isinstance(norm, nn.InstanceNorm2d):
        return lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias, eps=norm.eps)
    return lambda x: x
