"""Likelihood figures of models that are trained on a bound: per image in nats, one-sample estimates.

Every figure holds for the model's own fixed pixel standard deviation only; models with different ones do not compare.
"""

from __future__ import annotations

from torch import Tensor

from objectscape.metrics.per_image import PerImageMetric
from objectscape.scene import Decomposition


def bound_values(output: Decomposition, *, per_slot: bool = True) -> dict[str, Tensor]:
    """The parts of the negative evidence lower bound of each image, each (B,) nats.

    `nll` summed over pixels and channels; `nll_per_dim` the same divided by their number C H W; every KL of the model
    by its name, summed over slots; `kl` their sum; `negative_elbo` = `nll` + `kl`. With `per_slot`, `kl_slots_0` and
    so on for every KL that has a value per slot.

    Of MONet and GENESIS-V2, `kl_masks` is the KL between two sets of masks, which their code adds to the bound.
    GENESIS-V2 computes it only where it trains it.

    Args:
        output: what a model's `forward` returned.
        per_slot: whether to list slots.

    Returns:
        {} if the model has no bound.
    """
    bound = output.bound
    if not bound:
        return {}
    nll = bound["nll"]
    values = {"nll": nll, "nll_per_dim": nll / output.recon[0].numel()}
    parts = {name: value for name, value in bound.items() if name != "nll"}
    sums = {name: value.flatten(1).sum(1) if value.ndim > 1 else value for name, value in parts.items()}
    kl = sum(sums.values(), start=nll.new_zeros(len(nll)))
    values |= {**sums, "kl": kl, "negative_elbo": nll + kl}
    if per_slot:
        for name, value in parts.items():
            if value.ndim == 2:
                values |= {f"{name}_{k}": slot for k, slot in enumerate(value.unbind(1))}
    return values


class BoundMetric(PerImageMetric):
    """Mean over images of one of the `bound_values`.

    Args:
        name: its name there.
    """

    higher_is_better = False

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def update(self, output: Decomposition) -> None:
        """Take in what a model made of a batch.

        Raises:
            ValueError: if the output has no such value.
        """
        values = bound_values(output)
        if self.name not in values:
            raise ValueError(
                f"{type(output).__name__} has no {self.name!r}; it has {', '.join(values) or 'no bound at all'}"
            )
        self._add(values[self.name].detach().float())
