"""What the papers' recipes amount to, against numbers worked out from the papers and their released code."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hydra.utils import instantiate
from PIL import Image

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import main
from objectscape.cli.config import load, options, parse, sweep_words

OURS = ("tiny", "_like", "quickstart", "minutes", "own_images", "workspace/")
PAPERS = [name for name in options("recipe") if not any(word in name for word in OURS)]
GENESIS_SLOTS = {"multi_dsprites": 5, "gqn": 7, "multi_object": 7, "shapestacks": 9, "sketchy": 10, "apc": 10}
SIDES = {"sketchy": 128, "apc": 128}


@pytest.mark.parametrize("name", PAPERS)
def test_training_is_the_papers(name: str) -> None:
    config = load([f"recipe={name}"])
    family, data = name.split("/")
    size = config.batch_size
    seen = (size if isinstance(size, int) else size[0][1]) * config.trainer.max_steps
    clip, rate = config.trainer.gradient_clip_val, instantiate(config.schedule)
    if family in ("genesis", "genesis_s", "genesis_v2", "monet", "vae", "vae_broadcast"):
        geco = instantiate(config.geco)
        assert (config.optimizer.lr, seen, clip, rate(1), rate(400_000)) == (1e-4, 16_000_000, None, 1, 1)
        goal = {64: 6948.864, 128: 27746.304 if data == "sketchy" else 27795.456}[SIDES.get(data, 64)]
        assert geco.goal == pytest.approx(goal)
        assert geco.step_size == pytest.approx({64: 1e-5, 128: 2.5e-6}[SIDES.get(data, 64)])
    elif family == "monet_burgess":
        assert (config.optimizer.lr, seen, clip, config.geco, rate(1)) == (1e-4, 64_000_000, None, None, 1)
        assert (config.model.first_pixel_std, config.model.pixel_std) == (0.09, 0.11)
    elif family == "slot_attention":
        assert (config.optimizer.lr, seen, clip) == (4e-4, 16_000_000 if data == "clevrtex" else 32_000_000, None)
        late = 110_000 if data.startswith("emorl") else 100_000  # the half-life begins after the warm-up, or with it
        assert (rate(5_000) > 0.48, rate(late)) == (True, pytest.approx(0.5))
    elif family == "efficientmorl":
        assert (config.optimizer.lr, clip, rate(5_000), rate(110_000)) == (4e-4, 5, 0.5, 0.5)
        assert seen == 32 * (200_000 if data == "tetrominoes" else 300_000)
    elif family.startswith("space"):
        foreground = config.groups.foreground
        assert (foreground._target_.rpartition(".")[2], config.optimizer.lr, clip) == ("RMSprop", 1e-3, 1)
        expected = (1e-5, 12) if family == "space" else (3e-5, 16)
        assert (foreground.lr, config.batch_size) == expected
        late = config.model.get("presence_prior", [0, 0, 0, 0.01])[3]
        assert late == (1e-10 if family != "space" or data == "atari_joint" else 0.01)
        instantiate({**config.model, "_convert_": "all"})
    elif family in ("sswm", "sswm_single", "op3", "vrnn", "vrnn_star"):
        assert (config.optimizer.lr, config.trainer.max_steps, clip, rate(300_000)) == (3e-4, 350_000, 5, 1)
        assert config.clip.length == [[0, 3], [200_001, 5], [250_001, 7], [300_001, 10]]
        assert config.batch_size[-1][1] == (8 if family == "sswm" else 10)
        geco = instantiate(config.geco)
        published = -14_500 if "vrnn" in family else -25_500
        assert geco.target == pytest.approx(published, rel=2e-3)
        assert geco.warm_start == (1_000 if "vrnn" in family else 3_000)
        assert bool(config.model.get("action_size")) == (data in ("bair_actions", "planning"))
    else:
        assert family == "iodine"
        assert (config.optimizer.lr, config.batch_size) == {
            "clevr6": (1e-3, 32), "multi_dsprites": (3e-4, 128), "tetrominoes": (3e-4, 256)
        }[data]  # fmt: skip
        assert (list(config.optimizer.betas), clip, rate(1_000_000)) == ([0.95, 0.999], 5, pytest.approx(0.1))
    if data in GENESIS_SLOTS and "goal" in str(config.geco):
        assert config.model.get("slots", GENESIS_SLOTS[data]) == GENESIS_SLOTS[data]


@pytest.mark.parametrize(
    ("data", "target", "sigma"),
    [("tetrominoes", -4498.2, 0.3), ("clevr6", -60_992, 0.1), ("clevr10", -103_219, 0.1), ("clevrtex", -73_728, 0.1)],
)
def test_efficientmorl_aims_at_the_published_totals(data: str, target: float, sigma: float) -> None:
    config = load([f"recipe=efficientmorl/{data}"])
    assert instantiate(config.geco).target == pytest.approx(target, rel=1e-4)
    assert config.model.pixel_std == sigma
    assert config.geco.get("acceleration", 1) == (5 if config.model.image_size == 128 else 1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("clevr", ["data.crop=genesis", "data.image_size=128", "model.image_size=128", "model.slots=11"]),
        ("tetrominoes", ["data.image_size=32", "model.image_size=32", "model.slots=4"]),
    ],
)
def test_the_genesis_code_on_other_multi_object_data(data: str, words: list[str]) -> None:
    config = load(["recipe=genesis/multi_object", f"data.name={data}", "data.path=FILE", *words])
    assert instantiate(config.model).slots == config.model.slots
    assert instantiate(config.geco).goal == pytest.approx(0.5655 * 3 * config.model.image_size**2)


@pytest.mark.parametrize("name", options("sweep"))
def test_a_sweep_sets_what_its_recipe_has(name: str) -> None:
    words = sweep_words(["recipe=space_time/pong", f"sweep={name}"])
    sweeps = [override for override in parse(words) if override.is_sweep_override()]
    jobs = math.prod(len(list(override.sweep_string_iterator())) for override in sweeps)
    assert jobs == {"continuity": 10, "schedule": 8, "size_prior": 6}.get(name.split("/")[1], jobs)
    assert jobs > 1
    last = [f"{override.key_or_group}={list(override.sweep_string_iterator())[-1]}" for override in sweeps]
    load(["recipe=space_time/pong", *last])


def test_a_sweeps_values_give_way_to_those_of_the_user(tmp_path: Path) -> None:
    assert sweep_words(["seed=7", "sweep=space_time/continuity"]) == ["seed=7", "model.continuity_weight=0,10"]
    (tmp_path / "mine.yaml").write_text("batch_size: 8,16\n")
    assert sweep_words([f"sweep={tmp_path / 'mine.yaml'}"]) == ["batch_size=8,16"]
    with pytest.raises(ValueError, match="Did you mean 'space_time/continuity'"):
        sweep_words(["sweep=space_time/continuty"])


@pytest.mark.parametrize("kind", ["folder", "hdf5"])
def test_a_folder_of_ten_images_can_be_trained_on(kind: str, tmp_path: Path) -> None:
    folder, file, run = tmp_path / "photos", tmp_path / "photos.h5", tmp_path / "run"
    folder.mkdir()
    for number in range(10):
        Image.new("RGB", (80 + number, 60), (20 * number, 80, 120)).save(folder / f"{number}.png")
    data = [f"data.path={folder}"]
    if kind == "hdf5":
        assert main(["data", "convert", "folder", f"source={folder}", "image_size=64", f"path={file}"]) == 0
        data = ["data=hdf5", f"data.path={file}"]
    words = ["recipe=own_images", *data, f"run_dir={run}", "trainer.max_steps=2", "loggers.tensorboard=false"]
    assert main(["train", *words]) == 0
    assert RunFolder.open(run).status()["state"] == "done"
