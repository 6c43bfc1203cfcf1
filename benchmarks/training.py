"""Training: one step in float32, bf16 and compiled; resident data against workers; Lightning against a bare loop

The models, batches and optimizers are those of the recipes `slot_attention/tetrominoes` (on a CPU with a quarter of its
batch) and `quickstart`. "theirs" is named in each row. Times are those of the fastest turn.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from benchmarks.measure import (
    Row,
    device,
    empty_compile_cache,
    in_turns,
    peak_memory,
    row,
    seconds,
    synchronize,
    why_no_compiler,
)
from objectscape.cli.config import load
from objectscape.contract import Model
from objectscape.data.formats.hdf5 import HDF5Scenes, write_hdf5
from objectscape.data.loading import EvalLoader, TrainLoader, load_resident
from objectscape.data.synthetic.tetrominoes import Tetrominoes
from objectscape.scene import Scene
from objectscape.training.run import quiet_lightning
from objectscape.training.task import Task

RECIPES = {"slot attention": "slot_attention/tetrominoes", "quickstart": "quickstart"}


class Step:
    """One training step without any framework.

    Args:
        config: the recipe.
        bf16: run the model under autocast.
        compiled: run the model through torch.compile.
    """

    def __init__(self, config: DictConfig, *, bf16: bool = False, compiled: bool = False) -> None:
        torch.manual_seed(0)
        self.model: Model = instantiate(config.model).to(device())
        if compiled:
            self.model.compile()
        self.optimizer = instantiate(config.optimizer, self.model.parameters())
        self.clip = config.trainer.gradient_clip_val
        self.bf16, self.number = bf16, 0

    def __call__(self, batch: Scene) -> None:
        scene = Scene(image=batch.to(device()).pixels)
        self.optimizer.zero_grad()
        with torch.autocast(device().type, torch.bfloat16, enabled=self.bf16):
            loss = self.model.loss(scene, self.model(scene), self.number).total
        loss.backward()
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.number += 1


def recipe(name: str, *, quick: bool) -> DictConfig:
    config = load([f"recipe={RECIPES[name]}"])
    if quick:
        config.batch_size = 2
    elif name == "slot attention" and device().type == "cpu":
        config.batch_size //= 4
    return config


def batch_of(config: DictConfig) -> Scene:
    return Tetrominoes(count=config.batch_size).all(device()).inputs()


def run(*, quick: bool = False) -> list[Row]:
    """Rows of all four parts; see `steps`, `loading`, `lightning_overhead`."""
    return [*steps(quick=quick), *loading(quick=quick), *lightning_overhead(quick=quick)]


# ------------------------------------------------------------------------------------------------------------- a step


def one_step(name: str, bf16: bool, quick: bool) -> Callable[[], object]:
    """For `peak_memory`."""
    config = recipe(name, quick=quick)
    return partial(Step(config, bf16=bf16), batch_of(config))


def steps(*, quick: bool) -> list[Row]:
    """A step of each model in bf16 and compiled ("ours") against float32 and eager ("theirs")."""
    rows = []
    for name in ("quickstart",) if quick else RECIPES:
        config = recipe(name, quick=quick)
        batch = batch_of(config)
        label, size = f"{name}, step", f"batch {config.batch_size}"
        eager, bf16 = Step(config), Step(config, bf16=True)
        works: dict[str, Callable[[], object]] = {"eager": partial(eager, batch), "bf16": partial(bf16, batch)}
        missing = "skipped: --quick does not compile" if quick else why_no_compiler()
        if not missing:
            works["compiled"] = partial(Step(config, compiled=True), batch)
            with empty_compile_cache():
                compile_time = seconds(works["compiled"])
        times = {key: 1e3 * value for key, value in in_turns(works, turns=1 if quick else 8).items()}
        rows += [
            row(f"{label}, float32", times["eager"], None, "ms", note=size),
            row(f"{label}, bf16 against float32", times["bf16"], times["eager"], "ms"),
            row(f"{label}, compiled against eager", times.get("compiled"), times["eager"], "ms", note=missing),
        ]
        if not missing:
            rows.append(row(f"{name}, compiling, once", compile_time, None, "s"))
        half, full = (peak_memory(one_step, name, flag, quick) for flag in (True, False))
        rows.append(row(f"{name}, peak memory, bf16 against float32", half, full, "MiB", note=size))
    return rows


# ------------------------------------------------------------------------------------------------------------ loading


def loading(*, quick: bool) -> list[Row]:
    """Batches from memory ("ours") against two DataLoader workers ("theirs"), both from one of our HDF5 files."""
    count, draws, turns, trained = (64, 2, 1, 2) if quick else (4096, 64, 5, 24)
    config = recipe("quickstart", quick=quick)
    step = Step(config)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenes.h5"
        write_hdf5(path, {"train": Tetrominoes(count=count)})
        scenes = HDF5Scenes(path=path)
        loaders = {
            storage: TrainLoader(scenes, batch_size=config.batch_size, seed=0, storage=storage, device=device())
            for storage in (("device" if device().type == "cuda" else "ram"), "workers")
        }
        ours, theirs = loaders
        streams = {storage: iter(loader) for storage, loader in loaders.items()}

        def take(storage: str) -> None:
            for batch in islice(streams[storage], draws):
                batch.to(device())

        def train(storage: str) -> None:
            for batch in islice(streams[storage], trained):
                step(batch)

        once = seconds(lambda: load_resident(scenes, device()))
        alone = in_turns({storage: partial(take, storage) for storage in loaders}, turns=turns)
        works = {storage: partial(train, storage) for storage in loaders}
        spent = dict.fromkeys(loaders, 0.0)
        for work in works.values():  # leaves no batch over that the workers read while only batches were taken
            work()
        waited = {storage: -loader.waited for storage, loader in loaders.items()}
        for _ in range(turns):
            for storage, work in works.items():
                spent[storage] += seconds(work)
        share = {storage: 100 * (waited[storage] + loaders[storage].waited) / spent[storage] for storage in loaders}
        for stream in streams.values():
            stream.close()  # type: ignore[attr-defined]  # ends the workers

    taken, learned = draws * config.batch_size, turns * trained * config.batch_size
    renderer, generator = Tetrominoes(), torch.Generator().manual_seed(0)
    rendering = in_turns({"render": lambda: renderer.render(config.batch_size, generator, device())}, turns=5)["render"]
    trains = learned / spent[ours]
    return [
        row(
            f"batches alone, {ours} against workers",
            taken / alone[ours], taken / alone[theirs], "images/s", higher=True,
        ),
        row(
            f"quickstart, training, {ours} against workers",
            trains, learned / spent[theirs], "images/s", higher=True,
        ),
        row(f"quickstart, waiting for data, {ours} against workers", share[ours], share[theirs], "% of time"),
        row(f"reading {count} scenes into memory, once", once, None, "s"),
        row("quickstart, rendering against training", config.batch_size / rendering, trains, "images/s", higher=True),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- lightning


class Clock(pl.Callback):
    """Seconds from the end of the first step to the end of the last."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        synchronize()
        if not self.start:
            self.start = time.perf_counter()
        self.seconds = time.perf_counter() - self.start


def bare_loop(config: DictConfig, loader: TrainLoader, count: int) -> float:
    """Seconds that all of `count` steps but the first take."""
    step = Step(config)
    schedule = torch.optim.lr_scheduler.LambdaLR(step.optimizer, instantiate(config.schedule))
    start = 0.0
    for number, batch in enumerate(islice(loader, count)):
        step(batch)
        schedule.step()
        if number == 0:
            synchronize()
            start = time.perf_counter()
    synchronize()
    return time.perf_counter() - start


def lightning_loop(config: DictConfig, loader: TrainLoader, count: int) -> float:
    """The same by `Task` and `Trainer`."""
    torch.manual_seed(0)
    clock = Clock()
    task = Task(
        instantiate(config.model).to(device()),
        optimizer=instantiate(config.optimizer, _partial_=True),
        schedule=instantiate(config.schedule),
        seed=0,
    )
    never = EvalLoader(loader.dataset, batch_size=1)  # Lightning warns when a task that can validate has no data for it
    with quiet_lightning():
        pl.Trainer(
            max_steps=count,
            accelerator=device().type,
            devices=1,
            gradient_clip_val=config.trainer.gradient_clip_val,
            callbacks=[clock],
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        ).fit(task, loader, never)
    return clock.seconds


def lightning_overhead(*, quick: bool) -> list[Row]:
    """The same steps through Lightning ("ours") and in a bare loop ("theirs"), resident data, no logs, no pictures."""
    rows = []
    config = recipe("quickstart", quick=quick)
    for size, count, turns in [(1, 3, 1)] if quick else [(1, 100, 6), (32, 25, 5)]:
        loader = TrainLoader(Tetrominoes(count=256), batch_size=size, seed=0, storage="ram")
        next(iter(loader))  # loads
        pairs = [(lightning_loop(config, loader, count), bare_loop(config, loader, count)) for _ in range(turns)]
        ours, theirs = (1e3 * min(values) / (count - 1) for values in zip(*pairs))
        name = f"quickstart, batch {size}, Lightning"
        rows += [
            row(f"{name} against a bare loop", ours, theirs, "ms per step"),
            row(f"{name}'s overhead", ours - theirs, None, "ms per step"),
        ]
    return rows
