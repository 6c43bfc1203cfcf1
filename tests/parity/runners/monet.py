"""MONet of the GENESIS code base: outputs, loss, gradient norms, prior samples."""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.checkpoints import genesis as importer
from objectscape.models.monet import MONet
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene
from tests.parity.case import Case
from tests.parity.runners.genesis_common import compare_common, compare_sample, load, slots_first, watching


def run(case: Case) -> None:
    model, leaves, params = load(case, importer)
    assert isinstance(model, MONet)
    scene = Scene(image=case.inputs()["image"])
    # torch 2.13 on CPU computes wrong weight gradients for some convolutions at batch 1 with oneDNN
    with posterior_means(), torch.backends.mkldnn.flags(enabled=False), watching(model) as seen:
        output = torch.func.functional_call(model, params, (scene,))
        model.beta = case.info["beta"]
        losses = model.loss(scene, output, 0)
        case.compare_gradients(losses.total, leaves, skip=tuple(case.info["zero_grad_params"]))
        model.load_state_dict({key: value.detach() for key, value in params.items()})
        compare_sample(case, model)

    values: dict[str, Tensor] = {
        "log_m": slots_first(output.log_masks),
        "log_s": slots_first(output.log_scopes),
        "comp_enc_raw": slots_first(seen["encoder"][0].unflatten(0, output.slots.shape[:2])),
        "comp_mu": slots_first(output.posterior_mean),
        "comp_sigma": slots_first(output.posterior_std),
        "comp_z": slots_first(output.slots),
        "log_m_r": slots_first(output.log_decoded_masks),
        "kl_m": output.kl_masks,
    }
    if model.slots > 1:
        values |= {"att_logits": torch.stack(seen["attention"]), "unet_mlp": torch.stack(seen["attention.mlp"])}
    pixel_stds = torch.tensor([model.first_pixel_std] + [model.pixel_std] * (model.slots - 1))
    compare_common(case, scene, output, losses, values, output.log_masks, pixel_stds)
    case.finish()


KINDS = {"monet": run}
