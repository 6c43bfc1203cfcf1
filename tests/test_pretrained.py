"""Models that come with the package: each loads, keeps what its card promises, and every command takes its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import objectscape
from objectscape import pretrained
from objectscape.cli import main
from objectscape.cli.completion import propose
from objectscape.contract import Generates
from objectscape.data.dataset import SceneDataset
from objectscape.evaluation.questions import QUESTIONS

MOST = 8_000_000  # bytes of all
EACH = 1_000_000


def scenes_of(name: str, folder: Path) -> SceneDataset:
    """The test scenes of a model's card; those of a game are made, if its emulator is there."""
    from objectscape.checkpoints.run_folder import RunFolder
    from objectscape.cli.common import data_config
    from objectscape.data.building import build_data

    words = []
    if name.endswith("-pong"):
        pytest.importorskip("ale_py", reason="the frames of Pong are made, with the extra atari")
        words = [f"data.path={folder / 'pong.h5'}"]
        assert (
            main(["data", "make", "atari", "game=Pong", "n=16", "val=1", "test=16", f"path={folder / 'pong.h5'}"]) == 0
        )
    return build_data(data_config(RunFolder.open(pretrained.folder(name)), words), "test")


@pytest.mark.parametrize("name", pretrained.names())
def test_a_model_keeps_what_its_card_promises(name: str, tmp_path: Path) -> None:
    card = pretrained.card(name)
    for key in ("what", "fails", "license", "recipe", "seed", "data", "steps"):
        assert card[key] or card[key] == 0, key
    assert sum(file.stat().st_size for file in pretrained.folder(name).rglob("*") if file.is_file()) < EACH
    model = objectscape.load(f"pretrained/{name}")
    assert next(model.parameters()).dtype == torch.float32
    ask = [QUESTIONS[question](**options) for question, options in card["ask"].items()]
    found = objectscape.evaluate(model, scenes_of(name, tmp_path), images=card["images"], ask=ask)
    for score, value in card["scores"].items():
        assert found[score].mean == pytest.approx(value, abs=0.005), score
        assert value == pytest.approx(card["full_precision"][score], abs=0.005), "half precision costs something"
        mean, deviation, seeds = card["spread"][score]
        assert seeds == len(card["seeds"])
        assert value == pytest.approx(mean, abs=0.05 + 3 * (deviation or 0))


def test_they_are_small() -> None:
    assert pretrained.FIRST in pretrained.names()
    assert sum(file.stat().st_size for file in pretrained.HERE.rglob("*") if file.is_file()) < MOST


def test_commands_take_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(pretrained.HERE.rglob("*"))
    first = f"pretrained/{pretrained.FIRST}"
    assert main(["list", "pretrained"]) == 0
    assert first in capsys.readouterr().out.replace("\n", "")
    assert main(["show", first, "-n", "2"]) == 0
    home = tmp_path / "runs" / first
    assert list((home / "figures").glob("decomposition-*.png"))
    assert main(["evaluate", first, "--images", "4", "--no-latents"]) == 0
    assert list((home / "evaluation").glob("*.json"))
    assert f'objectscape.load("{first}")' in (home / "README.md").read_text()
    assert main(["explore", "data.count=2", "--export", "page.html", "--scenes", "1"]) == 0
    assert pretrained.FIRST in (tmp_path / "page.html").read_text()
    for name in pretrained.names():
        if isinstance(objectscape.load(f"pretrained/{name}"), Generates):
            assert main(["sample", f"pretrained/{name}", "-n", "2"]) == 0
            assert (tmp_path / "runs" / "pretrained" / name / "figures" / "samples.png").is_file()
    assert sorted(pretrained.HERE.rglob("*")) == before
    assert propose(["show", "pretrained/inst"]) == [first]
    assert main(["show", "pretrained/tetrominos"]) == 1
    assert f"Did you mean {pretrained.FIRST!r}" in capsys.readouterr().err


def test_the_workspace_draws_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from benchmarks.free_sentences import judge, seen

    monkeypatch.chdir(tmp_path)
    name, sentence = "pretrained/workspace-simple_shapes", "a small red egg at the top left"
    assert main(["translate", name, "--from", "text", sentence, "--to", "image.png"]) == 0
    with Image.open("image.png") as file:
        picture = torch.from_numpy(np.asarray(file)[4::8, 4::8].copy()).permute(2, 0, 1)
    assert judge(seen(picture), [sentence, "egg", [0, 2], "red"])["all"]
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save("small.png")
    capsys.readouterr()
    assert main(["translate", name, "--from", "image", "small.png", "--to", "attributes"]) == 0
    assert capsys.readouterr().out.startswith("egg ")


def test_the_page_tells_what_the_cards_tell() -> None:
    from benchmarks.pack_model import PAGE, with_table

    assert with_table(PAGE.read_text()) == PAGE.read_text(), "python -m benchmarks.pack_model writes its table"
