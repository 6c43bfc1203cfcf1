"""From a recipe's `data` to a data set. Commands about data need this and neither Lightning nor a model."""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

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


def build_data(config: DictConfig, split: str) -> SceneDataset:
    """The split of the data set that `config` (a recipe's `data`) describes.

    Raises:
        ValueError: if the configuration is incomplete, or describes something else.
    """
    check_complete(config)
    dataset = instantiate(config, split=split)
    if not isinstance(dataset, SceneDataset):
        raise ValueError(
            f"data._target_={config.get('_target_')!r} made a {type(dataset).__name__}, not a SceneDataset"
        )
    return dataset
