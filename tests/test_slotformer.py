"""SlotFormer continues the slots of a model that it leaves as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import objectscape
from objectscape.check import check_model
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import main
from objectscape.contract import Predicts
from objectscape.data.synthetic.moving_shapes import MovingShapes
from objectscape.evaluation.questions import QUESTIONS
from objectscape.models.savi import SAVi
from objectscape.models.slot_attention import SlotAttentionModel
from objectscape.models.slotformer import SlotFormer
from objectscape.scene import Scene
from tests.test_savi import SMALL

TINY = {"context": 2, "width": 16, "layers": 1, "heads": 2, "hidden_size": 16}


def make(**options) -> SlotFormer:
    torch.manual_seed(0)
    return SlotFormer(**{"base": SAVi(**SMALL), **TINY, **options}).eval()


@pytest.fixture(scope="module")
def clips() -> Scene:
    scene = MovingShapes(count=3, frames=5, image_size=16, split="test").batch([0, 1, 2])
    return Scene(image=scene.pixels, boxes=scene.boxes)


def test_keeps_the_contract(clips: Scene):
    check_model(make(), clips)


@torch.no_grad()
def test_what_it_predicts_depends_on_the_context_only(clips: Scene):
    model = make()
    assert isinstance(model, Predicts)
    output = model(clips)
    changed = clips.image.clone()
    changed[:, 2:] = 0
    assert torch.equal(model(Scene(image=changed)).recon, output.recon)
    future = model.predict(Scene(image=clips.image[:, :2]), steps=3, samples=2)
    assert future.recon.shape == (3, 2, 3, 3, 16, 16)
    for sample in range(2):
        torch.testing.assert_close(future.recon[:, sample], output.recon[:, 2:])
        torch.testing.assert_close(future.slots[:, sample], output.slots[:, 2:])


def test_a_base_that_is_told_boxes_is_told_them_when_futures_are_scored() -> None:
    model = make(base=SAVi(**SMALL, condition="boxes"))
    scenes = MovingShapes(count=2, frames=5, image_size=16, split="test")
    found = objectscape.evaluate(model, scenes, images=2, ask=[QUESTIONS["predict"](context=2)])
    assert found["mse_future"].n == 2


@torch.no_grad()
def test_without_a_change_the_last_frame_is_repeated(clips: Scene):
    model = make()
    model.leave.weight.zero_()
    seen = model.base(clips)
    future = model.predict(clips, steps=2)
    torch.testing.assert_close(future.recon, seen.recon[:, -1:].unsqueeze(1).expand(-1, 1, 2, -1, -1, -1))


@torch.no_grad()
def test_the_order_of_the_slots_does_not_matter():
    model = make()
    slots, order = torch.randn(2, 2, 4, 8), [3, 1, 0, 2]
    torch.testing.assert_close(model.continue_slots(slots[:, :, order], 3), model.continue_slots(slots, 3)[:, :, order])


@torch.no_grad()
def test_a_context_that_is_longer_or_shorter_will_do():
    model, slots = make(), torch.randn(2, 5, 4, 8)
    assert torch.equal(model.continue_slots(slots, 2), model.continue_slots(slots[:, -2:], 2))
    assert model.continue_slots(slots[:, :1], 2).shape == (2, 2, 4, 8)


def test_the_base_stays_as_it_is(clips: Scene):
    model = make().train()
    before = {name: value.clone() for name, value in model.base.state_dict().items()}
    assert not model.base.training
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model.loss(clips, model(clips), 0).total.backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.base.state_dict().items())
    assert not any(name.startswith("kept") for name, p in model.named_parameters() if p.requires_grad)


def test_messages(clips: Scene, tmp_path: Path):
    model, short = make(), Scene(image=clips.image[:, :2])
    output = model(short)
    with pytest.raises(ValueError, match="leave nothing to predict after context=2"):
        model.loss(short, output, 0)
    with pytest.raises(ValueError, match="base is not set"):
        make(base=None)
    with pytest.raises(FileNotFoundError, match="no trained model there"):
        make(base=str(tmp_path))
    with pytest.raises(ValueError, match="expected a model of clips"):
        make(base=SlotAttentionModel(image_size=16))


def test_a_run_on_a_run_needs_no_other_folder(tmp_path: Path):
    common = ["data=moving_shapes", "data.count=8", "data.frames=5", "data.image_size=16", "batch_size=2",
              "every.log=1", "every.validate=0", "every.picture=2", "validation.pictures=1", "strict=true",
              "trainer.accelerator=cpu", "loggers.tensorboard=false", "trainer.max_steps=2"]  # fmt: skip
    words = [f"model.{key}={value}".replace(" ", "") for key, value in SMALL.items()]
    base, run = tmp_path / "base", tmp_path / "run"
    assert main(["train", "model=savi", "model.condition=boxes", *words, *common, f"run_dir={base}"]) == 0
    tiny = [f"model.{key}={value}" for key, value in TINY.items()]
    assert main(["train", "model=slotformer", f"model.base={base}", *tiny, *common, f"run_dir={run}"]) == 0
    kept = RunFolder(base).load_model().state_dict()
    shutil.rmtree(base)
    model = RunFolder(run).load_model()
    assert isinstance(model, SlotFormer)
    assert all(torch.equal(value, kept[name]) for name, value in model.base.state_dict().items())
    assert main(["show", str(run), "-n", "1"]) == 0
