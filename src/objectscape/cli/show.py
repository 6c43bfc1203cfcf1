"""objectscape show: pictures of a run, a data set, or your own image."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import build_split, data_config, default_device, note, open_model, split_words, trained_size
from objectscape.scene import Scene
from objectscape.viz import (
    dataset_figure,
    decomposition_figure,
    learning_curves,
    load_image,
    save_animation,
    save_figure,
    training_progress,
)


def main(words: list[str]) -> int:
    """Parse the command line, draw, save and say where."""
    parser = argparse.ArgumentParser(
        prog="objectscape show",
        description="Draw how a trained model decomposes scenes, or what a data set looks like.",
        epilog="examples:\n"
        "  objectscape show RUN                          # test scenes: image, reconstruction, masks, every slot\n"
        "  objectscape show RUN my_picture.png           # one picture of yours\n"
        "  objectscape show RUN data=multi_dsprites\n"
        "  objectscape show data=tetrominoes             # samples with ground truth",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="RUN | PICTURE | key=value")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("-n", type=int, default=8, help="scenes (default 8)")
    parser.add_argument("--out", type=Path, help="file to write (.png, .pdf, .svg)")
    parser.add_argument("--seed", type=int, default=0, help="of the model's random draws")
    parser.add_argument("--device", default=default_device())
    options = parser.parse_intermixed_args(words)
    paths = [Path(word) for word in options.words if "=" not in word]
    settings = [word for word in options.words if "=" in word]
    if not paths:
        return show_data(settings, options)
    run = RunFolder.open(paths[0])
    if len(paths) > 1:
        scene, name = read_pictures(paths[1:]), paths[1].stem
        model_words, _ = split_words(settings)
    else:
        model_words, data_words = split_words(settings)
        dataset = build_split(data_config(run, data_words), options.split)
        scene = dataset.batch(list(range(min(options.n, len(dataset)))))
        name = f"{dataset.spec.name}-{options.split}"
    return show_run(run, scene, name, model_words, options, own=len(paths) > 1)


def show_data(settings: list[str], options: argparse.Namespace) -> int:
    """Samples of a data set with their ground truth."""
    dataset = build_split(data_config(None, settings), options.split)
    scene = dataset.batch(list(range(min(options.n, len(dataset)))))
    out = options.out or Path(f"{dataset.spec.name}-{options.split}.png")
    save_figure(dataset_figure(scene, count=options.n), out)
    print(out)
    return 0


def show_run(
    run: RunFolder, scene: Scene, name: str, model_words: dict[str, str], options: argparse.Namespace, *, own: bool
) -> int:
    """A run's decompositions; its learning curves and the animation of its training, too, if it has them."""
    from objectscape.evaluation.report import write_readme

    model = open_model(run.path, model_words).to(options.device)
    if own:
        scene = fit_pictures(scene, getattr(model, "image_size", None) or trained_size(run.path))
    torch.manual_seed(options.seed)
    moved = scene.to(options.device)
    with torch.no_grad():
        output = model(replace(moved, image=moved.pixels)).to("cpu")
    out = options.out or run.figures / f"decomposition-{name}.png"
    print(save_figure(decomposition_figure(scene, output, count=len(scene)), out))
    if not own and not options.out:
        if (run.path / "metrics.csv").is_file():
            print(save_figure(learning_curves(run.path / "metrics.csv"), run.figures / "learning_curves.png"))
        if list((run.figures / "training").glob("*.png")):
            frames = training_progress(run.figures / "training")
            print(save_animation(frames, run.figures / "training.gif", fps=4, hold=2))
        write_readme(run)
    return 0


def read_pictures(paths: list[Path]) -> Scene:
    """Picture files as a batch of one size: that of the first."""
    images = [load_image(path) for path in paths]
    size = tuple(images[0].shape[-2:])
    return Scene(image=torch.stack([_resize(image, size) for image in images]))


def fit_pictures(scene: Scene, side: int | tuple[int, int] | None) -> Scene:
    """The pictures, cropped at the center to the model's aspect and resized to its size."""
    if side is None:
        return scene
    size = (side, side) if isinstance(side, int) else (side[0], side[1])
    h, w = scene.image.shape[-2:]
    scale = min(h / size[0], w / size[1])
    crop_h, crop_w = round(size[0] * scale), round(size[1] * scale)
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    cropped = scene.image[..., top : top + crop_h, left : left + crop_w]
    if (h, w) != size:
        note(f"the picture is cropped and resized from {h}x{w} to the model's {size[0]}x{size[1]}")
    return Scene(image=_resize(cropped, size))


def _resize(image: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    batch = image.float().reshape(-1, *image.shape[-3:])
    resized = torch.nn.functional.interpolate(batch, size=tuple(size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8).reshape(*image.shape[:-2], *size)
