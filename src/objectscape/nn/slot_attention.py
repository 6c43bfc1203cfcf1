"""Slot Attention, the module: slots compete for tokens (Locatello et al., "Object-Centric Learning with Slot
Attention", NeurIPS 2020, algorithm 1).

The options are those the field uses since: gradients through every iteration (the paper) or through the last one only
(Chang, Griffiths & Levine, "Object Representations as Fixed Points", NeurIPS 2022), and initial slots drawn from one
shared Gaussian (the paper; any number of slots at any time) or learned one by one (Jia, Liu & Huang, "Improving
Object-centric Learning with Query Optimization", ICLR 2023; a fixed number).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from objectscape.nn.distributions import drawing_means, fixed_noise, sample_gaussian
from objectscape.nn.recurrent import GRUCell
from objectscape.nn.validation import check_at_least, check_choice, check_positive


class SlotStep(NamedTuple):
    """What one iteration leaves behind."""

    slots: Tensor
    """(B, K, D) after the GRU and the residual MLP."""
    attention: Tensor
    """(B, K, N) which slot explains which token; sums to 1 over K."""
    weights: Tensor
    """(B, K, N) the attention normalized over the tokens; sums to 1 over N."""
    update: Tensor
    """(B, K, D) mean of the values under `weights`, the GRU's input."""


class SlotAttention(nn.Module):
    """Iterative attention normalized over the slots, so that they compete for the tokens.

    Only the projections of the tokens run in low precision under autocast; normalizations, softmax and slot updates
    stay in the dtype of the parameters (float32).

    Args:
        input_size: channels of a token.
        slots: number K of slots. Settable at any time if they are sampled.
        slot_size: width D of a slot.
        iterations: number of refinements, at least 1. Settable at any time.
        hidden_size: hidden width of the residual MLP.
        initial_slots: "sampled" from one learned Gaussian shared by all slots, "learned" one by one, or "given": only
            `refine` can be called.
        gradient: "unrolled" through all iterations, or "implicit": through the last one only, with its input taken as
            a constant. The initial slots then learn through a straight-through estimate (Jia et al. 2023), for without
            it they would receive no gradient at all.
        input_norm: normalize the tokens before the projections (the original does, EfficientMORL's version does not).
        epsilon: added to the attention before it is normalized over the tokens.
        norm_epsilon: epsilon of the layer normalizations.

    Raises:
        ValueError: for a value outside these ranges; for setting `slots` when they are learned.
    """

    def __init__(
        self,
        *,
        input_size: int = 64,
        slots: int = 7,
        slot_size: int = 64,
        iterations: int = 3,
        hidden_size: int = 128,
        initial_slots: Literal["sampled", "learned", "given"] = "sampled",
        gradient: Literal["unrolled", "implicit"] = "unrolled",
        input_norm: bool = True,
        epsilon: float = 1e-8,
        norm_epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        check_at_least(1, slots=slots, input_size=input_size, slot_size=slot_size, hidden_size=hidden_size)
        check_choice("initial_slots", initial_slots, ("sampled", "learned", "given"))
        check_choice("gradient", gradient, ("unrolled", "implicit"))
        check_positive(epsilon=epsilon, norm_epsilon=norm_epsilon)
        self._slots = slots
        self.iterations = iterations
        self.learned = initial_slots == "learned"
        self.implicit = gradient == "implicit"
        self.epsilon = epsilon

        if self.learned:
            self.initial = nn.Parameter(nn.init.xavier_uniform_(torch.empty(slots, slot_size)))
        elif initial_slots == "sampled":  # Glorot-uniform as in the original, whose tensors are (1, D)
            self.initial_mean = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, slot_size))[0])
            self.initial_log_std = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, slot_size))[0])
        self.norm_inputs = nn.LayerNorm(input_size, eps=norm_epsilon) if input_norm else nn.Identity()
        self.norm_slots = nn.LayerNorm(slot_size, eps=norm_epsilon)
        self.norm_mlp = nn.LayerNorm(slot_size, eps=norm_epsilon)
        self.to_queries = nn.Linear(slot_size, slot_size, bias=False)
        self.to_keys = nn.Linear(input_size, slot_size, bias=False)
        self.to_values = nn.Linear(input_size, slot_size, bias=False)
        self.gru = GRUCell(slot_size, slot_size)
        self.mlp = nn.Sequential(nn.Linear(slot_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, slot_size))

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return self._slots

    @slots.setter
    def slots(self, value: int) -> None:
        check_at_least(1, slots=value)
        if self.learned and value != self._slots:
            raise ValueError(
                f"slots={value}, but this module learned exactly {self._slots} initial slots. "
                'Build it with initial_slots="sampled" to choose their number freely.'
            )
        self._slots = value

    @property
    def iterations(self) -> int:
        """Number of refinements."""
        return self._iterations

    @iterations.setter
    def iterations(self, value: int) -> None:
        check_at_least(1, iterations=value)
        self._iterations = value

    def start(self, batch: int, noise: Tensor | None = None) -> Tensor:
        """(B, K, D) the slots before the first iteration.

        `noise` (B, K, D) replaces the standard normal draw. Slots that start identical stay identical, so under
        `posterior_means` the noise is not zero but fixed, the same for every image.
        """
        if self.learned:
            if noise is not None:
                raise ValueError("noise was given, but learned initial slots are not drawn; leave it out.")
            return self.initial.expand(batch, -1, -1)
        shape = (batch, self.slots, self.initial_mean.shape[0])
        if noise is not None and noise.shape != shape:
            raise ValueError(f"noise has shape {tuple(noise.shape)}; expected (B, K, D) = {shape}.")
        if noise is None and drawing_means():
            noise = fixed_noise(shape[1:], like=self.initial_mean).expand(shape)
        return sample_gaussian(self.initial_mean.expand(shape), self.initial_log_std.exp(), noise)

    def step(self, slots: Tensor, keys: Tensor, values: Tensor) -> SlotStep:
        """One iteration: slots (B, K, D), keys and values (B, N, D)."""
        queries = self.to_queries(self.norm_slots(slots)) * slots.shape[-1] ** -0.5
        attention = (queries @ keys.mT).softmax(1)  # (B, K, N), over the slots
        weights = attention + self.epsilon
        weights = weights / weights.sum(-1, keepdim=True)  # over the tokens
        update = weights @ values  # (B, K, D)
        slots = self.gru(update.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
        slots = slots + self.mlp(self.norm_mlp(slots))
        return SlotStep(slots, attention, weights, update)

    def project(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (..., N, C) -> their keys and values (..., N, D)."""
        dtype = self.to_queries.weight.dtype  # autocast leaves parameters in float32
        inputs = self.norm_inputs(inputs.to(dtype))
        return self.to_keys(inputs).to(dtype), self.to_values(inputs).to(dtype)

    def trajectory(self, inputs: Tensor, noise: Tensor | None = None) -> list[SlotStep]:
        """Every iteration in order; see `forward`."""
        keys, values = self.project(inputs)  # (B, N, D)
        return self.refine(self.start(inputs.shape[0], noise), keys, values)

    def refine(self, slots: Tensor, keys: Tensor, values: Tensor) -> list[SlotStep]:
        """Every iteration in order, from given slots (B, K, D), keys and values (B, N, D)."""
        steps: list[SlotStep] = []
        start = slots
        with torch.autocast(slots.device.type, enabled=False):
            for index in range(self.iterations):
                if self.implicit and index < self.iterations - 1:
                    with torch.no_grad():
                        steps.append(self.step(slots, keys, values))
                else:
                    if self.implicit:
                        slots = slots.detach() + (start - start.detach())  # the value of slots, the gradient of start
                    steps.append(self.step(slots, keys, values))
                slots = steps[-1].slots
        return steps

    def forward(self, inputs: Tensor, noise: Tensor | None = None) -> SlotStep:
        """Tokens (B, N, C), optionally the noise (B, K, D) of the initial slots -> the last iteration."""
        return self.trajectory(inputs, noise)[-1]
