"""How likely are the images, and how many nats do the latents carry?"""

from __future__ import annotations

from typing import Self

from torch import nn

from objectscape.evaluation.questions.question import Answer, Means, Question, lower, neither
from objectscape.metrics.bound import bound_values
from objectscape.scene import Decomposition, Scene, Tensors


class Bound(Question):
    """How likely are the images, and how much do the latents say? One-sample estimates of the evidence lower bound.

    Args:
        per_slot: also list every slot's own KL.
    """

    name = "bound"
    needs = "a model with a likelihood (`Decomposition.bound`)"
    scores = {
        "nll": lower(
            "Negative log-likelihood of the image in nats. Only models with one pixel deviation compare.", "NLL"
        ),
        "nll_per_dim": lower("The same per pixel and channel."),
        "kl": neither("Nats that the latents carry about the image; near 0 the latents are dead.", "KL"),
        "negative_elbo": lower("nll + kl, the bound that such models are trained on.", "-ELBO"),
        "kl_<part>": neither("One part of the KL, such as that of masks; with a number: of one slot."),
    }
    headline = ("kl",)

    def __init__(self, *, per_slot: bool = True) -> None:
        self.per_slot = per_slot
        self.means = Means()

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(batch, Scene)

    @classmethod
    def at_validation(cls) -> Self:
        return cls(per_slot=False)

    def update(self, batch: Scene, seen: Decomposition) -> None:
        bound = seen.bound
        if bound and bound["nll"].ndim == 2:  # (B, T): the frames of a clip, one by one
            seen = seen.fold_time()
        self.means.add(bound_values(seen, per_slot=self.per_slot))

    def compute(self, model: nn.Module) -> Answer:
        return Answer(self.means.scores())
