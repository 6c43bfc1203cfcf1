"""`ask` words: which questions are put to a model, and with which options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from objectscape import building
from objectscape.cli import config as configs
from objectscape.names import unknown

if TYPE_CHECKING:
    from torch import nn

    from objectscape.evaluation.questions import Question
    from objectscape.scene import Tensors


@dataclass(frozen=True)
class Chosen:
    """Questions with their options."""

    questions: list[Question]
    explicit: bool
    """They were named, so each must fit the model and the data."""

    def fitting(self, model: nn.Module, batch: Tensors) -> list[Question]:
        """All of them if they were named, else those that fit."""
        if self.explicit:
            return self.questions
        return [question for question in self.questions if question.applies(model, batch)]


def read_questions(words: list[str]) -> Chosen:
    """The questions that `ask=A,B`, `ask.NAME.OPTION=VALUE` and `ask.NAME=null` (leave it out) words describe.

    A and B are names (`objectscape list metrics`) or import paths of classes of the user's own; without `ask=`, all.

    Raises:
        ValueError: for unknown names and options (with near matches) and values of the wrong type.
    """
    from objectscape.evaluation.questions import QUESTIONS

    named = [part for word in words if word.startswith("ask=") for part in word.removeprefix("ask=").split(",")]
    kinds: dict[str, type[Question]] = {}
    paths = {name: f"{kind.__module__}.{kind.__qualname__}" for name, kind in QUESTIONS.items()}
    for name in named or QUESTIONS:
        if "." in name:
            building.trust(name.rpartition(".")[0])  # named here, by the user
            kind: Any = building.find_class(name, "ask")
            paths[kind.name] = name
        elif name in QUESTIONS:
            kind = QUESTIONS[name]
        else:
            raise ValueError(unknown("question", name, QUESTIONS))
        kinds[kind.name] = kind
    targets = {name: {"_target_": paths[name]} for name in kinds}
    config = OmegaConf.create({"ask": targets})
    configs.update(config, [word for word in words if not word.startswith("ask=")])
    questions = []
    for name, kind in kinds.items():
        node = config.ask[name]
        if node is not None:
            options = OmegaConf.to_container(node) if isinstance(node, DictConfig) else {}
            assert isinstance(options, dict)
            questions.append(kind(**{str(key): value for key, value in options.items() if key != "_target_"}))
    return Chosen(questions, explicit=bool(named))
