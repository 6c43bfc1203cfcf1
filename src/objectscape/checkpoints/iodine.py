"""Weights of DeepMind's released IODINE (google-deepmind/deepmind-research@d8df415, folder iodine; Sonnet 1).

`read` takes an `.npz` of the variables under their own names; `docs/models/iodine.md` says how to make one from a
published checkpoint. Optimizer state, step counters and the factor regressor are dropped.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from objectscape.checkpoints.upstream import check_keys
from objectscape.models.iodine import IODINE

INITIAL = "model/iodine/initial_sample_distribution"
DECODER = "pixel_decoder/broadcast_conv/conv_net_2d/conv_2d_"
CONVS = "encoder_net/cnn/conv_net_2d/conv_2d_"
MLP = "encoder_net/cnn/mlp/linear_"
LSTM = "recurrent_net/lstm/lstm"
HEAD = "refinement_head/residual_head/linear"
NORMS = "model/iodine/preprocess/layer_norm_"

DROPPED = ("factor_evaluator/", "global_step", "beta1_power", "beta2_power", "optimizer/")
"""Beginnings of variable names without a place in our model; so are Adam's, which end in /Adam and /Adam_1."""

COORDINATES = {2: "linear", 8: "cos"}
"""Number of channels -> the released code's name."""

PUBLISHED = {64: (7, 128), 16: (6, 64), 32: (4, 35)}
"""n_z of the three published checkpoints -> (K, image side): the weights themselves hold neither."""


def build(config: Mapping[str, Any]) -> IODINE:
    """Our model from upstream hyperparameters (the names are those of the recorded cases).

    Args:
        config: K, H, W, n_z, dec_channels, dec_kernel, ref_channels, ref_kernel, ref_mlp, lstm (a list of widths); and
            T (5), dec_coord, ref_coord ("linear" or "cos"), pixel_dist ("logistic" or "normal"), pixel_scale (0.03).

    Raises:
        ValueError: if one is missing that has no default, or names something unknown.
    """
    needed = ("K", "H", "W", "n_z", "dec_channels", "dec_kernel", "ref_channels", "ref_kernel", "ref_mlp", "lstm")
    missing = [key for key in needed if key not in config]
    if missing:
        raise ValueError(
            f"the configuration lacks {', '.join(missing)}. The weights do not tell the number of slots K and the "
            "image's height H and width W; published are K=7 H=128 W=128 (CLEVR6), K=6 H=64 W=64 (Multi-dSprites), "
            "and K=4 H=35 W=35 (Tetrominoes)."
        )
    return IODINE(
        image_size=[config["H"], config["W"]],
        slots=config["K"],
        slot_size=config["n_z"],
        iterations=config.get("T", 5),
        decoder_channels=list(config["dec_channels"]),
        decoder_kernel=config["dec_kernel"],
        decoder_coordinates=_known(config, "dec_coord", {"linear": "linear", "cos": "cosine"}),
        refinement_channels=list(config["ref_channels"]),
        refinement_kernel=config["ref_kernel"],
        refinement_mlp=list(config["ref_mlp"]),
        refinement_coordinates=_known(config, "ref_coord", {"linear": "linear", "cos": "cosine"}),
        lstm=list(config["lstm"]),
        likelihood=_known(config, "pixel_dist", {"logistic": "logistic", "normal": "gaussian", "gaussian": "gaussian"}),
        pixel_scale=config.get("pixel_scale", 0.03),
    )


def convert(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Upstream variables -> our state dict, differentiably.

    Raises:
        ValueError: naming upstream variables that are missing or that nothing asks for.
    """
    sources = {key: _source(key) for key in build(config).state_dict()}
    missing = set(sources.values()) - set(weights)
    unexpected = {name for name in weights if not _dropped(name)} - set(sources.values())
    hint = "Check lstm, ref_mlp and the lists of channels, and that the file belongs to IODINE."
    check_keys(missing, unexpected, hint=hint)
    return {key: _translate(weights[source]) for key, source in sources.items()}


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, weights) from an `.npz` of the released code's variables.

    The configuration holds what the shapes tell; K, H and W are added for the latent sizes of the published runs.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an archive of plain arrays, or not of IODINE.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("one array")
        with archive:
            arrays = {key.removeprefix("weights/"): archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: not an .npz of plain arrays ({error}). From a TensorFlow checkpoint, make one with "
            "tf.train.load_checkpoint and numpy.savez; the documentation of IODINE shows how."
        ) from error
    weights = {name: torch.from_numpy(value) for name, value in arrays.items() if value.dtype.kind == "f"}
    absent = [name for name in (INITIAL, f"{DECODER}0/w", f"{CONVS}0/w", f"{MLP}0/w") if name not in weights]
    if absent:
        raise ValueError(f"{path}: no variable {absent[0]!r}, so these are not weights of the released IODINE.")
    n_z = weights[INITIAL].shape[0] // 2
    decoder, convs, mlp = (_layers(weights, prefix) for prefix in (DECODER, CONVS, MLP))
    config: dict[str, Any] = {
        "n_z": n_z,
        "T": 5,
        "dec_channels": [layer.shape[-1] for layer in decoder[:-1]],
        "dec_kernel": decoder[0].shape[0],
        "dec_coord": COORDINATES.get(decoder[0].shape[2] - n_z - 1),
        "ref_channels": [layer.shape[-1] for layer in convs],
        "ref_kernel": convs[0].shape[0],
        "ref_coord": COORDINATES.get(convs[0].shape[2] - 16),
        "ref_mlp": [layer.shape[-1] for layer in mlp],
        "lstm": [value.shape[1] // 4 for name, value in sorted(weights.items()) if _gates(name)],
        "pixel_dist": "logistic",
        "pixel_scale": 0.03,
    }
    if n_z in PUBLISHED:
        slots, side = PUBLISHED[n_z]
        config |= {"K": slots, "H": side, "W": side}
    return config, weights


def _known(config: Mapping[str, Any], key: str, names: Mapping[str, Any]) -> Any:
    """Our name of an upstream choice; the first if it is not given."""
    value = config.get(key, next(iter(names)))
    if value not in names:
        raise ValueError(f"{key}={value!r}; known are {', '.join(names)}.")
    return names[value]


def _layers(weights: Mapping[str, Tensor], prefix: str) -> list[Tensor]:
    """The matrices of numbered layers, in order."""
    found: list[Tensor] = []
    while f"{prefix}{len(found)}/w" in weights:
        found.append(weights[f"{prefix}{len(found)}/w"])
    return found


def _gates(name: str) -> bool:
    return name.startswith(LSTM) and name.endswith("/w_gates")


def _dropped(name: str) -> bool:
    return name.startswith(DROPPED) or name.endswith(("/Adam", "/Adam_1"))


def _source(key: str) -> str:
    """The upstream variable that one of our parameters is."""
    if key == "initial":
        return INITIAL
    parts, suffix = key.split("."), "w" if key.endswith("weight") else "b"
    if parts[0] == "refinement_inputs":
        return f"{NORMS}{parts[2]}/{'gamma' if suffix == 'w' else 'beta'}"
    if parts[1] == "head":
        return f"{HEAD}/{suffix}"
    if parts[1] == "lstm":
        return f"{LSTM}{'' if parts[2] == '0' else '_' + parts[2]}/{suffix}_gates"
    prefix = {"layers": DECODER, "convs": CONVS, "mlp": MLP}[parts[1]]
    return f"{prefix}{int(parts[2]) // 2}/{suffix}"  # our Sequential counts the activations too


def _translate(value: Tensor) -> Tensor:
    """Sonnet's layout -> PyTorch's: (h, w, in, out) -> (out, in, h, w), (in, out) -> (out, in)."""
    return value.permute(3, 2, 0, 1) if value.ndim == 4 else value.mT if value.ndim == 2 else value
