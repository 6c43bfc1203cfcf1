"""Sentences that leave things open are said in full without changing what they name."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from objectscape.data.synthetic import captions
from objectscape.data.synthetic.open_sentences import say, say_in_full

YELLOW = (211.0, 231.0, 74.0)
"""About the mean of what captions call yellow; the nearest name of this color itself is another."""


def is_yellow(sentence: str) -> bool:
    words = sentence.split()
    return "yellow" in words and "green" not in words


def reader(sentence: str) -> tuple[list[float], list[bool]]:
    """An egg at the center; YELLOW if it is called so, green if not. Full captions name everything."""
    color = YELLOW if is_yellow(sentence) else (50.0, 200.0, 50.0)
    return [1.0, 16.0, 16.0, 10.0, 0.0, *color], [True, len(sentence.split()) > 5, True, False, False]


def understand(tokens: Tensor) -> tuple[Tensor, Tensor]:
    read = [reader(captions.words_of(row)) for row in tokens.tolist()]
    return torch.tensor([rows for rows, _ in read]), torch.tensor([said for _, said in read])


def test_what_is_named_is_kept_and_the_rest_is_drawn() -> None:
    row = torch.tensor([[1.0, 16.0, 16.0, 10.0, 0.0, *YELLOW]])
    assert not is_yellow(captions.words_of(say(row, random.Random(0))[0].tolist()))  # worded without a choice
    tokens = torch.from_numpy(captions.tokenize("a yellow egg")).unsqueeze(0)
    words, rows = say_in_full(tokens, understand, 20, random.Random(0))
    sentences = [captions.words_of(row) for row in words.tolist()]
    assert words.shape[0] == rows.shape[0] == 20
    assert sum(map(is_yellow, sentences)) >= 18
    assert len(set(sentences)) == 20
    for size in ("tiny", "big"):
        assert any(size in sentence.replace("large", "big").split() for sentence in sentences)


def test_a_full_sentence_stays_as_it_is() -> None:
    tokens = torch.from_numpy(captions.tokenize("a yellow egg at the top pointing to the left")).unsqueeze(0)
    rows = torch.tensor([[1.0, 16.0, 22.0, 10.0, 0.0, *YELLOW]])
    words, _ = say_in_full(tokens, lambda _: (rows, torch.ones(1, 5, dtype=torch.bool)), 3, random.Random(0))
    assert torch.equal(words, tokens)  # one meaning, and not three


def test_a_direction_is_named_by_its_word_alone() -> None:
    tokens = torch.from_numpy(captions.tokenize("at the top right, a yellow egg")).unsqueeze(0)
    words, _ = say_in_full(tokens, lambda t: (understand(t)[0], torch.ones(len(t), 5).bool()), 8, random.Random(0))
    assert len({captions.words_of(row) for row in words.tolist()}) == 8
