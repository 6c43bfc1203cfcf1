"""objectscape train: from a recipe to a trained model in a run folder."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from objectscape.building import foreign
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli import config as configs
from objectscape.cli.common import HelpText
from objectscape.files import expanded, write_text
from objectscape.names import did_you_mean

FAILED = "failed.txt"
"""What a job of a sweep leaves in its folder if it fails: why. The job may have run on another machine."""
BEGUN = "run.txt"
"""What a job of a sweep leaves in its folder once it has a run: its path. The job may be put into the queue again."""


def main(words: list[str]) -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        prog="objectscape train",
        description="Train a recipe. Every field of src/objectscape/recipes/config.yaml, of the model, the data and "
        "lightning.Trainer can be set with key=value.",
        epilog="examples:\n"
        "  objectscape train recipe=slot_attention/tetrominoes model.slots=7 trainer.max_steps=1000 seed=3\n"
        "  objectscape train recipe=slot_attention/tetrominoes data=folder data.path=my_images model.image_size=64\n"
        "  objectscape train --multirun recipe=slot_attention/tetrominoes seed=1,2,3 hydra/launcher=joblib\n"
        "  objectscape train recipe=space_time/pong sweep=space_time/continuity        # the published sweep\n"
        "  objectscape train recipe=framed_slots/tiny_clips warm_start=IMAGE_RUN  # with its weights\n"
        "  objectscape train resume=runs/slot_attention/tetrominoes/20260101-120000-ab12\n"
        "  objectscape train config=RUN/config.yaml seed=4        # repeat a run with changes",
        formatter_class=HelpText,
    )
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="recipe=NAME and any other field")
    parser.add_argument("--multirun", "-m", action="store_true", help="sweep over comma-separated values")
    parser.add_argument("--print-config", action="store_true", help="print the complete configuration and stop")
    options, rest = parser.parse_known_args(words)
    overrides = options.overrides + rest
    for word in overrides:
        if word.startswith("--"):
            raise ValueError(
                f"unknown option {word!r}; fields are written key=value, as in {word.strip('-').partition('=')[0]}=..."
                f"{did_you_mean(word, ['--multirun', '--print-config', '--help'])}"
            )
    if options.multirun or any(word.startswith("sweep=") for word in overrides):
        return sweep(configs.sweep_words(overrides))
    special = {key: [w for w in overrides if w.startswith(f"{key}=")] for key in ("resume", "config")}
    rest = [w for w in overrides if not w.startswith(("resume=", "config="))]
    if special["resume"]:
        return resume(RunFolder.open(_path(special["resume"][-1])), rest)
    config = configs.from_file(_path(special["config"][-1]), rest) if special["config"] else configs.load(rest)
    if options.print_config:
        print(OmegaConf.to_yaml(config), end="")
        return 0
    train(config)
    return 0


def _path(word: str) -> Path:
    """The path in resume=PATH or config=PATH; the shell leaves a ~ there as it is."""
    return expanded(word.partition("=")[2])


def train(config: DictConfig, *, begun: Callable[[RunFolder], object] = lambda run: None) -> RunFolder:
    """Train as `config` says, in a new run folder; `begun` is called once it exists."""
    for part in ("model", "data"):
        if config.get(part) is None:
            raise ValueError(
                f"there is no {part}: name a recipe (recipe=NAME; `objectscape list recipes`) or {part}=NAME"
            )
    from objectscape.data.building import check_complete

    check_complete(config.data)
    from objectscape.training.settings import check_settings

    check_settings(config)
    from objectscape.training.run import fit, is_main_process

    if config.get("warm_start") is not None:  # the record must hold wherever it is read
        config.warm_start = str(expanded(config.warm_start).resolve())
    if is_main_process():
        folder = expanded(config.run_dir) if config.run_dir else None
        run = RunFolder.create(expanded(config.runs), config.name, path=folder)
        run.write_config(config)
        begun(run)
        print(f"run folder: {run.path}", file=sys.stderr)
    else:
        run = RunFolder(expanded(config.run_dir or config.runs))  # only the first process writes
    try:
        fit(config, run)
    except BaseException:  # Ctrl-C too
        run.remove_if_untouched()
        raise
    finish(run)
    return run


def resume(run: RunFolder, overrides: list[str]) -> int:
    """Continue a run from its last checkpoint."""
    from objectscape.training.settings import check_settings, check_steps_left

    for word in overrides:
        if word.lstrip("+").startswith(("run_dir=", "runs=", "name=")):
            raise ValueError(
                f"{word}: a run goes on in its own folder, under its own name; config=RUN begins a new one"
            )
    config = configs.from_file(run.path / "config.yaml", overrides)
    check_settings(config)
    if run.status()["state"] == "done":  # of the others the checkpoint knows
        check_steps_left(run.path, run.status().get("step", 0), config)
    from objectscape.training.run import fit

    fit(config, run, resume=True)
    finish(run)
    return 0


def finish(run: RunFolder) -> None:
    """Write the run's README and say where things are."""
    from objectscape.training.run import is_main_process

    if not is_main_process():
        return
    from objectscape.evaluation.report import write_readme

    write_readme(run)
    path = shlex.quote(str(run.path))
    status = run.status()
    if status["state"] != "done":  # trainer.max_time, trainer.max_epochs and the like
        steps = f"step {status['step']} of {run.config().trainer.max_steps}"
        print(f"stopped at {steps}, saved; go on with: objectscape train resume={path}", file=sys.stderr)
        return
    words = " ".join([path, *(f"--trust {module}" for module in foreign(run.config()))])
    next_ones = (f"objectscape evaluate {words}", f"objectscape show {words}", f"tensorboard --logdir {path}")
    print("\n  ".join([f"done: {', '.join([str(run.path), *_outcome(run)])}", *next_ones]), file=sys.stderr)


def _outcome(run: RunFolder) -> list[str]:
    """Last loss, last headline score of the validation, and time of a run."""
    from objectscape.evaluation.questions import headlines
    from objectscape.evaluation.results import number
    from objectscape.training.estimate import duration
    from objectscape.training.logs import read_csv

    last: dict[str, tuple[str, float]] = {}
    for row in read_csv(run.path / "metrics.csv") if (run.path / "metrics.csv").is_file() else []:
        last |= {key: (row["step"], float(value)) for key, value in row.items() if value and key != "step"}
    steps, said = run.status().get("step"), []
    if "loss" in run.status():
        said.append(f"loss {number(run.status()['loss'])}")
    for name, meaning in headlines(key.removeprefix("val/") for key in last if key.startswith("val/")).items():
        step, value = last[f"val/{name}"]
        when = "" if int(step) == steps else f" at step {step}"
        said.append(f"{meaning.label or name} {number(value)} on the validation split{when}")
        break
    if "seconds" in run.status():
        said.append(duration(run.status()["seconds"]))
    return said


def sweep(overrides: list[str]) -> int:
    """Train once per combination of comma-separated values, through Hydra's launcher."""
    prepared = configs.prepare([word for word in overrides if not word.startswith("hydra")], sweep=True)
    given = {o.key_or_group: str(o.value()) for o in configs.parse(configs.readable(overrides))}
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = expanded(given.get("hydra.sweep.dir", f"{given.get('runs', 'runs')}/.multirun/{stamp}"))
    own = [word for word in overrides if word.startswith("hydra")]
    launch(train_job, [*prepared, *own, *configs.readable([f"hydra.sweep.dir={folder}"])])
    failed = len(list(folder.glob(f"*/{FAILED}")))
    if failed:
        print(
            f"objectscape train: {failed} of the runs failed; see above, or {folder}/*/{FAILED}. The same command with "
            f"hydra.sweep.dir={folder} goes on with what is not done",
            file=sys.stderr,
        )
    return int(failed > 0)


def launch(job: Callable[[DictConfig], object], words: list[str]) -> None:
    """Call `job` once per combination of the comma-separated values in `words`, through Hydra's launcher."""
    from hydra import main as hydra_main

    arguments = sys.argv
    sys.argv = ["objectscape", "--multirun", *words]
    try:
        hydra_main(config_path="pkg://objectscape.recipes", config_name="config", version_base="1.3")(job)()
    finally:
        sys.argv = arguments


def train_job(config: DictConfig) -> str | None:
    """One run of a sweep; a failure is reported and does not end the sweep.

    A job that was begun before, and died or was stopped, goes on with its run: a queue may start it again, and so does
    a sweep with the `hydra.sweep.dir` of an earlier one.
    """
    from hydra.core.hydra_config import HydraConfig

    from objectscape.training.errors import NonFiniteLossError

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        config.name = str(config.name)  # in a sweep over recipes a reference to the one at hand
        config = configs.prune(config)
        run = _begun(folder, config)
        if run is None:
            run = train(config, begun=lambda run: write_text(folder / BEGUN, str(run.path.absolute())))
        elif run.status()["state"] != "done":
            resume(run, [])
        (folder / FAILED).unlink(missing_ok=True)
        return str(run.path)
    except (ValueError, OSError, NonFiniteLossError) as error:
        print(f"objectscape train: {error}", file=sys.stderr)
        write_text(folder / FAILED, f"{error}\n")
        return None


def _begun(folder: Path, config: DictConfig) -> RunFolder | None:
    """The run that this job of a sweep began before, if there is something to go on with.

    Raises:
        ValueError: if it is a run with other settings.
    """
    if not (folder / BEGUN).is_file():
        return None
    run = RunFolder(Path((folder / BEGUN).read_text()))
    if not run.checkpoint.is_file():
        return None
    before, now = (OmegaConf.create(OmegaConf.to_yaml(each)) for each in (run.config(), config))
    for each in (before, now):
        each.run_dir = each.warm_start = None  # as a run writes them down when it begins
    if before != now:
        raise ValueError(f"{folder} is of a sweep with other settings, whose run is {run.path}; use another sweep.dir")
    return run
