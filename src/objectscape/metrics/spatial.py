"""Where the pixels of segments lie, which no table of counts tells: boundaries and connected pieces.

Conventions are those of `objectscape.metrics.segmentation`: negative true labels are ignored, and what is predicted
there has no influence. An ignored pixel belongs to no segment and is beside no boundary. A clip is one image, its
frames laid side by side without touching; `per_frame=True` scores them one by one.

Sources: Martin, Fowlkes and Malik, Learning to detect natural image boundaries, 2004 (boundary precision and recall);
Perazzi et al., A benchmark dataset and evaluation methodology for video object segmentation, 2016, section 4.1
(DAVIS: the F-measure by dilation, tolerance 0.8 % of the diagonal).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from objectscape.metrics.per_image import PerImageMetric
from objectscape.metrics.segmentation import aligned

TOLERANCE = 0.008
"""Distance at which boundaries still match, as a share of the image's diagonal: that of DAVIS."""


def boundary_f(true: Tensor, pred: Tensor, *, tolerance: float = TOLERANCE, per_frame: bool = False) -> Tensor:
    """Do the boundaries of the predicted segments lie where the true ones do? F-measure of precision and recall.

    A pixel is on a boundary if its label differs from that of its neighbor to the right, below or to the lower right.
    All boundaries of an image together make one map, whatever is on their two sides: labels are only names, and the
    background is a segment like others. Precision is the share of predicted boundary pixels with a true one within
    reach, recall the share of true ones with a predicted one within reach.

    Args:
        true: (B, [T,] H, W) integer labels; 0 background, 1..N objects, negative ignored.
        pred: (B, [T,] K, 1, H, W) masks, or (B, [T,] H, W) integer segments (negative: in no segment).
        tolerance: reach, as a share of the image's diagonal; rounded up to whole pixels.
        per_frame: with a time axis, every frame is an image of its own (B becomes B * T). By default the boundary
            pixels of all frames count together.

    Returns:
        (B,) in [0, 1]. 1 if neither side has a boundary, 0 if only one has; NaN where every pixel is ignored.

    Raises:
        ValueError: if shapes or types do not fit (see `contingency`), or `tolerance` is negative.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}; expected a share of the image's diagonal, at least 0")
    lead = true.shape[:-2]  # B, [T]
    true, pred, _ = aligned(true, pred)
    known = true.flatten(0, -3) >= 0  # (M, H, W), M = B [T]
    maps = [_boundaries(segments.flatten(0, -3), known) for segments in (true, pred)]
    reach = math.ceil(tolerance * math.hypot(*true.shape[-2:]))
    near = [_dilate(edges, reach) for edges in maps]
    frames = torch.stack([  # of true and predicted boundaries: pixels with a counterpart, pixels
        (maps[0] & near[1]).sum((1, 2)), maps[0].sum((1, 2)), (maps[1] & near[0]).sum((1, 2)), maps[1].sum((1, 2)),
    ])  # fmt: skip
    found, true_pixels, correct, pred_pixels = _images(frames, lead, per_frame).float()
    recall, precision = found / true_pixels.clamp_min(1), correct / pred_pixels.clamp_min(1)
    f = 2 * precision * recall / (precision + recall).clamp_min(1e-9)
    f = torch.where((true_pixels == 0) & (pred_pixels == 0), 1.0, f)
    return f.masked_fill(_images(known.sum((1, 2)), lead, per_frame) == 0, torch.nan)


def fragmentation(true: Tensor, pred: Tensor, *, per_frame: bool = False) -> Tensor:
    """Into how many pieces does a slot's segment fall? Mean over the slots that own a pixel.

    A piece is a set of pixels connected across edges, not corners (4-connectivity, as `scipy.ndimage.label` has it
    unless told otherwise), so that two segments never cross. Pieces of a single pixel count as well: nothing
    else tells grainy masks from whole ones. One slot for everything scores 1, so this says something beside
    another score, not alone. The truth itself may exceed 1, where something stands before an object:
    `fragmentation(true, true)`.

    Args:
        true: (B, [T,] H, W) integer labels, of which only matters where they are negative: these pixels are ignored.
        pred: (B, [T,] K, 1, H, W) masks, or (B, [T,] H, W) integer segments (negative: in no segment).
        per_frame: with a time axis, every frame is an image of its own (B becomes B * T). By default it is the
            mean over the slots of all frames.

    Returns:
        (B,) float32, at least 1; NaN where no slot owns a pixel.

    Raises:
        ValueError: if shapes or types do not fit; see `contingency`.
    """
    lead = true.shape[:-2]  # B, [T]
    true, pred, slots = aligned(true, pred)
    segments = pred.flatten(0, -3).cpu().numpy()  # (M, H, W), M = B [T]
    owned = (true.flatten(0, -3) >= 0).cpu().numpy() & (segments < slots)
    # a grid of twice the size, with links between pixels: one labeling for all slots of all images
    images, height, width = segments.shape
    grid = np.zeros((images, 2 * height, 2 * width), dtype=bool)  # its last row and column keep images apart
    grid[:, ::2, ::2] = owned
    grid[:, 1:-1:2, ::2] = (segments[:, 1:] == segments[:, :-1]) & owned[:, 1:] & owned[:, :-1]
    grid[:, ::2, 1:-1:2] = (segments[:, :, 1:] == segments[:, :, :-1]) & owned[:, :, 1:] & owned[:, :, :-1]
    labels, count = ndimage.label(grid.reshape(-1, 2 * width))
    piece = labels.reshape(grid.shape)[:, ::2, ::2]  # (M, H, W) 0: ignored or owned by nobody
    owner = np.zeros(count + 1, dtype=np.int64)  # of each piece: its image and slot
    owner[piece] = np.arange(images)[:, None, None] * slots + segments
    pieces, there = (np.bincount(of // slots, minlength=images) for of in (owner[1:], np.unique(owner[1:])))
    total, owners = _images(torch.from_numpy(np.stack([pieces, there])), lead, per_frame).float().to(pred.device)
    return torch.where(owners > 0, total / owners, torch.nan)


def _boundaries(segments: Tensor, known: Tensor) -> Tensor:
    """(M, H, W) labels -> (M, H, W) bool, True where a neighbor to the right, below or to the lower right differs."""
    edges = torch.zeros_like(known)
    for rows, columns in ((0, 1), (1, 0), (1, 1)):
        here = (slice(None), slice(None, -rows or None), slice(None, -columns or None))
        there = (slice(None), slice(rows, None), slice(columns, None))
        edges[here] |= (segments[here] != segments[there]) & known[here] & known[there]
    return edges


def _dilate(edges: Tensor, radius: int) -> Tensor:
    """(M, H, W) bool -> the same, True within so many pixels of what was True."""
    near, wide, width = torch.zeros_like(edges), edges.clone(), 0
    for down in range(radius, -1, -1):  # the rows of a disk, from its narrow ends to the middle
        half = math.isqrt(radius**2 - down**2)
        for across in range(width + 1, half + 1):
            wide[..., across:] |= edges[..., :-across]
            wide[..., :-across] |= edges[..., across:]
        width = half
        near[:, down:] |= wide[:, : -down or None]
        near[:, : -down or None] |= wide[:, down:]
    return near


def _images(frames: Tensor, lead: torch.Size, per_frame: bool) -> Tensor:
    """(..., M) counts of frames -> (..., B) of images: those of a clip's frames together, unless `per_frame`."""
    return frames if per_frame or len(lead) == 1 else frames.unflatten(-1, lead).sum(-1)


class BoundaryF(PerImageMetric):
    """Mean over images of `boundary_f`.

    Args:
        tolerance: reach, as a share of the image's diagonal.
        per_frame: score the frames of a clip one by one, as DAVIS does.
    """

    higher_is_better = True
    plot_upper_bound = 1.0

    def __init__(self, *, tolerance: float = TOLERANCE, per_frame: bool = False) -> None:
        super().__init__(tolerance, per_frame)
        self.tolerance, self.per_frame = tolerance, per_frame

    def update(self, true: Tensor, pred: Tensor) -> None:
        """Take in a batch: (B, [T,] H, W) true labels; masks or segments, as in `boundary_f`."""
        values = boundary_f(true, pred, tolerance=self.tolerance, per_frame=self.per_frame)
        self._add(values, skip=values.isnan())


class Fragmentation(PerImageMetric):
    """Mean over images of `fragmentation`.

    Args:
        per_frame: score the frames of a clip one by one.
    """

    higher_is_better = False
    plot_lower_bound = 1.0

    def __init__(self, *, per_frame: bool = False) -> None:
        super().__init__(per_frame)
        self.per_frame = per_frame

    def update(self, true: Tensor, pred: Tensor) -> None:
        """Take in a batch: (B, [T,] H, W) true labels; masks or segments, as in `fragmentation`."""
        values = fragmentation(true, pred, per_frame=self.per_frame)
        self._add(values, skip=values.isnan())
