"""How well does a workspace say what it sees, and draw what it is told?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from objectscape.contract import Translates
from objectscape.data.synthetic.simple_shapes_tasks import odd_one_out
from objectscape.evaluation.questions.attribute_scores import ERRORS, learn_probe, median, probe_scores
from objectscape.evaluation.questions.question import Answer, Means, Question, Score, higher, lower, neither
from objectscape.metrics.attribute_probe import live_dimensions, unexplained
from objectscape.metrics.attributes import WORDS, attribute_errors, attribute_words, recall
from objectscape.nn.attribute_vectors import WIDTH
from objectscape.nn.odd_one_out import distance_logits
from objectscape.scene import Multimodal, Tensors

ROWS = ("attr", "t")
"""Domains whose decoded form begins with attribute rows."""
LEAST_FOR_ODD = 1000


def _look(model: nn.Module, batch: Any) -> dict[str, Any]:
    """Every translation of a batch.

    Returns:
        "states" {d: (B, k)}, "decoded" {"d>d'": raw}, "terms" {loss: scalar}. Of a workspace with latents also
        "latents" {d: (B, D)}, "predicted" {"d>d'": (B, D)}, "own" {d: raw as the domain decodes its latent}, and
        "noisy" {"d+d'>to~d": raw} from states of two domains of which d is corrupted.
    """
    joined: Any = model
    names = [n for n in joined.domains if n in batch.domains or f"{n}_latent" in batch.domains]
    states = {name: joined.encode(batch, name) for name in names}
    for pair in itertools.combinations(names, 2):
        states["+".join(pair)] = joined.encode(batch, *pair)
    decoded = {f"{source}>{to}": joined.decode(s, to) for source, s in states.items() for to in joined.domains}
    terms = joined.loss(batch, joined(batch), 0).terms if set(names) == set(joined.domains) else {}
    seen = {"states": states, "decoded": decoded, "terms": terms}
    return seen | _look_at_latents(joined, batch, names, states) if hasattr(model, "latent") else seen


def _look_at_latents(joined: Any, batch: Any, names: list[str], states: dict[str, Tensor]) -> dict[str, Any]:
    latents = {name: joined.latent(batch, name).float() for name in names}
    predicted = {
        f"{source}>{to}": joined.domain(to).adapt(joined.decode_latent(state, to))
        for source, state in states.items()
        for to in names
    }
    noisy: dict[str, Tensor] = {}
    for pair in itertools.combinations(names, 2):
        for bad in pair:
            u = latents[bad]
            given = {name: latents[name] for name in pair} | {bad: u + torch.randn_like(u) * u.std(0, correction=0)}
            state = joined.fused(given, {name: joined.encoders[name](u) for name, u in given.items()})
            noisy |= {f"{'+'.join(pair)}>{to}~{bad}": joined.decode(state, to) for to in names if to in ROWS}
    own = {name: joined.domain(name).decode(latents[name]) for name in names if name not in ROWS}
    return {"latents": latents, "predicted": predicted, "noisy": noisy, "own": own}


def _latents_of(model: nn.Module) -> Callable[[str], Callable[[Any], Tensor | None]]:
    """Domain -> (batch -> its latent, None where the batch lacks it)."""
    joined: Any = model

    def of(name: str) -> Callable[[Any], Tensor | None]:
        def latent(batch: Any) -> Tensor | None:
            there = name in batch.domains or f"{name}_latent" in batch.domains
            return joined.latent(batch, name).float() if there else None

        return latent

    return of


class Translate(Question):
    """How well does a workspace say what it sees, and draw what it is told?

    Beside it stands a probe (`objectscape.metrics.attribute_probe`) that reads the attributes from each domain's latent
    directly, learned from every row of the training split: a ratio of 1 to its errors is a translation without loss.

    Args:
        items: rows for retrieval and the odd one of three.
        probe_rows: of the training split that the probes learn from; 0 for no probes.
        probe_steps: of the probes' training.
    """

    name = "translate"
    needs = "a workspace, and rows of Simple Shapes with their attributes"
    scores = {
        "translation": lower("Latent loss of translations between matched domains, mean over pairs of domains."),
        "demi_cycle": lower("Latent loss of d -> workspace -> d, mean over domains."),
        "cycle": lower("Latent loss of d -> workspace -> d' -> workspace -> d, mean over pairs of domains."),
        "contrastive": lower("Contrastive loss of states, in nats; it grows with the batch."),
        **{
            f"<route>_{name}": meaning._replace(text=f"{meaning.text} A route is source_to_target.")
            for name, meaning in ERRORS.items()
        },
        **{
            f"<route>_noisy_<domain>_{name}": meaning._replace(
                text=f"With noise as large as its spread on that domain's latent. {meaning.text}"
            )
            for name, meaning in ERRORS.items()
        },
        **{
            f"<route>_probe_{name}": meaning._replace(text=f"A probe of the translated latent. {meaning.text}")
            for name, meaning in ERRORS.items()
        },
        **{
            f"<domain>_own_{name}": meaning._replace(text=f"A probe of the domain's own latent. {meaning.text}")
            for name, meaning in ERRORS.items()
        },
        "<route>_unpaired": lower("Error of the numbers that only attributes tell, in [0, 1); .25 for their mean."),
        "<route>_ratio_<attribute>": lower("Error over that of a probe of the source's latent; 1: nothing is lost."),
        "<route>_ratio_mse": lower("Squared error over that of the domain's own reconstruction."),
        "<route>_r2": higher("R2 of the translated latent, mean over its live dimensions."),
        "<domain>_own_mse": lower("Squared error of the domain's own reconstruction."),
        "<domain>_live": neither("Dimensions of the latent that vary, a tenth of the most variable at least."),
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

    def __init__(self, *, items: int = 2000, probe_rows: int = 60000, probe_steps: int = 5000) -> None:
        self.items, self.probe_rows, self.probe_steps, self.means = items, probe_rows, probe_steps, Means()
        self.latents: dict[str, list[Tensor]] = {}
        self.predicted: dict[str, list[Tensor]] = {}
        self.turns: dict[str, list[Tensor]] = {}
        self.states: dict[str, list[Tensor]] = {}
        self.rows: list[Tensor] = []
        self.routes: list[str] = []

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(model, Translates) and isinstance(batch, Multimodal) and "attr" in batch.domains

    @classmethod
    def at_validation(cls) -> Self:
        return cls(probe_rows=0)

    def update(self, batch: Multimodal, seen: dict[str, Any]) -> None:
        rows = batch.domains["attr"]
        self.routes = list(seen["decoded"])
        for term in ("translation", "demi_cycle", "cycle", "contrastive"):
            if term in seen["terms"]:
                self.means.add({term: seen["terms"][term].expand(len(rows))})
        for key, decoded in (seen["decoded"] | seen.get("noisy", {})).items():
            path, _, bad = key.partition("~")
            source, to = path.split(">")
            route = f"{source}_to_{to}" + (f"_noisy_{bad}" if bad else "")
            if to in ROWS and decoded.shape[1] >= (WIDTH if to == "t" else rows.shape[1]):
                errors = attribute_errors(decoded, rows)
                self.turns.setdefault(f"{route}_rotation", []).append(errors.pop("rotation"))
                self.means.add({f"{route}_{name}": value for name, value in errors.items()})
                if to == "attr" and rows.shape[1] > WIDTH:
                    apart = (decoded[:, WIDTH : rows.shape[1]] - rows[:, WIDTH:]).abs().mean(1)
                    self.means.add({f"{route}_unpaired": apart})
                if to == "t" and not bad:
                    said, true = attribute_words(decoded), attribute_words(rows)
                    self.means.add({f"{route}_word_{w}": (said[w] == true[w]).float() for w in WORDS})
            elif decoded.ndim == 4 and to in batch.domains:
                squared = (decoded.float() / 255 - batch.domains[to].float() / 255).square()
                self.means.add({f"{route}_mse": squared.flatten(1).mean(1)})
        for name, decoded in seen.get("own", {}).items():
            if decoded.ndim == 4 and name in batch.domains:
                squared = (decoded.float() / 255 - batch.domains[name].float() / 255).square()
                self.means.add({f"{name}_own_mse": squared.flatten(1).mean(1)})
        if sum(map(len, self.rows)) < self.items:
            self.rows.append(rows)
            for kept, values in (
                (self.states, seen["states"]),
                (self.latents, seen.get("latents", {})),
                (self.predicted, seen.get("predicted", {})),
            ):
                for name, value in values.items():
                    kept.setdefault(name, []).append(value)

    def compute(self, model: nn.Module) -> Answer:
        scores = self.means.scores()
        for name, parts in self.turns.items():
            scores[name] = median(torch.cat(parts))
        scores |= self._of_latents(model, scores)
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

    def _of_latents(self, model: nn.Module, scores: dict[str, Score]) -> dict[str, Score]:
        """R2 of translated latents, what probes read of them, and errors beside what could be had."""
        latents = {name: torch.cat(parts) for name, parts in self.latents.items()}
        predicted = {key: torch.cat(parts) for key, parts in self.predicted.items()}
        found = {}
        for name, values in latents.items():
            found[f"{name}_live"] = Score(float(live_dimensions(values).sum()), math.nan, len(values))
        for key, values in predicted.items():
            source, to = key.split(">")
            error = float(unexplained(values, latents[to]).mean())
            found[f"{source}_to_{to}_r2"] = Score(1 - error, math.nan, len(values))
            mse, own = scores.get(f"{source}_to_{to}_mse"), scores.get(f"{to}_own_mse")
            if mse and own:
                found[f"{source}_to_{to}_ratio_mse"] = Score(mse.mean / own.mean, math.nan, mse.n)
        return found | self._probes(model, latents, predicted, scores)

    def _probes(
        self, model: nn.Module, latents: dict[str, Tensor], predicted: dict[str, Tensor], scores: dict[str, Score]
    ) -> dict[str, Score]:
        found: dict[str, Score] = {}
        if not self.probe_rows or self.learning is None:
            return found
        rows, joined = torch.cat(self.rows), _latents_of(model)
        for name in (n for n in latents if n != "attr"):
            probe = learn_probe(
                joined(name),
                self.learning,
                rows=self.probe_rows,
                steps=self.probe_steps,
                seed=self.seed,
                device=rows.device,
            )
            if probe is None:
                continue
            own = probe_scores(probe, latents[name], rows)
            found |= {f"{name}_own_{attribute}": score for attribute, score in own.items()}
            for key, values in predicted.items():
                source, to = key.split(">")
                if to == name:
                    read = probe_scores(probe, values, rows)
                    found |= {f"{source}_to_{to}_probe_{attribute}": score for attribute, score in read.items()}
            for attribute in ("position", "size", "rotation", "color"):
                told = scores.get(f"{name}_to_attr_{attribute}")
                if told and own[attribute].mean:
                    ratio = told.mean / own[attribute].mean
                    found[f"{name}_to_attr_ratio_{attribute}"] = Score(ratio, math.nan, told.n)
        return found

    def baseline(self, batch: Multimodal) -> dict[str, Any]:
        """The truth of another row: what shuffled pairs score."""
        decoded = {}
        for key in self.routes:
            to = key.split(">")[1]
            source = batch.domains["attr" if to == "t" else to] if to == "t" or to in batch.domains else None
            if source is not None:
                decoded[key] = source.roll(1, 0)
        return {"decoded": decoded, "states": {}, "terms": {}}
