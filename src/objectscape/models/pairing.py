"""Which of a scene's descriptions belongs to which of its objects: sets in, pairs out.

A scene with several objects comes as a set in every domain: its slots, its sentences, its rows of attributes, in no
common order. What a workspace makes of each entry says which ones mean the same: the pairing is the one with the
smallest sum of translation losses, there and back (Hungarian method). It is found anew at every step, without gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

if TYPE_CHECKING:
    from objectscape.models.global_workspace import GlobalWorkspace

FAR = 1e6
"""Cost of a pair of which one is no object."""


@torch.no_grad()
def pair_up(
    model: GlobalWorkspace, latents: Mapping[str, Tensor], there: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sets as rows of one object each.

    Args:
        model: a workspace.
        latents: {domain: (B, N_d, D_d)}.
        there: {domain: (B, N_d) bool} which entries are objects.

    Returns:
        {domain: (R, D_d)} and {domain: (R,) bool present}: a row for every object of every scene, in every domain that
        has its counterpart. The domain with the most places gives the order.
    """
    order = max(latents, key=lambda name: latents[name].shape[1])
    scenes, places = latents[order].shape[:2]
    rows, present = {order: latents[order]}, {order: there[order]}
    for name in (n for n in latents if n != order):
        count = latents[name].shape[1]
        cost = torch.where(
            there[order].unsqueeze(2) & there[name].unsqueeze(1), _costs(model, latents, order, name), FAR
        )
        spare = cost.new_full((scenes, places, places - count), FAR)  # a place may go without a partner
        table = torch.cat([cost, spare], 2).cpu().numpy()
        partner = torch.stack([torch.as_tensor(linear_sum_assignment(each)[1]) for each in table]).to(cost.device)
        found = partner < count  # (B, K)
        partner = partner.clamp_max(count - 1)
        rows[name] = latents[name].gather(1, partner.unsqueeze(2).expand(-1, -1, latents[name].shape[2]))
        present[name] = found & there[name].gather(1, partner)
    used = torch.stack(list(present.values())).any(0)
    return {n: values[used] for n, values in rows.items()}, {n: values[used] for n, values in present.items()}


def _costs(model: GlobalWorkspace, latents: Mapping[str, Tensor], one: str, other: str) -> Tensor:
    """(B, N_one, N_other) translation loss from each entry of one domain to each of another, and back."""
    found = []
    for source, to in ((one, other), (other, one)):
        predicted = model.decode_latent(model.encoders[source](latents[source].flatten(0, 1)).tanh(), to)
        predicted = predicted.unflatten(0, latents[source].shape[:2])  # (B, N_source, D_to)
        target = latents[to].unsqueeze(1).expand(-1, predicted.shape[1], -1, -1)
        spread = predicted.unsqueeze(2).expand_as(target)
        losses = model.domain(to).latent_loss(spread.flatten(0, 2), target.flatten(0, 2))
        found.append(losses.unflatten(0, target.shape[:3]))
    return found[0] + found[1].transpose(1, 2)
