"""Make a run a model of the package: python -m benchmarks.pack_model RUN NAME [RUN OF OTHER SEEDS ...]

Writes src/objectscape/pretrained/NAME: the run's configuration, its model with weights in half precision, and the
scores of the packed model in card.json, and the table of docs/pretrained.md. What else stands in the card is kept, and
to be written before: {"what": "", "fails": "", "ask": {"decompose": {}}, "images": 320, "show": ["ari_fg"]}.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

import objectscape
from objectscape.checkpoints.native import WEIGHTS, read_config
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.data.building import data_of
from objectscape.data.latents import LATENT
from objectscape.evaluation.questions import QUESTIONS
from objectscape.evaluation.results import number
from objectscape.files import read_json, sha256_of, write_text
from objectscape.pretrained import HERE, names
from objectscape.pretrained import card as card_of


def main(run: str, name: str, *others: str) -> None:
    source, target = RunFolder.open(Path(run)), HERE / name
    card = read_json(target / "card.json")
    config = source.config()
    config.run_dir = None
    seen = Path(run)  # the data of the scores
    if config.data["_target_"].endswith(".Latents"):  # of a workspace: the data that they are latents of
        seen, entries = target, {"attr", *(entry.removesuffix(LATENT) for entry in config.data.domains)}
        name_of_data = read_config(source.model_folder)["data"]["name"]
        config.data = data_of(configs.load([f"data={name_of_data}", f"data.domains=[{','.join(sorted(entries))}]"]))
        del config.model.domains  # model/config.json describes them
    elif "path" in config.data:
        config.data.path = Path(config.data.path).name
    write_text(target / "config.yaml", OmegaConf.to_yaml(config))
    (target / "model").mkdir(exist_ok=True)
    weights = load_file(source.model_folder / WEIGHTS)
    save_file({key: value.half() if value.is_floating_point() else value for key, value in weights.items()},
              target / "model" / WEIGHTS)  # fmt: skip
    description = {**read_config(source.model_folder), "sha256": sha256_of(target / "model" / WEIGHTS)}
    write_text(target / "model" / "config.json", json.dumps(description, indent=2) + "\n")
    scores = []
    for folder in (target, source.path):
        ask = [QUESTIONS[question](**options) for question, options in card["ask"].items()]
        found = objectscape.evaluate(objectscape.load(folder), seen, images=card["images"], ask=ask)
        scores.append({score: round(found[score].mean, 5) for score in card["show"]})
    results = [evaluation_of(Path(path), card["show"]) for path in (run, *others)]
    spread = {}
    for score in card["show"]:
        values = [result["scores"][score]["mean"] for result in results]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        spread[score] = [round(statistics.mean(values), 5), deviation and round(deviation, 5), len(values)]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=HERE
    )
    card |= {
        "recipe": config.name,
        "seed": config.seed,
        "seeds": [RunFolder(Path(path)).config().seed for path in (run, *others)],
        "steps": description["step"],
        "packed_at": commit.stdout.strip(),
        "data": description["data"]["name"],
        "scores": scores[0],
        "full_precision": scores[1],
        "spread": spread,
        "spread_images": results[0]["images"],
    }
    write_text(target / "card.json", json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2), (target / "model" / WEIGHTS).stat().st_size)
    PAGE.write_text(with_table(PAGE.read_text()))


def evaluation_of(run: Path, scores: list[str]) -> dict[str, Any]:
    """The evaluation in a run's folder that has these scores; the one on the run's own data has the shortest name."""
    found = map(read_json, sorted((run / "evaluation").rglob("*.json"), key=lambda file: len(file.name)))
    return next(content for content in found if content["scores"].keys() >= set(scores))


PAGE = HERE.parents[2] / "docs" / "pretrained.md"


def with_table(page: str) -> str:
    """docs/pretrained.md with the rows of all cards."""
    before, head, after = page.partition("| --- | --- | --- | --- | --- |\n")
    rest = after[after.index("\n\n") :]
    rows = []
    for name in names():
        told = card_of(name)
        size = sum(file.stat().st_size for file in (HERE / name).rglob("*") if file.is_file())
        scores = ", ".join(f"{score} {number(value)}" for score, value in told["scores"].items())
        spread = ", ".join(
            number(mean) + (f" ± {number(deviation)}" if deviation else "")
            for mean, deviation, _ in told["spread"].values()
        )
        seeds = ", ".join(map(str, told["seeds"]))
        rows.append(
            f"| `{name}` | {round(size / 1000)} | `{told['recipe']}`, {told['seed']} | {scores} | {spread} ({seeds}) |"
        )
    return before + head + "\n".join(rows) + rest


if __name__ == "__main__":
    main(*sys.argv[1:])
