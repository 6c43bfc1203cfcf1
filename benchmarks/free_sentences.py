"""Do pictures drawn from free sentences show what was said? Class, cell of 3 x 3 and color family of 23 sentences.

    python -m benchmarks.free_sentences RUN [--out pictures.png]

RUN joins pictures (v) and words (t). Each sentence is drawn four times, with what it leaves open filled in at random,
as `objectscape translate -n 4` does. No network judges a picture: its class is that of the rendered shape that it
correlates with best (768 candidates at the centroid of the picture); the cell is that of the shape's center, and the
hue that of the mean color.

Floor: the same pictures judged by the other sentences. Ceiling: rendered shapes that fit the sentence well (near the
center of the cell, in the middle half of the color's hues), as the visual domain alone reconstructs them.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import math
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from objectscape.api import load
from objectscape.cli.translate import _read_text
from objectscape.data.synthetic.simple_shapes import SimpleShapes
from objectscape.data.synthetic.simple_shapes_render import CLASSES, render
from objectscape.scene import Multimodal

SENTENCES = json.loads(Path(__file__).with_name("free_sentences.json").read_text())
HUES = {"red": (-30, 30), "yellow": (38, 75), "green": (70, 170), "blue": (195, 268), "purple": (265, 335)}
"""Degrees of a color's family."""
LEAST_SATURATION = 0.12
SCORES = ("class", "cell", "color", "all")
DRAWS = 4
CENTERS = (10.0, 16.0, 22.0)
CELLS = ((0.0, 13.0), (13.0, 19.0), (19.0, 32.0))


def seen(picture: Tensor) -> tuple[int, float, float, float, float]:
    """Class, center x and y (upwards), hue in degrees and saturation of a (3, 32, 32) uint8 picture."""
    light = picture.float().amax(0)
    x, y = centroid(light[None])[0].tolist()
    turns, sizes = torch.arange(32) * math.pi / 16, torch.arange(7, 15)
    kind, turn, size = (t.flatten() for t in torch.meshgrid(torch.arange(3.0), turns, sizes.float(), indexing="ij"))
    white = torch.full((len(kind), 3), 255.0)
    middle = torch.full((len(kind),), 16.0)
    there = render(kind.long(), middle, middle, size, turn, white)[1].float()
    center = torch.tensor([x, y]) - (centroid(there) - 16)  # so that centroids agree
    cover = render(kind.long(), center[:, 0], center[:, 1], size, turn, white)[1].float().flatten(1)
    best = int(torch.nn.functional.cosine_similarity(cover, light.flatten()[None], dim=1).argmax())
    color = (picture.float() * light).sum((1, 2))
    hue, saturation, _ = colorsys.rgb_to_hsv(*(color / color.max().clamp_min(1)).tolist())
    return int(kind[best]), float(center[best, 0]), float(center[best, 1]), 360 * hue, saturation


def centroid(light: Tensor) -> Tensor:
    """(B, H, W) -> (B, 2) x and y (upwards) of the center of mass, pixels."""
    side = light.shape[-1]
    place = torch.arange(side) + 0.5
    mass = light.sum((1, 2)).clamp_min(1e-6)
    return torch.stack([(light.sum(1) * place).sum(1) / mass, side - (light.sum(2) * place).sum(1) / mass], 1)


def judge(what: tuple[int, float, float, float, float], sentence: list[Any]) -> dict[str, bool]:
    """Which of `SCORES` are right of what was seen."""
    kind, x, y, hue, saturation = what
    _, shape, cell, color = sentence
    low, high = HUES[color]
    right = {
        "class": CLASSES[kind] == shape,
        "cell": all(CELLS[c][0] <= v <= CELLS[c][1] for c, v in zip(cell, (x, y), strict=True)),
        "color": low <= (hue - 360 if hue > high + 180 else hue) <= high and saturation >= LEAST_SATURATION,
    }
    return {**right, "all": all(right.values())}


def drawn(model: Any, sentence: str) -> Tensor:
    """(DRAWS, 3, 32, 32) uint8 pictures of a sentence."""
    tokens = _read_text(sentence, DRAWS, random.Random(0), model.domain("t"))
    batch = Multimodal(domains={"t": tokens}, present={"t": torch.ones(DRAWS, dtype=torch.bool)})
    return model.decode(model.encode(batch, "t"), "v")


def fitting(model: Any, rows: Tensor, sentence: list[Any]) -> Tensor:
    """Rendered shapes that fit a sentence well, as the visual domain reconstructs them."""
    _, shape, cell, color = sentence
    low, high = HUES[color]
    middle = torch.tensor([CENTERS[c] for c in cell])
    near = (rows[:, 0] == CLASSES.index(shape)) & ((rows[:, 1:3] - middle).abs().amax(1) <= 1.0)
    fit = []
    for row in rows[near]:
        hue, saturation, bright = colorsys.rgb_to_hsv(*(row[5:8] / 255).tolist())
        off = abs((360 * hue - (low + high) / 2 + 180) % 360 - 180)  # degrees
        if saturation > 0.4 and bright > 0.45 and off < (high - low) / 4:
            fit.append(row)
    some = torch.stack(fit[:DRAWS])
    image = render(some[:, 0].long(), some[:, 1], some[:, 2], some[:, 3], some[:, 4], some[:, 5:8])[0]
    visual = model.domain("v")
    return visual.decode(visual.encode(image))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.free_sentences", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, help="a picture of the pictures, a sentence per row")
    options = parser.parse_args()
    model: Any = load(options.run).eval()
    attributes: Any = SimpleShapes(count=60000, seed=9, domains=["attr"]).batch(range(60000))
    rows = attributes.domains["attr"]
    found: dict[str, list[dict[str, bool]]] = {"drawn": [], "floor": [], "ceiling": []}
    strips = []
    with torch.no_grad():
        for sentence in SENTENCES:
            pictures = drawn(model, sentence[0])
            strips.append(torch.cat(list(pictures), 2))
            looks = [seen(picture) for picture in pictures]
            scores = [judge(look, sentence) for look in looks]
            found["drawn"] += scores
            found["floor"] += [judge(look, other) for look in looks for other in SENTENCES if other is not sentence]
            found["ceiling"] += [judge(seen(picture), sentence) for picture in fitting(model, rows, sentence)]
            wrong = [name for name in SCORES[:3] if sum(score[name] for score in scores) < DRAWS]
            print(f"{sentence[0]}{': wrong at times: ' + ', '.join(wrong) if wrong else ''}", flush=True)
    print("\n| | " + " | ".join(SCORES) + " |\n| --- |" + " --- |" * len(SCORES))
    for name, scores in found.items():
        shares = [sum(score[key] for score in scores) / len(scores) for key in SCORES]
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f}%" for share in shares) + " |")
    if options.out:
        from objectscape.viz import save_image

        grid = torch.cat(strips, 1).permute(1, 2, 0).numpy()
        save_image(grid.repeat(3, 0).repeat(3, 1), options.out)


if __name__ == "__main__":
    main()
