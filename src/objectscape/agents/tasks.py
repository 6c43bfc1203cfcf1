"""Goals to plan for: cubes that are to be stacked or rearranged as a picture shows.

The world is always the true simulator; what imagines the candidates is a model, or the simulator itself, which is the
most that planning with this cost can reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from objectscape.agents.costs import image_cost, mask_places, slot_costs, subimage_cost
from objectscape.agents.planning import ActionSpace
from objectscape.contract import Predicts
from objectscape.data.synthetic import block_stacking
from objectscape.data.synthetic.block_stacking import ACTION_SIZE, COLORS, HALF, REACH, BlockSimulator, Cubes
from objectscape.nn.validation import check_choice
from objectscape.scene import Decomposition, Scene

COSTS = ("image", "subimage", "slots")
LARGEST = 0.3
"""A slot with more of the picture than this is no cube."""
SMALLEST = 0.005


@dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of goal: how many cubes, what is done to them, and how near they have to come."""

    cubes: int
    kind: Literal["stack", "rearrange"]
    moved: int
    tolerance: float = 0.25
    plans: int = 4


TASKS = {
    "stack_blocks": Task(cubes=2, kind="stack", moved=1),
    "stack_three": Task(cubes=3, kind="stack", moved=2, plans=6),
    "rearrange_blocks": Task(cubes=3, kind="rearrange", moved=2, plans=5),
}


class BlockGoal:
    """One goal of a task. See `planning.Pursuit`.

    Args:
        task: what kind of goal.
        seed: of start, goal and colors.
        model: imagines; None: the simulator.
        cost: "image", whole pictures; "subimage", slots as pictures, each wanted one's nearest; "slots", matched latent
            slots.
        size: side of the pictures in pixels, as the model needs them.
        rollouts: futures of each candidate, for models that draw them.
        entities: actions name a cube; otherwise they are four free numbers.

    Raises:
        ValueError: for an unknown cost, or one that the simulator has no slots for.
    """

    def __init__(
        self,
        task: Task,
        *,
        seed: int,
        model: Predicts | None = None,
        cost: Literal["image", "subimage", "slots"] = "image",
        size: int = 32,
        rollouts: int = 1,
        entities: bool = True,
    ) -> None:
        check_choice("cost", cost, COSTS)
        if model is None and cost == "slots":
            raise ValueError("cost='slots' compares what a model knows; the simulator has pictures: cost='image'")
        self.task, self.kind, self.rollouts, self.entities = task, cost, rollouts, entities
        self.world = Cubes(task.cubes)
        self.model: Predicts = model if model is not None else BlockSimulator(Cubes(task.cubes), antialias=1)
        self.true = model is None
        dice = np.random.default_rng([seed, 7])
        self.state = self.world.scatter(dice)
        self.colors = COLORS[torch.from_numpy(dice.permutation(len(COLORS))[: task.cubes])]
        self.size = size
        self.wanted = self._wanted(dice)
        self.images, self.poses, self.actions = [], [], []  # type: ignore[var-annotated]
        self._look()
        picture, _ = block_stacking.picture(self._poses(self.wanted), self.colors[None], size)
        self.goal = Scene(image=picture.float()[:, None] / 255)
        if not self.true:
            with torch.no_grad():
                self.goal_seen: Decomposition = self._last(self._see(self.goal))

    def space(self) -> ActionSpace:
        """See `Pursuit`: bounds are the table's, entities what is seen of cubes."""
        ones = torch.ones(ACTION_SIZE)
        if not self.entities:
            return ActionSpace(low=-ones, high=ones)
        if self.true:
            places = torch.from_numpy(self.state[:, :2] / REACH).float()
        else:
            with torch.no_grad():
                places = self._cubes_seen()
        return ActionSpace(low=-ones, high=ones, entities=places) if len(places) else ActionSpace(low=-ones, high=ones)

    @torch.no_grad()
    def cost(self, plans: Tensor) -> Tensor:
        """See `Pursuit`."""
        plans = plans.repeat_interleave(self.rollouts, 0)[None]  # (1, N*R, H, A)
        futures = self.model.predict(self.scene(), steps=plans.shape[2], samples=plans.shape[1], actions=plans)
        futures = futures.map(lambda x: x[0].unflatten(0, (-1, self.rollouts)))  # (N, R, H, ...)
        if self.kind == "image":
            return image_cost(self.goal.image[0, 0], futures)
        if self.kind == "subimage" and not self.true:
            return subimage_cost(self.goal_seen, futures)
        if self.kind == "subimage":
            own = self._see_true()
            return subimage_cost(own, futures)
        slots = futures.slots[:, :, -1].flatten(0, 1)
        costs, _ = slot_costs(self.goal_seen.slots[0], slots, together="assignment")
        return costs.unflatten(0, (-1, self.rollouts)).mean(1)

    def act(self, action: Tensor) -> None:
        """See `Pursuit`."""
        self.actions.append(action)
        self.state = self.world.move(self.state, action.double().numpy() * REACH)
        self._look()

    @property
    def score(self) -> float:
        """Share of the cubes that are within the tolerance of their place, along every axis."""
        right = np.abs(self.state[:, :3] - self.wanted[:, :3]).max(1) < self.task.tolerance
        return float(right.mean())

    @property
    def solved(self) -> bool:
        """Whether all are."""
        return self.score == 1.0

    def scene(self) -> Scene:
        """What has been seen and done: one clip, with the true state for the simulator."""
        actions = torch.stack([*self.actions, torch.zeros(ACTION_SIZE)])[None]
        color = self.colors.expand(1, len(self.images), -1, -1)
        factors = {"pose": torch.stack(self.poses)[None], "color": color} if self.true else None
        return Scene(image=torch.stack(self.images)[None], actions=actions, factors=factors)

    def _look(self) -> None:
        image, _ = block_stacking.picture(self._poses(self.state), self.colors[None], self.size)
        self.images.append(image[0].float() / 255)
        self.poses.append(self._poses(self.state)[0])

    @staticmethod
    def _poses(state: np.ndarray) -> Tensor:
        return torch.from_numpy(state).float()[None]

    def _see(self, scene: Scene) -> Decomposition:
        width = getattr(self.model, "action_size", 0)
        if width and scene.actions is None:
            scene = Scene(image=scene.image, actions=torch.zeros(1, scene.image.shape[1], width))
        return self.model(scene)  # type: ignore[operator]

    @staticmethod
    def _last(seen: Decomposition) -> Decomposition:
        """The last frame (1, K, ...) of clips that were seen."""
        return Decomposition(
            recon=seen.recon[:, -1], masks=seen.masks[:, -1], components=seen.components[:, -1], slots=seen.slots[:, -1]
        )

    def _see_true(self) -> Decomposition:
        image, segments = block_stacking.picture(self._poses(self.wanted), self.colors[None], self.size)
        masks = torch.nn.functional.one_hot(segments.long(), self.task.cubes + 1).movedim(-1, 1).unsqueeze(2).float()
        pixels = image.float() / 255
        components = pixels[:, None].expand(-1, masks.shape[1], -1, -1, -1)
        return Decomposition(recon=pixels, masks=masks, components=components, slots=masks.flatten(2))

    def _cubes_seen(self) -> Tensor:
        """(E, 2) where the model sees cubes on the table, -1..1."""
        seen = self._last(self._see(self.scene()))
        share = seen.masks[0].mean((1, 2, 3))
        small = (share < LARGEST) & (share > SMALLEST)
        return on_table(mask_places(seen.masks[0][small])) / REACH

    def _wanted(self, dice: np.random.Generator) -> np.ndarray:
        """A state that can be reached: every cube that is moved lies still where it was put."""
        while True:
            state, order = self.state, dice.permutation(self.task.cubes)
            for cube, below in zip(order[1 : self.task.moved + 1], order, strict=False):
                point = state[below, :2] if self.task.kind == "stack" else dice.uniform(-1.1, 1.1, 2)
                state = self.world.place(state, int(cube), point)
            heights = np.sort(state[:, 2])
            flat = np.full(self.task.cubes, HALF)
            if self.task.kind == "stack":
                flat[-self.task.moved :] += 2 * HALF * np.arange(1, self.task.moved + 1)
            still = np.abs(heights - flat).max() < 0.05
            far = np.abs(state[:, :3] - self.state[:, :3]).max(1) > self.task.tolerance
            if still and far.sum() == self.task.moved:
                return state


def on_table(places: Tensor) -> Tensor:
    """(K, 2) columns and rows in the picture, 0..1 -> (K, 2) x and y of what is seen there, at a cube's middle."""
    camera = block_stacking.camera(1)
    right, down, forward = (axis[0] for axis in camera.frame())
    across = 2 * places - 1
    ray = forward + across[:, :1] * right + across[:, 1:] * down  # (K, 3)
    height = camera.position[0, 2] - HALF
    return camera.position[0, :2] + ray[:, :2] * (height / -ray[:, 2:])
