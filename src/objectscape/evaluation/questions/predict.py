"""What happens next? Imagined futures against what was filmed."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from objectscape.contract import Predicts, continue_clips
from objectscape.evaluation.questions.question import Answer, Means, Question, higher, lower, neither
from objectscape.metrics.prediction import WINDOW, diversity, mean_future_mse, ssim, tiers
from objectscape.metrics.reconstruction import mse, psnr
from objectscape.metrics.video import lpips
from objectscape.nn.validation import check_at_least
from objectscape.scene import Decomposition, Scene, Tensors


class Predict(Question):
    """What happens next?

    The baseline repeats the last frame. It is not enough: on sparse scenes an empty picture beats it after a few
    steps, so `mse_empty` stands beside. Where the data come from a simulator of ours,
    `mse_simulator` is what the simulator itself reaches, started from the true state: the most there is.

    Args:
        context: frames that are seen.
        horizon: frames that are predicted; None for the rest of the clip.
        samples: futures S of each clip.
        data_range: of SSIM: 2 gives SSWM's published values, which hide errors.
        alexnet: torchvision's file of AlexNet weights, for LPIPS; None for none. Its SHA-256 is checked.

    Raises:
        FileNotFoundError, ValueError: if `alexnet` names no file, or another one.
    """

    name = "predict"
    needs = "a model that predicts and clips with more frames than `context`"
    scores = {
        "mse_future": lower("Squared error of the mean of all futures, mean over predicted frames.", "MSE ahead"),
        "mse_best": lower("Squared error of each clip's best future.", "best MSE"),
        "mse_sample": lower("Squared error of a future, mean over all."),
        "mse_empty": neither("Squared error of a picture of the clip's most common color: a model must be below."),
        "psnr_best": higher("PSNR in dB of each clip's best future."),
        "psnr_sample": higher("PSNR in dB of a future, mean over all."),
        "psnr_worst": higher("PSNR in dB of each clip's worst future."),
        "ssim_best": higher("SSIM of each clip's best future."),
        "ssim_sample": higher("SSIM of a future, mean over all."),
        "ssim_worst": higher("SSIM of each clip's worst future."),
        "lpips_best": lower("LPIPS of each clip's best future; only with the weights file."),
        "lpips_sample": lower("LPIPS of a future, mean over all."),
        "diversity": neither("Best minus worst SSIM; as wrong if too high as if too low."),
        "mse_simulator": neither("`mse_future` of the simulator from the true state: the least there is."),
        "diversity_simulator": neither("`diversity` of the simulator: how much there should be."),
    }
    headline = ("mse_future", "mse_best")

    def __init__(
        self,
        *,
        context: int = 2,
        horizon: int | None = None,
        samples: int = 16,
        data_range: float = 1.0,
        alexnet: str | Path | None = None,
    ) -> None:
        check_at_least(1, context=context, samples=samples, **({} if horizon is None else {"horizon": horizon}))
        self.context, self.horizon, self.samples, self.data_range = context, horizon, samples, data_range
        self.lpips = None if alexnet is None else lpips(alexnet)
        self.means = Means()
        self.steps: dict[str, list[Tensor]] = defaultdict(list)

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(model, Predicts) and isinstance(batch, Scene) and batch.image.ndim == 5

    @classmethod
    def at_validation(cls) -> Self:
        return cls(samples=4)

    def look(self, model: Any, batch: Scene) -> Decomposition:
        """Futures (B, S, T, ...) from the first frames."""
        steps = self._steps(batch)
        if self.simulator is not None:
            self._ceiling(batch, steps)
        return continue_clips(model, batch, context=self.context, steps=steps, samples=self.samples)

    def update(self, batch: Scene, seen: Decomposition) -> None:
        futures = seen.recon.float()
        true = batch.pixels[:, self.context : self.context + futures.shape[2]]
        each = true[:, None].expand_as(futures)
        frames = each.flatten(0, 2), futures.flatten(0, 2)
        lead = futures.shape[:3]
        errors = mse(*frames).view(lead)
        tables = {"psnr": psnr(*frames).view(lead)}
        if min(true.shape[-2:]) >= WINDOW:
            tables["ssim"] = ssim(each, futures, data_range=self.data_range)
        best, mean, _ = tiers(errors, larger_is_better=False)
        empty = self._empty(batch).expand_as(true)
        rows = {
            "mse_future": mean_future_mse(true, futures),
            "mse_best": best,
            "mse_sample": mean,
            "mse_empty": (empty - true).square().mean((2, 3, 4)),
        }
        for name, table in tables.items():
            high, middle, low = tiers(table, larger_is_better=True)
            rows |= {f"{name}_best": high, f"{name}_sample": middle, f"{name}_worst": low}
        if self.lpips is not None:
            each_lpips = self.lpips.to(futures.device)(*frames).view(lead)
            rows["lpips_best"], rows["lpips_sample"], _ = tiers(each_lpips, larger_is_better=False)
        self.means.add({name: row.mean(1) for name, row in rows.items()})
        if "ssim" in tables:
            self.means.add({"diversity": diversity(tables["ssim"])})
        for name, row in rows.items():
            self.steps[name].append(row.detach().cpu())

    def _ceiling(self, batch: Scene, steps: int) -> None:
        """What the simulator reaches."""
        told = {"context": self.context, "steps": steps, "samples": self.samples}
        found = continue_clips(self.simulator, batch, **told).recon
        true = batch.pixels[:, self.context : self.context + steps]
        errors = mean_future_mse(true, found)
        self.means.add({"mse_simulator": errors.mean(1)})
        self.steps["mse_simulator"].append(errors.cpu())
        if min(true.shape[-2:]) >= WINDOW:
            alike = ssim(true[:, None].expand_as(found), found, data_range=self.data_range)
            self.means.add({"diversity_simulator": diversity(alike)})

    def compute(self, model: nn.Module) -> Answer:
        steps = {name: torch.cat(parts).mean(0).tolist() for name, parts in self.steps.items()}
        return Answer(self.means.scores(), {"per_step": steps})

    def baseline(self, batch: Scene) -> Decomposition:
        """The last frame that was seen, again and again."""
        last = batch.pixels[:, None, self.context - 1 : self.context].expand(-1, -1, self._steps(batch), -1, -1, -1)
        components = last.unsqueeze(3)
        return Decomposition(
            recon=last,
            masks=torch.ones_like(components[..., :1, :, :]),
            components=components,
            slots=last.new_zeros(*last.shape[:3], 1, 0),
        )

    def _steps(self, batch: Scene) -> int:
        frames = batch.image.shape[1]
        steps = frames - self.context if self.horizon is None else self.horizon
        if steps < 1 or self.context + steps > frames:
            raise ValueError(
                f"clips of {frames} frames cannot be asked for {max(steps, 1)} frames after {self.context}; set "
                "ask.predict.context and ask.predict.horizon, or read longer clips."
            )
        return steps

    def _empty(self, batch: Scene) -> Tensor:
        """(B, 1, 3, 1, 1) the median color of the frames that were seen."""
        seen = batch.pixels[:, : self.context].transpose(1, 2).flatten(2)
        return seen.median(2).values[:, None, :, None, None]
