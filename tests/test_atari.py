"""Atari games: recording, objects from memory, motion from pixels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from objectscape.cli import main
from objectscape.data.atari import motion
from objectscape.data.atari.colors import red_blue_exchanged
from objectscape.data.atari.joint import JointStacks
from objectscape.data.atari.labels import GAMES, Kind, class_names, game
from objectscape.data.atari.record import AtariRecording
from objectscape.data.atari.stacks import AtariStacks
from objectscape.data.formats.hdf5 import HDF5Scenes, write_hdf5

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("ale_py")


def pong(**options: object) -> AtariRecording:
    return AtariRecording(**{"game": "Pong", "count": 6, "warm_up": 80, "agent": "held", **options})  # type: ignore[arg-type]


# --- motion


def square(at: tuple[int, int], size: tuple[int, int], side: int = 40) -> np.ndarray:
    frame = np.full((side, side, 3), 30, np.uint8)
    frame[at[1] : at[1] + size[1], at[0] : at[0] + size[0]] = 200
    return frame


def test_motion_finds_what_differs_from_the_background() -> None:
    frames = np.stack([square((x, 10), (4, 6)) for x in (3, 12, 21, 30)])
    maps, boxes = motion.Motion()(frames, motion.mode_image(frames))
    assert [found.tolist() for found in boxes] == [[[x, 10, 4, 6]] for x in (3, 12, 21, 30)]
    assert maps.max() == 1
    _, boxes = motion.Motion(background="trail")(frames[-1:], earlier=frames[:-1])
    assert boxes[0].tolist() == [[30, 10, 4, 6]]


def test_what_no_longer_changes_is_dropped_on_request() -> None:
    frames = np.stack([square((x, 10), (4, 6)) for x in (3, 12, 21)])
    frames[:, 30:33, 30:33] = 90  # eaten: differs from the background, but stays
    background = np.full_like(frames[0], 30)
    assert [len(found) for found in motion.Motion()(frames, background)[1]] == [2, 2, 2]
    kept = motion.Motion(changed=0.2)(frames, background)[1]
    assert [found.tolist() for found in kept] == [[[x, 10, 4, 6]] for x in (3, 12, 21)]


@given(hnp.arrays(np.uint8, (5, 4, 3, 3), elements=st.integers(0, 3)))
def test_backgrounds(frames: np.ndarray) -> None:
    flat = frames.reshape(5, -1)
    counts = np.stack([(flat == value).sum(0) for value in range(4)])
    assert np.array_equal(motion.mode_image(frames).reshape(-1), counts.argmax(0))
    assert np.array_equal(motion.median_image(frames), np.median(frames, 0).astype(np.float32))
    colors = frames.reshape(5, -1, 3)
    for pixel, color in enumerate(motion.trail_mode_image(frames).reshape(-1, 3)):
        seen = [tuple(c) for c in colors[:, pixel].tolist()]
        most = max(seen.count(c) for c in seen)
        assert tuple(color.tolist()) == min(c for c in seen if seen.count(c) == most)


@given(hnp.arrays(bool, (9, 11)))
def test_boxes_cover_the_mask(mask: np.ndarray) -> None:
    covered = np.zeros_like(mask)
    for x, y, w, h in motion.region_boxes(mask):
        assert mask[y : y + h, x : x + w].any(0).all()  # the box is tight
        assert mask[y : y + h, x : x + w].any(1).all()
        covered[y : y + h, x : x + w] = True
    assert not (mask & ~covered).any()
    assert len(motion.region_boxes(mask, holes=True)) >= len(motion.region_boxes(mask))


def test_motion_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="Did you mean 'median'"):
        motion.Motion(kind="medain")
    with pytest.raises(ValueError, match="record with frames=30"):
        motion.Motion(background="trail")(np.zeros((4, 8, 8, 3), np.uint8))


# --- objects


def test_pongs_memory_agrees_with_its_pixels() -> None:
    scene = pong(count=30).batch(range(30))
    assert scene.factors is not None
    assert scene.boxes is not None
    assert scene.present is not None
    seen = scene.factors["visible"]
    assert torch.equal(seen, scene.present)  # nothing flickers in Pong
    same = (scene.boxes == scene.factors["tight"]).all(-1)[seen]
    assert same.float().mean() > 0.8  # the digit 1 is narrower than its box
    ball = scene.labels == GAMES["Pong"].classes.index("ball")
    assert scene.present[ball].any()
    assert (scene.boxes[ball & scene.present][:, 2] - scene.boxes[ball & scene.present][:, 0] == 2).all()
    assert not scene.factors["hud"][ball].any()


@pytest.mark.parametrize("name", sorted(GAMES))
def test_boxes_depend_on_the_memory_alone(name: str) -> None:
    recording = AtariRecording(game=name, count=8, frames=1, independent=False, every=7, agent="held")
    stacks = [stack for stack, _ in zip(recording.play(), range(8), strict=False)]
    memory = np.concatenate([stack.memory for stack in stacks if stack.memory is not None])
    frames = np.concatenate([stack.frames for stack in stacks])
    together, size = GAMES[name].objects(memory, frames), frames.shape[1:3]
    assert together.visible.any()
    for index in np.random.default_rng(0).permutation(len(memory)):
        boxes, present, labels = GAMES[name].locate(memory[index : index + 1], size)
        assert np.array_equal(boxes[0], together.boxes[index])
        assert np.array_equal(present[0], together.present[index])
        assert np.array_equal(labels, together.labels)
    assert (together.boxes >= 0).all()
    assert (together.boxes <= np.array([size[1], size[0], size[1], size[0]])).all()
    area = (together.boxes[..., 2:] - together.boxes[..., :2]).prod(-1)
    assert np.array_equal(area > 0, together.present)


def test_a_table_for_another_game_takes_three_lines() -> None:
    try:

        @game("Breakout", Kind("player", colors=[(200, 72, 72)]))
        def breakout(ram):  # type: ignore[no-untyped-def]
            yield "player", ram[72] - 47, 189, 16, 4

        recording = AtariRecording(game="Breakout", count=3, labels=breakout)
        scene = recording.batch(range(3))
        assert scene.factors is not None
        assert scene.factors["visible"].all()
        assert recording.spec.name == "atari/Breakout"
    finally:
        GAMES.pop("Breakout", None)


@pytest.mark.parametrize("name", ["Pong", "MsPacman", "Skiing"])
def test_exchanged_colors_are_noticed(name: str) -> None:
    frame = AtariRecording(game=name, count=1, frames=1).batch([0]).image[0].permute(1, 2, 0).numpy()
    assert not red_blue_exchanged(frame)
    assert red_blue_exchanged(frame[..., ::-1])
    assert not red_blue_exchanged(np.full_like(frame, 90))


# --- recording


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "make", "atari", "game=pong", "train=4", "test=2", "agent=held", "sticky=0.25"]
    for name in ("a.h5", "b.h5"):
        assert main([*words, f"path={tmp_path / name}"]) == 0
    assert main([*words, "seed=1", f"path={tmp_path / 'c.h5'}"]) == 0
    assert "use it: objectscape train recipe=... data=atari" in capsys.readouterr().out
    a, b, c = ((tmp_path / f"{name}.h5").read_bytes() for name in "abc")
    assert a == b != c
    spec = HDF5Scenes(path=tmp_path / "a.h5").spec
    assert (spec.name, spec.image_size, spec.splits) == ("atari/Pong", (210, 160), {"train": 4, "test": 2})
    assert "sticky actions 0.25" in spec.notes
    assert main(["data", "check", str(tmp_path / "a.h5")]) == 0


def test_stacks_can_be_read_in_any_order() -> None:
    one, other = pong(), pong()
    whole = one.batch(range(6))
    assert whole.image.shape == (6, 4, 3, 210, 160)
    picked = other.batch([4, 1, 4])
    assert torch.equal(picked.image, whole.image[[4, 1, 4]])
    assert torch.equal(other.batch([0]).image, whole.image[:1])
    assert not torch.equal(pong(split="test").batch(range(6)).image, whole.image)


def test_stills_and_the_maximum_of_two_frames() -> None:
    stills = pong(frames=1, independent=True, count=2).batch([0, 1])
    assert stills.image.shape == (2, 3, 210, 160)
    assert stills.boxes is not None
    assert stills.boxes.shape == (2, 5, 4)
    invaders = {"game": "SpaceInvaders", "count": 8, "warm_up": 120, "sticky": 0.1}
    plain = AtariRecording(**invaders).batch(range(8)).image  # type: ignore[arg-type]
    double = AtariRecording(**invaders, two_frame_maximum=True).batch(range(8)).image  # type: ignore[arg-type]
    assert not torch.equal(plain, double)
    assert (double >= plain).all()  # the same play, and more of it in each frame


class Square(gymnasium.Env):  # type: ignore[type-arg]
    """A bright square that the action moves to the right, or not; ten steps to an episode."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode, self.place, self.steps = render_mode, 0, 0

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[np.ndarray, dict[str, object]]:  # type: ignore[override]
        super().reset(seed=seed)
        self.place, self.steps = 2, 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        self.place, self.steps = self.place + 2 * int(action), self.steps + 1
        return np.zeros(1, np.float32), 0.0, self.steps >= 10, False, {}

    def render(self) -> np.ndarray:  # type: ignore[override]
        return square((self.place, 8), (4, 4))


def test_any_environment_can_be_recorded() -> None:
    gymnasium.register("test/Square-v0", Square)
    try:
        recording = AtariRecording(game="test/Square-v0", count=3, every=8, warm_up=0, frame_skip=1)
        scene = recording.batch(range(3))
        assert scene.image.shape == (3, 4, 3, 40, 40)
        assert scene.boxes is None
        assert scene.actions is not None
        assert recording.spec.name == "test/Square-v0"
        place = (scene.image[:, :, 0, 10] == 200).int().argmax(-1)
        assert torch.equal(place.diff(dim=1), 2 * scene.actions[:, 1:, 1].long())  # an action leads to its frame
    finally:
        gymnasium.registry.pop("test/Square-v0")


def test_an_agent_is_any_callable() -> None:
    def up(env: object) -> object:
        return lambda frame, rng: 2

    scene = pong(agent=up, count=2).batch([0, 1])
    assert scene.actions is not None
    assert scene.actions[..., 2].all()


def test_an_agent_that_stable_baselines_saved(tmp_path: Path) -> None:
    baselines = pytest.importorskip("stable_baselines3")
    frames = gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8)

    class Frames(gymnasium.Env):  # type: ignore[type-arg]
        observation_space, action_space = frames, gymnasium.spaces.Discrete(6)

    baselines.PPO("CnnPolicy", Frames(), seed=3, device="cpu").save(tmp_path / "ppo.zip")
    scene = pong(agent=f"ppo:{tmp_path / 'ppo.zip'}", count=2).batch([0, 1])
    assert torch.equal(scene.image, pong(agent=f"ppo:{tmp_path / 'ppo.zip'}", count=2).batch([0, 1]).image)
    assert scene.actions is not None
    with pytest.raises(ValueError, match="does not hold the weights of DQN"):
        pong(agent=f"dqn:{tmp_path / 'ppo.zip'}", count=2).batch([0])


def test_a_saved_agent_is_looked_for() -> None:
    with pytest.raises(ValueError, match="unknown algorithm 'sac'"):
        pong(agent="sac:model.zip")
    with pytest.raises(FileNotFoundError, match="that Stable-Baselines3 saved"):
        pong(agent="ppo:model.zip")


def test_a_files_agent_is_not_imported() -> None:
    with pytest.raises(ValueError, match="add --trust somewhere"):
        pong(agent="somewhere.agent")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["game=Pnog"], "unknown Atari game 'Pnog'. Did you mean 'Pong'"),
        (["n=2"], "say which game"),
        (["game=Pong", "agent=hold"], "unknown agent 'hold'"),
        (["game=Pong", "agent=no.such"], "agent=no.such"),
        (["game=Pong", "frame_skip=0"], "frame_skip=0; expected at least 1"),
        (["game=Pong", "sticky=1.5"], "expected a probability"),
        (["game=Pong", "independent=true"], "say frames=1 as well"),
        (["game=Pong", "labels=math.pi"], "expected a game made with"),
    ],
)
def test_mistakes_are_explained(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OBJECTSCAPE_TRUST", "")  # and back to what it was
    assert main(["data", "make", "atari", *words, f"path={tmp_path / 'x.h5'}"]) != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


# --- reading


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pong") / "pong.h5"
    splits = {split: pong(split=split, count=count, frames=6) for split, count in (("train", 30), ("test", 6))}
    write_hdf5(path, splits)
    return path


def test_stacks_have_motion_where_the_objects_are(recorded: Path) -> None:
    data = AtariStacks(path=recorded, split="test", image_size=None)
    scene = data.batch(range(len(data)))
    assert scene.image.shape == (6, 6, 3, 210, 160)
    assert scene.boxes is not None
    assert scene.present is not None
    assert scene.motion_boxes is not None
    assert scene.motion is not None
    assert scene.factors is not None
    wanted = scene.boxes[scene.present & ~scene.factors["hud"]]
    found = {tuple(box) for box in scene.motion_boxes.flatten(0, 2).tolist()}
    assert np.mean([tuple(box) in found for box in wanted.tolist()]) > 0.9  # motion boxes alone find paddles and ball
    assert set(scene.motion.unique().tolist()) == {0.0, 1.0}
    small = AtariStacks(path=recorded, split="test", image_size=64, frames=4)
    item = small[3]
    assert item.image.shape == (4, 3, 64, 64)
    assert (small.spec.image_size, small.spec.frames) == ((64, 64), 4)
    assert item.motion is not None
    assert item.motion.shape == (4, 1, 64, 64)
    assert item.boxes is not None
    scale = torch.tensor([64 / 160, 64 / 210, 64 / 160, 64 / 210])
    assert torch.allclose(item.boxes, scene.boxes[3, 2:] * scale)
    assert torch.equal(small.batch([3, 1])[0].image, item.image)


def test_motion_is_an_input_and_boxes_are_truth(recorded: Path) -> None:
    seen = AtariStacks(path=recorded).batch([0]).inputs()
    assert seen.motion is not None
    assert seen.motion_boxes is not None
    assert seen.boxes is None
    assert seen.factors is None


def test_trail_uses_the_earlier_frames(recorded: Path) -> None:
    trail = motion.Motion(background="trail")
    assert AtariStacks(path=recorded, frames=4, motion=trail).batch([0, 1]).motion is not None
    with pytest.raises(ValueError, match="more frames than are read"):
        AtariStacks(path=recorded, motion=trail).batch([0])
    with pytest.raises(ValueError, match="have 6 frames"):
        AtariStacks(path=recorded, frames=9)


def test_several_games_are_one_data_set(recorded: Path, tmp_path: Path) -> None:
    boxing = tmp_path / "boxing.h5"
    write_hdf5(boxing, {"train": AtariRecording(game="Boxing", count=3, frames=6, every=6, warm_up=5)})
    joint = JointStacks(paths=[str(boxing), str(recorded)], image_size=64, frames=2)
    pong = AtariStacks(path=recorded, image_size=64, frames=2)
    assert len(joint) == 33
    assert joint.spec.splits["train"] == 33
    assert class_names(joint.spec)[6:9] == ["Pong player", "Pong enemy", "Pong ball"]
    scene, first = joint.batch([7, 0, 3]), pong.batch([4, 0])
    assert scene.labels is not None
    assert first.labels is not None
    assert scene.labels.shape == (3, 2, 6)
    assert torch.equal(scene.image[[0, 2]], first.image)
    assert torch.equal(scene.labels[[0, 2], :, :5], first.labels + 6)
    assert torch.equal(scene.motion_boxes[[0, 2]], first.motion_boxes)  # type: ignore[index]
    assert not scene.present[[0, 2], :, 5].any()  # type: ignore[index]
    assert scene.labels[1].max() < 6
    with pytest.raises(ValueError, match="expected a list of files"):
        JointStacks(paths=str(boxing))


def test_hidden_and_tight_objects(tmp_path: Path) -> None:
    path = tmp_path / "invaders.h5"
    write_hdf5(path, {"test": AtariRecording(game="SpaceInvaders", split="test", count=8, warm_up=100, frames=2)})
    plain, hidden = (AtariStacks(path=path, split="test", hidden=h).batch(range(8)) for h in (False, True))
    assert plain.present is not None
    assert hidden.present is not None
    assert hidden.present.sum() > plain.present.sum()  # shots flicker
    tight = AtariStacks(path=path, split="test", tight=True, image_size=None).batch(range(8))
    assert tight.boxes is not None
    assert tight.factors is not None
    shown = tight.factors["visible"]
    assert torch.equal(tight.boxes[shown], tight.factors["tight"][shown])


def test_the_command_line_reads_what_it_made(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "info", "atari", f"path={recorded}", "motion.kind=median", "image_size=64"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "motion_boxes" in text
    assert "64 x 64" in text


def test_pictures_of_boxes_and_background(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pong.h5"
    assert main(["data", "make", "atari", "game=Pong", "train=8", "test=2", f"path={path}", "--plot-boxes"]) == 0
    assert (tmp_path / "pong-boxes.png").stat().st_size > 2000
    assert (tmp_path / "pong-background.png").stat().st_size > 2000
    assert "background of 32 frames" in capsys.readouterr().out
    assert main(["data", "plot", str(tmp_path / "png.h5")]) != 0
    assert "Did you mean 'pong.h5'" in capsys.readouterr().err
