"""OP3: the authors' released model."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.func import functional_call

from objectscape.checkpoints import op3 as importer
from objectscape.models import op3
from objectscape.models.op3 import OP3Output
from objectscape.nn.distributions import sample_gaussian
from objectscape.scene import Scene
from tests.parity.case import Case

MOVES = {0: op3.REFINE, 1: op3.ADVANCE}


class _Unrolled(torch.nn.Module):
    """`model.unroll` as something that `functional_call` can call."""

    def __init__(self, model: op3.OP3) -> None:
        super().__init__()
        self.model = model

    def forward(self, scene: Scene, moves: list[str]) -> OP3Output:
        return self.model.unroll(scene, moves)


def run(case: Case) -> None:
    config, inputs = case.config, {key: value.double() for key, value in case.inputs().items()}
    train = any(config["loss_schedule"])
    model = importer.build(config).double()
    leaves = case.weights(requires_grad=train)
    params = {f"model.{key}": value.double() for key, value in importer.convert(leaves, config).items()}
    images, eps = inputs["images"], inputs["eps"]
    scene = Scene(image=images, actions=inputs.get("actions"))
    refined: list[Any] = []
    model.refiner.register_forward_hook(lambda module, args, result: refined.append((args, result)))
    moments: list[Any] = []
    understand = model._understand

    def spy(*args: Any) -> Any:
        moments.append(understand(*args))
        return moments[-1]

    def draw(mean: Tensor, std: Tensor, noise: Tensor | None = None) -> Tensor:
        return sample_gaussian(mean, std, eps)

    with (
        torch.backends.mkldnn.flags(enabled=False),
        mock.patch.object(op3, "sample_gaussian", draw),
        mock.patch.object(model, "_understand", spy),
        torch.set_grad_enabled(train),
    ):
        output = functional_call(_Unrolled(model), params, (scene, [MOVES[entry] for entry in config["schedule"]]))
        losses = model.loss(scene, output, 0)
        if train:
            case.compare_gradients(losses.total, leaves)
    recorded = case.group("outputs")
    computed: dict[str, Tensor] = {
        "colors": output.move_components,
        "masks": output.move_masks,
        "final_recon": output.move_recon[:, -1],
        "mse": (output.move_recon[:, -1] - images[:, -1]).square().mean(),
        "total_loss": losses.total,
        "total_nll": losses.terms["nll"],
        "total_kl": losses.terms["kl"],
    }
    first = config["schedule"][0] == 0
    for i, moment in enumerate(moments if first else moments[1:]):
        computed |= {
            f"calls/decode/{i:02d}/colors": moment.components,
            f"calls/decode/{i:02d}/mask": moment.masks,
            f"calls/decode/{i:02d}/mask_logits": moment.logits,
        }
    if not train:  # the loss is then asked for its gradients only
        moments_of_loss = [moments[i] for i, entry in enumerate(config["schedule"]) if entry == 0]
    else:
        moments_of_loss = moments if first else moments[1:]
    for i, moment in enumerate(moments_of_loss):
        computed |= {
            f"calls/loss/{i:02d}/color_probs": moment.log_density.exp()[:, :, 0],
            f"calls/loss/{i:02d}/pixel_likelihood": moment.likelihood[:, 0, 0],
            f"calls/loss/{i:02d}/nll": moment.nll.mean(),
            f"calls/loss/{i:02d}/kl": moment.kl.sum(1).mean(),
            f"calls/loss/{i:02d}/total": moment.nll.mean() + model.kl_weight * moment.kl.sum(1).mean(),
        }
    for i, (args, (new, (hidden, cell))) in enumerate(refined):
        mean, raw = new.chunk(2, -1)
        computed |= {
            f"calls/refinement_net/{i:02d}/image_inputs": args[0].flatten(0, 1),
            f"calls/refinement_net/{i:02d}/lambdas1": mean.flatten(0, 1),
            f"calls/refinement_net/{i:02d}/lambdas2": raw.flatten(0, 1),
            f"calls/refinement_net/{i:02d}/h": hidden[None],
            f"calls/refinement_net/{i:02d}/c": cell[None],
        }
    counts = {0: 0, 1: 0}
    for entry, moment in zip(config["schedule"], moments[1:], strict=True):
        name = f"calls/{'refine' if entry == 0 else 'dynamics'}_state/{counts[entry]:02d}"
        counts[entry] += 1
        (mean, raw), (prior_mean, prior_raw) = moment.params.chunk(2, -1), moment.prior.chunk(2, -1)
        computed |= {
            f"{name}/post_lambdas1": mean,
            f"{name}/post_lambdas2": raw,
            f"{name}/samples": moment.stochastic,
            f"{name}/deter": moment.deterministic,
            f"{name}/prior_lambdas1": prior_mean,
            f"{name}/prior_lambdas2": prior_raw,
        }
    for name in recorded:
        if name in computed:
            case.compare(name, computed[name])
        elif name.startswith(("calls/dyn_", "calls/grad_inputs/", "calls/refinement_lstm_input/")):
            case.compared.add(name)  # what lies behind a state or an input that is compared
    case.finish()


KINDS = {"world_models/op3_official": run}
