"""Weights of the released OP3 (jcoreyes/OP3@ec20dcf), files `*_params.pkl`.

They are dictionaries of tensors saved by `torch.save`; `read` takes the tensors without executing anything in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from objectscape.checkpoints.upstream import check_keys, read_plain, tensors
from objectscape.models.op3 import OP3

PARTS = {
    "inertia_encoder": "inertia",
    "action_encoder": "action",
    "action_effect_network": "action_effect",
    "action_attention_network": "action_gate",
    "pairwise_encoder_network": "pair",
    "interaction_effect_network": "pair_effect",
    "interaction_attention_network": "pair_gate",
    "final_merge_network": "merge",
    "det_output": "deterministic",
    "lambdas1_output": "mean",
    "lambdas2_output": "raw_scale",
}
"""Released names of the interaction network's parts -> ours."""

NORMS = {
    "layer_norms_2d.0": "pictures.by_masks",
    "layer_norms_2d.1": "pictures.likelihood",
    "layer_norms_2d.2": "pictures.leave_one_out",
    "layer_norms_2d.3": "pictures.by_components",
    "layer_norms_1d.0": "vectors.by_mean",
    "layer_norms_1d.1": "vectors.by_raw",
}


def build(config: Mapping[str, Any]) -> OP3:
    """Our model from upstream hyperparameters (the names are those of the recorded cases).

    Args:
        config: K and image; and sto, det (64), action (0), action_enc (32), beta (0.01), sigma (0.1), ref_channels,
            ref_hidden, lstm, dec_channels.

    Raises:
        ValueError: if K or image is missing, which the weights do not tell.
    """
    missing = [key for key in ("K", "image") if key not in config]
    if missing:
        raise ValueError(
            f"the weights do not tell {' and '.join(missing)}: add K=4 image=64 (pick and place, cloth) or K=7 "
            "image=64 (towers)."
        )
    return OP3(
        image_size=config["image"],
        slots=config["K"],
        stochastic_size=config.get("sto", 64),
        deterministic_size=config.get("det", 64),
        action_size=config.get("action", 0),
        action_width=config.get("action_enc", 32),
        decoder_channels=list(config.get("dec_channels", (32, 32, 32, 32))),
        refinement_channels=list(config.get("ref_channels", (32, 32, 64))),
        refinement_mlp=list(config.get("ref_hidden", (128,))),
        lstm_size=config.get("lstm", 128),
        pixel_std=config.get("sigma", 0.1),
        kl_weight=config.get("beta", 0.01),
    )


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Released weights -> our state dict, differentiably.

    Raises:
        ValueError: naming weights that are missing or that nothing asks for.
    """
    converted = {_ours(key): value for key, value in weights.items() if not key.startswith("initial_lambdas")}
    if {"initial_lambdas1", "initial_lambdas2"} <= set(weights):
        converted["initial"] = torch.cat([weights["initial_lambdas1"], weights["initial_lambdas2"]])
    wanted = set(build(config).state_dict())
    check_keys(wanted - set(converted), set(converted) - wanted, hint="Check action and the widths.")
    return converted


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, weights) of a released file; the configuration holds what the shapes tell, K is to be added.

    Raises:
        ValueError: if the file holds more than tensors, or weights of another model.
    """
    weights = tensors(read_plain(path))
    if "inital_deter_state" not in weights:  # spelled so in the released code
        raise ValueError(f"{path}: no weights named inital_deter_state, so it is no OP3 model.")
    told = weights.get("dynamics_net.action_encoder.fcs.0.weight")
    return {
        "image": 64,
        "sto": len(weights["initial_lambdas1"]),
        "det": len(weights["inital_deter_state"]),
        "action": 0 if told is None else told.shape[1],
        "action_enc": weights["dynamics_net.interaction_effect_network.last_fc.weight"].shape[0],
        "dec_channels": _widths(weights, "decode_net.broadcast_net.conv_layers.")[:-1],
        "ref_channels": _widths(weights, "refinement_net.conv_layers."),
        "ref_hidden": _widths(weights, "refinement_net.fc_layers."),
        "lstm": weights["refinement_net.last_fc.weight"].shape[1],
    }, weights


def _widths(weights: Mapping[str, Tensor], prefix: str) -> list[int]:
    """Outputs of numbered layers, in order."""
    found: list[int] = []
    while f"{prefix}{len(found)}.weight" in weights:
        found.append(weights[f"{prefix}{len(found)}.weight"].shape[0])
    return found


def _ours(key: str) -> str:
    """Our name of a released one."""
    if key == "inital_deter_state":
        return "initial_deterministic"
    if found := re.match(r"dynamics_net\.(\w+)\.(fcs\.0|last_fc)\.(\w+)", key):
        return f"physics.{PARTS[found[1]]}.{'last' if found[2] == 'last_fc' else 'first'}.{found[3]}"
    if found := re.match(r"decode_net\.broadcast_net\.conv_layers\.(\d)\.(\w+)", key):
        return f"decoder.last.{found[2]}" if found[1] == "4" else f"decoder.layers.{found[1]}.{found[2]}"
    if found := re.match(r"(layer_norms_[12]d\.\d)\.(\w+)", key):
        return f"refiner.{NORMS[found[1]]}.{'scale' if found[2] in ('gamma', 'scale_param') else 'shift'}"
    key = re.sub(r"_l0$", "", key)
    for theirs, ours in {
        "refinement_net.conv_layers": "refiner.convs",
        "refinement_net.fc_layers": "refiner.mlp",
        "refinement_net.last_fc2": "refiner.raw_scale",
        "refinement_net.last_fc": "refiner.mean",
        "refinement_net": "refiner",
    }.items():
        if key.startswith(theirs + "."):
            return ours + key[len(theirs) :]
    return key
