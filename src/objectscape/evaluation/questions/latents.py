"""What do the slots know of their objects, and which of their dimensions do anything?"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from objectscape.contract import Decomposes, see
from objectscape.evaluation.disentanglement import join_matches, match_batch
from objectscape.evaluation.edits import decoder_of, every_frame, order_matters
from objectscape.evaluation.questions.question import Answer, Question, Score, higher, neither
from objectscape.evaluation.traversals import Latents, activeness, latents_of
from objectscape.metrics.activeness import active_dimensions, latent_ranges
from objectscape.metrics.disentanglement import FEWEST_OBJECTS, FactorScore, Scoring, dci
from objectscape.metrics.factors import FactorKind
from objectscape.metrics.probes import ObjectSlots, probe_properties
from objectscape.nn.distributions import posterior_means
from objectscape.nn.validation import check_at_least, check_choice
from objectscape.scene import Decomposition, Scene, Tensors

logger = logging.getLogger(__name__)

PROBE_HIDDEN = 256
"""Width of the larger probe's hidden layer, as in Dittadi et al."""
SCORINGS: tuple[Scoring, ...] = ("corrected", "released")


class Looked(NamedTuple):
    """What a model makes of a batch from the means of its posteriors, and with draws from them."""

    means: Decomposition | None
    """None where nothing can be matched: without segments or factors, or by a model without masks"""
    drawn: Decomposition | None
    """of the first scenes; None once there are enough"""


class LatentProperties(Question):
    """What do the slots know of their objects, and which of their dimensions do anything?

    Slots are compared with objects through masks: see `objectscape.evaluation.disentanglement`. What a model or the
    data lack is left out: DCI and probes need `segments` and `factors`, activeness needs `decode(slots)`. DCI and
    probes are about the objects that have a slot of their own (`matched_objects` says which share that is) and easily
    look well: the baseline is the same model before training.

    Args:
        scoring: of DCI, see `objectscape.metrics.disentanglement`; with "released" its scores are named
            `dci_released_...`.
        kinds: {factor: kind} where names and values do not tell.
        active_images: scenes that activeness is measured on, 0 for none; None for 10 on a CPU and the paper's 100
            elsewhere. A fifth of them where masks are made by stick-breaking, so that every slot must be drawn again
            for every value.
    """

    name = "latents"
    needs = "a model with slots and scenes with `segments` and `factors`, or a model that decodes slots (`decode`)"
    scores = {
        "matched_objects": higher("Share of the objects that have a slot of their own; what follows is about these."),
        "dci_disentanglement": higher("Does a dimension of a slot stand for one factor? Of matched objects.", "DCI-D"),
        "dci_completeness": higher("Does a factor stand in one dimension? Of matched objects.", "DCI-C"),
        "dci_informativeness": higher("Mean skill of boosted trees at the factors; 0 guessing, 1 perfect.", "DCI-I"),
        "dci_released_<part>": higher("The same as the published code computes it."),
        "probe_linear_<factor>": higher("Accuracy or R2 of a linear probe that reads the factor from the slot."),
        "probe_mlp_<factor>": higher("The same with a hidden layer."),
        "activeness": neither("Variance of the image as one dimension runs through its range; mean over dimensions."),
        "active_dimensions": neither("How many dimensions share the activeness."),
    }
    headline = ("matched_objects", "dci_disentanglement", "dci_completeness", "dci_informativeness")
    quick = False
    wants_untrained = True

    def __init__(
        self,
        *,
        scoring: Scoring = "corrected",
        kinds: Mapping[str, FactorKind] | None = None,
        active_images: int | None = None,
    ) -> None:
        check_choice("scoring", scoring, SCORINGS)
        check_at_least(0, active_images=0 if active_images is None else active_images)
        self.scoring, self.kinds, self.active_images = scoring, kinds, active_images
        self._matches: list[ObjectSlots] = []
        self._drawn: list[Latents] = []

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(batch, Scene) and (_matchable(model, batch) or _decodes(model))

    def look(self, model: nn.Module, batch: Scene) -> Looked:
        means = None
        if _matchable(model, batch):
            with posterior_means():
                means = every_frame(see(model, batch))
        if self.active_images is None:
            self.active_images = 10 if batch.image.device.type == "cpu" else 100
        left = self.active_images - sum(len(part.slots) for part in self._drawn)
        if left <= 0 or not _decodes(model):
            return Looked(means, None)
        frames = 1 if batch.image.ndim == 4 else batch.image.shape[1]
        return Looked(means, every_frame(see(model, batch[: -(-left // frames)]))[:left])

    def baseline(self, batch: Scene) -> Looked | None:
        """The same model with weights that no step has changed: what its architecture gives away by itself."""
        if self.untrained is None or not _matchable(self.untrained, batch):
            return None
        with posterior_means():
            return Looked(every_frame(see(self.untrained, batch)), None)

    def update(self, batch: Scene, seen: Looked) -> None:
        if batch.image.ndim == 5:
            batch = batch.fold_time()
        if seen.means is not None:
            self._matches.append(match_batch(batch, seen.means))
        if seen.drawn is not None:
            self._drawn.append(latents_of(seen.drawn))

    def compute(self, model: nn.Module) -> Answer:
        scores: dict[str, Score] = {}
        details: dict[str, Any] = {}
        if self._matches:
            level = logging.DEBUG if self.of_baseline else logging.WARNING
            scores, details = _ask(join_matches(self._matches), self.scoring, self.kinds, self.seed, level)
        if self._drawn:
            latents = Latents(*(torch.cat(parts) for parts in zip(*self._drawn, strict=True)))
            if bool(latents.slots.isfinite().all()):
                active = self._activeness(model, latents)  # (n, D)
                scores["activeness"] = _score(active.mean(1))
                scores["active_dimensions"] = Score(float(active_dimensions(active.mean(0))), math.nan, len(active))
                details["activeness"] = active.mean(0).tolist()
            else:
                logger.warning("latents are not finite: the model has diverged; no activeness")
        return Answer(scores, details)

    @torch.no_grad()
    def _activeness(self, model: nn.Module, latents: Latents) -> Tensor:
        ranges = latent_ranges(latents.slots)
        if latents.slots.shape[1] > 1 and order_matters(decoder_of(model), latents):
            fewer = max(1, (self.active_images or 0) // 5)
            latents = Latents(*(values[:fewer] for values in latents))
        return activeness(model, latents, ranges=ranges, seed=self.seed).double().cpu()


def _matchable(model: nn.Module, batch: Scene) -> bool:
    return isinstance(model, Decomposes) and batch.segments is not None and bool(batch.factors)


def _decodes(model: nn.Module) -> bool:
    try:
        decoder_of(model)
    except ValueError:
        return False
    return True


def _ask(
    data: ObjectSlots, scoring: Scoring, kinds: Mapping[str, FactorKind] | None, seed: int, level: int
) -> tuple[dict[str, Score], dict[str, Any]]:
    """DCI and probes of matched slots."""
    found = (data.matches >= 0)[data.objects].double()
    scores = {"matched_objects": _score(found)}
    codes, factors, scenes = data.matched()
    missing = ""
    if len(codes) < FEWEST_OBJECTS or len(scenes.unique()) < 10:
        missing = f"{len(codes)} objects in {len(scenes.unique())} scenes are too few (see --images)"
    elif not bool(data.slots.isfinite().all()):
        missing = "latents are not finite: the model has diverged"
    elif all(bool((values == values[:1]).all()) for values in factors.values()):
        missing = "no factor varies between the objects"
    if missing:
        logger.log(level, "no DCI and no probes: %s; %d objects have no slot", missing, int((1 - found).sum()))
        return scores, {}
    result = dci(codes, factors, scenes=scenes, kinds=kinds, scoring=scoring, seed=seed)
    prefix = "dci" if scoring == "corrected" else f"dci_{scoring}"
    for name in ("disentanglement", "completeness", "informativeness"):
        scores[f"{prefix}_{name}"] = Score(getattr(result, name), math.nan, len(codes))
    details: dict[str, Any] = {
        "dci": {
            "scoring": scoring,
            "factors": _as_dict(result.factors),
            "constant": list(result.constant),
            "informativeness_train": result.informativeness_train,
            "importance": [[round(value, 5) for value in row] for row in result.importance.tolist()],
        }
    }
    for name, hidden in (("linear", 0), ("mlp", PROBE_HIDDEN)):
        answers = probe_properties(data, hidden=hidden, kinds=kinds, seed=seed)
        details[f"probe_{name}"] = _as_dict(answers)
        scores |= {f"probe_{name}_{a.name}": Score(a.score, math.nan, len(codes)) for a in answers}
    return scores, details


def _as_dict(scores: Iterable[FactorScore]) -> dict[str, dict[str, Any]]:
    return {score.name: {key: value for key, value in score._asdict().items() if key != "name"} for score in scores}


def _score(values: Tensor) -> Score:
    return Score(float(values.mean()), float(values.std(correction=0)), len(values))
