"""Data sets read from files, on tiny files in the original formats."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from objectscape.data import sources
from objectscape.data.emorl_h5 import CLEVR_FACTORS, EfficientMORLArchive
from objectscape.data.folder import ImageFolder
from objectscape.data.formats.hdf5 import HDF5Scenes, write_hdf5
from objectscape.data.formats.tfrecord import encode_example, write_records
from objectscape.data.geometry import crop_center, resize_image, resize_nearest
from objectscape.data.multi_object import VARIANTS, MultiObject, find_variant
from objectscape.data.sources import SOURCES, RemoteFile, fetch, fetch_file, find_source

# --- geometry


def test_nearest_is_torchs() -> None:
    maps = torch.randint(0, 9, (2, 3, 35, 47))
    for size in ((32, 32), (70, 31), (35, 47)):
        expected = torch.nn.functional.interpolate(maps.float(), size=size, mode="nearest")
        assert torch.equal(resize_nearest(maps, size).float(), expected)


def test_crop_and_pillow_resize() -> None:
    image = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8)
    cropped = crop_center(image, 196)
    assert torch.equal(cropped, image[:, 14:210, 14:210])
    expected = Image.fromarray(cropped.permute(1, 2, 0).numpy()).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(resize_image(cropped, (64, 64), "bilinear").permute(1, 2, 0).numpy(), np.array(expected))


# --- Multi-Object Datasets


def record(name: str, variant: str | None, number: int, objects: int | None = None) -> bytes:
    """A scene whose image is `number` everywhere; object e covers row e."""
    layout = find_variant(name, variant)
    height, width = layout.size
    objects = layout.entities - layout.background if objects is None else objects
    used = layout.background + objects
    masks = np.zeros((layout.entities, height, width), np.uint8)
    masks[layout.background : used] = 255 * np.eye(layout.entities, height, dtype=np.uint8)[:objects, :, None]
    masks[0] = 255 - masks[1:].max(0, initial=0)
    features: dict[str, np.ndarray] = {
        "image": np.full((height, width, layout.channels), number, np.uint8),
        "mask": masks.transpose(1, 2, 0) if layout.masks_last else masks,
    }
    visible = (np.arange(layout.entities) < used).astype(np.float32)
    for factor, shape in layout.factors.items():
        features[factor] = np.full((layout.entities, *shape), number, np.float32)
    if "visibility" in features:
        features["visibility"] = visible
    for code in layout.codes:
        features[code] = visible.astype(np.uint8)
    return encode_example(features)


@pytest.mark.parametrize(("name", "variant"), [(n, v) for n, variants in VARIANTS.items() for v in variants])
@pytest.mark.parametrize("compress", [False, True])
def test_every_variant(tmp_path: Path, name: str, variant: str, compress: bool) -> None:
    path = write_records(tmp_path / "a", [record(name, variant, n) for n in range(3)], compress=compress)
    dataset = MultiObject(name=name, variant=variant, path=path, split_rule="all")
    layout = VARIANTS[name][variant]
    objects = layout.entities - layout.background
    scene = dataset.batch([2, 0, 2])
    assert scene.image.shape == (3, 3, *layout.size)
    assert scene.image[:, 0, 0, 0].tolist() == [2, 0, 2]
    assert scene.image.dtype == torch.uint8
    assert scene.segments is not None
    assert scene.present is not None
    assert scene.segments[0].unique().tolist() == list(range(objects + 1))
    assert scene.segments[0, :objects, 0].tolist() == list(range(1, objects + 1))
    assert scene.present.shape == (3, objects)
    assert scene.present.all()
    assert dataset.spec.max_objects == objects
    assert dataset.spec.splits == {"train": 3}
    if layout.factors:
        assert scene.factors is not None
        assert scene.factors["x"].tolist() == [[2.0] * objects, [0.0] * objects, [2.0] * objects]


@pytest.fixture
def clevr(tmp_path: Path) -> Path:
    return write_records(tmp_path / "clevr", [record("clevr", None, n, objects=n % 10 + 1) for n in range(12)])


def test_clevr6_filter_and_crop(clevr: Path) -> None:
    dataset = MultiObject(name="clevr", path=clevr, max_objects=6, crop="emorl", image_size=96)
    assert len(dataset) == 8  # scenes 0..5 have 1..6 objects, 6..9 too many, 10 and 11 have 1 and 2
    scene = dataset.batch(range(8))
    assert scene.image[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 10, 11]
    assert scene.image.shape == (8, 3, 96, 96)
    assert scene.present is not None
    assert not scene.present.any()  # the objects are in the rows that the crop cuts off
    assert scene.factors is not None
    assert scene.factors["size"].dtype == torch.uint8
    assert MultiObject(name="clevr", path=clevr, min_objects=7)[0].image[0, 0, 0] == 6
    assert MultiObject(name="clevr", path=clevr, limit=4).spec.splits == {"train": 4}


def test_crops_take_the_published_pixels(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    layout = VARIANTS["clevr"]["train"]
    features = {"image": image, "mask": np.zeros((11, 240, 320), np.uint8)}
    features |= {factor: np.zeros((11, *shape), np.float32) for factor, shape in layout.factors.items()}
    features |= {code: np.zeros(11, np.uint8) for code in layout.codes}
    path = write_records(tmp_path / "a", [encode_example(features)])
    read = partial(MultiObject, name="clevr", path=path, split_rule="all")
    expected = torch.from_numpy(image).permute(2, 0, 1)
    assert torch.equal(read(crop="emorl")[0].image, expected[:, 29:221, 64:256])
    assert torch.equal(read(crop="genesis")[0].image, expected[:, 24:216, 64:256])
    picture = Image.fromarray(image[29:221, 64:256]).resize((128, 128), Image.Resampling.BILINEAR)
    shrunk = read(crop="slot_attention", image_size=128)[0].image
    assert np.array_equal(shrunk.permute(1, 2, 0).numpy(), np.array(picture))


def test_split_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = VARIANTS["tetrominoes"]["train"]
    # A layout of few bytes, so that a file long enough for the published rules stays small
    tiny = type(small)(file="tiny", size=(1, 2), entities=2)
    monkeypatch.setitem(VARIANTS, "tetrominoes", {"train": tiny})
    payload = encode_example({"image": np.zeros(6, np.uint8), "mask": np.zeros(4, np.uint8)})
    path = write_records(tmp_path / "a", [payload] * 60_400)

    def numbers(split: str, rule: str) -> tuple[int, int, int]:
        chosen = MultiObject(name="tetrominoes", path=path, split=split, split_rule=rule)._numbers
        return int(chosen[0]), int(chosen[-1]), len(chosen)

    assert numbers("train", "emorl") == numbers("train", "slot_attention") == (0, 59_999, 60_000)
    assert numbers("test", "emorl") == (60_000, 60_319, 320)
    assert numbers("val", "emorl") == (60_320, 60_399, 80)
    assert numbers("test", "genesis") == (0, 9_999, 10_000)
    assert numbers("val", "genesis") == (10_000, 19_999, 10_000)
    assert numbers("train", "genesis") == (20_000, 60_399, 40_400)
    assert numbers("val", "all") == (0, 60_399, 60_400)


def test_converted_file_equals_the_original(clevr: Path, tmp_path: Path) -> None:
    options = {"name": "clevr", "max_objects": 6, "crop": "genesis", "image_size": 64}
    original = MultiObject(path=clevr, check=True, **options)
    converted_path = tmp_path / "clevr6.h5"
    spec = write_hdf5(converted_path, {"train": original})
    converted = MultiObject(path=converted_path, **options)
    a, b = original.batch(range(8)), converted.batch(range(8))
    for name in ("image", "segments", "present"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert a.factors is not None
    assert b.factors is not None
    assert a.factors.keys() == b.factors.keys()
    assert all(torch.equal(value, b.factors[name]) for name, value in a.factors.items())
    assert converted.spec.content_hash == spec.content_hash
    with pytest.raises(ValueError, match=r"was converted with split_rule=emorl, objects=0..6"):
        MultiObject(path=converted_path, name="clevr")
    with pytest.raises(ValueError, match=r"cannot be turned into crop='genesis' at \(32, 32\)"):
        MultiObject(path=converted_path, **{**options, "image_size": 32})
    with pytest.raises(ValueError, match="holds multi_object/clevr, not multi_object/tetrominoes"):
        MultiObject(path=converted_path, name="tetrominoes")
    with pytest.raises(ValueError, match="has the splits train"):
        MultiObject(path=converted_path, split="test", **options)


def test_scenes_without_objects_convert(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a", [record("objects_room", "empty_room", n) for n in range(3)])
    options = {"name": "objects_room", "variant": "empty_room", "split_rule": "all"}
    write_hdf5(tmp_path / "a.h5", {"train": MultiObject(path=path, **options)})
    scene = MultiObject(path=tmp_path / "a.h5", **options).batch([2, 1])
    assert scene.image[:, 0, 0, 0].tolist() == [2, 1]
    assert scene.present is not None
    assert scene.present.shape == (2, 0)


def test_uncropped_conversion_is_cropped_on_reading(clevr: Path, tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", {"train": MultiObject(name="clevr", path=clevr)})
    options = {"name": "clevr", "crop": "emorl", "image_size": 96}
    a = MultiObject(path=clevr, **options)[3]
    b = MultiObject(path=tmp_path / "a.h5", **options)[3]
    assert torch.equal(a.image, b.image)


def test_multi_object_with_workers(clevr: Path) -> None:
    dataset = MultiObject(name="clevr", path=clevr, image_size=16)
    loader = DataLoader(dataset, batch_size=5, num_workers=2, collate_fn=lambda scene: scene)
    assert torch.cat([scene.image[:, 0, 0, 0] for scene in loader]).tolist() == list(range(12))
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1].image, dataset[1].image)


def test_multi_object_answers_bad_input(clevr: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not hold tetrominoes/.*; it looks like clevr_with_masks/"):
        MultiObject(name="tetrominoes", path=clevr)
    with pytest.raises(ValueError, match=r"unknown data set 'clever'. Did you mean 'clevr'"):
        MultiObject(name="clever", path=clevr)
    with pytest.raises(ValueError, match="variant=None; for name='multi_dsprites' choose one of binarized"):
        MultiObject(name="multi_dsprites", path=clevr)
    with pytest.raises(ValueError, match=r"unknown split 'tests'. Did you mean 'test'"):
        MultiObject(name="clevr", path=clevr, split="tests")
    with pytest.raises(ValueError, match=r"split='test' is empty: .* has 12 records"):
        MultiObject(name="clevr", path=clevr, split="test")
    with pytest.raises(ValueError, match="crop='emorl' is for name='clevr'"):
        MultiObject(name="tetrominoes", path=clevr, crop="emorl")
    with pytest.raises(ValueError, match="objects_room does not store the number of objects"):
        MultiObject(name="objects_room", path=clevr, max_objects=2)
    with pytest.raises(FileNotFoundError, match="Did you mean 'clevr'"):
        MultiObject(name="clevr", path=tmp_path / "clever")
    other = write_records(tmp_path / "other", [encode_example({"frames": [b"jpeg"]})])
    with pytest.raises(ValueError, match="looks like none of the nine published files"):
        MultiObject(name="clevr", path=other)


# --- EfficientMORL's archives


def archive(path: Path, group: str, dtype: type, size: tuple[int, int] = (240, 320), factors: bool = True) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (4, *size, 3)).astype(dtype)
    masks = np.zeros((4, 5, *size, 1), dtype)
    masks[:, 0] = 255
    for n in range(1, 4):
        masks[:, n, 40 * n : 40 * n + 10, 100:120] = 255
        masks[:, 0, 40 * n : 40 * n + 10, 100:120] = 0
    with h5py.File(path, "w") as file:
        file[f"{group}/imgs"], file[f"{group}/masks"] = images, masks
        if factors:
            file[f"{group}/factors"] = np.arange(4 * 5 * 9, dtype=np.float64).reshape(4, 5, 9)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_archive_of_any_type(tmp_path: Path, dtype: type) -> None:
    path = archive(tmp_path / "a.h5", "test", dtype)
    dataset = EfficientMORLArchive(path=path, split="train", group="test", crop="emorl")
    scene = dataset.batch([3, 1])
    with h5py.File(path) as file:
        expected = np.asarray(file["test/imgs"][3, 29:221, 64:256]).astype(np.uint8)
    assert np.array_equal(scene.image[0].permute(1, 2, 0).numpy(), expected)
    assert scene.present is not None
    assert scene.present.tolist() == [[True, True, True, False]] * 2
    assert scene.segments is not None
    assert (scene.segments[0] == 1).nonzero().amin(0).tolist() == [11, 36]
    assert scene.factors is not None
    assert tuple(scene.factors) == CLEVR_FACTORS
    assert scene.factors["y"][0].tolist() == [3 * 45 + 9 * n + 1 for n in range(1, 5)]
    assert EfficientMORLArchive(path=path, group="test", crop="emorl", image_size=96)[0].image.shape == (3, 96, 96)


def test_archive_answers_bad_input(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.h5", "test", np.uint8, size=(35, 35), factors=False)
    assert EfficientMORLArchive(path=path, split="test")[0].factors is None
    with pytest.raises(ValueError, match=r"has no group 'train'; it has test. .*Choose one with `group`"):
        EfficientMORLArchive(path=path)
    with pytest.raises(ValueError, match=r"for CLEVR's 240x320 images, but .* holds 35x35"):
        EfficientMORLArchive(path=path, split="test", crop="emorl")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["train/images"] = [1]
    with pytest.raises(ValueError, match="lacks imgs, masks; is it EfficientMORL's"):
        EfficientMORLArchive(path=tmp_path / "b.h5")


# --- folders of pictures


def picture(path: Path, size: tuple[int, int] = (40, 30), value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(path)
    return path


def test_folder_splits_are_stable_and_disjoint(tmp_path: Path) -> None:
    for n in range(30):
        picture(tmp_path / f"sub{n % 3}" / f"{n}.png", value=n)
    parts = {split: ImageFolder(path=tmp_path, split=split) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [24, 3, 3]
    assert len({file for part in parts.values() for file in part.files}) == 30
    assert parts["val"].files == ImageFolder(path=tmp_path, split="val").files
    assert parts["train"].spec.splits == {"train": 24, "val": 3, "test": 3, "all": 30}
    for split in ("train", "val"):
        picture(tmp_path / split / "x.jpg")
    assert [len(ImageFolder(path=tmp_path, split=split)) for split in ("train", "val")] == [1, 1]
    with pytest.raises(ValueError, match=r"split='test' of .* is empty: 32 images"):
        ImageFolder(path=tmp_path, split="test")


@pytest.mark.parametrize(("resize", "corner", "center"), [("crop", 100, 100), ("stretch", 100, 100), ("pad", 0, 100)])
def test_folder_resizing(tmp_path: Path, resize: str, corner: int, center: int) -> None:
    picture(tmp_path / "a.png", size=(80, 40))
    image = ImageFolder(path=tmp_path, split="all", image_size=16, resize=resize)[0].image
    assert image.shape == (3, 16, 16)
    assert image.dtype == torch.uint8
    assert (int(image[0, 0, 0]), int(image[0, 8, 8])) == (corner, center)


def test_folder_reads_every_mode(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    rgba.paste((200, 100, 50, 255), (0, 0, 4, 8))
    Image.fromarray(np.full((8, 8), 0x8040, np.uint16)).save(tmp_path / "16bit.png")
    Image.new("L", (8, 8), 77).save(tmp_path / "gray.bmp")
    rgba.save(tmp_path / "rgba.webp", lossless=True)
    rgba.convert("P").save(tmp_path / "palette.gif")
    rotated = Image.new("RGB", (4, 8), (0, 0, 0))
    rotated.paste((255, 255, 255), (0, 0, 4, 4))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    rotated.save(tmp_path / "rotated.png", exif=exif)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "z.tif")
    dataset = ImageFolder(path=tmp_path, split="all", image_size=8, resize="stretch")
    scenes = dict(zip([file.name for file in dataset.files], dataset.batch(range(6)).image, strict=True))
    assert scenes["16bit.png"].unique().tolist() == [0x80]
    assert scenes["gray.bmp"].unique().tolist() == [77]
    assert scenes["rgba.webp"][:, 0, 1].tolist() == [200, 100, 50]
    assert scenes["rgba.webp"][:, 0, 6].tolist() == [0, 0, 0]
    assert scenes["rotated.png"][0, 0, 0] == 0
    assert scenes["rotated.png"][0, 7, 0] == 255
    assert scenes["z.tif"][:, 0, 0].tolist() == [255, 0, 0]


def test_folder_with_labels(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png", size=(8, 8))
    labels = np.zeros((8, 8), np.uint8)
    labels[2:4], labels[6:] = 7, 200
    Image.fromarray(labels).save(tmp_path / "a_mask.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(labels.astype(np.uint16) * 100).save(tmp_path / "masks" / "b.png")
    dataset = ImageFolder(path=tmp_path, split="all", image_size=8)
    assert len(dataset) == 3
    segments = dataset.batch(range(3)).segments
    assert segments is not None
    assert segments[0, :, 0].tolist() == segments[1, :, 0].tolist() == [0, 0, 1, 1, 0, 0, 2, 2]
    assert segments[2].unique().tolist() == [-1]
    Image.new("RGB", (8, 8)).save(tmp_path / "c_mask.png")
    dataset = ImageFolder(path=tmp_path, split="all", image_size=8)
    with pytest.raises(ValueError, match=r"c_mask.png has mode RGB; labels are one integer per pixel"):
        dataset[2]
    Image.new("L", (4, 8)).save(tmp_path / "c_mask.png")
    with pytest.raises(ValueError, match=r"c_mask.png has \(4, 8\) pixels .* has \(8, 8\)"):
        dataset[2]


def test_folder_answers_bad_input(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        ImageFolder(path=tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"holds no images; expected files ending in .png"):
        ImageFolder(path=tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken.jpg cannot be read as an image"):
        ImageFolder(path=tmp_path, split="all")[0]
    with pytest.raises(ValueError, match=r"split='train' of .* is empty: 1 images, of which 0 train"):
        ImageFolder(path=tmp_path)
    with pytest.raises(ValueError, match=r"unknown way to resize 'corp'. Did you mean 'crop'"):
        ImageFolder(path=tmp_path, resize="corp")
    with pytest.raises(ValueError, match="is a file; expected a folder of images"):
        ImageFolder(path=tmp_path / "broken.jpg")


def test_folder_converts_to_hdf5(tmp_path: Path) -> None:
    for n in range(5):
        picture(tmp_path / "in" / f"{n}.png", value=10 * n)
    dataset = ImageFolder(path=tmp_path / "in", split="all", image_size=8)
    write_hdf5(tmp_path / "out.h5", {"all": dataset})
    assert torch.equal(
        HDF5Scenes(path=tmp_path / "out.h5", split="all").batch(range(5)).image, dataset.batch(range(5)).image
    )


# --- fetching

CONTENT = bytes(range(256)) * 500


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; /cut stops after 50 000 bytes, /plain knows no ranges, /md5 states a wrong MD5."""

    ranges: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        Server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.path != "/plain" else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if self.path == "/md5":
            self.send_header("x-goog-hash", "crc32c=AAAAAA==,md5=AAAAAAAAAAAAAAAAAAAAAA==")
        self.end_headers()
        body = CONTENT[start:]
        self.wfile.write(body[:50_000] if self.path == "/cut" else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.ranges = []
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_fetch_checks_the_hash_and_keeps_what_is_there(server: str, tmp_path: Path) -> None:
    file = RemoteFile(f"{server}/whole", "a/whole", sha256=hashlib.sha256(CONTENT).hexdigest())
    seen: list[tuple[str, int, int | None]] = []
    path = fetch_file(file, tmp_path, progress=lambda *args: seen.append(args))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("a/whole", len(CONTENT), len(CONTENT))
    assert fetch_file(file, tmp_path) == path
    assert len(Server.ranges) == 1  # the second call did not ask again
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match="exists, but has another SHA-256"):
        fetch_file(file, tmp_path)


def test_fetch_resumes(server: str, tmp_path: Path) -> None:
    file = RemoteFile(f"{server}/cut", "cut")
    for have in (50_000, 100_000):
        with pytest.raises(OSError, match="Call again to go on from there"):
            fetch_file(file, tmp_path)
        assert (tmp_path / "cut.part").stat().st_size == have
        assert not (tmp_path / "cut").exists()
    assert fetch_file(file, tmp_path).read_bytes() == CONTENT
    assert Server.ranges == [None, "bytes=50000-", "bytes=100000-"]


@pytest.mark.parametrize("kind", ["whole", "plain"])
def test_fetch_goes_on_from_a_part(server: str, tmp_path: Path, kind: str) -> None:
    for have in (1000, len(CONTENT)):
        (tmp_path / f"{have}.part").write_bytes(CONTENT[:have])
        assert fetch_file(RemoteFile(f"{server}/{kind}", str(have)), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "sha256", "message"), [("whole", "0" * 64, "SHA256 is"), ("md5", None, "MD5 is .*, expected 0000")]
)
def test_wrong_hash_is_refused(server: str, tmp_path: Path, address: str, sha256: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fetch_file(RemoteFile(f"{server}/{address}", "a", sha256=sha256), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fetch_answers_bad_input(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="answered 404"):
        fetch_file(RemoteFile(f"{server}/missing", "a"), tmp_path)
    with pytest.raises(OSError, match=r"stopped after 0 bytes"):
        fetch_file(RemoteFile("http://127.0.0.1:1/", "a"), tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'tetrominoes'"):
        find_source("tetrominos")
    with pytest.raises(ValueError, match=r"emorl_h5 cannot be fetched automatically. Fetch the zip from"):
        fetch("emorl_h5", tmp_path)
    with pytest.raises(ValueError, match="matches no file of gqn, such as rooms_ring_camera/train/0001-of-2160"):
        fetch("gqn", tmp_path, pattern="*.zip")
    local = sources.Source("t", "p", "l", "s", (RemoteFile(f"{server}/a", "a"), RemoteFile(f"{server}/b", "b")))
    monkeypatch.setitem(SOURCES, "local", local)
    assert [path.name for path in fetch("local", tmp_path, pattern="b")] == ["b"]


def test_every_source_says_how(tmp_path: Path) -> None:
    for name, source in SOURCES.items():
        assert source.command(name)
        assert source.license
        assert source.size
        assert source.page.startswith("http")
        assert len({file.path for file in source.files}) == len(source.files)
    assert {file.path for name in VARIANTS for file in SOURCES[name].files} == {
        variant.file for variants in VARIANTS.values() for variant in variants.values()
    }
