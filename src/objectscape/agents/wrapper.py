"""Gymnasium wrappers: frames become tables of objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

try:
    import gymnasium
    from gymnasium.spaces import Box
    from gymnasium.spaces import Dict as DictSpace
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("objectscape.agents needs Gymnasium: pip install 'objectscape[atari]'") from error

from objectscape.agents.adapters import MaskObjects
from objectscape.agents.observation import COLUMNS, ObjectTable
from objectscape.contract import Decomposes, Detects
from objectscape.data.atari.colors import red_blue_exchanged
from objectscape.scene import Detections, Scene

Classifier = Any
"""Has `predict`, or is a function: latents (n, D) to classes (n,) int64."""


class _Seeing:
    """What both wrappers do: frames to detections to tables."""

    def __init__(
        self, detector: Detects | nn.Module, table: ObjectTable, classifier: Classifier | None, image_size: int | None
    ) -> None:
        if isinstance(detector, nn.Module) and isinstance(detector, Decomposes) and not isinstance(detector, Detects):
            detector = MaskObjects(detector)
        if not isinstance(detector, Detects):
            raise ValueError(
                f"{type(detector).__name__} cannot detect objects: it has no method detect(scene) -> Detections, and "
                "does not divide images into slots"
            )
        self.detector, self.table, self.classifier = detector, table, classifier
        size = getattr(detector, "image_size", None) if image_size is None else image_size
        self.size: tuple[int, int] | None = (size, size) if isinstance(size, int) else size  # H, W
        self._first = True
        if isinstance(detector, nn.Module):
            detector.eval()

    def space(self) -> gymnasium.Space[Any]:
        """Of one observation."""
        box = Box(-np.inf, np.inf, self.table.shape, np.float32)
        if not self.table.rows:
            return box
        return DictSpace({name: Box(-np.inf, np.inf, (len(COLUMNS),), np.float32) for name in self.table.rows})

    def scene(self, frames: np.ndarray) -> Scene:
        """Frames (B, H, W, 3) uint8 as the model sees them."""
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise ValueError(
                f"observations are {frames.dtype} of shape {frames.shape[1:]}; objects are found in RGB frames "
                "(H, W, 3) uint8: make the environment with obs_type='rgb', or wrap it in "
                "gymnasium.wrappers.AddRenderObservation."
            )
        if self._first and red_blue_exchanged(frames[0]):
            raise ValueError("the frames are BGR (red and blue exchanged); models see RGB: turn them with [..., ::-1].")
        self._first = False
        if self.size is not None and frames.shape[1:3] != self.size:
            size = (self.size[1], self.size[0])
            resized = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in frames]
            frames = np.stack([np.asarray(image) for image in resized])
        return Scene(image=torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))))

    def look(self, frames: np.ndarray) -> np.ndarray:
        """(B, K, 8) float32 tables."""
        scene = self.scene(frames)
        device = (
            next((p.device for p in self.detector.parameters()), None) if isinstance(self.detector, nn.Module) else None
        )
        with torch.no_grad():
            detections = self.detector.detect(scene if device is None else scene.to(device)).to("cpu")
            if self.classifier is not None:
                detections = self._name(detections, self.classifier)
            return self.table(detections, (scene.image.shape[-2], scene.image.shape[-1])).numpy()

    @staticmethod
    def _name(detections: Detections, classifier: Any) -> Detections:
        lead = detections.confidence.shape
        predict: Any = getattr(classifier, "predict", classifier)
        labels = predict(detections.latents.flatten(0, 1)) if detections.latents.numel() else torch.zeros(lead)
        detections.labels = torch.as_tensor(labels).long().reshape(lead)
        return detections


class ObjectObservation(gymnasium.ObservationWrapper[Any, Any, Any]):
    """An environment whose observations are tables of objects instead of frames.

    Args:
        env: whose observations are RGB frames (H, W, 3) uint8.
        detector: a model with `detect`, one that decomposes (its masks are boxed), or an adapter such as `RamObjects`.
        table: what to list and how; by default the 16 most confident objects.
        classifier: gives detections their classes from their latents.
        image_size: side of the square images that the model sees; None for the model's own `image_size`, or, without
            one, the frames as they are.

    The observation is a float32 array (K, 8), see `COLUMNS`; a dictionary {class: (8,)} if the table has `rows`.

    Raises:
        ValueError: if `detector` cannot detect, or the observations are no RGB frames.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        detector: Detects | nn.Module,
        *,
        table: ObjectTable | None = None,
        classifier: Classifier | None = None,
        image_size: int | None = None,
    ) -> None:
        super().__init__(env)
        self.seeing = _Seeing(detector, ObjectTable() if table is None else table, classifier, image_size)
        self.observation_space = self.seeing.space()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.seeing.table.reset()
        return super().reset(seed=seed, options=options)

    def observation(self, observation: np.ndarray) -> Any:
        rows = self.seeing.look(np.asarray(observation)[None])[0]
        names = self.seeing.table.rows
        return dict(zip(names, rows, strict=True)) if names else rows


class VectorObjectObservation(gymnasium.vector.VectorObservationWrapper):
    """`ObjectObservation` for a vector of B environments: their frames are one batch for the model.

    Observations are (B, K, 8), or {class: (B, 8)}.
    """

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        detector: Detects | nn.Module,
        *,
        table: ObjectTable | None = None,
        classifier: Classifier | None = None,
        image_size: int | None = None,
    ) -> None:
        super().__init__(env)
        self.seeing = _Seeing(detector, ObjectTable() if table is None else table, classifier, image_size)
        self.single_observation_space = self.seeing.space()
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, env.num_envs)
        self._over = np.zeros(env.num_envs, bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.seeing.table.reset()
        self._over[:] = False
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self.seeing.table.reset(torch.from_numpy(self._over.copy()))  # these were reset by this step
        self._over = np.logical_or(terminated, truncated)
        return self.observations(observations), rewards, terminated, truncated, infos

    def observations(self, observations: np.ndarray) -> Any:
        tables = self.seeing.look(np.asarray(observations))
        names = self.seeing.table.rows
        return {name: tables[:, row] for row, name in enumerate(names)} if names else tables
