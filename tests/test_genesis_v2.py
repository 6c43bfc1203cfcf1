"""GENESIS-V2: contract, dynamic number of slots, options, and that it learns."""

from __future__ import annotations

import json

import pytest
import torch

from objectscape.checkpoints import genesis as importer
from objectscape.checkpoints.genesis_family import genesis_v2 as v2_files
from objectscape.contract import abilities
from objectscape.models.genesis_v2 import GenesisV2, GenesisV2Output
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene

SIZE, SLOTS, WIDTH = 32, 4, 8


def squares(n: int, size: int = SIZE) -> Scene:
    """Two squares of different colors on gray."""
    generator = torch.Generator().manual_seed(5)
    image = torch.full((n, 3, size, size), 0.3)
    for b in range(n):
        for color in ((0.9, 0.1, 0.1), (0.1, 0.8, 0.2)):
            y, x = torch.randint(0, size - 10, (2,), generator=generator).tolist()
            image[b, :, y : y + 10, x : x + 10] = torch.tensor(color)[:, None, None]
    return Scene(image=(image * 255).round().to(torch.uint8))


def model(**options) -> GenesisV2:
    torch.manual_seed(0)
    return GenesisV2(**{"image_size": SIZE, "slots": SLOTS, "width": WIDTH, **options})


def mixed(**options) -> GenesisV2:
    """A model whose embeddings depend on the image, so that images stop at different numbers of slots."""
    net = model(dynamic_slots=True, slots=6, min_pixels=60.0, **options)
    with torch.no_grad():
        net.embedding.gate.fill_(2.0)
        net.coloring.log_sigma.fill_(0.7)
    return net


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "epanechnikov"])
@pytest.mark.parametrize("slots", [1, 2, 5])
def test_masks_sum_to_one(slots, kernel):
    net = model(slots=slots, kernel=kernel, semiconv=kernel != "laplacian")
    output = net(squares(2))
    assert isinstance(output, GenesisV2Output)
    assert output.masks.shape == (2, slots, 1, SIZE, SIZE)
    assert output.slots.shape == (2, slots, WIDTH)
    ones = torch.ones(2, 1, SIZE, SIZE)
    torch.testing.assert_close(output.masks.sum(1), ones)
    torch.testing.assert_close(output.attention_masks.sum(1), ones)
    torch.testing.assert_close(output.recon, (output.masks * output.components).sum(1))
    torch.testing.assert_close(net.sample(2).masks.sum(1), ones)


@pytest.mark.parametrize("semiconv", [True, False])
def test_gradients_reach_every_parameter(semiconv):
    net, scene = model(semiconv=semiconv, mask_kl=True), squares(2)
    if semiconv:
        with torch.no_grad():
            net.embedding.gate.fill_(0.5)  # closed at the start: nothing behind it learns until it moves
    net.loss(scene, net(scene), 0).total.backward()
    missing = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.norm() > 0}
    # only differences of embeddings count, so their bias has no effect
    assert missing <= {"embedding.bias", "embedding.conv.bias"}


def test_a_mask_can_pool_its_center_and_color():
    net, scene, seen = model(pool_input=True), squares(2), []
    net.posterior.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    masks = net(scene).attention_masks.squeeze(2)  # (B, K, H, W)
    side = torch.linspace(-1, 1, SIZE)
    rows, columns = masks.sum(3) @ side, masks.sum(2) @ side  # (B, K)
    image = scene.pixels
    deviation = image.flatten(2).std(2).mean(1)[:, None, None, None]
    color = (image - image.flatten(2).mean(2)[..., None, None]) / deviation / 2
    color = torch.einsum("bkhw,bchw->bkc", masks, color)  # (B, K, 3)
    expected = torch.cat([torch.stack([rows, columns], -1), color], -1) / (masks.sum((2, 3)) + 1e-5).unsqueeze(-1)
    assert torch.allclose(seen[0][..., -5:], expected, atol=1e-4)
    assert net.config["pool_input"] is True
    assert model().posterior[0].normalized_shape == (2 * net.width,)


def test_the_gate_is_the_first_to_learn():
    net, scene = model(), squares(2)
    net.loss(scene, net(scene), 0).total.backward()
    assert net.embedding.gate.grad.abs() > 0
    assert net.embedding.conv.weight.grad.norm() == 0


def test_dynamic_slots_do_not_depend_on_the_rest_of_the_batch():
    net, scene = mixed(mask_kl=True), squares(6)
    noise = torch.rand(6, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with posterior_means():
        together = net(scene, seed_noise=noise)
        assert len(set(together.present.sum(1).tolist())) > 1  # the images do stop at different numbers
        for b in range(6):
            alone = net(scene[b : b + 1], seed_noise=noise[b : b + 1])
            for name in ("masks", "recon", "nll", "kl_slots", "kl_masks", "present", "slots"):
                expected = getattr(together, name)[b : b + 1]
                torch.testing.assert_close(getattr(alone, name), expected, rtol=1e-4, atol=1e-4)
    absent = together.present == 0
    assert (together.masks[absent] == 0).all()
    assert (together.kl_slots[absent] == 0).all()
    assert (together.slots[absent] == 0).all()
    torch.testing.assert_close(together.masks.sum(1), torch.ones(6, 1, SIZE, SIZE))


def test_dynamic_slots_agree_with_that_number_of_slots():
    net, scene = mixed(), squares(6)
    noise = torch.rand(6, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with posterior_means():
        dynamic = net(scene, seed_noise=noise)
        net.dynamic_slots = False
        for b in range(6):
            net.slots = int(dynamic.present[b].sum())
            fixed = net(scene[b : b + 1], seed_noise=noise[b : b + 1])
            torch.testing.assert_close(fixed.nll, dynamic.nll[b : b + 1])
            torch.testing.assert_close(fixed.kl_slots.sum(1), dynamic.kl_slots[b : b + 1].sum(1), rtol=1e-4, atol=1e-4)


def test_a_single_slot_is_safe():
    net, scene = model(dynamic_slots=True, min_pixels=1e9, mask_kl=True), squares(2)
    output = net(scene)
    assert (output.present.sum(1) == 1).all()
    losses = net.loss(scene, output, 0)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_released_padding_is_an_option():
    net, scene = mixed(padded_slots_compete=True), squares(6)
    with posterior_means():
        output = net(scene, seed_noise=torch.rand(6, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)))
    absent = output.present == 0
    assert absent.any()
    assert (output.masks[absent] > 0).any()


def test_the_mask_kl_is_detached_from_the_decoder_unless_asked():
    scene = squares(2)
    for detach in (True, False):
        net = model(mask_kl=True, detach_masks=detach)
        net(scene).kl_masks.sum().backward()
        assert (net.decoder.layers[-1].weight.grad is None) == detach
    assert (model()(scene).kl_masks == 0).all()


def test_without_the_autoregressive_prior_slots_are_standard_normal():
    net, scene = model(autoregressive_prior=False), squares(2)
    output = net(scene)
    assert (output.prior_mean == 0).all()
    assert (output.prior_std == 1).all()
    assert net.sample(2).recon.shape == (2, 3, SIZE, SIZE)


def test_loss_is_the_weighted_sum_of_its_terms():
    net, scene = model(mask_kl=True, beta=0.3), squares(2)
    output = net(scene)
    parts = net.loss(scene, output, 0).terms
    kl = parts["kl_slots"] + parts["kl_masks"]
    torch.testing.assert_close(net.loss(scene, output, 0).total.detach(), parts["nll"] + 0.3 * kl)
    net.beta = torch.tensor(2.0)
    total = net.loss(scene, output, 0).total.detach()
    torch.testing.assert_close(total, parts["nll"] + 2 * kl)


def test_the_number_of_slots_may_change_after_construction():
    net = model()
    net.slots = 7
    assert net(squares(1)).masks.shape[1] == 7
    assert net.sample(2).masks.shape[1] == 7
    with pytest.raises(ValueError, match="slots=0"):
        net.slots = 0


def test_sampling_follows_its_noise():
    net = model()
    noise = torch.randn(2, SLOTS, WIDTH)
    torch.testing.assert_close(net.sample(2, noise=noise).recon, net.sample(2, noise=noise).recon)
    assert not torch.allclose(net.sample(2, noise=noise).recon, net.sample(2, noise=-noise).recon)
    assert set(abilities(net)) >= {"decompose", "generate"}
    with pytest.raises(ValueError, match="noise has shape"):
        net.sample(3, noise=noise)


def test_decoding_the_inferred_slots_redraws_the_scene():
    net, scene = mixed(), squares(6)
    output = net(scene)
    assert (output.present == 0).any()
    again = net.decode(output.slots, present=output.present)
    torch.testing.assert_close(again.recon, output.recon)
    torch.testing.assert_close(again.masks, output.masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 0}, "slots=0"),
        ({"image_size": 48}, "image_size=48"),
        ({"width": 12}, "width=12"),
        ({"width": 128}, "width=128"),
        ({"kernel": "gauss"}, "kernel='gauss'"),
        ({"pixel_std": 0.0}, "pixel_std=0.0"),
        ({"beta": -1.0}, "beta=-1.0"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        model(**options)


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


@pytest.mark.parametrize("options", [{}, {"semiconv": False, "kernel": "laplacian"}, {"autoreg_prior": False}])
def test_reads_original_files(tmp_path, options):
    config = {"img_size": 32, "K_steps": 3, "feat_dim": 8, **options}
    torch.manual_seed(0)
    net, scene = importer.build(config), squares(2)
    stored = {f"module.{theirs}": net.state_dict()[ours] for ours, theirs in v2_files.table(config).items()}
    stored["module.att_process.log_sigma"] = stored["module.att_process.log_sigma"].double()  # as upstream stores it
    torch.save({"model_state_dict": stored, "iter_idx": 7}, tmp_path / "model.ckpt-FINAL")
    (tmp_path / "flags.json").write_text(json.dumps(config))
    found, weights = importer.read(tmp_path / "model.ckpt-FINAL")
    again = importer.build(found)
    assert again.config == net.config
    again.load_state_dict(importer.convert(weights, found))
    with posterior_means():
        torch.testing.assert_close(again(scene).nll, net(scene).nll)
    with pytest.raises(ValueError, match="one standard deviation"):
        importer.build({**config, "pixel_std1": 0.1})
