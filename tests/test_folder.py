"""Folders as people have them: what systems leave behind, odd names, labels, splits, turned pictures."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.drawing import own_pictures
from objectscape.cli.show import fit_pictures, read_pictures
from objectscape.data.folder import ImageFolder
from objectscape.data.folder_files import mixed_splits, name_key
from objectscape.data.pictures import ORIENTATION


def pictures(folder: Path, n: int = 4, mode: str = "RGB") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new(mode, (32, 32), 20 * i if mode == "L" else (20 * i, 80, 120)).save(folder / f"{i}.png")


def everything(folder: Path, **options: object) -> ImageFolder:
    return ImageFolder(path=folder, split="all", image_size=16, **options)  # type: ignore[arg-type]


def test_what_systems_leave_behind_is_passed_over_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path)
    (tmp_path / "._3.png").write_bytes(b"\0\5\x16\7" + bytes(99))
    (tmp_path / "notes.txt").write_text("of the user")
    for place in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".thumbnails"):
        pictures(tmp_path / place, 1)
    os.symlink(tmp_path / "gone", tmp_path / "link.png")
    os.symlink(tmp_path, tmp_path / "loop")
    with caplog.at_level("INFO"):
        dataset = everything(tmp_path)
    assert [file.name for file in dataset.files] == ["0.png", "1.png", "2.png", "3.png"]
    dataset.batch(range(4))
    for remark in (
        "3 hidden",
        "2 folders of the system",
        "1 broken link",
        "1 links to a folder",
        "1 other files (.txt)",
    ):
        assert remark in dataset.spec.notes
        assert remark in caplog.text


def test_a_name_that_begins_with_a_tilde_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(Path("~odd"))
    assert len(everything(Path("~odd"))) == 4


def test_links_are_followed(tmp_path: Path) -> None:
    pictures(tmp_path / "real")
    (tmp_path / "d").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "d" / "part1")
    os.symlink(tmp_path / "real" / "0.png", tmp_path / "d" / "single.png")
    assert len(everything(tmp_path / "d")) == 5


def test_a_name_hashes_alike_in_every_encoding_and_normal_form(tmp_path: Path) -> None:
    composed = tmp_path / unicodedata.normalize("NFC", "café straße.png")
    decomposed = tmp_path / unicodedata.normalize("NFD", "café straße.png")
    latin = Path(os.fsdecode(os.fsencode(tmp_path) + "/café straße.png".encode("latin-1")))
    keys = {name_key(tmp_path, file) for file in (composed, decomposed, latin)}
    assert keys == {"café straße.png".encode()}
    others = [tmp_path / f"{n}.png" for n in range(20)]
    splits = [
        [[name_key(tmp_path, f) for f in part] for part in mixed_splits(tmp_path, [*others, file]).values()]
        for file in (composed, decomposed, latin)
    ]
    assert splits[0] == splits[1] == splits[2]


def test_a_name_that_is_no_utf8_is_read(tmp_path: Path) -> None:
    pictures(tmp_path / "d")
    raw = os.fsencode(tmp_path / "d") + b"/stra\xdfe.png"
    Image.new("RGB", (9, 9)).save(raw, format="PNG")
    dataset = everything(tmp_path / "d")
    assert len(dataset) == 5
    dataset.batch(range(5))
    Path(os.fsdecode(raw)).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="cannot be read as an image") as refused:
        dataset.batch(range(5))
    str(refused.value).encode()  # can be printed


@pytest.mark.parametrize("label", ["0_mask.PNG", "0_mask.tif", "masks/0.png", "masks/0.TIFF", "0_MASK.bmp"])
def test_label_files_of_any_suffix_and_case(tmp_path: Path, label: str) -> None:
    pictures(tmp_path)
    (tmp_path / label).parent.mkdir(exist_ok=True)
    Image.new("L", (32, 32), 1).save(tmp_path / label)
    dataset = everything(tmp_path)
    assert len(dataset) == 4
    assert dataset.batch([0, 1]).segments[:, 0, 0].tolist() == [1, -1]  # type: ignore[index]


@pytest.mark.parametrize(
    ("images", "label"), [("images", "masks/0.png"), ("Images", "Masks/0_mask.png"), ("photos", "masks/0.tif")]
)
def test_labels_beside_a_folder_of_images(tmp_path: Path, images: str, label: str) -> None:
    pictures(tmp_path / images)
    (tmp_path / label).parent.mkdir()
    Image.new("L", (32, 32), 1).save(tmp_path / label)
    Image.new("L", (32, 32), 1).save((tmp_path / label).with_name("gone.png"))
    dataset = everything(tmp_path)
    assert len(dataset) == 4
    assert "segments" in dataset.spec.fields
    assert "1 label files without a picture" in dataset.spec.notes


def test_photos_are_photos(tmp_path: Path) -> None:
    pictures(tmp_path / "masks")
    Image.new("RGB", (8, 8)).save(tmp_path / "masks" / "venetian_mask.png")
    assert len(everything(tmp_path / "masks")) == 5, "a root called masks"
    assert len(everything(tmp_path)) == 5, "no picture beside it has that name"
    assert "segments" not in everything(tmp_path).spec.fields


@pytest.mark.parametrize(
    "names", [("Train", "Val", "Test"), ("TRAINING", "validation", "testing"), ("train2017", "val2017", "test2017"),
              ("train_images", "dev", "test set")]
)  # fmt: skip
def test_splits_under_their_usual_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        pictures(tmp_path / name)
    pictures(tmp_path / "rest", 1)
    for split, name in zip(("train", "val", "test"), names, strict=True):
        dataset = ImageFolder(path=tmp_path, split=split)
        assert {file.parent.name for file in dataset.files} == {name}
    assert "1 outside of the splits' folders" in dataset.spec.notes


@pytest.mark.parametrize(
    ("folders", "answer"),
    [
        (("Val", "Test"), "none called train"),
        (("train", "Train"), "which one is the train split"),
        (("images/train", "images/test"), r"data.path=.*images"),
        (("train", "val", "validation"), "val and validation"),
        (("trainA", "testA"), "testA and trainA: these are names of splits"),
        (("A_train", "my test", "other"), "A_train and my test"),
    ],
)
def test_splits_that_are_not_clear_are_refused(tmp_path: Path, folders: tuple[str, ...], answer: str) -> None:
    for folder in folders:
        pictures(tmp_path / folder)
    with pytest.raises(ValueError, match=answer):
        ImageFolder(path=tmp_path, split="test")
    assert len(everything(tmp_path)) == 4 * len(folders)


def test_255_is_ignored_if_asked(tmp_path: Path) -> None:
    pictures(tmp_path, 1)
    labels = np.zeros((32, 32), np.uint8)
    labels[:8], labels[8:16] = 255, 3
    Image.fromarray(labels).save(tmp_path / "0_mask.png")
    assert everything(tmp_path).batch([0]).segments.unique().tolist() == [0, 1, 2]  # type: ignore[union-attr]
    ignoring = everything(tmp_path, ignore_label=255).batch([0]).segments
    assert ignoring.unique().tolist() == [-1, 0, 1]  # type: ignore[union-attr]


def turned(folder: Path, orientation: int, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (0, 0, size[0], 4))  # the first rows of the file
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(folder / "a.jpg", exif=exif, quality=100)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_turned_picture_turns_its_labels(tmp_path: Path, orientation: int) -> None:
    turned(tmp_path, orientation, (32, 16))
    labels = np.zeros((16, 32), np.uint8)
    labels[:4] = 1
    Image.fromarray(labels).save(tmp_path / "a_mask.png")
    scene = everything(tmp_path, resize="stretch").batch([0])
    assert scene.segments is not None
    white = scene.image[0].float().mean(0) > 127
    assert ((scene.segments[0] == 1) == white).float().mean() > 0.9
    upright = Image.fromarray(scene.segments[0].numpy().astype(np.uint8)).resize((16, 32), Image.Resampling.NEAREST)
    upright.save(tmp_path / "a_mask.png")  # made from the picture as it is shown
    again = everything(tmp_path, resize="stretch").batch([0]).segments
    assert torch.equal(again, scene.segments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("orientation", "size"), [(3, (32, 16)), (6, (16, 16)), (2, (32, 16))])
def test_labels_of_a_turned_picture_that_could_be_either_way_are_refused(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    turned(tmp_path, orientation, size)
    Image.new("L", size, 1).save(tmp_path / "a_mask.png")
    with pytest.raises(ValueError, match="save the picture upright"):
        everything(tmp_path).batch([0])


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "I", "F", "L", "CMYK", "1"])
def test_show_and_training_see_the_same(tmp_path: Path, mode: str, resize: str) -> None:
    rng = np.random.default_rng(0)
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray((rng.random((40, 60)) * (1 if mode == "F" else 60000)).astype(dtype))
    elif mode == "P":
        image = Image.fromarray(rng.integers(0, 255, (40, 60), np.uint8)).convert("P")
        image.info["transparency"] = 3
    else:
        image = Image.fromarray(rng.integers(0, 255, (40, 60, 4), np.uint8)).convert(mode)
    file = tmp_path / f"a.{'png' if mode in ('RGBA', 'LA', 'P', 'L', 'I;16') else 'tif'}"
    image.save(file)
    dataset = ImageFolder(path=tmp_path, split="all", image_size=24, resize=resize, transparency="white")
    shown = fit_pictures(read_pictures([file], transparency="white"), 24, resize=resize)
    assert torch.equal(dataset.batch([0]).image, shown.image)


def test_show_takes_the_runs_own_settings(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 20), (255, 0, 0, 0)).save(tmp_path / "a.png")
    (tmp_path / "config.yaml").write_text(
        "data: {_target_: objectscape.data.folder.ImageFolder, path: x, resize: pad, transparency: white}"
    )
    run = RunFolder(tmp_path)
    image = own_pictures([tmp_path / "a.png"], run, [], 16).image[0, 0]
    assert (int(image[0, 0]), int(image[8, 8])) == (0, 255)
    image = own_pictures([tmp_path / "a.png"], run, ["data.resize=crop", "data.transparency=#101010"], 16).image[0, 0]
    assert image.unique().tolist() == [16]
    with pytest.raises(ValueError, match=r"data\.variant=x"):
        own_pictures([tmp_path / "a.png"], run, ["data.variant=x"], 16)


def test_pictures_of_several_sizes_are_fitted_each_by_itself(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "big.png")
    alone = fit_pictures(read_pictures([tmp_path / "big.png"]), 64).image[0]
    beside = fit_pictures(read_pictures([tmp_path / "small.png", tmp_path / "big.png"]), 64).image[1]
    assert torch.equal(alone, beside)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files")
@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_files_are_closed_after_reading(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("L", (8, 8), 10 * i) for i in range(3)]
    more = {"save_all": True, "append_images": frames[1:]} if suffix != "png" else {}
    frames[0].save(tmp_path / f"a.{suffix}", **more)
    dataset = everything(tmp_path)
    scenes = [dataset.batch([0]) for _ in range(3)]
    opened = [
        os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")
    ]
    assert not [file for file in opened if str(tmp_path) in file], scenes
