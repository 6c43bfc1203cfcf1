"""Checkpoints of the GENESIS code base (`applied-ai-lab/genesis`): its five kinds of models.

    config, weights = read("model.ckpt-FINAL")
    model = build(config)
    model.load_state_dict(convert(weights, config))

`config` uses upstream's option names. Each family is a module of `genesis_family` with four functions:
`recognizes(weights)`, `infer(weights, flags)`, `build(config)`, `convert(weights, config)`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from objectscape.checkpoints.genesis_family import genesis, genesis_v2, monet, vae
from objectscape.checkpoints.upstream import read_plain, unwrapped
from objectscape.contract import Model

_log = logging.getLogger(__name__)


class _Family(Protocol):
    def recognizes(self, weights: Mapping[str, Tensor]) -> bool: ...
    def infer(self, weights: Mapping[str, Tensor], flags: Mapping[str, Any]) -> dict[str, Any]: ...
    def build(self, config: Mapping[str, Any]) -> Model: ...
    def convert(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]: ...


FAMILIES: dict[str, _Family] = {"vae": vae, "monet": monet, "genesisv2": genesis_v2, "genesis": genesis}
"""Upstream's family name -> its module."""
_OWN_OPTIONS = {"genesisv2": "feat_dim", "monet": "filter_start", "vae": "latent_dimension"}
"""Options that only one family has, in the order to look (GENESIS-V2 inherits MONet's, both inherit GENESIS')."""


def family_of(config: Mapping[str, Any]) -> str:
    """The family a configuration belongs to: its entry `family` if there, else told from the options."""
    name = config.get("family") or next((name for name, own in _OWN_OPTIONS.items() if own in config), "genesis")
    if name not in FAMILIES:
        raise ValueError(f"family {name!r} of the GENESIS code base; expected one of {', '.join(FAMILIES)}")
    return name


def build(config: Mapping[str, Any]) -> Model:
    """Our model for upstream's constructor options (`K_steps`, `img_size`, `attention_latents`, ...)."""
    return FAMILIES[family_of(config)].build(config)


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Our state dict from upstream's, by differentiable operations.

    Raises:
        ValueError: naming the upstream keys that are missing or that nothing accounts for.
    """
    return FAMILIES[family_of(config)].convert(weights, config)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights from an original checkpoint (`model.ckpt-...`).

    What the file does not tell (the image size of some variants, the pixel bound, the VAE's pixel std) comes from
    `flags.json` in the same folder, and from upstream's defaults without one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file needs unrestricted pickle, or holds no weights of a known family.
    """
    weights = unwrapped(read_plain(path))
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path} holds no 'model_state_dict' of tensors, so it is no checkpoint of the GENESIS code")
    for name, family in FAMILIES.items():
        if family.recognizes(weights):
            config = {**family.infer(weights, _flags(Path(path).parent)), "family": name}
            _log.info("%s: %s with %s", path, name, config)
            return config, weights
    raise ValueError(
        f"{path}: no known family has keys like {', '.join(sorted(weights)[:4])}; known are {', '.join(FAMILIES)}"
    )


def _flags(folder: Path) -> dict[str, Any]:
    """The run's options as upstream stored them, without the placeholders -1 that its wrappers wrote; {} if absent."""
    file = folder / "flags.json"
    if not file.is_file():
        return {}
    return {key: value for key, value in json.loads(file.read_text()).items() if value != -1}
