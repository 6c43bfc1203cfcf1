"""SPACE: the whole model at several steps, and its units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from objectscape.checkpoints import space as importer
from objectscape.models.space import BOUNDARY_STD, Space, SpaceOutput
from objectscape.nn.distributions import posterior_means
from objectscape.nn.grid_objects import LOGIT_BOUND, GridObjects, presence_kl
from objectscape.nn.mixtures import gaussian_log_likelihood, stick_breaking
from objectscape.nn.ramps import Ramp
from objectscape.nn.spatial_transformer import extract, paste
from objectscape.scene import Scene
from tests.parity.case import Case
from tests.parity.runners.genesis_common import watching

assert BOUNDARY_STD == 0.7


def run(case: Case) -> None:
    config = case.config
    case.info.setdefault("grad_tolerance", {"rtol": case.info["tolerance"]["grad_norm_rtol"], "atol": 1e-5})
    model = importer.build(config)
    assert isinstance(model, Space)
    model.train(config["mode"] == "train")
    leaves = case.weights(requires_grad=True)
    image = case.inputs()["x"]
    values: dict[str, Any] = {}
    for step in config["steps"]:
        params = importer.convert(leaves, config)
        for name, _ in model.named_buffers():  # a forward pass in train mode writes into the batch norms' statistics
            if name in params:
                params[name] = params[name].detach().clone()
        model.set_step(step)
        main = step == config["grad_and_main_step"]
        # oneDNN computes wrong weight gradients for some convolutions at batch 1 (torch 2.13, CPU)
        with posterior_means(), torch.backends.mkldnn.flags(enabled=not main), watching(model) as seen:
            with torch.set_grad_enabled(main):
                output = functional_call(model, params, (Scene(image=image),))
                losses = model.loss(Scene(image=image), output, step)
            if main:
                written = {k: params[k].clone() for k, _ in model.named_buffers() if k in params}
                values |= main_values(model, image, output, seen, params)
                case.compare_gradients(losses.total, leaves, skip=("fg_module.boundary_filter.weight",))
                if model.training:
                    names = {"bn_after/" + importer._source(k, "dec" if config["K"] == 1 else "decoder"): k
                             for k, _ in model.named_buffers() if k in params}  # fmt: skip
                    values |= {theirs: written[ours] for theirs, ours in names.items()}
        values |= {
            f"step{step:06d}/{name}": value
            for name, value in step_values(model, image, output, losses, step, seen).items()
        }
    for name in case.group("outputs"):
        assert name in values, f"{case.path.stem}: nothing computes {name}"
        value, recorded = values[name], case.arrays[f"outputs/{name}"]
        if recorded.ndim == 4 and isinstance(value, Tensor) and value.shape[-1] > recorded.shape[-1]:
            every = value.shape[-1] // recorded.shape[-1]  # large pictures are recorded thinned
            value = value[..., ::every, ::every]
        case.compare(name, value)
    case.finish()


def step_values(model: Space, image: Tensor, output: SpaceOutput, losses: Any, step: int, seen: Any) -> dict[str, Any]:
    step = step if model.training else 10**8
    logits = LOGIT_BOUND * seen["foreground.encoder"][0].presence.tanh()
    return {
        "loss": losses.total,
        "log_like": -output.nll,
        "mse": (output.recon - image).square().sum((1, 2, 3)),
        "kl_z_what": output.kl_what,
        "kl_z_pres": output.kl_presence,
        "kl_z_scale": output.kl_scale,
        "kl_z_shift": output.kl_shift,
        "kl_z_depth": output.kl_depth,
        "kl_z_where": output.kl_scale + output.kl_shift,
        "kl_bg": output.kl_background,
        "boundary_loss": output.boundary_loss,
        "tau": model.temperature.at(step),
        "prior_z_pres_prob": model.presence_prior.at(step),
        "prior_scale_mean": model.size_prior.at(step),
        "z_pres": (logits / model.temperature.at(step)).sigmoid(),
        "alpha_map_mean": output.alpha.mean(),
        "y_sub": output.recon[..., ::4, ::4],
    }


def main_values(
    model: Space, image: Tensor, output: SpaceOutput, seen: Any, params: dict[str, Tensor]
) -> dict[str, Any]:
    """What happens inside, at one step."""
    count = model.grid**2
    fore = model.foreground
    where, depth, what = output.slots[:, :count, : 5 + model.what_size].split([4, 1, model.what_size], -1)
    grid = {name: seen[f"foreground.encoder.{name}"][0] for name in ("scale", "shift", "presence", "depth")}
    logits = LOGIT_BOUND * seen["foreground.encoder"][0].presence.tanh()
    z_pres = (logits / model.temperature.at(model.step if model.training else 10**8)).sigmoid()
    glimpses = seen["foreground.glimpse_encoder:input"][0]
    what_mean, what_std = seen["foreground.glimpse_encoder"][0]
    colors, alpha = seen["foreground.glimpse_decoder"][0]
    alpha_hat = z_pres.flatten(0, 1)[..., None, None] * alpha
    importance = alpha_hat * 100 * torch.sigmoid(-depth.flatten(0, 1)[..., None, None])
    pasted = paste(importance.unflatten(0, (-1, count)), where, (128, 128), align_corners=fore.align_corners)
    weights = pasted.softmax(1)
    with torch.no_grad():
        boundary = 1000 * paste(
            fore.edge * z_pres[..., None, None], where, (128, 128), align_corners=fore.align_corners
        ).sum(1)
        back = functional_call(
            model.background,
            {k.removeprefix("background."): v for k, v in params.items() if k.startswith("background.")},
            (image,),
        )
        decoder = {k.removeprefix("background.mask_decoder."): v for k, v in params.items() if "mask_decoder" in k}
        z_mask = back.mask_posterior[0]
        raw = functional_call(model.background.mask_decoder, decoder, (z_mask.flatten(0, 1),)).sigmoid()
    masks, comps = back.masks, back.components
    front_log = gaussian_log_likelihood(image, output.foreground, model.foreground_std)
    each = (masks + 1e-5).log() + gaussian_log_likelihood(image[:, None], comps, model.background_std)
    back_log = each.logsumexp(1)
    values = {
        "fg_enc": seen["foreground.encoder.base"][0],
        "fg_enc_lat": seen["foreground.encoder.lateral"][0],
        "fg_enc_cat": seen["foreground.encoder.joint"][0],
        "raw_scale": grid["scale"],
        "raw_shift": grid["shift"],
        "raw_pres": grid["presence"],
        "raw_depth": grid["depth"],
        "glimpses_first4": glimpses[:4],
        "glimpses_mean": glimpses.mean((1, 2, 3)),
        "z_what_mean": what_mean,
        "z_what_std": what_std,
        "z_what": what,
        "z_where": where,
        "z_depth": depth,
        "z_pres": z_pres,
        "z_pres_prob": output.presence[..., None],
        "z_scale": where[..., :2],
        "z_shift": where[..., 2:],
        "o_att_first4": colors[:4],
        "alpha_att_first4": alpha[:4],
        "alpha_att_hat_mean": alpha_hat.mean((1, 2, 3)),
        "o_att_mean": colors.mean((2, 3)),
        "importance_norm_slot_mean": weights.mean((2, 3, 4)),
        "importance_norm_sub": weights[:1, ..., 2::8, 2::8],
        "fg": output.foreground,
        "alpha_map": output.alpha,
        "boundary_map_sub": boundary[..., ::4, ::4],
        "boundary_map_sum": boundary.sum((1, 2, 3)),
        "bg_image_enc": seen["background.image_encoder"][0],
        "z_mask_mean": back.mask_posterior[0],
        "z_mask_std": back.mask_posterior[1],
        "mask_raw_sub": raw.unflatten(0, masks.shape[:2])[..., ::4, ::4],
        "z_comp_mean": back.component_posterior[0],
        "z_comp_std": back.component_posterior[1],
        "masks_sub": masks[..., ::4, ::4],
        "masks_mean": masks.mean((2, 3, 4)),
        "comps_sub": comps[..., ::4, ::4],
        "bg": output.background,
        "y": output.recon,
        "z_mask_prior_mean": back.mask_prior[0],
        "z_mask_prior_std": back.mask_prior[1],
        "z_comp_prior_mean": back.component_prior[0],
        "z_comp_prior_std": back.component_prior[1],
        "kl_mask": kl(back.mask_posterior, back.mask_prior),
        "kl_comp": kl(back.component_posterior, back.component_prior),
        "fg_log_prob_sum": front_log.sum((1, 2, 3)),
        "bg_log_prob_sum": back_log.sum((1, 2, 3)),
    }
    return {f"main/{name}": value for name, value in values.items()}


def kl(posterior: tuple[Tensor, Tensor], prior: tuple[Tensor, Tensor]) -> Tensor:
    q, p = (torch.distributions.Normal(*x) for x in (posterior, prior))
    return torch.distributions.kl_divergence(q, p).sum((1, 2))


def units(case: Case) -> None:
    inputs = case.inputs()
    where, image, glimpse = inputs["z_where"][:, None], inputs["image"], inputs["glimpse"][:, None]
    side, size = glimpse.shape[-1], (image.shape[-2], image.shape[-1])
    for name in case.group("outputs"):
        match name.split("_"):
            case ["extract", align]:
                value = extract(image, where, side, align_corners=align == "true")[:, 0]
            case ["paste", align]:
                value = paste(glimpse, where, size, align_corners=align == "true")[:, 0]
            case ["boundary", "kernel"]:
                sizes = {"image_size": 32, "grid": 4, "glimpse_size": 32, "latent_dim": 1, "features": 4, "width": 4}
                value = GridObjects(**sizes, align_corners=True).edge
            case ["kl", "bern", prior]:
                value = presence_kl(inputs["logits"], float(prior))
            case ["anneal", first, last, start, end]:
                ramp = Ramp(int(first), int(last), float(start), float(end))
                value = torch.tensor([ramp.at(int(step)) for step in inputs["steps"]])
            case ["sbp"]:
                masks = inputs["sbp_masks"][:, :-1]
                value = stick_breaking(masks.log(), (1 - masks).log())[0].exp()
            case _:
                raise AssertionError(f"nothing computes {name}")
        case.compare(name, value)
    case.finish()


KINDS = {"space/model": run, "space/units": units}
