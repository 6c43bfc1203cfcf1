"""Clips are windows over frames: every way to read them gives the same pixels, and a batch depends on its number."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import main
from objectscape.data.clips import Clips, StoresFrames
from objectscape.data.dataset import SceneDataset
from objectscape.data.formats.hdf5 import HDF5Scenes, check_hdf5, write_hdf5
from objectscape.data.loading import BatchOrder, TrainLoader
from objectscape.data.synthetic.moving_shapes import MovingShapes
from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.nn.ramps import Stages
from objectscape.scene import Scene, Spec

LENGTHS = (5, 9, 2, 7)


class Counted(SceneDataset):
    """Episodes whose pixels are the number of the row, and whose actions are 100 times that."""

    def __init__(self) -> None:
        lengths = torch.tensor(LENGTHS)
        self.episodes = torch.stack([lengths.cumsum(0) - lengths, lengths], 1)
        self.spec = Spec(name="counted", image_size=(2, 2), splits={"train": len(lengths)}, fields={})
        self.split = "train"

    def __len__(self) -> int:
        return len(self.episodes)

    def frames(self, rows: Sequence[int]) -> Scene:
        numbers = torch.tensor(list(rows))
        image = numbers.to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
        return Scene(image=image, actions=100.0 * numbers[:, None], segments=image[:, 0])

    def batch(self, indices: Sequence[int]) -> Scene:
        raise AssertionError("clips of several lengths are read by frames")


def rows(scene: Scene) -> list[list[int]]:
    return scene.image[..., 0, 0, 0].tolist()


def test_windows_follow_one_another_and_stay_in_their_episode():
    clips = Clips(Counted(), length=2, stride=2)
    assert rows(clips.batch(range(len(clips)))) == [[0, 2], [5, 7], [9, 11], [16, 18], [20, 22]]
    batch = clips.batch([1, 3])
    assert torch.equal(batch.actions[..., 0], 100.0 * torch.tensor([[5, 7], [16, 18]]))
    assert clips.spec.frames == 2
    assert clips.spec.splits == {"train": 5}
    with pytest.raises(IndexError, match="no clip 5"):
        clips.batch([5])


def test_an_episode_that_is_too_short_is_left_out_and_said(caplog):
    with caplog.at_level("WARNING"):
        clips = Clips(Counted(), length=3)
    assert "1 of 4 clips" in caplog.text
    assert [first for first, *_ in rows(clips.batch(range(len(clips))))] == [0, 5, 8, 11, 16, 19]
    with pytest.raises(ValueError, match="needs 10 frames, but the longest clip of counted"):
        Clips(Counted(), length=10)


@pytest.mark.parametrize("options", [{"length": 0}, {"length": 2, "stride": 0}, {"length": [[0, 2], [5, 1.5]]}])
def test_refuses_what_is_no_number_of_frames(options):
    with pytest.raises(ValueError, match="whole numbers of frames"):
        Clips(Counted(), **options)


def test_refuses_still_images():
    with pytest.raises(ValueError, match="still images"):
        Clips(ColoredShapes(count=4), length=2)


def loader(dataset: SceneDataset, **options) -> TrainLoader:
    return TrainLoader(dataset, **{"batch_size": 3, "seed": 1, "storage": "ram", **options})


def test_random_starts_cover_the_episode_and_nothing_else():
    clips = Clips(Counted(), length=2)
    seen = [row for batch in islice(loader(clips), 200) for row in rows(batch)]
    assert all(b == a + 1 for a, b in seen)
    firsts = {a for a, _ in seen}
    ends = torch.tensor(LENGTHS).cumsum(0) - 1
    assert firsts == set(range(sum(LENGTHS))) - set(ends.tolist()), "every start but the last frame of an episode"


def test_fixed_starts_are_those_of_the_items():
    clips = Clips(Counted(), length=2, random_start=False)
    order = loader(clips)
    epoch = [row for batch in islice(order, order.order.stages[0].per_epoch) for row in rows(batch)]
    assert len(epoch) == len(clips) // 3 * 3
    items = rows(clips.batch(range(len(clips))))
    assert all(row in items for row in epoch)
    assert len({tuple(row) for row in epoch}) == len(epoch)


@pytest.fixture(scope="module")
def shapes() -> MovingShapes:
    return MovingShapes(count=10, frames=6, image_size=16)


@pytest.fixture(scope="module")
def file(shapes: MovingShapes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    write_hdf5(path, {"train": shapes})
    return path


def tensors(scene: Scene) -> dict[str, torch.Tensor]:
    fields = {name: getattr(scene, name) for name in ("image", "segments", "boxes", "present", "labels", "actions")}
    return {name: value for name, value in {**fields, **(scene.factors or {})}.items() if value is not None}


def same(one: Scene, two: Scene) -> bool:
    a, b = tensors(one), tensors(two)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_file_of_clips_gives_them_back(shapes: MovingShapes, file: Path):
    read = HDF5Scenes(path=file)
    assert check_hdf5(file).frames == 6
    assert len(read) == 10
    assert same(read.batch([3, 0, 9]), shapes.batch([3, 0, 9]))
    assert same(Clips(read, length=2, stride=2).batch([1, 4]), Clips(shapes, length=2, stride=2).batch([1, 4]))
    assert isinstance(read, StoresFrames)


def test_a_file_of_episodes_of_several_lengths(tmp_path: Path):
    write_hdf5(tmp_path / "episodes.h5", {"train": Counted()})
    read = HDF5Scenes(path=tmp_path / "episodes.h5")
    assert read.episodes.tolist() == Counted().episodes.tolist()
    assert rows(Clips(read, length=4).batch([0, 1])) == [[0, 1, 2, 3], [5, 6, 7, 8]]
    with pytest.raises(ValueError, match=r"2 to 9 frames.*clip\.length"):
        read.batch([0, 1])


def test_still_images_have_no_episodes(tmp_path: Path):
    write_hdf5(tmp_path / "still.h5", {"train": ColoredShapes(count=3)})
    assert not isinstance(HDF5Scenes(path=tmp_path / "still.h5"), StoresFrames)


def test_every_storage_gives_the_same_batches(shapes: MovingShapes, file: Path):
    options = {"length": [[0, 2], [3, 4]], "stride": 1}
    read = HDF5Scenes(path=file)
    loaders = [
        loader(Clips(shapes, **options)),
        loader(Clips(read, **options)),
        loader(Clips(read, **options), storage="workers", workers=0),
        loader(Clips(shapes, **options), storage="workers", workers=2),
    ]
    for batches in zip(*(islice(one, 6) for one in loaders)):
        assert all(same(batches[0], other) for other in batches[1:])


def test_a_batch_depends_on_its_number_and_processes_share_it(shapes: MovingShapes):
    def make(**options):
        return loader(Clips(shapes, length=[[0, 2], [2, 3]]), batch_size=4, accumulate=2, **options)

    whole = list(islice(make(), 7))
    assert [batch.image.shape[1] for batch in whole] == [2, 2, 2, 2, 3, 3, 3]
    for start in (1, 4, 6):
        assert same(next(iter(make(start=start))), whole[start])
    parts = [
        list(islice(loader(Clips(shapes, length=[[0, 2], [2, 3]]), batch_size=2, accumulate=2, rank=r, world=2), 7))
        for r in range(2)
    ]
    for batch, first, second in zip(whole, *parts):
        assert same(batch, Scene.cat([first, second]))


def test_streamed_clips_are_cut_too(shapes: MovingShapes):
    clips = Clips(shapes, length=[[0, 2], [1, 3]])
    whole = list(islice(loader(clips, storage="stream"), 3))
    assert [batch.image.shape[:2] for batch in whole] == [(3, 2), (3, 3), (3, 3)]
    assert same(next(iter(loader(clips, storage="stream", start=2))), whole[2])


def test_stages_of_the_batch_size_count_what_was_seen():
    order = BatchOrder(20, batch_size=Stages([[0, 2], [3, 5]]), seed=0)
    sizes = [len(batch) for batch in islice(order, 6)]
    assert sizes == [2, 2, 2, 5, 5, 5]
    assert order.items(5) == [(0, 6), (3, 10)]
    assert order.items(2) == [(0, 4), (3, 0)]
    first = sum(islice(BatchOrder(20, batch_size=Stages([[0, 2], [3, 5]]), seed=0, start=3), 4), [])
    assert sorted(first) == list(range(20)), "a stage begins a new epoch"


def test_stages_of_one_value_are_the_order_of_a_plain_number():
    plain = list(islice(BatchOrder(32, batch_size=8, seed=5), 9))
    assert list(islice(BatchOrder(32, batch_size=Stages([[0, 8]]), seed=5), 9)) == plain


def test_fields_a_model_reads_are_kept(shapes: MovingShapes):
    batch = next(iter(loader(Clips(shapes, length=2), keep=("boxes",))))
    assert batch.boxes is not None
    assert batch.segments is None
    assert next(iter(loader(Clips(shapes, length=2)))).boxes is None


WORDS = [
    "model=savi", "data=moving_shapes", "data.count=12", "data.frames=8", "model.image_size=32",
    "model.decoder=patch", "model.slots=3", "model.slot_size=8", "model.encoder_channels=8",
    "model.encoder_strides=[2,2,1,1]", "model.hidden_size=8", "batch_size=[[0,2],[3,4]]", "clip.length=[[0,2],[2,3]]",
    "every.log=1", "every.validate=3", "every.picture=3", "every.checkpoint=2", "validation.images=4",
    "validation.pictures=2", "strict=true", "trainer.accelerator=cpu", "loggers.tensorboard=false",
]  # fmt: skip


def test_a_run_on_windows_in_stages_resumes_exactly(tmp_path: Path):
    def train(folder: str, *words: str) -> dict[str, torch.Tensor]:
        assert main(["train", *WORDS, f"run_dir={tmp_path / folder}", *words]) == 0
        return RunFolder(tmp_path / folder).load_model().state_dict()

    whole = train("whole", "trainer.max_steps=7")
    train("parts", "trainer.max_steps=3")
    assert main(["train", f"resume={tmp_path / 'parts'}", "trainer.max_steps=7"]) == 0
    parts = RunFolder(tmp_path / "parts").load_model().state_dict()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    with (tmp_path / "parts" / "metrics.csv").open() as file:
        seen = [int(float(row["train/images_seen"])) for row in csv.DictReader(file) if row["train/images_seen"]]
    assert seen == [4, 8, 14, 26, 38, 50, 62], "2 clips of 2, then of 3 frames; then 4 of 3"


def test_a_run_on_clips_is_drawn_shown_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "run"
    words = [word for word in WORDS if not word.startswith(("batch_size", "clip"))]
    assert main(["train", *words, f"run_dir={run}", "batch_size=2", "clip.length=4", "trainer.max_steps=3"]) == 0
    with Image.open(run / "figures" / "training" / "step_00000003.png") as picture:
        assert picture.size[0] > 4 * 96, "a column for each frame"
    assert main(["show", str(run), "-n", "2"]) == 0
    assert main(["show", str(run), "-n", "1", "--video", "clip.length=8"]) == 0
    (file,) = (run / "figures").glob("video-moving_shapes*length=8*.gif")
    with Image.open(file) as film:
        assert film.n_frames == 8
    assert (run / "figures" / "decomposition-moving_shapes-test.png").is_file()
    assert main(["show", str(run), "--traversals", "--interpolate", "--swap", "-n", "2", "--images", "2"]) == 0
    assert (run / "figures" / "swap-moving_shapes-test.png").is_file()
    capsys.readouterr()
    assert main(["evaluate", str(run), "data.count=4", "--images", "4"]) == 0
    (file,) = (run / "evaluation").glob("moving_shapes*-test.json")
    scores = json.loads(file.read_text())
    assert "ari_fg" in str(scores)


def test_a_model_of_still_images_trains_on_clips_and_is_drawn(tmp_path: Path):
    run = tmp_path / "run"
    words = ["recipe=instance_coloring/tiny", "data=moving_shapes", "data.count=12", "data.frames=4", "batch_size=2",
             "model.width=16", "model.hidden=16", "trainer.max_steps=2", "every.log=1", "every.validate=2",
             "every.picture=2", "validation.images=2", "validation.pictures=1", "strict=true",
             "trainer.accelerator=cpu", "loggers.tensorboard=false"]  # fmt: skip
    assert main(["train", *words, f"run_dir={run}"]) == 0
    assert main(["show", str(run), "-n", "1"]) == 0
