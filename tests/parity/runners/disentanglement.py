"""Activeness, traversals and DCI of EfficientMORL's evaluation."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.evaluation.traversals import Latents, activeness, traverse
from objectscape.metrics.activeness import latent_ranges, traversal_limits, traversal_values
from objectscape.metrics.disentanglement import (
    completeness,
    completeness_per_factor,
    dci,
    disentanglement,
    disentanglement_per_code,
)
from objectscape.metrics.factors import FactorKind
from objectscape.nn.slot_decoders import make_slot_decoder
from objectscape.scene import Decomposition
from tests.parity.case import Case

TILES_PER_ROW = 8  # of torchvision's grid


class _DecoderOnly(nn.Module):
    """Stands in for a model: the recorded decoder, RGB through a sigmoid, masks through a softmax over slots."""

    def __init__(self, case: Case, slot_size: int) -> None:
        super().__init__()
        size = tuple(case.config["input_size"][-2:])
        self.decoder = make_slot_decoder(case.config["image_decoder"], slot_size=slot_size, image_size=size)
        prefix = "decoder/"
        renamed = {
            key.removeprefix(prefix)
            .replace("pos_embed_projection", "position.projection")
            .replace("decode.", "layers."): value
            for key, value in case.inputs().items()
            if key.startswith(prefix)
        }
        position = renamed["position.projection.weight"]
        renamed["position.projection.weight"] = position[:, [1, 2, 0, 3]]  # theirs: 1 - r, r, c, 1 - c
        self.decoder.load_state_dict(renamed)

    def decode(self, slots: Tensor) -> Decomposition:
        rgb, logits = self.decoder(slots)
        masks = logits.softmax(1)
        components = rgb.sigmoid()
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=slots)


def _grid(tiles: Tensor) -> Tensor:
    """(n, C, H, W) -> (3, h, w): torchvision's grid, in which every tile has two black pixels on each side."""
    columns = min(TILES_PER_ROW, len(tiles))
    missing = -len(tiles) % columns
    padded = F.pad(tiles.expand(-1, 3, -1, -1), (2, 0, 2, 0, 0, 0, 0, missing))  # (n', 3, H + 2, W + 2)
    rows = padded.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return F.pad(rows, (0, 2, 0, 2))


def activeness_emorl(case: Case) -> None:
    inputs = case.inputs()
    z = inputs["z"]  # (n, K, D)
    model = _DecoderOnly(case, z.shape[-1]).eval()
    ranges = latent_ranges(z)
    case.compare("z_range", ranges)
    case.compare("activeness", activeness(model, Latents(z, torch.ones(z.shape[:2])), slot_ids=inputs["slot_ids"]))
    words = re.search(r"image (\d+), slot (\d+), (\d+) steps", case.info["outputs"]["traversal_grid"])
    assert words, "the case does not say what the traversal shows"
    image, slot, steps = map(int, words.groups())
    values = traversal_values(traversal_limits(ranges, rule="released"), steps)
    with torch.no_grad():
        shown = traverse(model, z[image], values, slot=slot)  # D * steps scenes
        case.compare("traversal_grid", torch.cat([_grid(row) for row in shown.recon.split(steps)], 1))
        case.compare("mask_grid", _grid(shown.masks[-1]))  # upstream: of the last decoded
    case.finish()


def dci_emorl(case: Case) -> None:
    inputs = case.inputs()
    order, discrete = (part.strip(" ;,") for part in case.info["factor_order"].split("(continuous)"))
    continuous, discrete = order.split(","), discrete.removesuffix("(discrete)").strip().split(",")
    kinds: dict[str, FactorKind] = {**dict.fromkeys(continuous, "continuous"), **dict.fromkeys(discrete, "categorical")}
    factors = dict(zip(kinds, inputs["factors"].unbind(1), strict=True))
    # upstream's mistake makes every factor the type of the first
    as_first: dict[str, FactorKind] = dict.fromkeys(kinds, kinds[next(iter(kinds))])
    for name, given in (("asis", as_first), ("intended", kinds)):
        result = dci(inputs["codes"], factors, kinds=given, scoring="released")
        case.compare(f"{name}_disentanglement", np.float64(result.disentanglement))
        case.compare(f"{name}_completeness", np.float64(result.completeness))
        case.compare(f"{name}_informativeness_test", np.float64(result.informativeness))
        case.compare(f"{name}_informativeness_train", np.float64(result.informativeness_train))
        case.compare(f"{name}_importance", result.importance)
    case.compare("intended_test_score_per_factor", np.array([f.informativeness for f in result.factors]))
    case.compare("intended_sklearn_score_per_factor", np.array([f.score for f in result.factors]))
    case.finish()


def dci_scores_emorl(case: Case) -> None:
    importance = case.inputs()["importance"]
    case.compare("disentanglement", disentanglement(importance))
    case.compare("completeness", completeness(importance))
    case.compare("disentanglement_per_code", disentanglement_per_code(importance))
    case.compare("completeness_per_factor", completeness_per_factor(importance))
    case.finish()


KINDS = {
    "metrics/activeness_emorl": activeness_emorl,
    "metrics/dci_emorl": dci_emorl,
    "metrics/dci_scores_emorl": dci_scores_emorl,
}
