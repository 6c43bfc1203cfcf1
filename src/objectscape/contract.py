"""What a model promises: the base class every model of the library has, and the abilities an evaluation asks for.

A model declares an ability by having its method. Evaluation protocols test for the ability with `isinstance`,
never for a class, so a model written elsewhere takes part as soon as it has the methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import Tensor, nn

from objectscape.scene import Decomposition, Detections, Losses, Multimodal, Scene, Tensors
from objectscape.version import __version__

FORMAT = 1  # of config.json; raised when old files can no longer be read

Batch = TypeVar("Batch", bound=Tensors)
Output = TypeVar("Output", bound=Tensors)


class Model(nn.Module, PyTorchModelHubMixin, ABC, Generic[Batch, Output]):
    """Base of every model: an `nn.Module` whose keyword-only constructor arguments are all its hyperparameters.

    Generic over what it reads and what it returns: `class SlotAttention(Model[Scene, SlotAttentionOutput])`.

    `save_pretrained(folder)` writes `config.json` and `model.safetensors`, `from_pretrained(folder_or_hub_id)` reads
    them (the convention of huggingface_hub). `objectscape.load` does the same without knowing the class.

    Subclasses implement `forward(batch) -> Output` and `loss(batch, output, step) -> Losses`. Whatever needs
    parameters happens in `forward`; `loss` is arithmetic on its arguments only.
    """

    def save_pretrained(self, save_directory: str | Path, **hub: Any) -> str | None:
        """Write `config.json` and `model.safetensors`; `hub` goes to huggingface_hub (`push_to_hub`, ...)."""
        return super().save_pretrained(save_directory, **{"config": self.description, **hub})

    def generate_model_card(self, **_: Any) -> ModelCard:
        """The card that `save_pretrained` writes as README.md."""
        from objectscape.card import model_card  # it names abilities, which are defined below

        return ModelCard(model_card(self, self.description))

    @property
    def description(self) -> dict[str, Any]:
        """What `config.json` holds: `config`, the class's import path, and the versions."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"_target_": path, "format": FORMAT, "objectscape": __version__, **self.config}

    @property
    def config(self) -> dict[str, Any]:
        """Every constructor argument with its value."""
        return dict(self._hub_mixin_config or {})  # type: ignore[arg-type]

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """What the model makes of a batch with floating-point pixels (see `see`)."""

    @abstractmethod
    def loss(self, batch: Batch, output: Output, step: int) -> Losses:
        """The objective after `step` optimizer steps."""


@runtime_checkable
class Decomposes(Protocol):
    """Says which pixels belong to which object, with `slots` slots (settable where the model allows it)."""

    slots: int

    def __call__(self, scene: Scene) -> Decomposition: ...


@runtime_checkable
class Generates(Protocol):
    """Samples new scenes: `sample(n)` returns n of them, in parts, as a Decomposition whose `recon` is the image."""

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition: ...


@runtime_checkable
class Detects(Protocol):
    """Finds objects as boxes."""

    def detect(self, scene: Scene) -> Detections: ...


@runtime_checkable
class Predicts(Protocol):
    """Continues a clip: `samples` futures of `steps` frames, with lead axes (B, S, T), T = steps.

    `actions` (B, [S,] steps, A), for models that act: `actions[..., i, :]` leads to predicted frame i.
    """

    def predict(
        self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None
    ) -> Decomposition: ...


@runtime_checkable
class Translates(Protocol):
    """Joins several domains in one space: encodes any of them into a state (B, k), decodes a state into any."""

    @property
    def domains(self) -> Sequence[str]: ...

    def encode(self, batch: Multimodal, *names: str) -> Tensor: ...

    def decode(self, state: Tensor, name: str) -> Tensor: ...


@runtime_checkable
class Scheduled(Protocol):
    """Changes while it is trained: `set_step` is called before each training step with the steps done so far."""

    def set_step(self, step: int) -> None: ...


ABILITIES: dict[str, type] = {
    "decompose": Decomposes,
    "generate": Generates,
    "detect": Detects,
    "predict": Predicts,
    "translate": Translates,
}


def abilities(model: nn.Module) -> list[str]:
    """Names of what the model can do."""
    return [name for name, protocol in ABILITIES.items() if isinstance(model, protocol)]


def see(model: nn.Module, batch: Tensors) -> Any:
    """`model(batch)` with floating-point pixels; a model of still images reads a clip frame by frame.

    A model that reads clips says so with the attribute `reads_clips = True`.

    Args:
        model: follows `Model`.
        batch: as a data set gives it, on the model's device.

    Returns:
        The model's output; its tensors have a time axis after B if the batch is a clip.
    """
    seen = readable(model, batch)
    output = model(seen)
    if isinstance(batch, Scene) and seen.image.ndim != batch.image.ndim:
        return output.unfold_time(batch.image.shape[1])
    return output


def readable(model: nn.Module, batch: Tensors) -> Any:
    """`batch` as the model takes it: with floating-point pixels; clips frame by frame unless it `reads_clips`."""
    if not isinstance(batch, Scene):
        return batch
    scene = replace(batch, image=batch.pixels)
    return scene if scene.image.ndim == 4 or getattr(model, "reads_clips", False) else scene.fold_time()
