"""Objects from other sources than a detector, as detections: masks, memory, motion, OC_Atari and JAXtari."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from objectscape.contract import see
from objectscape.data.atari import games  # noqa: F401 (fills GAMES)
from objectscape.data.atari.labels import GAMES, Game
from objectscape.data.atari.motion import Motion, pad_boxes
from objectscape.metrics.detection import detections_of
from objectscape.names import unknown
from objectscape.scene import Detections, Scene


def as_detections(boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> Detections:
    """Detections of B images from (n, 4) boxes x0 y0 x1 y1 and (n,) classes of each; latents are the classes."""
    count = max((len(found) for found in boxes), default=0)
    padded = np.zeros((len(boxes), count, 4), np.float32)
    names, confidence = np.zeros((len(boxes), count), np.int64), np.zeros((len(boxes), count), np.float32)
    for index, (found, kinds) in enumerate(zip(boxes, labels, strict=True)):
        padded[index, : len(found)], names[index, : len(found)], confidence[index, : len(found)] = found, kinds, 1
    classes = torch.from_numpy(names)
    return Detections(
        boxes=torch.from_numpy(padded),
        confidence=torch.from_numpy(confidence),
        latents=classes.unsqueeze(-1).float(),
        labels=classes,
    )


class RamObjects:
    """The true objects of an Atari game, from the memory of the environment: what a perfect detector would say.

    Args:
        env: an Atari environment (wrapped or not).
        game: its table; None for the one of its name.
        hud: list the display too.

    Raises:
        ValueError: if there is no table for the game.
    """

    def __init__(self, env: Any, game: Game | None = None, *, hud: bool = False) -> None:
        name = env.spec.id.removeprefix("ALE/").partition("-")[0]
        if game is None and name not in GAMES:
            raise ValueError(f"{unknown('game with a table', name, GAMES)} See objectscape.data.atari.labels.")
        self.game, self.hud = GAMES[name] if game is None else game, hud
        self.console = env.unwrapped.ale

    @property
    def classes(self) -> list[str]:
        """What the labels count."""
        return self.game.classes

    def detect(self, scene: Scene) -> Detections:
        """The objects that are there now; of `scene`, a batch of one, only the size counts."""
        frame = self.console.getScreenRGB()
        boxes, present, labels = self.game.locate(self.console.getRAM()[None], frame.shape[:2])
        shown = present[0] & (self.hud | ~np.array([kind.hud for kind in self.game.kinds])[labels])
        scale = _scale(scene, frame.shape[:2])
        return as_detections([boxes[0, shown] * scale], [labels[shown]])


class MaskObjects(nn.Module):
    """Any model that decomposes images as a detector: a box around the pixels of each of its masks.

    A mask that touches all four edges of the image is background. `ObjectObservation` takes such a model as it is.

    Args:
        model: such as Slot Attention or MONet.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.image_size = model, getattr(model, "image_size", None)

    def detect(self, scene: Scene) -> Detections:
        """`latents` are the slots."""
        return detections_of(see(self.model, scene))


class MotionObjects:
    """What moves, as objects of one class: the floor that a model has to beat.

    Args:
        background: (H, W, 3) uint8 image of the same size as the frames (`mode_image`, or `AtariStacks.root`).
        motion: how.
        max_objects: the largest are kept.
    """

    def __init__(self, background: np.ndarray, motion: Motion | None = None, *, max_objects: int = 64) -> None:
        self.background, self.motion = background, Motion() if motion is None else motion
        self.max_objects = max_objects

    def detect(self, scene: Scene) -> Detections:
        frames = (scene.pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        boxes = pad_boxes(self.motion(frames, self.background)[1], self.max_objects)
        kept = [found[(found != 0).any(1)] for found in boxes]
        return as_detections(kept, [np.zeros(len(found), np.int64) for found in kept])


class OCAtariObjects:
    """The objects that an OC_Atari environment lists (`env.objects`: x, y, w, h, category, hud) as detections.

    Args:
        env: with a list `objects`, of which empty places are skipped.
        classes: names of the categories; labels count in this order. A category that is not listed is skipped.
        size: (H, W) of its frames.
        hud: list the display too.
    """

    def __init__(self, env: Any, classes: Sequence[str], *, size: tuple[int, int] = (210, 160), hud: bool = False):
        self.env, self.classes, self.size, self.hud = env, list(classes), size, hud

    def detect(self, scene: Scene) -> Detections:
        rows = [
            (item.x, item.y, item.x + item.w, item.y + item.h, self.classes.index(item.category))
            for item in self.env.objects
            if getattr(item, "category", None) in self.classes and (self.hud or not getattr(item, "hud", False))
        ]
        return _cut(rows, self.size, scene)


def from_named(observation: Any, classes: Sequence[str], scene: Scene, *, size: tuple[int, int]) -> Detections:
    """The objects of a JAXtari observation: named tuples whose leaves have x, y, width and height.

    Args:
        observation: a named tuple of objects and of named tuples (or lists) of objects. Fields that are no objects are
            skipped, and so are objects whose field `active` or `visible` is 0, or without area.
        classes: names of the fields at the top; labels count in this order.
        scene: for the size of the images.
        size: (H, W) of the game's frames.
    """
    rows = [(*box, label) for label, name in enumerate(classes) for box in _leaves(getattr(observation, name, None))]
    return _cut(rows, size, scene)


def _leaves(value: Any) -> Iterable[tuple[float, float, float, float]]:
    fields = getattr(value, "_fields", ())
    if {"x", "y", "width", "height"} <= set(fields):
        columns = [
            np.atleast_1d(np.asarray(getattr(value, name), np.float32)) for name in ("x", "y", "width", "height")
        ]
        alive = [np.atleast_1d(np.asarray(getattr(value, name))) for name in ("active", "visible") if name in fields]
        for index, (x, y, width, height) in enumerate(zip(*np.broadcast_arrays(*columns), strict=True)):
            if all(flag[min(index, len(flag) - 1)] > 0 for flag in alive):
                yield float(x), float(y), float(x + width), float(y + height)
    elif fields or isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def _cut(rows: Sequence[tuple[float, ...]], size: tuple[int, int], scene: Scene) -> Detections:
    """One image's rows x0 y0 x1 y1 class, cut to the frame; what has no area is dropped."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    height, width = size
    boxes = table[:, :4].clip(0, np.array([width, height, width, height]))
    there = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    return as_detections([boxes[there] * _scale(scene, size)], [table[there, 4].astype(np.int64)])


def _scale(scene: Scene, size: tuple[int, int]) -> np.ndarray:
    height, width = scene.image.shape[-2:]
    return np.array([width / size[1], height / size[0]] * 2, np.float32)
