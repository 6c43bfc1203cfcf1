"""Make a run a model of the package: python -m benchmarks.pack_model RUN NAME [RUN OF OTHER SEEDS ...]

Writes src/objectscape/pretrained/NAME: the run's configuration, its model with weights in half precision, and the scores
of the packed model in card.json, whose words (`what`, `fails`) are kept if they are there, and to be written if not.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

import objectscape
from objectscape.checkpoints.native import WEIGHTS, read_config, sha256
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.evaluation.results import read_results
from objectscape.files import read_json, write_text
from objectscape.pretrained import HERE

IMAGES = 320


def main(run: str, name: str, *others: str) -> None:
    source, target = RunFolder.open(Path(run)), HERE / name
    config = source.config()
    config.run_dir = None
    write_text(target / "config.yaml", OmegaConf.to_yaml(config))
    (target / "model").mkdir(exist_ok=True)
    weights = load_file(source.model_folder / WEIGHTS)
    save_file({key: value.half() if value.is_floating_point() else value for key, value in weights.items()},
              target / "model" / WEIGHTS)  # fmt: skip
    description = {**read_config(source.model_folder), "sha256": sha256(target / "model" / WEIGHTS)}
    write_text(target / "model" / "config.json", json.dumps(description, indent=2) + "\n")
    write_text(target / "model" / "README.md", (source.model_folder / "README.md").read_text())
    file = target / "card.json"
    words = read_json(file) if file.is_file() else {"what": "", "fails": "", "license": "Apache-2.0"}
    found = objectscape.evaluate(RunFolder(target).load_model(), Path(run), images=IMAGES)
    scores = {key: round(found[key].mean, 4) for key in found.headline}
    runs = [next(iter(read_results(RunFolder.open(Path(path))).values()))["scores"] for path in (run, *others)]
    spread = {}
    for key in scores:
        values = [scores_of[key]["mean"] for scores_of in runs]
        spread[key] = [round(statistics.mean(values), 4), round(statistics.stdev(values), 4), len(values)]
    card = {
        **words,
        "recipe": config.name,
        "seed": config.seed,
        "steps": description["step"],
        "data": description["data"]["name"],
        "images": IMAGES,
        "scores": scores,
        "spread": spread,
    }
    write_text(file, json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2), (target / "model" / WEIGHTS).stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
