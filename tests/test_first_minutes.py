"""What a run says while it goes and at its end: about how long, losses that are new, and what came out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from objectscape.agents import choices
from objectscape.cli import main
from objectscape.evaluation.asking import untrained_like
from objectscape.models.instance_coloring import ColoringAutoencoder
from objectscape.scene import Scene
from objectscape.training.estimate import duration, seconds_per_step

WORDS = """recipe=quickstart data.count=32 batch_size=4 trainer.accelerator=cpu every.picture=0 every.log=4
           every.validate=5 validation.images=4 loggers.tensorboard=false""".split()


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run, and what it said."""
    folder = tmp_path_factory.mktemp("minutes") / "run"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("objectscape.training.run.WORTH", 10)
        patch.setattr("objectscape.training.run.log.info", lambda text, *values: lines.append(text % values))
        patch.setattr("rich.console.Console.print", lambda self, *parts, **_: lines.extend(map(str, parts)))
        patch.setattr("sys.stderr.write", lambda text: lines.append(text) or len(text), raising=False)
        assert main(["train", *WORDS, "trainer.max_steps=10", f"run_dir={folder}"]) == 0
    return folder, "\n".join(lines)


def test_about_how_long_is_said_before_the_first_step(said: tuple[Path, str]) -> None:
    _, text = said
    estimate = re.search(r"about [\d\w ]+ for 10 steps of 4 x 1 images", text)
    assert estimate
    assert estimate.start() < text.index("step 1/10")


def test_every_line_has_the_loss_of_its_own_step(said: tuple[Path, str]) -> None:
    _, text = said
    losses = re.findall(r"^step (\d+)/10  loss ([\d.]+)", text, re.MULTILINE)
    assert [int(step) for step, _ in losses] == list(range(1, 11))
    assert len({loss for _, loss in losses}) == 10  # the log, every 4 steps, has two of them
    assert re.search(r"^step 7/10 .* ARI-FG [-\d.]+ \(step 5\)$", text, re.MULTILINE)


def test_the_last_line_says_what_came_out(said: tuple[Path, str]) -> None:
    folder, text = said
    status = json.loads((folder / "status.json").read_text())
    assert f"done: {folder}, loss {status['loss']:.4g}, ARI-FG " in text
    assert re.search(r"ARI-FG [-\d.e]+ on the validation split, \d+ s", text)


def test_an_estimate_changes_nothing() -> None:
    torch.manual_seed(0)
    model = ColoringAutoencoder(slots=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    assert seconds_per_step(model, Scene(image=torch.zeros(2, 3, 35, 35, dtype=torch.uint8)), steps=1) > 0
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_estimate_of_a_model_that_is_told_boxes_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("objectscape.training.run.WORTH", 1)
    words = ["recipe=savi/tiny", "data.count=4", "batch_size=2", "trainer.max_steps=1", "every.validate=0",
             "every.picture=0", "trainer.accelerator=cpu", "loggers.tensorboard=false"]  # fmt: skip
    with caplog.at_level("INFO"):
        assert main(["train", *words, f"run_dir={tmp_path / 'run'}"]) == 0
    assert "for 1 steps of 2 x 1 images" in caplog.text


def test_durations_are_read_at_a_glance() -> None:
    seconds = (0.4, 59, 60, 365, 3600, 7800, 90000, 273600)
    expected = ["0 s", "59 s", "1 min", "6 min 5 s", "1 h", "2 h 10 min", "1 day 1 h", "3 days 4 h"]
    assert [duration(value) for value in seconds] == expected


def test_an_untrained_model_stands_beside_what_latents_score(said: tuple[Path, str]) -> None:
    folder, _ = said
    assert main(["evaluate", str(folder), "--images", "8", "--device", "cpu", "ask=latents"]) == 0
    content = json.loads((folder / "evaluation" / "tetrominoes-test.json").read_text())
    assert content["step"] == 10
    assert content["images"] == content["asked"]["images"] == 8
    assert content["baseline"]["matched_objects"]["n"] == content["scores"]["matched_objects"]["n"]
    torch.manual_seed(0)
    model = ColoringAutoencoder(slots=3)
    fresh = untrained_like(model, seed=1)
    assert type(fresh) is ColoringAutoencoder
    assert fresh.config == model.config
    assert any(not torch.equal(a, b) for a, b in zip(fresh.parameters(), model.parameters(), strict=True))
    assert untrained_like(nn.Linear(2, 2), seed=0) is None


def test_what_can_be_planned_is_known_without_torch() -> None:
    from objectscape.agents.tasks import COSTS, TASKS

    assert tuple(TASKS) == choices.TASKS
    assert COSTS == choices.COSTS
