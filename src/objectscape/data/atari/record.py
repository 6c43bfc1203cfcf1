"""Recording stacks of frames of Atari games, or of any Gymnasium environment, with a seed, an agent and the objects.

The original data sets of SPACE-Time play a game in steps of four emulated frames and keep the last four of every twenty
consecutive steps of one life as a stack. So does this, by default. Two things are explicit and written into the file,
because the emulator's own defaults differ: the frame skip and the sticky actions.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from objectscape.building import check_target
from objectscape.data.atari import games
from objectscape.data.atari.labels import GAMES, Game
from objectscape.data.atari.saved_agent import saved_agent
from objectscape.data.dataset import SPLITS, SceneDataset
from objectscape.names import unknown
from objectscape.scene import Scene, Spec
from objectscape.seeding import derive_seed

if TYPE_CHECKING:
    import gymnasium

COUNTS = {"train": 2048, "val": 128, "test": 128}
AGENTS = ("random", "held")
LONGEST_HOLD = 7  # steps
STEPS_PER_STILL = 100  # on average, between independent frames
PATIENCE = 100_000  # steps without a single stack
LABELLED_AT_ONCE = 256  # frames
NAMES = {name.lower(): name for name in GAMES}

Agent = Callable[[np.ndarray, np.random.Generator], Any]
"""(frame (H, W, 3) uint8, generator) -> action."""
AgentMaker = Callable[["gymnasium.Env[Any, Any]"], Agent]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Consecutive frames of one life."""

    frames: np.ndarray
    """(T, H, W, 3) uint8"""
    shown: np.ndarray
    """(T, 2, H, W, 3) uint8: the last two emulated frames, of which each is the maximum; otherwise (T, 1, H, W, 3)."""
    memory: np.ndarray | None
    """(T, 128) uint8, of an Atari game."""
    actions: np.ndarray | None
    """(T, A) float32: entry t led to frame t; one of A choices is 1."""


class AtariRecording(SceneDataset):
    """Stacks of a game, played as they are asked for. The same arguments give the same stacks.

    Stacks are made in order, so reading them in another order plays from the start again: write them to a file first
    (`objectscape data make atari game=Pong path=pong.h5`).

    Args:
        game: of Atari, such as "Pong", or the id of any Gymnasium environment that renders RGB frames.
        split: "train", "val" or "test": independent streams.
        count: stacks; None for 2048 of train, 128 of val and test.
        seed: of the emulator and the agent.
        frames: T of a stack; 1 gives still images.
        every: steps of one life from stack to stack, of which the last `frames` are kept.
        independent: still images at random times, 100 steps apart on average.
        agent: "random", "held" (random actions, each for 1 to 7 steps), "ppo:FILE.zip" (or a2c, dqn: a network that
            Stable-Baselines3 saved), the import path of a function that takes the environment and returns an agent, or
            such a function. An agent maps a frame and a generator to an action.
        frame_skip: emulated frames per step; the action is repeated.
        sticky: probability that the emulator repeats the previous action instead.
        two_frame_maximum: a frame is the maximum of the last two emulated ones: shows what flickers.
        warm_up: steps after every reset that are played but not recorded.
        labels: the game's table, a `Game` or its import path; None for ours, where there is one.

    Raises:
        ValueError: unknown game, split or agent, or numbers that make no sense.
        ModuleNotFoundError: without Gymnasium and the emulator.
        FileNotFoundError: the emulator does not have the game's ROM.
    """

    def __init__(
        self,
        *,
        game: str,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        frames: int = 4,
        every: int = 20,
        independent: bool = False,
        agent: str | AgentMaker = "random",
        frame_skip: int = 4,
        sticky: float = 0.0,
        two_frame_maximum: bool = False,
        warm_up: int = 50,
        labels: str | Game | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(unknown("split", split, SPLITS))
        for name, value in {"frames": frames, "frame_skip": frame_skip, "count": 1 if count is None else count}.items():
            if value < 1:
                raise ValueError(f"{name}={value}; expected at least 1")
        if not 0 <= sticky < 1:
            raise ValueError(f"sticky={sticky}; expected a probability below 1")
        if independent and frames != 1:
            raise ValueError(f"independent=true gives still images; say frames=1 as well (now frames={frames})")
        self.split, self.count, self.seed = split, COUNTS[split] if count is None else count, seed
        self.frames, self.every, self.independent = frames, max(every, frames), independent
        self.frame_skip, self.sticky, self.two_frame_maximum = frame_skip, sticky, two_frame_maximum
        self.warm_up = warm_up
        self.environment = environment_id(game)
        self._maker = find_agent(agent)
        self.env = make_environment(self.environment, frame_skip=1 if two_frame_maximum else frame_skip, sticky=sticky)
        self.game = find_table(game, labels)
        self._play: Iterator[Stack] | None = None
        self._next = 0
        height, width = first_frame(self.env).shape[:2]
        self.spec = self._describe(game, agent, (height, width))

    def _describe(self, game: str, agent: str | AgentMaker, size: tuple[int, int]) -> Spec:
        time, (height, width) = f"{self.frames}, " if self.frames > 1 else "", size
        fields = {"image": f"({time}3, {height}, {width}) uint8 RGB, as the game draws it"}
        if (width_of := action_width(self.env)) is not None:
            fields["actions"] = f"({time}{width_of}) float32: entry t led to frame t"
        if self.game is not None:
            fields |= {
                "boxes": f"({time}N, 4) float32 pixels x0 y0 x1 y1, from the console's memory",
                "present": f"({time}N) bool: the memory says that the object is there",
                "labels": f"({time}N) int64, classes: {', '.join(self.game.classes)}",
                "factors": "hud, moving (of the class); visible: the pixels show it; tight: box of its pixels",
            }
        packages = ("gymnasium", "ale-py") if self.environment.startswith("ALE/") else ("gymnasium",)
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
        who = agent if isinstance(agent, str) else getattr(agent, "__qualname__", type(agent).__qualname__)
        how = "independent frames" if self.independent else f"every {self.every} steps of one life"
        return Spec(
            name=f"atari/{self.game.name}" if self.game is not None else self.environment,
            image_size=size,
            splits=dict(COUNTS),
            fields=fields,
            frames=self.frames if self.frames > 1 else None,
            actions=action_width(self.env),
            max_objects=self.game.locate(np.zeros((1, 128), np.uint8), size)[2].size if self.game is not None else None,
            source=f"{self.environment} ({versions})",
            notes=f"agent {who}, {how}, frame skip {self.frame_skip}, sticky actions {self.sticky}, "
            f"maximum of two frames: {'yes' if self.two_frame_maximum else 'no'}, warm-up {self.warm_up} steps. "
            "Frames show a copyrighted game: make them yourself instead of passing them on.",
        )

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int]) -> Scene:
        """See `SceneDataset.batch`."""
        stacks = {index: self._stack(index) for index in sorted(set(indices))}
        return self._scene([stacks[index] for index in indices])

    def _stack(self, index: int) -> Stack:
        if self._play is None or index < self._next:
            self._play, self._next = self.play(), 0
        while True:
            stack, self._next = next(self._play), self._next + 1
            if self._next == index + 1:
                return stack

    def play(self) -> Iterator[Stack]:
        """The stacks from the first one on, for ever."""
        seed = derive_seed(self.seed, self.split) % 2**31
        rng = np.random.default_rng(seed)
        agent = self._maker(self.env)
        frame = self._reset(agent, rng, seed)
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]] = []
        lives, idle, wait = None, 0, self._wait(rng)
        while True:
            action = agent(frame, rng)
            shown, over, now = self._step(action)
            frame = shown.max(0)
            if over or (lives is not None and now < lives):
                kept.clear()
            lives = now
            if over:
                frame, lives = self._reset(agent, rng), None
                continue
            idle += 1
            if idle > PATIENCE:
                raise ValueError(
                    f"{self.environment} gave no {self.every} steps of one life in {PATIENCE} steps; lower every="
                )
            if not frame.any():  # the screen is black between two screens of a game
                kept.clear()
                continue
            kept.append((frame, shown, memory(self.env), one_hot(self.env, action)))
            if len(kept) < wait:
                continue
            images, shows, memories, actions = zip(*kept[-self.frames :], strict=True)
            yield Stack(
                frames=np.stack(images),
                shown=np.stack(shows),
                memory=None if memories[0] is None else np.stack(memories),
                actions=None if actions[0] is None else np.stack(actions),
            )
            kept.clear()
            idle, wait = 0, self._wait(rng)

    def _wait(self, rng: np.random.Generator) -> int:
        return int(rng.geometric(1 / STEPS_PER_STILL)) if self.independent else self.every

    def _reset(self, agent: Agent, rng: np.random.Generator, seed: int | None = None) -> np.ndarray:
        frame = first_frame(self.env, seed)
        for _ in range(self.warm_up):
            shown, over, _ = self._step(agent(frame, rng))
            frame = first_frame(self.env) if over else shown.max(0)
        return frame

    def _step(self, action: Any) -> tuple[np.ndarray, bool, int]:
        """The frame as it was shown (1 or 2, H, W, 3), whether the episode is over, and the lives that are left."""
        repeats = self.frame_skip if self.two_frame_maximum or not self.environment.startswith("ALE/") else 1
        shown: list[np.ndarray] = []
        for repeat in range(repeats):
            observation, _, terminated, truncated, info = self.env.step(action)
            over = bool(terminated or truncated)
            if over or repeat >= repeats - 1 - self.two_frame_maximum:
                shown.append(picture(self.env, observation))
            if over:
                break
        if self.two_frame_maximum and len(shown) == 1:
            shown *= 2
        return np.stack(shown[::-1]), over, int(info.get("lives", 0))  # the last one first

    def _scene(self, stacks: list[Stack]) -> Scene:
        frames = np.stack([stack.frames for stack in stacks])  # B, T, H, W, 3
        fields: dict[str, Any] = {"image": torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 1, 4, 2, 3)))}
        if stacks[0].actions is not None:
            fields["actions"] = torch.from_numpy(np.stack([stack.actions for stack in stacks]))  # type: ignore[misc]
        if self.game is not None and stacks[0].memory is not None:
            shown = np.stack([stack.shown for stack in stacks])
            fields |= self._truth(np.stack([stack.memory for stack in stacks]), shown)  # type: ignore[misc]
        scene = Scene(**fields)
        return scene.map(lambda t: t.squeeze(1)) if self.frames == 1 else scene

    def _truth(self, memories: np.ndarray, shown: np.ndarray) -> dict[str, Any]:
        assert self.game is not None
        lead = shown.shape[:2]
        flat, codes = shown.reshape(-1, *shown.shape[2:]), memories.reshape(-1, memories.shape[-1])
        parts = []
        for start in range(0, len(flat), LABELLED_AT_ONCE):
            piece = flat[start : start + LABELLED_AT_ONCE]
            before = piece[:, 1] if self.two_frame_maximum else None
            parts.append(self.game.objects(codes[start : start + LABELLED_AT_ONCE], piece[:, 0], before))

        def join(name: str) -> torch.Tensor:
            return torch.from_numpy(np.concatenate([getattr(part, name) for part in parts])).unflatten(0, lead)

        labels = parts[0].labels
        kinds = [self.game.kinds[label] for label in labels]
        present = join("present")

        def of_class(values: list[bool]) -> torch.Tensor:
            return torch.tensor(values).expand(present.shape) & present

        return {
            "boxes": join("boxes"),
            "present": present,
            "labels": torch.from_numpy(labels).expand(present.shape).clone(),
            "factors": {
                "hud": of_class([kind.hud for kind in kinds]),
                "moving": of_class([kind.moving for kind in kinds]),
                "visible": join("visible"),
                "tight": join("tight"),
            },
        }


# ---------------------------------------------------------------------------------------------------- environments
def environment_id(game: str) -> str:
    """The Gymnasium id of a game: "Pong" and "pong" are ALE/Pong-v5; an id is itself."""
    if "/" in game or "-" in game:
        return game
    return f"ALE/{NAMES.get(game.lower(), game)}-v5"


def find_table(game: str, labels: str | Game | None) -> Game | None:
    """The table of a game: ours, or the one that `labels` is or names by its import path; None if there is none."""
    if isinstance(labels, Game):
        return labels
    if labels is not None:
        found = import_path(labels, "labels")
        if not isinstance(found, Game):
            raise ValueError(f"labels={labels} is a {type(found).__name__}; expected a game made with @game(...)")
        return found
    name = environment_id(game).removeprefix("ALE/").partition("-")[0]
    return GAMES.get(name)


def make_environment(name: str, *, frame_skip: int, sticky: float) -> gymnasium.Env[Any, Any]:
    """A Gymnasium environment that gives RGB frames.

    Raises:
        ModuleNotFoundError, FileNotFoundError, ValueError: see `AtariRecording`.
    """
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("playing needs Gymnasium: pip install 'objectscape[atari]'") from error
    if not name.startswith("ALE/"):
        try:
            return gymnasium.make(name, render_mode="rgb_array")
        except gymnasium.error.UnregisteredEnv as error:
            raise ValueError(f"game={name}: {unknown('environment', name, gymnasium.registry)}") from error
    try:
        import ale_py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Atari games need their emulator: pip install 'objectscape[atari]'") from error
    gymnasium.register_envs(ale_py)
    known = {key.removeprefix("ALE/").removesuffix("-v5") for key in gymnasium.registry if key.startswith("ALE/")}
    if name not in gymnasium.registry:
        raise ValueError(unknown("Atari game", name.removeprefix("ALE/").removesuffix("-v5"), known))
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
    try:
        return gymnasium.make(
            name, frameskip=frame_skip, repeat_action_probability=sticky, full_action_space=False, obs_type="rgb"
        )
    except (OSError, gymnasium.error.Error) as error:
        raise FileNotFoundError(
            f"the ROM of {name} is not there ({error}); ale-py brings 108 games: pip install --force-reinstall ale-py"
        ) from error


def first_frame(env: gymnasium.Env[Any, Any], seed: int | None = None) -> np.ndarray:
    """(H, W, 3) uint8 after a reset."""
    observation, _ = env.reset(seed=seed)
    return picture(env, observation)


def picture(env: gymnasium.Env[Any, Any], observation: Any) -> np.ndarray:
    """(H, W, 3) uint8: the observation if it is an image, otherwise what the environment renders."""
    if isinstance(observation, np.ndarray) and observation.ndim == 3 and observation.dtype == np.uint8:
        return observation
    from gymnasium.error import DependencyNotInstalled

    try:
        rendered = env.render()
    except DependencyNotInstalled as error:
        raise ModuleNotFoundError(str(error)) from error
    if not isinstance(rendered, np.ndarray):
        raise ValueError(f"{env.spec.id if env.spec else env} renders no RGB frames")
    return rendered


def memory(env: gymnasium.Env[Any, Any]) -> np.ndarray | None:
    """(128,) uint8 the console's memory; None if it is no Atari game."""
    console = getattr(env.unwrapped, "ale", None)
    return None if console is None else console.getRAM()


def action_width(env: gymnasium.Env[Any, Any]) -> int | None:
    """Width A of recorded actions; None where they are neither choices nor one vector."""
    space = env.action_space
    if hasattr(space, "n"):
        return int(space.n)
    return int(space.shape[0]) if space.shape is not None and len(space.shape) == 1 else None


def one_hot(env: gymnasium.Env[Any, Any], action: Any) -> np.ndarray | None:
    """(A,) float32 of an action."""
    width = action_width(env)
    if width is None:
        return None
    if hasattr(env.action_space, "n"):
        return np.eye(width, dtype=np.float32)[int(action)]
    return np.asarray(action, np.float32)


# ---------------------------------------------------------------------------------------------------------- agents
def random_agent(env: gymnasium.Env[Any, Any]) -> Agent:
    """Every step a random action."""
    space = env.action_space

    def act(frame: np.ndarray, rng: np.random.Generator) -> Any:
        if hasattr(space, "n"):
            return int(rng.integers(space.n))
        return (space.low + (space.high - space.low) * rng.random(space.shape)).astype(space.dtype)  # type: ignore[attr-defined]

    return act


def held_agent(env: gymnasium.Env[Any, Any]) -> Agent:
    """Random actions, each held for 1 to 7 steps: paddles travel, so balls are hit more often."""
    choose = random_agent(env)
    current: list[Any] = [None, 0]

    def act(frame: np.ndarray, rng: np.random.Generator) -> Any:
        if current[1] == 0:
            current[:] = [choose(frame, rng), int(rng.integers(1, LONGEST_HOLD + 1))]
        current[1] -= 1
        return current[0]

    return act


def find_agent(agent: str | AgentMaker) -> AgentMaker:
    """The function that makes the agent for an environment.

    Raises:
        ValueError: unknown agent.
    """
    if callable(agent):
        return agent
    if agent in AGENTS:
        return {"random": random_agent, "held": held_agent}[agent]
    algorithm, colon, file = agent.partition(":")
    if colon:
        return saved_agent(file, algorithm)
    if "." not in agent:
        raise ValueError(f"{unknown('agent', agent, AGENTS)} Or the import path of your own function.")
    found = import_path(agent, "agent")
    if not callable(found):
        raise ValueError(f"agent={agent} is a {type(found).__name__}; expected a function that takes the environment")
    return found


def import_path(path: str, option: str) -> Any:
    """What an import path names, in a module that the user trusts; ValueError if there is nothing."""
    if not check_target(path, "data", key=option) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{option}={path}: {error}") from error


__all__ = ["AtariRecording", "Stack", "games", "make_environment"]
