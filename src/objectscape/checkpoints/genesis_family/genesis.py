"""GENESIS and GENESIS-S checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from objectscape.checkpoints.genesis_family import keys
from objectscape.contract import Model
from objectscape.models.genesis import Genesis
from objectscape.models.genesis_s import GenesisS

_DEFAULTS: dict[str, Any] = {
    "two_stage": True,
    "autoreg_prior": True,
    "comp_prior": True,
    "attention_latents": 64,
    "enc_norm": "bn",
    "dec_norm": "bn",
    "comp_enc_channels": 32,
    "comp_ldim": 16,
    "comp_dec_channels": 32,
    "comp_dec_layers": 4,
    "comp_symmetric": False,
    "pixel_bound": True,
    "pixel_std1": 0.7,
    "pixel_std2": 0.7,
    "img_size": 64,
    "K_steps": 5,
}
"""Upstream's options and their defaults; it needs img_size and K_steps to be given."""


def recognizes(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the keys of GENESIS or GENESIS-S."""
    if any(key.startswith("att_process.") for key in weights):
        return "att_process.core.q_z_mean.weight" in weights
    return any(key.startswith("comp_vae.") for key in weights)  # built with one slot


def infer(weights: Mapping[str, Tensor], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream's options, told from the weights where they tell, else from `flags`, else upstream's defaults.

    The weights of a model with 16 x 16 kernels and no convolutional component encoder do not tell 64 from 128 pixels.
    """
    config = {key: flags.get(key, value) for key, value in _DEFAULTS.items()}
    std = weights["std"].flatten()
    config["K_steps"] = len(std)
    config["pixel_std1"], config["pixel_std2"] = round(float(std[0]), 6), round(float(std[-1]), 6)
    config["comp_symmetric"] = "comp_vae.encoder_module.0.0.conv.weight" in weights
    config["two_stage"] = any(key.startswith("comp_vae.") for key in weights)
    config["autoreg_prior"] = "prior_lstm.weight_ih_l0" in weights or len(std) == 1
    config["comp_prior"] = "prior_mlp.0.weight" in weights or len(std) == 1 or not config["two_stage"]
    core = "att_process.core"
    if f"{core}.q_z_mean.weight" in weights:
        config["attention_latents"] = len(weights[f"{core}.q_z_mean.bias"])
        config["enc_norm"] = keys.first_norm(weights, f"{core}.q_z_nn.0")
        config["dec_norm"] = keys.first_norm(weights, f"{core}.p_x_nn.1")
        if weights[f"{core}.q_z_nn.5.conv.weight"].shape[-1] == 8:
            config["img_size"] = 32
    if config["comp_symmetric"]:
        config["comp_ldim"] = weights["comp_vae.encoder_module.0.5.conv.bias"].shape[0] // 4
        return config
    decoder = "comp_vae.decoder_module" if config["two_stage"] else "decoder"
    config["comp_dec_layers"] = keys.broadcast_layers(weights, decoder)
    config["comp_dec_channels"] = weights[f"{decoder}.seq.1.weight"].shape[0]
    if config["two_stage"]:
        encoder = "comp_vae.encoder_module.module"
        channels = weights[f"{encoder}.0.weight"].shape[0]
        config["comp_enc_channels"] = channels
        config["comp_ldim"] = weights[f"{encoder}.11.bias"].shape[0] // 2
        config["img_size"] = 16 * round((weights[f"{encoder}.9.weight"].shape[1] / (2 * channels)) ** 0.5)
    return config


def build(config: Mapping[str, Any]) -> Model:
    """GENESIS, or GENESIS-S if `two_stage` is off, with upstream's options."""
    options = {**_DEFAULTS, **config}
    shared: dict[str, Any] = {
        "image_size": options["img_size"],
        "slots": options["K_steps"],
        "encoder_norm": keys.upstream_norm(options, "enc_norm"),
        "decoder_norm": keys.upstream_norm(options, "dec_norm"),
        "decoder_channels": options["comp_dec_channels"],
        "decoder_layers": options["comp_dec_layers"],
        "autoregressive_prior": options["autoreg_prior"],
        "pixel_std": options["pixel_std2"],
        "first_pixel_std": options["pixel_std1"],
        "pixel_bound": options["pixel_bound"],
    }
    if not options["two_stage"]:
        return GenesisS(latent_dim=options["attention_latents"], **shared)
    return Genesis(
        mask_latent_dim=options["attention_latents"],
        component_latent_dim=options["comp_ldim"],
        component_network="gated" if options["comp_symmetric"] else "broadcast",
        encoder_channels=options["comp_enc_channels"],
        component_prior=options["comp_prior"],
        **shared,
    )


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Our state dict. Upstream's buffer `std` is dropped: the pixel stds are constructor options here."""
    return keys.translate(weights, table(config), dropped=("std",))


def table(config: Mapping[str, Any]) -> keys.Table:
    """Where each of our keys comes from."""
    options = {**_DEFAULTS, **config}
    encoder_norm, decoder_norm = keys.upstream_norm(options, "enc_norm"), keys.upstream_norm(options, "dec_norm")
    several = options["K_steps"] > 1
    names: keys.Table = {}
    if several:
        core = "att_process.core"
        names |= keys.gated_layers("masks.encoder.layers", f"{core}.q_z_nn", encoder_norm, plain=5)
        for name in ("weight", "bias"):
            names[f"masks.first.{name}"] = (f"{core}.q_z_mean.{name}", f"{core}.q_z_var.0.{name}")
        names |= keys.lstm("masks.recurrence", "att_process.lstm", cell=True)
        names |= keys.same("masks.next", "att_process.linear")
        names |= keys.gated_layers("masks.decoder.layers", f"{core}.p_x_nn", decoder_norm, plain=0)
        names |= keys.same("masks.decoder.head", f"{core}.p_x_mean")
        if options["autoreg_prior"]:
            names |= keys.autoregressive_prior("mask_prior" if options["two_stage"] else "prior")
    if not options["two_stage"]:
        names |= keys.broadcast_decoder("decoder", "decoder", options["comp_dec_layers"])
        return names
    if several and options["comp_prior"]:
        for i in (0, 2, 4):
            names |= keys.same(f"component_prior.{i}", f"prior_mlp.{i}")
    encoder, decoder = "comp_vae.encoder_module", "comp_vae.decoder_module"
    if options["comp_symmetric"]:
        names |= keys.gated_layers("component_encoder.layers", f"{encoder}.0", encoder_norm, plain=5)
        names |= keys.gated_layers("component_decoder.layers", f"{decoder}.1", decoder_norm, plain=0)
        names |= keys.same("component_decoder.head", f"{decoder}.2")
    else:
        names |= keys.component_encoder("component_encoder", encoder)
        names |= keys.broadcast_decoder("component_decoder", decoder, options["comp_dec_layers"])
    return names
