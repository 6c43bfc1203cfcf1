"""What does one domain of a workspace keep of what it sees?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from objectscape.contract import Embeds
from objectscape.evaluation.questions.attribute_scores import ERRORS, learn_probe, median, probe_scores
from objectscape.evaluation.questions.question import Answer, Means, Question, Score, higher, lower, neither
from objectscape.metrics.attribute_probe import live_dimensions
from objectscape.metrics.attributes import WORDS, attribute_errors, attribute_words
from objectscape.scene import Multimodal, Tensors

NAMED = {"class": 0, "rotation": 1, "color": 2, "size": 3, "position": 4}
"""Attribute -> its column of the entry "said"."""
NAMED_WORDS = {"shape": 0, "direction": 1, "size": 3, "cell": 4}


class Embedded(NamedTuple):
    """What a domain makes of a batch."""

    domain: str
    latent: Tensor
    """(B, D)"""
    decoded: Tensor
    """(B, ...)"""


def _look(model: nn.Module, batch: Any) -> Embedded:
    domain: Any = model
    latent = domain.encode(batch.domains[domain.domain]).float()
    return Embedded(domain.domain, latent, domain.decode(latent))


class Embed(Question):
    """What does one domain of a workspace keep of what it sees?

    A probe (`objectscape.metrics.attribute_probe`) learns from the training split to read attributes from the latent:
    what it cannot read, no workspace can say.

    Args:
        rows: of the training split that the probe learns from; 0 for no probe.
        steps: of the probe's training.
    """

    name = "embed"
    needs = "a domain of a workspace, and a batch that has it"
    scores = {
        "mse": lower("Squared error per value of images in [0, 1].", "MSE"),
        "vector_mse": lower("Squared error per value of decoded vectors."),
        **{f"told_{name}": meaning for name, meaning in ERRORS.items()},
        **{f"told_word_{name}": higher(f"Share of sentences with the right {text}.") for name, text in WORDS.items()},
        **{f"probe_{name}": meaning._replace(text=f"By a probe: {meaning.text}") for name, meaning in ERRORS.items()},
        "live_dimensions": neither("Dimensions of the latent that vary, a tenth of the most variable at least."),
    }
    headline = ("mse", "vector_mse", "told_class", "told_position", *(f"probe_{name}" for name in ERRORS))
    look: Callable[[nn.Module, Any], Any] = staticmethod(_look)

    def __init__(self, *, rows: int = 60000, steps: int = 5000) -> None:
        self.rows, self.steps, self.means, self.domain = rows, steps, Means(), ""
        self.latents: list[Tensor] = []
        self.true: list[Tensor] = []
        self.turns: list[Tensor] = []

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(model, Embeds) and isinstance(batch, Multimodal) and model.domain in batch.domains

    @classmethod
    def at_validation(cls) -> Self:
        return cls(rows=0)

    def update(self, batch: Multimodal, seen: Embedded) -> None:
        self.domain, raw, rows = seen.domain, batch.domains[seen.domain], batch.domains.get("attr")
        if raw.ndim == 4:
            squared = (seen.decoded.float() / 255 - raw.float() / 255).square()
            self.means.add({"mse": squared.flatten(1).mean(1)})
        elif seen.domain != "attr" and seen.decoded.shape == raw.shape and raw.is_floating_point():
            self.means.add({"vector_mse": (seen.decoded - raw).square().mean(1)})
        elif rows is not None and seen.decoded.shape[1] >= rows.shape[1]:
            said = batch.domains.get("said") if seen.domain == "t" else None
            self._told(seen.decoded, rows, None if said is None else said.bool())
        self.latents.append(seen.latent)
        if rows is not None:
            self.true.append(rows)

    def _told(self, decoded: Tensor, rows: Tensor, said: Tensor | None) -> None:
        """Errors of what a sentence names, or of everything without `said`."""

        def named(values: Tensor, column: int) -> Tensor:
            return values if said is None else torch.where(said[:, column], values, math.nan)

        errors = attribute_errors(decoded[:, : rows.shape[1]], rows)
        errors = {name: named(value, NAMED[name]) for name, value in errors.items()}
        self.turns.append(errors.pop("rotation"))
        self.means.add({f"told_{name}": value for name, value in errors.items()})
        if self.domain == "t":
            found, true = attribute_words(decoded), attribute_words(rows)
            right = {word: named((found[word] == true[word]).float(), NAMED_WORDS[word]) for word in WORDS}
            self.means.add({f"told_word_{word}": value for word, value in right.items()})

    def compute(self, model: nn.Module) -> Answer:
        scores = self.means.scores()
        if self.turns:
            scores["told_rotation"] = median(torch.cat(self.turns))
        latents = torch.cat(self.latents)
        if latents.shape[1]:
            scores["live_dimensions"] = Score(float(live_dimensions(latents).sum()), math.nan, len(latents))
            scores |= self._probe(model, latents)
        return Answer(scores)

    def _probe(self, model: nn.Module, latents: Tensor) -> dict[str, Score]:
        if not self.rows or not self.true or self.learning is None:
            return {}
        domain: Any = model
        with torch.no_grad():
            probe = learn_probe(
                lambda batch: (
                    domain.encode(batch.domains[self.domain]).float() if self.domain in batch.domains else None
                ),
                self.learning,
                rows=self.rows,
                steps=self.steps,
                seed=self.seed,
                device=latents.device,
            )
        found = {} if probe is None else probe_scores(probe, latents, torch.cat(self.true))
        return {f"probe_{name}": score for name, score in found.items()}

    def baseline(self, batch: Multimodal) -> Embedded | None:
        """Images as a plain area of their mean color, attributes of another row."""
        raw, nothing = batch.domains[self.domain], torch.zeros(len(batch), 0)
        if raw.ndim == 4:
            plain = raw.float().mean((-2, -1), keepdim=True).expand(raw.shape).round().to(torch.uint8)
            return Embedded(self.domain, nothing, plain)
        if self.domain != "attr" and raw.is_floating_point():
            return Embedded(self.domain, nothing, raw.mean(0, keepdim=True).expand(raw.shape))
        rows = batch.domains.get("attr")
        return None if rows is None else Embedded(self.domain, nothing, rows.roll(1, 0))
