"""What a batch of scenes consists of: objects, planes, lights, a sky, cameras, and what things are made of.

Everything is a tensor with a batch axis B first. Lengths have no unit; angles are radians; z points up; colors are
linear RGB in 0..1 (the picture is gamma-encoded at the end). N objects, P planes, L lights, V views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from objectscape.data.synthetic.scene3d.camera import Camera, Filled
from objectscape.data.synthetic.scene3d.shapes import SHAPES
from objectscape.scene import Tensors

TEXTURES = ("plain", "checker", "stripes", "noise", "marble", "wood", "dots", "bricks")
"""Solid textures: a mix of `color` and `second`, as a function of the point in the object's own frame."""


def turn(angle: Tensor, axis: str = "z") -> Tensor:
    """(..., 3, 3) rotations by (...) `angle` radians about a coordinate axis, counterclockwise seen from its tip.

    Compose by `@`; the right one is applied first.
    """
    if axis not in ("x", "y", "z"):
        raise ValueError(f"axis={axis!r}; choose x, y or z")
    fixed = "xyz".index(axis)
    first, second = (fixed + 1) % 3, (fixed + 2) % 3
    matrix = torch.zeros(*angle.shape, 3, 3, dtype=angle.dtype, device=angle.device)
    matrix[..., fixed, fixed] = 1
    matrix[..., first, first] = matrix[..., second, second] = angle.cos()
    matrix[..., second, first] = angle.sin()
    matrix[..., first, second] = -angle.sin()
    return matrix


def _full(name: str, value: Any, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """`value` (a number or a tensor) as a tensor of `shape` on the device of `like`."""
    value = torch.as_tensor(value, device=like.device).to(dtype)
    try:
        return value.expand(shape)
    except RuntimeError:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {shape} or what broadcasts to it") from None


@dataclass(kw_only=True)
class Material(Tensors):
    """What surfaces are made of. Each field may be a number, or a tensor that broadcasts to `color`'s leading axes."""

    color: Tensor
    """(B, N, 3) linear RGB 0..1: of the diffuse reflection, or of the mirror where it is metal."""
    second: Filled = 0.0
    """(B, N, 3) the texture's other color."""
    metal: Filled = 0.0
    """(B, N) 0: rubber, plastic, paint. 1: metal, which mirrors its surroundings in its own color."""
    roughness: Filled = 0.6
    """(B, N) 0: polished, small highlights, sharp mirrors; below 0.4 mirrors all around; from 0.9 on no highlight."""
    texture: Filled = 0
    """(B, N) int64 index into `TEXTURES`."""
    frequency: Filled = 1.0
    """(B, N) periods of the texture per unit of length."""
    orientation: Filled = None
    """(B, N, 3, 3) of the texture in the object: stripes and marble change along its x, wood grows along it."""
    offset: Filled = 0.0
    """(B, N, 3) shift of the texture, in periods: makes two objects of the same texture differ."""

    def __post_init__(self) -> None:
        shape, color = tuple(self.color.shape[:-1]), self.color
        self.color = color.float()
        self.second = _full("Material.second", self.second, (*shape, 3), color)
        self.metal = _full("Material.metal", self.metal, shape, color)
        self.roughness = _full("Material.roughness", self.roughness, shape, color)
        self.texture = _full("Material.texture", self.texture, shape, color, torch.long)
        self.frequency = _full("Material.frequency", self.frequency, shape, color)
        orientation = torch.eye(3) if self.orientation is None else self.orientation
        self.orientation = _full("Material.orientation", orientation, (*shape, 3, 3), color)
        self.offset = _full("Material.offset", self.offset, (*shape, 3), color)


@dataclass(kw_only=True)
class Objects(Tensors):
    """N solid objects per scene. Object n is number n + 1 in the segments, whether it is present or not."""

    shape: Tensor
    """(B, N) int64 index into `SHAPES`. In its own frame every shape just fits the box -`scale`..`scale`."""
    position: Tensor
    """(B, N, 3) of the middle of that box."""
    scale: Filled
    """(B, N, 3) half sizes along the object's own axes, positive; a number is all three."""
    material: Material
    rotation: Filled = None
    """(B, N, 3, 3) from the object's frame to the world's; default: none. See `turn`."""
    present: Filled = None
    """(B, N) bool; default: all. The rows of absent objects may hold anything finite, but a positive scale."""

    def __post_init__(self) -> None:
        shape, like = tuple(self.shape.shape), self.position
        self.position = _full("Objects.position", self.position, (*shape, 3), like)
        self.scale = _full("Objects.scale", self.scale, (*shape, 3), like)
        rotation = torch.eye(3) if self.rotation is None else self.rotation
        self.rotation = _full("Objects.rotation", rotation, (*shape, 3, 3), like)
        self.present = _full("Objects.present", True if self.present is None else self.present, shape, like, torch.bool)


@dataclass(kw_only=True)
class Planes(Tensors):
    """P flat surfaces per scene: grounds and walls. They are background (segment 0), receive shadows and cast none.

    A plane is seen from its front only, so a camera may look into a room through the back of a wall.
    """

    point: Tensor
    """(B, P, 3) a point on it; the middle, if it is bounded. Textures start there, along the world's axes."""
    normal: Tensor
    """(B, P, 3) out of its front, of any length."""
    material: Material
    """with leading axes (B, P)."""
    tangent: Filled = None
    """(B, P, 3) direction in the plane that `extent` counts along; only for bounded planes."""
    extent: Filled = float("inf")
    """(B, P, 2) half size along `tangent` and across it; default: unbounded."""

    def __post_init__(self) -> None:
        shape, like = tuple(self.point.shape[:-1]), self.point
        self.point = like.float()
        self.normal = _full("Planes.normal", self.normal, (*shape, 3), like)
        tangent = torch.tensor([1.0, 0.0, 0.0]) if self.tangent is None else self.tangent
        self.tangent = _full("Planes.tangent", tangent, (*shape, 3), like)
        self.extent = _full("Planes.extent", self.extent, (*shape, 2), like)

    @classmethod
    def ground(cls, material: Material) -> Planes:
        """The plane z = 0 without end. `material`: leading axes (B, 1)."""
        point = torch.zeros_like(material.color)
        return cls(point=point, normal=torch.tensor([0.0, 0.0, 1.0], device=point.device), material=material)

    @classmethod
    def room(cls, size: Tensor, material: Material) -> Planes:
        """The inside of a box around the z axis: floor (at z = 0), ceiling, walls at +x, -x, +y, -y.

        Args:
            size: (B, 3) width (x), depth (y) and height.
            material: leading axes (B, 6), in that order; (B, 5) or fewer leave out the last ones. The planes have no
                end: inside a whole room they end where they meet.
        """
        count = material.color.shape[1]
        normal = torch.tensor([[0, 0, 1.0], [0, 0, -1], [-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]])[:count]
        reach = torch.tensor([[0, 0, 0.0], [0, 0, 1], [0.5, 0, 0], [-0.5, 0, 0], [0, 0.5, 0], [0, -0.5, 0]])[:count]
        point = size[:, None] * reach.to(size.device)
        return cls(point=point, normal=normal.to(size.device), material=material)


@dataclass(kw_only=True)
class Lights(Tensors):
    """L lamps per scene: balls that shine to all sides and are not seen themselves, but in highlights."""

    position: Tensor
    """(B, L, 3)"""
    color: Filled = 1.0
    """(B, L, 3) brightness of a white surface at the world's origin that faces it; falls with the squared distance."""
    size: Filled = 0.0
    """(B, L) radius: the larger, the softer the shadows. 0: a point."""

    def __post_init__(self) -> None:
        shape, like = tuple(self.position.shape[:-1]), self.position
        self.position = like.float()
        self.color = _full("Lights.color", self.color, (*shape, 3), like)
        self.size = _full("Lights.size", self.size, shape, like)


@dataclass(kw_only=True)
class Sky(Tensors):
    """What a ray sees that meets nothing, in mirrors too: blends from `below` over `horizon` to `zenith`."""

    zenith: Tensor
    """(B, 3) straight up."""
    horizon: Tensor
    """(B, 3)"""
    below: Tensor
    """(B, 3) straight down."""

    def __post_init__(self) -> None:
        self.zenith, self.horizon, self.below = self.zenith.float(), self.horizon.float(), self.below.float()

    @classmethod
    def gray(cls, batch: int, *, device: torch.device | str = "cpu") -> Sky:
        """Light gray, brighter upwards."""
        levels = torch.tensor([0.75, 0.5, 0.3], device=device)[:, None, None].expand(3, batch, 3)
        return cls(zenith=levels[0], horizon=levels[1], below=levels[2])


@dataclass(kw_only=True)
class World(Tensors):
    """A batch of B scenes on one device. `world[i:j]`, `world.to(device)` and `world.map(function)` act on all of it.

    Raises:
        ValueError: if batch sizes differ.
    """

    objects: Objects
    planes: Planes
    camera: Camera
    lights: Lights
    ambient: Filled = 0.3
    """(B, 3) light from all sides, as seen on a white surface."""
    sky: Sky | None = None
    """default: `Sky.gray`"""

    def __post_init__(self) -> None:
        position = self.objects.position
        if position.ndim != 3:  # one scene without its batch axis, as `world[0]` gives it
            return
        batch = len(position)
        self.ambient = _full("World.ambient", self.ambient, (batch, 3), position)
        if self.sky is None:
            self.sky = Sky.gray(batch, device=position.device)
        sizes = {
            "objects": batch,
            "planes": len(self.planes.point),
            "camera": len(self.camera.position),
            "lights": len(self.lights.position),
            "sky": len(self.sky.zenith),
        }
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the parts of a World have different batch sizes: {sizes}; make them all B")

    def __len__(self) -> int:
        """Number of scenes B."""
        return len(self.objects.position)

    def check(self) -> None:
        """Raises ValueError where something does not exist, has no size, no direction, or is NaN; `render` calls it."""
        objects, planes, there = self.objects, self.planes, self.objects.present
        for name, value, known in (
            ("Objects.shape", objects.shape[there], SHAPES),
            ("Material.texture", objects.material.texture[there], TEXTURES),
            ("Material.texture", planes.material.texture, TEXTURES),
        ):
            wrong = value[(value < 0) | (value >= len(known))]
            if len(wrong):
                raise ValueError(f"{name}={int(wrong[0])}; there are 0..{len(known) - 1}: {', '.join(known)}")
        if not bool((objects.scale > 0).all()):
            raise ValueError(f"Objects.scale={float(objects.scale.min())}; half sizes must be positive")
        if not bool((objects.position.isfinite().all(-1) | ~there).all()):
            raise ValueError("Objects.position is infinite or NaN where an object is present")
        if not bool((planes.normal.norm(dim=-1) > 0).all()):
            raise ValueError("Planes.normal has length 0; it is a direction")
        if not bool((self.lights.position.norm(dim=-1) > 0).all()):
            raise ValueError("Lights.position is the origin, where the brightness of lamps is measured; move it away")
        self.camera.check()
