"""Several recorded games as one data set, as SPACE's models of ten games at once are trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.data.atari.labels import class_names
from objectscape.data.atari.motion import Motion
from objectscape.data.atari.stacks import AtariStacks
from objectscape.data.dataset import SceneDataset
from objectscape.scene import Scene

TRUTH = ("boxes", "present", "labels")


class JointStacks(SceneDataset):
    """One split of several files of `objectscape data make atari`, one game after the other.

    Labels count the classes of all games, "Pong ball" among them. Actions are left out: games have different ones.

    Args:
        paths: the files.
        split: "train", "val" or "test".
        image_size: side of the square images in pixels.
        frames: the last so many frames of each clip; None for all.
        motion, max_boxes, hidden, tight: as for `AtariStacks`.

    Raises:
        FileNotFoundError, ValueError: as `AtariStacks`, without files, and if clips have different lengths.
    """

    def __init__(
        self,
        *,
        paths: Sequence[str],
        split: str = "train",
        image_size: int = 128,
        frames: int | None = None,
        motion: Motion | Mapping[str, Any] | None = Motion(),  # noqa: B008 (frozen)
        max_boxes: int = 64,
        hidden: bool = False,
        tight: bool = False,
    ) -> None:
        if isinstance(paths, str) or not paths:
            raise ValueError(f"paths={paths!r}; expected a list of files of `objectscape data make atari`: [a.h5,b.h5]")
        self.split = split
        self.games = [
            AtariStacks(
                path=path,
                split=split,
                image_size=image_size,
                frames=frames,
                motion=motion,
                max_boxes=max_boxes,
                hidden=hidden,
                tight=tight,
            )
            for path in paths
        ]
        lengths = {str(path): game.spec.frames for path, game in zip(paths, self.games, strict=True)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"clips of {lengths} frames do not fit into one batch; say frames=1 (or another number)")
        names = [game.spec.name.removeprefix("atari/") for game in self.games]
        known = [class_names(game.spec) for game in self.games]
        self.labelled = all(known)
        self.first_label = [sum(map(len, known[:index])) for index in range(len(known))]
        self.objects = max(game.spec.max_objects or 0 for game in self.games)
        classes = [f"{name} {kind}" for name, kinds in zip(names, known, strict=True) for kind in kinds]
        spec = self.games[0].spec
        fields = {name: text for name, text in spec.fields.items() if name != "actions"}
        if self.labelled:
            fields["labels"] = fields["labels"].partition("classes: ")[0] + "classes: " + ", ".join(classes)
        else:
            fields = {name: text for name, text in fields.items() if name not in (*TRUTH, "factors")}
        splits: dict[str, int | None] = {}
        for name in spec.splits:
            counts = [game.spec.splits.get(name) for game in self.games]
            splits[name] = sum(count or 0 for count in counts)
        self.spec = dataclasses.replace(
            spec,
            name="atari/" + "+".join(names),
            splits=splits,
            fields=fields,
            actions=None,
            max_objects=self.objects,
            source="; ".join(dict.fromkeys(game.spec.source for game in self.games)),
            content_hash=None,
        )

    def __len__(self) -> int:
        return sum(map(len, self.games))

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        ends = torch.tensor([len(game) for game in self.games]).cumsum(0)
        wanted = torch.as_tensor(indices, dtype=torch.long)
        of = torch.searchsorted(ends, wanted, right=True)
        parts, places = [], []
        for number in of.unique().tolist():
            place = (of == number).nonzero()[:, 0]
            local = wanted[place] - (int(ends[number - 1]) if number else 0)
            parts.append(self._uniform(number, self.games[number].batch(local.tolist())))
            places.append(place)
        return Scene.cat(parts)[torch.cat(places).argsort()]

    def _uniform(self, number: int, scene: Scene) -> Scene:
        """A game's scenes with as many rows of objects as any game has."""
        fields: dict[str, Any] = {"image": scene.image, "motion": scene.motion, "motion_boxes": scene.motion_boxes}
        if self.labelled:
            assert scene.labels is not None
            lead = scene.labels.ndim - 1
            labels = scene.labels + self.first_label[number]
            for name, value in {"boxes": scene.boxes, "present": scene.present, "labels": labels}.items():
                assert value is not None
                fields[name] = self._pad(value, lead)
            fields["factors"] = {name: self._pad(value, lead) for name, value in (scene.factors or {}).items()}
        return Scene(**fields)

    def _pad(self, value: Tensor, axis: int) -> Tensor:
        missing = self.objects - value.shape[axis]
        return F.pad(value, (0, 0) * (value.ndim - axis - 1) + (0, missing))
