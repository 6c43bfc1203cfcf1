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

from objectscape.checkpoints import slot_attention as importer
from objectscape.contract import Decomposes, Generates
from objectscape.models.slot_attention import SlotAttentionModel
from objectscape.nn.distributions import posterior_means
from objectscape.nn.initialization import scale_weights
from objectscape.nn.positions import coordinate_grid
from objectscape.nn.slot_attention import SlotAttention
from objectscape.nn.slot_decoders import SLOT_DECODERS, make_slot_decoder
from objectscape.scene import Scene

CASE = Path(__file__).parent / "data" / "parity" / "slot_attention" / "emorl_sa_small"


def tiny(**changes: Any) -> SlotAttentionModel:
    options = {"image_size": 16, "slots": 4, "slot_size": 16, "hidden_size": 16, "encoder_channels": 8}
    torch.manual_seed(0)
    return SlotAttentionModel(**{**options, "decoder": "broadcast", "decoder_channels": 8, **changes})


def squares(n: int = 8, side: int = 16) -> Scene:
    """A square of random color and place on a darker background of random color, in every image."""
    generator = torch.Generator().manual_seed(0)
    image = 0.5 * torch.rand(n, 3, 1, 1, generator=generator).repeat(1, 1, side, side)
    for picture in image:
        y, x = torch.randint(0, side - 5, (2,), generator=generator)
        picture[:, y : y + 5, x : x + 5] = torch.rand(3, 1, 1, generator=generator)
    return Scene(image=image)


# The module


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(5)), seed=st.integers(0, 1000))
def test_permuting_the_initial_noise_permutes_the_slots(order: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    module = SlotAttention(input_size=6, slots=5, slot_size=8, hidden_size=8)
    tokens, noise = torch.randn(2, 20, 6), torch.randn(2, 5, 8)
    one, two = module(tokens, noise), module(tokens, noise[:, order])
    torch.testing.assert_close(two.slots, one.slots[:, order])
    torch.testing.assert_close(two.attention, one.attention[:, order])


def test_attention_sums_to_one_over_slots_and_weights_over_tokens() -> None:
    step = SlotAttention(input_size=6, slots=5, slot_size=8)(torch.randn(2, 20, 6))
    torch.testing.assert_close(step.attention.sum(1), torch.ones(2, 20))
    torch.testing.assert_close(step.weights.sum(-1), torch.ones(2, 5))


def test_the_trajectory_ends_in_the_result_and_longer_ones_begin_alike() -> None:
    module = SlotAttention(input_size=6, slots=3, slot_size=8, iterations=2)
    tokens, noise = torch.randn(2, 20, 6), torch.randn(2, 3, 8)
    two = module.trajectory(tokens, noise)
    torch.testing.assert_close(module(tokens, noise).slots, two[-1].slots, rtol=0, atol=0)
    module.iterations = 5
    five = module.trajectory(tokens, noise)
    assert len(five) == 5
    torch.testing.assert_close(five[1].slots, two[-1].slots, rtol=0, atol=0)
    assert not torch.equal(five[-1].slots, two[-1].slots)


@pytest.mark.parametrize("initial_slots", ["sampled", "learned"])
def test_implicit_differentiation_changes_the_gradient_but_not_the_result(initial_slots: str) -> None:
    results, gradients = [], []
    for gradient in ("unrolled", "implicit"):
        torch.manual_seed(0)
        module = SlotAttention(input_size=6, slots=3, slot_size=8, initial_slots=initial_slots, gradient=gradient)
        noise = torch.randn(2, 3, 8) if initial_slots == "sampled" else None
        torch.manual_seed(1)
        slots = module(torch.randn(2, 20, 6), noise).slots
        results.append(slots)
        gradients.append(torch.autograd.grad(slots.square().sum(), module.to_values.weight)[0])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert not torch.allclose(gradients[0], gradients[1])


def test_implicit_gradient_is_that_of_one_step_from_a_constant() -> None:
    module = SlotAttention(input_size=6, slots=3, slot_size=8, gradient="implicit", input_norm=False)
    tokens, noise = torch.randn(2, 20, 6), torch.randn(2, 3, 8)
    steps = module.trajectory(tokens, noise)
    once = module.step(steps[1].slots.detach(), module.to_keys(tokens), module.to_values(tokens))
    weights = [module.to_keys.weight, module.gru.weight_hh, module.mlp[0].weight]
    for ours, expected in zip(
        torch.autograd.grad(steps[-1].slots.square().sum(), weights),
        torch.autograd.grad(once.slots.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)


def test_learned_slots_are_the_same_for_every_image_and_fixed_in_number() -> None:
    model = tiny(initial_slots="learned")
    scene = squares(2)
    torch.testing.assert_close(model(scene).slots, model(scene).slots, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"slots=6.*4 initial slots.*sampled"):
        model.slots = 6
    with pytest.raises(ValueError, match="noise"):
        model(scene, noise=torch.zeros(2, 4, 16))


def test_posterior_means_fixes_the_slots_without_making_them_alike() -> None:
    model, scene = tiny(), squares(3)
    with posterior_means():
        output = model(scene)
        alone = model(scene[1:2])
    torch.testing.assert_close(alone.slots, output.slots[1:2])
    assert (output.slots[:, 0] - output.slots[:, 1]).abs().max() > 0.1


def test_coordinates_run_from_zero_to_one_along_rows_then_columns() -> None:
    grid = coordinate_grid((3, 5))
    assert grid[2, 0].tolist() == [1, 0]
    assert grid[1, 4].tolist() == [0.5, 1]


# The decoders


@pytest.mark.parametrize("name", SLOT_DECODERS)
@pytest.mark.parametrize("size", [(16, 16), (32, 48), (35, 21)])
def test_decoders_draw_the_size_asked_for_or_say_why_not(name: str, size: tuple[int, int]) -> None:
    unit = {"deconvolution": 16, "big": 16, "patch": 4}.get(name)
    if unit and size == (35, 21):
        with pytest.raises(ValueError, match=rf"image_size=\(35, 21\).*multiples of {unit}\."):
            make_slot_decoder(name, slot_size=4, image_size=size, channels=4)
        return
    rgb, logits = make_slot_decoder(name, slot_size=4, image_size=size, channels=4)(torch.randn(2, 3, 4))
    assert rgb.shape == (2, 3, 3, *size)
    assert logits.shape == (2, 3, 1, *size)


# The model


@pytest.mark.parametrize("image_size", [16, 24, [16, 32]])
@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("decoder", SLOT_DECODERS)
def test_model_shapes(image_size: int | list[int], slots: int, decoder: str) -> None:
    options = {"image_size": image_size, "slots": slots, "decoder": decoder}
    if image_size == 24 and decoder in ("deconvolution", "big"):
        with pytest.raises(ValueError, match="image_size"):
            tiny(**options)
        return
    model = tiny(**options)
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    output = model(Scene(image=torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)))
    assert output.recon.shape == (2, 3, *size)
    assert output.components.shape == (2, slots, 3, *size)
    assert output.slots.shape == (2, slots, 16)
    assert output.attention.shape == (2, slots, *size)
    torch.testing.assert_close(output.masks.sum(1), torch.ones(2, 1, *size))
    torch.testing.assert_close(output.recon, (output.masks * output.components).sum(1))


def test_patches_are_drawn_where_they_belong() -> None:
    decoder = make_slot_decoder("patch", slot_size=4, image_size=(16, 20), channels=4)
    grid = torch.zeros(1, 4, 4, 5, requires_grad=True)
    decoder.layers(grid + 1)[0, :, 4:8, 12:16].sum().backward()  # the patch in row 1, column 3
    reached = grid.grad.abs().sum((0, 1)) > 0
    assert reached[1, 3]
    assert not reached[:, 0].any()  # farther away than two 3x3 kernels see


def test_strides_coarsen_the_tokens_only() -> None:
    model = tiny(encoder_strides=[2, 2, 1, 1], image_size=[16, 22], decoder="broadcast")
    output = model(Scene(image=torch.rand(2, 3, 16, 22)))
    assert output.attention.shape == (2, 4, 4, 6)
    assert output.masks.shape == (2, 4, 1, 16, 22)


def test_an_initialization_scales_the_initial_weights() -> None:
    sharp = {"encoder.convs.2": 2, "encoder.mlp.1": 1, "decoder.layers.0": 1}
    sharp |= {"attention.to_keys": 3, "attention.to_queries": 3, "attention.to_values": 1}
    flat = {"encoder.convs.2": 1, "decoder.layers.0": 0.02, "attention.to_keys": 1}
    for initialization, factors in (("sharp", sharp), ("efficientmorl", flat)):
        plain, scaled = tiny(), tiny(initialization=initialization)
        for name, factor in factors.items():
            one, two = plain.get_parameter(f"{name}.weight"), scaled.get_parameter(f"{name}.weight")
            torch.testing.assert_close(two, factor * one)


def test_model_decomposes_and_does_not_generate() -> None:
    assert isinstance(tiny(), Decomposes)
    assert not isinstance(tiny(), Generates)


def test_number_of_slots_and_iterations_can_change_at_test_time() -> None:
    model, scene = tiny(), squares(2)
    model.slots, model.iterations = 7, 5
    assert model(scene).masks.shape == (2, 7, 1, 16, 16)
    assert len(model.attention.trajectory(torch.randn(1, 4, 8))) == 5


@pytest.mark.parametrize("gradient", ["unrolled", "implicit"])
@pytest.mark.parametrize("initial_slots", ["sampled", "learned"])
def test_every_parameter_receives_gradient(gradient: str, initial_slots: str) -> None:
    model, scene = tiny(gradient=gradient, initial_slots=initial_slots), squares(4)
    model.loss(scene, model(scene), 0).total.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # This offset adds the same to every slot's logits, which the softmax over slots ignores: its gradient is zero up to
    # rounding in every implementation.
    assert set(dead) <= {"attention.norm_slots.bias"}


def test_loss_scales_are_those_of_the_two_codes() -> None:
    scene = squares(3)
    sizes = 3 * 16 * 16
    for output_range, reduction, factor in (
        ("linear", "mean", 4),
        ("linear", "sum", 4 * sizes),
        ("sigmoid", "mean", 1),
        ("sigmoid", "sum", sizes),
    ):
        model = tiny(output=output_range, reduction=reduction)
        output = model(scene)
        losses = model.loss(scene, output, 0)
        mse = torch.nn.functional.mse_loss(output.recon, scene.image)
        torch.testing.assert_close(losses.total, factor * mse)
        torch.testing.assert_close(losses.terms["mse"], mse)


def _loud(model: SlotAttentionModel) -> SlotAttentionModel:
    scale_weights(model.decoder, gain=50.0)
    return model


def test_sigmoid_output_stays_in_range() -> None:
    output = _loud(tiny(output="sigmoid"))(squares(2))
    assert output.components.min() >= 0
    assert output.components.max() <= 1


def test_compiled_model_gives_the_same() -> None:
    model, scene, noise = tiny(), squares(2), torch.randn(2, 4, 16)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(scene, noise=noise).recon, model(scene, noise=noise).recon)


@pytest.mark.parametrize("changes", [{}, {"gradient": "implicit", "initial_slots": "learned"}])
def test_overfits_a_few_images(changes: dict[str, Any]) -> None:
    scene = squares(8, 12)
    model = tiny(image_size=12, slots=2, encoder_channels=16, decoder_channels=16, hidden_size=32, **changes)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for step in range(160):
        losses = model.loss(scene, model(scene), step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    average_image = (scene.image - scene.image.mean(0)).square().mean()
    assert losses.terms["mse"] < 0.6 * average_image


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 0}, "slots=0"),
        ({"iterations": 0}, "iterations=0"),
        ({"slot_size": -1}, "slot_size=-1"),
        ({"encoder_channels": 0}, "encoder_channels=0"),
        ({"decoder_channels": 0}, "decoder_channels=0"),
        ({"decoder": "deconvolutio"}, "did you mean 'deconvolution'"),
        ({"decoder": "big", "image_size": 35}, r"\(35, 35\).*multiples of 16"),
        ({"image_size": (16, 16, 3)}, "image_size"),
        ({"output": "tanh"}, "output='tanh'"),
        ({"reduction": "none"}, "reduction='none'"),
        ({"initial_slots": "random"}, "initial_slots='random'"),
        ({"gradient": "none"}, "gradient='none'"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_wrong_inputs_are_named() -> None:
    model = tiny()
    with pytest.raises(ValueError, match=r"\(B, 3, 16, 16\) but got \(2, 3, 20, 20\)"):
        model(Scene(image=torch.zeros(2, 3, 20, 20)))
    with pytest.raises(ValueError, match=r"noise has shape \(2, 3, 16\).*\(2, 4, 16\)"):
        model(squares(2), noise=torch.zeros(2, 3, 16))
    with pytest.raises(ValueError, match="slots=0"):
        model.slots = 0


# The importer


def upstream_weights() -> dict[str, Tensor]:
    with np.load(CASE.with_suffix(".npz")) as archive:
        names = [key for key in archive.files if key.startswith("weights/")]
        return {key.removeprefix("weights/"): torch.from_numpy(archive[key]) for key in names}


def test_efficientmorl_file_is_read_converted_and_gives_its_recorded_pictures(tmp_path: Path) -> None:
    file = tmp_path / "slot-attention-state-1.pth"
    torch.save({"step": 1, "model": {f"module.{key}": value for key, value in upstream_weights().items()}}, file)
    config, weights = importer.read(file)
    assert config["z_size"] == 8
    assert config["image_decoder"] == "small"
    with pytest.raises(ValueError, match="K, input_size"):
        importer.build(config)
    config |= {"K": 4, "input_size": [3, 14, 14]}
    model = importer.build(config)
    model.load_state_dict(importer.convert(weights, config))
    with np.load(CASE.with_suffix(".npz")) as archive:
        image, noise = (torch.from_numpy(archive[f"inputs/{name}"]) for name in ("image", "eps_slots"))
        recon = torch.from_numpy(archive["outputs/recon"])
    torch.testing.assert_close(model(Scene(image=image), noise=noise).recon, recon, rtol=2e-4, atol=2e-5)


def test_published_settings_are_recognized(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    decoder = {f"image_decoder.decode.{i}.weight": torch.zeros(1) for i in (0, 2, 4, 6, 8, 10)}
    torch.save({"init_slots": torch.zeros(1, 128), **decoder}, file)
    config, _ = importer.read(file)
    assert config == {"z_size": 64, "image_decoder": "big", "attention_iters": 3, "K": 7, "input_size": [3, 96, 96]}


def test_conversion_names_missing_and_unexpected_weights() -> None:
    config = json.loads(CASE.with_suffix(".json").read_text())["config"]
    weights = upstream_weights()
    weights["extra.weight"] = weights.pop("to_k.weight")
    with pytest.raises(ValueError, match=r"missing to_k\.weight; unexpected extra\.weight"):
        importer.convert(weights, config)


def test_files_that_would_run_code_or_are_something_else_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    torch.save({"model": tiny()}, file)
    with pytest.raises(ValueError, match="Python objects"):
        importer.read(file)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        importer.read(file)
    torch.save({"model": {"weight": torch.zeros(1)}}, file)
    with pytest.raises(ValueError, match="init_slots"):
        importer.read(file)
    with pytest.raises(FileNotFoundError):
        importer.read(tmp_path / "absent.pth")


def test_keras_archive_tells_its_sizes(tmp_path: Path) -> None:
    file = tmp_path / "google.npz"
    np.savez(file, **{"slot_attention.mlp.0.kernel": np.zeros((64, 128), np.float32)})
    config, weights = importer.read(file)
    assert config["slot_size"] == 64
    assert config["slot_mlp_hidden"] == 128
    with pytest.raises(ValueError, match=r"missing.*decoder_cnn\.0\.kernel"):
        importer.convert(weights, config)
    np.savez(file, other=np.zeros(1))
    with pytest.raises(ValueError, match=r"slot_attention\.mlp"):
        importer.read(file)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not an archive"):
        importer.read(file)
