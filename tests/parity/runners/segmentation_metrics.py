"""Segmentation scores of GENESIS, EfficientMORL and the ClevrTex evaluator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from objectscape.metrics.reconstruction import mse
from objectscape.metrics.segmentation import (
    adjusted_rand_index,
    contingency,
    count_accuracy,
    hungarian_dice,
    hungarian_miou,
    match_objects,
    segmentation_covering,
)
from tests.parity.case import Case


def _labels(entity_masks: Tensor) -> Tensor:
    """(B, N, 1, H, W) 0/255 -> (B, H, W): the largest entity that claims a pixel, as both upstream scores read them."""
    entities = torch.arange(entity_masks.shape[1]).view(-1, 1, 1, 1)
    return ((entity_masks == 255) * entities).amax(1).squeeze(1)


def ari_emorl(case: Case) -> None:
    inputs = case.inputs()
    table = contingency(_labels(inputs["true_mask"]), inputs["pred_mask"])
    case.compare("ari_fg", adjusted_rand_index(table, empty="zero"))
    case.compare("ari_all", adjusted_rand_index(table, foreground=False, empty="zero"))
    case.finish()


def ari_genesis(case: Case) -> None:
    inputs = case.inputs()
    for name in sorted({key.rsplit("/", 1)[0] for key in inputs}):
        true = inputs[f"{name}/instances"].squeeze(1)
        masks = inputs[f"{name}/log_m"].transpose(0, 1).exp()  # (K, B, ...) -> (B, K, 1, H, W)
        # over all pixels, upstream takes negative labels for ordinary clusters
        everything = contingency(true - true.min().clamp_max(0), masks)
        scores = {
            "ari": adjusted_rand_index(everything, foreground=False, empty="one"),
            "ari_fg": adjusted_rand_index(contingency(true, masks), empty="one"),
        }
        for key, value in scores.items():
            case.compare(f"{name}/{key}_per_image", value)
            case.compare(f"{name}/{key}", value.mean())
    case.finish()


def sc_genesis(case: Case) -> None:
    inputs = case.inputs()
    for name in sorted({key.rsplit("/", 1)[0] for key in inputs}):
        table = contingency(inputs[f"{name}/segA"].squeeze(1), inputs[f"{name}/segB"].squeeze(1))
        for weighted, foreground in ((False, False), (True, False), (False, True), (True, True)):
            key = f"{name}/{'sc' if weighted else 'msc'}{'_fg' if foreground else ''}"
            value = segmentation_covering(table, weighted=weighted, foreground=foreground, empty="zero")
            case.compare(f"{key}_per_image", value)
            case.compare(key, value.mean())
    case.finish()


def matching_iou_emorl(case: Case) -> None:
    inputs = case.inputs()
    for key in [key for key in inputs if key.startswith("true_mask_")]:
        i = key.removeprefix("true_mask_")
        objects = int(inputs[f"presence_{i}"][1:].sum())  # those that are there come first
        true = _labels(inputs[key][None])
        true[true > objects] = 0
        slots = match_objects(contingency(true, inputs[f"pred_mask_{i}"][None]))[0]
        kept = (slots >= 0).nonzero().squeeze(1)
        case.compare(f"gt_index_{i}", kept + 1)
        case.compare(f"slot_index_{i}", slots[kept])
    case.finish()


def clevrtex_evaluator_emorl(case: Case) -> None:
    inputs = case.inputs()
    table = contingency(inputs["true_labels"].squeeze(1), inputs["pred_masks"])
    image = inputs["true_image"]
    scores = {
        "MSE": mse(image, inputs["pred_image"]) * np.prod(image.shape[1:]),  # upstream sums over pixels and channels
        "acc": count_accuracy(table),
        "mIoU": hungarian_miou(table, foreground=False, average="pairs"),
        "mIoU_fg": hungarian_miou(table, foreground=True, average="pairs"),
        "mIoU_gt": hungarian_miou(table, foreground=False, average="objects"),
        "DICE": hungarian_dice(table, foreground=False, average="pairs"),
        "DICE_FG": hungarian_dice(table, foreground=True, average="pairs"),
        "ARI": adjusted_rand_index(table, foreground=False, empty="one"),
        "ARI_FG": adjusted_rand_index(table, empty="one"),
    }
    for name, value in scores.items():
        case.compare(name, value.double().mean())
    case.finish()


KINDS = {
    "metrics/ari_emorl": ari_emorl,
    "metrics/ari_genesis": ari_genesis,
    "metrics/sc_genesis": sc_genesis,
    "metrics/matching_iou_emorl": matching_iou_emorl,
    "metrics/clevrtex_evaluator_emorl": clevrtex_evaluator_emorl,
}
