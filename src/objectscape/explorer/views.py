"""What the page draws: pictures as PNG in data URLs, and the few numbers beside them."""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from objectscape.data.pictures import fit, to_rgb
from objectscape.metrics.reconstruction import mse
from objectscape.metrics.segmentation import adjusted_rand_index, contingency, hungarian_miou
from objectscape.scene import Decomposition, Scene
from objectscape.viz.palette import SLOT_COLORS, color_segments

MOST = 24
"""Slots that are shown at most: a grid of cells has hundreds, nearly all of them empty."""
NOBODY = 255
"""In a map of owners: a pixel of a slot that is not shown."""

SIZES = (16, 512)
"""Sides in pixels between which a picture is brought if nothing is known of the model's images."""
PIXELS = 40_000_000
"""Largest picture that is read."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What a picture of the user may be: none of Pillow's rarer readers sees bytes from a browser."""
KEPT = 24
"""Pictures of the user that are remembered."""


class Pictures:
    """The last pictures of the user, by the hash of their bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Tensor, str]] = OrderedDict()

    def add(self, content: bytes, size: tuple[int, int] | None) -> dict[str, Any]:
        """Read a picture file into pixels of `size` (H, W), or of its own size if it is None.

        Returns:
            {"picture": its name}

        Raises:
            ValueError: if it is no picture, or too large a one.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below, by its size
                opened = Image.open(io.BytesIO(content), formats=FORMATS)
            width, height = opened.size
            if width * height > PIXELS:
                raise Image.DecompressionBombError(f"it has {width} x {height} pixels; at most {PIXELS:,} are read")
            opened.load()
            image = to_rgb(ImageOps.exif_transpose(opened))
        except Image.DecompressionBombError as error:
            raise ValueError(f"this picture is too large: {error}") from error
        except Exception as error:  # Pillow has a dozen types for damaged files
            raise ValueError(f"this is no picture that can be read: expected {', '.join(FORMATS)}") from error
        height, width = (min(max(side, SIZES[0]), SIZES[1]) for side in (image.height, image.width))
        wanted, note = size or (height, width), ""
        if (image.height, image.width) != wanted:
            note = f"cropped and resized from {image.width} x {image.height} to {wanted[1]} x {wanted[0]} pixels"
        pixels = torch.from_numpy(np.array(fit(image, wanted, resize="crop"))).movedim(-1, 0).contiguous()
        name = hashlib.sha256(content).hexdigest()[:16]
        self._kept[name] = (pixels, note)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return {"picture": name}

    def get(self, name: Any) -> tuple[Tensor, str]:
        """(3, H, W) uint8, and what was done to it.

        Raises:
            ValueError: if it is not here any more.
        """
        if name not in self._kept:
            raise ValueError("this picture is no longer here; drop or paste it again")
        return self._kept[name]


def png(pixels: Tensor) -> str:
    """(3, H, W) or (H, W), uint8 or in [0, 1], as a data URL."""
    if pixels.dtype != torch.uint8:
        pixels = (pixels.float().clamp(0, 1) * 255).round().byte()
    array = np.ascontiguousarray((pixels if pixels.ndim == 2 else pixels.movedim(0, -1)).cpu().numpy())
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=4)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def shown_slots(drawn: Decomposition) -> list[int]:
    """The slots of one scene (B = 1) that the page shows: all, or those that own most pixels of very many."""
    count = drawn.masks.shape[1]
    if count <= MOST:
        return list(range(count))
    owned = torch.bincount(drawn.segments[0].flatten(), minlength=count)
    return sorted(owned.topk(MOST).indices[owned.topk(MOST).values > 0].tolist())


def layers(drawn: Decomposition, slots: list[int]) -> dict[str, Any]:
    """One scene (B = 1) in parts: `recon`, `owners` (positions in `slots`), `components` and `masks` in columns.

    `share` of the pixels that each slot owns, and how `sure` it is of them: the mean of its mask there, None of none.
    """
    masks, components = drawn.masks[0, slots], drawn.components[0, slots]
    place = torch.full((drawn.masks.shape[1],), NOBODY, dtype=torch.uint8)
    place[slots] = torch.arange(len(slots), dtype=torch.uint8)
    owners = place.to(drawn.masks.device)[drawn.segments[0]]
    share = torch.stack([(owners == i).float().mean() for i in range(len(slots))])
    own = [masks[i, 0][owners == i] for i in range(len(slots))]
    return {
        "sure": [round(float(part.mean()), 3) if len(part) else None for part in own],
        "size": list(drawn.recon.shape[-2:]),
        "recon": png(drawn.recon[0]),
        "owners": png(owners),
        "components": png(torch.cat(list(components), 1)),  # (3, K H, W)
        "masks": png(torch.cat(list(masks[:, 0]), 0)),  # (K H, W)
        "share": [round(value, 4) for value in share.tolist()],
    }


def colors_of(slots: list[int]) -> list[str]:
    """The colors that these slots have in every picture of the library."""
    return [SLOT_COLORS[slot % len(SLOT_COLORS)] for slot in slots]


def scores_of(scene: Scene, drawn: Decomposition) -> dict[str, float]:
    """What a model reached on one scene (B = 1), where there is a truth to compare with."""
    scores = {"MSE": mse(scene.pixels, drawn.recon.clamp(0, 1)).item()}
    if scene.segments is not None:
        table = contingency(scene.segments, drawn.masks)
        found = {
            "ARI-FG": adjusted_rand_index(table),
            "ARI": adjusted_rand_index(table, foreground=False),
            "mIoU": hungarian_miou(table, foreground=False),
        }
        scores |= {name: value.item() for name, value in found.items()}
    return {name: float(f"{value:.4g}") for name, value in scores.items() if np.isfinite(value)}


def truth_of(scene: Scene) -> str | None:
    """The true segments of one scene (B = 1) in colors."""
    return None if scene.segments is None else png(color_segments(scene.segments[0]))
