"""OP3's costs of actions."""

from __future__ import annotations

import torch

from objectscape.agents.costs import slot_costs
from tests.parity.case import Case

COMPARE = {"mse": "mse", "psuedo_intersect": "intersection"}  # spelled so in the released code


def run(case: Case) -> None:
    inputs = case.inputs()
    image = {name: value.double() / 255 for name, value in inputs.items() if name.endswith("_u8")}
    slots = {
        "latent": (inputs["goal_latents"].double(), inputs["pred_latents"].double()),
        "subimage": (image["goal_subimages_u8"], image["pred_subimages_u8"]),
        "final_recon": (image["goal_image_u8"], image["pred_image_u8"][:, None]),
    }
    for key in {name.rsplit("/", 1)[0] for name in case.group("outputs")}:
        core, compare, post, together = key.split("-")
        costs, easiest = slot_costs(
            *slots[core],
            compare=COMPARE[compare],  # type: ignore[arg-type]
            bounded=post == "negative_exp",
            together=together,  # type: ignore[arg-type]
        )
        order = costs.argsort(stable=True)
        case.compare(f"{key}/sorted_costs", costs[order])
        case.compare(f"{key}/order", order)
        case.compare(f"{key}/goal_latent", easiest.to(torch.float64))
    case.finish()


KINDS = {"world_models/planning_costs": run}
