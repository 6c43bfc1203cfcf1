"""GECO: direction, state, distributed averaging, and the choice of a goal. Trajectories are in the parity tests."""

from __future__ import annotations

import logging
import math

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from hypothesis import given
from hypothesis import strategies as st

from objectscape.scene import Losses
from objectscape.training.geco import GECO, Controller, SoftplusGECO, goal_for_rmse, propose_goal, smallest_error
from tests.parity.runners.geco import reconstruction_term

FLOOR = 0.5 * math.log(2 * math.pi * 0.49)


def test_the_goal_and_the_step_scale_with_the_image():
    geco = GECO(goal=0.5655, image_size=128)
    assert geco.goal == pytest.approx(27795.456)
    assert geco.step_size == pytest.approx(2.5e-6)


@given(st.floats(5000, 9000))
def test_beta_falls_while_the_error_is_above_the_goal_and_rises_faster_below(error):
    geco = GECO(image_size=64)
    geco.adapt(torch.tensor(error))
    distance = geco.goal - error
    expected = math.exp(1e-5 * distance * (10 if distance > 0 else 1))
    assert float(geco.beta) == pytest.approx(expected, rel=1e-4)


def test_the_loss_may_be_differentiated_after_the_update():
    geco = GECO(goal=1.0, step_size=0.1)
    kl = torch.tensor(3.0, requires_grad=True)
    loss = geco.beta * kl
    geco.adapt(torch.tensor(0.0))
    loss.backward()
    assert kl.grad == 1.0
    assert geco.beta > 1.0


class Weighed(torch.nn.Module):
    """A model with both kinds of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.beta, self.reconstruction_weight = 0.5, torch.tensor(1.0)


@pytest.mark.parametrize(
    ("geco", "name"),
    [(GECO(goal=1.0, step_size=0.1, beta_init=2.0), "beta"),
     (SoftplusGECO(target=1.0, step_size=0.1, warm_start=0), "reconstruction_weight")],
)  # fmt: skip
def test_a_controller_sets_the_weight_and_reports_the_one_that_was_used(geco, name):
    assert isinstance(geco, Controller)
    model = Weighed()
    for _ in range(3):
        geco.steer(model)
        before = float(getattr(model, name))
        logged = geco.update(Losses(total=torch.tensor(0.0), terms={"nll": torch.tensor(30.0)}))
        assert float(logged[name]) == before
        assert float(getattr(model, name)) == before, "the model keeps the weight until it is steered again"
    geco.steer(model)
    assert float(getattr(model, name)) != before


@pytest.mark.parametrize("make", [GECO, lambda: SoftplusGECO(target=1.0)])
def test_refuses_a_model_without_the_weight_and_losses_without_the_error(make):
    with pytest.raises(ValueError, match="nothing to steer in Identity"):
        make().steer(torch.nn.Identity())
    with pytest.raises(ValueError, match="it has mse"):
        make().update(Losses(total=torch.tensor(0.0), terms={"mse": torch.tensor(0.0)}))


def test_refuses_a_weight_with_a_warm_up_of_its_own():
    model = Weighed()
    model.beta_warmup = 10
    with pytest.raises(ValueError, match="beta_warmup=10"):
        GECO().steer(model)


def test_limits_hold():
    geco = GECO(goal=0.0, step_size=1.0, beta_min=0.1, beta_max=2.0, alpha=0.0)
    for error, beta in ((50.0, 0.1), (-50.0, 2.0)):
        geco.adapt(torch.tensor(error))
        assert float(geco.beta) == pytest.approx(beta)


@pytest.mark.parametrize(
    "make", [lambda: GECO(goal=10.0, step_size=0.01), lambda: SoftplusGECO(target=10.0, warm_start=2)]
)
def test_state_is_in_the_checkpoint_and_bad_errors_leave_it(make):
    errors = [torch.tensor(value) for value in (20.0, 18.0, 15.0, 9.0, 8.0, 12.0)]
    whole, first, second = make(), make(), make()
    for error in errors:
        whole.adapt(error)
    for error in errors[:3]:
        first.adapt(error)
    first.adapt(torch.tensor(math.nan))
    first.adapt(torch.tensor(math.inf))
    second.load_state_dict(first.state_dict())
    for error in errors[3:]:
        second.adapt(error)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value)


def test_softplus_geco_waits_then_weighs_the_reconstruction():
    geco = SoftplusGECO(target=-100.0, step_size=0.1, warm_start=3)
    for _ in range(3):
        error = torch.tensor(-50.0, requires_grad=True)
        term = reconstruction_term(geco, error)
        assert term == error
        assert torch.autograd.grad(term, error)[0] == 1.0
        geco.adapt(error)
    for _ in range(4):  # the target is missed, so the weight grows
        before = float(geco.weight)
        geco.adapt(torch.tensor(-50.0))
    assert float(geco.weight) > before
    error = torch.tensor(-50.0, requires_grad=True)
    torch.testing.assert_close(torch.autograd.grad(reconstruction_term(geco, error), error)[0], geco.weight)
    for _ in range(500):
        geco.adapt(torch.tensor(-150.0))
    assert float(geco.beta) == pytest.approx(0.55)


def test_published_goals_are_these_errors():
    assert goal_for_rmse(0.0563, pixel_std=0.7) == pytest.approx(0.5655, abs=2e-5)
    assert goal_for_rmse(0.0468, pixel_std=0.7) == pytest.approx(0.5645, abs=2e-5)
    assert smallest_error(pixel_std=0.11) == pytest.approx(-1.288336, abs=1e-6)
    assert GECO(target_rmse=0.0563, pixel_std=0.7, image_size=64).goal == pytest.approx(6948.864, rel=1e-4)


def test_an_infeasible_goal_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        GECO(goal=0.5655, image_size=64, pixel_std=0.7)
        assert not caplog.records
        GECO(goal=0.56, image_size=64, pixel_std=0.7)
        SoftplusGECO(target=-2.206, image_size=96, pixel_std=0.1)  # EfficientMORL's for CLEVR6
        assert len(caplog.records) == 1
        SoftplusGECO(target=-1.224, image_size=35, pixel_std=0.3)  # and for Tetrominoes: below any possible error
    assert ["infeasible" in record.message for record in caplog.records] == [True, True]


@given(st.floats(0.001, 2.0), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_a_proposed_goal_lies_between_the_floor_and_the_settled_level(excess, std, keep):
    floor = smallest_error(pixel_std=std)
    errors = [(floor + excess) * 3 * 32 * 32] * 40
    goal = propose_goal(errors, pixel_std=std, image_size=32, keep=keep)
    assert goal == pytest.approx(floor + keep * excess, abs=1e-6)


def test_a_run_that_still_improves_is_warned_of(caplog):
    values = 3 * 32 * 32
    falling = [(FLOOR + 0.1 * 0.9**i) * values for i in range(40)]
    with caplog.at_level(logging.WARNING):
        propose_goal(falling, pixel_std=0.7, image_size=32)
    assert "still falling" in caplog.text


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([0.6] * 3, "3 errors are too few"),
        ([math.nan] * 10, "not finite"),
        ([0.3] * 10, "below 0.5623"),
    ],
)
def test_errors_without_a_goal_are_refused(errors, message):
    with pytest.raises(ValueError, match=message):
        propose_goal([error * 3 * 16**2 for error in errors], pixel_std=0.7, image_size=16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.0}, "alpha=1.0"),
        ({"step_size": 0.0}, "step_size=0.0"),
        ({"speedup": 0.0}, "speedup=0.0"),
        ({"beta_init": 1e-12}, "beta_init=1e-12"),
        ({"target_rmse": 0.05}, "needs pixel_std"),
        ({"target_rmse": 15.0, "pixel_std": 0.7, "image_size": 64}, "rmse=15.0"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        GECO(**options)


def test_refuses_an_error_per_image():
    with pytest.raises(ValueError, match="batch mean"):
        GECO(image_size=64).adapt(torch.ones(4))


def _update_in_a_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    geco = GECO(goal=10.0, step_size=0.01)
    for step in range(3):
        geco.adapt(torch.tensor(12.0 - step + 4 * rank))
    torch.save(geco.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_share_one_average(tmp_path):
    torch.multiprocessing.spawn(_update_in_a_process, args=(str(tmp_path),), nprocs=2)
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = GECO(goal=10.0, step_size=0.01)
    for step in range(3):
        alone.adapt(torch.tensor(14.0 - step))
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(states[0][name], value)
        torch.testing.assert_close(states[1][name], value)


def test_a_wanted_psnr_is_the_published_target_of_the_world_models() -> None:
    """-25,500 nats at 64 x 64 and a pixel std of 0.11 are 25.0 dB; -14,500 at 0.3 are 23.7 dB."""
    for psnr, std, target in ((25.0, 0.11, -25_500), (26.6, 0.11, -26_000), (23.7, 0.3, -14_500)):
        geco = SoftplusGECO(target_psnr=psnr, pixel_std=std, image_size=64)
        assert geco.target == pytest.approx(target, rel=2e-3)
    with pytest.raises(ValueError, match="pixel_std"):
        SoftplusGECO(target_psnr=25.0)
    with pytest.raises(ValueError, match="one of them"):
        SoftplusGECO()


def test_the_goal_changes_in_stages():
    geco = GECO(goal=[[0, 0.6], [10, 0.5]], image_size=2)
    for step, value in ((0, 0.6), (9, 0.6), (10, 0.5), (99, 0.5)):
        geco.set_step(step)
        assert geco.goal == pytest.approx(value * 12)
