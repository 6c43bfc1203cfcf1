"""The composite optimizer steps as its children would alone, in torch and in runs of the real command."""

from __future__ import annotations

import copy
import csv
import io
from pathlib import Path

import pytest
import torch
from torch import nn

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import main
from objectscape.nn.optimizers import Optimizers
from objectscape.training.task import Task


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"front": nn.Linear(4, 8), "back": nn.Linear(8, 2)})


def children(model: nn.Module) -> list[torch.optim.Optimizer]:
    return [
        torch.optim.Adam(model["back"].parameters(), lr=1e-2),
        torch.optim.RMSprop(model["front"].parameters(), lr=1e-3, momentum=0.5),
    ]


def loss(model: nn.Module, step: int) -> torch.Tensor:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    return (model["back"](model["front"](x).tanh()) - x[:, :2]).square().mean()


def train(model: nn.Module, optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    for step in steps:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss(model, step).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        for optimizer in optimizers:
            optimizer.step()


def assert_same(one: nn.Module, two: nn.Module) -> None:
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_steps_as_its_children_would_alone():
    alone, joint = net(), net()
    train(alone, children(alone), range(5))
    train(joint, [Optimizers(children(joint))], range(5))
    assert_same(alone, joint)


def test_a_saved_state_continues_bit_for_bit():
    whole, parts = net(), net()
    train(whole, [Optimizers(children(whole))], range(6))
    first = Optimizers(children(parts))
    train(parts, [first], range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second = Optimizers(children(parts))
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for group in second.param_groups:
        group["lr"] = group["lr"] * 1.0  # what a schedule writes must reach the children
    train(parts, [second], range(3, 6))
    assert_same(whole, parts)
    assert all(group is mine for group, mine in zip(
        second.param_groups, (g for child in second.optimizers for g in child.param_groups), strict=True
    ))  # fmt: skip


def test_a_rate_changed_after_loading_is_used():
    model = net()
    optimizer = Optimizers(children(model))
    train(model, [optimizer], range(2))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(model)
    train(model, [optimizer], range(2, 4))
    assert_same(before, model)


def test_a_closure_is_evaluated_once():
    model, calls = net(), []
    optimizer = Optimizers(children(model))

    def closure() -> torch.Tensor:
        calls.append(1)
        value = loss(model, 0)
        value.backward()
        return value

    assert optimizer.step(closure) > 0
    assert calls == [1]


def test_a_parameter_belongs_to_one_child():
    model = net()
    with pytest.raises(ValueError, match="more than one"):
        Optimizers([torch.optim.Adam(model.parameters()), torch.optim.SGD(model.parameters(), lr=1.0)])


WORDS = [
    "recipe=quickstart", "data.count=64", "batch_size=8", "model.width=16", "model.hidden=16", "every.log=1",
    "every.validate=0", "every.picture=0", "every.checkpoint=2", "loggers.tensorboard=false", "schedule.steps=20",
    "trainer.accelerator=cpu", "trainer.gradient_clip_val=0.1", "optimizer.lr=0.01",
    "+groups.stem={_target_: torch.optim.RMSprop, lr: 1e-3}", "+groups.mix.lr=2e-3",
]  # fmt: skip


def run(folder: Path, *words: str) -> dict[str, torch.Tensor]:
    assert main(["train", *WORDS, f"run_dir={folder}", *words]) == 0
    return RunFolder(folder).load_model().state_dict()


def test_two_classes_in_a_run_resume_exactly_and_log_every_rate(tmp_path: Path):
    whole = run(tmp_path / "whole", "trainer.max_steps=8")
    run(tmp_path / "parts", "trainer.max_steps=3")
    assert main(["train", f"resume={tmp_path / 'parts'}", "trainer.max_steps=8"]) == 0
    parts = RunFolder(tmp_path / "parts").load_model().state_dict()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    with (tmp_path / "whole" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["step"]) == 8, "one step is counted per batch, not one per optimizer"
    rates = {name: float(rows[-1][f"train/{name}"]) for name in ("lr", "lr_stem", "lr_mix")}
    assert rates["lr_stem"] == pytest.approx(rates["lr"] / 10)
    assert rates["lr_mix"] == pytest.approx(rates["lr"] / 5)


def test_another_class_for_a_group_changes_its_parameters_only_at_first(tmp_path: Path):
    """After one step the gradients of both runs are the same, so only the group's parameters differ."""
    rms = run(tmp_path / "rms", "trainer.max_steps=1", "schedule.warmup=0", "ema=null")
    sgd = run(tmp_path / "sgd", "trainer.max_steps=1", "schedule.warmup=0", "ema=null",
              "groups.stem._target_=torch.optim.SGD")  # fmt: skip
    assert [name for name in rms if not torch.equal(rms[name], sgd[name])] == ["stem.weight", "stem.bias"]


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Linear(2, 2).requires_grad_(False)
        self.head = nn.Linear(2, 2)


def test_frozen_parameters_belong_to_no_optimizer():
    def task(**groups: dict[str, float]) -> Task:
        return Task(
            Frozen(), optimizer=lambda g: torch.optim.AdamW(g), schedule=lambda step: 1.0, seed=0, groups=groups
        )

    optimizer = task()._optimizer()
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]
    with pytest.raises(ValueError, match="no parameter to train starts with 'eye'; the model's parts are head"):
        task(eye={"lr": 0.1})._optimizer()
