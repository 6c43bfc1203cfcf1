"""What a run computes in, on any CPU."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import objectscape
from objectscape.building import build
from objectscape.cli import main
from objectscape.cli.config import load, options
from objectscape.evaluation.results import judge
from objectscape.scene import Scene
from objectscape.training.precision import choose_precision, fast_bf16

TINY = "data.count=16 batch_size=4 trainer.max_steps=2 every.validate=0 every.picture=0 every.log=1".split()


@pytest.fixture
def bf16_cpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As on a CPU with AMX and no limits set."""
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: True)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_auto_is_bf16_where_the_cpu_has_it(bf16_cpu: pytest.MonkeyPatch) -> None:
    assert str(choose_precision("auto", "cpu")) == (
        "bf16-mixed, chosen by trainer.precision=auto: this CPU has AMX and AVX512_BF16"
    )
    bf16_cpu.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    assert choose_precision("auto", "cpu").setting == "bf16-mixed"
    bf16_cpu.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    found = choose_precision("auto", "cpu")
    assert found.setting == "32-true"
    assert "neither AVX512_BF16 nor AMX" in found.reason


@pytest.mark.parametrize(
    ("name", "value", "fast"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", False),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core", False),
        ("DNNL_MAX_CPU_ISA", "AVX512_CORE_VNNI", False),
        ("ATEN_CPU_CAPABILITY", "avx2", False),
        ("ATEN_CPU_CAPABILITY", "default", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True),
        ("ONEDNN_MAX_CPU_ISA", "", True),
        ("ATEN_CPU_CAPABILITY", "avx512", True),
    ],
)
def test_limits_on_the_instructions_count(name: str, value: str, fast: bool, bf16_cpu: pytest.MonkeyPatch) -> None:
    bf16_cpu.setenv(name, value)
    found, why = fast_bf16("cpu")
    assert found is fast
    assert fast or f"{name}={value}" in why


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_needs_compute_capability_8(
    capability: tuple[int, int], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda i: (9, 0) if i else capability)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "T")
    assert choose_precision("auto", "auto").setting == ("bf16-mixed" if fast else "32-true")
    assert choose_precision("16-mixed", "gpu").setting == "16-mixed"


def test_what_is_set_is_taken_and_slowness_told(bf16_cpu: pytest.MonkeyPatch) -> None:
    assert str(choose_precision("bf16", "cpu")) == "bf16-mixed, as set"
    assert str(choose_precision(32, "cpu")) == "32-true, as set"
    bf16_cpu.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert "slow here" in choose_precision("bf16-mixed", "cpu").reason


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("bf17-mixed", "Did you mean 'bf16-mixed'"),
        ("16-mixed", "needs a GPU"),
        ("16", "needs a GPU"),
        ("bf16-true", "Weights stay in float32"),
        ("64-true", "choose one of auto, 32-true"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    setting: str, answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recipe=quickstart", f"trainer.precision={setting}", "trainer.accelerator=cpu", f"run_dir={tmp_path}/run"]
    assert main(["train", *words]) == 1
    assert answer in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_no_recipe_demands_16_bits() -> None:
    """bf16 is emulated on most CPUs, and 5 to 14 times slower there than float32."""
    found = {load([f"recipe={name}"]).trainer.precision for name in options("recipe") if "tiny" in name}
    assert found <= {"auto", "32-true"}
    assert load(["recipe=genesis/tiny"]).trainer.precision == "auto"


def test_gradients_are_clipped_in_bfloat16(tmp_path: Path, bf16_cpu: pytest.MonkeyPatch) -> None:
    words = ["recipe=slot_attention/tiny", *TINY, "trainer.accelerator=cpu", f"run_dir={tmp_path}/run"]
    assert load(words).trainer.gradient_clip_val
    assert main(["train", *words, "trainer.precision=bf16-mixed"]) == 0


@pytest.mark.parametrize("isa", ["AVX2", ""])
def test_the_run_says_what_was_chosen(isa: str, tmp_path: Path, bf16_cpu: pytest.MonkeyPatch, caplog) -> None:
    """GENESIS has every kind of layer that matters: convolutions, an LSTM cell, an LSTM."""
    bf16_cpu.setenv("ONEDNN_MAX_CPU_ISA", isa)
    with caplog.at_level("INFO", logger="objectscape"):
        assert main(["train", "recipe=genesis/tiny", *TINY, "trainer.accelerator=cpu", f"run_dir={tmp_path}/run"]) == 0
    expected = "32-true" if isa else "bf16-mixed"
    chosen = json.loads((tmp_path / "run" / "status.json").read_text())["precision"]
    assert chosen.startswith(f"{expected}, chosen by trainer.precision=auto")
    assert f"Precision: {chosen}." in (tmp_path / "run" / "README.md").read_text()
    assert f"precision: {chosen}" in caplog.text
    bf16_cpu.setenv("ONEDNN_MAX_CPU_ISA", "" if isa else "AVX2")  # continued on another machine
    with caplog.at_level("WARNING", logger="objectscape"):
        assert main(["train", f"resume={tmp_path}/run", "trainer.max_steps=3"]) == 0
    assert f"this run was in {chosen} so far" in caplog.text


@pytest.mark.parametrize("name", ["genesis", "genesis_s", "genesis_v2", "slot_attention", "efficientmorl"])
def test_recurrent_cells_compute_in_float32_under_autocast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPUs without bf16 instructions have no bf16 LSTM."""
    seen = []
    for cell in (nn.LSTM, nn.LSTMCell, nn.GRUCell):

        def forward(self: nn.Module, input: torch.Tensor, hx: object = None, *, of: Callable = cell.forward) -> object:
            seen.append((input.dtype, torch.is_autocast_enabled("cpu")))
            return of(self, input, hx)

        monkeypatch.setattr(cell, "forward", forward)
    model = build(load([f"recipe={name}/tiny"]).model, "model")
    scene = Scene(image=torch.rand(2, 3, 32, 32))
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(scene, model(scene), 0)
    losses.total.backward()
    assert seen
    assert set(seen) == {(torch.float32, False)}
    assert losses.total.isfinite()


def test_every_recurrent_cell_is_one_of_ours() -> None:
    source = Path(objectscape.__file__).parent
    files = {file.name for part in ("nn", "models") for file in (source / part).rglob("*.py")
             if re.search(r"\bnn\.(LSTM|GRU|RNN)(Cell)?\(", file.read_text())}  # fmt: skip
    assert files <= {"recurrent.py"}, "objectscape.nn.recurrent has cells that stay in float32 under autocast"


def test_reproduce_compares_distributions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "quickstart", *TINY, "trainer.accelerator=cpu", f"run_dir={tmp_path}/run"]
    assert main(words) == 1  # two steps are worse than measured
    printed = " ".join(capsys.readouterr().out.split())
    assert "ari_fg" in printed
    assert "worse" in printed
    assert f"This run: 32-true, as set; threads: {torch.get_num_threads()}." in printed
    assert "another run of the same distribution" in printed


@pytest.mark.skipif(not fast_bf16("cpu")[0], reason="needs a CPU with AVX512_BF16 or AMX, not limited by a variable")
def test_bf16_is_chosen_on_this_cpu() -> None:
    assert choose_precision("auto", "cpu").setting == "bf16-mixed"


def test_another_run_of_the_same_distribution_counts_as_measured() -> None:
    known = {"mean": 0.9, "sd": 0.01, "seeds": 3}
    assert judge(0.9 - 0.049, known) == "as measured"  # t(2) = 4.30, times sqrt(4/3)
    assert judge(0.9 - 0.051, known) == "worse"
    assert judge(0.9 + 0.051, known) == "better"
    assert judge(0.9 - 0.024, {**known, "seeds": 10}) == "worse"  # more runs, a narrower interval
    assert judge(0.892, {**known, "sd": 0.0}) == "as measured"  # within one percent
    assert judge(0.88, {**known, "seeds": 1}) == "worse"
    assert judge(float("nan"), known) == "worse"
    assert judge(0.96, {**known, "lower_is_better": True}) == "worse"
