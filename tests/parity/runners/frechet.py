"""The Frechet distance between Gaussians fitted to features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from objectscape.metrics.generation import FrechetDistance
from tests.parity.case import Case


def distance(real: Tensor, generated: Tensor) -> Tensor:
    metric = FrechetDistance(nn.Identity(), dim=real.shape[1])
    for features, is_real in ((real, True), (generated, False)):
        for part in features.split(7):  # batch by batch, as it is used
            metric.update(part, real=is_real)
    return metric.compute()


def genesis(case: Case) -> None:
    inputs = case.inputs()
    rules = case.info.get("tolerance", {})
    singular: dict[str, Any] = next((rule for rule in rules.values() if isinstance(rule, dict)), {})
    for name in sorted({key.rsplit("/", 1)[0] for key in inputs}):
        a, b = inputs[f"{name}/features_a"], inputs[f"{name}/features_b"]
        # the recorded matrix roots of singular covariances are less exact, and so is their tolerance
        deficient = min(int(torch.linalg.matrix_rank(x.T.cov())) for x in (a, b)) < a.shape[1]
        case.compare(f"{name}/fid", distance(a, b), **(singular if deficient else {}))
    case.finish()


def video(case: Case) -> None:
    inputs = case.inputs()
    real, generated = inputs["real"], inputs["generated"]
    case.compare("frechet", distance(real, generated))
    case.compare("frechet_self", distance(real, real))
    case.compare("frechet_shift", distance(real, real + 1))
    case.finish()


KINDS = {"metrics/frechet_genesis": genesis, "metrics/frechet_distance": video}
