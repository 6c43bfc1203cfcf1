"""Pictures: colors, tiles, figures, animations and files."""

from __future__ import annotations

import builtins
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from objectscape import viz
from objectscape.scene import Decomposition, Scene
from objectscape.viz.palette import BACKGROUND, BACKGROUND_COLOR, IGNORE_COLOR
from objectscape.viz.tiles import CHECKER, checkerboard, composite, outline, shown_slots
from tests.test_learning_curves import rows


def blobs(n: int = 3, k: int = 4, height: int = 20, width: int = 20, time: int | None = None):
    """Random soft blobs: a scene with ground truth and a decomposition of it."""
    generator = torch.Generator().manual_seed(n * 100 + k)
    lead = (n,) if time is None else (n, time)
    centers = torch.rand(*lead, k, 2, 1, 1, generator=generator) * torch.tensor([height, width])[:, None, None]
    grid = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    distance = (grid - centers).norm(dim=-3)  # (..., K, H, W)
    masks = (-distance).softmax(-3).unsqueeze(-3)
    components = torch.rand(*lead, k, 3, 1, 1, generator=generator).expand(*lead, k, 3, height, width)
    output = Decomposition(
        recon=(masks * components).sum(-4), masks=masks, components=components, slots=torch.zeros(*lead, k, 5)
    )
    present = torch.ones(*lead, k - 1, dtype=torch.bool)
    boxes = torch.tensor([1.0, 2.0, 9.0, 8.0]).expand(*lead, k - 1, 4)
    image = (output.recon * 255).to(torch.uint8)
    return Scene(image=image, segments=output.segments, boxes=boxes, present=present), output


def rgb(color: str) -> list[int]:
    return list(bytes.fromhex(color[1:]))


# Colors


def oklab(linear: np.ndarray) -> np.ndarray:
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.transpose(to_lms)) @ np.transpose(to_lab)


SIGHT = {  # linear RGB as a person sees it (Machado et al., 2009, severity 1)
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}


@pytest.mark.parametrize(("sight", "least"), [("normal", 0.11), ("deuteranopia", 0.07), ("protanopia", 0.07)])
def test_palette_colors_differ_for_everyone(sight: str, least: float):
    colors = np.array([rgb(c) for c in (*viz.SLOT_COLORS, BACKGROUND_COLOR, IGNORE_COLOR)]) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = oklab((linear @ SIGHT[sight].T).clip(0, 1))
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(len(seen))
    assert len(viz.SLOT_COLORS) >= 16
    slots = slice(0, len(viz.SLOT_COLORS))
    assert distance[slots, slots].min() > least
    assert distance.min() > 0.05


def test_segments_have_the_palette_colors():
    colors = viz.color_segments(torch.tensor([[-1, 0, 1, 2, 17]]))  # (3, 1, 5)
    expected = [IGNORE_COLOR, BACKGROUND_COLOR, viz.SLOT_COLORS[0], viz.SLOT_COLORS[1], viz.SLOT_COLORS[0]]
    assert colors[:, 0].T.tolist() == [rgb(c) for c in expected]
    assert colors.dtype == torch.uint8
    assert viz.color_slots(torch.tensor([[0, 15]]))[:, 0].T.tolist() == [rgb(viz.SLOT_COLORS[k]) for k in (0, 15)]
    assert viz.slot_colors(0).shape == (0, 3)


@settings(deadline=None)
@given(owner=st.lists(st.integers(0, 6), min_size=6, max_size=6))
def test_hard_masks_have_exactly_the_slots_colors(owner: list[int]):
    owners = torch.tensor(owner).view(1, 2, 3)
    masks = torch.nn.functional.one_hot(owners, 7).movedim(-1, 1).unsqueeze(2)  # (1, K, 1, H, W)
    assert torch.equal(viz.color_masks(masks), viz.color_slots(owners))


@settings(deadline=None)
@given(weights=st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_soft_masks_are_a_convex_mixture(weights: list[float]):
    masks = torch.tensor(weights).view(5, 1, 1, 1)
    mixed = viz.color_masks(masks).flatten().float()
    colors = viz.slot_colors(5).float()
    assert (mixed >= colors.amin(0)).all()
    assert (mixed <= colors.amax(0)).all()
    expected = (masks.flatten()[:, None] * colors).sum(0) / masks.sum()
    torch.testing.assert_close(mixed, expected, atol=0.51, rtol=0)


# Tiles


def test_composite_shows_the_component_or_the_checkerboard():
    component = torch.full((1, 3, 24, 24), 0.2)
    mask = torch.zeros(1, 1, 24, 24)
    mask[..., :12, :] = 1
    drawn = composite(component, mask)
    assert (drawn[..., :12, :] == 0.2).all()
    assert torch.equal(drawn[0, 0, 12:], checkerboard(24, 24)[12:])
    assert set((checkerboard(24, 24) * 255).round().int().flatten().tolist()) == set(CHECKER)


def test_no_checkerboard_shines_through_a_half_transparent_mask():
    drawn = composite(torch.full((1, 3, 24, 24), 0.2), torch.full((1, 1, 24, 24), 0.5))
    assert drawn.unique().numel() == 1
    assert 0.2 < float(drawn.max()) < CHECKER[0] / 255


def test_a_slot_has_the_color_of_the_object_that_it_matches():
    segments = torch.zeros(2, 4, 6, dtype=torch.int8)  # background, objects 1 and 3
    segments[:, :2, :2], segments[:, 2:, 4:] = 1, 3
    owners = torch.zeros(2, 4, 6, dtype=torch.long)
    owners[0, :2, :2], owners[0, 2:, 4:] = 2, 1
    owners[1] = 1
    owners[1, :2, :2], owners[1, 2:, 4:] = 0, 3
    masks = torch.nn.functional.one_hot(owners, 4).movedim(-1, 1).unsqueeze(2).float()  # (2, 4, 1, 4, 6)
    colors = viz.colors_of_slots(masks, segments)
    assert colors[0].tolist() == [BACKGROUND, 2, 0, 1]  # slot 3 owns nothing: the first color that no object has
    assert colors[1].tolist() == [0, BACKGROUND, 1, 2]
    assert torch.equal(viz.color_slots(owners, colors), viz.color_segments(segments))
    assert torch.equal(viz.color_masks(masks, colors), viz.color_segments(segments))
    assert viz.colors_of_slots(masks, None).tolist() == [[0, 1, 2, 3]] * 2
    coarse = viz.colors_of_slots(masks, segments.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.equal(coarse, colors)
    clip = viz.colors_of_slots(masks[None], segments[None])  # one color in the whole clip
    assert clip.shape == (1, 4)
    assert viz.colors_of_slots(torch.full((1, 3, 1, 4, 6), float("nan")), segments[:1]).tolist() == [[1, 3, 4]]


def test_truth_and_masks_of_a_figure_have_the_same_colors():
    scene, output = blobs(2, 4)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = Decomposition(
        recon=output.recon, masks=output.masks[:, order], components=output.components[:, order],
        slots=output.slots[:, order],
    )  # fmt: skip
    for found in (output, shuffled):
        tiles = [np.asarray(image.get_array()) for image in viz.decomposition_figure(scene, found).axes[0].images]
        truth, segments = tiles[2:4], tiles[8:10]  # columns of two rows each: image, truth, recon, masks, segments
        assert all(np.array_equal(a, b) for a, b in zip(truth, segments, strict=True))


def test_a_caption_grows_the_figure_and_hides_nothing(tmp_path: Path):
    for make in (lambda: viz.samples_figure(blobs(5)[1]), lambda: viz.learning_curves([rows(0), rows(1)])):
        plain, figure = make(), make()
        viz.caption_figure(figure, "run a\n" + "many words " * 40)
        wide, high = figure.get_size_inches()
        assert wide == plain.get_size_inches()[0]
        assert high > plain.get_size_inches()[1] + 0.3
        assert len(figure.texts) > 2
        before = Image.open(viz.save_figure(plain, tmp_path / "a.png", dpi=100))
        after = Image.open(viz.save_figure(figure, tmp_path / "b.png", dpi=100))
        assert after.size[1] > before.size[1] + 25
    frames = viz.caption_frames([np.zeros((40, 60, 3), np.uint8)] * 2, "run a")
    assert frames[1].shape[0] > 50
    assert not frames[1][:40].any()
    assert frames[1][40:].min() < 200


def test_outline_lies_inside_each_segment_and_leaves_the_rest():
    segments = torch.zeros(1, 64, 64, dtype=torch.long)
    segments[:, :, 32:] = 3
    image = torch.full((1, 3, 64, 64), 0.5)
    drawn = (outline(image, segments)[0] * 255).round().int()
    assert drawn[:, 10, 31].tolist() == rgb(viz.SLOT_COLORS[0])
    assert drawn[:, 10, 32].tolist() == rgb(viz.SLOT_COLORS[3])
    assert (drawn[:, :, :31] == 128).all()
    assert (drawn[:, :, 33:] == 128).all()


def test_decomposition_array_places_every_tile():
    height = width = 96  # no enlargement, so pixels can be compared
    image = torch.full((1, 3, height, width), 10, dtype=torch.uint8)
    masks = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, height, width)
    components = torch.tensor([100.0, 200.0]).view(1, 2, 1, 1, 1).expand(1, 2, 3, height, width) / 255
    recon = torch.full((1, 3, height, width), 60 / 255)
    output = Decomposition(recon=recon, masks=masks, components=components, slots=torch.zeros(1, 2, 1))
    array = viz.decomposition_array(Scene(image=image), output, 1)
    edge = 3
    centers = [edge + column * (width + 3 * edge) + edge + width // 2 for column in range(7)]
    middle = array[edge + edge + height // 2, centers]
    assert middle[:2].tolist() == [[10] * 3, [60] * 3]  # image, reconstruction: no truth here
    assert middle[2].tolist() == rgb(viz.SLOT_COLORS[0])  # masks
    assert middle[3].tolist() == rgb(viz.SLOT_COLORS[0])  # segments, filled
    assert middle[4].tolist() == [10] * 3  # outlines: one segment, hence none
    assert middle[5].tolist() == [100] * 3
    assert middle[6][0] in CHECKER
    frame = array[edge + 1, [x - width // 2 - 1 for x in centers[5:]]]
    assert frame.tolist() == [rgb(c) for c in viz.SLOT_COLORS[:2]]


@pytest.mark.parametrize(
    ("n", "k", "height", "width", "count"), [(3, 4, 20, 20, 8), (1, 16, 35, 35, 1), (2, 2, 100, 130, 2)]
)
def test_decomposition_array_size(n: int, k: int, height: int, width: int, count: int):
    array = viz.decomposition_array(*blobs(n, k, height, width), count)
    factor = max(1, -(-96 // max(height, width)))
    edge = max(2, factor * height // 32)
    rows, columns = min(n, count), 6 + k
    assert array.shape == (rows * (factor * height + 3 * edge) + edge, columns * (factor * width + 3 * edge) + edge, 3)
    assert array.dtype == np.uint8


def test_values_outside_the_range_and_nan_are_drawn():
    scene, output = blobs(1)
    output.recon = output.recon * 3 - 1
    output.recon[0, :, 0, 0] = float("nan")
    assert viz.decomposition_array(scene, output, 1).dtype == np.uint8


def test_many_slots_show_the_largest():
    masks = torch.zeros(2, 5, 1, 2, 2)
    masks[:, 1], masks[:, 4], masks[:, 0] = 0.2, 0.5, 0.3
    assert shown_slots(masks, 2) == [0, 4]
    few = viz.decomposition_array(*blobs(1, 20), 1)
    assert few.shape == viz.decomposition_array(*blobs(1, 16), 1).shape


# Figures


FIGURES = {
    "decomposition": lambda: viz.decomposition_figure(*blobs(), count=2, titles=["ARI-FG 0.9", "ARI-FG 1.0"]),
    "one scene": lambda: viz.decomposition_figure(*blobs(1, 16, 12, 30), count=1),
    "data set": lambda: viz.dataset_figure(blobs(5)[0], count=5, columns=3),
    "images only": lambda: viz.dataset_figure(Scene(image=blobs(2)[0].image)),
    "samples": lambda: viz.samples_figure(blobs(5)[1], columns=2),
    "construction": lambda: viz.construction_figure(blobs()[1], count=2),
    "curves": lambda: viz.learning_curves([rows(0), rows(1)]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_written(name: str, tmp_path: Path):
    figure = FIGURES[name]()
    path = viz.save_figure(figure, tmp_path / "new" / "figure.png", dpi=60)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert np.ptp(np.array(picture.convert("L"))) > 50
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]


@pytest.mark.parametrize(("suffix", "start"), [(".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_vector_formats_are_written_and_repeatable(suffix: str, start: bytes, tmp_path: Path):
    files = [viz.save_figure(viz.construction_figure(blobs(1)[1]), tmp_path / f"{i}{suffix}") for i in range(2)]
    first, second = (file.read_bytes() for file in files)
    assert first.startswith(start)
    assert first == second


@pytest.mark.parametrize("k", [4, 16])
def test_text_does_not_overlap_and_stays_on_the_sheet(k: int):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = viz.decomposition_figure(*blobs(2, k), titles=["ARI-FG 0.91", "two\nlines of text"])
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) == 6 + k + 2
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_construction_ends_with_the_whole_scene():
    output = blobs(1)[1]
    pictures = viz.construction_figure(output).axes[0].images
    assert len(pictures) == 4 + 1
    last, final = (np.asarray(p.get_array()).astype(int) for p in pictures[-2:])
    assert abs(last - final).max() <= 1
    first = np.asarray(pictures[0].get_array()).astype(int)
    assert abs(first - final).max() > 20


def test_boxes_are_drawn_for_present_objects_only():
    scene, _ = blobs(1)
    scene.present = torch.tensor([[True, False, True]])
    from matplotlib.colors import to_hex

    edges = [to_hex(p.get_edgecolor()).upper() for p in viz.dataset_figure(scene).axes[0].patches]
    assert viz.SLOT_COLORS[0] in edges
    assert viz.SLOT_COLORS[1] not in edges
    assert viz.SLOT_COLORS[2] in edges


# Animations


def test_gif_has_every_frame(tmp_path: Path):
    frames = viz.decomposition_video(*blobs(2, 3, time=4), count=2)
    path = viz.save_animation(frames, tmp_path / "clip.gif", fps=5, hold=1)
    with Image.open(path) as gif:
        assert gif.n_frames == 4
        assert gif.size == frames[0].shape[1::-1]
        gif.seek(3)
        assert gif.info["duration"] == 1200
        assert np.abs(np.array(gif.convert("RGB")).astype(int) - frames[3]).mean() < 4


def test_mp4_has_every_frame(tmp_path: Path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    frames = [np.full((33, 47, 3), 20 * i, dtype=np.uint8) for i in range(6)]
    path = viz.save_animation(frames, tmp_path / "clip.mp4", fps=10, hold=0.2)
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert count == 8
    assert seconds == pytest.approx(0.8, abs=0.15)


def test_mp4_without_ffmpeg_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def refuse(name: str, *arguments, **options):
        if name == "imageio_ffmpeg":
            raise ModuleNotFoundError(name, name=name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModuleNotFoundError, match=r"objectscape\[video\]"):
        viz.save_animation([np.zeros((4, 4, 3), np.uint8)] * 2, tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_animation_errors(tmp_path: Path):
    frame = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="no frames"):
        viz.save_animation([], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="one frame is no film"):
        viz.save_animation([frame], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="one shape"):
        viz.save_animation([frame, frame[:2]], tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"\.gif, \.mp4"):
        viz.save_animation([frame], tmp_path / "a.avi")
    with pytest.raises(ValueError, match="fps=100"):
        viz.save_animation([frame, frame], tmp_path / "a.gif", fps=100)
    with pytest.raises(ValueError, match="time axis"):
        viz.decomposition_video(*blobs())
    assert list(tmp_path.iterdir()) == []


def test_training_progress_reads_a_folder_in_order_of_steps(tmp_path: Path):
    for step, size in ((900, 40), (1000, 50)):
        viz.save_image(np.full((30, size, 3), step % 256, np.uint8), tmp_path / f"decomposition-{step}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = viz.training_progress(tmp_path)
    assert [frame[-1, 0, 0] for frame in frames] == [900 % 256, 1000 % 256]
    assert {frame.shape for frame in frames} == {frames[0].shape}
    assert frames[0][-1, -1].tolist() == [255] * 3  # padding
    assert frames[0][:12].min() < 100  # the step in letters
    with pytest.raises(FileNotFoundError, match="no folder"):
        viz.training_progress(tmp_path / "figures")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="it holds nothing"):
        viz.training_progress(tmp_path / "empty")


# Errors of the figures


def test_a_clip_lies_on_its_side():
    scene, output = blobs(2, 3, time=5)
    one = viz.decomposition_array(scene, output, count=1, frames=5)
    frame = viz.decomposition_array(scene.map(lambda t: t[:1, 0]), output.map(lambda t: t[:1, 0]))
    height, width, _ = frame.shape
    edge = (
        one.shape[0] - width
    )  # of squares: the panels of an image side by side are those of a clip one below the other
    assert edge == 0
    assert one.shape[1] == 5 * height - 4 * 3
    assert viz.decomposition_array(scene, output, count=2, frames=3).shape[0] == 2 * one.shape[0]
    figure = viz.decomposition_figure(scene, output, count=2, titles=["first", "second"], frames=3)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("reconstruction") == 2
    assert {"first", "second", "slot 0"} <= set(texts)


@pytest.mark.parametrize("draw", [viz.decomposition_figure, viz.decomposition_array])
def test_decomposition_errors(draw):
    scene, output = blobs()
    with pytest.raises(ValueError, match="count=0"):
        draw(scene, output, count=0)
    with pytest.raises(ValueError, match="the batch that the model was called with"):
        draw(scene[:2], output)
    video = blobs(2, 3, time=2)
    with pytest.raises(ValueError, match="the clips that the model was called with"):
        draw(video[0][:1], video[1])
    output.masks = output.masks.squeeze(2)
    with pytest.raises(ValueError, match=r"\(B, K, 1, H, W\)"):
        draw(scene, output)


def test_figure_errors(tmp_path: Path):
    scene, output = blobs()
    with pytest.raises(ValueError, match="titles has 1 entries for 3"):
        viz.decomposition_figure(scene, output, titles=["one"])
    with pytest.raises(ValueError, match="headings has 1"):
        viz.samples_figure(output, headings=["0"])
    with pytest.raises(ValueError, match="at least 1"):
        viz.dataset_figure(scene, columns=0)
    with pytest.raises(ValueError, match=r"\.png, \.pdf, \.svg"):
        viz.save_figure(viz.samples_figure(output), tmp_path / "figure.jpg")
    with pytest.raises(ValueError, match="uint8"):
        viz.save_image(np.zeros((2, 2, 3)), tmp_path / "a.png")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figure = viz.samples_figure(blobs()[1])
    path = viz.save_figure(figure, tmp_path / "a.png")
    before = path.read_bytes()

    def full(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(OSError, match="space"):
        viz.save_figure(figure, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# The user's own picture


def save(picture: Image.Image, path: Path, **options) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "F"])
def test_load_image_of_any_mode(mode: str, tmp_path: Path):
    if mode == "I;16":
        picture = Image.fromarray(np.full((4, 6), 65535, np.uint16))
    elif mode == "F":
        picture = Image.fromarray(np.full((4, 6), 1.0, np.float32))
    else:
        picture = Image.new("RGB", (6, 4), "white").convert(mode)
    image = viz.load_image(save(picture, tmp_path / f"a{'.tif' if mode in ('F', 'CMYK') else '.png'}"))
    assert image.shape == (3, 4, 6)
    assert image.dtype == torch.uint8
    assert (image == 255).all()


def test_load_image_turns_upright_and_fills_transparency(tmp_path: Path):
    picture = Image.new("RGB", (6, 4), "black")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by a quarter
    assert viz.load_image(save(picture, tmp_path / "a.jpg", exif=exif)).shape == (3, 6, 4)
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert (viz.load_image(save(clear, tmp_path / "clear.png")) == 0).all()
    assert (viz.load_image(tmp_path / "clear.png", transparency="white") == 255).all()


def test_load_image_errors(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        viz.load_image(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match="data=folder"):
        viz.load_image(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="5 bytes"):
        viz.load_image(tmp_path / "text.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = viz.save_image(noise, tmp_path / "cut.png")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="damaged, cut off"):
        viz.load_image(path)
    huge = Image.new("1", (20000, 20000))
    with pytest.raises(ValueError, match="too large"):
        viz.load_image(save(huge, tmp_path / "huge.png"))


def test_import_is_cheap_and_pyplot_is_never_used():
    code = (
        "import sys; from objectscape import viz; import torch\n"
        "heavy = {'matplotlib', 'PIL', 'imageio_ffmpeg'} & set(sys.modules); assert not heavy, heavy\n"
        "figure = viz.samples_figure(torch.rand(2, 3, 8, 8)); viz.learning_curves([{'step': 1, 'loss': 2.0}])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_film_of_futures_shows_what_is_imagined_from_the_context_on():
    scene, seen = blobs(2, 3, time=5)
    _, imagined = blobs(2, 3, time=12)
    futures = imagined.map(lambda x: x.unflatten(1, (4, 3)))  # 4 futures of 3 steps
    film = viz.futures_video(scene, seen, futures, count=1, shown=2, pixels=20)
    assert len(film) == 5
    height, width, _ = film[0].shape
    columns = [
        frame[18:, :].reshape(height - 18, 8, width // 8, 3) for frame in film
    ]  # 3, 2 futures, mean, spread, tracks
    edge = 2 * max(2, 20 // 48)
    first = columns[0][edge:-edge, 0, edge:-edge]
    np.testing.assert_array_equal(first, scene.image[0, 0].movedim(0, -1).numpy())
    drawn = columns[4][edge:-edge, 4, edge:-edge].astype(int)
    wanted = (255 * futures.recon[0, 1, 2]).movedim(0, -1).numpy()
    assert np.abs(drawn - wanted).max() <= 1, "the second future's last frame"
    np.testing.assert_array_equal(columns[1][:, 3], columns[1][:, 4], "all futures begin with the context")
    spread = columns[4][edge:-edge, 6, edge:-edge]
    assert (
        np.abs(spread - (510 * futures.recon[0, :, 2].std(0, correction=0)).clamp(0, 255).movedim(0, -1).numpy()).max()
        <= 1
    )
    assert not columns[1][edge:-edge, 6, edge:-edge].any()
    borders = [tuple(column[edge // 2, 3, edge]) for column in columns]
    assert len(set(borders[:2])) == 1
    assert borders[2] != borders[1]
    with pytest.raises(ValueError, match="fewer steps than T"):
        viz.futures_video(scene.map(lambda x: x[:, :3]), seen, futures)


def test_tracks_are_the_middles_of_masks_in_the_colors_of_slots():
    masks = torch.zeros(1, 1, 4, 2, 1, 40, 40)
    masks[..., 1, :, :, :] = 1
    for t in range(4):  # a square moves down; the rest is background, which has no track
        masks[0, 0, t, 0, 0, 6 * t : 6 * t + 6, 10:16], masks[0, 0, t, 1, 0, 6 * t : 6 * t + 6, 10:16] = 1, 0
    components = torch.ones_like(masks).expand(-1, -1, -1, -1, 3, -1, -1)
    drawn = Decomposition(recon=components[:, :, :, 0], masks=masks, components=components, slots=masks.flatten(4))
    seen = drawn.map(lambda x: x[:, 0])
    film = viz.futures_video(Scene(image=seen.recon), seen, drawn.map(lambda x: x[:, :, 1:]), shown=1, pixels=40)
    tracks = film[-1][18:, -48 + 4 : -4][4:-4]  # the last column, without its frame
    blue = np.argwhere((tracks == rgb(viz.SLOT_COLORS[0])).all(-1))
    assert blue[:, 0].max() == pytest.approx(6 * 3 + 3, abs=1)
    assert blue[:, 0].min() == pytest.approx(3, abs=2)
    assert abs(blue[:, 1] - 13).max() <= 2
    assert not (tracks == rgb(viz.SLOT_COLORS[1])).all(-1).any()
