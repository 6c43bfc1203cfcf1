"""What the pictures of a model are made of: its stages, and the traversals of the objects of a scene.

The model is asked by its abilities only: `step_*` and `layer_*` fields of its output, and `decode(slots)`.
`objectscape.viz` draws the results.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from objectscape.evaluation.edits import decoder_of, redraw, visible_slots
from objectscape.evaluation.traversals import traverse
from objectscape.metrics.activeness import traversal_values
from objectscape.scene import Decomposition, Scene
from objectscape.viz.edits import Traversal
from objectscape.viz.stages import Stage


@torch.no_grad()
def stages(model: nn.Module, output: Decomposition) -> list[Stage]:
    """What an iterative model had made of a batch after each of its layers and steps.

    Read are, where the output has them, `layer_slots` (B, L, K, D) with `layer_attention` (B, L, K, h, w); `step_recon`
    (B, S, 3, H, W) with `step_masks` and `step_components`, step 0 being the drawing of the last layer; and, for models
    that draw at the end only, `step_slots` (B, S, K, D) with `step_attention`. Slots without a drawing are decoded.

    Args:
        model: has `decode(slots)` if the output has slots without a drawing.
        output: what its `forward` returned.

    Returns:
        The stages in order; none if the model has no steps.
    """
    layers: Tensor | None = getattr(output, "layer_slots", None)
    recon: Tensor | None = getattr(output, "step_recon", None)
    step_slots: Tensor | None = getattr(output, "step_slots", None)
    found: list[Stage] = []
    if layers is not None:
        attention: Tensor = output.layer_attention  # type: ignore[attr-defined]
        below = layers[:, :-1] if recon is not None else layers  # the last one is drawn as step 0
        for i, drawn in enumerate(_decode(model, below)):
            found.append(Stage(name=f"layer {i + 1}", output=drawn, attention=attention[:, i]))
    if recon is not None:
        masks: Tensor = output.step_masks  # type: ignore[attr-defined]
        components: Tensor = output.step_components  # type: ignore[attr-defined]
        for i in range(recon.shape[1]):
            drawn = Decomposition(recon=recon[:, i], masks=masks[:, i], components=components[:, i], slots=output.slots)
            found.append(Stage(name=f"step {i}", output=drawn))
            if i == 0 and layers is not None and layers.shape[1]:
                found[-1].name = f"layer {layers.shape[1]}\n= step 0"
                found[-1].attention = attention[:, -1]
    elif step_slots is not None:
        looked: Tensor = output.step_attention  # type: ignore[attr-defined]
        for i, drawn in enumerate(_decode(model, step_slots)):
            found.append(Stage(name=f"iteration {i + 1}", output=drawn, attention=looked[:, i]))
    return found


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


def _decode(model: nn.Module, slots: Tensor) -> list[Decomposition]:
    """(B, S, K, D) slots -> what each of the S look like."""
    if not slots.shape[1]:
        return []
    decode = decoder_of(model)
    return [decode(part, part.new_ones(part.shape[:2])) for part in slots.unbind(1)]
