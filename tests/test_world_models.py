"""World models: SSWM, OP3, VRNN and framed slots."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from objectscape.check import check_model
from objectscape.checkpoints import op3 as op3_files
from objectscape.checkpoints import sswm as sswm_files
from objectscape.models.framed_slots import FramedSlots
from objectscape.models.op3 import ADVANCE, NEXT, OP3, REFINE
from objectscape.models.sswm import SSWM
from objectscape.models.vrnn import VRNN
from objectscape.nn.interaction import Interaction
from objectscape.nn.tiled_decoder import TiledDecoder
from objectscape.scene import Scene

ACTIONS = 3


def sswm(**options: object) -> SSWM:
    sizes = {"image_size": 16, "slots": 3, "slot_size": 4, "channels": 4, "lstm_size": 8, "rollouts": 3}
    return SSWM(**{**sizes, "action_size": ACTIONS, **options})  # type: ignore[arg-type]


def op3(**options: object) -> OP3:
    sizes = {
        "image_size": 16, "slots": 3, "stochastic_size": 4, "deterministic_size": 5, "action_width": 3,
        "decoder_channels": (4, 4, 4, 4), "refinement_channels": (4, 4, 6), "refinement_mlp": (6,), "lstm_size": 8,
    }  # fmt: skip
    return OP3(**{**sizes, "action_size": ACTIONS, **options})  # type: ignore[arg-type]


def vrnn(**options: object) -> VRNN:
    sizes = {"image_size": 16, "latent_size": 4, "hidden_size": 12, "encoder_channels": (4, 4, 4, 4, 4)}
    return VRNN(**{**sizes, "decoder_channels": 4, "action_size": ACTIONS, **options})  # type: ignore[arg-type]


def framed(**options: object) -> FramedSlots:
    sizes = {"image_size": 16, "slots": 3, "width": 8, "hidden": 8, "rollouts": 3}
    return FramedSlots(**{**sizes, "action_size": ACTIONS, **options})  # type: ignore[arg-type]


MODELS = {"sswm": sswm, "op3": op3, "vrnn": vrnn, "framed_slots": framed}


def clips(batch: int = 2, frames: int = 4) -> Scene:
    generator = torch.Generator().manual_seed(0)
    return Scene(
        image=torch.rand(batch, frames, 3, 16, 16, generator=generator),
        actions=torch.rand(batch, frames, ACTIONS, generator=generator),
    )


BEHIND_ZERO = {"framed_slots": ("image.embed.conv", "dynamics")}  # whose last layers start at zero


@pytest.mark.parametrize("name", MODELS)
def test_world_models_keep_the_contract(name: str) -> None:
    check_model(MODELS[name](), clips(), without_gradient=BEHIND_ZERO.get(name, ()))


@pytest.mark.parametrize("name", MODELS)
def test_predictions_have_samples_and_time(name: str) -> None:
    model = MODELS[name]().eval()
    with torch.no_grad():
        futures = model.predict(clips(), steps=5, samples=3, actions=torch.rand(2, 5, ACTIONS))
    slots = getattr(model, "slots", 1)
    assert futures.recon.shape == (2, 3, 5, 3, 16, 16)
    assert futures.masks.shape == (2, 3, 5, slots, 1, 16, 16)
    torch.testing.assert_close(futures.masks.sum(3), torch.ones(2, 3, 5, 1, 16, 16))
    torch.testing.assert_close((futures.masks * futures.components).sum(3), futures.recon)
    own = torch.rand(2, 3, 5, ACTIONS)
    assert model.predict(clips(), steps=5, samples=3, actions=own).recon.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_a_future_depends_on_its_own_actions_only(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name](**({"action_noise": 0.0} if name in ("sswm", "vrnn") else {})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # initial weights hardly let actions through
        state = model.observe(clips())
        actions = torch.rand(2, 2, 3, ACTIONS)
        other = actions.clone()
        other[:, 1, 1] += 1
        futures = []
        for told in (actions, other):
            torch.manual_seed(1)
            states = model.imagine(state, steps=3, samples=2, actions=told)
            futures.append(model.draw(states).recon)
    differ = (futures[0] - futures[1]).abs().flatten(3).amax((0, 3))  # (S, T)
    assert max(differ[0].max(), differ[1, 0]) < 1e-6, "other actions changed this future, or its past"
    assert differ[1, 1] > 1e-5, "the action did nothing"


@pytest.mark.parametrize("name", MODELS)
def test_losses_are_finite_and_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().train()
    model(clips())
    output = model(clips())
    total = model.loss(clips(), output, 0).total
    total.backward()
    assert total.isfinite()
    idle = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    allowed = (
        {"image.embed.gate", "image.embed.conv.weight", "image.embed.conv.bias"} if name == "framed_slots" else set()
    )
    assert idle <= allowed, sorted(idle)


@pytest.mark.parametrize("name", ["sswm", "op3"])
def test_iterative_inference_works_where_gradients_are_forbidden(name: str) -> None:
    model, scene = MODELS[name]().eval(), clips()
    found = []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        torch.manual_seed(3)
        with mode():
            found.append(model(scene).recon.detach().clone())
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_context_is_seen_and_the_rest_imagined_in_training() -> None:
    model, scene = sswm(context=2), clips()
    assert model.train()(scene).imagined[0].tolist() == [0, 0, 1, 1]
    assert model.eval()(scene).imagined[0].tolist() == [0, 0, 0, 0]
    star = vrnn(open_loop=True, context=1).train()
    assert star(scene).imagined[0].tolist() == [0, 1, 1, 1]
    assert star(scene).kl[:, 1:].eq(0).all()


def test_op3_imagines_the_frames_that_its_moves_do_not_reach_without_blame() -> None:
    torch.manual_seed(0)
    model, scene = op3(horizon=1).train(), clips(frames=5)
    output = model(scene)
    assert output.recon.shape[1] == 5
    assert output.reached[0].tolist() == [1, 1, 0, 0, 0]
    torch.testing.assert_close((output.masks * output.components).sum(2), output.recon)
    losses = model.loss(scene, output, 0)
    other = Scene(image=scene.image.clone(), actions=scene.actions)
    other.image[:, 2:] = 0
    torch.testing.assert_close(model.loss(other, output, 0).terms["mse"], losses.terms["mse"])
    blamed = torch.autograd.grad(output.recon[:, 2:].sum(), list(model.decoder.parameters()), retain_graph=True)
    assert not any(gradient.any() for gradient in blamed)
    losses.total.backward()
    assert model.eval()(scene).reached.eq(1).all()


def test_op3_without_dynamics_draws_the_next_frame_from_one_seen_and_an_action() -> None:
    torch.manual_seed(0)
    model, scene = op3(schedule="next_step"), clips(frames=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # initial weights hardly let anything through
    check_model(model, scene)
    assert model.moves(4) == [NEXT] * 3

    def seen(other: Scene) -> Tensor:
        torch.manual_seed(1)
        with torch.no_grad():
            return model.eval()(other).recon

    plain = seen(scene)
    assert plain.shape == (2, 4, 3, 16, 16)
    for changed in (Scene(image=scene.image.clone(), actions=scene.actions),
                    Scene(image=scene.image, actions=scene.actions.clone())):  # fmt: skip
        (changed.image if changed.actions is scene.actions else changed.actions)[:, 1] += 0.5
        differ = (seen(changed) - plain).abs().amax((0, 2, 3, 4))
        assert differ[:2].max() < 1e-6, "frame 1 is drawn before it is seen"
        assert differ[2] > 1e-6
    with pytest.raises(ValueError, match="cannot imagine further"):
        model.predict(scene, steps=2, actions=torch.rand(2, 2, ACTIONS))
    with pytest.raises(ValueError, match="two frames"):
        model(clips(frames=1))
    with pytest.raises(ValueError, match="'refine' and 'advance'"):
        op3().unroll(scene, [REFINE, NEXT])


def test_op3_refines_and_advances_in_turn() -> None:
    model = op3(schedule="rprp", refinements=2, refinements_per_frame=1).train()
    assert model(clips(frames=3)).move_nll.shape == (2, 6)
    assert model.moves(3) == [REFINE, REFINE, ADVANCE, REFINE, ADVANCE, REFINE]


def test_the_best_of_many_is_the_best() -> None:
    torch.manual_seed(0)
    model, scene = sswm(action_noise=0.0, rollouts=1), clips()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    seeds = {}
    for many in (1, 8):
        model.rollouts = many
        errors = []
        for seed in range(12):
            torch.manual_seed(seed)
            with torch.no_grad():
                errors.append(model.train()(scene).nll[:, 2:].sum(1))
        seeds[many] = torch.stack(errors).mean(0)
    assert (seeds[8] < seeds[1]).all()


@pytest.mark.parametrize(("pairs", "equivariant"), [("directed", True), ("released", False)])
def test_slots_may_be_renumbered_unless_pairs_are_as_released(pairs: str, equivariant: bool) -> None:
    torch.manual_seed(0)
    network = Interaction(slot_size=4, pairs=pairs, action_size=2)  # type: ignore[arg-type]
    slots, memory, action = torch.randn(2, 5, 4), torch.randn(2, 5, 8), torch.randn(2, 2)
    order = torch.tensor([3, 1, 4, 0, 2])
    plain, mixed = network(slots, memory, action), network(slots[:, order], memory[:, order], action)
    distance = max(float((a[:, order] - b).abs().max()) for a, b in zip(plain, mixed, strict=True))
    assert (distance < 1e-5) == equivariant


def test_a_vector_tiled_once_is_a_vector_tiled_everywhere() -> None:
    for padding in (0, 1, 2):
        decoder = TiledDecoder(inputs=3, image_size=(8, 12), channels=[5, 5], padding=padding, outputs=2)
        vectors, grid = torch.randn(4, 3), decoder.get_buffer("grid")
        tiled = vectors[:, :, None, None].expand(-1, -1, *grid.shape[1:])
        x = torch.cat([tiled, grid.expand(4, -1, -1, -1)], 1)
        for layer in decoder.layers:
            x = torch.nn.functional.elu(layer(x))
        torch.testing.assert_close(decoder(vectors), decoder.last(x))
        assert decoder(vectors).shape == (4, 2, 8, 12)


def test_geco_weighs_the_error_and_averages_the_future() -> None:
    torch.manual_seed(0)
    model, scene = sswm(), clips()
    output = model.train()(scene)
    free = model.loss(scene, output, 0).total
    seen = (output.evaluation_weight * (output.evaluation_nll + output.evaluation_kl.sum(2))).sum(1).mean()
    torch.testing.assert_close(free, seen + output.nll[:, 2:].sum(1).mean())
    model.reconstruction_weight = torch.tensor(2.0)
    seen = (output.evaluation_weight * (2 * output.evaluation_nll + output.evaluation_kl.sum(2))).sum(1).mean()
    torch.testing.assert_close(model.loss(scene, output, 0).total, seen + 2 * output.nll[:, 2:].mean(1).mean())


def test_framed_slots_score_the_futures_of_every_frame_that_has_two_others() -> None:
    model = framed().train()
    assert [model(clips(frames=n)).score.shape for n in (1, 2, 3, 5)] == [(2, 0), (2, 0), (2, 1), (2, 3)]


def test_the_energy_score_is_least_for_the_true_spread() -> None:
    """Futures whose steps are spread as the truth's score less than narrower or wider ones."""
    torch.manual_seed(0)
    model = framed(slots=1, rollouts=16, action_size=0)
    true = torch.zeros(400, 3, 1, 2)
    true[:, 2] = 0.5 * torch.randn(400, 1, 2)
    zeros = torch.zeros(400, 3, 1, 8)
    from objectscape.models.framed_slots import FramedState

    states = FramedState(content=zeros, place=true, velocity=torch.zeros_like(true), memory=zeros, size=zeros[..., :1])
    scores = {}
    for spread in (0.1, 0.5, 1.5):
        model._advance = lambda state, action, spread=spread: FramedState(  # type: ignore[method-assign]
            content=state.content, place=spread * torch.randn_like(state.place), velocity=state.velocity,
            memory=state.memory, size=state.size,
        )  # fmt: skip
        scores[spread] = float(model._score(states, None, torch.ones(400, 3, 1, dtype=torch.bool)).mean())
    assert scores[0.5] < scores[0.1]
    assert scores[0.5] < scores[1.5]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (Scene(image=torch.rand(2, 3, 16, 16)), "time axis"),
        (Scene(image=torch.rand(2, 3, 3, 20, 16)), "20 x 16"),
        (Scene(image=torch.rand(2, 3, 3, 16, 16)), "needs actions of width 3"),
        (Scene(image=torch.rand(2, 3, 3, 16, 16), actions=torch.rand(2, 3, 5)), "action_size"),
    ],
)
def test_clips_that_do_not_fit_are_refused_with_a_sentence(name: str, scene: Scene, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS[name]()(scene)


def test_more_futures_than_actions_and_clips_too_short_are_refused() -> None:
    model = sswm().eval()
    with pytest.raises(ValueError, match=r"\(B, 3, T, 3\)"):
        model.predict(clips(), steps=2, samples=3, actions=torch.rand(2, 4, 2, ACTIONS))
    with pytest.raises(ValueError, match="2 actions where 5"):
        model.predict(clips(), steps=5, actions=torch.rand(2, 2, ACTIONS))
    with pytest.raises(ValueError, match=r"clip\.length"):
        op3().unroll(clips(frames=2), [REFINE, ADVANCE, ADVANCE])


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (sswm, {"objective": "best_of_man"}, "did you mean 'best_of_many'"),
        (sswm, {"image_size": 18}, "multiples of 4"),
        (sswm, {"evaluations": []}, "evaluations"),
        (vrnn, {"encoder_channels": (4, 4)}, "expected 5"),
        (op3, {"slots": 0}, "slots=0"),
        (op3, {"schedule": "next"}, "did you mean 'next_step'"),
        (framed, {"image_size": 18}, "multiple of patch"),
        (framed, {"content_rate": 0.0}, "content_rate"),
    ],
)
def test_options_out_of_range_are_refused(build: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)  # type: ignore[operator]


def released_op3() -> dict[str, Tensor]:
    """A state dict with the released names, for K = 2 slots and no actions."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    found = {"inital_deter_state": draw(4), "initial_lambdas1": draw(4), "initial_lambdas2": draw(4)}

    def layer(name: str, *shape: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = draw(*shape), draw(shape[0])

    for i, (before, after) in enumerate([(17, 4), (4, 4), (4, 6)]):
        layer(f"refinement_net.conv_layers.{i}", after, before, 5, 5)
    layer("refinement_net.fc_layers.0", 6, 6)
    found |= {"refinement_net.lstm.weight_ih_l0": draw(32, 26), "refinement_net.lstm.weight_hh_l0": draw(32, 8)}
    found |= {"refinement_net.lstm.bias_ih_l0": draw(32), "refinement_net.lstm.bias_hh_l0": draw(32)}
    layer("refinement_net.last_fc", 4, 8)
    layer("refinement_net.last_fc2", 4, 8)
    sizes = {
        "inertia_encoder": (8, 8, 8), "pairwise_encoder_network": (16, 16, 8), "interaction_effect_network": (8, 8, 3),
        "interaction_attention_network": (8, 8, 1), "final_merge_network": (11, 8, 8), "det_output": (8, 8, 4),
        "lambdas1_output": (8, 8, 4), "lambdas2_output": (8, 8, 4),
    }  # fmt: skip
    for name, (before, hidden, after) in sizes.items():
        layer(f"dynamics_net.{name}.fcs.0", hidden, before)
        layer(f"dynamics_net.{name}.last_fc", after, hidden)
    for i, (before, after) in enumerate([(10, 4), (4, 4), (4, 4), (4, 4), (4, 4)]):
        layer(f"decode_net.broadcast_net.conv_layers.{i}", after, before, 5, 5)
    for i, size in enumerate([1, 1, 1, 3]):
        found |= {f"layer_norms_2d.{i}.gamma": draw(size), f"layer_norms_2d.{i}.beta": draw(size)}
    for i in range(2):
        found |= {f"layer_norms_1d.{i}.scale_param": draw(4), f"layer_norms_1d.{i}.center_param": draw(4)}
    return {f"module.{name}": value for name, value in found.items()}


def test_released_op3_weights_are_read_without_executing_them(tmp_path: Path) -> None:
    file = tmp_path / "weights_params.pkl"
    torch.save(released_op3(), file)
    config, weights = op3_files.read(file)
    assert config["sto"] == config["det"] == 4
    assert config["action"] == 0
    with pytest.raises(ValueError, match="add K=4"):
        op3_files.build(config | {"image": 64})
    config |= {"K": 2}
    model = op3_files.build(config)
    model.load_state_dict(op3_files.convert(weights, config))
    assert model.slots == 2
    assert model.action_size == 0

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    bad = tmp_path / "trap.pkl"
    bad.write_bytes(pickle.dumps({"inital_deter_state": Trap()}))
    with pytest.raises(ValueError, match="not a plain file of tensors"):
        op3_files.read(bad)
    assert not (tmp_path / "sprung").exists()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"model": {"weight": torch.zeros(2)}}, file)
    with pytest.raises(ValueError, match="no SSWM"):
        sswm_files.read(file)
    with pytest.raises(ValueError, match="no OP3"):
        op3_files.read(file)
