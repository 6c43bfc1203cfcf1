"""Models come back as they were saved, and what is not a model of ours is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import objectscape
from objectscape.checkpoints.native import load_model, save_model
from objectscape.cli import main
from objectscape.data.synthetic.tetrominoes import Tetrominoes
from objectscape.files import replacing, write_text
from objectscape.models.instance_coloring import ColoringAutoencoder
from objectscape.models.vae import VAE

CASE = Path(__file__).parent / "data" / "parity" / "slot_attention" / "emorl_sa_small"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(
        ColoringAutoencoder(slots=4, width=16, hidden=16), tmp_path / "m", data=Tetrominoes(split="test").spec, step=7
    )
    return tmp_path / "m"


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def test_every_way_of_saving_can_be_loaded(folder: Path, tmp_path: Path) -> None:
    first = objectscape.load(folder)
    first.save_pretrained(tmp_path / "hub")
    second, third = objectscape.load(tmp_path / "hub"), ColoringAutoencoder.from_pretrained(tmp_path / "hub")
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
        assert torch.equal(value, third.state_dict()[name])
    assert first.config == second.config == third.config
    assert json.loads((folder / "config.json").read_text())["data"]["name"] == "tetrominoes"


def test_another_model_or_version_is_told_apart(folder: Path) -> None:
    change(folder, width=32)
    with pytest.raises(ValueError, match="with other options"):
        load_model(folder)
    change(folder, width=16, format=99)
    with pytest.raises(ValueError, match="format 99"):
        load_model(folder)
    change(folder, format=1, _target_="objectscape.models.vae.VEA")
    with pytest.raises(ValueError, match="Did you mean 'VAE'"):
        load_model(folder)
    change(folder, _target_="os.system")
    with pytest.raises(ValueError, match="add --trust os"):
        load_model(folder)


def test_damaged_files_are_named(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a complete"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_model(folder)
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        objectscape.load(folder.parent)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(OSError, match="full"), replacing(file) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise OSError("disk full")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_authors_checkpoint_becomes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the layout of the EfficientMORL repository, through the command a user types."""
    config = json.loads(CASE.with_suffix(".json").read_text())["config"]
    with np.load(CASE.with_suffix(".npz")) as arrays:
        state = {f"module.{k[8:]}": torch.tensor(arrays[k]) for k in arrays.files if k.startswith("weights/")}
    file = tmp_path / "sa-state-500000.pth"
    torch.save({"step": 500000, "model": state, "model_opt": {}, "kl_beta": 1.0}, file)
    size = ",".join(map(str, config["input_size"]))
    words = ["import-checkpoint", "slot_attention", str(file), f"K={config['K']}", f"input_size=[{size}]"]
    words += [f"image_decoder={config['image_decoder']}", "--out", str(tmp_path / "imported")]
    assert main(words) == 0, capsys.readouterr().err
    model = objectscape.load(tmp_path / "imported")
    assert model.slots == config["K"]
    scene = objectscape.Scene(image=torch.rand(2, *config["input_size"]))
    assert model(scene).masks.shape[1] == config["K"]
    assert main(["import-checkpoint", "slot_atention", str(file), "--out", str(tmp_path / "x")]) == 1
    assert "Did you mean 'slot_attention'" in capsys.readouterr().err
    torch.save({"model": VAE(image_size=32)}, file)
    assert main(["import-checkpoint", "slot_attention", str(file), "--out", str(tmp_path / "y")]) == 1
    assert "Traceback" not in capsys.readouterr().err
