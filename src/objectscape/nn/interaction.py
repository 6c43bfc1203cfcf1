"""How slots move each other: the interaction network of the slot world models.

Source: Emami et al., "A Symmetric and Object-Centric World Model for Stochastic Environments" (NeurIPS 2020 workshop),
section 3 and the released code; the parts are OP3's (Veerapaneni et al., CoRL 2019).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.nn.recurrent import GRUCell
from objectscape.nn.validation import check_choice

MEMORIES = ("history", "none", "state")
PAIRS = ("directed", "released")


class Interaction(nn.Module):
    """Slots of one frame, and an action -> a Gaussian for every slot of the next frame.

    Every layer is linear; the width within is twice the slot's.

    Args:
        slot_size: width Z of a slot.
        action_size: width A of an action; 0 for none.
        memory: "history": a GRU over all slots so far (2Z wide). "none": the last slots only. "state": a deterministic
            state (Z wide) that the network itself predicts and that is half of what is drawn (OP3's recurrence).
        pairs: "directed" sums over ordered pairs, so slots may be renumbered. "released" computes the pair (i, j),
            i < j, in this order and uses it for (j, i) as well, as the released code does: numbering matters.
    """

    ACTION_WIDTH = 32

    def __init__(
        self,
        *,
        slot_size: int,
        action_size: int = 0,
        memory: Literal["history", "none", "state"] = "history",
        pairs: Literal["directed", "released"] = "directed",
    ) -> None:
        super().__init__()
        check_choice("memory", memory, MEMORIES)
        check_choice("pairs", pairs, PAIRS)
        width = 2 * slot_size
        self.action_size, self.memory, self.pairs = action_size, memory, pairs
        self.memory_size = {"history": width, "none": 0, "state": slot_size}[memory]
        self.embed = nn.Linear(slot_size, width)
        if memory != "none":
            self.recurrence = GRUCell(width, self.memory_size)
        if action_size:
            self.embed_action = nn.Linear(action_size, self.ACTION_WIDTH)
            self.action_effect = nn.Linear(width + self.ACTION_WIDTH, width)
            self.action_gate = nn.Linear(width, 1)
        self.effect = nn.Linear(2 * width, 2 * width)
        self.gate = nn.Linear(2 * width, 1)
        self.merge = nn.Linear(3 * width, slot_size)
        self.mean = nn.Linear(slot_size, slot_size)
        self.raw_scale = nn.Linear(slot_size, slot_size)
        if memory == "state":
            self.state = nn.Linear(slot_size, slot_size)

    def forward(self, slots: Tensor, memory: Tensor, action: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The next frame's slots.

        Args:
            slots: (N, K, Z) of the last frame.
            memory: (N, K, M) of the last frame; zeros at first.
            action: (N, A), or None.

        Returns:
            mean (N, K, Z), raw scale (N, K, Z), and memory (N, K, M) of the next frame.
        """
        embedded = F.elu(self.embed(slots))  # (N, K, 2Z)
        if self.memory != "none":
            memory = self.recurrence(embedded.flatten(0, 1), memory.flatten(0, 1)).unflatten(0, slots.shape[:2])
            embedded = memory if self.memory == "history" else torch.cat([memory, memory], -1)
        if self.action_size:
            assert action is not None
            told = F.elu(self.embed_action(action))[:, None].expand(-1, slots.shape[1], -1)
            acted = F.elu(self.action_effect(torch.cat([embedded, told], -1)))
            embedded = self.action_gate(acted).sigmoid() * acted
        merged = self.merge(torch.cat([embedded, self._effects(embedded)], -1))  # (N, K, Z)
        if self.memory == "state":
            memory = self.state(merged)
        return self.mean(merged), self.raw_scale(merged), memory

    def _effects(self, embedded: Tensor) -> Tensor:
        """(N, K, W) -> (N, K, 2W): what each slot feels of all others."""
        on_self, on_other = self.effect.weight.chunk(2, 1)
        # The layer on a pair is a sum of a part for each member: K products and not K^2.
        own, other = F.linear(embedded, on_self, self.effect.bias), F.linear(embedded, on_other)
        effect = F.elu(own[:, :, None] + other[:, None])  # (N, K, K, 2W)
        effect = self.gate(effect).sigmoid() * effect
        slots = torch.arange(embedded.shape[1], device=embedded.device)
        if self.pairs == "released":
            effect = torch.where((slots[:, None] < slots)[:, :, None], effect, effect.transpose(1, 2))
        return effect.masked_fill((slots[:, None] == slots)[:, :, None], 0).sum(2)
