"""Recorded stacks of frames as training data: resized, with motion maps and the boxes of moving regions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from objectscape.building import construct
from objectscape.data.atari.motion import Motion, pad_boxes, stack_mask
from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.hdf5 import HDF5Scenes, naming, open_hdf5
from objectscape.data.formats.opening import existing_file
from objectscape.data.geometry import resize_nearest
from objectscape.scene import Scene, Spec

ROOT_FRAMES = 1000


class AtariStacks(SceneDataset):
    """One split of a file that `objectscape data make atari` or `data make video` wrote.

    The motion is computed here, from the frames, so that the same file serves every kind of motion. The background
    image that most kinds need comes from (up to) 1000 frames spread over the file's training split.

    Args:
        path: the file.
        split: "train", "val" or "test".
        image_size: side of the square images in pixels; None for the native size. Lanczos, as published.
        frames: the last so many frames of each clip; None for all. Earlier ones serve the background "trail".
        motion: how motion is taken, a `Motion` or its arguments; None for none.
        max_boxes: rows M of `motion_boxes`; the largest are kept.
        hidden: count objects that the memory holds but the pixels do not show (flicker).
        tight: boxes of the visible pixels instead of those from memory.

    Raises:
        FileNotFoundError, ValueError: as `HDF5Scenes`, and if a clip has fewer than `frames` frames.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        split: str = "train",
        image_size: int | None = 128,
        frames: int | None = None,
        motion: Motion | Mapping[str, Any] | None = Motion(),  # noqa: B008 (frozen)
        max_boxes: int = 64,
        hidden: bool = False,
        tight: bool = False,
    ) -> None:
        self.stored = HDF5Scenes(path=path, split=split)
        self.split, self.max_boxes = split, max_boxes
        self.motion: Motion | None = construct(Motion, motion) if isinstance(motion, Mapping) else motion
        self.hidden, self.tight = hidden, tight
        first = self.stored.batch([0]).image
        self.clips = first.ndim == 5
        length = first.shape[1] if self.clips else 1
        self.frames = length if frames is None else frames
        if not 1 <= self.frames <= length:
            raise ValueError(f"frames={frames}: the clips of {path} have {length} frames.")
        self.native: tuple[int, int] = (first.shape[-2], first.shape[-1])
        self.size = self.native if image_size is None else (image_size, image_size)
        self.spec = self._describe()

    def _describe(self) -> Spec:
        spec = self.stored.spec
        time = f"{self.frames}, " if self.clips else ""
        fields = dict(spec.fields)
        fields["image"] = f"({time}3, {self.size[0]}, {self.size[1]}) uint8 RGB"
        if self.motion is not None:
            fields["motion"] = f"({time}1, {self.size[0]}, {self.size[1]}) float32, 1 where something moves"
            fields["motion_boxes"] = f"({time}{self.max_boxes}, 4) float32 pixels x0 y0 x1 y1; zero rows are unused"
        frames = self.frames if self.clips else None
        values = {**spec.to_dict(), "image_size": self.size, "fields": fields, "frames": frames}
        return Spec.from_dict(values)

    def __len__(self) -> int:
        return len(self.stored)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        scene = self.stored.batch(indices)
        scene = scene if self.clips else scene.map(lambda t: t.unsqueeze(1))
        earlier = scene.image.shape[1] - self.frames
        before = scene.image[:, :earlier]
        scene = scene.map(lambda t: t[:, earlier:])
        frames = scene.image.permute(0, 1, 3, 4, 2).contiguous().numpy()  # B, T, H, W, 3
        fields: dict[str, Any] = {"image": self._resize(frames)}
        if scene.actions is not None:
            fields["actions"] = scene.actions
        if self.motion is not None:
            fields |= self._motion(frames, before.permute(0, 1, 3, 4, 2).numpy())
        made = Scene(**fields)
        if scene.boxes is not None:
            made = self._truth(scene, made)
        return made if self.clips else made.map(lambda t: t.squeeze(1))

    def _resize(self, frames: np.ndarray) -> Tensor:
        """(B, T, 3, h, w) uint8 of (B, T, H, W, 3)."""
        if self.size == self.native:
            return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 1, 4, 2, 3)))
        size, flat = (self.size[1], self.size[0]), frames.reshape(-1, *frames.shape[2:])
        small = np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in flat])
        return torch.from_numpy(small).unflatten(0, frames.shape[:2]).movedim(-1, 2).contiguous()

    def _motion(self, frames: np.ndarray, earlier: np.ndarray) -> dict[str, Tensor]:
        assert self.motion is not None
        root = self.root() if self.motion.needs_root else None
        masks, boxes = [], []
        for clip, before in zip(frames, earlier, strict=True):
            maps, found = self.motion(clip, root, earlier=before)
            small = resize_nearest(torch.from_numpy(maps), self.size)  # T, h, w
            masks.append(torch.from_numpy(stack_mask(small.numpy())))
            boxes.append(torch.from_numpy(pad_boxes(found, self.max_boxes)))
        return {
            "motion": torch.stack(masks).unsqueeze(2).float(),  # B, T, 1, h, w
            "motion_boxes": self._scale(torch.stack(boxes)),  # B, T, M, 4
        }

    def _truth(self, stored: Scene, made: Scene) -> Scene:
        assert stored.boxes is not None
        assert stored.present is not None
        factors = dict(stored.factors or {})
        boxes, present = stored.boxes, stored.present
        if "visible" in factors and not self.hidden:
            present = present & factors["visible"]
        if "tight" in factors:
            if self.tight:
                boxes = torch.where(factors["visible"].unsqueeze(-1), factors["tight"], boxes)
            factors["tight"] = self._scale(factors["tight"])
        made.boxes = self._scale(boxes * present.unsqueeze(-1))
        made.present, made.labels, made.factors = present, stored.labels, factors
        return made

    def _scale(self, boxes: Tensor) -> Tensor:
        (height, width), (native_height, native_width) = self.size, self.native
        x, y = width / native_width, height / native_height
        return boxes.float() * torch.tensor([x, y, x, y])

    def root(self) -> np.ndarray:
        """(H, W, 3) the background image at native size."""
        assert self.motion is not None
        path = Path(self.stored.path).resolve()
        return _root(path, path.stat().st_mtime_ns, self.motion.kind)

    def root_frames(self) -> np.ndarray:
        """(n, H, W, 3) the frames that the background image is made of."""
        return _root_frames(self.stored.path)


def _root_frames(path: Path) -> np.ndarray:
    splits = HDF5Scenes(path=path, split=stored_splits(path)[0])
    time = splits.batch([0]).image.shape[1] if splits.batch([0]).image.ndim == 5 else 1
    count = min(len(splits), max(1, ROOT_FRAMES // time))
    image = splits.batch(np.linspace(0, len(splits) - 1, count).astype(int).tolist()).image
    return image.flatten(0, -4).permute(0, 2, 3, 1).numpy()


def stored_splits(path: str | os.PathLike[str]) -> list[str]:
    """The splits of a recorded file, "train" first."""
    existing = existing_file(path, "a file of `objectscape data make atari`")
    with naming(existing), open_hdf5(existing) as file:
        return sorted(file, key=lambda name: (*SPLITS, name).index(name))


@lru_cache(maxsize=8)
def _root(path: Path, changed: int, kind: str) -> np.ndarray:
    return Motion(kind=kind).root(_root_frames(path))
