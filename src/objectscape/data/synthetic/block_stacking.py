"""Cubes on a table that are picked up and put down: clips with actions, and a world to plan in.

The task is OP3's (Veerapaneni et al. 2019): an action (x, y, x, y) takes the cube at the first point to the second one
and lets it fall. The world is ours: MuJoCo moves the cubes (extra `physics`), our ray caster draws them. A cube is let
go just above what lies below and the physics stops when nothing moves any more, which takes a twentieth of the time of
the original's fall from high up for 2,000 steps; `steps=2000, tolerance=0, drop=5` is the original's way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from objectscape.data.synthetic.base import Draws, SyntheticScenes
from objectscape.data.synthetic.physics import mujoco
from objectscape.data.synthetic.scene3d import SHAPES, Camera, Lights, Material, Objects, Planes, World, render
from objectscape.scene import Decomposition, Scene, Spec

COUNTS = {"train": 10_000, "val": 200, "test": 200}
HALF = 0.4  # half the side of a cube
REACH = 1.6  # the table is -REACH..REACH in x and y
ACTION_SIZE = 4
COLORS = torch.tensor(
    [[0.9, 0.1, 0.1], [0.1, 0.7, 0.15], [0.1, 0.2, 0.9], [0.9, 0.8, 0.1], [0.1, 0.75, 0.8], [0.8, 0.15, 0.75]]
)
UP = np.array([1.0, 0.0, 0.0, 0.0])  # the quaternion of a cube that stands straight


@dataclass
class Cubes:
    """MuJoCo's side: N cubes that are put somewhere, let go, and looked at when they rest.

    Args:
        count: N.
        steps: longest time that they get to come to rest, in steps.
        step: length of a step in seconds.
        tolerance: speed below which they rest.
        drop: height above the table from which a cube is let go; None: just above what lies below.
    """

    count: int
    steps: int = 120
    step: float = 0.005
    tolerance: float = 0.02
    drop: float | None = None
    calls: int = field(default=0, init=False)
    """How often something was moved."""

    def __post_init__(self) -> None:
        self._mujoco = mujoco("block stacking")
        bodies = f'<body><freejoint/><geom type="box" size="{HALF} {HALF} {HALF}" mass="1"/></body>' * self.count
        self._model = self._mujoco.MjModel.from_xml_string(
            f'<mujoco><option timestep="{self.step}"/><default><geom condim="4" friction="1 0.01 0.0001" '
            'solref="0.02 1" solimp="0.95 0.99 0.001"/></default><worldbody><geom type="plane" size="0 0 1"/>'
            f"{bodies}</worldbody></mujoco>"
        )
        self._data = self._mujoco.MjData(self._model)

    def __deepcopy__(self, memo: dict[int, object]) -> Cubes:
        """Another world of the same kind: MuJoCo's own objects are not copied."""
        return Cubes(self.count, self.steps, self.step, self.tolerance, self.drop)

    def settle(self, poses: np.ndarray) -> np.ndarray:
        """(N, 7) places and quaternions at rest, from those where cubes are let go."""
        data = self._data
        self._mujoco.mj_resetData(self._model, data)  # also forgets the solver's last guess: a state repeats exactly
        data.qpos[:] = poses.ravel()
        for done in range(0, self.steps, 10):
            self._mujoco.mj_step(self._model, data, min(10, self.steps - done))
            if np.abs(data.qvel).max() < self.tolerance:
                break
        return data.qpos.reshape(-1, 7).copy()

    def move(self, poses: np.ndarray, action: np.ndarray) -> np.ndarray:
        """The state (N, 7) after an action (4,): nothing moves if there is no cube at the first point."""
        self.calls += 1
        cube = self.at(poses, action[:2])
        if cube is None:
            return poses
        return self.place(poses, cube, action[2:])

    def at(self, poses: np.ndarray, point: np.ndarray) -> int | None:
        """The highest cube whose middle is within half a side of a point (2,) in x and in y."""
        near = np.abs(poses[:, :2] - point).max(1) <= HALF
        return int(np.argmax(np.where(near, poses[:, 2], -np.inf))) if near.any() else None

    def place(self, poses: np.ndarray, cube: int, point: np.ndarray) -> np.ndarray:
        """The state after one cube was let go above a point."""
        poses = poses.copy()
        others = np.delete(poses, cube, 0)
        below = np.abs(others[:, :2] - point).max(1) < 2 * HALF
        floor = (others[below, 2] + HALF).max() if below.any() else 0.0
        height = floor + HALF + 0.01 if self.drop is None else self.drop
        poses[cube] = np.concatenate([np.clip(point, -REACH, REACH), [height], UP])
        return self.settle(poses)

    def scatter(self, generator: np.random.Generator) -> np.ndarray:
        """(N, 7) cubes on the table that do not touch."""
        while True:
            places = generator.uniform(-REACH + HALF, REACH - HALF, (self.count, 2))
            apart = np.abs(places[:, None] - places[None]).max(2) + 4 * np.eye(self.count)
            if apart.min() > 2.1 * HALF:
                return np.concatenate([places, np.full((self.count, 1), HALF), np.tile(UP, (self.count, 1))], 1)


def table(poses: Tensor, colors: Tensor) -> World:
    """What a batch of states looks like: poses (B, N, 7), colors (B, N, 3) linear RGB."""
    batch, count = poses.shape[:2]
    objects = Objects(
        shape=torch.full((batch, count), SHAPES.index("box")),
        position=poses[..., :3].float(),
        scale=HALF,
        rotation=_rotations(poses[..., 3:].float()),
        material=Material(color=colors),
    )
    gray = Material(color=torch.full((batch, 1, 3), 0.35), roughness=0.95)
    return World(objects=objects, planes=Planes.ground(gray), camera=camera(batch), lights=_lights(batch), ambient=0.45)


def camera(batch: int) -> Camera:
    """Above the front edge of the table."""
    return Camera(
        position=torch.tensor([0.0, -3.4, 4.6]).expand(batch, 3),
        target=torch.tensor([0.0, 0.05, 0.35]).expand(batch, 3),
        field_of_view=0.72,
    )


def picture(poses: Tensor, colors: Tensor, size: int, *, antialias: int = 2) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) uint8 and segments (B, H, W) int8 of states."""
    seen = render(table(poses, colors), (size, size), antialias=antialias, shadows="none", reflections=False)
    return seen.image, seen.segments.to(torch.int8)


class BlockStacking(SyntheticScenes):
    """Clips of cubes that are moved by random actions.

    A share of the actions picks a cube, a share puts it where another one lies, the rest points anywhere. Factors:
    `x`, `y`, `z` middle, `pose` place and quaternion, `color` linear RGB, `visibility` 1 for every cube.

    Args:
        split: "train", "val" or "test".
        count: clips in this split; None for 10 000 (train) or 200 (val, test).
        seed: of the stream.
        image_size: side of the picture in pixels.
        frames: T, frames of a clip.
        cubes: N, 1 to 6.
        pick: share of the actions that pick a cube.
        stack: share of these that put it onto another one.
    """

    chunk = 128

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        image_size: int = 64,
        frames: int = 5,
        cubes: int = 3,
        pick: float = 0.85,
        stack: float = 0.4,
    ) -> None:
        if not 1 <= cubes <= len(COLORS):
            raise ValueError(f"cubes={cubes}; there are 1 to {len(COLORS)}")
        if frames < 1 or image_size < 16:
            raise ValueError(f"frames={frames}, image_size={image_size}; at least 1 frame and 16 pixels are needed")
        if not (0 <= pick <= 1 and 0 <= stack <= 1):
            raise ValueError(f"pick={pick}, stack={stack}; shares are between 0 and 1")
        super().__init__(split=split, count=count, seed=seed, published=COUNTS)
        self.image_size, self.frames, self.cubes, self.pick, self.stack = image_size, frames, cubes, pick, stack
        self.spec = Spec(
            name="block_stacking",
            image_size=(image_size, image_size),
            splits={**COUNTS, split: self.count},
            fields={
                "image": f"({frames}, 3, {image_size}, {image_size}) uint8 RGB",
                "segments": f"({frames}, {image_size}, {image_size}) int8: 0 table, 1..{cubes} cubes",
                "present": f"({frames}, {cubes}) bool: has a visible pixel",
                "factors": f"x, y, z, visibility ({frames}, {cubes}); pose ({frames}, {cubes}, 7) place and "
                f"quaternion; color ({frames}, {cubes}, 3) linear RGB",
                "actions": f"({frames}, 4) float32 pick x, pick y, place x, place y in -1..1 of the table's reach; "
                "action t leads to frame t + 1",
            },
            max_objects=cubes,
            frames=frames,
            actions=ACTION_SIZE,
            license="Apache-2.0",
            source="objectscape's own generator, after OP3's pick and place",
        )

    @property
    def simulator(self) -> BlockSimulator:
        """The world itself as a model that predicts."""
        return BlockSimulator(Cubes(self.cubes))

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """See `SyntheticScenes.draw`; the physics runs here."""
        dice = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        world = Cubes(self.cubes)
        poses = np.zeros((n, self.frames, self.cubes, 7))
        actions = np.zeros((n, self.frames, ACTION_SIZE))
        for clip in range(n):
            state = world.scatter(dice)
            for t in range(self.frames):
                poses[clip, t] = state
                actions[clip, t] = self._action(state, dice)
                if t + 1 < self.frames:
                    state = world.move(state, actions[clip, t])
        colors = torch.rand(n, len(COLORS), generator=generator).argsort(1)[:, : self.cubes]
        return {
            "pose": torch.from_numpy(poses).float(),
            "actions": torch.from_numpy(actions / REACH).float(),
            "color": COLORS[colors],
        }

    def _action(self, state: np.ndarray, dice: np.random.Generator) -> np.ndarray:
        action = dice.uniform(-REACH, REACH, ACTION_SIZE)
        if dice.random() < self.pick:
            cube = dice.integers(self.cubes)
            action[:2] = state[cube, :2] + dice.uniform(-0.2, 0.2, 2)
            if self.cubes > 1 and dice.random() < self.stack:
                other = dice.choice(np.delete(np.arange(self.cubes), cube))
                action[2:] = state[other, :2] + dice.uniform(-0.1, 0.1, 2)
        return action

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Scene:
        """See `SyntheticScenes.paint`."""
        pose, color = draws["pose"], draws["color"][:, None].expand(-1, draws["pose"].shape[1], -1, -1)
        image, segments = picture(pose.flatten(0, 1).to(device), color.flatten(0, 1).to(device), self.image_size)
        return seen(pose.to(device), color.to(device), image, segments, draws["actions"].to(device))


def seen(pose: Tensor, color: Tensor, image: Tensor, segments: Tensor, actions: Tensor | None) -> Scene:
    """Clips of states (B, T, N, 7), whose pictures are (B*T, ...)."""
    frames, cubes = pose.shape[1:3]
    number = torch.arange(1, cubes + 1, device=segments.device)
    present = (segments.flatten(1)[:, None] == number[:, None]).any(-1).unflatten(0, (-1, frames))
    return Scene(
        image=image.unflatten(0, (-1, frames)),
        segments=segments.unflatten(0, (-1, frames)),
        present=present,
        factors={
            "x": pose[..., 0],
            "y": pose[..., 1],
            "z": pose[..., 2],
            "pose": pose,
            "color": color,
            "visibility": torch.ones_like(pose[..., 0]),
        },
        actions=actions,
    )


class BlockSimulator:
    """The world of cubes, started from the true state of a clip's last frame.

    Args:
        world: the physics, for as many cubes as the clips have.
        antialias: samples per pixel along each axis.
    """

    hints = ("factors",)  # ground truth that it is told

    def __init__(self, world: Cubes, *, antialias: int = 2) -> None:
        self.world, self.antialias = world, antialias

    def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Decomposition:
        """Futures (B, S, T, ...) of clips with factors; slot 0 is the table. `actions` as models take them.

        Raises:
            ValueError: without the factors of cubes, or without actions.
        """
        factors = context.factors
        if factors is None or "pose" not in factors:
            raise ValueError("the simulator starts from the true state, but these clips have no factor `pose`")
        if actions is None:
            raise ValueError(f"cubes are moved by actions (B, {steps}, {ACTION_SIZE}); give them")
        actions = actions if actions.ndim == 4 else actions[:, None].expand(-1, samples, -1, -1)
        start, told = factors["pose"][:, -1].cpu().double().numpy(), actions.cpu().double().numpy() * REACH
        poses = np.zeros((*told.shape[:3], *start.shape[1:]))
        for clip, futures in enumerate(told):  # MuJoCo moves one world at a time
            for sample, plan in enumerate(futures):
                state = start[clip]
                for t, action in enumerate(plan):
                    state = poses[clip, sample, t] = self.world.move(state, action)
        found = torch.from_numpy(poses).float()
        color = factors["color"][:, -1].cpu()
        size = context.image.shape[-1]
        shown = color[:, None, None].expand(*found.shape[:3], -1, -1).flatten(0, 2)
        image, segments = picture(found.flatten(0, 2), shown, size, antialias=self.antialias)
        masks = torch.nn.functional.one_hot(segments.long(), found.shape[3] + 1).movedim(-1, 1).unsqueeze(2).float()
        pixels = image.float() / 255
        lead = found.shape[:3]
        place = torch.cat([torch.zeros_like(found[..., :1, :3]), found[..., :3]], -2)
        return Decomposition(
            recon=pixels.unflatten(0, lead),
            masks=masks.unflatten(0, lead),
            components=pixels[:, None].expand(-1, masks.shape[1], -1, -1, -1).unflatten(0, lead),
            slots=place,
        )


def _rotations(quaternion: Tensor) -> Tensor:
    """(..., 4) w x y z -> (..., 3, 3)."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _lights(batch: int) -> Lights:
    return Lights(position=torch.tensor([[-2.0, -3.0, 5.0]]).expand(batch, 1, 3), color=0.55)
