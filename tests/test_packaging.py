"""What a user installs: the wheel holds all that the commands read, shells complete, a saved model has a card."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from objectscape.checkpoints.native import save_model
from objectscape.cli import main
from objectscape.cli.completion import SCRIPTS, propose
from objectscape.data.synthetic.tetrominoes import Tetrominoes
from objectscape.models.slot_attention import SlotAttentionModel

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_wheel_works_away_from_its_sources(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(ROOT)]
    subprocess.run([*build, "--wheel-dir", str(tmp_path)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = (
        "import objectscape, torch; from objectscape.cli import main; assert main(['list', 'recipes']) == 0;"
        "from objectscape.nn.small_features import *; from objectscape.metrics import FrechetDistance;"
        "objectscape.load('pretrained/instance_coloring-tetrominoes'); print(objectscape.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert str(tmp_path) in run.stdout.replace("\n", "")
    assert "slot_attention/tetrominoes" in run.stdout
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/objectscape").rglob("*")}
    packed = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*")}
    left = {name for name in sources - packed if "__pycache__" not in name}
    assert not left


def test_tab_proposes_commands_recipes_and_options() -> None:
    assert propose(["tr"]) == ["train", "translate"]
    assert "recipe=slot_attention/tiny" in propose(["train", "recipe=slot"])
    assert propose(["train", "da"]) == ["data="]
    assert "--split" in propose(["evaluate", "RUN", "--sp"])
    assert propose(["nonsense", ""]) == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_shell_gets_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "objectscape completion --propose" in capsys.readouterr().out


def test_a_saved_model_says_what_it_is(tmp_path: Path) -> None:
    model = SlotAttentionModel(image_size=16, slots=3, slot_size=8, encoder_channels=8, decoder="broadcast")
    save_model(model, tmp_path / "run", data=Tetrominoes(split="test", count=1).spec, step=7)
    card = (tmp_path / "run" / "README.md").read_text()
    for text in ("SlotAttentionModel", "Locatello", "tetrominoes", "| steps | 7 |", '"slots": 3', "decompose"):
        assert text in card
    model.save_pretrained(tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "More Information Needed" not in card
    assert "SlotAttentionModel" in card
