"""From a recipe's `data` to a data set. Commands about data need this and neither Lightning nor a model."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from objectscape.building import build, find_class

if TYPE_CHECKING:  # torch is imported when data are built, so that a refusal does not wait for it
    from objectscape.data.dataset import SceneDataset


def check_complete(config: DictConfig) -> None:
    """Raise ValueError if `config` (a recipe's `data`) leaves open what only the user knows, such as a path."""
    missing = sorted(f"data.{key.removeprefix('data.')}" for key in OmegaConf.missing_keys(config))
    if missing:
        module, _, kind = config._target_.rpartition(".")
        name = config.get("name", module.rpartition(".")[2])
        raise ValueError(
            f"{kind} needs {' and '.join(missing)}: say {missing[0]}=...; `objectscape data info {name}` tells where "
            "the data come from"
        )


def data_of(config: DictConfig) -> DictConfig:
    """The `data` of a run's configuration, with its `clip` inside: what `build_data` reads."""
    if config.get("clip") is None or config.clip.length is None:  # runs of older versions have none
        return config.data
    data: Any = OmegaConf.to_container(config.data, resolve=True)
    return OmegaConf.create({**data, "clip": OmegaConf.to_container(config.clip, resolve=True)})


def build_data(config: DictConfig, split: str) -> SceneDataset:
    """The split of the data set that `config` (a recipe's `data`) describes; windows of it if it has a `clip`.

    Raises:
        ValueError: if the configuration is incomplete, or describes what may not be built.
    """
    check_complete(config)
    from objectscape.data.clips import Clips
    from objectscape.data.resizing import resized

    values: Any = OmegaConf.to_container(config, resolve=True)
    clip = values.pop("clip", None)
    size = None if takes_image_size(values["_target_"]) else values.pop("image_size", None)
    dataset: SceneDataset = build(values, "data", split=split)
    dataset = dataset if size is None else resized(dataset, size)
    return dataset if clip is None else Clips(dataset, **clip)


def takes_image_size(target: str) -> bool:
    """Does the data set at an import path make or read its scenes in any size? Scenes of the others are resized."""
    return "image_size" in inspect.signature(find_class(target, "data")).parameters
