"""Data sets in another size than their own, and every model on every rendered data set."""

from __future__ import annotations

import pytest
import torch

from objectscape.cli import main
from objectscape.cli.config import load
from objectscape.data.boxes import boxes_from_segments
from objectscape.data.building import build_data
from objectscape.data.formats.hdf5 import HDF5Scenes, write_hdf5
from objectscape.data.loading import TrainLoader
from objectscape.data.resizing import resize_scene, resized
from objectscape.data.synthetic.multi_dsprites import MultiDSprites
from objectscape.data.synthetic.tetrominoes import Tetrominoes
from objectscape.scene import Scene


def test_twice_the_size_and_back_is_the_same() -> None:
    scene = Tetrominoes(split="test", count=8).batch(range(8))
    large = resize_scene(scene, (70, 105))
    assert large.image.shape == (8, 3, 70, 105)
    assert large.segments is not None
    assert large.boxes is not None
    torch.testing.assert_close(large.boxes, boxes_from_segments(large.segments, 3)[0])
    again = resize_scene(large, (35, 35))
    assert torch.equal(again.image, scene.image)
    assert again.segments is not None
    assert scene.segments is not None
    assert torch.equal(again.segments, scene.segments)
    torch.testing.assert_close(again.boxes, scene.boxes)


def test_a_smaller_image_is_the_average_of_its_area() -> None:
    image = torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small = resize_scene(Scene(image=image), (4, 4)).image
    expected = image.float().unflatten(2, (4, 2)).unflatten(4, (4, 3)).mean((3, 5)).round()
    assert torch.equal(small, expected.to(torch.uint8))
    clip = Scene(image=image[:, None].expand(-1, 5, -1, -1, -1))
    assert torch.equal(resize_scene(clip, (4, 4)).image[:, 2], small)


def test_a_resized_data_set_is_the_same_scenes_wherever_they_come_from() -> None:
    plain, small = MultiDSprites(split="train", count=6), resized(MultiDSprites(split="train", count=6), 32)
    assert small.spec.image_size == (32, 32)
    assert "64x64 to 32x32" in small.spec.notes
    for made in (small.batch([4, 1]), small.all()[torch.tensor([4, 1])]):  # type: ignore[attr-defined]
        expected = resize_scene(plain.batch([4, 1]), (32, 32))
        assert torch.equal(made.image, expected.image)
        assert made.segments is not None
        assert expected.segments is not None
        assert torch.equal(made.segments, expected.segments)
    stream = next(iter(TrainLoader(small, batch_size=3, seed=0, storage="stream")))
    assert stream.image.shape == (3, 3, 32, 32)
    assert resized(plain, 64) is plain


def test_data_image_size_works_for_every_data_set(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data=tetrominoes", "data.count=4"]
    assert build_data(load([*words, "data.image_size=64"]).data, "train").batch([0]).image.shape == (1, 3, 64, 64)
    assert build_data(load([*words, "data.image_size=[32,64]"]).data, "train").batch([0]).image.shape == (1, 3, 32, 64)
    with pytest.raises(ValueError, match="image_size=0; expected a positive number of pixels"):
        build_data(load([*words, "data.image_size=0"]).data, "train")
    write_hdf5(tmp_path / "t.h5", {"train": Tetrominoes(count=4)})
    stored = resized(HDF5Scenes(path=tmp_path / "t.h5", split="train"), 70)
    assert torch.equal(stored.batch([3]).image, resized(Tetrominoes(count=4), 70).batch([3]).image)
    assert main(["data", "make", "tetrominoes", "n=4", "val=0", "test=0", "size=32", f"path={tmp_path / 'm.h5'}"]) == 0
    assert "32 x 32" in capsys.readouterr().out
