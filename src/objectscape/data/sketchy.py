"""Sketchy: recordings of a robot arm at a basket of blocks, without labels.

Cabi et al., "Scaling data-driven robotics with reward sketching and batch reinforcement learning", RSS 2020;
https://github.com/google-deepmind/deepmind-research/tree/master/sketchy. An episode is a TFRecord file of time steps.

GENESIS-V2's use of it (Engelcke et al. 2021): the two front cameras, cropped to 448x672; of each the central square
shrunk to 128x128, and six squares of 352 pixels (upper, lower x left, middle, right), shrunk too: 14 images a step.
Episodes in the order of their names: the first tenth validation, the second tenth test, the rest train.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.formats.opening import existing_folder
from objectscape.data.formats.tfrecord import TFRecordFiles, parse_example
from objectscape.data.geometry import resize_image
from objectscape.data.gqn import decode_jpeg
from objectscape.files import expanded
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

# (feature, rows): both keep 448 rows of 600, and columns 144..815 of 960
CAMERAS = (("pixels/basket_front_left", slice(71, -81)), ("pixels/basket_front_right", slice(91, -61)))
COLUMNS = slice(144, -144)
FRAME = (600, 960)
WINDOWS = (
    (slice(None), slice(112, 560)),  # the central square
    *(
        (rows, columns)
        for rows in (slice(0, 352), slice(-352, None))
        for columns in (slice(0, 352), slice(160, 512), slice(-352, None))
    ),
)
PER_STEP = len(CAMERAS) * len(WINDOWS)


class Sketchy(SceneDataset):
    """The images of one split: step after step, of each the left camera's seven, then the right camera's.

    Args:
        path: the folder of the unpacked episode files (see `unpack`).
        split: "train", "val" or "test".
        image_size: side of the result in pixels.
        check: verify the checksum of every record, not only of every 16th (for converting).

    Raises:
        FileNotFoundError, ValueError: no episodes, too few for the split, or a damaged file.
    """

    def __init__(
        self, *, path: str | os.PathLike[str], split: str = "train", image_size: int = 128, check: bool = False
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: {unknown('split', split, SPLITS)}")
        self.split, self.image_size, self.check = split, image_size, check
        folder = existing_folder(path, "the folder of Sketchy's episode files")
        episodes = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix == "")
        if not episodes:
            archives = len(list(folder.glob("*.tar.bz2")))
            raise ValueError(
                f"{folder} holds no episode files (names without a suffix), but {archives} archives .tar.bz2. "
                + ("Unpack them with objectscape.data.sketchy.unpack." if archives else "")
            )
        tenth = len(episodes) // 10
        bounds = {"val": (0, tenth), "test": (tenth, 2 * tenth), "train": (2 * tenth, None)}[split]
        chosen = episodes[slice(*bounds)]
        if not chosen:
            raise ValueError(f"split={split!r} is empty: a tenth of the {len(episodes)} episodes in {folder} is none.")
        self._records = TFRecordFiles(chosen)
        self.spec = Spec(
            name="sketchy",
            image_size=(image_size, image_size),
            splits={split: len(self)},
            fields={"image": f"(3, {image_size}, {image_size}) uint8 RGB"},
            license="not stated for the data; code Apache-2.0",
            source="https://github.com/google-deepmind/deepmind-research/tree/master/sketchy",
            notes=f"{PER_STEP} images a step, {len(chosen)} episodes, cropped as GENESIS-V2 does. No labels.",
        )

    def __len__(self) -> int:
        return len(self._records) * PER_STEP

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        wanted = torch.as_tensor(indices, dtype=torch.long)
        steps, place = (wanted // PER_STEP).unique(return_inverse=True)
        images: list[Tensor] = [torch.empty(0)] * len(wanted)
        for row, (where, payload) in enumerate(self._records.read(steps.tolist(), check=self.check)):
            items = (place == row).nonzero().flatten().tolist()
            cameras = {int(wanted[item]) % PER_STEP // len(WINDOWS) for item in items}
            views = {camera: decode_camera(where, payload, camera) for camera in cameras}
            for item in items:
                camera, window = divmod(int(wanted[item]) % PER_STEP, len(WINDOWS))
                square = views[camera][:, *WINDOWS[window]]
                images[item] = resize_image(square, (self.image_size, self.image_size), "bilinear")
        return Scene(image=torch.stack(images))


def decode_camera(where: str, payload: bytes, camera: int) -> Tensor:
    """(3, 448, 672) uint8: what front camera 0 (left) or 1 (right) saw at one step, cropped to the basket."""
    name, rows = CAMERAS[camera]
    features = parse_example(payload, where)
    if name not in features:
        raise ValueError(f"{where} lacks {name!r} (it has {', '.join(features)}); is it an episode of Sketchy?")
    image = decode_jpeg(features[name].strings()[0], f"{where}, {name}")
    if tuple(image.shape[-2:]) != FRAME:
        raise ValueError(f"{where}, {name} has {tuple(image.shape[-2:])} pixels; the published crop needs {FRAME}.")
    return image[:, rows, COLUMNS]


def unpack(archives: str | os.PathLike[str], episodes: str | os.PathLike[str]) -> list[Path]:
    """Unpack the episode files of every .tar.bz2 archive in a folder; files that are there already are kept.

    Args:
        archives: folder of the downloaded archives.
        episodes: folder for the episode files; it is created if needed.

    Raises:
        ValueError: no archive, or one that is damaged.
    """
    source, target = existing_folder(archives, "the folder of Sketchy's archives"), expanded(episodes)
    found = sorted(source.glob("*.tar.bz2"))
    if not found:
        raise ValueError(
            f"{source} holds no .tar.bz2 archive. `objectscape data info sketchy` prints how to fetch them."
        )
    target.mkdir(parents=True, exist_ok=True)
    files = []
    for archive in found:
        try:
            with tarfile.open(archive, "r:bz2") as content:
                for member in content:
                    path = target / Path(member.name).name  # a name with folders or .. cannot leave the target
                    if not member.isfile():
                        continue
                    files.append(path)
                    if path.exists():
                        continue
                    part = path.with_name(path.name + ".part")
                    stream = content.extractfile(member)
                    assert stream is not None
                    with stream, part.open("wb") as output:
                        while block := stream.read(2**20):
                            output.write(block)
                    part.replace(path)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(
                f"{archive} cannot be unpacked ({error}). Fetch it again, or make room on the disk."
            ) from error
    return files
