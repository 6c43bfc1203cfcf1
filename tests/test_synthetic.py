"""The rendered data sets: reproducible, true to their rules, and honest about what is visible."""

from __future__ import annotations

import colorsys
import math
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objectscape.data.boxes import boxes_from_segments
from objectscape.data.synthetic.base import SyntheticScenes
from objectscape.data.synthetic.dsprites import COUNT, SIZES, DrawnSprites, read_sprites, sprite_factors
from objectscape.data.synthetic.multi_dsprites import (
    LEVELS,
    OBJECTS,
    GenesisStream,
    MultiDSprites,
    hue_to_rgb,
    paint_sprites,
)
from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.data.synthetic.tetrominoes import FORMS, Tetrominoes
from objectscape.scene import Scene
from objectscape.seeding import derive_generator


def multi_dsprites(variant: str) -> Callable[..., SyntheticScenes]:
    return lambda **options: MultiDSprites(variant=variant, **options)


FAMILIES: dict[str, Callable[..., SyntheticScenes]] = {
    "tetrominoes": Tetrominoes,
    "colored_shapes": ColoredShapes,
    "colored_shapes_apart": lambda **options: ColoredShapes(overlap=False, **options),
    "colored_shapes_same": lambda **options: ColoredShapes(same_color=True, max_objects=5, **options),
    **{f"multi_dsprites_{variant}": multi_dsprites(variant) for variant in OBJECTS},
}
FLAT = [name for name in FAMILIES if name != "tetrominoes"]
family = pytest.mark.parametrize("name", FAMILIES)


@cache
def small(name: str) -> tuple[SyntheticScenes, Scene]:
    dataset = FAMILIES[name](count=1100)  # more than one chunk
    return dataset, dataset.all()


def same(a: Scene, b: Scene) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(torch.utils._pytree.tree_leaves(a), torch.utils._pytree.tree_leaves(b))
    )


@family
def test_a_seed_gives_the_same_scenes_again(name: str) -> None:
    assert same(FAMILIES[name](count=50, seed=3).all(), FAMILIES[name](count=50, seed=3).all())


@family
def test_seeds_and_splits_give_other_scenes(name: str) -> None:
    images = [
        FAMILIES[name](count=20, seed=seed, split=split).all().image
        for seed, split in ((0, "train"), (1, "train"), (0, "val"), (0, "test"))
    ]
    differ = [(a != b).flatten(1).any(1).float().mean() for i, a in enumerate(images) for b in images[:i]]
    assert min(differ) > 0.9


@family
@settings(max_examples=20, deadline=None)
@given(indices=st.lists(st.integers(0, 1099), min_size=1, max_size=12))
def test_a_scene_does_not_depend_on_how_it_is_reached(name: str, indices: list[int]) -> None:
    dataset, scenes = small(name)
    assert same(dataset.batch(indices), scenes[torch.tensor(indices)])
    assert same(dataset[indices[0]], scenes[indices[0]])
    assert same(dataset[indices[0] - 1100], scenes[indices[0]])


@family
def test_a_smaller_split_is_the_beginning_of_a_larger_one(name: str) -> None:
    assert same(FAMILIES[name](count=30).all(), small(name)[1][:30])


@family
def test_a_data_set_survives_pickling(name: str) -> None:
    dataset = FAMILIES[name](count=40, split="val")
    expected = dataset.batch([39, 1])
    for copy in (
        pickle.loads(pickle.dumps(dataset)),
        pickle.loads(pickle.dumps(FAMILIES[name](count=40, split="val"))),
    ):
        assert same(copy.batch([39, 1]), expected)


@family
def test_the_stream_repeats_itself_only_for_the_same_step(name: str) -> None:
    dataset = FAMILIES[name]()
    first = dataset.stream(0, 16)
    assert same(first, FAMILIES[name]().stream(0, 16))
    assert not torch.equal(first.image, dataset.stream(1, 16).image)
    assert not torch.equal(first.image, FAMILIES[name](split="val").stream(0, 16).image)
    assert len(first) == 16


@family
def test_fields_have_the_documented_types_and_shapes(name: str) -> None:
    dataset, scenes = small(name)
    size, n = dataset.spec.image_size, dataset.spec.max_objects
    assert n is not None
    assert (scenes.image.dtype, tuple(scenes.image.shape)) == (torch.uint8, (1100, 3, *size))
    assert (scenes.segments.dtype, tuple(scenes.segments.shape)) == (torch.int8, (1100, *size))
    assert (scenes.boxes.dtype, tuple(scenes.boxes.shape)) == (torch.float32, (1100, n, 4))
    assert (scenes.present.dtype, tuple(scenes.present.shape)) == (torch.bool, (1100, n))
    assert (scenes.labels.dtype, tuple(scenes.labels.shape)) == (torch.int64, (1100, n))
    assert set(dataset.spec.fields) == {"image", "segments", "boxes", "present", "labels", "factors"}
    for factor, values in scenes.factors.items():
        assert (values.dtype, tuple(values.shape[:2])) == (torch.float32, (1100, n))
        assert factor in dataset.spec.fields["factors"]
    assert tuple(scenes.factors["color"].shape) == (1100, n, 3)
    assert len(dataset) == dataset.spec.splits["train"] == 1100


@family
def test_boxes_and_present_agree_with_the_segments(name: str) -> None:
    _, scenes = small(name)
    for segments, boxes, present in zip(scenes.segments[:60].numpy(), scenes.boxes.numpy(), scenes.present.numpy()):
        for n, (box, there) in enumerate(zip(boxes, present)):
            rows, columns = np.nonzero(segments == n + 1)
            expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else (0, 0, 0, 0)
            assert there == (len(rows) > 0)
            assert tuple(box) == expected
    assert int(scenes.segments.min()) == 0
    assert torch.equal(
        scenes.objects, torch.stack([(scenes.segments == n + 1).flatten(1).any(1) for n in range(5)]).sum(0)
    )


@family
def test_rows_that_were_not_placed_are_zero_and_labels_follow_the_shape(name: str) -> None:
    _, scenes = small(name)
    placed = scenes.factors["visibility"] == 1
    assert torch.equal(placed, scenes.factors["visibility"].bool())
    assert bool((placed | ~scenes.present).all())  # whatever is visible was placed
    for values in scenes.factors.values():
        assert not values[~placed].any()
    assert torch.equal(scenes.labels[scenes.present], scenes.factors["shape"][scenes.present].long() - 1)
    assert not scenes.labels[~scenes.present].any()


@pytest.mark.parametrize("name", FLAT)
def test_every_pixel_has_the_color_of_its_owner(name: str) -> None:
    _, scenes = small(name)
    owner = scenes.segments.flatten(1).long()
    colors = (scenes.factors["color"] * 255).round().to(torch.uint8)
    pixels = scenes.image.flatten(2).transpose(1, 2)  # (B, H W, 3)
    expected = torch.cat([pixels[:, :1], colors], 1).gather(1, owner.unsqueeze(-1).expand(-1, -1, 3))
    assert not owner[:, 0].any()  # the first pixel shows the background
    assert torch.equal(pixels, expected)


@pytest.mark.parametrize("split", ["training", "", "TRAIN"])
def test_unknown_splits_are_answered_with_the_known_ones(split: str) -> None:
    for make in FAMILIES.values():
        with pytest.raises(ValueError, match="train, val, test"):
            make(split=split)


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="count=0"):
        Tetrominoes(count=0)
    with pytest.raises(ValueError, match=r"variant='colored'.*genesis_unique"):
        MultiDSprites(variant="colored")
    with pytest.raises(ValueError, match="has 10000 val scenes"):
        MultiDSprites(variant="genesis", split="val", count=10_001)
    with pytest.raises(ValueError, match="image_size=8"):
        ColoredShapes(image_size=8)
    with pytest.raises(ValueError, match="min_objects=3, max_objects=2"):
        ColoredShapes(min_objects=3, max_objects=2)
    with pytest.raises(ValueError, match="max_objects=5 with overlap=False"):
        ColoredShapes(max_objects=5, overlap=False)
    with pytest.raises(IndexError, match="has 320 scenes; there is no scene 320"):
        Tetrominoes(split="val").batch([0, 320])
    with pytest.raises(IndexError, match="there is no scene 320"):
        Tetrominoes(split="val")[320]


def test_published_counts() -> None:
    assert [len(Tetrominoes(split=split)) for split in ("train", "val", "test")] == [60_000, 320, 320]
    assert [len(MultiDSprites(split=split)) for split in ("train", "val", "test")] == [60_000, 320, 320]
    assert len(MultiDSprites(variant="genesis")) == 50_000
    assert len(MultiDSprites(variant="genesis_unique", split="val")) == 10_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@family
def test_a_gpu_paints_the_same_bytes(name: str) -> None:
    dataset, scenes = small(name)
    assert same(dataset.all("cuda").to("cpu"), scenes)


# ---------------------------------------------------------------------------------------------------- Tetrominoes


def test_the_forms_are_the_19_fixed_tetrominoes() -> None:
    assert len(set(FORMS)) == 19
    turned = set()
    for form in FORMS:
        rows = form.split("/")
        assert form.count("#") == 4
        turned.add("/".join("".join(row[i] for row in reversed(rows)) for i in range(len(rows[0]))))
    assert turned == set(FORMS)  # closed under a quarter turn


def test_pieces_never_overlap() -> None:
    scenes = Tetrominoes(count=2048, seed=5).all()
    areas = torch.stack([(scenes.segments == n).flatten(1).sum(1) for n in (1, 2, 3)])
    assert bool((areas == 100).all())  # a piece that lost a pixel to another would be smaller
    assert torch.equal(scenes.image.amax(1) > 0, scenes.segments > 0)


def test_tetrominoes_follow_the_published_statistics() -> None:
    n = 40_000
    draws = Tetrominoes().draw(n, derive_generator(0, "statistics"))

    def assert_share(share: torch.Tensor, expected: float, trials: int) -> None:
        deviation = math.sqrt(expected * (1 - expected) / trials)
        assert abs(float(share) - expected) < 4 * deviation

    bent = (draws["shape"] >= 11) & (draws["shape"] <= 14)
    green = (draws["color"] == torch.tensor([0, 1, 0])).all(-1)
    assert_share((~bent).all(1).float().mean(), 0.5033, n)  # of the real million, as is the next one
    assert_share((~(bent & green)).all(1).float().mean(), 0.9009, n)
    shares = torch.bincount(draws["shape"].flatten(), minlength=20)[1:] / draws["shape"].numel()
    for share, form in zip(shares, FORMS, strict=True):  # simulated with other code: datasets_emorl.md
        expected = 0.057 if form in (FORMS[0], FORMS[1]) else 0.0636 if form == "##/##" else 0.05149
        deviation = math.sqrt(expected * (1 - expected) / (3 * n))
        assert abs(float(share) - expected) < 4 * deviation + 0.0006  # the expectations are rounded
    codes = (draws["color"] * torch.tensor([1, 2, 4])).sum(-1)
    assert set(codes.unique().tolist()) == {1, 2, 3, 4, 5, 6}
    for code in range(1, 7):
        assert_share((codes == code).float().mean(), 1 / 6, 3 * n)
    position = draws["column"].unique()
    assert (int(position.min()), int(position.max())) == (0, 30)  # an upright bar at either border


# ---------------------------------------------------------------------------------------------------- Multi-dSprites


@pytest.mark.parametrize("variant", OBJECTS)
def test_the_number_of_sprites_is_uniform(variant: str) -> None:
    scenes = small(f"multi_dsprites_{variant}")[1]
    counts = scenes.factors["visibility"].sum(1).long()
    fewest, most = OBJECTS[variant]
    share = 1 / (most - fewest + 1)
    assert (int(counts.min()), int(counts.max())) == (fewest, most)
    for number in range(fewest, most + 1):
        found = float((counts == number).float().mean())
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / len(counts))


def test_colors_of_the_variants() -> None:
    image = {variant: small(f"multi_dsprites_{variant}")[1].image for variant in OBJECTS}
    background = {variant: pixels[:, :, 0, 0] for variant, pixels in image.items()}  # sprites do not reach the corner
    assert image["binarized"].unique().tolist() == [0, 255]
    assert not background["binarized"].any()
    gray = background["colored_on_grayscale"]
    assert torch.equal(gray, gray[:, :1].expand(-1, 3))
    assert len(gray.unique()) > 200
    colors = small("multi_dsprites_colored_on_grayscale")[1].factors["color"]
    assert bool(((colors.amax(-1) == 1) & (colors.amin(-1) == 0) | (colors == 0).all(-1)).all())
    assert len(background["colored_on_colored"].unique()) == 256
    for variant in ("genesis", "genesis_unique"):
        assert image[variant].unique().tolist() == list(LEVELS)


def repeats(scenes: Scene) -> int:
    """Pairs of equal colors among the sprites of a scene and its background."""
    colors = torch.cat([scenes.image[:, None, :, 0, 0] / 255, scenes.factors["color"]], 1)  # (B, 1 + N, 3)
    there = torch.cat([torch.ones(len(scenes), 1), scenes.factors["visibility"]], 1).bool()
    equal = (colors[:, :, None] == colors[:, None]).all(-1) & there[:, :, None] & there[:, None]
    return int(equal.triu(1).sum())


def test_unique_colors_are_unique() -> None:
    assert repeats(small("multi_dsprites_genesis_unique")[1]) == 0
    assert repeats(MultiDSprites(variant="genesis_unique").stream(0, 512)) == 0
    assert repeats(small("multi_dsprites_genesis")[1]) > 0


def test_later_sprites_hide_earlier_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    sprite = torch.randint(COUNT, (50, 1), generator=generator)
    other = torch.randint(COUNT, (50, 1), generator=generator)
    color = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=torch.uint8)
    scenes = paint_sprites(
        {
            "objects": torch.full((50,), 3),
            "sprite": torch.cat([sprite, other, sprite, other], 1),  # the fourth is not placed
            "color": color.expand(50, -1, -1),
            "background": torch.zeros(50, 3, dtype=torch.uint8),
        },
        DrawnSprites(),
    )
    mask, under = DrawnSprites().masks(torch.cat([sprite, other], 1), "cpu").unbind(1)
    assert torch.equal(scenes.segments == 3, mask)
    assert torch.equal(scenes.segments == 2, under & ~mask)
    assert torch.equal(scenes.image[:, 2] == 255, mask)
    assert not scenes.present[:, 0].any()  # wholly hidden by its twin
    assert bool((scenes.factors["visibility"] == torch.tensor([1.0, 1, 1, 0])).all())
    assert not scenes.boxes[:, 0].any()


def test_hues_are_the_saturated_colors() -> None:
    found = hue_to_rgb(torch.arange(1530))
    expected = [[round(255 * part) for part in colorsys.hsv_to_rgb(hue / 1530, 1, 1)] for hue in range(1530)]
    assert found.tolist() == expected
    assert len(found.unique(dim=0)) == 1530


def test_sprites_have_the_mean_pixel_of_dsprites() -> None:
    total = DrawnSprites().masks(torch.arange(0, COUNT, 32 * 32), "cpu").double().mean()
    assert float(total) == pytest.approx(0.042494423521889584, abs=1e-5)  # measured by others on the original


def test_sprites_grow_move_and_stay_inside() -> None:
    numbers = torch.arange(COUNT).view(SIZES)
    areas = DrawnSprites().masks(numbers[:, :, 7, 0, 0], "cpu").flatten(2).sum(-1)
    assert bool((areas.diff(dim=1) > 0).all())
    corners = DrawnSprites().masks(numbers[:, 5, :, ::31, ::31].flatten(), "cpu")
    assert not corners[:, [0, -1]].any()
    assert not corners[:, :, [0, -1]].any()
    at = DrawnSprites().masks(numbers[2, 3, 11], "cpu")  # (32 x, 32 y, 64, 64)
    assert torch.equal(at[4, 9], at[0, 0].roll((9, 4), (0, 1)))
    factors = sprite_factors(numbers[2, 3, 11, 4, 9])
    values = [float(factors[name]) for name in ("shape", "scale", "orientation", "x", "y")]
    assert values == pytest.approx([3, 0.8, 11 * 2 * math.pi / 39, 4 / 31, 9 / 31], rel=1e-6)


def test_genesis_splits_follow_one_another_in_the_stream() -> None:
    stream = GenesisStream(0)
    stream.draw(50_000)
    expected = stream.draw(20)
    found = MultiDSprites(variant="genesis", split="val", count=20).draw_split()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


LAYOUT = (3, 2, 4, 2, 2)


def archive(path: Path, *, images: np.ndarray | None = None, classes: np.ndarray | None = None) -> np.ndarray:
    """A small file in dSprites' format, its pickled metadata included; gives back the images."""
    count = math.prod(LAYOUT)
    if images is None:
        images = np.random.default_rng(0).integers(0, 2, (count, 64, 64)).astype(np.uint8)
    if classes is None:
        classes = np.stack(np.unravel_index(np.arange(count), (1, *LAYOUT)), 1)
    metadata = np.array({"title": "not to be opened"}, dtype=object)
    np.savez_compressed(path, metadata=metadata, imgs=images, latents_classes=classes, latents_values=classes / 2)
    return images


def test_the_original_archive_is_read(tmp_path: Path) -> None:
    images = archive(tmp_path / "sprites.npz")
    numbers = torch.tensor([[0, 5], [95, 17]])
    masks = read_sprites(str(tmp_path / "sprites.npz"), LAYOUT).masks(numbers, "cpu")
    assert masks.dtype == torch.bool
    assert np.array_equal(masks.numpy(), images[numbers.numpy()] == 1)


def test_wrong_archives_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "sprites.npz"
    with pytest.raises(FileNotFoundError, match="dsprites-dataset"):
        read_sprites(str(file), LAYOUT)
    with pytest.raises(FileNotFoundError, match="no such file"):
        MultiDSprites(sprites=file)
    file.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="not the dSprites archive, or it is damaged"):
        read_sprites(str(file), LAYOUT)
    np.savez(file, images=np.zeros(3))
    with pytest.raises(ValueError, match=r"lacks imgs.npy, latents_classes.npy"):
        read_sprites(str(file), LAYOUT)
    archive(file, images=np.full((math.prod(LAYOUT), 64, 64), 2, np.uint8))
    with pytest.raises(ValueError, match="holds the value 2"):
        read_sprites(str(file), LAYOUT)
    archive(file, images=np.zeros((5, 64, 64), np.uint8))
    with pytest.raises(ValueError, match=r"expected uint8 \(96, 64, 64\)"):
        read_sprites(str(file), LAYOUT)
    archive(file)
    with pytest.raises(ValueError, match="do not count the factors 1, 3, 6, 40, 32, 32"):
        MultiDSprites(sprites=file).batch([0])
    content = file.read_bytes()
    for damaged in (content[:-3000], content[:6000] + bytes(2000) + content[8000:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            read_sprites(str(file), LAYOUT)


# ---------------------------------------------------------------------------------------------------- Colored shapes


@settings(max_examples=25, deadline=None)
@given(size=st.integers(16, 70), fewest=st.integers(1, 4), more=st.integers(0, 3), seed=st.integers(0, 2**31))
def test_shapes_keep_their_rules(size: int, fewest: int, more: int, seed: int) -> None:
    dataset = ColoredShapes(count=24, image_size=size, min_objects=fewest, max_objects=fewest + more, seed=seed)
    scenes = dataset.all()
    factors = scenes.factors
    assert scenes.image.shape == (24, 3, size, size)
    counts = factors["visibility"].sum(1)
    assert int(counts.min()) >= fewest
    assert int(counts.max()) <= fewest + more
    placed = factors["visibility"].bool()
    for axis in ("x", "y"):
        assert bool((factors[axis] - factors["scale"] >= 0)[placed].all())
        assert bool((factors[axis] + factors["scale"] <= size - 1)[placed].all())
    inside = torch.stack([factors["x"], factors["y"], factors["x"] + 1, factors["y"] + 1], -1)
    reach = factors["scale"].unsqueeze(-1)
    low, high = (inside - reach)[..., :2], (inside + reach)[..., 2:]
    assert bool((scenes.boxes[..., :2] >= low)[scenes.present].all())
    assert bool((scenes.boxes[..., 2:] <= high)[scenes.present].all())
    last = (counts - 1).long()  # nothing hides the last object
    assert bool(scenes.present.gather(1, last.unsqueeze(1)).all())


def test_shapes_apart_hide_nothing_and_counts_stay_uniform() -> None:
    scenes = small("colored_shapes_apart")[1]
    counts = scenes.factors["visibility"].sum(1)
    assert torch.equal(scenes.present, scenes.factors["visibility"].bool())
    left, top, right, bottom = (side[..., None] for side in scenes.boxes.unbind(-1))  # (n, N, 1)
    meet = (left < right.mT) & (left.mT < right) & (top < bottom.mT) & (top.mT < bottom)
    assert not (meet & ~torch.eye(4, dtype=torch.bool)).any()
    assert ((counts.long().bincount(minlength=5)[2:] / len(counts) - 1 / 3).abs() < 0.05).all()
    alone = ColoredShapes(count=200, min_objects=1, max_objects=1).all()
    assert same(alone, ColoredShapes(count=200, min_objects=1, max_objects=1, overlap=False).all())


def test_one_color_for_all() -> None:
    color = small("colored_shapes_same")[1].factors["color"]
    placed = small("colored_shapes_same")[1].factors["visibility"].bool()
    assert bool((color == color[:, :1])[placed].all())
    several = small("colored_shapes")[1].factors["color"]
    assert not (several == several[:, :1])[small("colored_shapes")[1].factors["visibility"].bool()].all()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_boxes_of_any_instance_map(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    values = data.draw(st.lists(st.integers(-1, 4), min_size=height * width, max_size=height * width))
    segments = torch.tensor(values).view(height, width)
    boxes, present = boxes_from_segments(segments, 3)
    for n in range(3):
        rows, columns = (segments == n + 1).nonzero(as_tuple=True)
        assert bool(present[n]) == (len(rows) > 0)
        if len(rows):
            assert boxes[n].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        else:
            assert boxes[n].tolist() == [0, 0, 0, 0]
