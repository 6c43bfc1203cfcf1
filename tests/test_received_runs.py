"""A run folder from a stranger is data: whatever it names, nothing of it is executed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import objectscape
from objectscape import building
from objectscape.cli import main

MARK = "MARK"
RUN = """
    recipe=quickstart data.count=16 batch_size=8 model.width=8 model.hidden=8 every.log=1 every.validate=0
    every.picture=0 every.checkpoint=1 validation.images=4 trainer.max_steps=2 trainer.accelerator=cpu
    loggers.tensorboard=false name=quickstart
""".split()
SHELL = {"_target_": "torch.utils.collect_env.run", "command": f"touch {MARK}"}
STOLEN = {"_target_": "evil.Evil"}
OWN_CLASS = """
from pathlib import Path
from objectscape.data.synthetic.tetrominoes import Tetrominoes
Path("MARK").touch()
class Evil(Tetrominoes):
    pass
"""

KEYS = (
    "model", "model.width", "model.parts", "data", "data.seed", "data.clip", "optimizer", "optimizer.lr", "schedule",
    "schedule.steps", "geco", "geco.goal", "loggers.wandb", "loggers.wandb.project", "groups.encoder",
    "groups.encoder.lr", "trainer.callbacks", "trainer.logger", "trainer.max_steps", "every.log", "validation",
    "expected", "name", "surprise",
)  # fmt: skip
COMMANDS = {
    "show": ["show", "run", "-n", "1"],
    "evaluate": ["evaluate", "run", "--images", "4", "--no-latents"],
    "sample": ["sample", "run", "-n", "1"],
    "resume": ["train", "resume=run", "trainer.max_steps=3"],
    "config": ["train", "config=run/config.yaml"],
    "compare": ["compare", "run"],
    "list": ["list", "runs", "--runs", "."],
    "benchmark": ["benchmark", "out=.", "--table"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("received") / "run"
    assert main(["train", *RUN, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def received(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the run, with a module of the stranger's inside and in the current folder."""
    shutil.copytree(trained, tmp_path / "run")
    for folder in (tmp_path, tmp_path / "run"):
        (folder / "evil.py").write_text(OWN_CLASS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(building.TRUST, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "run"
    sys.modules.pop("evil", None)


def plant(run: Path, key: str, description: dict[str, Any]) -> None:
    config = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(config, key, description, merge=False, force_add=True)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))


def plant_json(run: Path, **changes: Any) -> None:
    file = run / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def call(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("unfinished", [False, True])
def test_nothing_that_a_configuration_names_is_run(
    command: str, unfinished: bool, received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = (received / "config.yaml").read_text()
    if unfinished:  # the model is then built from config.yaml
        shutil.rmtree(received / "model")
    for number, key in enumerate(KEYS):
        (received / "config.yaml").write_text(original)
        plant(received, key, STOLEN if (number + unfinished) % 2 else SHELL)
        status = call(COMMANDS[command])
        assert "Traceback" not in capsys.readouterr().err
        assert not list(received.parent.rglob(MARK)), f"{command} has run what {key} names"
        assert "evil" not in sys.modules, key
        reads = command in ("resume", "config", "show", "evaluate")
        assert status in ((1,) if reads else (0, 1)), f"{command}: {key}"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("changes", [SHELL, STOLEN, {"width": SHELL}, {"rounds": [STOLEN]}], ids=str)
def test_nothing_that_a_model_names_is_run(
    command: str, changes: dict[str, Any], received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant_json(received, **changes)
    for folder in (received, received / "model"):
        with pytest.raises(ValueError):
            objectscape.load(folder)
    status = call(COMMANDS[command])  # resume and config= train from config.yaml alone
    assert "Traceback" not in capsys.readouterr().err
    assert not list(received.parent.rglob(MARK))
    assert status == 1 or command in ("resume", "config", "compare", "list", "benchmark")


def test_the_current_folder_hides_no_module(received: Path) -> None:
    for name in ("random", "copy", "rich", "yaml"):
        Path(f"{name}.py").write_text(f"open({MARK!r}, 'w')\n")
    path = f"{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "objectscape", "show", "run", "-n", "1"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not Path(MARK).exists()


def test_a_class_of_the_users_is_named_or_trusted(received: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(received, "data._target_", "evil.Evil")  # type: ignore[arg-type]
    words = ["show", "run", "-n", "1"]
    assert main(words) == 1
    assert "add --trust evil" in capsys.readouterr().err
    assert not Path(MARK).exists()
    assert main([*words, "--trust", "evil"]) == 0
    assert Path(MARK).exists()
    assert main(words) == 0, "trusted until the process ends"


def test_a_class_named_on_the_command_line_is_trusted(received: Path) -> None:
    assert main(["show", "data=evil.Evil", "data.count=16", "-n", "1", "--out", "o.png"]) == 0


def test_trust_does_not_make_something_a_data_set(received: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(received, "data", SHELL)
    assert main(["show", "run", "--trust=torch.utils.collect_env"]) == 1
    assert "has no data called 'run'" in capsys.readouterr().err
    assert not Path(MARK).exists()
    with pytest.raises(ValueError, match="expected the name of a module"):
        building.trust("../evil")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("objectscape.data.folder.Path", "data"),
        ("objectscape.data.formats.tfrecord.TFRecordFile", "data"),
        ("objectscape.models.vae.VAE", "data"),
        ("objectscape.cli.main", "model"),
        ("objectscape.models.vae.nn.Module", "model"),
        ("objectscape.models.vae.BroadcastDecoder", "model"),
        ("torch.optim.lr_scheduler.StepLR", "optimizer"),
        ("torch.optim.optimizer.functools", "optimizer"),
        ("lightning.pytorch.loggers.logger.rank_zero_only", "logger"),
        ("lightning.pytorch.Trainer", "logger"),
        ("objectscape.training.schedules.math", "schedule"),
        ("os.system", "model"),
        (".evil.Evil", "model"),
        ("objectscape.models.a/b.C", "model"),
        (7, "model"),
    ],
)
def test_only_a_class_of_the_right_kind_from_the_right_place_is_found(target: Any, kind: str) -> None:
    with pytest.raises(ValueError):
        building.find_class(target, kind)


def test_a_part_of_a_model_follows_the_same_rule() -> None:
    part = building.build_part({"_target_": "objectscape.models.vae.VAE", "image_size": 32}, "part")
    assert part.image_size == 32
    with pytest.raises(ValueError, match="comes from"):
        building.build_part(SHELL, "part")
    with pytest.raises(ValueError, match="comes from"):
        building.build_part({"_target_": "objectscape.models.vae.VAE", "image_size": SHELL}, "part")
    with pytest.raises(ValueError, match="_partial_ is not an argument"):
        building.build_part({"_target_": "objectscape.models.vae.VAE", "_partial_": True}, "part")


def test_a_changed_weight_is_noticed(received: Path) -> None:
    file = received / "model" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256 is another"):
        objectscape.load(received)
    plant_json(received, sha256=None)  # an older file has none
    objectscape.load(received)
