"""Trajectories of the two GECO variants, fed with recorded errors."""

from __future__ import annotations

import torch

from objectscape.training.geco import GECO, SoftplusGECO
from tests.parity.case import Case


def reconstruction_term(geco: SoftplusGECO, error: torch.Tensor) -> torch.Tensor:
    """() the reconstruction's part of the loss, as published.

    Its gradient is `weight` times the gradient of `error`; its value is the error during the warm start and
    -softplus(beta) * C afterwards.
    """
    weight = geco.weight
    value = torch.where(geco.updates < geco.warm_start, error, -weight * geco.constraint)
    return weight * (error - error.detach()) + value.detach()


def run_genesis(case: Case) -> None:
    inputs = case.inputs()
    for name, config in case.info["configs"].items():
        geco = GECO(**config)
        steps: dict[str, list[torch.Tensor]] = {"beta_used": [], "beta_after": [], "err_ema": [], "loss": []}
        for error, kl in zip(inputs[f"{name}/err"], inputs[f"{name}/kld"], strict=True):
            steps["beta_used"].append(geco.beta)
            steps["loss"].append(error + geco.beta * kl)
            geco.adapt(error)
            steps["beta_after"].append(geco.beta)
            steps["err_ema"].append(geco.error)
        for key, values in steps.items():
            case.compare(f"{name}/{key}", torch.stack(values))
    case.finish()


def run_emorl(case: Case) -> None:
    inputs = case.inputs()
    geco = SoftplusGECO(
        target=float(inputs["target"]),
        step_size=float(inputs["step_size"]),
        acceleration=float(inputs["acceleration"]),
        alpha=float(inputs["alpha"]),
        warm_start=int(inputs["warm_start"]),
    )
    steps: dict[str, list[torch.Tensor]] = {"C_ema": [], "beta": [], "recon_term": [], "d_recon_term_d_nll": []}
    for error in inputs["nll"]:
        error.requires_grad_()
        term = reconstruction_term(geco, error)
        steps["recon_term"].append(term)
        steps["d_recon_term_d_nll"] += torch.autograd.grad(term, error)
        geco.adapt(error)
        steps["C_ema"].append(geco.constraint)
        steps["beta"].append(geco.beta)
    for key, values in steps.items():
        case.compare(key, torch.stack(values))
    case.finish()


KINDS = {"metrics/geco_genesis": run_genesis, "metrics/geco_emorl": run_emorl}
