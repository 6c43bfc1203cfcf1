"""Our world models under the planners of stable-worldmodel: by a double of theirs, and by theirs where installed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from objectscape.agents import SolverModel
from objectscape.models.framed_slots import FramedSlots
from objectscape.models.instance_coloring import ColoringAutoencoder
from objectscape.models.op3 import OP3
from objectscape.models.sswm import SSWM
from objectscape.models.vrnn import VRNN
from objectscape.scene import Decomposition, Scene, Tensors, record

MODELS = {
    "framed_slots": lambda: FramedSlots(image_size=16, slots=3, width=8, hidden=8, action_size=2),
    "sswm": lambda: SSWM(image_size=16, slots=3, slot_size=4, channels=4, lstm_size=8, action_size=2),
    "vrnn": lambda: VRNN(image_size=16, latent_size=4, hidden_size=8, encoder_channels=(4,) * 5, decoder_channels=4,
                         action_size=2),
    "op3": lambda: OP3(image_size=16, slots=3, stochastic_size=4, deterministic_size=4, action_width=3, lstm_size=8,
                       decoder_channels=(4,) * 4, refinement_channels=(4,) * 3, refinement_mlp=(6,), action_size=2),
}  # fmt: skip


@torch.inference_mode()
def plan(cost: nn.Module, info: dict[str, Tensor], *, candidates: int, horizon: int, steps: int, top: int) -> Tensor:
    """As stable-worldmodel's CEM does it: unit Gaussians, no bounds, one dictionary of repeated tensors."""
    batch = len(next(iter(info.values())))
    repeated = {k: v[:, None].expand(batch, candidates, *v.shape[1:]) for k, v in info.items()}
    mean, std = torch.zeros(batch, horizon, 2), torch.ones(batch, horizon, 2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        drawn = mean[:, None] + std[:, None] * torch.randn(batch, candidates, horizon, 2, generator=generator)
        drawn[:, 0] = mean
        costs = cost.get_cost(repeated, drawn)
        assert costs.shape == (batch, candidates)
        best = costs.topk(top, 1, largest=False).indices
        chosen = drawn[torch.arange(batch)[:, None], best]
        mean, std = chosen.mean(1), chosen.std(1)
    return mean


def seen(batch: int = 2, frames: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "pixels": torch.rand(batch, frames, 3, 16, 16, generator=generator),
        "action_history": torch.rand(batch, frames - 1, 2, generator=generator),
        "goal": torch.rand(batch, 1, 3, 16, 16, generator=generator),
    }


@record
class Place(Tensors):
    slots: Tensor


class Walk(nn.Module):
    """Three things at one place each; action t moves all of them. Pictures hold the places, slots the same reversed."""

    action_size = 2
    reads_clips = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.looks = 0

    def forward(self, scene: Scene) -> Decomposition:
        self.looks += 1
        return self.draw(Place(slots=scene.pixels[:, :, 0, :3, :2].flip(2)))

    def observe(self, scene: Scene) -> Place:
        self.looks += 1
        return Place(slots=scene.pixels[:, -1, 0, :3, :2])

    def imagine(self, state: Place, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Place:
        assert actions is not None
        assert actions.shape[1:3] == (samples, steps)
        return Place(slots=state.slots[:, None, None] + actions.cumsum(2)[:, :, :, None])

    def draw(self, states: Place) -> Decomposition:
        recon = torch.zeros(*states.slots.shape[:-2], 3, 16, 16)
        recon[..., 0, :3, :2] = states.slots
        masks = torch.ones(*states.slots.shape[:-1], 1, 16, 16)
        return Decomposition(recon=recon, masks=masks, components=masks, slots=states.slots)


def walk() -> tuple[dict[str, Tensor], Tensor]:
    """Where things are, where they are to go, and how far that is."""
    info = {key: torch.zeros_like(value) for key, value in seen().items()}
    start = torch.tensor([[0.1, 0.2], [0.5, 0.1], [0.4, 0.6]])
    away = torch.tensor([[0.3, 0.1], [0.2, 0.35]])
    info["pixels"][:, :, 0, :3, :2] = start
    info["goal"][:, 0, 0, :3, :2] = start + away[:, None]
    return info, away


@pytest.mark.parametrize("cost", ["image", "slots", lambda last, goal: (last.recon - goal.recon).abs().sum((1, 2, 3))])
def test_a_plan_leads_to_the_goal_whatever_the_order_of_slots(cost: object) -> None:
    info, away = walk()
    model = Walk()
    found = plan(SolverModel(model, cost=cost), info, candidates=200, horizon=3, steps=12, top=20)  # type: ignore[arg-type]
    torch.testing.assert_close(found.sum(1), away, atol=0.05, rtol=0)
    assert model.looks == 2, "once at the clip, once at the goal, not in every iteration"


def test_candidates_are_cut_to_the_bounds_before_they_are_imagined() -> None:
    info, _ = walk()
    repeated = {key: value[:, None].expand(-1, 2, *value.shape[1:]) for key, value in info.items()}
    wild = torch.tensor([0.1, 5.0])[None, :, None, None].expand(2, 2, 1, 2)
    bounded, free = (SolverModel(Walk(), low=-0.1, high=high).get_cost(dict(repeated), wild) for high in (0.1, None))
    torch.testing.assert_close(bounded[:, 0], bounded[:, 1])
    assert (free[:, 1] > free[:, 0]).all()


def test_rollouts_hold_what_was_seen_first_and_futures_by_candidate() -> None:
    info, _ = walk()
    info = {key: value[:, None].expand(-1, 4, *value.shape[1:]) for key, value in info.items()}
    candidates = torch.randn(2, 4, 3, 2)
    slots = SolverModel(Walk(), rollouts=2).rollout(info, candidates)["predicted_emb"]
    assert slots.shape == (2, 4, 4, 3, 2)
    torch.testing.assert_close(slots[:, :, 1:] - slots[:, :, :-1], candidates[:, :, :, None].expand(-1, -1, -1, 3, -1))


@pytest.mark.parametrize("name", MODELS)
def test_every_world_model_is_planned_with_where_gradients_are_forbidden(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    for cost in ("image", "slots"):
        adapted = SolverModel(model, cost=cost, rollouts=2, low=-1, high=1)  # type: ignore[arg-type]
        found = plan(adapted, seen(), candidates=6, horizon=2, steps=2, top=2)
        assert found.shape == (2, 2, 2)
        assert found.isfinite().all()
    encoded = adapted.encode({"pixels": seen()["pixels"].movedim(2, -1), "action_history": seen()["action_history"]})
    assert encoded["emb"].shape[:2] == (2, 2)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match="no observe, imagine and draw"):
        SolverModel(ColoringAutoencoder())
    with pytest.raises(ValueError, match="cost"):
        SolverModel(Walk(), cost="imag")  # type: ignore[arg-type]
    adapted = SolverModel(MODELS["framed_slots"]())
    for missing, message in (("goal", "no 'goal'"), ("action_history", r"\(B, S, 1, 2\)")):
        info = {key: value for key, value in seen().items() if key != missing}
        with pytest.raises(ValueError, match=message):
            plan(adapted, info, candidates=2, horizon=1, steps=1, top=1)
    with pytest.raises(ValueError, match="width 2 but these have 3"):
        adapted.get_cost({k: v[:, None] for k, v in seen().items()}, torch.zeros(2, 1, 2, 3))


def test_their_own_solver_runs_unchanged() -> None:
    solvers = pytest.importorskip("stable_worldmodel.solver")
    from gymnasium.spaces import Box

    info, away = walk()
    solver = solvers.CEMSolver(SolverModel(Walk(), cost="slots"), batch_size=2, num_samples=200, n_steps=12, topk=20)
    config = SimpleNamespace(horizon=3, receding_horizon=1, history_len=2, action_block=1)
    solver.configure(action_space=Box(-1, 1, (2, 2)), n_envs=2, config=config)
    found = solver.solve(info)["actions"]
    torch.testing.assert_close(found.sum(1), away, atol=0.05, rtol=0)
