"""Edited scenes: points between two scenes, and scenes that exchange an object.

They need a model with `decode(slots) -> Decomposition`: all but the quickstart's small one have it. Scenes are inferred
with `posterior_means`, so the same scenes give the same pictures. `objectscape.viz` draws them: `interpolation_figure`,
`swap_figure`.

What a slot's number means differs. Where masks come from a softmax over slots (MONet, GENESIS-V2), any order of the
slots draws the same scene, so slots of two scenes can be paired freely. Where masks come from stick-breaking (GENESIS,
GENESIS-S), slot k takes a fraction of what slots 0..k-1 left, and the last slot takes all that remains, whatever its
latent says: slots are paired by their number, an exchanged object shows only where earlier slots leave room, and the
last slot cannot change places with another. Which of the two a model is, is found by decoding slots in reverse order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from objectscape.contract import see
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Decomposition, Scene

VISIBLE = 0.005
"""Least share of a picture that a slot must own to be an object of it."""
BACKGROUND_BORDER = 0.2
"""Share of a picture's border from which on a slot is taken for background."""
CONSPICUOUS = 0.002
"""Least contrast, averaged over the picture, with which a slot can hold an object."""

Latents = tuple[Tensor, Tensor]
"""slots (B, K, D); present (B, K), zero where a slot is not used."""


@torch.no_grad()
def interpolate(model: nn.Module, scene_a: Scene, scene_b: Scene, steps: int = 8) -> Decomposition:
    """Scenes on the straight lines between the latents of two scenes.

    Each slot of a moves to its partner in b: the slot with the same number if order matters to the model, else that
    of the pairing with the smallest sum of squared distances. A slot that only one of the scenes uses (GENESIS-V2
    with `dynamic_slots`) starts or ends at zero, the prior's mean.

    Args:
        model: decomposes, and decodes slots.
        scene_a: (B, 3, H, W) images.
        scene_b: as many.
        steps: points per pair, both ends included; at least 2.

    Returns:
        B * steps scenes, those of a pair one after the other, so that `samples_figure(result, columns=steps)` draws a
        pair per row. The first and last are what the model makes of the two scenes from their latents alone.

    Raises:
        ValueError: if the model cannot decode slots, the batches differ in size, or `steps` is below 2.
    """
    if steps < 2:
        raise ValueError(f"steps={steps}; a line has two ends, so at least 2")
    with _quiet(model):
        a, present_a = _infer(model, scene_a)
        b, present_b = _infer(model, scene_b)
        _check_alike(a, b)
        decode = decoder_of(model)
        if not order_matters(decode, (a, present_a)):
            partners = _pair(a, b)  # (B, K)
            b = b.gather(1, partners.unsqueeze(-1).expand_as(b))
            present_b = present_b.gather(1, partners)
        weight = torch.linspace(0, 1, steps, device=a.device)  # (T,)
        slots = torch.lerp(a[:, None], b[:, None], weight[:, None, None])  # (B, T, K, D)
        present = torch.lerp(present_a[:, None], present_b[:, None], weight[:, None])  # (B, T, K)
        return decode(slots.flatten(0, 1), present.flatten(0, 1))


@torch.no_grad()
def swap_objects(
    model: nn.Module, scene_a: Scene, scene_b: Scene, slot_a: int | Tensor, slot_b: int | Tensor
) -> tuple[Decomposition, Decomposition]:
    """Two scenes after their slots `slot_a` and `slot_b` have changed places.

    Args:
        model: decomposes, and decodes slots.
        scene_a: (B, 3, H, W) images.
        scene_b: as many.
        slot_a: of every scene of a, or (B,) one for each.
        slot_b: of every scene of b, or (B,).

    Returns:
        a with the object of b, and b with the object of a.

    Raises:
        ValueError: if the model cannot decode slots, the batches differ in size, there is no such slot, or masks are
            made by stick-breaking and only one of the two slots is the last.
    """
    with _quiet(model):
        a, present_a = _infer(model, scene_a)
        b, present_b = _infer(model, scene_b)
        _check_alike(a, b)
        decode = decoder_of(model)
        count = a.shape[1]
        at_a, at_b = (torch.as_tensor(slot, device=a.device).expand(len(a)) for slot in (slot_a, slot_b))  # (B,)
        for name, slot in (("slot_a", at_a), ("slot_b", at_b)):
            if bool(((slot < 0) | (slot >= count)).any()):
                raise ValueError(f"{name}={slot.tolist()}; the scenes have slots 0..{count - 1}")
        one_last = (at_a == count - 1) != (at_b == count - 1)
        if bool(one_last.any()) and order_matters(decode, (a, present_a)):
            raise ValueError(
                f"slot_a={at_a.tolist()}, slot_b={at_b.tolist()}: this model's last slot ({count - 1}) takes whatever "
                "the others leave, so it changes places only with the last slot of the other scene"
            )
        rows = torch.arange(len(a), device=a.device)
        for x, y in ((a, b), (present_a, present_b)):
            x[rows, at_a], y[rows, at_b] = y[rows, at_b], x[rows, at_a]
        return decode(a, present_a), decode(b, present_b)


@torch.no_grad()
def redraw(model: nn.Module, scene: Scene) -> Decomposition:
    """What a model draws from the latents of scenes alone: the "before" of every edit.

    Raises:
        ValueError: if the model cannot decode slots.
    """
    with _quiet(model):
        decode = decoder_of(model)
        slots, present = _infer(model, scene)
        drawn = decode(slots, present)
        drawn.present = present
        return drawn


def visible_slots(output: Decomposition) -> Tensor:
    """(B, K) bool: does a slot own at least one pixel in two hundred?"""
    owned = _owned(output.segments, output.masks.shape[1])
    return owned.float().mean((-2, -1)) >= VISIBLE


def object_slots(model: nn.Module, drawn: Decomposition) -> Tensor:
    """The slot of the most conspicuous object of each scene, for `swap_objects`.

    That is the slot whose part of the picture differs most, in area times contrast, from the median color of the
    picture's border. A slot that owns more than a fifth of the border is taken for background, unless all that show
    anything do, as where objects share the background. The last slot of a model whose masks come from stick-breaking
    is left out.

    Args:
        model: decodes slots.
        drawn: its drawing of the scenes, from `redraw`.

    Returns:
        (B,)

    Raises:
        ValueError: if there is only one slot.
    """
    count = drawn.masks.shape[1]
    if count == 1:
        raise ValueError(f"{type(model).__name__} draws a scene from one slot, so there are no objects to exchange")
    owned = _border(_owned(drawn.segments, count).float()).mean(-1)  # (B, K) share of the border
    color = _border(drawn.recon).median(-1).values  # (B, 3)
    contrast = (drawn.components - color[:, None, :, None, None]).abs().mean(2, keepdim=True)  # (B, K, 1, H, W)
    conspicuous = (drawn.masks * contrast).mean((2, 3, 4))  # (B, K)
    score = torch.where((owned > BACKGROUND_BORDER) | (conspicuous < CONSPICUOUS), conspicuous - 10, conspicuous)
    present = drawn.slots.new_ones(drawn.slots.shape[:2]) if drawn.present is None else drawn.present
    if order_matters(decoder_of(model), (drawn.slots, present)):
        score[:, -1] = -torch.inf
    return score.argmax(1)


def _border(image: Tensor) -> Tensor:
    """(..., H, W) -> (..., 2 H + 2 W - 4), its outermost pixels."""
    return torch.cat([image[..., 0, :], image[..., -1, :], image[..., 1:-1, 0], image[..., 1:-1, -1]], -1)


def _owned(segments: Tensor, count: int) -> Tensor:
    """(B, H, W) slot numbers -> (B, K, H, W) bool."""
    return segments[:, None] == torch.arange(count, device=segments.device)[:, None, None]


@contextmanager
def _quiet(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no random draws, and the mode that was there afterwards."""
    training = model.training
    model.eval()
    try:
        with posterior_means():
            yield
    finally:
        model.train(training)


def _infer(model: nn.Module, scene: Scene) -> Latents:
    output = first_frame(see(model, scene))
    slots = output.slots.clone()
    present = slots.new_ones(slots.shape[:2]) if output.present is None else output.present.to(slots).clone()
    return slots, present


def every_frame(output: Decomposition) -> Decomposition:
    """What a model made of clips as a batch of still images; of still images it is what was given."""
    if output.recon.ndim == 4:
        return output
    return _core(output, lambda t: t.flatten(0, 1))


def first_frame(output: Decomposition) -> Decomposition:
    """What a model made of the first frames of clips; of still images it is what was given."""
    if output.recon.ndim == 4:
        return output
    return _core(output, lambda t: t[:, 0])


def _core(output: Decomposition, change: Callable[[Tensor], Tensor]) -> Decomposition:
    """The fields that every decomposition has, changed: a model's own extras need not have a time axis."""
    return Decomposition(
        recon=change(output.recon),
        masks=change(output.masks),
        components=change(output.components),
        slots=change(output.slots),
        boxes=None if output.boxes is None else change(output.boxes),
        present=None if output.present is None else change(output.present),
    )


def decoder_of(model: nn.Module) -> Callable[[Tensor, Tensor], Decomposition]:
    """`model.decode` as a function of slots and present; models without `present` in their `decode` ignore it."""
    method = getattr(model, "decode", None)
    parameters = {} if method is None else dict(inspect.signature(method).parameters)
    needed = [name for name, p in parameters.items() if p.default is p.empty]
    if len(needed) != 1:
        takes = f"its decode takes {', '.join(needed)}" if needed else "it has no decode"
        raise ValueError(
            f"{type(model).__name__} cannot draw edited scenes: it needs decode(slots), with slots (B, K, D) all "
            f"that a scene is drawn from; {takes}"
        )
    assert method is not None
    if "present" in parameters:
        return lambda slots, present: method(slots, present=present)
    return lambda slots, present: method(slots)


def order_matters(decode: Callable[[Tensor, Tensor], Decomposition], latents: Latents) -> bool:
    """Whether slots in reverse order draw another scene, as with masks from stick-breaking."""
    slots, present = (t[:1] for t in latents)
    masks = decode(slots, present).masks
    reverse = decode(slots.flip(1), present.flip(1)).masks.flip(1)
    return not torch.allclose(masks, reverse, rtol=1e-3, atol=1e-4)


def _pair(a: Tensor, b: Tensor) -> Tensor:
    """(B, K) the slot of b for each slot of a, both (B, K, D)."""
    costs = torch.cdist(a, b).square().cpu().numpy()  # (B, K, K)
    return torch.stack([torch.as_tensor(linear_sum_assignment(cost)[1]) for cost in costs]).to(a.device)


def _check_alike(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} scenes; give as many of one as of the other")
