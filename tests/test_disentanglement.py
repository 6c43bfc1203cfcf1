"""DCI, property probes, activeness: constructed cases whose answer is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from objectscape.data.loading import EvalLoader
from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.evaluation import traversals
from objectscape.evaluation.asking import evaluate
from objectscape.evaluation.disentanglement import match_slots
from objectscape.evaluation.questions.latents import LatentProperties
from objectscape.evaluation.traversals import Latents, activeness, infer_latents, traverse
from objectscape.metrics.activeness import active_dimensions, latent_ranges, traversal_limits, traversal_values
from objectscape.metrics.disentanglement import (
    completeness,
    completeness_per_factor,
    dci,
    disentanglement,
    disentanglement_per_code,
    split_scenes,
)
from objectscape.metrics.factors import Factor, fit_factors
from objectscape.metrics.probes import ObjectSlots, probe_properties
from objectscape.scene import Decomposition, Scene

N = 400


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def properties(n: int = N) -> dict[str, Tensor]:
    g = generator()
    return {
        "x": torch.rand(n, generator=g),
        "y": torch.rand(n, generator=g) * 30,
        "shape": torch.randint(1, 4, (n,), generator=g).float(),
    }


def as_code(factors: dict[str, Tensor], dims: int = 6, noise: float = 0.05) -> Tensor:
    """One dimension per factor, further ones of pure noise; every dimension with unit variance."""
    values = torch.stack(list(factors.values()), 1)
    values = (values - values.mean(0)) / values.std(0)
    values = values + noise * torch.randn(values.shape, generator=generator())
    return torch.cat([values, torch.randn(len(values), dims - values.shape[1], generator=generator())], 1)


# DCI


def test_a_disentangled_code_scores_one() -> None:
    result = dci(as_code(properties()), properties())
    assert result.disentanglement > 0.97
    assert result.completeness > 0.95
    assert result.informativeness > 0.95
    assert [f.kind for f in result.factors] == ["continuous", "continuous", "categorical"]
    assert result.importance.argmax(0).tolist() == [0, 1, 2]


def test_a_rotated_code_is_as_informative_but_not_disentangled() -> None:
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator()))[0]
    straight, rotated = (dci(code, properties()) for code in (as_code(properties()), as_code(properties()) @ rotation))
    assert rotated.disentanglement < 0.5 < straight.disentanglement
    assert rotated.completeness < 0.6 < straight.completeness
    assert rotated.informativeness > 0.5


def test_order_sign_and_scale_of_dimensions_do_not_matter() -> None:
    code = as_code(properties())
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    one, two = dci(code, properties()), dci(-100 * code[:, order], properties())
    assert two.importance.argmax(0).tolist() == [2, 4, 1]
    assert two.disentanglement == pytest.approx(one.disentanglement, abs=0.03)
    assert two.completeness == pytest.approx(one.completeness, abs=0.03)


def test_one_dimension_for_two_factors_and_two_for_one() -> None:
    factors = {"x": properties()["x"], "z": properties()["x"] * 2 + 1}  # always together
    both = dci(as_code({"x": factors["x"]}, dims=4), factors)
    assert both.disentanglement < 0.05  # the dimension tells about both alike
    assert both.completeness > 0.95
    g = generator()
    a, b, y = (torch.randn(N, generator=g) for _ in range(3))
    split = dci(torch.stack([a, b, y], 1), {"x": a + b, "y": y})
    assert split.disentanglement > 0.9  # each dimension tells about one factor
    assert (
        0.3 < float(completeness_per_factor(split.importance)[0]) < 0.5
    )  # half of it in two of three: 1 - log 2/log 3


def test_a_code_that_knows_nothing() -> None:
    result = dci(torch.randn(N, 6, generator=generator()), properties())
    assert result.informativeness < 0.1
    assert float(result.importance.sum()) < 0.2


def test_constant_factors_change_corrected_scores_nowhere_and_released_ones_upwards() -> None:
    few = {name: value[:120] for name, value in properties().items()}
    more = {**few, "visibility": torch.ones(120), "size": torch.full((120,), 2)}
    code = as_code(few, noise=0.5)
    plain, extended = dci(code, few), dci(code, more)
    assert extended[:3] == plain[:3]
    assert extended.constant == ("visibility", "size")
    plain, extended = (dci(code, factors, scoring="released") for factors in (few, more))
    assert extended.disentanglement > plain.disentanglement + 0.02
    assert extended.informativeness > plain.informativeness + 0.1


def test_released_informativeness_counts_nothing_for_continuous_factors() -> None:
    few = {name: value[:120] for name, value in properties().items()}
    code = as_code(few)
    released = dci(code, few, scoring="released")
    assert released.informativeness == pytest.approx(released.factors[2].score / 3)
    assert released.factors[0].score > 0.9  # R2, although no prediction is exactly right
    assert dci(code, few).informativeness > 0.85


def test_vector_and_angle_factors() -> None:
    g = generator()
    angle = torch.rand(N, generator=g) * 360
    color = torch.rand(N, 3, generator=g)
    turns = angle / 180 * math.pi
    code = torch.cat([turns.cos()[:, None], turns.sin()[:, None], color, torch.randn(N, 2, generator=g)], 1)
    result = dci(code, {"rotation": angle, "color": color})
    assert [f.kind for f in result.factors] == ["angle", "continuous"]
    assert all(f.score > 0.9 for f in result.factors)
    assert result.disentanglement > 0.97
    as_number = dci(code, {"rotation": angle, "color": color}, kinds={"rotation": "continuous"})
    assert as_number.factors[0].score < result.factors[0].score  # trees cannot join 0 and 360


def test_objects_of_one_scene_are_not_divided() -> None:
    scenes = torch.arange(30).repeat_interleave(4)
    first, second = split_scenes(scenes, seed=1)
    assert not set(scenes[first].tolist()) & set(scenes[second].tolist())
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(120))
    # a code that only names its scene, with a factor that is the same in a scene: useless in a scene never seen
    g = generator()
    names, kinds = torch.randn(30, 5, generator=g)[scenes], torch.randint(0, 3, (30,), generator=g)[scenes]
    fair, leaking = dci(names, {"shape": kinds}, scenes=scenes), dci(names, {"shape": kinds})
    assert fair.informativeness < 0.3 < 0.4 < leaking.informativeness


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scoring": "best"}, "scoring='best'; choose one of corrected, released"),
        ({"codes": torch.full((N, 3), torch.nan)}, "finite"),
        ({"codes": torch.randn(20, 3)}, "give one row per object"),
        ({"kinds": {"hue": "angle"}}, "kinds names hue, but the factors are x, y, shape"),
        ({"kinds": {"x": "round"}}, "choose one of categorical, continuous, angle"),
        ({"factors": {"x": torch.ones(N)}}, "no factor varies"),
        ({"factors": {"x": torch.full((N,), torch.inf)[: N - 1]}}, "give one row per object"),
        ({"scenes": torch.zeros(N, dtype=torch.long)}, "at least two"),
    ],
)
def test_bad_input_to_dci(changes: dict[str, object], message: str) -> None:
    arguments = {"codes": torch.randn(N, 3), "factors": properties(), **changes}
    with pytest.raises(ValueError, match=message):
        dci(**arguments)  # type: ignore[arg-type]


def test_too_few_objects() -> None:
    with pytest.raises(ValueError, match="10 objects are too few"):
        dci(torch.randn(10, 3), properties(10))


matrices = st.tuples(st.integers(2, 6), st.integers(2, 6), st.integers(0, 2**31)).map(
    lambda t: torch.rand(t[0], t[1], generator=torch.Generator().manual_seed(t[2]), dtype=torch.float64)
)


@settings(max_examples=50, deadline=None)
@given(matrices, st.randoms(use_true_random=False))
def test_scores_of_importances(importance: Tensor, random: object) -> None:
    for score in (disentanglement, completeness):
        value = float(score(importance))
        assert -1e-9 <= value <= 1 + 1e-9
        assert float(score(1000 * importance)) == pytest.approx(value, abs=1e-6)
        assert float(score(importance.flip(0).flip(1))) == pytest.approx(value, abs=1e-9)
    assert float(disentanglement(importance)) == pytest.approx(float(completeness(importance.T)), abs=1e-9)


def test_extreme_importances() -> None:
    assert disentanglement_per_code(torch.eye(4)).tolist() == pytest.approx([1] * 4)
    assert float(completeness(torch.eye(4))) == pytest.approx(1)
    assert float(disentanglement(torch.ones(4, 3))) == pytest.approx(0, abs=1e-6)
    assert float(disentanglement(torch.zeros(4, 3))) == pytest.approx(0, abs=1e-6)


# Factors


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["shape", "x", "rotation", "orientation"]),
    st.integers(2, 40),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_perfect_and_constant_predictions(name: str, n: int, width: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 5, (n, width), generator=g).float()
    values[0], values[1] = 0, 1  # not constant
    factor = Factor.fit(name, values)
    target = factor.encode(values)
    assert target.shape == (n, factor.width)
    assert factor.score(target, target) == pytest.approx(1)
    assert factor.skill(target, target) == pytest.approx(1)
    guess = target.mean(0).expand(n, -1)
    assert factor.score(guess, target) == pytest.approx(factor.chance(target), abs=1e-6)
    assert factor.skill(guess, target) == pytest.approx(0, abs=1e-6)


def test_kinds_are_found() -> None:
    names = {
        "shape": (torch.tensor([1.0, 2.0, 3.0]), "categorical"),
        "color": (torch.eye(3), "categorical"),  # a palette
        "x": (torch.tensor([1.0, 2.0, 3.0]), "continuous"),
        "codes": (torch.tensor([1, 2, 2]), "categorical"),
        "row": (torch.arange(50), "continuous"),  # whole numbers, but too many to be kinds
        "rotation": (torch.tensor([0.0, 90.0, 10.0]), "angle"),
    }
    assert {name: Factor.fit(name, values).kind for name, (values, _) in names.items()} == {
        name: kind for name, (_, kind) in names.items()
    }
    assert Factor.fit("color", torch.rand(50, 3)).kind == "continuous"
    assert Factor.fit("x", names["x"][0], "categorical").kind == "categorical"
    assert fit_factors({"visibility": torch.ones(5), "x": torch.arange(5.0)})[1] == ["visibility"]


def test_angles_wrap_around() -> None:
    factor = Factor.fit("rotation", torch.rand(100, generator=generator()) * 360)
    near = factor.encode(torch.tensor([0.5, 359.5]))
    assert float((near[0] - near[1]).norm()) < 0.05


# Probes


def slots_of(read: Tensor, factors: dict[str, Tensor], scenes: int = 100) -> ObjectSlots:
    """Three objects per scene in slots of random order, and a slot of noise."""
    count = len(read) // scenes
    order = torch.stack([torch.randperm(count + 1, generator=generator())[:count] for _ in range(scenes)])
    slots = torch.randn(scenes, count + 1, read.shape[1], generator=generator())
    slots.scatter_(1, order[..., None].expand(-1, -1, read.shape[1]), read.unflatten(0, (scenes, count)))
    return ObjectSlots(
        slots=slots,
        factors={name: value.unflatten(0, (scenes, count)) for name, value in factors.items()},
        objects=torch.ones(scenes, count, dtype=torch.bool),
        matches=order,
    )


def test_a_linear_probe_reads_what_is_laid_out_plainly() -> None:
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator()))[0]
    factors = properties(300)
    factors["shape"] = (factors["shape"] > 2).float()  # of three on a line, a linear probe cannot read the middle
    data = slots_of(as_code(factors) @ rotation, factors)
    for matching in ("mask", "loss"):
        answers = {a.name: a for a in probe_properties(data, matching=matching)}
        assert all(a.score > 0.9 for a in answers.values()), (matching, answers)
        assert answers["shape"].kind == "categorical"
        assert 0.5 < answers["shape"].chance < 0.8


def test_a_larger_probe_reads_what_is_tangled() -> None:
    g = generator()
    sign, size = torch.randn(1200, 2, generator=g).sign(), torch.rand(1200, 2, generator=g) + 0.5
    factors = {"shape": (sign[:, 0] * sign[:, 1] > 0).float()}
    data = slots_of(sign * size, factors, scenes=400)
    linear, mlp = (probe_properties(data, hidden=hidden)[0] for hidden in (0, 64))
    assert linear.score < 0.65
    assert mlp.score > 0.9
    assert mlp.informativeness > 0.8


def test_probes_say_what_is_wrong() -> None:
    data = slots_of(as_code(properties()), properties())
    with pytest.raises(ValueError, match="matching='best'"):
        probe_properties(data, matching="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hidden=-1"):
        probe_properties(data, hidden=-1)
    with pytest.raises(ValueError, match="0 objects are too few"):
        probe_properties(data._replace(matches=torch.full_like(data.matches, -1)))
    with pytest.raises(ValueError, match="diverged"):
        probe_properties(data._replace(slots=data.slots * torch.nan))


# Activeness and traversals


class Painter(nn.Module):
    """Slots with a place (0), a weight of their mask (1), a brightness (2), and dimensions that do nothing."""

    def __init__(self, *, breaking: bool = False) -> None:
        super().__init__()
        self.breaking = breaking
        self.calls = 0

    def decode(self, slots: Tensor) -> Decomposition:
        self.calls += slots.shape[0] * slots.shape[1]
        columns = torch.linspace(-2, 2, 8)
        logits = slots[..., 1, None] - (columns - slots[..., 0, None]) ** 2  # (B, K, 8)
        if self.breaking:
            taken = logits.sigmoid()
            left = torch.cat([torch.ones_like(taken[:, :1]), (1 - taken).cumprod(1)[:, :-1]], 1)
            masks = taken * left
        else:
            masks = logits.softmax(1)
        masks = masks[:, :, None, None].expand(-1, -1, 1, 8, -1)
        components = slots[..., 2, None, None, None].sigmoid().expand(-1, -1, 3, 8, 8)
        recon = (masks * components).sum(1)
        return Decomposition(recon=recon, masks=masks, components=components, slots=slots)


def latents(n: int = 3, slots: int = 4, dims: int = 6) -> Latents:
    return Latents(torch.randn(n, slots, dims, generator=generator()), torch.ones(n, slots))


def test_only_dimensions_that_change_the_picture_are_active() -> None:
    active = activeness(Painter(), latents())
    assert active.shape == (3, 6)
    assert bool((active[:, :3] > 1e-6).all())
    assert float(active[:, 3:].max()) == pytest.approx(0, abs=1e-12)
    assert 1 < float(active_dimensions(active.mean(0))) < 3 + 1e-6


@pytest.mark.parametrize("breaking", [False, True])
def test_activeness_is_the_variance_of_the_redrawn_scenes(breaking: bool) -> None:
    model, given, slot_ids = Painter(breaking=breaking), latents(), torch.tensor([1, 3, 0])
    found = activeness(model, given, slot_ids=slot_ids, steps=5)
    calls = model.calls
    ranges = latent_ranges(given.slots)
    for i, d in itertools.product(range(3), range(6)):
        images = []
        for value in torch.linspace(*ranges[d].tolist(), 5):
            slots = given.slots[i].clone()
            slots[slot_ids[i], d] = value
            images.append(model.decode(slots[None]).recon[0])
        assert float(found[i, d]) == pytest.approx(float(torch.stack(images).var(0).mean()), rel=1e-4, abs=1e-9)
    if not breaking:
        assert calls < 3 * 6 * 5 * 4 / 2  # only the moved slot is drawn again, not all four


def test_weights_that_drown_the_rest_are_drawn_in_full() -> None:
    given = latents()
    given.slots[:, :, 1] *= 200  # exp(200) is no float32
    model = Painter()
    fast = activeness(model, given, seed=2)
    assert bool(fast.isfinite().all())
    rows = activeness(Painter(), given, seed=2, batch_size=3)
    torch.testing.assert_close(fast, rows)


def test_unused_slots_are_not_moved() -> None:
    given = latents(n=40)
    given.present[:, [0, 2]] = 0
    slot_ids: list[int] = []
    spied = traversals._moved
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traversals, "_moved", lambda s, v, slot, d: (slot_ids.append(slot), spied(s, v, slot, d))[1])
        activeness(Painter(), given)
    assert set(slot_ids) == {1, 3}


def test_traversal_limits() -> None:
    ranges = torch.tensor([[-2.0, 2.0], [1.0, 5.0], [3.0, 3.0]])
    assert traversal_limits(ranges).tolist() == ranges.tolist()
    corrected = traversal_limits(ranges, rule="corrected")
    half = math.sqrt(2)
    torch.testing.assert_close(corrected, torch.tensor([[-half, half], [3 - half, 3 + half], [3.0, 3.0]]))
    released = traversal_limits(ranges, rule="released")
    expected = [[2 - 2.0, 2.0], [2 - 1.0, 2 + math.sqrt(3)], [-math.sqrt(3), math.sqrt(3)]]
    torch.testing.assert_close(released, torch.tensor(expected))
    with pytest.raises(ValueError, match="rule is 'wide'"):
        traversal_limits(ranges, rule="wide")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="smallest then largest"):
        traversal_limits(ranges.flip(1))
    with pytest.raises(ValueError, match="at least 2"):
        traversal_values(ranges, 1)
    assert traversal_values(ranges, 3)[0].tolist() == [-2, 0, 2]


def test_ranges_refuse_what_has_none() -> None:
    assert latent_ranges(torch.tensor([[[1.0, 5.0]], [[3.0, -5.0]]])).tolist() == [[1, 3], [-5, 5]]
    with pytest.raises(ValueError, match="at least one slot"):
        latent_ranges(torch.empty(0, 4, 3))
    with pytest.raises(ValueError, match="diverged"):
        latent_ranges(torch.tensor([[torch.nan]]))


def test_traverse_moves_one_dimension_of_one_slot() -> None:
    slots = latents().slots[0]
    values = traversal_values(torch.tensor([[-1.0, 1.0]]).expand(6, 2), 4)
    result = traverse(Painter(), slots, values, slot=2, dims=[5, 0], batch_size=3)
    assert result.recon.shape == (8, 3, 8, 8)
    moved = result.slots.unflatten(0, (2, 4))
    assert moved[0, :, 2, 5].tolist() == values[5].tolist()
    assert moved[1, :, 2, 0].tolist() == values[0].tolist()
    unchanged = torch.ones(4, 6, dtype=torch.bool)
    unchanged[2, [0, 5]] = False
    assert bool((moved - slots)[:, :, unchanged].eq(0).all())
    assert float(result.recon[:4].var(0).max()) == 0
    assert float(result.recon[4:].var(0).max()) > 0
    with pytest.raises(ValueError, match="slot=4"):
        traverse(Painter(), slots, values, slot=4)
    with pytest.raises(ValueError, match=r"dims=\[6\]"):
        traverse(Painter(), slots, values, slot=0, dims=[6])
    with pytest.raises(ValueError, match="a row per dimension"):
        traverse(Painter(), slots, values[:3], slot=0)
    with pytest.raises(ValueError, match="it has no decode"):
        traverse(nn.Identity(), slots, values, slot=0)


# The whole way from a model and a data set


class Oracle(Painter):
    """Knows the true masks and, in its slots, the factors; the slots of every scene are in another order."""

    slots = 6

    def __init__(self, *, seed: int = 0, wrong: float = 0.0) -> None:
        super().__init__()
        self.seed, self.wrong = seed, wrong

    def forward(self, scene: Scene) -> Decomposition:
        assert scene.segments is not None
        assert scene.factors is not None
        masks = nn.functional.one_hot(scene.segments.long(), self.slots).movedim(-1, -3).unsqueeze(-3).float()
        x, y, shape = (scene.factors[name].float() for name in ("x", "y", "shape"))
        slots = torch.stack([x / 16 - 1, y / 16 - 1, shape - 2, torch.randn(x.shape, generator=generator())], -1)
        lead = slots.shape[:-2]
        blank = torch.zeros(*lead, 1, 4)
        slots = torch.cat([blank, slots, blank.expand(*lead, self.slots - 1 - slots.shape[-2], 4)], -2)
        order = torch.randperm(self.slots, generator=torch.Generator().manual_seed(self.seed))
        masks, slots = masks[..., order, :, :, :], slots[..., order, :]
        components = scene.pixels.unsqueeze(-4).expand(*masks.shape[:-3], 3, *masks.shape[-2:])
        return Decomposition(recon=scene.pixels, masks=masks, components=components, slots=slots)


def shapes(images: int = 60) -> EvalLoader:
    return EvalLoader(ColoredShapes(split="test", count=images), batch_size=25)


def test_everything_about_an_oracle() -> None:
    result = evaluate(Oracle(), shapes(), ask=[LatentProperties(active_images=5)]).answers["latents"]
    scores = {name: score.mean for name, score in result.scores.items()}
    assert scores["matched_objects"] == 1
    assert scores["dci_disentanglement"] > 0.9
    assert scores["probe_linear_x"] > 0.95
    assert scores["probe_mlp_y"] > 0.9
    assert result.details["dci"]["constant"] == ["visibility"]
    assert result.details["dci"]["factors"]["color"]["kind"] == "categorical"
    assert len(result.details["activeness"]) == 4
    assert scores["active_dimensions"] <= 3 + 1e-6
    assert result.scores["activeness"].n == 5


def test_the_order_of_slots_does_not_matter() -> None:
    one, two = (match_slots(Oracle(seed=seed), shapes()) for seed in (1, 2))
    assert one is not None
    assert two is not None
    assert not torch.equal(one.matches, two.matches)
    for a, b in zip(one.matched(), two.matched(), strict=True):
        if isinstance(a, Tensor):
            assert torch.equal(a, b)
        else:
            assert all(torch.equal(a[name], b[name]) for name in a)


def test_small_and_hidden_objects_do_not_count() -> None:
    everything = match_slots(Oracle(), shapes(), min_pixels=1)
    large = match_slots(Oracle(), shapes(), min_pixels=60)
    assert everything is not None
    assert large is not None
    batch = ColoredShapes(split="test", count=60).batch(range(60))
    assert batch.present is not None
    assert torch.equal(everything.objects, batch.present)
    assert 0 < int(large.objects.sum()) < int(everything.objects.sum())
    assert bool(((large.matches >= 0) == large.objects).all())


def test_frames_of_a_clip_are_scenes_of_their_own() -> None:
    batch = ColoredShapes(split="test", count=60).batch(range(60))
    clips = batch.map(lambda t: t.unflatten(0, (20, 3)))
    one, two = match_slots(Oracle(), [batch]), match_slots(Oracle(), [clips])
    assert one is not None
    assert two is not None
    assert torch.equal(one.matched()[0], two.matched()[0])


def test_what_cannot_be_asked_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Mute(Oracle):
        decode = None  # type: ignore[assignment]

    without = [replace(batch, factors=None) for batch in shapes()]
    assert match_slots(Oracle(), without) is None
    few = evaluate(Mute(), shapes(5), ask=[LatentProperties()])
    assert list(few.scores) == ["matched_objects"]
    assert "too few" in caplog.text


def test_latents_of_the_first_scenes() -> None:
    found = infer_latents(Oracle(), shapes(), images=30)
    assert found.slots.shape == (30, 6, 4)
    assert found.present.shape == (30, 6)
    with pytest.raises(ValueError, match="no scenes"):
        infer_latents(Oracle(), [], images=3)
