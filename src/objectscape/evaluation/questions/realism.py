"""Do imagined clips look like real ones? Frechet distances, each beside that of real clips from real clips."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from objectscape.contract import Predicts, continue_clips, first_frames, see
from objectscape.evaluation.questions.question import Answer, Question, Score, lower, neither
from objectscape.files import expanded
from objectscape.metrics.generation import FrechetDistance
from objectscape.metrics.video import ClipFeatures
from objectscape.nn.i3d import SHORTEST, I3DFeatures, check_hash, load_i3d
from objectscape.nn.validation import check_at_least
from objectscape.scene import Scene, Tensors


class Realism(Question):
    """Do imagined clips look like real ones?

    Half of the clips of every batch are continued by the model, once each; the other half is what they are compared
    with. `*_real` is the distance of the first half's own clips from the second half: what a perfect model would get at
    this number of clips. Distances fall with the number of clips: compare like with like, `n` is that of each half.

    Args:
        context: frames that are seen; in an imagined clip they are the model's reconstructions.
        frames: of a clip, context included; None for all.
        i3d: file of the I3D weights, for the FVD; None for none. Nothing else ever takes their place.
        i3d_sha256: what its SHA-256 must be; None takes any, and the result file holds it.

    Raises:
        FileNotFoundError, ValueError: if `i3d` names no file, or another one.
    """

    name = "realism"
    needs = "a model that predicts and clips with more frames than `context`"
    scores = {
        "fvd": lower("Frechet video distance on the I3D network; only with the weights file.", "FVD"),
        "fvd_real": neither("The same of real clips: the least there is at this number of clips."),
        "frechet_clips": lower("Frechet distance on 128 features of ours; not an FVD.", "Frechet, clips"),
        "frechet_clips_real": neither("The same of real clips."),
    }
    headline = ("fvd", "frechet_clips")
    quick = False

    def __init__(
        self,
        *,
        context: int = 2,
        frames: int | None = None,
        i3d: str | Path | None = None,
        i3d_sha256: str | None = None,
    ) -> None:
        check_at_least(1, context=context)
        self.context, self.frames = context, frames
        self.networks: dict[str, nn.Module] = {"frechet_clips": ClipFeatures()}
        self.about: dict[str, dict[str, Any]] = {"frechet_clips": {"network": "objectscape's (not an FVD)"}}
        if i3d is not None:
            self.networks["fvd"] = I3DFeatures(load_i3d(i3d, sha256=i3d_sha256))
            digest = check_hash(expanded(i3d), i3d_sha256)
            self.about["fvd"] = {"network": "I3D, Kinetics-400", "file": Path(i3d).name, "sha256": digest}
        self.distances: dict[str, FrechetDistance] = {}
        for name, network in self.networks.items():
            for score in (name, f"{name}_real"):
                dim: Any = network.dim
                self.distances[score] = FrechetDistance(nn.Identity(), dim=dim, scaled=name == "frechet_clips")

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(model, Predicts) and isinstance(batch, Scene) and batch.image.ndim == 5

    def look(self, model: Any, batch: Scene) -> Tensor | None:
        """Imagined clips (B // 2, T, 3, H, W) of the first half: the context as the model sees it, and one future."""
        half, frames = len(batch) // 2, self._frames(batch)
        return continued(model, batch[:half], context=self.context, frames=frames) if half else None

    def update(self, batch: Scene, seen: Tensor | None) -> None:
        if seen is None:
            return
        half, frames = len(seen), seen.shape[1]
        real, other = batch.pixels[:half, :frames], batch.pixels[half : 2 * half, :frames]
        for name, network in self.networks.items():
            features = network.to(seen.device)
            against = features(other)
            for score, clips in ((name, seen), (f"{name}_real", real)):
                distance = self.distances[score].to("cpu")  # float64, which not every device has
                distance.update(against.cpu(), real=True)
                distance.update(features(clips).cpu(), real=False)

    def compute(self, model: nn.Module) -> Answer:
        scores, details = {}, {}
        for name in self.networks:
            counts = self.distances[name].counts()
            if min(counts) < 2:
                continue
            for score in (name, f"{name}_real"):
                scores[score] = Score(float(self.distances[score].compute()), math.nan, counts.generated)
            details[name] = {**counts._asdict(), "features": self.distances[name].dim, **self.about[name]}
        return Answer(scores, details)

    def baseline(self, batch: Scene) -> Tensor | None:
        """The last frame that was seen, again and again."""
        half = len(batch) // 2
        if not half:
            return None
        image, frames = batch.pixels[:half], self._frames(batch)
        last = image[:, self.context - 1 : self.context].expand(-1, frames - self.context, -1, -1, -1)
        return torch.cat([image[:, : self.context], last], 1)

    def _frames(self, batch: Scene) -> int:
        there = batch.image.shape[1]
        frames = there if self.frames is None else self.frames
        if not self.context < frames <= there:
            raise ValueError(
                f"clips of {there} frames cannot be taken as {self.context} frames of context and {frames} in all; set "
                "ask.realism.context and ask.realism.frames, or read longer clips."
            )
        if "fvd" in self.networks and frames < SHORTEST:
            raise ValueError(
                f"the FVD needs clips of at least {SHORTEST} frames, these have {frames}; read longer clips, or leave "
                "ask.realism.i3d out."
            )
        return frames


def continued(model: Any, scene: Scene, *, context: int, frames: int, futures: int = 1) -> Tensor:
    """Imagined clips (B S, T, 3, H, W) in [0, 1]: the context as the model sees it, and what follows.

    Args:
        model: one that predicts.
        scene: (B, ...) clips of at least `frames` frames; of those after the context only the actions are read.
        context: frames that are seen.
        frames: T, context included.
        futures: number S of each clip, one after the other.
    """
    ahead = continue_clips(model, scene, context=context, steps=frames - context, samples=futures).recon
    seen = see(model, first_frames(model, scene, context)).recon[:, None].expand(-1, futures, -1, -1, -1, -1)
    return torch.cat([seen, ahead], 2).flatten(0, 1).float().clamp(0, 1)
