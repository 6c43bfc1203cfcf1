"""The raster side of the pictures: small images enlarged to crisp tiles, and a fast grid of them without matplotlib.

Tiles are (n, h, w, 3) uint8 NumPy arrays, n scenes; images are enlarged by a whole factor (nearest), so that each
pixel stays a square and outlines can be thinner than a pixel of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from objectscape.scene import Decomposition, Scene
from objectscape.viz.matching import colors_of_slots
from objectscape.viz.palette import color_masks, color_segments, color_slots, palette

Tiles = np.ndarray
CHECKER = (255, 228)
"""Gray levels of the checkerboard that stands where a slot is not at all."""
ABSENT = 0.01
"""Below this mask a slot is not there; where it is in part, its color is paler, on plain gray."""


@dataclass(kw_only=True)
class Panel:
    """One column of a decomposition picture."""

    name: str
    tiles: Tiles
    """(n, h, w, 3) uint8."""
    slot: int | None = None
    """Slot that the tiles show; None for a panel about all of them."""
    colors: list[int] | None = None
    """Number of the color that frames each tile, in `SLOT_COLORS`; None for no frames."""


@dataclass(kw_only=True)
class Parts:
    """The first `count` scenes of a decomposition, on the CPU, in [0, 1], at the size of the tiles."""

    recon: Tensor
    """(n, 3, h, w)."""
    masks: Tensor
    """(n, K, 1, h, w)."""
    components: Tensor
    """(n, K, 3, h, w)."""


def enlargement(height: int, width: int, pixels: int) -> int:
    """The whole factor that makes the longer side at least `pixels` long."""
    return max(1, -(-pixels // max(height, width)))


def enlarge(image: Tensor, factor: int) -> Tensor:
    """(..., H, W) -> (..., factor * H, factor * W), nearest."""
    return image.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def unit(image: Tensor) -> Tensor:
    """Float32 on the CPU in [0, 1]; what is not a number becomes black."""
    return torch.nan_to_num(image.detach().float().cpu(), nan=0.0).clamp(0, 1)


def to_tiles(image: Tensor) -> Tiles:
    """(..., 3, h, w) uint8, or float in [0, 1], -> (..., h, w, 3) uint8 array."""
    if image.dtype != torch.uint8:
        image = (image * 255).round().to(torch.uint8)
    return image.movedim(-3, -1).contiguous().numpy()


def refuse_video(name: str, image: Tensor) -> None:
    """Raise if `image` has a time axis."""
    if image.ndim == 5:
        raise ValueError(
            f"{name} has shape {tuple(image.shape)}: a time axis. Pass scene[i] and output[i] to draw the frames of "
            "clip i as rows, or make an animation with objectscape.viz.decomposition_video(scene, output)."
        )


def parts_of(output: Decomposition, count: int, pixels: int) -> Parts:
    """The first `count` scenes of `output` as tiles.

    Raises:
        ValueError: if `count` is below 1, the output has a time axis, or its fields disagree in shape.
    """
    if count < 1:
        raise ValueError(f"count={count}; draw at least one scene")
    refuse_video("output.recon", output.recon)
    b, _, height, width = output.recon.shape
    k = output.masks.shape[1]
    if output.masks.shape != (b, k, 1, height, width) or output.components.shape != (b, k, 3, height, width):
        raise ValueError(
            f"output.recon is {tuple(output.recon.shape)}, output.masks {tuple(output.masks.shape)}, output.components "
            f"{tuple(output.components.shape)}; expected (B, 3, H, W), (B, K, 1, H, W) and (B, K, 3, H, W)"
        )
    factor = enlargement(height, width, pixels)
    fields = (enlarge(unit(field[:count]), factor) for field in (output.recon, output.masks, output.components))
    return Parts(**dict(zip(("recon", "masks", "components"), fields)))


def checkerboard(height: int, width: int) -> Tensor:
    """(height, width) light checkerboard in [0, 1], about twelve cells along the longer side."""
    cell = max(1, max(height, width) // 12)
    y, x = torch.arange(height)[:, None] // cell, torch.arange(width) // cell
    light, dark = CHECKER
    return torch.where((x + y) % 2 == 0, light / 255, dark / 255)


def ground(mask: Tensor) -> Tensor:
    """What stands behind a mask (..., 1, h, w): the checkerboard where it is absent, plain gray where it is in part."""
    plain = sum(CHECKER) / 2 / 255
    return torch.where(mask < ABSENT, checkerboard(*mask.shape[-2:]), plain)


def composite(picture: Tensor, mask: Tensor) -> Tensor:
    """`picture` (..., 3, h, w) where `mask` (..., 1, h, w) is one, paler where less, a checkerboard where zero."""
    return torch.where(mask < ABSENT, ground(mask), mask * picture + (1 - mask) * ground(mask))


def outline(image: Tensor, segments: Tensor, numbers: Tensor | None = None) -> Tensor:
    """The image with the border of each segment drawn just inside it, in the slot's color.

    Args:
        image: (n, 3, h, w) in [0, 1].
        segments: (n, h, w) slot numbers.
        numbers: (n, K) of the slots' colors; None for their own numbers.
    """
    ids = segments.float()[:, None]  # (n, 1, h, w)
    reach = max(1, round(max(image.shape[-2:]) / 64))
    highest, lowest = (sign * F.max_pool2d(sign * ids, 2 * reach + 1, 1, reach) for sign in (1, -1))
    border = (highest != ids) | (lowest != ids)  # some pixel within reach belongs to another segment
    return torch.where(border, color_slots(segments, numbers).float() / 255, image)


def shown_slots(masks: Tensor, most: int, *, least: float = 0.0) -> list[int]:
    """The at most `most` slots with the largest masks over all scenes, in order of their number. masks (n, K, ...).

    Those whose mask nowhere reaches `least` are left out, if any other is left.
    """
    areas = masks.flatten(2).sum(-1).sum(0)  # (K,)
    found = areas.argsort(descending=True, stable=True)[:most].tolist()
    there = [k for k in found if float(masks[:, k].max()) >= least]
    return sorted(there or found)


def decomposition_panels(
    scene: Scene,
    output: Decomposition,
    *,
    count: int,
    pixels: int,
    max_slots: int,
    colors: Tensor | None = None,
    least: float = 0.0,
) -> list[Panel]:
    """The columns of a decomposition picture: image, truth, reconstruction, masks, segments, outlines, every slot.

    Args:
        scene: images, with the truth if it is known.
        output: what was made of them.
        count: scenes, the first ones.
        pixels: least length of a tile's longer side.
        max_slots: slots that are shown, those with the largest masks.
        colors: (n, K) number of each slot's color; None for `colors_of_slots`.
        least: a slot whose mask nowhere reaches this is left out.
    """
    refuse_video("scene.image", scene.image)
    if scene.image.shape != output.recon.shape:
        raise ValueError(
            f"scene.image has shape {tuple(scene.image.shape)} but output.recon {tuple(output.recon.shape)}; "
            "pass the batch that the model was called with"
        )
    parts = parts_of(output, count, pixels)
    factor = parts.recon.shape[-1] // scene.image.shape[-1]
    image = enlarge(unit(Scene(image=scene.image[:count]).pixels), factor)
    panels = [Panel(name="image", tiles=to_tiles(image))]
    if scene.segments is not None:
        truth = color_segments(scene.segments[:count].cpu())
        panels.append(Panel(name="truth", tiles=to_tiles(enlarge(truth, factor))))
    if colors is None:
        colors = colors_of_slots(output.masks[:count], None if scene.segments is None else scene.segments[:count])
    owners = parts.masks.squeeze(2).argmax(1)  # (n, h, w)
    drawn = composite(parts.components, parts.masks)  # (n, K, 3, h, w)
    panels += [
        Panel(name="reconstruction", tiles=to_tiles(parts.recon)),
        Panel(name="masks", tiles=to_tiles(color_masks(parts.masks, colors))),
        Panel(name="segments", tiles=to_tiles(color_slots(owners, colors))),
        Panel(name="outlines", tiles=to_tiles(outline(image, owners, colors))),
    ]
    for k in shown_slots(parts.masks, max_slots, least=least):
        panels.append(Panel(name=f"slot {k}", tiles=to_tiles(drawn[:, k]), slot=k, colors=colors[:, k].tolist()))
    return panels


def clip_panels(
    scene: Scene, output: Decomposition, clip: int, *, frames: int, pixels: int, max_slots: int, least: float = 0.0
) -> list[Panel]:
    """The panels of `decomposition_panels` for the frames of one clip, at most `frames` of them, evenly spaced."""
    time = scene.image.shape[1]
    if output.recon.shape[:2] != scene.image.shape[:2]:
        raise ValueError(
            f"scene.image has shape {tuple(scene.image.shape)} but output.recon {tuple(output.recon.shape)}; pass the "
            "clips that the model was called with"
        )
    times = torch.linspace(0, time - 1, min(time, frames)).round().long()
    # only the fields that are drawn: a model's own extras need not have a time axis
    now = Decomposition(
        recon=output.recon[clip, times],
        masks=output.masks[clip, times],
        components=output.components[clip, times],
        slots=output.slots[clip, times],
    )
    segments = None if scene.segments is None else scene.segments[clip, times]
    still = Scene(image=scene.image[clip, times], segments=segments)
    colors = clip_colors(scene[clip : clip + 1], output.masks[clip : clip + 1]).expand(len(times), -1)
    return decomposition_panels(
        still, now, count=len(times), pixels=pixels, max_slots=max_slots, colors=colors, least=least
    )


def clip_colors(scene: Scene, masks: Tensor) -> Tensor:
    """(n, K) number of each slot's color in whole scenes or clips, by their truth if there is one."""
    return colors_of_slots(masks, scene.segments)


def decomposition_array(
    scene: Scene,
    output: Decomposition,
    count: int = 8,
    *,
    pixels: int = 96,
    max_slots: int = 16,
    frames: int = 12,
    colors: Tensor | None = None,
) -> np.ndarray:
    """A decomposition picture without text, fast enough for every validation step: one row per scene.

    Columns: image, ground truth if known, reconstruction, masks as colors, segments filled and as outlines over the
    image, then each slot on a checkerboard in a frame of its color: with a truth, that of the object it matches.
    Clips lie on their side: frames are columns, and every clip has a row for each of these. The size depends only on
    the shapes and on `count`, so that pictures of one run make an animation.

    Args:
        scene: (B, [T,] 3, H, W) images.
        output: what the model made of them.
        count: scenes drawn, the first ones of the batch.
        pixels: least length of a tile's longer side.
        max_slots: if there are more slots, those with the largest masks are shown.
        frames: of a clip that are drawn, evenly spaced.
        colors: (n, K) number of each slot's color, of images; None for `colors_of_slots`.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ValueError: if shapes disagree, or if `count` is below 1.
    """
    if scene.image.ndim == 5 and count >= 1:
        clips = [
            clip_panels(scene, output, i, frames=frames, pixels=pixels, max_slots=max_slots)
            for i in range(min(count, len(scene)))
        ]
        return np.concatenate([_grid(panels, sideways=True) for panels in clips])
    return _grid(decomposition_panels(scene, output, count=count, pixels=pixels, max_slots=max_slots, colors=colors))


def _grid(panels: list[Panel], *, sideways: bool = False) -> np.ndarray:
    """Panels as columns (`sideways`: as rows) of one picture, their tiles as rows (columns)."""
    n, h, w, _ = panels[0].tiles.shape
    edge = max(2, h // 32)  # width of the frames and of the gaps between them
    grid = np.full((n, h + 3 * edge, len(panels), w + 3 * edge, 3), 255, dtype=np.uint8)
    for column, panel in enumerate(panels):
        if panel.colors is not None:
            frame = palette(torch.tensor(panel.colors)).numpy()[:, None, None]
            grid[:, : h + 2 * edge, column, : w + 2 * edge] = frame
        grid[:, edge : edge + h, column, edge : edge + w] = panel.tiles
    if sideways:
        grid, n = grid.transpose(2, 1, 0, 3, 4), len(panels)
    rows = grid.reshape(n * (h + 3 * edge), -1, 3)
    return np.pad(rows, ((edge, 0), (edge, 0), (0, 0)), constant_values=255)
