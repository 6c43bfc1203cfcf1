"""What surfaces look like: lamps and their shadows, light from all sides, highlights, mirrors, textures.

The model, for a surface of albedo a, metal m, roughness r, normal n:

* diffuse: (1 - m) a (ambient + sum over lamps of their light), by the cosine of incidence, less what is hidden;
* ambient: from above in full, from below by half (0.75 + 0.25 n_z), less what solids near by keep away, taken as balls;
* highlights: the GGX lobe in the approximation of Karis (SIGGRAPH 2013) and Unity's mobile shaders, with r^2 widened
  by the angle at which the lamp is seen, so that large lamps have large highlights;
* mirrors: one ray per sample, scattered by r^2, into the scene without further mirrors, times Schlick's Fresnel term.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from objectscape.data.synthetic.scene3d import textures, trace
from objectscape.data.synthetic.scene3d.trace import Bodies
from objectscape.data.synthetic.scene3d.world import TEXTURES, World

_DULL = 0.9
"""From this roughness on, surfaces other than metal have no highlight worth its time."""

_MIRROR = 0.4
"""Below this roughness, they mirror their surroundings."""

_COLOR, _METAL, _ROUGH, _NORMAL = slice(0, 3), 3, 4, slice(5, 8)


@dataclass(frozen=True)
class Shading:
    """Options of `render`, and where in the picture a bundle of rays is."""

    shadows: str
    shadow_samples: int
    reflections: bool
    seed: int
    pattern: Tensor | None = None
    """(3, R) numbers in 0..1, evenly spread over neighboring samples of the picture; None: nothing is scattered"""


@dataclass
class Surfaces:
    """Materials by number of surface; S of them."""

    table: Tensor
    """(8, S) color, metal, roughness, normal of planes"""
    texture: Tensor
    """(S,) index into `TEXTURES`"""
    pattern: Tensor
    """(15, S) second color, matrix and offset from the world to the texture's frame"""
    used: list[int]
    """the textures that occur, without plain"""

    @classmethod
    def of(cls, world: World, bodies: Bodies) -> Surfaces:
        flat = (bodies.scene, bodies.slot)
        solid, plane = world.objects.material, world.planes.material

        def both(name: str) -> Tensor:
            """(S - 1, ...) of one field."""
            return torch.cat([getattr(solid, name)[flat], getattr(plane, name).flatten(0, 1)])

        normal = torch.nn.functional.normalize(world.planes.normal, dim=-1).flatten(0, 1)
        normal = torch.cat([normal.new_zeros(len(bodies), 3), normal])
        rows = [both("color"), both("metal")[:, None], both("roughness")[:, None], normal]
        table = torch.cat(rows, 1).t()
        texture = torch.cat([both("texture"), normal.new_zeros(1, dtype=torch.int64)])
        used = (torch.bincount(texture, minlength=len(TEXTURES)) > 0).tolist()
        turned = world.objects.rotation[flat].mT
        turned = torch.cat([turned, torch.eye(3, device=normal.device).expand(len(normal) - len(turned), 3, 3)])
        matrix = both("orientation").mT @ turned * both("frequency")[:, None, None]
        origin = torch.cat([bodies.center, world.planes.point.flatten(0, 1)])
        offset = both("offset") - (matrix @ origin[..., None])[..., 0]
        pattern = torch.cat([both("second"), matrix.flatten(1), offset], 1).t()
        return cls(
            table=torch.cat([table, table.new_zeros(8, 1)], 1),  # the last one is the sky
            texture=texture,
            pattern=pattern.contiguous(),
            used=[number for number, some in enumerate(used) if some and number],
        )


def even_pattern(columns: Tensor, rows: Tensor, seed: int) -> Tensor:
    """(3, rows x columns) numbers in 0..1 for the samples of a picture: neighbors differ, and fill 0..1 evenly.

    An additive recurrence with the generalized golden ratio, in float64 so that every device gives the same.
    """
    across = torch.tensor([0.7548776662466927, 0.8191725133961645, 0.8566748838545029], dtype=torch.float64)
    down = torch.tensor([0.5698402909980532, 0.6710436067037893, 0.7338918566271260], dtype=torch.float64)
    first = torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64) + (seed % 65536) * 0.6180339887498949
    across, down, first = (t.to(columns.device)[:, None, None] for t in (across, down, first))
    return (first + across * columns + down * rows[:, None]).frac().flatten(1).float()


def shade(
    world: World,
    bodies: Bodies,
    surfaces: Surfaces,
    start: Tensor,
    way: Tensor,
    depth: Tensor,
    surface: Tensor,
    options: Shading,
) -> tuple[Tensor, Tensor]:
    """What rays see.

    Args:
        world: of B scenes.
        bodies: its objects.
        surfaces: its materials.
        start: (3, B, 1) or (3, B, R) of R rays in each scene.
        way: (3, B, R)
        depth: (B, R) ray parameter at which they meet
        surface: (B, R) which surface.
        options: of `render`.

    Returns:
        linear color and normal of length 1 (3, B, R); the sky's normal is 0.
    """
    sky = surface == surfaces.table.shape[1] - 1
    point = torch.addcmul(start, way, torch.where(sky, 0, depth))
    rows = surfaces.table[:, surface]  # 8, B, R
    normal = rows[_NORMAL]
    solid = (surface < len(bodies)).flatten().nonzero()[:, 0]
    normal.flatten(1)[:, solid] = trace.normals_of_bodies(bodies, surface.flatten()[solid], point.flatten(1)[:, solid])
    if surfaces.used:
        _paint(surfaces, surface.flatten(), point.flatten(1), normal.flatten(1), rows.flatten(1)[_COLOR])
    skip = torch.where(sky, -1, surface)
    ambient = (0.75 + 0.25 * normal[2]) * (1 - trace.darkening(bodies, point, normal, skip))
    light = ambient * world.ambient.t()[..., None]  # 3, B, R
    powers = []
    disk = _disk(options) if options.shadows == "soft" else None
    for number in range(world.lights.position.shape[1]):
        lamp, size = world.lights.position[:, number], world.lights.size[:, number]
        to = lamp.t()[..., None] - point
        square = (to * to).sum(0)
        power = (normal * to).sum(0).clamp_min(0) * square.rsqrt() * (lamp.square().sum(1)[:, None] / square)
        if options.shadows != "none":
            power *= 1 - trace.hidden(bodies, lamp, size, point, torch.where(power > 0, skip, -1), disk)
        powers.append(power)
        light += power * world.lights.color[:, number].t()[..., None]
    color = rows[_COLOR] * light * (1 - rows[_METAL])
    shiny = (((rows[_ROUGH] < _DULL) | (rows[_METAL] > 0)) & ~sky).flatten().nonzero()[:, 0]
    if len(shiny):
        glints = _glints(world, bodies, surfaces, start, way, point, rows, powers, surface, shiny, options)
        color.flatten(1)[:, shiny] += glints
    return torch.where(sky, _sky(world, way), color), normal


def _paint(surfaces: Surfaces, surface: Tensor, point: Tensor, normal: Tensor, color: Tensor) -> None:
    """Mixes the second color into `color` (3, Q), where the surfaces have a texture."""
    texture = surfaces.texture[surface]
    for number in surfaces.used:
        some = (texture == number).nonzero()[:, 0]
        rows = surfaces.pattern[:, surface[some]]  # 15, K
        matrix = rows[3:12].view(3, 3, -1)
        place = (matrix * point[:, some]).sum(1) + rows[12:]
        facing = (matrix * normal[:, some]).sum(1)
        color[:, some] = torch.lerp(color[:, some], rows[:3], textures.share(number, place, facing))


def _disk(options: Shading) -> tuple[Tensor, Tensor]:
    """Places (S, R) in the unit disk: a spiral that fills it evenly, turned and shifted from sample to sample."""
    assert options.pattern is not None
    count = torch.arange(options.shadow_samples, device=options.pattern.device)[:, None]
    radius = ((count + options.pattern[1]) / options.shadow_samples).sqrt()
    angle = 2.399963229728653 * count + 6.283185307179586 * options.pattern[0]
    return radius * angle.cos(), radius * angle.sin()


def _sky(world: World, way: Tensor) -> Tensor:
    """Color (3, B, R) of the sky in directions of any length."""
    up = way[2] * (way * way).sum(0).rsqrt()
    assert world.sky is not None
    end = torch.where(up > 0, world.sky.zenith.t()[..., None], world.sky.below.t()[..., None])
    return torch.lerp(world.sky.horizon.t()[..., None], end, up.abs())


def _glints(
    world: World,
    bodies: Bodies,
    surfaces: Surfaces,
    start: Tensor,
    way: Tensor,
    point: Tensor,
    rows: Tensor,
    powers: list[Tensor],
    surface: Tensor,
    shiny: Tensor,
    options: Shading,
) -> Tensor:
    """(3, K) highlights and mirrored light at the samples `shiny` (K,) of the flattened bundle."""
    batch, width = surface.shape
    scene = shiny // width
    rows, point = rows.flatten(1)[:, shiny], point.flatten(1)[:, shiny]
    view = way.flatten(1)[:, shiny]
    view = view * (view * view).sum(0).rsqrt()
    metal, normal = rows[_METAL], rows[_NORMAL]
    wide = rows[_ROUGH].square().clamp_min(0.01)
    base = torch.lerp(torch.full_like(rows[_COLOR], 0.04), rows[_COLOR], metal)  # mirrored at a right angle
    facing = -(view * normal).sum(0)
    color = torch.zeros_like(base)
    for number, power in enumerate(powers):
        lamp = world.lights.position[:, number].t()[:, scene]
        to = lamp - point
        near = (to * to).sum(0).rsqrt()
        half = to * near - view
        half = half * (half * half).sum(0).clamp_min(1e-9).rsqrt()
        turned = (half * normal).sum(0).clamp(0, 1)
        slanted = (half * view).sum(0).square().clamp_min(0.1)
        spread = (wide + world.lights.size[:, number][scene] * near / 2).clamp_max(1)
        lobe = turned * turned * (spread * spread - 1) + 1.00001
        strength = wide * wide / (lobe * lobe * slanted * (4 * wide + 2))
        color += base * strength * power.flatten()[shiny] * world.lights.color[:, number].t()[:, scene]
    fresnel = base + (1 - base) * (1 - rows[_ROUGH]).square() * (1 - facing.clamp(0, 1)) ** 5
    mirrors = ((metal > 0) | (rows[_ROUGH] < _MIRROR)).nonzero()[:, 0]
    if not len(mirrors):
        return color
    # Back to a bundle: the mirrors of each scene, padded to the number of the scene that has most.
    scene, view, normal, wide = scene[mirrors], view[:, mirrors], normal[:, mirrors], wide[mirrors]
    ends = torch.bincount(scene, minlength=batch).cumsum(0)
    column = torch.arange(len(mirrors), device=scene.device) - torch.cat([ends.new_zeros(1), ends])[scene]
    most = int(column.amax()) + 1
    place = scene * most + column

    def bundle(values: Tensor, empty: float) -> Tensor:
        """(..., B, most) from (..., K)."""
        result = torch.full((*values.shape[:-1], batch * most), empty, dtype=values.dtype, device=values.device)
        result[..., place] = values
        return result.unflatten(-1, (batch, most))

    bounced = view + 2 * facing[mirrors] * normal
    ray = shiny[mirrors]
    if options.pattern is not None:  # none in mirrors of mirrors
        bounced = bounced + wide * (2 * options.pattern[:, ray % width] - 1)
    bounced = bounced * (bounced * bounced).sum(0).rsqrt()
    begin, bounced = bundle(point[:, mirrors], 0.0), bundle(bounced, 1.0)
    if options.reflections:
        skip = bundle(surface.flatten()[ray], -1)
        depth, met = trace.meet(bodies, world.planes, begin, bounced, skip)
        shadows = "none" if options.shadows == "none" else "hard"
        inner = dataclasses.replace(options, reflections=False, shadows=shadows, pattern=None)
        seen, _ = shade(world, bodies, surfaces, begin, bounced, depth, met, inner)
    else:
        seen = _sky(world, bounced)
    color[:, mirrors] += fresnel[:, mirrors] * seen.flatten(1)[:, place]
    return color
