"""From a configuration to a trained model in a run folder."""

from __future__ import annotations

import copy
import logging
import os
import re
import shlex
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from objectscape.building import build, resolve
from objectscape.check import check_fit, check_model
from objectscape.checkpoints.native import save_model
from objectscape.checkpoints.run_folder import RunFolder, read_checkpoint
from objectscape.data.building import build_data, data_of
from objectscape.data.dataset import SceneDataset
from objectscape.data.loading import EvalLoader, TrainLoader, training_part
from objectscape.training.callbacks import KeepCheckpoint, Pictures, ProgressDisplay, SafeCheckpointIO, StepLog
from objectscape.training.companions import Companions
from objectscape.training.estimate import WORTH, duration, seconds_per_step
from objectscape.training.logs import CSVLog
from objectscape.training.precision import Precision, choose_precision
from objectscape.training.resuming import check_changes, remove_leftovers
from objectscape.training.settings import check_steps_left, stages_of
from objectscape.training.stopping import StopOnSignal
from objectscape.training.task import Task
from objectscape.training.warm_start import warm_start

log = logging.getLogger(__name__)


def fit(config: DictConfig, run: RunFolder, *, resume: bool = False) -> nn.Module:
    """Train as `config` says (see recipes/config.yaml for every field) and leave the result in `run`.

    Returns:
        The trained model in eval mode (the averaged weights, if `ema` is set).

    Raises:
        ValueError, FileNotFoundError: for settings or files that do not fit together; before anything is trained.
        NonFiniteLossError, CheckpointWriteError: see there; the last good checkpoint is kept.
        KeyboardInterrupt: after Ctrl-C, once the state is saved.
    """
    precision = choose_precision(config.trainer.get("precision"), config.trainer.get("accelerator", "auto"))
    torch.manual_seed(config.seed)
    train_data, val_data = build_data(data_of(config), "train"), build_data(data_of(config), "val")
    model = build(config.model, "model")
    check_fit(model, train_data)
    before = run.status()
    how: dict[str, Any] = {"warm_start": before["warm_start"]} if resume and "warm_start" in before else {}
    if config.get("warm_start") is not None and not resume:
        how["warm_start"] = warm_start(model, config.warm_start)
        log.info("warm start: %s", how["warm_start"])
    if not type(model).__module__.startswith("objectscape."):
        check_model(model, train_data.batch(range(min(2, len(train_data)))).inputs(), strict=False)
    checkpoint = read_checkpoint(run.checkpoint) if resume else None
    if resume:
        if is_main_process() and before["state"] == "running" and before.get("pid") not in (None, os.getpid()):
            raise ValueError(f"{run.path} is being trained by process {before['pid']} on {before['host']}")
        check_changes(run.config(), config)
        remove_leftovers(run.path)
    start = checkpoint["global_step"] if checkpoint else 0
    if checkpoint and start == config.trainer.max_steps and run.status()["state"] != "done":
        return _finish(run, checkpoint, train_data)
    check_steps_left(run.path, start, config)
    # Lightning refuses to clip the gradients of one that could unscale them itself, though bf16 needs no scaling
    fused = not (precision.setting.endswith("mixed") and config.trainer.get("gradient_clip_val"))
    task = Task(
        model,
        optimizer=_maker(config.optimizer, fused=fused),
        schedule=build(config.schedule, "schedule"),
        seed=config.seed,
        groups={name: _group(options, fused=fused) for name, options in config.groups.items()},
        controller=build(config.geco, "geco"),
        compile=config.compile,
        log_every=config.every.log,
    )
    step_log = StepLog(every=config.every.log)
    scene = val_data.batch(list(range(min(config.validation.pictures, len(val_data)))))
    pictures = Pictures(scene, run.figures / "training", every=max(1, config.every.picture), strict=config.strict)
    keeper = KeepCheckpoint(run.checkpoint, every=config.every.checkpoint, on_start=lambda: signals.install())
    signals = StopOnSignal(lambda: setattr(keeper, "stop_requested", True))
    callbacks: list[Callback] = [
        step_log,
        ProgressDisplay(step_log),
        keeper,
    ]
    if config.every.picture:
        callbacks.append(pictures)
    if config.ema is not None:
        callbacks.insert(0, EMAWeightAveraging(decay=config.ema))
    with quiet_lightning():
        try:
            trainer = pl.Trainer(
                **(OmegaConf.to_container(config.trainer, resolve=True) | {"precision": precision.setting}),  # type: ignore
                logger=_loggers(config, run, start if resume else None),
                callbacks=callbacks,
                plugins=[SafeCheckpointIO()],
                default_root_dir=run.path,
                check_val_every_n_epoch=None,
                val_check_interval=max(1, config.every.validate) * (config.trainer.get("accumulate_grad_batches") or 1),
                limit_val_batches=1.0 if config.every.validate else 0,
                num_sanity_val_steps=0,
                log_every_n_steps=config.every.log,
                enable_progress_bar=False,
                enable_model_summary=False,
                inference_mode=False,  # iterative models take gradients inside their forward pass
                use_distributed_sampler=False,  # the loaders know rank and world
            )
        except (TypeError, AttributeError) as error:  # of a value of a type that it does not expect
            raise ValueError(f"lightning.Trainer cannot be made: {error}") from error
        rank, world = trainer.global_rank, trainer.world_size
        train_loader = TrainLoader(
            train_data,
            batch_size=stages_of(config.batch_size),
            seed=config.seed,
            start=start * trainer.accumulate_grad_batches,
            storage=config.storage,
            workers=config.workers,
            device=trainer.strategy.root_device,
            rank=rank,
            world=world,
            accumulate=trainer.accumulate_grad_batches,
            keep=getattr(model, "hints", ()),
        )
        val_loader = EvalLoader(
            val_data, batch_size=config.validation.batch_size, images=config.validation.images, rank=rank, world=world
        )
        how |= {"precision": str(precision), "threads": torch.get_num_threads()}
        if trainer.is_global_zero:
            _say_precision(precision, run.status().get("precision"))
            _say_time(model, train_data, config, trainer, start)
            if resume:
                run.write_config(config)
            run.write_status("running", step=start, **how)

        def end(death: str) -> None:
            if trainer.is_global_zero:
                state = "interrupted" if signals.received else "failed"
                run.write_status(state, step=keeper.saved_step or 0, reason=death, **how)
            log.error("%s, so this one ends too; %s", death, _how_to_go_on(run, config, keeper.saved_step))

        companions = Companions(trainer, end)
        try:
            with signals, companions:
                trainer.fit(task, train_loader, val_loader, ckpt_path=run.checkpoint if resume else None)
        except BaseException as error:
            lost = world > 1 and isinstance(error, RuntimeError) and LOST_PROCESS.search(str(error))
            if lost and not companions.claim():
                threading.Event().wait()  # it is being said; then this process ends
            if trainer.is_global_zero:
                _write_end(run, error, keeper, before if resume else None, how)
            if signals.received or isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(_how_to_go_on(run, config, keeper.saved_step)) from None
            if lost:
                raise ConnectionError(
                    f"another process of this run has ended, so this one ends too ({str(error).splitlines()[0][:120]}"
                    f"). Its own message says why; {_how_to_go_on(run, config, keeper.saved_step)}"
                ) from error
            if resume and not keeper.started and not isinstance(error, ValueError | OSError):
                raise ValueError(
                    f"{run.checkpoint} cannot be restored ({type(error).__name__}: {error}): it is damaged, or of "
                    "another version or model"
                ) from error
            raise
    if trainer.global_step == start and not signals.received:
        limits = " ".join(f"trainer.{key}={value}" for key, value in config.trainer.items() if str(key) in LIMITS)
        if trainer.is_global_zero:
            run.write_status(before["state"] if resume else "failed", step=start, reason="no step was made", **how)
        raise ValueError(f"no step was made: with {limits or 'these settings of trainer'} there is none to make")
    if trainer.is_global_zero:
        finished = trainer.global_step >= config.trainer.max_steps
        if finished:
            save_model(model, run.model_folder, data=train_data.spec, step=trainer.global_step)
        state = "done" if finished else "interrupted"
        how["loss"] = float(task.terms["loss"])
        run.write_status(state, step=trainer.global_step, seconds=round(keeper.seconds, 1), **how)
        if finished and config.every.picture:
            pictures.draw(trainer, task)
    if signals.received and trainer.is_global_zero:  # the others end well: they might be taken for dead
        signals.pass_on()
        raise KeyboardInterrupt(_how_to_go_on(run, config, trainer.global_step))
    return model.eval()


LIMITS = ("max_time", "max_epochs", "limit_train_batches")
LOST_PROCESS = re.compile(r"gloo|nccl|connection (closed|reset|refused)|socket|peer|broken pipe", re.IGNORECASE)


def _how_to_go_on(run: RunFolder, config: DictConfig, step: int | None) -> str:
    if not run.checkpoint.is_file():
        return f"stopped before the first checkpoint; begin again with: {_command('config', run)}"
    return f"stopped at step {step} of {config.trainer.max_steps}; go on with: {_command('resume', run)}"


def _command(key: str, run: RunFolder) -> str:
    return f"objectscape train {shlex.quote(f'{key}={run.path}')}"


def _write_end(
    run: RunFolder, error: BaseException, keeper: KeepCheckpoint, before: dict[str, Any] | None, how: dict[str, Any]
) -> None:
    """Write how a run ended that did not end by itself. What went wrong matters more than that this fails as well."""
    stopped = isinstance(error, KeyboardInterrupt | SystemExit)
    details: dict[str, Any] = {"step": keeper.saved_step or 0, **how}
    state = "interrupted" if stopped else "failed"
    if not stopped:
        details["reason"] = f"{type(error).__name__}: {error}"
    if before is not None and not keeper.started:  # nothing has happened to the run
        state, details = before["state"], {key: value for key, value in before.items() if key not in ("state", "time")}
    try:
        run.write_status(state, **details)
    except OSError as second:
        log.warning("status.json could not be written (%s)", second)


def _finish(run: RunFolder, checkpoint: dict[str, Any], train_data: SceneDataset) -> nn.Module:
    """Do what is left of a run that died between its last step and the end."""
    shutil.rmtree(run.model_folder, ignore_errors=True)  # of fewer steps, if the run has been extended
    model: Any = run.load_model()
    save_model(model, run.model_folder, data=train_data.spec, step=checkpoint["global_step"])
    seconds = float(checkpoint["callbacks"].get(KeepCheckpoint.__name__, {}).get("seconds", 0))
    how = {key: value for key, value in run.status().items() if key in ("precision", "threads", "warm_start")}
    run.write_status("done", step=checkpoint["global_step"], seconds=round(seconds, 1), **how)
    return model


def _maker(description: DictConfig, *, fused: bool) -> Callable[..., torch.optim.Optimizer]:
    """What makes the optimizer of a description from parameter groups; Adam in one kernel if `fused`."""
    cls, options = resolve(description, "optimizer")
    if fused and cls in (torch.optim.Adam, torch.optim.AdamW) and not {"foreach", "differentiable"} & options.keys():
        options = {"fused": True, **options}
    try:
        cls([nn.Parameter(torch.zeros(1))], **options)
    except Exception as error:  # each optimizer checks its options in its own way, some by failing
        given = " ".join(f"{key}={value}" for key, value in options.items())
        raise ValueError(f"{cls.__name__} cannot be made with {given}: {error}") from error
    return partial(cls, **options)


def _say_precision(precision: Precision, before: str | None) -> None:
    """Log what is computed in, and if that changes when a run is resumed."""
    log.info("precision: %s", precision)
    if before is not None and before.partition(",")[0] != precision.setting:
        log.warning("this run was in %s so far; its numbers will be another run of the same distribution", before)


def _say_time(model: nn.Module, data: SceneDataset, config: DictConfig, trainer: pl.Trainer, start: int) -> None:
    """Log about how long the run will take, from three steps on a copy of the model."""
    left, each = config.trainer.max_steps - start, stages_of(config.batch_size).at(start)
    if left < WORTH or config.compile:  # compiling the copy as well would take longer than it is worth
        return
    batch = training_part(data.batch(list(range(min(each, len(data))))), getattr(model, "hints", ()))
    seconds = seconds_per_step(
        copy.deepcopy(model).to(trainer.strategy.root_device),
        batch,
        step=start,
        context=trainer.precision_plugin.forward_context,
    )
    log.info(
        "about %s for %s steps of %d x %d images (three steps measured now; validation and pictures come on top)",
        duration(seconds * trainer.accumulate_grad_batches * left),
        f"{left:,}",
        each * trainer.accumulate_grad_batches,
        trainer.world_size,
    )


def _group(options: DictConfig, *, fused: bool) -> Any:
    """Options of the run's optimizer, or what makes an optimizer of its own."""
    if "_target_" in options:
        return _maker(options, fused=fused)
    return OmegaConf.to_container(options, resolve=True)


def _loggers(config: DictConfig, run: RunFolder, resume_step: int | None) -> list[Logger]:
    loggers: list[Logger] = [CSVLog(run.path / "metrics.csv", resume_step=resume_step)]
    if config.loggers.tensorboard:
        loggers.append(TensorBoardLogger(run.path, name="tensorboard", version=""))
    extras = [config.loggers[name] for name in ("wandb", "mlflow") if config.loggers[name] is not None]
    return loggers + [build(extra, "logger", save_dir=str(run.path)) for extra in extras]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide the messages of Lightning that tell a user of objectscape nothing."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for text in (".*does not have many workers.*", ".*isolated_fork.*", ".*Checkpoint directory.*", ".*LeafSpec.*",
                     ".*is smaller than the logging interval.*", ".*GPU available but not used.*",
                     ".*Trainer.fit.. received.*", ".*exists and is not empty.*",
                     ".*module.s. in eval mode.*", ".*`srun` command is available.*"):  # fmt: skip
            warnings.filterwarnings("ignore", message=text)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def is_main_process() -> bool:
    """Whether this process writes files: the only one, or the first of a distributed run."""
    return (
        int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0
        and int(os.environ.get("LOCAL_RANK", 0)) == 0
    )
