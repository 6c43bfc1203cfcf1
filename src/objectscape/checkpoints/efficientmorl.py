"""Weights of the released EfficientMORL code (pemami4911/EfficientMORL@67939f0), as far back as its history goes.

GECO's multiplier becomes the model's `reconstruction_weight`. Its moving average `geco_C_ema` is dropped: it only
matters to a training run that goes on. Of the configuration, `use_geco`, `kl_beta` and `global_step` say whether GECO
is in force.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.checkpoints.upstream import check_keys, read_plain, unwrapped
from objectscape.models.efficientmorl import EfficientMORL

PREFIXES = {
    "initial": "init_posterior",
    "encoder.position.projection": "pos_embed_projection",
    "encoder.convs": "encoder_pt_1",
    "encoder.mlp": "encoder_pt_2",
    "to_keys": "to_k",
    "to_values": "to_v",
    "bottom_up.norm_slots": "norm_slots",
    "bottom_up.norm_mean": "norm_mu_pre_ff",
    "bottom_up.norm_scale": "norm_softplus_pre_ff",
    "bottom_up.to_queries": "to_q",
    "bottom_up.mlp_mean": "mlp_mu",
    "bottom_up.mlp_scale": "mlp_softplus",
    "bottom_up.gru.project": "project_update",
    "bottom_up.gru.cell": "gru",
    "prior_network.hidden": "indep_prior.z_linear",
    "prior_network.mean": "indep_prior.z_mu",
    "prior_network.scale": "indep_prior.z_softplus",
    "decoder.position.projection": "image_decoder.pos_embed_projection",
    "decoder.layers": "image_decoder.decode",
    "refiner.mlp": "refinenet.encoding",
    "refiner.gru": "refinenet.recurrence",
    "refiner.mean": "refinenet.loc",
    "refiner.scale": "refinenet.softplus",
}
"""Our prefix -> theirs, below `hvae_networks.` unless it is of `refinenet`."""

DROPPED = {"geco_C_ema"}
"""Upstream keys without a place in our model."""

PRIORS = {(True, False): "bottom_up", (False, True): "reversed++", (False, False): "reversed"}
"""(bottom_up_prior, reverse_prior_plusplus) -> our name."""

TETROMINOES = {"K": 4, "input_size": [3, 35, 35], "image_likelihood": "Gaussian", "log_scale": -1.2039728}
"""What the weights do not tell, of the only published setting with the `small` decoder."""


def build(config: Mapping[str, Any]) -> EfficientMORL:
    """Our model from upstream hyperparameters.

    Raises:
        ValueError: if one is missing that the weights do not tell, or two exclude each other.
    """
    missing = [key for key in ("K", "input_size", "image_likelihood", "log_scale") if key not in config]
    if missing:
        raise ValueError(
            f"the configuration lacks {', '.join(missing)}, which the weights do not tell. The published runs with the "
            "iodine decoder have log_scale=-2.3025859 and: Multi-dSprites K=6 input_size=[3,64,64] "
            "image_likelihood=Gaussian; CLEVR6 K=7 input_size=[3,96,96] image_likelihood=GMM (128 pixels: K=11)."
        )
    kind = config.get("bottom_up_prior", False), config.get("reverse_prior_plusplus", True)
    if kind not in PRIORS:
        raise ValueError("bottom_up_prior and reverse_prior_plusplus exclude each other; set one of them to false.")
    likelihoods = {"GMM": "mixture", "Gaussian": "gaussian"}
    if config["image_likelihood"] not in likelihoods:
        raise ValueError(f"image_likelihood={config['image_likelihood']!r}; upstream has 'GMM' and 'Gaussian'.")
    return EfficientMORL(
        image_size=list(config["input_size"][-2:]),
        slots=config["K"],
        slot_size=config.get("z_size", 64),
        layers=config.get("stochastic_layers", 3),
        refinement_steps=config.get("refinement_iters", 3),
        prior=PRIORS[kind],  # type: ignore[arg-type]
        gru="dual" if config.get("use_DualGRU", True) else "single",
        decoder=config.get("image_decoder", "iodine"),
        likelihood=likelihoods[config["image_likelihood"]],  # type: ignore[arg-type]
        pixel_std=math.exp(config["log_scale"]),
        beta=config.get("kl_beta", 1.0),
    )


def geco_in_force(config: Mapping[str, Any]) -> bool:
    """Whether GECO weighs the loss under this configuration: it is on, the KL counts, and the warm start is over."""
    over = config.get("global_step", math.inf) >= config.get("geco_warm_start", 1000)
    return bool(config.get("use_geco", False) and config.get("kl_beta", 1.0) and over)


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Upstream weights -> our state dict, differentiably.

    Raises:
        ValueError: naming upstream keys that are missing or that nothing asks for.
    """
    ours = list(build(config).state_dict())
    sources = {key: _sources(key) for key in ours}
    known = {name for names in sources.values() for name in names}
    missing, unexpected = known - set(weights), set(weights) - known - DROPPED
    hint = "Check image_decoder and use_DualGRU, and that the file belongs to EfficientMORL."
    check_keys(missing, unexpected, hint=hint)
    return {key: _translate(key, [weights[name] for name in names], config) for key, names in sources.items()}


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, weights) from a `.pth` of the released code, keys of earlier versions renamed.

    The configuration holds what the file tells; for the published Tetrominoes setting the rest is added.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is something else, or could only be read by running code that it contains.
    """
    stored = read_plain(path)
    weights = {
        _modern(key): value
        for key, value in unwrapped(stored).items()
        if "generation_relation" not in key and "gru.cell.zeros" not in key
    }
    if "hvae_networks.init_posterior" not in weights:
        raise ValueError(f"{path}: no key 'hvae_networks.init_posterior', so these are not weights of EfficientMORL.")
    # Early versions had no GECO; a state that was never updated means that it was off, too.
    weights.setdefault("geco_beta", torch.tensor(0.55))
    average = weights.setdefault("geco_C_ema", torch.tensor(0.0))
    # Of the three decoders, 'big' has six layers, 'iodine' five and 'small' four.
    depth = sum("image_decoder.decode." in key and key.endswith(".weight") for key in weights)
    config: dict[str, Any] = {
        "z_size": weights["hvae_networks.init_posterior"].shape[-1] // 2,
        "image_decoder": {6: "big", 5: "iodine"}.get(depth, "small"),
        "use_DualGRU": "hvae_networks.gru.cell.weight_ih_1" in weights,
        "use_geco": bool(average != 0),
        "kl_beta": float(stored.get("kl_beta", 1.0)),
    }
    if (config["z_size"], config["image_decoder"]) == (32, "small"):
        config |= TETROMINOES
    return config, weights


def _modern(key: str) -> str:
    """The current name of an upstream key."""
    if key.startswith(("pos_embed_projection", "encoder_pt")):
        return f"hvae_networks.{key}"
    if key.startswith("object_discovery_block."):
        return key.replace("object_discovery_block", "hvae_networks", 1)
    return key


def _sources(key: str) -> list[str]:
    """The upstream keys that one of ours is made of."""
    if key == "reconstruction_weight":
        return ["geco_beta"]
    dual = {"bottom_up.gru.mean.": 1, "bottom_up.gru.scale.": 2}
    for prefix, cell in dual.items():
        if key.startswith(prefix):
            kind, part = key.removeprefix(prefix).split("_")  # weight or bias, ih or hh
            suffix = f"_{cell}" if kind == "weight" else ""
            return [f"hvae_networks.gru.cell.{kind}_{name}{suffix}" for name in (part, f"{part[0]}n")]
    prefix = next(prefix for prefix in PREFIXES if key == prefix or key.startswith(prefix + "."))
    theirs = PREFIXES[prefix] + key[len(prefix) :]
    theirs += "_l0" if prefix in ("bottom_up.gru.cell", "refiner.gru") else ""
    return [theirs if theirs.startswith("refinenet.") else f"hvae_networks.{theirs}"]


def _translate(key: str, values: list[Tensor], config: Mapping[str, Any]) -> Tensor:
    value = values[0]
    if key == "reconstruction_weight":
        return F.softplus(value) if geco_in_force(config) else torch.ones_like(value)
    if key.startswith(("bottom_up.gru.mean.", "bottom_up.gru.scale.")):  # reset and update gates, then the candidate
        if key.split(".")[-1].startswith("bias"):  # both cells in one vector
            values = [v.chunk(2)[0 if ".mean." in key else 1] for v in values]
        return torch.cat(values)
    if key == "initial":
        return value.flatten()
    if key.endswith("position.projection.weight"):
        return value[:, [1, 2, 0, 3]]  # theirs: 1 - r, r, c, 1 - c; ours: r, c, 1 - r, 1 - c
    return value
