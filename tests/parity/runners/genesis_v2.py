"""GENESIS-V2: outputs, loss, gradient norms, prior samples, with and without dynamic K."""

from __future__ import annotations

import torch
from torch import Tensor

from objectscape.checkpoints import genesis as importer
from objectscape.models.genesis_v2 import GenesisV2
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene
from tests.parity.case import Case
from tests.parity.runners.genesis_common import compare_common, compare_sample, load, slots_first, watching, winners


def run(case: Case) -> None:
    model, leaves, params = load(case, importer)
    assert isinstance(model, GenesisV2)
    inputs = case.inputs()
    image = inputs["image"]
    # upstream lets padded slots take part, and pads only in batches above 1
    padded = model.dynamic_slots and len(image) > 1
    model.padded_slots_compete = padded
    # torch 2.13 on CPU computes wrong weight gradients for some convolutions at batch 1 with oneDNN
    with posterior_means(), torch.backends.mkldnn.flags(enabled=False), watching(model) as seen:
        scene = Scene(image=image)
        output = torch.func.functional_call(model, params, (scene,), {"seed_noise": inputs.get("rand_pixel")})
        model.beta = case.info["beta"]
        losses = model.loss(scene, output, 0)
        case.compare_gradients(losses.total, leaves, skip=tuple(case.info["zero_grad_params"]))
        model.load_state_dict({key: value.detach() for key, value in params.items()})
        compare_sample(case, model)

    used = output.present.sum(1).long()  # (B,)
    count = model.slots if padded else int(used.max())  # at batch 1 upstream has no more slots than it uses
    tried = [min(int(n), model.slots - 1) for n in used]  # steps, a discarded one included
    embedding = seen["embedding"][0]
    # forward ends at the first `count` slots; the others are checked to be empty
    assert bool((output.masks[:, count:] == 0).all())
    assert bool((output.kl_slots[:, count:] == 0).all())
    values: dict[str, Tensor] = {
        "enc_feat": seen["encoder"][0],
        "seg_feat": seen["segmentation_head"][0],
        "feat": seen["feature_head"][0],
        "obj_feat": slots_first(seen["posterior:input"][0])[:count],
        "log_m": slots_first(output.log_attention_masks)[:count],
        "mu": slots_first(output.posterior_mean)[:count],
        "sigma": slots_first(output.posterior_std)[:count],
        "z": slots_first(output.slots)[:count],
        "dec_raw": slots_first(seen["decoder"][0].unflatten(0, output.slots.shape[:2]))[:count],
        "log_m_r": slots_first(output.log_masks)[:count],
        "instance_seg": winners(case, "instance_seg", output.log_attention_masks),
        "instance_seg_r": winners(case, "instance_seg_r", output.log_masks),
        "prior_mu": slots_first(output.prior_mean)[:count],
        "prior_sigma": slots_first(output.prior_std)[:count],
        "kl_m": output.kl_masks,
        "colour": embedding[0] if isinstance(embedding, tuple) else embedding,
    }
    if isinstance(embedding, tuple):
        values["delta"] = embedding[1]
    if padded:
        values["seed_index_flat"] = torch.cat([seeds[:n] for seeds, n in zip(output.seeds, tried, strict=True)])
    else:
        values |= {
            "log_s": slots_first(output.log_scopes)[:count],
            "seed_index": slots_first(output.seeds)[: tried[0]],
            "seeds": slots_first(seen["coloring"][0].seed_embeddings)[: tried[0]],
        }
    compare_common(case, scene, output, losses, values, output.log_masks, torch.tensor(model.pixel_std), count)
    case.finish()


KINDS = {"genesisv2": run}
