"""MONet: contract, options, and that it learns."""

from __future__ import annotations

import pytest
import torch

from objectscape.checkpoints import genesis as importer
from objectscape.checkpoints.genesis_family import monet as monet_files
from objectscape.contract import abilities
from objectscape.models.monet import MONet, MONetOutput
from objectscape.nn.distributions import posterior_means
from objectscape.nn.mixtures import mask_kl
from objectscape.scene import Scene

SMALL = {"image_size": 32, "slots": 3, "latent_dim": 6, "attention_channels": 4, "encoder_channels": 6}
SMALL |= {"decoder_channels": 8, "decoder_layers": 2}


def squares(n: int, size: int = 32) -> Scene:
    """Two squares of different colors on gray."""
    generator = torch.Generator().manual_seed(3)
    image = torch.full((n, 3, size, size), 0.3)
    for b in range(n):
        for color in ((0.9, 0.1, 0.1), (0.1, 0.8, 0.2)):
            y, x = torch.randint(0, size - 10, (2,), generator=generator).tolist()
            image[b, :, y : y + 10, x : x + 10] = torch.tensor(color)[:, None, None]
    return Scene(image=(image * 255).round().to(torch.uint8))


def model(**options) -> MONet:
    torch.manual_seed(0)
    return MONet(**{**SMALL, **options})


@pytest.mark.parametrize("mask_decoding", ["softmax", "stick_breaking"])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_masks_sum_to_one(slots, mask_decoding):
    net = model(slots=slots, mask_decoding=mask_decoding)
    output = net(squares(2))
    assert isinstance(output, MONetOutput)
    assert output.masks.shape == (2, slots, 1, 32, 32)
    assert output.slots.shape == (2, slots, 6)
    ones = torch.ones(2, 1, 32, 32)
    torch.testing.assert_close(output.masks.sum(1), ones)
    torch.testing.assert_close(output.log_decoded_masks.exp().sum(1), ones)
    torch.testing.assert_close(output.recon, (output.masks * output.components).sum(1))
    sample = net.sample(3)
    torch.testing.assert_close(sample.masks.sum(1), torch.ones(3, 1, 32, 32))


def test_gradients_reach_every_parameter():
    net, scene = model(), squares(2)
    net.loss(scene, net(scene), 0).total.backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.norm() > 0] == []


def test_loss_is_the_weighted_sum_of_its_terms():
    scene = squares(2)
    net = model(beta=0.3, gamma=0.2)
    output = net(scene)
    losses = net.loss(scene, output, 0)
    parts = losses.terms
    torch.testing.assert_close(losses.total.detach(), parts["nll"] + 0.3 * parts["kl_slots"] + 0.2 * parts["kl_masks"])
    assert not any(value.requires_grad for value in parts.values())
    net.beta = torch.tensor(2.0)
    other = net.loss(scene, output, 0)
    torch.testing.assert_close(other.total.detach(), parts["nll"] + 2 * parts["kl_slots"] + 0.2 * parts["kl_masks"])
    net.gamma = None
    both = net.loss(scene, output, 0)
    torch.testing.assert_close(both.total.detach(), parts["nll"] + 2 * (parts["kl_slots"] + parts["kl_masks"]))


def test_small_standard_deviations_stay_finite():
    net = model(pixel_std=0.02, first_pixel_std=0.01)
    scene = Scene(image=torch.ones(1, 3, 32, 32))
    losses = net.loss(scene, net(scene), 0)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_the_first_standard_deviation_belongs_to_the_first_slot():
    scene = squares(1)
    with posterior_means():
        same, other = model(slots=1), model(slots=1, pixel_std=0.1, first_pixel_std=0.7)
        torch.testing.assert_close(same(scene).nll, other(scene).nll)
        assert not torch.allclose(model(slots=2)(scene).nll, model(slots=2, first_pixel_std=0.1)(scene).nll)


def test_the_number_of_slots_may_change_after_construction():
    net, scene = model(), squares(1)
    net.slots = 6
    assert net(scene).masks.shape[1] == 6
    assert net.sample(2).masks.shape[1] == 6
    with pytest.raises(ValueError, match="slots=0"):
        net.slots = 0


def test_sampling_follows_its_noise():
    net = model()
    noise = torch.randn(2, 3, 6)
    torch.testing.assert_close(net.sample(2, noise=noise).recon, net.sample(2, noise=noise).recon)
    assert not torch.allclose(net.sample(2, noise=noise).recon, net.sample(2, noise=-noise).recon)
    assert set(abilities(net)) >= {"decompose", "generate"}
    with pytest.raises(ValueError, match="noise has shape"):
        net.sample(3, noise=noise)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 0}, "slots=0"),
        ({"image_size": 48}, "image_size=48"),
        ({"mask_decoding": "softmx"}, "did you mean 'softmax'"),
        ({"pixel_std": 0.0}, "pixel_std=0.0"),
        ({"first_pixel_std": -1.0}, "first_pixel_std=-1.0"),
        ({"beta": -1.0}, "beta=-1.0"),
        ({"decoder_layers": 0}, "layers=0"),
        ({"initialization": "shrap"}, "did you mean 'sharp'"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        model(**options)


def test_a_sharp_initialization_lets_the_image_reach_the_latents():
    def spread(initialization: str) -> float:  # of the posterior means over the scenes
        return model(initialization=initialization)(squares(8)).posterior_mean.std(0).mean().item()

    assert spread("sharp") > 10 * spread("released")
    plain, scaled = model().state_dict(), model(initialization="sharp").state_dict()
    changed = {name for name in plain if not torch.equal(plain[name], scaled[name])}
    vae = {name for name in plain if name.startswith(("encoder", "decoder", "attention.mlp")) and "weight" in name}
    assert changed == vae
    assert all(torch.equal(scaled[name], 2.45 * plain[name]) for name in vae)


def test_refuses_images_of_another_size():
    with pytest.raises(ValueError, match=r"\(2, 3, 64, 64\)"):
        model()(squares(2, size=64))


def test_overfits_two_images():
    net = model(pixel_std=0.1, beta=0.01)
    image = torch.empty(2, 3, 32, 32)
    image[:] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    image[0, :, :, 10:] = image[1, :, :, 20:] = torch.tensor([0.1, 0.3, 0.8])[:, None, None]
    scene = Scene(image=image)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(40):
        losses = net.loss(scene, net(scene), step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    with posterior_means(), torch.no_grad():
        error = (net(scene).recon - image).square().mean()
    assert error < 0.6 * (image - image.mean((2, 3), keepdim=True)).square().mean()  # each image's mean color


def test_mask_kl_is_zero_for_equal_masks_and_floors_the_rest():
    masks = torch.rand(2, 3, 1, 4, 4).log_softmax(1)
    torch.testing.assert_close(mask_kl(masks, masks), torch.zeros(2))
    sure = torch.tensor([0.0, -1e10]).reshape(1, 2, 1, 1, 1)
    expected = torch.log(torch.tensor(1 / 1e-5)) * (1 - 1e-5) / (1 + 1e-5)
    torch.testing.assert_close(mask_kl(sure, sure.flip(1)), expected[None])
    present = torch.tensor([[True, True, False]])
    trimmed = mask_kl(masks[:1, :2].log_softmax(1), masks[1:, :2].log_softmax(1))
    padded = torch.full((1, 1, 1, 4, 4), -1e10)
    first, second = (torch.cat([masks[i, None, :2].log_softmax(1), padded], 1) for i in (0, 1))
    torch.testing.assert_close(mask_kl(first, second, present=present), trimmed)


def test_reads_original_files(tmp_path):
    config = {"img_size": 32, "K_steps": 3, "filter_start": 4, "comp_ldim": 6, "comp_enc_channels": 6}
    config |= {"comp_dec_channels": 8, "comp_dec_layers": 2, "pixel_std1": 0.5, "pixel_std2": 0.25}
    torch.manual_seed(0)
    net, scene = importer.build(config), squares(2)
    stored = {f"module.{theirs}": net.state_dict()[ours] for ours, theirs in monet_files.table(config).items()}
    stored["module.std"] = torch.tensor([0.5, 0.25, 0.25]).reshape(1, 1, 1, 1, 3)
    torch.save({"model_state_dict": stored, "iter_idx": 7}, tmp_path / "model.ckpt-FINAL")
    found, weights = importer.read(tmp_path / "model.ckpt-FINAL")
    again = importer.build(found)
    assert again.config == net.config
    again.load_state_dict(importer.convert(weights, found))
    with posterior_means():
        torch.testing.assert_close(again(scene).nll, net(scene).nll)
    with pytest.raises(ValueError, match="surprise"):
        importer.convert({**weights, "surprise": torch.zeros(1)}, found)
    with pytest.raises(ValueError, match="prior_mode='none'"):
        importer.build({**config, "prior_mode": "none"})
