"""Models that follow gradients inside their forward pass, whatever the caller records."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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


def gradient_at_once(
    compute: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, module: nn.Module
) -> tuple[Tensor, ...]:
    """What `compute(*inputs)` returns, to be differentiated as usual, without a graph of it that lives on.

    The first result is a cost (B,) whose element b depends on row b of the inputs alone. Its gradient is taken right
    away, by inputs and weights together, and only scaled later. A model that refines by this gradient and learns from
    it, too, so walks back through `compute` once, not twice, and the graphs of several calls never exist together.

    Any other gradient, of costs weighed unequally or of another result, is exact as well: `compute` then runs again.
    It must give the same again, hence it must not draw random numbers. The gradient cannot be differentiated again.

    Args:
        compute: (*inputs) -> (cost (B,), other tensors).
        inputs: tensors (B, ...).
        module: holds all parameters that `compute` reads.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return compute(*inputs)
    results: tuple[Tensor, ...] = _AtOnce.apply(compute, module, len(inputs), *inputs, *module.parameters())
    return results


class _AtOnce(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, compute: Callable[..., tuple[Tensor, ...]], module: nn.Module, count: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        results, leaves = _run(compute, count, tensors)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        ones = torch.ones_like(results[0])
        slopes = torch.autograd.grad(results[0], wanted, ones, allow_unused=True) if wanted else ()
        ctx.set_materialize_grads(False)
        ctx.compute, ctx.module, ctx.count = compute, module, count
        device = tensors[0].device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        ctx.save_for_backward(*tensors, *slopes)
        return tuple(result.detach() for result in results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[3:]
        tensors, slopes = ctx.saved_tensors[: len(needed)], ctx.saved_tensors[len(needed) :]
        cost, *others = gradients
        scaled: list[Tensor | None]
        if cost is None or any(g is not None for g in others) or bool((cost != cost[0]).any()):
            if any(a.data_ptr() != b.data_ptr() for a, b in zip(tensors[ctx.count :], ctx.module.parameters())):
                raise RuntimeError(
                    "the module's parameters are not those of the forward pass any more, as after functional_call; "
                    "take gradients of single images or of other results than the cost while they are"
                )
            device, dtype, enabled = ctx.autocast
            with torch.autocast(device, dtype, enabled=enabled):
                results, leaves = _run(ctx.compute, ctx.count, tensors)
            asked = [(r, g) for r, g in zip(results, gradients, strict=True) if g is not None]
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            scaled = [*torch.autograd.grad([r for r, _ in asked], wanted, [g for _, g in asked], allow_unused=True)]
        else:
            scaled = [None if slope is None else slope * cost[0] for slope in slopes]
        rest = iter(scaled)
        return (None, None, None, *(next(rest) if need else None for need in needed))


def _run(
    compute: Callable[..., tuple[Tensor, ...]], count: int, tensors: tuple[Tensor, ...]
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """The results of `compute` as a graph of its own, and what it begins with: copies of the inputs, the weights."""
    inputs = [x.detach().requires_grad_(x.requires_grad) for x in tensors[:count]]
    with torch.enable_grad():
        return compute(*inputs), [*inputs, *tensors[count:]]
