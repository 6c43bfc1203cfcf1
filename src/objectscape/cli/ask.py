"""`ask` words: which questions are put to a model, and with which options."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from objectscape.cli import config as configs
from objectscape.names import did_you_mean, unknown

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
    for name in named or QUESTIONS:
        kind = _import(name) if "." in name else QUESTIONS.get(name)
        if kind is None:
            raise ValueError(unknown("question", name, QUESTIONS))
        kinds[kind.name] = kind
    targets = {name: {"_target_": f"{kind.__module__}.{kind.__qualname__}"} for name, kind in kinds.items()}
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


def _import(path: str) -> type[Question]:
    """The question class at an import path."""
    from objectscape.evaluation.questions import Question

    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"ask={path}: {error}") from error
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Question)):
        kinds = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Question)]
        raise ValueError(f"ask={path}: {module_name} has no question class {name!r}.{did_you_mean(name, kinds)}")
    return found
