"""How well latents tell the class of an object: few-shot ridge classifiers, and clusters against classes.

Definitions of SPACE-Time (Delfosse et al. 2023, section 4, and the released code): the first nine tenths of the objects
teach, the rest test; a k-shot classifier sees the first k objects of each class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SHOTS = (1, 4, 16, 64)
TEACHING = 0.9
NEIGHBORS = 24


@dataclass(frozen=True, kw_only=True)
class RidgeClassifier:
    """Linear scores, one per class, fitted by ridge regression to +1 for the class and -1 for the others."""

    weight: Tensor
    """(C, D)"""
    bias: Tensor
    """(C,)"""
    classes: Tensor
    """(C,) int64 labels"""
    names: tuple[str, ...] = ()
    """Name of each class, if there are any."""
    model: str = ""
    """Fingerprint of the model whose latents it reads, see `objectscape.checkpoints.native.fingerprint`."""

    @classmethod
    def fit(
        cls, latents: Tensor, labels: Tensor, *, alpha: float = 1.0, names: Sequence[str] = (), model: str = ""
    ) -> RidgeClassifier:
        """Fit to latents (P, D) and labels (P,).

        Args:
            latents: what a model knows of each object.
            labels: classes, 0..
            alpha: strength of the penalty.
            names: name of every label.
            model: see the field.

        Raises:
            ValueError: without objects.
        """
        if not len(latents):
            raise ValueError("there is no object to learn classes from; check the model's detections first")
        classes = labels.unique()
        x, y = latents.double(), (labels[:, None] == classes).double() * 2 - 1
        x_mean, y_mean = x.mean(0), y.mean(0)
        centered = x - x_mean
        gram = centered.T @ centered + alpha * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        weight = torch.linalg.solve(gram, centered.T @ (y - y_mean)).T  # (C, D)
        chosen = tuple(names[int(c)] for c in classes) if names else ()
        bias = y_mean - weight @ x_mean
        return cls(weight=weight.float(), bias=bias.float(), classes=classes, names=chosen, model=model)

    def predict(self, latents: Tensor) -> Tensor:
        """(..., D) -> (...) int64 labels; empty for no latents.

        Raises:
            ValueError: if the latents have another width than those it was fitted to.
        """
        if latents.shape[-1] != self.weight.shape[1]:
            raise ValueError(
                f"the classifier reads {self.weight.shape[1]} numbers per object and got {latents.shape[-1]}: it "
                "belongs to another model; fit one to this model's objects"
            )
        scores = latents @ self.weight.to(latents).T + self.bias.to(latents)
        return self.classes.to(latents.device)[scores.argmax(-1)]

    def name(self, label: int) -> str:
        """Name of a class; its number without names."""
        return self.names[self.classes.tolist().index(label)] if self.names else str(label)

    def save(self, file: str | Path) -> None:
        """Write a safetensors file."""
        tensors = {"weight": self.weight.contiguous(), "bias": self.bias.contiguous(), "classes": self.classes}
        save_file(tensors, file, metadata={"names": json.dumps(self.names), "model": self.model, "kind": "ridge"})

    @classmethod
    def load(cls, file: str | Path) -> RidgeClassifier:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is something else.
        """
        if not Path(file).is_file():
            raise FileNotFoundError(f"there is no classifier {file}")
        try:
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
                if metadata.get("kind") != "ridge":
                    raise ValueError(f"{file} is a safetensors file, but not a classifier")
                tensors = {name: opened.get_tensor(name) for name in ("weight", "bias", "classes")}
        except SafetensorError as error:
            raise ValueError(f"{file} is not a classifier saved by objectscape ({error})") from error
        return cls(**tensors, names=tuple(json.loads(metadata["names"])), model=metadata["model"])


def first_of_each(labels: Tensor, count: int) -> Tensor:
    """(P,) bool: the first `count` rows of each class."""
    same = labels[:, None] == labels.unique()[None]  # (P, C)
    return (same & (same.cumsum(0) <= count)).any(1)


def few_shot_accuracy(latents: Tensor, labels: Tensor, shots: int) -> float:
    """Accuracy on the last tenth of the objects of a classifier that saw `shots` of each class; NaN without any.

    Args:
        latents: (P, D)
        labels: (P,) int64
        shots: at most as many objects of each class, the first ones.
    """
    split = int(TEACHING * len(labels))
    if not split or split == len(labels):
        return float("nan")
    taught = first_of_each(labels[:split], shots)
    classifier = RidgeClassifier.fit(latents[:split][taught], labels[:split][taught])
    return float((classifier.predict(latents[split:]) == labels[split:]).double().mean())


def label_centroids(centroids: Tensor, latents: Tensor, labels: Tensor) -> Tensor:
    """A class for each cluster, from the classes of its nearest objects; as published, greedy in the clusters' order.

    Among the 24 nearest, in order: a class that no earlier cluster has is taken at once; one that is taken, as soon as
    its number of occurrences exceeds 6 / (rank + 1), rank from 0; failing both, the first class nobody has.

    Args:
        centroids: (C, D)
        latents, labels: (P, D), (P,) the objects that teach.

    Returns:
        (C,) int64
    """
    classes = list(dict.fromkeys(labels.tolist()))  # in order of appearance
    nearest = (
        torch.cdist(centroids.double(), latents.double()).topk(min(NEIGHBORS, len(latents)), largest=False).indices
    )
    given: list[int] = []
    for row in labels[nearest].tolist():  # greedy by definition
        seen: dict[int, int] = {}
        chosen = None
        for rank, label in enumerate(row):
            seen[label] = seen.get(label, 0) + 1
            if label not in given or seen[label] > 6 / (rank + 1):
                chosen = label
                break
        free = [c for c in classes if c not in given]
        given.append(chosen if chosen is not None else (free or classes)[0])
    return torch.tensor(given, device=labels.device)


def cluster_accuracy(latents: Tensor, labels: Tensor, centroids: Tensor) -> float:
    """Accuracy on the last tenth of the objects of the class of the nearest cluster; see `label_centroids`."""
    split = int(TEACHING * len(labels))
    given = label_centroids(centroids, latents[:split], labels[:split])
    predicted = given[torch.cdist(latents[split:].double(), centroids.double()).argmin(1)]
    return float((predicted == labels[split:]).double().mean())


def class_scores(latents: Tensor, labels: Tensor, *, shots: Sequence[int] = SHOTS, seed: int = 0) -> dict[str, float]:
    """Everything that says how well latents (P, D) tell classes (P,).

    Returns:
        `few_shot_<k>`; `ami` and `ari` (adjusted mutual information and Rand index of k-means clusters, as many as
        there are classes, with the classes); `cluster_accuracy`; `objects`. Empty with fewer than two classes.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    classes = len(labels.unique())
    if classes < 2:
        return {}
    found = KMeans(classes, n_init=10, random_state=seed).fit(latents.double().cpu().numpy())
    scores = {f"few_shot_{k}": few_shot_accuracy(latents, labels, k) for k in shots}
    true = labels.cpu().numpy()
    scores["ami"] = float(adjusted_mutual_info_score(true, found.labels_))
    scores["ari"] = float(adjusted_rand_score(true, found.labels_))
    scores["cluster_accuracy"] = cluster_accuracy(latents, labels, torch.from_numpy(found.cluster_centers_).to(latents))
    return scores | {"objects": float(len(labels))}
