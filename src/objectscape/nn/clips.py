"""Checks of clips and actions that every world model makes."""

from __future__ import annotations

from torch import Tensor


def check_clips(images: Tensor, image_size: tuple[int, int]) -> None:
    """Raise ValueError unless `images` is a batch of clips (B, T, 3, H, W) of the model's `image_size`."""
    if images.ndim != 5:
        raise ValueError(
            f"the model sees clips (B, T, 3, H, W) but got {tuple(images.shape)}; read the data with clip.length, or "
            "give still images a time axis of length 1."
        )
    if images.shape[2:] != (3, *image_size):
        raise ValueError(
            f"the model was built for frames of {image_size[0]} x {image_size[1]} pixels but the clips have "
            f"{images.shape[-2]} x {images.shape[-1]}; resize the data or build the model with that image_size."
        )


def check_actions(actions: Tensor | None, *, needed: int, width: int, samples: int = 1) -> Tensor | None:
    """Actions (B, [S,] T, A) as (B, S or 1, T, A); None for a model without actions, whatever the data has.

    Raises:
        ValueError: if they are missing, of another width or number of futures, or fewer than `needed`.
    """
    if not width:
        return None
    if actions is None:
        raise ValueError(
            f"the model needs actions of width {width} but the clips have none; use a data set with actions, or build "
            "the model with action_size=0."
        )
    if actions.shape[-1] != width:
        raise ValueError(
            f"the model was built for actions of width {width} but these have {actions.shape[-1]}; set action_size to "
            "the width of the data."
        )
    if actions.ndim not in (3, 4) or (actions.ndim == 4 and actions.shape[1] not in (1, samples)):
        raise ValueError(
            f"actions of shape {tuple(actions.shape)}; expected (B, T, {width}), or (B, {samples}, T, {width}) with "
            "actions of its own for every future."
        )
    if actions.shape[-2] < needed:
        raise ValueError(f"{actions.shape[-2]} actions where {needed} are needed, one for every frame that follows.")
    return actions if actions.ndim == 4 else actions[:, None]
