"""Frechet distances, the networks behind them, likelihood figures, and edited scenes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.evaluation.asking import evaluate
from objectscape.evaluation.edits import interpolate, swap_objects
from objectscape.evaluation.questions.generate import Generate
from objectscape.metrics.bound import BoundMetric, bound_values
from objectscape.metrics.generation import (
    SMALL_WEIGHTS,
    FrechetDistance,
    fid,
    frechet_distance,
    frechet_small,
    merge_statistics,
)
from objectscape.models.genesis import Genesis
from objectscape.models.genesis_s import GenesisS
from objectscape.models.genesis_v2 import GenesisV2
from objectscape.models.instance_coloring import ColoringAutoencoder
from objectscape.models.monet import MONet
from objectscape.models.vae import VAE
from objectscape.nn.distributions import posterior_means
from objectscape.nn.inception import (
    FEATURES,
    WEIGHTS_FILE,
    WEIGHTS_SHA256,
    Inception,
    InceptionFeatures,
    load_inception,
)
from objectscape.nn.preprocessing import Preprocessing
from objectscape.scene import Decomposition, Scene, record
from objectscape.viz import samples_figure


def gaussian(seed: int, dim: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(dim, generator=generator, dtype=torch.float64)
    root = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return mean, root @ root.T


# --- the distance ---------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), dim=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_distance_is_symmetric_and_zero_on_itself(seed: int, dim: int) -> None:
    (m1, c1), (m2, c2) = gaussian(seed, dim), gaussian(seed + 1, dim)
    forward, backward = frechet_distance(m1, c1, m2, c2), frechet_distance(m2, c2, m1, c1)
    torch.testing.assert_close(forward, backward, rtol=1e-6, atol=1e-6)
    assert forward > 0
    assert float(frechet_distance(m1, c1, m1, c1)) == pytest.approx(0, abs=1e-6)


def test_distance_of_commuting_covariances_is_that_of_the_standard_deviations() -> None:
    mean = torch.zeros(3)
    cov1, cov2 = torch.diag(torch.tensor([1.0, 4.0, 0.0])), torch.diag(torch.tensor([9.0, 4.0, 25.0]))
    distance = frechet_distance(mean, cov1, mean + 2, cov2)
    assert distance.dtype == torch.float64
    assert float(distance) == pytest.approx(3 * 4 + (3 - 1) ** 2 + 0 + 5**2)


def test_distance_refuses_other_shapes_and_passes_on_what_is_not_finite() -> None:
    mean, cov = gaussian(0, 3)
    with pytest.raises(ValueError, match=r"expected \(D,\) and \(D, D\)"):
        frechet_distance(mean, cov, mean[:2], cov)
    assert frechet_distance(mean, cov, mean * torch.nan, cov).isnan()
    assert frechet_distance(mean, cov, mean, cov + torch.inf).isnan()


@pytest.mark.parametrize("split", [1, 3, 50])
def test_statistics_in_batches_are_those_of_the_whole(split: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(50, 6) * 3 + 1e4  # a large offset: a sum of squares would lose the digits in float32
    other = torch.randn(40, 6)
    metric = FrechetDistance(nn.Identity(), dim=6)
    for part in features.split(split):
        metric.update(part, real=True)
    metric.update(other, real=False)
    x, y = features.double(), other.double()
    expected = frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    torch.testing.assert_close(metric.compute(), expected)
    assert metric.counts() == (50, 40)


def test_statistics_of_processes_merge() -> None:
    torch.manual_seed(0)
    features = torch.randn(30, 4)
    states = []
    for part in (features[:7], features[7:], features[:0]):  # the last process saw nothing
        metric = FrechetDistance(nn.Identity(), dim=4)
        for batch in part.split(5):
            metric.update(batch, real=True)
        states.append(metric.real)
    whole = merge_statistics(torch.stack(states))
    assert int(whole[0, 0]) == 30
    torch.testing.assert_close(whole[1], features.double().mean(0))
    torch.testing.assert_close(whole[2:] / 29, features.double().T.cov())


def test_metric_says_what_is_missing() -> None:
    metric = frechet_small()
    metric.update(torch.rand(4, 3, 32, 32), real=True)
    with pytest.raises(ValueError, match="4 real and 0 generated"):
        metric.compute()
    with pytest.raises(ValueError, match="set dim"):
        FrechetDistance(nn.Flatten(), dim=7).update(torch.rand(4, 3, 2, 2), real=True)
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        metric.update(torch.rand(4, 1, 32, 32), real=False)


# --- preprocessing --------------------------------------------------------------------------------------------------


def test_eight_bits_by_truncation() -> None:
    values = torch.tensor([-0.1, 0.0, 0.9 / 255, 1.0 / 255, 1.99 / 255, 1.0, 1.5]).view(1, 1, 1, 7).expand(1, 3, 7, 7)
    steps = Preprocessing(size=None, symmetric=False)(values) * 255
    torch.testing.assert_close(steps[0, 0, 0], torch.tensor([0.0, 0, 0, 1, 1, 255, 255]))


def test_eight_bit_images_are_not_changed_by_truncation() -> None:
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    same = Preprocessing(size=None, symmetric=False)
    torch.testing.assert_close((same(image) * 255).round().to(torch.uint8), image)
    assert torch.equal(same(image), same(image.float() / 255))


def test_resize_is_bilinear_between_pixel_centers() -> None:
    image = torch.rand(1, 3, 4, 4)
    halved = Preprocessing(eight_bit=False, size=2, symmetric=True)(image)
    torch.testing.assert_close(halved, 2 * nn.functional.avg_pool2d(image, 2) - 1)
    ramp = torch.linspace(0, 1, 2).expand(1, 3, 2, 2)
    wide = Preprocessing(eight_bit=False, size=4, symmetric=False)(ramp)
    torch.testing.assert_close(wide[0, 0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))  # align_corners would give thirds
    assert str(Preprocessing()) == "8-bit by truncation, bilinear to 299x299, 2x-1"


# --- Inception ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inception() -> Inception:
    torch.manual_seed(0)
    return Inception().eval()


@pytest.fixture(scope="module")
def weights(inception: Inception, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / WEIGHTS_FILE
    torch.save(inception.state_dict(), path, _use_new_zipfile_serialization=False)  # as the public file was saved
    return path


def test_inception_has_the_published_size(inception: Inception) -> None:
    """torchvision documents 27 161 264 parameters, 3 326 696 of them in its auxiliary classifier, for 1000 classes."""
    assert sum(p.numel() for p in inception.parameters()) == 27_161_264 - 3_326_696 + 8 * 2049
    assert len(inception.state_dict()) == 566  # entries of the public file


def test_inception_keys_are_those_of_the_public_file(inception: Inception) -> None:
    shapes = {key: tuple(value.shape) for key, value in inception.state_dict().items()}
    expected = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_5d.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6c.branch7x7_2.conv.weight": (160, 160, 1, 7),
        "Mixed_6c.branch7x7_3.conv.weight": (192, 160, 7, 1),
        "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.bn.num_batches_tracked": (),
        "fc.weight": (1008, 2048),
    }
    assert {key: shapes.get(key) for key in expected} == expected


@pytest.mark.parametrize("dim", FEATURES)
def test_inception_features(inception: Inception, dim: int) -> None:
    features = InceptionFeatures(inception, dim=dim)
    with torch.no_grad():
        result = features(torch.rand(1, 3, 16, 16))
    assert result.shape == (1, dim)
    assert (result >= 0).all()
    assert result.std() > 0


def test_inception_pools(inception: Inception) -> None:
    """On a constant map an average that does not count padding is that constant everywhere, the border included."""
    blocks = {name: block for name, block in inception.named_children() if name.startswith("Mixed")}
    pools = {name: block.pool for name, block in blocks.items()}
    average = [*(f"Mixed_5{x}" for x in "bcd"), *(f"Mixed_6{x}" for x in "bcde"), "Mixed_7b"]
    assert pools == {**dict.fromkeys(average, "average"), "Mixed_6a": "halve", "Mixed_7a": "halve", "Mixed_7c": "max"}
    with torch.no_grad():
        for name in (*average, "Mixed_7c"):
            block = blocks[name]
            inputs = block.branch_pool.conv.in_channels
            x = torch.rand(1, inputs, 1, 1).expand(1, inputs, 5, 5)
            torch.testing.assert_close(block.pooled(x), block.branch_pool(x), rtol=1e-4, atol=1e-5)
        for name, share in (("Mixed_7b", 1 / 9), ("Mixed_7c", 1.0)):
            block = blocks[name]
            peak = torch.zeros(1, block.branch_pool.conv.in_channels, 5, 5)
            peak[:, :, 2, 2] = 1
            around = torch.zeros_like(peak)
            around[:, :, 1:4, 1:4] = share
            torch.testing.assert_close(block.pooled(peak), block.branch_pool(around), rtol=1e-4, atol=1e-5)


def test_inception_weights_round_trip(inception: Inception, weights: Path) -> None:
    loaded = load_inception(weights, sha256=None)
    image = torch.rand(1, 3, 75, 75)
    with torch.no_grad():
        assert torch.equal(loaded(image), inception(image))
    assert not any(p.requires_grad for p in loaded.parameters())


def test_inception_weights_are_never_replaced(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SHA-256"):  # random weights in the right layout, under the right name
        load_inception(weights)
    with pytest.raises(FileNotFoundError, match="pytorch-fid/releases/download"):
        fid(tmp_path / WEIGHTS_FILE)
    assert WEIGHTS_FILE.removesuffix(".pth").endswith("-" + WEIGHTS_SHA256[:8])
    state = torch.load(weights, weights_only=True)
    state["Mixed_6a.extra"] = state.pop("fc.bias")
    torch.save(state, tmp_path / "other.pth")
    digest = hashlib.sha256((tmp_path / "other.pth").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"2 of 566 entries differ.*Mixed_6a.extra: unexpected; fc.bias: missing"):
        load_inception(tmp_path / "other.pth", sha256=digest)


# --- the small network ----------------------------------------------------------------------------------------------


def shuffled(images: Tensor, patch: int) -> Tensor:
    """Every image with its patches in another order."""
    cut = images.unfold(2, patch, patch).unfold(3, patch, patch)  # (B, 3, h, w, P, P)
    b, c, h, w = cut.shape[:4]
    order = torch.rand(b, h * w).argsort(1)[:, None, :, None, None].expand(b, c, h * w, patch, patch)
    mixed = cut.flatten(2, 3).gather(2, order).unflatten(2, (h, w))
    return mixed.permute(0, 1, 2, 4, 3, 5).reshape(images.shape)


def small_distance(real: Tensor, generated: Tensor) -> float:
    metric = frechet_small()
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return float(metric.compute())


def test_small_features_order_obvious_cases() -> None:
    torch.manual_seed(0)
    images = ColoredShapes(count=600).all().pixels
    real, other = images[:300], images[300:]
    noisy = (other + 0.05 * torch.randn_like(other)).clamp(0, 1)
    noisier = (other + 0.1 * torch.randn_like(other)).clamp(0, 1)
    same = small_distance(real, other)
    scores = [same, small_distance(real, noisy), small_distance(real, noisier)]
    assert scores == sorted(scores)
    assert scores[1] < small_distance(real, shuffled(other, 8))
    fewer = other * (torch.rand(300, 1, 1, 1) < 0.5)  # half of the scenes are empty
    assert small_distance(real, fewer) > 2 * same


def test_small_weights_are_small() -> None:
    assert SMALL_WEIGHTS.stat().st_size < 300_000


# --- the protocol ---------------------------------------------------------------------------------------------------


class Painter(nn.Module):
    """Imagines scenes of the Colored Shapes test split, noisy if asked."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise, self.asked = noise, []

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition:
        self.asked.append(n)
        image = ColoredShapes(count=n, seed=1, split="test").all().pixels
        image = image + self.noise * torch.randn_like(image)
        parts = image[:, None]
        return Decomposition(
            recon=image, masks=torch.ones_like(parts[:, :, :1]), components=parts, slots=parts[..., 0, 0]
        )


def test_protocol_records_how_the_number_came_about(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ColoredShapes(count=40, split="test")
    batches = [data.batch(range(0, 20)), data.batch(range(20, 40))]
    good, bad = Painter(0.0), Painter(0.5)
    result = evaluate(good, batches, ask=[Generate(samples=50, batch_size=32)]).answers["generate"]
    assert good.asked == [32, 18]
    assert set(result.scores) == {"frechet_small"}
    assert result.scores["frechet_small"].n == 50
    assert result.details["frechet_small"] == {
        "real": 40,
        "generated": 50,
        "features": 64,
        "network": "objectscape's small network (not an FID)",
        "preprocessing": "8-bit by truncation, bilinear to 32x32, 2x-1",
    }
    worse = evaluate(bad, batches, ask=[Generate(samples=50)])
    assert worse["frechet_small"].mean > result.scores["frechet_small"].mean
    again = evaluate(bad, batches, ask=[Generate(samples=50)])
    assert again["frechet_small"].mean == worse["frechet_small"].mean


def test_protocol_refuses_what_cannot_be(tmp_path: Path) -> None:
    batch = ColoredShapes(count=4, split="test").batch(range(4))
    with pytest.raises(ValueError, match=r"needs a model that generates \(`sample`\)"):
        evaluate(nn.Linear(1, 1), [batch], ask=[Generate()])
    with pytest.raises(ValueError, match="samples=1"):
        Generate(samples=1)
    with pytest.raises(FileNotFoundError, match=WEIGHTS_FILE):
        Generate(inception=tmp_path / "none.pth")


# --- likelihoods ----------------------------------------------------------------------------------------------------


@record
class Bounded(Decomposition):
    nll: Tensor
    kl_slots: Tensor
    kl_masks: Tensor

    @property
    def bound(self) -> dict[str, Tensor]:
        return {"nll": self.nll, "kl_slots": self.kl_slots, "kl_masks": self.kl_masks}


def test_bound_of_known_values() -> None:
    image, mask = torch.zeros(2, 3, 4, 4), torch.ones(2, 2, 1, 4, 4) / 2
    output = Bounded(
        recon=image,
        masks=mask,
        components=image[:, None].expand(-1, 2, -1, -1, -1),
        slots=torch.zeros(2, 2, 5),
        nll=torch.tensor([48.0, 96.0]),
        kl_slots=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        kl_masks=torch.tensor([10.0, 20.0]),
    )
    values = {name: value.tolist() for name, value in bound_values(output).items()}
    assert values == {
        "nll": [48, 96],
        "nll_per_dim": [1, 2],
        "kl_slots": [3, 7],
        "kl_masks": [10, 20],
        "kl": [13, 27],
        "negative_elbo": [61, 123],
        "kl_slots_0": [1, 3],
        "kl_slots_1": [2, 4],
    }
    metric = BoundMetric("negative_elbo")
    metric.update(output)
    metric.update(output[:1])
    assert float(metric.compute()) == pytest.approx((61 + 123 + 61) / 3)
    assert metric.spread().n == 3
    with pytest.raises(ValueError, match="no 'kl_components'; it has nll"):
        BoundMetric("kl_components").update(output)


FAMILY: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "genesis": (Genesis, {"slots": 3, "mask_latent_dim": 8, "component_latent_dim": 4}),
    "genesis_s": (GenesisS, {"slots": 3, "latent_dim": 8}),
    "genesis_v2": (GenesisV2, {"slots": 3, "width": 16}),
    "monet": (MONet, {"slots": 3, "latent_dim": 4, "attention_channels": 8}),
    "vae": (VAE, {"latent_dim": 8}),
}
SOFTMAX = ("genesis_v2", "monet")


def make(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    kind, values = FAMILY[name]
    return kind(image_size=32, **{**values, **options}).eval()


def pictures(seed: int, n: int = 2) -> Scene:
    return Scene(image=torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("name", FAMILY)
def test_bound_of_the_family_is_that_of_its_loss(name: str) -> None:
    model = make(name)
    scene = pictures(0, 3)
    with torch.no_grad():
        output = model(scene)
        terms = model.loss(scene, output, 0).terms
    values = bound_values(output)
    torch.testing.assert_close(values["negative_elbo"].mean(), terms["negative_elbo"], rtol=1e-4, atol=1e-2)
    per_slot = {key for key in values if key[-1].isdigit()}
    assert len(per_slot) == {"genesis": 6, "genesis_s": 3, "genesis_v2": 3, "monet": 3, "vae": 0}[name]


def test_models_without_a_bound_have_no_values() -> None:
    torch.manual_seed(0)
    output = ColoringAutoencoder(patch=4)(pictures(0))
    assert bound_values(output) == {}


# --- edits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILY)
def test_interpolation_ends_at_the_scenes(name: str) -> None:
    model = make(name).train()
    a, b = pictures(0), pictures(1)
    line = interpolate(model, a, b, steps=4)
    assert model.training
    assert line.recon.shape == (8, 3, 32, 32)
    again = interpolate(model, a, b, steps=4)
    assert torch.equal(line.recon, again.recon)
    model.eval()
    with torch.no_grad(), posterior_means():
        for scene, end in ((a, line[0::4]), (b, line[3::4])):
            drawn = model.decode(model(scene).slots).recon  # any order of the slots
            torch.testing.assert_close(end.recon, drawn, rtol=1e-4, atol=1e-5)
    middle = interpolate(model, a, a, steps=3)
    torch.testing.assert_close(middle.recon[1::3], middle.recon[0::3])
    assert samples_figure(line, columns=4).axes


def test_interpolation_pairs_slots_where_their_order_is_free() -> None:
    """Between a scene and itself with its slots in another order nothing moves."""
    model = make("genesis_v2")
    with torch.no_grad(), posterior_means():
        slots = model(pictures(0)).slots

    class Reordered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn = False
            self.decode = model.decode

        def forward(self, scene: Scene) -> Decomposition:
            order, self.turn = (slots.flip(1) if self.turn else slots), True
            return self.decode(order, present=torch.ones(order.shape[:2]))

    line = interpolate(Reordered(), pictures(0), pictures(0), steps=3)
    torch.testing.assert_close(line.recon[1], line.recon[0])
    torch.testing.assert_close(line.recon[4], line.recon[3])


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "vae"])
def test_swapping_exchanges_latents(name: str) -> None:
    model = make(name)
    a, b = pictures(0), pictures(1)
    with torch.no_grad(), posterior_means():
        slots_a, slots_b = model(a).slots, model(b).slots
    new_a, new_b = swap_objects(model, a, b, 0, 1)
    torch.testing.assert_close(new_a.slots[:, 0], slots_b[:, 1])
    torch.testing.assert_close(new_b.slots[:, 1], slots_a[:, 0])
    torch.testing.assert_close(new_a.slots[:, 1:], slots_a[:, 1:])
    torch.testing.assert_close(new_a.masks.sum(1), torch.ones(2, 1, 32, 32))
    torch.testing.assert_close(new_a.components[:, 0], model.decode(slots_b).components[:, 1])  # whatever its place
    back, _ = swap_objects(model, a, a, 1, 1)
    torch.testing.assert_close(back.recon, model.decode(slots_a).recon)
    each, _ = swap_objects(model, a, b, torch.tensor([0, 1]), torch.tensor([1, 0]))
    torch.testing.assert_close(each.slots[1, 1], slots_b[1, 0])
    torch.testing.assert_close(each.slots[1, 0], slots_a[1, 0])


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "vae"])
def test_the_rest_of_a_stick_is_no_object(name: str) -> None:
    model = make(name)
    if name in SOFTMAX:
        swap_objects(model, pictures(0), pictures(1), 0, 2)
    else:
        with pytest.raises(ValueError, match="takes whatever"):
            swap_objects(model, pictures(0), pictures(1), 0, 2)
        swap_objects(model, pictures(0), pictures(1), 2, 2)


def test_swapping_takes_along_which_slots_are_used() -> None:
    model = make("genesis_v2", dynamic_slots=True, min_pixels=900.0)
    a, b = pictures(0), pictures(1)
    with torch.no_grad(), posterior_means():
        used = model(a).present
    assert (used == 0).any()
    new_a, _ = swap_objects(model, a, b, 0, 0)
    unused = (used == 0)[:, :, None, None, None].expand_as(new_a.masks)
    assert new_a.masks[unused].max() == 0


def test_edits_refuse_what_they_cannot_draw() -> None:
    model = make("genesis_v2")
    with pytest.raises(ValueError, match="2 and 3 scenes"):
        interpolate(model, pictures(0), pictures(1, 3))
    with pytest.raises(ValueError, match="steps=1"):
        interpolate(model, pictures(0), pictures(1), steps=1)
    with pytest.raises(ValueError, match=r"slot_b=.*slots 0\.\.2"):
        swap_objects(model, pictures(0), pictures(1), 0, 3)
    with pytest.raises(ValueError, match=r"ColoringAutoencoder cannot draw.*its decode takes slots, centers"):
        interpolate(ColoringAutoencoder(patch=4), pictures(0), pictures(1))
