"""Questions to a model: which apply, what they share, what stands beside them, and how a user asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import objectscape
from objectscape.cli import main
from objectscape.cli.ask import read_questions
from objectscape.contract import see
from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.evaluation.asking import Asking, evaluate
from objectscape.evaluation.questions import QUESTIONS, Answer, Means, Question, headlines, higher, meaning_of
from objectscape.evaluation.questions.decompose import Decompose
from objectscape.evaluation.questions.generate import Generate
from objectscape.evaluation.questions.latents import LatentProperties
from objectscape.evaluation.questions.reconstruct import Reconstruct
from objectscape.evaluation.results import headline_of
from objectscape.metrics import (
    AdjustedRandIndex,
    BoundaryF,
    Fragmentation,
    MatchedIoU,
    MeanBestOverlap,
    SegmentationCovering,
)
from objectscape.models.monet import MONet
from objectscape.models.vae import VAE
from objectscape.scene import Decomposition, Scene


class Noisy(nn.Module):
    """Masks and pictures at random: whoever disturbs its stream of random numbers changes its scores."""

    slots = 3

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, scene: Scene) -> Decomposition:
        self.calls += 1
        *lead, _, height, width = scene.image.shape
        masks = torch.rand(*lead, self.slots, 1, height, width).softmax(-4)
        components = torch.rand(*lead, self.slots, 3, height, width)
        return Decomposition(
            recon=(masks * components).sum(-4),
            masks=masks,
            components=components,
            slots=torch.rand(*lead, self.slots, 2),
        )


class Bright(Question):
    """How bright is the second picture that the model draws?"""

    name = "bright"
    scores = {"bright": higher("Mean brightness.", "Bright")}
    headline = ("bright",)

    def __init__(self, *, gain: float = 1.0) -> None:
        self.gain = gain
        self.means = Means()

    @classmethod
    def applies(cls, model: nn.Module, batch: Any) -> bool:
        return isinstance(batch, Scene)

    def look(self, model: nn.Module, batch: Scene) -> Decomposition:
        see(model, batch)
        return see(model, batch)

    def update(self, batch: Scene, seen: Decomposition) -> None:
        self.means.add({"bright": self.gain * seen.recon.mean((-3, -2, -1))})

    def compute(self, model: nn.Module) -> Answer:
        return Answer(self.means.scores(), {"gain": self.gain})


def batches(count: int = 12, size: int = 5) -> list[Scene]:
    data = ColoredShapes(split="test", count=count)
    return [data.batch(list(range(i, min(i + size, count)))) for i in range(0, count, size)]


def test_scores_are_those_of_the_metrics() -> None:
    scenes = batches()
    evaluation = evaluate(Noisy(), scenes, ask=[Decompose()], seed=3)
    torch.manual_seed(3)
    outputs = [see(Noisy(), scene) for scene in scenes]
    for name, metric in {
        "ari_fg": AdjustedRandIndex(), "ari": AdjustedRandIndex(foreground=False), "mbo": MeanBestOverlap(),
        "miou": MatchedIoU(foreground=False), "sc_fg": SegmentationCovering(weighted=True),
        "boundary_f": BoundaryF(), "fragmentation": Fragmentation(),
    }.items():  # fmt: skip
        for scene, output in zip(scenes, outputs, strict=True):
            metric.update(scene.segments, output.masks)
        assert evaluation[name].mean == pytest.approx(float(metric.compute()), rel=1e-5, abs=1e-7)
        assert evaluation[name].sd == pytest.approx(metric.spread().sd, rel=1e-5)
        assert evaluation[name].n == 12


def test_one_question_more_or_less_changes_no_other() -> None:
    alone = evaluate(Noisy(), batches(), ask=[Reconstruct()])
    between = evaluate(Noisy(), batches(), ask=[Bright(), Reconstruct(), Decompose()])
    assert between["mse"] == alone["mse"]
    assert between["bright"] == evaluate(Noisy(), batches(), ask=[Bright()])["bright"]


def test_questions_with_the_same_look_share_it() -> None:
    model = Noisy()
    evaluate(model, batches(), ask=[Decompose(), Reconstruct()])
    assert model.calls == 3, "three batches, one look each"
    evaluate(model, batches(), ask=[Decompose(), Bright()])
    assert model.calls == 3 + 3 + 6


def test_a_baseline_is_scored_by_the_same_measure() -> None:
    scenes = batches()
    evaluation = evaluate(Noisy(), scenes)
    pixels = torch.cat([scene.pixels for scene in scenes])
    plain = pixels.mean((2, 3), keepdim=True)
    assert evaluation.baseline["mse"].mean == pytest.approx(float((pixels - plain).square().mean()), rel=1e-5)
    assert evaluation.baseline["ari_fg"].mean > 0.5 > evaluation["ari_fg"].mean, "k-means on plain colors is good"
    assert evaluation.baseline["ari_fg"].n == 12
    assert set(evaluation.baseline) <= set(evaluation.scores)


def test_the_baseline_of_clips_follows_objects_by_color() -> None:
    clips = ColoredShapes(split="test", count=6).batch(range(6)).map(lambda t: t.unflatten(0, (2, 3)))
    masks = Decompose(clusters=4).baseline(clips).masks
    assert masks.shape == (2, 3, 4, 1, 32, 32)
    assert torch.equal(masks.sum(2), torch.ones(2, 3, 1, 32, 32))


def test_each_model_is_asked_what_it_can() -> None:
    scene = batches(4)[0]
    blind = Scene(image=scene.image)

    def asked(model: nn.Module, batch: Scene) -> set[str]:
        return {name for name, question in QUESTIONS.items() if question.applies(model, batch)}

    vae = VAE(image_size=32, latent_dim=4)
    assert asked(vae, scene) == {"reconstruct", "bound", "refine", "generate", "latents"}
    assert asked(Noisy(), scene) == {"decompose", "detect", "classify", "reconstruct", "bound", "refine", "latents"}
    assert asked(Noisy(), blind) == {"reconstruct", "bound", "refine"}
    with pytest.raises(
        ValueError, match="'decompose' does not fit VAE and this data: it needs a model that decomposes"
    ):
        evaluate(vae, [scene], ask=[Decompose()])
    with pytest.raises(ValueError, match="nothing to evaluate on"):
        evaluate(vae, [])


def test_validation_asks_quick_questions_only() -> None:
    model = MONet(image_size=32, slots=3)
    asking = Asking(model.eval(), quick=True)
    asking.update(batches(2)[0])
    evaluation = asking.compute()
    assert {"decompose", "reconstruct", "bound"} <= set(evaluation.answers)
    assert all(QUESTIONS[name].quick for name in evaluation.answers)
    assert not evaluation.baseline
    assert not any(name.startswith("kl") and name[-1].isdigit() for name in evaluation.scores), "no slot by itself"


def test_every_score_has_a_meaning() -> None:
    model = MONet(image_size=32, slots=3)
    evaluation = evaluate(model, batches(40, 20))
    assert {"ari_fg", "ari_fg_decoded", "kl", "frechet_small", "activeness"} <= evaluation.scores.keys()
    for name in evaluation.scores:
        assert meaning_of(name) is not None, name
    for question in QUESTIONS.values():
        assert set(question.headline) <= question.scores.keys()
        assert (question.__doc__ or "").splitlines()[0].count("?") >= 1, "a question"
    assert meaning_of("ari_fg_decoded") == QUESTIONS["decompose"].scores["<score>_<masks>"]
    assert meaning_of("ari_fg_gain") == QUESTIONS["refine"].scores["<score>_gain"]
    assert meaning_of("nll_step_3") == QUESTIONS["refine"].scores["<score>_step_<i>"]
    assert meaning_of("kl_slots_2") == QUESTIONS["bound"].scores["kl_<part>"]
    assert meaning_of("probe_linear_color") == QUESTIONS["latents"].scores["probe_linear_<factor>"]
    assert meaning_of("nonsense") is None


def test_the_first_question_that_fits_gives_the_headline() -> None:
    assert list(headlines(["mse", "kl", "ari_fg", "sc"])) == ["ari_fg", "mse", "kl"]
    assert list(headlines(["psnr", "mse"])) == ["mse"]
    old = {"scores": {"mse": {}, "sc": {}}}  # written before files had a headline
    assert list(headline_of(old)) == ["mse"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["ask=decomposed"], "Did you mean 'decompose'"),
        (["ask.generate.smaples=3"], "Did you mean 'samples'"),
        (["ask.latent.scoring=released"], "Did you mean 'latents'"),
        (["ask.latents.scoring=relased"], "'released'"),
        (["ask.decompose.other_masks=3"], "expected true or false"),
        (["ask.generate.samples=1"], "samples=1; expected an integer of at least 2"),
        (["ask=decompose", "ask.generate.samples=4"], "ask has no 'generate'"),
        (["ask=no.such.Thing"], "No module named 'no'"),
        (["ask=objectscape.evaluation.questions.decompose.Decomposed"], "Did you mean 'Decompose'"),
    ],
)
def test_a_mistaken_question_is_answered_in_words(words: list[str], answer: str) -> None:
    with pytest.raises(ValueError, match=answer.replace(".", r"\.")):
        read_questions(words)


def test_words_choose_questions_and_their_options() -> None:
    chosen = read_questions(["ask.generate.samples=5", "ask.latents=null"])
    assert not chosen.explicit
    found = {question.name: question for question in chosen.questions}
    assert set(found) == set(QUESTIONS) - {"latents"}
    generate = found["generate"]
    assert isinstance(generate, Generate)
    assert generate.samples == 5
    (own,) = read_questions([f"ask={__name__}.Bright", "ask.bright.gain=2"]).questions
    assert isinstance(own, Bright)
    assert own.gain == 2
    (latents,) = read_questions(["ask=latents", "ask.latents.kinds={x: continuous}"]).questions
    assert isinstance(latents, LatentProperties)
    assert latents.kinds == {"x": "continuous"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions") / "run"
    words = """recipe=quickstart data.count=16 batch_size=8 trainer.max_steps=2 trainer.accelerator=cpu every.picture=0
               every.validate=2 every.log=1 validation.images=8 loggers.tensorboard=false""".split()
    assert main(["train", *words, f"run_dir={folder}"]) == 0
    return folder


def test_evaluate_prints_the_headline_and_writes_everything(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--images", "8", "--device", "cpu", "--no-latents"]) == 0
    short = capsys.readouterr()
    assert all(name in short.out for name in ("ari_fg", "ari", "miou", "mse", "baseline"))
    assert "msc_fg" not in short.out
    assert "more scores with --all" in short.err
    content = json.loads((run / "evaluation" / "tetrominoes-test.json").read_text())
    assert {"ari_fg", "msc_fg", "psnr"} <= content["scores"].keys()
    assert content["baseline"]["ari_fg"]["n"] == 8
    assert list(content["headline"])[:3] == ["ari_fg", "ari", "miou"]
    assert "mse" in content["headline"]
    assert content["headline"]["ari_fg"] == {"label": "ARI-FG", "better": "higher", "passing": 0.9, "quick": True}
    assert main(["evaluate", str(run), "--images", "8", "--device", "cpu", "--all", "--no-latents"]) == 0
    assert "msc_fg" in capsys.readouterr().out
    assert main(["list", "runs", "--runs", str(run.parent)]) == 0
    assert f"ARI-FG {content['scores']['ari_fg']['mean']:.4g}" in capsys.readouterr().out.replace("\n", "")
    assert "val/ari_fg" in (run / "metrics.csv").read_text()


def test_own_questions_by_import_path_and_only_those(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run), "--images", "4", "--device", "cpu", "--tag", "own"]
    assert main([*words, f"ask={__name__}.Bright,reconstruct", "ask.bright.gain=2"]) == 0
    assert "bright" in capsys.readouterr().out
    content = json.loads((run / "evaluation" / "own-test.json").read_text())
    assert list(content["scores"]) == ["bright", "mse", "psnr"]
    assert content["bright"] == {"gain": 2}
    assert main([*words, "ask=generate"]) == 1
    assert "needs a model that generates" in capsys.readouterr().err


def test_evaluate_in_python(run: Path) -> None:
    model = objectscape.load(run)
    by_run = objectscape.evaluate(model, run, images=8, ask=[Decompose()])
    assert by_run["ari_fg"].n == 8
    by_name = objectscape.evaluate(model, "tetrominoes data.count=8", ask=[Decompose()])
    assert by_name["ari_fg"] == by_run["ari_fg"]
    data = ColoredShapes(split="test", count=8, image_size=35)
    assert objectscape.evaluate(model, data, ask=[Decompose()])["ari_fg"].n == 8
    assert "ari_fg" in str(by_run)
    assert "baseline" in str(by_run)
    with pytest.raises(ValueError, match="Did you mean 'tetrominoes'"):
        objectscape.evaluate(model, "tetromino")


def test_list_metrics_says_what_each_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "metrics"]) == 0
    text = capsys.readouterr().out
    for question in QUESTIONS.values():
        assert all(name in text for name in question.scores)
        assert all(
            meaning.text and meaning.better in ("higher", "lower", "neither") for meaning in question.scores.values()
        )
    assert "↓ lower" in text
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines() if line.startswith(" "))
