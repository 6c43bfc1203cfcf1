"""What the pictures of a model are made of: its stages, and the traversals of the objects of a scene.

The model is asked by its abilities only: the `stages` of its output, and `decode(slots)`.
`objectscape.viz` draws the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from objectscape.evaluation.edits import decoder_of, redraw, visible_slots
from objectscape.evaluation.traversals import traverse
from objectscape.metrics.activeness import traversal_values
from objectscape.scene import Decomposition, Scene, Stage
from objectscape.viz.edits import Traversal


@torch.no_grad()
def decoded_stages(model: nn.Module, output: Decomposition) -> list[Stage]:
    """The stages of an iterative model's inference (`Decomposition.stages`), each of them decoded.

    Args:
        model: has `decode(slots)` if it does not decode every stage itself.
        output: what its `forward` returned.

    Returns:
        The stages in order; none if the model has no steps.
    """
    stages = output.stages
    if all(stage.drawn is not None for stage in stages):
        return stages
    decode = decoder_of(model)

    def drawn(slots: Tensor) -> Decomposition:
        return decode(slots, slots.new_ones(slots.shape[:2]))

    return [stage if stage.drawn is not None else replace(stage, drawn=drawn(stage.slots)) for stage in stages]


@torch.no_grad()
def object_traversals(
    model: nn.Module, scene: Scene, *, limits: Tensor, dims: Sequence[int], steps: int = 7, batch_size: int = 64
) -> tuple[Decomposition, list[Traversal]]:
    """Every visible object of one scene with some of its dimensions moved, from the means of the posteriors.

    Args:
        model: decomposes, and decodes slots.
        scene: (1, 3, H, W) the image.
        limits: (D, 2) between which values to move each dimension, from `traversal_limits`.
        dims: which dimensions, in the order in which they are to be drawn.
        steps: values per dimension.
        batch_size: scenes decoded at once.

    Returns:
        what the scene's own latents draw, and a traversal per slot that owns a part of the picture.

    Raises:
        ValueError: if the model cannot decode slots, or there is no such dimension.
    """
    model.eval()
    drawn = redraw(model, scene)
    slots = drawn.slots[0]  # (K, D)
    present = None if drawn.present is None else drawn.present[0]
    values = traversal_values(limits.to(slots), steps)  # (D, S)
    order = list(dims)
    traversals = []
    for slot in visible_slots(drawn)[0].nonzero()[:, 0].tolist():
        moved = traverse(model, slots, values, slot=slot, dims=order, present=present, batch_size=batch_size)
        images = moved.recon.unflatten(0, (len(order), steps))  # (M, S, 3, H, W)
        traversals.append(
            Traversal(slot=slot, dims=order, values=values[order], current=slots[slot, order], images=images)
        )
    return drawn, traversals
