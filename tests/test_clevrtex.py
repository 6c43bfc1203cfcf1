"""ClevrTex: its folders, splits, crop and properties, on small files of the published layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from objectscape.cli import main
from objectscape.data.clevrtex import MATERIALS, SHAPES, SIZES, ClevrTex
from objectscape.data.formats.hdf5 import HDF5Scenes

COUNT = 20


def thing(shape: str = "cube", material: str = "poliigonmarble13", x: float = 1.5) -> dict:
    return {"shape": shape, "size": "small", "material": material, "rotation": 123.5, "color": "red",
            "3d_coords": [x, -2.0, 0.4], "pixel_coords": [1, 2, 3]}  # fmt: skip


def write(root: Path, variant: str, count: int = COUNT) -> None:
    labels = np.zeros((240, 320), np.uint8)
    labels[24:120, 64:160] = 1  # the upper left quarter of the crop
    labels[0:20, 0:320] = 2  # outside of the crop
    labels[200:216, 240:256] = 3  # its lower right corner
    for number in range(count):
        folder = root / f"clevrtex_{variant}" / str(number // 10)
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"CLEVRTEX_{variant}_{number:06d}"
        noise = np.random.default_rng(number).integers(0, 256, (240, 320, 4)).astype(np.uint8)
        noise[..., 3] = 255
        Image.fromarray(noise).save(folder / f"{stem}.png")
        flat = Image.fromarray(labels).convert("P")
        flat.putpalette([0, 0, 0, 255, 0, 0, 0, 128, 0, 0, 0, 255])
        flat.putdata(labels.ravel().tolist())
        flat.save(folder / f"{stem}_flat.png")
        Image.new("L", (320, 240)).save(folder / f"{stem}_depth_0001.png")
        objects = [thing(x=number), thing("monkey", "unheardof"), thing("torus")]
        (folder / f"{stem}.json").write_text(json.dumps({"objects": objects, "ground_material": "tabularasa"}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "full")
    return tmp_path


def test_the_benchmarks_crop_and_size(root: Path) -> None:
    dataset = ClevrTex(path=root, split="train")
    scene = dataset.batch([3, 0])
    with Image.open(root / "clevrtex_full" / "0" / "CLEVRTEX_full_000007.png") as image:
        box = (64, 24, 256, 216)
        expected = np.array(image.convert("RGB").crop(box).resize((128, 128), Image.Resampling.BILINEAR))
    assert torch.equal(scene.image[0], torch.from_numpy(expected).permute(2, 0, 1))
    assert scene.segments is not None
    assert scene.present is not None
    assert scene.segments[0, :64, :64].unique().tolist() == [1]
    assert scene.segments[0, 64:, :64].unique().tolist() == [0]
    assert scene.segments[0, 127, 127] == 3
    assert scene.present[0].tolist() == [True, False, True] + [False] * 7
    assert ClevrTex(path=root, image_size=192)[0].segments.eq(3).sum() == 16 * 16  # type: ignore[union-attr]


def test_splits_by_number(root: Path) -> None:
    found = {split: ClevrTex(path=root, split=split) for split in ("test", "val", "train")}
    assert {split: len(dataset) for split, dataset in found.items()} == {"test": 2, "val": 2, "train": 16}
    numbers = [int(file.stem[-6:]) for dataset in found.values() for file in dataset.files]
    assert numbers == list(range(COUNT))
    assert ClevrTex(path=root / "clevrtex_full", split="val").spec.splits == {"val": 2}


def test_factors_are_those_of_the_objects(root: Path) -> None:
    scene = ClevrTex(path=root, split="train").batch([0, 5])
    assert scene.factors is not None
    assert set(scene.factors) == {"x", "y", "z", "rotation", "shape", "size", "material"}
    assert scene.factors["x"][:, 0].tolist() == [4, 9]
    assert scene.factors["rotation"][0, :4].tolist() == [123.5, 123.5, 123.5, 0]
    shapes = [SHAPES.index(name) + 1 for name in ("cube", "monkey", "torus")]
    assert scene.factors["shape"][0].tolist() == shapes + [0] * 7
    assert scene.factors["size"][0, :4].tolist() == [*[SIZES.index("small") + 1] * 3, 0]
    marble = MATERIALS.index("marble13") + 1
    assert scene.factors["material"][0, :4].tolist() == [marble, -1, marble, 0]
    assert len(set(MATERIALS)) == len(MATERIALS) == 60 + 25 + 3
    assert ClevrTex(path=root, factors=False)[0].factors is None
    for file in root.rglob("*.json"):
        file.unlink()
    assert ClevrTex(path=root)[0].factors is None


def test_variants(root: Path) -> None:
    write(root, "outd", 5)
    write(root, "vbg", 10)
    assert [len(ClevrTex(path=root, variant="outd", split=s)) for s in ("train", "val", "test")] == [0, 0, 5]
    assert ClevrTex(path=root, variant="vbg")[0].factors["color"][0] == 2  # type: ignore[index]
    assert "test split" in ClevrTex(path=root, variant="outd", split="test").spec.notes


def test_bad_input_is_answered_in_words(root: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'outd'"):
        ClevrTex(path=root, variant="outdd")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        ClevrTex(path=root / "nowhere")
    with pytest.raises(ValueError, match="it holds variant='full'"):
        ClevrTex(path=root / "clevrtex_full", variant="camo")
    (root / "empty").mkdir()
    with pytest.raises(ValueError, match="unpack the archive there"):
        ClevrTex(path=root / "empty")
    write(root / "few", "full", 3)
    with pytest.raises(ValueError, match=r"split='val' of .* is empty: there are 3 images in all"):
        ClevrTex(path=root / "few", split="val")
    folder = root / "clevrtex_full" / "0"
    broken = folder / "CLEVRTEX_full_000004.json"
    broken.write_text('{"objects": [{"shape": "cube"}]}')
    with pytest.raises(ValueError, match=r"000004.json does not describe the objects.*factors=False"):
        ClevrTex(path=root).batch([0])
    broken.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 16 images have no \.json file"):
        ClevrTex(path=root)
    Image.new("L", (320, 240), 11).save(folder / "CLEVRTEX_full_000004_flat.png")
    with pytest.raises(ValueError, match="has label 11; ClevrTex has 10 objects"):
        ClevrTex(path=root, factors=False).batch([0])
    (folder / "CLEVRTEX_full_000004_flat.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 16 images have no labels: CLEVRTEX_full_000004_flat\.png"):
        ClevrTex(path=root, factors=False)
    (folder / "CLEVRTEX_full_000008.png").unlink()
    with pytest.raises(ValueError, match="lacks 1 images, such as number 8"):
        ClevrTex(path=root, factors=False)


def test_info_and_convert(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", "clevrtex"]) == 0
    assert "robots.ox.ac.uk" in capsys.readouterr().out
    assert main(["data", "info", "clevrtex", f"path={root}"]) == 0
    assert "train: 16" in capsys.readouterr().out
    assert main(["data", "convert", "clevrtex", f"source={root}", f"path={root / 'c.h5'}"]) == 0
    assert main(["data", "check", str(root / "c.h5")]) == 0
    for split in ("train", "test"):
        read, expected = HDF5Scenes(path=root / "c.h5", split=split), ClevrTex(path=root, split=split)
        one, other = read.batch([1, 0]), expected.batch([1, 0])
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.segments, other.segments)  # type: ignore[arg-type]
        assert torch.equal(one.factors["material"], other.factors["material"])  # type: ignore[index]
    write(root, "outd", 4)
    assert main(["data", "convert", "clevrtex", f"source={root}", "variant=outd", f"path={root / 'o.h5'}"]) == 0
    assert len(HDF5Scenes(path=root / "o.h5", split="test")) == 4
