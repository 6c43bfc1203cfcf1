"""Error against the number of matched pairs: the factor between two curves, and the command that draws them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectscape.cli import main
from objectscape.cli.pairs_curve import VARIANTS, load
from objectscape.evaluation.pairs_curve import pair_factor

PAIRS = (100, 300, 1000, 3000, 10000)


def power_law(factor: float, noise: float = 0.0) -> dict[int, list[float]]:
    """Errors that fall as a power of the pairs, those of three seeds."""
    generator = np.random.default_rng(0)
    return {n: list(10 * (factor * n) ** -0.5 * np.exp(noise * generator.normal(size=3))) for n in PAIRS}


@pytest.mark.parametrize("factor", [2.0, 5.0])
def test_factor_of_two_power_laws(factor: float) -> None:
    found = pair_factor(power_law(factor), power_law(1.0))
    assert found is not None
    assert found.mean == pytest.approx(factor, rel=1e-6)
    assert found.low == pytest.approx(found.high)
    assert found.points == (4 if factor < 3 else 3)
    noisy = pair_factor(power_law(factor, 0.1), power_law(1.0, 0.1))
    assert noisy is not None
    assert noisy.low < factor < noisy.high


def test_no_factor_where_the_curves_do_not_meet() -> None:
    assert pair_factor({100: [0.1]}, {100: [5.0], 1000: [2.0]}) is None
    over_fitted = pair_factor({100: [2.0]}, {100: [5.0], 1000: [1.0], 3000: [1.5]})
    assert over_fitted is not None
    assert 1.0 < over_fitted.mean < 10.0


def test_variants_differ_in_pairs_and_losses_only() -> None:
    assert len(VARIANTS) == 20
    full = load("workspace/curve/full-300", ["trainer.max_steps=1000"])
    alone = load("workspace/curve/tr-300", ["trainer.max_steps=1000"])
    assert (full.model.cycles_from, alone.model.cycles_from) == (700, 1000)
    assert full.data.matched == alone.data.matched == 300
    assert alone.model.weights == {"translation": 1.0, "contrastive": 0.0, "demi_cycle": 0.0, "cycle": 0.0}
    assert {key for key in full if full[key] != alone[key]} == {"model", "name"}


def test_command_draws_the_curves(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["batch_size=8", "every.log=1", "every.validate=0", "loggers.tensorboard=false"]
    vision = ["recipe=workspace/visual_vae", "data.count=40", "model.width=8", "trainer.max_steps=2", "run_dir=v"]
    assert main(["train", *vision, *small]) == 0
    assert main(["latents", "v", "data=simple_shapes", "data.count=1200", "data.domains=[v,attr]", "out=v.h5"]) == 0
    recipes = ",".join(f"workspace/curve/{name}" for name in ("tr-100", "tr-1000", "full-100"))
    words = [f"recipes={recipes}", "seeds=0", "out=bench", "model.domains.v=v", "data.path=v.h5", *small]
    assert main(["benchmark", *words, "model.hidden_size=8", "trainer.max_steps=3", "--images", "20"]) == 0
    errors = json.loads(Path("bench/curve.json").read_text())["errors"]["translation"]
    assert {name: sorted(curve) for name, curve in errors.items()} == {"tr": ["100", "1000"], "full": ["100"]}
    assert Path("bench/curve.png").stat().st_size > 5000
    assert len(json.loads(Path("bench/table.json").read_text())["rows"]) == 3
