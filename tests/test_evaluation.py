"""What an evaluation reports beyond the plain metrics: further kinds of masks, and the gain of each refinement."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import main
from objectscape.evaluation.asking import Asking, evaluate
from objectscape.evaluation.results import beside, compare, mismatches, option_words
from objectscape.evaluation.summary import evaluated, summarize
from objectscape.metrics.reconstruction import mse
from objectscape.metrics.refinement import MeanOverImages, refinement_values
from objectscape.metrics.segmentation import adjusted_rand_index, contingency
from objectscape.scene import Decomposition, Scene, Stage, record

SEGMENTS = torch.tensor([[0, 0, 1, 1], [0, 0, 2, 2]]).expand(3, 2, 4)  # (B, H, W)


@record
class Steps(Decomposition):
    step_masks: Tensor
    step_recon: Tensor
    step_nll: Tensor

    @property
    def stages(self) -> list[Stage]:
        return [
            Stage(name=str(i), slots=self.slots, drawn=replace(self.plain, recon=recon, masks=masks), nll=nll)
            for i, (recon, masks, nll) in enumerate(
                zip(self.step_recon.unbind(1), self.step_masks.unbind(1), self.step_nll.unbind(1))
            )
        ]

    @property
    def plain(self) -> Decomposition:
        return Decomposition(recon=self.recon, masks=self.masks, components=self.components, slots=self.slots)

    @property
    def other_masks(self) -> dict[str, Tensor]:
        return {"attention": self.step_masks[:, 0]}


class Iterates(nn.Module):
    """Finds nothing at first, and the truth at last; its error halves twice."""

    slots = 3

    def forward(self, scene: Scene) -> Steps:
        assert scene.segments is not None
        right = nn.functional.one_hot(scene.segments, self.slots).permute(0, 3, 1, 2)[:, :, None].float()
        wrong = torch.zeros_like(right)
        wrong[:, 0] = 1
        masks = torch.stack([wrong, wrong, right], 1)  # (B, S, K, 1, H, W)
        recon = torch.stack([scene.image + error for error in (0.4, 0.2, 0.1)], 1)
        return Steps(
            recon=recon[:, -1],
            masks=right,
            components=right.expand(-1, -1, 3, -1, -1),
            slots=right.flatten(2),
            step_masks=masks,
            step_recon=recon,
            step_nll=torch.tensor([9.0, 5.0, 3.0]).expand(len(scene), 3),
        )


@pytest.fixture
def scene() -> Scene:
    return Scene(image=torch.rand(3, 3, 2, 4), segments=SEGMENTS)


def test_every_step_is_scored_as_if_it_were_the_only_one(scene: Scene) -> None:
    torch.manual_seed(0)
    output = Iterates()(scene)
    output.step_masks = torch.rand(3, 3, 3, 1, 2, 4).softmax(2)
    values = refinement_values(scene.image, output, scene.segments)
    for s in range(3):
        table = contingency(SEGMENTS, output.step_masks[:, s])
        torch.testing.assert_close(values[f"ari_fg_step_{s}"], adjusted_rand_index(table))
        torch.testing.assert_close(values[f"mse_step_{s}"], mse(scene.image, output.step_recon[:, s]))


def test_a_gain_is_positive_where_the_last_step_is_better(scene: Scene) -> None:
    values = refinement_values(scene.image, Iterates()(scene), scene.segments)
    assert values["ari_fg_gain"].tolist() == [1, 1, 1]
    assert values["mse_gain"].tolist() == pytest.approx([0.16 - 0.01] * 3, rel=1e-4)
    assert values["nll_gain"].tolist() == [6, 6, 6]
    assert {key for key in values if key.startswith("nll")} == {"nll_step_0", "nll_step_1", "nll_step_2", "nll_gain"}


def test_without_labels_or_steps_there_is_less_to_say(scene: Scene) -> None:
    output = Iterates()(scene)
    assert not any(key.startswith("ari") for key in refinement_values(scene.image, output))
    output.step_recon = output.step_recon[:, :1]
    assert refinement_values(scene.image, output) == {}
    assert refinement_values(scene.image, output.plain) == {}


def test_images_without_objects_do_not_count() -> None:
    empty = SEGMENTS.clone()
    empty[1] = 0
    scene = Scene(image=torch.rand(3, 3, 2, 4), segments=empty)
    scores = evaluate(Iterates(), [scene])
    assert scores["ari_fg_gain"] == (1, 0, 2)
    assert scores["mse_gain"].n == 3
    assert MeanOverImages("nothing").compute().isnan()


def test_further_masks_are_scored_under_their_name(scene: Scene) -> None:
    scores = evaluate(Iterates(), [scene, scene])
    assert scores["ari_fg"].mean == scores["miou"].mean == 1
    assert scores["ari_fg_attention"].mean == 0
    assert scores["miou_attention"].mean == pytest.approx(0.5 / 3)
    assert scores["ari_fg_attention"].n == 6


def test_coarse_masks_are_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = torch.tensor([[1, 1, 2, 2], [1, 1, 2, 2]]).expand(2, 2, 4)
    monkeypatch.setattr(Steps, "other_masks", property(lambda output: {"attention": output.masks[..., ::2, ::2]}))
    scores = evaluate(Iterates(), [Scene(image=torch.rand(2, 3, 2, 4), segments=segments)])
    assert scores["ari_fg_attention"].mean == scores["miou_fg_attention"].mean == 1


def test_training_pays_for_none_of_it(scene: Scene) -> None:
    asking = Asking(Iterates(), quick=True)
    asking.update(scene)
    scores = asking.compute().scores
    assert {"ari_fg", "mse"} <= scores.keys()
    assert not any("step" in key or "gain" in key or "attention" in key for key in scores)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=efficientmorl", "model.slot_size=8", "model.decoder=small", "model.refinement_steps=2"],
         {"ari_fg_step_2", "mse_gain", "nll_gain", "ari_fg_attention"}),
        (["model=iodine", "model.slot_size=4", "model.iterations=1", "model.decoder_channels=[4]",
          "model.refinement_channels=[4]", "model.refinement_mlp=[8]", "model.lstm=[]"],
         {"ari_fg_step_1", "mse_gain", "nll_gain"}),
        (["model=monet"], {"ari_fg_decoded", "msc_fg_decoded"}),
        (["model=genesis_v2", "model.width=8"], {"ari_fg_attention"}),
        (["model=slot_attention", "model.decoder=broadcast", "model.encoder_channels=8"], {"ari_fg_attention"}),
    ],
)  # fmt: skip
def test_evaluate_reports_what_the_model_has(tmp_path: Path, words: list[str], expected: set[str]) -> None:
    folder = tmp_path / "run"
    words = [*words, "model.image_size=32", "model.slots=3", "data=colored_shapes", "data.count=8", "batch_size=2",
             "trainer.max_steps=1", "every.validate=0", "every.picture=0", "trainer.accelerator=cpu"]  # fmt: skip
    assert main(["train", *words, f"run_dir={folder}"]) == 0
    assert main(["evaluate", str(folder), "--images", "4", "--device", "cpu"]) == 0
    scores = json.loads((folder / "evaluation" / "colored_shapes-test.json").read_text())["scores"]
    assert expected <= scores.keys()
    assert all(f"{metric}" in (folder / "README.md").read_text() for metric in expected)
    if "ari_fg_step_0" in scores:
        last = max(key for key in scores if key.startswith("ari_fg_step_"))
        assert scores[last]["mean"] == pytest.approx(scores["ari_fg"]["mean"], abs=1e-6)
        gain = scores["nll_step_0"]["mean"] - scores["nll"]["mean"]
        assert scores["nll_gain"]["mean"] == pytest.approx(gain, rel=1e-3, abs=1e-2)


def test_metrics_beside_each_other() -> None:
    row = {"name": "a", "evaluation": "x-test", "images": 8, "step": 3, "sd": 0.25, "n": 3}
    rows = [
        {**row, "metric": "ari_fg", "mean": 0.5},
        {**row, "metric": "kl", "mean": 7.0, "sd": float("nan"), "n": 1},
        {**row, "name": "b", "metric": "ari_fg", "mean": 0.75},
    ]
    headings, cells = beside(rows)
    assert headings == ["name", "evaluation", "runs", "ari_fg", "kl"]
    assert cells == [["a", "x-test", "3", "0.5 ± 0.25", "7"], ["b", "x-test", "3", "0.75 ± 0.25", "-"]]


def measured(folder: Path, seed: int, score: float, *, images: int = 320, step: int = 20, now: int = 20) -> RunFolder:
    """A run of the recipe "r" with one evaluation."""
    (folder / "evaluation").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"name: r\nseed: {seed}\n")
    (folder / "status.json").write_text(json.dumps({"state": "done", "step": now, "seconds": 1}))
    content = {
        "asked": {"_target_": "x.Y", "path": str(folder), "count": 8, "images": images}, "images": images, "step": step,
        "data": {"name": "shapes"}, "split": "test", "parameters": 1,
        "headline": {"ari_fg": {"label": "ARI-FG", "better": "higher", "passing": None, "quick": True}},
        "scores": {"ari_fg": {"mean": score, "sd": 0.1, "n": images}}, "baseline": {},
    }  # fmt: skip
    (folder / "evaluation" / "shapes-test.json").write_text(json.dumps(content))
    return RunFolder(folder)


def test_no_mean_is_taken_over_different_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alike = [measured(tmp_path / f"a{seed}", seed, 0.5 + seed / 10) for seed in range(2)]
    (row,) = compare(alike)
    assert (row["evaluation"], row["images"], row["step"], row["n"]) == ("shapes-test", 320, 20, 2)
    assert row["mean"] == pytest.approx(0.55)
    assert not mismatches(alike)
    mixed = [*alike, measured(tmp_path / "few", 2, 0.9, images=32)]
    rows = compare(mixed)
    assert {(row["evaluation"], row["n"]) for row in rows} == {
        ("shapes-test (images=320)", 2), ("shapes-test (images=32)", 1),
    }  # fmt: skip
    assert mismatches(mixed) == ["shapes-test is not the same question everywhere: images is 320 (a0, a1); 32 (few)"]
    assert main(["compare", *(str(run.path) for run in mixed)]) == 0
    shown = capsys.readouterr()
    assert "images is 320 (a0, a1); 32 (few)" in shown.err
    assert "shapes-test (images=32): 32 images, step 20" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_a_benchmark_refuses_to_mix_different_questions(tmp_path: Path) -> None:
    runs = [measured(tmp_path / f"r{seed}", seed, 0.5, images=images) for seed, images in enumerate((320, 320, 32))]
    for run in runs:
        (run.path / "evaluation" / "shapes-test.json").rename(run.path / "evaluation" / "benchmark-test.json")
    assert summarize(runs[:2]).rows[0]["seeds"] == 2
    with pytest.raises(ValueError, match=r"no mean is taken over different questions.*images is 320 .*; 32 \(r2\)"):
        summarize(runs)
    (runs[1].path / "status.json").write_text('{"state": "done", "step": 30, "seconds": 1}')  # it has gone on
    assert not evaluated(runs[1])


def test_the_score_of_an_old_step_is_not_shown_as_if_it_were_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = measured(tmp_path / "new", 0, 0.5)
    old = measured(tmp_path / "old", 1, 0.7, step=10)
    assert mismatches([new]) == []
    assert f"{old.path}: shapes-test was measured at step 10, the run is at step 20" in mismatches([old])[0]
    assert {row["evaluation"] for row in compare([new, old])} == {"shapes-test (step=20)", "shapes-test (step=10)"}
    printed = Console(width=200, soft_wrap=True)
    monkeypatch.setattr("objectscape.cli.listing.console", printed)
    assert main(["list", "runs", "--runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "ARI-FG 0.5 (shapes, 320 images)" in shown
    assert "ARI-FG 0.7 (shapes, 320 images, old: of step 10)" in shown


def test_a_table_that_does_not_fit_says_where_the_whole_one_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = measured(tmp_path / "a", 0, 0.5)
    file = run.path / "evaluation" / "shapes-test.json"
    content = json.loads(file.read_text())
    content["scores"] = {f"score_number_{i}": content["scores"]["ari_fg"] for i in range(12)}
    content["headline"] = {}
    file.write_text(json.dumps(content))
    assert main(["compare", str(run.path), "--wide"]) == 0
    shown = capsys.readouterr()
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "score_number_2" in shown.out
    assert "more columns do not fit 80 characters: --format csv or markdown has them all" in shown.err
    assert main(["compare", str(run.path), "--wide", "--format", "csv"]) == 0
    assert "score_number_11" in capsys.readouterr().out


def test_options_in_file_names_can_be_read() -> None:
    options = {"clip": {"length": 6, "random_start": False}, "image_size": [64, 96], "slots": "7", "schedule": None}
    assert option_words(options) == [
        "clip.length=6", "clip.random_start=false", "image_size=64x96", "slots=7", "schedule=null",
    ]  # fmt: skip
