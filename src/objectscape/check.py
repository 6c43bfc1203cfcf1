"""Does a model keep the contract (`check_model`), and does it fit a data set (`check_fit`)?

`check_model` is for your own models as for ours: it tries one on a small batch, as Gymnasium's `check_env` tries an
environment, and says everything that is wrong at once. `objectscape train` runs it for a class of your own.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from objectscape.contract import Decomposes, Generates, Model, see
from objectscape.scene import Decomposition, Losses, Scene, Tensors

if TYPE_CHECKING:
    from objectscape.data.dataset import SceneDataset

log = logging.getLogger(__name__)

Findings = Iterator[str]


class ContractError(ValueError):
    """A model breaks the contract.

    Attributes:
        findings: what is wrong and what was expected, one sentence each.
    """

    def __init__(self, name: str, findings: list[str]) -> None:
        self.findings = findings
        ways = "one way" if len(findings) == 1 else f"{len(findings)} ways"
        super().__init__(f"{name} breaks the contract of models in {ways}:" + "".join(f"\n  - {f}" for f in findings))


def check_model(
    model: nn.Module, batch: Tensors, *, without_gradient: tuple[str, ...] = (), strict: bool = True
) -> None:
    """Try a model on a small batch; silent if all is well.

    What is checked: `forward` gives finite tensors; a `Decomposition` has the stated shapes, and masks that sum to one;
    `loss` returns a finite scalar with its graph and detached terms, and leaves the output alone; every parameter gets
    a gradient; a seed gives the same result; a model that decomposes works with one slot more and one less, where it
    lets `slots` be set; a model that generates samples; a `Model` comes back the same from `save_pretrained`; options
    are keyword-only and have defaults.

    Args:
        model: is left as it was; all checks work on copies of it.
        batch: two or more items that the model takes, such as a Scene of two images.
        without_gradient: names (or prefixes) of parameters that rightly get none.
        strict: False: only what makes training impossible is an error, the rest is logged as warnings.

    Raises:
        ContractError: with everything that is wrong.
    """
    errors: list[str] = []
    warnings: list[str] = []
    with torch.random.fork_rng(devices=[]):
        for doing, fatal, check in (
            ("forward(batch)", True, _forward),
            ("loss(batch, output, 0)", True, _loss),
            ("losses.total.backward()", False, partial(_gradients, exempt=without_gradient)),
            ("a second forward(batch)", False, _determinism),
            ("forward(batch) with another number of slots", False, _slots),
            ("sample(2)", False, _samples),
            ("save_pretrained and from_pretrained", False, _saving),
            ("the constructor", False, _constructor),
        ):
            found: list[str] = []
            try:
                found.extend(check(copy.deepcopy(model), batch))
            except Exception as error:  # whatever a model under test raises is a finding
                found.append(f"{doing} raised {type(error).__name__}: {error}")
            (errors if fatal or strict else warnings).extend(found)
            if found and fatal:
                break  # what follows would only say the same again
    for warning in warnings:
        log.warning("%s: %s", type(model).__name__, warning)
    if errors:
        raise ContractError(type(model).__name__, errors)


def check_fit(model: nn.Module, dataset: SceneDataset) -> None:
    """Stop on a model that cannot take the data; warn when it has fewer slots than the data has objects.

    Raises:
        ValueError: if sizes differ (it proposes one that the model can be built for, or else to resize the data), or
            saved latents come from another model than those that the model knows.
    """
    spec = dataset.spec
    size = getattr(model, "image_size", None)
    size = (size, size) if isinstance(size, int) else size
    if size is not None and spec.image_size is not None and tuple(size) != tuple(spec.image_size):
        own, given = _words(size), _words(spec.image_size)
        reason = _refusal(model, spec.image_size)
        remedy = f"Set model.image_size={given}, or data.image_size={own} to resize the data."
        if reason:
            remedy = f"It cannot be built for theirs ({reason}); set data.image_size={own} to resize the data."
        raise ValueError(
            f"the model is built for images of {size[0]}x{size[1]} pixels, but {spec.name} has "
            f"{spec.image_size[0]}x{spec.image_size[1]}. {remedy}"
        )
    wanted_from = getattr(model, "latents_from", {})
    for entry, found in getattr(dataset, "origin", {}).items():
        if entry in wanted_from and wanted_from[entry] != found:
            raise ValueError(
                f"the saved {entry} come from another model ({found[:12]}) than the workspace's domain "
                f"({wanted_from[entry][:12]}); make them again with objectscape latents."
            )
    slots = getattr(model, "slots", None)
    if isinstance(slots, int) and spec.max_objects is not None and slots < spec.max_objects + 1:
        log.warning(
            "slots=%d but scenes of %s have up to %d objects: model.slots=%d would give each object and the background "
            "its own.",
            slots, spec.name, spec.max_objects, spec.max_objects + 1,
        )  # fmt: skip


def _words(size: Any) -> str:
    height, width = size
    return str(height) if height == width else f"[{height},{width}]"


def _refusal(model: nn.Module, size: tuple[int, int]) -> str | None:
    """Why the model cannot be built for images of this size; None if it can, or cannot be asked."""
    if not isinstance(model, Model) or "image_size" not in model.config:
        return None
    side = size[0] if size[0] == size[1] else list(size)
    with torch.random.fork_rng(devices=[]):
        try:
            type(model)(**{**model.config, "image_size": side})
        except (ValueError, TypeError, RuntimeError) as error:
            return str(error).splitlines()[0].rstrip(".")
    return None


def _run(model: nn.Module, batch: Tensors, *, training: bool) -> Any:
    torch.manual_seed(0)
    return see(model.train(training), batch)


def _forward(model: nn.Module, batch: Tensors) -> Findings:
    for training in (True, False):
        output = _run(copy.deepcopy(model), batch, training=training)
        if isinstance(batch, Scene) and not isinstance(output, Decomposition):
            yield f"forward returned a {type(output).__name__}; expected a Decomposition"
        elif not isinstance(output, Tensors):
            yield f"forward returned a {type(output).__name__}; expected a record of tensors (objectscape.scene.record)"
        elif isinstance(output, Decomposition) and isinstance(batch, Scene):
            slots = getattr(model, "slots", None) if isinstance(model, Decomposes) else None
            found = list(_shapes(output, batch, slots))
            yield from found
            if found:
                return
        else:
            bad = [str(index) for index, leaf in enumerate(_leaves(output)) if not bool(leaf.isfinite().all())]
            if bad:
                yield f"{type(output).__name__} has tensors that are not finite (number {', '.join(bad)})"


def _shapes(output: Decomposition, scene: Scene, slots: int | None) -> Findings:
    *lead, channels, height, width = scene.image.shape
    count = output.masks.shape[-4]
    expected = {
        "recon": (*lead, channels, height, width),
        "masks": (*lead, count, 1, height, width),
        "components": (*lead, count, 3, height, width),
    }
    for name, shape in expected.items():
        found = tuple(getattr(output, name).shape)
        if found != shape:
            yield f"output.{name} has shape {found}; expected {shape} for images {tuple(scene.image.shape)}"
    found = tuple(output.slots.shape)
    if found[:-1] != (*lead, count):
        yield f"output.slots has shape {found}; expected {(*lead, count)} and D"
    if slots is not None and slots != count:
        yield f"model.slots is {slots}, but output.masks has {count} slots"
    for name in ("recon", "masks", "components", "slots"):
        if not bool(getattr(output, name).isfinite().all()):
            yield f"output.{name} is not finite"
    if bool((output.masks < 0).any()):
        yield f"output.masks has negative values, down to {float(output.masks.min()):.3g}"
    off = float((output.masks.sum(-4).detach() - 1).abs().max())
    if not off < 1e-3:
        yield f"output.masks sums to 1 only up to {off:.3g} over the slots"


def _loss(model: nn.Module, batch: Tensors) -> Findings:
    output = _run(model, batch, training=True)
    before = [leaf.detach().clone() for leaf in _leaves(output)]
    losses = model.loss(_float(batch), output, 0)  # type: ignore[operator]
    if not isinstance(losses, Losses):
        yield f"loss returned a {type(losses).__name__}; expected Losses"
        return
    if losses.total.ndim != 0:
        yield f"losses.total has shape {tuple(losses.total.shape)}; expected a scalar"
    elif not math.isfinite(float(losses.total.detach())):
        yield f"losses.total is {float(losses.total.detach())}"
    if not losses.total.requires_grad:
        yield "losses.total has no graph: nothing would be trained; do not detach it"
    for name, term in losses.terms.items():
        if not isinstance(term, Tensor) or term.ndim != 0:
            yield f"losses.terms[{name!r}] is not a scalar tensor"
        elif term.requires_grad:
            yield f"losses.terms[{name!r}] still has its graph; detach it"
    if not all(torch.equal(a, b) for a, b in zip(before, _leaves(output), strict=True)):
        yield "loss changed the output"


def _gradients(model: nn.Module, batch: Tensors, exempt: tuple[str, ...]) -> Findings:
    for prefix in exempt:
        if not any(name.startswith(prefix) for name, _ in model.named_parameters()):
            yield f"without_gradient names {prefix!r}, but no parameter is called so"
    model.zero_grad(set_to_none=True)
    output = _run(model, batch, training=True)
    model.loss(_float(batch), output, 0).total.backward()  # type: ignore[operator]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name.startswith(exempt or ("\0",)):
            continue
        if parameter.grad is None or not bool((parameter.grad != 0).any()):
            yield f"parameter {name} gets no gradient: it would never be trained"


def _determinism(model: nn.Module, batch: Tensors) -> Findings:
    first, second = (_run(copy.deepcopy(model), batch, training=True) for _ in range(2))
    if not _same(first, second):
        yield "two runs with the same seed differ: draw random numbers with objectscape.nn.distributions only"


def _slots(model: nn.Module, batch: Tensors) -> Findings:
    if not isinstance(model, Decomposes) or not isinstance(batch, Scene):
        return
    for slots in (model.slots + 1, model.slots - 1):
        other = copy.deepcopy(model)
        try:
            other.slots = slots
        except (ValueError, AttributeError):
            continue  # the model says why it cannot, or has no setter
        for finding in _shapes(_run(other, batch, training=False), batch, slots):
            yield f"with slots={slots}: {finding}"


def _samples(model: nn.Module, batch: Tensors) -> Findings:
    if not isinstance(model, Generates) or not isinstance(batch, Scene):
        return
    output = model.eval().sample(2)
    image = batch.image[:1].expand(2, *batch.image.shape[1:])
    image = image[:, 0] if image.ndim > output.recon.ndim else image
    for finding in _shapes(output, Scene(image=image), None):
        yield f"sample(2): {finding}"


def _saving(model: nn.Module, batch: Tensors) -> Findings:
    if not isinstance(model, Model):
        yield "it is not a subclass of objectscape.Model: it can be trained, but not saved with its description"
        return
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder)
    if not _same(_run(model, batch, training=False), _run(again, batch, training=False)):
        yield "the model that from_pretrained gives back makes something else of the same batch"


def _constructor(model: nn.Module, batch: Tensors) -> Findings:
    for name, parameter in inspect.signature(type(model)).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            yield f"__init__ takes {name} by position or as *args; make every option keyword-only"
        elif parameter.default is parameter.empty:
            yield f"option {name} has no default; give it the paper's value"


def _float(batch: Tensors) -> Tensors:
    return replace(batch, image=batch.pixels) if isinstance(batch, Scene) else batch


def _leaves(value: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _same(first: Any, second: Any) -> bool:
    pairs = list(zip(_leaves(first), _leaves(second), strict=False))
    return len(_leaves(first)) == len(_leaves(second)) and all(torch.equal(a, b) for a, b in pairs)
