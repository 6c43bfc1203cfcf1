"""warm_start=RUN: an image model's weights in a model of clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import main
from objectscape.models.framed_slots import FramedSlots
from objectscape.models.slot_attention import SlotAttentionModel
from objectscape.training.warm_start import warm_start

QUICK = [
    "batch_size=4", "data.count=8", "trainer.max_steps=1", "every.validate=0", "every.picture=0",
    "loggers.tensorboard=false", "trainer.accelerator=cpu",
]  # fmt: skip
FRAMED = ["recipe=framed_slots/tiny_clips", "model.width=8", "model.hidden=12", "clip.length=3", *QUICK]


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Instance coloring, a step on single frames of clips."""
    folder = tmp_path_factory.mktemp("runs") / "image"
    words = ["recipe=instance_coloring/tiny", "data=tiny_moving_sprites", "clip.length=1"]
    sizes = ["model.width=8", "model.hidden=12", "trainer.precision=32-true"]
    assert main(["train", *words, *sizes, *QUICK, "batch_size=4", f"run_dir={folder}"]) == 0
    return folder


def test_a_clip_model_begins_with_an_image_models_weights_and_says_so(image_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    assert main(["train", *FRAMED, "optimizer.lr=0", f"warm_start={image_run}", f"run_dir={folder}"]) == 0
    run = RunFolder.open(folder)
    source, state = RunFolder.open(image_run).load_model().state_dict(), run.load_model().state_dict()
    for name, value in source.items():
        torch.testing.assert_close(state[f"image.{name}"], value, rtol=0, atol=0)
    assert run.config().warm_start == str(image_run.resolve())
    readme = (folder / "README.md").read_text()
    assert f"Warm start: {len(source)} of the {len(source)} weights of ColoringAutoencoder in {image_run}" in readme
    assert "part image of FramedSlots" in readme

    assert main(["train", f"resume={folder}", "trainer.max_steps=2"]) == 0
    assert "Warm start" in (folder / "README.md").read_text(), "a resumed run remembers it"
    assert main(["train", f"resume={folder}", "trainer.max_steps=3", "warm_start=null"]) == 1


def test_what_fits_in_a_model_of_the_same_kind_is_taken(image_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    assert main(["train", *FRAMED, f"run_dir={folder}"]) == 0
    trained = RunFolder.open(folder).load_model().state_dict()
    model = FramedSlots(width=8, hidden=12, action_size=3)
    said = warm_start(model, folder)
    own = model.state_dict()
    differ = [name for name, value in trained.items() if own[name].shape != value.shape]
    assert differ == ["dynamics.own.weight"]
    assert said.startswith(f"{len(trained) - 1} of the {len(trained)} weights of FramedSlots")
    assert all(torch.equal(own[name], value) for name, value in trained.items() if name not in differ)


def test_what_does_not_fit_is_refused_before_anything_is_made(
    image_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in FRAMED if not word.startswith("model.width")]
    assert main(["train", *words, f"warm_start={image_run}", f"run_dir={tmp_path / 'wide'}"]) == 1
    message = capsys.readouterr().err
    assert "give both models the same widths" in message
    assert "stem.weight is (8, 3, 8, 8) there, (32, 3, 8, 8) here" in message
    assert not (tmp_path / "wide").exists()
    with pytest.raises(ValueError, match="hardly a name in common"):
        warm_start(SlotAttentionModel(), image_run)
    assert main(["train", *FRAMED, f"warm_start={tmp_path / 'none'}", f"run_dir={tmp_path / 'x'}"]) == 1
    assert "there is no run folder" in capsys.readouterr().err
