"""Every model meets every rendered data set: two training steps each, without a line of code for the pair."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from objectscape.building import find_class
from objectscape.check import check_fit
from objectscape.cli.config import arguments, load, options
from objectscape.contract import Scheduled
from objectscape.data.building import build_data
from objectscape.data.dataset import SceneDataset
from objectscape.data.synthetic.base import SyntheticScenes
from objectscape.scene import Scene
from tests.test_contract import SMALL, small

SIZE = 32
TARGETS = {load([f"data={name}"]).data._target_: name for name in reversed(options("data"))}  # one name per class
RENDERED = sorted(
    name
    for target, name in TARGETS.items()
    if "count" in arguments(target, "data") and issubclass(find_class(target, "data"), SyntheticScenes)
)
NO_SCENES = {"simple_shapes": "it gives several domains, not Scenes alone"}
NEEDS_MORE = {"space_time": "a map of motion, which is made from recorded frames"}
"""Models that need an input which no rendered data set has."""


@cache
def data(name: str) -> SceneDataset:
    return build_data(load([f"data={name}", f"data.image_size={SIZE}", "data.count=2"]).data, "train")


@cache
def batch(name: str) -> Scene:
    scene = data(name).batch([0, 1]).inputs()
    return replace(scene, image=scene.pixels)


def test_the_rendered_data_sets_are_there() -> None:
    assert {"tetrominoes", "multi_dsprites", "colored_shapes", "clevr_like", "shapestacks_like"} <= set(RENDERED)
    assert set(NEEDS_MORE) <= set(SMALL)
    assert set(NO_SCENES) <= set(RENDERED)


@pytest.mark.parametrize("name", [name for name in RENDERED if name not in NO_SCENES])
@pytest.mark.parametrize("model_name", [name for name in SMALL if name not in NEEDS_MORE])
def test_every_model_takes_every_rendered_data_set(model_name: str, name: str) -> None:
    model = small(model_name).train()
    check_fit(model, data(name))
    scene = batch(name)
    if scene.image.ndim == 5 and not getattr(model, "reads_clips", False):
        scene = scene.fold_time()[:2]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for step in range(2):
        if isinstance(model, Scheduled):
            model.set_step(step)
        losses = model.loss(scene, model(scene), step)  # type: ignore[operator]
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        assert losses.total.isfinite()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
