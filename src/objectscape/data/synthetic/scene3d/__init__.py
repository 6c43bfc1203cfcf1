"""Scenes in three dimensions: describe a `World`, and `render` it. Pure torch, in batches, on any device.

    from objectscape.data.synthetic import scene3d

docs/data/scene3d.md shows how to make a family of scenes with it.
"""

from objectscape.data.synthetic.scene3d.camera import Camera
from objectscape.data.synthetic.scene3d.rendering import Rendered, Visibility, render, visible
from objectscape.data.synthetic.scene3d.shapes import SHAPES
from objectscape.data.synthetic.scene3d.world import (
    TEXTURES,
    Lights,
    Material,
    Objects,
    Planes,
    Sky,
    World,
    turn,
)

__all__ = [
    "SHAPES",
    "TEXTURES",
    "Camera",
    "Lights",
    "Material",
    "Objects",
    "Planes",
    "Rendered",
    "Sky",
    "Visibility",
    "World",
    "render",
    "turn",
    "visible",
]
