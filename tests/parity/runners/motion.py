"""Motion maps, boxes and targets of the original SPACE-Time data generator."""

from __future__ import annotations

import importlib.util

import numpy as np

from objectscape.data.atari import motion
from tests.parity.case import Case


def processing(case: Case) -> None:
    """Every step of the published procedure, and all of them through `Motion`."""
    inputs = case.group("inputs")
    frames, root, clip = inputs["frames"], inputs["root"], inputs["clip"]
    size, grid = frames.shape[1:3], case.config["G"]
    maps = motion.difference(frames, root)
    plain = motion.Motion(closing=True, holes=True)
    filtered = motion.Motion(closing=True, holes=True, color_filter=True)
    for i, frame in enumerate(frames):
        case.compare(f"motion/{i}", maps[i])
        mask = motion.closed(maps[i] > maps[i].mean())
        case.compare(f"closed/{i}", mask)
        boxes = motion.region_boxes(mask, holes=True)
        case.compare(f"contour_boxes/{i}", boxes[np.lexsort(boxes.T[::-1])])
        case.compare(f"motion128/{i}", nearest(maps[i], 128))
        for name, how in (("plain", plain), ("hist", filtered)):
            _, found = how(frame[None], root)
            present, where = motion.grid_targets(found[0], size, grid)
            case.compare(f"{name}/{i}/z_pres", present)
            case.compare(f"{name}/{i}/z_where", where)
    case.compare("stack_mask_2345", motion.stack_mask(np.stack([nearest(m, 128) for m in maps[2:6]])))
    codes, counts = np.unique(motion._code(root), return_counts=True)
    case.compare("color_hist_codes", codes)
    case.compare("color_hist_counts", counts)
    case.compare("median_trail/delta4", motion.difference(frames[4:5], motion.median_image(frames[:2]))[0])
    case.compare("clip_trail_mode", motion.trail_mode_image(clip[:-4]))
    case.compare("clip_root_median", motion.median_image(clip[:-1]))
    case.compare("clip_root_mode", motion.mode_image(clip[:-1]))
    skipped = [key for key in case.group("outputs") if key.startswith("flow/")]
    if importlib.util.find_spec("cv2"):
        length = motion.flow(frames[2:3], frames[1:2])[0]
        case.compare("flow/magnitude_sub", length[::3, ::3], rtol=0.1, atol=0.02)
        skipped = ["flow/z_pres", "flow/z_where"]  # a threshold on numbers that differ with OpenCV's version
    case.finish(ignore=tuple(skipped))


def nearest(image: np.ndarray, side: int) -> np.ndarray:
    rows, columns = (np.arange(side) * n // side for n in image.shape)
    return image[rows[:, None], columns]


KINDS = {"space_time/motion_processing": processing}
