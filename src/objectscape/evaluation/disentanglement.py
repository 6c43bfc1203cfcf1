"""Which slot stands for which object: the ground on which latents are compared with the properties of objects.

Works for every model that decomposes, on every data set with `segments` and `factors`. Slots are compared with objects
through masks: in each scene, the assignment of slots to objects with the largest sum of IoUs. Slots are the means of
their posteriors, and masks those of that forward pass (`posterior_means`), as in EfficientMORL's evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import see
from objectscape.metrics.probes import ObjectSlots
from objectscape.metrics.segmentation import contingency, match_objects
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Decomposition, Scene

LEAST_AREA = 50 / 192**2
"""Share of the image below which an object is too small to count: 50 pixels at the size of CLEVR's evaluation."""


@torch.no_grad()
def match_slots(
    model: nn.Module,
    batches: Iterable[Scene],
    *,
    min_pixels: int | None = None,
    min_iou: float = 0.1,
    device: torch.device | str = "cpu",
) -> ObjectSlots | None:
    """Which slot stands for which object, in every scene; the frames of a clip are scenes of their own.

    Args:
        model: decomposes; it is moved to `device` and set to evaluation mode.
        batches: scenes.
        min_pixels, min_iou: see `match_batch`.
        device: of the model.

    Returns:
        On the CPU; None if the scenes lack segments or factors.
    """
    model.to(device).eval()
    parts: list[ObjectSlots] = []
    for batch in batches:
        if batch.segments is None or not batch.factors:
            return None
        with posterior_means():
            output: Decomposition = see(model, batch.to(device))
        if batch.image.ndim == 5:
            batch, output = batch.fold_time(), output.fold_time()
        parts.append(match_batch(batch, output, min_pixels=min_pixels, min_iou=min_iou))
    return join_matches(parts) if parts else None


def match_batch(
    batch: Scene, output: Decomposition, *, min_pixels: int | None = None, min_iou: float = 0.1
) -> ObjectSlots:
    """Which slot stands for which object in each scene of a batch of still images.

    Args:
        batch: has segments and factors.
        output: what the model made of it.
        min_pixels: objects of which less is visible do not count; None for the share `LEAST_AREA` of the image.
        min_iou: pairs that overlap less are no match.

    Returns:
        On the CPU.
    """
    assert batch.segments is not None
    assert batch.factors
    segments = batch.segments.cpu()
    table = contingency(segments, output.masks.cpu())  # (B, N' + 1, K + 1)
    height, width = segments.shape[-2:]
    least = max(1, round(LEAST_AREA * height * width)) if min_pixels is None else min_pixels
    factors = {name: values.cpu() for name, values in batch.factors.items()}
    count = next(iter(factors.values())).shape[1]
    return ObjectSlots(
        slots=output.slots.float().cpu(),
        factors=factors,
        objects=_first(table[:, 1:].sum(2) >= least, count, False),
        matches=_first(match_objects(table, min_pixels=least, min_iou=min_iou), count, -1),
    )


def join_matches(parts: Sequence[ObjectSlots]) -> ObjectSlots:
    """The matches of several batches as one."""
    return ObjectSlots(
        slots=torch.cat([part.slots for part in parts]),
        factors={name: torch.cat([part.factors[name] for part in parts]) for name in parts[0].factors},
        objects=torch.cat([part.objects for part in parts]),
        matches=torch.cat([part.matches for part in parts]),
    )


def _first(values: Tensor, count: int, filler: float) -> Tensor:
    """(S, N) -> (S, count): the first ones, filled up."""
    return F.pad(values[:, :count], (0, max(count - values.shape[1], 0)), value=filler)
