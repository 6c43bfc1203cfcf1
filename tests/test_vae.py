"""The baseline VAEs, and the importer of their checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from objectscape.checkpoints import genesis as importer
from objectscape.checkpoints.genesis_family import vae as vae_files
from objectscape.contract import abilities
from objectscape.models.vae import VAE
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene

DECODERS = ("deconvolution", "broadcast")


def make(decoder: str = "deconvolution", **options: Any) -> VAE:
    torch.manual_seed(0)
    return VAE(**{"image_size": 32, "latent_dim": 8, "decoder": decoder, **options})


def flat_scene() -> Scene:
    """A red and a blue picture: what a few steps can learn."""
    colors = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
    return Scene(image=colors[:, :, None, None].expand(-1, -1, 32, 32).clone())


def scene(size: int = 2) -> Scene:
    return Scene(image=torch.rand(size, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("decoder", DECODERS)
def test_redraws_as_one_slot(decoder: str) -> None:
    model = make(decoder)
    output = model(scene())
    assert output.recon.shape == (2, 3, 32, 32)
    assert torch.equal(output.masks, torch.ones(2, 1, 1, 32, 32))
    assert torch.equal(output.components[:, 0], output.recon)
    assert output.slots.shape == (2, 1, 8)
    assert abilities(model) == ["generate"]  # it does not decompose
    normal = torch.distributions.Normal(output.recon, 0.7)
    torch.testing.assert_close(output.nll, -normal.log_prob(scene().image).sum((1, 2, 3)))
    posterior, prior = torch.distributions.Normal(output.mean, output.std), torch.distributions.Normal(0.0, 1.0)
    z = output.slots[:, 0]
    torch.testing.assert_close(output.kl, (posterior.log_prob(z) - prior.log_prob(z)).sum(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decoder", DECODERS)
def test_gradients_reach_every_parameter(decoder: str) -> None:
    model = make(decoder)
    model.loss(scene(), model(scene()), 0).total.backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in model.parameters())


@pytest.mark.parametrize("decoder", DECODERS)
def test_overfits_two_images(decoder: str) -> None:
    model = make(decoder)
    images = flat_scene()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    errors = []
    for step in range(8):
        losses = model.loss(images, model(images), step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        errors.append(float(losses.total.detach()))
    assert errors[-1] < errors[0] - 20  # nats


def test_weight_of_the_kl() -> None:
    model = make(beta=2.0, beta_warmup=4)
    output = model(scene())
    for step, beta in ((0, 0.0), (1, 0.5), (4, 2.0), (9, 2.0)):
        torch.testing.assert_close(model.loss(scene(), output, step).total, (output.nll + beta * output.kl).mean())
    model.beta, model.beta_warmup = 3.0, 0
    torch.testing.assert_close(model.loss(scene(), output, 0).total, (output.nll + 3 * output.kl).mean())


@pytest.mark.parametrize("decoder", DECODERS)
def test_samples(decoder: str) -> None:
    model = make(decoder)
    noise = torch.randn(3, 1, 8)
    imagined = model.sample(3, noise=noise)
    assert imagined.recon.shape == (3, 3, 32, 32)
    assert torch.equal(imagined.slots, noise)
    assert not torch.equal(model.sample(3).recon, imagined.recon)
    with pytest.raises(ValueError, match="noise has shape"):
        model.sample(3, noise=noise[:, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 50}, "image_size=50"),
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"decoder": "broadcasting"}, "did you mean 'broadcast'"),
        ({"pixel_std": 0.0}, "pixel_std=0.0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="clips: fold the time axis"):
        make()(Scene(image=torch.rand(1, 2, 3, 32, 32)))


@pytest.mark.parametrize("image_size", [64, 128, 256])
def test_larger_images(image_size: int) -> None:
    model = make(image_size=image_size)
    with torch.no_grad():
        assert model(Scene(image=torch.rand(1, 3, image_size, image_size))).recon.shape[-1] == image_size


@pytest.mark.parametrize("decoder", DECODERS)
def test_reads_original_files(decoder: str, tmp_path: Path) -> None:
    model = make(decoder, pixel_std=0.4)
    config = {**vae_files._DEFAULTS, "broadcast_decoder": decoder == "broadcast"}
    state, weights = model.state_dict(), {}
    for ours, theirs in vae_files.table(config).items():
        names = (theirs,) if isinstance(theirs, str) else theirs
        weights |= dict(zip(names, state[ours].chunk(len(names)), strict=True))
    torch.save({"model_state_dict": weights}, tmp_path / "model.ckpt-500000")
    (tmp_path / "flags.json").write_text(json.dumps({"pixel_std": 0.4, "img_size": -1}))
    found, read = importer.read(tmp_path / "model.ckpt-500000")
    again = importer.build(found)
    again.load_state_dict(importer.convert(read, found))
    assert found["family"] == "vae"
    assert {**again.config, "beta": 0, "beta_warmup": 0} == {**model.config, "beta": 0, "beta_warmup": 0}
    with posterior_means():
        torch.testing.assert_close(again(scene()).nll, model(scene()).nll)


@pytest.mark.parametrize("decoder", DECODERS)
def test_slimmer_and_with_larger_initial_weights(decoder: str) -> None:
    slim, scaled = make(decoder, core_channels=8), make(decoder, core_channels=8, initialization="sharp")
    assert sum(p.numel() for p in slim.parameters()) < 0.3 * sum(p.numel() for p in make(decoder).parameters())
    assert slim(scene()).recon.shape == (2, 3, 32, 32)
    before, after = slim.state_dict(), scaled.state_dict()
    for name in before:
        factor = 2 if "weight" in name and not name.startswith("posterior") else 1
        assert torch.equal(after[name], factor * before[name]), name
