"""SSWM's metrics of videos and masks."""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.metrics.prediction import average_recall, ssim, tiers
from objectscape.metrics.reconstruction import mse, psnr
from objectscape.metrics.segmentation import contingency
from tests.parity.case import Case


def pictures(case: Case) -> None:
    inputs = case.inputs()
    true, futures = inputs["ground_truth"], inputs["generated"]
    tables = {
        "psnr": psnr(true.expand_as(futures).flatten(0, 1), futures.flatten(0, 1)).view(futures.shape[:2]),
        "ssim": ssim(true, futures, data_range=2),
    }
    case.compare("ssim_data_range_1", ssim(true, futures).T)
    for name, table in tables.items():  # (S, T)
        best, mean, worst = (tier[0] for tier in tiers(table[None], larger_is_better=True))
        case.compare(name, table.T)
        case.compare(f"{name}_best_per_frame", best)
        case.compare(f"{name}_worst_per_frame", worst)
        case.compare(f"{name}_mean", mean)
        case.compare(f"{name}_std", table.std(0, correction=0))
        case.compare(f"{name}_best_index", table.sum(1).argmax())
        case.compare(f"{name}_worst_index", table.sum(1).argmin())
    case.finish()


def released_ari(true: Tensor, pred: Tensor) -> Tensor:
    """The released score: foreground pairs, but chance computed from all pixels of the image."""
    table = contingency(true, pred)[:, 1:].double()

    def pairs(counts: Tensor) -> Tensor:
        return counts * (counts - 1) / 2

    index, rows, columns = pairs(table).sum((1, 2)), pairs(table.sum(2)).sum(1), pairs(table.sum(1)).sum(1)
    expected = rows * columns / pairs(torch.tensor(float(true[0].numel())))
    return (index - expected) / ((rows + columns) / 2 - expected)


def masks(case: Case) -> None:
    inputs = case.inputs()
    for name in {key.rsplit("/", 1)[0] for key in case.group("outputs")}:
        if name == "mse":
            recon = (inputs["mse/colors"] * inputs["mse/masks"]).sum(1)
            case.compare("mse/pixel_mse", mse(inputs["mse/image"], recon))
            continue
        true = inputs[f"{name}/true_mask" if f"{name}/true_mask" in inputs else "ar/true_mask"][:, 0]
        pred = inputs[f"{name}/pred_mask"]
        if f"outputs/{name}/ari" in case.arrays:
            case.compare(f"{name}/ari", released_ari(true, pred))
        else:
            case.compare(f"{name}/average_recall", average_recall(true, pred))
    case.finish()


KINDS = {"metrics/video_psnr_ssim": pictures, "metrics/video_masks": masks}
