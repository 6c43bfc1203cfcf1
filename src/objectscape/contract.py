"""What a model promises: the base class every model of the library has, and the abilities an evaluation asks for.

A model declares an ability by having its method. Evaluation protocols test for the ability with `isinstance`,
never for a class, so a model written elsewhere takes part as soon as it has the methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from objectscape.scene import Decomposition, Losses, Scene
from objectscape.version import __version__

FORMAT = 1  # of config.json; raised when old files can no longer be read


class Model(nn.Module, PyTorchModelHubMixin, ABC):
    """Base of every model: an `nn.Module` whose keyword-only constructor arguments are all its hyperparameters.

    `save_pretrained(folder)` writes `config.json` and `model.safetensors`, `from_pretrained(folder_or_hub_id)` reads
    them (the convention of huggingface_hub). `objectscape.load` does the same without knowing the class.

    Subclasses implement `forward(scene) -> Decomposition` and `loss(scene, output, step) -> Losses`. Whatever needs
    parameters happens in `forward`; `loss` is arithmetic on its arguments only.
    """

    def save_pretrained(self, save_directory: str | Path, **hub: Any) -> str | None:
        """Write `config.json` and `model.safetensors`; `hub` goes to huggingface_hub (`push_to_hub`, ...)."""
        return super().save_pretrained(save_directory, **{"config": self.description, **hub})

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
    def forward(self, scene: Scene) -> Decomposition:
        """What the model makes of a batch; reads `scene.pixels`."""

    @abstractmethod
    def loss(self, scene: Scene, output: Decomposition, step: int) -> Losses:
        """The objective after `step` optimiser steps."""


@runtime_checkable
class Decomposes(Protocol):
    """Says which pixels belong to which object, with `slots` slots (settable where the model allows it)."""

    slots: int

    def __call__(self, scene: Scene) -> Decomposition: ...


@runtime_checkable
class Generates(Protocol):
    """Imagines new scenes: `sample(n)` returns n of them, in parts, as a Decomposition whose `recon` is the image."""

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition: ...


@runtime_checkable
class Scheduled(Protocol):
    """Changes while it is trained: `set_step` is called before each training step with the steps done so far."""

    def set_step(self, step: int) -> None: ...


ABILITIES: dict[str, type] = {"decompose": Decomposes, "generate": Generates}


def abilities(model: nn.Module) -> list[str]:
    """Names of what the model can do."""
    return [name for name, protocol in ABILITIES.items() if isinstance(model, protocol)]
