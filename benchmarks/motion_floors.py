"""What motion boxes alone score as detections in nine Atari games: the floor that a model has to beat.

    python -m benchmarks.motion_floors [GAME ...]

Held-out stacks against the mode image of the training stacks; objects of the display are no objects, and boxes outside
the field (published filters) do not count. Prints a Markdown table: F at IoU 0.5 and at alignment 0.5 for several kinds
of motion.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from objectscape.data.atari.labels import GAMES
from objectscape.data.atari.motion import Motion
from objectscape.data.atari.record import AtariRecording
from objectscape.data.atari.stacks import AtariStacks
from objectscape.data.formats.hdf5 import write_hdf5
from objectscape.metrics.detection import alignment, box_iou, f_score, hits, relevant

KINDS = {
    "mode": Motion(),
    "mode, closed": Motion(closing=True),
    "mode, changed >= 0.2": Motion(changed=0.2),
    "mode, color filter": Motion(color_filter=True),
    "mode, closed, color filter": Motion(closing=True, color_filter=True),
    "median": Motion(kind="median"),
}
TRAIN, TEST = 256, 90  # stacks of four frames


def floor(path: Path, game: str, motion: Motion) -> tuple[float, float]:
    """F at IoU 0.5 and F at alignment 0.5 of the motion boxes of the file's test split."""
    data = AtariStacks(path=path, split="test", image_size=None, motion=motion)
    scene = data.batch(range(len(data))).fold_time()
    assert scene.boxes is not None
    assert scene.present is not None
    assert scene.factors is not None
    assert scene.motion_boxes is not None
    true, predicted = scene.boxes, scene.motion_boxes
    present = scene.present & ~scene.factors["hud"]
    valid = (predicted != 0).any(-1) & relevant(predicted, game, scene.image.shape[-2])
    scores = []
    for similarity in (box_iou(predicted, true), alignment(predicted, true)):
        hit = hits(similarity, valid, present, [0.5]).sum()
        scores.append(float(f_score(hit / valid.sum().clamp_min(1), hit / present.sum())))
    return scores[0], scores[1]


def main(games: list[str]) -> None:
    """Record each game as it is and as the maximum of two frames, and print the table."""
    print("| game | frames | " + " | ".join(KINDS) + " |\n| --- | --- |" + " --- |" * len(KINDS))
    for game in games:
        for double in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "game.h5"
                splits = {
                    split: AtariRecording(game=game, split=split, count=count, two_frame_maximum=double)
                    for split, count in (("train", TRAIN), ("test", TEST))
                }
                write_hdf5(path, splits)  # type: ignore[arg-type]
                cells = [floor(path, game, motion) for motion in KINDS.values()]
            row = " | ".join(f"{iou:.3f} / {aligned:.3f}" for iou, aligned in cells)
            print(f"| {game} | {'maximum of two' if double else 'single'} | {row} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:] or sorted(GAMES))
