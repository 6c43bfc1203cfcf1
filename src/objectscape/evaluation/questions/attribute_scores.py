"""Scores of attributes that are told of Simple Shapes, and the probe that shows what a latent knows of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from objectscape.evaluation.questions.question import Meaning, Score, higher, lower
from objectscape.metrics.attribute_probe import AttributeProbe
from objectscape.metrics.attributes import attribute_errors

ERRORS: dict[str, Meaning] = {
    "class": higher("Share of rows whose class comes out right."),
    "position": lower("Distance of the centers in pixels."),
    "size": lower("Error of the size in pixels."),
    "rotation": lower("Error of the direction in degrees, median."),
    "color": lower("Error of the color, mean over its channels, in levels of 255."),
}
PIECE = 1024


def median(values: Tensor) -> Score:
    """The median of what is not NaN."""
    there = values[~values.isnan()]
    return Score(float(there.median()) if len(there) else math.nan, math.nan, len(there))


def error_scores(errors: dict[str, Tensor]) -> dict[str, Score]:
    """{attribute: mean error}, of directions the median."""
    found = {}
    for name, values in errors.items():
        if name == "rotation":
            found[name] = median(values)
        else:
            found[name] = Score(float(values.mean()), float(values.std(correction=0)), len(values))
    return found


def learn_probe(
    latent_of: Callable[[Any], Tensor | None],
    learning: Any,
    *,
    rows: int,
    steps: int,
    seed: int,
    device: torch.device | str,
) -> AttributeProbe | None:
    """A probe that has learned from the first rows of a training split; None if the split lacks what it needs.

    Args:
        latent_of: batch -> (B, D), or None where the batch has no such latent.
        learning: the data set; see `SceneDataset.learning`.
        rows: to learn from, at most.
        steps, seed: of the probe's training.
        device: of the model.
    """
    latents: list[Tensor] = []
    true: list[Tensor] = []
    for first in range(0, min(rows, len(learning)), PIECE):
        batch = learning.batch(range(first, min(first + PIECE, rows, len(learning)))).to(device)
        latent = latent_of(batch)
        if latent is None or "attr" not in batch.domains:
            return None
        latents.append(latent)
        true.append(batch.domains["attr"])
    return AttributeProbe(torch.cat(latents), torch.cat(true), steps=steps, seed=seed)


def probe_scores(probe: AttributeProbe, latents: Tensor, rows: Tensor) -> dict[str, Score]:
    """{attribute: error} of what the probe reads."""
    return error_scores(attribute_errors(probe(latents), rows))
