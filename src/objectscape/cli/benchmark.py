"""objectscape benchmark: train and evaluate recipes with several seeds, and put it all into one table."""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, ListConfig
from rich import box
from rich.table import Table

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.cli import pairs_curve
from objectscape.cli.common import HelpText, add_device, at_least, console, device_of, note
from objectscape.cli.train import launch
from objectscape.evaluation.report import write_readme
from objectscape.evaluation.results import (
    as_csv,
    as_markdown,
    differences,
    headline_of,
    mismatches,
    number,
    read_results,
)
from objectscape.evaluation.summary import EVALUATION, diverged, evaluated, summarize, table, to_json
from objectscape.files import expanded, write_text
from objectscape.names import unknown

MODELS = ("slot_attention", "efficientmorl", "iodine")
DECOMPOSING = (*MODELS, "monet", "genesis", "genesis_s", "genesis_v2", "instance_coloring")
GAMES = ("pong", "space_invaders", "mspacman", "boxing", "riverraid", "carnival", "tennis", "air_raid", "skiing")
LISTS = {
    "tiny": [f"{model}/tiny" for model in (*DECOMPOSING, "vae", "vae_broadcast")],
    "tiny3d": [f"{model}/tiny3d" for model in DECOMPOSING],
    "atari": [f"space_time/{game}_tiny" for game in GAMES],
    "multi_object": [f"{model}/{data}" for data in ("tetrominoes", "multi_dsprites") for model in MODELS],
    "multi_object_clevr6": [f"{model}/clevr6" for model in MODELS],
    pairs_curve.RECIPE: list(pairs_curve.VARIANTS),
}
"""Names that stand for several recipes."""
FIXED = {
    "recipe": "recipes=A,B",
    "seed": "seeds=0,1,2",
    "run_dir": "out=FOLDER",
    "runs": "out=FOLDER",
    "name": "recipes=",
}


def main(words: list[str]) -> int:
    """Train and evaluate what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(
        prog="objectscape benchmark",
        description="Train and evaluate every recipe with every seed, and write one table: OUT/table.json, .md, .csv. "
        "What is done already is not repeated; what was interrupted goes on where it stopped: just repeat the command.",
        epilog="examples:\n"
        "  objectscape benchmark recipes=slot_attention/tetrominoes,iodine/tetrominoes seeds=0,1,2 out=bench\n"
        "  objectscape benchmark recipes=multi_object seeds=0,1,2,3,4 out=bench trainer.max_steps=50000\n"
        "  objectscape benchmark recipes=multi_object_clevr6 seeds=0,1,2 out=bench data.path=FILE\n"
        "  objectscape benchmark recipes=multi_object seeds=0,1 out=b hydra/launcher=joblib hydra.launcher.n_jobs=4\n"
        "  objectscape benchmark out=bench --table      # of what is there\n\n"
        "lists:\n" + "".join(f"{name}: {', '.join(recipes)}\n" for name, recipes in LISTS.items()) + "\n"
        f"{pairs_curve.RECIPE} also draws error against the number of matched pairs: OUT/curve.png and curve.json",
        formatter_class=HelpText,
    )
    parser.add_argument("words", nargs="+", metavar="key=value", help="recipes, seeds, out, and settings for all runs")
    parser.add_argument("--threshold", type=float, help="a seed whose first score is worse failed (ARI-FG: 0.9)")
    parser.add_argument("--images", type=at_least(0), default=320, help="of the test split; 0 for all (default 320)")
    add_device(parser, "for the evaluation")
    parser.add_argument("--table", action="store_true", help="only the table, of what is there")
    options = parser.parse_intermixed_args(words)
    own, rest = {}, []
    for word in options.words:
        key, _, value = word.partition("=")
        if key in ("recipes", "seeds", "out"):
            own[key] = value
        else:
            rest.append(word)
    if not own.get("out"):
        raise ValueError("say where the runs and the table go: out=FOLDER")
    out = expanded(own["out"])
    if options.table:
        report(out, options.threshold)
        return 0
    if not own.get("recipes") or not own.get("seeds"):
        raise ValueError("say recipes=A,B and seeds=0,1,2; or --table, for a table of what is in out=FOLDER")
    jobs = plan(out, own["recipes"], own["seeds"], [word for word in rest if not word.startswith("hydra")])
    with locked(out):
        run_jobs(jobs, out, [word for word in rest if word.startswith("hydra")], options)
    report(out, options.threshold)
    return int(any(pending(RunFolder(Path(job.run_dir))) for job in jobs))


def plan(out: Path, recipes: str, seeds: str, overrides: list[str]) -> list[DictConfig]:
    """The configuration of every run, checked as far as that is possible without starting one.

    Raises:
        ValueError: for unknown recipes and settings, or runs in `out` that were started with others.
    """
    from objectscape.data.building import check_complete

    for override in configs.parse(configs.readable(overrides)):
        if override.key_or_group in FIXED:
            raise ValueError(f"{override.input_line}: here it is {FIXED[override.key_or_group]}")
        if override.is_sweep_override():
            raise ValueError(f"{override.input_line}: one value for all runs; only recipes and seeds are swept")
    names = [name for word in recipes.split(",") for name in LISTS.get(word.strip(), [word.strip()])]
    try:
        numbers = [int(word) for word in seeds.split(",")]
    except ValueError:
        raise ValueError(f"seeds={seeds}: expected whole numbers with commas between them, as in seeds=0,1,2") from None
    jobs = []
    for name in dict.fromkeys(names):
        if name not in configs.options("recipe") and name not in pairs_curve.VARIANTS:
            raise ValueError(unknown("recipe", name, [*configs.options("recipe"), *LISTS]))
        try:
            if name in pairs_curve.VARIANTS:
                config = pairs_curve.load(name, overrides)
            else:
                config = configs.load([f"recipe={name}", *overrides])
            check_complete(config.data)
        except ValueError as error:
            raise ValueError(f"recipe {name}: {error}") from error
        devices = config.trainer.get("devices", 1)
        if (len(devices) if isinstance(devices, ListConfig) else devices) != 1:
            raise ValueError("a benchmark trains every run on one device; run several at once with hydra/launcher=...")
        for seed in dict.fromkeys(numbers):
            job = config.copy()
            job.seed, job.runs, job.run_dir = seed, str(out), str(out / name / f"seed-{seed}")
            jobs.append(job)
            run = RunFolder(Path(job.run_dir))
            changed = [] if run.status()["state"] == "unknown" else differences(run.config(), job)
            if changed:
                raise ValueError(
                    f"{run.path} was started with {', '.join(changed)}. Choose another out=FOLDER, or its settings."
                )
    return jobs


def run_jobs(jobs: list[DictConfig], out: Path, hydra_words: list[str], options: argparse.Namespace) -> None:
    """Train and evaluate what is pending, through Hydra's launcher."""
    left = [job for job in jobs if pending(RunFolder(Path(job.run_dir)))]
    note(f"{len(jobs) - len(left)} of {len(jobs)} runs are done")
    if not left:
        return
    images, device = options.images, device_of(options)

    def job(config: DictConfig) -> None:
        train_and_evaluate(left[config.job], images, device)

    numbers = ",".join(str(index) for index in range(len(left)))
    try:
        launch(job, [f"+job={numbers}", f"runs={json.dumps(str(out))}", *hydra_words])
    except KeyboardInterrupt:
        count = sum(pending(RunFolder(Path(job.run_dir))) for job in jobs)
        raise KeyboardInterrupt(f"{count} of {len(jobs)} runs are left; the same command goes on from here") from None


def train_and_evaluate(config: DictConfig, images: int, device: str) -> None:
    """One run, from wherever it stands to its evaluation; an error is reported and does not end the others."""
    from objectscape.cli import evaluate
    from objectscape.training.errors import NonFiniteLossError
    from objectscape.training.run import fit

    run = RunFolder(Path(config.run_dir))
    name = f"{config.name}, seed {config.seed}"
    try:
        if run.status()["state"] != "done":
            resume = run.checkpoint.is_file()
            note(f"{name}: {'going on with' if resume else 'training in'} {run.path}")
            if not resume:
                if run.is_run():
                    shutil.rmtree(run.path)  # it was stopped before its first checkpoint
                run = RunFolder.create(Path(config.runs), config.name, path=run.path)
                run.write_config(config)
            fit(config, run, resume=resume)
            if run.status()["state"] != "done":
                raise ValueError(f"stopped at step {run.status()['step']} of {config.trainer.max_steps}")
        words = [str(run.path), "--images", str(images), "--device", device, "--tag", EVALUATION.removesuffix("-test")]
        asks = pairs_curve.ASK if config.name in pairs_curve.VARIANTS else []
        evaluate.evaluate_run(run, asks, evaluate.build_parser().parse_args(words))
    except (ValueError, OSError, NonFiniteLossError) as error:
        run.remove_if_untouched()
        note(f"{name}: {error}")
        return
    write_readme(run)
    result = read_results(run)[EVALUATION]
    first = next(iter(headline_of(result).items()), None)
    note(f"{name}: " + (f"{first[1]['label']} {number(result['scores'][first[0]]['mean'])}" if first else "done"))


def pending(run: RunFolder) -> bool:
    """Whether there is anything left to do for a run."""
    return not evaluated(run) and not diverged(run)


def report(out: Path, threshold: float | None) -> None:
    """Print the table of all runs below `out` and write it there."""
    runs = [RunFolder(file.parent) for file in sorted(out.rglob("config.yaml"))]
    summary = summarize(runs, threshold=threshold)
    rows = summary.rows
    if not any(row["seeds"] or row["failures"] for row in rows):
        raise ValueError(f"there is no finished run below {out}")
    headings, cells = table(summary)
    write_text(out / "table.json", to_json(summary))
    write_text(out / "table.csv", as_csv(list(rows[0]), [list(row.values()) for row in rows]))
    caption = (
        "In brackets: what needs no learning, such as motion alone. MSE per value of images in [0, 1], KL in nats."
    )
    if summary.threshold is not None:
        first = summary.scores[summary.first]
        side = "above" if first["better"] == "lower" else "below"
        caption = f"A seed with {first['label']} {side} {summary.threshold:g} is a failure. {caption}"
    write_text(out / "table.md", f"{as_markdown(headings, cells)}\n{caption}\n")
    middle = len(headings) // 2 + 1
    for columns in (slice(0, middle), slice(middle, None)):  # twice, so that it fits a terminal
        printed = Table(box=box.SIMPLE_HEAD)
        for heading in dict.fromkeys((headings[0], *headings[columns])):
            printed.add_column(heading, justify="left" if heading == headings[0] else "right", overflow="fold")
        for line in cells:
            printed.add_row(line[0], *line[columns][columns.start == 0 :])
        console.print(printed)
    console.print(caption)
    for sentence in mismatches([run for run in runs if evaluated(run)], only=EVALUATION):
        note(f"note: {sentence}")
    note(f"written to {out / 'table.json'}, table.md and table.csv")
    pairs_curve.report(runs, out)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second benchmark out of `folder`; the lock goes away with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another `objectscape benchmark` is at work in {folder}") from None
        yield
