"""Do the latents tell what an object is? Few-shot classifiers and clusters of detected objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from objectscape.contract import Decomposes, Detects
from objectscape.evaluation.questions.detect import find, visible_objects
from objectscape.evaluation.questions.question import Answer, Question, Score, higher, neither
from objectscape.metrics.detection import CONFIDENT, match_labels
from objectscape.metrics.few_shot import SHOTS, RidgeClassifier, class_scores
from objectscape.scene import Detections, Scene, Tensors, record


@record
class Places(Detections):
    """The true boxes with their places as latents."""


class Classify(Question):
    """Do the latents tell what an object is?

    A detection has the class of the true box of which it covers the most, if that is at least half (SPACE-Time). Scores
    are of detections of objects that are no display; with `all_`, of all detections, "no object" being one more class.

    Args:
        shots: how many objects of each class the classifiers see.
        save: file for a classifier fitted to all objects (safetensors), for `model.describe(image, classifier)`.
        names: of the classes, which it keeps.
    """

    name = "classify"
    needs = "a model that detects or decomposes, and scenes with `boxes` and `labels` of two classes or more"
    scores = {
        "few_shot_64": higher("Accuracy of a linear classifier that saw 64 objects of each class.", "few-shot 64"),
        "few_shot_<number>": higher("Accuracy of one that saw so many."),
        "class_ami": higher("Adjusted mutual information of k-means clusters of latents and classes."),
        "class_ari": higher("Adjusted Rand index of the same."),
        "class_cluster_accuracy": higher("Accuracy of the class of the nearest cluster."),
        "class_objects": neither("Detected objects with a class."),
        "all_<class_score>": higher("The same for all detections, with a class of those that are no object."),
    }
    headline = ("few_shot_64",)
    quick = False
    look: Callable[[nn.Module, Any], Any] = staticmethod(find)

    def __init__(self, *, shots: tuple[int, ...] = SHOTS, save: str = "", names: tuple[str, ...] = ()) -> None:
        self.shots, self.save, self.names = tuple(shots), save, tuple(names)
        self.trivial = False
        self.seen: dict[str, list[tuple[Tensor, Tensor]]] = {"": [], "all_": []}

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        finds = isinstance(model, Detects | Decomposes)
        return finds and isinstance(batch, Scene) and batch.boxes is not None and batch.labels is not None

    def update(self, batch: Scene, seen: Detections) -> None:
        self.trivial = isinstance(seen, Places)
        if batch.image.ndim == 5:
            batch, seen = batch.fold_time(), seen.fold_time()
        assert batch.boxes is not None
        assert batch.labels is not None
        present = visible_objects(batch)
        hud = (batch.factors or {}).get("hud")
        sure = seen.confidence > CONFIDENT
        for prefix, objects in (("", present if hud is None else present & ~hud.bool()), ("all_", present)):
            found = match_labels(seen.boxes, batch.boxes, batch.labels, objects)
            counted = sure & (found >= 0) if not prefix else sure
            self.seen[prefix].append((seen.latents[counted].cpu(), found[counted].cpu()))

    def compute(self, model: nn.Module) -> Answer:
        scores = {}
        for prefix, parts in self.seen.items():
            latents, labels = (torch.cat(values) for values in zip(*parts, strict=True))
            for name, value in class_scores(latents, labels, shots=self.shots, seed=self.seed).items():
                name = name if name.startswith("few_shot") else f"class_{name}"
                scores[prefix + name] = Score(value, float("nan"), len(labels))
        if self.save and not self.trivial:
            latents, labels = (torch.cat(values) for values in zip(*self.seen[""], strict=True))
            fingerprint = getattr(model, "fingerprint", str)()
            RidgeClassifier.fit(latents, labels, names=self.names, model=fingerprint).save(self.save)
        return Answer(scores)

    def baseline(self, batch: Scene) -> Detections:
        """The places and sizes of the true boxes: what position alone tells."""
        assert batch.boxes is not None
        height, width = batch.image.shape[-2:]
        places = batch.boxes / batch.boxes.new_tensor([width, height, width, height])
        present = visible_objects(batch).to(places)
        return Places(boxes=batch.boxes, confidence=present, latents=places)
