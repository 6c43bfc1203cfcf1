"""The global workspace and its domains: losses, pairs, freezing, and the commands from data to translation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from objectscape.cli import main
from objectscape.data.matched import MatchedOrder, reveal
from objectscape.data.synthetic.simple_shapes import SimpleShapes
from objectscape.evaluation.questions.translate import Translate
from objectscape.metrics.attribute_probe import AttributeProbe, live_dimensions, unexplained
from objectscape.metrics.attributes import attribute_errors
from objectscape.models.domains.attributes import Attributes, AttributeVAE
from objectscape.models.domains.latents import SavedLatents
from objectscape.models.domains.visual_vae import VisualVAE
from objectscape.models.global_workspace import GlobalWorkspace
from objectscape.nn.attribute_vectors import to_rows, to_vector
from objectscape.scene import Multimodal


def batch_of(rows: int, *, present: dict[str, torch.Tensor] | None = None) -> Multimodal:
    domains = {"a": torch.randn(rows, 5), "b": torch.randn(rows, 7)}
    return Multimodal(domains=domains, present=present or dict.fromkeys(domains, torch.ones(rows, dtype=torch.bool)))


def workspace(**options: Any) -> GlobalWorkspace:
    domains = {"a": SavedLatents(domain="a", latent_size=5), "b": SavedLatents(domain="b", latent_size=7)}
    return GlobalWorkspace(domains=domains, state_size=4, hidden_size=8, **options)


def test_attribute_rows_come_back() -> None:
    batch: Any = SimpleShapes(count=50, domains=["attr"]).batch(range(50))
    rows = batch.domains["attr"]
    for scale in ("image", "ranges"):
        torch.testing.assert_close(to_rows(to_vector(rows, scale=scale), scale=scale), rows, atol=1e-3, rtol=1e-4)


def test_a_row_that_a_domain_lacks_changes_no_loss() -> None:
    model, batch = workspace(), batch_of(6)
    batch.present["a"] = torch.tensor([True, True, True, False, False, True])
    before = model.loss(batch, model(batch), 0)
    batch.domains["a"][3:5] = 100.0
    after = model.loss(batch, model(batch), 0)
    torch.testing.assert_close(before.total, after.total)


def test_rows_without_pairs_train_cycles_only() -> None:
    model = workspace()
    one = torch.tensor([True, True, False, False])
    batch = batch_of(4, present={"a": one, "b": ~one})
    terms = model.terms(model(batch))
    assert not terms["translation"]
    assert not terms["contrastive"]
    assert set(terms["cycle"]) == {"a>b>a", "b>a>b"}
    staged = workspace(cycles_from=10).train()
    staged.set_step(3)
    assert staged.terms(staged(batch))["cycle"]  # there is nothing else to learn from
    assert not staged.terms(staged(batch_of(4)))["cycle"]
    supervised = workspace(weights={"demi_cycle": 0.0, "cycle": 0.0})
    with pytest.raises(ValueError, match="no loss has a weight and rows"):
        supervised.loss(batch, supervised(batch), 3)


def test_frozen_domains_stay_in_eval_mode() -> None:
    vae = VisualVAE(network="patches", width=8, latent_size=4)
    model = GlobalWorkspace(domains={"v": vae, "attr": Attributes()}, state_size=4, hidden_size=8)
    images: Any = SimpleShapes(count=4).batch(range(4))
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    model.train()
    output = model(images)
    model.loss(images, output, 0).total.backward()
    assert not vae.training
    assert all(parameter.grad is None for parameter in vae.parameters())
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


@pytest.mark.parametrize("pairs", [0, 1, 5, 40])
def test_no_pair_comes_twice_in_a_batch(pairs: int) -> None:
    order = iter(MatchedOrder(100, pairs=pairs, domains=2, part=0.75, batch_size=16, seed=0))
    again = iter(MatchedOrder(100, pairs=pairs, domains=2, part=0.75, batch_size=16, seed=0, start=3))
    batches = [next(order) for _ in range(4)]
    assert next(again) == batches[3]
    seen = set()
    for items in batches:
        matched = [item for item in items if item < 100]
        assert len(items) == 16
        assert len(set(matched)) == len(matched) == min(12, pairs)
        seen |= set(matched)
    assert len(seen) <= pairs


def test_rows_show_what_their_number_says() -> None:
    batch = reveal(batch_of(10), [3, 10 + 4, 20 + 5], 10)
    assert batch.present["a"].tolist() == [True, True, False]
    assert batch.present["b"].tolist() == [True, False, True]
    assert not batch.domains["a"][2].any()


def test_perfect_translation_beats_shuffled_pairs() -> None:
    torch.manual_seed(0)
    model = workspace(weights={"translation": 1.0, "contrastive": 0.1, "demi_cycle": 0.5, "cycle": 0.5})
    a = torch.randn(256, 5)
    b = torch.cat([a, a[:, :2]], 1)
    everyone = dict.fromkeys("ab", torch.ones(256, dtype=torch.bool))
    batch = Multimodal(domains={"a": a, "b": b}, present=everyone)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(150):
        loss = model.loss(batch, model(batch), step).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = model.decode(model.encode(batch, "a"), "b")
    assert (found - b).square().mean() < 0.5 * (found[torch.randperm(256)] - b).square().mean()


def test_numbers_that_only_attributes_tell() -> None:
    batch: Any = SimpleShapes(count=400, domains=["attr"], unpaired=True).batch(range(400))
    rows = batch.domains["attr"]
    assert rows.shape == (400, 9)
    domain = AttributeVAE(unpaired=1)
    assert torch.equal(domain.decode(domain.encode(rows))[:, 8], rows[:, 8])
    question = Translate(probe_rows=0)
    guess = torch.cat([rows[:, :8], torch.full((400, 1), 0.5)], 1)
    question.update(batch, {"decoded": {"attr>attr": rows, "v>attr": guess}, "states": {}, "terms": {}})
    scores = question.compute(workspace()).scores
    assert scores["attr_to_attr_unpaired"].mean == 0
    assert scores["v_to_attr_unpaired"].mean == pytest.approx(0.25, abs=0.02)


def test_selection_trusts_the_domain_without_noise() -> None:
    torch.manual_seed(0)
    weights = {"fused": 1.0, "contrastive": 0.1, "demi_cycle": 0.0, "cycle": 0.0}
    model = workspace(selection="precision", weights=weights, corruption=3.0).train()
    a = torch.randn(1000, 5)
    latents = {"a": a, "b": a @ torch.randn(5, 7) / 2}
    here = torch.ones(128, dtype=torch.bool)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(200):
        some = torch.randint(1000, (128,))
        batch = Multimodal(domains={n: u[some] for n, u in latents.items()}, present={"a": here, "b": here})
        loss = model.loss(batch, model(batch), step).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    for bad, good in (("a", "b"), ("b", "a")):
        given = latents | {bad: latents[bad] + 4 * latents[bad].std(0) * torch.randn_like(latents[bad])}
        encodings = {name: model.encoders[name](u) for name, u in given.items()}
        assert model.selection(given, encodings)[good].mean() > 0.8
        error = (model.decode_latent(model.fused(given, encodings), good) - latents[good]).square().mean()
        alone = (model.decode_latent(encodings[good].tanh(), good) - latents[good]).square().mean()
        assert error < 2 * alone


def test_from_data_to_translation(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["data.count=40", "trainer.max_steps=2", "batch_size=8", "every.log=1"]
    assert main(["train", "recipe=workspace/visual_vae", *data, "model.width=16", "run_dir=v"]) == 0
    assert main(["train", "recipe=workspace/text", *data, "model.width=8", "run_dir=t"]) == 0
    words = ["data=simple_shapes", "data.count=40", "data.domains=[v,attr,t]", "out=v.h5"]
    assert main(["latents", "v", *words]) == 0
    assert main(["latents", "t", "data=latents", "data.path=v.h5", "out=vt.h5"]) == 0
    train = ["train", "recipe=workspace/v_attr_t", "data.path=vt.h5", "data.matched=5", "batch_size=16"]
    train += ["trainer.max_steps=4", "model.cycles_from=2", "model.hidden_size=16", "every.log=1", "every.validate=2"]
    assert main([*train, "model.domains.v=v", "model.domains.t=t", "run_dir=w"]) == 0
    assert "val/v_to_attr_class" in Path("w/metrics.csv").read_text()
    asked = ["--split", "val", "ask.translate.probe_steps=5", "ask.translate.probe_rows=40"]
    assert main(["evaluate", "w", *asked]) == 0
    answers = next(Path("w/evaluation").glob("*.json")).read_text()
    for score in (
        *("v_to_attr_class", "t_to_v_mse", "v+t_to_attr_position", "t_to_v_r10", "t_to_v_probe_class"),
        *("v_to_attr_ratio_color", "attr_to_v_ratio_mse", "attr_to_v_r2", "v+t_to_attr_noisy_v_position"),
    ):
        assert f'"{score}"' in answers
    assert main(["show", "w", "--split", "val", "-n", "4", "--out", "grid.png"]) == 0
    assert Image.open("grid.png").size == (4 * 32 * 4, (1 + 3 + 2) * 32 * 4)  # truth, from each of three, two back
    assert main(["show", "w", "--split", "val", "-n", "8", "--objects", "--out", "map.png"]) == 0
    assert Path("map.png").is_file()
    assert main(["show", "w", "--split", "val", "--boxes"]) == 1
    assert main(["show", "w", "--split", "val", "--weights", "--out", "weights.png"]) == 0
    assert Path("weights.png").is_file()
    held_out = ["data=simple_shapes", "data.domains=[v,attr,t]", "data.count=20", "data.hole={size:[7,9]}"]
    outside = [*held_out, "data.in_hole=true", "ask.translate.probe_rows=0", "--tag", "hole"]
    assert main(["evaluate", "w", *outside]) == 0
    for run, scores in (("v", ("mse", "probe_color")), ("t", ("told_class", "told_word_cell", "probe_size"))):
        assert main(["evaluate", run, "--images", "20", "ask.embed.steps=5", "ask.embed.rows=40"]) == 0
        answers = next(Path(f"{run}/evaluation").glob("*.json")).read_text()
        assert all(f'"{score}"' in answers for score in scores)
    assert main(["show", "v"]) == 0
    assert Path("v/figures/reconstruction.png").is_file()
    assert main(["show", "t"]) == 1
    capsys.readouterr()
    for source, what, to in (
        ("text", "a small red egg at the top left", "picture.png"),
        ("image", "picture.png", "text"),
        ("attributes", "egg x=10 size=9", "attributes"),
    ):
        assert main(["translate", "w", "--from", source, what, "--to", to]) in (0, 1)
    assert main(["translate", "w", "--from", "text", "a red egg", "--to", "text"]) == 0
    assert main(["translate", "w", "--from", "text", "a smal egg", "--to", "text"]) == 1
    assert "Did you mean 'small'" in capsys.readouterr().err
    assert main(["train", "recipe=workspace/visual_vae", *data, "model.width=16", "run_dir=v2", "seed=1"]) == 0
    assert main([*train, "model.domains.v=v2", "model.domains.t=t", "run_dir=w2"]) == 1
    assert "come from another model" in capsys.readouterr().err
    assert main([*train, "model.domains.v=v", "model.domains.t=t", "data.matched=99", "run_dir=w3"]) == 1
    assert "has 40 rows" in capsys.readouterr().err


def test_probe_reads_what_is_there_and_leaves_dead_dimensions_out() -> None:
    rows: Any = SimpleShapes(count=1500, domains=["attr"]).batch(range(1500)).domains["attr"]
    vector = to_vector(rows)
    latents = torch.cat([vector, 1e-3 * torch.randn(len(rows), 1)], 1)
    assert live_dimensions(latents).tolist() == [True] * 11 + [False]
    probe = AttributeProbe(latents[:1000], rows[:1000], steps=400)
    errors = attribute_errors(probe(latents[1000:]), rows[1000:])
    assert errors["class"].mean() > 0.97
    assert errors["position"].mean() < 1.0
    assert errors["rotation"].median() < 8.0
    wrong = latents.clone()
    wrong[:, 11] += 1.0
    assert float(unexplained(wrong, latents).max()) == 0.0
    torch.testing.assert_close(
        unexplained(latents.mean(0).expand_as(latents), latents).mean(), torch.tensor(1.0), atol=1e-4, rtol=1e-4
    )


def test_the_color_of_a_picture_reaches_the_latent_apart_from_its_brightness() -> None:
    vae = VisualVAE(network="patches", paints="mask", width=8, latent_size=4, tint=True).eval()
    assert vae.tint is not None
    seen: list[torch.Tensor] = []
    vae.tint.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    batch: Any = SimpleShapes(count=4, domains=["v"]).batch(range(4)).domains["v"]
    vae.encode(batch.float() / 255)
    vae.encode(batch.float() / 510)
    torch.testing.assert_close(seen[0], seen[1], atol=0.05, rtol=0.2)
    assert vae.load_state_dict(VisualVAE(**vae.config).state_dict())
