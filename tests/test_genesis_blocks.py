"""The blocks that the models of the GENESIS family share."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.measure import MIB, kept_for_backward
from objectscape.contract import Model
from objectscape.models.genesis import Genesis
from objectscape.models.genesis_s import GenesisS
from objectscape.models.genesis_v2 import GenesisV2
from objectscape.models.monet import MONet
from objectscape.nn.broadcast_decoder import BroadcastDecoder, coordinates, spatial_broadcast
from objectscape.nn.component_encoder import ComponentEncoder, mask_and_image
from objectscape.nn.distributions import gaussian_kl, posterior_means
from objectscape.nn.gated_conv import GEOMETRY, Collapse, Expand, Gated, GatedDecoder, GatedEncoder, Unstrided
from objectscape.nn.latent_prior import AutoregressivePrior
from objectscape.nn.mixtures import (
    gaussian_log_likelihood,
    mixture_log_likelihood,
    posterior_parameters,
    prior_parameters,
    sampled_kl,
    stick_breaking_from_logits,
)
from objectscape.nn.validation import check_choice
from objectscape.scene import Scene


@settings(max_examples=30, deadline=None)
@given(slots=st.integers(1, 6), scale=st.floats(0.01, 60.0), seed=st.integers(0, 2**16))
def test_broken_sticks_sum_to_one(slots: int, scale: float, seed: int) -> None:
    logits = scale * torch.randn(2, slots - 1, 1, 3, 4, generator=torch.Generator().manual_seed(seed))
    log_masks, log_scopes = stick_breaking_from_logits(logits)
    assert log_masks.shape == log_scopes.shape == (2, slots, 1, 3, 4)
    torch.testing.assert_close(log_masks.exp().sum(1), torch.ones(2, 1, 3, 4))
    assert (log_scopes[:, 0] == 0).all()
    assert (log_scopes.diff(dim=1) <= 0).all()  # what is left never grows
    assert log_masks.isfinite().all()


def test_mixture_is_the_naive_formula_where_that_is_finite() -> None:
    image, means = torch.rand(2, 3, 4, 4), torch.rand(2, 5, 3, 4, 4)
    masks = torch.rand(2, 5, 1, 4, 4).softmax(1)
    std = torch.tensor([0.3, 0.5, 0.7, 0.7, 0.7])
    normal = torch.distributions.Normal(means, std.view(1, 5, 1, 1, 1))
    naive = (masks * normal.log_prob(image[:, None]).exp()).sum(1).log()
    torch.testing.assert_close(mixture_log_likelihood(image, means, masks.log(), std), naive)


def test_mixture_is_finite_where_the_released_code_is_not() -> None:
    means = torch.zeros(1, 2, 3, 2, 2, requires_grad=True)
    value = mixture_log_likelihood(
        torch.ones(1, 3, 2, 2), means, torch.full((1, 2, 1, 2, 2), math.log(0.5)), 0.05
    ).sum()
    value.backward()
    expected = 12 * (-200 - math.log(0.05) - 0.5 * math.log(2 * math.pi))
    assert float(value.detach()) == pytest.approx(expected, rel=1e-5)
    assert means.grad is not None
    assert means.grad.isfinite().all()


def test_one_slot_mixture_is_a_gaussian() -> None:
    image, mean = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    mixture = mixture_log_likelihood(image, mean[:, None], torch.zeros(2, 1, 1, 4, 4), 0.4)
    torch.testing.assert_close(mixture, gaussian_log_likelihood(image, mean, 0.4))


def test_sampled_kl_estimates_the_closed_form() -> None:
    torch.manual_seed(0)
    mean, std = torch.randn(4), torch.rand(4) + 0.3
    prior_mean, prior_std = torch.randn(4), torch.rand(4) + 0.5
    z = mean + std * torch.randn(200_000, 4)
    exact = gaussian_kl(mean, std, prior_mean, prior_std).sum()
    assert exact > 0
    torch.testing.assert_close(sampled_kl(z, mean, std, prior_mean, prior_std).mean(), exact, rtol=0.02, atol=0.0)
    assert (sampled_kl(z, mean, std, mean, std) == 0).all()


def test_parameterizations_stay_in_their_range() -> None:
    raw = torch.linspace(-100, 100, 64).view(4, 16)
    mean, std = posterior_parameters(raw)
    assert torch.equal(mean, raw[:, :8])
    assert (std > 0).all()
    mean, std = prior_parameters(raw)
    assert mean.abs().max() <= 1
    assert std.min() >= 1e-4
    assert std.max() <= 1 + 2e-4
    assert torch.equal(prior_parameters(raw, tanh_mean=False)[0], raw[:, :8])
    assert torch.equal(posterior_parameters(raw, offset=-2.5)[1], posterior_parameters(raw - 3.0)[1])
    half = posterior_parameters(raw.bfloat16())
    assert half[0].dtype == half[1].dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Genesis, ("mask_std", "component_std")),
        (GenesisS, ("std",)),
        (GenesisV2, ("posterior_std",)),
        (MONet, ("posterior_std",)),
    ],
)
def test_posteriors_can_start_narrow(kind: type[Model], fields: tuple[str, ...]) -> None:
    scene = Scene(image=torch.rand(2, 3, 32, 32))
    for initialization, low, high in (("released", 0.5, 2.0), ("sharp", 0.02, 0.3)):
        torch.manual_seed(0)
        output = kind(image_size=32, slots=3, initialization=initialization)(scene)  # type: ignore[call-arg]
        for field in fields:
            assert low < getattr(output, field).mean() < high


def test_broadcast_decoder_is_the_convolution_of_the_tiled_latent() -> None:
    decoder = BroadcastDecoder(latent_dim=5, out_channels=4, image_size=9, hidden_channels=6, layers=3).double()
    z = torch.randn(3, 5, dtype=torch.float64)
    plain = decoder.rest(decoder.first(spatial_broadcast(z, 15)))
    assert plain.shape == (3, 4, 9, 9)
    torch.testing.assert_close(decoder(z), plain)


def test_coordinates_are_row_then_column() -> None:
    grid = coordinates(3, 5, like=torch.zeros(()))
    assert grid[0, :, 0].tolist() == [-1, 0, 1]
    assert grid[1, 0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert torch.equal(grid[0, :, 0], grid[0, :, 4])


@pytest.mark.parametrize("batch", [1, 2])
def test_whole_map_kernels_equal_convolutions(batch: int) -> None:
    # Against double precision: float32 convolutions with 16x16 kernels are wrong in torch 2.13 at batch 1 (oneDNN).
    for layer, plain, x in (
        (Collapse(3, 4, 16), nn.Conv2d.forward, torch.randn(batch, 3, 16, 16)),
        (Expand(3, 4, 16), nn.ConvTranspose2d.forward, torch.randn(batch, 3, 1, 1)),
    ):
        layer.double()
        ours, expected = layer(x.double()), plain(layer, x.double())  # type: ignore[operator]
        torch.testing.assert_close(ours, expected)
        parameters = list(layer.parameters())
        exact = torch.autograd.grad((expected**2).sum(), parameters)
        layer.float()
        gradients = torch.autograd.grad((layer(x) ** 2).sum(), list(layer.parameters()))
        for mine, theirs in zip(gradients, exact, strict=True):
            torch.testing.assert_close(mine, theirs.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("image_size", GEOMETRY)
def test_gated_core_covers_every_size(image_size: int) -> None:
    encoder = GatedEncoder(image_size=image_size, out_features=7, norm="instance")
    decoder = GatedDecoder(image_size=image_size, latent_dim=5, out_channels=2, norm="batch")
    with torch.no_grad():
        assert encoder(torch.rand(1, 3, image_size, image_size)).shape == (1, 7)
        assert decoder(torch.rand(1, 5)).shape == (1, 2, image_size, image_size)


def test_the_core_can_be_slimmer() -> None:
    encoder, decoder = (
        GatedEncoder(image_size=32, channels=4),
        GatedDecoder(image_size=32, latent_dim=5, out_channels=2, channels=4),
    )
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 256)
        assert decoder(torch.rand(2, 5)).shape == (2, 2, 32, 32)
    assert [layer.conv.in_channels for layer in encoder.layers] == [3, 4, 4, 8, 8, 8]
    with pytest.raises(ValueError, match="channels"):
        GatedEncoder(image_size=32, channels=0)


def test_stride_one_transposed_convolutions_are_convolutions() -> None:
    ours = Unstrided(3, 4, 5, 1, 2).double()
    x = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    theirs = nn.functional.conv_transpose2d(x, ours.weight, ours.bias, padding=2)
    torch.testing.assert_close(ours(x), theirs)


def test_component_encoder_sees_the_log_mask_first() -> None:
    log_masks, image = torch.randn(2, 3, 1, 16, 16), torch.rand(2, 3, 16, 16)
    x = mask_and_image(log_masks, image)
    assert x.shape == (6, 4, 16, 16)
    assert torch.equal(x[4, 0], log_masks[1, 1, 0])  # image 1, slot 1
    assert torch.equal(x[4, 1:], image[1])
    assert ComponentEncoder(latent_dim=3, image_size=16)(x).shape == (6, 6)
    with pytest.raises(ValueError, match="image_size=40"):
        ComponentEncoder(latent_dim=3, image_size=40)


def test_prior_samples_what_it_scores() -> None:
    prior = AutoregressivePrior(latent_dim=4, hidden_dim=8)
    noise = torch.randn(3, 5, 4)
    z = prior.sample(3, 5, noise=noise)
    mean, std = prior(z)
    torch.testing.assert_close(mean + std * noise, z)
    assert torch.equal(mean[:, 0], torch.zeros(3, 4))
    assert torch.equal(std[:, 0], torch.ones(3, 4))
    assert prior.log_prob(z).shape == (3, 5)
    torch.testing.assert_close(prior(z[:, :1])[0], torch.zeros(3, 1, 4))  # one slot: no recurrence at all
    with posterior_means():
        assert torch.equal(prior.sample(2, 3)[:, 0], torch.zeros(2, 4))


def test_prior_sees_only_the_past() -> None:
    prior = AutoregressivePrior(latent_dim=4, hidden_dim=8)
    z = torch.randn(1, 5, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(prior(z)[0][:, 2].sum(), z)
    assert (gradient[:, :2] != 0).all()
    assert (gradient[:, 2:] == 0).all()


def test_choice_errors_offer_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'batch'"):
        check_choice("norm", "bacth", ("batch", "instance"))


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_gates_that_keep_less_have_the_same_gradients_and_statistics(norm: str, training: bool) -> None:
    results = []
    for plain in (True, False):
        torch.manual_seed(0)
        layer = Gated(nn.Conv2d(3, 8, 3, padding=1), 4, norm).double().train(training)
        for name, value in layer.named_buffers():
            if name.endswith(("mean", "var")):
                value.copy_(torch.rand(4))
        x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
        drawn = layer._gate(layer.conv(x)) if plain else layer(x)
        slopes = torch.autograd.grad(drawn.square().sum(), [x, *layer.parameters()])
        results.append([drawn.detach(), *slopes, *(b.double() for b in layer.buffers())])
    torch.testing.assert_close(results[1], results[0], rtol=1e-11, atol=1e-11)


def test_gates_keep_three_maps() -> None:
    x = torch.randn(2, 3, 64, 64)
    layers = nn.Sequential(*(Gated(nn.Conv2d(c, 8, 3, padding=1), 4, "batch") for c in (3, 4, 4)))
    kept = kept_for_backward(lambda: layers(x).sum().backward(), without=[x, *layers.parameters()])
    maps = kept * MIB / (4 * 2 * 4 * 64 * 64)
    # nothing follows the last result; two more while a layer is walked back. Plainly it would be 14.
    assert maps == pytest.approx(3 * 3 - 1 + 2, abs=0.01)
