"""Does an object keep its slot?"""

from __future__ import annotations

from torch import nn

from objectscape.contract import Decomposes
from objectscape.evaluation.questions.question import Answer, Means, Question, higher
from objectscape.metrics.prediction import same_slot
from objectscape.scene import Decomposition, Scene, Tensors


class Follow(Question):
    """Does an object keep its slot while a clip is seen?"""

    name = "follow"
    needs = "a model that decomposes clips, and clips with `segments`"
    scores = {
        "same_slot": higher("Share of (object, frame) pairs in the slot that the object has in most frames.", "same"),
        "own_slot": higher("Share of clips in which all objects have such slots of their own."),
    }

    def __init__(self) -> None:
        self.means = Means()

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return (
            isinstance(model, Decomposes)
            and isinstance(batch, Scene)
            and batch.segments is not None
            and batch.image.ndim == 5
        )

    def update(self, batch: Scene, seen: Decomposition) -> None:
        assert batch.segments is not None
        share, own = same_slot(batch.segments, seen.masks)
        self.means.add({"same_slot": share, "own_slot": own})

    def compute(self, model: nn.Module) -> Answer:
        return Answer(self.means.scores())
