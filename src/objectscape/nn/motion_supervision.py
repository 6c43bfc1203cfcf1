"""What motion teaches about objects (Delfosse et al., "Boosting Object Representation Learning via Motion and Object
Continuity", ECML PKDD 2023): where they are, and that they look alike from frame to frame.

Motion is found in pixels, outside the model: a map of how much each pixel moves, and boxes around what moves. Here they
become targets for a grid of cells, and losses, which are sums over cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.nn.spatial_transformer import where_of

ON = 0.5
"""Presence from which a cell counts as holding an object."""
NOBODY = 1000.0
"""Value of the dynamic schedule while the model, or the motion, sees no object at all."""


class MotionTargets(NamedTuple):
    """What moves, by cell; F frames of a grid of N = G * G cells."""

    presence: Tensor
    """(F, N, 1) 1 where the center of a moving box lies in the cell, else 0"""
    where: Tensor
    """(F, N, 4) its box as (sx, sy, tx, ty); 0 where nothing moves"""


def motion_targets(boxes: Tensor, grid: int, size: tuple[int, int]) -> MotionTargets:
    """Boxes around what moves, as targets: one per cell at most, the largest, the first of equally large ones.

    Args:
        boxes: (F, M, 4) pixels x0 y0 x1 y1; rows of NaN or without area are no box.
        grid: G.
        size: (H, W) of the images in pixels.
    """
    boxes = boxes.float()
    extent = boxes[..., 2:] - boxes[..., :2]
    real = (extent > 0).all(-1) & boxes.isfinite().all(-1)  # (F, M)
    boxes = torch.where(real[..., None], boxes, 0.0)
    where = where_of(boxes, size)  # (F, M, 4)
    column, row = ((where[..., 2:] + 1) / 2 * grid).long().clamp(0, grid - 1).unbind(-1)
    cell = row * grid + column  # (F, M)
    area = torch.where(real, where[..., 0] * where[..., 1], -1.0)
    # of the boxes in a cell the largest, then the first
    same = (cell[:, :, None] == cell[:, None]) & real[:, None]  # (F, M, M)
    larger = same & (area[:, None] > area[:, :, None])
    earlier = same & (area[:, None] == area[:, :, None]) & torch.ones_like(same[0]).tril(-1)
    wins = (real & ~(larger | earlier).any(-1)).to(where)  # (F, M)
    values = torch.cat([torch.ones_like(where[..., :1]), where], -1) * wins[..., None]
    target = values.new_zeros(len(values), grid**2, 5).scatter_add(1, cell[..., None].expand(-1, -1, 5), values)
    return MotionTargets(target[..., :1], target[..., 1:])


def squared_presence_loss(probability: Tensor, targets: MotionTargets) -> Tensor:
    """(F,) squared errors of the presence (F, N, 1) of all cells."""
    return (probability - targets.presence).square().sum((1, 2))


def presence_cross_entropy(logits: Tensor, targets: MotionTargets) -> Tensor:
    """(F,) cross-entropies, which unlike the squared error have a gradient where presence is sure and wrong."""
    return F.binary_cross_entropy_with_logits(logits, targets.presence, reduction="none").sum((1, 2))


def squared_box_loss(where: Tensor, probability: Tensor, targets: MotionTargets) -> Tensor:
    """(F,) squared errors of boxes (F, N, 4) in image units, over cells with motion plus over cells predicted present.

    For a present cell without motion the target is zero; a cell that is both counts twice.
    """
    error = (where - targets.where).square().sum(-1, keepdim=True)
    counted = (targets.presence > ON).to(error) + (probability > ON)
    return (error * counted).sum((1, 2))


def relative_box_loss(where: Tensor, targets: MotionTargets) -> Tensor:
    """(F,) smooth L1 errors of boxes in units of the box's own size, over cells with motion.

    A ball of two pixels thus counts as much as a paddle, and a pixel off matters to it.
    """
    moving = targets.presence > ON  # (F, N, 1)
    size, center = where.split(2, -1)
    true_size, true_center = torch.where(moving, targets.where, 1.0).split(2, -1)
    errors = torch.cat([(size / true_size).log(), (center - true_center) / (2 * true_size)], -1)
    return (F.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none") * moving).sum((1, 2))


class Continuity(NamedTuple):
    """The continuity loss and how many objects took part."""

    loss: Tensor
    """(B,)"""
    objects: Tensor
    """(B,) number of objects in all frames but the last"""


def continuity_loss(
    what: Tensor,
    where: Tensor,
    probability: Tensor,
    *,
    match_weight: float = 5.0,
    cosine: bool = True,
    agreement: bool = True,
) -> Continuity:
    """An object resembles one of the objects in the 3 x 3 cells around it in the next frame, and not the others.

    The grid is a torus, as in the released code. Per object: the sum of its similarities to the candidates, minus
    `match_weight` times the largest.

    Args:
        what: (B, T, G, G, D) appearances.
        where: (B, T, G, G, 4) boxes.
        probability: (B, T, G, G) of presence.
        match_weight: see above.
        cosine: similarity by cosine; else 1 / (1 + mean squared difference).
        agreement: leave out an object with several candidates of which the most similar is not the nearest.
    """
    on = probability > ON  # (B, T, G, G)
    now, there = what[:, :-1].unsqueeze(-2), on[:, :-1]
    candidates = _neighbors(what[:, 1:])  # (B, T-1, G, G, 9, D)
    possible = _neighbors(on[:, 1:, ..., None])[..., 0] & there[..., None]  # (B, T-1, G, G, 9)
    if cosine:
        similar = F.cosine_similarity(now, candidates, -1)
    else:
        similar = 1 / (1 + (now - candidates).square().mean(-1))
    best = similar.masked_fill(~possible, -torch.inf).argmax(-1, keepdim=True)
    count = possible.sum(-1)
    takes_part = count > 0
    if agreement:
        distance = (where[:, :-1].unsqueeze(-2) - _neighbors(where[:, 1:])).square().sum(-1)
        nearest = distance.masked_fill(~possible, torch.inf).argmin(-1, keepdim=True)
        takes_part = takes_part & ((best == nearest)[..., 0] | (count == 1))
    all_similar = (similar * possible).sum(-1)
    match = similar.take_along_dim(best, -1)[..., 0]
    value = (all_similar - match_weight * match) * takes_part
    return Continuity(value.sum((1, 2, 3)), there.sum((1, 2, 3)))


def _neighbors(x: Tensor) -> Tensor:
    """(B, T, G, G, C) -> (B, T, G, G, 9, C): each cell's 3 x 3 neighborhood, around the edges."""
    shifts = [(i, j) for i in (1, 0, -1) for j in (1, 0, -1)]
    return torch.stack([x.roll(shift, (2, 3)) for shift in shifts], -2)


class DynamicSchedule(nn.Module):
    """How far the model can do without motion: lambda rises from 0 to 1 as it finds what moves.

    lambda = steepness ** -v, where v is the number of cells times the sum of: how much farther than `tolerance` the
    nearest predicted box is from a moving one; how much more presence is predicted than `underestimating` times that
    of motion; and how much the difference of the two varies over the last steps. No gradient.

    Args:
        steepness, underestimating, found_weight, tolerance, use_variance, variance_steps: as above; `found_weight`
            multiplies the distance.
    """

    history: Tensor
    count: Tensor

    def __init__(
        self,
        *,
        steepness: float,
        underestimating: float,
        found_weight: float,
        tolerance: float,
        use_variance: bool,
        variance_steps: int,
    ) -> None:
        super().__init__()
        self.steepness, self.underestimating = steepness, underestimating
        self.found_weight, self.tolerance, self.use_variance = found_weight, tolerance, use_variance
        self.register_buffer("history", torch.zeros(variance_steps))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, probability: Tensor, where: Tensor, targets: MotionTargets, frames: int) -> Tensor:
        """lambda for this batch; remembers it.

        Args:
            probability, where: (F, N, 1), (F, N, 4) predictions.
            targets: of the same frames.
            frames: T, frames per clip; F = B * T, clip by clip.
        """
        return self.steepness ** -self.value(probability, where, targets, frames)

    @torch.no_grad()
    def value(self, probability: Tensor, where: Tensor, targets: MotionTargets, frames: int) -> Tensor:
        """The exponent v."""
        moving, predicted = targets.presence[..., 0] > ON, probability[..., 0] > ON  # (F, N)
        if not moving.any() or not predicted.any():
            return where.new_tensor(NOBODY)
        order = torch.arange(len(where), device=where.device)
        clips = len(where) // frames
        apart = 10.0 * (order % frames * clips + order // frames)  # boxes of other frames are far away
        apart = apart[:, None, None].expand(-1, where.shape[1], 1)
        true = torch.cat([targets.where, apart], -1)[moving]
        found = torch.cat([where, apart], -1)[predicted]
        distance = torch.cdist(true, found, p=1).amin(1).mean()
        mean, true_mean = probability.mean(), targets.presence.mean()
        self._remember(mean - true_mean)
        total = ((distance - self.tolerance) * self.found_weight).clamp_min(0)
        total = total + (mean - self.underestimating * true_mean).clamp_min(0)
        if self.use_variance:
            total = total + self.history[: min(int(self.count), len(self.history))].var()
        return where.shape[1] * total

    def _remember(self, value: Tensor) -> None:
        for _ in range(1 if self.count else 2):  # the first value counts twice, as in the released code
            self.history[self.count % len(self.history)] = value
            self.count += 1


class MotionSizes(nn.Module):
    """Mean and spread of the sizes of what moves, over all of the training so far; the prior of box sizes.

    Sizes are fractions of the image before the sigmoid, width and height apart.

    Args:
        least_std: smallest spread.
    """

    sums: Tensor

    def __init__(self, *, least_std: float = 0.5) -> None:
        super().__init__()
        self.least_std = least_std
        self.register_buffer("sums", torch.zeros(3, 2))

    @torch.no_grad()
    def remember(self, targets: MotionTargets) -> None:
        """Take in the boxes of one more batch."""
        sizes = targets.where[targets.presence[..., 0] > ON][:, :2].clamp(1e-4, 1 - 1e-4).logit()
        self.sums += torch.stack([torch.ones_like(sizes), sizes, sizes.square()]).sum(1)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Mean and std (2,); of boxes of about a tenth of the image until any were seen."""
        if not self.sums[0, 0]:
            return self.sums.new_full((2,), -2.5), self.sums.new_ones(2)
        mean, square = self.sums[1:] / self.sums[0]
        return mean, (square - mean.square()).clamp_min(0).sqrt().clamp_min(self.least_std)
