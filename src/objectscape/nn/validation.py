"""Checks of constructor options and inputs that every model makes, with messages that say how to fix the problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from objectscape.names import near_matches

if TYPE_CHECKING:  # settings are checked before torch is imported
    from torch import Tensor


def check_at_least(minimum: int, **options: int) -> None:
    """Raise ValueError for the first of `options` (name=value) that is not an int of at least `minimum`."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"{name}={value!r}; expected an integer of at least {minimum}")


def check_positive(**options: float) -> None:
    """Raise ValueError for the first of `options` (name=value) that is not greater than zero."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{name}={value!r}; expected a number greater than 0")


def check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise ValueError, with the nearest match if there is one, unless `value` is in `allowed`."""
    if value in allowed:
        return
    near = near_matches(str(value), map(str, allowed))
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name}={value!r}; choose one of {', '.join(map(repr, allowed))}{hint}")


def check_images(images: Tensor, image_size: int | tuple[int, int]) -> None:
    """Raise ValueError unless `images` is a batch of still pictures (B, 3, H, W) of the model's `image_size`."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if images.ndim != 4 or images.shape[1:] != (3, height, width):
        raise ValueError(
            f"the model was built for images (B, 3, {height}, {width}) but got {tuple(images.shape)}; "
            "resize the data or build the model with that image_size (clips: fold the time axis into the batch)"
        )


def check_noise(noise: Tensor | None, *shape: int) -> None:
    """Raise ValueError if noise is given and is not (scenes, slots, latents) = `shape`."""
    if noise is not None and noise.shape != shape:
        raise ValueError(f"noise has shape {tuple(noise.shape)}; expected {shape}: scenes, slots, latents")
