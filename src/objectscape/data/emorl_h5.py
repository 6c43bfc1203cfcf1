"""EfficientMORL's .h5 archives of Tetrominoes, Multi-dSprites and CLEVR (Zenodo, doi:10.5281/zenodo.4895643).

Emami et al., "Efficient Iterative Amortized Inference for Learning Symmetric and Disentangled Multi-Object
Representations", ICML 2021. One group per split with `imgs` (n, H, W, 3) in 0..255, `masks` (n, O, H, W, 1) of 0 and
255 (entity 0 is the background; padding is empty) and, in some files, `factors` (n, O, F). Any numeric type on disk.

The original loader crops CLEVR to rows 29..220 and columns 64..255, shrinks the image with Pillow's bicubic filter to
96 ("clevr-small") or 128 ("clevr-large") pixels and leaves the masks at 192 pixels. A Scene has one size, so here the
segments are shrunk with the image, by nearest; `image_size=192` gives the uncompressed crop of both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import h5py
import numpy as np
import torch
from torch import Tensor

from objectscape.data.dataset import SceneDataset
from objectscape.data.formats.hdf5 import naming, open_hdf5
from objectscape.data.formats.opening import PerProcess, existing_file
from objectscape.data.geometry import owns_pixels, resize_image, resize_nearest
from objectscape.data.multi_object import CROPS
from objectscape.names import did_you_mean
from objectscape.scene import Scene, Spec

CLEVR_FACTORS = ("x", "y", "z", "rotation", "size", "material", "shape", "color", "visibility")


class EfficientMORLArchive(SceneDataset):
    """One group of an archive.

    Args:
        path: the .h5 file.
        split: "train", "val" or "test".
        group: of the file; the split's name unless given (some training files of CLEVR hold only "test").
        crop: "emorl" for CLEVR, else "none".
        image_size: side of the square result: 96 is the original "clevr-small", 128 "clevr-large"; None keeps the size.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or no such archive, has no such group, or is too small for the crop.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        split: str = "train",
        group: str | None = None,
        crop: str = "none",
        image_size: int | None = None,
    ) -> None:
        self.path = existing_file(path, "an .h5 archive of EfficientMORL")
        self.split, self.group = split, group or split
        if crop not in ("none", "emorl"):
            raise ValueError(f"crop={crop!r}; choose 'none', or 'emorl' for CLEVR.")
        with naming(self.path), open_hdf5(self.path) as file:
            if self.group not in file:
                raise ValueError(
                    f"{self.path} has no group {self.group!r}; it has {', '.join(file) or 'none'}."
                    f"{did_you_mean(self.group, file)} Choose one with `group`."
                )
            content = file[self.group]
            missing = {"imgs", "masks"} - set(content)
            if missing:
                raise ValueError(
                    f"{self.path}, group {self.group!r} lacks {', '.join(sorted(missing))}; is it EfficientMORL's?"
                )
            self._count, height, width = content["imgs"].shape[:3]
            objects = content["masks"].shape[1] - 1
            self._factors = content["factors"].shape[-1] if "factors" in content else 0
        rows, columns, self._filter = CROPS[crop]
        if crop == "emorl" and (height, width) != (240, 320):
            raise ValueError(f"crop='emorl' is for CLEVR's 240x320 images, but {self.path} holds {height}x{width}.")
        self._area = (rows, columns)
        self._size = (len(range(height)[rows]), len(range(width)[columns]))
        if image_size is not None:
            self._size = (image_size, image_size)
        self._file = PerProcess(partial(open_hdf5, self.path))
        fields = {
            "image": f"(3, {self._size[0]}, {self._size[1]}) uint8 RGB",
            "segments": f"({self._size[0]}, {self._size[1]}) int8: 0 background, 1..{objects} objects",
            "present": f"({objects},) bool: owns a pixel of the image",
        }
        if self._factors:
            fields["factors"] = f"per object, as stored: {', '.join(self._factor_names())}"
        self.spec = Spec(
            name=f"emorl_h5/{self.path.stem}",
            image_size=self._size,
            splits={split: self._count},
            fields=fields,
            max_objects=objects,
            license="Apache-2.0 (Multi-Object Datasets)",
            source="doi:10.5281/zenodo.4895643",
            notes=f"group={self.group}, crop={crop}. Segment n is entity n (entity 0 is the background).",
        )

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        with naming(self.path):
            return self._batch(indices)

    def _batch(self, indices: Sequence[int]) -> Scene:
        group = self._file()[self.group]
        order, back = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        images = _octets(group["imgs"][order]).permute(0, 3, 1, 2)[..., *self._area]  # n, 3, h, w
        masks = _octets(group["masks"][order]).squeeze(-1)[..., *self._area]  # n, O, h, w
        numbers = torch.arange(masks.shape[1], dtype=torch.uint8)[:, None, None]
        segments = resize_nearest(((masks > 127) * numbers).amax(1).to(torch.int8), self._size)  # later entities win
        scene = Scene(
            image=torch.stack([resize_image(image, self._size, self._filter) for image in images]),
            segments=segments.contiguous(),
            present=owns_pixels(segments, masks.shape[1] - 1),
            factors=self._read_factors(group, order),
        )
        return scene[torch.from_numpy(back)]

    def _factor_names(self) -> tuple[str, ...]:
        return CLEVR_FACTORS if self._factors == len(CLEVR_FACTORS) else ("factors",)

    def _read_factors(self, group: h5py.Group, order: np.ndarray) -> dict[str, Tensor] | None:
        if not self._factors:
            return None
        values = torch.from_numpy(group["factors"][order].astype(np.float32))[:, 1:]  # n, N, F: without the background
        names = self._factor_names()
        return dict(zip(names, values.unbind(-1), strict=True)) if len(names) > 1 else {"factors": values}


def _octets(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32).astype(np.uint8))
