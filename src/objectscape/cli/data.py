"""objectscape data: what data sets are, making, converting, checking and fetching them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from rich.progress import Progress
from rich.table import Table

from objectscape.building import trust
from objectscape.cli import config as configs
from objectscape.cli.common import HelpText, build_split, console, errors
from objectscape.files import check_suffix, expanded
from objectscape.names import SPLITS

if TYPE_CHECKING:
    from objectscape.scene import Spec

MAKERS = {
    "atari": "objectscape.data.atari.record.AtariRecording",
    "video": "objectscape.data.atari.video.VideoRecording",
}
"""Data sets that one class writes to a file and another one reads."""


def main(words: list[str]) -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(
        prog="objectscape data",
        formatter_class=HelpText,
        description="info     what a data set is and where it comes from\n"
        "make     render a synthetic data set to an HDF5 file\n"
        "convert  turn published files into an HDF5 file, which is read fast\n"
        "check    verify a file (structure, checksums, content hash) or every picture of a folder\n"
        "plot     of a recorded file: boxes over frames, and whether its background image is good\n"
        "fetch    download the published files (only ever when you ask for it)",
        epilog="examples:\n"
        "  objectscape data info tetrominoes\n"
        "  objectscape data make tetrominoes train=60000 test=320 path=tetrominoes.h5\n"
        "  objectscape data make clevr_like n=60000 size=128 path=clevr_like.h5\n"
        "  objectscape data make atari game=Pong n=640 path=pong.h5 --plot-boxes\n"
        "  objectscape data fetch objects_room --to datasets\n"
        "  objectscape data convert objects_room source=objects_room_train.tfrecords path=room.h5\n"
        "  objectscape data check objects_room.h5",
    )
    parser.add_argument("action", choices=["info", "make", "convert", "check", "plot", "fetch"])
    parser.add_argument("name", help="a data set (objectscape list data) or, for check and plot, a file")
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help="options of the data set")
    parser.add_argument("--pattern", default="*", help="fetch: only files whose path matches, e.g. '*/test/*'")
    parser.add_argument("--to", type=Path, default=Path("datasets"), help="fetch: folder to download to")
    parser.add_argument("--plot-boxes", action="store_true", help="make: draw what `plot` draws, too")
    options = parser.parse_intermixed_args(words)
    settings = dict(word.partition("=")[::2] for word in options.settings)
    if options.action == "check" and Path(options.name).exists():
        return check(Path(options.name))
    if options.action == "fetch":
        return fetch_files(options.name, options.to, options.pattern)
    if options.action == "info":
        return info(options.name, settings)
    if options.action == "make":
        target = _target(dict(settings), options.name)
        return make(options.name, settings) or (plot(target) if options.plot_boxes else 0)
    if options.action == "plot":
        return plot(Path(options.name))
    if options.action == "convert":
        return convert(options.name, settings)
    raise FileNotFoundError(f"there is no file {options.name} to check")


def _config(name: str, settings: dict[str, str]) -> DictConfig:
    return configs.load([f"data={name}", *(f"data.{key}={value}" for key, value in settings.items())]).data


def info(name: str, settings: dict[str, str]) -> int:
    """Print a data set's Spec; for published sets, also where to get them."""
    from objectscape.data.sources import SOURCES

    published = name
    if name not in SOURCES or name in configs.options("data"):
        config = _config(name, settings)
        published = config.get("name", name)
        if not OmegaConf.missing_keys(config):
            print_spec(build_split(config, "train").spec)
        else:
            missing = " ".join(f"{str(key).removeprefix('data.')}=..." for key in OmegaConf.missing_keys(config))
            given = "".join(f" {key}={value}" for key, value in settings.items())
            console.print(
                f"{name} is read from files; to see what they hold: objectscape data info {name}{given} {missing}"
            )
    if published in SOURCES:
        source = SOURCES[published]
        console.print(
            f"[bold]{source.title}[/bold]\n  {source.page}\n  license: {source.license}\n  size: {source.size}"
        )
        console.print(f"  to get it: {source.command(published)}" + (f"\n  then: {source.how}" if source.how else ""))
    return 0


def print_spec(spec: Spec) -> None:
    """A Spec as a table."""
    table = Table(title=spec.name, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    rows = {
        "image size": f"{spec.image_size[0]} x {spec.image_size[1]}" if spec.image_size else "",
        "frames": str(spec.frames or ""),
        "frames per second": str(spec.fps or ""),
        "actions": f"{spec.actions} numbers a frame" if spec.actions else "",
        "splits": ", ".join(
            f"{split}: {count if count is not None else 'endless'}" for split, count in spec.splits.items()
        ),
        "objects": f"at most {spec.max_objects}" if spec.max_objects is not None else "unknown",
        **{f"field {name}": text for name, text in spec.fields.items()},
        "license": spec.license,
        "source": spec.source,
        "version": spec.version,
        "content hash": spec.content_hash or "none: only files of `objectscape data make` and `convert` have one",
        "notes": spec.notes,
    }
    for name, text in rows.items():
        if text:
            table.add_row(name, text)
    console.print(table)


def make(name: str, settings: dict[str, str]) -> int:
    """Render or record a data set to a file."""
    reader, name = name, MAKERS.get(name, name)
    if name == MAKERS["atari"] and "game" not in settings:
        raise ValueError("say which game: objectscape data make atari game=Pong n=640 path=pong.h5")
    if name == MAKERS["video"] and "source" not in settings:
        raise ValueError("say which film: objectscape data make video source=FILM path=film.h5")
    for key in ("agent", "labels"):  # the user's own function, by its import path
        if name == MAKERS["atari"] and "." in settings.get(key, "") and ":" not in settings[key]:
            trust(settings[key].rpartition(".")[0])
    if "count" not in configs.arguments(_config(name, {})._target_, "data"):
        raise ValueError(f"{name} is read from files, not rendered; use `objectscape data convert {name}`")
    target = _target(settings, reader)
    counts: dict[str, int | None] = {split: _count(split, settings.pop(split)) for split in SPLITS if split in settings}
    if "n" in settings or not counts:  # the other splits have their usual counts, None here
        train = _count("n", settings.pop("n")) if "n" in settings else None
        counts = {**dict.fromkeys(SPLITS), "train": train, **counts}
    if "size" in settings:
        settings["image_size"] = settings.pop("size")
    splits = {}
    for split, count in counts.items():
        if count != 0:
            splits[split] = build_split(_config(name, {**settings, **({"count": str(count)} if count else {})}), split)
    return _write(target, splits, seed=int(settings.get("seed", 0)), reader=reader if reader in MAKERS else "hdf5")


def plot(path: Path) -> int:
    """Draw boxes over frames of a recorded file, and its background image; beside the file."""
    import torch

    from objectscape.data.atari.labels import class_names
    from objectscape.data.atari.motion import agreement, median_image, mode_image
    from objectscape.data.atari.stacks import AtariStacks, stored_splits
    from objectscape.viz.boxes import DOUBTFUL, background_figure, boxes_figure
    from objectscape.viz.files import save_figure

    data = AtariStacks(path=path, split=stored_splits(path)[-1], image_size=None, frames=1, motion=None, hidden=True)
    scene = data.batch(torch.linspace(0, len(data) - 1, min(8, len(data))).long().tolist())
    scene = scene.fold_time() if scene.image.ndim == 5 else scene
    if scene.boxes is not None and scene.labels is not None:
        hidden = ~scene.factors["visible"] if scene.factors and "visible" in scene.factors else None
        figure = boxes_figure(scene.image, scene.boxes, scene.labels, class_names(data.spec), dashed=hidden)
        file = save_figure(figure, path.with_name(f"{path.stem}-boxes.png"))
        console.print(f"boxes, dashed where the pixels do not show the object: {file}")
    frames = data.root_frames()
    mode = mode_image(frames)
    share = torch.from_numpy(agreement(frames, mode))
    images = {"most frequent": torch.from_numpy(mode), "median": torch.from_numpy(median_image(frames).astype("uint8"))}
    file = save_figure(background_figure(images, share), path.with_name(f"{path.stem}-background.png"))
    doubtful = float((share < DOUBTFUL).double().mean())
    console.print(f"background of {len(frames)} frames: {file}")
    console.print(f"{doubtful:.1%} of its pixels have that color in less than {DOUBTFUL:.0%} of the frames")
    return 0


def convert(name: str, settings: dict[str, str]) -> int:
    """Turn published files into one HDF5 file with every split they have."""
    if "source" not in settings:
        raise ValueError(f"say what to convert: objectscape data convert {name} source=FILE_OR_FOLDER path={name}.h5")
    target = _target(settings, name)
    if "path" not in configs.arguments(_config(name, {})._target_, "data"):
        raise ValueError(f"{name} is rendered, not read from files; use `objectscape data make {name}`")
    settings["path"] = settings.pop("source")
    if "check" in configs.arguments(_config(name, settings)._target_, "data"):
        settings.setdefault("check", "true")
    splits = {}
    for split in SPLITS:
        dataset = build_split(_config(name, settings), split)
        if len(dataset):
            splits[split] = dataset
    return _write(target, splits, seed=None, reader="atari" if name == "atari_folder" else "hdf5")


def _count(key: str, text: str) -> int:
    """A number of scenes; 0 leaves the split out.

    Raises:
        ValueError: if it is none.
    """
    if not text.isdigit():
        raise ValueError(f"{key}={text}: expected a number of scenes, as in {key}=1000")
    return int(text)


def _target(settings: dict[str, str], name: str) -> Path:
    target = expanded(settings.pop("path", f"{name}.h5"))
    check_suffix(target, (".h5", ".hdf5"))
    return target


def _write(target: Path, splits: dict, seed: int | None, reader: str = "hdf5") -> int:
    from objectscape.data.formats.hdf5 import write_hdf5
    from objectscape.data.latents import write_multimodal
    from objectscape.scene import Multimodal

    target.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task(f"writing {target}")

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        if isinstance(next(iter(splits.values())).batch([0]), Multimodal):
            spec, reader = write_multimodal(target, splits, progress=show), "latents"
        else:
            spec = write_hdf5(target, splits, seed=seed, progress=show)
    print_spec(spec)
    console.print(f"use it: objectscape train recipe=... data={reader} data.path={target}")
    return 0


def check(path: Path) -> int:
    """Verify an HDF5 file, a TFRecord file or a folder of pictures."""
    from objectscape.data.folder import ALL, ImageFolder
    from objectscape.data.formats.hdf5 import check_in_child
    from objectscape.data.formats.opening import HDF5_SIGNATURE, signature
    from objectscape.data.formats.tfrecord import TFRecordFile

    if path.is_dir():
        folder, damage = ImageFolder(path=path, split=ALL), []
        for index in range(len(folder)):
            try:
                folder.batch([index])
            except (ValueError, OSError) as error:
                damage.append(str(error))
        if damage:
            raise ValueError("\n  ".join([f"{len(damage)} of {len(folder)} pictures cannot be used:", *damage]))
        console.print(f"{len(folder)} pictures, all can be read")
    elif path.suffix == ".h5" or signature(path) == HDF5_SIGNATURE:
        print_spec(check_in_child(path))
    else:
        console.print(f"{sum(1 for _ in TFRecordFile(path))} records, every checksum right")
    console.print(f"{path} is whole")
    return 0


def fetch_files(name: str, folder: Path, pattern: str) -> int:
    """Download a published data set."""
    from objectscape.data.sources import fetch

    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task(f"fetching {name}")

        def show(path: str, done: int, total: int | None) -> None:
            progress.update(task, description=path, completed=done, total=total)

        files = fetch(name, folder, pattern=pattern, progress=show)
    for file in files:
        console.print(str(file))
    return 0
