"""Errors of attributes, their words, and retrieval."""

from __future__ import annotations

import math

import torch

from objectscape.metrics.attributes import attribute_errors, attribute_words, recall
from objectscape.nn.odd_one_out import distance_logits


def test_errors_of_a_known_difference() -> None:
    true = torch.tensor([[0.0, 10, 10, 8, 0.1, 100, 100, 100]])
    found = torch.tensor([[0.0, 13, 14, 7, 2 * math.pi - 0.1, 100, 130, 100]])
    errors = {name: float(value) for name, value in attribute_errors(found, true).items()}
    assert errors["class"] == 1
    assert errors["position"] == 5
    assert errors["size"] == 1
    assert math.isclose(errors["rotation"], math.degrees(0.2), rel_tol=1e-4)
    assert math.isclose(errors["color"], 10, rel_tol=1e-6)


def test_words_have_the_published_bins() -> None:
    rows = torch.tensor([[1.0, 12, 20, 9, math.pi / 2, 0, 0, 0], [2.0, 13, 13, 13, 2 * math.pi - 0.01, 0, 0, 0]])
    words = attribute_words(rows)
    assert words["shape"].tolist() == [1, 2]
    assert words["size"].tolist() == [1, 3]
    assert words["direction"].tolist() == [2, 0]
    assert words["cell"][0] == 6


def test_recall_finds_a_counterpart_and_misses_another() -> None:
    states = torch.eye(4)
    assert recall(states, states)[1].tolist() == [1, 1, 1, 1]
    assert recall(states, states.roll(1, 0))[1].sum() == 0


def test_the_odd_state_is_the_far_one() -> None:
    states = torch.tensor([[[0.0], [5.0], [0.1]], [[1.0], [1.0], [9.0]]])
    assert distance_logits(states).argmax(1).tolist() == [1, 2]
