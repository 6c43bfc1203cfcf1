"""Traversals: one dimension of one slot moved through the values it takes, everything else held, and the scene redrawn.

They need a model with `decode(slots) -> Decomposition`, as `objectscape.evaluation.edits` does. `traverse` gives the
pictures, `activeness` says which dimensions are worth looking at. The arithmetic of both is in
`objectscape.metrics.activeness`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from objectscape.contract import see
from objectscape.evaluation.edits import decoder_of, first_frame, order_matters
from objectscape.metrics.activeness import image_variance, latent_ranges, traversal_values
from objectscape.scene import Decomposition, Scene
from objectscape.seeding import derive_generator

Decode = Callable[[Tensor, Tensor], Decomposition]
"""(slots (B, K, D), present (B, K)) -> scenes."""


class Latents(NamedTuple):
    """The slots of some scenes."""

    slots: Tensor
    """(n, K, D)"""
    present: Tensor
    """(n, K) zero where a slot is not used"""


@torch.no_grad()
def infer_latents(
    model: nn.Module, batches: Iterable[Scene], *, images: int = 100, device: torch.device | str = "cpu", seed: int = 0
) -> Latents:
    """The slots of the first `images` scenes, drawn from the posterior where the model has one, as the paper does.

    Of clips: those of the first frame.

    With draws, a dimension that the posterior leaves at its prior spans the prior's range, so that moving it through
    this range shows whether the decoder ignores it.

    Raises:
        ValueError: if there is no scene.
    """
    model.to(device).eval()
    torch.manual_seed(seed)
    found: list[Latents] = []
    left = images
    for batch in batches:
        if left <= 0:
            break
        output = first_frame(see(model, batch[:left].to(device)))
        found.append(latents_of(output))
        left -= len(output)
    if not found:
        raise ValueError(f"no scenes to infer latents from (images={images}); at least one is needed")
    return Latents(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def latents_of(output: Decomposition) -> Latents:
    """The slots of a batch, as a model's output holds them."""
    slots = output.slots.float()
    present = slots.new_ones(slots.shape[:2]) if output.present is None else output.present.float()
    return Latents(slots, present)


@torch.no_grad()
def traverse(
    model: nn.Module,
    slots: Tensor,
    values: Tensor,
    *,
    slot: int,
    dims: Sequence[int] | Tensor | None = None,
    present: Tensor | None = None,
    batch_size: int = 64,
) -> Decomposition:
    """One scene redrawn with each of some dimensions of one slot set to each of some values.

    Args:
        model: decodes slots; put it into evaluation mode before.
        slots: (K, D) of the scene.
        values: (D, S) what to set each dimension to, from `traversal_values`.
        slot: which slot to move.
        dims: which dimensions, in this order; None for all.
        present: (K,) zero where a slot is not used; None if all are.
        batch_size: scenes decoded at once.

    Returns:
        len(dims) * S scenes, those of a dimension one after the other, so that `samples_figure(result, columns=S)`
        draws a dimension per row.

    Raises:
        ValueError: if the model cannot decode slots, or there is no such slot or dimension.
    """
    count, width = slots.shape
    if not 0 <= slot < count:
        raise ValueError(f"slot={slot}; the scene has slots 0..{count - 1}")
    if values.ndim != 2 or len(values) != width:
        raise ValueError(
            f"values have shape {tuple(values.shape)}; expected (D, S) with D = {width}, a row per dimension"
        )
    chosen = torch.arange(width) if dims is None else torch.as_tensor(dims)
    if not len(chosen) or bool(((chosen < 0) | (chosen >= width)).any()):
        raise ValueError(f"dims={chosen.tolist()}; choose at least one of 0..{width - 1}")
    decode = decoder_of(model)
    used = slots.new_ones(count) if present is None else present.to(slots)
    moved = _moved(slots, values.to(slots), slot, chosen.to(slots.device))  # (len(dims) S, K, D)
    parts = [decode(part, used.expand(len(part), -1)) for part in moved.split(batch_size)]
    names = ("recon", "masks", "components", "slots")
    return Decomposition(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


@torch.no_grad()
def activeness(
    model: nn.Module,
    latents: Latents,
    *,
    ranges: Tensor | None = None,
    slot_ids: Tensor | None = None,
    steps: int = 6,
    seed: int = 0,
    batch_size: int = 16,
) -> Tensor:
    """How much the picture of each scene changes as each dimension of one of its slots runs through its range.

    The defaults are the released code's. The paper shows the mean over scenes.

    Args:
        model: decodes slots; put it into evaluation mode before.
        latents: of the scenes, from `infer_latents`.
        ranges: (D, 2) from where to where; None for those of `latents`.
        slot_ids: (n,) which slot to move in each scene; None for a random one each, of those that are present.
        steps: values per dimension.
        seed: of the choice of slots.
        batch_size: scenes decoded at once.

    Returns:
        (n, D): variance over the `steps` images, averaged over pixels and channels.

    Raises:
        ValueError: if the model cannot decode slots.
    """
    decode = decoder_of(model)
    slots, present = latents
    values = traversal_values(latent_ranges(slots) if ranges is None else ranges.to(slots), steps)  # (D, S)
    if slot_ids is None:
        chances = (present > 0).float().cpu() + 1e-9  # a scene without any used slot still moves one
        slot_ids = torch.multinomial(chances, 1, generator=derive_generator(seed, "activeness")).squeeze(1)
    dims = torch.arange(slots.shape[-1], device=slots.device)
    alone = slots.shape[1] > 1 and not order_matters(decode, latents)
    rows = []
    for scene, used, slot in zip(slots, present, slot_ids.tolist(), strict=True):
        moved = _moved(scene, values, slot, dims)  # (D S, K, D)
        images = _redraw_one(decode, scene, used, moved[:, slot], slot, batch_size) if alone else None
        if images is None:
            images = torch.cat([decode(part, used.expand(len(part), -1)).recon for part in moved.split(batch_size)])
        rows.append(image_variance(images.unflatten(0, (-1, steps))))
    return torch.stack(rows)


def _redraw_one(
    decode: Decode, scene: Tensor, used: Tensor, moved: Tensor, slot: int, batch_size: int
) -> Tensor | None:
    """The scene with `slot` replaced by each of `moved` (V, D), at the cost of drawing one slot each: (V, 3, H, W).

    Where slots are drawn one by one and masks are a softmax over slots, a scene that holds many variants of a slot
    side by side tells how much each of them weighs against the rest of the scene. Whether that is so is tested on the
    first and the last variant: None if not, or if a variant hides the rest too well to see its weights.
    """
    rest = [k for k in range(len(scene)) if k != slot]
    images = []
    for part in moved.split(batch_size * len(scene)):
        drawn = decode(torch.cat([scene[rest], part])[None], torch.cat([used[rest], used.new_ones(len(part))])[None])
        masks, colored = drawn.masks[0], drawn.masks[0] * drawn.components[0]  # (K - 1 + v, 1 or 3, H, W)
        count = len(rest)
        weight = masks[:count].sum(0) + masks[count:]
        images.append((colored[:count].sum(0) + colored[count:]) / weight)
    result = torch.cat(images)
    ends = scene.repeat(2, 1, 1)
    ends[:, slot] = moved[[0, -1]]
    checked = torch.allclose(decode(ends, used.expand(2, -1)).recon, result[[0, -1]], rtol=1e-3, atol=1e-4)
    return result if checked and bool(result.isfinite().all()) else None


def _moved(slots: Tensor, values: Tensor, slot: int, dims: Tensor) -> Tensor:
    """(K, D) slots -> (len(dims) S, K, D) copies, in which dimension d of `slot` is each of its (D, S) `values`."""
    copies = slots.expand(len(dims), values.shape[1], *slots.shape).clone()  # (d, S, K, D)
    rows = torch.arange(len(dims), device=slots.device)
    copies[rows, :, slot, dims] = values[dims]
    return copies.flatten(0, 1)
