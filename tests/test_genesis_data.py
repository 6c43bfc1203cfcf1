"""GQN, ShapeStacks, Sketchy and APC, on tiny files in the original formats."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from objectscape.data.apc import APC
from objectscape.data.dataset import SceneDataset
from objectscape.data.formats.hdf5 import HDF5Scenes, check_hdf5, write_hdf5
from objectscape.data.formats.tfrecord import encode_example, write_records
from objectscape.data.gqn import GQN
from objectscape.data.shapestacks import ShapeStacks
from objectscape.data.sketchy import CAMERAS, PER_STEP, Sketchy, unpack


def jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=100, subsampling=0)
    return stream.getvalue()


def assert_converts(dataset: SceneDataset, folder: Path) -> None:
    """Our HDF5 file gives back what the reader gives."""
    path = folder / f"{dataset.spec.name.replace('/', '_')}.h5"
    write_hdf5(path, {dataset.split: dataset})
    assert check_hdf5(path).splits == {dataset.split: len(dataset)}
    indices = [len(dataset) - 1, 0]
    read, expected = HDF5Scenes(path=path, split=dataset.split).batch(indices), dataset.batch(indices)
    assert torch.equal(read.image, expected.image)
    if expected.segments is not None:
        assert read.segments is not None
        assert torch.equal(read.segments, expected.segments)


# --- GQN


def gqn_scene(number: int, side: int = 64, views: int = 10) -> bytes:
    """Frame v of scene n is gray level 10 n + v everywhere."""
    cameras = np.tile(np.array([1, 2, 3, 0.5, -0.25], np.float32), (views, 1))
    cameras[:, 0] = 100 * number + np.arange(views)
    frames = [jpeg(np.full((side, side, 3), 10 * number + v, np.uint8)) for v in range(views)]
    return encode_example({"frames": frames, "cameras": cameras})


@pytest.fixture
def gqn(tmp_path: Path) -> Path:
    for folder, total, numbers in (("train", 120, (1, 2, 118, 119)), ("test", 3, (1, 3))):
        (tmp_path / folder).mkdir()
        for number in numbers:
            name = f"{number:0{len(str(total))}d}-of-{total}.tfrecord"
            write_records(tmp_path / folder / name, [gqn_scene(number % 12 + k) for k in range(2)])
    return tmp_path


def test_gqn_splits_by_file_number(gqn: Path) -> None:
    assert [len(GQN(path=gqn, split=split)) for split in ("train", "val", "test")] == [60, 20, 40]
    assert len(GQN(path=gqn, max_files=1)) == 20
    val = GQN(path=gqn, split="val")  # file 119 of 120: scenes 11, 12
    assert val.batch([13, 2, 13, 5]).image[:, 0, 0, 0].tolist() == [123, 112, 123, 115]
    assert GQN(path=gqn, image_size=32)[0].image.shape == (3, 32, 32)


def test_gqn_sequences_carry_cameras(gqn: Path) -> None:
    scenes = GQN(path=gqn, split="val", sequence=True).batch([1, 0])
    assert scenes.image.shape == (2, 10, 3, 64, 64)
    assert scenes.image[0, :, 0, 0, 0].tolist() == [120 + v for v in range(10)]
    assert scenes.actions is not None
    assert scenes.actions.shape == (2, 10, 7)
    expected = torch.tensor([1203, 2, 3, np.sin(0.5), np.cos(0.5), np.sin(-0.25), np.cos(0.25)])
    torch.testing.assert_close(scenes.actions[0, 3].double(), expected.double(), rtol=1e-6, atol=1e-6)


def test_gqn_converts(gqn: Path, tmp_path: Path) -> None:
    assert_converts(GQN(path=gqn, split="test", check=True), tmp_path)


def test_gqn_answers_bad_input(gqn: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds scenes of 10 frames of \(64, 64\) pixels, but mazes has 300 of 84x84"):
        GQN(path=gqn, name="mazes")
    with pytest.raises(ValueError, match=r"Did you mean 'jaco'"):
        GQN(path=gqn, name="jacko")
    with pytest.raises(FileNotFoundError, match=r"no such folder. Expected the train files of rooms_ring_camera"):
        GQN(path=gqn / "train")
    for file in (gqn / "train").glob("11*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"holds no .tfrecord file of the split 'val'"):
        GQN(path=gqn, split="val")
    write_records(
        gqn / "test" / "1-of-3.tfrecord", [encode_example({"frames": [b"no jpeg"] * 10, "cameras": np.zeros(50)})]
    )
    with pytest.raises(ValueError, match=r"record 0, frame 0 is no image that can be decoded"):
        GQN(path=gqn, split="test")
    write_records(gqn / "test" / "1-of-3.tfrecord", [encode_example({"image": np.zeros(3, np.uint8)})])
    with pytest.raises(ValueError, match=r"lacks cameras, frames \(it has image\); is it a GQN file"):
        GQN(path=gqn, split="test")


# --- ShapeStacks

STABLE, UNSTABLE = "env_ccs-hard-h=2-vcom=0-vpsf=0-v=60", "env_blocks-easy-h=4-vcom=0-vpsf=3-v=7"


@pytest.fixture
def shapestacks(tmp_path: Path) -> Path:
    (tmp_path / "splits" / "default").mkdir(parents=True)
    for name, scenarios in (("train", (STABLE, UNSTABLE)), ("eval", (STABLE,)), ("test", (UNSTABLE,))):
        (tmp_path / "splits" / "default" / f"{name}.txt").write_text("\n".join(scenarios) + "\n")
    labels = np.zeros((224, 224), np.uint8)
    labels[100:150, 100:120], labels[60:100, 100:120], labels[14, 14] = 1, 2, 7
    for scenario in (STABLE, UNSTABLE):
        recording, iseg = tmp_path / "recordings" / scenario, tmp_path / "iseg" / scenario
        recording.mkdir(parents=True)
        iseg.mkdir(parents=True)
        for camera in (1, 7):
            image = np.random.default_rng(camera).integers(0, 256, (224, 224, 3)).astype(np.uint8)
            Image.fromarray(image).save(recording / f"rgb-w=4-f=1-l=3-c=original-cam_{camera}-mono-0.png")
            map_ = np.repeat(labels[..., None] * 32, 4, -1)
            map_[..., 3] = 255
            Image.fromarray(map_).save(iseg / f"iseg-w=0-f=0-l=0-c=original-cam_{camera}-mono-0.map", format="png")
        (recording / "log.txt").touch()
    return tmp_path


def test_shapestacks(shapestacks: Path, tmp_path: Path) -> None:
    dataset = ShapeStacks(path=shapestacks, image_size=196)
    assert len(dataset) == 4
    assert dataset.unstable.tolist() == [False, False, True, True]
    scene = dataset[0]
    with Image.open(dataset.files[0]) as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)[:, 14:210, 14:210]
    assert torch.equal(scene.image, expected)
    assert scene.segments is not None
    assert scene.present is not None
    assert scene.segments[86, 86] == 1
    assert scene.segments[50, 86] == 2
    assert scene.segments[0, 0] == -1  # label 7, unassigned
    assert scene.present.tolist() == [True, True, False, False, False, False]
    assert ShapeStacks(path=shapestacks, split="val")[1].image.shape == (3, 64, 64)
    assert_converts(ShapeStacks(path=shapestacks, split="test"), tmp_path)


def test_shapestacks_answers_bad_input(shapestacks: Path) -> None:
    (next((shapestacks / "iseg" / STABLE).iterdir())).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"Expected instance labels \(archive shapestacks-iseg\), or set labels=False"
    ):
        ShapeStacks(path=shapestacks).batch(range(2))
    assert ShapeStacks(path=shapestacks, labels=False)[0].segments is None
    with pytest.raises(FileNotFoundError, match=r"Expected a folder of split files .*Did you mean 'default'"):
        ShapeStacks(path=shapestacks, split_name="defalt")
    (shapestacks / "splits" / "default" / "eval.txt").write_text("env_missing\n")
    with pytest.raises(FileNotFoundError, match=r"env_missing: no such folder. Expected a recording"):
        ShapeStacks(path=shapestacks, split="val")


# --- Sketchy


def episode(path: Path, steps: int, seed: int) -> Path:
    noise = np.random.default_rng(seed).integers(0, 8, (steps, 2, 15, 24, 3))
    smooth = (noise * 32).repeat(40, 2).repeat(40, 3).astype(np.uint8)  # 600x960, blocks of 40 pixels
    return write_records(
        path,
        [
            encode_example(
                {CAMERAS[0][0]: [jpeg(left)], CAMERAS[1][0]: [jpeg(right)], "actions": np.zeros(7, np.float32)}
                | {"gripper/grasp": np.ones(1, np.int64)}
            )
            for left, right in smooth
        ],
    )


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    """Ten episodes, packed into two archives as published and unpacked again."""
    made, archives = tmp_path / "made", tmp_path / "archives"
    made.mkdir()
    archives.mkdir()
    for number in range(10):
        episode(made / f"{number:02d}_uuid", steps=1 if number else 2, seed=number)
    for part in range(2):
        with tarfile.open(archives / f"lift_green__demos-0000{part}-of-00002.tar.bz2", "w:bz2") as archive:
            for file in sorted(made.iterdir())[5 * part : 5 * part + 5]:
                archive.add(file, arcname=f"data/{file.name}")
    assert len(unpack(archives, tmp_path / "episodes")) == 10
    assert len(unpack(archives, tmp_path / "episodes")) == 10  # what is there is kept
    return tmp_path / "episodes"


def test_sketchy(episodes: Path, tmp_path: Path) -> None:
    sizes = {split: len(Sketchy(path=episodes, split=split)) for split in ("train", "val", "test")}
    assert sizes == {"val": 2 * PER_STEP, "test": PER_STEP, "train": 8 * PER_STEP}
    dataset = Sketchy(path=episodes, split="val")
    scenes = dataset.batch(range(2 * PER_STEP))
    assert scenes.image.shape == (28, 3, 128, 128)
    # Step 1, right camera, upper middle crop, by the rule: rows 91.., 352 of them; columns 144 + 160.., 352 of them
    noise = np.random.default_rng(0).integers(0, 8, (2, 2, 15, 24, 3))[1, 1] * 32
    frame = noise.repeat(40, 0).repeat(40, 1).astype(np.uint8)
    expected = Image.fromarray(frame[91 : 91 + 352, 304 : 304 + 352]).resize((128, 128), Image.Resampling.BILINEAR)
    difference = np.abs(scenes.image[14 + 7 + 2].permute(1, 2, 0).numpy().astype(int) - np.array(expected).astype(int))
    assert difference.mean() < 2  # JPEG
    full = Image.fromarray(frame[91 : 91 + 448, 144 + 112 : 144 + 560]).resize((128, 128), Image.Resampling.BILINEAR)
    difference = np.abs(scenes.image[14 + 7].permute(1, 2, 0).numpy().astype(int) - np.array(full).astype(int))
    assert difference.mean() < 2
    assert torch.equal(dataset.batch([23, 3, 23]).image, scenes.image[[23, 3, 23]])
    assert_converts(Sketchy(path=episodes, split="test", check=True), tmp_path)


def test_sketchy_answers_bad_input(episodes: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no episode files .*but 2 archives .tar.bz2. Unpack them with"):
        Sketchy(path=tmp_path / "archives")
    for file in sorted(episodes.iterdir())[3:]:
        file.unlink()
    with pytest.raises(ValueError, match=r"split='val' is empty: a tenth of the 3 episodes"):
        Sketchy(path=episodes, split="val")
    write_records(sorted(episodes.iterdir())[0], [encode_example({"actions": np.zeros(7, np.float32)})])
    with pytest.raises(
        ValueError, match=r"lacks 'pixels/basket_front_left' \(it has actions\); is it an episode of Sketchy"
    ):
        Sketchy(path=episodes)[0]
    small = jpeg(np.zeros((60, 96, 3), np.uint8))
    write_records(sorted(episodes.iterdir())[0], [encode_example({name: [small] for name, _ in CAMERAS})])
    with pytest.raises(ValueError, match=r"has \(60, 96\) pixels; the published crop needs \(600, 960\)"):
        Sketchy(path=episodes)[0]
    broken = tmp_path / "archives" / "lift_green__demos-00000-of-00002.tar.bz2"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"00000-of-00002.tar.bz2 cannot be unpacked"):
        unpack(tmp_path / "archives", tmp_path / "again")
    with pytest.raises(ValueError, match=r"holds no .tar.bz2 archive"):
        unpack(episodes, tmp_path / "again")


# --- APC


@pytest.fixture
def apc(tmp_path: Path) -> Path:
    for number in range(20):
        scene = tmp_path / "training" / "shelf" / f"object{number % 4}" / f"scene-{number:04d}"
        (scene / "masks").mkdir(parents=True)
        for frame in range(2):
            Image.new("RGB", (64, 48), (number, frame, 0)).save(scene / f"frame-{frame:06d}.color.png")
            mask = np.zeros((48, 64), np.uint8)
            mask[12:36, 20:40], mask[:4] = 255, 128
            Image.fromarray(mask).save(scene / "masks" / f"frame-{frame:06d}.mask.png")
    empty = tmp_path / "training" / "shelf" / "object0" / "scene-empty"
    empty.mkdir()
    Image.new("RGB", (64, 48)).save(empty / "frame-000000.color.png")
    return tmp_path


def test_apc(apc: Path, tmp_path: Path) -> None:
    parts = {split: APC(path=apc, split=split) for split in ("train", "val", "test")}
    scenes = sorted(str(scene) for scene in (apc / "training").glob("*/*/scene-*"))
    random.Random(0).shuffle(scenes)  # the published rule
    assert {str(file.parent) for file in parts["val"].files} == set(scenes[:2])
    assert {str(file.parent) for file in parts["test"].files} == set(scenes[2:4])
    assert {str(file.parent) for file in parts["train"].files} == set(scenes[4:])
    whole = APC(path=apc / "training", image_size=48)
    where = {file.parent.name: n for n, file in enumerate(whole.files)}
    name = next(name for name in where if name != "scene-empty")
    scene = whole[where[name]]
    assert scene.image.shape == (3, 48, 48)
    assert scene.segments is not None
    assert scene.segments.sum() == 24 * 20  # the central square keeps the object; 128 is not foreground
    assert scene.segments[12, 12] == 1  # column 20 of 64, less the 8 that are cut off
    if "scene-empty" in where:
        segments = whole[where["scene-empty"]].segments
        assert segments is not None
        assert segments.sum() == 0
    assert APC(path=apc)[0].image.shape == (3, 128, 128)
    assert_converts(parts["val"], tmp_path)


def test_apc_answers_bad_input(apc: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no scenes <container>/<object>/scene-\*"):
        APC(path=apc / "training" / "shelf")
    (next(iter(APC(path=apc).files))).write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"color.png cannot be read as an image"):
        APC(path=apc)[0]
    with pytest.raises(ValueError, match=r"unknown split 'trian'. Did you mean 'train'"):
        APC(path=apc, split="trian")
