"""Stacks of frames of any film: a video file, an animated picture, or a folder of frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.folder import SUFFIXES, read_rgb
from objectscape.data.formats.opening import existing_file
from objectscape.files import expanded
from objectscape.names import unknown
from objectscape.scene import Scene, Spec


class VideoRecording(SceneDataset):
    """Stacks of consecutive frames of a film, without labels; `objectscape data make video` writes them to a file.

    The film is cut into windows of `every` frames, of which each gives its last `frames`. The last tenth of the windows
    is the test split, the tenth before it the validation split, the rest trains: splits are different times.

    Args:
        source: a video file (MP4 and the like need the extra `video`), a GIF, or a folder of frames in the order of
            their names.
        split: "train", "val" or "test".
        count: stacks at most; None for all.
        frames: T of a stack.
        every: frames from stack to stack.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: it cannot be read as a film, or is too short for three stacks.
    """

    def __init__(
        self,
        *,
        source: str | os.PathLike[str],
        split: str = "train",
        count: int | None = None,
        frames: int = 4,
        every: int = 8,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(unknown("split", split, SPLITS))
        if frames < 1 or every < 1 or (count is not None and count < 1):
            raise ValueError(f"frames={frames}, every={every}, count={count}; expected at least 1 of each")
        path = expanded(source)
        self.path = path if path.is_dir() else existing_file(path, "a video, or a folder of frames")
        self.split, self.frames, self.every = split, frames, max(every, frames)
        length, size = 0, (0, 0)
        for image in self._play():
            length, size = length + 1, image.shape[:2]
        windows = length // self.every
        if windows < 3:
            raise ValueError(
                f"{self.path} has {length} frames, which make {windows} stacks with every={self.every}; expected at "
                "least 3, one for each split. Lower every, or take a longer film."
            )
        tenth = max(1, windows // 10)
        starts = {"train": (0, windows - 2 * tenth), "val": (windows - 2 * tenth, windows - tenth)}
        starts["test"] = (windows - tenth, windows)
        self.first, stop = starts[split]
        self.count = min(stop - self.first, count or windows)
        time = f"{frames}, " if frames > 1 else ""
        self.spec = Spec(
            name=self.path.stem,
            image_size=size,
            splits={name: stop - start for name, (start, stop) in starts.items()},
            fields={"image": f"({time}3, {size[0]}, {size[1]}) uint8 RGB"},
            frames=frames if frames > 1 else None,
            source=str(self.path),
            notes=f"the last {frames} of every {self.every} frames; no labels",
        )

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`; the film is played from its beginning to the last of them."""
        ends = {(self.first + index + 1) * self.every: index for index in indices}
        wanted: dict[int, list[np.ndarray]] = {index: [] for index in ends.values()}
        last = max(ends, default=0)
        for number, image in enumerate(self._play()):
            if number >= last:
                break
            end = (number // self.every + 1) * self.every
            if end in ends and number >= end - self.frames:
                wanted[ends[end]].append(image)
        clips = np.stack([np.stack(wanted[index]) for index in indices])  # B, T, H, W, 3
        scene = Scene(image=torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 1, 4, 2, 3))))
        return scene.map(lambda t: t.squeeze(1)) if self.frames == 1 else scene

    def _play(self) -> Iterator[np.ndarray]:
        """The frames (H, W, 3) uint8, all of one size."""
        size: tuple[int, ...] | None = None
        for image in self._folder() if self.path.is_dir() else self._file():
            size = image.shape if size is None else size
            if image.shape != size:
                raise ValueError(f"{self.path}: a frame has {image.shape[:2]} pixels, earlier ones {size[:2]}.")
            yield image

    def _folder(self) -> Iterator[np.ndarray]:
        for file in sorted(file for file in self.path.iterdir() if file.suffix.lower() in SUFFIXES):
            yield np.array(read_rgb(file))

    def _file(self) -> Iterator[np.ndarray]:
        import imageio.v3 as iio

        try:
            for image in iio.imiter(self.path):
                image = image[..., None].repeat(3, -1) if image.ndim == 2 else image
                yield np.ascontiguousarray(image[..., :3]).astype(np.uint8)
        except (OSError, ImportError, ValueError, SyntaxError) as error:
            raise ValueError(
                f"{self.path} cannot be read as a film ({str(error).splitlines()[0]}); MP4 and the like need "
                "pip install 'objectscape[video]'."
            ) from error
