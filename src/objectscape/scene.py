"""The types that cross module borders: Scene, Multimodal, Decomposition, Detections, Losses, Spec.

Axes carry the same letters everywhere: B batch, S samples, T time, K slots, N ground-truth objects, I inference steps,
C channels, H W pixels, D latent. `[T,]` means that the time axis is there in every field, or in none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar, dataclass_transform

import torch
from torch import Tensor

_T = TypeVar("_T")


def truth() -> Any:
    """Default None for a field of ground truth, which training must not see: `Tensors.inputs` drops it."""
    return field(default=None, metadata={"truth": True})


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Make `cls` a keyword-only dataclass that torch's pytree (compile, vmap, pin memory) can look into."""
    made: type[_T] = dataclass(kw_only=True, repr=False, eq=False)(cls)
    torch.utils._pytree.register_dataclass(made)
    return made


class Tensors:
    """Base of every batch and every output: a `@record` of tensors that travels as one thing.

    Fields are tensors, None, dictionaries of tensors, other `Tensors`, or plain values that stay as they are. All
    tensors share their first axis, B.
    """

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A copy with `function` applied to every tensor, those inside dictionaries and nested records included."""

        def apply(value: Any) -> Any:
            if isinstance(value, Tensor):
                return function(value)
            if isinstance(value, Tensors):
                return value.map(function)
            if isinstance(value, dict):
                return {key: apply(item) for key, item in value.items()}
            return value

        changed = {name: apply(value) for name, value in self._values().items()}
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        return self.map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        return self.map(lambda t: t.pin_memory())

    def detach(self) -> Self:
        return self.map(lambda t: t.detach())

    def __getitem__(self, index: Any) -> Self:
        """Index the first axis of every field: an int takes one item, a slice or a LongTensor a smaller batch."""
        return self.map(lambda t: t[index])

    def __len__(self) -> int:
        """Batch size B, the first axis of the first tensor."""
        return self._tensors()[0].shape[0]

    def fold_time(self) -> Self:
        """(B, T, ...) -> (B*T, ...) in every field: clips as a batch of still images."""
        return self.map(lambda t: t.flatten(0, 1))

    def unfold_time(self, time: int) -> Self:
        """(B*T, ...) -> (B, T, ...) in every field: undoes `fold_time`."""
        return self.map(lambda t: t.unflatten(0, (-1, time)))

    def inputs(self) -> Self:
        """A copy without the ground truth (the fields declared with `truth()`): what training may see."""
        marked = [f.name for f in dataclasses.fields(self) if f.metadata.get("truth")]  # type: ignore[arg-type]
        return dataclasses.replace(self, **dict.fromkeys(marked))  # type: ignore[type-var]

    @classmethod
    def stack(cls, items: Sequence[Self]) -> Self:
        """A batch from single items (which lack the B axis)."""
        return cls._merge(items, torch.stack)

    @classmethod
    def cat(cls, batches: Sequence[Self]) -> Self:
        """One batch from several."""
        return cls._merge(batches, torch.cat)

    @classmethod
    def _merge(cls, parts: Sequence[Self], join: Callable[[list[Tensor]], Tensor]) -> Self:
        def merge(name: str, values: list[Any]) -> Any:
            missing = [value is None for value in values]
            if all(missing):
                return None
            if any(missing):
                raise ValueError(f"{cls.__name__}.{name} is set in some of the batches to merge and None in others.")
            if isinstance(values[0], Tensors):
                return type(values[0])._merge(values, join)
            if isinstance(values[0], dict):
                return {key: merge(f"{name}[{key}]", [v.get(key) for v in values]) for key in values[0]}
            return join(values)

        if not parts:
            raise ValueError(f"there is no {cls.__name__} to merge: the list is empty.")
        return cls(**{name: merge(name, [getattr(p, name) for p in parts]) for name in parts[0]._values()})

    def _values(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def _tensors(self) -> list[Tensor]:
        leaves = torch.utils._pytree.tree_leaves(list(self._values().values()))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    def __repr__(self) -> str:
        """Every field that is set, with its type, shape and range instead of its numbers."""
        parts = [f"{name}={_summary(value)}" for name, value in self._values().items() if value is not None]
        inner = ",\n  ".join(parts)
        return f"{type(self).__name__}(\n  {inner},\n)" if len(parts) > 1 else f"{type(self).__name__}({inner})"


def _summary(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_summary(item)}" for key, item in value.items()) + "}"
    if not isinstance(value, Tensor):
        return repr(value).replace("\n", "\n  ")
    text = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if value.numel() == 0 or value.is_complex() or value.device.type == "meta":
        return text
    low, high = value.detach().aminmax() if value.dtype != torch.bool else (value.all(), value.any())
    return f"{text} in [{_short(low.item())}, {_short(high.item())}]"


def _short(number: Any) -> str:
    return f"{number:.4g}" if isinstance(number, float) else str(number)


@record
class Scene(Tensors):
    """A batch of images or clips, with whatever ground truth there is.

    A data set's single item is a Scene whose fields lack the B axis; `Scene.stack` makes a batch of such items.

    Raises:
        ValueError: if `image` is not uint8 or floating point with three channels, or a field's batch size differs.
    """

    image: Tensor
    """(B, [T,] 3, H, W) RGB; uint8 in storage and transport, float32 in [0, 1] on the device."""
    segments: Tensor | None = truth()
    """(B, [T,] H, W) integer instance map: 0 background, 1..N objects, -1 ignore."""
    boxes: Tensor | None = truth()
    """(B, [T,] N, 4) float32 pixels x0 y0 x1 y1; x1, y1 exclusive. Rows that are not `present` are zero."""
    present: Tensor | None = truth()
    """(B, [T,] N) bool: is row n a real object. Row n belongs to segment n + 1."""
    labels: Tensor | None = truth()
    """(B, [T,] N) int64 class of each object."""
    factors: dict[str, Tensor] | None = truth()
    """{name: (B, [T,] N, ...)} ground-truth properties of each object."""
    actions: Tensor | None = None
    """(B, T, A) float32."""
    motion: Tensor | None = None
    """(B, [T,] 1, H, W) float32 in [0, 1]: where pixels move. Made from pixels, not from labels."""
    motion_boxes: Tensor | None = None
    """(B, [T,] M, 4) float32 pixels x0 y0 x1 y1 of moving regions; zero rows where there are fewer than M."""

    def __post_init__(self) -> None:
        image = self.image
        if not isinstance(image, Tensor):  # pytree transforms put placeholders here
            return
        if image.ndim not in (3, 4, 5) or image.shape[-3] != 3:
            raise ValueError(
                f"Scene.image has shape {tuple(image.shape)}; expected (B, [T,] 3, H, W) in RGB. "
                "Repeat a gray image along its channel axis; drop an alpha channel; move channels first."
            )
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise ValueError(f"Scene.image has dtype {image.dtype}; expected uint8 (0..255) or float ([0, 1]).")
        if self.segments is not None and self.segments.shape[-2:] != image.shape[-2:]:
            raise ValueError(
                f"Scene.segments covers {tuple(self.segments.shape[-2:])} pixels but Scene.image "
                f"{tuple(image.shape[-2:])}; resize them together (nearest for segments)."
            )

    @property
    def pixels(self) -> Tensor:
        """(B, [T,] 3, H, W) the image as floating point in [0, 1], whatever it is stored as."""
        return self.image.float() / 255 if self.image.dtype == torch.uint8 else self.image

    @property
    def objects(self) -> Tensor | None:
        """(B, [T]) int64 number of objects, from `present` or else from `segments`; None without either."""
        if self.present is not None:
            return self.present.sum(-1)
        if self.segments is not None:
            segments = self.segments.flatten(-2)
            count = int(segments.max().clamp_min(0)) if segments.numel() else 0
            ids = torch.arange(1, count + 1, device=segments.device)
            return (segments[..., None, :] == ids[:, None]).any(-1).sum(-1)
        return None


@record
class Multimodal(Tensors):
    """A batch of the same scenes in several domains (images, attributes, words), each present for some rows only."""

    domains: dict[str, Tensor]
    """{name: (B, ...)} what each domain shows; zeros in rows where it is absent."""
    present: dict[str, Tensor]
    """{name: (B,) bool} which rows the domain has."""
    truth: dict[str, Tensor] | None = truth()
    """{name: (B, ...)} what an evaluation may know and training must not, such as the domains that are absent."""

    def __post_init__(self) -> None:
        if self.domains.keys() != self.present.keys():
            raise ValueError(
                f"Multimodal.domains has {', '.join(self.domains)} but Multimodal.present {', '.join(self.present)}; "
                "both need the same names."
            )

    def matched(self, *names: str) -> Tensor:
        """(B,) bool: rows that have all of the named domains; all domains without names."""
        return torch.stack([self.present[name] for name in names or self.present]).all(0)


@record
class Stage(Tensors):
    """What an iterative model had found after one step of its inference."""

    name: str
    slots: Tensor
    """(B, K, D)"""
    drawn: Decomposition | None = None
    """The scene as these slots give it; None if the model decodes only at the end."""
    attention: Tensor | None = None
    """(B, K, h, w) the pixels or tokens that each slot attended to."""
    nll: Tensor | None = None
    """(B,) negative log-likelihood of the image in nats."""


@record
class Decomposition(Tensors):
    """How a model decomposes a batch. A model subclasses it for its own extras (posteriors, results per level).

    Lead axes are B, or (B, T) for clips, or (B, S, T) for S predicted futures.
    """

    recon: Tensor
    """(B, [T,] 3, H, W) the reconstruction in [0, 1]; an unbounded decoder may leave that range a little."""
    masks: Tensor
    """(B, [T,] K, 1, H, W) non-negative, summing to 1 over K."""
    components: Tensor
    """(B, [T,] K, 3, H, W) each slot's own image, before masking."""
    slots: Tensor
    """(B, [T,] K, D) the latents."""
    boxes: Tensor | None = None
    """(B, [T,] K, 4) pixels x0 y0 x1 y1, where the model has them."""
    present: Tensor | None = None
    """(B, [T,] K) float in [0, 1]: probability that a slot holds an object, where the model has it."""

    @property
    def segments(self) -> Tensor:
        """(B, [T,] H, W) int64: the slot that owns each pixel (ties: the lowest slot)."""
        return self.masks.max(-4).indices.squeeze(-3)  # on the CPU much faster than argmax, with the same rule for ties

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """{kind: (B, [T,] K, 1, h, w)} further masks, such as "attention", to be scored like `masks`.

        A grid of h x w that is coarser than the image is enlarged by nearest for that.
        """
        return {}

    @property
    def bound(self) -> dict[str, Tensor]:
        """The parts of the negative evidence lower bound in nats; {} for a model without a likelihood.

        `nll` (B,), and one entry per KL whose name starts with "kl": (B,), or (B, K) with one value per slot.
        """
        return {}

    @property
    def stages(self) -> list[Stage]:
        """One per step of inference, in order; [] for a model that does not iterate."""
        return []


@record
class Detections(Tensors):
    """Objects with their places, as a detector gives them."""

    boxes: Tensor
    """(B, [T,] K, 4) pixels x0 y0 x1 y1; x1, y1 exclusive."""
    confidence: Tensor
    """(B, [T,] K) in [0, 1]; 0 for rows that hold no object."""
    latents: Tensor
    """(B, [T,] K, D) what the model knows of each object."""
    labels: Tensor | None = None
    """(B, [T,] K) int64 predicted class, where a classifier was given."""


@dataclass(kw_only=True)
class Losses:
    """What a model minimizes."""

    total: Tensor
    """scalar, differentiable. In nats: summed over pixels, channels, slots and time; averaged over the batch."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """{name: detached scalar} for the log."""


@dataclass(kw_only=True)
class Spec:
    """What a data set says of itself. `objectscape data info NAME` prints it; a checkpoint stores it."""

    name: str
    image_size: tuple[int, int] | None
    """(H, W) pixels; None for data without images."""
    splits: dict[str, int | None]
    """{split: number of items}; None if it streams for ever."""
    fields: dict[str, str]
    """{Scene field: shape, type, range and meaning in words}."""
    frames: int | None = None
    """Frames of a clip; None for still images."""
    fps: float | None = None
    """Frames per second of clips, where known."""
    actions: int | None = None
    """Width A of the actions; None without actions."""
    max_objects: int | None = None
    """Largest number of objects in a scene, background not counted; None if unknown."""
    license: str = "unknown"
    source: str = ""
    """Where the data come from: a paper, a URL, or the generator."""
    version: str = "1"
    """Version of the generator or of the file layout: it changes whenever the pixels of a scene change."""
    content_hash: str | None = None
    """SHA-256 of the file's content; None for data that is rendered on the fly."""
    notes: str = ""
    """Conventions a user must know: which labels are background or ignored, known defects, split rules."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spec:
        known = {f.name for f in dataclasses.fields(cls)}
        data = {key: value for key, value in values.items() if key in known}
        if "licence" in values:  # how files written before 0.2 spell it
            data["license"] = values["licence"]
        data["image_size"] = tuple(data["image_size"]) if data.get("image_size") else None
        return cls(**data)


torch.utils._pytree.register_dataclass(Losses)
