from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.checkpoints import iodine as importer
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import main
from objectscape.contract import Decomposes, Generates
from objectscape.models.iodine import (
    CONSTANT,
    IODINE,
    HalvingConv2d,
    IODINEOutput,
    LSTMCell,
    coordinate_channels,
    gaussian_parameters,
    leave_one_out,
    logistic_log_likelihood,
)
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene

CASE = Path(__file__).parent / "data" / "parity" / "iodine" / "small_linear_lstm"


def tiny(**changes: Any) -> IODINE:
    options = {"image_size": 12, "slots": 3, "slot_size": 4, "iterations": 2, "decoder_channels": [8, 8]}
    options |= {"refinement_channels": [8, 8], "refinement_mlp": [16], "lstm": [16], "pixel_scale": 0.1}
    torch.manual_seed(0)
    return IODINE(**{**options, **changes})


def images(n: int = 2, side: int = 12) -> Scene:
    return Scene(image=torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1)))


def leaves(output: IODINEOutput) -> list[Tensor]:
    return torch.utils._pytree.tree_leaves(output)


# Parts


@settings(max_examples=30, deadline=None)
@given(slots=st.integers(2, 6), seed=st.integers(0, 1000), spread=st.sampled_from([1.0, 300.0]))
def test_leave_one_out_is_a_sum_without_the_slot(slots: int, seed: int, spread: float) -> None:
    terms = spread * torch.randn(2, slots, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    expected = torch.stack([terms[:, [j for j in range(slots) if j != k]].logsumexp(1) for k in range(slots)], 1)
    torch.testing.assert_close(leave_one_out(terms), expected)


def test_logistic_density_is_the_derivative_of_its_sigmoid() -> None:
    x = torch.linspace(-0.5, 1.5, 41, dtype=torch.float64, requires_grad=True)
    (density,) = torch.autograd.grad(torch.sigmoid((x - 0.4) / 0.1).sum(), x)
    torch.testing.assert_close(logistic_log_likelihood(x, torch.tensor(0.4), 0.1), density.log())
    far = logistic_log_likelihood(torch.tensor(1.0), torch.tensor(-50.0), 0.03)
    torch.testing.assert_close(far, torch.tensor(-51 / 0.03 - math.log(0.03)))  # the tail is exponential, not zero


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(5, 5), (7, 12)])
def test_decoder_is_a_convolution_of_the_tiled_slot(kind: str, kernel: int, size: tuple[int, int]) -> None:
    model = tiny(image_size=size, decoder_coordinates=kind, decoder_kernel=kernel)
    slots = torch.randn(2, 3, 4)
    rows, columns = (torch.linspace(-1, 1, n) for n in size)
    places = torch.stack([rows[:, None].expand(size), columns.expand(size)])
    if kind == "cosine":
        x, y = (columns + 1) * math.pi / 2, (rows[:, None] + 1) * math.pi / 2
        pairs = [(i, j) for i in range(3) for j in range(3) if i or j]
        places = torch.stack([torch.cos(i * x) * torch.cos(j * y) for i, j in pairs])
    tiled = slots.flatten(0, 1)[:, :, None, None].expand(-1, -1, *size)
    constant = torch.full((6, 1, *size), CONSTANT)
    drawn = model.decoder.layers(torch.cat([tiled, constant, places.expand(6, -1, -1, -1)], 1))
    components, logits = model.decoder(slots)
    torch.testing.assert_close(torch.cat([logits, components], 2).flatten(0, 1), drawn, rtol=1e-4, atol=1e-5)


def test_patches_make_the_same_pictures_of_a_coarser_grid() -> None:
    model = tiny(decoder_patch=4)
    assert model.decoder.grid.shape[1:] == (3, 3)
    output = model(images())
    assert output.recon.shape == (2, 3, 12, 12)
    for changes in ({"decoder_patch": 5}, {"decoder_patch": 6}):  # no divisor; a grid smaller than a kernel
        with pytest.raises(ValueError, match=r"decoder_patch=.*multiples"):
            tiny(**changes)


def test_coordinates_run_along_columns_then_rows() -> None:
    grid = coordinate_channels("linear", (3, 5))
    assert grid[:, 0, 4].tolist() == [1, -1]
    assert grid[:, 2, 0].tolist() == [-1, 1]


@pytest.mark.parametrize(("side", "kernel", "before"), [(12, 3, 0), (11, 3, 1), (12, 5, 1), (11, 5, 2), (8, 1, 0)])
def test_halving_pads_as_tensorflow_does(side: int, kernel: int, before: int) -> None:
    conv = HalvingConv2d(1, 1, kernel)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    with torch.no_grad():
        conv.weight[0, 0, before, before] = 1.0  # picks the pixel at twice the output's place
    image = torch.randn(1, 1, side, side)
    torch.testing.assert_close(conv(image), image[..., ::2, ::2])


def test_lstm_is_that_of_torch_with_an_opened_forget_gate() -> None:
    ours, theirs = LSTMCell(3, 4), nn.LSTMCell(3, 4)
    order = [0, 2, 1, 3]  # ours: input, candidate, forget, output; PyTorch's: input, forget, candidate, output
    with torch.no_grad():
        weight = torch.cat([ours.gates.weight.chunk(4)[i] for i in order])
        theirs.weight_ih.copy_(weight[:, :3])
        theirs.weight_hh.copy_(weight[:, 3:])
        theirs.bias_ih.copy_(torch.cat([ours.gates.bias.chunk(4)[i] for i in order]))
        theirs.bias_hh.copy_(torch.cat([torch.full((4,), float(i == 1)) for i in range(4)]))
    x, state = torch.randn(5, 3), (torch.randn(5, 4), torch.randn(5, 4))
    for one, two in zip(ours(x, state), theirs(x, state), strict=True):
        torch.testing.assert_close(one, two)


def test_fresh_weights_follow_sonnet() -> None:
    weight = IODINE().decoder.layers[2].weight.detach()  # 64 -> 64 channels, kernel 3
    std = (64 * 9) ** -0.5
    assert weight.abs().max() <= 2 * std
    assert abs(float(weight.std()) / std - 0.88) < 0.02  # of a normal cut off at two standard deviations
    assert all((b == 0).all() for n, b in tiny().named_parameters() if n.endswith("bias"))


# Shapes and abilities


@pytest.mark.parametrize("coordinates", ["linear", "cosine"])
@pytest.mark.parametrize("lstm", [[], [16], [16, 8]])
@pytest.mark.parametrize("iterations", [1, 3])
def test_shapes(coordinates: str, lstm: list[int], iterations: int) -> None:
    options = {"refinement_coordinates": coordinates, "lstm": lstm, "iterations": iterations}
    model = tiny(image_size=[12, 16], **options)
    output = model(Scene(image=torch.randint(0, 256, (2, 3, 12, 16), dtype=torch.uint8)))
    steps = iterations + 1
    shapes = {
        "recon": (2, 3, 12, 16),
        "masks": (2, 3, 1, 12, 16),
        "components": (2, 3, 3, 12, 16),
        "slots": (2, 3, 4),
        "nll": (2,),
        "kl_slots": (2, 3),
        "params": (2, 3, 8),
        "step_nll": (2, steps),
        "step_kl_slots": (2, steps, 3),
        "step_params": (2, steps, 3, 8),
        "step_slots": (2, steps, 3, 4),
        "step_recon": (2, steps, 3, 12, 16),
        "step_masks": (2, steps, 3, 1, 12, 16),
        "step_components": (2, steps, 3, 3, 12, 16),
    }
    assert {name: tuple(getattr(output, name).shape) for name in shapes} == shapes
    torch.testing.assert_close(output.masks.sum(1), torch.ones(2, 1, 12, 16))
    torch.testing.assert_close(output.recon, (output.masks * output.components).sum(1))
    for name in ("nll", "kl_slots", "params", "slots", "recon", "masks", "components"):
        assert getattr(output, name).equal(getattr(output, f"step_{name}")[:, -1])


def test_model_decomposes_and_generates() -> None:
    assert isinstance(tiny(), Decomposes)
    assert isinstance(tiny(), Generates)


# Inference


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(3)), seed=st.integers(0, 1000))
def test_permuting_the_initial_noise_permutes_the_slots(order: list[int], seed: int) -> None:
    model = tiny().double()
    generator = torch.Generator().manual_seed(seed)
    scene = Scene(image=torch.rand(2, 3, 12, 12, generator=generator).double())
    noise = torch.randn(2, 3, 4, generator=generator).double()
    with posterior_means(), torch.no_grad():
        one, two = model(scene, noise=noise), model(scene, noise=noise[:, order])
    torch.testing.assert_close(two.step_params, one.step_params[:, :, order])
    torch.testing.assert_close(two.recon, one.recon)


def test_posterior_means_fixes_the_slots_without_making_them_alike() -> None:
    model, scene = tiny(), images(3)
    with posterior_means():
        output, again = model(scene), model(scene)
    torch.testing.assert_close(output.slots, again.slots, rtol=0, atol=0)
    assert (output.slots[:, 0] - output.slots[:, 1]).abs().max() > 1e-3
    assert not torch.equal(model(scene).slots, model(scene).slots)


def test_batch_slots_and_iterations_are_free_at_test_time() -> None:
    model = tiny()
    model.slots, model.iterations = 5, 4
    assert model(images(7)).step_masks.shape == (7, 5, 5, 1, 12, 12)


def test_more_iterations_begin_as_fewer_do() -> None:
    model, scene = tiny(), images()
    with posterior_means():
        two = model(scene)
        model.iterations = 4
        four = model(scene)
    torch.testing.assert_close(four.step_params[:, :3], two.step_params)
    assert not torch.allclose(four.params, two.params)


def test_without_gradients_around_it_the_result_is_the_same() -> None:
    model, scene = tiny(), images()
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
    model, scene = tiny(), images()
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


@pytest.mark.parametrize("likelihood", ["logistic", "gaussian"])
def test_refinement_inputs_are_what_the_paper_says(likelihood: str) -> None:
    model, scene = tiny(likelihood=likelihood, pixel_scale=0.3).double(), images()
    scene.image = scene.image.double()
    seen: list[tuple[Any, Any]] = []
    model.refinement_inputs.register_forward_hook(lambda module, args, result: seen.append((args, result)))
    with posterior_means():
        model(scene)
    (image, drawing, params, gradients), (spatial, flat) = seen[1]
    assert list(spatial) == sorted(spatial)
    assert list(flat) == sorted(flat)
    constants = {"counterfactual", "dcomponents", "dmask", "log_prob"}
    assert {n for n, x in spatial.items() if not x.requires_grad} == {"capacity", "coordinates", "image"}  # norms train
    assert not any(gradient.requires_grad for gradient in gradients)

    def log_density(components: Tensor) -> Tensor:
        d = (image[:, None] - components) / 0.3
        if likelihood == "gaussian":
            return (-(d**2) / 2 - math.log(0.3 * math.sqrt(2 * math.pi))).sum(2, keepdim=True)
        return (-d.abs() - 2 * torch.log1p(torch.exp(-d.abs())) - math.log(0.3)).sum(2, keepdim=True)

    def objective(components: Tensor, logits: Tensor, values: Tensor) -> Tensor:
        density = (logits.softmax(1) * log_density(components).exp()).sum(1)
        mean, std = gaussian_parameters(values)
        normal = torch.distributions.Normal
        kl = torch.distributions.kl_divergence(normal(mean, std), normal(0.0, math.sqrt(math.log(2))))
        return (kl.sum() - density.log().sum()) / 2

    def of_params(values: Tensor) -> Tensor:
        return objective(*model.decoder(values.chunk(2, -1)[0]), values)

    pictures = drawing.components.detach(), drawing.logits.detach(), params.detach()
    expected = torch.autograd.functional.jacobian(objective, pictures)[:2]
    expected += (torch.autograd.functional.jacobian(of_params, params.detach()),)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)

    density, masks = log_density(pictures[0]).exp(), pictures[1].softmax(1)
    log_prob = (masks * density).sum(1, keepdim=True).log()
    without = []
    for k in range(3):
        rest = [j for j in range(3) if j != k]
        without.append((masks[:, rest] * density[:, rest]).sum(1) / masks[:, rest].sum(1))
    raw = {
        "counterfactual": log_prob - torch.stack(without, 1).log(),
        "dcomponents": expected[0],
        "dmask": expected[1],
        "log_prob": log_prob,
    }
    for name in constants:  # fresh norms: gain 1, offset 0; over channels and pixels together
        value = raw[name]
        spread = value.var((2, 3, 4), unbiased=False, keepdim=True) + 1e-5
        normed = (value - value.mean((2, 3, 4), keepdim=True)) / spread.sqrt()
        torch.testing.assert_close(spatial[name], normed)
    posterior = density / (density.sum(1, keepdim=True) + 1e-6)
    torch.testing.assert_close(spatial["posterior"], posterior)
    torch.testing.assert_close(spatial["pred_mask"], masks)
    torch.testing.assert_close(flat["zp"], params)


# Loss


@pytest.mark.parametrize("changes", [{}, {"lstm": [], "refinement_coordinates": "cosine"}, {"likelihood": "gaussian"}])
def test_every_parameter_receives_gradient(changes: dict[str, Any]) -> None:
    model, scene = tiny(**changes), images()
    model.loss(scene, model(scene), 0).total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("iterations", "weights"), [(1, [0.0, 1.0]), (2, [0.0, 0.5, 1.0])])
def test_loss_weighs_late_drawings_most(iterations: int, weights: list[float]) -> None:
    model, scene = tiny(iterations=iterations), images()
    output = model(scene)
    losses = model.loss(scene, output, 0)
    elbo = output.step_nll.mean(0) + output.step_kl_slots.sum(2).mean(0)
    torch.testing.assert_close(losses.total, elbo @ torch.tensor(weights))
    torch.testing.assert_close(losses.terms["nll"], output.nll.mean())
    torch.testing.assert_close(losses.terms["kl"], output.kl_slots.sum(1).mean())
    assert all(not term.requires_grad for term in losses.terms.values())


@pytest.mark.parametrize("prior_std", [0.5, 1.0])
def test_kl_is_that_of_torch(prior_std: float) -> None:
    output = tiny(prior_std=prior_std)(images())
    normal = torch.distributions.Normal
    mean, std = gaussian_parameters(output.step_params)
    expected = torch.distributions.kl_divergence(normal(mean, std), normal(0.0, prior_std)).sum(-1)
    torch.testing.assert_close(output.step_kl_slots, expected, rtol=1e-4, atol=1e-4)


def test_the_released_prior_is_what_zero_parameters_say() -> None:
    model = tiny()
    _, std = gaussian_parameters(torch.zeros(8))
    torch.testing.assert_close(std, torch.full((4,), model.prior_std))
    _, std = gaussian_parameters(torch.full((8,), -1e4))
    assert (std > 0).all()
    assert std.log().isfinite().all()


# Generation


def test_decode_redraws_slots() -> None:
    model, scene = tiny(), images()
    output = model(scene)
    again = model.decode(output.slots)
    torch.testing.assert_close(again.recon, output.recon)
    torch.testing.assert_close(again.masks, output.masks)


def test_samples_follow_their_noise() -> None:
    model, noise = tiny(), torch.randn(4, 3, 4)
    imagined = model.sample(4, noise=noise)
    assert imagined.recon.shape == (4, 3, 12, 12)
    torch.testing.assert_close(imagined.slots, noise * math.sqrt(math.log(2)))
    assert not torch.equal(model.sample(4).slots, model.sample(4).slots)
    with pytest.raises(ValueError, match=r"\(4, 2, 4\).*\(4, 3, 4\)"):
        model.sample(4, noise=torch.zeros(4, 2, 4))


# Numerics, state, training


def test_compiled_model_gives_the_same_and_trains() -> None:
    model, scene, noise = tiny(iterations=1, pixel_scale=0.3), images(), torch.randn(2, 3, 4)
    # lets the compiler trace the gradients inside the forward pass; without it they run uncompiled
    with posterior_means(), torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        results = []
        for run in (model, compiled):
            output = run(scene, noise=noise)
            total = model.loss(scene, output, 0).total
            results.append((output.params, *torch.autograd.grad(total, list(model.parameters()))))
        with torch.no_grad():
            torch.testing.assert_close(compiled(scene, noise=noise).params, results[0][0], rtol=1e-4, atol=1e-4)
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def test_overfits_a_few_images() -> None:
    scene = images(4, 8)
    scene.image = F.interpolate(scene.image[:, :, :2, :2], size=8)  # four patches of one color each
    options = {"slot_size": 8, "iterations": 1, "likelihood": "gaussian", "pixel_scale": 0.2}
    model = tiny(image_size=8, decoder_channels=[16, 16], **options)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3, betas=(0.95, 0.999))
    for step in range(250):
        losses = model.loss(scene, model(scene), step)
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    average_image = (scene.image - scene.image.mean(0)).square().mean()
    assert losses.terms["mse"] < 0.5 * average_image


def test_trains_from_the_command_line_and_comes_back_with_its_lists(tmp_path: Path) -> None:
    model = {"image_size": 16, "slots": 3, "slot_size": 4, "iterations": 1, "decoder_channels": "[8,8]"}
    model |= {"refinement_channels": "[8]", "refinement_mlp": "[8]", "lstm": "[]"}
    words = ["+model._target_=objectscape.models.iodine.IODINE", *(f"+model.{k}={v}" for k, v in model.items())]
    words += ["data=colored_shapes", "data.count=16", "data.image_size=16", "batch_size=4", "trainer.max_steps=2"]
    words += ["trainer.gradient_clip_val=5", "every.validate=2", "every.picture=0", "validation.images=4"]
    words += ["trainer.accelerator=cpu", "loggers.tensorboard=false", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", *words]) == 0
    again = RunFolder(tmp_path / "run").load_model()
    assert isinstance(again, IODINE)
    assert again.config["decoder_channels"] == [8, 8]
    assert again.config["lstm"] == []
    assert again(images(2, 16)).recon.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 1}, "slots=1.*at least 2"),
        ({"slot_size": 0}, "slot_size=0"),
        ({"iterations": 0}, "iterations=0"),
        ({"decoder_channels": []}, r"decoder_channels=\[\].*at least one"),
        ({"decoder_channels": 32}, "decoder_channels=32"),
        ({"decoder_kernel": 4}, "decoder_kernel=4.*odd"),
        ({"refinement_channels": [8, 0]}, r"refinement_channels=\[8, 0\]"),
        ({"refinement_kernel": 0}, "refinement_kernel=0"),
        ({"refinement_mlp": []}, "refinement_mlp"),
        ({"lstm": [1.5]}, r"lstm=\[1.5\]"),
        ({"lstm": 16}, "lstm=16"),
        ({"decoder_coordinates": "cos"}, "decoder_coordinates='cos'"),
        ({"refinement_coordinates": "liner"}, "did you mean 'linear'"),
        ({"likelihood": "normal"}, "likelihood='normal'"),
        ({"pixel_scale": 0.0}, "pixel_scale=0.0"),
        ({"prior_std": -1.0}, "prior_std=-1.0"),
        ({"image_size": (12, 12, 3)}, "image_size"),
        ({"image_size": 2}, "image_size=2.*decoder_kernel=3"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_wrong_inputs_are_named() -> None:
    model = tiny()
    with pytest.raises(ValueError, match=r"\(B, 3, 12, 12\) but got \(2, 3, 20, 20\)"):
        model(images(2, 20))
    with pytest.raises(ValueError, match=r"noise has shape \(2, 2, 4\).*\(2, 3, 4\)"):
        model(images(2), noise=torch.zeros(2, 2, 4))
    with pytest.raises(ValueError, match="iterations=0"):
        model.iterations = 0


# The importer


def upstream_weights() -> dict[str, np.ndarray]:
    with np.load(CASE.with_suffix(".npz")) as archive:
        names = [key for key in archive.files if key.startswith("weights/")]
        return {key.removeprefix("weights/"): archive[key] for key in names}


def test_released_variables_are_read_converted_and_give_the_recorded_picture(tmp_path: Path) -> None:
    file = tmp_path / "iodine.npz"
    extra = {"global_step": np.array(5), "factor_evaluator/repres_content/linear/w": np.zeros((4, 2), np.float32)}
    extra["refinement_head/residual_head/linear/w/Adam"] = np.zeros((16, 8), np.float32)
    np.savez(file, **upstream_weights(), **extra)
    config, weights = importer.read(file)
    recorded = json.loads(CASE.with_suffix(".json").read_text())["config"]
    told = {
        "n_z",
        "dec_channels",
        "dec_kernel",
        "dec_coord",
        "ref_channels",
        "ref_kernel",
        "ref_coord",
        "ref_mlp",
        "lstm",
    }
    assert {key: config[key] for key in told} == {key: recorded[key] for key in told}
    with pytest.raises(ValueError, match=r"lacks K, H, W.*K=7 H=128"):
        importer.build(config)
    config |= {"K": 3, "H": 12, "W": 12, "T": 2}
    model = importer.build(config)
    model.load_state_dict(importer.convert(weights, config))
    with np.load(CASE.with_suffix(".npz")) as archive:
        image, noise = (torch.from_numpy(archive[f"inputs/{name}"]) for name in ("image", "eps_0"))
        recon = torch.from_numpy(archive["outputs/recon"][:, -1])
    with posterior_means(), torch.no_grad():
        torch.testing.assert_close(model(Scene(image=image), noise=noise).recon, recon, rtol=2e-3, atol=2e-4)


PUBLISHED = [
    (7, 128, {}),
    (6, 64, {"slot_size": 16, "decoder": 5, "layers": 3, "mlp": [128], "lstm": [128]}),
    (4, 35, {"slot_size": 32, "decoder": 5, "layers": 3, "mlp": [128], "lstm": []}),
]


@pytest.mark.parametrize(("slots", "side", "options"), PUBLISHED)
def test_published_settings_are_recognized(tmp_path: Path, slots: int, side: int, options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {}
    if options:
        arguments = {"slot_size": options["slot_size"], "decoder_channels": [32] * 4, "decoder_kernel": 5}
        arguments |= {"refinement_channels": [32] * 3, "refinement_kernel": 5, "refinement_mlp": options["mlp"]}
        arguments |= {"refinement_coordinates": "cosine", "lstm": options["lstm"]}
    model = IODINE(image_size=side, slots=slots, **arguments)
    file = tmp_path / "weights.npz"
    layouts = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}  # Sonnet's
    np.savez(file, **{importer._source(k): v.permute(layouts[v.ndim]).numpy() for k, v in model.state_dict().items()})
    config, weights = importer.read(file)
    again = importer.build(config)
    assert (again.slots, again.image_size, again.iterations) == (slots, (side, side), 5)
    converted = importer.convert(weights, config)
    assert set(converted) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert converted[name].equal(value)


def test_conversion_names_missing_and_unexpected_weights() -> None:
    config = json.loads(CASE.with_suffix(".json").read_text())["config"]
    weights = {key: torch.from_numpy(value) for key, value in upstream_weights().items()}
    weights["extra/w"] = weights.pop("refinement_head/residual_head/linear/b")
    with pytest.raises(ValueError, match=r"missing refinement_head/\S*/b; unexpected extra/w\."):
        importer.convert(weights, config)
    with pytest.raises(ValueError, match="pixel_dist='poisson'"):
        importer.build({**config, "pixel_dist": "poisson"})


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "iodine.npz"
    np.savez(file, other=np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="initial_sample_distribution"):
        importer.read(file)
    np.savez(file, objects=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="plain arrays"):
        importer.read(file)
    for content in (b"nothing", b""):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"plain arrays.*load_checkpoint"):
            importer.read(file)
    with file.open("wb") as handle:
        np.save(handle, np.zeros(1))
    with pytest.raises(ValueError, match="one array"):
        importer.read(file)
    with pytest.raises(FileNotFoundError):
        importer.read(tmp_path / "absent.npz")
