"""Baselines without learning: segmentations that a network has to beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from objectscape.nn.instance_coloring import coordinates
from objectscape.seeding import derive_generator

IMAGES_AT_ONCE = 64  # bounds the memory: images x restarts x pixels x clusters distances are held together


def kmeans_segments(
    image: Tensor,
    clusters: int,
    position_weight: float = 0.25,
    *,
    restarts: int = 5,
    iterations: int = 20,
    pixels: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Segment each image by k-means on the color and place of its pixels (k-means++ start, best of several).

    With `position_weight` 0 this is the color baseline: a network that scores the same has learned colors, not objects.

    Args:
        image: (B, 3, H, W) uint8, or floating point in [0, 1].
        clusters: K, background included.
        position_weight: of the coordinates (-1..1 over the image) against the colors (0..1).
        restarts: independent starts per image; the one with the smallest sum of squared distances is kept.
        iterations: Lloyd's updates per start.
        pixels: how many of an image's pixels, evenly spread, the centers are found from; None for all. It bounds what
            large images cost.
        seed: of the starts.

    Returns:
        (B, H, W) int64 cluster of every pixel, 0..K-1.
    """
    counts = {"clusters": clusters, "restarts": restarts, "iterations": iterations}
    for name, value in {**counts, **({} if pixels is None else {"pixels": pixels})}.items():
        if value < 1:
            raise ValueError(f"{name}={value}; at least 1 is needed")
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}; expected (B, 3, H, W)")
    colors = _unit(image)
    generator = derive_generator(seed, "kmeans")
    place = position_weight * coordinates(colors.shape[2], colors.shape[3], colors)  # (2, H, W)
    features = torch.cat([colors, place.expand(len(colors), -1, -1, -1)], dim=1)  # (B, 5, H, W)
    points = features.flatten(2).transpose(1, 2)  # (B, N, 5), N = H W
    some: slice | Tensor = slice(None)
    if pixels is not None and pixels < points.shape[1]:
        some = torch.randperm(points.shape[1], generator=generator)[:pixels].to(points.device)
    found = []
    for part in points.split(IMAGES_AT_ONCE):
        centers = _kmeans(part[:, some], clusters, restarts, iterations, generator)  # (B, K, 5)
        found.append(_distances(part, centers).argmin(1))
    return torch.cat(found).unflatten(1, image.shape[-2:])


def chromaticity(image: Tensor) -> Tensor:
    """Pixels divided by their largest channel: shading and texture that scale a color are gone, black stays black.

    Args:
        image: (B, 3, H, W) uint8, or floating point in [0, 1].

    Returns:
        (B, 3, H, W) float32 in [0, 1].
    """
    pixels = _unit(image)
    return pixels / pixels.amax(1, keepdim=True).clamp_min(1e-6)


def mean_colors(image: Tensor, segments: Tensor) -> Tensor:
    """Each image redrawn with one color per segment, the mean of its pixels.

    Args:
        image: (B, 3, H, W) uint8, or floating point in [0, 1].
        segments: (B, H, W) int64, 0..K-1.

    Returns:
        (B, 3, H, W) float32 in [0, 1].
    """
    pixels = _unit(image)
    member = nn.functional.one_hot(segments).to(pixels.dtype)  # (B, H, W, K)
    sums = torch.einsum("bchw,bhwk->bck", pixels, member)
    means = sums / member.sum((1, 2)).clamp_min(1)[:, None]  # (B, 3, K)
    return torch.einsum("bck,bhwk->bchw", means, member)


def _unit(image: Tensor) -> Tensor:
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def _kmeans(points: Tensor, clusters: int, restarts: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Points (B, N, D) -> centers (B, K, D)."""
    images = len(points)
    problems = points.repeat_interleave(restarts, dim=0)  # (P, N, D), P = images x restarts
    counted = torch.cat([problems, problems.new_ones(*problems.shape[:2], 1)], dim=2)  # (P, N, D+1)
    centers = _plus_plus(problems, clusters, generator)  # (P, K, D)
    numbers = torch.arange(clusters, device=points.device)[:, None]
    for _ in range(iterations):
        nearest = _distances(problems, centers).argmin(1)  # (P, N)
        member = (nearest[:, None] == numbers).to(points.dtype)  # (P, K, N)
        sums, size = torch.split(member @ counted, [points.shape[2], 1], dim=2)  # (P, K, D), (P, K, 1)
        centers = torch.where(size > 0, sums / size.clamp_min(1), centers)  # an empty cluster stays where it is
    distance = _distances(problems, centers).amin(1)  # (P, N), less |x|^2, which is alike for all starts
    best = distance.sum(1).view(images, restarts).argmin(1)
    return centers.view(images, restarts, clusters, -1)[torch.arange(images, device=points.device), best]


def _distances(points: Tensor, centers: Tensor) -> Tensor:
    """(P, N, D), (P, K, D) -> (P, K, N) squared distances less the points' own squared length."""
    return torch.baddbmm(centers.square().sum(2, keepdim=True), centers, points.transpose(1, 2), alpha=-2)


def _plus_plus(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii, 2007): each center is drawn by squared distance to the nearest so far."""
    rows = torch.arange(len(points), device=points.device)
    distance = torch.ones(points.shape[:2], device=points.device)  # (P, N): the first center is drawn uniformly
    centers: list[Tensor] = []
    for _ in range(clusters):
        # the epsilon lets the draw go on where there are fewer distinct points than clusters
        chosen = torch.multinomial(distance.cpu() + 1e-12, 1, generator=generator).squeeze(1).to(points.device)
        centers.append(points[rows, chosen])
        new = (points - centers[-1][:, None]).square().sum(2)
        distance = new if len(centers) == 1 else torch.minimum(distance, new)
    return torch.stack(centers, 1)
