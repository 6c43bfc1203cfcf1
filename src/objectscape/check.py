"""`check_model`: does a model keep the contract? For ours in the tests and for yours; like Gymnasium's check_env."""

from __future__ import annotations

import copy
import math
import tempfile
from dataclasses import replace

import torch
from torch import Tensor, nn

from objectscape.contract import Decomposes, Generates, Model
from objectscape.scene import Decomposition, Losses, Scene


class ContractError(AssertionError):
    """A model breaks the contract; the message says where and what was expected."""


def check_model(model: nn.Module, scene: Scene, *, without_gradient: tuple[str, ...] = ()) -> None:
    """Check a model on a small batch; silent if all is well.

    What is checked: `forward` returns a Decomposition of the stated shapes with masks that sum to one; `loss` returns
    finite numbers and detached terms, and leaves the output alone; every parameter gets a gradient; a seed gives the
    same result; a model that decomposes works with one slot more and one less, where it lets `slots` be set; a model
    that generates samples; a `Model` comes back the same from `save_pretrained`.

    Args:
        model: is left as it was, its gradients excepted.
        scene: two or more images that the model takes.
        without_gradient: names (or prefixes) of parameters that rightly get none.

    Raises:
        ContractError: at the first thing that is wrong.
    """
    scene = replace(scene, image=scene.pixels)
    was_training = model.training
    try:
        _check_forward(model, scene)
        _check_gradients(model, scene, without_gradient)
        _check_determinism(model, scene)
        _check_slots(model, scene)
        _check_sample(model, scene)
        _check_saving(model, scene)
    finally:
        model.train(was_training)


def _run(model: nn.Module, scene: Scene, *, training: bool) -> Decomposition:
    torch.manual_seed(0)
    output = model.train(training)(scene)
    _expect(isinstance(output, Decomposition), f"forward returned a {type(output).__name__}; expected a Decomposition")
    return output


def _check_forward(model: nn.Module, scene: Scene) -> None:
    for training in (True, False):
        output = _run(copy.deepcopy(model), scene, training=training)
        _check_shapes(output, scene, getattr(model, "slots", None) if isinstance(model, Decomposes) else None)


def _check_shapes(output: Decomposition, scene: Scene, slots: int | None) -> None:
    *lead, channels, height, width = scene.image.shape
    count = output.masks.shape[-4]
    expected = {
        "recon": (*lead, channels, height, width),
        "masks": (*lead, count, 1, height, width),
        "components": (*lead, count, 3, height, width),
    }
    for name, shape in expected.items():
        found = tuple(getattr(output, name).shape)
        _expect(
            found == shape, f"output.{name} has shape {found}; expected {shape} for images {tuple(scene.image.shape)}"
        )
    found = tuple(output.slots.shape)
    _expect(found[:-1] == (*lead, count), f"output.slots has shape {found}; expected {(*lead, count)} and D")
    _expect(slots is None or slots == count, f"model.slots is {slots}, but output.masks has {count} slots")
    for name in ("recon", "masks", "components", "slots"):
        value = getattr(output, name)
        _expect(bool(value.isfinite().all()), f"output.{name} is not finite")
    total = output.masks.sum(-4)
    _expect(bool((output.masks >= 0).all()), f"output.masks has negative values, down to {output.masks.min():.3g}")
    off = float((total.detach() - 1).abs().max())
    _expect(off < 1e-3, f"output.masks sums to 1 only up to {off:.3g} over the slots")


def _check_gradients(model: nn.Module, scene: Scene, exempt: tuple[str, ...]) -> None:
    model.zero_grad(set_to_none=True)
    output = _run(model, scene, training=True)
    before = output.recon.detach().clone()
    losses = model.loss(scene, output, 0)  # type: ignore[operator]
    _expect(isinstance(losses, Losses), f"loss returned a {type(losses).__name__}; expected Losses")
    _expect(losses.total.ndim == 0, f"losses.total has shape {tuple(losses.total.shape)}; expected a scalar")
    _expect(math.isfinite(float(losses.total)), f"losses.total is {float(losses.total)}")
    for name, term in losses.terms.items():
        _expect(isinstance(term, Tensor) and term.ndim == 0, f"losses.terms[{name!r}] is not a scalar tensor")
        _expect(not term.requires_grad, f"losses.terms[{name!r}] still has its graph; detach it")
    _expect(torch.equal(before, output.recon.detach()), "loss changed output.recon")
    losses.total.backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name.startswith(exempt or ("\0",)):
            continue
        reached = parameter.grad is not None and bool((parameter.grad != 0).any())
        _expect(reached, f"parameter {name} gets no gradient: it would never be trained")
    model.zero_grad(set_to_none=True)


def _check_determinism(model: nn.Module, scene: Scene) -> None:
    first, second = (_run(copy.deepcopy(model), scene, training=True) for _ in range(2))
    same = torch.equal(first.recon, second.recon)
    _expect(same, "two runs with the same seed differ: draw random numbers with objectscape.nn.distributions only")


def _check_slots(model: nn.Module, scene: Scene) -> None:
    if not isinstance(model, Decomposes):
        return
    for slots in (model.slots + 1, model.slots - 1):
        other = copy.deepcopy(model)
        try:
            other.slots = slots
        except ValueError:
            continue  # the model says why it cannot
        _check_shapes(_run(other, scene, training=False), scene, slots)


def _check_sample(model: nn.Module, scene: Scene) -> None:
    if not isinstance(model, Generates):
        return
    model.eval()
    output = model.sample(2)
    images = replace(scene, image=scene.image[:1].expand(2, *scene.image.shape[1:]), segments=None)
    _check_shapes(output, Scene(image=images.image), None)


def _check_saving(model: nn.Module, scene: Scene) -> None:
    if not isinstance(model, Model):
        return
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder)
    same = torch.equal(_run(model, scene, training=False).recon, _run(again, scene, training=False).recon)
    _expect(same, "the model that from_pretrained gives back redraws the same scene differently")


def _expect(fulfilled: bool, message: str) -> None:
    if not fulfilled:
        raise ContractError(message)
