"""Weights of bimGW (bdvllrs/bimGW@bb58a5b): visual VAE, text module, workspace.

Lightning checkpoints (`state_dict`, `hyper_parameters`) of both generations: with dropout layers (December 2023 on) and
without (the paper's). Layers are numbered by their order, so that either fits; the older `domain_mods` and the head
name `0` are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from objectscape.checkpoints.upstream import read_plain, tensors
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


# --- files ---


def read_lightning(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(hyperparameters, weights) of a Lightning checkpoint, without executing anything in it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no plain weights.
    """
    stored = read_plain(path)
    return dict(stored.get("hyper_parameters", {})), tensors(stored)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, weights) of a checkpoint of bimGW: a visual VAE, text module or workspace, as its keys say.

    Raises:
        FileNotFoundError, ValueError: as `read_lightning`, and if it is none of the three.
    """
    given, weights = read_lightning(path)
    weights = {key: value for key, value in weights.items() if not any(part in key for part in IGNORED)}
    if "q_mean.weight" in weights:
        first, last = weights["encoder.layers.0.weight"], weights["encoder.layers.9.weight"]
        config: dict[str, Any] = {
            "image_size": 32 if first.shape[-1] == 4 else 64,
            "ae_size": last.shape[0],
            "z_size": weights["q_mean.weight"].shape[0],
            "beta": given.get("beta", 0.1),
            "vae_type": given.get("vae_type", "sigma" if float(weights.get("log_sigma", torch.zeros(()))) else "beta"),
        }
        return config, weights
    if any(key.startswith("grammar_classifiers.") for key in weights):
        heads = {
            match[1]: value.shape[0]
            for key, value in weights.items()
            if (match := re.fullmatch(r"grammar_classifiers\.(.+)\.2\.weight", key))
        }
        shape = weights["encoder.0.weight"].shape
        config = {"heads": heads, "bert_size": shape[1], "z_size": weights["decoder.0.weight"].shape[1]}
        return {**config, "beta": float(weights.get("beta", given.get("beta", 0.1)))}, weights
    domains = list(dict.fromkeys(m[1] for key in weights if (m := re.match(r"encoders\.(\w+)\.encoder\.", key))))
    if domains:
        return _workspace_config(weights, domains), {
            key: value for key, value in weights.items() if key.startswith(("encoders.", "decoders."))
        }
    raise ValueError(f"{path}: no key of bimGW's visual VAE, text module or workspace.")


def _workspace_config(weights: Mapping[str, Tensor], domains: list[str]) -> dict[str, Any]:
    def linear(prefix: str) -> list[Tensor]:
        found = {
            int(m[1]): value
            for k, value in weights.items()
            if (m := re.fullmatch(re.escape(prefix) + r"\.(\d+)\.weight", k))
        }
        return [found[number] for number in sorted(found)]

    encoders = {d: linear(f"encoders.{d}.encoder") for d in domains}
    trunks = {d: linear(f"decoders.{d}.encoder") for d in domains}
    heads = {
        d: linear(f"decoders.{d}.encoder_head.{PARTS[d][0]}") or linear(f"decoders.{d}.encoder_head.0") for d in domains
    }
    latents = {d: layers[0].shape[1] for d, layers in encoders.items()}
    return {
        "domains": domains,
        "z_size": encoders[domains[0]][-1].shape[0],
        "v_latent": latents.get("v", 12),
        "t_latent": latents.get("t", 24),
        "hidden_size": {
            "encoder": {d: layers[0].shape[0] for d, layers in encoders.items()},
            "decoder": {d: layers[0].shape[0] for d, layers in trunks.items()},
        },
        "n_layers_encoder": {d: len(layers) - 2 for d, layers in encoders.items()},
        "n_layers_decoder": {d: len(layers) - 1 for d, layers in trunks.items()},
        "n_layers_decoder_head": {d: len(layers) - 1 for d, layers in heads.items()},
        "loss_coefs": {"translation": 1.0, "contrastive": 1.0, "demi_cycles": 1.0, "cycles": 1.0},
    }


def build(config: Mapping[str, Any]) -> nn.Module:
    """Our model for what `read` found."""
    if "domains" in config:
        return build_workspace(config)
    return build_text(config) if "heads" in config else build_vae(config)


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Its weights for `build`'s model; the workspace's domains have no weights: their latents are passed through."""
    if "domains" in config:
        return convert_workspace(weights, config)
    return convert_text(weights, config) if "heads" in config else convert_vae(weights, config)
