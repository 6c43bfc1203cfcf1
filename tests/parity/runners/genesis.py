"""Cases of the GENESIS code base: GENESIS with GENESIS-S, and the baseline VAEs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from objectscape.checkpoints import genesis as importer
from objectscape.checkpoints.genesis_family.genesis import table
from objectscape.contract import Model
from objectscape.models.genesis import GenesisOutput
from objectscape.models.genesis_s import GenesisS, GenesisSOutput
from objectscape.models.vae import VAEOutput
from objectscape.nn.distributions import posterior_means
from objectscape.nn.mixtures import mixture_log_likelihood, stick_breaking_from_logits
from objectscape.scene import Decomposition, Losses, Scene
from tests.parity.case import Case


def run_model(
    case: Case, model: Model, watched: dict[str, nn.Module | None]
) -> tuple[Decomposition, Losses, dict[str, Tensor], dict[str, Tensor]]:
    """One recorded forward and backward pass: output, loss, what `watched` modules gave, the state after it."""
    model.train(case.info["mode"] == "train")
    seen: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, result: Tensor | tuple[Tensor, object]) -> None:
            seen[name] = result[0] if isinstance(result, tuple) else result

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in watched.items() if module is not None]
    leaves = case.weights(requires_grad=True)
    state = importer.convert(leaves, {**case.config, "family": case.info["family"]})
    for name, _ in model.named_buffers():  # a forward pass in train mode writes into the batch norms' statistics
        state[name] = state[name].detach().clone()
    scene = Scene(image=case.inputs()["image"])
    output = functional_call(model, state, (scene,))
    model.beta = case.info["beta"]
    losses = model.loss(scene, output, 0)
    case.compare_gradients(losses.total, leaves, skip=tuple(case.info["zero_grad_params"]))
    for hook in hooks:
        hook.remove()
    return output, losses, seen, state


def compare_all(case: Case, actual: dict[str, Tensor]) -> None:
    """Compare every recorded output; one that `actual` lacks is a failure."""
    recorded = set(case.group("outputs"))
    unknown = recorded - set(actual)
    assert not unknown, f"{case.path.stem}: nothing computes {sorted(unknown)}"
    for name in sorted(recorded):
        case.compare(name, actual[name])
    case.finish()


def common(output: Decomposition, losses: Losses, image: Tensor) -> dict[str, Tensor]:
    mse = ((image - output.recon) ** 2).mean((1, 2, 3))
    return {
        "recon": output.recon,
        "loss": losses.total,
        "elbo": losses.terms["negative_elbo"],  # upstream's name
        "err_mean": losses.terms["nll"],
        "mse": mse,
        "rmse": mse.sqrt(),
    }


def slot_major(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1)


@posterior_means()
def genesis(case: Case) -> None:
    model = importer.build({**case.config, "family": case.info["family"]})
    one_stage = isinstance(model, GenesisS)
    prior = model.prior if one_stage else model.mask_prior
    output, losses, seen, state = run_model(
        case,
        model,
        {
            "enc_h": None if model.masks is None else model.masks.encoder,
            "mask_logits": None if model.masks is None else model.masks.decoder,
            "prior_lstm_out": None if prior is None else prior.lstm,
            "comp_enc_raw": None if one_stage else model.component_encoder,
        },
    )
    assert isinstance(output, GenesisOutput | GenesisSOutput)
    image, slots = case.inputs()["image"], model.slots
    std = torch.full((slots,), float(case.config["pixel_std2"]))
    std[0] = case.config["pixel_std1"]
    kl_masks = output.kl_slots if isinstance(output, GenesisSOutput) else output.kl_mask_latents
    actual = common(output, losses, image) | {
        "x_r": slot_major(output.components),
        "log_m": slot_major(output.log_masks),
        "err": output.nll,
        "err_pixelwise": -mixture_log_likelihood(image, output.components, output.log_masks, std),
        "kl_m_k": slot_major(kl_masks),
        "kl_m": kl_masks.sum(1).mean(),
        "kl_m_mean": kl_masks.sum(1).mean(),
        "kl_l_mean": torch.zeros(()),
    }
    if isinstance(output, GenesisSOutput):
        z, posterior, prior_of_z = output.slots, (output.mean, output.std), (output.prior_mean, output.prior_std)
    else:
        z = output.slots[..., : model.mask_latent_dim]
        posterior, prior_of_z = (output.mask_mean, output.mask_std), (output.mask_prior_mean, output.mask_prior_std)
        actual |= {
            "comp_enc_raw": slot_major(seen["comp_enc_raw"].unflatten(0, output.slots.shape[:2])),
            "comp_mu": slot_major(output.component_mean),
            "comp_sigma": slot_major(output.component_std),
            "comp_z": slot_major(output.slots[..., model.mask_latent_dim :]),
            "comp_prior_mu": slot_major(output.component_prior_mean),
            "comp_prior_sigma": slot_major(output.component_prior_std),
            "kl_l_k": slot_major(output.kl_component_latents),
            "kl_l_mean": output.kl_component_latents.sum(1).mean(),
        }
    if model.masks is not None:
        logits = seen["mask_logits"].unflatten(0, output.slots.shape[:2])
        actual |= {
            "enc_h": seen["enc_h"],
            "mask_logits": slot_major(logits),
            "mask_mu": slot_major(posterior[0]),
            "mask_sigma": slot_major(posterior[1]),
            "mask_z": slot_major(z),
            "mask_prior_mu": slot_major(prior_of_z[0]),
            "mask_prior_sigma": slot_major(prior_of_z[1]),
            "log_s": slot_major(with_last_scope(output.log_scopes, logits)),
        }
    if "prior_lstm_out" in seen:
        actual["prior_lstm_out"] = slot_major(seen["prior_lstm_out"])
    actual |= {f"bn_after/{theirs}": state[ours] for ours, theirs in table(case.config).items() if "running_" in ours}

    recorded = case.group("outputs")
    if "sample_image" in recorded:  # upstream cannot sample with one slot
        model.load_state_dict(state)
        model.eval()
        for prefix, without_tanh in (("sample", True), ("sample_tanh", False)):
            model.linear_sampling_mean = without_tanh
            actual |= sampled(prefix, model, len(recorded["sample_image"]))
    compare_all(case, actual)


def sampled(prefix: str, model: Model, n: int) -> dict[str, Tensor]:
    logits: list[Tensor] = []
    hook = model.masks.decoder.register_forward_hook(lambda module, args, result: logits.append(result))
    with torch.no_grad():
        imagined = model.sample(n)
    hook.remove()
    split = imagined.slots.shape[-1] if isinstance(model, GenesisS) else model.mask_latent_dim
    mask_logits = logits[0].unflatten(0, imagined.slots.shape[:2])
    log_masks, log_scopes = stick_breaking_from_logits(mask_logits[:, :-1])
    log_scopes = with_last_scope(log_scopes, mask_logits)
    return {
        f"{prefix}_image": imagined.recon,
        f"{prefix}_x": slot_major(imagined.components),
        f"{prefix}_log_m": slot_major(log_masks),
        f"{prefix}_log_s": slot_major(log_scopes),
        f"{prefix}_mask_z": slot_major(imagined.slots[..., :split]),
        f"{prefix}_comp_z": slot_major(imagined.slots[..., split:]),
    }


def with_last_scope(log_scopes: Tensor, logits: Tensor) -> Tensor:
    """Upstream's scopes go one step further, to what slot K's unused logit would leave over."""
    return torch.cat([log_scopes, log_scopes[:, -1:] + F.logsigmoid(-logits[:, -1:])], dim=1)


@posterior_means()
def vae(case: Case) -> None:
    model = importer.build({**case.config, "family": case.info["family"]})
    output, losses, seen, state = run_model(case, model, {"enc_h": model.encoder, "dec_raw": model.decoder})
    assert isinstance(output, VAEOutput)
    model.load_state_dict(state)
    with torch.no_grad():
        imagined = model.eval().sample(len(case.group("outputs")["sample_image"]))
    actual = common(output, losses, case.inputs()["image"]) | {
        **seen,
        "mu": output.mean,
        "sigma": output.std,
        "z": output.slots[:, 0],
        "err": output.nll,
        "kl_l": output.kl,
        "kl_l_mean": output.kl.mean(),
        "kl_m_mean": torch.zeros(()),
        "sample_image": imagined.recon,
        "sample_z": imagined.slots[:, 0],
    }
    compare_all(case, actual)


KINDS = {"genesis": genesis, "vae": vae}
