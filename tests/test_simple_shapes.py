"""Simple Shapes: pictures, sentences and their refusals."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objectscape.cli import main
from objectscape.data.latents import Latents
from objectscape.data.simple_shapes import SimpleShapesFolder, write_folder
from objectscape.data.synthetic import captions
from objectscape.data.synthetic.captions import Attributes
from objectscape.data.synthetic.simple_shapes import SimpleShapes, published_labels
from objectscape.data.synthetic.simple_shapes_render import render
from objectscape.data.synthetic.simple_shapes_tasks import draw_hole, inside, odd_one_out, scaled


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2), st.integers(7, 14), st.floats(0, 6.28), st.integers(9, 23), st.integers(9, 23))
def test_covered_area_and_center_are_those_of_the_shape(kind: int, size: int, angle: float, x: int, y: int) -> None:
    one = torch.ones(1)
    _, cover = render(
        torch.tensor([kind]), one * x, one * y, one * size, one * angle, torch.full((1, 3), 255.0), image_size=32
    )
    mass = cover[0].double() / 255
    assert mass.sum() == pytest.approx((0.5, 0.604, 0.3)[kind] * size**2, rel=0.02)
    centers = torch.arange(32) + 0.5
    across = (mass.sum(0) * centers).sum() / mass.sum()
    up = 32 - (mass.sum(1) * centers).sum() / mass.sum()
    # a shape's center of mass lies below or above the middle of its box, along its own axis
    assert math.dist((across, up), (x, y)) < 0.2 * size


def test_turning_by_a_right_angle_turns_the_picture() -> None:
    ones = torch.ones(3)
    kinds = torch.arange(3)

    def draw(angle: float) -> torch.Tensor:
        return render(kinds, ones * 16, ones * 16, ones * 11, ones * angle, torch.full((3, 3), 200.0))[0].int()

    assert (draw(0.4).rot90(1, (2, 3)) - draw(0.4 + math.pi / 2)).abs().max() <= 3


def test_every_caption_comes_back_to_its_choices() -> None:
    rng = random.Random(1)
    for row in published_labels({"train": 60}, 5)["train"]:
        attributes = Attributes.of(row)
        choices = captions.draw_choices(rng, attributes)
        caption = captions.compose(attributes, choices)
        assert captions.compose(attributes, captions.read_caption(caption, attributes).choices) == caption
        tokens = captions.tokenize(caption)
        np.testing.assert_array_equal(tokens, captions.tokens_of([caption])[0])
        partial = captions.compose_partial(
            Attributes(attributes.shape, None, attributes.color, attributes.size, None), rng
        )
        assert captions.tokenize(partial).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a smal red egg", "'smal' is not among the .* Did you mean 'small'"),
        ("the image is", "says nothing about a shape"),
        ("a red egg, " * 30, "at most 48"),
    ],
)
def test_sentences_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        captions.tokenize(text)


def test_the_odd_one_shares_nothing() -> None:
    labels = torch.from_numpy(published_labels({"train": 1500}, 0)["train"])
    triplets, odd = odd_one_out(labels, 40, seed=3)
    rows = scaled(labels)
    places = torch.arange(3).expand(40, -1)
    pair = triplets[places != odd[:, None]].view(40, 2)
    alone = triplets.gather(1, odd[:, None]).squeeze(1)
    assert torch.equal(triplets, odd_one_out(labels, 40, seed=3)[0])
    least = (rows[pair] - rows[alone][:, None]).abs().amin((1, 2))
    assert least.min() > 0.02
    assert (pair[:, 0] != pair[:, 1]).all()
    with pytest.raises(ValueError, match="at least 1000"):
        odd_one_out(labels[:500], 3, seed=0)


def test_holes_hold_out_about_what_their_intervals_say() -> None:
    labels = torch.from_numpy(published_labels({"train": 5000}, 0)["train"])
    hole = draw_hole(2, seed=4)
    assert hole == draw_hole(2, seed=4)
    both, either = inside(labels, hole), inside(labels, hole, rule="any")
    assert (both <= either).all()
    assert 0.05 < both.float().mean() < 0.2 < either.float().mean() < 0.7
    with pytest.raises(ValueError, match="Did you mean 'rotation'"):
        inside(labels, {"rotatoin": (0, 1)})


def test_the_published_layout_comes_back(tmp_path: Path) -> None:
    labels = published_labels({"train": 6, "val": 3}, 1)
    rng = random.Random(0)
    texts = {
        split: [captions.compose(a := Attributes.of(row), captions.draw_choices(rng, a)) for row in rows]
        for split, rows in labels.items()
    }
    folder = write_folder(tmp_path / "shapes", labels, texts)
    data = SimpleShapesFolder(path=folder, split="val", domains=["v", "attr", "t"])
    batch = data.batch([2, 0])
    np.testing.assert_array_equal(batch.domains["attr"], labels["val"][[2, 0], :8])
    np.testing.assert_array_equal(batch.domains["t"][0], captions.tokens_of([texts["val"][2]])[0])
    assert batch.domains["v"].shape == (2, 3, 32, 32)
    assert batch.domains["v"].amax() > 40
    with pytest.raises(FileNotFoundError, match="test_labels"):
        SimpleShapesFolder(path=folder, split="test")


def test_a_file_of_all_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["data", "make", "simple_shapes", "train=30", "val=5", "domains=[v,attr,t]", "path=shapes.h5"]
    assert main(words) == 0
    made, drawn = Latents(path="shapes.h5", split="val"), SimpleShapes(split="val", count=5, domains=["v", "attr", "t"])
    assert len(Latents(path="shapes.h5")) == 30
    for name, values in drawn.batch([1, 4]).domains.items():
        assert torch.equal(made.batch([1, 4]).domains[name], values)
