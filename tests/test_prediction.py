"""Scores of futures, costs of plans, and planners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from objectscape.agents.costs import mask_places, place_cost, slot_costs
from objectscape.agents.goals import Kind
from objectscape.agents.planning import CEM, MPPI, ActionSpace, pursue
from objectscape.agents.tasks import TASKS, BlockGoal, SpriteGoal, goal_of, on_table
from objectscape.cli import main
from objectscape.data.synthetic import block_stacking
from objectscape.data.synthetic.block_stacking import HALF, REACH
from objectscape.data.synthetic.moving_sprites import MovingSprites
from objectscape.evaluation.asking import evaluate
from objectscape.evaluation.questions.predict import Predict
from objectscape.metrics.prediction import average_recall, diversity, mean_future_mse, same_slot, ssim, tiers
from objectscape.scene import Decomposition, Scene


def test_ssim_of_a_picture_with_itself_is_one_and_falls_with_noise() -> None:
    image = torch.rand(2, 3, 3, 16, 20)
    torch.testing.assert_close(ssim(image, image), torch.ones(2, 3))
    noise = torch.randn_like(image)
    levels = [ssim(image, image + s * noise).mean() for s in (0.05, 0.2, 0.5)]
    assert levels[0] > levels[1] > levels[2]
    assert ssim(image, image + 0.2 * noise, data_range=2).mean() > levels[1], "the published range hides errors"
    with pytest.raises(ValueError, match="at least 11"):
        ssim(image[..., :8, :], image[..., :8, :])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 999))
def test_best_is_at_least_the_mean_and_the_mean_at_least_the_worst(samples: int, steps: int, seed: int) -> None:
    scores = torch.rand(3, samples, steps, generator=torch.Generator().manual_seed(seed))
    best, mean, worst = (tier.sum(1) for tier in tiers(scores, larger_is_better=True))
    assert (best >= mean - 1e-6).all()
    assert (mean >= worst - 1e-6).all()
    low, _, high = (tier.sum(1) for tier in tiers(scores, larger_is_better=False))
    torch.testing.assert_close((low, high), (worst, best))
    assert (diversity(scores[:, :1]) == 0).all()


def test_the_mean_of_two_opposite_futures_is_right_in_the_middle() -> None:
    true = torch.full((1, 2, 3, 4, 4), 0.5)
    futures = torch.stack([true - 0.2, true + 0.2], 1)
    assert mean_future_mse(true, futures).abs().max() < 1e-12


def test_an_object_that_changes_its_slot_for_one_frame_of_four() -> None:
    true = torch.zeros(1, 4, 6, 6, dtype=torch.long)
    true[:, :, :2, :2], true[:, :, 4:, 4:] = 1, 2
    pred = true.clone()
    share, own = same_slot(true, pred)
    assert (float(share), float(own)) == (1, 1)
    pred[:, 3, :2, :2] = 2  # the first object takes the other one's slot
    share, own = same_slot(true, pred)
    assert float(share) == pytest.approx(7 / 8)
    assert float(own) == 1
    pred[:, :, :2, :2] = 2
    assert float(same_slot(true, pred)[1]) == 0, "two objects share a slot"


def test_an_absent_object_counts_as_missed() -> None:
    true = torch.zeros(2, 4, 4, dtype=torch.long)
    true[0, :2], true[0, 2:] = 1, 2
    true[1, :2] = 1
    recall = average_recall(true, true)
    assert recall.tolist() == pytest.approx([1, 6 / 11])


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)))
def test_costs_do_not_depend_on_the_order_of_slots(order: list[int]) -> None:
    slots = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for together in ("sum", "min", "assignment"):
        same, _ = slot_costs(slots, slots[order][None], together=together)  # type: ignore[arg-type]
        assert float(same) == pytest.approx(0, abs=1e-6)
    far, _ = slot_costs(slots, slots[order][None] + 1, together="assignment")
    assert float(far) > 0.1


def test_one_slot_cannot_be_two_wanted_ones_in_an_assignment() -> None:
    goal = torch.tensor([[0.0], [0.1]])
    twice = torch.tensor([[[0.0], [9.0]]])
    assert float(slot_costs(goal, twice, together="sum")[0]) < 0.1
    assert float(slot_costs(goal, twice, together="assignment")[0]) > 1
    places = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert float(place_cost(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), places)) == 0
    with pytest.raises(ValueError, match="same shape"):
        slot_costs(goal, torch.zeros(1, 2, 3))


def box(size: int = 2) -> ActionSpace:
    return ActionSpace(low=-torch.ones(size), high=torch.ones(size))


@pytest.mark.parametrize("planner", [CEM(candidates=60, iterations=6), MPPI(candidates=60, iterations=8)])
def test_planners_find_the_lowest_point_and_stay_within_bounds(planner: CEM | MPPI) -> None:
    target, seen = torch.tensor([[0.3, -0.8], [0.9, 0.1]]), []

    def cost(plans: Tensor) -> Tensor:
        seen.append(plans)
        return (plans - target).square().sum((1, 2))

    plan = planner.plan(cost, box(), horizon=2, generator=torch.Generator().manual_seed(0))
    assert torch.cat(seen).abs().max() <= 1
    assert plan.candidates == sum(len(plans) for plans in seen)
    first = (seen[0] - target).square().sum((1, 2)).min()
    assert plan.cost < 0.3 * first
    assert plan.cost == pytest.approx(float((plan.actions - target).square().sum()), rel=1e-5)


def test_more_iterations_never_make_a_plan_worse() -> None:
    def cost(plans: Tensor) -> Tensor:
        return (plans - 0.37).square().sum((1, 2))

    costs = [
        CEM(candidates=20, elites=4, iterations=n).plan(
            cost, box(), horizon=1, generator=torch.Generator().manual_seed(1)
        ).cost
        for n in (1, 2, 4, 8)
    ]  # fmt: skip
    assert costs == sorted(costs, reverse=True)


def test_a_plan_picks_an_object_where_it_has_put_it() -> None:
    space = ActionSpace(low=-torch.ones(4), high=torch.ones(4), entities=torch.tensor([[0.5, 0.5], [-0.5, 0.0]]))
    free = torch.tensor([[[0.1, 0.2], [0.3, 0.4], [0.0, 0.0]]])
    actions = space.actions(free, torch.tensor([[0, 0, 1]]))[0]
    assert actions[0].tolist() == pytest.approx([0.5, 0.5, 0.1, 0.2])
    assert actions[1].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert actions[2].tolist() == pytest.approx([-0.5, 0.0, 0.0, 0.0])
    ways = ActionSpace(low=torch.zeros(4), high=torch.ones(4), entities=torch.tensor([[0.5, 0.5]]), reach=0.5)
    moved = ways.actions(torch.tensor([[[1.0, 0.5], [0.5, 0.5]]]), torch.tensor([[0, 0]]))[0]
    assert moved[1].tolist() == pytest.approx([0.75, 0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="CEM"):
        MPPI().plan(lambda plans: plans.sum((1, 2)), space, horizon=1, generator=torch.Generator())


def test_options_of_planners_are_checked() -> None:
    with pytest.raises(ValueError, match="elites=9"):
        CEM(candidates=8, elites=9)
    with pytest.raises(ValueError, match="below its high"):
        ActionSpace(low=torch.ones(2), high=torch.ones(2))


def test_the_middle_of_a_mask() -> None:
    masks = torch.zeros(1, 1, 4, 8)
    masks[..., 1, 6] = 1
    assert mask_places(masks)[0].tolist() == pytest.approx([6.5 / 8, 1.5 / 4])


def test_places_on_the_table_are_found_in_the_picture() -> None:
    pytest.importorskip("mujoco")
    world = block_stacking.Cubes(2)
    state = world.scatter(np.random.default_rng(3))
    colors = block_stacking.COLORS[None, :2]
    _, segments = block_stacking.picture(torch.from_numpy(state).float()[None], colors, 64)
    masks = torch.stack([segments[0] == k for k in (1, 2)])[:, None].float()
    found = on_table(mask_places(masks))
    assert (found - torch.from_numpy(state[:, :2]).float()).abs().max() < HALF / 2


def test_the_simulator_stacks_two_cubes_and_doing_nothing_does_not() -> None:
    pytest.importorskip("mujoco")
    outcome = pursue(BlockGoal(TASKS["stack_blocks"], seed=1), CEM(candidates=48, iterations=3), plans=3)
    assert outcome.solved
    assert outcome.score == 1
    assert outcome.before < 1
    assert outcome.candidates <= 3 * 48 * 3
    idle = pursue(BlockGoal(TASKS["stack_blocks"], seed=1), None, plans=3)
    assert not idle.solved
    assert idle.score == outcome.before
    with pytest.raises(ValueError, match="cost='image'"):
        BlockGoal(TASKS["stack_blocks"], seed=1, cost="slots")


@pytest.mark.parametrize(
    ("task", "cost"), [("move_sprites", "image"), ("move_sprites", "places"), ("reach_place", "image")]
)
def test_the_simulator_moves_sprites_where_they_are_wanted(task: str, cost: Kind) -> None:
    planner, plans = CEM(candidates=48, iterations=3), TASKS[task].plans
    outcomes = [pursue(SpriteGoal(TASKS[task], seed=seed, cost=cost), planner, plans=plans) for seed in range(4)]
    assert [outcome.before for outcome in outcomes] == [0, 0, 0, 0], "at first, nothing is where it should be"
    assert sum(outcome.solved for outcome in outcomes) >= 3
    assert all(len(outcome.actions) <= TASKS[task].plans for outcome in outcomes)


def test_a_place_to_reach_lies_in_the_picture_and_is_a_goal_of_its_task_only() -> None:
    goal = SpriteGoal(TASKS["reach_place"], seed=0, at=(0.2, 0.8))
    assert goal.cost(torch.tensor([[[0.0, 0.0, 0.5, 0.5]]])) == pytest.approx(
        float((goal.places[0] - torch.tensor([0.2, 0.8])).norm(dim=-1).min()), abs=0.02
    )
    with pytest.raises(ValueError, match="outside the picture"):
        SpriteGoal(TASKS["reach_place"], seed=0, at=(1.2, 0.5))
    for task in ("move_sprites", "stack_blocks"):
        with pytest.raises(ValueError, match="reach_place"):
            goal_of(TASKS[task], seed=0, at=(0.5, 0.5))


def test_cubes_repeat_exactly_and_do_not_move_without_a_hit() -> None:
    pytest.importorskip("mujoco")
    world, dice = block_stacking.Cubes(3), np.random.default_rng(0)
    state = world.scatter(dice)
    action = np.concatenate([state[1, :2], state[0, :2]])
    once, again = world.move(state, action), world.move(state, action)
    np.testing.assert_array_equal(once, again)
    assert once[1, 2] == pytest.approx(3 * HALF, abs=0.02), "the cube lies on the other one"
    missed = world.move(state, np.array([REACH * 2, REACH * 2, 0, 0]))
    np.testing.assert_array_equal(missed, state)


class Still(torch.nn.Module):
    """A model that says: nothing moves, or everything is black."""

    slots, reads_clips = 1, True

    def __init__(self, black: bool) -> None:
        super().__init__()
        self.black = black

    def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Decomposition:
        recon = context.pixels[:, None, -1:].expand(-1, samples, steps, -1, -1, -1)
        parts = recon.unsqueeze(3) * (not self.black)
        return Decomposition(
            recon=parts.squeeze(3),
            masks=torch.ones_like(parts[..., :1, :, :]),
            components=parts,
            slots=parts.flatten(4),
        )


def test_the_question_what_happens_next_knows_its_floors_and_its_ceiling() -> None:
    data = MovingSprites(count=6, image_size=24, split="test", background=[0, 0])
    scene = data.all()
    question = Predict(context=2, horizon=4, samples=3)
    question.simulator = data.simulator
    found = evaluate(Still(black=False), [scene], ask=[question])
    scores = {name: score.mean for name, score in found.scores.items()}
    assert scores["mse_future"] == pytest.approx(found.baseline["mse_future"].mean), (
        "the baseline repeats the last frame"
    )
    assert scores["mse_future"] == pytest.approx(
        float((scene.pixels[:, 2:6] - scene.pixels[:, 1:2]).square().mean()), rel=1e-4
    )
    assert scores["diversity"] == pytest.approx(0)
    assert scores["mse_simulator"] < 0.5 * scores["mse_future"]
    assert len(found.details["predict"]["per_step"]["mse_future"]) == 4
    black = evaluate(Still(black=True), [scene], ask=[Predict(context=2, horizon=4, samples=3)]).scores
    assert black["mse_future"].mean == pytest.approx(scores["mse_empty"], rel=1e-4)
    with pytest.raises(ValueError, match=r"ask\.predict\.horizon"):
        evaluate(Still(black=True), [scene], ask=[Predict(context=2, horizon=9)])


def test_a_world_model_is_trained_evaluated_and_planned_with_by_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco")
    run = tmp_path / "run"
    words = ["data=block_stacking", "data.image_size=32", "data.count=6", "data.frames=4", "data.cubes=2"]
    assert (
        main(
            ["train", "recipe=framed_slots/tiny", *words, "model.action_size=4", "clip.length=[[0,1],[2,3]]",
             "batch_size=[[0,4],[2,2]]", f"run_dir={run}", "trainer.max_steps=4", "trainer.precision=32-true",
             "every={log: 2, validate: 2, picture: 0, checkpoint: 4}", "validation={images: 2, batch_size: 2}"]
        ) == 0
    )  # fmt: skip
    assert main(["evaluate", str(run), "data.count=4", "ask.predict.context=1", "ask.predict.samples=2", "--all"]) == 0
    shown = capsys.readouterr().out
    assert all(score in shown for score in ("mse_future", "mse_empty", "mse_simulator", "same_slot", "ari_fg"))
    assert main(["plan", str(run), "task=stack_blocks", "--goals", "1", "--candidates", "8", "--iterations", "1"]) == 0
    assert "simulator" in capsys.readouterr().out
    assert (run / "plan_stack_blocks.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulator", "task=stack_block"], "stack_blocks"),
        (["simulator"], "task=NAME"),
        (["nowhere", "task=stack_blocks"], "nowhere"),
        (["simulator", "task=reach_place", "--goals", "1", "--at", "1.2,0"], "outside the picture"),
        (["simulator", "task=reach_place", "--goals", "1", "--at", "middle"], "two numbers"),
    ],
)
def test_plan_answers_a_mistake_with_a_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) != 0
    assert message in capsys.readouterr().err
