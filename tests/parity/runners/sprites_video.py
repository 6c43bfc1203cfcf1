"""Spriteworld's select-and-move world, as the author of SSWM used it."""

from __future__ import annotations

import numpy as np

from objectscape.data.synthetic.select_move import SelectMove, vertices
from tests.parity.case import Case


def run(case: Case) -> None:
    inputs, names = case.group("inputs"), case.config["shapes"]
    world = SelectMove(
        places=np.stack([inputs["x"], inputs["y"]], 1),
        shapes=tuple(names[i] for i in inputs["shape"]),
        scales=inputs["scale"],
        colors=inputs["hsv"],
        background=int(inputs["background"]),
    )
    frames, places, hits = [world.picture(case.config["image"])], [world.places], []
    for action, noise in zip(inputs["actions"], inputs["noise"], strict=True):
        hits.append(world.selected((action + noise)[:2]))
        world = world.step(action, noise)
        frames.append(world.picture(case.config["image"]))
        places.append(world.places)
    case.compare("positions", np.stack(places), rtol=0, atol=1e-9)
    case.compare("hit", np.array(hits))
    for shape in names:
        case.compare(f"vertices_{shape}", vertices(shape, 0.2), rtol=0, atol=1e-9)
    expected = case.group("outputs")["frames"].astype(int)
    differ = np.abs(np.stack(frames).astype(int) - expected)
    assert differ.max() <= 1
    assert (differ > 0).mean() <= 0.01
    case.compared.add("frames")
    case.finish()


KINDS = {"sprites_video/select_move": run}
