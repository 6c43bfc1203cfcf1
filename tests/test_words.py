"""Text on the command line is taken as it is; answers to different questions go to different files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from objectscape.cli import main
from objectscape.cli.config import load, prepare

NAMES = [
    "2024",
    "true",
    "null",
    "a,b",
    "[2024] photos",
    "{x}",
    "1e5",
    "it's",
    "~",
    "a=b",
    "back\\",
    "x:y",
    " lead",
    "(1)",
    "Über",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_be_called_anything(name: str) -> None:
    data = load(["data=folder", f"data.path={name}", "data.image_size=32"]).data
    assert data.path == name
    assert data.image_size == 32
    config = load(["recipe=quickstart", f"runs={name}", f"name={name}", f"run_dir={name}"])
    assert (config.runs, config.name) == (name, name)
    assert config.run_dir == (None if name == "null" else name)


def test_numbers_stay_numbers_and_quotes_are_hydras() -> None:
    config = load(["recipe=quickstart", "data=folder", "data.path='2024'", "data.image_size=35", "model.slots=7"])
    assert (config.data.path, config.data.image_size, config.model.slots) == ("2024", 35, 7)


def test_commas_separate_values_in_a_sweep() -> None:
    words = ["recipe=quickstart", "data=folder", "data.path=a,b", "name=x"]
    assert "++data.path=a,b" in prepare(words, sweep=True)
    assert "++data.path='a,b'" in prepare(words)


@pytest.mark.parametrize("name", ["2024", "null", "a,b", "[2024] photos"])
def test_a_command_reads_such_a_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    for n in range(10):
        Image.new("RGB", (8, 8), (20 * n, 0, 0)).save(Path(name) / f"{n}.png")
    assert main(["show", "data=folder", f"data.path={name}", "data.image_size=8", "-n", "1", "--out", "o.png"]) == 0
    assert Path("o.png").is_file()


def test_different_questions_have_different_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = """train recipe=quickstart data=colored_shapes data.image_size=35 data.count=16 batch_size=4 model.width=8
        model.hidden=8 trainer.max_steps=1 every.validate=0 every.picture=0 loggers.tensorboard=false run_dir=r"""
    assert main(words.split()) == 0
    compared = ["compare", "r"]
    assert main(compared) == 0, "no evaluation yet: said, and no mistake"
    ask = ["evaluate", "r", "--images", "4", "--no-latents"]
    for more in ([], [], ["data.max_objects=6"], ["--images", "8"], ["--seed", "1"], ["model.slots=3"]):
        assert main([*ask, *more]) == 0
    files = {file.stem: json.loads(file.read_text()) for file in Path("r/evaluation").iterdir()}
    assert set(files) == {
        "colored_shapes-test",
        "colored_shapes-max_objects=6-test",
        "colored_shapes-images=8-test",
        "colored_shapes-seed=1-test",
        "colored_shapes-slots=3-test",
    }
    assert files["colored_shapes-images=8-test"]["images"] == 8
    for more in ([], ["data.max_objects=6"], ["model.slots=3"]):
        assert main(["show", "r", "-n", "2", *more]) == 0
    assert len(list(Path("r/figures").glob("decomposition-*.png"))) == 3
