"""What does each step of inference gain?"""

from __future__ import annotations

from torch import nn

from objectscape.evaluation.questions.question import Answer, Means, Question, higher, neither
from objectscape.metrics.refinement import refinement_values
from objectscape.scene import Decomposition, Scene, Tensors


class Refine(Question):
    """What does each step of inference gain? Of models that decode after every step (`Decomposition.stages`)."""

    name = "refine"
    needs = "a model of still images that decodes after every step of its inference"
    scores = {
        "<score>_step_<i>": neither("ari_fg, mse or nll of the image after step i; step 0 is before any refinement."),
        "<score>_gain": higher("How much better the last step is than the first; above 0 is better for every score."),
    }
    quick = False

    def __init__(self) -> None:
        self.means = Means()

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(batch, Scene) and (batch.image.ndim == 4 or not getattr(model, "reads_clips", False))

    def update(self, batch: Scene, seen: Decomposition) -> None:
        if batch.image.ndim == 5:
            batch, seen = batch.fold_time(), seen.fold_time()
        self.means.add(refinement_values(batch.pixels, seen, batch.segments))

    def compute(self, model: nn.Module) -> Answer:
        return Answer(self.means.scores())
