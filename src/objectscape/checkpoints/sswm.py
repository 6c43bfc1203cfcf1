"""Weights of the released SSWM (pemami4911/symmetric-and-object-centric-world-models@8a03b08), world model and VRNN.

`read` takes a `.pth` of the training script (keys `step`, `model`, `model_opt`) or a bare state dict. GECO's multiplier
becomes the model's `reconstruction_weight`; its moving average is dropped, for it only steers further training.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.checkpoints.upstream import check_keys, read_plain, tensors
from objectscape.models.sswm import SSWM
from objectscape.models.vrnn import VRNN

MEMORY = {"Ours": "history", "SSM": "none", "RSSM": "state"}
"""The released `ssm` -> our `memory`."""

DROPPED = ("geco_C_ema", "geco_beta")

NAMES = {
    "refine_net.conv.": "refiner.convs.",
    "refine_net.input_proj.0.": "refiner.merge.",
    "refine_net.lstm.": "refiner.lstm.",
    "refine_net.loc.": "refiner.mean.",
    "refine_net.scale.": "refiner.raw_scale.",
    "relational_dynamics.d_obj.0.": "dynamics.embed.",
    "relational_dynamics.past_rnn.": "dynamics.recurrence.",
    "relational_dynamics.d_act.0.": "dynamics.embed_action.",
    "relational_dynamics.d_act_eff.0.": "dynamics.action_effect.",
    "relational_dynamics.d_act_att.0.": "dynamics.action_gate.",
    "relational_dynamics.d_obj_eff.0.": "dynamics.effect.",
    "relational_dynamics.d_obj_att.0.": "dynamics.gate.",
    "relational_dynamics.d_comb.": "dynamics.merge.",
    "relational_dynamics.loc.": "dynamics.mean.",
    "relational_dynamics.scale.": "dynamics.raw_scale.",
    "relational_dynamics.h.": "dynamics.state.",
    "phi_x.6.": "see_image.linear.",
    "phi_z.": "see_latent.",
    "q_loc.": "posterior_mean.",
    "q_var.": "posterior_raw.",
    "p_loc.": "prior_mean.",
    "p_var.": "prior_raw.",
    "encoder.": "posterior.",
}
"""Beginnings of released names and of ours; a name that starts with none of them is ours already."""


def build(config: Mapping[str, Any]) -> SSWM | VRNN:
    """Our model from the released hyperparameters (the `Net` group of a configuration, with `K` and `input_size`).

    Raises:
        ValueError: if K is missing, which the weights do not tell, or `ssm` is unknown.
    """
    if is_vrnn(config):
        return VRNN(
            image_size=list(config["input_size"][1:]),
            latent_size=config["z_size"],
            hidden_size=config.get("hidden_dim", 256),
            encoder_channels=list(config.get("encoder_channels", (32, 32, 64, 64, 64))),
            decoder_channels=config.get("conv_channels", 32),
            context=config.get("context_len", 2),
            open_loop=config.get("open_loop_training", False),
            action_size=config.get("action_dim", 0),
            action_shift=config.get("action_shift", 1),
            action_noise=config.get("action_noise", 0.05),
            first_action="released",
            pixel_std=math.exp(config.get("log_scale", math.log(0.3))),
            kl_weight=config.get("kl_beta", 1.0),
        )
    if "K" not in config:
        raise ValueError("the weights do not tell the number of slots: add K=6, which the released settings have.")
    kind = config.get("ssm", "Ours")
    if kind not in MEMORY:
        raise ValueError(f"ssm={kind!r}; known are {', '.join(MEMORY)}.")
    letters = set(config.get("time_inference_schedule", ())) | ({"U"} if config.get("dynamics_uncertainty") else set())
    return SSWM(
        image_size=list(config["input_size"][1:]),
        slots=config["K"],
        slot_size=config["z_size"],
        channels=config.get("conv_channels", 32),
        refinement_kernel=config.get("refinenet_conv_size", 5),
        lstm_size=config.get("lstm_dim", 128),
        context=config.get("context_len", 2),
        evaluations=list(config.get("iterative_inference_schedule", (4, 2))),
        rollouts=config.get("stochastic_samples", 1),
        objective="best_step" if "BMS" in letters else "best_of_many" if "U" in letters else "single",
        memory=MEMORY[kind],  # type: ignore[arg-type]
        shared_std=config.get("separate_variances", kind != "RSSM"),
        pairs="released",
        frames="right" if config.get("refine_image_order") == "correct" else "released",
        action_size=config.get("action_dim", 0) if config.get("action_conditional_dynamics", True) else 0,
        action_shift=config.get("action_shift", 1),
        action_noise=config.get("action_noise", 0.05),
        pixel_std=math.exp(config.get("log_scale", math.log(0.11))),
        background_std=math.exp(config.get("bg_log_scale", math.log(0.09))),
        kl_weight=config.get("kl_beta", 1.0),
    )


def is_vrnn(config: Mapping[str, Any]) -> bool:
    """Whether a released configuration is the VRNN's."""
    return config.get("model") == "VRNN" or "hidden_dim" in config


def geco_in_force(config: Mapping[str, Any]) -> bool:
    """Whether the released code would use GECO's multiplier at this configuration's step."""
    return config.get("global_step", 0) >= config.get("geco_warm_start", 0)


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Released weights -> our state dict, differentiably.

    Raises:
        ValueError: naming weights that are missing or that nothing asks for.
    """
    converted = {}
    for key, value in weights.items():
        if key not in DROPPED:
            converted[_ours(key)] = value.squeeze(0) if key == "lamda_0" else value
    weight = F.softplus(weights["geco_beta"]).reshape(()) if geco_in_force(config) else torch.tensor(1.0)
    converted["reconstruction_weight"] = weight.to(weights["geco_beta"].dtype)
    wanted = set(build(config).state_dict())
    check_keys(wanted - set(converted), set(converted) - wanted, hint="Check ssm, action_dim and the widths.")
    return converted


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, weights) of a released checkpoint; the configuration holds what the shapes tell.

    Raises:
        ValueError: if the file holds more than tensors, or weights of another model.
    """
    weights = tensors(read_plain(path))
    if "geco_beta" not in weights or not {"lamda_0", "phi_x.6.weight"} & set(weights):
        raise ValueError(f"{path}: neither lamda_0 nor phi_x.6.weight is there, so it is no SSWM world model or VRNN.")
    step = {"global_step": 10**9}  # a finished run; its GECO is at work
    if "phi_x.6.weight" in weights:
        hidden, pixels = weights["phi_x.6.weight"].shape
        channels = [weights[f"phi_x.{i}.h.weight"].shape[0] for i in range(5)]
        side = 4 * math.isqrt(pixels // channels[-1])
        return {
            "model": "VRNN",
            "input_size": [3, side, side],
            "z_size": weights["q_loc.weight"].shape[0],
            "hidden_dim": hidden,
            "encoder_channels": channels,
            "conv_channels": weights["dec.decode.0.weight"].shape[0],
            "action_dim": weights["encoder.0.weight"].shape[1] - 2 * hidden,
            **step,
        }, weights
    width = weights["refine_net.conv.0.weight"].shape[0]
    side = 4 * math.isqrt(weights["refine_net.conv.8.weight"].shape[1] // width)
    recurrent, told = weights.get("relational_dynamics.past_rnn.weight_hh_l0"), "relational_dynamics.d_act.0.weight"
    kind = "SSM" if recurrent is None else "RSSM" if "relational_dynamics.h.weight" in weights else "Ours"
    return {
        "input_size": [3, side, side],
        "z_size": weights["lamda_0"].shape[1] // 2,
        "conv_channels": width,
        "refinenet_conv_size": weights["refine_net.conv.0.weight"].shape[-1],
        "lstm_dim": weights["refine_net.conv.8.weight"].shape[0],
        "ssm": kind,
        "dynamics_uncertainty": kind == "Ours",
        "stochastic_samples": 10 if kind == "Ours" else 1,
        "action_dim": weights[told].shape[1] if told in weights else 0,
        **step,
    }, weights


def _ours(key: str) -> str:
    """Our name of a released one."""
    if key == "lamda_0":
        return "initial"
    if found := re.match(r"(image_decoder|dec)\.decode\.(\d)\.(.*)", key):
        index = int(found[2])
        return f"decoder.last.{found[3]}" if index == 8 else f"decoder.layers.{index // 2}.{found[3]}"
    if found := re.match(r"phi_x\.([0-4])\.(h|g|bn_h|bn_g)\.(.*)", key):
        kind = {"h": "value", "g": "gate", "bn_h": "value_norm", "bn_g": "gate_norm"}[found[2]]
        return f"see_image.layers.{found[1]}.{kind}.{found[3]}"
    key = re.sub(r"^lstm\.", "recurrence.", re.sub(r"_l0$", "", key))
    for theirs, ours in NAMES.items():
        if key.startswith(theirs):
            return ours + key[len(theirs) :]
    return key
