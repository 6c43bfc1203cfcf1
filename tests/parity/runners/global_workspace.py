"""bimGW, shimmer and shimmer-ssd: domains, workspaces, selections, losses."""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.models.domains.attributes import to_rows, to_vector
from objectscape.nn.contrastive import LOG_SCALE, clip_loss, info_nce, vse_loss
from tests.parity.case import Case


def run_contrastive(case: Case) -> None:
    inputs = case.inputs()
    x, y = inputs["x"].requires_grad_(), inputs["y"].requires_grad_()
    losses: dict[str, Tensor] = {}
    for name, scale in (("init", LOG_SCALE), ("capped", 6.0), ("one", 0.0)):
        case.compare(f"clip_{name}_none", clip_loss(x, y, scale))
        losses |= {f"clip_{name}": clip_loss(x, y, scale).mean(), f"infonce_{name}": info_nce(x, y, scale).mean()}
    for measure in ("cosine", "order"):
        for name, hardest in (("max", True), ("sum", False)):
            losses[f"vse_{measure}_{name}"] = vse_loss(
                x, y, margin=case.config["margin"], measure=measure, hardest=hardest
            )
    for name, loss in losses.items():
        case.compare(name, loss)
        for leaf, grad in zip("xy", torch.autograd.grad(loss, (x, y)), strict=True):
            norm = case.arrays[f"grad_norms/{name}/{leaf}"]
            torch.testing.assert_close(grad.norm(), torch.tensor(norm), rtol=1e-3, atol=1e-5)
    case.finish()


def run_normalize(case: Case) -> None:
    arrays = {name: torch.from_numpy(array) for name, array in case.arrays.items()}
    vector = to_vector(arrays["labels"], scale="ranges")
    torch.testing.assert_close(vector[:, :3].long(), arrays["category_onehot"])
    torch.testing.assert_close(vector[:, 3:], arrays["attributes"], **case.tolerance)
    rows = to_rows(vector, scale="ranges")
    names = ("category", "x", "y", "size", "rotation", "color_r", "color_g", "color_b")
    for column, name in enumerate(names):
        expected = arrays[f"back/{name}"].float()
        torch.testing.assert_close(rows[:, column], expected, rtol=1e-5, atol=2e-4)


KINDS = {
    "metrics/gw_contrastive_losses": run_contrastive,
    "simple_shapes/normalise": run_normalize,
}
