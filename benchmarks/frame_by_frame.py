"""A model of clips against itself without memory: every frame alone, slots matched from frame to frame (Hungarian).

    python -m benchmarks.frame_by_frame RUN [RUN ...] [data.frames=12 clip.length=12 ...]

Alone, a frame is a clip of one frame. A conditioned model is told the boxes of the clip's first frame there, too; with
the boxes of every frame (the last row) it is told where everything is. Matching makes the sum over slots largest: of
the overlap (IoU) of masks in successive frames, or of minus the distance of slots. Prints a Markdown table of the whole
test split: the whole clip counts as one image.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import build_split, data_config
from objectscape.contract import see
from objectscape.data.loading import EvalLoader
from objectscape.metrics.prediction import same_slot
from objectscape.metrics.segmentation import adjusted_rand_index, contingency
from objectscape.scene import Decomposition, Scene

NAMES = ("ARI-FG", "ARI", "same slot", "own slot")


def alone(model: nn.Module, clips: Scene, *, hint: str) -> Decomposition:
    """Every frame (B, T, ...) as a clip of its own; `hint` "first" or "own": whose boxes a frame is told."""
    time = clips.image.shape[1]
    boxes = clips.boxes
    if boxes is not None and hint == "first":
        boxes = boxes[:, :1].expand_as(boxes)
    frames = Scene(image=clips.image, boxes=boxes).fold_time().map(lambda t: t.unsqueeze(1))
    seen = see(model, frames)
    parts = Decomposition(recon=seen.recon, masks=seen.masks, components=seen.components, slots=seen.slots)
    return parts.fold_time().unfold_time(time)


def overlap(before: Decomposition, now: Decomposition) -> Tensor:
    """(B, K, K) IoU of the masks of two frames."""
    one, two = before.masks.flatten(2), now.masks.flatten(2)  # (B, K, HW)
    both = torch.minimum(one.unsqueeze(2), two.unsqueeze(1)).sum(-1)
    return both / torch.maximum(one.unsqueeze(2), two.unsqueeze(1)).sum(-1).clamp_min(1e-6)


def closeness(before: Decomposition, now: Decomposition) -> Tensor:
    """(B, K, K) minus the distance of the slots of two frames."""
    return -torch.cdist(before.slots, now.slots)


def matched(output: Decomposition, score: Callable[[Decomposition, Decomposition], Tensor]) -> Decomposition:
    """The slots of every frame (B, T, ...) reordered so that they continue those of the frame before."""
    frames = [output.map(lambda t: t[:, 0])]
    for time in range(1, output.recon.shape[1]):
        now = output.map(lambda t, time=time: t[:, time])  # type: ignore[misc]
        table = score(frames[-1], now).cpu().numpy()
        order = torch.tensor([linear_sum_assignment(scores, maximize=True)[1].tolist() for scores in table])
        rows = torch.arange(len(order))[:, None]
        frames.append(replace(now, masks=now.masks[rows, order], slots=now.slots[rows, order]))
    return replace(
        output, masks=torch.stack([f.masks for f in frames], 1), slots=torch.stack([f.slots for f in frames], 1)
    )


def scores(output: Decomposition, clips: Scene) -> Tensor:
    """(B, 4): see `NAMES`."""
    assert clips.segments is not None
    table = contingency(clips.segments, output.masks)
    whole = [adjusted_rand_index(table, foreground=foreground) for foreground in (True, False)]
    return torch.stack([*whole, *same_slot(clips.segments, output.masks)], 1)


@torch.no_grad()
def compare(model: nn.Module, batches: EvalLoader, *, seed: int = 0) -> dict[str, Tensor]:
    """{way: (4,) mean scores}."""
    found: dict[str, list[Tensor]] = {}
    for batch in batches:
        clips = replace(batch, image=batch.pixels)
        torch.manual_seed(seed)
        single = alone(model, clips, hint="first")
        ways = {
            "over the clip": see(model, clips),
            "frames alone": single,
            "frames alone, matched by masks": matched(single, overlap),
            "frames alone, matched by slots": matched(single, closeness),
        }
        if getattr(model, "hints", ()):
            ways["frames alone, told the boxes of every frame"] = alone(model, clips, hint="own")
        for way, output in ways.items():
            found.setdefault(way, []).append(scores(output, clips))
    return {way: torch.cat(parts).nanmean(0) for way, parts in found.items()}


def main(words: list[str]) -> None:
    """Compare each run, and print a table."""
    folders = [word for word in words if "=" not in word]
    settings = [word for word in words if "=" in word]
    print("| run | way | " + " | ".join(NAMES) + " |\n|" + " --- |" * (2 + len(NAMES)))
    for folder in folders:
        run = RunFolder.open(Path(folder))
        model = run.load_model().eval()
        loader = EvalLoader(build_split(data_config(run, settings), "test"), batch_size=32)
        for way, values in compare(model, loader).items():
            print(
                f"| {Path(folder).name} | {way} | " + " | ".join(f"{v:.3f}" for v in values.tolist()) + " |", flush=True
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
