"""Real Tetrominoes scenes: painted from their published factors they must be the published pixels and masks."""

from __future__ import annotations

import numpy as np
import torch

from objectscape.data.synthetic.tetrominoes import Tetrominoes
from tests.parity.case import Case


def run_real_scenes(case: Case) -> None:
    real = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    assert set(real) == set(case.info["arrays"]) == {"image", "mask", "x", "y", "shape", "color", "visibility"}
    pieces = {
        name: real[name][:, 1:] for name in ("x", "y", "shape", "color", "visibility")
    }  # entity 0 is the background
    scene = Tetrominoes().paint(
        {
            "shape": pieces["shape"].long(),
            "row": pieces["x"].long(),
            "column": pieces["y"].long(),
            "color": pieces["color"].to(torch.uint8),
        }
    )
    entities = torch.arange(real["mask"].shape[1])[:, None, None]
    masks = (scene.segments.unsqueeze(1) == entities) * 255  # (B, 4, 35, 35)
    np.testing.assert_array_equal(scene.image.permute(0, 2, 3, 1).numpy(), real["image"].numpy())
    np.testing.assert_array_equal(masks.numpy(), real["mask"].numpy())
    for name, values in pieces.items():
        np.testing.assert_array_equal(scene.factors[name].numpy(), values.numpy(), err_msg=name)


KINDS = {"emorl/real_scenes": run_real_scenes}
