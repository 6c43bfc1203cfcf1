"""Readers of clips: BAIR and towel_pick TFRecords, archives of SSWM and OP3."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from objectscape.data.formats.tfrecord import encode_example, write_records
from objectscape.data.robot_videos import RobotVideos
from objectscape.data.video_h5 import VideoArchive


def films(folder: Path, name: str, *, frames: int = 3, height: int = 64, compress: bool = False) -> np.ndarray:
    """Three clips in a folder's training files; their pictures (N, T, H, W, 3)."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, frames, height, 64, 3), dtype=np.uint8)
    image, action = (
        ("image_aux1/encoded", "action") if name == "bair" else ("env/image_view1/encoded", "policy/actions")
    )
    payloads = []
    for clip, film in enumerate(pictures):
        features = {}
        for t, picture in enumerate(film):
            features[f"{t}/{image}"] = [picture.tobytes()]
            if t < frames - 1:
                features[f"{t}/{action}"] = np.full(4, clip + t / 10, np.float32)
        payloads.append(encode_example(features))
    (folder / "train").mkdir(parents=True)
    write_records(folder / "train" / "traj_0_to_2.tfrecords", payloads, compress=compress)
    return pictures


def test_bair_is_read_with_its_actions(tmp_path: Path) -> None:
    pictures = films(tmp_path, "bair")
    data = RobotVideos(path=tmp_path, name="bair")
    scene = data.batch([2, 0])
    np.testing.assert_array_equal(scene.image.permute(0, 1, 3, 4, 2).numpy(), pictures[[2, 0]])
    assert scene.actions is not None
    assert scene.actions[:, :, 0].tolist() == [pytest.approx([2, 2.1, 0]), pytest.approx([0, 0.1, 0])]
    assert (len(data), data.spec.frames, data.spec.actions) == (3, 3, 4)
    with pytest.raises(ValueError, match="image_aux1"):
        RobotVideos(path=tmp_path, name="bair", camera="main")
    with pytest.raises(FileNotFoundError, match="test"):
        RobotVideos(path=tmp_path, name="bair", split="test")


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_towel_pick_becomes_square(tmp_path: Path, fit: str) -> None:
    pictures = films(tmp_path, "towel_pick", height=48, compress=True)
    scene = RobotVideos(path=tmp_path, name="towel_pick", fit=fit).batch([1])  # type: ignore[arg-type]
    assert scene.image.shape == (1, 3, 3, 64, 64)
    if fit == "pad":
        assert scene.image[..., :8, :].max() == 0
        np.testing.assert_array_equal(scene.image[0, :, :, 8:56].permute(0, 2, 3, 1).numpy(), pictures[1])
    else:
        assert abs(float(scene.image.float().mean()) - pictures[1].mean()) < 4


def archive(path: Path, *, floating: bool, op3: bool) -> np.ndarray:
    levels = np.random.default_rng(0).integers(0, 2, (4, 5, 8, 8, 3), dtype=np.uint8)  # a dark clip of 0 and 1
    with h5py.File(path, "w") as file:
        group = file.create_group("training" if op3 else "train")
        group["features" if op3 else "imgs"] = levels / np.float32(255) if floating else levels
        group["groups" if op3 else "masks"] = levels[..., :1].astype(np.float32)
        group["actions"] = np.arange(4 * 5 * 2, dtype=np.float32).reshape(4, 5, 2)[: 3 if op3 else 4]
    return levels


@pytest.mark.parametrize(("floating", "op3"), [(False, False), (True, True), (False, True)])
def test_archives_of_sswm_and_op3(tmp_path: Path, floating: bool, op3: bool) -> None:
    levels = archive(tmp_path / "clips.h5", floating=floating, op3=op3)
    data = VideoArchive(path=tmp_path / "clips.h5")
    scene = data.batch([3, 3, 1])
    np.testing.assert_array_equal(scene.image.permute(1, 0, 3, 4, 2).numpy(), levels[:, [3, 3, 1]])
    assert scene.segments is not None
    np.testing.assert_array_equal(scene.segments.numpy(), levels[..., 0][:, [3, 3, 1]].swapaxes(0, 1))
    assert scene.actions is not None
    assert scene.actions.shape == (3, 4, 2)
    assert bool(scene.actions[:, -1].eq(0).all()) == op3
    assert data.spec.frames == 4
    with pytest.raises(ValueError, match="no group val"):
        VideoArchive(path=tmp_path / "clips.h5", split="val")


def test_other_archives_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["train/pictures"] = np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match=r"pictures \(2, 3, 4\)"):
        VideoArchive(path=tmp_path / "other.h5")
