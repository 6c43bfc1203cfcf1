"""Values that change while a model is trained, and parts that do not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from objectscape.nn.frozen import Frozen
from objectscape.nn.ramps import Ramp, Stages


@given(st.integers(0, 50), st.integers(1, 50), st.floats(-5, 5), st.floats(-5, 5))
def test_a_ramp_is_linear_between_its_ends(first: int, length: int, start: float, end: float) -> None:
    ramp = Ramp(first, first + length, start, end)
    values = torch.tensor([ramp.at(step) for step in range(first, first + length + 1)], dtype=torch.float64)
    torch.testing.assert_close(values, torch.linspace(start, end, length + 1, dtype=torch.float64))
    assert ramp.at(0) == start
    assert ramp.at(first + length + 7) == end


def test_a_ramp_without_length_is_a_jump() -> None:
    ramp = Ramp(10, 10, 1.0, 0.0)
    assert [ramp.at(step) for step in (9, 10, 11)] == [1.0, 1.0, 0.0]


def test_a_ramp_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="must not end before"):
        Ramp(10, 9, 0.0, 1.0)


def test_stages_hold_until_the_next_one() -> None:
    stages = Stages([[0, 3], [100, 6], [200, 10]])
    assert [stages.at(step) for step in (0, 99, 100, 199, 200, 10**6)] == [3, 3, 6, 6, 10, 10]
    assert Stages(5).at(10**6) == 5


@pytest.mark.parametrize("pairs", [[], [[1, 3]], [[0, 3], [0, 4]], [[0, 3], [5.5, 4]], [0, 3], [[0, 1, 2]]])
def test_stages_that_do_not_rise_from_zero_are_refused(pairs: list) -> None:
    with pytest.raises(ValueError, match="stages"):
        Stages(pairs)


def test_a_frozen_part_stays_in_eval_mode_and_gets_no_gradient() -> None:
    inner = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    model = nn.Sequential(nn.Linear(2, 3), Frozen(inner)).train()
    before = {name: value.clone() for name, value in inner.state_dict().items()}
    model(torch.randn(4, 2)).sum().backward()
    assert not any(module.training for module in inner.modules())
    assert all(torch.equal(value, before[name]) for name, value in inner.state_dict().items())
    assert all(parameter.grad is None for parameter in inner.parameters())
    assert model[0].weight.grad is not None
    model.train()
    assert not inner.training
