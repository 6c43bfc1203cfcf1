"""The one LightningModule: any model, any data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from objectscape.contract import Scheduled, readable
from objectscape.evaluation.asking import Asking
from objectscape.nn.optimizers import Optimizers
from objectscape.scene import Decomposition, Losses, Scene
from objectscape.seeding import derive_seed
from objectscape.training.errors import NonFiniteLossError
from objectscape.training.geco import Controller

MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""Parameter groups -> an optimizer of them."""


class Task(pl.LightningModule):
    """Trains `model` on batches of Scenes.

    All randomness of a training step comes from generators seeded by (seed, step, rank), so a resumed run draws the
    same noise as an uninterrupted one.

    Args:
        model: follows the contract of `objectscape.contract.Model`.
        optimizer: makes the optimizer from parameter groups.
        schedule: factor on every learning rate after a number of steps.
        seed: of the run.
        groups: {prefix of parameter names: their own options of `optimizer`, such as `lr`, or a function that makes
            their own optimizer}. Parameters that need no gradient belong to no optimizer.
        controller: sets a weight of the model's loss before each step, such as GECO.
        compile: run the model through `torch.compile`.
        log_every: steps between checks that losses and gradients are finite.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: MakeOptimizer,
        schedule: Callable[[int], float],
        seed: int,
        groups: Mapping[str, Mapping[str, Any] | MakeOptimizer] | None = None,
        controller: Controller | None = None,
        compile: bool = False,
        log_every: int = 50,
    ) -> None:
        super().__init__()
        self.model = model
        self.make_optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self.geco = controller  # under this name in checkpoints
        if controller is not None:
            controller.steer(model)  # says at once when there is nothing to steer
        self.groups, self.log_every = dict(groups or {}), log_every
        self.asking: Asking | None = None
        self.terms: dict[str, Tensor] = {}
        self.gradient_norm = torch.zeros(())
        self._finite = torch.tensor(True)
        self._checked_step = 0
        if compile:
            # iterative models take gradients inside their forward pass, which torch compiles only if told so
            torch._dynamo.config.trace_autograd_ops = True
            self.model.compile()

    def training_step(self, batch: Scene, batch_idx: int) -> Tensor:
        accumulated = self.trainer.accumulate_grad_batches
        number = self.global_step * accumulated + batch_idx % accumulated
        _seed(derive_seed(self.seed, "batch", number, self.global_rank), self.device)
        scene = readable(self.model, batch)
        if isinstance(self.model, Scheduled):
            self.model.set_step(self.global_step)
        if isinstance(self.geco, Scheduled):
            self.geco.set_step(self.global_step)
        if self.geco is not None:
            self.geco.steer(self.model)
        output: Decomposition = self.model(scene)
        losses: Losses = self.model.loss(scene, output, self.global_step)  # type: ignore[operator]
        self.terms = {"loss": losses.total.detach(), **losses.terms}
        if self.geco is not None:
            self.terms |= self.geco.update(losses)
        self._finite = self._finite.to(losses.total.device) & losses.total.detach().isfinite()
        return losses.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.gradient_norm = nn.utils.get_total_norm(gradients)
        self._finite = self._finite & self.gradient_norm.isfinite()
        if (self.global_step + 1) % self.log_every == 0 or self.device.type == "cpu":
            self.check_finite()

    def check_finite(self) -> None:
        """Stop the run if a loss or gradient since the last check was not finite (one device synchronization)."""
        if not bool(self._finite):
            loss, norm = float(self.terms["loss"]), float(self.gradient_norm)
            raise NonFiniteLossError(
                "the loss or its gradient became NaN or infinite between steps "
                f"{self._checked_step} and {self.global_step} (loss now {loss:.4g}, gradient norm {norm:.4g}). "
                "The last checkpoint before that is kept. Lower optimizer.lr, set trainer.gradient_clip_val, or use "
                "trainer.precision=32-true, and resume."
            )
        self._checked_step = self.global_step

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rates, decays and the schedule are those of the settings at hand, not those of the checkpoint.

        Raises:
            ValueError: if the parameters are divided into other groups.
        """
        groups = self._optimizer().param_groups
        (optimizer,), (scheduler,) = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
        saved = optimizer["param_groups"]
        if [len(group["params"]) for group in saved] != [len(group["params"]) for group in groups]:
            raise ValueError("groups: the checkpoint's optimizer has its parameters in other groups; begin a new run")
        factor = self.schedule(scheduler["last_epoch"])
        for old, new in zip(saved, groups, strict=True):
            old.update({key: value for key, value in new.items() if key != "params"})
            old.update(initial_lr=new["lr"], lr=new["lr"] * factor)
        scheduler["base_lrs"] = [group["initial_lr"] for group in saved]
        scheduler["_last_lr"] = [group["lr"] for group in saved]
        scheduler["lr_lambdas"] = [None] * len(saved)  # a schedule's own settings, else restored into ours

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_finite()

    def on_validation_epoch_start(self) -> None:
        seed = derive_seed(self.seed, "validation", self.global_rank)
        self.asking = Asking(self.model, seed=seed, quick=True)

    def validation_step(self, batch: Scene, batch_idx: int) -> None:
        assert self.asking is not None
        self.asking.update(batch)

    def on_validation_epoch_end(self) -> None:
        assert self.asking is not None
        scores = self.asking.compute().scores
        values = {f"val/{name}": score.mean for name, score in scores.items() if math.isfinite(score.mean)}
        self.log_dict(values, logger=False)  # for callbacks; Lightning would log it under another step number
        for logger in self.loggers:
            logger.log_metrics(values, self.global_step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self._optimizer()
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, self.schedule), "interval": "step"},
        }

    def _optimizer(self) -> torch.optim.Optimizer:
        parameters = self._grouped_parameters()
        own = {name: make for name, make in self.groups.items() if callable(make)}
        options = {name: values for name, values in self.groups.items() if not callable(values)}
        shared = [name for name in parameters if name not in own]
        groups: list[dict[str, Any]] = [{"params": parameters[name], **options.get(name, {})} for name in shared]
        optimizers = [self.make_optimizer(groups)] if groups else []
        optimizers += [make([{"params": parameters[name]}]) for name, make in own.items()]
        self._group_names = [*shared, *own]
        return optimizers[0] if len(optimizers) == 1 else Optimizers(optimizers)

    def _grouped_parameters(self) -> dict[str, list[nn.Parameter]]:
        """{prefix: its parameters}; those without a prefix come first, under ""."""
        grouped: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in ("", *self.groups)}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                grouped[next((p for p in self.groups if name.startswith(p)), "")].append(parameter)
        if not grouped[""]:
            del grouped[""]
        for prefix, parameters in grouped.items():
            if not parameters:
                names = sorted({name.split(".")[0] for name, p in self.model.named_parameters() if p.requires_grad})
                raise ValueError(
                    f"groups: no parameter to train starts with {prefix!r}; the model's parts are {', '.join(names)}"
                )
        return grouped

    def learning_rates(self) -> dict[str, float]:
        """{"lr": ...} and {"lr_<group>": ...} now."""
        groups = self.trainer.optimizers[0].param_groups
        rates = {name and f"lr_{name}": group["lr"] for name, group in zip(self._group_names, groups, strict=True)}
        return {"lr": rates.pop("", groups[0]["lr"]), **rates}


def _seed(seed: int, device: torch.device) -> None:
    """As `torch.manual_seed` for the CPU and `device`.

    Without its cost for the kinds of devices that are not there: it keeps a formatted stack trace for each of them,
    which takes up to a millisecond, at every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
