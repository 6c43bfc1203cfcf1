"""Weights of shimmer (ruflab/shimmer@d729e5e) and shimmer-ssd (18e0e5d): workspaces and their domains.

Lightning checkpoints hold every tensor of a workspace several times; `gw_mod.*` is read and the copies ignored. The
older layouts (`gw_mod.encoders.*`, `gw_mod.gw_interfaces.<d>.encoder.*`, `domain_mods.*`) are renamed first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from objectscape.checkpoints.bimgw import by_order, read_lightning
from objectscape.models.domains.attributes import AttributeVAE
from objectscape.models.domains.latents import SavedLatents
from objectscape.models.domains.text_gru import TextGRU
from objectscape.models.domains.text_vae import SharedTextVAE
from objectscape.models.domains.visual_vae import VisualVAE
from objectscape.models.global_workspace import GlobalWorkspace
from objectscape.nn.selection import AttentionSelection

TERMS = {
    "translations": "translation",
    "demi_cycles": "demi_cycle",
    "cycles": "cycle",
    "contrastives": "contrastive",
    "fused": "fused",
}
MIGRATIONS = (
    (r"^domain_mods\.", "gw_mod.domain_mods."),
    (r"^gw_mod\.gw_interfaces\.(\w+)\.(en|de)coder\.", r"gw_mod.gw_\2coders.\1."),
    (r"^gw_mod\.(en|de)coders\.", r"gw_mod.gw_\1coders."),
    (r"^coef_buffers\..*|^loss_coefs\..*|^loss_mod\.(?!contrastive_fn\.).*", ""),
)
"""What shimmer's own migrations 1 to 5 rename or drop."""


def migrate(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any of shimmer's layouts in the newest one, without copies."""
    found = {}
    for key, value in weights.items():
        for pattern, replacement in MIGRATIONS:
            key = re.sub(pattern, replacement, key)
        if key:
            found[key] = value
    return found


def build_workspace(config: Mapping[str, Any], domains: Mapping[str, Any] | None = None) -> GlobalWorkspace:
    """Our workspace from shimmer's settings; domains that are not given are passed-through latents."""
    sizes = config["domain_latent_dims"]
    given = {name: SavedLatents(domain=name, latent_size=size) for name, size in sizes.items()} | dict(domains or {})
    fusion = "fusion" in config["class"].lower()
    return GlobalWorkspace(
        domains=given,
        state_size=config["workspace_dim"],
        hidden_size=config["encoder_hidden"],
        decoder_hidden_size=config["decoder_hidden"],
        encoder_layers=config["encoder_n_layers"],
        decoder_layers=config["decoder_n_layers"],
        selection="random" if fusion else "single",
        temperature=config.get("selection_temperature", 0.2),
        weights={ours: config["loss_coefs"].get(theirs, 0.0) for theirs, ours in TERMS.items()},
        reduction="broadcast" if fusion else "shimmer",
        total="mean",
        learned_scale=config.get("learn_logit_scale", False),
        released_overwrite=fusion,
    )


def convert_workspace(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Encoders and decoders of shimmer's workspace -> ours, differentiably."""
    weights, ours = migrate(weights), build_workspace(config).state_dict()
    found: dict[str, Tensor] = {}
    for name in config["domain_latent_dims"]:
        found |= by_order(weights, f"gw_mod.gw_encoders.{name}", f"encoders.{name}", ours)
        trunk = {key: value for key, value in ours.items() if key.startswith(f"decoders.{name}.")}
        theirs = sorted({int(k.split(".")[3]) for k in weights if k.startswith(f"gw_mod.gw_decoders.{name}.")})
        own = sorted(trunk, key=lambda key: (".heads." in key, key))
        layers = list(dict.fromkeys(key.rpartition(".")[0] for key in own))
        for layer, number in zip(layers, theirs, strict=True):
            for rest in ("weight", "bias"):
                found[f"{layer}.{rest}"] = weights[f"gw_mod.gw_decoders.{name}.{number}.{rest}"]
    if "log_scale" in ours:
        found["log_scale"] = weights["loss_mod.contrastive_fn.logit_scale"].squeeze()
    return found


def build_vae(config: Mapping[str, Any]) -> VisualVAE:
    """Our visual VAE from shimmer-ssd's settings."""
    return VisualVAE(latent_size=config["latent_dim"], width=config["ae_dim"], beta=config["beta"])


def convert_vae(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """shimmer-ssd's visual VAE -> ours, differentiably."""
    found = {}
    for key, value in build_vae(config).state_dict().items():
        top, rest = key.split(".", 1)
        if top in ("mean", "logvar"):
            theirs = f"vae.encoder.q_{top}.{rest}"
        elif top == "decoder" and int(rest.split(".")[0]) > 9:
            theirs = f"vae.decoder.out_layer.1.{rest.split('.')[1]}"
        else:
            theirs = f"vae.{top}.layers.{rest}"
        found[key] = weights.get(theirs, value)
    return found


def build_attributes(config: Mapping[str, Any], unpaired: int = 0) -> AttributeVAE:
    """Our attribute VAE from shimmer-ssd's settings."""
    return AttributeVAE(
        latent_size=config["latent_dim"],
        hidden_size=config["hidden_dim"],
        beta=config["beta"],
        class_weight=config["coef_categories"],
        number_weight=config["coef_attributes"],
        unpaired=unpaired,
    )


def convert_attributes(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """shimmer-ssd's attribute VAE -> ours, differentiably."""
    names = {
        "encoder": "vae.encoder.encoder",
        "mean": "vae.encoder.q_mean",
        "logvar": "vae.encoder.q_logvar",
        "decoder": "vae.decoder.decoder",
        "to_class": "vae.decoder.decoder_categories.0",
        "to_numbers": "vae.decoder.decoder_attributes.0",
    }
    found = {}
    for key in build_attributes(config).state_dict():
        top, rest = key.split(".", 1)
        found[key] = weights[f"{names[top]}.{rest}"]
    return found


def build_attention(config: Mapping[str, Any]) -> AttentionSelection:
    """Our attention over domains from shimmer's settings."""
    return AttentionSelection(
        domains=config["domains"], size=config["dim"], head_size=config["head_size"], steps=config["n_steps"]
    )


def convert_attention(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """shimmer's DynamicQueryAttention -> ours, differentiably."""
    found = {"first": weights["attention.initial_gw_state"]}
    for rest in ("weight", "bias"):
        found[f"query.{rest}"] = weights[f"attention.query_layer.{rest}"]
        found |= {f"keys.{d}.{rest}": weights[f"attention.key_layers.{d}.{rest}"] for d in config["domains"]}
    return found


GRU_NAMES = {
    "encoder": "projector",
    "mean": "q_mean",
    "logvar": "q_logvar",
    "decoder": "projector_dec",
    "words": "embeddings",
    "gru": "decoder",
    "head": "text_head",
}


def build_text(config: Mapping[str, Any]) -> TextGRU:
    """Our GRU text module from shimmer-ssd's settings."""
    return TextGRU(
        input_size=config.get("in_dim", 768),
        latent_size=config["latent_dim"],
        hidden_size=config["hidden_dim"],
        vocabulary=config["vocab_size"],
        length=config["seq_length"],
        gru_layers=config.get("gru_layers", 2),
        reconstruction_weight=config.get("reconstruction_coef", 1.0),
        kl_weight=config.get("kl_coef", 0.1),
    )


def convert_text(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """shimmer-ssd's GRU text module -> ours, differentiably."""
    found = {}
    for key in build_text(config).state_dict():
        top, rest = key.split(".", 1)
        found[key] = weights[f"{GRU_NAMES[top]}.{rest}"]
    return found


SHARED_NAMES = {
    "encoder": "vae.encoder.encoder",
    "mean": "vae.encoder.q_mean",
    "logvar": "vae.encoder.q_logvar",
    "decoder": "vae.decoder.decoder",
    "attributes": "attribute_cls",
    "to_class": "attribute_cls_cat",
    "to_numbers": "attribute_cls_attr.0",
    "grammar": "grammar_cls",
}


def build_text_vae(config: Mapping[str, Any]) -> SharedTextVAE:
    """Our form of shimmer-ssd's older text module from its settings."""
    return SharedTextVAE(
        input_size=config["in_dim"],
        latent_size=config["latent_dim"],
        hidden_size=config["hidden_dim"],
        heads=config["heads"],
        beta=config["beta"],
    )


def convert_text_vae(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """shimmer-ssd's older text module -> ours, differentiably."""
    found = {}
    for key in build_text_vae(config).state_dict():
        top, rest = key.split(".", 1)
        if top == "decisions":
            number, rest = rest.split(".", 1)
            found[key] = weights[f"grammar_heads.{list(config['heads'])[int(number)]}.{rest}"]
        else:
            found[key] = weights[f"{SHARED_NAMES[top]}.{rest}"]
    return found


# --- files ---


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, weights) of a checkpoint of shimmer-ssd: a visual, attribute or text VAE, or a workspace.

    The fusion model and the two-domain model have the same weights; `class=GlobalWorkspaceFusion` chooses the former.

    Raises:
        FileNotFoundError, ValueError: as `bimgw.read_lightning`, and if it is none of them.
    """
    given, weights = read_lightning(path)
    heads = {
        match[1]: value.shape[0]
        for key, value in weights.items()
        if (match := re.fullmatch(r"grammar_heads\.(.+)\.weight", key))
    }
    if heads:
        hidden, size = weights["vae.encoder.encoder.0.weight"].shape
        latent = weights["vae.encoder.q_mean.weight"].shape[0]
        told = {"in_dim": size, "latent_dim": latent, "hidden_dim": hidden, "heads": heads}
        return {**told, "beta": given.get("beta", 0.1)}, weights
    if "vae.encoder.layers.0.weight" in weights:
        shape = weights["vae.encoder.q_mean.weight"].shape
        config: dict[str, Any] = {"latent_dim": shape[0], "ae_dim": shape[1] // 4, "beta": given.get("beta", 0.1)}
        return config, weights
    if "vae.decoder.decoder_categories.0.weight" in weights:
        config = {
            "latent_dim": weights["vae.encoder.q_mean.weight"].shape[0],
            "hidden_dim": weights["vae.encoder.encoder.0.weight"].shape[0],
            "beta": given.get("beta", 0.05),
            "coef_categories": given.get("coef_categories", 1.0),
            "coef_attributes": given.get("coef_attributes", 1.0),
        }
        return config, weights
    weights = migrate(weights)
    names = list(
        dict.fromkeys(m[1] for key in weights if (m := re.match(r"gw_mod\.gw_encoders\.(\w+)\.0\.weight", key)))
    )
    if not names:
        raise ValueError(f"{path}: no key of shimmer's workspace or of shimmer-ssd's visual, attribute or text VAE.")

    def layers(kind: str) -> int:
        return sum(1 for key in weights if re.fullmatch(rf"gw_mod\.gw_{kind}coders\.{names[0]}\.\d+\.weight", key))

    first = weights[f"gw_mod.gw_encoders.{names[0]}.0.weight"]
    config = {
        "class": "GlobalWorkspace2Domains",
        "domain_latent_dims": {name: weights[f"gw_mod.gw_encoders.{name}.0.weight"].shape[1] for name in names},
        "workspace_dim": weights[f"gw_mod.gw_decoders.{names[0]}.0.weight"].shape[1],
        "encoder_hidden": first.shape[0],
        "decoder_hidden": weights[f"gw_mod.gw_decoders.{names[0]}.0.weight"].shape[0],
        "encoder_n_layers": layers("en") - 2,
        "decoder_n_layers": layers("de") - 2,
        "loss_coefs": {"translations": 1.0, "demi_cycles": 1.0, "cycles": 1.0, "contrastives": 0.01},
    }
    return config, weights


def build(config: Mapping[str, Any]) -> nn.Module:
    """Our model for what `read` found."""
    if "domain_latent_dims" in config:
        return build_workspace(config)
    if "vocab_size" in config:
        return build_text(config)
    if "heads" in config:
        return build_text_vae(config)
    return build_attributes(config) if "hidden_dim" in config else build_vae(config)


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Its weights for `build`'s model; the workspace's domains have no weights: their latents are passed through."""
    if "domain_latent_dims" in config:
        return convert_workspace(weights, config)
    if "vocab_size" in config:
        return convert_text(weights, config)
    if "heads" in config:
        return convert_text_vae(weights, config)
    return convert_attributes(weights, config) if "hidden_dim" in config else convert_vae(weights, config)
