"""Weights of bimGW (bdvllrs/bimGW@bb58a5b): visual VAE, text module, workspace.

Lightning checkpoints (`state_dict`, `hyper_parameters`) of both generations: with dropout layers (December 2023 on) and
without (the paper's). Layers are numbered by their order, so that either fits; the older `domain_mods` and the head
name `0` are read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from objectscape.models.domains.attributes import Attributes
from objectscape.models.domains.latents import SavedLatents
from objectscape.models.domains.text_vae import TextVAE
from objectscape.models.domains.visual_vae import VisualVAE
from objectscape.models.global_workspace import GlobalWorkspace

SIGMA = {"beta": "one", "sigma": "learned", "optimal_sigma": "optimal"}
PARTS = {"v": ["z_img"], "attr": ["z_cls", "z_attr"], "t": ["z"]}
"""Heads of the workspace's decoders, in the order of our latent."""
IGNORED = ("validation_sampling_z", "num_batches_tracked", "decoder.output_fun.")


def by_order(weights: Mapping[str, Tensor], source: str, target: str, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers below `source` for those below `target`, one after the other, whatever their numbers.

    Raises:
        ValueError: if there are more on one side.
    """

    def layers(keys: Mapping[str, Tensor], prefix: str) -> list[str]:
        found = {int(k[len(prefix) + 1 :].split(".")[0]) for k in keys if k.startswith(prefix + ".")}
        return [f"{prefix}.{number}" for number in sorted(found)]

    theirs, own = layers(weights, source), layers(ours, target)
    if len(theirs) != len(own):
        raise ValueError(
            f"{source} has {len(theirs)} layers in this file, {len(own)} are expected; check the settings."
        )
    pairs = dict(zip(own, theirs, strict=True))
    return {
        key: weights[pairs[key.rpartition(".")[0]] + "." + key.rpartition(".")[2]]
        for key in ours
        if key.rpartition(".")[0] in pairs
    }


def build_vae(config: Mapping[str, Any]) -> VisualVAE:
    """Our visual VAE from bimGW's hyperparameters."""
    return VisualVAE(
        image_size=config["image_size"],
        latent_size=config["z_size"],
        width=config["ae_size"],
        beta=config["beta"],
        sigma=SIGMA[config["vae_type"]],  # type: ignore[arg-type]
    )


def convert_vae(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """bimGW's VAE -> ours, differentiably."""
    ours = build_vae(config).state_dict()
    found = {}
    for key, value in ours.items():
        for own, theirs in (("encoder.", "encoder.layers."), ("mean.", "q_mean."), ("logvar.", "q_logvar.")):
            if key.startswith(own):
                found[key] = weights.get(theirs + key[len(own) :], value)
        if key.startswith("decoder."):
            number, rest = key.removeprefix("decoder.").split(".", 1)
            last = 9 if config["image_size"] == 32 else 12
            theirs = f"decoder.out_layer.1.{rest}" if int(number) > last else f"decoder.layers.{number}.{rest}"
            found[key] = weights.get(theirs, value)
    if "log_sigma" in ours:
        found["log_sigma"] = weights["log_sigma"]
    return found


def build_text(config: Mapping[str, Any]) -> TextVAE:
    """Our text module over sentence vectors from bimGW's hyperparameters."""
    return TextVAE(
        input_size=config.get("bert_size", 768),
        latent_size=config["z_size"],
        beta=float(config["beta"]),
        heads=config["heads"],
        attribute_weight=config.get("coef_attr_loss", 100_000.0),
        vae_weight=config.get("coef_vae_loss", 1.0),
        attributes_train_encoder=config.get("optimize_vae_with_attr_regression", False),
    )


def convert_text(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """bimGW's text module -> ours, differentiably."""
    names = {"encoder": "encoder", "decoder": "decoder", "attributes": "attribute_encoder"}
    found = {}
    for key in build_text(config).state_dict():
        top, rest = key.split(".", 1)
        if top == "grammar":
            number, rest = rest.split(".", 1)
            found[key] = weights[f"grammar_classifiers.{list(config['heads'])[int(number)]}.{rest}"]
        else:
            found[key] = weights[f"{names[top]}.{rest}"]
    return found


def build_workspace(config: Mapping[str, Any], domains: Mapping[str, Any] | None = None) -> GlobalWorkspace:
    """Our workspace from bimGW's settings; domains that are not given are passed-through latents."""
    given = dict(domains or {})
    for name in config["domains"]:
        if name == "v":
            given.setdefault(name, SavedLatents(domain="v", latent_size=config["v_latent"]))
        elif name == "t":
            given.setdefault(name, SavedLatents(domain="t", latent_size=config["t_latent"], activation="symlog"))
        else:
            given.setdefault(name, Attributes())
    weights = config["loss_coefs"]
    later = config.get("optim_unsupervised_losses_after", -1) >= 0
    return GlobalWorkspace(
        domains={name: given[name] for name in config["domains"]},
        state_size=config["z_size"],
        hidden_size=config["hidden_size"]["encoder"],
        decoder_hidden_size=config["hidden_size"]["decoder"],
        encoder_layers=config["n_layers_encoder"],
        decoder_layers=config["n_layers_decoder"],
        head_layers=config["n_layers_decoder_head"],
        dropout=config.get("dropout", 0.0),
        selection="sum",
        weights={
            "translation": weights["translation"],
            "contrastive": weights["contrastive"],
            "demi_cycle": 0.0 if later else weights["demi_cycles"],
            "cycle": 0.0 if later else weights["cycles"],
        },
        reduction="bimgw",
        total="sum",
    )


def convert_workspace(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Encoders and decoders of bimGW's workspace -> ours, differentiably. Its domains have converters of their own."""
    ours = build_workspace(config).state_dict()
    found: dict[str, Tensor] = {}
    for name in config["domains"]:
        found |= by_order(weights, f"encoders.{name}.encoder", f"encoders.{name}", ours)
        found |= by_order(weights, f"decoders.{name}.encoder", f"decoders.{name}.trunk", ours)
        for number, part in enumerate(PARTS[name]):
            source = f"decoders.{name}.encoder_head.{part}"
            if not any(key.startswith(source + ".") for key in weights):  # paper-era name of a single head
                source = f"decoders.{name}.encoder_head.{number}"
            found |= by_order(weights, source, f"decoders.{name}.heads.{number}", ours)
    return found
