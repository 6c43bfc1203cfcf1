"""objectscape plan: reach goals with what a model imagines."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from objectscape.agents import choices
from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import add_device, at_least, console, device_of, note, open_model, split_words
from objectscape.names import unknown


def main(words: list[str]) -> int:
    """Parse the command line, plan for every goal, print a table, and write it into the run folder."""
    parser = argparse.ArgumentParser(
        prog="objectscape plan",
        description="Model-predictive control: plan with a model that predicts, act in the true world, look, plan "
        "again. Beside it: the simulator as a model (the most that can be reached), and doing nothing.",
        epilog="example: objectscape plan runs/framed_slots/RUN task=stack_blocks --goals 20",
    )
    parser.add_argument(
        "words", nargs="+", metavar="RUN | task=NAME | model.KEY=VALUE",
        help=f"a run, or 'simulator'; tasks: {', '.join(choices.TASKS)}",
    )  # fmt: skip
    parser.add_argument("--goals", type=at_least(1), default=20, help="how many (default 20)")
    parser.add_argument("--planner", choices=["cem", "mppi", "random"], default="cem")
    parser.add_argument("--candidates", type=at_least(2), default=64, help="per iteration (default 64)")
    parser.add_argument("--iterations", type=at_least(1), default=3)
    parser.add_argument("--horizon", type=at_least(1), default=1, help="actions of a plan (default 1, then again)")
    parser.add_argument("--rollouts", type=at_least(1), default=1, help="futures of each candidate (default 1)")
    parser.add_argument("--cost", choices=choices.COSTS, default="image")
    parser.add_argument("--free", action="store_true", help="actions are free numbers, and do not name an object")
    parser.add_argument("--at", metavar="X,Y", help="the place of task=reach_place, 0..1 rightwards and downwards")
    parser.add_argument("--seed", type=int, default=0, help="of the goals and the candidates")
    add_device(parser)
    options = parser.parse_intermixed_args(words)
    model_words, other = split_words(options.words)
    tasks = [word.removeprefix("task=") for word in other if word.startswith("task=")]
    runs = [word for word in other if not word.startswith("task=")]
    if len(tasks) != 1 or len(runs) != 1:
        raise ValueError(f"give one run (or 'simulator') and task=NAME; found {' '.join(other)}")
    if tasks[0] not in choices.TASKS:
        raise ValueError(unknown("task", tasks[0], choices.TASKS))
    if runs[0] != "simulator":
        RunFolder.open(Path(runs[0]))
    from objectscape.agents.tasks import TASKS

    model, size = None, 32
    if runs[0] != "simulator":
        model, size = _model(Path(runs[0]), model_words, device_of(options), TASKS[tasks[0]].data)
    rows = {runs[0]: _run(options, tasks[0], model, size)}
    if model is not None:
        rows["simulator"] = _run(options, tasks[0], None, size)
    _print(tasks[0], rows)
    if model is not None:
        file = Path(runs[0]) / f"plan_{tasks[0]}.json"
        file.write_text(json.dumps({"options": _plain(options), "rows": rows}, indent=1))
        print(file)
    return 0


def _model(folder: Path, words: dict[str, str], device: str, data: str):  # type: ignore[no-untyped-def]
    """The model of a run, and the side of its pictures."""
    from objectscape.contract import Predicts, abilities

    model = open_model(folder, words).to(device).eval()
    if not isinstance(model, Predicts):
        can = " and ".join(abilities(model)) or "reconstruct"
        raise ValueError(f"{type(model).__name__} cannot predict, so nothing can be planned with it: it can {can}")
    from objectscape.data.synthetic.block_stacking import ACTION_SIZE

    width = getattr(model, "action_size", 0)
    if width != ACTION_SIZE:
        raise ValueError(
            f"the task has actions of width {ACTION_SIZE}, the model was built for {width}; train it on data={data} "
            f"with model.action_size={ACTION_SIZE}"
        )
    size: tuple[int, int] = model.image_size  # type: ignore[assignment]
    return model, size[0]


def _run(options: argparse.Namespace, task: str, model, size: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    from objectscape.agents.planning import CEM, MPPI, Planner, pursue
    from objectscape.agents.tasks import TASKS, goal_of

    one = {"candidates": options.candidates, "iterations": options.iterations}
    planner: Planner = CEM(**one, elites=max(1, options.candidates // 8))
    if options.planner == "mppi":
        planner = MPPI(**one)
    elif options.planner == "random":
        planner = CEM(candidates=options.candidates * options.iterations, iterations=1)
    at = None if options.at is None else _place(options.at)
    begin, outcomes = time.process_time(), []
    for number in range(options.goals):
        goal = goal_of(
            TASKS[task],
            seed=options.seed + number,
            model=model,
            cost="image" if model is None and options.cost == "slots" else options.cost,
            size=size,
            rollouts=1 if model is None else options.rollouts,
            entities=not (options.free or options.planner == "mppi"),
            at=at,
        )
        outcomes.append(
            pursue(goal, planner, plans=TASKS[task].plans, horizon=options.horizon, seed=options.seed + number)
        )
        note(f"goal {number + 1} of {options.goals}: {'reached' if outcomes[-1].solved else 'missed'}")
    count = len(outcomes)
    return {
        "solved": sum(outcome.solved for outcome in outcomes) / count,
        "score": sum(outcome.score for outcome in outcomes) / count,
        "nothing": sum(outcome.before for outcome in outcomes) / count,
        "candidates": sum(outcome.candidates for outcome in outcomes) / count,
        "actions": sum(len(outcome.actions) for outcome in outcomes) / count,
        "seconds": (time.process_time() - begin) / count,
    }


def _place(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--at {text}; expected two numbers from 0 to 1, such as 0.5,0.5") from None
    return x, y


def _print(task: str, rows: dict[str, dict[str, float]]) -> None:
    from rich.table import Table

    table = Table(title=f"{task}: per goal")
    table.add_column("imagined by")
    heads = ("goals reached", "objects right", "doing nothing", "candidates", "actions", "CPU s")
    for head in heads:
        table.add_column(head, justify="right")
    for name, row in rows.items():
        table.add_row(
            Path(name).name, f"{row['solved']:.0%}", f"{row['score']:.2f}", f"{row['nothing']:.2f}",
            f"{row['candidates']:.0f}", f"{row['actions']:.1f}", f"{row['seconds']:.2f}",
        )  # fmt: skip
    console.print(table)


def _plain(options: argparse.Namespace) -> dict[str, object]:
    return {key: value for key, value in vars(options).items() if isinstance(value, int | float | str | bool | list)}
