"""Folders that the data generators of SPACE-Time and its predecessors wrote.

    Pong-v0/rgb/train/00000_0.png ... 00000_3.png      210 x 160 RGB
            space_like/train/...                       128 x 128, red and blue exchanged
            bb/train/00000_0.csv                       y_min, y_max, x_min, x_max (shares of the image), M or S, label
            mode|median|flow/train/00000_0_128.pt      motion; not read: it is made again from the frames

The splits are train, validation (or val) and test. Older folders have the kind above the game
(`space_like/Pong-v0/train`), single frames instead of stacks, or images alone (`Pong-v0/train/00000.png`, red and blue
exchanged).
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from objectscape.data.atari.colors import red_blue_exchanged
from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.data.folder import read_rgb
from objectscape.data.formats.opening import existing_folder
from objectscape.names import unknown
from objectscape.scene import Scene, Spec

KINDS = ("rgb", "space_like")
FOLDERS = {"train": ("train",), "val": ("validation", "val"), "test": ("test",)}
NAME = re.compile(r"(\d+)(?:_(\d+))?")
MOVING = "M"
PUBLISHED = {
    "MsPacman": "pacman sue inky pinky blinky blue_ghost eyes white_ghost fruit save_fruit life1 life2 score "
    "corner_block",
    "Pong": "player enemy ball enemy_score player_score",
    "Carnival": "owl rabbit shooter refill bonus duck flying_duck score pipes eating_duck bullet",
    "Boxing": "black black_score clock white white_score logo",
    "Tennis": "player enemy ball ball_shadow net logo player_score enemy_score",
    "SpaceInvaders": "left_score right_score enemy_0 enemy_1 enemy_2 enemy_3 enemy_4 enemy_5 space_ship player block "
    "bullet",
    "Riverraid": "player fuel_gauge fuel lives logo score shot fuel_board building street enemy",
    "AirRaid": "player score building shot enemy",
}
"""Classes of the original labels, by the game's name in the folder; they are counted from 1, and 0 is no label."""


class AtariFolder(SceneDataset):
    """One split of a folder of the original generators; `objectscape data convert atari_folder` makes a file of it.

    Images are RGB, whatever the order on the disk. Boxes come from the tables beside them; `labels` count the
    published classes of the game, and after them, in alphabetical order, other names in those tables.

    Args:
        path: the folder of a game.
        split: "train", "val" or "test".
        kind: "rgb" or "space_like"; None for what is there, in this order.
        swapped: red and blue are exchanged on the disk; None: in space_like, in folders of images alone, and
            where the colors are the console's the other way round.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it has another layout, or its stacks differ in length.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        split: str = "train",
        kind: str | None = None,
        swapped: bool | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(unknown("split", split, SPLITS))
        if kind is not None and kind not in KINDS:
            raise ValueError(unknown("kind of images", kind, KINDS))
        self.path, self.split = existing_folder(path, "a folder of SPACE-Time's data generator"), split
        folders = {name: self._images(name, kind) for name in SPLITS}
        if not any(folders.values()):
            raise ValueError(
                f"{self.path} has no images of the known layouts, such as rgb/train/00000_0.png or train/00000.png "
                "(data=folder reads any pictures)."
            )
        self.stacks = [self._stacks(folder) for folder in folders.values() if folder is not None]
        counts = {name: len(self._stacks(folder)) if folder else 0 for name, folder in folders.items()}
        folder = folders[split]
        self.files = self._stacks(folder) if folder else []
        lengths = {len(stack) for stacks in self.stacks for stack in stacks}
        if len(lengths) > 1:
            raise ValueError(f"{self.path}: stacks of {sorted(lengths)} frames; expected one length.")
        self.frames = lengths.pop()
        first = next(stack[0] for stacks in self.stacks for stack in stacks)
        alone = not any(part in KINDS for part in first.parts)
        usual = "space_like" in first.parts or alone or red_blue_exchanged(np.array(read_rgb(first)))
        self.swapped = usual if swapped is None else swapped
        tables = [self._table(file) for stacks in self.stacks for stack in stacks for file in stack]
        self.rows = max((len(table) for table in tables), default=0)
        game = next((g for g in PUBLISHED if any(part.startswith(f"{g}-") for part in self.path.resolve().parts)), "")
        known = ["no_label", *PUBLISHED[game].split()] if game else []
        self.classes = known + sorted({row[5] for table in tables for row in table} - set(known))
        height, width = np.array(read_rgb(first)).shape[:2]
        self.spec = self._describe(counts, (height, width))

    def _describe(self, counts: dict[str, int], size: tuple[int, int]) -> Spec:
        time = f"{self.frames}, " if self.frames > 1 else ""
        fields = {"image": f"({time}3, {size[0]}, {size[1]}) uint8 RGB"}
        if self.rows:
            fields |= {
                "boxes": f"({time}N, 4) float32 pixels x0 y0 x1 y1",
                "present": f"({time}N) bool",
                "labels": f"({time}N) int64, classes: {', '.join(self.classes)}",
                "factors": "hud (marked S on the disk), moving (marked M)",
            }
        name = next((part for part in self.path.resolve().parts[::-1] if part.endswith(("-v0", "-v4", "-v5"))), None)
        return Spec(
            name=f"atari/{name.partition('-')[0]}" if name else self.path.resolve().name,
            image_size=size,
            splits={name: count for name, count in counts.items() if count},
            fields=fields,
            max_objects=self.rows or None,
            source=str(self.path),
            notes="red and blue are exchanged on the disk" if self.swapped else "",
        )

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        stacks = [self.files[index] for index in indices]
        lead = (len(stacks), self.frames)
        frames = np.stack([np.array(read_rgb(file)) for stack in stacks for file in stack])
        frames = frames[..., ::-1] if self.swapped else frames
        image = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
        scene = Scene(image=image.unflatten(0, lead))
        if self.rows:
            boxes = torch.zeros(len(frames), self.rows, 4)
            labels = torch.zeros(len(frames), self.rows, dtype=torch.int64)
            moving = torch.zeros(len(frames), self.rows, dtype=torch.bool)
            present = moving.clone()
            height, width = frames.shape[1:3]
            for index, file in enumerate(file for stack in stacks for file in stack):
                for row, (y0, y1, x0, x1, kind, name) in enumerate(self._table(file)):
                    box = [float(x0) * width, float(y0) * height, float(x1) * width, float(y1) * height]
                    boxes[index, row] = torch.tensor(box)
                    labels[index, row], present[index, row] = self.classes.index(name), True
                    moving[index, row] = kind == MOVING
            scene.boxes, scene.present = boxes.unflatten(0, lead), present.unflatten(0, lead)
            scene.labels = labels.unflatten(0, lead)
            flags = {"hud": present & ~moving, "moving": moving}
            scene.factors = {name: value.unflatten(0, lead) for name, value in flags.items()}
        return scene.map(lambda t: t.squeeze(1)) if self.frames == 1 else scene

    def _images(self, split: str, kind: str | None) -> Path | None:
        """The folder of a split's images."""
        game = self.path.name
        for name in FOLDERS[split]:
            places = [self.path / k / name for k in ((kind,) if kind else KINDS)]
            places += [self.path.parent.parent / k / game / name for k in ((kind,) if kind else KINDS)]
            places += [] if kind else [self.path / name]
            for place in places:
                if place.is_dir() and any(place.glob("*.png")):
                    return place
        return None

    @staticmethod
    def _stacks(folder: Path) -> list[list[Path]]:
        """Files by stack, in order."""
        found: dict[int, list[tuple[int, Path]]] = {}
        for file in folder.glob("*.png"):
            match = NAME.fullmatch(file.stem)
            if match is None:
                raise ValueError(f"{file}: expected a name such as 00012_3.png (stack 12, frame 3) or 00012.png.")
            found.setdefault(int(match[1]), []).append((int(match[2] or 0), file))
        return [[file for _, file in sorted(found[number])] for number in sorted(found)]

    @staticmethod
    def _table(image: Path) -> list[list[str]]:
        """Rows of the table of boxes that belongs to an image; none if there is no table."""
        parts = list(image.with_suffix(".csv").parts)
        for kind in KINDS:
            if kind in parts:
                parts[parts.index(kind)] = "bb"
        file = Path(*parts)
        if not file.is_file():
            return []
        with file.open(newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if row]
        for row in rows:
            if len(row) != 6:
                raise ValueError(
                    f"{file}: a row has {len(row)} cells; expected y_min, y_max, x_min, x_max, M or S, label."
                )
        return rows
