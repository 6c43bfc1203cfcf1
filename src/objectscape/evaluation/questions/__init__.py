"""What can be asked of a model. One small class per question; `objectscape.evaluate` asks all that apply.

A question is registered by its line in `QUESTIONS`; the order is that of tables. Whichever comes first gives a run its
headline score.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from objectscape.evaluation.questions.bound import Bound
from objectscape.evaluation.questions.classify import Classify
from objectscape.evaluation.questions.decompose import Decompose
from objectscape.evaluation.questions.detect import Detect
from objectscape.evaluation.questions.embed import Embed
from objectscape.evaluation.questions.follow import Follow
from objectscape.evaluation.questions.generate import Generate
from objectscape.evaluation.questions.latents import LatentProperties
from objectscape.evaluation.questions.predict import Predict
from objectscape.evaluation.questions.question import Answer, Meaning, Means, Question, Score, higher, lower, neither
from objectscape.evaluation.questions.realism import Realism
from objectscape.evaluation.questions.reconstruct import Reconstruct
from objectscape.evaluation.questions.refine import Refine
from objectscape.evaluation.questions.translate import Translate

__all__ = [
    "QUESTIONS",
    "Answer",
    "Meaning",
    "Means",
    "Question",
    "Score",
    "headlines",
    "higher",
    "lower",
    "meaning_of",
    "neither",
]

QUESTIONS: dict[str, type[Question]] = {
    question.name: question
    for question in (
        Decompose,
        Detect,
        Classify,
        Follow,
        Predict,
        Reconstruct,
        Bound,
        Refine,
        Generate,
        Realism,
        LatentProperties,
        Embed,
        Translate,
    )
}


def meaning_of(score: str, questions: Iterable[type[Question]] | None = None) -> Meaning | None:
    """What a score says, patterns such as "kl_<part>" included; None for a score of nobody's.

    Args:
        score: its name in tables and files.
        questions: where to look; None for `QUESTIONS`.
    """
    found = list(QUESTIONS.values() if questions is None else questions)
    plain = {name: meaning for question in found for name, meaning in question.scores.items() if "<" not in name}
    if score in plain:
        return plain[score]
    patterns = {name: meaning for question in found for name, meaning in question.scores.items() if "<" in name}
    any_score = "(" + "|".join(sorted(plain, key=len, reverse=True)) + ")"
    for name in sorted(patterns, key=lambda name: -len(re.sub("<.*?>", "", name))):  # the most specific first
        pattern = re.sub("<.*?>", ".+", re.escape(name).replace("<score>", any_score))
        if re.fullmatch(pattern, score):
            return patterns[name]
    return None


def headlines(scores: Iterable[str], questions: Iterable[type[Question]] | None = None) -> dict[str, Meaning]:
    """Those of some scores that are shown first, in order: {score: meaning}."""
    there = set(scores)
    found = QUESTIONS.values() if questions is None else questions
    return {name: question.scores[name] for question in found for name in question.headline if name in there}
