"""TFRecord and HDF5 files: round trips, and clear answers to damaged files."""

from __future__ import annotations

import gzip
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objectscape.data.dataset import SceneDataset
from objectscape.data.formats import crc32c as crc
from objectscape.data.formats.crc32c import crc32c, masked_crc32c
from objectscape.data.formats.hdf5 import HDF5Scenes, check_hdf5, write_hdf5
from objectscape.data.formats.tfrecord import (
    BYTES,
    FLOATS,
    INTS,
    Feature,
    TFRecordFile,
    encode_example,
    parse_example,
    write_records,
)
from objectscape.scene import Scene, Spec

# --- CRC-32C


def test_crc32c_known_values() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@given(st.binary(min_size=0, max_size=3000))
@settings(max_examples=60, deadline=None)
def test_crc32c_equals_the_byte_by_byte_definition(data: bytes) -> None:
    register = 0xFFFFFFFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = (register >> 1) ^ (crc.POLYNOMIAL if register & 1 else 0)
    assert crc32c(data) == register ^ 0xFFFFFFFF


# --- tf.train.Example


def test_example_round_trip() -> None:
    features = {
        "image": np.arange(60, dtype=np.uint8).reshape(4, 5, 3),
        "x": np.array([1.5, -2.25], dtype=np.float32),
        "grasp": np.array([0, -1, 2**62, 300], dtype=np.int64),
        "jpeg": [b"one", b"", b"three" * 100],
    }
    read = parse_example(encode_example(features))
    np.testing.assert_array_equal(read["image"].octets(), features["image"].ravel())
    np.testing.assert_array_equal(read["x"].floats(), features["x"])
    np.testing.assert_array_equal(read["grasp"].ints(), features["grasp"])
    assert read["jpeg"].strings() == features["jpeg"]


def test_unpacked_lists_are_read() -> None:
    floats = b"".join(b"\x0d" + np.float32(v).tobytes() for v in (1.0, 2.5))  # field 1, wire type 5
    assert Feature(FLOATS, memoryview(floats)).floats().tolist() == [1.0, 2.5]
    ints = b"\x08\x05\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"  # field 1, wire type 0: 5 and -1
    assert Feature(INTS, memoryview(ints)).ints().tolist() == [5, -1]


def test_one_long_string_is_read_as_octets() -> None:
    assert Feature(BYTES, memoryview(b"\x0a\x04\x01\x02\x03\x04")).octets().tolist() == [1, 2, 3, 4]


def test_feature_of_another_type_is_named() -> None:
    read = parse_example(encode_example({"x": np.ones(2, np.float32)}), "file, record 3")
    with pytest.raises(ValueError, match="file, record 3, feature 'x' holds floats; expected byte strings"):
        read["x"].strings()


@pytest.mark.parametrize("payload", [b"", b"hello world", b"\x0a\xff\xff\xff\x01", b"\xff" * 30])
def test_payload_that_is_no_example(payload: bytes) -> None:
    with pytest.raises(ValueError, match="is this the right file"):
        parse_example(payload)


# --- TFRecord

PAYLOADS = [encode_example({"n": np.array([i], np.int64), "data": np.full(50 * i + 1, i, np.uint8)}) for i in range(9)]


@pytest.mark.parametrize("compress", [False, True])
def test_records_in_any_order(tmp_path: Path, compress: bool) -> None:
    file = TFRecordFile(write_records(tmp_path / "a.tfrecords", PAYLOADS, compress=compress))
    assert file.gzip == compress
    assert file.count(4) == 4
    assert file.count() == 9
    assert list(file.read([7, 0, 3])) == [PAYLOADS[7], PAYLOADS[0], PAYLOADS[3]]
    assert list(file) == PAYLOADS
    with pytest.raises(IndexError, match="has 9 records; there is no record 9"):
        list(file.read([9]))


def test_going_back_in_gzip_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = TFRecordFile(write_records(tmp_path / "a.tfrecords", PAYLOADS, compress=True))
    assert list(file) == list(file) == PAYLOADS  # two passes are fine
    assert not caplog.records
    list(file.read([8, 0] * 10))
    assert "decompresses it from its start again" in caplog.text


def test_missing_file_names_the_near_one(tmp_path: Path) -> None:
    write_records(tmp_path / "tetrominoes_train.tfrecords", PAYLOADS)
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'tetrominoes_train.tfrecords'"):
        TFRecordFile(tmp_path / "tetrominos_train.tfrecords")
    with pytest.raises(FileNotFoundError, match=r"its folder .* does not exist"):
        TFRecordFile(tmp_path / "nowhere" / "a.tfrecords")


@pytest.mark.parametrize("content", [b"short", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_file_that_is_no_tfrecord(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="is not a TFRecord file"):
        TFRecordFile(tmp_path / "a")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match=r"is empty \(0 bytes\)"):
        TFRecordFile(tmp_path / "a")


def test_truncated_file_names_record_and_offset(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a", PAYLOADS)
    start = sum(len(p) + 16 for p in PAYLOADS[:8])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"is truncated: record 8 at byte {start} needs {len(PAYLOADS[8]) + 16} bytes"):
        TFRecordFile(path).count()


def test_truncated_gzip(tmp_path: Path) -> None:
    noise = [encode_example({"data": np.random.default_rng(0).integers(0, 256, 20000).astype(np.uint8)})] * 3
    path = write_records(tmp_path / "a", noise, compress=True)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="gzip stream is truncated"):
        list(TFRecordFile(path))


def test_corrupt_gzip(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a", PAYLOADS, compress=True)
    content = bytearray(path.read_bytes())
    content[12:20] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"gzip stream is corrupt|is not a TFRecord file|is corrupt|corrupt header"):
        list(TFRecordFile(path))


def test_corrupt_payload_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a", PAYLOADS)
    start = sum(len(p) + 16 for p in PAYLOADS[:5])
    content = bytearray(path.read_bytes())
    content[start + 30] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"record 5 at byte {start} is corrupt"):
        list(TFRecordFile(path))
    file = TFRecordFile(path)
    assert len(list(file.read([5], check=False))) == 1  # record 5 is not among the sampled ones


def test_corrupt_length_is_not_believed(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a", PAYLOADS)
    start = sum(len(p) + 16 for p in PAYLOADS[:2])
    content = bytearray(path.read_bytes())
    content[start + 6] = 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"record 2 at byte {start} has a corrupt header"):
        TFRecordFile(path).count()


def test_framing_is_the_published_one(tmp_path: Path) -> None:
    content = gzip.decompress(write_records(tmp_path / "a", [b"123456789"], compress=True).read_bytes())
    assert content[:8] == (9).to_bytes(8, "little")
    assert int.from_bytes(content[8:12], "little") == masked_crc32c(content[:8])
    rotated = ((0xE3069283 >> 15) | (0xE3069283 << 17)) & 0xFFFFFFFF
    assert int.from_bytes(content[-4:], "little") == (rotated + 0xA282EAD8) % 2**32


# --- HDF5


class Numbers(SceneDataset):
    """Every field a Scene can have, filled with numbers that name the scene."""

    def __init__(self, split: str, count: int) -> None:
        self.split, self.count = split, count
        self.spec = Spec(
            name="numbers",
            image_size=(4, 6),
            splits={split: count},
            fields={"image": "the scene's number", "segments": "zeros", "factors": "x: half the number"},
            max_objects=2,
            license="none",
            source="this test",
            notes="nothing to know",
        )

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: object) -> Scene:
        number = torch.tensor(list(indices))  # type: ignore[call-overload]
        ones = torch.ones(len(number), 2)
        return Scene(
            image=number[:, None, None, None].expand(-1, 3, 4, 6).to(torch.uint8),
            segments=torch.zeros(len(number), 4, 6, dtype=torch.int8),
            boxes=torch.rand(len(number), 2, 4, generator=torch.Generator().manual_seed(0)),
            present=ones.bool(),
            labels=ones.long(),
            factors={"x": ones * number[:, None] / 2, "color": torch.zeros(len(number), 2, 3)},
            actions=torch.zeros(len(number), 2, 5),
            motion=torch.zeros(len(number), 2, 1, 4, 6),
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_hdf5(tmp_path / "numbers.h5", {"train": Numbers("train", 300), "test": Numbers("test", 5)}, seed=7)
    return tmp_path / "numbers.h5"


def test_hdf5_round_trip(file: Path) -> None:
    scenes = HDF5Scenes(path=file, split="train")
    source = Numbers("train", 300)
    assert len(scenes) == 300
    assert scenes.spec.splits == {"train": 300, "test": 5}
    assert scenes.spec.fields == source.spec.fields
    assert (scenes.spec.name, scenes.spec.max_objects, scenes.spec.license) == ("numbers", 2, "none")
    indices = [17, 3, 17, 299]
    read, expected = scenes.batch(indices), source.batch(indices)
    assert read.image[:, 0, 0, 0].tolist() == [17, 3, 17, 299 % 256]
    for name in ("image", "segments", "present", "labels", "actions", "motion"):
        assert torch.equal(getattr(read, name), getattr(expected, name)), name
        assert getattr(read, name).dtype == getattr(expected, name).dtype
    assert read.factors is not None
    assert expected.factors is not None
    assert torch.equal(read.factors["x"], expected.factors["x"])
    assert torch.equal(scenes[2].image, source[2].image)
    with pytest.raises(IndexError, match="there is no scene 300"):
        scenes.batch([300])
    with h5py.File(file) as raw:
        assert raw["train/image"].chunks == (64, 3, 4, 6)  # of 72 bytes; rows of more than 4 kB have one each
        assert (raw["train/image"].compression, raw["train/image"].compression_opts) == ("gzip", 4)
        assert raw["train/image"].attrs["description"] == "the scene's number"
        assert raw.attrs["seed"] == 7


@given(st.lists(st.integers(0, 299), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_hdf5_reads_any_order(tmp_path_factory: pytest.TempPathFactory, indices: list[int]) -> None:
    path = tmp_path_factory.getbasetemp() / "any_order.h5"
    if not path.exists():
        write_hdf5(path, {"train": Numbers("train", 300)})
    read = HDF5Scenes(path=path).batch(indices)
    assert read.image[:, 0, 0, 0].tolist() == [i % 256 for i in indices]


def test_hash_depends_on_the_content_only(tmp_path: Path) -> None:
    specs = [write_hdf5(tmp_path / name, {"train": Numbers("train", n)}) for name, n in (("a", 9), ("b", 9), ("c", 10))]
    assert specs[0].content_hash == specs[1].content_hash != specs[2].content_hash
    assert check_hdf5(tmp_path / "a").content_hash == specs[0].content_hash


def test_changed_content_fails_the_check(file: Path) -> None:
    with h5py.File(file, "r+") as raw:
        raw["test/image"][2, 0, 0, 0] = 99
    with pytest.raises(ValueError, match="is corrupt or was changed: its content has the SHA-256"):
        check_hdf5(file)


def test_damaged_chunk_is_named(file: Path) -> None:
    with h5py.File(file) as raw:
        chunk = raw["train/image"].id.get_chunk_info(0)  # of the first 64 scenes
    content = bytearray(file.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"is corrupt: train/image of scenes 17\.\.17 cannot be read"):
        HDF5Scenes(path=file).batch([17])
    with pytest.raises(ValueError, match="is corrupt: train/image near scene 0 cannot be read"):
        check_hdf5(file)


def test_truncated_hdf5(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(ValueError, match="is truncated"):
        HDF5Scenes(path=file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(ValueError, match="is not an HDF5 file"):
        HDF5Scenes(path=tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as raw:
        raw["imgs"] = [1]
    with pytest.raises(ValueError, match="not one that objectscape wrote"):
        check_hdf5(tmp_path / "other.h5")
    (tmp_path / "empty.h5").touch()
    with pytest.raises(ValueError, match="is empty"):
        HDF5Scenes(path=tmp_path / "empty.h5")


def test_unknown_split_suggests(file: Path) -> None:
    with pytest.raises(ValueError, match=r"has the splits test \(5\), train \(300\). Did you mean 'train'"):
        HDF5Scenes(path=file, split="trian")


def test_nothing_is_overwritten(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match="is not overwritten"):
        write_hdf5(file, {"train": Numbers("train", 1)})
    assert file.read_bytes() == before


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_hdf5(tmp_path / "a.h5", {"train": Numbers("train", 300)}, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the file size makes the operating system refuse to write, as a full disk does.
    script = f"""
import resource, signal
from tests.test_formats import Numbers
from objectscape.data.formats.hdf5 import write_hdf5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_hdf5({str(tmp_path / "a.h5")!r}, {{"train": Numbers("train", 3000)}})
except OSError as error:
    assert "could not be written" in str(error) and "MB are free" in str(error), error
    raise SystemExit(3)
"""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert list(tmp_path.iterdir()) == []


def _sum(scenes: HDF5Scenes, start: int) -> int:
    return int(scenes.batch(range(start, start + 10)).image.long().sum())


def test_workers_open_the_file_themselves(file: Path) -> None:
    scenes = HDF5Scenes(path=file)
    expected = [_sum(scenes, 0), _sum(scenes, 50)]  # opens the file in this process first
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(_sum, [(scenes, 0), (scenes, 50)]) == expected
    assert _sum(pickle.loads(pickle.dumps(scenes)), 50) == expected[1]
