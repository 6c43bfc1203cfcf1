"""Scenes of a data set in another size than its own: `data.image_size` for data that are made or stored in one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.data.clips import StoresFrames
from objectscape.data.dataset import SceneDataset
from objectscape.data.geometry import resize_nearest
from objectscape.data.synthetic.base import Draws, SyntheticScenes
from objectscape.scene import Scene, Spec


def resized(dataset: SceneDataset, image_size: int | Sequence[int]) -> SceneDataset:
    """The data set with its scenes resized by `resize_scene`; itself if they have that size already.

    Args:
        dataset: of any kind; a rendered one stays a rendered one, which can be streamed.
        image_size: side in pixels, or (H, W).

    Raises:
        ValueError: if a side is not a positive number of pixels.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in size):
        raise ValueError(f"image_size={image_size}; expected a positive number of pixels, or two (height, width)")
    if size == dataset.spec.image_size:
        return dataset
    return ResizedSynthetic(dataset, size) if isinstance(dataset, SyntheticScenes) else Resized(dataset, size)


def resize_scene(scene: Scene, size: tuple[int, int]) -> Scene:
    """A batch of scenes with images resized by area averaging, segments by nearest, and boxes scaled.

    Factors stay as they are: positions among them count the pixels of the original size. A very small object may lose
    its last pixel of the segments.

    Args:
        scene: (B, [T,] 3, H, W).
        size: (H, W) in pixels.
    """
    height, width = scene.image.shape[-2:]
    scale = torch.tensor([size[1] / width, size[0] / height] * 2, device=scene.image.device)
    return replace(
        scene,
        image=_average(scene.image, size),
        segments=None if scene.segments is None else resize_nearest(scene.segments, size),
        boxes=None if scene.boxes is None else scene.boxes * scale,
        motion=None if scene.motion is None else _average(scene.motion, size),
        motion_boxes=None if scene.motion_boxes is None else scene.motion_boxes * scale,
    )


def _average(image: Tensor, size: tuple[int, int]) -> Tensor:
    flat = image.reshape(-1, *image.shape[-3:])
    small = F.interpolate(flat.float(), size, mode="area").view(*image.shape[:-2], *size)
    return small if image.is_floating_point() else small.round().to(image.dtype)


class Resized(SceneDataset):
    """A data set read from files, with its scenes resized."""

    def __init__(self, dataset: SceneDataset, size: tuple[int, int]) -> None:
        self.dataset, self.size, self.split = dataset, size, dataset.split
        self.spec = _resized_spec(dataset.spec, size)
        if isinstance(dataset, StoresFrames):
            self.episodes = dataset.episodes

    def __len__(self) -> int:
        return len(self.dataset)

    def frames(self, rows: Sequence[int]) -> Scene:
        """See `StoresFrames`; only of data that store frames."""
        assert isinstance(self.dataset, StoresFrames)
        return resize_scene(self.dataset.frames(rows), self.size)

    def batch(self, indices: Sequence[int]) -> Scene:
        return resize_scene(self.dataset.batch(indices), self.size)


class ResizedSynthetic(SyntheticScenes):
    """A rendered data set with its scenes resized."""

    def __init__(self, scenes: SyntheticScenes, size: tuple[int, int]) -> None:
        self.scenes, self.size = scenes, size
        self.split, self.count, self.seed, self.chunk = scenes.split, scenes.count, scenes.seed, scenes.chunk  # type: ignore[misc]
        self.spec = _resized_spec(scenes.spec, size)

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        return self.scenes.draw(n, generator)

    def draw_split(self) -> Draws:
        return self.scenes.draw_split()

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        return resize_scene(self.scenes.paint(draws, device), self.size)


def _resized_spec(spec: Spec, size: tuple[int, int]) -> Spec:
    height, width = spec.image_size or size
    how = f"Resized from {height}x{width} to {size[0]}x{size[1]}: images by area, segments by nearest, boxes scaled."
    return replace(spec, image_size=size, notes=f"{spec.notes} {how}".strip())
