"""Weights of shimmer (ruflab/shimmer@d729e5e) and shimmer-ssd (18e0e5d): workspaces and their domains.

Lightning checkpoints hold every tensor of a workspace several times; `gw_mod.*` is read and the copies ignored. The
older layouts (`gw_mod.encoders.*`, `gw_mod.gw_interfaces.<d>.encoder.*`, `domain_mods.*`) are renamed first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from objectscape.checkpoints.bimgw import by_order
from objectscape.models.domains.attributes import AttributeVAE
from objectscape.models.domains.latents import SavedLatents
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
