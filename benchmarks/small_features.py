"""Trains the small feature network and writes the weights that are part of the package.

    OMP_NUM_THREADS=1 python benchmarks/small_features.py src/objectscape/metrics/weights/small_features.safetensors

The task: from the 64 mean features, one linear layer must say how many objects of each shape and color are visible in
Colored Shapes (half of the images with a random plain background) and of each form and each color in Tetrominoes.
About three minutes on one CPU core. The same seed gives the same weights on the same machine and version of torch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.data.synthetic.shapes import SHAPES, ColoredShapes
from objectscape.data.synthetic.tetrominoes import COLORS, FORMS, Tetrominoes
from objectscape.nn.small_features import SmallFeatures
from objectscape.scene import Scene
from objectscape.seeding import derive_generator

SEED, STEPS, BATCH = 0, 1000, 64
KINDS = len(SHAPES) * len(COLORS)


def color_index(color: Tensor) -> Tensor:
    """RGB of zeros and ones (..., 3) -> number in `COLORS`; rows of zeros (no object) -> 0."""
    return (color.unsqueeze(-2) == COLORS.to(color)).all(-1).long().argmax(-1)


def shapes_batch(data: ColoredShapes, step: int) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) in [0, 1] and counts (B, 18)."""
    scene = data.stream(step, BATCH)
    generator = derive_generator(SEED, "background", data.split, step)
    color = torch.randint(0, 256, (BATCH, 3, 1, 1), generator=generator, dtype=torch.uint8)
    color[::2] = 0
    image = torch.where(scene.segments[:, None] == 0, color, scene.image)  # type: ignore[index]
    return Scene(image=image).pixels, shape_counts(scene)


def shape_counts(scene: Scene) -> Tensor:
    assert scene.labels is not None
    assert scene.present is not None
    assert scene.factors is not None
    kind = scene.labels * len(COLORS) + color_index(scene.factors["color"])  # (B, N)
    return (F.one_hot(kind, KINDS) * scene.present.unsqueeze(-1)).sum(1).float()


def pieces_batch(data: Tetrominoes, step: int) -> tuple[Tensor, Tensor]:
    """Images and counts (B, 19 + 6)."""
    scene = data.stream(step, BATCH)
    assert scene.labels is not None
    assert scene.factors is not None
    forms = F.one_hot(scene.labels, len(FORMS)).sum(1)
    colors = F.one_hot(color_index(scene.factors["color"]), len(COLORS)).sum(1)
    return scene.pixels, torch.cat([forms, colors], 1).float()


def explained(prediction: Tensor, truth: Tensor) -> float:
    """Share of the variance of the counts that is predicted."""
    return float(1 - (prediction - truth).square().sum() / (truth - truth.mean(0)).square().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    network = SmallFeatures()
    heads = nn.ModuleList([nn.Linear(network.dim, KINDS), nn.Linear(network.dim, len(FORMS) + len(COLORS))])
    parameters = [*network.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=options.steps)
    shapes, pieces = ColoredShapes(seed=SEED), Tetrominoes(seed=SEED)
    start = time.perf_counter()
    for step in range(options.steps):
        (x1, y1), (x2, y2) = shapes_batch(shapes, step), pieces_batch(pieces, step)
        inputs = torch.cat([network.preprocessing(x1), network.preprocessing(x2)])  # one batch for the norms
        features = network.layers(inputs).mean((2, 3)).split(BATCH)
        errors = [(head(f) - y).square().sum(1).mean() for head, f, y in zip(heads, features, (y1, y2))]
        loss = torch.stack(errors).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: loss {float(loss.detach()):.3f}, {time.perf_counter() - start:.0f} s", flush=True)
    network.eval()
    with torch.no_grad():
        for name, head, (x, y) in (
            ("Colored Shapes", heads[0], shapes_batch(ColoredShapes(seed=SEED, split="test"), 0)),
            ("Tetrominoes", heads[1], pieces_batch(Tetrominoes(seed=SEED, split="test"), 0)),
        ):
            print(
                f"{name}: {explained(head(network(x)), y):.1%} of the variance of the counts explained on test scenes"
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes, {sum(p.numel() for p in network.parameters())} weights")


if __name__ == "__main__":
    main()
