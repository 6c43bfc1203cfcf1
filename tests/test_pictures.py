"""The pictures that `objectscape show` makes of a model: stages, traversals, interpolations, exchanged objects."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

import objectscape
from objectscape import viz
from objectscape.checkpoints.native import save_model
from objectscape.cli import main
from objectscape.evaluation.edits import interpolate, object_slots, redraw, swap_objects, visible_slots
from objectscape.evaluation.pictures import curve_keys, decoded_stages, object_traversals, remarks
from objectscape.models.efficientmorl import EfficientMORL
from objectscape.models.iodine import IODINE
from objectscape.models.monet import MONet
from objectscape.models.slot_attention import SlotAttentionModel
from objectscape.scene import Decomposition, Scene, Stage

SIZE = 96  # no enlargement in the animations, so that pixels can be compared


class Disks(nn.Module):
    """Draws slots (row, column, radius, red, green, blue, nothing) as soft disks on whatever slot 0 is."""

    slots = 4

    def __init__(self, latents: Tensor, size: int = SIZE) -> None:
        super().__init__()
        self.latents, self.size = latents, size

    def decode(self, slots: Tensor) -> Decomposition:
        grid = torch.linspace(-1, 1, self.size)
        y, x, radius = (slots[..., i, None, None] for i in range(3))
        logits = 40 * (radius - ((grid[:, None] - y) ** 2 + (grid - x) ** 2).sqrt())  # (B, K, H, W)
        logits[:, 0] = 0
        masks = logits.softmax(1).unsqueeze(2)
        components = slots[..., 3:6, None, None].sigmoid().expand(*slots.shape[:2], 3, self.size, self.size)
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=slots)

    def forward(self, scene: Scene) -> Decomposition:
        """The latents of the scene whose number is the color of the first pixel."""
        return self.decode(self.latents[(scene.pixels[:, 0, 0, 0] * 255).round().long()])


def disks() -> Tensor:
    """(4, 4, 7) slots of four scenes: a background, a small, a large and an invisible disk."""
    slots = torch.zeros(4, 4, 7)
    slots[:, 1, :3] = torch.tensor([-0.5, -0.4, 0.2])
    slots[:, 2, :3] = torch.tensor([0.4, 0.3, 0.4])
    slots[:, 3, :3] = torch.tensor([0.0, 0.0, -1.0])
    slots[..., 3:6] = 4 * torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(0)) - 2
    slots[1] = slots[1, [0, 2, 1, 3]]  # in scene 1 the large disk is slot 1
    return slots


def numbered(*numbers: int) -> Scene:
    """Images that `Disks` recognizes."""
    image = torch.zeros(len(numbers), 3, SIZE, SIZE)
    image[:, :, 0, 0] = torch.tensor(numbers)[:, None] / 255
    return Scene(image=image)


def tiles(figure: object) -> list[np.ndarray]:
    """The pictures of a figure in the order they were drawn."""
    return [np.asarray(picture.get_array()) for picture in figure.axes[0].images]  # type: ignore[attr-defined]


def as_tile(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] as it is drawn: enlarged to at least 256 pixels, (h, w, 3) uint8."""
    factor = -(-256 // max(image.shape[-2:]))
    return (image.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy().repeat(factor, 0).repeat(factor, 1)


# Stages


def test_every_layer_and_step_of_efficientmorl_is_a_stage() -> None:
    torch.manual_seed(0)
    model = EfficientMORL(image_size=16, slots=3, slot_size=8, layers=3, refinement_steps=2, decoder="broadcast").eval()
    with torch.no_grad():
        output = model(Scene(image=torch.rand(2, 3, 16, 16)))
    found = decoded_stages(model, output)
    assert [stage.name for stage in found] == ["layer 1", "layer 2", "layer 3\n= step 0", "step 1", "step 2"]
    for stage, recon in zip(found[2:], output.step_recon.unbind(1), strict=True):
        assert torch.equal(stage.drawn.recon, recon)
    assert torch.equal(found[-1].drawn.recon, output.recon)
    assert torch.equal(found[-1].drawn.masks, output.masks)
    for layer, stage in enumerate(found[:3]):
        torch.testing.assert_close(stage.drawn.recon, model.decode(output.layer_slots[:, layer]).recon)
        assert torch.equal(stage.attention, output.layer_attention[:, layer])
    assert found[3].attention is None
    model.refinement_steps = 0
    with torch.no_grad():
        assert len(decoded_stages(model, model(Scene(image=torch.rand(1, 3, 16, 16))))) == 3


def test_every_iteration_of_iodine_is_a_stage() -> None:
    torch.manual_seed(0)
    model = IODINE(image_size=16, slots=2, slot_size=4, iterations=2, decoder_channels=[8]).eval()
    with torch.no_grad():
        output = model(Scene(image=torch.rand(1, 3, 16, 16)))
    found = decoded_stages(model, output)
    assert [stage.name for stage in found] == ["step 0", "step 1", "step 2"]
    assert torch.equal(found[1].drawn.components, output.step_components[:, 1])


def test_every_iteration_of_slot_attention_is_a_stage() -> None:
    torch.manual_seed(0)
    model = SlotAttentionModel(image_size=16, slots=3, slot_size=8, encoder_channels=8, decoder="broadcast").eval()
    scene = Scene(image=torch.rand(2, 3, 16, 16))
    noise = torch.randn(2, 3, 8)
    with torch.no_grad():
        output = model(scene, noise=noise)
        found = decoded_stages(model, output)
        assert [stage.name for stage in found] == ["iteration 1", "iteration 2", "iteration 3"]
        torch.testing.assert_close(found[-1].drawn.recon, output.recon)
        assert torch.equal(found[-1].attention, output.attention)
        model.iterations = 1  # what the first of three iterations left is what the only one leaves
        alone = model(scene, noise=noise)
    torch.testing.assert_close(found[0].drawn.masks, alone.masks)
    torch.testing.assert_close(found[0].attention, alone.attention)


def test_a_model_without_steps_has_no_stages() -> None:
    model = MONet(image_size=32, slots=2, latent_dim=4, attention_channels=8).eval()
    with torch.no_grad():
        assert decoded_stages(model, model(Scene(image=torch.rand(1, 3, 32, 32)))) == []


def three_stages() -> tuple[Scene, list[Stage]]:
    model, scene = Disks(disks()), numbered(0, 1)
    output = model(scene)
    grown = [model.decode(output.slots * weight) for weight in (0.2, 0.6, 1.0)]
    attention = [output.masks[:, :, 0, ::4, ::4], None, None]
    names = ["layer 1", "step 1", "step 2"]
    stages = zip(names, grown, attention, strict=True)
    return scene, [Stage(name=n, slots=o.slots, drawn=o, attention=a) for n, o, a in stages]


def test_the_refinement_figure_shows_every_stage_of_every_scene() -> None:
    scene, found = three_stages()
    figure = viz.refinement_figure(scene, found, count=2)
    headings = [
        "image",
        "reconstruction",
        "masks",
        "segments",
        "outlines",
        "attention",
        *(f"slot {k}" for k in range(4)),
    ]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [*headings, *["layer 1", "step 1", "step 2"] * 2]
    drawn = tiles(figure)
    assert len(drawn) == 2 * (10 + 9 + 9)  # the attention of the first stage only
    for stage, first in zip(found, (0, 20, 38), strict=True):
        for block in range(2):
            width = 10 if stage.attention is not None else 9
            assert np.array_equal(drawn[first + block * width + 1], as_tile(stage.drawn.recon[block]))
    assert len(tiles(viz.refinement_figure(scene, found, count=1, max_slots=2))) == 8 + 7 + 7


def test_frames_of_the_refinement_are_the_stages() -> None:
    scene, found = three_stages()
    frames = viz.refinement_frames(scene, found, count=2, pixels=SIZE)
    assert len(frames) == 3
    for frame, stage in zip(frames, found, strict=True):
        picture = viz.decomposition_array(scene, stage.drawn, 2, pixels=SIZE)
        assert np.array_equal(frame[-len(picture) :, : picture.shape[1]], picture)
        assert frame[: -len(picture)].min() < 100  # the name in letters
    with pytest.raises(ValueError, match="a name of its own"):
        viz.refinement_frames(scene, [found[0], found[0]])
    with pytest.raises(ValueError, match="at least one"):
        viz.refinement_figure(scene, [])


# Traversals


def traversals(steps: int = 5) -> tuple[Scene, Decomposition, list[viz.Traversal]]:
    limits = torch.tensor([[-1.0, 1.0]] * 7)
    scene = numbered(0)
    drawn, moved = object_traversals(Disks(disks()), scene, limits=limits, dims=[1, 4, 6], steps=steps)
    return scene, drawn, moved


def test_visible_objects_are_traversed_and_only_the_moved_dimension_changes() -> None:
    _, drawn, moved = traversals()
    assert [traversal.slot for traversal in moved] == [0, 1, 2]  # the fourth is not to be seen
    small = moved[1]
    assert small.images.shape == (3, 5, 3, SIZE, SIZE)
    assert (small.images[2] - drawn.recon).abs().max() == 0  # dimension 6 does nothing
    columns = (small.images[0] - moved[0].images[0]).abs().sum((1, 2)).argmax(-1)  # where the small disk is
    assert columns[1] < columns[2] < columns[3]
    slots = disks()[0].clone()
    slots[1, 1] = 0.5
    torch.testing.assert_close(small.images[0, 3], Disks(disks()).decode(slots[None]).recon[0])


@pytest.mark.parametrize("kind", ["disks", "efficientmorl", "monet"])
def test_at_its_own_value_a_dimension_gives_the_reconstruction(kind: str) -> None:
    torch.manual_seed(0)
    model = {
        "disks": lambda: Disks(disks()),
        "efficientmorl": lambda: EfficientMORL(image_size=16, slots=3, slot_size=8, decoder="broadcast"),
        "monet": lambda: MONet(image_size=32, slots=3, latent_dim=8, attention_channels=8),
    }[kind]()
    side = {"disks": SIZE, "efficientmorl": 16, "monet": 32}[kind]
    scene = numbered(0) if kind == "disks" else Scene(image=torch.rand(1, 3, side, side))
    drawn = redraw(model, scene)
    for slot in visible_slots(drawn)[0].nonzero()[:, 0].tolist():
        own = drawn.slots[0, slot]
        limits = torch.stack([own - 1, own + 1], 1)
        _, moved = object_traversals(model, scene, limits=limits, dims=[0, 3], steps=3)
        traversal = next(t for t in moved if t.slot == slot)
        torch.testing.assert_close(traversal.images[:, 1], drawn.recon.expand(2, -1, -1, -1), atol=1e-5, rtol=0)


def test_the_traversal_figure_places_objects_dimensions_and_marks() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    scene, drawn, moved = traversals()
    figure = viz.traversal_figure(scene, drawn, moved)
    pictures = tiles(figure)
    assert figure.texts[0].get_text().startswith("Triangle below a row: the value that this object's own latent has")
    panels = 5 + 4  # image, reconstruction, masks, segments, outlines, four slots
    assert len(pictures) == panels + 3 * 3 * 5
    assert np.array_equal(pictures[panels + 15 + 2], as_tile(moved[1].images[0, 2]))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in texts if text.startswith("dim")] == [f"dim {d}\n-1 to 1" for d in (1, 4, 6)] * 2
    assert texts[-3:] == ["slot 0", "slot 1", "slot 2"]
    axes = figure.axes[0]
    marks = [patch.get_xy()[0] for patch in axes.patches if type(patch).__name__ == "Polygon"]
    assert len(marks) == 9
    row = [picture.get_extent() for picture in axes.images[panels + 15 : panels + 20]]  # the small disk, dimension 1
    centers = [(extent[0] + extent[1]) / 2 for extent in row]
    assert marks[3][0] == pytest.approx(np.interp(-0.4, torch.linspace(-1, 1, 5), centers), abs=1e-4)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_frames_of_a_traversal_run_up_and_down() -> None:
    _, _, moved = traversals()
    frames = viz.traversal_frames(moved, pixels=SIZE)
    assert len(frames) == 8
    assert np.array_equal(frames[1], frames[-1])
    edge = SIZE // 32
    band = frames[0].shape[0] - 3 * (SIZE + 3 * edge)
    top, left = band + (SIZE + 3 * edge) + edge, 2 * edge
    for step in range(5):  # second object, first dimension
        expected = (moved[1].images[0, step] * 255).round().byte().movedim(0, -1).numpy()
        assert np.array_equal(frames[step][top : top + SIZE, left : left + SIZE], expected)
    assert frames[0][top - 1, left].tolist() == viz.slot_colors(2)[1].tolist()


def test_traversals_must_fit_together() -> None:
    scene, drawn, moved = traversals()
    _, _, longer = traversals(steps=6)
    with pytest.raises(ValueError, match="the same M dimensions"):
        viz.traversal_figure(scene, drawn, [moved[0], longer[1]])
    with pytest.raises(ValueError, match="no traversals"):
        viz.traversal_frames([])
    with pytest.raises(ValueError, match="labels has 1"):
        viz.traversal_figure(scene, drawn, moved, labels=["x"])


# Between two scenes


def test_the_largest_object_is_chosen_not_the_background() -> None:
    model = Disks(disks())
    drawn = redraw(model, numbered(0, 1, 2))
    assert object_slots(model, drawn).tolist() == [2, 1, 2]
    assert visible_slots(drawn).tolist() == [[True, True, True, False]] * 3
    split = disks()  # half of the picture is slot 3's: still background, as it reaches far along the border
    split[:, 3, :3] = torch.tensor([0.0, 11.0, 11.0])
    model = Disks(split)
    assert object_slots(model, redraw(model, numbered(0))).tolist() in ([1], [2])
    hidden = disks()  # the large disk has the background's color: nothing to be seen of it
    hidden[:, 2, 3:6] = hidden[:, 0, 3:6]
    model = Disks(hidden)
    assert object_slots(model, redraw(model, numbered(0))).tolist() == [1]
    shared = disks()  # both disks reach far along the border, as where objects share the background
    shared[:, 1:3, :3] = torch.tensor([[-0.9, 0.0, 0.8], [0.9, 0.0, 1.0]])
    model = Disks(shared)
    assert object_slots(model, redraw(model, numbered(0))).tolist() in ([1], [2])


def test_one_slot_is_no_object() -> None:
    model = Disks(disks()[:, :1])
    with pytest.raises(ValueError, match="no objects to exchange"):
        object_slots(model, redraw(model, numbered(0)))


def test_a_stick_breaking_model_keeps_its_last_slot() -> None:
    class Stick(Disks):
        def decode(self, slots: Tensor) -> Decomposition:
            drawn = super().decode(slots)
            rest = torch.cat([torch.zeros_like(drawn.masks[:, :-1]), torch.ones_like(drawn.masks[:, :1])], 1)
            inside = slots[:, -1, 2] > 0.2
            drawn.masks = torch.where(inside[:, None, None, None, None], rest, drawn.masks)
            return drawn

    slots = disks()[:, [0, 1, 3, 2]]  # the large disk last: it takes all
    model = Stick(slots)
    assert object_slots(model, redraw(model, numbered(0))).tolist() != [3]


def test_the_swap_figure_shows_before_and_after() -> None:
    model = Disks(disks())
    a, b = numbered(0), numbered(1)
    before = redraw(model, a), redraw(model, b)
    chosen = object_slots(model, before[0]), object_slots(model, before[1])
    after = swap_objects(model, a, b, *chosen)
    figure = viz.swap_figure((a, b), before, after, chosen)
    drawn = tiles(figure)
    expected = {0: a.pixels, 1: before[0].recon, 3: b.pixels, 4: before[1].recon, 6: after[0].recon, 7: after[1].recon}
    assert len(drawn) == 8
    for column, images in expected.items():
        assert np.array_equal(drawn[column], as_tile(images[0])), column
    color = before[1].components[0, 1, :, 60, 60]  # the large disk of b, now in a
    torch.testing.assert_close(after[0].recon[0, :, 67, 62], color, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="for every pair"):
        viz.swap_figure((a, numbered(1, 2)), before, after, chosen)


def test_the_interpolation_figure_runs_from_scene_to_scene() -> None:
    model = Disks(disks())
    a, b = numbered(0, 2), numbered(1, 3)
    line = interpolate(model, a, b, steps=4)
    figure = viz.interpolation_figure(a, b, line)
    drawn = tiles(figure)
    assert len(drawn) == 2 * (2 + 2 * 4)
    assert np.array_equal(drawn[0], as_tile(a.pixels[0]))
    assert np.array_equal(drawn[1], as_tile(b.pixels[0]))
    assert np.array_equal(drawn[2], as_tile(redraw(model, a).recon[0]))
    assert np.array_equal(drawn[5], as_tile(redraw(model, b).recon[0]))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["image a", "0.00", "0.33", "0.67", "1.00", "image b", *["scene", "masks"] * 2]
    with pytest.raises(ValueError, match="same number of points"):
        viz.interpolation_figure(a, b, line[:7])


# The command


@dataclass(frozen=True)
class Trained:
    """A run folder with a barely trained model."""

    path: Path

    def figures(self) -> set[str]:
        return {file.name for file in (self.path / "figures").glob("*.*")}


@pytest.fixture(scope="module")
def iterative(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("pictures") / "run"
    words = ["model=efficientmorl", "training=efficientmorl", "data=colored_shapes", "data.image_size=16",
             "model.image_size=16", "model.slots=3", "model.slot_size=4", "model.decoder=broadcast",
             "model.decoder_channels=4", "model.refinement_steps=1", "data.count=8", "batch_size=4",
             "trainer.max_steps=1", "every.log=1", "every.picture=0", "trainer.accelerator=cpu",
             f"run_dir={folder}"]  # fmt: skip
    assert main(["train", *words]) == 0
    return Trained(folder)


def test_show_draws_every_stage_of_an_iterative_model(iterative: Trained, tmp_path: Path) -> None:
    assert main(["show", str(iterative.path), "-n", "2"]) == 0
    assert {"decomposition-colored_shapes-test.png", "refinement-colored_shapes-test.png"} <= iterative.figures()
    with Image.open(iterative.path / "figures" / "refinement-colored_shapes-test.gif") as film:
        assert film.n_frames == 4  # three layers, one refinement
    film = tmp_path / "film.gif"
    assert main(["show", str(iterative.path), "-n", "1", "--out", str(film)]) == 0
    assert film.stat().st_size > 1000
    assert [file.name for file in tmp_path.iterdir()] == ["film.gif"]


def test_show_draws_edits_and_traversals(
    iterative: Trained, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(iterative.path, path)
    model = objectscape.load(path)
    for name, weight in model.named_parameters():
        if "decoder" in name and weight.ndim > 1:
            weight.data *= 40  # so that latents change the picture
    save_model(model, path / "model", step=1)
    words = ["--traversals", "--interpolate", "--swap", "-n", "1", "--dimensions", "2", "--steps", "3", "--images", "1"]
    assert main(["show", str(path), *words]) == 0
    printed = capsys.readouterr().out.split()
    assert [Path(line).name for line in printed] == [
        f"{kind}-colored_shapes-test.{suffix}"
        for kind, suffix in (("traversals", "png"), ("traversals", "gif"), ("interpolation", "png"), ("swap", "png"))
    ]
    assert all(Path(line).stat().st_size > 1000 for line in printed)
    assert "![swap-colored_shapes-test]" in (path / "README.md").read_text()


def test_pictures_say_what_they_show_and_that_a_model_is_dead(
    iterative: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[str]] = {}

    def keep(figure: Figure, path: Path) -> Path:
        drawn[path.stem] = [text.get_text() for text in (*figure.texts, *figure.axes[0].texts)]
        drawn[path.stem] += [axes.get_title() for axes in figure.axes]
        return path

    monkeypatch.setattr("objectscape.cli.drawing.save_figure", keep)
    assert main(["show", str(iterative.path), "-n", "2"]) == 0
    texts = drawn["decomposition-colored_shapes-test"]
    assert texts[0] == "run run · step 1 · EfficientMORL · colored_shapes (test) from 0"
    assert any(text.startswith("Dead: every reconstruction") for text in texts)
    assert sum(text.startswith("ARI-FG") for text in texts) == 2
    assert "Undecided" in capsys.readouterr().err
    curves = drawn["learning_curves"]
    assert any(text.startswith("train/loss ↓") for text in curves)
    assert main(["show", str(iterative.path), "--traversals", "--images", "1"]) == 1
    assert "nothing to traverse: no dimension of the latents changes the picture" in capsys.readouterr().err


def test_what_is_to_be_said_of_a_model() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 8, 8, generator=generator)
    segments = torch.zeros(2, 8, 8, dtype=torch.long)
    segments[:, 2:5, 2:5] = 1
    owners = torch.nn.functional.one_hot(segments, 3).movedim(-1, 1).unsqueeze(2).float()

    def said(masks: Tensor, recon: Tensor = image, truth: Tensor | None = segments) -> str:
        output = Decomposition(recon=recon, masks=masks, components=recon[:, None].expand(-1, 3, -1, -1, -1),
                               slots=torch.zeros(2, 3, 1))  # fmt: skip
        return " ".join(remarks(Scene(image=image, segments=truth), output))

    assert said(owners) == "1 of 3 slots is nowhere in these scenes and left out."
    assert "Undecided: the largest mask of a pixel is 0.34" in said(torch.full_like(owners, 1 / 3) + 0.01 * owners)
    alone = torch.zeros_like(owners)
    alone[:, 1] = 1
    assert "Nothing is divided: one slot owns 100.0%" in said(alone)
    assert "Nothing is divided" in said(alone, truth=None)
    assert "Dead" in said(owners, image.mean((2, 3), keepdim=True).expand_as(image))
    assert said(owners, image * torch.nan) == "The output is not finite: the model has diverged."


def test_headline_scores_come_first_among_the_curves() -> None:
    columns = ["step", "train/loss", "train/kl", "val/mbo", "val/mse", "val/ari_fg", "val/ari", "val/loss"]
    found = curve_keys(columns)
    assert list(found) == ["val/ari_fg", "val/ari", "val/mse", "train/loss", "val/loss"]
    assert found["val/ari_fg"] == "higher"
    assert found["val/mse"] == found["train/loss"] == "lower"
    assert curve_keys(["step", "val/mbo"]) == {"val/mbo": "higher"}
    assert curve_keys(["step"]) == {}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["RUN", "--swap", "--traversals", "--out", "x.png"], "2 kinds of pictures"),
        (["RUN", "--first", "8"], "scenes 0..7"),
        (["RUN", "--first", "7", "--swap"], "at least two scenes"),
        (["RUN", "--swap", "--out", "x.gif"], ".png, .pdf, .svg"),
        (["RUN", "--interpolate", "--steps", "1"], "at least 2"),
        (["tetrominos"], "Did you mean 'tetrominoes'"),
        (["missing.png"], "no run folder, picture or data set missing.png"),
        (["tetrominoes", "--swap"], "name a run first"),
    ],
)
def test_show_answers_in_words(
    iterative: Trained, words: list[str], answer: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["show", *(str(iterative.path) if word == "RUN" else word for word in words)]) == 1
    text = capsys.readouterr().err
    assert answer in text
    assert "Traceback" not in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("verb", "option"), [*(("show", o) for o in ("-n", "--dimensions", "--images", "--steps")), ("sample", "-n")]
)
def test_nothing_is_drawn_zero_times(
    verb: str, option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([verb, "RUN", option, "0"])
    assert f"argument {option}: 0: expected a whole number, at least 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_data_set_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", "colored_shapes", "data.image_size=16", "-n", "2"]) == 0
    assert capsys.readouterr().out.split() == ["colored_shapes-test.png"]
    by_name = (tmp_path / "colored_shapes-test.png").read_bytes()
    assert main(["show", "data=colored_shapes", "data.image_size=16", "-n", "2", "--first", "1"]) == 0
    assert (tmp_path / "colored_shapes-test.png").read_bytes() != by_name
    assert main(["show", "data=colored_shapes", "data.image_size=16", "-n", "2"]) == 0
    assert (tmp_path / "colored_shapes-test.png").read_bytes() == by_name
