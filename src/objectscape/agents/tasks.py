"""Goals to plan for: cubes that are to be stacked or rearranged, sprites that are to be moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from objectscape.agents.goals import COSTS, Goal, Kind
from objectscape.agents.planning import ActionSpace
from objectscape.contract import Predicts
from objectscape.data.synthetic import block_stacking
from objectscape.data.synthetic.block_stacking import ACTION_SIZE, COLORS, HALF, REACH, BlockSimulator, Cubes
from objectscape.data.synthetic.moving_sprites import MOTION_SCALE, MovingSprites, paint_sprites
from objectscape.scene import Decomposition

__all__ = ["COSTS", "TASKS", "BlockGoal", "SpriteGoal", "Task", "goal_of", "on_table"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of goal: how many objects, what is done to them, and how near they have to come.

    `tolerance` is in units of the world: cubes have a half side of 0.4, pictures of sprites a width of 1.
    """

    kind: Literal["stack", "rearrange", "move", "reach"]
    objects: int
    moved: int
    tolerance: float
    plans: int = 4

    @property
    def data(self) -> str:
        """The data set that shows this world."""
        return "block_stacking" if self.kind in ("stack", "rearrange") else "select_move"


TASKS = {
    "stack_blocks": Task(objects=2, kind="stack", moved=1, tolerance=0.25),
    "stack_three": Task(objects=3, kind="stack", moved=2, tolerance=0.25, plans=6),
    "rearrange_blocks": Task(objects=3, kind="rearrange", moved=2, tolerance=0.25, plans=5),
    "move_sprites": Task(objects=2, kind="move", moved=2, tolerance=0.1),
    "reach_place": Task(objects=2, kind="reach", moved=1, tolerance=0.075, plans=6),
}


class BlockGoal(Goal):
    """One goal of a task with cubes. See `planning.Pursuit`.

    Args:
        task: what kind of goal.
        seed: of start, goal and colors.
        model: imagines; None: the simulator.
        cost: see `Goal`.
        size: side of the pictures in pixels, as the model needs them.
        rollouts: futures of each candidate, for models that draw them.
        entities: actions name a cube; otherwise they are four free numbers.

    Raises:
        ValueError: see `Goal`.
    """

    def __init__(
        self,
        task: Task,
        *,
        seed: int,
        model: Predicts | None = None,
        cost: Kind = "image",
        size: int = 32,
        rollouts: int = 1,
        entities: bool = True,
    ) -> None:
        super().__init__(
            model=model,
            simulator=BlockSimulator(Cubes(task.objects), antialias=1),
            cost=cost,
            action_size=ACTION_SIZE,
            rollouts=rollouts,
            entities=entities,
        )
        self.task, self.size, self.world = task, size, Cubes(task.objects)
        dice = np.random.default_rng([seed, 7])
        self.state = self.world.scatter(dice)
        self.colors = COLORS[torch.from_numpy(dice.permutation(len(COLORS))[: task.objects])]
        self.wanted = self._wanted(dice)
        self._look()
        self.want(self._drawn(self.wanted))

    def space(self) -> ActionSpace:
        """See `Pursuit`: bounds are the table's, entities what is seen of cubes."""
        ones = torch.ones(ACTION_SIZE)
        places = torch.zeros(0, 2)
        if self.entities and self.true:
            places = torch.from_numpy(self.state[:, :2] / REACH).float()
        elif self.entities:
            places = on_table(self.objects_seen()) / REACH
        return ActionSpace(low=-ones, high=ones, entities=places if len(places) else None)

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

    def _look(self) -> None:
        poses = torch.from_numpy(self.state).float()
        image, _ = block_stacking.picture(poses[None], self.colors[None], self.size)
        self.saw(image[0].float() / 255, {"pose": poses, "color": self.colors})

    def _drawn(self, state: np.ndarray) -> Decomposition:
        image, segments = block_stacking.picture(torch.from_numpy(state).float()[None], self.colors[None], self.size)
        return _flat(image, segments, self.task.objects)

    def _wanted(self, dice: np.random.Generator) -> np.ndarray:
        """A state that can be reached: every cube that is moved lies still where it was put."""
        while True:
            state, order = self.state, dice.permutation(self.task.objects)
            for cube, below in zip(order[1 : self.task.moved + 1], order, strict=False):
                point = state[below, :2] if self.task.kind == "stack" else dice.uniform(-1.1, 1.1, 2)
                state = self.world.place(state, int(cube), point)
            heights = np.sort(state[:, 2])
            flat = np.full(self.task.objects, HALF)
            if self.task.kind == "stack":
                flat[-self.task.moved :] += 2 * HALF * np.arange(1, self.task.moved + 1)
            still = np.abs(heights - flat).max() < 0.05
            far = np.abs(state[:, :3] - self.state[:, :3]).max(1) > self.task.tolerance
            if still and far.sum() == self.task.moved:
                return state


class SpriteGoal(Goal):
    """One goal of a task with sprites that stand still and are moved by actions. See `planning.Pursuit`.

    In "move", a picture shows where every sprite is to be, one action's way from its start; in "reach", any sprite is
    to come to a place (Spriteworld's "find goal").

    Args:
        task: what kind of goal.
        seed: of start, goal and colors.
        model: imagines; None: the simulator.
        cost: see `Goal`; "reach" has no picture of its goal, so its cost is "places".
        size: side of the pictures in pixels, as the model needs them.
        rollouts: futures of each candidate, for models that draw them.
        entities: actions click at a sprite that is seen; otherwise they are four free numbers.
        at: (x, y) that is to be reached, in picture widths, rightwards and downwards; for "reach" only.

    Raises:
        ValueError: see `Goal`; for a place outside the picture, or a task that has a picture as its goal.
    """

    def __init__(
        self,
        task: Task,
        *,
        seed: int,
        model: Predicts | None = None,
        cost: Kind = "image",
        size: int = 32,
        rollouts: int = 1,
        entities: bool = True,
        at: tuple[float, float] | None = None,
    ) -> None:
        if at is not None and task.kind != "reach":
            raise ValueError("this task has a picture as its goal; a place is the goal of task=reach_place")
        if at is not None and not all(0 <= value <= 1 for value in at):
            raise ValueError(
                f"the goal {at} is outside the picture; give x and y from 0 to 1, rightwards and downwards"
            )
        self.at = torch.tensor([at or (0.5, 0.5)])
        data = MovingSprites(
            split="test", count=1, image_size=size, frames=1, min_objects=task.objects, max_objects=task.objects,
            actions=True,
        )  # fmt: skip
        super().__init__(
            model=model,
            simulator=data.simulator,
            cost="places" if task.kind == "reach" else cost,
            action_size=4,
            rollouts=rollouts,
            entities=entities,
        )
        self.task, self.data = task, data
        dice = torch.Generator().manual_seed(seed)
        wanted: Tensor | None = None
        while wanted is None:
            self.drawn = data.draw(1, dice)
            self.places = self.drawn["place"][:, 0]  # (1, N, 2)
            wanted = self._wanted(dice)
        self.wanted = wanted
        self._look()
        self.want(self._picture(self.wanted), self.at if task.kind == "reach" else None)

    def space(self) -> ActionSpace:
        """See `Pursuit`: a click at a sprite that is seen, and how far it is moved."""
        low, high, places = torch.zeros(4), torch.ones(4), torch.zeros(0, 2)
        if self.entities:
            places = self.places[0] if self.true else self.objects_seen()
        return ActionSpace(low=low, high=high, entities=places if len(places) else None, reach=MOTION_SCALE)

    def act(self, action: Tensor) -> None:
        """See `Pursuit`."""
        self.actions.append(action)
        still = torch.zeros_like(self.places)
        self.places, _ = self.data.motion.step(self.places, still, self.drawn["exists"], None, action[None])
        self._look()

    @property
    def score(self) -> float:
        """Share of the sprites that are within the tolerance of their place; for "reach", whether any is."""
        if self.task.kind == "reach":
            return float((self.places[0] - self.at).norm(dim=-1).min() < self.task.tolerance)
        return float(((self.places - self.wanted)[0].norm(dim=-1) < self.task.tolerance).float().mean())

    @property
    def solved(self) -> bool:
        """Whether all are where they should be."""
        return self.score == 1.0

    def _wanted(self, dice: torch.Generator) -> Tensor | None:
        """(1, N, 2) wanted places, each one action away and apart from the others; None if this start has none."""
        apart, reach = self.data.scale, MOTION_SCALE / 2
        if self.task.kind == "reach":
            return None if self.score else self.places
        for _ in range(50):
            way = reach * (2 * torch.rand(self.places.shape, generator=dice) - 1)
            wanted = self.places + way
            inside = bool(((wanted > 0.1) & (wanted < 0.9)).all())
            if inside and bool((way.norm(dim=-1) > 1.5 * self.task.tolerance).all()):
                others = torch.cat([wanted, self.places], 1)[0]
                near = torch.cdist(wanted[0], others) < apart
                own = torch.eye(self.task.objects, dtype=torch.bool).repeat(1, 2)
                if not bool((near & ~own).any()):
                    return wanted
        return None

    def _look(self) -> None:
        drawn = self.drawn
        facts = {
            "x": self.places[0, :, 0],
            "y": self.places[0, :, 1],
            "vx": torch.zeros(self.task.objects),
            "vy": torch.zeros(self.task.objects),
            "shape": drawn["shape"][0] + 1.0,
            "visibility": drawn["exists"][0].float(),
            "background": (drawn["background"] / 255).expand(self.task.objects),
            "color": drawn["color"][0] / 255,
        }
        self.saw(self._picture(self.places).recon[0], facts)

    def _picture(self, places: Tensor) -> Decomposition:
        drawn = self.drawn
        image, segments = paint_sprites(
            places[:, None], drawn["shape"], drawn["exists"], drawn["color"], drawn["background"],
            self.data.image_size, self.data.scale,
        )  # fmt: skip
        return _flat(image[:, 0], segments[:, 0], self.task.objects)


def goal_of(task: Task, **options) -> BlockGoal | SpriteGoal:  # type: ignore[no-untyped-def]
    """A goal of a task; `options` are those of its class."""
    if task.data == "select_move":
        return SpriteGoal(task, **options)
    if options.pop("at", None) is not None:
        raise ValueError("this task has a picture as its goal; a place is the goal of task=reach_place")
    return BlockGoal(task, **options)


def on_table(places: Tensor) -> Tensor:
    """(K, 2) columns and rows in the picture, 0..1 -> (K, 2) x and y of what is seen there, at a cube's middle."""
    camera = block_stacking.camera(1)
    right, down, forward = (axis[0] for axis in camera.frame())
    across = 2 * places - 1
    ray = forward + across[:, :1] * right + across[:, 1:] * down  # (K, 3)
    height = camera.position[0, 2] - HALF
    return camera.position[0, :2] + ray[:, :2] * (height / -ray[:, 2:])


def _flat(image: Tensor, segments: Tensor, objects: int) -> Decomposition:
    """uint8 picture (1, 3, H, W) and segments (1, H, W) as the true scene (1, K, ...)."""
    masks = torch.nn.functional.one_hot(segments.long(), objects + 1).movedim(-1, 1).unsqueeze(2).float()
    pixels = image.float() / 255
    components = pixels[:, None].expand(-1, masks.shape[1], -1, -1, -1)
    return Decomposition(recon=pixels, masks=masks, components=components, slots=masks.flatten(2))
