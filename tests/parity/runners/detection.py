"""Detection and classification scores of SPACE and SPACE-Time. Recorded boxes are y_min, y_max, x_min, x_max."""

from __future__ import annotations

import torch
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from torch import Tensor

from objectscape.metrics.detection import (
    COCO_IOUS,
    SPACE_TIME_IOUS,
    DetectionScores,
    alignment,
    average_precision,
    box_iou,
    coverage,
    match_labels,
    relevant,
)
from objectscape.metrics.few_shot import (
    RidgeClassifier,
    cluster_accuracy,
    few_shot_accuracy,
    first_of_each,
    label_centroids,
)
from objectscape.nn.spatial_transformer import boxes_of
from tests.parity.case import Case

GAMES = {"Airraid": "AirRaid", "SpaceInvaders_one_score": "SpaceInvaders", "SpaceInvaders_two_scores": "SpaceInvaders"}


def ours(boxes: Tensor) -> Tensor:
    return boxes[..., [2, 0, 3, 1]]


def padded(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """(P, C) rows of all images -> (B, M, C) and which of them are real."""
    real = torch.arange(int(counts.max())) < counts[:, None]
    result = rows.new_zeros(*real.shape, rows.shape[1])
    result[real] = rows
    return result, real


def ap(case: Case) -> None:
    inputs = case.inputs()
    for name in sorted({key.split("/")[0] for key in inputs} - {"convert"}):
        found, valid = padded(inputs[f"{name}/pred"], inputs[f"{name}/pred_count"])
        true, present = padded(inputs[f"{name}/gt"], inputs[f"{name}/gt_count"])
        boxes, confidence = ours(found[..., :4]), found[..., 4]
        # all recorded rows are predictions, whatever their confidence
        sure = torch.where(valid, 0.6 + 0.4 * confidence.double(), 0.0)
        scores = DetectionScores()
        for i in range(len(boxes)):  # image by image, as they are added during an evaluation
            scores.update(boxes[i : i + 1], sure[i : i + 1], ours(true)[i : i + 1], present[i : i + 1])
        values = scores.compute()
        results = {
            "ap_moc": torch.tensor([values[f"ap_{t / 10:.2f}"] for t in range(1, 10)]),
            "precision": values["precision"],
            "recall": values["recall"],
            "f_score": values["f"],
            "error_rate": values["count_error_rate"],
            "perfect_over_under": torch.tensor([int(values[k]) for k in ("perfect", "over", "under")]),
            "count_accuracy": values["count_accuracy"],
            "first_nonempty_index": next((i for i in range(len(valid)) if valid[i].any() and present[i].any()), -1),
        }
        hit = torch.cat(scores.hit)[:, len(SPACE_TIME_IOUS) :][:, : len(COCO_IOUS)]
        results["ap_space"] = average_precision(torch.cat(scores.confidence), hit, int(present.sum()))
        i = int(results["first_nonempty_index"])  # type: ignore[call-overload]
        results["iou_matrix"] = box_iou(boxes[i][valid[i]], ours(true)[i][present[i]])
        results["misalignment_matrix"] = alignment(boxes[i][valid[i]], ours(true)[i][present[i]])
        for key in case.group(f"outputs/{name}"):
            case.compare(f"{name}/{key}", results[key])
    where, probability = inputs["convert/z_where"], inputs["convert/z_pres_prob"]
    found = torch.cat([boxes_of(where, (1, 1)), probability[..., None]], -1)[probability > 0.5]
    case.compare("convert/boxes", found[:, [1, 3, 0, 2, 4]])
    case.compare("convert/count", (probability > 0.5).sum(1))
    case.finish()


def few_shot(case: Case) -> None:
    inputs, config = case.inputs(), case.config
    latents, labels, centroids = inputs["z_what"], inputs["labels"], inputs["cluster_centroids"]
    split = int(config["train_portion"] * len(labels))
    order = list(dict.fromkeys(labels[:split].tolist()))
    for k in config["few_shot"]:
        taught = first_of_each(labels[:split], k)
        ridge = RidgeClassifier.fit(latents[:split][taught], labels[:split][taught], alpha=config["ridge_alpha"])
        case.compare(f"few_shot_accuracy_with_{k}", few_shot_accuracy(latents, labels, k))
        case.compare(f"ridge_{k}_test_prediction", ridge.predict(latents[split:]))
        assert len(order) == len(ridge.classes)
        case.compare(f"ridge_{k}_coef", ridge.weight)
        case.compare(f"ridge_{k}_intercept", ridge.bias)
    case.compare("centroid_label", label_centroids(centroids, latents[:split], labels[:split]))
    case.compare("few_shot_accuracy_cluster_nn", cluster_accuracy(latents, labels, centroids))
    assignment = inputs["cluster_assignment"]
    case.compare("adjusted_mutual_info_score", adjusted_mutual_info_score(labels, assignment))
    case.compare("adjusted_rand_score", adjusted_rand_score(labels, assignment))
    case.finish()


def label_matching(case: Case) -> None:
    inputs = case.inputs()
    for name in sorted({key.split("/")[0] for key in inputs} - {"filter"}):
        found, true = ours(inputs[f"{name}/pred"]), ours(inputs[f"{name}/gt"])
        labels, moving = inputs[f"{name}/gt_label"], inputs[f"{name}/gt_moving"]
        results = {
            "label_all": match_labels(found, true, labels, torch.ones_like(moving)).clamp_min(0),
            "label_moving": match_labels(found, true, labels, moving).clamp_min(0),
            "coverage": coverage(found, true),
        }
        for key in case.group(f"outputs/{name}"):
            case.compare(f"{name}/{key}", results[key])
    boxes = ours(inputs["filter/boxes"])[None]
    for key in case.group("outputs/filter"):
        true = inputs.get(f"filter/gt_{key.removeprefix('SpaceInvaders_')}")
        kept = relevant(boxes, GAMES.get(key, key), 1, true=None if true is None else ours(true)[None])
        case.compare(f"filter/{key}", kept[0])
    case.finish()


KINDS = {"metrics/ap_space": ap, "metrics/space_few_shot": few_shot, "metrics/space_label_matching": label_matching}
