"""Draws architecture.svg, the picture of the page "Concepts": `python docs/images/architecture.py`."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK, GREY = "#1f2937", "#6b7280"
BLUE, GREEN, ORANGE, SLATE = "#2563a8", "#1b7f5c", "#b4610f", "#475569"
TINT = {BLUE: "#eaf2fb", GREEN: "#e8f5f0", ORANGE: "#fcf1e4", SLATE: "#f1f4f8"}

mpl.rcParams["svg.hashsalt"] = "objectscape"  # the same file at every run
figure = Figure(figsize=(10.4, 6.1))
axes = figure.add_axes((0, 0, 1, 1))
axes.set(xlim=(0, 1040), ylim=(610, 0))
axes.axis("off")


def card(x: float, y: float, w: float, h: float, color: str) -> None:
    """A rounded box; x, y is its upper left corner."""
    style = "round,pad=0,rounding_size=12"
    axes.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=style, fc=TINT[color], ec=color, lw=1.4))


def text(x: float, y: float, words: str, size: float = 11, color: str = INK, **style: str) -> None:
    """Words, centered unless `style` says otherwise."""
    axes.text(x, y, words, fontsize=size, color=color, **{"ha": "center", "va": "center", **style})


def arrow(start: tuple[float, float], end: tuple[float, float], color: str = SLATE) -> None:
    """An arrow between two points."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, lw=1.6, color=color, shrinkA=0, shrinkB=0)
    )


def pill(x: float, y: float, w: float, words: str) -> None:
    """The name of a type that travels along an arrow."""
    style = "round,pad=0,rounding_size=13"
    axes.add_patch(FancyBboxPatch((x - w / 2, y - 14), w, 28, boxstyle=style, fc=SLATE, ec="none", zorder=3))
    text(x, y, words, 11, "white", weight="bold")


# who configures
card(30, 24, 980, 62, SLATE)
text(52, 45, "A recipe, or three lines of Python", 12, weight="bold", ha="left")
text(
    52,
    68,
    "objectscape train recipe=slot_attention/tetrominoes model.slots=7 seed=1",
    10.5,
    GREY,
    ha="left",
    family="monospace",
)

# data -> model -> evaluation
for x, color, title in ((30, BLUE, "Data set"), (410, GREEN, "Model"), (790, ORANGE, "Evaluation")):
    card(x, 136, 220, 178, color)
    text(x + 110, 161, title, 14, color, weight="bold")
    arrow((x + 110, 88), (x + 110, 134), "#94a3b8")
for row, words in enumerate(("rendered from a seed", "published files", "a folder of your images")):
    text(140, 197 + 28 * row, words)
text(140, 291, "knows no model", 10, GREY, style="italic")
for row, words in enumerate(("forward(scene)", "loss(scene, output, step)", "sample(n), if it can")):
    text(520, 197 + 28 * row, words, 9.5 if row < 2 else 10.5, family="monospace" if row < 2 else "DejaVu Sans")
text(520, 291, "knows no data set", 10, GREY, style="italic")
for row, words in enumerate(("metrics", "pictures", "baselines")):
    text(900, 197 + 28 * row, words)
text(900, 291, "knows abilities, not classes", 10, GREY, style="italic")

arrow((252, 228), (408, 228))
pill(329, 202, 78, "Scene")
text(329, 242, "images,\nand truth if any", 9.5, GREY, va="top")
arrow((632, 228), (788, 228))
pill(709, 202, 142, "Decomposition")
text(709, 242, "masks, slots,\ncomponents", 9.5, GREY, va="top")

# training
card(410, 390, 220, 82, SLATE)
text(520, 416, "Training", 14, SLATE, weight="bold")
text(520, 446, "one task for every model", 10.5)
arrow((490, 314), (490, 388))
pill(490, 350, 74, "Losses")
arrow((585, 390), (585, 316))
text(594, 352, "new weights", 9.5, GREY, ha="left")
# run folder
card(30, 524, 980, 62, SLATE)
text(52, 545, "Run folder", 12, weight="bold", ha="left")
parts = "config.yaml    checkpoints/    model/    metrics.csv    figures/    evaluation/    README.md"
text(52, 568, parts, 10.5, GREY, ha="left", family="monospace")
arrow((520, 472), (520, 522))
arrow((900, 314), (900, 522))
text(912, 420, "numbers\nand pictures", 9.5, GREY, ha="left")
text(532, 498, "exact state", 9.5, GREY, ha="left")
arrow((140, 314), (140, 522))
pill(140, 420, 66, "Spec")
text(182, 420, "what the\ndata are", 9.5, GREY, ha="left")

if __name__ == "__main__":
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None}, facecolor="white")
