"""Agents that Stable-Baselines3 trained on frames, as players for the recorder: `agent=ppo:model.zip`."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from objectscape.data.formats.opening import existing_file
from objectscape.names import unknown

if TYPE_CHECKING:
    import gymnasium

    from objectscape.data.atari.record import Agent, AgentMaker

ALGORITHMS = {"ppo": "PPO", "a2c": "A2C", "dqn": "DQN"}
SIDE, HISTORY = 84, 4
EXPLORING = 0.05
"""Share of the steps with a random action, as the agents of the original recordings took."""


def saved_agent(path: str | os.PathLike[str], algorithm: str = "ppo") -> AgentMaker:
    """The maker of an agent from a file of Stable-Baselines3, trained as usual for Atari: four gray frames of 84 x 84.

    Only the weights are read, as tensors; what else such a file holds (pickled Python) is not.

    Args:
        path: the zip file.
        algorithm: "ppo", "a2c" or "dqn".

    Raises:
        ValueError: unknown algorithm, or weights of another network.
        FileNotFoundError: no such file.
        ModuleNotFoundError: without Stable-Baselines3.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(unknown("algorithm", algorithm, ALGORITHMS))
    file = existing_file(path, "an agent that Stable-Baselines3 saved")
    try:
        import stable_baselines3
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{file} needs Stable-Baselines3: pip install stable-baselines3") from error
    import gymnasium

    class Frames(gymnasium.Env[np.ndarray, Any]):
        """Says which observations and actions the network has."""

        observation_space = gymnasium.spaces.Box(0, 255, (SIDE, SIDE, HISTORY), np.uint8)

        def __init__(self, actions: gymnasium.Space[Any]) -> None:
            self.action_space = actions

    def make(env: gymnasium.Env[Any, Any]) -> Agent:
        options = {"buffer_size": 1} if algorithm == "dqn" else {}
        learner = getattr(stable_baselines3, ALGORITHMS[algorithm])
        model = learner("CnnPolicy", Frames(env.action_space), device="cpu", **options)
        try:
            model.set_parameters(str(file), device="cpu")
        except (ValueError, RuntimeError, KeyError) as error:
            raise ValueError(
                f"{file} does not hold the weights of {ALGORITHMS[algorithm]} on {HISTORY} gray frames of {SIDE} x "
                f"{SIDE} with {env.action_space}: {str(error).splitlines()[0]}"
            ) from error
        history: deque[np.ndarray] = deque(maxlen=HISTORY)

        def act(frame: np.ndarray, rng: np.random.Generator) -> int:
            small = Image.fromarray(frame).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
            history.append(np.asarray(small))
            while len(history) < HISTORY:
                history.append(history[-1])
            if rng.random() < EXPLORING:
                return int(rng.integers(env.action_space.n))  # type: ignore[attr-defined]
            action, _ = model.predict(np.stack(history, -1), deterministic=True)
            return int(action)

        return act

    return make
