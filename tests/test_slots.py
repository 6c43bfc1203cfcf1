"""Slots as numbers: what is written is what the model gives, and stands beside the object that it belongs to."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import objectscape
from objectscape.cli import main
from objectscape.cli.slots import slots_of
from objectscape.data.synthetic.tetrominoes import Tetrominoes
from objectscape.scene import Decomposition, Scene

RUN = "pretrained/instance_coloring-tetrominoes"


def test_a_slot_stands_for_the_object_that_it_covers() -> None:
    segments = torch.zeros(1, 4, 4, dtype=torch.int16)
    segments[0, :2, :2], segments[0, 2:, 2:] = 1, 2
    owner = torch.full((4, 4), 1)  # slot 1 has the background, 2 the first object, 0 the second, 3 nothing
    owner[:2, :2], owner[2:, 2:] = 2, 0
    masks = torch.stack([owner == slot for slot in range(4)]).float()[None, :, None]
    output = Decomposition(
        recon=torch.zeros(1, 3, 4, 4), masks=masks, components=torch.zeros(1, 4, 3, 4, 4), slots=torch.randn(1, 4, 5)
    )
    factors = {"x": torch.tensor([[0.5, 1.5]]), "shape": torch.tensor([[7, 8]])}
    found = slots_of(Scene(image=torch.zeros(1, 3, 4, 4), segments=segments, factors=factors), output)
    assert found["object"].tolist() == [[2, 0, 1, 0]]
    assert found["share"].tolist() == [[0.25, 0.5, 0.25, 0]]
    assert found["factor_shape"].tolist() == [[8, -1, 7, -1]]
    assert np.array_equal(found["factor_x"], [[1.5, np.nan, 0.5, np.nan]], equal_nan=True)
    assert np.array_equal(found["slots"], output.slots.numpy())


def test_every_format_holds_the_same_numbers(tmp_path: Path) -> None:
    files = {suffix: tmp_path / f"slots{suffix}" for suffix in (".npz", ".h5", ".csv")}
    for file in files.values():
        assert main(["latents", RUN, f"out={file}", "--split", "test", "--images", "3"]) == 0
    slots = objectscape.load(RUN)(Tetrominoes(split="test").batch([0, 1, 2])).slots.detach().numpy()
    written = np.load(files[".npz"])
    assert np.allclose(written["test/slots"], slots, atol=1e-5)
    with h5py.File(files[".h5"]) as file:
        assert all(np.array_equal(file[name][()], written[name], equal_nan=True) for name in written)
    rows = list(csv.DictReader(files[".csv"].open()))
    assert [(row["scene"], row["slot"]) for row in rows[:6]] == [*(("0", str(k)) for k in range(5)), ("1", "0")]
    table = [[float(row[f"z_{i}"]) for i in range(slots.shape[2])] for row in rows]
    assert np.allclose(np.reshape(table, slots.shape), slots, atol=1e-5)
    assert [int(row["object"]) for row in rows] == written["test/object"].flatten().tolist()
    assert sorted(written["test/object"][0].tolist()) == [0, 0, 1, 2, 3]


def test_slots_of_clips_and_of_pictures_without_labels(tmp_path: Path) -> None:
    words = ["latents", "pretrained/savi-moving_shapes", f"out={tmp_path / 'c.npz'}", "--split", "val", "--images", "2"]
    assert main(words) == 0
    clips = np.load(tmp_path / "c.npz")
    assert clips["val/slots"].shape[:3] == (*clips["val/share"].shape[:2], 4)
    for i in range(2):
        (tmp_path / "mine").mkdir(exist_ok=True)
        Image.new("RGB", (60, 40), (90 * i, 20, 30)).save(tmp_path / "mine" / f"{i}.png")
    words = ["data=folder", f"data.path={tmp_path / 'mine'}", "data.image_size=35", f"out={tmp_path / 'm.npz'}"]
    assert main(["latents", RUN, *words, "--split", "all"]) == 0
    assert list(np.load(tmp_path / "m.npz")) == ["all/slots", "all/share"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ([RUN, "out=slots.txt"], "must end in .npz, .csv, .h5, .hdf5"),
        ([RUN, "out=slots"], "must end in .npz"),
        ([RUN, "data=moving_shapes", "out=slots.csv"], "multiples of patch=5"),
        ([RUN], "out=FILE"),
    ],
)
def test_a_mistake_is_answered_in_words(
    words: list[str], answer: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["latents", *words]) == 1
    assert answer in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
