"""What the runners of MONet and GENESIS-V2 share. Recorded arrays have the slot axis first, ours have it second."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from objectscape.contract import Model
from objectscape.nn.mixtures import mixture_log_likelihood
from objectscape.scene import Losses, Scene
from tests.parity.case import Case

KINDS: dict[str, Any] = {}


def load(case: Case, importer: ModuleType) -> tuple[Model, dict[str, Tensor], dict[str, Tensor]]:
    """The model, upstream's weights as leaves, and our parameters made from them."""
    # grad_rtol stands beside rtol in these files
    case.info.setdefault("grad_tolerance", {"rtol": case.info["tolerance"].get("grad_rtol", 1e-3), "atol": 1e-5})
    config = {"family": case.info["family"], **case.config}
    leaves = case.weights(requires_grad=True)
    model = importer.build(config)
    model.train(case.info["mode"] == "train")
    return model, leaves, importer.convert(leaves, config)


def slots_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1)


def winners(case: Case, name: str, log_masks: Tensor) -> Tensor:
    """(B, H, W) slot that owns each pixel: the recorded one where ours ties with it within the case's tolerance.

    Slots that upstream pads are alike, so rounding alone decides between them.
    """
    logs = log_masks.squeeze(2)  # (B, K, H, W)
    best, index = logs.max(1)
    recorded = torch.as_tensor(case.arrays[f"outputs/{name}"])
    there = logs.gather(1, recorded.unsqueeze(1)).squeeze(1)
    return torch.where(best - there <= case.tolerance["atol"] + case.tolerance["rtol"] * best.abs(), recorded, index)


@contextmanager
def watching(model: nn.Module) -> Iterator[dict[str, list[Any]]]:
    """What each submodule returns during the first pass, by name and in order; `NAME:input` for what it got."""
    seen: dict[str, list[Any]] = defaultdict(list)

    def remember(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            seen[name].append(result)
            seen[f"{name}:input"] += args

        return hook

    handles = [module.register_forward_hook(remember(name)) for name, module in model.named_modules() if name]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def compare_common(
    case: Case,
    scene: Scene,
    output: Any,
    losses: Losses,
    values: dict[str, Tensor],
    log_masks: Tensor,
    pixel_stds: Tensor,
    count: int | None = None,
) -> None:
    """Compare what both models record, and those of `values` that the case records."""
    nll, kl_latent, kl_mask = losses.terms["nll"], losses.terms["kl_slots"], losses.terms["kl_masks"]
    square = (output.recon - scene.pixels).square().mean((1, 2, 3))
    values |= {
        "x_r": slots_first(output.components)[:count],
        "recon": output.recon,
        "err": output.nll,
        "err_pixelwise": -mixture_log_likelihood(scene.pixels, output.components, log_masks, pixel_stds),
        "kl_l_k": slots_first(output.kl_slots)[:count],
        "loss": losses.total,
        "elbo": losses.terms["negative_elbo"],
        "err_mean": nll,
        "kl_m_mean": kl_mask,
        "kl_l_mean": kl_latent,
        "mse": square,
        "rmse": square.sqrt(),
    }
    recorded = case.group("outputs")
    for name, value in values.items():
        if name in recorded:
            case.compare(name, value)


def compare_sample(case: Case, model: Any) -> None:
    """Prior samples, all of whose noise is zero."""
    recorded = case.group("outputs")
    if "sample_image" not in recorded:
        return
    sample = model.sample(len(recorded["sample_image"]))
    case.compare("sample_image", sample.recon)
    case.compare("sample_x", slots_first(sample.components))
    case.compare("sample_log_m", slots_first(sample.masks.log()))
    if "sample_z" in recorded:
        case.compare("sample_z", slots_first(sample.slots))
