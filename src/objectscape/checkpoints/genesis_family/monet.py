"""MONet as re-implemented in the GENESIS code base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from objectscape.checkpoints.genesis_family.keys import (
    Table,
    broadcast_decoder,
    broadcast_layers,
    component_encoder,
    same,
    translate,
)
from objectscape.checkpoints.genesis_family.unet_keys import unet, unet_image_size
from objectscape.models.monet import MONet

_MASK_DECODING = {"softmax": "softmax", "scope": "stick_breaking"}


def recognizes(weights: Mapping[str, Tensor]) -> bool:
    """Whether this is a MONet's state dict."""
    return "att_process.core.final_conv.weight" in weights


def infer(weights: Mapping[str, Tensor], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream's options, from shapes where they tell, from `flags` or upstream's defaults where not."""
    stds = weights["std"].flatten()
    return {
        "img_size": unet_image_size(weights, "att_process.core"),
        "K_steps": len(stds),
        "filter_start": weights["att_process.core.final_conv.weight"].shape[1],
        "comp_ldim": weights["comp_vae.encoder_module.module.11.weight"].shape[0] // 2,
        "comp_enc_channels": weights["comp_vae.encoder_module.module.0.weight"].shape[0],
        "comp_dec_channels": weights["comp_vae.decoder_module.seq.1.weight"].shape[0],
        "comp_dec_layers": broadcast_layers(weights, "comp_vae.decoder_module"),
        "pixel_std1": float(stds[0]),
        "pixel_std2": float(stds[-1]),
        "prior_mode": flags.get("prior_mode", "softmax"),
        "montecarlo_kl": flags.get("montecarlo_kl", True),
        "pixel_bound": flags.get("pixel_bound", True),
    }


def build(config: Mapping[str, Any]) -> MONet:
    """Our model for upstream's options."""
    mode = config.get("prior_mode", "softmax")
    if mode not in _MASK_DECODING:
        raise ValueError(f"prior_mode={mode!r}; the GENESIS code base knows {', '.join(map(repr, _MASK_DECODING))}")
    return MONet(
        image_size=config["img_size"],
        slots=config["K_steps"],
        latent_dim=config.get("comp_ldim", 16),
        attention_channels=config.get("filter_start", 32),
        encoder_channels=config.get("comp_enc_channels", 32),
        decoder_channels=config.get("comp_dec_channels", 32),
        decoder_layers=config.get("comp_dec_layers", 4),
        mask_decoding=_MASK_DECODING[mode],  # type: ignore[arg-type]
        pixel_std=config.get("pixel_std2", 0.7),
        first_pixel_std=config.get("pixel_std1", 0.7),
        pixel_bound=config.get("pixel_bound", True),
        analytic_kl=not config.get("montecarlo_kl", True),
    )


def table(config: Mapping[str, Any]) -> Table:
    """Where each of our keys comes from."""
    names: Table = unet("attention", "att_process.core", config["img_size"])
    names |= same("attention.head", "att_process.core.final_conv")
    names |= component_encoder("encoder", "comp_vae.encoder_module")
    names |= broadcast_decoder("decoder", "comp_vae.decoder_module", config.get("comp_dec_layers", 4))
    return names


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Our state dict from upstream's, by differentiable operations."""
    return translate(weights, table(config), dropped=("std",))
