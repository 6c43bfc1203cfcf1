"""Tables from our parameter names to upstream's, for the pieces that several families share.

A table maps each of our keys to the upstream key, or to a tuple of upstream keys that are concatenated along axis 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from objectscape.checkpoints.upstream import check_keys

Table = dict[str, str | tuple[str, ...]]

_DROPPED_SUFFIXES = ("pixel_coords.g_1", "pixel_coords.g_2")  # buffers of the first releases, computed on the fly since
_NORM_KEYS = {
    "batch": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "instance": ("weight", "bias"),
    "none": (),
}
NORMS = {"bn": "batch", "in": "instance", "none": "none", None: "none", "": "none"}
"""Upstream's name of a normalization -> ours."""


def upstream_norm(config: Mapping[str, object], name: str) -> str:
    """Our name of the normalization that upstream's option `name` asks for."""
    value = config.get(name, "bn")
    if value not in NORMS:
        raise ValueError(f"{name}={value!r}; the GENESIS code base knows 'bn', 'in' and 'none'")
    return NORMS[value]


def translate(weights: Mapping[str, Tensor], table: Table, *, dropped: Collection[str] = ()) -> dict[str, Tensor]:
    """Our state dict from upstream's, by differentiable operations only.

    Args:
        weights: upstream state dict.
        table: from every one of our keys to where it comes from.
        dropped: upstream keys that may be there and are not used.

    Raises:
        ValueError: naming the upstream keys that are missing, or that nothing accounts for.
    """
    sources = {key: (names,) if isinstance(names, str) else names for key, names in table.items()}
    used = {name for names in sources.values() for name in names}
    missing = sorted(used - set(weights))
    unexpected = sorted(
        key for key in set(weights) - used if key not in dropped and not key.endswith(_DROPPED_SUFFIXES)
    )
    check_keys(missing, unexpected, hint="Check the constructor options (flags.json) that belong to the checkpoint.")
    return {
        key: weights[names[0]] if len(names) == 1 else torch.cat([weights[name] for name in names])
        for key, names in sources.items()
    }


def same(ours: str, theirs: str, names: Iterable[str] = ("weight", "bias")) -> Table:
    """One layer that is stored alike on both sides."""
    return {f"{ours}.{name}": f"{theirs}.{name}" for name in names}


def lstm(ours: str, theirs: str, *, cell: bool) -> Table:
    """A one-layer LSTM; `cell` if ours is an `nn.LSTMCell`."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {f"{ours}.{name}{'' if cell else '_l0'}": f"{theirs}.{name}_l0" for name in names}


def gated_layers(ours: str, theirs: str, norm: str, plain: int) -> Table:
    """Six gated convolutions, of which number `plain` has no normalization."""
    table: Table = {}
    for i in range(6):
        table |= same(f"{ours}.{i}.conv", f"{theirs}.{i}.conv")
        if i != plain:
            for mine, upstream in (("value_norm", "h_norm"), ("gate_norm", "g_norm")):
                table |= same(f"{ours}.{i}.{mine}", f"{theirs}.{i}.{upstream}", _NORM_KEYS[norm])
    return table


def component_encoder(ours: str, theirs: str) -> Table:
    """`nn.component_encoder.ComponentEncoder`."""
    table: Table = {}
    for i in (0, 2, 4, 6):
        table |= same(f"{ours}.convolutions.{i}", f"{theirs}.module.{i}")
    return table | same(f"{ours}.head.0", f"{theirs}.module.9") | same(f"{ours}.head.2", f"{theirs}.module.11")


def broadcast_decoder(ours: str, theirs: str, layers: int) -> Table:
    """`nn.broadcast_decoder.BroadcastDecoder` with `layers` 3x3 convolutions."""
    table = same(f"{ours}.first", f"{theirs}.seq.1")
    for i in range(1, layers + 1):  # the 3x3 convolutions after the first, then the 1x1 convolution
        table |= same(f"{ours}.rest.{2 * i - 1}", f"{theirs}.seq.{2 * i + 1}")
    return table


def autoregressive_prior(ours: str) -> Table:
    """`nn.latent_prior.AutoregressivePrior`."""
    return lstm(f"{ours}.lstm", "prior_lstm", cell=False) | same(f"{ours}.head", "prior_linear")


def broadcast_layers(weights: Mapping[str, Tensor], theirs: str) -> int:
    """Number of 3x3 convolutions of an upstream broadcast decoder, counted in the file."""
    return sum(
        key.startswith(f"{theirs}.seq.") and key.endswith(".weight") and value.shape[-1] == 3
        for key, value in weights.items()
    )


def first_norm(weights: Mapping[str, Tensor], layer: str) -> str:
    """Upstream's name of the normalization in gated layer `layer`, told from the keys that are there."""
    if f"{layer}.h_norm.running_mean" in weights:
        return "bn"
    return "in" if f"{layer}.h_norm.weight" in weights else "none"
