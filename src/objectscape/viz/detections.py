"""What a detector finds: boxes over images, and a map of what it knows of the objects."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from objectscape.scene import Detections, Scene
from objectscape.viz.palette import SLOT_COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONFIDENT = 0.5
THUMBNAILS = 150


def detections_figure(
    scene: Scene, found: Detections, *, layers: Mapping[str, Tensor] | None = None, names: Sequence[str] = ()
) -> Figure:
    """Images with the boxes that were found (lines, with their confidence) and the true ones (white dots).

    Args:
        scene: (B, 3, H, W) images; `boxes` and `present` are drawn where there are any.
        found: of these images; those above .5 are drawn, in the color of their label if there is one.
        layers: {name: (B, 1 or 3, H, W) in [0, 1]} further rows, such as the motion map, alpha or the reconstruction.
        names: of the labels.
    """
    from matplotlib.figure import Figure

    count, _, height, width = scene.image.shape
    rows: dict[str, Tensor] = {"found": scene.pixels, **(layers or {})}
    figure = Figure(figsize=(2.2 * count + 0.3, 2.2 * len(rows) * height / width + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), count, squeeze=False)
    for row, (name, images) in enumerate(rows.items()):
        for column in range(count):
            axes = grid[row, column]
            axes.set(xticks=[], yticks=[])
            picture = images[column].clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0)
            axes.imshow(picture.numpy(), interpolation="nearest")
            if not row:
                _draw_boxes(axes, scene[column], found[column], names)
        grid[row, 0].set_ylabel(name)
    return figure


def detections_video(
    scene: Scene, found: Detections, *, layers: Mapping[str, Tensor] | None = None, scale: int = 2
) -> list[np.ndarray]:
    """Clips with the boxes that were found (colored) and the true ones (white), as frames of an animation.

    Args:
        scene: (B, T, 3, H, W) clips, one row each.
        found: of these clips.
        layers: {name: (B, T, 1 or 3, H, W) in [0, 1]} drawn beside each frame, in this order.
        scale: pixels of the animation per pixel of the clips.

    Returns:
        T arrays (height, width, 3) uint8.
    """
    from PIL import Image, ImageDraw

    def picture(pixels: Tensor) -> Image.Image:
        array = (pixels.clamp(0, 1).expand(3, -1, -1) * 255).round().byte().permute(1, 2, 0).numpy()
        return Image.fromarray(array).resize((array.shape[1] * scale, array.shape[0] * scale), Image.Resampling.NEAREST)

    def outline(draw: ImageDraw.ImageDraw, edges: Tensor, color: str) -> None:
        x0, y0, x1, y1 = (round(float(value) * scale) for value in edges)
        draw.rectangle([x0 - 1, y0 - 1, max(x1, x0), max(y1, y0)], outline=color)

    frames = []
    for t in range(scene.image.shape[1]):
        rows = []
        for clip in range(len(scene)):
            still, boxes = scene[clip, t], found[clip, t]
            image = picture(still.pixels)
            draw = ImageDraw.Draw(image)
            if still.boxes is not None:
                there = [True] * len(still.boxes) if still.present is None else still.present.bool().tolist()
                for edges, present in zip(still.boxes, there, strict=True):
                    if present:
                        outline(draw, edges, "#FFFFFF")
            for k in (boxes.confidence > CONFIDENT).nonzero()[:, 0].tolist():
                outline(draw, boxes.boxes[k], _color(0 if boxes.labels is None else int(boxes.labels[k])))
            beside = [picture(layer[clip, t]) for layer in (layers or {}).values()]
            rows.append(np.concatenate([np.asarray(tile) for tile in (image, *beside)], 1))
        frames.append(np.concatenate(rows, 0))
    return frames


def _draw_boxes(axes: Axes, scene: Scene, found: Detections, names: Sequence[str]) -> None:
    """Boxes of one image, which lacks the B axis."""
    from matplotlib.patches import Rectangle

    def box(edges: Tensor, **style: object) -> None:
        x0, y0, x1, y1 = (float(v) - 0.5 for v in edges)
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **style))  # type: ignore[arg-type]

    if scene.boxes is not None:
        present = torch.ones(len(scene.boxes)) if scene.present is None else scene.present
        for edges, there in zip(scene.boxes, present, strict=True):
            if there:
                box(edges, ec="white", lw=0.8, ls=":")
    for k in (found.confidence > CONFIDENT).nonzero()[:, 0].tolist():
        label = None if found.labels is None else int(found.labels[k])
        color = SLOT_COLORS[0 if label is None else label % len(SLOT_COLORS)]
        box(found.boxes[k], ec=color, lw=1.0)
        text = f"{float(found.confidence[k]):.2f}" if label is None else (names[label] if names else str(label))
        x, y = float(found.boxes[k, 0]), float(found.boxes[k, 1])
        axes.text(x, y - 1.5, text, color=color, fontsize=4.5, clip_on=True)


def latent_map_figure(
    latents: Tensor,
    labels: Tensor,
    glimpses: Tensor,
    names: Mapping[int, str],
    *,
    method: Literal["pca", "tsne"] = "pca",
    seed: int = 0,
) -> Figure:
    """Objects on a map where alike latents are near: points in the color of the class, beside it glimpses.

    Args:
        latents: (P, D), at least three.
        labels: (P,) int64
        glimpses: (P, 3, h, w) in [0, 1], what each object looks like; a hundred and fifty of them are drawn.
        names: of the labels.
        method: principal components, or t-SNE.
        seed: of t-SNE.

    Raises:
        ValueError: with fewer than three objects.
    """
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    _check_count(latents)
    places = _plane(latents, method, seed)
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    points, pictures = figure.subplots(1, 2)
    for label in labels.unique().tolist():
        chosen = labels == label
        points.scatter(
            *places[chosen].T.numpy(), s=7, color=_color(label), label=f"{names.get(label, label)} ({chosen.sum()})"
        )
    points.legend(fontsize=8, markerscale=2)
    pictures.scatter(*places.T.numpy(), s=0)
    every = math.ceil(len(places) / THUMBNAILS)
    for place, glimpse in zip(places[::every].tolist(), glimpses[::every], strict=True):
        image = OffsetImage(glimpse.permute(1, 2, 0).clamp(0, 1).numpy(), zoom=16 / glimpse.shape[-1])
        pictures.add_artist(AnnotationBbox(image, place, frameon=False))
    for axes in (points, pictures):
        axes.set(xticks=[], yticks=[])
    points.set_title("principal components" if method == "pca" else "t-SNE")
    pictures.set_title("what is there")
    return figure


def latent_map_page(
    latents: Tensor,
    labels: Tensor,
    glimpses: Tensor,
    names: Mapping[int, str],
    *,
    method: Literal["pca", "tsne"] = "pca",
    seed: int = 0,
) -> str:
    """The map of `latent_map_figure` as a page for a browser: under the pointer, an object shows its glimpse and class.

    The arguments are the same, and so are the errors. The page is one file without scripts.
    """
    _check_count(latents)
    places = _plane(latents, method, seed)
    low, high = places.amin(0), places.amax(0)
    shares = ((places - low) / (high - low).clamp_min(1e-12) * 94 + 3).tolist()  # percent of the map
    legend, dots = [], []
    for label in labels.unique().tolist():
        name = escape(str(names.get(label, label)))
        legend.append(f'<li style="--c:{_color(label)}">{name} ({int((labels == label).sum())})</li>')
    for (x, y), label, glimpse in zip(shares, labels.tolist(), glimpses, strict=True):
        name = escape(str(names.get(label, label)))
        side = "left" if x < 80 else "right"
        dots.append(
            f'<i style="--c:{_color(label)};left:{x:.2f}%;top:{100 - y:.2f}%">'
            f'<b style="{side}:10px"><img src="{_data_uri(glimpse)}" alt="">{name}</b></i>'
        )
    title = "principal components" if method == "pca" else "t-SNE"
    return _PAGE.format(title=title, legend="".join(legend), dots="\n".join(dots))


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Objects by appearance: {title}</title>
<style>
body {{ font: 14px system-ui, sans-serif; margin: 1em; color: #222; background: #fff }}
ul {{ list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0 1.5em }}
li::before {{ content: "\\25cf\\a0"; color: var(--c) }}
main {{ position: relative; width: min(96vw, 88vh); aspect-ratio: 1; border: 1px solid #ccc }}
i {{ position: absolute; width: 8px; height: 8px; margin: -4px; border-radius: 50%;
  background: var(--c); opacity: .75 }}
i b {{ display: none; position: absolute; bottom: 10px; padding: 4px; background: #fff; border: 2px solid var(--c);
  pointer-events: none; font: 12px system-ui, sans-serif; text-align: center }}
i:hover {{ z-index: 1; opacity: 1 }}
i:hover b {{ display: block }}
img {{ display: block; width: 96px; height: 96px; image-rendering: pixelated }}
</style>
<h1>Objects by appearance: {title}</h1>
<p>Put the pointer on an object to see it.</p>
<ul>{legend}</ul>
<main>
{dots}
</main>
</html>
"""


def _color(label: int) -> str:
    return "#B0B0B0" if label < 0 else SLOT_COLORS[label % len(SLOT_COLORS)]


def _data_uri(image: Tensor) -> str:
    """(3, h, w) in [0, 1] as a PNG inside the page."""
    from PIL import Image

    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _check_count(latents: Tensor) -> None:
    if len(latents) < 3:
        raise ValueError(f"a map of {len(latents)} objects; at least 3 are needed, so draw more scenes with -n")


def _plane(latents: Tensor, method: str, seed: int) -> Tensor:
    """(P, 2)"""
    centered = latents.double() - latents.double().mean(0)
    if method == "pca":
        return centered @ torch.linalg.svd(centered, full_matrices=False)[2][:2].T
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(latents) - 1) / 3)
    return torch.from_numpy(TSNE(2, perplexity=perplexity, random_state=seed).fit_transform(centered.numpy()))
