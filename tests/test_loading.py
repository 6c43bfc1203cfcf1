"""Batches depend on the seed and the step alone."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objectscape.data.formats.hdf5 import HDF5Scenes, write_hdf5
from objectscape.data.loading import BatchOrder, EvalLoader, TrainLoader
from objectscape.data.synthetic.shapes import ColoredShapes


def take(order: BatchOrder, n: int) -> list[list[int]]:
    return list(islice(iter(order), n))


@settings(max_examples=30, deadline=None)
@given(size=st.integers(6, 40), local=st.integers(1, 3), world=st.integers(1, 2), start=st.integers(0, 25))
def test_processes_share_the_batches_of_one_and_a_restart_continues(
    size: int, local: int, world: int, start: int
) -> None:
    whole = take(BatchOrder(size, batch_size=local * world, seed=5), start + 6)
    parts = [
        take(BatchOrder(size, batch_size=local, seed=5, start=start, rank=r, world=world), 6) for r in range(world)
    ]
    assert [sum(ranks, []) for ranks in zip(*parts, strict=True)] == whole[start:]
    epoch = whole[: size // (local * world)]
    seen = sum(epoch, [])
    assert len(set(seen)) == len(seen), "no scene twice in an epoch"


def test_epochs_and_seeds_differ() -> None:
    first, second = (sum(take(BatchOrder(32, batch_size=8, seed=s), 4), []) for s in (0, 1))
    assert first != second
    both = take(BatchOrder(32, batch_size=8, seed=0), 8)
    assert sum(both[:4], []) != sum(both[4:], [])
    assert sorted(sum(both[:4], [])) == sorted(sum(both[4:], [])) == list(range(32))


def test_storages_give_the_same_batches(tmp_path: Path) -> None:
    scenes = ColoredShapes(split="train", count=24)
    write_hdf5(tmp_path / "s.h5", {"train": scenes})
    file = HDF5Scenes(path=tmp_path / "s.h5", split="train")
    loaders = [
        TrainLoader(scenes, batch_size=5, seed=3, storage="ram"),
        TrainLoader(file, batch_size=5, seed=3, storage="ram"),
        TrainLoader(file, batch_size=5, seed=3, storage="workers", workers=0),
        TrainLoader(file, batch_size=5, seed=3, storage="workers", workers=2),
    ]
    for batches in islice(zip(*loaders, strict=True), 6):
        assert all(torch.equal(batches[0].image, other.image) for other in batches[1:])
        assert batches[0].segments is None, "training sees no labels"


def test_streams_never_repeat_and_restart_where_they_were() -> None:
    scenes = ColoredShapes(split="train", count=24)
    whole = list(islice(TrainLoader(scenes, batch_size=4, seed=0, storage="stream"), 4))
    later = next(iter(TrainLoader(scenes, batch_size=4, seed=0, storage="stream", start=3)))
    assert torch.equal(whole[3].image, later.image)
    assert not torch.equal(whole[0].image, whole[1].image)


def test_evaluation_covers_every_scene_once_over_processes() -> None:
    scenes = ColoredShapes(split="test", count=11)
    parts = [EvalLoader(scenes, batch_size=3, images=10, rank=rank, world=2) for rank in range(2)]
    assert sorted([i for part in parts for i in part.indices]) == list(range(10))
    assert sum(len(batch) for part in parts for batch in part) == 10


def test_what_cannot_be_loaded_says_why() -> None:
    scenes = ColoredShapes(split="train", count=6)
    with pytest.raises(ValueError, match="Lower batch_size"):
        TrainLoader(scenes, batch_size=7, seed=0)
    with pytest.raises(ValueError, match="auto, ram, device"):
        TrainLoader(scenes, batch_size=2, seed=0, storage="disk")
