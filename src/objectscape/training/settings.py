"""What the settings of a run may be: checked before anything slow is imported and before a run folder exists."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from objectscape.names import did_you_mean
from objectscape.nn.ramps import Stages

AT_LEAST = {
    "workers": 0, "trainer.max_steps": 1, "every.log": 1, "every.checkpoint": 1, "every.validate": 0,
    "every.picture": 0, "validation.images": 1, "validation.batch_size": 1, "validation.pictures": 1,
    "trainer.accumulate_grad_batches": 1, "schedule.warmup": 0, "seed": 0, "data.seed": 0,
}  # fmt: skip
"""Smallest value of settings that count something."""

NEEDED = (
    "batch_size", "seed", "storage", "workers", "compile", "strict", "groups", "trainer.max_steps", "every.log",
    "every.checkpoint", "every.validate", "every.picture", "validation.images", "validation.batch_size",
    "validation.pictures", "loggers.tensorboard",
)  # fmt: skip
"""Settings that every run has a value of."""
PRESENT = ("optimizer", "schedule", "ema", "geco")
"""Settings that may be null."""
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
SHORT = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}

CLUSTER = (
    "SLURM_NTASKS",
    "TORCHELASTIC_RUN_ID",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "NODE_RANK",
    "LSB_JOBID",
    "KUBERNETES_PORT",
)
"""Variables of the environment of which a process that is one of several machines' has at least one."""

OURS = {
    "log_every_n_steps": "use every.log",
    "val_check_interval": "use every.validate",
    "check_val_every_n_epoch": "use every.validate",
    "limit_val_batches": "use validation.images",
    "num_sanity_val_steps": "the first validation comes after every.validate steps",
    "fast_dev_run": "use trainer.max_steps and every.validate",
    "overfit_batches": "use data.count, or data with few images",
    "min_steps": "a run ends at trainer.max_steps",
    "min_epochs": "a run ends at trainer.max_steps",
    "enable_progress_bar": "progress is always shown, as lines where there is no terminal",
    "enable_model_summary": "there is none",
    "enable_checkpointing": "use every.checkpoint",
    "default_root_dir": "use run_dir or runs",
    "logger": "use loggers.tensorboard, loggers.wandb or loggers.mlflow",
    "callbacks": "call lightning.Trainer yourself to use your own",
    "plugins": "call lightning.Trainer yourself to use your own",
    "inference_mode": "iterative models need it off",
    "use_distributed_sampler": "the loaders know the processes",
    "barebones": "a run needs its log and checkpoints",
}
"""Arguments of lightning.Trainer that a run sets by itself, and what to use."""


def check_settings(config: DictConfig) -> None:
    """Raise ValueError for a setting of recipes/config.yaml that is out of its range."""
    lacking = [name for name in NEEDED if OmegaConf.select(config, name) is None]
    lacking += [name for name in PRESENT if name not in config]
    if lacking:
        raise ValueError(
            f"the configuration has no {', '.join(lacking)}: it is damaged, or a part of it is set to null"
        )
    stages_of(config.batch_size)
    for name, least in AT_LEAST.items():
        value = OmegaConf.select(config, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{name}={value}: expected a whole number, at least {least}")
        if value is not None and value >= 2**63:
            raise ValueError(f"{name}={value}: expected a whole number below 2^63")
    for name in ("optimizer", "schedule"):
        if config.get(name) is None:
            constant = "; a constant rate is schedule._target_=objectscape.training.schedules.Constant"
            raise ValueError(f"{name}=null: a run needs one{constant if name == 'schedule' else ''}")
    rate = config.optimizer.get("lr")
    if isinstance(rate, float) and not (rate >= 0 and math.isfinite(rate)):
        raise ValueError(f"optimizer.lr={rate}: expected a finite number, at least 0")
    for name in ("max_epochs", "limit_train_batches"):
        if config.trainer.get(name) == 0:
            raise ValueError(f"trainer.{name}={config.trainer[name]}: no step would be made")
    for name, ours in OURS.items():
        if name in config.trainer:
            raise ValueError(f"trainer.{name} is set by objectscape: {ours}")
    precision_of(config.trainer.get("precision"))
    nodes = config.trainer.get("num_nodes", 1)
    if nodes != 1 and not any(name in os.environ for name in CLUSTER):
        raise ValueError(f"trainer.num_nodes={nodes}: start the run with srun or torchrun, or it would wait for ever")
    if config.ema is not None and not (isinstance(config.ema, float) and 0 < config.ema < 1):
        raise ValueError(f"ema={config.ema}: expected a decay between 0 and 1, such as 0.999, or null for none")


def precision_of(setting: str | int | None) -> str:
    """The one of `PRECISIONS` that `trainer.precision` means.

    Raises:
        ValueError: for another.
    """
    text = SHORT.get(str(setting), str(setting))
    if text not in PRECISIONS:
        hint = did_you_mean(text, PRECISIONS)
        if text.endswith("-true"):
            hint = " Weights stay in float32; the mixed settings compute the large products in 16 bits."
        raise ValueError(f"trainer.precision={setting}: choose one of {', '.join(PRECISIONS)}.{hint}")
    return text


def check_steps_left(folder: Path, done: int, config: DictConfig) -> None:
    """Raise ValueError if a run that is to go on has made all of its steps."""
    if done >= config.trainer.max_steps:
        raise ValueError(
            f"{folder} has already done {done} of trainer.max_steps={config.trainer.max_steps} steps; "
            "give a larger trainer.max_steps to continue it"
        )


def stages_of(value: Any) -> Stages:
    """A whole number, at least 1, or stages of it."""
    plain: Any = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
    stages = Stages(plain)
    for number in stages.values:
        if type(number) is not int or number < 1:
            raise ValueError(
                f"batch_size={value}: expected a whole number, at least 1, or [step, number] pairs of them"
            )
    return stages
