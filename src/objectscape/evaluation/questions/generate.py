"""How good are the scenes that a model samples? Frechet distances to real images, with all that defines the number."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from objectscape.contract import Generates
from objectscape.evaluation.questions.question import Answer, Question, Score, lower
from objectscape.files import expanded
from objectscape.metrics.generation import FrechetDistance, fid, frechet_small
from objectscape.nn.validation import check_at_least
from objectscape.scene import Scene, Tensors

logger = logging.getLogger(__name__)

PUBLISHED_SAMPLES = 10_000
"""Real and generated images behind every FID that the GENESIS papers publish."""


def _nothing(model: nn.Module, batch: Tensors) -> None:
    """The look of a question that does not ask what the model makes of the batch."""


class Generate(Question):
    """How good are the scenes that the model samples?

    One number for all images, so `sd` is NaN; `n` counts generated images. Distances fall with the number of images on
    either side: compare like with like.

    Args:
        samples: scenes to sample; None for as many as there are real images.
        batch_size: scenes sampled at once.
        inception: the FID's weights file (`objectscape data fetch inception`); None for no FID. Nothing else ever takes
            their place.

    Raises:
        FileNotFoundError: if `inception` names no file.
    """

    name = "generate"
    needs = "a model that generates (`sample`) and scenes with images"
    scores = {
        "fid": lower("Frechet distance of Inception features; only with the weights file.", "FID"),
        "frechet_small": lower("Frechet distance on the features of a small network of ours; not an FID.", "Frechet"),
    }
    headline = ("fid", "frechet_small")
    quick = False
    look = staticmethod(_nothing)

    def __init__(
        self, *, samples: int | None = None, batch_size: int = 64, inception: str | Path | None = None
    ) -> None:
        check_at_least(2, samples=2 if samples is None else samples)
        check_at_least(1, batch_size=batch_size)
        self.samples, self.batch_size = samples, batch_size
        self.metrics: dict[str, FrechetDistance] = {"frechet_small": frechet_small()}
        if inception is not None:
            self.metrics["fid"] = fid(expanded(inception))

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(model, Generates) and isinstance(batch, Scene)

    def update(self, batch: Scene, seen: None) -> None:
        images = batch.image if batch.image.ndim == 4 else batch.image.flatten(0, 1)
        for metric in self.metrics.values():
            metric.to(_home(images.device)).update(images.to(_home(images.device)), real=True)

    @torch.no_grad()
    def compute(self, model: nn.Module) -> Answer:
        assert isinstance(model, Generates)
        real = min(metric.counts().real for metric in self.metrics.values())
        samples = self.samples or real
        torch.manual_seed(self.seed)
        for start in range(0, samples, self.batch_size):
            images = model.sample(min(self.batch_size, samples - start)).recon.float()
            images = images if images.ndim == 4 else images.flatten(0, 1)
            for metric in self.metrics.values():
                metric.update(images.to(_home(images.device)), real=False)
        scores, details = {}, {}
        for name, metric in self.metrics.items():
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
        return Answer(scores, details)


def _home(device: torch.device) -> torch.device:
    """Where distances are computed: they need float64, which Apple's GPUs do not have."""
    return torch.device("cpu") if device.type == "mps" else device


def _network(name: str, metric: FrechetDistance) -> dict[str, Any]:
    network = (
        "Inception-v3, TensorFlow 2015-12-05, public weights 6726825d"
        if name == "fid"
        else "objectscape's small network (not an FID)"
    )
    return {"features": metric.dim, "network": network, "preprocessing": str(metric.extractor.preprocessing)}
