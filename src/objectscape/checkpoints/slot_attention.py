"""Weights of the two public Slot Attention codes.

- EfficientMORL's PyTorch version (pemami4911/EfficientMORL@67939f0): a `.pth` file.
- The authors' TensorFlow version (google-research/google-research@0c1bbe5): an `.npz` file with the Keras variables as
  `encoder_cnn.0.kernel`, `slot_attention.gru.bias`, ... (`GOOGLE` below lists the prefixes).

Which of the two a configuration belongs to shows in its keys: `K` and `z_size`, or `num_slots` and `slot_size`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.checkpoints.upstream import check_keys, read_plain, unwrapped
from objectscape.models.slot_attention import SlotAttentionModel

EMORL = {
    "encoder.position.projection": "pos_embed_projection",
    "encoder.convs": "encoder_pt_1",
    "encoder.mlp": "encoder_pt_2",
    "attention.norm_slots": "norm_slots",
    "attention.norm_mlp": "norm_pre_ff",
    "attention.to_queries": "to_q",
    "attention.to_keys": "to_k",
    "attention.to_values": "to_v",
    "attention.gru": "gru",
    "attention.mlp": "mlp",
    "decoder.position.projection": "image_decoder.pos_embed_projection",
    "decoder.layers": "image_decoder.decode",
}
"""Our prefix -> EfficientMORL's."""

GOOGLE = {
    "encoder.position.projection": "encoder_pos.dense",
    "encoder.convs": "encoder_cnn",
    "encoder.mlp.0": "layer_norm",
    "encoder.mlp.1": "mlp.0",
    "encoder.mlp.3": "mlp.1",
    "attention.norm_inputs": "slot_attention.norm_inputs",
    "attention.norm_slots": "slot_attention.norm_slots",
    "attention.norm_mlp": "slot_attention.norm_mlp",
    "attention.to_queries": "slot_attention.project_q",
    "attention.to_keys": "slot_attention.project_k",
    "attention.to_values": "slot_attention.project_v",
    "attention.gru": "slot_attention.gru",
    "attention.mlp.0": "slot_attention.mlp.0",
    "attention.mlp.2": "slot_attention.mlp.1",
    "decoder.position.projection": "decoder_pos.dense",
    "decoder.layers": "decoder_cnn",
}
"""Our prefix -> the name of the authors' layer."""

PUBLISHED = {(32, "small"): (4, 35), (64, "small"): (6, 64), (64, "big"): (7, 96)}
"""EfficientMORL's (z_size, image_decoder) -> (K, image side): the weights themselves hold neither."""


def build(config: Mapping[str, Any]) -> SlotAttentionModel:
    """Our model from either code's hyperparameters.

    Raises:
        ValueError: if one is missing that has no default.
    """
    if "num_slots" in config:
        return SlotAttentionModel(
            image_size=config.get("resolution", 128),
            slots=config["num_slots"],
            slot_size=config.get("slot_size", 64),
            iterations=config.get("num_iterations", 3),
            hidden_size=config.get("slot_mlp_hidden", 128),
        )
    missing = [key for key in ("K", "z_size", "image_decoder", "input_size") if key not in config]
    if missing:
        raise ValueError(
            f"the configuration lacks {', '.join(missing)}, which the weights do not tell. Give them, for example "
            "K=7 (slots) and input_size=[3, 96, 96] (channels, height, width)."
        )
    return SlotAttentionModel(
        image_size=config["input_size"][-2:],
        slots=config["K"],
        slot_size=config["z_size"],
        iterations=config.get("attention_iters", 3),
        hidden_size=128,
        encoder_channels=64,
        decoder=config["image_decoder"],
        initialization="efficientmorl",
        output="sigmoid",
        reduction="sum",
        input_norm=False,
        norm_epsilon=1e-5,
    )


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Upstream weights -> our state dict, differentiably.

    Raises:
        ValueError: naming upstream keys that are missing or that nothing asks for.
    """
    ours = list(build(config).state_dict())
    google = "num_slots" in config
    sources = {key: (_google_key if google else _emorl_key)(key) for key in ours}
    missing, unexpected = set(sources.values()) - set(weights), set(weights) - set(sources.values())
    hint = "Check the decoder's name and that the file belongs to Slot Attention."
    check_keys(missing, unexpected, hint=hint)
    translate = _from_google if google else _from_emorl
    return {key: translate(key, weights[source]) for key, source in sources.items()}


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, weights) from an EfficientMORL `.pth` or an `.npz` of the authors' Keras variables.

    The configuration holds what the file tells; for EfficientMORL's published settings the number of slots and the
    image size are added, which the weights do not tell.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is neither, or could only be read by running code that it contains.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                weights = {key.removeprefix("weights/"): torch.from_numpy(archive[key]) for key in archive.files}
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not an archive of plain arrays ({error}); copy or export it again.") from error
        if "slot_attention.mlp.0.kernel" not in weights:
            raise ValueError(f"{path}: no array 'slot_attention.mlp.0.kernel'; see `GOOGLE` for the expected names.")
        slot_size, hidden = weights["slot_attention.mlp.0.kernel"].shape
        google = {"slot_size": slot_size, "slot_mlp_hidden": hidden}
        return {"resolution": [128, 128], "num_slots": 7, "num_iterations": 3, **google}, weights
    weights = unwrapped(read_plain(path))
    if "init_slots" not in weights:
        raise ValueError(
            f"{path}: no key 'init_slots', so these are not the weights of EfficientMORL's Slot Attention."
        )
    # Of the three decoders, 'big' has six layers, 'iodine' five and 'small' four.
    depth = sum(key.startswith("image_decoder.decode.") and key.endswith(".weight") for key in weights)
    decoder = {6: "big", 5: "iodine"}.get(depth, "small")
    z_size = weights["init_slots"].shape[-1] // 2
    config: dict[str, Any] = {"z_size": z_size, "image_decoder": decoder, "attention_iters": 3}
    if (z_size, decoder) in PUBLISHED:
        slots, side = PUBLISHED[z_size, decoder]
        config |= {"K": slots, "input_size": [3, side, side]}
    return config, weights


def _rename(key: str, prefixes: Mapping[str, str]) -> tuple[str, str]:
    """(upstream layer, rest of our key) for one of our keys."""
    prefix = next(prefix for prefix in prefixes if key.startswith(prefix + "."))
    return prefixes[prefix], key[len(prefix) + 1 :]


def _emorl_key(key: str) -> str:
    if key.startswith("attention.initial_"):
        return "init_slots"
    layer, rest = _rename(key, EMORL)
    return f"{layer}.{rest}" + ("_l0" if layer == "gru" else "")


def _from_emorl(key: str, value: Tensor) -> Tensor:
    if key.startswith("attention.initial_"):  # (1, 2D): mean, then the inverse softplus of the variance
        mean, raw = value.flatten().chunk(2)
        return mean if key.endswith("mean") else 0.5 * torch.log(F.softplus(raw.clamp_max(80)) + 1e-5)
    if key.endswith("position.projection.weight"):
        return value[:, [1, 2, 0, 3]]  # theirs: 1 - r, r, c, 1 - c; ours: r, c, 1 - r, 1 - c
    return value


def _google_key(key: str) -> str:
    if key.startswith("attention.initial_"):
        return "slot_attention.slots_mu" if key.endswith("mean") else "slot_attention.slots_log_sigma"
    layer, rest = _rename(key, GOOGLE)
    *index, name = rest.split(".")
    if layer in ("encoder_cnn", "decoder_cnn"):  # our Sequential counts the activations too
        layer = f"{layer}.{int(index[0]) // 2}"
    if layer.split(".")[-1].endswith(("norm", "norm_inputs", "norm_slots", "norm_mlp")):
        return f"{layer}.{'gamma' if name == 'weight' else 'beta'}"
    names = {"weight": "kernel", "weight_ih": "kernel", "weight_hh": "recurrent_kernel"}
    return f"{layer}.{names.get(name, 'bias')}"


def _from_google(key: str, value: Tensor) -> Tensor:
    if key.startswith("attention.initial_"):
        return value.flatten()
    if key.startswith("attention.gru."):  # columns update, reset, candidate -> rows reset, update, candidate
        if "bias" in key:
            value = value[0 if key.endswith("ih") else 1]  # (3D,)
        update, reset, candidate = value.mT.chunk(3) if value.ndim == 2 else value.chunk(3)
        return torch.cat([reset, update, candidate])
    if value.ndim == 4:  # (h, w, in, out); a transposed convolution's (h, w, out, in) becomes PyTorch's (in, out, h, w)
        return value.permute(3, 2, 0, 1)
    return value.mT if value.ndim == 2 else value
