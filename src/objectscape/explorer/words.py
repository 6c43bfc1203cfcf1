"""What the page asks of a workspace: a sentence drawn, a picture told, an attribute changed.

A thing is a row of attributes (class, x, y, size, rotation, red, green, blue), a sentence, or a picture; the workspace
reads any of them into its state and decodes that into the others.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from objectscape.contract import Translates, abilities
from objectscape.data.synthetic import captions
from objectscape.data.synthetic.open_sentences import say, say_in_full
from objectscape.data.synthetic.simple_shapes import SimpleShapes
from objectscape.data.synthetic.simple_shapes_render import CLASSES, COLUMNS
from objectscape.explorer.views import Pictures, png
from objectscape.scene import Multimodal

NAMES = {"image": "v", "text": "t", "attributes": "attr"}
RANGES = {"x": (7, 25), "y": (7, 25), "size": (7, 14), "rotation": (0, 6.28), "red": (0, 255), "green": (0, 255),
          "blue": (0, 255)}  # fmt: skip
MEANINGS = 4
"""Pictures of a sentence that leaves something open."""
SCENES = 320
LONGEST = 400
"""Characters of a sentence."""


class WordsSession:
    """A workspace of Simple Shapes, and what a person tells and shows it.

    Args:
        model: translates between at least two of `NAMES`.
        name: of the model, for people.
        device: where to compute.
        seed: of what a sentence leaves open, and of the wording.
        source: the arguments of `objectscape.explore` that give this session, as Python.

    Raises:
        ValueError: if the model does not translate, or between other domains.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str = "model",
        device: torch.device | str = "cpu",
        seed: int = 0,
        source: str = "...",
    ) -> None:
        translates = isinstance(model, Translates)  # of its own: a type checker would forget what else a model is
        if not translates:
            can = ", ".join(abilities(model)) or "none"
            raise ValueError(f"{type(model).__name__} cannot translate (its abilities: {can})")
        self.model = cast(Any, model.to(device).eval())
        self.name, self.device, self.seed, self.source = name, device, seed, source
        self.known = [told for told, domain in NAMES.items() if domain in self.model.domains]
        if "text" in self.known and not hasattr(self.model.domain("t"), "understand"):
            self.known.remove("text")  # a domain of sentence vectors reads no words
        if len(self.known) < 2:
            raise ValueError(
                f"the workspace joins {', '.join(self.model.domains)}; the page knows those of Simple Shapes: "
                + ", ".join(f"{domain} ({told})" for told, domain in NAMES.items())
            )
        self.image_size: int = getattr(self.model.domain("v"), "image_size", 32) if "image" in self.known else 32
        self._pictures = Pictures()
        self._data: dict[str, SimpleShapes] = {}

    def about(self) -> dict[str, Any]:
        """What the page must know before it shows anything."""
        return {
            "name": self.name,
            "model": type(self.model).__name__,
            "abilities": abilities(self.model),
            "data": {"name": "simple_shapes", "license": self.data("test").spec.license, "fps": None},
            "splits": {"test": SCENES},
            "words": {"known": self.known, "kinds": CLASSES, "ranges": RANGES},
            "source": self.source,
        }

    def data(self, split: str) -> SimpleShapes:
        """Scenes in every domain."""
        if split != "test":
            raise ValueError(f"split {split!r}: expected test")
        if split not in self._data:
            self._data[split] = SimpleShapes(split=split, count=SCENES, image_size=self.image_size)
        return self._data[split]

    def add_picture(self, content: bytes) -> dict[str, Any]:
        """Take a picture file of the user; returns its reference.

        Raises:
            ValueError: if it is no picture, or too large a one.
        """
        return self._pictures.add(content, (self.image_size, self.image_size))

    @torch.no_grad()
    def tell(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A thing in all domains.

        Args:
            asked: one of {"text": sentence}, {"row": 8 numbers}, and {"ref": a scene or a picture of `add_picture`}.

        Returns:
            "pictures" as the model draws them, several of an open sentence; "sentence"; "row" or None; and for a scene
            or picture "image", for a scene "true_row".

        Raises:
            ValueError: for what the model cannot read, or no such scene.
        """
        rng = random.Random(self.seed)
        found: dict[str, Any] = {"note": ""}
        if "text" in asked:
            source, raw, meant = "text", *self._read_text(asked["text"], rng)
        elif "row" in asked:
            meant = _row(asked["row"])
            source, raw = ("attributes", meant) if "attributes" in self.known else ("text", say(meant, rng))
        else:
            ref = asked.get("ref") or {}
            source, meant = "image", None
            if "picture" in ref:
                image, found["note"] = self._pictures.get(ref["picture"])
                raw = image[None].float() / 255
            else:
                index, data = ref.get("index"), self.data(str(ref.get("split")))
                if type(index) is not int or not 0 <= index < len(data):
                    raise ValueError(f"there is no scene {index!r}: expected 0..{len(data) - 1}")
                batch: Any = data.batch([index])
                raw = batch.domains["v"].float() / (255 if batch.domains["v"].dtype == torch.uint8 else 1)
                found["true_row"] = _numbers(batch.domains["attr"][0])
            found["image"] = png(raw[0])
        if source not in self.known:
            raise ValueError(f"this workspace does not read {source}s; it knows {', '.join(self.known)}")
        raw = raw.to(self.device)
        state = self.model.encode(
            Multimodal(domains={NAMES[source]: raw}, present={NAMES[source]: torch.ones(len(raw)).bool()}),
            NAMES[source],
        )
        decoded = {told: self.model.decode(state, NAMES[told]).cpu() for told in self.known}
        words = decoded.get("text")
        if meant is None:
            meant = decoded.get("attributes", words)
        found |= {
            "source": source,
            "pictures": [png(picture) for picture in decoded.get("image", ())],
            "row": None if meant is None else _numbers(meant[0]),
            "sentence": None if words is None else _sentence(words[0], rng),
        }
        return found

    def _read_text(self, sentence: Any, rng: random.Random) -> tuple[Tensor, Tensor]:
        """(n, L) words of a sentence, n = 1 or the `MEANINGS` of an open one; (n, 8) the attributes understood."""
        if not isinstance(sentence, str) or not sentence.strip() or len(sentence) > LONGEST:
            raise ValueError(f"expected a sentence of 1 to {LONGEST} characters")
        if "text" not in self.known:
            raise ValueError(f"this workspace does not read text; it knows {', '.join(self.known)}")
        tokens = torch.from_numpy(captions.tokenize(sentence)).unsqueeze(0).to(self.device)
        return say_in_full(tokens, self.model.domain("t").understand, MEANINGS, rng)


def _row(values: Any) -> Tensor:
    """(1, 8) from what a request says."""
    good = isinstance(values, Sequence) and len(values) == len(COLUMNS)
    if not good or not all(type(v) in (int, float) and abs(v) < 1e6 for v in values) or values[0] not in (0, 1, 2):
        raise ValueError(f"row={values!r}: expected {len(COLUMNS)} numbers: {', '.join(COLUMNS)}")
    return torch.tensor([[float(value) for value in values]])


def _numbers(row: Tensor) -> list[float]:
    return [round(float(value), 2) for value in row[: len(COLUMNS)]]


def _sentence(row: Tensor, rng: random.Random) -> str:
    """What a decoded row of attributes and classes of grammar says."""
    classes = dict(zip(captions.heads(), row[8:].long().tolist(), strict=True))
    return captions.describe(captions.Attributes.of(row.tolist()), classes, rng)
