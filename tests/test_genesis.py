"""GENESIS and GENESIS-S, and the importer of their checkpoints."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from objectscape.checkpoints import genesis as importer
from objectscape.checkpoints.genesis_family import genesis as genesis_files
from objectscape.contract import Model, abilities
from objectscape.models.genesis import Genesis
from objectscape.models.genesis_s import GenesisS
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene

SMALL: dict[str, Any] = {"image_size": 32, "slots": 3, "decoder_channels": 8, "decoder_layers": 2}
TINY: dict[str, Any] = {**SMALL, "mask_latent_dim": 8, "component_latent_dim": 4, "encoder_channels": 8}
VARIANTS: dict[str, tuple[type[Model], dict[str, Any]]] = {
    "genesis": (Genesis, TINY),
    "gated components": (Genesis, {**TINY, "component_network": "gated"}),
    "independent priors": (Genesis, {**TINY, "autoregressive_prior": False, "component_prior": False}),
    "one slot": (Genesis, {**TINY, "slots": 1}),
    "genesis-s": (GenesisS, {**SMALL, "latent_dim": 8}),
}


def make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    kind, defaults = VARIANTS[name]
    return kind(**{**defaults, **options})


def flat_scene() -> Scene:
    """A red and a blue picture: what a few steps can learn."""
    colors = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
    return Scene(image=colors[:, :, None, None].expand(-1, -1, 32, 32).clone())


def scene(size: int = 2) -> Scene:
    return Scene(image=torch.rand(size, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", VARIANTS)
def test_decomposition_is_consistent(name: str) -> None:
    model = make(name, first_pixel_std=0.3)
    output = model(scene())
    slots = model.slots
    assert output.masks.shape == (2, slots, 1, 32, 32)
    assert output.components.shape == (2, slots, 3, 32, 32)
    assert output.slots.shape[:2] == (2, slots)
    assert (output.masks >= 0).all()
    torch.testing.assert_close(output.masks.sum(1), torch.ones(2, 1, 32, 32))
    torch.testing.assert_close(output.recon, (output.masks * output.components).sum(1))
    assert output.components.min() >= 0
    assert output.components.max() <= 1
    assert abilities(model) == ["decompose", "generate"]
    redrawn = model.eval().decode(model(scene()).slots)
    assert redrawn.recon.shape == (2, 3, 32, 32)


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_is_error_plus_weighted_kl(name: str) -> None:
    model = make(name, beta=0.25, beta_warmup=10)
    output = model(scene())
    kl = sum(part.sum(1) for name, part in output.bound.items() if name.startswith("kl"))
    for step, beta in ((0, 0.0), (5, 0.125), (10, 0.25), (99, 0.25)):
        torch.testing.assert_close(model.loss(scene(), output, step).total, (output.nll + beta * kl).mean())
    model.beta, model.beta_warmup = torch.tensor(2.0), 0
    losses = model.loss(scene(), output, 0)
    torch.testing.assert_close(losses.total, (output.nll + 2 * kl).mean())
    torch.testing.assert_close(losses.terms["nll"] + 2 * losses.terms["kl"], losses.total.detach())
    assert not any(term.requires_grad for term in losses.terms.values())


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_reach_every_parameter(name: str) -> None:
    # Without norms: a bias before a batch or instance norm has no effect and so no gradient, by construction.
    model = make(name, encoder_norm="none", decoder_norm="none")
    model.loss(scene(), model(scene()), 0).total.backward()
    silent = [key for key, p in model.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert silent == []


@pytest.mark.parametrize("name", ["genesis", "genesis-s"])
def test_last_mask_latent_does_not_shape_the_masks(name: str) -> None:
    model = make(name).eval()
    slots = model(scene()).slots.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.decode(slots).masks.square().sum(), slots)
    assert (gradient[:, -1] == 0).all()  # the last slot takes what is left
    assert (gradient[:, :-1, :8] != 0).any(-1).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_overfits_two_images(name: str) -> None:
    model = make(name)
    images = flat_scene()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    errors = []
    for step in range(14):
        losses = model.loss(images, model(images), step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        errors.append(float(losses.total.detach()))
    assert errors[-1] < errors[0] - 20  # nats


@pytest.mark.parametrize("name", VARIANTS)
def test_samples(name: str) -> None:
    model = make(name).eval()
    shape = (4, model.slots, model(scene()).slots.shape[-1])
    noise = torch.randn(shape)
    imagined = model.sample(4, noise=noise)
    assert imagined.slots.shape == shape
    assert imagined.recon.shape == (4, 3, 32, 32)
    torch.testing.assert_close(imagined.masks.sum(1), torch.ones(4, 1, 32, 32))
    torch.testing.assert_close(model.sample(4, noise=noise).recon, imagined.recon)
    assert not torch.equal(model.sample(4).recon, imagined.recon)
    with posterior_means():
        torch.testing.assert_close(model.sample(2).recon, model.sample(2, noise=torch.zeros(2, *shape[1:])).recon)
    with pytest.raises(ValueError, match="noise has shape"):
        model.sample(3, noise=noise)


@pytest.mark.parametrize("name", ["genesis", "genesis-s"])
def test_released_sampler_by_option(name: str) -> None:
    ours, released = make(name).eval(), make(name, linear_sampling_mean=True).eval()
    with torch.no_grad():
        for model in (ours, released):  # large means, where tanh matters
            (model.prior if name == "genesis-s" else model.mask_prior).head.bias.fill_(2.0)
    with posterior_means():
        a, b = ours.sample(1).slots, released.sample(1).slots
    width = 8
    torch.testing.assert_close(a[:, 0, :width], b[:, 0, :width])  # the first slot has no learned prior
    torch.testing.assert_close(a[:, 1, :width], b[:, 1, :width].tanh())


@pytest.mark.parametrize("name", ["genesis", "gated components", "independent priors", "genesis-s"])
def test_number_of_slots_can_change(name: str) -> None:
    model = make(name).eval()
    model.slots = 6
    output = model(scene())
    assert output.masks.shape[1] == model.sample(1).masks.shape[1] == 6
    torch.testing.assert_close(output.masks.sum(1), torch.ones(2, 1, 32, 32))
    with pytest.raises(ValueError, match="slots=0"):
        model.slots = 0


def test_two_stage_model_may_use_one_slot_but_not_the_other_way_round() -> None:
    model = make("genesis").eval()
    model.slots = 1
    assert torch.equal(model(scene()).masks, torch.ones(2, 1, 1, 32, 32))
    single = make("one slot")
    with pytest.raises(ValueError, match="built with one slot"):
        single.slots = 2
    assert (single(scene()).kl_mask_latents == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 48}, "image_size=48"),
        ({"slots": 0}, "slots=0"),
        ({"slots": 2.0}, "slots=2.0"),
        ({"component_latent_dim": 0}, "component_latent_dim=0"),
        ({"pixel_std": 0.0}, "pixel_std=0.0"),
        ({"first_pixel_std": -1.0}, "first_pixel_std=-1.0"),
        ({"encoder_norm": "bn"}, "encoder_norm='bn'"),
        ({"decoder_norm": "instanc"}, "did you mean 'instance'"),
        ({"component_network": "symmetric"}, "component_network='symmetric'"),
        ({"beta_warmup": -1}, "beta_warmup=-1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("genesis", **options)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"built for images \(B, 3, 32, 32\) but got \(1, 3, 64, 64\)"):
        make("genesis")(Scene(image=torch.rand(1, 3, 64, 64)))
    with pytest.raises(ValueError, match="slots=1"):
        make("genesis-s", slots=1)


@pytest.mark.parametrize("image_size", [64, 128])
def test_larger_images(image_size: int) -> None:
    model = make("gated components", image_size=image_size, slots=2).eval()
    with torch.no_grad():
        assert model(Scene(image=torch.rand(1, 3, image_size, image_size))).recon.shape[-1] == image_size


def upstream_weights(model: Model, config: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict that the original code would hold: our tables, backwards."""
    weights: dict[str, Tensor] = {"std": torch.full((1, 1, 1, 1, config["K_steps"]), config["pixel_std2"])}
    weights["std"][..., 0] = config["pixel_std1"]
    state = model.state_dict()
    for ours, theirs in genesis_files.table(config).items():
        names = (theirs,) if isinstance(theirs, str) else theirs
        weights |= dict(zip(names, state[ours].chunk(len(names)) if len(names) > 1 else (state[ours],), strict=True))
    return weights


UPSTREAM: dict[str, dict[str, Any]] = {
    "two-stage": {},
    "instance norm": {"enc_norm": "in", "dec_norm": "none"},
    "no priors": {"comp_prior": False, "autoreg_prior": False},
    "symmetric": {"comp_symmetric": True},
    "one-stage": {"two_stage": False},
    "one slot": {"K_steps": 1},
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_reads_original_files(name: str, tmp_path: Path) -> None:
    config = {"img_size": 32, "K_steps": 3, "attention_latents": 8, "comp_ldim": 4, "comp_enc_channels": 8}
    config |= {"comp_dec_channels": 8, "comp_dec_layers": 2, "pixel_std1": 0.5, "pixel_std2": 0.7} | UPSTREAM[name]
    config = {**genesis_files._DEFAULTS, **config}
    model = importer.build(config).eval()
    weights = upstream_weights(model, config)
    old = {f"module.{key}": value for key, value in weights.items()}  # saved from nn.DataParallel
    decoder = "comp_vae.decoder_module" if config["two_stage"] else "decoder"
    old[f"module.{decoder}.seq.0.pixel_coords.g_1"] = torch.zeros(1)  # a buffer of the early releases
    torch.save({"model_state_dict": old, "beta": torch.tensor(0.1), "iter_idx": 7}, tmp_path / "model.ckpt-FINAL")
    (tmp_path / "flags.json").write_text(json.dumps({"img_size": -1, "K_steps": -1, "batch_size": 32}))

    found, read = importer.read(tmp_path / "model.ckpt-FINAL")
    again = importer.build(found).eval()
    again.load_state_dict(importer.convert(read, found))
    assert found["family"] == "genesis"
    if name not in ("one slot", "symmetric"):  # they do not use, and so do not store, some of the options
        assert again.config == model.config
    with posterior_means():
        torch.testing.assert_close(again(scene()).nll, model(scene()).nll)


def test_importer_names_the_keys_that_do_not_fit() -> None:
    config = {**genesis_files._DEFAULTS, "img_size": 32, "K_steps": 2}
    weights = upstream_weights(importer.build(config), config)
    moved = weights.pop("prior_mlp.0.weight")
    with pytest.raises(ValueError, match=r"missing prior_mlp\.0\.weight; unexpected surprise"):
        importer.convert({**weights, "surprise": moved}, config)
    with pytest.raises(ValueError, match="enc_norm='layer'"):
        importer.build({**config, "enc_norm": "layer"})
    with pytest.raises(ValueError, match="family 'spice'"):
        importer.build({**config, "family": "spice"})


def test_importer_refuses_what_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt-FINAL"
    with pytest.raises(FileNotFoundError, match="no such file"):
        importer.read(file)
    torch.save({"model_state_dict": {"x": torch.zeros(1)}, "config": Path("x")}, file)  # a Path needs pickle
    with pytest.raises(ValueError, match="not a plain file of tensors"):
        importer.read(file)
    file.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(ValueError, match=r"not a plain file of tensors|no 'model_state_dict'"):
        importer.read(file)
    torch.save({"model_state_dict": {"x": torch.zeros(1)}}, file)
    with pytest.raises(ValueError, match="no known family"):
        importer.read(file)
