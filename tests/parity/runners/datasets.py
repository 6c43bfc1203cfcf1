"""Readers of published data files against the arrays that the original readers return."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

from objectscape.data.dataset import SPLITS
from objectscape.data.emorl_h5 import EfficientMORLArchive
from objectscape.data.formats.tfrecord import TFRecordFile, parse_example
from objectscape.data.geometry import resize_image
from objectscape.data.gqn import camera_features, decode_scene
from objectscape.data.multi_object import CROPS, VARIANTS, MultiObject, Variant, decode, recognize
from objectscape.data.shapestacks import UNASSIGNED, ShapeStacks, is_unstable
from tests.parity.case import Case


def index(case: Case) -> None:
    """Every file of an index: the raw arrays bit for bit, and what the GENESIS wrapper makes of them."""
    for name, entry in case.info["files"].items():
        path = case.path.parent / f"{name}.tfrecords"
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as archive:
            expected = {key: archive[key] for key in archive.files}
        file = TFRecordFile(path)
        assert file.gzip == entry["gzip"], name
        assert file.count() == entry["records"], name
        example = parse_example(next(iter(file)))
        if "frames" in example:
            tolerance = JPEG_TOLERANCE
            read = gqn(file)
        else:
            tolerance = {}
            variants = recognize(example)
            assert variants, f"{name}: no known layout"
            read = multi_object(path, file, variants[0], expected)
        assert set(read) == set(expected) == set(entry["arrays"]), name
        for key, value in read.items():
            assert value.shape == expected[key].shape, f"{name}: {key}"
            assert value.dtype == expected[key].dtype, f"{name}: {key}"
            np.testing.assert_allclose(
                value, expected[key], rtol=0, atol=tolerance.get(key, 0), err_msg=f"{name}: {key}"
            )


# TensorFlow's default decoder uses a fast transform: up to 7 gray levels from the accurate one that Pillow uses.
# Sines and cosines come from another mathematics library: one unit in the last place.
JPEG_TOLERANCE = {"loader/frames_tf_float": 7.01 / 255, "loader/cameras7": 1.2e-7}


def gqn(file: TFRecordFile) -> dict[str, np.ndarray]:
    scenes = [decode_scene("", payload) for payload in file]
    frames = torch.stack([frames for frames, _ in scenes]).movedim(2, -1)
    cameras = torch.stack([cameras for _, cameras in scenes])
    return {
        "raw/frames_uint8": frames.numpy(),
        "raw/cameras_raw": cameras.numpy(),
        "loader/cameras7": camera_features(cameras).numpy(),
        "loader/frames_tf_float": (frames.float() / 255).numpy(),
    }


def shapestacks(case: Case) -> None:
    """A small ShapeStacks tree: every listed image at every recorded size."""
    root = case.path.with_suffix("")
    for scenario, unstable in case.info["stability"].items():
        assert is_unstable(scenario) == bool(unstable)
    outputs = case.group("outputs")
    found = set()
    for split in SPLITS:
        for size in sorted({int(key.split("/")[2]) for key in outputs}):
            dataset = ShapeStacks(path=root, split=split, image_size=size)
            scenes = dataset.batch(range(len(dataset)))
            assert scenes.segments is not None
            for file, pixels, segments in zip(dataset.files, scenes.pixels, scenes.segments.long(), strict=True):
                found.add(file.relative_to(root).as_posix())
                name = f"{file.parent.name}/cam_{file.name.partition('cam_')[2].partition('-')[0]}/{size}"
                case.compare(f"{name}/input", pixels, rtol=0, atol=1.001 / 255)  # "atol 1/255 (resampling rounding)"
                labels = torch.where(segments < 0, UNASSIGNED, segments)[None]
                case.compare(f"{name}/instances", labels, rtol=0, atol=0)
    assert set(case.info["files"]) <= found
    case.finish()


def multi_object(
    path: Path, file: TFRecordFile, variant: Variant, expected: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    records = [decode(parse_example(payload), variant) for payload in file]
    read = {"raw/image": np.stack([image for image, _, _ in records])}
    read["raw/mask"] = np.stack([masks for _, masks, _ in records])[..., None]
    for factor in records[0][2]:
        read[f"raw/{factor}"] = np.stack([factors[factor] for _, _, factors in records])
    name, key = next((n, k) for n, variants in VARIANTS.items() for k, v in variants.items() if v is variant)
    dataset = MultiObject(
        name=name,
        variant=key,
        path=path,
        split_rule="all",
        crop="genesis" if name == "clevr" else "none",
        image_size=expected["loader/input"].shape[-1],
    )
    scenes = dataset.batch(range(len(dataset)))
    assert (scenes.image == scenes.image[:, :1]).all() or variant.channels == 3  # gray images are repeated
    read["loader/input"] = scenes.pixels[:, : variant.channels].numpy()
    assert scenes.segments is not None
    labels = scenes.segments.long().unsqueeze(1)
    # GENESIS labels an object by its place among all entities, counted from 1; we count objects only
    read["loader/instances"] = torch.where(labels > 0, labels + variant.background, 0).numpy()
    return read


def clevr_preprocess(case: Case) -> None:
    """An archive in EfficientMORL's layout, read through its two CLEVR styles and without."""
    inputs = case.inputs()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clevr.h5"
        with h5py.File(path, "w") as file:
            file["test/imgs"] = inputs["image"].numpy()[None]
            file["test/masks"] = inputs["mask"].numpy()[None]

        def read(crop: str, image_size: int | None) -> tuple[torch.Tensor, torch.Tensor]:
            scene = EfficientMORLArchive(path=path, split="test", crop=crop, image_size=image_size)[0]
            assert scene.segments is not None
            return scene.pixels * 2 - 1, scene.segments

        case.compare("img_small", read("emorl", 96)[0])
        case.compare("img_large", read("emorl", 128)[0])
        raw, segments = read("none", None)
        case.compare("img_raw_minmax", torch.stack([raw.min(), raw.max()]))
        rows, columns, _ = CROPS["emorl"]
        masks = inputs["mask"].squeeze(-1)
        case.compare("mask_raw_sum", masks.float().sum((1, 2)))
        case.compare("mask_crop", masks[:, None, rows, columns])
        # Our segments hold the same objects wherever the masks do not overlap
        alone = masks.gt(127).sum(0) == 1
        assert (segments.long() == masks.gt(127).long().argmax(0))[alone].all()
        assert (read("emorl", None)[1] == segments[rows, columns]).all()
    case.compare(
        "pred_192", torch.stack([resize_image(mask, (192, 192), "bicubic") for mask in inputs["pred_masks_96"]])
    )
    case.finish()


KINDS: dict[str, Callable[[Case], None]] = {
    "datasets_genesis/index": index,
    "datasets_genesis/shapestacks_mini": shapestacks,
    "metrics/clevr_preprocess_emorl": clevr_preprocess,
}
