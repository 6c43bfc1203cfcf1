"""What `objectscape show` draws: pictures of a run, a data set, or your own image."""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import nn

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import (
    build_split,
    data_config,
    errors,
    note,
    open_model,
    split_words,
    trained_size,
)
from objectscape.cli.domain_pictures import show_domains
from objectscape.contract import Predicts, continue_clips, see
from objectscape.data.atari.labels import class_names
from objectscape.data.loading import EvalLoader
from objectscape.data.pictures import TRANSPARENCY, check_fit_options, fit, printable, read_rgb
from objectscape.evaluation.edits import interpolate, object_slots, redraw, swap_objects
from objectscape.evaluation.pictures import about, curve_keys, decoded_stages, object_traversals, remarks, row_titles
from objectscape.evaluation.questions.detect import find, visible_objects
from objectscape.evaluation.report import write_readme
from objectscape.evaluation.results import file_name
from objectscape.evaluation.traversals import Latents, activeness, infer_latents
from objectscape.files import ANIMATIONS, FIGURE_FORMATS, read_json, write_text
from objectscape.metrics.activeness import latent_ranges, traversal_limits
from objectscape.metrics.detection import CONFIDENT, match_labels
from objectscape.nn.spatial_transformer import extract, where_of
from objectscape.scene import Decomposition, Multimodal, Scene
from objectscape.training.logs import read_csv
from objectscape.viz import (
    caption_figure,
    caption_frames,
    clip_frames,
    colors_of_slots,
    dataset_figure,
    decomposition_figure,
    decomposition_video,
    detections_figure,
    detections_video,
    futures_video,
    interpolation_figure,
    latent_map_figure,
    latent_map_page,
    learning_curves,
    refinement_figure,
    refinement_frames,
    save_animation,
    save_figure,
    swap_figure,
    training_progress,
    traversal_figure,
    traversal_frames,
)
from objectscape.viz.edits import dimension_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GLIMPSE = 16  # pixels of a found object on a map
FUTURES = 16  # that a film's mean, spread and tracks are of
DEAD = 0.01  # share of the most active dimension's activeness below which one is dead
STILL = 1e-6  # activeness of a change of a thousandth in the brightness of the whole picture
RANGE_SCENES = 100  # as the released code of EfficientMORL


@dataclass(frozen=True)
class Show:
    """What is to be drawn of a run, and where to."""

    run: RunFolder
    model: nn.Module
    scene: Scene
    """(n, [T,] 3, H, W) with float images, on the model's device."""
    name: str
    """Of the scenes, for file names."""
    data_words: list[str]
    own: bool
    """The scenes are the user's own pictures."""
    options: argparse.Namespace
    data: str = ""
    """The scenes in words."""
    fps: float = 5.0
    """Frames per second of clips."""
    classes: Sequence[str] = ()
    """Names of the scenes' labels, where the data tell."""
    known: tuple[str, ...] = ()
    """What is to be said of the model before its pictures."""
    question: str = ""
    """What was asked: words and options."""

    def save(self, figure: Figure, path: Path, *, about: str | None = None) -> None:
        """Write a figure with what it is about below it, and say where."""
        text = "\n".join([about or self.about, *self.known])
        print(save_figure(caption_figure(figure, text), path))

    def film(self, frames: list[np.ndarray], path: Path, *, fps: float, hold: float = 0.0) -> None:
        """Write an animation with what it is about below it, and say where; a single frame is no film."""
        if len(frames) < 2 and self.options.out is None:
            return
        print(save_animation(caption_frames(frames, "\n".join([self.about, *self.known])), path, fps=fps, hold=hold))

    @property
    def about(self) -> str:
        """Which run, step, model and data a picture shows."""
        return about(self.run, self.model, self.data)

    @property
    def clips(self) -> bool:
        """The scenes have a time axis."""
        return self.scene.image.ndim == 5

    def path(self, stem: str, suffix: str = ".png", mark: str = "") -> Path:
        """Where a picture goes; `mark` tells those of one kind apart."""
        if self.options.out:
            return self.options.out.with_stem(self.options.out.stem + mark)
        return free_figure(self.run.figures, f"{stem}-{self.name}{mark}", suffix, self.question)

    def wants(self, *suffixes: str) -> bool:
        """Is a file of this kind asked for? Without --out, every kind is."""
        return self.options.out is None or self.options.out.suffix.lower() in suffixes

    def pairs(self, most: int) -> tuple[Scene, Scene]:
        """The scenes, two by two."""
        count = min(len(self.scene) // 2, most)
        if not count:
            raise ValueError("pictures of pairs need at least two scenes")
        return self.scene[0 : 2 * count : 2], self.scene[1 : 2 * count : 2]


QUESTION = ("split", "first", "n", "seed", "context", "dimensions", "steps", "range", "images", "map")
"""Options of `show` that change a picture."""
ASKED = "asked.json"


def free_figure(folder: Path, name: str, suffix: str, question: str) -> Path:
    """FOLDER/NAME.SUFFIX, with a number if a figure of that name answers another question: it stays."""
    record = folder / ASKED
    asked = read_json(record) if record.is_file() else {}
    names = (f"{name}{f'-{i}' if i > 1 else ''}{suffix}" for i in itertools.count(1))
    free = next(n for n in names if not (folder / n).is_file() or asked.get(n, question) == question)
    write_text(record, json.dumps({**asked, free: question}, indent=0))
    return folder / free


def show_data(settings: list[str], options: argparse.Namespace) -> int:
    """Samples of a data set with their ground truth."""
    dataset = build_split(data_config(None, settings), options.split)
    scene = dataset.batch(_numbers(options.first, options.n or 8, len(dataset)))
    out = options.out or Path(f"{file_name(dataset.spec.name)}-{options.split}.png")
    if out.suffix.lower() in ANIMATIONS and scene.image.ndim == 4:
        raise ValueError(f"--out {out}: {dataset.spec.name} has still images; a film needs clips. Give --out FILE.png")
    if out.suffix.lower() in ANIMATIONS:
        print(save_animation(clip_frames(scene), out, fps=dataset.spec.fps or 5.0, hold=1))
        return 0
    columns = 8
    if scene.image.ndim == 5:  # the frames of a clip, or the views of a room, side by side
        columns = scene.image.shape[1]
        scene = scene.fold_time()
    words = "".join(f", {word.removeprefix('data.')}" for word in settings if not word.startswith("data="))
    text = f"{dataset.spec.name} ({options.split}) from {options.first}{words}"
    print(save_figure(caption_figure(dataset_figure(scene, count=len(scene), columns=columns), text), out))
    return 0


def show_run(paths: list[Path], settings: list[str], kinds: list[str], options: argparse.Namespace) -> int:
    """The kinds of pictures of a run that are asked for."""
    run, own, fps = RunFolder.open(paths[0]), len(paths) > 1, 5.0
    classes: list[str] = []
    model_words, data_words = split_words(settings)
    model = open_model(run.path, model_words).to(options.device).eval()
    if own:
        size = getattr(model, "image_size", None) or trained_size(run.path)
        scene, name = own_pictures(paths[1:], run, data_words, size), printable(paths[1].stem)
    else:
        dataset = build_split(data_config(run, data_words), options.split)
        fps, classes = dataset.spec.fps or fps, class_names(dataset.spec)
        most = max(DEFAULTS[kind] if options.n is None else options.n * SCENES[kind] for kind in kinds)
        scene = dataset.batch(_numbers(options.first, most, len(dataset)))
        name = f"{file_name(dataset.spec.name)}-{options.split}"
    asked = {key: str(getattr(options, key, None)) for key in QUESTION}
    question = json.dumps([*sorted(settings), *(printable(path.resolve()) for path in paths[1:]), asked])
    if isinstance(scene, Multimodal):

        def place(stem: str) -> Path:
            return options.out or free_figure(run.figures, stem, ".png", question)

        return show_domains(run, model, scene, kinds, options, place)
    shown = [word.removeprefix("data.") for word in settings if not word.startswith(("data=", "data.path="))]
    if own:
        data = ", ".join(printable(path.name) for path in paths[1:])
    else:
        data = f"{dataset.spec.name} ({options.split}) from {options.first}" + "".join(f", {word}" for word in shown)
    name = "-".join([name, *map(file_name, shown)])
    scene = scene.to(options.device)
    pixels = replace(scene, image=scene.pixels)
    show = Show(run, model, pixels, name, data_words, own, options, data, fps, classes, question=question)
    for kind in kinds:
        if options.all and kind == "video" and not show.clips:
            continue
        torch.manual_seed(options.seed)
        try:
            PICTURES[kind](show)
        except ValueError as error:
            if not options.all:
                raise
            note(f"{kind}: {error}")
    if not own and not options.out:
        write_readme(run)
    return 0


def draw_decomposition(show: Show) -> None:
    """Decompositions; the stages of an iterative model; learning curves and the animation of the training."""
    run, model = show.run, show.model
    scene = show.scene[: show.options.n or (3 if show.clips else 8)]
    with torch.no_grad():
        output = see(model, scene)
    on_cpu, found = scene.to("cpu"), output.to("cpu")
    show = replace(show, known=tuple(remarks(on_cpu, found)))
    for sentence in show.known:
        note(sentence)
    if show.clips and show.wants(*ANIMATIONS):
        show.film(
            decomposition_video(on_cpu, found, count=len(scene)), show.path("video", ".gif"), fps=show.fps, hold=1
        )
    if show.wants(".png", ".pdf", ".svg"):
        figure = decomposition_figure(on_cpu, found, count=len(scene), titles=row_titles(on_cpu, found))
        show.save(figure, show.path("decomposition"))
    if not show.clips and show.wants(*ANIMATIONS):
        steps = [stage.to("cpu") for stage in decoded_stages(model, output)]
        if not steps and show.options.out:
            raise ValueError(
                f"{type(model).__name__} draws a scene once, so there is no film of its steps; --out takes .png, .pdf "
                "or .svg"
            )
        if steps and show.options.out is None:
            count = min(2, len(scene))
            show.save(refinement_figure(on_cpu, steps, count=count), show.path("refinement"))
        if steps:
            frames = refinement_frames(on_cpu, steps, count=min(4, len(scene)))
            show.film(frames, show.path("refinement", ".gif"), fps=2, hold=2)
    if show.own or show.options.out:
        return
    if (run.path / "metrics.csv").is_file():
        draw_curves(show)
    if len(list((run.figures / "training").glob("*.png"))) > 1:
        show.film(training_progress(run.figures / "training"), run.figures / "training.gif", fps=4, hold=2)


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text or "nan"))
    except ValueError:
        return False


def draw_curves(show: Show) -> None:
    """Headline scores of the validation, then the losses; what else was logged stands in metrics.csv."""
    log = show.run.path / "metrics.csv"
    rows = read_csv(log)
    columns = list(rows[0]) if rows else []
    better = curve_keys(name for name in columns if any(_finite(row[name]) for row in rows))
    if not better:  # nothing was logged, or the run has diverged
        return
    figure = learning_curves(log, keys=list(better), better=better)
    others = len(columns) - 1 - len(better)
    about = f"run {show.run.path.resolve().name} · {type(show.model).__name__} · " + (
        f"validation and training; {others} more columns in metrics.csv" if others else "validation and training"
    )
    show.save(figure, show.run.figures / "learning_curves.png", about=about)


def draw_video(show: Show) -> None:
    """Clips as a film: a row for each, with its frames, masks and slots; a slot keeps its color.

    Of a model that predicts also its futures, from the first frames on; with --out only these.
    """
    if not show.clips:
        raise ValueError(f"{show.name} has still images; a film needs clips, such as data=moving_shapes")
    scene = show.scene[: show.options.n or 3]
    with torch.no_grad():
        output = see(show.model, scene)
        futures = _futures(show, scene)
    if futures is None or show.options.out is None:
        film = decomposition_video(scene.to("cpu"), output.to("cpu"), count=len(scene))
        show.film(film, show.path("video", ".gif"), fps=show.fps, hold=1)
    if futures is not None:
        film = futures_video(scene.to("cpu"), output.to("cpu"), futures.to("cpu"), count=len(scene))
        show.film(film, show.path("futures", ".gif"), fps=show.fps, hold=1)


def _futures(show: Show, scene: Scene) -> Decomposition | None:
    """What a model imagines after the context; None of a model that does not predict."""
    model, frames = show.model, scene.image.shape[1]
    if not isinstance(model, Predicts):
        return None
    context: int = show.options.context or min(getattr(model, "context", 2), frames - 1)
    if not 0 < context < frames:
        raise ValueError(f"--context {context}: clips of {frames} frames leave nothing to imagine; give a smaller one")
    return continue_clips(model, scene, context=context, steps=frames - context, samples=FUTURES)


def draw_traversals(show: Show) -> None:
    """What the most active dimensions of every object do, as a figure and as an animation."""
    options, model = show.options, show.model
    redraw(model, show.scene[:1])  # says at once if the model cannot
    dataset = build_split(data_config(show.run, show.data_words), options.split)
    loader = EvalLoader(dataset, batch_size=32, images=max(RANGE_SCENES, options.images))
    latents = infer_latents(model, loader, images=loader.images, device=options.device, seed=options.seed)
    limits = traversal_limits(latent_ranges(latents.slots), rule=options.range)
    some = [Latents(*(part[i : i + 1] for part in latents)) for i in range(min(options.images, len(latents.slots)))]
    scores = [
        activeness(model, one, ranges=limits, seed=options.seed + i)
        for i, one in enumerate(track(some, description="activeness", console=errors, transient=True))
    ]
    active = torch.cat(scores).mean(0)  # (D,)
    live = (active > max(STILL, DEAD * float(active.max()))).nonzero()[:, 0]
    if not len(live):
        raise ValueError(
            f"there is nothing to traverse: no dimension of the latents changes the picture (activeness "
            f"{float(active.max()):.1e} at most; below {STILL:.0e} nothing is seen)"
        )
    dims = [int(d) for d in active.argsort(descending=True, stable=True) if d in live][: options.dimensions]
    dead = len(active) - len(live)
    known = f"The {len(dims)} most active of {len(live)} live dimensions" + (
        f"; {dead} that do nothing are left out." if dead else "."
    )
    show = replace(show, known=(known,))
    scenes = show.scene[: options.n or 1]
    for i in range(len(scenes)):
        drawn, moved = object_traversals(model, scenes[i : i + 1], limits=limits, dims=dims, steps=options.steps)
        drawn, scene = drawn.to("cpu"), stills(scenes[i : i + 1])
        labels = [f"{dimension_label(moved[0], m)}\nactiveness {active[d]:.2g}" for m, d in enumerate(dims)]
        mark = "" if len(scenes) == 1 else f"-{options.first + i}"
        for suffix in (".png", ".gif"):
            path = show.path("traversals", suffix, mark)
            if path.suffix.lower() in ANIMATIONS:
                colors = colors_of_slots(drawn.masks, scene.segments)[0]
                show.film(traversal_frames(moved, colors=colors), path, fps=6)
            else:
                show.save(traversal_figure(scene, drawn, moved, labels=labels), path)
            if options.out:
                break


def draw_interpolations(show: Show) -> None:
    """On the lines between pairs of scenes."""
    a, b = show.pairs(show.options.n or 4)
    line = interpolate(show.model, a, b, steps=show.options.steps).to("cpu")
    show.save(interpolation_figure(stills(a), stills(b), line), show.path("interpolation"))


def draw_swaps(show: Show) -> None:
    """Pairs of scenes before and after they exchange their most conspicuous objects."""
    model = show.model
    a, b = show.pairs(show.options.n or 4)
    before = redraw(model, a), redraw(model, b)
    slots = object_slots(model, before[0]), object_slots(model, before[1])
    after = swap_objects(model, a, b, *slots)
    figure = swap_figure(
        (stills(a), stills(b)),
        (before[0].to("cpu"), before[1].to("cpu")),
        (after[0].to("cpu"), after[1].to("cpu")),
        slots,
    )
    show.save(figure, show.path("swap"))


def stills(scene: Scene) -> Scene:
    """The scenes on the CPU; of clips their first frames, whose latents are edited."""
    return (scene if scene.image.ndim == 4 else scene.map(lambda t: t[:, 0])).to("cpu")


def draw_boxes(show: Show) -> None:
    """The objects that a model finds in images, or in the frames of a clip, and what it makes of them."""
    scene = show.scene[: show.options.n or (2 if show.clips else 8)]
    with torch.no_grad():
        found, output = find(show.model, scene), see(show.model, scene)
    layers = {"reconstruction": output.recon}
    if scene.motion is not None:
        layers["motion"] = scene.motion
    alpha = getattr(output, "alpha", None)
    if alpha is not None:
        layers["alpha"] = alpha
    layers = {name: layer.float().cpu() for name, layer in layers.items()}
    if show.clips:
        if show.wants(*ANIMATIONS):
            film = detections_video(scene.to("cpu"), found.to("cpu"), layers=layers)
            show.film(film, show.path("boxes", ".gif"), fps=show.fps, hold=1)
        if not show.wants(*FIGURE_FORMATS):
            return
        scene, found = scene.fold_time(), found.fold_time()
        layers = {name: layer.flatten(0, 1) for name, layer in layers.items()}
    show.save(detections_figure(scene.to("cpu"), found.to("cpu"), layers=layers), show.path("boxes"))


def draw_objects(show: Show) -> None:
    """A map of the objects of many images by their latents, with glimpses."""
    scene = show.scene[: show.options.n or DEFAULTS["objects"]]
    with torch.no_grad():
        found = find(show.model, scene)
    if show.clips:
        scene, found = scene.fold_time(), found.fold_time()
    sure = found.confidence > CONFIDENT
    size = (scene.image.shape[-2], scene.image.shape[-1])
    glimpses = extract(scene.pixels, where_of(found.boxes, size), GLIMPSE)
    labels, names = torch.full_like(found.confidence, -1, dtype=torch.long), {-1: "objects"}
    if scene.boxes is not None and scene.labels is not None:
        labels = match_labels(found.boxes, scene.boxes, scene.labels, visible_objects(scene))
        names = {-1: "no object"} | {
            int(c): show.classes[int(c)] if int(c) < len(show.classes) else f"class {c}" for c in scene.labels.unique()
        }
    shown = (found.latents[sure].cpu(), labels[sure].cpu(), glimpses[sure].cpu(), names)
    options = {"method": show.options.map, "seed": show.options.seed}
    stem = f"objects-{show.options.map}"
    if show.wants(*FIGURE_FORMATS):
        show.save(latent_map_figure(*shown, **options), show.path(stem))
    if show.wants(".html"):
        page = show.path(stem, ".html")
        page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, latent_map_page(*shown, **options))
        print(page)


def draw_weights(show: Show) -> None:
    """Raises ValueError: of a workspace only, for which `show_domains` draws it."""
    raise ValueError(f"{type(show.model).__name__} weighs no domains; --weights is for workspaces")


PICTURES: dict[str, Callable[[Show], None]] = {
    "decomposition": draw_decomposition,
    "boxes": draw_boxes,
    "objects": draw_objects,
    "video": draw_video,
    "traversals": draw_traversals,
    "interpolate": draw_interpolations,
    "swap": draw_swaps,
    "weights": draw_weights,
}
DEFAULTS = {
    "decomposition": 8, "boxes": 8, "objects": 64, "video": 3, "traversals": 1, "interpolate": 8, "swap": 8,
    "weights": 256,
}  # fmt: skip
"""Scenes that a kind of picture needs without -n."""
SCENES = {name: 2 if name in ("interpolate", "swap") else 1 for name in PICTURES}
"""Scenes that a kind of picture needs for each of -n."""


def read_pictures(paths: list[Path], *, transparency: str = TRANSPARENCY) -> list[Image.Image]:
    """Picture files as upright RGB images."""
    return [read_rgb(path, transparency=transparency) for path in paths]


def fit_pictures(pictures: list[Image.Image], side: int | tuple[int, int] | None, *, resize: str = "crop") -> Scene:
    """The pictures, each brought to the model's size as `data=folder` does it; without one, to the first one's size."""
    first = pictures[0]
    size = (side, side) if isinstance(side, int) else side or (first.height, first.width)
    for picture in pictures:
        if (picture.height, picture.width) != size:
            how = {"crop": "cropped and resized", "pad": "padded and resized", "stretch": "stretched"}[resize]
            if picture.height * size[1] == picture.width * size[0]:
                how = "resized"
            note(f"a picture is {how} from {picture.height}x{picture.width} to {size[0]}x{size[1]}")
    arrays = [np.array(fit(picture, (size[0], size[1]), resize=resize)) for picture in pictures]
    return Scene(image=torch.from_numpy(np.stack(arrays)).movedim(-1, 1).contiguous())


def own_pictures(paths: list[Path], run: RunFolder, words: list[str], side: int | tuple[int, int] | None) -> Scene:
    """The user's pictures as the run's own `data=folder` would read them; `data.resize=...` and the like change that.

    Raises:
        ValueError: for other settings of the data, which pictures do not have.
    """
    data = run.config().get("data") or {}
    ours = data if data.get("_target_") == "objectscape.data.folder.ImageFolder" else {}
    options = {"resize": str(ours.get("resize", "crop")), "transparency": str(ours.get("transparency", TRANSPARENCY))}
    for word in words:
        key, _, value = word.partition("=")
        if key.removeprefix("data.") not in options:
            raise ValueError(f"cannot use {word!r} with your own images; they take data.resize and data.transparency")
        options[key.removeprefix("data.")] = value
    check_fit_options(**options)
    return fit_pictures(read_pictures(paths, transparency=options["transparency"]), side, resize=options["resize"])


def _numbers(first: int, count: int, size: int) -> list[int]:
    """Which scenes of a split of `size` to draw."""
    if not 0 <= first < size:
        raise ValueError(f"--first {first}: the split has scenes 0..{size - 1}")
    return list(range(first, min(first + count, size)))
