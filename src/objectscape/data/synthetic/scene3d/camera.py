"""Cameras: where they stand, the rays through their pixels, and where points come to lie in the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize

from objectscape.scene import Tensors

Filled: TypeAlias = Any
"""A field that is a tensor, and that may be given as a number or anything else that broadcasts to its shape."""

NEAR = 1e-3
"""Nothing nearer than this along the optical axis is seen."""


@dataclass(kw_only=True)
class Camera(Tensors):
    """One pinhole camera per scene, fields (B, ...), or V of them, fields (B, V, ...).

    Columns count rightwards, rows downwards; the center of the upper left pixel is (0.5, 0.5).
    """

    position: Tensor
    """(B, 3) or (B, V, 3)"""
    target: Tensor
    """(B, 3) or (B, V, 3) the point in the middle of the picture."""
    up: Filled = (0.0, 0.0, 1.0)
    """(B, 3) or (B, V, 3) which way is up in the picture; default: the z axis. Not the direction of sight."""
    field_of_view: Filled = 0.8
    """(B,) or (B, V) vertical opening angle, radians."""
    shift: Filled = 0.0
    """(B, 2) or (B, V, 2) moves the frame right and down, in half picture heights: a crop of a larger picture."""

    def __post_init__(self) -> None:
        lead, position = tuple(self.position.shape[:-1]), self.position

        def full(value: Any, *shape: int) -> Tensor:
            return torch.as_tensor(value, dtype=torch.float32, device=position.device).expand((*lead, *shape))

        self.position, self.target = full(position, 3), full(self.target, 3)
        self.up = full(self.up, 3)
        self.field_of_view, self.shift = full(self.field_of_view), full(self.shift, 2)

    @classmethod
    def orbit(
        cls,
        *,
        azimuth: Tensor,
        elevation: Tensor | float,
        distance: Tensor | float,
        target: Tensor | None = None,
        field_of_view: Tensor | float = 0.8,
    ) -> Camera:
        """Cameras on a sphere around `target`.

        Args:
            azimuth: (B,) or (B, V) angle about the z axis, from the x axis.
            elevation: angle above the horizon.
            distance: from the target.
            target: (B, 3) or (B, V, 3); default: the origin.
            field_of_view: vertical opening angle.
        """
        elevation = torch.as_tensor(elevation, dtype=azimuth.dtype, device=azimuth.device).expand_as(azimuth)
        level = elevation.cos()
        offset = torch.stack([level * azimuth.cos(), level * azimuth.sin(), elevation.sin()], -1)
        offset = offset * torch.as_tensor(distance, dtype=azimuth.dtype, device=azimuth.device)[..., None]
        middle = torch.zeros_like(offset) if target is None else target
        return cls(position=middle + offset, target=middle, field_of_view=field_of_view)

    def cropped(self, *, size: tuple[int, int], window: tuple[int, int, int, int]) -> Camera:
        """The camera that sees the part `window` (top, left, bottom, right; pixels) of this one's picture of `size`."""
        (height, _), (top, left, bottom, right) = size, window
        part = (bottom - top) / height
        tangent = (self.field_of_view / 2).tan() * part
        moved = torch.tensor([(left + right - size[1]) / height, (top + bottom - height) / height])
        shift = (self.shift + moved.to(self.position.device)) / part
        return Camera(
            position=self.position, target=self.target, up=self.up, field_of_view=2 * tangent.atan(), shift=shift
        )

    def check(self) -> None:
        """Raises ValueError where the camera looks nowhere, or along `up`, or has no picture."""
        angle = self.field_of_view
        if not bool(((angle > 0) & (angle < math.pi)).all()):
            raise ValueError(f"Camera.field_of_view={angle.flatten().tolist()[:4]}; it is between 0 and pi, in radians")
        forward = self.target - self.position
        if not bool((forward.norm(dim=-1) > 0).all()):
            raise ValueError("Camera.target is where the camera stands, or NaN; it is the point that it looks at")
        level = torch.linalg.cross(normalize(forward, dim=-1), normalize(self.up, dim=-1)).norm(dim=-1)
        if not bool((level > 1e-4).all()):
            raise ValueError("Camera.up is the direction of sight; straight up or down, choose another: up=(0, 1, 0)")

    @property
    def axes(self) -> tuple[Tensor, Tensor, Tensor]:
        """right, down and forward, each (..., 3) of length 1."""
        forward = normalize(self.target - self.position, dim=-1)
        right = normalize(torch.linalg.cross(forward, self.up), dim=-1)
        return right, torch.linalg.cross(forward, right), forward

    def frame(self) -> tuple[Tensor, Tensor, Tensor]:
        """right, down, forward (..., 3) such that forward + x right + y down is the ray through picture point (x, y).

        y is -1 at the upper and 1 at the lower edge, x counts in the same unit. Along such a ray, its parameter is the
        depth: the distance from the camera measured along its optical axis.
        """
        right, down, forward = self.axes
        tangent = (self.field_of_view / 2).tan()[..., None]
        right, down = right * tangent, down * tangent
        return right, down, forward + self.shift[..., :1] * right + self.shift[..., 1:] * down

    def project(self, points: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Where points come to lie in a picture of `size` (H, W).

        Args:
            points: (B, K, 3); (B, V, K, 3) if there are views.

        Returns:
            column and row (..., K, 2) in pixels, and depth (..., K); negative depth is behind the camera.
        """
        ray = points - self.position[..., None, :]
        right, down, forward = ((ray * axis[..., None, :]).sum(-1) for axis in self.axes)
        depth = torch.where(forward.abs() < NEAR, NEAR, forward)
        tangent = (self.field_of_view / 2).tan()[..., None] * depth
        middle = points.new_tensor([size[1] / 2, size[0] / 2])
        place = torch.stack([right / tangent, down / tangent], -1) - self.shift[..., None, :]
        return middle + place * (size[0] / 2), forward
