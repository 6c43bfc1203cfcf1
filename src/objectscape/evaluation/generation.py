"""How good are the scenes that a model imagines: Frechet distances to real images, with all that defines the number."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from objectscape.contract import Generates
from objectscape.evaluation.protocols import Score
from objectscape.metrics.generation import FrechetDistance, fid, frechet_small
from objectscape.scene import Scene

logger = logging.getLogger(__name__)

PUBLISHED_SAMPLES = 10_000
"""Real and generated images behind every FID that the GENESIS papers publish."""


class GenerationResult(NamedTuple):
    """Distances, and how they came about."""

    scores: dict[str, Score]
    """{"frechet_small": ..., "fid": ...}: one number for all images, so `sd` is NaN; `n` generated images."""
    details: dict[str, dict[str, Any]]
    """{the same names: {"real", "generated", "features", "network", "preprocessing"}}, for the result file."""


def evaluate_generation(
    model: nn.Module,
    batches: Iterable[Scene],
    *,
    samples: int = PUBLISHED_SAMPLES,
    batch_size: int = 64,
    inception: str | Path | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> GenerationResult:
    """Frechet distances between images that `model` samples and the real images of `batches`.

    Args:
        model: has `sample(n)`; it is moved to `device` and set to evaluation mode.
        batches: real images, those of the test split for a number that compares; all of them are used.
        samples: images to imagine. Distances fall with the number of images on either side: compare like with like.
        batch_size: images imagined at once.
        inception: path of the FID's weights file; None for no FID. Nothing else ever takes their place.
        device: of the model and of the networks that give features; the latter stay on the CPU where `device` has no
            float64 (mps).
        seed: of the model's random draws.

    Raises:
        ValueError: if the model has no `sample`, or there are fewer than two images on either side.
        FileNotFoundError: if `inception` names no file.
    """
    if not isinstance(model, Generates):
        raise ValueError(f"{type(model).__name__} cannot imagine scenes: it has no sample()")
    if samples < 2 or batch_size < 1:
        raise ValueError(f"samples={samples}, batch_size={batch_size}; at least 2 samples in batches of at least 1")
    metrics: dict[str, FrechetDistance] = {"frechet_small": frechet_small()}
    if inception is not None:
        metrics["fid"] = fid(inception)
    home = torch.device("cpu") if torch.device(device).type == "mps" else torch.device(device)
    for metric in metrics.values():
        metric.to(home)
    for batch in batches:
        for metric in metrics.values():
            metric.update(batch.image.to(home), real=True)
    model.to(device).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for start in range(0, samples, batch_size):
            images = model.sample(min(batch_size, samples - start)).recon.float().to(home)
            for metric in metrics.values():
                metric.update(images, real=False)
    scores, details = {}, {}
    for name, metric in metrics.items():
        counts = metric.counts()
        scores[name] = Score(float(metric.compute()), math.nan, counts.generated)
        details[name] = {**counts._asdict(), **_network(name, metric)}
    if "fid" in details and min(details["fid"]["real"], details["fid"]["generated"]) < PUBLISHED_SAMPLES:
        logger.warning(
            "FID from %d real and %d generated images: few images make it larger; published ones use %d of each",
            details["fid"]["real"],
            details["fid"]["generated"],
            PUBLISHED_SAMPLES,
        )
    return GenerationResult(scores, details)


def _network(name: str, metric: FrechetDistance) -> dict[str, Any]:
    network = (
        "Inception-v3, TensorFlow 2015-12-05, public weights 6726825d"
        if name == "fid"
        else "objectscape's small network (not an FID)"
    )
    return {"features": metric.dim, "network": network, "preprocessing": str(metric.extractor.preprocessing)}
