"""What surfaces look like: lamps with shadows, light from all sides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from objectscape.data.synthetic.scene3d import trace
from objectscape.data.synthetic.scene3d.trace import Bodies
from objectscape.data.synthetic.scene3d.world import World


@dataclass
class Shading:
    """Options of `render`."""

    shadows: str
    shadow_samples: int
    reflections: bool
    seed: int


@dataclass
class Surfaces:
    """Materials by number of surface."""

    table: Tensor
    """(8, S) color, metal, roughness, normal of planes"""

    @classmethod
    def of(cls, world: World, bodies: Bodies) -> Surfaces:
        flat = (bodies.scene, bodies.slot)
        one, two = world.objects.material, world.planes.material
        normal = torch.nn.functional.normalize(world.planes.normal, dim=-1).flatten(0, 1)  # type: ignore[arg-type]
        columns = [
            torch.cat([one.color[flat], two.color.flatten(0, 1)]).t(),
            torch.cat([one.metal[flat], two.metal.flatten()])[None],  # type: ignore[index, union-attr]
            torch.cat([one.roughness[flat], two.roughness.flatten()])[None],  # type: ignore[index, union-attr]
            torch.cat([normal.new_zeros(len(bodies), 3), normal]).t(),
        ]
        table = torch.cat(columns)
        return cls(table=torch.cat([table, table.new_zeros(8, 1)], 1))


def shade(
    world: World,
    bodies: Bodies,
    surfaces: Surfaces,
    start: Tensor,
    way: Tensor,
    depth: Tensor,
    surface: Tensor,
    width: int,
    options: Shading,
    row: int,
) -> tuple[Tensor, Tensor]:
    """Linear color and normal (3, B, R) of what rays meet."""
    sky = surface == surfaces.table.shape[1] - 1
    point = torch.addcmul(start, way, torch.where(sky, 0, depth))
    rows = surfaces.table[:, surface]  # 8, B, R
    normal = rows[5:]
    solid = (surface < len(bodies)).flatten().nonzero()[:, 0]
    body = surface.flatten()[solid]
    normal.flatten(1)[:, solid] = trace.normals_of_bodies(bodies, body, point.flatten(1)[:, solid])
    light = world.ambient.t()[..., None] * (0.75 + 0.25 * normal[2])  # type: ignore[union-attr]
    skip = torch.where(sky, -1, surface)
    for number in range(world.lights.position.shape[1]):
        lamp = world.lights.position[:, number]
        to = lamp.t()[..., None] - point
        square = (to * to).sum(0)
        slope = ((normal * to).sum(0) * square.rsqrt()).clamp_min(0)
        power = slope * (lamp.square().sum(1)[:, None] / square)
        if options.shadows != "none":
            ray, body = trace.candidates(
                bodies, lamp, torch.zeros_like(lamp[:, 0]), point, torch.where(slope > 0, skip, -1)
            )
            time = trace.enter_bodies(bodies, body, point.flatten(1)[:, ray], to.flatten(1)[:, ray])
            power.view(-1)[ray[time < 1]] = 0
        light = light + power * world.lights.color[:, number].t()[..., None]  # type: ignore[index]
    color = rows[:3] * light
    up = torch.nn.functional.normalize(way, dim=0)[2]
    assert world.sky is not None
    top = torch.where(up > 0, world.sky.zenith.t()[..., None], world.sky.below.t()[..., None])
    background = torch.lerp(world.sky.horizon.t()[..., None].expand_as(top), top, up.abs())
    return torch.where(sky, background, color), normal
