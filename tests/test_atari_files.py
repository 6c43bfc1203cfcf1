"""Folders of the original generators, films, and 3-D rooms, on small files in their layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from objectscape.cli import main
from objectscape.data.atari.original import AtariFolder
from objectscape.data.atari.stacks import AtariStacks
from objectscape.data.atari.video import VideoRecording
from objectscape.data.rooms3d import Rooms3D


def frame(x: int, size: tuple[int, int] = (210, 160)) -> np.ndarray:
    image = np.full((*size, 3), (40, 20, 10), np.uint8)
    image[100:116, x : x + 4] = (200, 100, 50)
    return image


@pytest.fixture
def original(tmp_path: Path) -> Path:
    root = tmp_path / "aiml_atari_data" / "Pong-v0"
    for split, count in (("train", 12), ("validation", 2), ("test", 2)):
        for kind in ("rgb", "space_like", "bb"):
            (root / kind / split).mkdir(parents=True)
        for stack in range(count):
            for i in range(4):
                image, stem = frame(10 * stack + 2 * i), f"{stack:05}_{i}"
                Image.fromarray(image).save(root / "rgb" / split / f"{stem}.png")
                small = Image.fromarray(image).resize((128, 128), Image.Resampling.LANCZOS)
                Image.fromarray(np.array(small)[..., ::-1]).save(root / "space_like" / split / f"{stem}.png")
                x = (10 * stack + 2 * i) / 160
                rows = f"{100 / 210}, {116 / 210}, {x}, {x + 4 / 160}, M, player\n0.0, 0.1, 0.2, 0.3, S, score\n"
                (root / "bb" / split / f"{stem}.csv").write_text(rows)
    return root


def test_the_original_layout(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = AtariFolder(path=original, split="train")
    scene = data.batch([3, 1])
    published = ["no_label", "player", "enemy", "ball", "enemy_score", "player_score"]
    assert (len(data), data.classes, data.spec.name) == (12, [*published, "score"], "atari/Pong")
    assert scene.labels is not None
    assert scene.labels[0, 2].tolist() == [1, 6]
    assert torch.equal(scene.image[0, 2], torch.from_numpy(frame(34)).permute(2, 0, 1))
    assert scene.boxes is not None
    assert scene.factors is not None
    assert torch.allclose(scene.boxes[0, 2, 0], torch.tensor([34.0, 100, 38, 116]), atol=1e-3)
    assert scene.factors["hud"][0, 2].tolist() == [False, True]
    small = AtariFolder(path=original, split="test", kind="space_like").batch([0])
    assert small.image[0, 0, :, 5, 5].tolist() == [40, 20, 10]  # RGB again
    older = tmp_path / "older"
    (older / "space_like").mkdir(parents=True)
    (original / "space_like").rename(older / "space_like" / "Pong-v0")
    (older / "games" / "Pong-v0").mkdir(parents=True)
    assert AtariFolder(path=older / "games" / "Pong-v0", split="val").batch([0]).image.shape == (1, 4, 3, 128, 128)
    assert main(["data", "convert", "atari_folder", f"source={original}", f"path={tmp_path / 'pong.h5'}"]) == 0
    assert "data=atari" in capsys.readouterr().out
    stacks = AtariStacks(path=tmp_path / "pong.h5", split="val", image_size=None).batch([0])
    assert stacks.motion_boxes is not None
    assert stacks.motion_boxes[0, 0, 0].tolist() == [0, 100, 4, 116]
    assert main(["data", "plot", str(tmp_path / "pong.h5")]) == 0


def test_images_alone_are_swapped_and_wrong_folders_are_explained(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / "Pong-v0" / split).mkdir(parents=True)
        Image.fromarray(frame(8)[..., ::-1]).save(tmp_path / "Pong-v0" / split / "00000.png")
    data = AtariFolder(path=tmp_path / "Pong-v0", split="train")
    assert data.batch([0]).image[0, :, 0, 0].tolist() == [40, 20, 10]
    assert data.spec.notes
    with pytest.raises(ValueError, match="no images of the known layouts"):
        AtariFolder(path=tmp_path / "Pong-v0" / "train")
    Image.fromarray(frame(8)).save(tmp_path / "Pong-v0" / "train" / "first.png")
    with pytest.raises(ValueError, match="expected a name such as"):
        AtariFolder(path=tmp_path / "Pong-v0")


def test_a_film_becomes_stacks_with_motion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [Image.fromarray(frame(3 * n, (120, 150))) for n in range(48)]
    images[0].save(tmp_path / "film.gif", save_all=True, append_images=images[1:], duration=40)
    (tmp_path / "frames").mkdir()
    for number, image in enumerate(images):
        image.save(tmp_path / "frames" / f"{number:03}.png")
    words = ["data", "make", "video", f"source={tmp_path / 'frames'}", f"path={tmp_path / 'film.h5'}"]
    assert main(words) == 0
    assert "data=video" in capsys.readouterr().out
    data = AtariStacks(path=tmp_path / "film.h5", split="test", image_size=None)
    scene = data.batch([0])
    assert scene.boxes is None
    assert scene.motion_boxes is not None
    assert [box[0].tolist()[0] for box in scene.motion_boxes[0]] == [3 * n for n in range(44, 48)]
    film = VideoRecording(source=tmp_path / "film.gif", split="train", every=6)
    assert film.batch([5, 0]).image.shape == (2, 4, 3, 120, 150)
    assert torch.equal(film.batch([5, 0])[1].image, film.batch([0])[0].image)
    with pytest.raises(ValueError, match="Lower every"):
        VideoRecording(source=tmp_path / "film.gif", every=30)
    (tmp_path / "words.mp4").write_text("not a film")
    with pytest.raises(ValueError, match="cannot be read as a film"):
        VideoRecording(source=tmp_path / "words.mp4")


def test_rooms(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        for number in (10, 2, 0):
            Image.fromarray(np.full((128, 128, 3), number, np.uint8)).save(tmp_path / split / f"{number}-0.png")
    (tmp_path / "test" / "bb").mkdir()
    (tmp_path / "test" / "bb" / "bb_0.txt").write_text("20,30,10,20\n100,90,4,6\n")
    (tmp_path / "test" / "bb" / "bb_1.txt").write_text("64,64,8,8\n")
    data = Rooms3D(path=tmp_path, split="test", image_size=64)
    scene = data.batch([1, 0, 2])
    assert scene.image[:, 0, 0, 0].tolist() == [2, 0, 10]  # in the order of the numbers
    assert scene.boxes is not None
    assert scene.present is not None
    assert scene.boxes[1].tolist() == [[7.5, 10, 12.5, 20], [49, 43.5, 51, 46.5]]
    assert scene.present.tolist() == [[True, False], [True, True], [False, False]]
    assert len(Rooms3D(path=tmp_path, split="test", labelled=True)) == 2
    assert Rooms3D(path=tmp_path).batch([0]).boxes is None
    (tmp_path / "test" / "bb" / "bb_1.txt").write_text("64,64,8\n")
    with pytest.raises(ValueError, match="expected lines cx,cy,w,h"):
        Rooms3D(path=tmp_path, split="test")
