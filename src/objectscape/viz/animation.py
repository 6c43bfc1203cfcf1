"""Animations: clips taken apart, and the progress of a training run, as GIF or MP4."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from objectscape.files import ANIMATIONS, check_suffix, replacing
from objectscape.scene import Decomposition, Scene
from objectscape.viz.palette import color_segments
from objectscape.viz.tiles import clip_colors, decomposition_array, enlarge, enlargement, to_tiles, unit

MAX_GIF_FPS = 50.0  # a GIF counts time in hundredths of a second, and viewers slow down what is faster than 1/50 s


def save_animation(frames: Sequence[np.ndarray], path: str | Path, *, fps: float = 5.0, hold: float = 0.0) -> Path:
    """Write frames as GIF (Pillow) or MP4 (imageio-ffmpeg), by the suffix of `path`.

    Args:
        frames: (H, W, 3) uint8 arrays of one size.
        path: ends in .gif or .mp4. Folders are made, an old file is replaced at once.
        fps: frames per second. A GIF can have at most 50 and rounds a frame's time to 1/100 s.
        hold: seconds for which the last frame stays longer.

    Raises:
        ValueError: if there are fewer than two frames, they differ in size or type, or `fps`, `hold` or the suffix is
            not allowed.
        ModuleNotFoundError: for MP4 without imageio-ffmpeg; `pip install 'objectscape[video]'` brings it.
    """
    path = Path(path)
    suffix = check_suffix(path, ANIMATIONS)
    if len(frames) < 2:
        raise ValueError(f"{'one frame is' if len(frames) else 'no frames are'} no film; nothing is written to {path}")
    shapes = {(frame.shape, str(frame.dtype)) for frame in frames}
    (shape, dtype), *others = sorted(shapes)
    if others or dtype != "uint8" or len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"frames are {sorted(shapes)}; expected uint8 arrays of one shape (H, W, 3)")
    if not 0 < fps <= (MAX_GIF_FPS if suffix == ".gif" else 240):
        raise ValueError(f"fps={fps}; must be above 0 and at most {MAX_GIF_FPS:g} for .gif, 240 for .mp4")
    if hold < 0:
        raise ValueError(f"hold={hold}; must be at least 0 seconds")
    write = _write_gif if suffix == ".gif" else _write_mp4
    with replacing(path) as draft:
        write(frames, draft, fps, hold)
    return path


def _write_gif(frames: Sequence[np.ndarray], path: Path, fps: float, hold: float) -> None:
    from PIL import Image

    times = [round(100 / fps) * 10] * len(frames)  # milliseconds
    times[-1] += round(hold * 100) * 10
    # 256 colors of each frame's own, those of small objects included (median cut would drop them)
    first, *rest = (Image.fromarray(f).quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1) for f in frames)
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=times, loop=0, optimize=False)


def _write_mp4(frames: Sequence[np.ndarray], path: Path, fps: float, hold: float) -> None:
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "writing .mp4 needs imageio-ffmpeg: pip install 'objectscape[video]', or write a .gif", name=error.name
        ) from error
    height, width, _ = frames[0].shape
    even = ((0, height % 2), (0, width % 2), (0, 0))  # yuv420p halves the colors' resolution
    size = (width + width % 2, height + height % 2)
    writer = imageio_ffmpeg.write_frames(str(path), size, fps=fps, quality=8, macro_block_size=2)
    writer.send(None)
    try:
        for frame in [*frames, *[frames[-1]] * round(hold * fps)]:
            writer.send(np.ascontiguousarray(np.pad(frame, even, constant_values=255)))
    finally:
        writer.close()


def decomposition_video(scene: Scene, output: Decomposition, *, count: int = 4, pixels: int = 96) -> list[np.ndarray]:
    """The decomposition of clips as frames of an animation; see `decomposition_array` for what a frame shows.

    Args:
        scene: (B, T, 3, H, W) clips.
        output: what the model made of them, with the same T.
        count: clips drawn, one row each.
        pixels: least length of a tile's longer side.

    Returns:
        T arrays (height, width, 3) uint8.

    Raises:
        ValueError: if there is no time axis.
    """
    if scene.image.ndim != 5 or output.recon.ndim != 5:
        raise ValueError(
            f"scene.image has shape {tuple(scene.image.shape)}, output.recon {tuple(output.recon.shape)}; a video "
            "needs a time axis, (B, T, 3, H, W). For images use decomposition_array."
        )
    frames = []
    colors = clip_colors(scene[:count], output.masks[:count])
    for t in range(scene.image.shape[1]):
        # only the fields that are drawn: a model's own extras need not have a time axis
        segments = scene.segments[:count, t] if scene.segments is not None else None
        now = Decomposition(
            recon=output.recon[:count, t],
            masks=output.masks[:count, t],
            components=output.components[:count, t],
            slots=output.slots[:count, t],
        )
        image = Scene(image=scene.image[:count, t], segments=segments)
        frames.append(decomposition_array(image, now, count, pixels=pixels, colors=colors))
    return frames


def clip_frames(scene: Scene, *, count: int = 8, pixels: int = 96) -> list[np.ndarray]:
    """Clips of a data set as frames of an animation: side by side, under them their segments where the data have them.

    Args:
        scene: (B, T, 3, H, W) clips.
        count: clips drawn, the first ones of the batch.
        pixels: least length of a tile's longer side.

    Returns:
        T arrays (height, width, 3) uint8.

    Raises:
        ValueError: if there is no time axis.
    """
    if scene.image.ndim != 5:
        raise ValueError(f"scene.image has shape {tuple(scene.image.shape)}; clips have a time axis, (B, T, 3, H, W)")
    height, width = scene.image.shape[-2:]
    factor = enlargement(height, width, pixels)
    rows = [unit(Scene(image=scene.image[:count]).pixels)]
    if scene.segments is not None:
        rows.append(color_segments(scene.segments[:count].cpu()))
    tiles = [to_tiles(enlarge(row, factor)) for row in rows]  # (n, T, h, w, 3) each
    sheet = np.concatenate([np.concatenate(list(row), 2) for row in tiles], 1)  # T, rows h, n w, 3
    return list(sheet)


def training_progress(pictures: str | Path | Mapping[int, np.ndarray]) -> list[np.ndarray]:
    """Frames that show how a run's decompositions changed, each with its step written above; for `save_animation`.

    Args:
        pictures: a folder of PNG files whose names end in the step (`decomposition-001000.png`), or {step: (H, W, 3)
            uint8 array}, such as `decomposition_array` draws.

    Returns:
        Arrays (height, width, 3) uint8 of one size, in the order of their steps; smaller pictures are padded.

    Raises:
        FileNotFoundError: if the folder is missing or has no such picture.
    """
    steps = dict(pictures) if isinstance(pictures, Mapping) else _read_folder(Path(pictures))
    return titled_frames({f"step {step:,}": picture for step, picture in sorted(steps.items())})


def titled_frames(pictures: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Pictures with their names written above them, for `save_animation`.

    Args:
        pictures: {name: (H, W, 3) uint8}, in order.

    Returns:
        Arrays (height, width, 3) uint8 of one size; smaller pictures are padded.

    Raises:
        ValueError: if there are none.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not pictures:
        raise ValueError("no pictures to animate")
    height = max(picture.shape[0] for picture in pictures.values())
    width = max(picture.shape[1] for picture in pictures.values())
    points = max(12, min(20, height // 12))
    font = ImageFont.load_default(points)
    band = points + 8
    frames = []
    for name, picture in pictures.items():
        frame = Image.new("RGB", (width, height + band), "white")
        frame.paste(Image.fromarray(picture), (0, band))
        ImageDraw.Draw(frame).text((6, 4), name, fill="black", font=font)
        frames.append(np.array(frame))
    return frames


def _read_folder(folder: Path) -> dict[int, np.ndarray]:
    from PIL import Image

    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    steps = {}
    for path in sorted(folder.glob("*.png")):
        if match := re.search(r"(\d+)$", path.stem):
            with Image.open(path) as picture:
                steps[int(match[1])] = np.array(picture.convert("RGB"))
    if not steps:
        names = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise FileNotFoundError(f"{folder} has no PNG file whose name ends in a step; it holds {names}")
    return steps
