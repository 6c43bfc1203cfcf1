"""GENESIS-V2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from objectscape.checkpoints.genesis_family.keys import (
    Table,
    autoregressive_prior,
    same,
    translate,
)
from objectscape.checkpoints.genesis_family.unet_keys import unet, unet_image_size
from objectscape.models.genesis_v2 import GenesisV2


def recognizes(weights: Mapping[str, Tensor]) -> bool:
    """Whether this is a GENESIS-V2's state dict."""
    return "att_process.log_sigma" in weights


def infer(weights: Mapping[str, Tensor], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream's options, from shapes where they tell, from `flags` or upstream's defaults where not."""
    return {
        "img_size": unet_image_size(weights, "encoder"),
        "K_steps": flags.get("K_steps", 7),  # no weight tells; the model works with any number
        "feat_dim": weights["seg_head.0.weight"].shape[0],
        "semiconv": "att_process.colour_head.gate.gate" in weights,
        "autoreg_prior": "prior_linear.weight" in weights,
        "kernel": flags.get("kernel", "gaussian"),
        "dynamic_K": flags.get("dynamic_K", False),
        "klm_loss": flags.get("klm_loss", False),
        "detach_mr_in_klm": flags.get("detach_mr_in_klm", True),
        "pixel_std1": flags.get("pixel_std1", 0.7),
        "pixel_std2": flags.get("pixel_std2", 0.7),
        "pixel_bound": flags.get("pixel_bound", True),
    }


def build(config: Mapping[str, Any]) -> GenesisV2:
    """Our model for upstream's options."""
    std, other = config.get("pixel_std1", 0.7), config.get("pixel_std2", 0.7)
    if std != other:
        raise ValueError(f"pixel_std1={std}, pixel_std2={other}; GENESIS-V2 has one standard deviation for all slots")
    return GenesisV2(
        image_size=config["img_size"],
        slots=config["K_steps"],
        width=config.get("feat_dim", 64),
        kernel=config.get("kernel", "gaussian"),
        semiconv=config.get("semiconv", True),
        dynamic_slots=config.get("dynamic_K", False),
        autoregressive_prior=config.get("autoreg_prior", True),
        mask_kl=config.get("klm_loss", False),
        detach_masks=config.get("detach_mr_in_klm", True),
        pixel_std=std,
        pixel_bound=config.get("pixel_bound", True),
    )


def table(config: Mapping[str, Any]) -> Table:
    """Where each of our keys comes from."""
    names: Table = unet("encoder", "encoder", config["img_size"])
    names |= {"segmentation_head.0.weight": "seg_head.0.weight", "feature_head.0.0.weight": "feat_head.0.0.weight"}
    names |= same("segmentation_head.1", "seg_head.1") | same("feature_head.0.1", "feat_head.0.1")
    names |= same("feature_head.1", "feat_head.1") | {"coloring.log_sigma": "att_process.log_sigma"}
    if config.get("semiconv", True):
        names |= same("embedding.conv", "att_process.colour_head.conv")
        names |= {"embedding.gate": "att_process.colour_head.gate.gate"}
    else:
        names |= same("embedding", "att_process.colour_head")
    for i in (0, 1, 3):
        names |= same(f"posterior.{i}", f"z_head.{i}")
    for i in (1, 2, 4, 5, 7, 8, 10, 11, 13):  # upstream's number 0 is the broadcast
        names |= same(f"decoder.layers.{i - 1}", f"decoder_module.{i}")
    if config.get("autoreg_prior", True):
        names |= autoregressive_prior("prior")
    return names


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Our state dict from upstream's, by differentiable operations."""
    ours = translate(weights, table(config))
    ours["coloring.log_sigma"] = ours["coloring.log_sigma"].float()  # float64 upstream, by accident
    return ours
