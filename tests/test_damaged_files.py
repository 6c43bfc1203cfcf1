"""Files with flipped, cut and foreign bytes: data or one sentence that names the file, never anything else.

`python tests/test_damaged_files.py N [KIND ...]` tries N mutations of each kind and prints how they ended.
"""

from __future__ import annotations

import collections
import gzip
import json
import multiprocessing
import os
import resource
import signal
import struct
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from objectscape.checkpoints import slot_attention
from objectscape.checkpoints.native import load_model, save_model
from objectscape.checkpoints.run_folder import RunFolder, read_checkpoint
from objectscape.cli import main
from objectscape.cli.config import from_file
from objectscape.data.dataset import SceneDataset
from objectscape.data.emorl_h5 import EfficientMORLArchive
from objectscape.data.formats.crc32c import masked_crc32c
from objectscape.data.formats.hdf5 import HDF5Scenes, check_in_child, write_hdf5
from objectscape.data.formats.tfrecord import TFRecordFile, encode_example, parse_example, write_records
from objectscape.data.latents import FORMAT as LATENTS
from objectscape.data.latents import Latents
from objectscape.data.pictures import read_rgb
from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.data.video_h5 import VideoArchive
from objectscape.files import read_json
from objectscape.models.instance_coloring import ColoringAutoencoder
from objectscape.training.logs import read_csv

CONFIG = """
name: x
seed: 0
model: {_target_: objectscape.models.vae.VAE, image_size: 32}
data: {_target_: objectscape.data.synthetic.shapes.ColoredShapes, count: 8, image_size: 32}
optimizer: {_target_: torch.optim.Adam, lr: 1e-3}
trainer: {max_steps: 3}
"""


def records(folder: Path, *, compress: bool) -> Path:
    example = encode_example({"image": np.arange(200, dtype=np.uint8), "x": np.arange(9.0), "n": np.arange(5)})
    return write_records(folder / "a.tfrecord", [example] * 4, compress=compress)


def read_records(file: Path) -> None:
    for payload in TFRecordFile(file):
        for feature in parse_example(payload, str(file)).values():
            (feature.octets if feature.kind == 1 else feature.floats if feature.kind == 2 else feature.ints)()


def picture(folder: Path, suffix: str) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    Image.fromarray(noise).save(folder / f"a.{suffix}")
    return folder / f"a.{suffix}"


def text(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content)
    return folder / name


def checkpoint(folder: Path) -> Path:
    state = {"state_dict": {"model.x": torch.ones(8)}, "loops": {}, "callbacks": {}, "global_step": 3}
    torch.save({**state, "optimizer_states": []}, folder / "last.ckpt")
    return folder / "last.ckpt"


def model(folder: Path, name: str) -> Path:
    save_model(ColoringAutoencoder(width=4, hidden=4), folder)
    return folder / name


def hdf5(folder: Path) -> Path:
    write_hdf5(folder / "a.h5", {"train": ColoredShapes(split="train", count=4, image_size=16)})
    return folder / "a.h5"


def emorl(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(folder / "a.h5", "w") as file:
        for group in ("train", "val"):
            file[f"{group}/imgs"] = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
            file[f"{group}/masks"] = rng.choice([0, 255], (3, 4, 8, 8, 1)).astype(np.uint8)
            file[f"{group}/factors"] = rng.random((3, 4, 9), np.float32)
    return folder / "a.h5"


def clips(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(folder / "a.h5", "w") as file:
        file["train/imgs"] = rng.integers(0, 256, (4, 3, 8, 8, 3), np.uint8)
        file["train/actions"] = rng.random((4, 3, 2), np.float32)
        file["train/masks"] = rng.integers(0, 3, (4, 3, 8, 8, 1), np.uint8)
    return folder / "a.h5"


def latents(folder: Path) -> Path:
    with h5py.File(folder / "a.h5", "w") as file:
        file.attrs.update(format=LATENTS, origin="{}", fields="{}", name="x")
        for split in ("train", "val"):
            file[f"{split}/v"] = np.random.default_rng(0).random((3, 5), np.float32)
    return folder / "a.h5"


def read_all(dataset: SceneDataset) -> None:
    dataset.batch(range(len(dataset)))


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "tfrecord": (lambda f: records(f, compress=False), read_records),
    "gzip": (lambda f: records(f, compress=True), read_records),
    **{s: (lambda f, s=s: picture(f, s), read_rgb) for s in ("png", "jpg", "gif", "tif", "webp", "bmp")},
    "yaml": (lambda f: text(f, "config.yaml", CONFIG), lambda f: from_file(f, [])),
    "json": (lambda f: text(f, "a.json", json.dumps({"scores": {"mse": {"mean": 1.0}}})), read_json),
    "csv": (lambda f: text(f, "metrics.csv", "step,train/loss\n1,0.5\n2,0.25\n"), read_csv),
    "status": (
        lambda f: text(f, "status.json", json.dumps({"state": "done", "step": 3, "seconds": 1.5})),
        lambda f: RunFolder(f.parent).status(),
    ),
    "checkpoint": (checkpoint, read_checkpoint),
    "weights": (lambda f: model(f, "model.safetensors"), lambda f: load_model(f.parent)),
    "model": (lambda f: model(f, "config.json"), lambda f: load_model(f.parent)),
}


MANY = ("tfrecord", "gzip", "png", "jpg", "gif", "tif")
"""Kinds that are read fast enough for thousands of mutations."""

HDF5: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "hdf5": (hdf5, lambda f: read_all(HDF5Scenes(path=f, split="train"))),
    "emorl": (emorl, lambda f: read_all(EfficientMORLArchive(path=f, split="train"))),
    "clips": (clips, lambda f: read_all(VideoArchive(path=f, split="train"))),
    "latents": (latents, lambda f: read_all(Latents(path=f, split="train"))),
    "data check": (emorl, lambda f: check_in_child(f, patience=60)),
}
"""The HDF5 library itself may crash or hang on a damaged file; only `data check` reads in a child process."""


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    for _ in range(rng.integers(1, 9)):
        place = int(rng.integers(len(data)))
        if kind == 1:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            data[place : place + 8] = bytes(rng.integers(0, 256, 8, np.uint8))
        else:
            data[place] = int(rng.choice([0, 255, 34, 44, 58, 91, 123, 42]))
    return bytes(data)


def outcomes(kind: str, folder: Path, count: int) -> dict[str, int]:
    """How reading `count` mutations ends: {"data" or "sentence": number}. Anything else is raised."""
    make, read = {**KINDS, **HDF5}[kind]
    file = make(folder)
    content = file.read_bytes()
    if kind in HDF5 and kind != "data check":
        return forked(file, content, read, count)
    found: collections.Counter[str] = collections.Counter()
    for number in range(count):
        file.write_bytes(mutated(content, np.random.default_rng([0, number])))
        found[outcome(file, read)] += 1
    return dict(found)


def outcome(file: Path, read: Callable[[Path], object]) -> str:
    try:
        read(file)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        named = file.name in str(error) or str(file.parent) in str(error)
        assert named, f"does not name the file: {error}"  # noqa: PT017
        return "sentence"
    return "data"


def forked(file: Path, content: bytes, read: Callable[[Path], object], count: int) -> dict[str, int]:
    """The same in child processes: also "crash" and "hang" of the HDF5 library, after which a new child goes on."""
    context, found, number = multiprocessing.get_context("fork"), collections.Counter[str](), 0

    def child(first: int, pipe: Connection) -> None:
        for each in range(first, count):
            file.write_bytes(mutated(content, np.random.default_rng([0, each])))
            try:
                pipe.send(outcome(file, read))
            except BaseException as error:
                pipe.send(f"{type(error).__name__}: {error}")
        pipe.close()
        os._exit(0)

    while number < count:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(number, theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            while number < count:
                result = ours.recv() if ours.poll(10) else "hang"
                number += 1
                found[result] += 1
                if result == "hang":
                    break
        except EOFError:
            number += 1
            found["crash"] += 1
        process.kill()
        process.join()
    return dict(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_data_or_a_sentence(kind: str, tmp_path: Path) -> None:
    count = {"model": 60, "weights": 60, "yaml": 100, **dict.fromkeys(MANY, 2000)}.get(kind, 300)
    assert sum(outcomes(kind, tmp_path, count).values()) == count


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("kind", HDF5)
def test_a_damaged_hdf5_file_is_data_or_a_sentence(kind: str, tmp_path: Path) -> None:
    count = {"data check": 60, "hdf5": 60}.get(kind, 200)
    found = outcomes(kind, tmp_path, count)
    assert found.keys() <= {"data", "sentence"} | ({"crash", "hang"} if kind != "data check" else set()), found
    assert found["sentence"] > count / 4
    assert found.get("crash", 0) + found.get("hang", 0) < count / 10


def test_a_forged_length_in_a_gzip_stream_takes_no_memory(tmp_path: Path) -> None:
    for length in (2**21, 2**31, 2**40, 2**63, 2**64 - 1):
        head = struct.pack("<Q", length)
        file = tmp_path / "a.gz"
        file.write_bytes(gzip.compress(head + struct.pack("<I", masked_crc32c(head)) + bytes(2000)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ValueError, match=r"a\.gz is truncated"):
            list(TFRecordFile(file))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_damaged_data_file_is_checked_in_a_child(tmp_path: Path) -> None:
    file = hdf5(tmp_path)
    content, rng = file.read_bytes(), np.random.default_rng(0)
    assert check_in_child(file).name == "colored_shapes"
    refused = 0
    for number in range(30):
        damaged = bytearray(content)
        for place in rng.integers(0, 900 if number % 2 else len(content), 4):
            damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(damaged))
        try:
            check_in_child(file, patience=60)
        except ValueError as error:
            assert file.name in str(error)  # noqa: PT017
            refused += 1
    assert refused > 10


def test_a_crash_of_the_library_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path, progress: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("objectscape.data.formats.hdf5.check_hdf5", crash)
    with pytest.raises(ValueError, match="crashed on it"):
        check_in_child(hdf5(tmp_path))


def test_an_error_without_words_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **options: object) -> None:
        raise EOFError

    file = checkpoint(tmp_path)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read as a checkpoint \(EOFError\)"):
        read_checkpoint(file)


def test_a_file_of_aliases_is_refused(tmp_path: Path) -> None:
    file = text(tmp_path, "config.yaml", "a: &a [1, 2]\nb: [*a, *a]\n" + CONFIG)
    with pytest.raises(ValueError, match=r"config\.yaml is not valid YAML.*aliases"):
        from_file(file, [])


@pytest.mark.parametrize("wrap", ["_orig_mod.", "module.", "module._orig_mod.", "nested"])
def test_wrapped_checkpoints_are_read(
    wrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    built = slot_attention.build({"K": 4, "z_size": 32, "image_decoder": "small", "input_size": [3, 35, 35]})
    state = {slot_attention._emorl_key(key): value for key, value in built.state_dict().items()}
    state["init_slots"] = torch.zeros(1, 1, 64)
    stored = {"state_dict": state} if wrap == "nested" else {wrap + key: value for key, value in state.items()}
    torch.save(stored, "c.pth")
    assert main(["import-checkpoint", "slot_attention", "c.pth", "--out", "imported"]) == 0
    torch.save({**state, "init_slots": state["init_slots"] * torch.nan}, "nan.pth")
    assert main(["import-checkpoint", "slot_attention", "nan.pth", "--out", "nan"]) == 1
    assert "weights hold NaN or infinity" in capsys.readouterr().err
    torch.save({"init_slots": 3}, "odd.pth")
    assert main(["import-checkpoint", "slot_attention", "odd.pth", "--out", "odd"]) == 1
    assert "odd.pth is no checkpoint of slot_attention" in capsys.readouterr().err


if __name__ == "__main__":
    for each in sys.argv[2:] or [*KINDS, *HDF5]:
        with tempfile.TemporaryDirectory() as place:
            print(each, outcomes(each, Path(place), int(sys.argv[1])), flush=True)
