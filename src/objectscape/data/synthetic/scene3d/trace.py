"""Which surface a ray meets first, and whether a lamp is hidden.

A bundle of rays is (3, B, R): R rays in each of B scenes. Rays and solids are first paired up roughly, by the part of
the picture or the cone around a lamp that a solid can fill; only the pairs that are left are intersected exactly.
Surfaces are numbered 0..M - 1 for the M solids of the batch, sorted by shape, then the planes of scene 0, 1, ..., and
last the sky.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from objectscape.data.synthetic.scene3d.camera import NEAR, Camera
from objectscape.data.synthetic.scene3d.shapes import ENCLOSING, SHAPES, enter, facing, own_frame
from objectscape.data.synthetic.scene3d.world import Objects, Planes

_INDEX = (1 << 32) - 1


@dataclass
class Bodies:
    """The solids that are present, sorted by shape; M of them."""

    counts: list[int]
    """of each shape"""
    scene: Tensor
    """(M,) which scene each is in"""
    slot: Tensor
    """(M,) which of the N objects of the scene it is"""
    number: Tensor
    """(B, N) index of each object here, M where it is not present"""
    center: Tensor
    """(M, 3)"""
    radius: Tensor
    """(M,) of a ball that holds it"""
    inward: Tensor
    """(M, 3, 3) from directions in the world to the object's frame"""
    stretch: Tensor
    """(M,) see `shapes.enter`"""
    kind: Tensor
    """(M,) shape"""
    table: Tensor
    """(M + 1, 13) inward, center, stretch; the last row is for rays that meet no body"""
    middle: Tensor
    """(B, N, 3) centers with the absent ones"""
    reach: Tensor
    """(B, N) radii with the absent ones, -1 for them"""
    ball: Tensor
    """(B, N) radii of balls of about the objects' own size, 0 for the absent ones"""

    @classmethod
    def of(cls, objects: Objects) -> Bodies:
        shapes = torch.where(objects.present, objects.shape, len(SHAPES))
        order = shapes.flatten().argsort(stable=True)
        counts = torch.bincount(shapes.flatten(), minlength=len(SHAPES) + 1).tolist()[:-1]
        order = order[: sum(counts)]
        kind, center = objects.shape.flatten()[order], objects.position.flatten(0, 1)[order]
        scale = objects.scale.flatten(0, 1)[order]
        rotation = objects.rotation.flatten(0, 1)[order]
        unit, stretch = own_frame(kind, scale)
        inward = rotation.mT / unit[:, :, None]
        enclosing = torch.tensor(ENCLOSING, device=kind.device)[kind]
        radius = torch.minimum(enclosing * scale.amax(1), scale.norm(dim=1))
        count = objects.shape.shape[1]
        number = torch.full((objects.shape.numel(),), len(order), device=kind.device)
        number[order] = torch.arange(len(order), device=kind.device)
        reach = torch.full((objects.shape.numel(),), -1.0, device=kind.device)
        reach[order] = radius
        table = torch.cat([inward.flatten(1), center, stretch[:, None]], 1)
        return cls(
            counts=counts,
            scene=order // count,
            slot=order % count,
            number=number.view(-1, count),
            center=center,
            radius=radius,
            inward=inward,
            stretch=stretch,
            kind=kind,
            table=torch.cat([table, table.new_zeros(1, 13)]),
            middle=objects.position,
            reach=reach.view(-1, count),
            ball=objects.scale.log().mean(2).exp() * objects.present,
        )

    def __len__(self) -> int:
        return len(self.scene)


def _apply(rows: Tensor, vectors: Tensor) -> Tensor:
    """(3, ..., K) matrices (9, K) times vectors (3, ..., K)."""
    matrix = rows.view(3, 3, *[1] * (vectors.ndim - 2), -1)
    return torch.addcmul(torch.addcmul(matrix[:, 0] * vectors[0], matrix[:, 1], vectors[1]), matrix[:, 2], vectors[2])


def enter_bodies(bodies: Bodies, body: Tensor, start: Tensor, way: Tensor) -> Tensor:
    """(S, K) parameter at which rays enter their bodies; infinite if they miss.

    Args:
        bodies: M of them.
        body: (K,) which one each start is paired with.
        start: (3, K)
        way: (3, S, K) S rays from each start.
    """
    rows = bodies.table[body].t().contiguous()  # 13, K
    start = _apply(rows[:9], (start - rows[9:12])[:, None])
    way = _apply(rows[:9], way)
    shapes = [shape for shape, count in enumerate(bodies.counts) if count]
    if len(shapes) == 1:
        return enter(shapes[0], start, way, rows[12])
    kind = bodies.kind[body]
    result = torch.empty_like(way[0])
    for shape in shapes:
        some = (kind == shape).nonzero()[:, 0]
        result[:, some] = enter(shape, start[..., some], way[..., some], rows[12, some])
    return result


def normals_of_bodies(bodies: Bodies, body: Tensor, point: Tensor) -> Tensor:
    """(3, K) outward normals of length 1 at points (3, K) on the surfaces of their bodies (K,)."""
    rows = bodies.table[body].t().contiguous()  # 13, K
    own = _apply(rows[:9], point - rows[9:12])
    kind = bodies.kind[body]
    result = torch.empty_like(own)
    for shape in (shape for shape, count in enumerate(bodies.counts) if count):
        some = (kind == shape).nonzero()[:, 0]
        result[:, some] = facing(shape, own[:, some], rows[12, some])
    normal = (rows[:9].view(3, 3, -1) * result[:, None]).sum(0)  # the transposed inverse turns normals back
    return normal * (normal * normal).sum(0).rsqrt()


def meet_planes(planes: Planes, first: int, start: Tensor, way: Tensor) -> Tensor:
    """(B, R) keys of the nearest planes that rays (3, B, R) see from the front; see `decode`.

    Args:
        planes: of the B scenes.
        first: number of the surface that is the first plane of scene 0.
        start: (3, B, 1) or (3, B, R).
        way: (3, B, R).
    """
    batch, count = planes.point.shape[:2]
    nearest = torch.full_like(way[0], float("inf"))
    owner = torch.full_like(way[0], first + batch * count, dtype=torch.int64)
    bounded = bool(planes.extent.isfinite().any()) if count else False
    scene = torch.arange(batch, device=way.device)[:, None] * count + first
    for p in range(count):
        normal = planes.normal[:, p].t()[..., None]
        point = planes.point[:, p].t()[..., None]  # 3, B, 1
        speed = normal[0] * way[0] + normal[1] * way[1] + normal[2] * way[2]
        gap = (normal * (point - start)).sum(0)  # negative in front of the plane
        time = gap / speed
        seen = (speed < 0) & (time > 0) & (time < nearest)
        if bounded:
            along = planes.tangent[:, p]
            along = torch.nn.functional.normalize(along, dim=1)
            across = torch.nn.functional.normalize(torch.linalg.cross(planes.normal[:, p], along), dim=1)
            place = torch.addcmul(start - point, way, time)
            for k, axis in enumerate((along, across)):
                seen &= (place * axis.t()[..., None]).sum(0).abs() <= planes.extent[:, p, k, None]
        nearest = torch.where(seen, time, nearest)
        owner = torch.where(seen, scene + p, owner)
    return encode(nearest, owner)


def encode(depth: Tensor, surface: Tensor) -> Tensor:
    """int64 keys that sort by positive depth, then by surface number: the smallest key is the nearest surface."""
    return (depth.contiguous().view(torch.int32).long() << 32) | surface


def decode(key: Tensor) -> tuple[Tensor, Tensor]:
    """Depth (float32) and surface number (int64) of keys."""
    return (key >> 32).int().view(torch.float32), key & _INDEX


def windows(bodies: Bodies, camera: Camera, x: Tensor, y: Tensor) -> Tensor:
    """(M, 4) first and last + 1 column and row of the samples that each body can cover.

    Args:
        bodies: M of them.
        camera: one per scene.
        x: (W,) picture coordinates of the columns of samples, ascending.
        y: (H,) of the rows.
    """
    right, down, forward = (axis[bodies.scene] for axis in camera.axes)
    offset = bodies.center - camera.position[bodies.scene]
    tangent = (camera.field_of_view / 2).tan()[bodies.scene]
    axes = torch.stack([right / tangent[:, None], down / tangent[:, None], forward], 1)  # M, 3, 3
    place = torch.einsum("mij,mj->mi", axes, offset)
    # The outline of an ellipsoid around the body is a conic; the extreme x solve C33 x^2 - 2 C13 x + C11 = 0,
    # where C is its dual.
    outward = torch.linalg.inv(bodies.inward)
    factor = torch.tensor(ENCLOSING, device=place.device)[bodies.kind]
    longer = 1 + torch.stack([torch.zeros_like(bodies.stretch)] * 2 + [bodies.stretch], 1)  # capsules
    spread = axes @ (outward * (longer * factor[:, None])[:, None])
    dual = spread @ spread.mT - place[:, :, None] * place[:, None]
    depth = dual[:, 2, 2, None]  # negative if all of the ellipsoid is on one side of the camera
    cross, own = dual[:, :2, 2], dual.diagonal(dim1=1, dim2=2)[:, :2]
    root = (cross * cross - own * depth).clamp_min(0).sqrt()
    low, high = (cross + root) / depth, (cross - root) / depth  # M, 2
    # The same from the corners of its box, which is tighter for boxes.
    signs = torch.tensor([[i, j, k] for i in (-1.0, 1) for j in (-1.0, 1) for k in (-1.0, 1)], device=place.device)
    corner = place[:, None] + (signs * longer[:, None]) @ (axes @ outward).mT  # M, 8, 3
    clear = corner[..., 2].amin(1) > NEAR
    flat = corner[..., :2] / corner[..., 2:].clamp_min(NEAR)
    inside = ((depth[:, 0] < 0) & (place[:, 2] > 0))[:, None]
    clear = clear[:, None]
    limit = torch.tensor(float("inf"), device=place.device)
    low = torch.maximum(torch.where(inside, low, -limit), torch.where(clear, flat.amin(1), -limit))
    high = torch.minimum(torch.where(inside, high, limit), torch.where(clear, flat.amax(1), limit))
    shift = camera.shift[bodies.scene]
    margin = 1e-4 * (1 + high.abs().clamp_max(10) + low.abs().clamp_max(10))  # rounding
    low, high = low - shift - margin, high - shift + margin
    edges = [torch.searchsorted(grid, bound.contiguous()) for grid, bound in ((x, low[:, 0]), (x, high[:, 0]))]
    edges += [torch.searchsorted(grid, bound.contiguous()) for grid, bound in ((y, low[:, 1]), (y, high[:, 1]))]
    behind = place[:, 2] + bodies.radius < NEAR
    return torch.stack(edges, 1) * ~behind[:, None]


def look(bodies: Bodies, camera: Camera, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What of the bodies the cameras' rays through a grid of samples meet.

    Returns:
        ray (K,) index b * W * H + row * W + column, body (K,) and depth (K,) of every meeting, hidden or not.
    """
    edges = windows(bodies, camera, x, y)
    wide, high = (edges[:, 1] - edges[:, 0]).clamp_min(0), (edges[:, 3] - edges[:, 2]).clamp_min(0)
    area = wide * high
    ends = torch.cat([area.new_zeros(1), area.cumsum(0)])
    shape_ends = torch.tensor([0, *bodies.counts]).cumsum(0)
    bounds = ends[shape_ends.to(ends.device)].tolist()  # pairs up to each shape
    body = torch.repeat_interleave(torch.arange(len(bodies), device=x.device), area, output_size=bounds[-1])
    inside = torch.arange(bounds[-1], device=x.device) - ends[body]
    row = inside // wide[body]
    column = edges[body, 0] + inside - row * wide[body]
    row += edges[body, 2]
    ray = (bodies.scene * (len(x) * len(y)))[body] + row * len(x) + column
    right, down, forward = (axis[bodies.scene] for axis in camera.frame())
    start = bodies.inward @ (camera.position[bodies.scene] - bodies.center)[..., None]  # M, 3, 1
    rays = bodies.inward @ torch.stack([right, down, forward], 2)  # M, 3, 3
    table = torch.cat([rays, start, bodies.stretch[:, None, None].expand(-1, 3, 1)], 2).flatten(1)  # M, 15
    across, along = x[column], y[row]
    depth = torch.empty_like(across)
    for shape, (first, last) in enumerate(pairwise(bounds)):
        if first == last:
            continue
        part = slice(first, last)
        rows = table[body[part]].t().reshape(3, 5, -1)  # 3, 5, K
        way = torch.addcmul(torch.addcmul(rows[:, 2], rows[:, 0], across[part]), rows[:, 1], along[part])
        depth[part] = enter(shape, rows[:, 3], way, rows[0, 4])
    hit = (depth < float("inf")).nonzero()[:, 0]
    return ray[hit], body[hit], depth[hit]


def candidates(bodies: Bodies, tip: Tensor, spread: Tensor, point: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of points and bodies between which and `tip` a body may be.

    Args:
        bodies: of B scenes.
        tip: (B, 3) a lamp.
        spread: (B,) its radius.
        point: (3, B, R).
        skip: (B, R) surface to leave out at each point: its own; -1 leaves out all.

    Returns:
        (K,) ray b * R + r and (K,) body.
    """
    ray = point - tip.t()[..., None]
    ray = ray / (ray * ray).sum(0).sqrt().clamp_min(1e-9)
    axis = bodies.middle - tip[:, None]  # B, N, 3
    distance = axis.norm(dim=2)
    sine = ((bodies.reach + spread[:, None]) / distance.clamp_min(1e-9)).clamp_max(1)
    least = (1 - sine * sine).sqrt() * distance - 1e-4 * distance  # cosine of the cone around the body
    least = torch.where(sine < 1, least, -float("inf"))  # the lamp is inside of the ball: every ray may meet it
    least = torch.where(bodies.reach > 0, least, float("inf"))
    near = torch.bmm(axis, ray.transpose(0, 1)) > least[..., None]  # B, N, R
    return _pairs(bodies, near, skip)


def _pairs(bodies: Bodies, near: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    """(K,) ray b * R + r and (K,) body where `near` (B, N, R) holds, but for what `skip` (B, R) leaves out."""
    near &= bodies.number.int()[..., None] != skip.int()[:, None]
    near &= (skip >= 0)[:, None]
    pair = near.view(-1).nonzero()[:, 0]  # on the CPU much faster than nonzero of three axes
    count = skip.shape[1]
    row = pair // count
    body = bodies.number.view(-1)[row]
    return pair - (row - bodies.scene[body]) * count, body


def meet(bodies: Bodies, planes: Planes, start: Tensor, way: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    """Depth and surface (B, R) of what rays of any origin meet first.

    Args:
        bodies: of B scenes.
        planes: of the same.
        start: (3, B, R)
        way: (3, B, R) of length 1.
        skip: (B, R) surface to leave out: the one that the ray starts from; -1 leaves out all bodies.
    """
    keys = meet_planes(planes, len(bodies), start, way)
    # The ball around a body is met if its center is near enough to the ray, and not behind the start.
    from_start = (bodies.middle @ start.transpose(0, 1)).mul_(-2)  # B, N, R
    from_start += (start * start).sum(0)[:, None] + bodies.middle.square().sum(2)[..., None]  # squared distance
    ahead = bodies.middle @ way.transpose(0, 1) - (start * way).sum(0)[:, None]
    square = bodies.reach.square()[..., None] * 1.001 + 1e-4  # rounding
    near = (from_start - ahead * ahead.clamp_min(0) < square) & (bodies.reach > 0)[..., None]
    ray, body = _pairs(bodies, near, skip)
    depth = enter_bodies(bodies, body, start.flatten(1)[:, ray], way.flatten(1)[:, None, ray])[0]
    hit = (depth < float("inf")).nonzero()[:, 0]  # a miss must not win over the sky, which is infinitely far, too
    keys.view(-1).scatter_reduce_(0, ray[hit], encode(depth, body)[hit], "amin")
    return decode(keys)


def hidden(
    bodies: Bodies,
    lamp: Tensor,
    size: Tensor,
    point: Tensor,
    skip: Tensor,
    pattern: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """(B, R) part of a lamp that bodies hide: 0..1.

    Args:
        bodies: of B scenes.
        lamp: (B, 3) its middle.
        size: (B,) its radius.
        point: (3, B, R) where it shines to.
        skip: (B, R) surface that the point is on; -1 where nobody cares.
        pattern: places (S, R) on the lamp's disk, right and up, in units of its radius; None: the middle alone.
    """
    if pattern is None:
        size = torch.zeros_like(size)
    ray, body = candidates(bodies, lamp, size, point, skip)
    scene, start = bodies.scene[body], point.flatten(1)[:, ray]
    way = lamp.t()[:, scene] - start
    if pattern is not None:
        # Towards the point the cone narrows from the lamp's radius to nothing: this leaves fewer pairs.
        offset = bodies.center.t()[:, body] - start
        scale = (way * way).sum(0).rsqrt()
        along, radius = (offset * way).sum(0) * scale, bodies.radius[body]
        width = radius + size[scene] * ((along + radius) * scale).clamp(0, 1)
        some = ((offset * offset).sum(0) - along * along < width * width + 1e-4).nonzero()[:, 0]
        ray, body, scene, start, way = ray[some], body[some], scene[some], start[:, some], way[:, some]
    way = way[:, None]  # 3, 1, K
    if pattern is not None:
        toward = torch.nn.functional.normalize(lamp, dim=1)  # the disk faces the origin
        helper = torch.where(toward[:, 2:].abs() < 0.9, toward.new_tensor([0, 0, 1.0]), toward.new_tensor([1.0, 0, 0]))
        right = torch.nn.functional.normalize(torch.linalg.cross(helper, toward), dim=1)
        up = torch.linalg.cross(toward, right)
        right, up = ((axis * size[:, None]).t()[:, None, scene] for axis in (right, up))
        place = ray - scene * point.shape[2]
        way = way + right * pattern[0][:, place] + up * pattern[1][:, place]  # 3, S, K
    hit = enter_bodies(bodies, body, start, way) < 1
    result = torch.zeros(len(hit), skip.numel(), device=point.device)
    sample, pair = hit.nonzero().unbind(1)
    result.view(-1)[sample * skip.numel() + ray[pair]] = 1
    return result.mean(0).view(skip.shape)


def darkening(bodies: Bodies, point: Tensor, normal: Tensor, skip: Tensor) -> Tensor:
    """(B, R) part of the light from all sides that bodies keep away, taken as balls; 0..1. Arguments as `hidden`'s."""
    middle = bodies.middle
    from_point = (middle @ point.transpose(0, 1)).mul_(-2)  # B, N, R
    from_point += middle.square().sum(2)[..., None]
    from_point += (point * point).sum(0)[:, None]
    above = middle @ normal.transpose(0, 1)
    above -= (normal * point).sum(0)[:, None]
    near = from_point.clamp_min_(1e-6).rsqrt_()
    covered = above.mul_(near).clamp_min_(0)  # cosine of the angle at which the ball is seen
    covered *= (near * bodies.ball[..., None]).square_().clamp_max_(1)
    covered *= bodies.number[..., None] != skip[:, None]
    return covered.sum(1).clamp_max_(1) * 0.9  # surfaces close by reflect some of it
