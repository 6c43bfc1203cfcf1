"""What happens beside the gradient steps: log, progress, pictures, checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from objectscape.checkpoints.run_folder import read_checkpoint
from objectscape.contract import see
from objectscape.data.loading import TrainLoader
from objectscape.evaluation.questions import headlines
from objectscape.files import replacing
from objectscape.scene import Scene
from objectscape.training.errors import CheckpointWriteError
from objectscape.training.task import Task

log = logging.getLogger(__name__)


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file, then renames it: the previous one survives a crash or a full disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        try:
            with replacing(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            raise CheckpointWriteError(
                f"cannot write the checkpoint {path}: {error}. The previous checkpoint is intact; free some space and "
                "continue with resume=RUN."
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))


class StepLog(Callback):
    """Logs loss terms, learning rate, gradient norm, images/s, the share of time spent waiting for data, and time.

    `train/seconds` and `train/cpu_seconds` (of all threads of this process) are what the steps so far have taken,
    without validation, and with what came before the checkpoint of a resumed run.

    Args:
        every: steps between rows.
        wait_warning: share of waiting above which a warning is given, once.
    """

    def __init__(self, *, every: int, wait_warning: float = 0.2) -> None:
        self.every, self.wait_warning = every, wait_warning
        self.latest: dict[str, float] = {}
        self._warned = False
        self._images: int | None = None
        self._spent, self._began = [0.0, 0.0], _clocks()

    def state_dict(self) -> dict[str, Any]:
        return {"images": self._images, "spent": self.spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._images = state_dict.get("images")
        self._spent = state_dict.get("spent", [math.nan, math.nan])

    @property
    def spent(self) -> list[float]:
        """Seconds and CPU seconds of the training steps so far."""
        return [before + now - began for before, now, began in zip(self._spent, _clocks(), self._began, strict=True)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(trainer.train_dataloader, TrainLoader)
        self.loader = trainer.train_dataloader
        self._seen_at_start = self.loader.frames_seen(trainer.global_step * trainer.accumulate_grad_batches)
        self._before = self._seen_at_start if self._images is None else self._images
        self._began = _clocks()
        self._begin(trainer.global_step)

    def _begin(self, step: int) -> None:
        self._step, self._time, self._waited = step, time.perf_counter(), self.loader.waited

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Task)
        step = trainer.global_step
        seen = self.loader.frames_seen(step * trainer.accumulate_grad_batches)
        self._images = self._before + seen - self._seen_at_start  # with other batch sizes before
        if step % self.every or step == self._step:
            return
        terms = {name: float(value) for name, value in pl_module.terms.items()}  # waits for the device
        seconds = max(time.perf_counter() - self._time, 1e-9)
        before = self.loader.frames_seen(self._step * trainer.accumulate_grad_batches)
        self.latest = {
            **{f"train/{name}": value for name, value in terms.items()},
            "train/gradient_norm": float(pl_module.gradient_norm),
            **{f"train/{name}": rate for name, rate in pl_module.learning_rates().items()},
            "train/images_per_second": (seen - before) / seconds,
            "train/wait_share": (self.loader.waited - self._waited) / seconds,
            "train/images_seen": self._images,
            **dict(zip(("train/seconds", "train/cpu_seconds"), self.spent, strict=True)),
        }
        for logger in trainer.loggers:
            logger.log_metrics(self.latest, step)
        if self.latest["train/wait_share"] > self.wait_warning and not self._warned and step > 2 * self.every:
            self._warned = True
            log.warning(
                "%.0f%% of the time is spent waiting for data. Try storage=device or storage=ram, more workers, or "
                "convert the data with `objectscape data convert`.",
                100 * self.latest["train/wait_share"],
            )
        self._begin(step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._spent = self.spent

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = _clocks()
        self._begin(trainer.global_step)


def _clocks() -> list[float]:
    """Seconds, and those of processors that this process has used."""
    return [time.perf_counter(), time.process_time()]


class ProgressDisplay(Callback):
    """A bar with loss, images/s and time left on a terminal; elsewhere a line now and then."""

    SECONDS_BETWEEN_LINES = 60.0

    def __init__(self, step_log: StepLog, *, console: Console | None = None) -> None:
        self.step_log = step_log
        self.console = console or Console(stderr=True)
        self.progress: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._line_step, self._line_time = trainer.global_step, time.monotonic()
        self._validated: int | None = None
        self._line_seen = self._seen(trainer)
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.progress.start()
        self.task = self.progress.add_task("train", total=trainer.max_steps, completed=trainer.global_step, text="")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=trainer.global_step, text=self._text(trainer))
        elif (
            trainer.is_global_zero
            and trainer.global_step > self._line_step
            and (
                trainer.global_step >= self._line_step + max(1, trainer.max_steps // 10)
                or time.monotonic() > self._line_time + self.SECONDS_BETWEEN_LINES
            )
        ):
            assert isinstance(pl_module, Task)
            seen, now = self._seen(trainer), time.monotonic()
            fresh = {  # of this very step: the log may be older
                "train/loss": float(pl_module.terms["loss"]),
                "train/images_per_second": (seen - self._line_seen) / max(now - self._line_time, 1e-9),
            }
            self._line_step, self._line_time, self._line_seen = trainer.global_step, now, seen
            self.console.print(
                f"step {trainer.global_step}/{trainer.max_steps}  {self._text(trainer, fresh)}", highlight=False
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = trainer.global_step

    @staticmethod
    def _seen(trainer: pl.Trainer) -> int:
        """Images of this training so far."""
        loader = trainer.train_dataloader
        steps = trainer.global_step * trainer.accumulate_grad_batches
        return loader.frames_seen(steps) if isinstance(loader, TrainLoader) else 0

    def _text(self, trainer: pl.Trainer, fresh: dict[str, float] | None = None) -> str:
        values = {**self.step_log.latest, **{k: float(v) for k, v in trainer.callback_metrics.items()}, **(fresh or {})}
        headline = headlines(key.removeprefix("val/") for key in values if key.startswith("val/"))
        shown = (
            ("loss", "train/loss", ".4g"),
            ("images/s", "train/images_per_second", ".0f"),
            *((meaning.label or name, f"val/{name}", ".4g") for name, meaning in list(headline.items())[:1]),
        )
        text = "  ".join(f"{label} {values[key]:{form}}" for label, key, form in shown if key in values)
        stale = self._validated is not None and self._validated != trainer.global_step and headline
        return f"{text} (step {self._validated})" if stale else text

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


class Pictures(Callback):
    """Draws how the model decomposes the same few held-out scenes, every `every` steps.

    Args:
        scene: the scenes, with ground truth if there is any.
        folder: PNG files `step_00001000.png` go there.
        every: steps between pictures.
        strict: whether a picture that cannot be drawn ends the run (else it is an error in the log).
    """

    def __init__(self, scene: Scene, folder: Path, *, every: int, strict: bool) -> None:
        self.scene, self.folder, self.every, self.strict = scene, folder, every, strict

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0 and trainer.is_global_zero:
            self.draw(trainer, pl_module)

    def draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        from objectscape.viz import decomposition_array, save_image

        step = trainer.global_step
        file = self.folder / f"step_{step:08d}.png"
        if file.exists():
            return
        assert isinstance(pl_module, Task)
        model = pl_module.model.eval()
        try:
            with torch.random.fork_rng(enabled=True), torch.no_grad():
                torch.manual_seed(0)
                output = see(model, self.scene.to(pl_module.device))
            picture = decomposition_array(self.scene, output.to("cpu"), count=len(self.scene))
            save_image(picture, file)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("decomposition", picture, step, dataformats="HWC")
        except Exception:
            if self.strict:
                raise
            log.exception(
                "the picture of step %d could not be drawn; training goes on (strict=true would stop it)", step
            )
        finally:
            model.train()


class KeepCheckpoint(Checkpoint):
    """Keeps one checkpoint up to date: every `every` steps, at the last step, and at every other orderly end.

    Args:
        path: of the checkpoint.
        every: steps between checkpoints.
        on_start: called when training begins, after everything is restored.

    Attributes:
        stop_requested: set it to stop the run after the current step, with its state saved. The processes of a
            distributed run agree on it after a step, about once a second.
        seconds: wall-clock time of the run so far, with what it took before the checkpoint that it was resumed from.
        saved_step: step of the last checkpoint; None before the first.
        started: whether training has begun.
    """

    def __init__(self, path: Path, *, every: int, on_start: Callable[[], None] = lambda: None) -> None:
        self.path, self.every, self.on_start = path, every, on_start
        self.stop_requested, self.started = False, False
        self._agreed, self._next_agreement = (0, 0.0), 0  # step and time of the last agreement; step of the next
        self.saved_step: int | None = None
        self._before, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = float(state_dict["seconds"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()
        self.started, self.saved_step = True, trainer.global_step or None
        self.on_start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loader = trainer.train_dataloader  # with limit_train_batches there are several epochs, and the data go on
        if isinstance(loader, TrainLoader):
            loader.start_at(trainer.global_step * trainer.accumulate_grad_batches)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            if trainer.should_stop:  # by max_time or a callback, in the middle of a step: after it
                trainer.should_stop, self.stop_requested = False, True
            return
        stop = self._agreed_stop(trainer) or trainer.should_stop
        if stop or step % self.every == 0 or step == trainer.max_steps:
            self._save(trainer)
        trainer.should_stop = stop

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step and self.saved_step != trainer.global_step:  # max_epochs, or stopped by a callback
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.saved_step = trainer.global_step

    def _agreed_stop(self, trainer: pl.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.stop_requested
        step, now = trainer.global_step, time.monotonic()
        if step < self._next_agreement:
            return False
        seconds = (now - self._agreed[1]) / max(1, step - self._agreed[0])  # per step
        mine = torch.tensor([float(self.stop_requested), seconds], device=trainer.strategy.root_device)
        stop, slowest = trainer.strategy.reduce(mine, reduce_op="max").tolist()
        self._agreed, self._next_agreement = (step, now), step + max(1, min(100, int(1 / slowest)))
        return bool(stop)
