"""What a question to a model is made of: its scores and their meaning, how it is put, and what answers it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self

from torch import Tensor, nn

from objectscape.contract import see
from objectscape.metrics.refinement import MeanOverImages
from objectscape.scene import Spec, Tensors

Direction = Literal["higher", "lower", "neither"]


class Score(NamedTuple):
    """A number over a set of images."""

    mean: float
    sd: float
    """population standard deviation over images; NaN for a number that no single image has"""
    n: int
    """images that count"""


class Meaning(NamedTuple):
    """What a score says, and which way it is better."""

    text: str
    better: Direction
    label: str
    """Its name in headings and progress bars; "" for the score's own name."""


def higher(text: str, label: str = "") -> Meaning:
    """The meaning of a score that is better the higher it is."""
    return Meaning(text, "higher", label)


def lower(text: str, label: str = "") -> Meaning:
    """The meaning of a score that is better the lower it is."""
    return Meaning(text, "lower", label)


def neither(text: str, label: str = "") -> Meaning:
    """The meaning of a number that is no better high than low."""
    return Meaning(text, "neither", label)


@dataclass(frozen=True)
class Answer:
    """What a question came to."""

    scores: dict[str, Score]
    details: dict[str, Any] = field(default_factory=dict)
    """Further results for the result file, as JSON can hold them."""
    baseline: dict[str, Score] = field(default_factory=dict)
    """The same scores for what needs no learning, where the question has a baseline."""


class Question(ABC):
    """A question to a model: which models and data it fits, what it measures, and what a trivial answer scores.

    The first line of a subclass's docstring is the question in words. Keyword arguments of its constructor are its
    options: `ask.NAME.OPTION=VALUE` on the command line. An instance serves one evaluation.
    """

    name: ClassVar[str]
    scores: ClassVar[Mapping[str, Meaning]]
    """{score: what it says}. A part in angle brackets stands for any text, `<score>` for any score without brackets:
    "probe_linear_<factor>", "<score>_gain"."""
    headline: ClassVar[tuple[str, ...]] = ()
    """The scores that are shown first, the most telling one at the front: progress bars and `list runs` show that."""
    passing: ClassVar[float | None] = None
    """From which value of the first headline score on `objectscape benchmark` calls a run a success; None: any."""
    quick: ClassVar[bool] = True
    """Is it asked at validation too?"""
    simulator: Any = None
    """What continues clips from the true state, where the data come from a simulator of ours; see `Predicts`."""
    learning: Any = None
    """The training split with everything that is known of its rows, for probes; None without one."""
    spec: Spec | None = None
    """What is known of the data set, where the batches come from one."""
    untrained: nn.Module | None = None
    """The same model before training, for a question whose baseline it is; None where it cannot be built."""
    of_baseline: bool = False
    """Is this the copy of the question that the baseline answers?"""
    wants_untrained: ClassVar[bool] = False
    """Is an untrained model the question's baseline?"""
    seed: int = 0
    """Of whatever the question draws; the evaluation sets it."""
    needs: ClassVar[str] = "a model that takes the data"
    """What model and data it fits, in words, for the error if they do not."""
    look: Callable[[nn.Module, Any], Any] = staticmethod(see)
    """(model, batch) -> what the model must compute to be asked. Questions with the same look share its result; a
    method of the subclass is a look of its own. Every look has its own stream of random numbers."""

    @classmethod
    @abstractmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        """Can this model be asked this on such data?"""

    @classmethod
    def at_validation(cls) -> Self:
        """The question as training asks it; a subclass with costly options leaves them out here."""
        return cls()

    @abstractmethod
    def update(self, batch: Any, seen: Any) -> None:
        """Take in a batch, on the model's device, and what `look` made of it (or the `baseline`)."""

    @abstractmethod
    def compute(self, model: nn.Module) -> Answer:
        """The answer so far, over all processes of a distributed run."""

    def baseline(self, batch: Any) -> Any | None:
        """What needs no learning in place of `look`'s result: it is scored by the same `update`. None if there is none.

        Only `update` and `compute` of a copy of the question see it.
        """
        return None


class Means(dict[str, MeanOverImages]):
    """Means over images of values that come batch by batch: {score: metric}."""

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take in {score: (B,) or (B, T) values}; NaN leaves an image out."""
        for name, value in values.items():
            if name not in self:
                self[name] = MeanOverImages(name).to(value.device)
            self[name].update(value.flatten())

    def scores(self) -> dict[str, Score]:
        """The means so far, over all processes: call it on every process."""
        found = {}
        for name, metric in self.items():
            mean, spread = float(metric.compute()), metric.spread()
            found[name] = Score(mean, spread.sd, spread.n)
        return found
