"""Which objects, and where? Boxes against true boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from objectscape.contract import Decomposes, Detects, see
from objectscape.evaluation.questions.question import Answer, Question, Score, higher, lower, neither
from objectscape.metrics.detection import RELEVANT, DetectionScores, coverage, detections_of, relevant
from objectscape.scene import Detections, Scene, Tensors

_F = "Harmonic mean of precision and recall"


def find(model: nn.Module, batch: Scene) -> Detections:
    """The model's detections, or else those around its masks; frame by frame."""
    return model.detect(batch) if isinstance(model, Detects) else detections_of(see(model, batch))


def visible_objects(batch: Scene) -> Tensor:
    """(B, [T,] N) which true boxes count: those of objects that are there, and in the pixels where that is known."""
    assert batch.boxes is not None
    present = (batch.boxes[..., 2:] > batch.boxes[..., :2]).all(-1)
    if batch.present is not None:
        present = present & batch.present.bool()
    visible = (batch.factors or {}).get("visible")
    return present if visible is None else present & visible.bool()


class Detect(Question):
    """Which objects, and where?

    Three sets of scores: of all true boxes; `moving_` of those that are no display of scores and lives; `relevant_` of
    these, and without predictions of the display. Without `factors["hud"]` only the first.

    Args:
        game: leave out what lies outside the region that SPACE-Time published for this game; None: for the game that
            was recorded, if there is one; "": leave out predictions more than half of which lie in a box of the
            display, as is done for games without a region.
        coco: also COCO's average precision.
        names: names of the classes for recall by class, instead of their numbers.
    """

    name = "detect"
    needs = "a model that detects or decomposes, and scenes with `boxes`"
    scores = {
        "box_f": higher(f"{_F}; a hit is aligned: its center off by less than half the object's diagonal."),
        "box_precision": higher("Share of the predictions that hit an object, by alignment."),
        "box_recall": higher("Share of the objects that are hit, by alignment."),
        "box_f_iou_25": higher(f"{_F}; a hit overlaps with an IoU above .25."),
        "box_f_iou_50": higher(f"{_F}; a hit overlaps with an IoU above .5."),
        "box_precision_iou_<at>": higher("Share of the predictions that hit an object, by IoU."),
        "box_recall_iou_<at>": higher("Share of the objects that are hit, by IoU."),
        "box_ap": higher("Average precision, mean over IoU .1 to .9, as SPACE-Time defines it.", "AP"),
        "box_ap_<at>": higher("The same at one IoU."),
        "box_ap_space": higher("The same, mean over IoU .5 to .95 (SPACE)."),
        "box_coco_ap": higher("COCO's average precision, mean over IoU .5 to .95.", "AP (COCO)"),
        "box_coco_ap_50": higher("COCO's average precision at IoU .5."),
        "box_count_error": lower("Difference between the numbers of found and true objects, mean over images."),
        "box_count_bias": neither("The same with its sign: above 0, too many are found."),
        "box_count_error_rate": lower("Difference of the numbers over the true number."),
        "box_count_accuracy": higher("Share of the images with the right number of objects."),
        "box_perfect": higher("Images with the right number of objects."),
        "box_over": lower("Images with too many."),
        "box_under": lower("Images with too few."),
        "box_recall_<class>": higher("Share of the objects of a class that are hit, by alignment."),
        "relevant_box_f": higher("F by alignment of `relevant_` boxes, see below.", "F"),
        "relevant_box_f_iou_50": higher("F at IoU .5 of the same.", "F (IoU .5)"),
        "<s>_box_count_error": lower("Difference between the numbers of found and true objects of the set."),
        "<s>_box_count_error_rate": lower("The same over the true number."),
        "<s>_box_count_bias": neither("The difference with its sign."),
        "<s>_box_over": lower("Images with too many predictions."),
        "<s>_box_under": lower("Images with too few predictions."),
        "moving_<box_score>": higher("A detection score over objects that are no display of scores and lives."),
        "relevant_<box_score>": higher("The same, without predictions of the display."),
    }
    headline = ("relevant_box_f", "relevant_box_f_iou_50")
    look: Callable[[nn.Module, Any], Any] = staticmethod(find)

    def __init__(self, *, game: str | None = None, coco: bool = True, names: tuple[str, ...] = ()) -> None:
        self.game, self.coco, self.names = game, coco, tuple(names)
        self.sets: dict[str, DetectionScores] = {}

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        finds = isinstance(model, Detects | Decomposes)
        return finds and isinstance(batch, Scene) and batch.boxes is not None

    @classmethod
    def at_validation(cls) -> Self:
        return cls(coco=False)

    def update(self, batch: Scene, seen: Detections) -> None:
        if batch.image.ndim == 5:
            batch, seen = batch.fold_time(), seen.fold_time()
        true = batch.boxes
        assert true is not None
        present = visible_objects(batch)
        self._add("", seen.boxes, seen.confidence, true, present, batch.labels)
        hud = (batch.factors or {}).get("hud")
        if hud is not None:
            game = self._game()
            if game:
                kept = relevant(seen.boxes, game, batch.image.shape[-2], true=true)
            else:
                inside = coverage(true, seen.boxes).mT  # (B, K, N) share of each prediction in each true box
                kept = ~((inside > 0.5) & (present & hud.bool())[:, None]).any(-1)
            moving = present & ~hud.bool()
            self._add("moving_", seen.boxes, seen.confidence, true, moving, batch.labels)
            self._add("relevant_", seen.boxes, seen.confidence * kept, true, moving, batch.labels)

    def _game(self) -> str:
        if self.game is not None or self.spec is None:
            return self.game or ""
        recorded = self.spec.name.removeprefix("atari/")
        return recorded if recorded in RELEVANT else ""

    def _add(self, prefix: str, *values: Any) -> None:
        if prefix not in self.sets:
            self.sets[prefix] = DetectionScores(coco=self.coco).to(values[0].device)
        self.sets[prefix].update(*values)

    def compute(self, model: nn.Module) -> Answer:
        scores = {}
        for prefix, metric in self.sets.items():
            images = sum(len(part) for part in metric.counts)
            for name, value in metric.compute().items():
                scores[f"{prefix}box_{self._named(name)}"] = Score(value, float("nan"), images)
        return Answer(scores)

    def _named(self, score: str) -> str:
        head, _, last = score.rpartition("_")
        of_class = last.isdigit() and head in ("recall", "recall_iou_50") and int(last) < len(self.names)
        return f"{head}_{self.names[int(last)]}" if of_class else score

    def baseline(self, batch: Scene) -> Detections | None:
        """The boxes of what moves, where the data have them: what a model adds to its teacher."""
        boxes = batch.motion_boxes
        if boxes is None:
            return None
        real = (boxes[..., 2:] > boxes[..., :2]).all(-1)
        latents = boxes.new_zeros(*boxes.shape[:-1], 0)
        return Detections(boxes=boxes, confidence=real.float(), latents=latents)
