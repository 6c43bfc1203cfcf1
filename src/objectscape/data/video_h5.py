"""Archives of clips in HDF5, time first: those of SSWM and those of OP3.

SSWM: groups `train`, `val`, `test` with `imgs` (T, N, H, W, 3), and maybe `actions` (T, N, A) and `masks`
(T, N, H, W, 1). OP3: groups `training`, `validation` with `features`, maybe `actions` (T or T - 1, N, A), and `groups`
or `segs`. Which it is, is told by its names. The type decides the scale: integers are 0..255, floating point is 0..1
(the original loaders look at the largest value of a clip, and so leave a dark one as it is).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.hdf5 import naming, open_hdf5
from objectscape.data.formats.opening import PerProcess, existing_file
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

GROUPS = {"train": ("train", "training"), "val": ("val", "validation"), "test": ("test", "validation")}
"""{split: names of its group, the first that there is}"""
IMAGES, MASKS = ("imgs", "features"), ("masks", "groups", "segs")


class VideoArchive(SceneDataset):
    """One group of an archive.

    Args:
        path: the .h5 file.
        split: "train", "val" or "test"; OP3's archives have no test clips, so theirs are the validation's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or no such archive, or has no group for the split.
    """

    def __init__(self, *, path: str | os.PathLike[str], split: str = "train") -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: {unknown('split', split, SPLITS)}")
        self.path, self.split = existing_file(path, "an .h5 archive of clips"), split
        with naming(self.path), open_hdf5(self.path) as file:
            found = [name for name in GROUPS[split] if name in file]
            if not found:
                raise ValueError(
                    f"{self.path} has no group {' or '.join(GROUPS[split])}; it has {', '.join(file) or 'none'}."
                )
            self._group = found[0]
            content = file[self._group]
            images = [name for name in IMAGES if name in content]
            if not images or content[images[0]].ndim != 5 or content[images[0]].shape[-1] != 3:
                raise ValueError(
                    f"{self.path}, group {self._group!r}: expected `imgs` or `features` of shape (T, N, H, W, 3); it "
                    f"holds {', '.join(f'{name} {item.shape}' for name, item in content.items())}."
                )
            self._images, masks = images[0], [name for name in MASKS if name in content]
            self._masks = masks[0] if masks else None
            self._acts = "actions" in content
            self.frames, self._count, height, width = content[self._images].shape[:4]
            size = content["actions"].shape[-1] if self._acts else None
        self._file = PerProcess(partial(open_hdf5, self.path))
        fields = {"image": f"({self.frames}, 3, {height}, {width}) uint8 RGB"}
        if self._masks:
            fields["segments"] = f"({self.frames}, {height}, {width}) int32: 0 background, as stored"
        if self._acts:
            fields["actions"] = f"({self.frames}, {size}) float32; action t leads to frame t + 1"
        self.spec = Spec(
            name=f"video_h5/{self.path.stem}",
            image_size=(height, width),
            splits={split: self._count},
            fields=fields,
            frames=self.frames,
            actions=size,
            source="an archive of SSWM or OP3",
            notes=f"group={self._group}. Licenses of these archives are not known.",
        )

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        with naming(self.path):
            return self._batch(indices)

    def _batch(self, indices: Sequence[int]) -> Scene:
        group = self._file()[self._group]
        order, back = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        image = group[self._images][:, order]  # (T, n, H, W, 3)
        if image.dtype.kind == "f":
            image = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
        scene = Scene(
            image=torch.from_numpy(image.astype(np.uint8)).permute(1, 0, 4, 2, 3).contiguous(),
            segments=self._segments(group, order),
            actions=self._actions(group, order),
        )
        return scene[torch.from_numpy(back)]

    def _segments(self, group: object, order: np.ndarray) -> Tensor | None:
        if self._masks is None:
            return None
        masks = group[self._masks][:, order]  # type: ignore[index]
        return torch.from_numpy(np.rint(masks[..., 0]).astype(np.int32)).transpose(0, 1).contiguous()

    def _actions(self, group: object, order: np.ndarray) -> Tensor | None:
        """(n, T, A): archives with one action fewer than frames get a last one of zeros."""
        if not self._acts:
            return None
        stored = group["actions"]  # type: ignore[index]
        if stored.ndim != 3:
            raise ValueError(
                f"{self.path}: actions of shape {stored.shape}; expected (T, N, A). Archives with one vector per clip "
                "(OP3's towers) are read without actions: delete that data set, or convert it."
            )
        actions = torch.from_numpy(stored[:, order].astype(np.float32)).transpose(0, 1)
        missing = self.frames - actions.shape[1]
        return torch.nn.functional.pad(actions, (0, 0, 0, max(missing, 0)))[:, : self.frames]
