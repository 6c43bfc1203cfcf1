"""Frames as tables of objects, for Gymnasium."""

from __future__ import annotations

import collections
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("ale_py")

from objectscape.agents import (  # noqa: E402
    MaskObjects,
    MotionObjects,
    ObjectObservation,
    ObjectTable,
    OCAtariObjects,
    RamObjects,
    VectorObjectObservation,
    from_named,
)
from objectscape.agents.adapters import as_detections  # noqa: E402
from objectscape.contract import see  # noqa: E402
from objectscape.data.atari.labels import GAMES  # noqa: E402
from objectscape.data.atari.record import make_environment  # noqa: E402
from objectscape.metrics.detection import detections_of  # noqa: E402
from objectscape.models.slot_attention import SlotAttentionModel  # noqa: E402
from objectscape.models.space_time import SpaceTime  # noqa: E402
from objectscape.scene import Detections, Scene  # noqa: E402


def detections(*objects: tuple[float, float, float, int]) -> Detections:
    """One image of 100 x 100 with objects (center x, center y, confidence, class), 10 pixels wide and 20 high."""
    rows = torch.tensor([[x - 5, y - 10, x + 5, y + 10] for x, y, _, _ in objects]).reshape(1, -1, 4)
    return Detections(
        boxes=rows.float(),
        confidence=torch.tensor([[c for _, _, c, _ in objects]]),
        latents=torch.zeros(1, len(objects), 2),
        labels=torch.tensor([[label for *_, label in objects]]),
    )


SIZE = (100, 100)


def test_a_table_lists_the_most_confident_objects_with_their_velocity() -> None:
    table = ObjectTable(max_objects=3)
    first = table(detections((20, 50, 0.9, 0), (60, 50, 0.6, 0), (70, 50, 0.3, 0)), SIZE)[0]
    assert torch.allclose(first[:, :4], torch.tensor([[0.2, 0.5, 0.1, 0.2], [0.6, 0.5, 0.1, 0.2], [0, 0, 0, 0]]))
    assert first[:, 7].tolist() == [1, 1, 0]
    second = table(detections((65, 45, 0.95, 0), (22, 50, 0.9, 0)), SIZE)[0]
    assert torch.allclose(second[:2, 4:6], torch.tensor([[0.05, -0.05], [0.02, 0.0]]), atol=1e-6)
    table.reset()
    assert not table(detections((25, 50, 0.9, 0)), SIZE)[0, :, 4:6].any()


def test_far_or_other_objects_are_not_matched() -> None:
    table = ObjectTable(classes=["a", "b"])
    table(detections((20, 50, 0.9, 0)), SIZE)
    assert not table(detections((80, 50, 0.9, 0)), SIZE)[0, 0, 4:6].any()
    assert not table(detections((81, 50, 0.9, 1)), SIZE)[0, 0, 4:6].any()


def test_classes_regions_and_rows() -> None:
    names = ["ball", "paddle", "score"]
    found = detections((10, 50, 0.9, 1), (50, 60, 0.8, 0), (50, 5, 1.0, 2), (90, 50, 0.7, 1))
    kept = ObjectTable(classes=names, keep=["ball"])(found, SIZE)[0]
    assert kept[:, 7].sum() == 1
    assert kept[0, 0] == 0.5
    field = ObjectTable(region=(0, 0.1, 1, 1))(found, SIZE)[0]
    assert field[:, 7].sum() == 3
    rows = ObjectTable(classes=names, rows=["ball", "paddle"])
    first = rows(found, SIZE)[0]
    assert first[:, 0].tolist() == pytest.approx([0.5, 0.1])  # the more confident paddle
    later = rows(detections((12, 50, 0.9, 1)), SIZE)[0]
    assert later[0, :2].tolist() == pytest.approx([0.5, 0.6])  # last known
    assert later[:, 7].tolist() == [0, 1]
    assert later[1, 4] == pytest.approx(0.02)
    assert not rows(detections(), SIZE)[0, :, 7].any()


def test_wrong_classes_are_explained() -> None:
    with pytest.raises(ValueError, match="Did you mean 'ball'"):
        ObjectTable(classes=["ball"], keep=["bal"])
    with pytest.raises(ValueError, match="give classes="):
        ObjectTable(rows=["ball"])
    bare = detections((10, 50, 0.9, 1))
    bare.labels = None
    with pytest.raises(ValueError, match="give the wrapper a classifier"):
        ObjectTable(classes=["a", "b"], keep=["b"])(bare, SIZE)


class Brightest(torch.nn.Module):
    """A stand-in for a model: the bright pixels of each image are one object; its latent is their mean color."""

    image_size = 40

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.weight = torch.nn.Parameter(torch.ones(1))

    def detect(self, scene: Scene) -> Detections:
        self.batches.append(len(scene))
        boxes, kinds = [], []
        for image in scene.image:
            rows, columns = torch.nonzero(image[0] > 150, as_tuple=True)
            box = [] if not len(rows) else [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
            boxes.append(np.array(box, np.float32).reshape(-1, 4))
            kinds.append(np.zeros(len(box), np.int64))
        found = as_detections(boxes, kinds)
        found.labels = None
        return found


class Dot(gymnasium.Env):  # type: ignore[type-arg]
    """A bright square that moves 8 of 80 pixels to the right with each step; five steps to an episode."""

    observation_space = gymnasium.spaces.Box(0, 255, (80, 80, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.place = 0

    def frame(self) -> np.ndarray:
        image = np.zeros((80, 80, 3), np.uint8)
        image[20:40, 8 * self.place : 8 * self.place + 8] = 255
        return image

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        return self.frame(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.place += 1
        return self.frame(), 1.0, self.place >= 5, False, {}


def test_an_environment_of_objects() -> None:
    env = ObjectObservation(Dot(), Brightest(), table=ObjectTable(max_objects=2))
    objects, _ = env.reset()
    assert objects in env.observation_space
    assert objects[0, :4].tolist() == pytest.approx([0.05, 0.375, 0.1, 0.25], abs=0.02)
    objects = env.step(0)[0]
    assert objects.dtype == np.float32
    assert objects[0, 4] == pytest.approx(0.1, abs=0.02)
    assert env.reset()[0][0, 4] == 0


def test_a_classifier_names_the_rows() -> None:
    def everything_is_a_dot(latents: Tensor) -> Tensor:
        return torch.ones(len(latents), dtype=torch.int64)

    table = ObjectTable(classes=["nothing", "dot"], rows=["dot"])
    env = ObjectObservation(Dot(), Brightest(), table=table, classifier=everything_is_a_dot)
    objects, _ = env.reset()
    assert objects in env.observation_space
    assert objects["dot"][0] == pytest.approx(0.05, abs=0.02)


def test_a_vector_of_environments_is_one_batch() -> None:
    model = Brightest()
    env = VectorObjectObservation(gymnasium.vector.SyncVectorEnv([Dot, Dot, Dot]), model)
    objects, _ = env.reset()
    assert objects.shape == (3, 16, 8)
    assert objects in env.observation_space
    for _ in range(5):
        objects = env.step(np.zeros(3, int))[0]
    assert objects[0, 0, 4] == pytest.approx(0.1, abs=0.02)
    objects = env.step(np.zeros(3, int))[0]  # each was reset: what it showed before does not count
    assert not objects[:, 0, 4].any()
    assert set(model.batches) == {3}


def test_what_cannot_detect_or_be_seen_is_explained() -> None:
    with pytest.raises(ValueError, match="no method detect"):
        ObjectObservation(Dot(), torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    ram = (
        gymnasium.make("ALE/Pong-v5", obs_type="ram") if make_environment("ALE/Pong-v5", frame_skip=4, sticky=0) else 0
    )
    with pytest.raises(ValueError, match="obs_type='rgb'"):
        ObjectObservation(ram, Brightest()).reset()
    frames = make_environment("ALE/Pong-v5", frame_skip=4, sticky=0.0)
    swapped = gymnasium.wrappers.TransformObservation(frames, lambda frame: frame[..., ::-1], frames.observation_space)
    with pytest.raises(ValueError, match="the frames are BGR"):
        ObjectObservation(swapped, Brightest()).reset()


def test_a_model_sees_a_game() -> None:
    model = SpaceTime(grid=4, cells=6, glimpse_size=8, render_size=32, image_size=32, components=1, features=16)
    env = make_environment("ALE/Pong-v5", frame_skip=4, sticky=0.0)
    seen = ObjectObservation(env, model, table=ObjectTable(max_objects=4, confidence=0.0))
    objects, _ = seen.reset(seed=0)
    assert objects in seen.observation_space
    assert (objects[:, 7] == 1).all()
    assert (np.diff(objects[:, 6]) <= 0).all()  # by falling confidence
    assert np.array_equal(objects, seen.reset(seed=0)[0])  # no noise


def test_memory_and_motion_as_detectors() -> None:
    env = make_environment("ALE/Pong-v5", frame_skip=4, sticky=0.0)
    truth = RamObjects(env)
    table = ObjectTable(classes=truth.classes, rows=["player", "ball"])
    seen = ObjectObservation(env, truth, table=table)
    seen.reset(seed=0)
    for _ in range(80):
        objects, *_ = seen.step(2)
    ram = env.unwrapped.ale.getRAM()  # type: ignore[attr-defined]
    boxes, _, labels = GAMES["Pong"].locate(ram[None], (210, 160))
    player = boxes[0, labels.tolist().index(0)]
    assert objects["player"][0] == pytest.approx((player[0] + player[2]) / 2 / 160)
    assert objects["player"][7] == 1
    frame = np.zeros((1, 3, 20, 30), np.uint8)
    frame[0, :, 5:9, 10:12] = 255
    found = MotionObjects(np.zeros((20, 30, 3), np.uint8)).detect(Scene(image=torch.from_numpy(frame)))
    assert found.boxes.tolist() == [[[10, 5, 12, 9]]]


def test_objects_of_other_libraries() -> None:
    scene = Scene(image=torch.zeros(1, 3, 105, 160, dtype=torch.uint8))  # half as high as the game
    ball = SimpleNamespace(x=10, y=20, w=2, h=4, category="Ball", hud=False)
    score = SimpleNamespace(x=10, y=2, w=8, h=8, category="Score", hud=True)
    empty = SimpleNamespace(category="NoObject", x=0, y=0, w=0, h=0, hud=False)
    outside = SimpleNamespace(x=-5, y=20, w=4, h=4, category="Ball", hud=False)
    env = SimpleNamespace(objects=[ball, score, empty, outside])
    found = OCAtariObjects(env, ["Player", "Ball", "Score"]).detect(scene)
    assert found.boxes.tolist() == [[[10, 10, 12, 12]]]
    assert found.labels is not None
    assert found.labels.tolist() == [[1]]
    assert OCAtariObjects(env, ["Ball", "Score"], hud=True).detect(scene).boxes.shape == (1, 2, 4)

    place = collections.namedtuple("place", "x y width height active")  # type: ignore[name-match]
    game = collections.namedtuple("game", "player enemies score")  # type: ignore[name-match]
    state = game(
        player=place(np.array(30), np.array(40), np.array(8), np.array(16), np.array(1)),
        enemies=place(np.array([5, 50]), np.array([60, 60]), np.array([4, 4]), np.array([4, 4]), np.array([0, 1])),
        score=np.array(7),
    )
    found = from_named(state, ["player", "enemies", "score"], scene, size=(210, 160))
    assert found.boxes.tolist() == [[[30, 20, 38, 28], [50, 30, 54, 32]]]
    assert found.labels is not None
    assert found.labels.tolist() == [[0, 1]]


def test_masks_are_boxed() -> None:
    model = SlotAttentionModel(image_size=16, slots=3, slot_size=8, hidden_size=8, decoder="broadcast")
    env = make_environment("ALE/Pong-v5", frame_skip=4, sticky=0.0)
    seen = ObjectObservation(env, model, table=ObjectTable(confidence=0.0))
    assert isinstance(seen.seeing.detector, MaskObjects)
    objects, _ = seen.reset(seed=0)
    assert objects in seen.observation_space
    assert not seen.seeing.detector.model.training
    scene = seen.seeing.scene(env.reset(seed=0)[0][None])
    torch.manual_seed(0)
    found = seen.seeing.detector.detect(scene)
    torch.manual_seed(0)
    expected = detections_of(see(model, scene))
    assert torch.equal(found.boxes, expected.boxes)
    assert found.latents.shape == (1, 3, 8)


def test_nothing_needs_gymnasium_before_it_is_used() -> None:
    code = "import sys; import objectscape.agents, objectscape.data.atari.record; assert 'gymnasium' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
