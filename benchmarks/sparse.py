"""SPACE: forward and backward pass on 128 pixels with 16 x 16 cells, two images, drawing the most present cells only

"theirs" is the same model with the same weights as a straightforward port would compute it: every cell is cut out,
decoded and pasted, by `grid_sample`. The rows "all cells" draw every cell too, so that they differ only in how glimpses
are cut and pasted; there, the two must give the same loss before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import Row, device, in_turns, row
from objectscape.models.space import Space
from objectscape.nn import grid_objects
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene


def _theta(sizes: Tensor, centers: Tensor) -> Tensor:
    """(N, 2), (N, 2) -> (N, 2, 3)"""
    return torch.cat([torch.diag_embed(sizes), centers[..., None]], -1)


def extract(images: Tensor, where: Tensor, size: int, *, align_corners: bool) -> Tensor:
    sizes, centers = where.flatten(0, 1).split(2, -1)
    count = where.shape[1]
    shape = [len(sizes), images.shape[1], size, size]
    grid = F.affine_grid(_theta(sizes, centers), shape, align_corners=align_corners)
    repeated = images.repeat_interleave(count, 0)
    return F.grid_sample(repeated, grid, align_corners=align_corners).unflatten(0, where.shape[:2])


def paste(glimpses: Tensor, where: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    sizes, centers = where.flatten(0, 1).split(2, -1)
    inverse = 1 / (sizes + 1e-9)
    shape = [len(sizes), glimpses.shape[2], *size]
    grid = F.affine_grid(_theta(inverse, -centers * inverse), shape, align_corners=align_corners)
    return F.grid_sample(glimpses.flatten(0, 1), grid, align_corners=align_corners).unflatten(0, where.shape[:2])


@contextmanager
def ported() -> Iterator[None]:
    """Inside, glimpses are cut and pasted by `grid_sample`."""
    with patch.object(grid_objects, "extract", extract), patch.object(grid_objects, "paste", paste):
        yield


def step(model: Space, scene: Scene) -> Tensor:
    model.zero_grad(set_to_none=True)
    loss = model.loss(scene, model(scene), 0).total
    loss.backward()
    return loss.detach()


def port_step(model: Space, scene: Scene) -> Tensor:
    with ported():
        return step(model, scene)


SIZES: dict[str, dict[str, Any]] = {
    "published": {"components": 3},
    "tiny": {
        "components": 1, "glimpse_size": 16, "width": 4, "what_size": 16, "mask_size": 4, "component_size": 8,
        "features": 32, "background_features": 32, "mask_hidden_size": 16, "prior_hidden_size": 16,
        "component_hidden_size": 16,
    },
}  # fmt: skip
"""Published numbers of channels, and those of the recipes that train in minutes."""


def run(*, quick: bool = False) -> list[Row]:
    """Rows for all cells, and for the 16 and 48 most present ones."""
    rows = []
    size, grid, batch = (64, 8, 1) if quick else (128, 16, 2)
    for name, sizes in SIZES.items():
        torch.manual_seed(0)
        options = {"image_size": size, "grid": grid, "boundary_steps": 0, **sizes}
        scene = Scene(image=torch.rand(batch, 3, size, size, device=device()))
        dense = Space(**options).to(device()).train()
        with posterior_means():
            ours, theirs = step(dense, scene), port_step(dense, scene)
        if not torch.allclose(ours, theirs, rtol=1e-3):
            raise AssertionError(
                f"{name}: the loss is {float(ours)} by matrix products, {float(theirs)} by grid_sample"
            )
        works: dict[str, Callable[[], object]] = {"theirs": partial(port_step, dense, scene)}
        works["all cells"] = partial(step, dense, scene)
        for cells in (16, 48):
            works[f"{cells} cells"] = partial(step, Space(**options, cells=cells).to(device()).train(), scene)
        times = in_turns(works, turns=1 if quick else 3)
        theirs_ms = 1000 * times.pop("theirs")
        rows += [row(f"{name} sizes, {cells}", 1000 * t, theirs_ms, "ms") for cells, t in times.items()]
    return rows
