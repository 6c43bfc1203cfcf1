"""How Simple Shapes are drawn (Devillers et al., 2023): one filled diamond, egg or triangle on black.

The published pictures are matplotlib's (Agg): the color times the exact area of a polygon in each pixel, in 8 bits;
the polygon's corners lie on a grid of 1/256 pixel. The egg's curves become polygons by Agg's rule: a piece of a Bezier
curve that is nearly flat is replaced by the middle of its two inner control points, any other is halved. That rule
depends on the size alone, so that the eggs of the eight published sizes are eight fixed polygons, to be turned.
Against 240 published pictures: at most 6 of 255 levels off, on average 0.04.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

CLASSES = ("diamond", "egg", "triangle")
COLUMNS = ("class", "x", "y", "size", "rotation", "red", "green", "blue")
"""Of a row of attributes."""
DIAMOND = ((0.5, 0.0), (1.0, 0.3), (0.5, 1.0), (0.0, 0.3))
TRIANGLE = ((0.5, 1.0), (0.2, 0.0), (0.8, 0.0))
EGG = (
    ((0.5, 0.0), (0.8, 0.0), (0.9, 0.1), (0.9, 0.3)),
    ((0.9, 0.3), (0.9, 0.5), (0.7, 1.0), (0.5, 1.0)),
    ((0.5, 1.0), (0.3, 1.0), (0.1, 0.5), (0.1, 0.3)),
    ((0.1, 0.3), (0.1, 0.1), (0.2, 0.0), (0.5, 0.0)),
)
"""Bezier curves, each of four control points, in a unit square whose y axis points up."""
RADIUS = 0.5832  # of the smallest circle around (0.5, 0.5) that holds every shape of size 1
FLATNESS = 0.25
GRID = 256.0
BLOCK = 128

Point = tuple[float, float]


def _flatten(curve: tuple[Point, ...], size: float) -> list[Point]:
    """The corners between the two ends of a curve, by Agg's rule, for a shape of `size` pixels."""
    p1, p2, p3, p4 = curve
    dx, dy = (p4[0] - p1[0]) * size, (p4[1] - p1[1]) * size
    near = abs((p2[0] - p4[0]) * size * dy - (p2[1] - p4[1]) * size * dx)
    far = abs((p3[0] - p4[0]) * size * dy - (p3[1] - p4[1]) * size * dx)
    if (near + far) ** 2 <= FLATNESS * (dx * dx + dy * dy):
        return [_middle(p2, p3)]
    p12, p23, p34 = _middle(p1, p2), _middle(p2, p3), _middle(p3, p4)
    p123, p234 = _middle(p12, p23), _middle(p23, p34)
    half = _middle(p123, p234)
    return _flatten((p1, p12, p123, half), size) + _flatten((half, p234, p34, p4), size)


def _middle(a: Point, b: Point) -> Point:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


@lru_cache(maxsize=64)
def polygon(kind: int, size: int) -> tuple[Point, ...]:
    """Corners of shape `kind` in the unit square, as drawn at `size` pixels."""
    if CLASSES[kind] != "egg":
        return DIAMOND if CLASSES[kind] == "diamond" else TRIANGLE
    points: list[Point] = []
    for curve in EGG:
        points += [curve[0], *_flatten(curve, size)]
    return tuple(points)


@lru_cache(maxsize=8)
def _corners(sizes: tuple[int, ...], device: str) -> list[Tensor]:
    """Per shape (sizes, V, 2): corners about the center; shorter polygons repeat their last corner."""
    tables = []
    for kind in range(len(CLASSES)):
        polygons = [polygon(kind, size) for size in sizes]
        longest = max(map(len, polygons))
        padded = [[*points, *[points[-1]] * (longest - len(points))] for points in polygons]
        tables.append(torch.tensor(padded, device=device) - 0.5)
    return tables


def coverage(corners: Tensor, side: int) -> Tensor:
    """Exact area of polygons in each pixel.

    Args:
        corners: (B, V, 2) pixels x to the right, y down, all inside [0, side]; either sense of rotation.
        side: of the window.

    Returns:
        (B, side, side) in [0, 1].
    """
    x, y = corners[..., 0], corners[..., 1]  # (B, V)
    x1, y1 = x.roll(-1, 1), y.roll(-1, 1)
    height = y1 - y
    rows = torch.arange(side, device=x.device, dtype=x.dtype)
    low, high = torch.minimum(y, y1)[..., None], torch.maximum(y, y1)[..., None]  # (B, V, 1)
    top, bottom = low.clamp(rows, rows + 1), high.clamp(rows, rows + 1)  # (B, V, side)
    slope = ((x1 - x) / torch.where(height == 0, 1.0, height))[..., None]
    enter, leave = x[..., None] + (top - y[..., None]) * slope, x[..., None] + (bottom - y[..., None]) * slope
    left, right = torch.minimum(enter, leave), torch.maximum(enter, leave)
    width = right - left
    thin = (0.004 - width).clamp_min_(0) / 2  # widens a vertical edge too little to see, so that no case is special
    left, right, width = left - thin, right + thin, width + 2 * thin
    weight = (bottom - top) / width * height.sign()[..., None]
    # The area right of the edge inside a pixel is the mean over the row of how much of the pixel is right of it:
    # (G(c + 1 - left) - G(c + 1 - right)) / (right - left), where G is the integral of a ramp that is cut at 0 and 1.
    columns = rows + 1
    area = _ramp_integral(columns - left[..., None]).sub_(_ramp_integral(columns - right[..., None]))
    return torch.einsum("bvrc,bvr->brc", area, weight).abs_().clamp_(max=1)


def _ramp_integral(t: Tensor) -> Tensor:
    clipped = t.clamp(0, 1)
    return t.sub_(clipped, alpha=0.5).mul_(clipped)


def render(
    kind: Tensor, x: Tensor, y: Tensor, size: Tensor, rotation: Tensor, color: Tensor, *, image_size: int = 32
) -> tuple[Tensor, Tensor]:
    """Pictures of one shape each, on the device of `kind`.

    Args:
        kind: (B,) int64 0 diamond, 1 egg, 2 triangle.
        x: (B,) center, pixels from the left edge.
        y: (B,) center, pixels from the BOTTOM edge.
        size: (B,) pixels.
        rotation: (B,) radians, counter-clockwise; 0 points up.
        color: (B, 3) RGB in 0..255.
        image_size: side of the pictures, pixels.

    Returns:
        image (B, 3, H, W) uint8 and cover (B, H, W) uint8, the share of each pixel that the shape covers times 255.
    """
    count, device = len(kind), kind.device
    if count == 0:
        empty = torch.zeros(0, image_size, image_size, dtype=torch.uint8, device=device)
        return empty.unsqueeze(1).expand(-1, 3, -1, -1), empty
    largest = float(size.max())
    side = 2 * math.ceil(RADIUS * max(largest, 1.0)) + 2
    drawn = size.round().long().clamp_min(1)
    first, last = int(drawn.min()), int(drawn.max())
    tables = _corners(tuple(range(first, last + 1)), str(device))
    row = image_size - y  # y points up
    column0, row0 = x.floor() - side // 2, row.floor() - side // 2  # the window's corner
    cosine, sine = rotation.cos(), rotation.sin()
    window = torch.empty(count, side, side, dtype=torch.uint8, device=device)
    for shape, table in enumerate(tables):  # three polygons of different length
        for rows in (kind == shape).nonzero().flatten().split(BLOCK):
            local = table[drawn[rows] - first] * size[rows, None, None]
            c, s = cosine[rows, None], sine[rows, None]
            across = local[..., 0] * c - local[..., 1] * s + (x - column0)[rows, None]
            down = (row - row0)[rows, None] - (local[..., 0] * s + local[..., 1] * c)
            corners = torch.stack([across, down], -1).mul_(GRID).round_().div_(GRID)
            window[rows] = coverage(corners.clamp_(0, side), side).mul_(255).round_().to(torch.uint8)
    cover = _paste(window.unsqueeze(1), column0, row0, image_size)
    # 8-bit rounding of cover / 255 * color, exact in float32
    tint = (window.unsqueeze(1).float() * (2 * color.float()[:, :, None, None])).add_(255).div_(510)
    image = _paste(tint.to(torch.uint8), column0, row0, image_size)
    return image, cover.squeeze(1)


def _paste(window: Tensor, column: Tensor, row: Tensor, image_size: int) -> Tensor:
    """(B, C, side, side) uint8 windows on black (B, C, H, W), cut at the frame."""
    count, channels, side, _ = window.shape
    wide = image_size + 2 * side
    offset = torch.arange(side, device=window.device)
    # a window that lies outside the frame lands in the margin
    columns = (column.long() + side).clamp(0, image_size + side)[:, None] + offset  # (B, side)
    rows = (row.long() + side).clamp(0, image_size + side)[:, None] + offset
    place = (rows[:, :, None] * wide + columns[:, None, :]).flatten(1)  # (B, side side)
    canvas = torch.zeros(count, channels, wide * wide, dtype=window.dtype, device=window.device)
    canvas.scatter_(2, place.unsqueeze(1).expand(-1, channels, -1), window.flatten(2))
    return canvas.unflatten(2, (wide, wide))[:, :, side:-side, side:-side].contiguous()


def hls_to_rgb(hls: Tensor) -> Tensor:
    """(..., 3) hue 0..180, lightness and saturation 0..255 -> (..., 3) RGB 0..255, rounded like OpenCV's 8-bit one."""
    values = hls.double()
    hue, light, saturation = (values[..., 0] % 180) / 180, values[..., 1] / 255, values[..., 2] / 255
    high = torch.where(light <= 0.5, light * (1 + saturation), light + saturation - light * saturation)
    low = 2 * light - high
    channels = []
    for shift in (1 / 3, 0.0, -1 / 3):
        h = (hue + shift) % 1
        rising, falling = low + (high - low) * 6 * h, low + (high - low) * (2 / 3 - h) * 6
        value = torch.where(h < 1 / 6, rising, torch.where(h < 0.5, high, torch.where(h < 2 / 3, falling, low)))
        channels.append(torch.where(saturation == 0, light, value))
    return (255 * torch.stack(channels, -1)).round()
