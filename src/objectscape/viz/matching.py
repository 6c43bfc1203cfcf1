"""Which color a slot is drawn in: that of the true object that it matches, so that pictures can be read at a glance."""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.viz.palette import BACKGROUND, SLOT_COLORS


def colors_of_slots(masks: Tensor, segments: Tensor | None) -> Tensor:
    """The number of each slot's color, for display only: scores are computed without it.

    Slots and true segments, the background included, are matched one to one by their IoU (Hungarian). A slot that
    overlaps its segment at all has that segment's color; the others share what the objects leave of the palette.

    Args:
        masks: (n, [T,] K, 1, h, w); of clips one color per slot and clip.
        segments: (n, [T,] H, W) truth, as in `Scene.segments`, of the masks' size or a whole multiple of it; None where
            it is not known: then slot k has color k.

    Returns:
        (n, K) int64 places in `SLOT_COLORS`, `BACKGROUND` for the gray of the background.
    """
    count, slots = len(masks), masks.shape[-4]
    from scipy.optimize import linear_sum_assignment  # here, and the metrics too: importing pictures stays cheap

    from objectscape.metrics.segmentation import contingency, hard_segments

    own = torch.arange(slots).expand(count, -1)
    if segments is None or not slots:
        return own.clone()
    owners = hard_segments(masks.detach().float().cpu()).long()  # (n, [T,] h, w)
    truth = segments.cpu()
    for axis in (-2, -1):
        owners = owners.repeat_interleave(truth.shape[axis] // owners.shape[axis], axis)
    owners[owners == slots] = -1  # masks that are not numbers own nothing
    table = contingency(truth, owners)  # (n, N+1, K' + 1), K' the slots that own a pixel at most
    common = torch.zeros(count, table.shape[1], slots)
    common[:, :, : table.shape[2] - 1] = table[:, :, :-1].float()
    areas, sizes = table.sum(2).float(), common.sum(1)
    overlap = common / (areas[:, :, None] + sizes[:, None] - common).clamp_min(1)  # (n, N+1, K)
    numbers = torch.full((count, slots), len(SLOT_COLORS), dtype=torch.long)
    for i in range(count):
        rows, columns = linear_sum_assignment(overlap[i].numpy(), maximize=True)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if overlap[i, row, column] > 0:
                numbers[i, column] = BACKGROUND if row == 0 else row - 1
        objects = {row - 1 for row in areas[i].nonzero()[:, 0].tolist() if row}
        left = [color for color in range(len(SLOT_COLORS)) if color not in objects] or list(range(len(SLOT_COLORS)))
        free = (numbers[i] == len(SLOT_COLORS)).nonzero()[:, 0]
        numbers[i, free] = torch.tensor([left[place % len(left)] for place in range(len(free))], dtype=torch.long)
    return numbers
