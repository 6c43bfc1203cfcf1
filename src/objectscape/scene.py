"""The four types that cross module borders: Scene, Decomposition, Losses, Spec.

Axes carry the same letters everywhere: B batch, T time, K slots, N ground-truth objects, C channels, H W pixels,
D latent. `[T,]` means that the time axis is there in every field, or in none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(kw_only=True)
class _TensorFields:
    """What a dataclass of tensors needs to travel as one thing: map, move, slice, stack."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A copy with `function` applied to every tensor, those inside dictionaries included."""

        def apply(value: Any) -> Any:
            if isinstance(value, Tensor):
                return function(value)
            if isinstance(value, dict):
                return {key: apply(item) for key, item in value.items()}
            return value

        return dataclasses.replace(self, **{f.name: apply(getattr(self, f.name)) for f in dataclasses.fields(self)})

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        return self.map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        return self.map(lambda t: t.pin_memory())

    def detach(self) -> Self:
        return self.map(lambda t: t.detach())

    def __getitem__(self, index: Any) -> Self:
        """Index the first axis of every field: an int takes one item, a slice or a LongTensor a smaller batch."""
        return self.map(lambda t: t[index])


@dataclass(kw_only=True)
class Scene(_TensorFields):
    """A batch of images or clips, with whatever ground truth there is.

    A data set's single item is a Scene whose fields lack the B axis; `Scene.stack` makes a batch of such items.

    Raises:
        ValueError: if `image` is not uint8 or floating point with three channels, or a field's batch size differs.
    """

    image: Tensor
    """(B, [T,] 3, H, W) RGB; uint8 in storage and transport, float32 in [0, 1] on the device."""
    segments: Tensor | None = None
    """(B, [T,] H, W) integer instance map: 0 background, 1..N objects, -1 ignore."""
    boxes: Tensor | None = None
    """(B, [T,] N, 4) float32 pixels x0 y0 x1 y1; x1, y1 exclusive. Rows that are not `present` are zero."""
    present: Tensor | None = None
    """(B, [T,] N) bool: is row n a real object. Row n belongs to segment n + 1."""
    labels: Tensor | None = None
    """(B, [T,] N) int64 class of each object."""
    factors: dict[str, Tensor] | None = None
    """{name: (B, [T,] N, ...)} ground-truth properties of each object."""
    actions: Tensor | None = None
    """(B, T, A) float32."""
    motion: Tensor | None = None
    """(B, T, 1, H, W) float32 motion map."""

    def __post_init__(self) -> None:
        image = self.image
        if not isinstance(image, Tensor):  # pytree transforms put placeholders here
            return
        if image.ndim not in (3, 4, 5) or image.shape[-3] != 3:
            raise ValueError(
                f"Scene.image has shape {tuple(image.shape)}; expected (B, [T,] 3, H, W) in RGB. "
                "Repeat a grey image along its channel axis; drop an alpha channel; move channels first."
            )
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise ValueError(f"Scene.image has dtype {image.dtype}; expected uint8 (0..255) or float ([0, 1]).")
        if self.segments is not None and self.segments.shape[-2:] != image.shape[-2:]:
            raise ValueError(
                f"Scene.segments covers {tuple(self.segments.shape[-2:])} pixels but Scene.image "
                f"{tuple(image.shape[-2:])}; resize them together (nearest for segments)."
            )

    def __len__(self) -> int:
        """Batch size B."""
        return self.image.shape[0]

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

    @classmethod
    def stack(cls, items: Sequence[Scene]) -> Scene:
        """A batch from single items (which lack the B axis)."""
        return cls._merge(items, torch.stack)

    @classmethod
    def cat(cls, batches: Sequence[Scene]) -> Scene:
        """One batch from several."""
        return cls._merge(batches, torch.cat)

    @classmethod
    def _merge(cls, scenes: Sequence[Scene], join: Callable[[list[Tensor]], Tensor]) -> Scene:
        def merge(name: str, values: list[Any]) -> Any:
            missing = [value is None for value in values]
            if all(missing):
                return None
            if any(missing):
                raise ValueError(f"Scene.{name} is set in some of the scenes to merge and None in others.")
            if isinstance(values[0], dict):
                return {key: merge(f"{name}[{key}]", [v.get(key) for v in values]) for key in values[0]}
            return join(values)

        return cls(**{f.name: merge(f.name, [getattr(s, f.name) for s in scenes]) for f in dataclasses.fields(cls)})


@dataclass(kw_only=True)
class Decomposition(_TensorFields):
    """What a model makes of a scene. A model subclasses it for its own extras (posteriors, per-level results)."""

    recon: Tensor
    """(B, [T,] 3, H, W) the redrawn scene in [0, 1]; an unbounded decoder may leave that range a little."""
    masks: Tensor
    """(B, [T,] K, 1, H, W) non-negative, summing to 1 over K."""
    components: Tensor
    """(B, [T,] K, 3, H, W) each slot's own picture, before masking."""
    slots: Tensor
    """(B, [T,] K, D) the latents."""
    boxes: Tensor | None = None
    """(B, [T,] K, 4) pixels x0 y0 x1 y1, where the model has them."""
    present: Tensor | None = None
    """(B, [T,] K) float in [0, 1]: probability that a slot holds an object, where the model has it."""

    def __len__(self) -> int:
        return self.recon.shape[0]

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


@dataclass(kw_only=True)
class Losses:
    """What a model minimises."""

    total: Tensor
    """scalar, differentiable. In nats: summed over pixels, channels, slots and time; averaged over the batch."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """{name: detached scalar} for the log."""


@dataclass(kw_only=True)
class Spec:
    """What a data set says of itself. `objectscape data info NAME` prints it; a checkpoint stores it."""

    name: str
    image_size: tuple[int, int]
    """(H, W) pixels."""
    splits: dict[str, int | None]
    """{split: number of scenes}; None if it streams for ever."""
    fields: dict[str, str]
    """{Scene field: shape, type, range and meaning in words}."""
    max_objects: int | None = None
    """Largest number of objects in a scene, background not counted; None if unknown."""
    licence: str = "unknown"
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
        data["image_size"] = tuple(data["image_size"])
        return cls(**data)


for _cls in (Scene, Decomposition, Losses):
    torch.utils._pytree.register_dataclass(_cls)
