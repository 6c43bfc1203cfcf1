"""Weights of SPACE and SPACE-Time in the layouts of the public codes.

- zhixuan-lin/SPACE@f255cda, the authors' code, and its rework k4ntz/SPACE@980e370: one layout.
- k4ntz/MOC@5b3ae13 (SPACE-Time): the same below the prefix `space.`.

The weights do not tell everything: give `K` (background components) and, for files, `channel_order`. The public Atari
models of all three codes were trained on BGR images, those of the 3-D rooms on RGB.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from objectscape.checkpoints.upstream import check_keys, read_plain, tensors
from objectscape.models.space import Space
from objectscape.models.space_time import SpaceTime

PREFIXES = {
    "foreground.encoder.base": "fg_module.img_encoder.enc",
    "foreground.encoder.lateral": "fg_module.img_encoder.enc_lat",
    "foreground.encoder.joint": "fg_module.img_encoder.enc_cat",
    "foreground.encoder.scale": "fg_module.img_encoder.z_scale_net",
    "foreground.encoder.shift": "fg_module.img_encoder.z_shift_net",
    "foreground.encoder.presence": "fg_module.img_encoder.z_pres_net",
    "foreground.encoder.depth": "fg_module.img_encoder.z_depth_net",
    "foreground.glimpse_encoder.convolutions": "fg_module.z_what_net.enc_cnn",
    "foreground.glimpse_encoder.head": "fg_module.z_what_net.enc_what",
    "foreground.glimpse_decoder.layers": "fg_module.glimpse_dec.dec",
    "foreground.glimpse_decoder.colors": "fg_module.glimpse_dec.dec_o",
    "foreground.glimpse_decoder.alpha": "fg_module.glimpse_dec.dec_alpha",
    "background.image_encoder": "bg_module.image_enc.enc",
    "background.mask_cell": "bg_module.rnn_mask",
    "background.mask_head": "bg_module.predict_mask.fc",
    "background.mask_decoder.layers": "bg_module.mask_decoder.dec",
    "background.component_encoder": "bg_module.comp_encoder.enc",
    "background.prior_cell": "bg_module.rnn_mask_prior",
    "background.prior_head": "bg_module.predict_mask_prior.fc",
    "background.component_prior": "bg_module.predict_comp_prior.mlp",
    "background.mask_hidden": "bg_module.rnn_mask_h",
    "background.mask_memory": "bg_module.rnn_mask_c",
    "background.mask_start": "bg_module.z_mask_0",
    "background.prior_hidden": "bg_module.rnn_mask_h_prior",
    "background.prior_memory": "bg_module.rnn_mask_c_prior",
}
"""Our prefix -> theirs; layers below have the same numbers."""

CONSTANTS = (
    "zero", "arch_type", "area_object_weight", "fg_module.tau", "fg_module.prior_", "fg_module.boundary_filter.",
    "fg_module.img_encoder.offset",
)  # fmt: skip
"""Entries that no layer needs: annealed values of the last step, constants, and placeholders."""

SIZES = {
    "img_enc_dim_fg": ("fg_module.img_encoder.enc.15.weight", 0, 1),
    "z_what_dim": ("fg_module.z_what_net.enc_what.weight", 0, 2),
    "img_enc_dim_bg": ("bg_module.image_enc.enc.13.weight", 0, 1),
    "z_mask_dim": ("bg_module.z_mask_0", 0, 1),
    "z_comp_dim": ("bg_module.predict_comp_prior.mlp.4.weight", 0, 2),
    "rnn_mask_hidden_dim": ("bg_module.rnn_mask_h", 0, 1),
    "rnn_mask_prior_hidden_dim": ("bg_module.rnn_mask_h_prior", 0, 1),
    "predict_comp_hidden_dim": ("bg_module.predict_comp_prior.mlp.0.weight", 0, 1),
}
"""Upstream option -> where the weights tell it: entry, axis, divisor."""

OPTIONS = {
    "G": "grid",
    "K": "components",
    "glimpse_size": "glimpse_size",
    "z_what_dim": "what_size",
    "z_mask_dim": "mask_size",
    "z_comp_dim": "component_size",
    "img_enc_dim_fg": "features",
    "img_enc_dim_bg": "background_features",
    "rnn_mask_hidden_dim": "mask_hidden_size",
    "rnn_mask_prior_hidden_dim": "prior_hidden_size",
    "predict_comp_hidden_dim": "component_hidden_size",
    "fg_sigma": "foreground_std",
    "bg_sigma": "background_std",
    "z_scale_std_value": "size_std",
    "align_corners": "align_corners",
    "channel_order": "channel_order",
}
"""Upstream option -> ours, with the same value."""

SPACE_OPTIONS = {"fix_alpha_value": "fixed_alpha", "fix_alpha_steps": "fixed_alpha_steps"}
RAMPS = {"z_pres": "presence_prior", "z_scale_mean": "size_prior", "tau": "temperature"}
TIME_OPTIONS = {
    "area_object_weight": "continuity_weight",
    "z_cos_match_weight": "match_weight",
    "cosine_sim": "cosine",
    "agree_sim": "agreement",
    "motion_weight": "motion_weight",
    "motion_loss_weight_z_pres": "presence_weight",
    "motion_loss_weight_z_where": "box_weight",
    "motion_loss_weight_alpha": "alpha_weight",
    "dynamic_steepness": "steepness",
    "motion_underestimating": "underestimating",
    "motion_object_found_lambda": "found_weight",
    "z_where_offset": "box_tolerance",
    "use_variance": "use_variance",
    "variance_steps": "variance_steps",
}


def build(config: Mapping[str, Any]) -> Space | SpaceTime:
    """Our model from upstream's hyperparameters; SPACE-Time if there is one of its own.

    Raises:
        ValueError: if the number of background components or the order of the channels is not given.
    """
    if config.get("K") is None:
        raise ValueError("the weights do not tell how many background components there are; add, for example, K=3")
    if config.get("channel_order", "rgb") is None:
        raise ValueError(
            "the weights do not tell the order of color channels they were trained on: add channel_order=bgr for the "
            "Atari models of the original codes, channel_order=rgb for the 3-D rooms"
        )
    options = {ours: config[theirs] for theirs, ours in OPTIONS.items() if theirs in config}
    for theirs, ours in RAMPS.items():
        keys = [f"{theirs}_{part}" for part in ("start_step", "end_step", "start_value", "end_value")]
        if all(key in config for key in keys):
            options[ours] = [config[key] for key in keys]
    if "img_shape" in config:
        options["image_size"] = config["img_shape"][0]
    if not _is_time(config):
        options |= {ours: config[theirs] for theirs, ours in SPACE_OPTIONS.items() if theirs in config}
        if "boundary_loss" in config:
            options["boundary_steps"] = config.get("bl_off_step", 10**8) if config["boundary_loss"] else 0
        return Space(**options)
    options |= {ours: config[theirs] for theirs, ours in TIME_OPTIONS.items() if theirs in config}
    start, length = config.get("motion_cooling_start_step", 0), config.get("motion_cooling_end_step", 3000)
    options["injection"] = (start, start + length, 1.0, 0.0)
    if not config.get("dynamic_scheduling", True):
        options["schedule"] = (start, start + 2 * length, 1.0, 0.0)
    return SpaceTime(**options)


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Upstream weights -> our state dict, differentiably.

    Raises:
        ValueError: naming upstream keys that are missing or that nothing asks for.
    """
    theirs = {key.removeprefix("space."): value for key, value in weights.items()}
    state = build(config).state_dict()
    decoder = "dec" if config["K"] == 1 else "decoder"
    sources = {key: _source(key, decoder) for key in state if not key.startswith(("dynamic.", "sizes."))}
    missing = set(sources.values()) - set(theirs)
    unexpected = {key for key in theirs if not key.startswith(CONSTANTS)} - set(sources.values())
    check_keys(missing, unexpected, hint="Check K: one component has another decoder than several.")
    return {key: theirs[sources[key]] if key in sources else value for key, value in state.items()}


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, weights) of a checkpoint. The configuration holds what the weights tell.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none of these layouts, or could only be read by running code that it contains.
    """
    stored = read_plain(path)
    weights = tensors(stored.get("model", stored))
    bare = {key.removeprefix("space."): value for key, value in weights.items()}
    absent = [
        key for key in ("fg_module.img_encoder.offset", *(key for key, _, _ in SIZES.values())) if key not in bare
    ]
    if absent:
        raise ValueError(f"{path}: no entry {absent[0]!r}, so these are not weights of SPACE or SPACE-Time.")
    config: dict[str, Any] = {name: bare[key].shape[axis] // divisor for name, (key, axis, divisor) in SIZES.items()}
    strong = "bg_module.comp_decoder.dec.0.weight" in bare
    config |= {"G": bare["fg_module.img_encoder.offset"].shape[-1], "K": 1 if strong else None, "channel_order": None}
    if any(key.startswith("space.") for key in weights):
        config["area_object_weight"] = float(stored.get("area_object_weight", 10.0))
    return config, weights


def _is_time(config: Mapping[str, Any]) -> bool:
    return any(key in config for key in TIME_OPTIONS)


def _source(key: str, decoder: str) -> str:
    if key.startswith("background.component_decoder.layers."):
        return key.replace("background.component_decoder.layers", f"bg_module.comp_decoder.{decoder}")
    prefix = max((p for p in PREFIXES if key == p or key.startswith(p + ".")), key=len)
    return PREFIXES[prefix] + key[len(prefix) :]
