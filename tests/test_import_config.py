"""bimGW's YAML becomes commands that our configuration accepts, and every key without a counterpart is named."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from objectscape.cli import main
from objectscape.cli.config import load, options

MAIN = """\
seed: 3
max_epochs: -1
max_steps: 100000
simple_shapes_path: ???
img_size: 32
n_validation_examples: 32
slurm: {script: train, slurm: {"--gres": "gpu:${devices}"}}
vae:
  {batch_size: 128, beta: 0.5, z_size: 12, ae_size: 256, type: optimal_sigma, n_FID_samples: 1000,
  optim: {lr: 1e-4, weight_decay: 3e-5}, scheduler: {step: 20, gamma: 0.5}}
lm: {z_size: 12, batch_size: 128, optim: {lr: 1e-4, weight_decay: 3e-5}, scheduler: {step: 10, gamma: 0.1}}
global_workspace:
  batch_size: 128
  selected_domains: {v: v, text: t}
  z_size: "${vae.z_size}"
  hidden_size: {encoder: {t: 512, attr: 32, v: 32}, decoder: {t: 512, attr: 32, v: 32}}
  n_layers: {encoder: {t: 1, attr: 1, v: 2}, decoder: {t: 0, attr: 0, v: 0}, decoder_head: {t: 2, attr: 2, v: 2}}
  prop_labelled_images: 0.01
  prop_available_images: "${oc.env:SHARE}"
  vae_checkpoint: vae.ckpt
  nonsense: 3
  optim: {lr: {encoders: 1e-4, decoders: 1e-4, supervised_multiplier: 1.}, weight_decay: 3e-5}
  scheduler: {mode: fixed, interval: epoch, step: 20, gamma: 0.5}
losses: {schedules: null, coefs: {demi_cycles: 0., cycles: 0., supervision: 1., cosine: 0., contrastive: 1.3}}
"""


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    (tmp_path / "main.yaml").write_text(MAIN)
    (tmp_path / "local.yaml").write_text("seed: 4\nsimple_shapes_path: shapes\n")
    files = [str(tmp_path / name) for name in ("main.yaml", "local.yaml")]
    assert main(["import-config", "bimgw", *files, "losses.coefs.cycles=0.5"]) == 0
    return capsys.readouterr().out


def test_commands_are_those_of_the_file(printed: str) -> None:
    lines = [shlex.split(line) for line in printed.splitlines() if line.startswith("objectscape train")]
    vision, text, workspace = (load(line[2:]) for line in lines)
    assert (vision.seed, vision.model.width, vision.model.sigma, vision.model.beta) == (4, 256, "optimal", 0.5)
    assert vision.optimizer.weight_decay == pytest.approx(3e-5 / 128)
    rate = instantiate(vision.schedule)
    assert (rate(20 * 3907 - 1), rate(20 * 3907)) == (1.0, 0.5)
    assert (text.model.latent_size, text.data.path, text.schedule.factor) == (12, "shapes", 0.1)
    model = workspace.model
    assert model.weights == {"translation": 1, "contrastive": 1.3, "demi_cycle": 0, "cycle": 0.5}
    assert model.hidden_size == {"v": 32, "bert": 512}
    assert model.encoder_layers == {"v": 2, "bert": 1}
    assert (model.state_size, model.cycles_from, workspace.data.matched) == (12, 0, 5000)
    assert (workspace.optimizer.lr, workspace.groups.decoders.lr) == (1e-4, 1e-4)


def test_what_has_no_counterpart_is_named(printed: str) -> None:
    notes = printed.split("# without counterpart")[1]
    for key in ("slurm:", "global_workspace.vae_checkpoint:", "losses.coefs.cosine:", "global_workspace.nonsense:"):
        assert f"# {key}" in notes
    assert "prop_available_images: computed when bimGW starts" in notes
    assert "vae.beta" not in notes
    assert "nonsense: no key that we know" in notes


def test_mistakes_are_answered_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "other.yaml").write_text("a: 1")
    (tmp_path / "pair.yaml").write_text("global_workspace: {selected_domains: [attr, t]}")
    for words, answer in (
        (["bimgw", "none.yaml"], "there is no file"),
        (["bimgv", "none.yaml"], "bimgw"),
        (["bimgw", str(tmp_path / "list.yaml")], "holds no settings"),
        (["bimgw", str(tmp_path / "other.yaml")], "none of bimGW's sections"),
        (["bimgw", str(tmp_path / "pair.yaml")], "expected v with attr"),
    ):
        assert main(["import-config", *words]) == 1
        assert answer in capsys.readouterr().err


PUBLISHED = [name for name in options("recipe") if name.startswith(("workspace/bimgw", "workspace/shimmer"))]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schedules_follow_torch(name: str) -> None:
    schedule = instantiate(load([f"recipe={name}"]).schedule)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    steps = 50 if "shimmer" in name else 2 * schedule.every
    small = type(schedule)(**(vars(schedule) | ({"steps": 50} if "shimmer" in name else {"every": 10})))
    theirs: torch.optim.lr_scheduler.LRScheduler
    if "shimmer" in name:
        theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, steps)
    else:
        theirs = torch.optim.lr_scheduler.StepLR(optimizer, 10, gamma=small.factor)
    for step in range(49):
        assert small(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        theirs.step()
