"""EfficientMORL: the released model, and the metrics of its released predictions."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from objectscape.checkpoints import efficientmorl as importer
from objectscape.metrics.reconstruction import mse
from objectscape.metrics.segmentation import adjusted_rand_index, contingency
from objectscape.models import efficientmorl
from objectscape.models.efficientmorl import EfficientMORL, EfficientMORLOutput, gaussian_parameters
from objectscape.nn.distributions import sample_gaussian
from objectscape.scene import Scene
from objectscape.training.geco import SoftplusGECO
from tests.parity.case import Case
from tests.parity.runners.geco import reconstruction_term


class Replay:
    """Stands in for `sample_gaussian`: the recorded noise in the order of the model's draws, zero where none is."""

    def __init__(self, inputs: dict[str, Tensor], config: dict[str, Any]) -> None:
        layers, zero = config["stochastic_layers"], torch.zeros_like(inputs["eps_z0"])
        names = [f"eps_layer_{i}" for i in range(layers)]
        priors = range(1, layers) if config["bottom_up_prior"] else range(layers - 1)  # conditioned ones
        self.noise = [inputs.get(name, zero) for name in names]
        if priors:  # drawn all at once: (B, L - 1, K, D)
            self.noise.append(torch.stack([inputs.get(f"eps_prior_{i}", zero) for i in priors], 1))
        self.noise += [inputs.get(f"eps_refine_{i + 1}", zero) for i in range(config["refinement_iters"])]
        used = {"image", "eps_z0", *names, *(f"eps_prior_{i}" for i in priors)}
        used |= {f"eps_refine_{i + 1}" for i in range(config["refinement_iters"])}
        assert set(inputs) <= used, f"inputs that nothing reads: {sorted(set(inputs) - used)}"

    def __call__(self, mean: Tensor, std: Tensor, noise: Tensor | None = None) -> Tensor:
        return sample_gaussian(mean, std, self.noise.pop(0) if noise is None else noise)


def geco_of(config: dict[str, Any]) -> SoftplusGECO | None:
    """The recorded state of GECO, if it is in force."""
    if not importer.geco_in_force(config):
        return None
    geco = SoftplusGECO(target=config["geco"]["target_per_dim"], image_size=config["input_size"][-1])
    geco.beta = torch.tensor(config["geco"]["beta"])
    geco.constraint = torch.tensor(config["geco"]["C_ema"])
    geco.updates = torch.tensor(config["global_step"])
    return geco


def compute(
    model: EfficientMORL, output: EfficientMORLOutput, seen: dict[str, list[Any]], case: Case
) -> dict[str, Tensor]:
    """Everything a case may have recorded, but for the total loss and debug pictures."""
    config, geco = case.config, geco_of(case.config)
    steps, layers = config["refinement_iters"], config["stochastic_layers"]
    zeros = torch.zeros_like(output.slots)
    nll, kl = output.step_nll.mean(0), output.step_kl_slots.sum(2).mean(0)  # (S,)
    computed = {
        "enc_conv": seen["convs"][0],
        "enc_tokens": seen["tokens"][0],
        "z_final": output.slots,
        "recon": output.recon,
        "nll": output.nll.mean(),
        "kl": output.kl_slots.sum(1).mean(),
        "deltas": (output.step_params[:, 1:] - output.step_params[:, :-1]).norm(dim=-1).mean((0, 2)),
    }
    mean, std = gaussian_parameters(output.layer_params)
    for i in range(layers):
        computed |= {
            f"attn_{i}": output.layer_attention[:, i, :, None],
            f"post_mu_{i}": mean[:, i],
            f"post_softplus_{i}": output.layer_params[:, i].chunk(2, -1)[1],
            f"post_std_{i}": std[:, i],
            f"prior_mu_{i}": output.prior_mean[:, i],
            f"prior_std_{i}": output.prior_std[:, i],
            f"kl_layer_{i}": output.layer_kl[:, i],
        }
    for i in range(steps + 1):
        computed |= {
            f"nll_{i}": output.step_nll[:, i],
            f"means_{i}": output.step_components[:, i],
            f"masks_{i}": output.step_masks[:, i],
            f"lambda_{i}": output.step_params[:, i],
            # the published value of GECO's loss; its gradient is that of ours
            f"refine_loss_{i}": config["kl_beta"] * kl[i] + (reconstruction_term(geco, nll[i]) if geco else nll[i]),
        }
    held_to_first = config["reverse_prior_plusplus"] and layers
    for i in range(1, steps + 1):
        delta, hidden = seen["refinements"][i - 1]
        computed |= {
            f"refine_prior_mu_{i}": output.prior_mean[:, 0] if held_to_first else zeros,
            f"refine_prior_std_{i}": output.prior_std[:, 0] if held_to_first else zeros + 1,
            f"refine_kl_{i}": output.step_kl_slots[:, i],
            f"refine_input_{i}": seen["refinement_inputs"][i - 1],
            f"refine_delta_{i}": delta,
            f"refine_hidden_{i}": hidden,
        }
    return computed


def run_model(case: Case) -> None:
    # In float64, as the originals were recorded: a refinement's input is a normalized gradient, which can be so small
    # that float32 rounding shows, and jumps where a ReLU changes its mind.
    config, inputs = case.config, {key: value.double() for key, value in case.inputs().items()}
    model = importer.build(config).double()
    seen: dict[str, list[Any]] = {"convs": [], "tokens": [], "refinement_inputs": [], "refinements": []}
    model.encoder.convs.register_forward_hook(lambda module, args, result: seen["convs"].append(result))
    model.encoder.register_forward_hook(lambda module, args, result: seen["tokens"].append(result))
    model.refiner.mlp.register_forward_hook(lambda module, args, result: seen["refinement_inputs"].append(args[0]))
    model.refiner.register_forward_hook(lambda module, args, result: seen["refinements"].append(result))
    training = config["mode"] == "train"
    leaves = case.weights(requires_grad=training)
    params = {key: value.double() for key, value in importer.convert(leaves, config).items()}
    scene, replay = Scene(image=inputs["image"]), Replay(inputs, config)
    # oneDNN computes wrong weight gradients for some small convolutions at batch 1 (torch 2.13, CPU)
    with torch.backends.mkldnn.flags(enabled=False), mock.patch.object(efficientmorl, "sample_gaussian", replay):
        with torch.set_grad_enabled(training):  # evaluation: the way objectscape evaluates
            output: EfficientMORLOutput = functional_call(model, params, (scene,), {"noise": inputs["eps_z0"]})
        assert not replay.noise, "the model drew less often than the original"
        weights = {k.removeprefix("decoder."): v for k, v in params.items() if k.startswith("decoder.")}
        model.reconstruction_weight = params["reconstruction_weight"].detach()  # the loss's part of the state
        total = model.loss(scene, output, 0).total
        if case.group("grad_norms"):
            case.compare_gradients(total, leaves)
        computed = compute(model, output, seen, case)
        if config["debug"]:
            for i in range(config["stochastic_layers"] - 1):
                rgb, logits = functional_call(model.decoder, weights, (output.layer_slots[:, i],))
                computed[f"debug_means_layer_{i}"], computed[f"debug_masks_layer_{i}"] = (
                    rgb.sigmoid(),
                    logits.softmax(1),
                )
    count = config["refinement_iters"]
    constant = sum(  # between the published value of GECO's loss and ours
        (count + 3 - i) / (count + 1) * (computed[f"refine_loss_{i}"] - model._objective(output.step_nll[:, i], kl))
        for i, kl in enumerate(output.step_kl_slots.unbind(1))
    )
    computed["total_loss"] = total + constant
    for name in case.group("outputs"):
        case.compare(name, computed[name])
    case.finish()


def run_released_predictions(case: Case) -> None:
    """Each level's scores of ten scenes: the metrics of the recorded masks are the recorded metrics."""
    arrays, expected = case.arrays, dict(case.info["expected"])
    levels = arrays["pred_mask"].shape[1]
    entities = torch.arange(arrays["true_mask"].shape[1]).view(-1, 1, 1)
    true = (torch.from_numpy(arrays["true_mask"]) * entities).amax(1)  # (B, H, W)
    images = torch.from_numpy(arrays["images"])
    scores: dict[str, list[Tensor]] = {"ari_fg": [], "ari_all": [], "mse": []}
    for level in range(levels):
        # The masks were rounded to float16 after they were scored. Where that made two slots tie, the winner is
        # unknown: try the lowest and the highest. Without ties both give the same, for the index does not see the
        # slots' order.
        masks = torch.from_numpy(arrays["pred_mask"][:, level]).float()[:, :, None]  # (B, K, 1, H, W)
        tables = [contingency(true, masks), contingency(true, masks.flip(1))]
        for name, foreground in (("ari_fg", True), ("ari_all", False)):
            both = torch.stack([adjusted_rand_index(table, foreground=foreground, empty="zero") for table in tables])
            nearest = (both - torch.from_numpy(arrays[name][:, level])).abs().argmin(0, keepdim=True)  # (1, B)
            scores[name].append(both.gather(0, nearest)[0])
        recons = torch.from_numpy(arrays["recons"][:, level])
        scores["mse"].append(mse(images.permute(0, 3, 1, 2), recons.permute(0, 3, 1, 2)))
    computed = {name: torch.stack(values, 1).numpy() for name, values in scores.items()}  # (B, levels)
    for name, table in computed.items():
        np.testing.assert_allclose(table, arrays[name], **case.tolerance, err_msg=name)
    summary = {f"mean_{name}_per_level": table.mean(0) for name, table in computed.items()}
    summary |= {f"per_image_final_{name}": table[:, -1] for name, table in computed.items()}
    expected.pop("published_320_images", None)  # of other images
    for name, values in expected.items():
        np.testing.assert_allclose(summary[name], values, **case.tolerance, err_msg=name)


KINDS = {"emorl/model": run_model, "emorl/released_predictions": run_released_predictions}
