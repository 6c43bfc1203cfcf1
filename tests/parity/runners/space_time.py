"""SPACE-Time: the losses alone, and the whole model at three phases of the injection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from objectscape.checkpoints import space as importer
from objectscape.metrics.few_shot import RidgeClassifier
from objectscape.models.space_time import SpaceTime
from objectscape.nn.distributions import posterior_means
from objectscape.nn.grid_objects import describe
from objectscape.nn.motion_supervision import (
    DynamicSchedule,
    MotionTargets,
    continuity_loss,
    squared_box_loss,
    squared_presence_loss,
)
from objectscape.scene import Scene
from tests.parity.case import Case
from tests.parity.runners.genesis_common import watching

NOT_PORTED = ("unused/",)
"""Losses that upstream gives the weight zero."""


def losses(case: Case) -> None:
    config, inputs = case.config, case.inputs()
    targets = MotionTargets(inputs["motion_z_pres"], inputs["motion_z_where"])
    probability = inputs["z_pres_prob_pure"].flatten(1)[..., None]  # (F, N, 1)
    clips = lambda x: x.unflatten(0, (-1, config["T"])).unflatten(2, (config["G"], config["G"]))  # noqa: E731
    where, on = clips(inputs["z_where"]), clips(inputs["z_pres_prob"])[..., 0]
    for cosine in (True, False):
        for agreement in (True, False):
            name = f"object_loss/{'cosine' if cosine else 'l2'}_{'agree' if agreement else 'noagree'}"
            options: dict[str, Any] = {"match_weight": config["z_cos_match_weight"], "cosine": cosine}
            what = inputs["z_what"].clone().requires_grad_()
            found = continuity_loss(clips(what), where, on, agreement=agreement, **options)
            case.compare(name, found.loss.sum())
            case.compare(f"{name}/objects_detected", found.objects.sum())
            case.compare(f"{name}/grad_z_what", torch.autograd.grad(found.loss.sum(), what)[0])

    def check(name: str, function: Callable[..., Tensor], **values: Tensor) -> None:
        leaves = {key: value.clone().requires_grad_() for key, value in values.items()}
        total = function(**leaves).sum()
        case.compare(name, total)
        for key, grad in zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True):
            case.compare(f"{name}/grad_{key}", grad)

    check(
        "motion/z_pres",
        lambda z_pres_prob_pure: squared_presence_loss(z_pres_prob_pure.flatten(1)[..., None], targets),
        z_pres_prob_pure=inputs["z_pres_prob_pure"],
    )
    check(
        "motion/z_where",
        lambda z_where_pure: squared_box_loss(z_where_pure, probability, targets),
        z_where_pure=inputs["z_where_pure"],
    )
    check(
        "motion/alpha",
        lambda alpha_map, alpha_map_pure: (alpha_map - alpha_map_pure).square(),
        alpha_map=inputs["alpha_map"],
        alpha_map_pure=inputs["alpha_map_pure"],
    )

    schedule = dynamic_schedule(config)
    values = [
        schedule.value((probability + shift).clamp(0.001, 0.999), inputs["z_where_pure"], targets, config["T"])
        for shift in inputs["dynamic_shift"]
    ]
    case.compare("dynamic/value", torch.stack(values))
    case.compare("dynamic/lambda_align", config["dynamic_steepness"] ** -torch.stack(values))
    ramp = importer.build({"K": 1, **config, "dynamic_scheduling": False}).schedule  # type: ignore[union-attr]
    case.compare("static/lambda_align", torch.tensor([1 - ramp.at(int(step)) for step in inputs["static_steps"]]))
    case.finish(ignore=tuple(name for name in case.group("outputs") if name.startswith(NOT_PORTED)))


def dynamic_schedule(config: dict[str, Any]) -> DynamicSchedule:
    model = importer.build({"K": 1, **config})
    assert isinstance(model, SpaceTime)
    assert model.dynamic is not None
    return model.dynamic


def run(case: Case) -> None:
    config, inputs = case.config, case.inputs()
    case.info.setdefault("grad_tolerance", {"rtol": case.info["tolerance"]["grad_norm_rtol"], "atol": 1e-5})
    leaves = case.weights(requires_grad=True)
    scene = Scene(image=inputs["x"], motion=inputs["motion"].unsqueeze(2))
    targets = MotionTargets(inputs["motion_z_pres"].flatten(0, 1), inputs["motion_z_where"].flatten(0, 1))
    for step in config["steps"]:
        model = importer.build(config)  # the state of the dynamic schedule is fresh at every recorded step
        assert isinstance(model, SpaceTime)
        model.train(config["mode"] == "train")
        model.set_step(step)
        params = importer.convert(leaves, config)
        for name, _ in model.named_buffers():
            if name in params:
                params[name] = params[name].detach().clone()
        main = step == config["grad_step"]
        with posterior_means(), torch.backends.mkldnn.flags(enabled=not main), watching(model) as seen:
            with torch.set_grad_enabled(main):
                output = functional_call(model, params, (scene,), {"targets": targets})
                found = model.loss(scene, output, step)
            if main:
                case.compare_gradients(found.total, leaves, skip=("zero", "space.fg_module.boundary_filter.weight"))
        logits = 8.8 * seen["foreground.encoder"][0].presence.tanh()
        injected = model.injection.at(step)
        own_where = model.foreground.where(*(getattr(seen["foreground.encoder"][0], n)[0] for n in ("scale", "shift")))
        value = dynamic_schedule(config).value(logits.sigmoid(), own_where, targets, config["T"])
        motion = inputs["motion"].flatten(0, 1).unsqueeze(1)
        own_alpha = output.alpha.flatten(0, 1)
        probability = output.presence.flatten(0, 1)[..., None]
        mixed = (1 - injected) * logits + injected * 8.8 * (2 * targets.presence - 1)
        values: dict[str, Any] = {
            "loss": found.total,
            "space_loss": found.terms["negative_elbo"],
            "log_like": -output.nll.flatten(),
            "kl_z_what": output.kl_what.flatten(),
            "kl_z_pres": output.kl_presence.flatten(),
            "kl_z_scale": output.kl_scale.flatten(),
            "kl_z_shift": output.kl_shift.flatten(),
            "kl_z_depth": output.kl_depth.flatten(),
            "kl_bg": output.kl_background.flatten(),
            "z_what_loss_objects": output.continuity.sum(),
            "flow_loss": output.motion_presence.sum(),
            "flow_loss_z_where": output.motion_box.sum(),
            "flow_loss_alpha_map": output.motion_alpha.sum(),
            "z_pres": (mixed / model.temperature.at(step)).sigmoid(),
            "z_pres_prob": probability,
            "z_where": output.slots.flatten(0, 1)[:, : model.cells, :4],
            "z_where_pure": own_where,
            "z_pres_prob_pure": logits.sigmoid().mT.unflatten(2, (config["G"], config["G"])),
            "objects_detected": (output.presence[:, :-1] > 0.5).sum(),
            "alpha_map_sub": ((1 - injected) * own_alpha + injected * motion)[..., ::4, ::4],
            "alpha_map_pure_sub": own_alpha[..., ::4, ::4],
            "y_sub": output.recon.flatten(0, 1)[..., ::4, ::4],
            "dynamic_value": value,
            "lambda_align": output.alignment[0],
            "motion_cooling": injected,
        }
        for name, computed in values.items():
            case.compare(f"step{step:06d}/{name}", computed)
    case.finish()


def description(case: Case) -> None:
    inputs = case.inputs()
    there = inputs["z_pres_prob"][0, :, 0] > case.config["threshold"]
    what, where = inputs["z_what"][0][there], inputs["z_where"][0][there]
    case.compare("encodings", what)
    case.compare("positions", where)
    case.compare("positions_size_false", where[:, :2])  # upstream gives the sizes; ours has no such option
    classifier = RidgeClassifier(
        weight=inputs["ridge_coef"], bias=inputs["ridge_intercept"], classes=inputs["ridge_classes"]
    )
    found = describe(what, where, classifier)
    labels = [int(label) for label, boxes in found.items() for _ in boxes]
    case.compare("scene_labels", torch.tensor(labels))
    case.compare("scene_positions", torch.tensor([box for boxes in found.values() for box in boxes]))
    case.finish()


KINDS = {
    "space_time/moc_losses": losses,
    "space_time/tcspace": run,
    "space_time/scene_description": description,
}
