"""Thirty lines that play Pong on a list of objects, whoever made the list.

python examples/pong_controller.py                  # random actions, motion boxes and the console's memory
python examples/pong_controller.py runs/my_model    # and a trained model (a run, a saved model, a Hub id)
"""

from __future__ import annotations

import sys
import time

import ale_py
import gymnasium
import numpy as np

import objectscape
from objectscape.agents import MotionObjects, ObjectObservation, ObjectTable, RamObjects
from objectscape.data.atari.motion import mode_image

STAY, UP, DOWN = 0, 2, 3
TOP, BOTTOM, PADDLE = 34 / 210, 194 / 210, 140 / 160  # walls, and the column of our paddle
STEPS, SEEDS, STICKY = 1500, (0, 1), 0.1


def controller(objects: np.ndarray) -> int:
    """The action for one table of objects (K, 8): go where the ball will arrive."""
    there = objects[objects[:, 7] > 0]
    x, _, width, height = there[:, :4].T
    right, small = there[x > PADDLE - 0.02], there[(width * height < 0.0009) & (x > 0.13) & (x < PADDLE)]
    if not len(right):
        return STAY
    me = right[(right[:, 2] * right[:, 3]).argmax()]  # the largest thing on the right
    goal = (TOP + BOTTOM) / 2
    if len(small):
        ball = small[(small[:, 2] * small[:, 3]).argmin()]
        goal = ball[1]
        if ball[4] > 0.003:  # on its way to us: extrapolate, reflected by the walls
            reach = ball[1] - TOP + ball[5] * (PADDLE - ball[0]) / ball[4]
            folded = reach % (2 * (BOTTOM - TOP))
            goal = TOP + min(folded, 2 * (BOTTOM - TOP) - folded)
    if abs(goal - me[1]) < 0.02:
        return STAY
    return UP if goal < me[1] else DOWN


def background() -> np.ndarray:
    """The empty field, from a hundred frames of random play."""
    env = gymnasium.make("ALE/Pong-v5", frameskip=4)
    env.action_space.seed(0)
    env.reset(seed=0)
    frames = [env.step(env.action_space.sample())[0] for _ in range(1000)][::10]
    return mode_image(np.stack(frames))


def play(name: str, seed: int, detector: object = None) -> None:
    """Print the points won and lost in 1500 steps of four frames."""
    env = gymnasium.make("ALE/Pong-v5", frameskip=4, repeat_action_probability=STICKY)
    source = RamObjects(env) if name == "memory" else detector
    # the region leaves the scores and the walls out
    table = ObjectTable(region=(0, TOP, 1, BOTTOM))
    seen = env if source is None else ObjectObservation(env, source, table=table)
    rng = np.random.default_rng(seed)
    (objects, _), points, begin = seen.reset(seed=seed), [0, 0], time.process_time()
    for _ in range(STEPS):
        action = rng.integers(6) if source is None else controller(objects)
        objects, reward, terminated, truncated, _ = seen.step(action)
        points[0] += reward > 0
        points[1] += reward < 0
        if terminated or truncated:
            objects, _ = seen.reset()
    cost = (time.process_time() - begin) / STEPS * 1000
    print(f"{name:8} seed {seed}: {points[0]} won, {points[1]} lost ({cost:.1f} ms CPU a step)")


if __name__ == "__main__":
    gymnasium.register_envs(ale_py)
    sources = {"random": None, "memory": None, "motion": MotionObjects(background())}
    if len(sys.argv) > 1:
        sources["model"] = objectscape.load(sys.argv[1])
    for name, detector in sources.items():
        for seed in SEEDS:
            play(name, seed, detector)
