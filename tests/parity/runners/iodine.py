"""IODINE: DeepMind's released code."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.func import functional_call

from objectscape.checkpoints import iodine as importer
from objectscape.metrics.reconstruction import mse
from objectscape.metrics.segmentation import adjusted_rand_index, contingency
from objectscape.models import iodine
from objectscape.models.iodine import IODINEOutput, gaussian_parameters
from objectscape.nn.distributions import sample_gaussian
from objectscape.scene import Scene
from tests.parity.case import Case


class Replay:
    """Stands in for `sample_gaussian`: the recorded noise in the order of the draws, zero where none was recorded."""

    def __init__(self, inputs: dict[str, Tensor], iterations: int) -> None:
        names = [f"eps_{t}" for t in range(iterations + 1)]
        unknown = {name for name in inputs if name.startswith("eps_")} - set(names)
        assert not unknown, f"noise that nothing reads: {sorted(unknown)}"
        self.noise = [inputs.get(name, torch.zeros_like(inputs["eps_0"])) for name in names]

    def __call__(self, mean: Tensor, std: Tensor, noise: Tensor | None = None) -> Tensor:
        return sample_gaussian(mean, std, self.noise.pop(0))


def scores(output: IODINEOutput, image: Tensor, true_mask: Tensor) -> dict[str, Tensor]:
    """The metrics of every drawing, (B, S)."""
    true = true_mask.squeeze(2).argmax(1)  # (B, H, W)
    rows: dict[str, list[Tensor]] = {"metric_ari": [], "metric_ari_nobg": [], "metric_mse": []}
    for masks, recon in zip(output.step_masks.unbind(1), output.step_recon.unbind(1), strict=True):
        table = contingency(true, masks)
        rows["metric_ari"].append(adjusted_rand_index(table, foreground=False))
        rows["metric_ari_nobg"].append(adjusted_rand_index(table, foreground=True))
        rows["metric_mse"].append(mse(image, recon))
    return {name: torch.stack(values, 1) for name, values in rows.items()}


def run(case: Case) -> None:
    # In float64, for gradients are refinement inputs: rounding grows from iteration to iteration.
    config, inputs = case.config, {key: value.double() for key, value in case.inputs().items()}
    model = importer.build(config).double()
    logits: list[Tensor] = []
    seen: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    model.decoder.register_forward_hook(lambda module, args, result: logits.append(result[1]))
    model.refinement_inputs.register_forward_hook(lambda module, args, result: seen.append(result))
    leaves = case.weights(requires_grad=True)
    params = {key: value.double() for key, value in importer.convert(leaves, config).items()}
    scene, replay = Scene(image=inputs["image"]), Replay(inputs, config["T"])
    # oneDNN computes wrong weight gradients for some small convolutions at batch 1 (torch 2.13, CPU)
    with torch.backends.mkldnn.flags(enabled=False), mock.patch.object(iodine, "sample_gaussian", replay):
        output: IODINEOutput = functional_call(model, params, (scene,))
        total = model.loss(scene, output, 0).total
        case.compare_gradients(total, leaves)
    assert not replay.noise, "the model drew less often than the original"
    mean, std = gaussian_parameters(output.step_params)
    computed: dict[str, Any] = {
        "z": output.step_slots,
        "z_mean": mean,
        "z_std": std,
        "recon": output.step_recon,
        "pred_mask": output.step_masks,
        "mask_logits": torch.stack(logits, 1),
        "components": output.step_components,
        "loss_total": total,
        "recon_nll": output.step_nll,
        "kl": output.step_kl_slots,
        **scores(output.detach(), inputs["image"], inputs["true_mask"]),
    }
    for kind, index in (("spatial", 0), ("flat", 1)):
        for name in seen[0][index]:
            computed[f"refine_{kind}_{name}"] = torch.stack([step[index][name] for step in seen], 1)
    for name, expected in case.group("outputs").items():
        value = computed[name]
        if value.ndim > 1 and expected.shape[1] == 1 and value.shape[1] > 1:  # of the last drawing only
            value = value[:, -1:]
        case.compare(name, value)
    case.finish()


KINDS = {"iodine": run}
