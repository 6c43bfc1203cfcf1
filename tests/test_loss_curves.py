"""The first losses of every model, as stored: whoever changes them says so.

`python -m tests.test_loss_curves` trains every model for 50 steps, says how far each is from the stored curve, and with
`--write` stores the new ones; names of models after it limit it to those.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from objectscape.cli.config import load, options
from objectscape.cli.train import train
from objectscape.data.formats.hdf5 import write_hdf5
from objectscape.data.synthetic.moving_shapes import MovingShapes
from tests.test_contract import SMALL
from tests.test_savi import SMALL as SAVI
from tests.test_slotformer import TINY

FILE = Path(__file__).parent / "data" / "loss_curves.json"
STEPS, CHECKED = 50, 3
TOLERANCE = 1e-4  # with other instructions (AVX2 against AVX-512) three steps differ by up to 5e-6, 50 by up to 0.02

IMAGES = {"data": "colored_shapes", "image_size": 32, "count": 16}
CLIPS = {"data": "moving_shapes", "image_size": 16, "frames": 4, "count": 16}
MOVED = {"data": "select_move", "image_size": 16, "frames": 4, "count": 16}
PAIRS = {"data": "simple_shapes", "domains": ["v", "attr"], "count": 16}
WORDS = {"data": "simple_shapes", "domains": ["t", "attr", "said", "grammar"], "count": 16, "open_sentences": 0.5}
FILM = {"data": "video", "image_size": 32}  # with motion, from a file
VISUAL = {"network": "patches", "width": 8, "latent_size": 4}
SPRITES = {"image_size": 16, "slots": 3, "action_size": 4}

MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{name: (IMAGES, values) for name, values in SMALL.items()},
    "space_time": (FILM, SMALL["space_time"]),
    "slot_attention_moc": (FILM, {"image_size": 32, "slots": 3, "slot_size": 8, "encoder_channels": 8,
                                  "decoder": "broadcast", "decoder_channels": 8}),
    "savi": (CLIPS, SAVI),
    "slotformer": (CLIPS, {**TINY, "base": {"_target_": "objectscape.models.savi.SAVi", **SAVI}}),
    "framed_slots": (MOVED, {**SPRITES, "width": 8, "hidden": 8, "rollouts": 2}),
    "sswm": (MOVED, {**SPRITES, "slot_size": 4, "channels": 4, "lstm_size": 8, "rollouts": 2}),
    "op3": (MOVED, {**SPRITES, "stochastic_size": 4, "deterministic_size": 4, "action_width": 3, "lstm_size": 8,
                    "decoder_channels": [4, 4, 4, 4], "refinement_channels": [4, 4, 6], "refinement_mlp": [6]}),
    "vrnn": (MOVED, {"image_size": 16, "latent_size": 4, "hidden_size": 12, "encoder_channels": [4] * 5,
                     "decoder_channels": 4, "action_size": 4}),
    "visual_vae": (PAIRS, VISUAL),
    "text": (WORDS, {}),
    "global_workspace": (PAIRS, {"state_size": 4, "hidden_size": 8, "domains": {
        "v": {"_target_": "objectscape.models.domains.visual_vae.VisualVAE", **VISUAL},
        "attr": {"_target_": "objectscape.models.domains.attributes.Attributes"}}}),
}  # fmt: skip


def losses(name: str, steps: int, folder: Path) -> list[float]:
    """The first losses of a training run, as `objectscape train` makes it."""
    data, model = MODELS[name]
    config = load([f"model={name}", f"data={data['data']}"])
    OmegaConf.set_struct(config, False)
    config.data.update({key: value for key, value in data.items() if key != "data"})
    if data is FILM:
        splits = {split: MovingShapes(count=16, frames=3, image_size=32, split=split) for split in ("train", "val")}
        config.data.path = str(folder / "film.h5")
        write_hdf5(config.data.path, splits)
    changes = {
        "model": model,
        "name": name,
        "run_dir": str(folder / name),
        "batch_size": 4,
        "storage": "ram",
        "every": {"log": 1, "validate": 0, "picture": 0, "checkpoint": STEPS},
        "validation": {"images": 4},
        "loggers": {"tensorboard": False},
        "trainer": {"max_steps": steps, "accelerator": "cpu", "precision": "32-true"},
    }
    run = train(OmegaConf.merge(config, changes))  # type: ignore[arg-type]
    with (run.path / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


def difference(found: list[float], stored: list[float]) -> float:
    """The largest, relative to the stored value."""
    return max(abs(one - two) / max(abs(two), 1e-6) for one, two in zip(found, stored, strict=False))


def test_every_model_has_a_curve() -> None:
    stored = json.loads(FILE.read_text())
    rest = "give the model a small configuration in MODELS, then: python -m tests.test_loss_curves --write NAME"
    assert set(options("model")) == MODELS.keys() == stored.keys(), rest
    assert all(len(curve) == STEPS for curve in stored.values())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", MODELS)
def test_the_first_losses_are_the_stored_ones(name: str, tmp_path: Path) -> None:
    stored = json.loads(FILE.read_text())[name][:CHECKED]
    found = losses(name, CHECKED, tmp_path)
    assert difference(found, stored) < TOLERANCE, (
        f"{name} trains otherwise than before: its first losses are {found}, stored are {stored}. If you did not mean "
        "to change it, something in the model, the data, the order of batches, the noise or the optimizer has. If you "
        f"did: python -m tests.test_loss_curves --write {name}, commit tests/data/loss_curves.json with the change, "
        "and say so in CHANGELOG.md under Changed, since results trained before are not comparable."
    )


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    stored = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for name in [word for word in words if word != "--write"] or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            found = losses(name, STEPS, Path(folder))
        if name in stored:
            early, late = (difference(found[:n], stored[name]) for n in (CHECKED, STEPS))
            print(f"{name}: differs by {early:.1e} in {CHECKED} steps, {late:.1e} in {STEPS}", flush=True)
        stored[name] = [float(f"{loss:.7g}") for loss in found]
    if "--write" in words:
        lines = ",\n".join(f'"{name}": {json.dumps(stored[name])}' for name in sorted(stored))
        FILE.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
