"""Learning curves: what is drawn of a log, at which scale, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from objectscape import viz


def rows(seed: int, steps: int = 50) -> list[dict]:
    train = [{"step": i, "loss": 1000 * 0.8**i + 1 + seed, "val/ari": ""} for i in range(steps)]
    return train + [{"step": i, "loss": "", "val/ari": 0.01 + i / 60 + seed / 100} for i in range(0, steps, 10)]


def test_curves_choose_keys_and_scales():
    figure = viz.learning_curves([rows(0), rows(2)])
    assert [axes.get_title() for axes in figure.axes] == ["loss ↓", "val/ari"]
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    lines = figure.axes[1].lines
    assert len(lines) == 3  # two runs and their mean
    np.testing.assert_allclose(lines[-1].get_ydata(), [0.02 + i / 60 for i in range(0, 50, 10)])
    band = figure.axes[1].collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(0.02 + 40 / 60 + 0.01 * 2**0.5)


def test_a_single_curve_says_its_best_and_its_last_value():
    points = [{"step": 10 * i, "loss": value, "val/ari": value} for i, value in enumerate((3.0, 1.0, 2.0))]
    figure = viz.learning_curves(points, keys=["val/ari", "loss"], better={"val/ari": "higher"})
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["val/ari ↑\nbest 3 at 0, last 2", "loss ↓\nbest 1 at 10, last 2"]
    assert viz.learning_curves(points, keys=["val/ari"]).axes[0].get_title() == "val/ari\nlast 2"


def test_curves_read_files_and_compare_experiments(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text("epoch,step,val/loss\n0,1,2.5\n,2,\n1,3,1.5\n1,4,nan\n")
    figure = viz.learning_curves({"ours": tmp_path, "theirs": [tmp_path / "metrics.csv"] * 2})
    (axes,) = figure.axes
    assert axes.lines[0].get_xdata().tolist() == [1, 3]
    assert axes.lines[0].get_ydata().tolist() == [2.5, 1.5]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["ours", "theirs: 2 runs, mean ± s.d."]


def test_long_curves_are_averaged():
    figure = viz.learning_curves([{"step": i, "loss": i % 2} for i in range(4000)])
    values = figure.axes[0].lines[0].get_ydata()
    assert len(values) == 200
    assert values.mean() == pytest.approx(0.5)


def test_curves_errors(tmp_path: Path):
    with pytest.raises(ValueError, match="did you mean val/ari"):
        viz.learning_curves(rows(0), keys=["val/arii"])
    with pytest.raises(ValueError, match="linear, log"):
        viz.learning_curves(rows(0), scale="logarithmic")
    with pytest.raises(ValueError, match="no runs"):
        viz.learning_curves([])
    with pytest.raises(ValueError, match="column 'step'"):
        viz.learning_curves([{"loss": 1.0}])
    with pytest.raises(ValueError, match="pass keys"):
        viz.learning_curves([{"step": 1, "lr": 1.0}])
    with pytest.raises(FileNotFoundError, match=r"metrics\.csv"):
        viz.learning_curves(tmp_path)
