"""From a game to a table and a picture, by the commands alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import objectscape
from objectscape.cli import main
from objectscape.models.space_time import SpaceTime

pytest.importorskip("ale_py")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps on six clips of Pong."""
    folder = tmp_path_factory.mktemp("pong")
    words = ["train=6", "val=2", "test=4", "every=4", "warm_up=30", f"path={folder / 'pong.h5'}"]
    assert main(["data", "make", "atari", "game=Pong", *words]) == 0
    words = [f"data.path={folder / 'pong.h5'}", "trainer.max_steps=3", "batch_size=2", f"run_dir={folder / 'run'}"]
    assert main(["train", "recipe=space_time/pong_tiny", "trainer.accelerator=cpu", *words]) == 0
    return folder / "run"


def test_a_run_has_learned_sizes_and_can_be_loaded(run: Path) -> None:
    model = objectscape.load(run)
    assert isinstance(model, SpaceTime)
    assert model.sizes is not None
    assert model.sizes.sums[0, 0] > 0
    assert model.describe(torch.zeros(3, 128, 128), None).keys() <= {"object"}


def test_evaluate_scores_boxes_beside_motion_alone(run: Path) -> None:
    words = ["ask=detect,classify", "ask.detect.game=Pong", "--images", "4", "--device", "cpu"]
    assert main(["evaluate", str(run), *words]) == 0
    result = json.loads(next((run / "evaluation").rglob("*.json")).read_text())
    text = json.dumps(result)
    for score in ("relevant_box_f", "box_coco_ap", "box_count_error"):
        assert score in text
    assert "baseline" in text


def test_show_draws_boxes(run: Path, tmp_path: Path) -> None:
    assert main(["show", str(run), "--boxes", "-n", "1", "--out", str(tmp_path / "boxes.png"), "--device", "cpu"]) == 0
    assert Image.open(tmp_path / "boxes.png").width > 400
