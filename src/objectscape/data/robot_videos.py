"""Films of robots, as world models are trained on: BAIR robot pushing and towel_pick_30k from their TFRecord files.

BAIR pushing (softmotion30_44k; Ebert et al., "Self-Supervised Visual Planning with Temporal Skip Connections", 2017):
folders `train` and `test` of files `traj_A_to_B.tfrecords`, 30 frames of 64 x 64 from two cameras, 4 numbers of action.
towel_pick_30k (Ebert et al., "Visual Foresight", 2018): folders `train`, `val`, `test` of gzip-compressed files, frames
of 48 x 64; SSWM calls it `bair_actions`. `objectscape data convert` makes a file that is faster to read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.opening import existing_folder
from objectscape.data.formats.tfrecord import Feature, TFRecordFiles, parse_example
from objectscape.names import unknown
from objectscape.nn.validation import check_choice
from objectscape.scene import Scene, Spec

SIDE = 64
VAL_SHARE = 20  # of BAIR's training files, which have no validation split, one in so many


class RobotVideos(SceneDataset):
    """Clips of one of the two data sets, whole, with their actions; action t leads to frame t + 1.

    Args:
        path: the folder with `train` and `test`.
        name: "bair" or "towel_pick".
        split: "train", "val" or "test". BAIR's "val" is the last twentieth of the training files.
        camera: of BAIR "aux1", which papers use, or "main"; of towel_pick the number of a view as text: the default is
            "1".
        fit: how towel_pick's 48 x 64 pixels become a square: "stretch", "pad" with black as OP3 does, or "crop".
        max_files: use only the first so many files of the split.
        check: verify the checksum of every record, not only of every 16th (for converting).

    Raises:
        FileNotFoundError, ValueError: unknown options, no files for the split, files of another set or damaged.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        name: Literal["bair", "towel_pick"] = "bair",
        split: str = "train",
        camera: str | None = None,
        fit: Literal["stretch", "pad", "crop"] = "stretch",
        max_files: int | None = None,
        check: bool = False,
    ) -> None:
        check_choice("name", name, ("bair", "towel_pick"))
        check_choice("fit", fit, ("stretch", "pad", "crop"))
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: {unknown('split', split, SPLITS)}")
        self.name, self.split, self.fit, self.check = name, split, fit, check
        self.camera = camera or ("aux1" if name == "bair" else "1")
        folder = existing_folder(path, f"the folder of {name} with train and test")
        inside = "train" if name == "bair" and split == "val" else split
        files = sorted(existing_folder(folder / inside, f"the {split} files of {name}").glob("*.tfrecord*"))
        if name == "bair" and split != "test":
            held = -(-len(files) // VAL_SHARE)
            files = files[-held:] if split == "val" else files[:-held] or files
        if not files:
            raise ValueError(f"{folder / inside} holds no .tfrecords file; is it the folder of {name}?")
        self._records = TFRecordFiles(files[:max_files])
        first = self._clip(*next(self._records.read([0])))
        assert first.actions is not None
        self.frames, width = first.image.shape[0], first.actions.shape[-1]
        self.spec = Spec(
            name=name,
            image_size=(SIDE, SIDE),
            splits={split: len(self)},
            fields={
                "image": f"({self.frames}, 3, {SIDE}, {SIDE}) uint8 RGB",
                "actions": f"({self.frames}, {width}) float32; action t leads to frame t + 1",
            },
            frames=self.frames,
            actions=width,
            source="Ebert et al. 2017, softmotion30_44k" if name == "bair" else "Ebert et al. 2018, towel_pick_30k",
            notes=f"camera={self.camera}, fit={fit}. No labels.",
        )

    def __len__(self) -> int:
        return len(self._records)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        numbers, place = torch.as_tensor(indices, dtype=torch.long).unique(return_inverse=True)
        read = self._records.read(numbers.tolist(), check=self.check)
        return Scene.stack([self._clip(where, payload) for where, payload in read])[place]

    def _clip(self, where: str, payload: bytes) -> Scene:
        features = parse_example(payload, where)
        if self.name == "bair":
            image, actions = f"image_{self.camera}/encoded", "action"
        else:
            image, actions = f"env/image_view{self.camera}/encoded", "policy/actions"
        frames = sorted(int(key.split("/")[0]) for key in features if re.fullmatch(rf"\d+/{re.escape(image)}", key))
        if not frames:
            kinds = sorted({key.partition("/")[2] for key in features})
            raise ValueError(
                f"{where} has no frames called t/{image}; it has {', '.join(kinds)}. "
                "Correct `camera`, `name` or `path`."
            )
        pictures = torch.stack([self._picture(features[f"{t}/{image}"], f"{where}, frame {t}") for t in frames])
        told = _actions(features, frames, actions)
        return Scene(image=pictures, actions=told)

    def _picture(self, feature: Feature, where: str) -> Tensor:
        """(3, 64, 64) uint8 of raw bytes, row by row."""
        raw = np.frombuffer(b"".join(feature.strings()), dtype=np.uint8)
        height = SIDE if self.name == "bair" else 48
        if len(raw) != height * SIDE * 3:
            raise ValueError(f"{where}: {len(raw)} bytes; expected {height} x {SIDE} raw RGB pixels, not PNG or JPEG.")
        image = torch.from_numpy(raw.copy()).view(height, SIDE, 3).permute(2, 0, 1)
        return square(image, self.fit)


def square(image: Tensor, fit: str) -> Tensor:
    """(3, H, W) uint8, wider than high -> (3, W, W): stretched, with black above and below, or its middle enlarged."""
    height, width = image.shape[-2:]
    if height == width:
        return image
    if fit == "pad":
        above = (width - height) // 2
        return F.pad(image, (0, 0, above, width - height - above))
    if fit == "crop":
        left = (width - height) // 2
        image = image[..., left : left + height]
    grown = F.interpolate(image[None].float(), (width, width), mode="bilinear", antialias=True)[0]
    return grown.round().clamp(0, 255).to(torch.uint8)


def _actions(features: Mapping[str, Feature], frames: Sequence[int], name: str) -> Tensor | None:
    """(T, A) float32; a frame without an action, such as the last, gets zeros."""
    told = {t: features[f"{t}/{name}"].floats() for t in frames if f"{t}/{name}" in features}
    if not told:
        return None
    width = len(next(iter(told.values())))
    return torch.from_numpy(np.stack([told.get(t, np.zeros(width, np.float32)) for t in frames]).copy())
