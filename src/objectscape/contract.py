"""What a model promises: the base class every model of the library has, and the abilities an evaluation asks for.

A model declares an ability by having its method. Evaluation protocols test for the ability with `isinstance`,
never for a class, so a model written elsewhere takes part as soon as it has the methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, get_args, get_origin, runtime_checkable

import torch
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

    `model(images)` takes a plain tensor too: (B, 3, H, W) or clips (B, T, 3, H, W), uint8 or floating point in [0, 1].
    """

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """`forward` and its hooks.

        Raises:
            ValueError: for images that are no tensor, have another shape than (B, [T,] 3, H, W), or values that are
                neither uint8 nor in [0, 1].
        """
        if not inputs or isinstance(inputs[0], Tensors):
            return super().__call__(*inputs, **options)
        kind = batch_type(type(self))
        if not issubclass(Scene, kind):
            raise ValueError(
                f"{type(self).__name__} reads a {kind.__name__}, but got {type(inputs[0]).__name__}; pass "
                f"objectscape.scene.{kind.__name__}(...)."
            )
        clips = scene_of(inputs[0])
        seen = readable(self, clips)
        output = super().__call__(seen, *inputs[1:], **options)
        return output if seen.image.ndim == clips.image.ndim else output.unfold_time(clips.image.shape[1])

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
class Imagines(Protocol):
    """Continues clips without drawing them: `predict` in its three parts, as all world models here have it.

    `observe(scene)` -> what is known after the last frame of clips, (B, ...). `imagine(state)` -> its futures (B, S, T,
    ...), T = `steps`, S = `samples`, drawn independently; `actions` (B, T, A), or (B, S, T, A) with other actions for
    every future, action i leads to imagined frame i. `draw(states)` -> states with any lead axes as pictures.
    """

    def observe(self, scene: Scene) -> Any: ...

    def imagine(self, state: Any, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Any: ...

    def draw(self, states: Any) -> Decomposition: ...


@runtime_checkable
class Places(Protocol):
    """Has slots with a place of their own, so that an object is moved by writing numbers instead of pixels.

    `latents(output)` -> (B, [T,] K, E): all that a slot is drawn from, its place included; the last number only helps
    to draw it. `shift(latents, by)`: the same slots `by` (B, K, 2) pixels to the right and down; a slot without a place
    stays as it is. `redraw(latents)`: the scene (of `size` (H, W) pixels) as these slots give it, without those that
    are not `present` (B, K). Slots may be repeated and come from other scenes; further ones stand before the scene's
    own.
    """

    def latents(self, output: Any) -> Tensor: ...

    def shift(self, latents: Tensor, by: Tensor, *, size: tuple[int, int]) -> Tensor: ...

    def redraw(self, latents: Tensor, *, size: tuple[int, int], present: Tensor | None = None) -> Decomposition: ...


@runtime_checkable
class Translates(Protocol):
    """Joins several domains in one space: encodes any of them into a state (B, k), decodes a state into any."""

    @property
    def domains(self) -> Sequence[str]: ...

    def encode(self, batch: Multimodal, *names: str) -> Tensor: ...

    def decode(self, state: Tensor, name: str) -> Tensor: ...


@runtime_checkable
class Embeds(Protocol):
    """One domain of a workspace: a latent (B, D) of what the entry `domain` of a batch shows, and the way back."""

    domain: str

    @property
    def latent_size(self) -> int: ...

    def encode(self, raw: Tensor) -> Tensor: ...

    def decode(self, latent: Tensor) -> Tensor: ...


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
    "embed": Embeds,
}


def abilities(model: nn.Module) -> list[str]:
    """Names of what the model can do."""
    return [name for name, protocol in ABILITIES.items() if isinstance(model, protocol)]


def batch_type(model: type[Model[Any, Any]]) -> type:
    """What a class of models reads, from its base `Model[Batch, Output]`; Scene where it does not say."""
    for cls in model.__mro__:
        for base in vars(cls).get("__orig_bases__", ()):
            if get_origin(base) is Model and isinstance(get_args(base)[0], type):
                return get_args(base)[0]
    return Scene


def scene_of(images: Any) -> Scene:
    """A Scene of bare images, which are looked at more closely than a data set's.

    Args:
        images: (B, 3, H, W) or (B, T, 3, H, W), uint8 or floating point in [0, 1].

    Raises:
        ValueError: if they are anything else.
    """
    wanted = "a tensor of images (B, 3, H, W), uint8 or floating point in [0, 1], or a Scene"
    if not isinstance(images, Tensor):
        remedy = "Use torch.from_numpy(images)" if hasattr(images, "__array__") else "Stack the images with torch.stack"
        if getattr(images, "ndim", 0) == 4 and images.shape[-1] in (3, 4) and images.shape[1] != 3:
            remedy += "[..., :3].movedim(-1, 1)"  # channels last, as NumPy's images are
        raise ValueError(
            f"the model got {type(images).__module__}.{type(images).__name__}; it takes {wanted}. {remedy}."
        )
    shape = tuple(images.shape)
    if images.ndim not in (4, 5) or shape[-3] != 3:
        remedy = "Move the channels first, drop an alpha channel, repeat a gray one."
        if images.ndim == 3 and shape[0] == 3:
            remedy = "Add the batch axis: model(image[None])."
        elif images.ndim == 4 and shape[-1] == 3:
            remedy = "Move the channels first: model(images.movedim(-1, 1))."
        raise ValueError(f"images of shape {shape}; the model takes {wanted}. {remedy}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(
            f"images of type {images.dtype}; the model takes {wanted}. For values of 0 to 255: images.byte()."
        )
    known = images.numel() and images.device.type != "meta" and not torch.compiler.is_compiling()
    if known and images.is_floating_point():  # half a unit beyond [0, 1] is what resizing may give
        low, high = (value.item() for value in images.detach().aminmax())
        if low < -0.5 or high > 1.5:
            remedy = "Divide by 255." if low >= 0 else "Undo the normalization."
            raise ValueError(f"images with values from {low:.4g} to {high:.4g}; the model takes {wanted}. {remedy}")
    return Scene(image=images)


def see(model: nn.Module, batch: Tensors) -> Any:
    """`model(batch)` with floating-point pixels; a model of still images reads a clip frame by frame.

    A model that reads clips says so with the attribute `reads_clips = True`.

    Args:
        model: follows `Model`.
        batch: as a data set gives it, on the model's device.

    Returns:
        The model's output, detached under `no_grad`; its tensors have a time axis after B if the batch is a clip.
    """
    seen = readable(model, batch)
    output = model(seen)
    if not torch.is_grad_enabled():  # a view of a parameter needs a gradient even then
        output = output.detach()
    if isinstance(batch, Scene) and seen.image.ndim != batch.image.ndim:
        return output.unfold_time(batch.image.shape[1])
    return output


def first_frames(model: Any, scene: Scene, count: int) -> Scene:
    """What a model that predicts may see of the first `count` frames of clips: inputs, and ground truth it is told."""
    told = {name: getattr(scene, name) for name in getattr(model, "hints", ())}
    return replace(scene.inputs(), image=scene.pixels, **told).map(lambda x: x[:, :count])


def continue_clips(model: Any, clips: Scene, *, context: int, steps: int, samples: int = 1) -> Decomposition:
    """What a model that predicts makes of the `steps` frames (B, S, T, ...) after the first `context` of `clips`.

    It is told the clips' own actions, if they have some: action t leads to frame t + 1.
    """
    actions = None if clips.actions is None else clips.actions[:, context - 1 : context - 1 + steps]
    return model.predict(first_frames(model, clips, context), steps=steps, samples=samples, actions=actions)


def readable(model: nn.Module, batch: Tensors) -> Any:
    """`batch` as the model takes it: with floating-point pixels; clips frame by frame unless it `reads_clips`."""
    if not isinstance(batch, Scene):
        return batch
    scene = replace(batch, image=batch.pixels)
    return scene if scene.image.ndim == 4 or getattr(model, "reads_clips", False) else scene.fold_time()
