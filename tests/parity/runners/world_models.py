"""SSWM's released world model, its VRNN, and its GECO."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.func import functional_call

from objectscape.checkpoints import sswm as importer
from objectscape.models import sswm, vrnn
from objectscape.models.sswm import SSWMOutput
from objectscape.nn.distributions import sample_gaussian
from objectscape.scene import Scene
from objectscape.training.geco import SoftplusGECO
from tests.parity.case import Case
from tests.parity.runners.geco import reconstruction_term

UNSEEN = (
    "calls/dynamics_",  # layers of the interaction network, there one pair or slot at a time; its result is compared
    "calls/uncertainty/00/loss",  # GECO's published value of the rollout; part of total_loss, which is compared
)


def geco_of(config: dict[str, Any]) -> SoftplusGECO | None:
    """The recorded state of GECO, if it is in force."""
    if not importer.geco_in_force(config):
        return None
    geco = SoftplusGECO(target=config["geco_target"], alpha=config["geco_alpha"])
    geco.beta, geco.constraint = torch.tensor(config["geco_beta"]), torch.tensor(config["geco_C_ema"])
    geco.updates = torch.tensor(config["global_step"] + 10**6)
    return geco


def constant_noise(eps: Tensor) -> Callable[..., Tensor]:
    """Stands in for `sample_gaussian`: noise of slot k (and future s) is eps[s, k], everywhere and always."""

    def draw(mean: Tensor, std: Tensor, noise: Tensor | None = None) -> Tensor:
        return sample_gaussian(mean, std, eps[0] if mean.ndim < 4 else eps[: mean.shape[1]])

    return draw


def run_world_model(case: Case) -> None:
    # In float64, for gradients are refinement inputs: rounding grows from evaluation to evaluation.
    config, inputs = case.config, {key: value.double() for key, value in case.inputs().items()}
    train = case.info["mode"] == "train"
    model = importer.build({**config, "time_inference_schedule": config["schedule"]}).double().train(train)
    eps = inputs.get("eps")
    if eps is None:
        eps = torch.zeros(config["stochastic_samples"], config["K"], config["z_size"], dtype=torch.float64)
    leaves = case.weights(requires_grad=train)
    converted = {key: value.double() for key, value in importer.convert(leaves, config).items()}
    scene = Scene(image=inputs["images"], actions=inputs.get("actions"))
    seen: dict[str, list[Any]] = {"decoder": [], "refine": [], "gradients": [], "dynamics": [], "nll": []}
    model.decoder.register_forward_hook(lambda module, args, result: seen["decoder"].append((args[0], result)))
    model.refiner.register_forward_hook(lambda module, args, result: seen["refine"].append((args, result)))
    model.dynamics.register_forward_hook(lambda module, args, result: seen["dynamics"].append(result))
    inputs_of = model._refinement_inputs

    def spy(image: Tensor, drawing: Any, params: Tensor, gradients: Any) -> Any:
        seen["gradients"].append(gradients)
        return inputs_of(image, drawing, params, gradients)

    likely = model._nll

    def spy_nll(image: Tensor, drawing: Any) -> Tensor:
        seen["nll"].append(likely(image, drawing))
        return seen["nll"][-1]

    imagined = [letter != "I" for letter in config["schedule"]]
    geco = geco_of(config)
    with (
        torch.backends.mkldnn.flags(enabled=False),
        mock.patch.object(sswm, "sample_gaussian", constant_noise(eps)),
        mock.patch.object(model, "_refinement_inputs", spy),
        mock.patch.object(model, "_nll", spy_nll),
    ):
        if train:
            output: SSWMOutput = functional_call(_Unrolled(model), _prefixed(converted), (scene, imagined))
            model.reconstruction_weight = converted["reconstruction_weight"].detach()  # the loss's part of the state
            total = model.loss(scene, output, 0).total
            case.compare_gradients(total, leaves, skip=("geco_C_ema", "geco_beta"))
    if train:
        compare_outputs(case, model, output, geco, seen)
    else:
        compare_rollout(case, model, converted, scene, eps, imagined.index(True))


class _Unrolled(torch.nn.Module):
    """`model.unroll` as something that `functional_call` can call."""

    def __init__(self, model: sswm.SSWM) -> None:
        super().__init__()
        self.model = model

    def forward(self, scene: Scene, imagined: list[bool]) -> SSWMOutput:
        return self.model.unroll(scene, imagined=imagined)


def _prefixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{key}": value for key, value in weights.items()}


def published_total(output: SSWMOutput, model: sswm.SSWM, geco: SoftplusGECO | None, kl_beta: float) -> Tensor:
    """The value of the released loss, whose gradient is that of ours."""
    term = partial(reconstruction_term, geco) if geco else lambda error: error
    total = torch.zeros((), dtype=torch.float64)
    for nll, kl, weight in zip(
        output.evaluation_nll.mean(0), output.evaluation_kl.sum(2).mean(0), output.evaluation_weight[0], strict=True
    ):
        total = total + weight * (term(nll) + kl_beta * kl)
    future = output.nll[:, output.imagined[0] > 0].mean(0)
    if model.objective == "best_of_many":
        return total + (term(future.mean()) if geco else future.sum())
    return total + sum(term(error) for error in future)


def compare_outputs(
    case: Case,
    model: sswm.SSWM,
    output: SSWMOutput,
    geco: SoftplusGECO | None,
    seen: dict[str, list[Any]],
) -> None:
    config, recorded = case.config, case.group("outputs")
    slots, clips, output = config["K"], config["batch_size"], output.detach()
    computed: dict[str, Tensor] = {
        "total_loss": published_total(output, model, geco, config["kl_beta"]),
        "nll": output.nll.sum(1).mean(),
        "kl": output.kl.sum((1, 2)).mean(),
        "x_means": output.components.transpose(0, 1),
        "masks": output.masks.transpose(0, 1),
        "video": output.recon.transpose(0, 1),
        "calls/uncertainty/00/best_nll": (output.nll * output.imagined).sum(1),
    }
    observed = [t for t, imagined in enumerate(output.imagined[0].tolist()) if not imagined]
    for t in range(output.nll.shape[1]):
        computed[f"latents/{t:02d}"] = output.slots[:, t].flatten(0, 1)
    for i, t in enumerate(observed):
        computed[f"lambdas/{i:02d}"] = output.params[:, t].flatten(0, 1)
    for i in range(output.evaluation_nll.shape[1]):
        computed[f"calls/kl/{i:02d}/kl"] = output.evaluation_kl[:, i].flatten()
    for i, (by_components, by_masks, by_params) in enumerate(seen["gradients"]):
        computed[f"calls/grad_inputs/{i:02d}/d_means"] = by_components
        computed[f"calls/grad_inputs/{i:02d}/d_mask_logprobs"] = by_masks
        computed[f"calls/grad_inputs/{i:02d}/d_lambda"] = by_params.flatten(0, 1)
    for i, (arguments, (delta, (hidden, cell))) in enumerate(seen["refine"]):
        values = {"image_inputs": arguments[0], "vec_inputs": arguments[1], "delta": delta, "h": hidden, "c": cell}
        computed |= {f"calls/refine/{i:02d}/{field}": value for field, value in values.items()}
    for i, (mean, raw, memory) in enumerate(seen["dynamics"]):
        mean, raw, memory = (futures_first(x, clips).flatten(0, 1) for x in (mean, raw, memory))
        computed[f"dynamics_raw_scale/{i:02d}"] = raw
        computed |= {f"calls/dynamics/{i:02d}/lamda": torch.cat([mean, raw], 1), f"calls/dynamics/{i:02d}/h": memory}
        if model.dynamics.memory == "none":  # the released code returns its first layer here
            del computed[f"calls/dynamics/{i:02d}/h"]
    # Ours draws the chosen future once more, for the gradient: calls with other numbers of rows are passed over.
    drawn = iter(seen["decoder"])
    likely = iter(seen["nll"])
    for i in range(sum(name.endswith("/nll") for name in recorded)):
        rows = len(recorded[f"calls/nll/{i:02d}/nll"])
        nll = next(value for value in likely if len(value) == rows)
        computed[f"calls/nll/{i:02d}/nll"] = futures_first(nll, clips)
        vectors, pictures = next(pair for pair in drawn if len(pair[0]) == rows * slots)
        vectors, pictures = (futures_first(x.unflatten(0, (rows, slots)), clips) for x in (vectors, pictures))
        computed[f"calls/decoder/{i:02d}/z"] = vectors.flatten(0, 1)
        computed[f"calls/decoder/{i:02d}/rgb"] = pictures[:, :, :3].sigmoid().flatten(0, 1)
        computed[f"calls/decoder/{i:02d}/mask_logits"] = pictures[:, :, 3].flatten(0, 1)
        computed[f"calls/nll/{i:02d}/mask_logprobs"] = pictures[:, :, 3:].log_softmax(1)
    for name, expected in recorded.items():
        if name.startswith("latents/") and len(expected) != len(computed[name]):
            # Of frames in which many futures were recorded, ours keeps the best one, and the one moment before once.
            copies = torch.tensor(expected).unflatten(0, (-1, clips, slots))
            nearest = (copies - computed[name].unflatten(0, (clips, slots))).abs().amax((2, 3)).amin(0)
            assert nearest.max() < 1e-4, f"{case.path.stem}: {name}"
            case.compared.add(name)
        elif name in computed:
            case.compare(name, computed[name].detach())
        elif name.startswith("calls/") and (
            name.startswith(UNSEEN) or name.endswith(("_loc", "_std", "loss", "index", "/h"))
        ):
            case.compared.add(name)  # what lies behind a value that is compared
    case.finish()


def futures_first(value: Tensor, clips: int) -> Tensor:
    """Rows (B*S, ...) -> (S*B, ...)."""
    return value.unflatten(0, (clips, -1)).transpose(0, 1).flatten(0, 1)


def compare_rollout(
    case: Case, model: sswm.SSWM, weights: dict[str, Tensor], scene: Scene, eps: Tensor, context: int
) -> None:
    config, recorded = case.config, case.group("outputs")
    model.load_state_dict(weights)
    samples, steps = config["stochastic_samples"], len(config["schedule"]) - context
    with torch.backends.mkldnn.flags(enabled=False), mock.patch.object(sswm, "sample_gaussian", constant_noise(eps)):
        output = model(scene[:, :context])
        actions = None if scene.actions is None else scene.actions[:, context - 1 : context - 1 + steps]
        state = model.observe(scene[:, :context])
        states = model.imagine(state, steps=steps, samples=samples, actions=actions)
        futures = model.draw(states)
    computed = {"kl": output.kl.sum((1, 2)).mean(), "nll": output.nll.sum(1).mean()}
    for name, ours, theirs in (
        ("x_means", output.components, futures.components),
        ("masks", output.masks, futures.masks),
        ("video", output.recon, futures.recon),
    ):
        seen = ours[:, None].expand(-1, samples, *[-1] * (ours.ndim - 1))
        computed[name] = torch.cat([seen, theirs], 2).movedim(2, 0)  # (T, B, S, ...)
    for t in range(context):
        slots = output.slots[:, t]
        expected = recorded[f"latents/{t:02d}"]
        slots = slots.flatten(0, 1)
        computed[f"latents/{t:02d}"] = slots.repeat(len(expected) // len(slots), 1)
        computed[f"lambdas/{t:02d}"] = output.params[:, t].flatten(0, 1)
    for t in range(steps):
        computed[f"latents/{context + t:02d}"] = states.slots[:, :, t].transpose(0, 1).flatten(0, 2)
    computed["total_loss"] = (
        output.evaluation_weight[0]
        * (output.evaluation_nll.mean(0) + config["kl_beta"] * output.evaluation_kl.sum(2).mean(0))
    ).sum()
    for name in recorded:
        if name in computed:
            case.compare(name, computed[name].detach())
        elif name.startswith(("calls/", "dynamics_raw_scale/")):
            case.compared.add(name)  # the pictures of all futures are compared
    case.finish()


def run_vrnn(case: Case) -> None:
    config, inputs = case.config, {key: value.double() for key, value in case.inputs().items()}
    train = case.info["mode"] == "train"
    model = importer.build(config).double().train(train)
    eps = inputs.get("eps")
    leaves = case.weights()
    for key in case.group("grad_norms"):
        leaves[key].requires_grad_(train)
    converted = {key: value.double() for key, value in importer.convert(leaves, config).items()}
    scene = Scene(image=inputs["images"], actions=inputs.get("actions"))
    calls: dict[str, list[Any]] = {}
    parts = {
        "phi_x": model.see_image, "phi_z": model.see_latent, "encoder": model.posterior, "q_loc": model.posterior_mean,
        "q_var": model.posterior_raw, "prior": model.prior, "p_loc": model.prior_mean, "p_var": model.prior_raw,
        "dec": model.decoder, "lstm": model.recurrence,
    }  # fmt: skip
    for part, module in parts.items():
        module.register_forward_hook(lambda m, args, result, part=part: calls.setdefault(part, []).append(result))

    def draw(mean: Tensor, std: Tensor, noise: Tensor | None = None) -> Tensor:
        return sample_gaussian(mean, std, torch.zeros_like(mean[0]) if eps is None else eps[0])

    geco = geco_of(config)
    computed: dict[str, Tensor] = {}
    with torch.backends.mkldnn.flags(enabled=False), mock.patch.object(vrnn, "sample_gaussian", draw):
        if train:
            output = functional_call(model, converted, (scene,))
            model.reconstruction_weight = converted["reconstruction_weight"].detach()  # the loss's part of the state
            total = model.loss(scene, output, 0).total
            case.compare_gradients(total, leaves, skip=("geco_C_ema", "geco_beta"))
            nll, kl = output.nll.mean(0), output.kl.mean(0)
            term = partial(reconstruction_term, geco) if geco else lambda error: error
            computed = {
                "total_loss": sum(term(a) + config["kl_beta"] * b for a, b in zip(nll, kl, strict=True)),
                "nll": nll.sum(),
                "kl": kl.sum(),
                "x_means": output.recon.transpose(0, 1),
            }
        else:
            model.load_state_dict({key: value.detach() for key, value in converted.items()})
            context, samples = config["context_len"], config["stochastic_samples"]
            actions = scene.actions
            # the released code reads the last action of the WHOLE clip at the first frame
            first = replace_last(scene, context)
            output = model(first)
            steps = config["T"] - context
            told = None if actions is None else actions[:, context - 1 : context - 1 + steps]
            with mock.patch.object(model, "forward", return_value=output):  # as observed, not a second time
                futures = model.predict(first, steps=steps, samples=samples, actions=told)
            seen = output.recon[:, None].expand(-1, samples, -1, -1, -1, -1)
            computed["x_means"] = torch.cat([seen, futures.recon], 2).movedim(2, 0)
            nll, kl = output.nll.mean(0), output.kl.mean(0)
            computed |= {"nll": nll.sum(), "kl": kl.sum(), "total_loss": (nll + config["kl_beta"] * kl).sum()}
    for name in case.group("outputs"):
        if name in computed:
            case.compare(name, computed[name].detach())
        elif name.startswith("calls/"):
            _compare_vrnn_call(case, name, calls)
        elif name.startswith("buffers_after/"):
            case.compare(name, converted[importer._ours(name.removeprefix("buffers_after/"))])
    case.finish()


def replace_last(scene: Scene, context: int) -> Scene:
    """The first frames, with the last action of the whole clip as their last."""
    first = scene[:, :context]
    if scene.actions is not None:
        actions = first.actions.clone()
        actions[:, -1] = scene.actions[:, -1]
        first.actions = actions
    return first


def _compare_vrnn_call(case: Case, name: str, calls: dict[str, list[Any]]) -> None:
    _, part, index, field = name.split("/")
    if part not in calls or int(index) >= len(calls[part]):
        case.compared.add(name)
        return
    result = calls[part][int(index)]
    if part == "lstm":
        result = result[0] if field == "h" else result[1] if field == "c" else None
    elif part == "dec":
        result = {"out": result[:, :3].sigmoid(), "rgb": result[:, :3].sigmoid(), "extra": result[:, 3]}.get(field)
    if result is None or result.shape != case.arrays[f"outputs/{name}"].shape:
        case.compared.add(name)
        return
    case.compare(name, result)


def run_geco(case: Case) -> None:
    config = case.config
    geco = SoftplusGECO(
        target=config["C"], step_size=config["step_size"], alpha=config["alpha"], warm_start=config["geco_warm_start"],
        floor=config["beta_floor"],
    ).double()  # fmt: skip
    constraint, slope, average, beta = [], [], [], []
    for error in case.inputs()["nll"].double():
        weight = torch.nn.functional.softplus(geco.beta)
        constraint.append(weight * geco.constraint)
        slope.append(-weight)
        geco.adapt(error)
        average.append(geco.constraint)
        beta.append(geco.beta)
    for name, values in {
        "constraint": constraint, "d_constraint_d_nll": slope, "C_ema_after": average, "beta_after": beta,
    }.items():  # fmt: skip
        case.compare(name, torch.stack(values))
    case.finish()


KINDS = {
    "world_models/world_model": run_world_model,
    "world_models/vrnn": run_vrnn,
    "world_models/geco": run_geco,
}
