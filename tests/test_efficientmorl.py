from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from objectscape.checkpoints import efficientmorl as importer
from objectscape.contract import Decomposes, Generates
from objectscape.models.efficientmorl import EfficientMORL, EfficientMORLOutput, gaussian_parameters
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene
from objectscape.training.geco import SoftplusGECO
from tests.parity.runners.geco import reconstruction_term

CASE = Path(__file__).parent / "data" / "parity" / "emorl" / "gaussian_small_rpp_L3_I1"
PRIORS = ("reversed++", "reversed", "bottom_up")


def tiny(**changes: Any) -> EfficientMORL:
    options = {"image_size": 12, "slots": 3, "slot_size": 8, "refinement_steps": 2, "decoder": "small"}
    torch.manual_seed(0)
    return EfficientMORL(**{**options, "decoder_channels": 8, "likelihood": "gaussian", "pixel_std": 0.3, **changes})


def lively(**changes: Any) -> EfficientMORL:
    """One whose outputs depend visibly on its inputs, unlike at the published start."""
    model = tiny(**changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and not name.startswith("bottom_up.gru"):
                parameter.mul_(30)
    return model


def images(n: int = 2, side: int = 12) -> Scene:
    return Scene(image=torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1)))


def leaves(output: EfficientMORLOutput) -> list[Tensor]:
    return torch.utils._pytree.tree_leaves(output)


# Shapes and abilities


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("steps", [0, 2])
def test_shapes(prior: str, layers: int, steps: int) -> None:
    model = tiny(prior=prior, layers=layers, refinement_steps=steps, image_size=[12, 16])
    output = model(Scene(image=torch.randint(0, 256, (2, 3, 12, 16), dtype=torch.uint8)))
    shapes = {
        "recon": (2, 3, 12, 16),
        "masks": (2, 3, 1, 12, 16),
        "components": (2, 3, 3, 12, 16),
        "slots": (2, 3, 8),
        "nll": (2,),
        "kl_slots": (2, 3),
        "params": (2, 3, 16),
        "step_nll": (2, steps + 1),
        "step_kl_slots": (2, steps + 1, 3),
        "step_params": (2, steps + 1, 3, 16),
        "step_recon": (2, steps + 1, 3, 12, 16),
        "step_masks": (2, steps + 1, 3, 1, 12, 16),
        "step_components": (2, steps + 1, 3, 3, 12, 16),
        "layer_params": (2, layers, 3, 16),
        "layer_slots": (2, layers, 3, 8),
        "layer_attention": (2, layers, 3, 12, 16),
        "layer_kl": (2, layers, 3),
        "prior_mean": (2, layers, 3, 8),
        "prior_std": (2, layers, 3, 8),
    }
    assert {name: tuple(getattr(output, name).shape) for name in shapes} == shapes
    torch.testing.assert_close(output.masks.sum(1), torch.ones(2, 1, 12, 16))
    torch.testing.assert_close(output.recon, (output.masks * output.components).sum(1))
    torch.testing.assert_close(output.layer_attention.sum(2), torch.ones(2, layers, 12, 16))
    assert output.nll.equal(output.step_nll[:, -1])
    assert output.kl_slots.equal(output.step_kl_slots[:, -1])
    assert bool((output.step_kl_slots >= -1e-5).all())


@pytest.mark.parametrize("changes", [{"slot_size": 32, "decoder": "small"}, {}, {"decoder": "big"}])
def test_number_of_parameters_is_the_published_one(changes: dict[str, Any]) -> None:
    published = {"small": 467_238, "iodine": 666_502, "big": 1_031_110}  # two of them are GECO's state
    model = EfficientMORL(**changes)
    assert sum(p.numel() for p in model.parameters()) + 2 == published[changes.get("decoder", "iodine")]


def test_model_decomposes_and_generates() -> None:
    assert isinstance(tiny(), Decomposes)
    assert isinstance(tiny(), Generates)


# Inference


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(3)), seed=st.integers(0, 1000))
def test_permuting_the_initial_noise_permutes_the_slots(order: list[int], seed: int) -> None:
    model = lively(likelihood="mixture").double()
    generator = torch.Generator().manual_seed(seed)
    scene = Scene(image=torch.rand(2, 3, 12, 12, generator=generator).double())
    noise = torch.randn(2, 3, 8, generator=generator).double()
    with posterior_means(), torch.no_grad():
        one, two = model(scene, noise=noise), model(scene, noise=noise[:, order])
    torch.testing.assert_close(two.step_params, one.step_params[:, :, order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(two.recon, one.recon)


def test_posterior_means_fixes_the_slots_without_making_them_alike() -> None:
    model, scene = lively(), images(3)
    with posterior_means():
        output, again = model(scene), model(scene)
    torch.testing.assert_close(output.slots, again.slots, rtol=0, atol=0)
    assert (output.slots[:, 0] - output.slots[:, 1]).abs().max() > 1e-3
    torch.manual_seed(0)
    assert not torch.equal(model(scene).slots, output.slots)


def test_batch_slots_and_refinements_are_free_at_test_time() -> None:
    model = tiny()
    model.slots, model.refinement_steps = 5, 4
    output = model(images(7))
    assert output.step_masks.shape == (7, 5, 5, 1, 12, 12)


def test_more_refinements_begin_as_fewer_do() -> None:
    model, scene = lively(), images()
    with posterior_means():
        two = model(scene)
        model.refinement_steps = 4
        four = model(scene)
        model.refinement_steps = 0
        none = model(scene)
    torch.testing.assert_close(four.step_params[:, :3], two.step_params)
    torch.testing.assert_close(none.params, two.step_params[:, 0])
    torch.testing.assert_close(none.recon, two.step_recon[:, 0])
    assert not torch.allclose(four.params, two.params)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("layers", [0, 3])
def test_without_gradients_around_it_the_result_is_the_same(prior: str, layers: int) -> None:
    model, scene = lively(prior=prior, layers=layers), images()
    with posterior_means():
        recorded = model(scene)
        with torch.no_grad():
            plain = model(scene)
            assert not torch.is_grad_enabled()
    for one, two in zip(leaves(recorded), leaves(plain), strict=True):
        torch.testing.assert_close(two, one)
        assert not two.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_a_frozen_model_refines_too() -> None:
    model, scene = lively(), images()
    with posterior_means():
        expected = model(scene).params
        model.requires_grad_(False)
        torch.testing.assert_close(model(scene).params, expected)


def test_inference_mode_gives_what_no_grad_gives() -> None:
    model, scene = tiny().eval(), images()
    with posterior_means():
        with torch.no_grad():
            expected = model(scene)
        with torch.inference_mode():
            inside = model(images())
    torch.testing.assert_close(inside.recon, expected.recon)
    assert not inside.recon.requires_grad


def test_refinement_sees_the_gradient_of_the_batch_mean_as_a_constant() -> None:
    model, scene = lively(), images()
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    model.refiner.register_forward_pre_hook(lambda module, args: seen.append(args))
    with posterior_means():
        output = model(scene)
        params, gradient, _ = seen[1]  # of the second refinement
        assert not gradient.requires_grad
        assert params.requires_grad  # but the posterior itself is no constant

        def objective(values: Tensor) -> Tensor:
            mean, std = gaussian_parameters(values)
            recon = model.decode(mean).recon
            nll = ((scene.image - recon) ** 2 / (2 * 0.3**2) + np.log(0.3)).sum() / 2
            p, q = (torch.distributions.Normal(m, s) for m, s in
                    ((output.prior_mean[:, 0], output.prior_std[:, 0]), (mean, std)))  # fmt: skip
            return nll + torch.distributions.kl_divergence(q, p).sum() / 2

        expected = torch.autograd.functional.jacobian(objective, params.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4)


# Loss


@pytest.mark.parametrize("gru", ["dual", "single"])
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("likelihood", ["gaussian", "mixture"])
def test_every_parameter_receives_gradient(gru: str, prior: str, likelihood: str) -> None:
    model, scene = lively(gru=gru, prior=prior, likelihood=likelihood), images()
    model.loss(scene, model(scene), 0).total.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # This offset adds the same to every slot's logits, which the softmax over slots ignores: its gradient is zero up to
    # rounding in every implementation.
    assert set(dead) <= {"bottom_up.norm_slots.bias"}


@pytest.mark.parametrize(
    ("steps", "weights"), [(0, [3.0]), (1, [2, 1.5]), (2, [5 / 3, 4 / 3, 1]), (3, [1.5, 1.25, 1, 0.75])]
)
def test_loss_weighs_early_drawings_most(steps: int, weights: list[float]) -> None:
    model, scene = tiny(refinement_steps=steps, beta=0.5), images()
    output = model(scene)
    losses = model.loss(scene, output, 0)
    elbo = output.step_nll.mean(0) + 0.5 * output.step_kl_slots.sum(2).mean(0)  # (S,)
    torch.testing.assert_close(losses.total, elbo @ torch.tensor(weights))
    torch.testing.assert_close(losses.terms["nll"], output.nll.mean())
    assert all(not term.requires_grad for term in losses.terms.values())


@pytest.mark.parametrize("likelihood", ["gaussian", "mixture"])
def test_likelihood_leaves_out_its_constant(likelihood: str) -> None:
    model, scene = tiny(likelihood=likelihood), images()
    output = model(scene)
    x, sigma = scene.image, 0.3
    if likelihood == "gaussian":
        density = torch.exp(-((x - output.recon) ** 2) / (2 * sigma**2)) / sigma
    else:
        each = torch.exp(-((x[:, None] - output.components) ** 2) / (2 * sigma**2)) / sigma
        density = (output.masks * each).sum(1)
    torch.testing.assert_close(output.nll, -density.log().sum((1, 2, 3)), rtol=1e-4, atol=1e-3)


def test_kl_is_that_of_torch() -> None:
    model, scene = lively(), images()
    output = model(scene)
    mean, std = gaussian_parameters(output.layer_params)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, std), normal(output.prior_mean, output.prior_std)).sum(-1)
    torch.testing.assert_close(output.layer_kl, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.step_kl_slots[:, 0], expected.sum(1), rtol=1e-4, atol=1e-4)
    assert (output.prior_mean[:, -1] == 0).all()  # the top layer's is N(0, 1)
    assert (output.prior_std[:, -1] == 1).all()


def test_only_reversed_plus_plus_holds_refinements_to_the_first_layers_prior() -> None:
    for prior in PRIORS:
        model, scene = lively(prior=prior), images()
        output = model(scene)
        mean, std = gaussian_parameters(output.params)
        normal = torch.distributions.Normal
        learned = torch.distributions.kl_divergence(
            normal(mean, std), normal(output.prior_mean[:, 0], output.prior_std[:, 0])
        )
        unit = torch.distributions.kl_divergence(normal(mean, std), normal(0.0, 1.0))
        expected = (learned if prior == "reversed++" else unit).sum(-1)
        torch.testing.assert_close(output.kl_slots, expected, rtol=1e-4, atol=1e-4)


def test_geco_weighs_the_loss_and_the_refinement() -> None:
    model, scene = lively(), images()
    with posterior_means():
        plain = model(scene)
        geco = SoftplusGECO(target=-1.0, image_size=12, warm_start=0)
        geco.beta, geco.updates = torch.tensor(5.0), torch.tensor(10)
        model.reconstruction_weight = geco.weight
        weighed = model(scene)
    assert not torch.allclose(weighed.params, plain.params, rtol=1e-3)
    torch.testing.assert_close(weighed.step_params[:, 0], plain.step_params[:, 0])
    ours = model.loss(scene, weighed, 0).total
    published = sum(
        w * (reconstruction_term(geco, weighed.step_nll[:, i].mean()) + weighed.step_kl_slots[:, i].sum(1).mean())
        for i, w in enumerate((5 / 3, 4 / 3, 1))
    )
    parameters = list(model.parameters())
    for one, two in zip(
        torch.autograd.grad(ours, parameters, retain_graph=True),
        torch.autograd.grad(published, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-3)


def test_curriculum_follows_the_step() -> None:
    model = tiny(curriculum=[[0, 3], [100, 1]])
    assert model.refinement_steps == 2  # for tests
    counts = []
    for step in (0, 99, 100, 5000, 50):
        model.set_step(step)
        counts.append(model.refinement_steps)
    assert counts == [3, 3, 1, 1, 3]
    constant = tiny()
    constant.set_step(1000)
    assert constant.refinement_steps == 2


# Generation


def test_decode_redraws_slots_and_layers() -> None:
    model, scene = lively(), images()
    output = model(scene)
    torch.testing.assert_close(model.decode(output.slots).recon, output.recon)
    torch.testing.assert_close(model.decode(output.layer_slots[:, -1]).masks, output.step_masks[:, 0])


@pytest.mark.parametrize(("prior", "draws"), [("reversed++", 1), ("reversed", 1), ("bottom_up", 3)])
def test_samples_follow_their_noise(prior: str, draws: int) -> None:
    model = lively(prior=prior)
    noise = torch.randn(4, 3, draws * 8)
    imagined = model.sample(4, noise=noise)
    assert imagined.recon.shape == (4, 3, 12, 12)
    torch.testing.assert_close(model.sample(4, noise=noise).recon, imagined.recon, rtol=0, atol=0)
    assert not torch.equal(model.sample(4).slots, model.sample(4).slots)
    if draws == 1:
        torch.testing.assert_close(imagined.slots, noise)
    else:  # the last draw is around what the prior network says of the one before
        zero_last = torch.cat([noise[..., :16], torch.zeros(4, 3, 8)], -1)
        zero_two = torch.cat([noise[..., :8], torch.zeros(4, 3, 16)], -1)
        assert not torch.equal(model.sample(4, noise=zero_last).slots, model.sample(4, noise=zero_two).slots)
    with pytest.raises(ValueError, match=rf"\(4, 2, 8\).*\(4, 3, {8 * draws}\)"):
        model.sample(4, noise=torch.zeros(4, 2, 8))


# Numerics, state, training


def test_compiled_model_gives_the_same_and_trains() -> None:
    model, scene, noise = lively(layers=2, refinement_steps=1), images(), torch.randn(2, 3, 8)
    # lets the compiler trace the gradients inside the forward pass; without it they run uncompiled
    with posterior_means(), torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        results = []
        for run in (model, compiled):
            output = run(scene, noise=noise)
            total = model.loss(scene, output, 0).total
            results.append((output.params, *torch.autograd.grad(total, list(model.parameters()))))
        with torch.no_grad():
            torch.testing.assert_close(compiled(scene, noise=noise).params, results[0][0])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def test_overfits_a_few_images() -> None:
    scene = images(4, 8)
    scene.image = torch.nn.functional.interpolate(scene.image[:, :, :2, :2], size=8)  # four patches of one color each
    model = lively(image_size=8, refinement_steps=1, pixel_std=0.1, decoder_channels=16)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for step in range(150):
        losses = model.loss(scene, model(scene), step)
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    average_image = (scene.image - scene.image.mean(0)).square().mean()
    assert losses.terms["mse"] < 0.5 * average_image


def test_save_and_load(tmp_path: Path) -> None:
    model, scene = tiny(curriculum=[[0, 3], [10, 1]], prior="reversed"), images()
    model.reconstruction_weight = torch.tensor(2.5)
    model.save_pretrained(tmp_path)
    again = EfficientMORL.from_pretrained(tmp_path)
    assert again.reconstruction_weight == 2.5
    assert json.loads((tmp_path / "config.json").read_text())["curriculum"] == [[0, 3], [10, 1]]
    again.set_step(20)
    assert again.refinement_steps == 1
    again.refinement_steps = 2
    with posterior_means():
        for one, two in zip(leaves(model(scene)), leaves(again(scene)), strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 0}, "slots=0"),
        ({"slot_size": 0}, "slot_size=0"),
        ({"layers": -1}, "layers=-1"),
        ({"refinement_steps": -1}, "refinement_steps=-1"),
        ({"refinement_steps": 1.5}, "refinement_steps=1.5"),
        ({"prior": "reversed+"}, r"did you mean 'reversed\+\+'|did you mean 'reversed'"),
        ({"gru": "triple"}, "gru='triple'"),
        ({"likelihood": "GMM"}, "likelihood='GMM'"),
        ({"initialization": "soft"}, "initialization='soft'"),
        ({"encoder_strides": [2, 2]}, r"encoder_strides=\[2, 2\].*four"),
        ({"decoder": "iodin"}, "did you mean 'iodine'"),
        ({"decoder": "big"}, r"\(12, 12\).*multiples of 16"),
        ({"image_size": (12, 12, 3)}, "image_size"),
        ({"pixel_std": 0.0}, "pixel_std=0.0"),
        ({"beta": -1.0}, "beta=-1.0"),
        ({"curriculum": [[0, 3], [0, 1]]}, "curriculum=.*order"),
        ({"curriculum": [[0, -3]]}, "curriculum"),
        ({"curriculum": [[0]]}, "curriculum"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_a_sharp_start_tells_slots_and_images_apart_where_the_released_one_does_not() -> None:
    spread = {}
    for initialization in ("released", "sharp"):
        output = tiny(initialization=initialization, encoder_strides=[2, 1, 1, 1], gru="single")(images(4))
        assert output.layer_attention.shape == (4, 3, 3, 6, 6)
        spread[initialization] = output.layer_attention.std(2).mean()  # over the slots
    assert spread["released"] < 1e-3
    assert spread["sharp"] > 0.1


def test_wrong_inputs_are_named() -> None:
    model = tiny()
    with pytest.raises(ValueError, match=r"\(B, 3, 12, 12\) but got \(2, 3, 20, 20\)"):
        model(images(2, 20))
    with pytest.raises(ValueError, match=r"\(2, 4, 8\).*\(2, 3, 8\)"):
        model(images(), noise=torch.zeros(2, 4, 8))
    with pytest.raises(ValueError, match="slots=0"):
        model.slots = 0
    with pytest.raises(ValueError, match="refinement_steps=-1"):
        model.refinement_steps = -1


# The importer


def upstream_weights() -> dict[str, Tensor]:
    with np.load(CASE.with_suffix(".npz")) as archive:
        names = [key for key in archive.files if key.startswith("weights/")]
        return {key.removeprefix("weights/"): torch.from_numpy(archive[key]) for key in names}


def upstream_config() -> dict[str, Any]:
    return json.loads(CASE.with_suffix(".json").read_text())["config"]


def older(key: str) -> str:
    """The name that an early version of the released code gave a weight."""
    for name in ("pos_embed_projection", "encoder_pt"):
        if key.startswith(f"hvae_networks.{name}"):
            return key.removeprefix("hvae_networks.")
    return key.replace("hvae_networks.", "object_discovery_block.")


@pytest.mark.parametrize("early", [False, True])
def test_released_file_is_read_converted_and_gives_its_recorded_pictures_in_float32(
    tmp_path: Path, early: bool
) -> None:
    file = tmp_path / "emorl-state-1.pth"
    weights = upstream_weights()
    if early:
        weights = {older(key): value for key, value in weights.items() if not key.startswith("geco")}
        weights |= {"gru.cell.zeros": torch.zeros(1), "generation_relation.0.weight": torch.zeros(1)}
    state = {f"module.{key}": value for key, value in weights.items()}
    torch.save({"step": 7, "model": state, "model_opt": {}, "kl_beta": 1.0}, file)
    config, weights = importer.read(file)
    assert config == {
        "z_size": 8, "image_decoder": "small", "use_DualGRU": True, "use_geco": False, "kl_beta": 1.0
    }  # fmt: skip
    with pytest.raises(ValueError, match="K, input_size, image_likelihood, log_scale"):
        importer.build(config)
    config |= {key: upstream_config()[key] for key in ("K", "input_size", "image_likelihood", "log_scale")}
    model = importer.build({**config, "refinement_iters": 1})
    model.load_state_dict(importer.convert(weights, config))
    with np.load(CASE.with_suffix(".npz")) as archive:
        image, noise = (torch.from_numpy(archive[f"inputs/{name}"]) for name in ("image", "eps_z0"))
        recon, params = (torch.from_numpy(archive[f"outputs/{name}"]) for name in ("recon", "lambda_1"))
    with posterior_means(), torch.no_grad():
        output = model(Scene(image=image), noise=noise)
    torch.testing.assert_close(output.recon, recon, rtol=2e-4, atol=2e-5)
    torch.testing.assert_close(output.params, params, rtol=2e-4, atol=2e-5)


def test_published_tetrominoes_run_is_recognized_with_its_multiplier(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    state = {"hvae_networks.init_posterior": torch.zeros(1, 64), "geco_C_ema": torch.tensor(-70.0)}
    state |= {f"hvae_networks.image_decoder.decode.{i}.weight": torch.zeros(1) for i in (0, 2, 4, 6)}
    torch.save({"model": state}, file)
    config, weights = importer.read(file)
    model = importer.build(config)
    assert (model.slots, model.image_size, model.pixel_std) == (4, (35, 35), pytest.approx(0.3))
    assert config["use_geco"]
    assert importer.geco_in_force(config)
    with pytest.raises(ValueError, match=r"missing hvae_networks\..*; unexpected none"):
        importer.convert(weights, config)


@pytest.mark.parametrize(
    ("changes", "weight"),
    [
        ({"use_geco": True, "global_step": 1001}, 5.0067),
        ({"use_geco": True}, 5.0067),  # a finished run's file
        ({"use_geco": True, "global_step": 999}, 1.0),
        ({"use_geco": True, "global_step": 1001, "kl_beta": 0.0}, 1.0),
        ({"use_geco": False, "global_step": 1001}, 1.0),
    ],
)
def test_multiplier_counts_where_it_did(changes: dict[str, Any], weight: float) -> None:
    config = {key: value for key, value in upstream_config().items() if key != "global_step"}
    weights = upstream_weights() | {"geco_beta": torch.tensor(5.0)}
    converted = importer.convert(weights, {**config, **changes})
    assert float(converted["reconstruction_weight"]) == pytest.approx(weight, abs=1e-3)


def test_conversion_names_missing_and_unexpected_weights() -> None:
    weights = upstream_weights()
    weights["extra.weight"] = weights.pop("hvae_networks.to_k.weight")
    with pytest.raises(ValueError, match=r"missing hvae_networks\.to_k\.weight; unexpected extra\.weight"):
        importer.convert(weights, upstream_config())
    with pytest.raises(ValueError, match="use_DualGRU"):
        importer.convert(upstream_weights(), {**upstream_config(), "use_DualGRU": False})
    with pytest.raises(ValueError, match="exclude each other"):
        importer.build({**upstream_config(), "bottom_up_prior": True})
    with pytest.raises(ValueError, match="image_likelihood='gmm'"):
        importer.build({**upstream_config(), "image_likelihood": "gmm"})


def test_files_that_would_run_code_or_are_something_else_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    torch.save({"model": tiny()}, file)
    with pytest.raises(ValueError, match="Python objects"):
        importer.read(file)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        importer.read(file)
    torch.save({"model": {"weight": torch.zeros(1)}}, file)
    with pytest.raises(ValueError, match="init_posterior"):
        importer.read(file)
    with pytest.raises(FileNotFoundError):
        importer.read(tmp_path / "absent.pth")
