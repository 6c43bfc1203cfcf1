"""GECO: weights between reconstruction and KL that steer themselves to a chosen reconstruction error.

Rezende and Viola 2018, Taming VAEs (arXiv 1810.00597). Instead of a fixed beta one states how good the reconstruction
has to be (the goal, a negative log-likelihood); a multiplier then shifts weight to the KL while the goal is met and to
the reconstruction while it is not. Two published variants live here, each with its state in buffers, so that it is
part of every checkpoint, and with errors averaged over all processes of a distributed run:

- `GECO`, of GENESIS, GENESIS-V2 and MONet-G: a multiplicative weight `beta` on the KL.
- `SoftplusGECO`, of EfficientMORL: an additive multiplier on the reconstruction, after a warm start.

A step is: `geco.steer(model)`, which sets the weight; `losses = model.loss(scene, output, step)`; and
`geco.update(losses)`, which reads the batch mean of the reconstruction error, `losses.terms["nll"]`, in nats summed
over pixels and channels. Any object with these two methods can be a run's controller (`Controller`).

`goal_for_rmse` and `propose_goal` find a goal for a new data set.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from objectscape.nn.ramps import Stages
from objectscape.scene import Losses

_log = logging.getLogger(__name__)


@runtime_checkable
class Controller(Protocol):
    """Sets a weight of a model's loss while it is trained."""

    def steer(self, model: nn.Module) -> None:
        """Set the weight for the next loss; ValueError if `model` has no such weight."""

    def update(self, losses: Losses) -> dict[str, Tensor]:
        """Take in the losses of a step; returns {name: detached scalar} for the log, with the weight that was used."""


class GECO(nn.Module):
    """The weight `model.beta` of the KL that holds the reconstruction error at its goal, as GENESIS trains.

    After every step: the moving average of the error is updated, the multiplier becomes
    `beta * exp(step_size * (goal - average))`, `speedup` times faster while the average is below the goal (better),
    and is clamped. The first average is the first error.

    Args:
        goal: wanted negative log-likelihood; nats per pixel and channel if `image_size` is given, per image otherwise.
            Stages of it, such as [[0, 0.6], [10000, 0.5655]], change with the optimizer step.
            The default is that of GENESIS, for a pixel standard deviation of 0.7: an RMSE of 0.056.
        image_size: side S of the square images in pixels. The goal is multiplied by channels * S^2 and the step size
            by 64^2 / S^2, so that one setting serves all sizes. None: goal and step size are taken as they are.
        channels: channels of the images; used with `image_size`.
        step_size: step per nat of error.
        alpha: decay of the moving average, in [0, 1).
        speedup: factor on the step while the average error is below the goal; None is 1.
        beta_init: beta at the start.
        beta_min: smallest beta.
        beta_max: largest beta.
        target_rmse: wanted root-mean-square error of the redrawn image, whose values are in [0, 1]; replaces `goal`
            (see `goal_for_rmse`) and needs `pixel_std` and `image_size`.
        pixel_std: the model's smallest pixel standard deviation; given (with `image_size`), an infeasible goal is
            warned of.

    Raises:
        ValueError: if an option is out of its range.
    """

    beta: Tensor
    """() float32, the weight for the next loss."""
    error: Tensor
    """() float32, moving average of the error in nats per image; nan before the first update."""

    def __init__(
        self,
        *,
        goal: float | Sequence[Sequence[float]] = 0.5655,
        image_size: int | None = None,
        channels: int = 3,
        step_size: float = 1e-5,
        alpha: float = 0.99,
        speedup: float | None = 10.0,
        beta_init: float = 1.0,
        beta_min: float = 1e-10,
        beta_max: float = 1e10,
        target_rmse: float | None = None,
        pixel_std: float | None = None,
    ) -> None:
        super().__init__()
        _check_alpha(alpha)
        if step_size <= 0:
            raise ValueError(f"step_size={step_size}: must be positive, 1e-5 for example.")
        if speedup is not None and speedup <= 0:
            raise ValueError(f"speedup={speedup}: must be positive, or None for no speed-up.")
        if not 0 < beta_min <= beta_init <= beta_max:
            raise ValueError(
                f"beta_min={beta_min}, beta_init={beta_init}, beta_max={beta_max}: must be positive and in this order."
            )
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size={image_size}: must be the side of the images in pixels, or None.")
        if target_rmse is not None:
            if pixel_std is None or image_size is None:
                raise ValueError(
                    f"target_rmse={target_rmse} needs pixel_std (the model's) and image_size to become a goal in nats."
                )
            goal = goal_for_rmse(target_rmse, pixel_std=pixel_std)
        values = 1 if image_size is None else channels * image_size**2
        if pixel_std is not None and image_size is not None:
            _warn_if_infeasible(min(Stages(goal).values), smallest_error(pixel_std=pixel_std))
        self._goals, self._values = Stages(goal), values
        self.goal: float = self._goals.at(0) * values
        """Goal in nats per image."""
        self.step_size = step_size if image_size is None else step_size * 64**2 / image_size**2
        self.alpha, self.speedup = alpha, 1.0 if speedup is None else speedup
        self.beta_min, self.beta_max = beta_min, beta_max
        self.register_buffer("beta", torch.tensor(float(beta_init)))
        self.register_buffer("error", torch.tensor(math.nan))

    def set_step(self, step: int) -> None:
        """Take the goal of the stage that `step` belongs to."""
        self.goal = self._goals.at(step) * self._values

    def steer(self, model: nn.Module) -> None:
        """Set `model.beta`, the weight of its KL."""
        if not isinstance(getattr(model, "beta", None), float | int | Tensor):
            raise _nothing_to_steer(self, model, "beta")
        if getattr(model, "beta_warmup", 0):
            raise ValueError(
                f"model.beta_warmup={model.beta_warmup} and GECO both set the weight of the KL; choose one"
            )
        model.beta = self.beta.clone()

    def update(self, losses: Losses) -> dict[str, Tensor]:
        """Take in `losses.terms["nll"]`; see `Controller`."""
        used = self.beta
        self.adapt(_error_of(losses))
        return {"beta": used}

    @torch.no_grad()
    def adapt(self, error: Tensor) -> None:
        """Take in the error of a step.

        Args:
            error: () batch mean of the reconstruction error in nats per image. It is averaged over the processes of a
                distributed run. An error that is not finite leaves the state as it is.
        """
        error = _mean_over_processes(error)
        finite = error.isfinite()
        average = (1 - self.alpha) * error + self.alpha * self.error
        average = torch.where(self.error.isnan(), error, average)
        distance = self.goal - average
        step = torch.where(distance > 0, self.speedup * self.step_size, self.step_size)
        beta = (self.beta * torch.exp(step * distance)).clamp(self.beta_min, self.beta_max)
        # New tensors, never in place: the loss of this step still needs the old beta in its backward pass.
        self.beta = torch.where(finite, beta, self.beta)
        self.error = torch.where(finite, average, self.error)


class SoftplusGECO(nn.Module):
    """The weight softplus(beta) of the reconstruction that holds its error at a target, as EfficientMORL trains.

    During the first `warm_start` steps the weight is 1. Then the constraint is target - error, its moving average C
    starts with the first value, and after every further step beta becomes max(floor, beta - step_size * C): it grows
    while the target is missed, and falls back to the floor, where softplus(0.55) = 1.0055, once it is met.

    Source: Emami et al. 2021, EfficientMORL (arXiv 2106.03630), section 4, and the released code.

    Args:
        target: wanted negative log-likelihood; nats per pixel and channel if `image_size` is given (the published
            settings since October 2021), per image otherwise (the paper's, -61000 for CLEVR6 at 96 pixels).
        target_psnr: wanted quality of the redrawn image in dB instead of a target; needs `pixel_std` and `image_size`.
            Either may be stages, [[step, value], ...].
        image_size: side of the square images in pixels, or None.
        channels: channels of the images; used with `image_size`.
        step_size: step per nat of constraint.
        acceleration: factor on the step while C is positive, that is while the target is met.
        alpha: decay of the moving average, in [0, 1).
        warm_start: number of steps before the constraint acts.
        floor: smallest beta, and beta at the start.
        pixel_std: the model's pixel standard deviation; given (with `image_size`), an infeasible target is warned of.
            The published likelihood leaves out log(2 pi) / 2, so the smallest error there is is log(pixel_std).

    Raises:
        ValueError: if an option is out of its range.
    """

    beta: Tensor
    """() float32, the multiplier before the softplus."""
    constraint: Tensor
    """() float32, moving average C of target - error in nats per image; positive while the target is met."""
    updates: Tensor
    """() int64, number of steps taken."""

    def __init__(
        self,
        *,
        target: float | Sequence[Sequence[float]] | None = None,
        target_psnr: float | Sequence[Sequence[float]] | None = None,
        image_size: int | None = None,
        channels: int = 3,
        step_size: float = 1e-6,
        acceleration: float = 1.0,
        alpha: float = 0.99,
        warm_start: int = 1000,
        floor: float = 0.55,
        pixel_std: float | None = None,
    ) -> None:
        super().__init__()
        _check_alpha(alpha)
        if step_size <= 0 or acceleration <= 0:
            raise ValueError(f"step_size={step_size}, acceleration={acceleration}: both must be positive.")
        if warm_start < 0:
            raise ValueError(f"warm_start={warm_start}: must be a number of steps, 0 or more.")
        if (target is None) == (target_psnr is None):
            raise ValueError(f"target={target}, target_psnr={target_psnr}: give one of them.")
        if target_psnr is not None and (pixel_std is None or image_size is None):
            raise ValueError(
                f"target_psnr={target_psnr} needs pixel_std (the model's) and image_size to become a target in nats."
            )
        if pixel_std is not None:
            _check_pixel_std(pixel_std)
        wanted = Stages(target_psnr if target is None else target)  # type: ignore[arg-type]
        if target is None and pixel_std is not None:
            errors = [10 ** (-psnr / 10) for psnr in wanted.values]
            wanted.values = [math.log(pixel_std) + error / (2 * pixel_std**2) for error in errors]
        if image_size is not None and pixel_std is not None:
            _warn_if_infeasible(min(wanted.values), math.log(pixel_std))
        scale = 1 if image_size is None else channels * image_size**2
        wanted.values = [value * scale for value in wanted.values]
        self.targets = wanted
        """Targets in nats per image."""
        self.step_size, self.acceleration, self.alpha = step_size, acceleration, alpha
        self.warm_start, self.floor = warm_start, floor
        self.register_buffer("beta", torch.tensor(float(floor)))
        self.register_buffer("constraint", torch.tensor(0.0))
        self.register_buffer("updates", torch.tensor(0))

    @property
    def target(self) -> float:
        """Target in nats per image, for the next step."""
        return self.targets.at(int(self.updates)) if len(self.targets.values) > 1 else self.targets.values[0]

    @property
    def weight(self) -> Tensor:
        """() the weight of the reconstruction for the next loss: 1 during the warm start, softplus(beta) after it."""
        return torch.where(self.updates < self.warm_start, 1.0, F.softplus(self.beta))

    def steer(self, model: nn.Module) -> None:
        """Set `model.reconstruction_weight`."""
        if not hasattr(model, "reconstruction_weight"):
            raise _nothing_to_steer(self, model, "reconstruction_weight")
        model.reconstruction_weight = self.weight

    def update(self, losses: Losses) -> dict[str, Tensor]:
        """Take in `losses.terms["nll"]`; see `Controller`."""
        used = self.weight
        self.adapt(_error_of(losses))
        return {"reconstruction_weight": used}

    @torch.no_grad()
    def adapt(self, error: Tensor) -> None:
        """Take in the error of a step; `error` as in `GECO.adapt`."""
        now = self.target - _mean_over_processes(error)
        finite = now.isfinite()
        first, active = self.updates == self.warm_start, self.updates > self.warm_start
        average = torch.where(active, self.alpha * self.constraint + (1 - self.alpha) * now, self.constraint)
        average = torch.where(first, now, average)
        step = torch.where(average > 0, self.acceleration * self.step_size, self.step_size)
        beta = torch.where(active, (self.beta - step * average).clamp_min(self.floor), self.beta)
        # New tensors, never in place: the loss of this step still needs the old values in its backward pass.
        self.beta = torch.where(finite, beta, self.beta)
        self.constraint = torch.where(finite, average, self.constraint)
        self.updates = self.updates + finite.long()


def _nothing_to_steer(controller: nn.Module, model: nn.Module, name: str) -> ValueError:
    return ValueError(
        f"{type(controller).__name__} has nothing to steer in {type(model).__name__}, which has no weight {name!r}; "
        "set geco=null"
    )


def _error_of(losses: Losses) -> Tensor:
    if "nll" not in losses.terms:
        terms = ", ".join(losses.terms) or "none"
        raise ValueError(f"GECO needs the model's loss to name a term 'nll', the reconstruction error; it has {terms}")
    return losses.terms["nll"]


def smallest_error(*, pixel_std: float) -> float:
    """The smallest negative log-likelihood there is, that of a perfect copy, in nats per pixel and channel.

    Args:
        pixel_std: standard deviation of the model's pixels; of a mixture, the smallest.
    """
    _check_pixel_std(pixel_std)
    return 0.5 * math.log(2 * math.pi * pixel_std**2)


def goal_for_rmse(rmse: float, *, pixel_std: float) -> float:
    """The goal in nats per pixel and channel at which the redrawn image has a root-mean-square error of `rmse`.

    log(2 pi sigma^2) / 2 + rmse^2 / (2 sigma^2); exact for one Gaussian, and for a mixture where one mask dominates.

    Args:
        rmse: for values in [0, 1]; 0.0563 is GENESIS's 0.5655, 0.0468 its 0.5645 for Sketchy.
        pixel_std: standard deviation of the model's pixels.
    """
    if not 0 <= rmse <= 1:
        raise ValueError(f"rmse={rmse}: pixel values are in [0, 1], so it must be too; divide gray levels by 255.")
    return smallest_error(pixel_std=pixel_std) + rmse**2 / (2 * pixel_std**2)


def propose_goal(
    errors: Sequence[float] | Tensor, *, pixel_std: float, image_size: int, channels: int = 3, keep: float = 0.7
) -> float:
    """A goal for a new data set, in nats per pixel and channel, from the errors of a short run.

    The rule: the level at which the run settled is the median over its last quarter; its excess over the smallest
    possible error is what training can still win; the goal keeps the share `keep` of it. A goal at the settled level
    would be met at once and never bind; one close to the floor would never be met, and the KL would lose all weight.
    (EfficientMORL's advice, one to two thousand nats below the settled level, is a `keep` of 0.6 to 0.7 on CLEVR6.)
    It takes likelihoods with their constant, as the models of the GENESIS family have them.

    Args:
        errors: reconstruction errors in nats per image, batch means in the order of the steps, at least 8. Make them
            with a small constant beta (0.5, or the smallest that you would accept) and some thousands of steps.
        pixel_std: the model's smallest pixel standard deviation.
        image_size: side of the square images in pixels.
        channels: channels of the images.
        keep: share of the excess to keep, in (0, 1].

    Raises:
        ValueError: if there are too few errors, one is not finite, or they lie below the smallest possible error.
    """
    values = channels * image_size**2
    series = [float(error) / values for error in errors]
    if len(series) < 8:
        raise ValueError(
            f"{len(series)} errors are too few to see where they settle; give at least 8 of successive steps."
        )
    if not all(math.isfinite(error) for error in series):
        raise ValueError("an error is not finite: the run diverged; lower the learning rate and run it again.")
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep}: must be above 0 (an unreachable goal) and at most 1 (the settled level).")
    quarter = len(series) // 4
    floor, settled = smallest_error(pixel_std=pixel_std), statistics.median(series[-quarter:])
    if settled < floor:
        raise ValueError(
            f"the errors settle at {settled:.4f} nats per pixel and channel, below {floor:.4f}, the smallest that "
            f"pixel_std={pixel_std} allows: check pixel_std, image_size, channels, and that errors are sums per image."
        )
    before = statistics.median(series[-2 * quarter : -quarter])
    if before - settled > 0.1 * (settled - floor):
        _log.warning(
            "The errors are still falling (from %.4f to %.4f nats per pixel and channel over the last quarter): the "
            "proposed goal may be too easy; run longer.",
            before,
            settled,
        )
    return floor + keep * (settled - floor)


def _warn_if_infeasible(goal: float, floor: float) -> None:
    if goal < floor:
        _log.warning(
            "The goal of %.4f nats per pixel and channel is infeasible: a perfect copy has %.4f. The multiplier will "
            "move one way without bound. Choose a goal above that, for example with goal_for_rmse.",
            goal,
            floor,
        )


def _check_pixel_std(pixel_std: float) -> None:
    if pixel_std <= 0:
        raise ValueError(f"pixel_std={pixel_std}: must be positive; the default of the GENESIS family is 0.7.")


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha={alpha}: the decay of the moving average must be in [0, 1); the papers use 0.99.")


def _mean_over_processes(error: Tensor) -> Tensor:
    error = error.detach().float()
    if error.ndim:
        raise ValueError(f"the error has shape {tuple(error.shape)}; give its batch mean, a scalar.")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        error = error.clone()
        torch.distributed.all_reduce(error)
        error = error / torch.distributed.get_world_size()
    return error
