"""Checkpoints of the baseline VAEs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from objectscape.checkpoints.genesis_family import keys
from objectscape.contract import Model
from objectscape.models.vae import VAE

_DEFAULTS: dict[str, Any] = {
    "latent_dimension": 64,
    "broadcast_decoder": False,
    "pixel_bound": True,
    "pixel_std": 0.7,
    "img_size": 64,
}
"""Upstream's options and their defaults."""
_LAYERS = 4  # of the broadcast decoder


def recognizes(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the keys of a baseline VAE."""
    return "vae.q_z_mean.weight" in weights


def infer(weights: Mapping[str, Tensor], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream's options, told from the weights where they tell, else from `flags`, else upstream's defaults.

    The weights do not tell the pixel std, the pixel bound, or 64 from 128 pixels.
    """
    config = {key: flags.get(key, value) for key, value in _DEFAULTS.items()}
    config["latent_dimension"] = len(weights["vae.q_z_mean.bias"])
    config["broadcast_decoder"] = "vae.p_x_nn.1.seq.1.weight" in weights
    if weights["vae.q_z_nn.5.conv.weight"].shape[-1] == 8:
        config["img_size"] = 32
    return config


def build(config: Mapping[str, Any]) -> Model:
    """The VAE with upstream's options."""
    options = {**_DEFAULTS, **config}
    return VAE(
        image_size=options["img_size"],
        latent_dim=options["latent_dimension"],
        decoder="broadcast" if options["broadcast_decoder"] else "deconvolution",
        pixel_std=options["pixel_std"],
        pixel_bound=options["pixel_bound"],
    )


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Our state dict."""
    return keys.translate(weights, table(config))


def table(config: Mapping[str, Any]) -> keys.Table:
    """Where each of our keys comes from."""
    names = keys.gated_layers("encoder.layers", "vae.q_z_nn", "none", plain=5)
    for name in ("weight", "bias"):
        names[f"posterior.{name}"] = (f"vae.q_z_mean.{name}", f"vae.q_z_var.0.{name}")
    if {**_DEFAULTS, **config}["broadcast_decoder"]:
        names |= keys.broadcast_decoder("decoder.0", "vae.p_x_nn.1", _LAYERS)
        names |= keys.same("decoder.2", "vae.p_x_mean")
    else:
        names |= keys.gated_layers("decoder.layers", "vae.p_x_nn", "none", plain=0)
        names |= keys.same("decoder.head", "vae.p_x_mean")
    return names
