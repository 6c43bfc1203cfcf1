"""Putting questions to a model: one pass over the data, every question that fits."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from objectscape import building
from objectscape.contract import Model
from objectscape.evaluation.questions import QUESTIONS, Answer, Meaning, Question, Score, headlines
from objectscape.scene import Spec, Tensors


@dataclass(frozen=True)
class Evaluation:
    """What a model answered. `evaluation["ari_fg"].mean` is a score; printing it shows the headline scores."""

    answers: dict[str, Answer]
    """{question: answer}; without questions that came to no score"""
    asked: tuple[type[Question], ...]

    @property
    def scores(self) -> dict[str, Score]:
        """Every score, those of the first question first."""
        return {name: score for answer in self.answers.values() for name, score in answer.scores.items()}

    @property
    def baseline(self) -> dict[str, Score]:
        """The same scores for what needs no learning, where there is such a thing."""
        return {name: score for answer in self.answers.values() for name, score in answer.baseline.items()}

    @property
    def details(self) -> dict[str, Any]:
        """{question: what its scores are made of}"""
        return {name: answer.details for name, answer in self.answers.items() if answer.details}

    @property
    def headline(self) -> dict[str, Meaning]:
        """The scores to look at first, and what they say."""
        return headlines(self.scores, self.asked)

    def __getitem__(self, score: str) -> Score:
        return self.scores[score]

    def __str__(self) -> str:
        scores, baseline = self.scores, self.baseline
        lines = [f"{'score':20}{'model':>12}{'baseline':>12}{'images':>8}"]
        for name in self.headline or scores:
            trivial = f"{baseline[name].mean:12.4g}" if name in baseline else f"{'-':>12}"
            lines.append(f"{name:20}{scores[name].mean:12.4g}{trivial}{scores[name].n:8}")
        return "\n".join(lines)


class Asking:
    """Questions that are being put to a model, batch by batch.

    Args:
        model: any; put it into evaluation mode before.
        questions: each must apply; None for all in `QUESTIONS` that do.
        spec: of the data set that the batches come from, if they do.
        seed: of random draws. Every look has a stream of its own, so that one question more or less changes no other's
            numbers.
        quick: without `questions`, only those that validation asks, and no baselines.

    Raises:
        ValueError: at the first batch, if a question of `questions` does not fit the model and the data.
    """

    def __init__(
        self,
        model: nn.Module,
        questions: Sequence[Question] | None = None,
        *,
        spec: Spec | None = None,
        seed: int = 0,
        quick: bool = False,
    ) -> None:
        self.model, self.spec, self.seed, self.quick = model, spec, seed, quick
        self._given = questions
        self._asked: list[Question] | None = None
        self._trivial: dict[str, Question] = {}
        self._streams: dict[Any, list[torch.Tensor]] = {}

    @torch.no_grad()
    def update(self, batch: Tensors) -> None:
        """Take in one batch, on the model's device."""
        if self._asked is None:
            self._asked = self._choose(batch)
            wanted = not self.quick and any(question.wants_untrained for question in self._asked)
            untrained = untrained_like(self.model, seed=self.seed) if wanted else None
            for question in self._asked:
                question.seed, question.spec = self.seed, self.spec
                if question.wants_untrained:
                    question.untrained = untrained
            self._trivial = {} if self.quick else {question.name: copy.deepcopy(question) for question in self._asked}
            for question in self._trivial.values():
                question.of_baseline = True
        seen: dict[Any, Any] = {}
        for question in self._asked:
            look = question.look
            if look not in seen:
                seen[look] = self._look(look, batch)
            question.update(batch, seen[look])
            if question.name in self._trivial:
                trivial = question.baseline(batch)
                if trivial is None:
                    del self._trivial[question.name]
                else:
                    self._trivial[question.name].update(batch, trivial)

    def _choose(self, batch: Tensors) -> list[Question]:
        if self._given is None:
            kinds = [kind for kind in QUESTIONS.values() if (kind.quick or not self.quick)]
            fitting = [kind for kind in kinds if kind.applies(self.model, batch)]
            return [kind.at_validation() if self.quick else kind() for kind in fitting]
        for question in self._given:
            if not question.applies(self.model, batch):
                raise ValueError(
                    f"the question {question.name!r} does not fit {type(self.model).__name__} and this data: it needs "
                    f"{question.needs}"
                )
        return list(self._given)

    def _look(self, look: Any, batch: Tensors) -> Any:
        generators = [torch.default_generator]
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        if device.type == "cuda":
            generators.append(torch.cuda.default_generators[device.index or 0])
        if look in self._streams:
            for generator, state in zip(generators, self._streams[look], strict=True):
                generator.set_state(state)
        else:
            torch.manual_seed(self.seed)
        found = look(self.model, batch)
        self._streams[look] = [generator.get_state() for generator in generators]
        return found

    def compute(self) -> Evaluation:
        """The answers so far, over all processes of a distributed run."""
        answers: dict[str, Answer] = {}
        for question in self._asked or []:
            torch.manual_seed(self.seed)
            answer = question.compute(self.model)
            trivial = self._trivial.get(question.name)
            baseline = trivial.compute(self.model).scores if trivial else {}
            if answer.scores:
                answers[question.name] = Answer(answer.scores, answer.details, baseline)
        return Evaluation(answers, tuple(type(question) for question in self._asked or []))


def untrained_like(model: nn.Module, *, seed: int) -> nn.Module | None:
    """The same model with fresh weights, on the same device; None if its description does not say how to build it."""
    if not isinstance(model, Model):
        return None
    description = {key: value for key, value in model.description.items() if key not in building.ABOUT}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            fresh = building.build(description, "model")
        except ValueError:  # a class of the user's own that no module name leads to
            return None
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return fresh.to(device).eval()


def evaluate(
    model: nn.Module,
    batches: Iterable[Tensors],
    *,
    ask: Sequence[Question] | None = None,
    spec: Spec | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Evaluation:
    """Put questions to a model about some batches.

    Args:
        model: it is moved to `device` and set to evaluation mode.
        batches: as a data set gives them, with what ground truth there is.
        ask: each must apply; None for all in `QUESTIONS` that do.
        spec: of the data set that the batches come from, if they do.
        device: where to compute.
        seed: of random draws.

    Raises:
        ValueError: if there is no batch, or a question of `ask` does not fit the model and the data.
    """
    asking = Asking(model.to(device).eval(), ask, spec=spec, seed=seed)
    empty = True
    for batch in batches:
        asking.update(batch.to(device))
        empty = False
    if empty:
        raise ValueError("there is nothing to evaluate on: no batch")
    return asking.compute()
