"""A world model of this library under the planners of stable-worldmodel (Maes et al.; package `stable-worldmodel`).

    cost = SolverModel(model, cost="slots", low=-1, high=1)
    solver = stable_worldmodel.solver.CEMSolver(cost, num_samples=200, n_steps=3, topk=20)

Neither package imports the other. What the solvers ask for is `get_cost(info, candidates)`; `encode`, `rollout` and
`criterion` are its parts, as in their own models. `info` is a dictionary whose tensors are repeated for every
candidate, (B, S, ...); the same one comes again in every iteration, so what is seen is kept in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from objectscape.agents.costs import slot_costs
from objectscape.contract import Imagines
from objectscape.nn.validation import check_at_least, check_choice
from objectscape.scene import Decomposition, Scene

COSTS = ("image", "slots")
SEEN = "objectscape_seen"
"""Key of `info` under which what was seen is kept."""


@dataclass(frozen=True)
class _Seen:
    state: Any
    """(B, ...) after the last frame."""
    goal: Decomposition | None
    """(B, K, ...) the goal as the model sees it."""
    goal_image: Tensor | None
    """(B, 3, H, W)"""


class SolverModel(nn.Module):
    """What a solver of stable-worldmodel plans with.

    Args:
        model: a world model; it is set to evaluation mode.
        cost: "image", squared error of the last picture and the goal; "slots", of its slots under the best one-to-one
            assignment (slots have no order, so theirs of flattened vectors means nothing here); or a function from the
            last pictures (N, K, ...), one for each of N candidates, and the goal (1, K, ...) to costs (N,).
        rollouts: futures of every candidate; the cost is their mean.
        low: smallest value of an action, a number or (A,). The solvers draw without bounds: candidates are cut to these
            before they are imagined, so cut the plan that they return as well. None for no bound.
        high: largest value.

    Raises:
        ValueError: if the model cannot imagine, or an option is out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        cost: Literal["image", "slots"] | Callable[[Decomposition, Decomposition], Tensor] = "image",
        rollouts: int = 1,
        low: float | Tensor | None = None,
        high: float | Tensor | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, rollouts=rollouts)
        if not callable(cost):
            check_choice("cost", cost, COSTS)
        if not isinstance(model, Imagines):
            raise ValueError(f"{type(model).__name__} cannot be planned with: it has no observe, imagine and draw")
        self.model, self.cost, self.rollouts, self.low, self.high = model.eval(), cost, rollouts, low, high

    def encode(self, info: dict[str, Any]) -> dict[str, Any]:
        """Clips `pixels` (B, T, ...) and, for a model that acts, what was done between them (`action_history`, (B,
        T - 1, A)) -> `info` with `emb` (B, T, K, D), the slots of every frame.

        Pixels are (B, T, 3, H, W) or (B, T, H, W, 3), uint8 or floating point in [0, 1].
        """
        with torch.no_grad():
            info["emb"] = self.model(self._scene(info["pixels"], info.get("action_history"))).slots
        return info

    def rollout(self, info: dict[str, Any], candidates: Tensor) -> dict[str, Any]:
        """`info` with `predicted_emb` (B, S, 1 + H, K, D): slots of the last frame that was seen, and of H imagined.

        Args:
            info: with `pixels` (B, S, T, ...) and maybe `action_history` (B, S, T - 1, A), alike for all candidates.
            candidates: (B, S, H, A); action i leads to imagined frame i.
        """
        seen, states = self._imagine(info, candidates)
        many = candidates.shape[1]
        now = seen.state.slots[:, None, None].expand(-1, many, -1, -1, -1)
        ahead = states.slots.unflatten(1, (many, self.rollouts))[:, :, 0]
        info["predicted_emb"] = torch.cat([now, ahead], 2)
        return info

    def criterion(self, info: dict[str, Any], candidates: Tensor) -> Tensor:
        """Costs (B, S) of candidates (B, S, H, A); lower is better."""
        seen, states = self._imagine(info, candidates)
        if seen.goal is None or seen.goal_image is None:
            raise ValueError(f"info has no 'goal', a picture to come near to; it has {', '.join(map(str, info))}")
        last = self.model.draw(states.map(lambda x: x[:, :, -1]))  # (B, S R, K, ...)
        if self.cost == "image":
            costs = (last.recon - seen.goal_image[:, None]).square().mean((2, 3, 4))
        else:
            costs = torch.stack([self._compare(last[b], seen.goal[b : b + 1]) for b in range(len(candidates))])
        return costs.unflatten(1, (-1, self.rollouts)).mean(2)

    @torch.no_grad()
    def get_cost(self, info_dict: dict[str, Any], action_candidates: Tensor) -> Tensor:
        """Costs (B, S) of candidates (B, S, H, A).

        Raises:
            ValueError: if `info_dict` has no goal, pictures have another size, or actions are missing or of another
                width.
        """
        return self.criterion(info_dict, action_candidates)

    def _compare(self, last: Decomposition, goal: Decomposition) -> Tensor:
        if callable(self.cost):
            return self.cost(last, goal)
        return slot_costs(goal.slots[0], last.slots, together="assignment")[0]

    def _imagine(self, info: dict[str, Any], candidates: Tensor) -> tuple[_Seen, Any]:
        """What was seen, and states (B, S R, H, ...)."""
        if SEEN not in info:
            info[SEEN] = self._see(info)
        seen: _Seen = info[SEEN]
        if self.low is not None or self.high is not None:
            low, high = (
                None if bound is None else torch.as_tensor(bound).to(candidates) for bound in (self.low, self.high)
            )
            candidates = torch.clamp(candidates, low, high)
        told = candidates.repeat_interleave(self.rollouts, 1)
        states = self.model.imagine(seen.state, steps=told.shape[2], samples=told.shape[1], actions=told)
        return seen, states

    def _see(self, info: dict[str, Any]) -> _Seen:
        """All candidates begin with the same clip and goal: the first one's are looked at."""
        history, goal = info.get("action_history"), info.get("goal")
        state = self.model.observe(self._scene(info["pixels"][:, 0], None if history is None else history[:, 0]))
        if goal is None:
            return _Seen(state, None, None)
        goal = goal[:, 0]
        scene = self._scene(goal if goal.ndim == 5 else goal[:, None], None, goal=True)
        seen = self.model(scene)
        last = Decomposition(
            recon=seen.recon[:, -1], masks=seen.masks[:, -1], components=seen.components[:, -1], slots=seen.slots[:, -1]
        )
        return _Seen(state, last, scene.pixels[:, -1])

    def _scene(self, pixels: Tensor, actions: Tensor | None, *, goal: bool = False) -> Scene:
        """Clips as a model reads them; of a goal, the last frame."""
        if pixels.shape[-1] == 3 and pixels.shape[-3] != 3:
            pixels = pixels.movedim(-1, -3)
        pixels = pixels[:, -1:] if goal else pixels
        width, (batch, frames) = getattr(self.model, "action_size", 0), pixels.shape[:2]
        if not width:
            return Scene(image=pixels)
        if actions is None and frames > 1:
            raise ValueError(
                f"the model acts, but info has no 'action_history' (B, S, {frames - 1}, {width}): the actions between "
                "the frames of 'pixels'"
            )
        last = torch.zeros(batch, 1, width, device=pixels.device)  # leads on from the last frame
        return Scene(image=pixels, actions=last if actions is None or frames == 1 else torch.cat([actions, last], 1))
