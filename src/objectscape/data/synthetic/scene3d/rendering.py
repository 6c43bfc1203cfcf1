"""The renderer: a `World` in, pictures and their exact ground truth out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from objectscape.data.boxes import boxes_from_segments
from objectscape.data.synthetic.scene3d import trace
from objectscape.data.synthetic.scene3d.materials import Shading, Surfaces, even_pattern, shade
from objectscape.data.synthetic.scene3d.trace import Bodies
from objectscape.data.synthetic.scene3d.world import World
from objectscape.scene import Tensors

_SKY = 1e30
"""Depth that stands for an infinite one."""

Shadows = Literal["soft", "hard", "none"]
_V = TypeVar("_V", bound="Visibility")


@dataclass(kw_only=True)
class Visibility(Tensors):
    """What of each object is seen. With views, every field has the axes (B, V, ...)."""

    segments: Tensor
    """(B, H, W) int64: 0 background, n + 1 where object n owns most samples of the pixel; ties: the first sample."""
    pixels: Tensor
    """(B, N) float32 area that each object covers in the picture, in pixels; fractions of pixels count."""
    visibility: Tensor
    """(B, N) float32 visible part of what the picture would show of the object if it were alone: 0..1; 0 if nothing."""
    boxes: Tensor
    """(B, N, 4) float32 pixels x0 y0 x1 y1 of the object's segment, x1 and y1 exclusive; zero where it has no pixel."""


@dataclass(kw_only=True)
class Rendered(Visibility):
    """Pictures and their ground truth. With views, every field has the axes (B, V, ...)."""

    image: Tensor
    """(B, 3, H, W) uint8, sRGB."""
    depth: Tensor
    """(B, H, W) float32 distance along the optical axis, mean over the samples of the pixel's segment; inf: sky."""
    normals: Tensor
    """(B, 3, H, W) float32 of length 1 in world axes, mean over the same samples; 0: sky."""
    planes: Tensor
    """(B, H, W) int64: -1 object or sky, else which of the P planes."""


def render(
    world: World,
    size: tuple[int, int],
    *,
    antialias: int = 2,
    shadows: Shadows = "soft",
    shadow_samples: int = 2,
    reflections: bool = True,
    chunk: int | None = None,
    seed: int = 0,
) -> Rendered:
    """Pictures of B scenes, on the world's device. The same world gives the same picture, whatever batch it is in.

    Args:
        world: what to render; cameras with V views give every result a second axis V.
        size: (H, W) pixels.
        antialias: samples per pixel along each axis: 2 takes 4 samples.
        shadows: "soft" by the size of the lamps, "hard" from their middle, or "none".
        shadow_samples: of soft shadows, per lamp and sample of a pixel.
        reflections: whether metal and polished surfaces mirror what is around them, or the sky alone.
        chunk: rays in flight, which bounds memory; None: 131072 on the CPU, 4 million elsewhere.
        seed: of the pattern of soft shadows and rough reflections; equal for all scenes.

    Raises:
        ValueError: if an option or the world makes no sense.
    """
    _check(world, size, antialias, chunk)
    if shadows not in ("soft", "hard", "none"):
        raise ValueError(f"shadows={shadows!r}; choose soft, hard or none")
    if shadow_samples < 1:
        raise ValueError(f"shadow_samples={shadow_samples}; at least one is needed")
    options = Shading(shadows=shadows, shadow_samples=shadow_samples, reflections=reflections, seed=seed)
    return _run(Rendered, world, size, antialias, chunk, options)


def visible(world: World, size: tuple[int, int], *, antialias: int = 1, chunk: int | None = None) -> Visibility:
    """What of each object is seen, without a picture: quick, for rules that reject scenes. Arguments as `render`'s."""
    _check(world, size, antialias, chunk)
    return _run(Visibility, world, size, antialias, chunk, None)


def _check(world: World, size: tuple[int, int], antialias: int, chunk: int | None) -> None:
    if world.objects.position.ndim != 3:
        raise ValueError("this World is a single scene without its batch axis; index it by a slice: world[i : i + 1]")
    if min(size) < 1:
        raise ValueError(f"size={size}; height and width are in pixels, at least 1")
    if antialias < 1:
        raise ValueError(f"antialias={antialias}; 1 takes one sample per pixel, 2 takes 4")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk}; at least one ray is needed")


@torch.no_grad()
def _run(
    kind: type[_V], world: World, size: tuple[int, int], antialias: int, chunk: int | None, options: Shading | None
) -> _V:
    views = world.camera.position.shape[1] if world.camera.position.ndim == 3 else None
    if views is not None:
        copies = {
            name: getattr(world, name).map(lambda t: t.repeat_interleave(views, 0))
            for name in ("objects", "planes", "lights", "sky")
        }
        camera, ambient = world.camera.map(lambda t: t.flatten(0, 1)), world.ambient.repeat_interleave(views, 0)
        world = World(**copies, camera=camera, ambient=ambient)
    world.check()
    rays = chunk or (131072 if world.ambient.device.type == "cpu" else 1 << 22)
    scenes = max(1, rays // (size[0] * size[1] * antialias**2))
    parts = [
        _part(kind, world[i : i + scenes], size, antialias, rays, options) for i in range(0, max(len(world), 1), scenes)
    ]
    whole = {f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(kind)}
    if views is not None:
        whole = {name: value.unflatten(0, (-1, views)) for name, value in whole.items()}
    return kind(**whole)


def _bands(height: int, width: int, rays: int) -> Iterator[slice]:
    """Rows of pixels, as many at a time as `rays` allow; `width` rays each."""
    step = max(1, rays // max(width, 1))
    return (slice(i, min(i + step, height)) for i in range(0, height, step))


def _part(
    kind: type[_V], world: World, size: tuple[int, int], antialias: int, rays: int, options: Shading | None
) -> _V:
    """`_run` for scenes that are rendered at a time."""
    (height, width), batch, a = size, len(world), antialias
    device = world.objects.position.device
    count = world.objects.shape.shape[1]
    bodies = Bodies.of(world.objects)
    surfaces = Surfaces.of(world, bodies) if options is not None else None
    x = (torch.arange(width * a, dtype=torch.float32, device=device) + 0.5) * (2 / (a * height)) - width / height
    rows = (torch.arange(height * a, dtype=torch.float32, device=device) + 0.5) * (2 / (a * height)) - 1
    own = torch.zeros(len(bodies), dtype=torch.int64, device=device)  # samples of each body, alone and in the picture
    seen = torch.zeros(len(bodies), dtype=torch.int64, device=device)
    parts: list[dict[str, Tensor]] = []
    planes = world.planes.point.shape[1]
    background = batch * planes + 1  # surfaces that are no bodies: planes, and the sky
    numbers = torch.cat([bodies.slot + 1, bodies.slot.new_zeros(background)])
    which = torch.arange(planes, device=device).repeat(batch)
    which = torch.cat([torch.full_like(bodies.slot, -1), which, which.new_full((1,), -1)])
    frame = world.camera.frame()
    start = world.camera.position.t()[..., None]  # 3, B, 1
    for band in _bands(height, width * a * a * batch, rays):
        y = rows[band.start * a : band.stop * a]
        grid = (batch, len(y), len(x))
        right, down, forward = (axis.t()[:, :, None, None] for axis in frame)
        way = (forward + right * x + down * y[:, None]).flatten(2)  # 3, B, R
        keys = trace.meet_planes(world.planes, len(bodies), start, way)
        ray, body, depth = trace.look(bodies, world.camera, x, y)
        keys.view(-1).scatter_reduce_(0, ray, trace.encode(depth, body), "amin")
        own += torch.bincount(body, minlength=len(bodies))
        depth, surface = trace.decode(keys)
        seen += torch.bincount(surface.flatten(), minlength=len(numbers))[: len(bodies)]
        labels = numbers.index_select(0, surface.flatten())
        segments, first, agree = _majority(_samples(labels.view(grid), a))
        part = {"segments": segments}
        if options is not None and surfaces is not None:
            number = torch.arange(len(rows), device=device)[band.start * a : band.stop * a]
            pattern = even_pattern(torch.arange(len(x), device=device), number, options.seed)
            scattered = replace(options, pattern=pattern)
            color, normal = shade(world, bodies, surfaces, start, way, depth, surface, scattered)
            color, normal, depth = (
                _samples(t.unflatten(-1, grid[1:]).flatten(0, -3), a) for t in (color, normal, depth)
            )
            color, normal = (t.unflatten(0, (3, batch)).transpose(0, 1) for t in (color, normal))
            if a > 1:
                share = agree.float() / agree.sum(1, keepdim=True)  # B, S, H, W
                depth = (depth.clamp_max(_SKY) * share).sum(1, keepdim=True)
                depth = torch.where(depth < _SKY / 10 / a**2, depth, float("inf"))
                normal = (normal * share[:, None]).sum(2, keepdim=True)
                normal = normal * normal.square().sum(1, keepdim=True).clamp_min(1e-12).rsqrt()
            part |= {"image": _encode(color.mean(2)), "depth": depth[:, 0], "normals": normal[:, :, 0]}
            owner = _samples(surface.view(grid), a).gather(1, first[:, None])
            part["planes"] = which.index_select(0, owner.flatten()).view(segments.shape)
        parts.append(part)
    result = {name: torch.cat([part[name] for part in parts], -2) for name in parts[0]}

    def per_object(values: Tensor) -> Tensor:
        return torch.cat([values.float(), values.new_zeros(1).float()])[bodies.number]

    result["pixels"] = per_object(seen) / a**2
    result["visibility"] = per_object(seen) / per_object(own).clamp_min(1)
    result["boxes"] = boxes_from_segments(result["segments"], count)[0]
    return kind(**result)


def _samples(values: Tensor, a: int) -> Tensor:
    """(B, H a, W a) to (B, a a, H, W)."""
    batch, high, wide = values.shape
    high, wide = high // a, wide // a
    return values.view(batch, high, a, wide, a).permute(0, 2, 4, 1, 3).reshape(batch, a * a, high, wide)


def _majority(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of (B, S, H, W) labels: the most frequent (B, H, W), its first sample (B, H, W), which have it (B, S, H, W)."""
    count = labels.shape[1]
    first = torch.zeros_like(labels[:, 0])
    if count == 1:
        return labels[:, 0], first, torch.ones_like(labels, dtype=torch.bool)
    mixed = (labels.amin(1) != labels.amax(1)).view(-1).nonzero()[:, 0]
    some = labels.movedim(1, 0).flatten(1).index_select(1, mixed)  # S, K
    rank = (some[:, None] == some).sum(1) * count + torch.arange(count, 0, -1, device=some.device)[:, None]
    first.view(-1)[mixed] = rank.argmax(0)
    chosen = labels.gather(1, first[:, None])
    return chosen[:, 0], first, labels == chosen


def _encode(linear: Tensor) -> Tensor:
    """Linear light to 8-bit sRGB."""
    linear = linear.clamp(0, 1)
    curve = 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    curve = torch.maximum(curve, (linear * 12.92).clamp_max(0.04045))  # the straight beginning
    return (curve * 255 + 0.5).to(torch.uint8)
