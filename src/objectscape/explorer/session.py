"""What the page asks of a model: scenes in parts, edited scenes, active dimensions, stages, samples, futures.

Everything is a function of the request, so that an address always shows the same picture. The model is known by its
abilities. How an edit is made differs:

- by the latent, exactly as the model would draw it: a model whose slots have a place (`Places`) can do everything; one
  that decodes any set of slots (`decode(slots)`, masks from a softmax) can leave out, change and exchange slots, not
  move them; one whose order of slots matters (stick-breaking) can only change them;
- else by the page, which cuts the object out of the picture and pastes it elsewhere.
"""

from __future__ import annotations

import io
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from objectscape.contract import Decomposes, Generates, Places, Predicts, abilities, continue_clips, first_frames, see
from objectscape.data.dataset import SceneDataset
from objectscape.evaluation.edits import decoder_of, order_matters
from objectscape.evaluation.pictures import decoded_stages
from objectscape.explorer.views import Pictures, colors_of, layers, png, scores_of, shown_slots, truth_of
from objectscape.names import unknown
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Decomposition, Scene

KEPT = 24
"""Scenes that are remembered."""
RANGE_SCENES = 16
"""Scenes whose latents say how far a slider goes."""
SLIDERS = 6


@dataclass(frozen=True)
class Seen:
    """One scene and what the model made of it."""

    scene: Scene
    """(1, [T,] 3, H, W)"""
    output: Decomposition
    """(1, [T,] K, ...)"""
    note: str = ""

    @property
    def frames(self) -> int | None:
        return self.scene.image.shape[1] if self.scene.image.ndim == 5 else None


class Session:
    """A model, its data, and what a person does with them.

    Args:
        model: decomposes scenes.
        dataset: gives a split of the data; None without data.
        splits: names of the splits.
        name: of the model, for people.
        image_size: (H, W) that pictures are brought to; None: theirs.
        device: where to compute.
        seed: of the model's random draws.
        source: the arguments of `objectscape.explore` that give this session, as Python.

    Raises:
        ValueError: if the model does not decompose scenes.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dataset: Callable[[str], SceneDataset] | None = None,
        splits: Sequence[str] = ("test", "val", "train"),
        name: str = "model",
        image_size: tuple[int, int] | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        source: str = "...",
    ) -> None:
        if not isinstance(model, Decomposes):
            can = ", ".join(abilities(model)) or "none"
            raise ValueError(
                f"{type(model).__name__} does not divide images into objects (its abilities: {can}), so there is "
                "nothing to take hold of. The page shows models with the ability `decompose`."
            )
        self.model: Any = model.to(device).eval()
        self.name, self.image_size, self.device, self.seed, self.source = name, image_size, device, seed, source
        self._dataset, self.splits = dataset, list(splits) if dataset else []
        self._data: dict[str, SceneDataset] = {}
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._pictures = Pictures()
        self._ranges: Tensor | None = None

    def data(self, split: str) -> SceneDataset:
        """A split of the data.

        Raises:
            ValueError: if there is no such split, or no data.
        """
        if self._dataset is None:
            raise ValueError("there is no data set; drop a picture on the page, or start with data=NAME")
        if split not in self.splits:
            raise ValueError(unknown("split", split, self.splits))
        if split not in self._data:
            self._data[split] = self._dataset(split)
        return self._data[split]

    def about(self) -> dict[str, Any]:
        """What the page must know before it shows a scene."""
        sizes, spec = {}, None
        for split in self.splits:
            spec = self.data(split).spec
            sizes[split] = len(self.data(split))
        reads_clips = bool(getattr(self.model, "reads_clips", False))
        return {
            "name": self.name,
            "model": type(self.model).__name__,
            "abilities": abilities(self.model),
            "data": None if spec is None else {"name": spec.name, "license": spec.license, "fps": spec.fps},
            "splits": sizes,
            "latent": self._latent_edits,
            "stages": self._has_stages(),
            "source": self.source,
            "samples": isinstance(self.model, Generates),
            "predicts": isinstance(self.model, Predicts) and reads_clips,
            "actions": self._actions(),
        }

    def _actions(self) -> dict[str, Any] | None:
        """What may be done in a world with actions: names of the numbers, their ranges, and whether just one is 1."""
        width = getattr(self.model, "action_size", 0)
        if not width or not self.splits or not isinstance(self.model, Predicts):
            return None
        data = self.data(self.splits[0])
        actions = data.batch(range(min(RANGE_SCENES, len(data)))).actions
        if actions is None or actions.shape[-1] != width:
            return None
        rows = actions.flatten(0, -2).float()
        named = re.search(r"float32:? ([a-z][\w ]*(?:, [a-z][\w ]*)+)(?: in |$)", data.spec.fields.get("actions", ""))
        names = named[1].split(", ") if named else []
        return {
            "names": names if len(names) == width else [f"number {i + 1}" for i in range(width)],
            "low": rows.amin(0).tolist(),
            "high": rows.amax(0).tolist(),
            "one": width > 1 and bool(((rows == 0) | (rows == 1)).all() and (rows.sum(1) <= 1).all()),
        }

    # Scenes

    def view(self, ref: Mapping[str, Any], frame: int = 0) -> dict[str, Any]:
        """A scene in parts.

        Args:
            ref: {"split", "index"} of the data, {"picture"} of `add_picture`, or {"sample": seed, "index"}.
            frame: of a clip.

        Raises:
            ValueError: if there is no such scene.
        """
        seen = self.see(ref)
        scene, drawn = self._still(seen, frame)
        slots = shown_slots(drawn)
        movable = self._movable(seen, frame)
        found = {
            **layers(drawn, slots),
            "ref": dict(ref),
            "frame": frame,
            "frames": seen.frames,
            "image": png(scene.pixels[0]),
            "truth": truth_of(scene),
            "scores": {} if "sample" in ref else scores_of(scene, drawn),
            "note": seen.note,
            "slots": slots,
            "colors": colors_of(slots),
            "movable": [bool(movable[slot]) for slot in slots],
        }
        if drawn.present is not None:
            found["present"] = [round(value, 3) for value in drawn.present[0, slots].tolist()]
        return found

    def see(self, ref: Mapping[str, Any]) -> Seen:
        """A scene and what the model makes of it, from memory if it has been seen lately."""
        key = repr(sorted(ref.items()))
        if key not in self._seen:
            self._seen[key] = self._look(ref)
        self._seen.move_to_end(key)
        while len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        return self._seen[key]

    @torch.no_grad()
    def _look(self, ref: Mapping[str, Any]) -> Seen:
        torch.manual_seed(self.seed)
        index = ref.get("index", 0)
        if type(index) is not int:
            raise ValueError(f"scene {index!r}: expected a whole number")
        if "sample" in ref:
            return self._imagine(ref["sample"], index)
        if "picture" in ref:
            pixels, note = self._pictures.get(ref["picture"])
            clip = getattr(self.model, "reads_clips", False)  # of one frame
            scene = Scene(image=pixels[None, None] if clip else pixels[None])
        else:
            dataset, note = self.data(str(ref.get("split"))), ""
            if not 0 <= index < len(dataset):
                raise ValueError(
                    f"there is no scene {index}: the split {ref['split']} has scenes 0..{len(dataset) - 1}"
                )
            scene = dataset.batch([index])
        scene = scene.to(self.device)
        with posterior_means():
            return Seen(scene, see(self.model, scene), note)

    def _imagine(self, seed: Any, index: int) -> Seen:
        if not isinstance(self.model, Generates):
            raise ValueError(f"{type(self.model).__name__} cannot imagine scenes")
        if type(seed) is not int or not 0 <= index < SAMPLES:
            raise ValueError(f"sample {seed!r}, {index}: expected a seed, and a number from 0 to {SAMPLES - 1}")
        torch.manual_seed(seed)
        drawn = self.model.sample(SAMPLES)[index : index + 1]
        return Seen(Scene(image=drawn.recon.clamp(0, 1)), drawn, f"imagined with seed {seed}")

    def add_picture(self, content: bytes) -> dict[str, Any]:
        """Take a picture file of the user; returns its reference, the same for the same bytes.

        Raises:
            ValueError: if it is no picture, or too large a one.
        """
        return self._pictures.add(content, self.image_size)

    def _still(self, seen: Seen, frame: int) -> tuple[Scene, Decomposition]:
        """One frame (B = 1) of what was seen, without a time axis."""
        if seen.frames is None:
            return seen.scene, seen.output
        if not 0 <= frame < seen.frames:
            raise ValueError(f"there is no frame {frame}: the clip has frames 0..{seen.frames - 1}")
        scene, output = seen.scene, seen.output
        still = Scene(
            image=scene.image[:, frame], segments=None if scene.segments is None else scene.segments[:, frame]
        )
        parts: dict[str, Any] = {}
        for name in ("recon", "masks", "components", "slots", "boxes", "present"):
            part = getattr(output, name)
            parts[name] = None if part is None else part[:, frame]
        return still, Decomposition(**parts)

    # Edits

    @cached_property
    def _latent_edits(self) -> list[str]:
        """What is edited by the latent: "move", "remove", "set", "exchange"."""
        if isinstance(self.model, Places):
            return ["move", "remove", "set", "exchange"]
        try:
            decode = decoder_of(self.model)
        except ValueError:
            return []
        if not self.splits:
            return ["set"]  # without a scene to try it on, nothing is known of the order of the slots
        _, drawn = self._still(self.see({"split": self.splits[0], "index": 0}), 0)
        slots, present = _slots_of(drawn)
        with torch.no_grad():
            ordered = slots.shape[1] > 1 and order_matters(decode, (slots, present))
        return ["set"] if ordered or slots.shape[1] < 2 else ["remove", "set", "exchange"]

    def _has_stages(self) -> bool:
        if not self.splits:
            return False
        seen = self.see({"split": self.splits[0], "index": 0})
        return seen.frames is None and bool(seen.output.stages)

    def _latents(self, seen: Seen, frame: int) -> Tensor:
        """(1, K, E) all that each slot of a frame is drawn from."""
        if isinstance(self.model, Places):
            latents = self.model.latents(seen.output)
            return latents if seen.frames is None else latents[:, frame]
        slots, present = _slots_of(self._still(seen, frame)[1])
        return torch.cat([slots, present.unsqueeze(-1)], -1)

    def _redraw(self, latents: Tensor, size: tuple[int, int], present: Tensor) -> Decomposition:
        """Scenes (N, K, ...) from latents (N, K, E); slots that are not present are left out."""
        if isinstance(self.model, Places):
            return self.model.redraw(latents, size=size, present=present)
        slots, there = latents[..., :-1], latents[..., -1]
        decode = decoder_of(self.model)
        if bool((present > 0).all()):
            return decode(slots, there)
        kept = (present[0] > 0).nonzero()[:, 0]  # masks of the others are zero, their pictures black
        drawn = decode(slots[:, kept], there[:, kept])
        full: dict[str, Tensor] = {}
        for name in ("masks", "components"):
            part = getattr(drawn, name)
            full[name] = part.new_zeros(len(part), slots.shape[1], *part.shape[2:]).index_copy(1, kept, part)
        return Decomposition(recon=drawn.recon, slots=slots, **full)

    @torch.no_grad()
    def _movable(self, seen: Seen, frame: int) -> Tensor:
        """(K,) bool: which slots have a place in their latent."""
        if not isinstance(self.model, Places):
            return torch.zeros(seen.output.masks.shape[-4], dtype=torch.bool)
        latents = self._latents(seen, frame)
        moved = self.model.shift(latents, latents.new_ones(1, latents.shape[1], 2), size=self._size(seen))
        return (moved != latents).any(-1)[0].cpu()

    def _size(self, seen: Seen) -> tuple[int, int]:
        height, width = seen.scene.image.shape[-2:]
        return height, width

    def edit(self, ref: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], frame: int = 0) -> dict[str, Any]:
        """`edited` as `layers`, one for each of `objects`."""
        drawn, rows = self._edit(ref, objects, frame)
        return {**layers(drawn, rows), "slots": [thing["slot"] for thing in objects]}

    def edited(self, ref: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], frame: int = 0) -> Decomposition:
        """A scene (B = 1) redrawn from edited latents; further slots stand before its own.

        Args:
            ref: the scene.
            objects: each {"slot"}, with "from" (another scene's reference), "copy" (true for a further slot, which
                "from" implies), "gone" (true to leave it out), "dx", "dy" (pixels to the right and down), "set"
                ({dimension: value}).
            frame: of a clip; a clip that an object comes from gives its first frame.

        Raises:
            ValueError: for what the model cannot do by its latents, or a slot or dimension that is not there.
        """
        return self._edit(ref, objects, frame)[0]

    @torch.no_grad()
    def _edit(
        self, ref: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], frame: int
    ) -> tuple[Decomposition, list[int]]:
        can, seen = self._latent_edits, self.see(ref)
        own = self._latents(seen, frame)
        size, count = self._size(seen), own.shape[1]
        extra = sum(1 for thing in objects if thing.get("copy") or thing.get("from"))
        latents = torch.cat([own.new_zeros(1, extra, own.shape[2]), own], 1)  # further slots stand before the own ones
        present, by = own.new_ones(1, extra + count), own.new_zeros(1, extra + count, 2)
        rows: list[int] = []
        changed: dict[int, dict[int, float]] = {}
        for thing in objects:
            slot, source = thing.get("slot"), own
            if thing.get("from") or thing.get("copy"):
                _need("exchange", can)
            if thing.get("from"):
                source = self._latents(self.see(thing["from"]), 0)
                if source.shape[2] != own.shape[2]:
                    raise ValueError("the other scene's slots have another width")
            if type(slot) is not int or not 0 <= slot < source.shape[1]:
                raise ValueError(f"slot {slot!r}: the scene has slots 0..{source.shape[1] - 1}")
            further = bool(thing.get("copy") or thing.get("from"))
            row = sum(1 for other in rows if other < extra) if further else extra + slot
            rows.append(row)
            latents[0, row] = source[0, slot]
            if thing.get("gone"):
                _need("remove", can)
                present[0, row] = 0
            dx, dy = (_number(thing.get(key, 0), key) for key in ("dx", "dy"))
            if dx or dy:
                _need("move", can)
                by[0, row] = by.new_tensor([dx, dy])
            if thing.get("set"):
                changed[row] = _changes(thing["set"], self._dimensions(own))
        if not bool((present > 0).any()):
            raise ValueError("at least one slot must stay")
        if bool(by.any()):
            latents = self.model.shift(latents, by, size=size)
        for row, values in changed.items():
            for dimension, value in values.items():
                latents[0, row, dimension] = value
        return self._redraw(latents, size, present), rows

    def _dimensions(self, latents: Tensor) -> int:
        """How many numbers of a latent are its slot's: not those that only help to draw it."""
        return latents.shape[2] - 1

    @torch.no_grad()
    def sliders(self, ref: Mapping[str, Any], slot: int, frame: int = 0) -> list[dict[str, Any]]:
        """The dimensions of a slot that change the picture most.

        Each is {"dimension", "name", "low", "high", "value", "active"}. A slider runs over the values that a dimension
        has in the first scenes of the data. "active" is the variance of the picture between its ends, averaged over
        pixels.
        """
        if "set" not in self._latent_edits:
            raise ValueError(f"{type(self.model).__name__} has no latents that can be drawn again")
        seen = self.see(ref)
        own = self._latents(seen, frame)
        if type(slot) is not int or not 0 <= slot < own.shape[1]:
            raise ValueError(f"slot {slot!r}: the scene has slots 0..{own.shape[1] - 1}")
        ranges = self._latent_ranges(own)  # (E, 2)
        dims = self._dimensions(own)
        ends = own.repeat(2 * dims, 1, 1)  # (2 E, K, E)
        each = torch.arange(dims, device=own.device)
        ends[2 * each, slot, each], ends[2 * each + 1, slot, each] = ranges[:dims, 0], ranges[:dims, 1]
        size = self._size(seen)
        parts = [self._redraw(part, size, part.new_ones(part.shape[:2])).recon for part in ends.split(16)]
        active = torch.cat(parts).unflatten(0, (dims, 2)).var(1).mean((1, 2, 3))  # (E,)
        best = active.argsort(descending=True, stable=True)[:SLIDERS].tolist()
        names = self._place_names(own, size)
        return [
            {
                "dimension": d,
                "name": names.get(d, f"Dimension {d}"),
                "low": round(float(ranges[d, 0]), 4),
                "high": round(float(ranges[d, 1]), 4),
                "value": round(float(own[0, slot, d]), 4),
                "active": float(f"{float(active[d]):.3g}"),
            }
            for d in best
            if float(ranges[d, 1]) > float(ranges[d, 0])
        ]

    def _place_names(self, own: Tensor, size: tuple[int, int]) -> dict[int, str]:
        """The dimensions that hold a slot's place, in words."""
        if not isinstance(self.model, Places):
            return {}
        names: dict[int, str] = {}
        for axis, name in enumerate(("Left to right", "Up and down")):
            by = own.new_zeros(1, own.shape[1], 2)
            by[..., axis] = 1
            moved = (self.model.shift(own, by, size=size) != own).flatten(0, 1).any(0)
            names |= dict.fromkeys(moved.nonzero()[:, 0].tolist(), name)
        return names

    def _latent_ranges(self, own: Tensor) -> Tensor:
        if self._ranges is None:
            rows = [own.flatten(0, 1)]
            if self.splits:
                count = min(RANGE_SCENES, len(self.data(self.splits[0])))
                scene = self.data(self.splits[0]).batch(range(count)).to(self.device)
                torch.manual_seed(self.seed)
                with posterior_means():
                    rows.append(self._latents_of_all(Seen(scene, see(self.model, scene))))
            values = torch.cat(rows)
            self._ranges = torch.stack(values.aminmax(dim=0), -1)
        return self._ranges

    def _latents_of_all(self, seen: Seen) -> Tensor:
        """(n, E) of every scene, of clips the first frames."""
        latents = self._latents(seen, 0)
        finite = latents.isfinite().all(-1)
        return latents[finite]

    # Films

    @torch.no_grad()
    def stages(self, ref: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The steps of an iterative model's inference as a film: {"name", "recon", "owners"}; [] if it has none."""
        seen = self.see(ref)
        if seen.frames is not None or not seen.output.stages:
            return []
        slots = shown_slots(seen.output)
        film = []
        for stage in decoded_stages(self.model, seen.output):
            assert stage.drawn is not None
            parts = layers(stage.drawn, slots)
            film.append({"name": stage.name, "recon": parts["recon"], "owners": parts["owners"]})
        return film

    @torch.no_grad()
    def predict(self, ref: Mapping[str, Any], context: int, samples: int = 3) -> dict[str, Any]:
        """What may come after the first `context` frames of a clip: {"context", "truth": [...], "futures": [[...]]}.

        With actions, the clip's own ones.
        """
        if not isinstance(self.model, Predicts):
            raise ValueError(f"{type(self.model).__name__} does not predict")
        seen = self.see(ref)
        if seen.frames is None or not 1 <= context < seen.frames:
            raise ValueError(f"context={context}: expected a clip, and 1 frame to one less than it has")
        torch.manual_seed(self.seed)
        steps = seen.frames - context
        futures = continue_clips(self.model, seen.scene, context=context, steps=steps, samples=samples).recon[0]
        return {
            "context": context,
            "truth": [png(frame) for frame in seen.scene.pixels[0]],
            "futures": [[png(frame) for frame in future] for future in futures],
        }

    @torch.no_grad()
    def imagine(self, ref: Mapping[str, Any], frame: int, actions: Any) -> list[dict[str, Any]]:
        """What follows the frames up to `frame` if one acts as said: a film of {"name", "recon", "owners"}.

        Args:
            ref: a clip.
            frame: the last that the model sees.
            actions: a list of actions, each `action_size` numbers; the first leads to the first imagined frame.

        Raises:
            ValueError: if the model does not act, or the actions are no numbers.
        """
        width = getattr(self.model, "action_size", 0)
        if not width or not isinstance(self.model, Predicts):
            raise ValueError(f"{type(self.model).__name__} takes no actions")
        seen = self.see(ref)
        if seen.frames is None or not 0 <= frame < seen.frames:
            raise ValueError(f"frame={frame}: expected a clip, and one of its frames")
        good = isinstance(actions, list) and 0 < len(actions) <= LONGEST and all(isinstance(a, list) for a in actions)
        if not good or any(len(action) != width for action in actions):
            raise ValueError(f"expected 1 to {LONGEST} actions of {width} numbers each")
        told = torch.tensor([[[_number(value, "action") for value in action] for action in actions]])
        known = first_frames(self.model, seen.scene, frame + 1)
        torch.manual_seed(self.seed)
        future = self.model.predict(known, steps=len(actions), samples=1, actions=told.to(self.device))
        slots = shown_slots(self._still(seen, frame)[1])
        film = []
        for step in range(len(actions)):
            parts = layers(
                Decomposition(
                    recon=future.recon[:, 0, step],
                    masks=future.masks[:, 0, step],
                    components=future.components[:, 0, step],
                    slots=future.slots[:, 0, step],
                ),
                slots,
            )
            film.append({"name": f"action {step + 1}", "recon": parts["recon"], "owners": parts["owners"]})
        return film

    def slots_npz(self, ref: Mapping[str, Any], frame: int = 0) -> bytes:
        """slots (K, D), masks (K, H, W), components (K, 3, H, W), recon and image (3, H, W) as a NumPy archive."""
        scene, drawn = self._still(self.see(ref), frame)
        arrays: dict[str, Tensor] = {
            "slots": drawn.slots[0],
            "masks": drawn.masks[0, :, 0],
            "components": drawn.components[0],
            "recon": drawn.recon[0],
            "image": scene.pixels[0],
        }
        file = io.BytesIO()
        numbers: dict[str, Any] = {name: array.detach().cpu().float().numpy() for name, array in arrays.items()}
        np.savez_compressed(file, **numbers)
        return file.getvalue()


LONGEST = 64
"""Actions in a row."""
SAMPLES = 8
"""Scenes that are imagined at once."""


def _slots_of(drawn: Decomposition) -> tuple[Tensor, Tensor]:
    """slots (1, K, D) and present (1, K) as `decode` takes them."""
    slots = drawn.slots.float()
    return slots, slots.new_ones(slots.shape[:2]) if drawn.present is None else drawn.present.to(slots)


def _need(edit: str, can: Sequence[str]) -> None:
    if edit not in can:
        raise ValueError(f"this model cannot {edit} an object by its latent; it can {', '.join(can) or 'change none'}")


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise ValueError(f"{name}={value!r}: expected a number")
    return float(value)


def _changes(values: Any, dimensions: int) -> dict[int, float]:
    if not isinstance(values, Mapping):
        raise ValueError(f"set={values!r}: expected {{dimension: value}}")
    found = {}
    for key, value in values.items():
        if not str(key).isdigit() or int(key) >= dimensions:
            raise ValueError(f"dimension {key!r}: the latents have dimensions 0..{dimensions - 1}")
        found[int(key)] = _number(value, f"dimension {key}")
    return found
