"""How well does a workspace say what it sees, and draw what it is told?"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from objectscape.contract import Translates
from objectscape.data.synthetic.simple_shapes_tasks import odd_one_out
from objectscape.evaluation.questions.question import Answer, Means, Question, Score, higher, lower
from objectscape.metrics.attributes import WORDS, attribute_errors, attribute_words, recall
from objectscape.nn.odd_one_out import distance_logits
from objectscape.scene import Multimodal, Tensors

ROWS = ("attr", "t")
"""Domains whose decoded form begins with attribute rows."""
LEAST_FOR_ODD = 1000


def _look(model: nn.Module, batch: Any) -> dict[str, Any]:
    """Every translation of a batch: {"states": {d: (B, k)}, "decoded": {"d>d'": raw}, "terms": {loss: scalar}}."""
    joined: Any = model
    names = [n for n in joined.domains if n in batch.domains or f"{n}_latent" in batch.domains]
    states = {name: joined.encode(batch, name) for name in names}
    for pair in itertools.combinations(names, 2):
        states["+".join(pair)] = joined.encode(batch, *pair)
    decoded = {f"{source}>{to}": joined.decode(s, to) for source, s in states.items() for to in joined.domains}
    terms = joined.loss(batch, joined(batch), 0).terms if set(names) == set(joined.domains) else {}
    return {"states": states, "decoded": decoded, "terms": terms}


class Translate(Question):
    """How well does a workspace say what it sees, and draw what it is told?

    Args:
        items: rows for retrieval and the odd one of three.
    """

    name = "translate"
    needs = "a workspace, and rows of Simple Shapes with their attributes"
    scores = {
        "translation": lower("Latent loss of translations between matched domains, mean over pairs of domains."),
        "demi_cycle": lower("Latent loss of d -> workspace -> d, mean over domains."),
        "cycle": lower("Latent loss of d -> workspace -> d' -> workspace -> d, mean over pairs of domains."),
        "contrastive": lower("Contrastive loss of states, in nats; it grows with the batch."),
        "<route>_class": higher("Share of rows whose class comes out right; a route is source_to_target."),
        "<route>_position": lower("Distance of the centers in pixels."),
        "<route>_size": lower("Error of the size in pixels."),
        "<route>_rotation": lower("Error of the direction in degrees, median."),
        "<route>_color": lower("Error of the color, mean over its channels, in levels of 255."),
        "<route>_mse": lower("Squared error per value of the drawn picture."),
        "<route>_r1": higher("Share of rows whose own counterpart is the nearest by cosine of states."),
        "<route>_r10": higher("Share of rows whose own counterpart is among the ten nearest."),
        **{
            f"<route>_word_{name}": higher(f"Share of sentences with the right {text}.") for name, text in WORDS.items()
        },
        "v_to_attr_class": higher("Share of pictures whose class is told right.", "class told"),
        "v_to_attr_rotation": lower("Error of the direction told of a picture, in degrees, median.", "turn told"),
        "attr_to_v_mse": lower("Squared error of pictures drawn from attributes.", "MSE drawn"),
        "v_to_t_word_shape": higher("Share of sentences with the right shape.", "shape said"),
        "t_to_v_mse": lower("Squared error of pictures drawn from sentences.", "MSE from text"),
        "odd_one_out_<domain>": higher("Share of triplets whose odd one is farthest in the workspace; chance is 1/3."),
    }
    headline = ("v_to_attr_class", "v_to_attr_rotation", "attr_to_v_mse", "v_to_t_word_shape", "t_to_v_mse")
    look: Callable[[nn.Module, Any], Any] = staticmethod(_look)

    def __init__(self, *, items: int = 2000) -> None:
        self.items, self.means = items, Means()
        self.turns: dict[str, list[Tensor]] = {}
        self.states: dict[str, list[Tensor]] = {}
        self.rows: list[Tensor] = []
        self.routes: list[str] = []

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(model, Translates) and isinstance(batch, Multimodal) and "attr" in batch.domains

    def update(self, batch: Multimodal, seen: dict[str, Any]) -> None:
        rows = batch.domains["attr"]
        self.routes = list(seen["decoded"])
        for term in ("translation", "demi_cycle", "cycle", "contrastive"):
            if term in seen["terms"]:
                self.means.add({term: seen["terms"][term].expand(len(rows))})
        for key, decoded in seen["decoded"].items():
            source, to = key.split(">")
            route = f"{source}_to_{to}"
            if to in ROWS and decoded.shape[1] >= rows.shape[1]:
                errors = attribute_errors(decoded[:, : rows.shape[1]], rows)
                self.turns.setdefault(f"{route}_rotation", []).append(errors.pop("rotation"))
                self.means.add({f"{route}_{name}": value for name, value in errors.items()})
                if to == "t":
                    said, true = attribute_words(decoded), attribute_words(rows)
                    self.means.add({f"{route}_word_{w}": (said[w] == true[w]).float() for w in WORDS})
            elif decoded.ndim == 4 and to in batch.domains:
                squared = (decoded.float() / 255 - batch.domains[to].float() / 255).square()
                self.means.add({f"{route}_mse": squared.flatten(1).mean(1)})
        if sum(map(len, self.rows)) < self.items:
            self.rows.append(rows)
            for name, state in seen["states"].items():
                self.states.setdefault(name, []).append(state)

    def compute(self, model: nn.Module) -> Answer:
        scores = self.means.scores()
        for name, parts in self.turns.items():
            turns = torch.cat(parts)
            scores[name] = Score(float(turns.median()), float("nan"), len(turns))
        states = {name: torch.cat(parts) for name, parts in self.states.items() if "+" not in name}
        found = Means()
        for source, to in itertools.permutations(states, 2):
            hits = recall(states[source], states[to])
            found.add({f"{source}_to_{to}_r{k}": values for k, values in hits.items()})
        rows = torch.cat(self.rows) if self.rows else torch.empty(0)
        if states and len(rows) >= LEAST_FOR_ODD:
            triplets, odd = odd_one_out(rows.cpu(), LEAST_FOR_ODD, self.seed)
            for name, values in states.items():
                found.add(
                    {
                        f"odd_one_out_{name}": (
                            distance_logits(values[triplets]).argmax(1) == odd.to(values.device)
                        ).float()
                    }
                )
        return Answer({**scores, **found.scores()})

    def baseline(self, batch: Multimodal) -> dict[str, Any]:
        """The truth of another row: what shuffled pairs score."""
        decoded = {}
        for key in self.routes:
            to = key.split(">")[1]
            source = batch.domains["attr" if to == "t" else to] if to == "t" or to in batch.domains else None
            if source is not None:
                decoded[key] = source.roll(1, 0)
        return {"decoded": decoded, "states": {}, "terms": {}}
