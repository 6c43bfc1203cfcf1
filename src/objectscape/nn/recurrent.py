"""torch's recurrent cells, in float32 under autocast too.

CPUs without bf16 instructions have no bf16 LSTM, and a recurrence is sequential: low precision gains it nothing. The
parameters have torch's names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from objectscape.nn.mixtures import full_precision

State = tuple[Tensor, Tensor]


class LSTM(nn.LSTM):
    """`torch.nn.LSTM` on a batch of sequences, in float32."""

    def forward(self, input: Tensor, hx: State | None = None) -> tuple[Tensor, State]:  # type: ignore[override]
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(full_precision(input), _full(hx))


class LSTMCell(nn.LSTMCell):
    """`torch.nn.LSTMCell` in float32."""

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(full_precision(input), _full(hx))


class GRUCell(nn.GRUCell):
    """`torch.nn.GRUCell` in float32."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(full_precision(input), None if hx is None else full_precision(hx))


class GRU(nn.GRU):
    """`torch.nn.GRU` on a batch of sequences, in float32."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(full_precision(input), None if hx is None else full_precision(hx))


def _full(state: State | None) -> State | None:
    return None if state is None else (full_precision(state[0]), full_precision(state[1]))
