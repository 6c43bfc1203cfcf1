"""What the pictures of a model are made of: its stages, traversals of objects, and what is to be said beside them.

The model is asked by its abilities only: the `stages` of its output, and `decode(slots)`.
`objectscape.viz` draws the results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.evaluation.edits import decoder_of, redraw, visible_slots
from objectscape.evaluation.questions import headlines, meaning_of
from objectscape.evaluation.traversals import traverse
from objectscape.metrics.activeness import traversal_values
from objectscape.metrics.reconstruction import mse
from objectscape.metrics.segmentation import adjusted_rand_index, contingency, hungarian_miou
from objectscape.scene import Decomposition, Scene, Stage
from objectscape.viz.edits import Traversal

UNDECIDED = 0.25
"""Below this share of the way from "all slots alike" to "one slot alone" masks say nothing."""
PLAIN = 0.1
"""Below this share of the image's own standard deviation a reconstruction is one color."""
THERE = 0.01
"""Largest mask below which a slot is nowhere."""


def about(run: RunFolder, model: nn.Module, what: str) -> str:
    """Which run, step, model and data a picture shows, in one line."""
    step = run.weights_step()
    steps = [] if step is None else [f"step {step:,}"]
    return " · ".join([f"run {run.path.resolve().name}", *steps, type(model).__name__, what])


def row_titles(scene: Scene, output: Decomposition) -> list[str]:
    """What each scene or clip scored, to be written beside its row: with a truth how it was divided, else the error."""
    if scene.segments is None:
        squared = mse(scene.pixels, output.recon.clamp(0, 1))
        return [f"MSE {float(value.mean()):.2g}" for value in squared]
    table = contingency(scene.segments, output.masks)
    pairs = zip(adjusted_rand_index(table).tolist(), hungarian_miou(table, foreground=False).tolist(), strict=True)
    return [f"ARI-FG {_digits(ari)}\nmIoU {_digits(overlap)}" for ari, overlap in pairs]


def _digits(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def remarks(scene: Scene, output: Decomposition) -> list[str]:
    """What a reader should know before the pictures: a model that is undecided, dead, or divides nothing.

    Args:
        scene: (B, [T,] 3, H, W) images, with the truth if it is known.
        output: what the model made of them.

    Returns:
        Sentences; none if all is well.
    """
    masks, slots = output.masks.detach().float(), output.masks.shape[-4]
    if not (bool(masks.isfinite().all()) and bool(output.recon.isfinite().all())):
        return ["The output is not finite: the model has diverged."]
    found = []
    colors = scene.pixels.float().flatten(-2).std(-1).mean(-1)  # (B, [T])
    drawn = output.recon.detach().float().flatten(-2).std(-1).mean(-1)
    if bool((colors > 0.02).any()) and float((drawn / colors.clamp_min(1e-6))[colors > 0.02].mean()) < PLAIN:
        found.append("Dead: every reconstruction is nearly one color.")
    if slots > 1:
        largest = float(masks.amax(-4).mean())
        if (largest - 1 / slots) / (1 - 1 / slots) < UNDECIDED:
            found.append(
                f"Undecided: the largest mask of a pixel is {largest:.2f} on the average ({1 / slots:.2f}: all alike)."
            )
        elif (share := _alone(scene, output)) is not None:
            found.append(f"Nothing is divided: one slot owns {share:.1%} of the pixels.")
        nowhere = int((masks.movedim(-4, 0).flatten(1).amax(1) < THERE).sum())
        if nowhere:
            verb = "is" if nowhere == 1 else "are"
            found.append(f"{nowhere} of {slots} slots {verb} nowhere in these scenes and left out.")
    if output.present is not None and output.present.numel() and float(output.present.max()) < 0.5:
        found.append("No object is found: no slot is present with more than 50 %.")
    return found


def _alone(scene: Scene, output: Decomposition) -> float | None:
    """Share of the pixels that the largest slot owns, if it leaves nothing to the others."""
    owned = torch.nn.functional.one_hot(output.segments, output.masks.shape[-4]).flatten(0, -2).float().mean(0)
    share, limit = float(owned.max()), 0.999
    if scene.segments is not None:
        flat = scene.segments.flatten(1)
        others = float((flat != flat.mode(1, keepdim=True).values).float().mean())
        limit = 1 - 0.1 * others  # a tenth of what is not the largest segment would be something
    return share if share > limit or share == 1 else None


def curve_keys(columns: Iterable[str]) -> dict[str, str]:
    """{column: which way it is better} of a log's learning curves: headline scores first, then losses."""
    names = list(columns)
    first = {
        f"val/{name}": meaning.better for name, meaning in headlines(n.removeprefix("val/") for n in names).items()
    }
    losses = [name for name in names if name.rsplit("/", 1)[-1].endswith("loss")]
    found: dict[str, str] = {name: better for name, better in first.items() if name in names}
    if not found:  # of a question without headline scores
        for name in names:
            meaning = meaning_of(name.removeprefix("val/")) if name.startswith("val/") else None
            if meaning is not None:
                found[name] = meaning.better
    return found | dict.fromkeys(losses, "lower")


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
