"""What a model's slots know of their objects: DCI, property prediction, and how many of their dimensions do anything.

Works for every model that decomposes, on every data set with `segments` and `factors`. Slots are compared with objects
through masks: in each scene, the assignment of slots to objects with the largest sum of IoUs. Slots are the means of
their posteriors, and masks those of that forward pass (`posterior_means`), as in EfficientMORL's evaluation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import Decomposes
from objectscape.evaluation.edits import decoder_of, order_matters
from objectscape.evaluation.protocols import Score
from objectscape.evaluation.traversals import Latents, activeness, infer_latents
from objectscape.metrics.activeness import active_dimensions, latent_ranges
from objectscape.metrics.disentanglement import FEWEST_OBJECTS, FactorScore, Scoring, dci
from objectscape.metrics.factors import FactorKind
from objectscape.metrics.probes import ObjectSlots, probe_properties
from objectscape.metrics.segmentation import contingency, match_objects
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Decomposition, Scene

logger = logging.getLogger(__name__)

PROBE_HIDDEN = 256
"""Width of the larger probe's hidden layer, as in Dittadi et al."""
LEAST_AREA = 50 / 192**2
"""Share of the image below which an object is too small to count: 50 pixels at the size of CLEVR's evaluation."""

LATENT_SCORES = {
    "matched_objects": "Share of the objects that have a slot of their own; what follows is about these.",
    "dci_disentanglement": "Does a dimension of a slot stand for one factor?",
    "dci_completeness": "Does a factor stand in one dimension?",
    "dci_informativeness": "How well do boosted trees predict the factors? Mean skill: 0 for guessing, 1 for perfect.",
    "probe_linear_<factor>": "Accuracy or R2 of a linear probe that reads the factor from the slot.",
    "probe_mlp_<factor>": "The same with a hidden layer.",
    "activeness": "Variance of the picture as one dimension runs through its range; mean over dimensions.",
    "active_dimensions": "How many dimensions share the activeness.",
}
"""{name: what it says}"""


class LatentResult(NamedTuple):
    """Scores for the table, and what they are made of."""

    scores: dict[str, Score]
    """by the names of `LATENT_SCORES`; with released scoring `dci_released_...`"""
    details: dict[str, Any]
    """per factor and per dimension, for the result file"""


@torch.no_grad()
def match_slots(
    model: nn.Module,
    batches: Iterable[Scene],
    *,
    min_pixels: int | None = None,
    min_iou: float = 0.1,
    device: torch.device | str = "cpu",
) -> ObjectSlots | None:
    """Which slot stands for which object, in every scene; the frames of a clip are scenes of their own.

    Args:
        model: decomposes; it is moved to `device` and set to evaluation mode.
        batches: scenes.
        min_pixels: objects of which less is visible do not count; None for the share `LEAST_AREA` of the image.
        min_iou: pairs that overlap less are no match.
        device: of the model.

    Returns:
        On the CPU; None if the scenes lack segments or factors.
    """
    model.to(device).eval()
    parts: list[ObjectSlots] = []
    for batch in batches:
        if batch.segments is None or not batch.factors:
            return None
        with posterior_means():
            output: Decomposition = model(batch.to(device))
        table = contingency(batch.segments, output.masks.cpu(), per_frame=True)  # (S, N' + 1, K + 1)
        height, width = batch.segments.shape[-2:]
        least = max(1, round(LEAST_AREA * height * width)) if min_pixels is None else min_pixels
        extra = batch.image.ndim - 4  # 1 with a time axis
        factors = {name: values.flatten(0, extra) for name, values in batch.factors.items()}
        count = next(iter(factors.values())).shape[1]
        parts.append(
            ObjectSlots(
                slots=output.slots.float().cpu().flatten(0, extra),
                factors=factors,
                objects=_first(table[:, 1:].sum(2) >= least, count, False),
                matches=_first(match_objects(table, min_pixels=least, min_iou=min_iou), count, -1),
            )
        )
    if not parts:
        return None
    return ObjectSlots(
        slots=torch.cat([part.slots for part in parts]),
        factors={name: torch.cat([part.factors[name] for part in parts]) for name in parts[0].factors},
        objects=torch.cat([part.objects for part in parts]),
        matches=torch.cat([part.matches for part in parts]),
    )


def evaluate_latents(
    model: nn.Module,
    batches: Iterable[Scene],
    *,
    scoring: Scoring = "corrected",
    kinds: Mapping[str, FactorKind] | None = None,
    active_images: int = 10,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> LatentResult:
    """Everything that can be said of a model's latents.

    Args:
        model: without masks (no `slots`) or without `decode(slots)`, what needs them is left out.
        batches: scenes, gone through twice; without segments and factors, only activeness is measured.
        scoring: of DCI, see `objectscape.metrics.disentanglement`.
        kinds: {factor: kind} where names and values do not tell.
        active_images: scenes that activeness is measured on (the paper: 100), 0 for none; a fifth of them where masks
            are made by stick-breaking, so that every slot must be drawn again for every value.
        device: of the model.
        seed: of the splits, the probes and the draws.
    """
    scores: dict[str, Score] = {}
    details: dict[str, Any] = {}
    data = match_slots(model, batches, device=device) if isinstance(model, Decomposes) else None
    if data is not None:
        scores, details = _ask(data, scoring, kinds, seed)
    if active_images and _decodes(model):
        latents = infer_latents(model, batches, images=active_images, device=device, seed=seed)
        if bool(latents.slots.isfinite().all()):
            ranges = latent_ranges(latents.slots)
            with torch.no_grad():
                costly = latents.slots.shape[1] > 1 and order_matters(decoder_of(model), latents)
            some = latents if not costly else Latents(*(values[: max(1, active_images // 5)] for values in latents))
            active = activeness(model, some, ranges=ranges, seed=seed).double().cpu()  # (n, D)
            mean = active.mean(0)
            scores["activeness"] = _score(active.mean(1))
            scores["active_dimensions"] = Score(float(active_dimensions(mean)), math.nan, len(active))
            details["activeness"] = mean.tolist()
        else:
            logger.warning("latents are not finite: the model has diverged; no activeness")
    return LatentResult(scores, details)


def _ask(
    data: ObjectSlots, scoring: Scoring, kinds: Mapping[str, FactorKind] | None, seed: int
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
        logger.warning("no DCI and no probes: %s; %d objects have no slot", missing, int((1 - found).sum()))
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


def _decodes(model: nn.Module) -> bool:
    try:
        decoder_of(model)
    except ValueError:
        return False
    return True


def _score(values: Tensor) -> Score:
    return Score(float(values.mean()), float(values.std(correction=0)), len(values))


def _first(values: Tensor, count: int, filler: float) -> Tensor:
    """(S, N) -> (S, count): the first ones, filled up."""
    return F.pad(values[:, :count], (0, max(count - values.shape[1], 0)), value=filler)
