"""Films of imagined futures: what was filmed, what the model sees of it, how it might go on, and where things fly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from objectscape.scene import Decomposition, Scene
from objectscape.viz.palette import color_masks, palette
from objectscape.viz.tiles import clip_colors, enlarge, enlargement, to_tiles, unit

LARGEST, SMALLEST = 0.4, 0.002
"""Share of the pixels above which their owner counts as background and below which as empty: such have no track."""
IMAGINED, SEEN = (213, 94, 0), (200, 200, 200)
"""Frames of tiles that are imagined, and of those that are seen."""


def futures_video(
    scene: Scene, seen: Decomposition, futures: Decomposition, *, count: int = 3, shown: int = 3, pixels: int = 96
) -> list[np.ndarray]:
    """A film of clips and their futures, one row for each clip.

    Columns: the clip; what the model sees of it, frame by frame; its slots in their colors; some futures, which show
    what is seen until the context ends and then have a frame of another color; the mean of all futures; their
    standard deviation (white: half of the range); and tracks, the middles of the slots' masks: those seen as dots,
    those of all futures as lines, over the last frame of the context.

    Args:
        scene: (B, T, 3, H, W) clips.
        seen: what the model makes of them, (B, T, ...).
        futures: of `predict`, (B, S, steps, ...), begun after the first T - steps frames.
        count: clips drawn.
        shown: futures drawn.
        pixels: least length of a tile's longer side.

    Returns:
        T arrays (height, width, 3) uint8.

    Raises:
        ValueError: if there are more steps than frames after the first, or no time axis.
    """
    if scene.image.ndim != 5 or futures.recon.ndim != 6 or not 0 < futures.recon.shape[2] < scene.image.shape[1]:
        raise ValueError(
            f"scene.image has shape {tuple(scene.image.shape)}, futures.recon {tuple(futures.recon.shape)}; expected "
            "(B, T, 3, H, W) and (B, S, steps, 3, H, W) with fewer steps than T"
        )
    clips, frames = min(count, len(scene)), scene.image.shape[1]
    steps, shown = futures.recon.shape[2], min(shown, futures.recon.shape[1])
    context = frames - steps
    image, before = unit(Scene(image=scene.image[:clips]).pixels), unit(seen.recon[:clips])
    ahead = unit(futures.recon[:clips])  # (n, S, steps, 3, H, W)
    factor = enlargement(image.shape[-2], image.shape[-1], pixels)
    begun = before[:, None, :context].expand(-1, shown, -1, -1, -1, -1)
    some = torch.cat([begun, ahead[:, :shown]], 2)  # (n, shown, T, 3, H, W)
    mean = torch.cat([before[:, :context], ahead.mean(1)], 1)
    spread = torch.cat([torch.zeros_like(before[:, :context]), 2 * ahead.std(1, correction=0)], 1).clamp(0, 1)
    numbers = clip_colors(scene[:clips], seen.masks[:clips])  # (n, K)
    colors = color_masks(seen.masks[:clips].cpu(), numbers[:, None].expand(-1, frames, -1))
    tracks = _tracks(seen.masks[:clips, :context], futures.masks[:clips])
    film = []
    for t in range(frames):
        edge = IMAGINED if t >= context else SEEN
        columns = [(image[:, t], SEEN), (before[:, t], SEEN), (colors[:, t], SEEN)]
        columns += [(some[:, s, t], edge) for s in range(shown)]
        columns += [(mean[:, t], edge), (spread[:, t], edge)]
        tiles = [_framed(to_tiles(enlarge(picture, factor)), color) for picture, color in columns]
        ground = to_tiles(enlarge(1 - 0.5 * (1 - image[:, context - 1]), factor))  # paler, so that lines are seen
        drawn = [_draw_tracks(ground[n], tracks[n], palette(numbers[n]), t, context) for n in range(clips)]
        tiles.append(_framed(np.stack(drawn), edge))
        film.append(np.concatenate(list(np.concatenate(tiles, 2)), 0))
    names = ["clip", "seen", "slots", *(f"future {s + 1}" for s in range(shown)), "mean", "spread", "tracks"]
    return [_titled(frame, names) for frame in film]


def _tracks(seen: Tensor, futures: Tensor) -> list[Tensor]:
    """Of every clip, places (S, T, K, 2) in 0..1 of its slots: seen, the same for all S, then imagined; else NaN."""
    masks = torch.cat([seen[:, None].expand(-1, futures.shape[1], *seen.shape[1:]), futures], 2).float().cpu()
    weight = masks.squeeze(-3)  # (n, S, T, K, H, W)
    owned = torch.nn.functional.one_hot(weight.argmax(3), weight.shape[3])  # (n, S, T, H, W, K)
    share = owned.float().mean((3, 4))[..., None]  # (n, S, T, K, 1)
    rows, columns = ((torch.arange(length) + 0.5) / length for length in weight.shape[-2:])
    weight = weight / weight.sum((-2, -1), keepdim=True).clamp_min(1e-6)
    places = torch.stack([(weight.sum(-2) * columns).sum(-1), (weight.sum(-1) * rows).sum(-1)], -1)
    there = (share > SMALLEST) & (share < LARGEST)
    return list(places.masked_fill(~there, torch.nan))


def _draw_tracks(ground: np.ndarray, places: Tensor, palette: Tensor, now: int, context: int) -> np.ndarray:
    """Tracks of one clip, slot k in `palette[k]`, up to frame `now` over a picture (h, w, 3)."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(ground)
    pen = ImageDraw.Draw(picture)
    size = torch.tensor([ground.shape[1], ground.shape[0]])
    points = (places * size).tolist()
    colors = [tuple(color) for color in palette.tolist()]
    reach = max(1.5, ground.shape[0] / 48)
    for k, color in enumerate(colors):
        for path in points:
            for t in range(max(context, 1), now + 1):
                (x0, y0), (x1, y1) = path[t - 1][k], path[t][k]
                if x0 == x0 and x1 == x1:  # both are there
                    pen.line((x0, y0, x1, y1), fill=color, width=1)
        for t in range(min(now + 1, context)):
            x, y = points[0][t][k]
            if x == x:
                pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)
    return np.array(picture)


def _framed(tiles: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """(n, h, w, 3) with a frame of this color and a white margin."""
    edge = max(2, tiles.shape[1] // 48)
    wide = [(0, 0), (edge, edge), (edge, edge), (0, 0)]
    framed = np.empty((len(tiles), tiles.shape[1] + 2 * edge, tiles.shape[2] + 2 * edge, 3), np.uint8)
    framed[:] = color
    framed[:, edge:-edge, edge:-edge] = tiles
    return np.pad(framed, wide, constant_values=255)


def _titled(frame: np.ndarray, names: list[str]) -> np.ndarray:
    """A picture with a name above each of its columns of equal width."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(12)
    page = Image.new("RGB", (frame.shape[1], frame.shape[0] + 18), "white")
    page.paste(Image.fromarray(frame), (0, 18))
    for column, name in enumerate(names):
        ImageDraw.Draw(page).text((column * frame.shape[1] // len(names) + 4, 2), name, fill="black", font=font)
    return np.array(page)
