"""Detection and few-shot scores, and the questions that use them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from objectscape.contract import Model
from objectscape.evaluation.asking import evaluate
from objectscape.evaluation.questions import meaning_of
from objectscape.evaluation.questions.classify import Classify
from objectscape.evaluation.questions.detect import Detect
from objectscape.metrics.detection import (
    COCO_IOUS,
    DetectionScores,
    alignment,
    average_precision,
    box_iou,
    coco_hits,
    detections_of,
    hits,
    match_labels,
    relevant,
)
from objectscape.metrics.few_shot import RidgeClassifier, class_scores, few_shot_accuracy, first_of_each
from objectscape.scene import Decomposition, Detections, Losses, Scene, Spec


def some_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner, size = (torch.rand(count, 2, generator=generator) for _ in range(2))
    return torch.cat([corner, corner + 0.3 * size + 0.02], -1) * 50


def hits_by_hand(similarity: Tensor, threshold: float) -> list[bool]:
    """SPACE's rule for one image, prediction by prediction."""
    used: set[int] = set()
    found = []
    for row in similarity.tolist():
        best = max(range(len(row)), key=row.__getitem__)
        found.append(row[best] > threshold and best not in used)
        if found[-1]:
            used.add(best)
    return found


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.5]))
def test_hits_are_those_of_the_definition(k: int, n: int, seed: int, threshold: float) -> None:
    iou = box_iou(some_boxes(k, seed), some_boxes(n, seed + 1))
    found = hits(iou[None], torch.ones(1, k, dtype=torch.bool), torch.ones(1, n, dtype=torch.bool), (threshold,))
    assert found[0, :, 0].tolist() == hits_by_hand(iou, threshold)


def test_coco_gives_the_second_best_prediction_the_free_object() -> None:
    similar = torch.tensor([[[0.9, 0.6], [0.8, 0.7]]])
    both, there = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    assert hits(similar, both, there, (0.5,))[0, :, 0].tolist() == [True, False]
    assert coco_hits(similar, both, there, (0.5,))[0, :, 0].tolist() == [True, True]


def test_average_precision_of_a_worked_example() -> None:
    hit = torch.tensor([[True], [False], [True]])
    # recalls .5 and 1 with precisions 1 and 2/3: six of the eleven points have 1, five 2/3
    value = average_precision(torch.tensor([0.9, 0.8, 0.7]), hit, 2)
    assert float(value) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert float(average_precision(torch.tensor([0.9]), torch.tensor([[False]]), 3)) == 0


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_the_truth_scores_one_whatever_its_order(n: int, seed: int) -> None:
    true = some_boxes(n, seed)[None]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    # boxes that hide one another belong to a best box other than themselves only if they are equal
    metric = DetectionScores()
    metric.update(true[:, order], torch.full((1, n), 0.9), true, torch.ones(1, n, dtype=torch.bool))
    scores = metric.compute()
    for name in ("f", "f_iou_50", "ap", "ap_space", "coco_ap", "count_accuracy"):
        assert scores[name] == pytest.approx(1, abs=1e-6), name
    assert scores["count_error"] == 0


def test_alignment_forgives_size_and_iou_does_not() -> None:
    true = torch.tensor([[[10.0, 10, 20, 20]]])
    large = torch.tensor([[[0.0, 0, 30, 30]]])
    assert float(alignment(large, true)) == 1
    assert float(box_iou(large, true)) == pytest.approx(1 / 9)
    metric = DetectionScores()
    metric.update(large, torch.ones(1, 1), true, torch.ones(1, 1, dtype=torch.bool), torch.tensor([[3]]))
    scores = metric.compute()
    assert (round(scores["f"]), round(scores["f_iou_50"])) == (1, 0)
    assert (scores["recall_3"], scores["recall_iou_50_3"]) == (1, 0)


def test_low_confidence_is_no_prediction_and_empty_images_count() -> None:
    metric = DetectionScores()
    boxes, nothing = some_boxes(3, 0)[None], torch.zeros(1, 0, 4)
    metric.update(boxes, torch.tensor([[0.4, 0.5, 0.1]]), nothing, torch.zeros(1, 0, dtype=torch.bool))
    metric.update(boxes, torch.tensor([[0.4, 0.9, 0.1]]), boxes, torch.tensor([[True, True, False]]))
    scores = metric.compute()
    assert (scores["precision"], scores["recall"]) == (1, 0.5)
    assert (scores["perfect"], scores["under"], scores["count_error"]) == (1, 1, 0.5)


def test_batches_may_be_split_anywhere() -> None:
    true, found = (torch.stack([some_boxes(4, i + shift) for i in range(6)]) for shift in (0, 100))
    sure = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    there = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)) > 0.3
    whole, parts = DetectionScores(), DetectionScores()
    whole.update(found, sure, true, there)
    for i in (0, 2, 5):
        j = {0: 2, 2: 5, 5: 6}[i]
        parts.update(found[i:j], sure[i:j], true[i:j], there[i:j])
    assert whole.compute() == parts.compute()
    assert len(COCO_IOUS) == 10


def test_a_prediction_has_the_class_of_what_it_covers() -> None:
    true = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    found = torch.tensor([[-50.0, -50, 12, 50], [24, 0, 50, 10], [26, 0, 50, 10]])
    labels, there = torch.tensor([4, 7]), torch.tensor([True, True])
    assert match_labels(found, true, labels, there).tolist() == [4, 7, -1]
    assert match_labels(found, true, labels, torch.tensor([False, True])).tolist() == [-1, 7, -1]


def test_masks_become_boxes_and_the_background_does_not() -> None:
    masks = torch.zeros(1, 3, 1, 8, 10)
    masks[0, 1, 0, 2:5, 3:9] = 1
    masks[0, 0, 0] = 1 - masks[0, 1, 0]
    image = torch.zeros(1, 3, 8, 10)
    output = Decomposition(
        recon=image, masks=masks, components=image[:, None].expand(-1, 3, -1, -1, -1), slots=torch.zeros(1, 3, 2)
    )
    found = detections_of(output)
    assert found.boxes[0, 1].tolist() == [3, 2, 9, 5]
    assert found.confidence[0].tolist() == [0, 1, 0]


def test_relevant_boxes_are_those_of_the_published_filters() -> None:
    boxes = torch.tensor([[[0.0, 5, 4, 10], [0, 50, 4, 60]]])
    assert relevant(boxes, "Pong", 128).tolist() == [[False, True]]
    assert relevant(boxes, "pong", 64).tolist() == [[False, True]]
    assert relevant(boxes, "Skiing", 128).tolist() == [[True, True]]
    top = torch.tensor([[[0.0, 1, 4, 8], [9, 1, 12, 8]]])
    assert relevant(boxes, "SpaceInvaders", 128, true=top).all()


# -------------------------------------------------------------------------------------------------------------- classes
def test_ridge_regression_is_scikit_learns() -> None:
    from sklearn.linear_model import RidgeClassifier as Reference

    torch.manual_seed(0)
    latents, labels = torch.randn(60, 5), torch.randint(0, 3, (60,)) * 2
    ours, theirs = RidgeClassifier.fit(latents, labels), Reference().fit(latents.double().numpy(), labels.numpy())
    torch.testing.assert_close(ours.weight.double(), torch.from_numpy(theirs.coef_), rtol=1e-5, atol=1e-6)
    assert ours.predict(latents).tolist() == theirs.predict(latents.double().numpy()).tolist()


def test_a_classifier_is_saved_without_pickle(tmp_path: Path) -> None:
    torch.manual_seed(0)
    latents, labels = torch.randn(30, 4), torch.arange(30) % 3
    made = RidgeClassifier.fit(latents, labels, names=["ball", "player", "enemy"], model="abc")
    made.save(tmp_path / "classes.safetensors")
    again = RidgeClassifier.load(tmp_path / "classes.safetensors")
    assert torch.equal(again.predict(latents), made.predict(latents))
    assert (again.name(2), again.model) == ("enemy", "abc")
    assert again.predict(torch.zeros(0, 4)).shape == (0,)
    with pytest.raises(ValueError, match="another model"):
        again.predict(torch.zeros(2, 5))
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a classifier"):
        RidgeClassifier.load(tmp_path / "broken.safetensors")
    with pytest.raises(FileNotFoundError):
        RidgeClassifier.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no object"):
        RidgeClassifier.fit(torch.zeros(0, 4), torch.zeros(0))


def test_few_shots_are_the_first_of_each_class() -> None:
    assert first_of_each(torch.tensor([5, 5, 2, 5, 2, 2]), 2).tolist() == [True, True, True, False, True, False]


def test_separable_latents_score_one_and_noise_does_not() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (300,))
    clear = torch.nn.functional.one_hot(labels, 3) + 0.05 * torch.randn(300, 3)
    scores = class_scores(clear, labels)
    assert scores["few_shot_1"] == scores["few_shot_64"] == 1
    assert scores["ami"] > 0.99
    assert few_shot_accuracy(torch.randn(300, 3), labels, 64) < 0.7
    assert class_scores(clear, torch.zeros(300)) == {}


# ------------------------------------------------------------------------------------------------------------ questions
class Oracle(Model[Scene, Decomposition]):
    """Detects what it is told to."""

    def __init__(self, *, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, batch: Scene) -> Decomposition:
        raise NotImplementedError

    def loss(self, batch: Scene, output: Decomposition, step: int) -> Losses:
        raise NotImplementedError

    def detect(self, scene: Scene) -> Detections:
        assert scene.boxes is not None
        assert scene.labels is not None
        latents = torch.nn.functional.one_hot(scene.labels, 3).float()
        return Detections(
            boxes=scene.boxes + self.shift, confidence=torch.ones(scene.boxes.shape[:-1]), latents=latents
        )


def frames() -> Scene:
    boxes = torch.stack([some_boxes(3, i) for i in range(20)]).unflatten(0, (5, 4))
    lead = boxes.shape[:3]
    hud = torch.tensor([False, False, True]).expand(lead)
    return Scene(
        image=torch.zeros(5, 4, 3, 64, 64),
        boxes=boxes,
        present=torch.ones(lead, dtype=torch.bool),
        labels=torch.arange(3).expand(lead),
        factors={"hud": hud},
        motion_boxes=torch.nn.functional.pad(boxes[:, :, :2], (0, 0, 0, 1)),
    )


def test_an_oracle_answers_both_questions_perfectly() -> None:
    evaluation = evaluate(Oracle(), [frames()], ask=[Detect(names=("a", "b", "c")), Classify()])
    scores = {name: score.mean for name, score in evaluation.scores.items()}
    assert scores["box_f"] == pytest.approx(1)
    assert scores["box_recall_c"] == 1
    assert scores["moving_box_recall"] == 1
    assert scores["moving_box_precision"] == pytest.approx(2 / 3)
    assert scores["relevant_box_precision"] > scores["moving_box_precision"]
    assert scores["few_shot_64"] == scores["all_few_shot_64"] == 1
    # what moves is two of the three: perfect for the objects of the game
    assert evaluation.baseline["moving_box_f"].mean == pytest.approx(1)
    assert evaluation.baseline["box_recall"].mean == pytest.approx(2 / 3)
    assert evaluation.baseline["few_shot_64"].mean < 1
    assert "relevant_box_f" in str(evaluation)


def test_the_region_is_that_of_the_recorded_game() -> None:
    spec = Spec(name="atari/Pong", image_size=(64, 64), splits={}, fields={})

    def precision(question: Detect, spec: Spec | None) -> float:
        return evaluate(Oracle(), [frames()], ask=[question], spec=spec)["relevant_box_precision"].mean

    assert precision(Detect(), spec) == precision(Detect(game="Pong"), None)
    assert precision(Detect(), None) == precision(Detect(game=""), spec) != precision(Detect(), spec)


def test_the_classifier_of_an_evaluation_is_the_models_and_can_be_saved(tmp_path: Path) -> None:
    file = tmp_path / "classes.safetensors"
    evaluate(Oracle(), [frames()], ask=[Classify(save=str(file), names=("ball", "player", "score"))])
    classifier = RidgeClassifier.load(file)
    assert classifier.weight.shape == (2, 3), "fitted to the model's latents, not to places"
    assert classifier.name(int(classifier.predict(torch.tensor([0.0, 1.0, 0.0])))) == "player"


def test_scores_of_a_set_of_boxes_point_the_right_way() -> None:
    for prefix in ("moving_", "relevant_"):
        directions = {"box_f": "higher", "box_count_error": "lower", "box_count_bias": "neither", "box_over": "lower",
                      "box_recall_iou_50_ball": "higher", "box_ap_0.10": "higher"}  # fmt: skip
        for name, better in directions.items():
            meaning = meaning_of(prefix + name)
            assert meaning is not None
            assert meaning.better == better, prefix + name


def test_a_detector_that_is_off_is_told_so() -> None:
    evaluation = evaluate(Oracle(shift=30.0), [frames()], ask=[Detect()])
    assert evaluation["relevant_box_f_iou_50"].mean < 0.2


# ------------------------------------------------------------------------------------------------------------- pictures
def test_pictures_show_boxes_and_objects() -> None:
    from objectscape.viz import detections_figure, detections_video, latent_map_figure, latent_map_page

    scene = frames().fold_time()[:3]
    found = Oracle().detect(scene)
    figure = detections_figure(scene, found, layers={"alpha": torch.rand(3, 1, 64, 64)})
    boxes = [len(axes.patches) for axes in figure.axes]
    assert boxes == [6, 6, 6, 0, 0, 0]  # three found and three true in each image; none on the further row
    film = detections_video(frames(), Oracle().detect(frames()), layers={"alpha": torch.rand(5, 4, 1, 64, 64)}, scale=2)
    assert [frame.shape for frame in film] == [(5 * 128, 2 * 128, 3)] * 4
    colors = {tuple(pixel) for pixel in film[0][:, :128].reshape(-1, 3).tolist()}
    assert (0x00, 0x72, 0xB2) in colors  # what was found, over what is there
    latents, labels = torch.randn(12, 4), torch.arange(12) % 3 - 1
    methods: tuple[Literal["pca"], Literal["tsne"]] = ("pca", "tsne")
    for method in methods:
        drawn = latent_map_figure(latents, labels, torch.rand(12, 3, 8, 8), {-1: "no object", 0: "a"}, method=method)
        texts = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
        assert texts == ["no object (4)", "a (4)", "1 (4)"]
    page = latent_map_page(latents, labels, torch.rand(12, 3, 8, 8), {-1: "no object", 0: "<a>"})
    assert page.count("data:image/png;base64,") == 12
    assert "&lt;a&gt; (4)" in page
    with pytest.raises(ValueError, match="at least 3"):
        latent_map_figure(latents[:2], labels[:2], torch.rand(2, 3, 8, 8), {})
