"""The GQN data sets: rooms seen from several cameras, without labels.

Eslami et al., "Neural scene representation and rendering", Science 2018;
https://github.com/google-deepmind/gqn-datasets.
A folder `train` and a folder `test` of TFRecord files called like `0001-of-2160.tfrecord`; a record is one scene: JPEG
`frames` and for each five `cameras` numbers (x, y, z, yaw, pitch).

GENESIS (Engelcke et al. 2020) trains on single frames of rooms_ring_camera and validates on the last sixtieth of the
training files (2125..2160 of 2160). It takes one random view of each scene per pass; here every frame is an item, which
is the same distribution over a whole pass.

Frames are decoded by Pillow (libjpeg's accurate integer transform); TensorFlow's default fast transform differs by up
to 7 gray levels, 0.8 on average.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.opening import existing_folder
from objectscape.data.formats.tfrecord import TFRecordFiles, parse_example
from objectscape.data.geometry import resize_nearest, to_tensor
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

# {set: (side of a frame in pixels, frames per scene)}
SETS = {
    "rooms_ring_camera": (64, 10),
    "rooms_free_camera_with_object_rotations": (128, 10),
    "rooms_free_camera_no_object_rotations": (64, 10),
    "jaco": (64, 11),
    "mazes": (84, 300),
    "shepard_metzler_5_parts": (64, 15),
    "shepard_metzler_7_parts": (64, 15),
}
VAL_SHARE = 60  # one file in so many


class GQN(SceneDataset):
    """Frames of one split, or whole scenes with their cameras.

    Args:
        path: the folder with `train` and `test`. Part of the files is enough: their names say which they are.
        name: of the set, one of `SETS`.
        split: "train", "val" (the last sixtieth of the training files) or "test".
        sequence: False: an item is one frame, scene after scene. True: an item is a scene, T frames of it, and
            `actions` (T, 7) is where each was taken from: x, y, z, sin yaw, cos yaw, sin pitch, cos pitch.
        image_size: side of the result in pixels, by nearest as in GENESIS; None keeps the frames.
        max_files: use only the first so many files of the split.
        check: verify the checksum of every record, not only of every 16th (for converting).

    Raises:
        FileNotFoundError, ValueError: unknown options, no files for the split, files of another set or damaged.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        name: str = "rooms_ring_camera",
        split: str = "train",
        sequence: bool = False,
        image_size: int | None = None,
        max_files: int | None = None,
        check: bool = False,
    ) -> None:
        if name not in SETS:
            raise ValueError(f"name={name!r}: {unknown('GQN set', name, SETS)}")
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: {unknown('split', split, SPLITS)}")
        side, self.views = SETS[name]
        self.split, self.sequence, self.check = split, sequence, check
        self.image_size = side if image_size is None else image_size
        folder = existing_folder(path, f"the folder {name} of gs://gqn-dataset")
        source = existing_folder(folder / ("test" if split == "test" else "train"), f"the {split} files of {name}")
        numbered = []
        for file in sorted(source.glob("*.tfrecord")):
            match = re.fullmatch(r"(\d+)-of-(\d+)", file.stem)
            if match is None:
                raise ValueError(f"{file}: expected a name like 0001-of-2160.tfrecord, as in gs://gqn-dataset.")
            number, total = int(match[1]), int(match[2])
            if split == "test" or (number > total - total // VAL_SHARE) == (split == "val"):
                numbered.append(file)
        if not numbered:
            raise ValueError(
                f"{source} holds no .tfrecord file of the split {split!r} (the last sixtieth of the training files is "
                "the validation split). `objectscape data info gqn` prints how to fetch them."
            )
        self._records = TFRecordFiles(numbered[:max_files])
        frames, _ = decode_scene(*next(self._records.read([0])))
        if frames.shape != (self.views, 3, side, side):
            raise ValueError(
                f"{numbered[0]} holds scenes of {len(frames)} frames of {tuple(frames.shape[-2:])} pixels, but {name} "
                f"has {self.views} of {side}x{side}; correct `name` or `path`."
            )
        shape = f"(3, {self.image_size}, {self.image_size})"
        self.spec = Spec(
            name=f"gqn/{name}",
            image_size=(self.image_size, self.image_size),
            splits={split: len(self)},
            fields={"image": f"({self.views}, 3, ...)" if sequence else f"{shape} uint8 RGB"}
            | (
                {"actions": f"({self.views}, 7) camera: x, y, z, sin yaw, cos yaw, sin pitch, cos pitch"}
                if sequence
                else {}
            ),
            source="https://github.com/google-deepmind/gqn-datasets",
            notes=f"sequence={sequence}. val is the last sixtieth of the training files (GENESIS). No labels.",
        )

    def __len__(self) -> int:
        return len(self._records) * (1 if self.sequence else self.views)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        wanted = torch.as_tensor(indices, dtype=torch.long)
        per_record = 1 if self.sequence else self.views
        numbers, place = (wanted // per_record).unique(return_inverse=True)
        chosen: list[Tensor] = [torch.empty(0)] * len(wanted)
        cameras: list[Tensor] = [torch.empty(0)] * len(wanted)
        for row, (where, payload) in enumerate(self._records.read(numbers.tolist(), check=self.check)):
            here = (place == row).nonzero().flatten().tolist()
            only = None if self.sequence else [int(wanted[item]) % self.views for item in here]
            frames, camera = decode_scene(where, payload, only)
            for n, item in enumerate(here):
                chosen[item] = frames if self.sequence else frames[n]
                cameras[item] = camera_features(camera)
        image = resize_nearest(torch.stack(chosen), (self.image_size, self.image_size))
        return Scene(image=image, actions=torch.stack(cameras) if self.sequence else None)


def decode_scene(where: str, payload: bytes, only: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """One record: frames (V, 3, H, W) uint8, all or only some, and all cameras (views, 5) float32 x, y, z, yaw, pitch.

    Args:
        where: file and record, for error messages.
        payload: of the record.
        only: numbers of the frames to decode.
    """
    features = parse_example(payload, where)
    missing = {"frames", "cameras"} - features.keys()
    if missing:
        raise ValueError(
            f"{where} lacks {', '.join(sorted(missing))} (it has {', '.join(features)}); is it a GQN file?"
        )
    jpegs = features["frames"].strings()
    frames = [decode_jpeg(jpegs[n], f"{where}, frame {n}") for n in (range(len(jpegs)) if only is None else only)]
    return torch.stack(frames), torch.from_numpy(features["cameras"].floats().reshape(-1, 5).copy())


def decode_jpeg(data: bytes, where: str) -> Tensor:
    """(3, H, W) uint8."""
    try:
        return to_tensor(Image.open(io.BytesIO(data)).convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{where} is no image that can be decoded ({error}).") from error


def camera_features(cameras: Tensor) -> Tensor:
    """(..., 5) x, y, z, yaw, pitch in radians to (..., 7) x, y, z, sin yaw, cos yaw, sin pitch, cos pitch."""
    place, yaw, pitch = cameras[..., :3], cameras[..., 3:4], cameras[..., 4:5]
    return torch.cat([place, yaw.sin(), yaw.cos(), pitch.sin(), pitch.cos()], -1)
