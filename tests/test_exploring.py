"""What tab shows: the public names of every package, all of which exist, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys

import pytest
import torch
from hydra.utils import instantiate

import objectscape
from objectscape import signatures
from objectscape.cli.config import RECIPES, load, options
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


def test_what_the_source_of_a_class_says_is_what_the_class_takes() -> None:
    files = [file.read_text() for file in RECIPES.rglob("*.yaml")]
    targets = {target for text in files for target in re.findall(r"_target_: *([\w.]+)", text)}
    light, computed = [], set()  # the modules of the first import nothing slow: the class itself is asked
    for target in sorted({*targets, "lightning.pytorch.Trainer", "torch.optim.SGD", "torch.optim.RAdam"}):
        known = signatures.parameters(target)
        if known is None:
            light.append(target)
            continue
        module, _, name = target.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        takes = list(inspect.signature(inspect.unwrap(found.__init__)).parameters.values())[1:]
        assert list(known) == [parameter.name for parameter in takes]
        for parameter in takes:
            read = known[parameter.name]
            if read.default != parameter.default:
                computed.add((parameter.name, read.default))
            if target.startswith("objectscape"):
                assert str(read.annotation) == str(parameter.annotation)
    assert all(target.startswith(("objectscape.training.schedules", "lightning")) for target in light), light
    assert computed == {("motion", None), ("prior_std", None)}
    assert signatures.parameters("objectscape.models.vae.Nothing") is None
    assert signatures.parameters("no_such_package.models.Nothing") is None


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
