"""What tab shows: the public names of every package, all of which exist, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest
import torch
from hydra.utils import instantiate

import objectscape
from objectscape.cli.config import load, options
from objectscape.contract import Model
from objectscape.data.dataset import SceneDataset


def test_the_library_shows_what_it_offers_and_nothing_else() -> None:
    assert set(dir(objectscape)) == {*objectscape.__all__, "data", "metrics", "models", "viz"}
    assert all(getattr(objectscape, name) is not None for name in dir(objectscape))


@pytest.mark.parametrize("package", ["models", "data", "metrics"])
def test_every_name_that_is_shown_exists(package: str) -> None:
    module = importlib.import_module(f"objectscape.{package}")
    assert len(dir(module)) > 20
    for name in dir(module):
        assert getattr(module, name).__name__ == name
    wrong = dir(module)[0][:-1] + "_"
    with pytest.raises(AttributeError, match=f"has no attribute '{wrong}'. Did you mean .*'{dir(module)[0]}'"):
        getattr(module, wrong)


@pytest.mark.parametrize(("group", "base"), [("model", Model), ("data", SceneDataset)])
def test_whatever_a_recipe_names_is_shown(group: str, base: type) -> None:
    module = getattr(objectscape, {"model": "models"}.get(group, group))
    for name in options(group):
        path = load([f"{group}={name}"])[group]._target_
        home, _, target = path.rpartition(".")
        found = getattr(importlib.import_module(home), target)
        if inspect.isclass(found) and issubclass(found, base):
            assert getattr(module, target) is found


def test_packages_import_nothing_before_it_is_asked_for() -> None:
    code = "import sys, objectscape.models, objectscape.data, objectscape.metrics; dir(objectscape.models); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert objectscape.metrics.psnr(torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)).item() == 0


TAKEN_FROM = {
    "multi_dsprites": "multi_dsprites_colored_on_grayscale",  # the published set of several that it renders
    "tiny_moving_sprites": "moving_sprites",  # the same scenes, smaller and fewer
}


@pytest.mark.parametrize(
    "name", [name for name in options("data") if ".synthetic." in load([f"data={name}"]).data._target_]
)
def test_rendered_data_are_called_as_their_configuration(name: str) -> None:
    """Files, tables and figures carry the name that was typed, so that two data sets never share one."""
    assert instantiate(load([f"data={name}"]).data, split="test").spec.name == TAKEN_FROM.get(name, name)
