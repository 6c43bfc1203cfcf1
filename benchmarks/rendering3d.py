"""Rendering in three dimensions: our batched ray caster against a plain NumPy one, scene by scene, on one CPU thread

Six balls, boxes and cylinders on a ground, one lamp, hard shadows, one sample per pixel. The NumPy caster intersects
every pixel with every object, shades it, and casts a shadow ray at every object. Both also give the instance map; they
must agree about it. Ours darkens the surroundings of objects on top of that. "Full shading" is `render`'s default: four
samples per pixel, soft shadows of three lamps, highlights, mirrors.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from benchmarks.measure import Row, device, in_turns, row
from objectscape.data.synthetic import scene3d

BATCH, TURNS = 64, 5
GPU_BATCH = 1024


def worlds(batch: int) -> scene3d.World:
    """Six balls, boxes and cylinders; the last three of metal."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(batch, 6, 8, generator=generator)
    scale = 0.4 + 0.4 * draws[..., 2:3]
    cells = torch.tensor([[x, y] for x in (-2.0, 0, 2) for y in (-1.2, 1.2)])
    material = scene3d.Material(color=draws[..., 3:6], roughness=1.0)
    objects = scene3d.Objects(
        shape=(draws[..., 6] * 3).long(),
        position=torch.cat([cells + draws[..., :2] - 0.5, scale], 2),
        scale=scale,
        rotation=scene3d.turn(draws[..., 7] * math.pi),
        material=material,
    )
    ground = scene3d.Material(color=torch.full((batch, 1, 3), 0.5), roughness=1.0)
    return scene3d.World(
        objects=objects,
        planes=scene3d.Planes.ground(ground),
        camera=scene3d.Camera.orbit(azimuth=torch.full((batch,), -0.8), elevation=0.5, distance=11.0),
        lights=scene3d.Lights(position=torch.tensor([[[-4.0, -6, 6]]]).expand(batch, 1, 3), color=0.7),
    )


def full(world: scene3d.World) -> scene3d.World:
    """The same with three large lamps, half of the objects of metal, half of rubber."""
    lamps = torch.tensor([[-4.0, -6, 6], [6, -3, 4], [-3, 5, 5]]).expand(len(world), 3, 3)
    lights = scene3d.Lights(position=lamps, color=torch.tensor([[0.7], [0.2], [0.2]]), size=0.7)
    metal = (torch.arange(6) > 2).float()
    material = dataclasses.replace(world.objects.material, metal=metal, roughness=0.7 - 0.5 * metal)
    return dataclasses.replace(world, lights=lights, objects=dataclasses.replace(world.objects, material=material))


def enter(shape: int, start: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Where rays (pixels, 3) enter a unit ball, box or cylinder."""
    with np.errstate(all="ignore"):
        low, high = np.full(len(way), -np.inf, np.float32), np.full(len(way), np.inf, np.float32)
        if shape != 1:
            axes = 3 if shape == 0 else 2
            a = (way[:, :axes] ** 2).sum(1)
            b = (start[:, :axes] * way[:, :axes]).sum(1)
            root = np.sqrt(b * b - a * ((start[:, :axes] ** 2).sum(1) - 1))
            low, high = (-b - root) / a, (-b + root) / a
        for axis in {0: (), 1: (0, 1, 2), 2: (2,)}[shape]:
            ends = (-1 - start[:, axis]) / way[:, axis], (1 - start[:, axis]) / way[:, axis]
            low, high = np.maximum(low, np.minimum(*ends)), np.minimum(high, np.maximum(*ends))
        return np.where((low < high) & (low > 1e-3), low, np.inf)


def plain(world: dict[str, np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (size, size, 3) uint8 and segments of one scene."""
    place = (np.mgrid[:size, :size].reshape(2, -1).T + 0.5).astype(np.float32) * (2 / size) - 1
    way = world["forward"] + place[:, 1:] * world["right"] + place[:, :1] * world["down"]
    eye, lamp = world["eye"][None], world["lamp"]
    with np.errstate(divide="ignore"):
        ground = -eye[:, 2] / way[:, 2]
    nearest = np.where(ground > 0, ground, np.inf).astype(np.float32)
    owner = np.zeros(len(way), np.int64)
    frames = [turned.T / scale for turned, scale in zip(world["rotation"], world["scale"])]
    for n, frame in enumerate(frames):
        time = enter(world["shape"][n], (eye - world["position"][n]) @ frame.T, way @ frame.T)
        closer = time < nearest
        nearest[closer], owner[closer] = time[closer], n + 1
    sky = np.isinf(nearest)
    point = eye + way * np.where(sky, 0, nearest)[:, None]
    normal = np.zeros_like(point)
    normal[:, 2] = 1
    color = np.full_like(point, 0.5)
    for n, frame in enumerate(frames):
        own = owner == n + 1
        local = (point[own] - world["position"][n]) @ frame.T
        shape = world["shape"][n]
        if shape == 1:
            local = np.sign(local) * (abs(local) == abs(local).max(1, keepdims=True))
        elif shape == 2:
            cap = abs(local[:, 2]) > (local[:, :2] ** 2).sum(1)
            local[cap, :2], local[~cap, 2] = 0, 0
        outward = local @ frame
        normal[own] = outward / np.linalg.norm(outward, axis=1, keepdims=True)
        color[own] = world["color"][n]
    to = lamp - point
    square = (to**2).sum(1)
    power = np.maximum((normal * to).sum(1), 0) / np.sqrt(square) * ((lamp**2).sum() / square)
    for n, frame in enumerate(frames):
        hidden = enter(world["shape"][n], (point - world["position"][n]) @ frame.T, to @ frame.T) < 1
        power[hidden & (owner != n + 1)] = 0
    light = 0.3 * (0.75 + 0.25 * normal[:, 2]) + 0.7 * power
    linear = np.where(sky[:, None], 0.5, np.clip(color * light[:, None], 0, 1))
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255 + 0.5).astype(np.uint8).reshape(size, size, 3), owner.reshape(size, size)


def for_plain(world: scene3d.World) -> list[dict[str, np.ndarray]]:
    objects = world.objects
    right, down, forward = world.camera.frame()
    fields = {
        "shape": objects.shape, "position": objects.position, "scale": objects.scale, "rotation": objects.rotation,
        "color": objects.material.color, "eye": world.camera.position, "lamp": world.lights.position[:, 0],
        "right": right, "down": down, "forward": forward,
    }  # fmt: skip
    return [{name: values[b].numpy() for name, values in fields.items()} for b in range(len(world))]


def run(*, quick: bool = False) -> list[Row]:
    """Images per second of ours and of the plain caster ("theirs"); full shading has no counterpart."""
    batch, turns = (2, 1) if quick else (BATCH, TURNS)
    sizes = (16,) if quick else (64, 128)
    world = worlds(batch)
    scenes = for_plain(world)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[Row] = []
    hard = {"antialias": 1, "shadows": "hard", "reflections": False}
    try:
        for size in sizes:
            theirs = np.stack([plain(scene, size)[1] for scene in scenes])
            agree = (scene3d.visible(world, (size, size)).segments.numpy() == theirs).mean()
            if agree < 0.999:
                raise RuntimeError(f"the two casters agree about only {agree:.2%} of the pixels at {size}x{size}")
            works = {
                "ours": lambda s=size: scene3d.render(world, (s, s), **hard),
                "theirs": lambda s=size: [plain(scene, s) for scene in scenes],
                "full": lambda s=size: scene3d.render(full(world), (s, s)),
                "visible": lambda s=size: scene3d.visible(world, (s, s)),
            }
            rate = {name: batch / time for name, time in in_turns(works, turns=turns).items()}
            name = f"{size}x{size}"
            rows.append(row(f"{name}, hard shadows", rate["ours"], rate["theirs"], "images/s", higher=True))
            rows.append(row(f"{name}, full shading", rate["full"], None, "images/s"))
            rows.append(row(f"{name}, labels and visibility alone", rate["visible"], None, "images/s"))
        torch.set_num_threads(2)
        for size in sizes:
            works = {
                "hard shadows": lambda s=size: scene3d.render(world, (s, s), **hard),
                "full shading": lambda s=size: scene3d.render(full(world), (s, s)),
            }
            for name, time in in_turns(works, turns=turns).items():
                rows.append(row(f"{size}x{size}, {name}, two threads", batch / time, None, "images/s"))
    finally:
        torch.set_num_threads(threads)
    if device().type == "cuda":
        world = worlds(8 if quick else GPU_BATCH).to(device())
        many = full(world.to("cpu")).to(device())
        for size in sizes:
            works = {
                "hard shadows": lambda s=size: scene3d.render(world, (s, s), **hard),
                "full shading": lambda s=size: scene3d.render(many, (s, s)),
            }
            for name, time in in_turns(works, turns=turns).items():
                rows.append(row(f"{size}x{size}, {name}, on the GPU", len(world) / time, None, "images/s"))
    return rows
