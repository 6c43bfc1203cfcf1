"""Thirty lines that play Pong on a list of objects, whoever made the list.

python pong_controller.py                                       # from memory and from motion, and at random
python pong_controller.py --model runs/space_time --steps 1500 --seeds 0 1       # from what a trained model sees
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import objectscape
from objectscape.agents import MotionObjects, ObjectObservation, ObjectTable, RamObjects
from objectscape.data.atari.motion import mode_image
from objectscape.data.atari.record import make_environment

STAY, UP, DOWN = 0, 2, 3
TOP, BOTTOM, PADDLE = 34 / 210, 194 / 210, 140 / 160  # the walls, and the column of our paddle


def controller(objects: np.ndarray) -> int:
    """The action for a table of objects (K, 8): go where the ball will arrive."""
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
        if ball[4] > 0.003:  # it comes: where will it arrive, reflected by the walls?
            reach = ball[1] - TOP + ball[5] * (PADDLE - ball[0]) / ball[4]
            folded = reach % (2 * (BOTTOM - TOP))
            goal = TOP + min(folded, 2 * (BOTTOM - TOP) - folded)
    if abs(goal - me[1]) < 0.02:
        return STAY
    return UP if goal < me[1] else DOWN


def empty_field() -> np.ndarray:
    """The background, from a hundred frames of random play."""
    env, rng = make_environment("ALE/Pong-v5", frame_skip=4, sticky=0.0), np.random.default_rng(0)
    env.reset(seed=0)
    return mode_image(np.stack([env.step(rng.integers(6))[0] for _ in range(1000)][::10]))


def play(source: str, seed: int, steps: int, detector: Any) -> tuple[np.ndarray, np.ndarray]:
    """Print the points won and lost with sticky actions; the last frame and its objects."""
    env = make_environment("ALE/Pong-v5", frame_skip=4, sticky=0.1)
    table = ObjectTable(region=(0, TOP, 1, BOTTOM))  # without the scores
    seen = ObjectObservation(env, RamObjects(env) if detector is None else detector, table=table)
    rng, begin, won, lost = np.random.default_rng(seed), time.process_time(), 0, 0
    objects, _ = seen.reset(seed=seed)
    for _ in range(steps):
        action = int(rng.integers(6)) if source == "random" else controller(objects)
        objects, reward, terminated, truncated, _ = seen.step(action)
        won, lost = won + (float(reward) > 0), lost + (float(reward) < 0)
        if terminated or truncated:
            objects, _ = seen.reset()
    cost = (time.process_time() - begin) / steps * 1000
    print(f"{source:8} seed {seed}: {won} won, {lost} lost in {steps} steps ({cost:.1f} ms CPU each)")
    return env.unwrapped.ale.getScreenRGB(), objects  # type: ignore[attr-defined]


def main() -> None:
    """Play from every source of objects, and draw the last frame of the last one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="a run, a saved model or a Hub id")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    sources: dict[str, Any] = {"random": None, "memory": None, "motion": MotionObjects(empty_field())}
    if options.model:
        sources["model"] = objectscape.load(options.model)
    for source, detector in sources.items():
        for seed in options.seeds:
            frame, objects = play(source, seed, options.steps, detector)
    image = Image.fromarray(frame).resize((480, 630), Image.Resampling.NEAREST)
    for x, y, width, height, *_, present in objects:
        if present:
            box = [(x - width / 2) * 480, (y - height / 2) * 630, (x + width / 2) * 480, (y + height / 2) * 630]
            ImageDraw.Draw(image).rectangle(box, outline=(255, 255, 0), width=2)
    image.save("pong_objects.png")


if __name__ == "__main__":
    main()
