"""Instance coloring stick-breaking (IC-SBP) of GENESIS-V2 (Engelcke et al., 2021, section 3.2).

Every pixel has an embedding (its "color"). A seed pixel is picked among those not yet explained, all pixels whose
color is close to the seed's become one mask, and what is left over is the scope of the next step. The last mask is
the remaining scope. So the number of masks is not built into any weight, and their order is random.

Decisions: masks and scopes live in log space; memberships are clamped to [0.01, 0.99] in value while the gradient
passes as if they were not (as in the released code: a pixel that is certain still learns), which also keeps both
log(alpha) and log(1 - alpha) finite. Everything is float32 under autocast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from objectscape.nn.distributions import sample_uniform
from objectscape.nn.positions import coordinates

KERNELS = ("gaussian", "laplacian", "epanechnikov")
ALPHA_RANGE = (0.01, 0.99)
LOG_ABSENT = -1e10  # log mask of a slot that an image does not use


@dataclass(kw_only=True)
class Coloring:
    """What IC-SBP returns. Images that stop early use only their first `counts` slots."""

    log_masks: Tensor
    """(B, K, H, W) log masks; exp sums to 1 over K. Unused slots hold -1e10."""
    log_scopes: Tensor
    """(B, K, H, W) log of what is unexplained before step k; the first is 0 everywhere."""
    seeds: Tensor
    """(B, K-1) int64 row-major pixel index of each step's seed; -1 for steps after an image has stopped."""
    seed_embeddings: Tensor
    """(B, K-1, D) embedding at each seed; meaningless where `seeds` is -1."""
    counts: Tensor
    """(B,) int64 number of slots in use, from 1 to K."""


torch.utils._pytree.register_dataclass(Coloring)


class SemiConvolution(nn.Module):
    """Pixel embeddings that know where they are: a gated 1x1 convolution, coordinates added to the last two channels.

    (Novotny et al., 2018.) The gate starts at zero, so at first an embedding is nothing but its position and a seed's
    neighbors form its mask; the convolution gets its first gradient once the gate has moved.

    Args:
        inputs: channels of the features.
        outputs: channels of the embedding, at least 2.
    """

    def __init__(self, *, inputs: int, outputs: int) -> None:
        super().__init__()
        if outputs < 2:
            raise ValueError(
                f"outputs={outputs}; a semi-convolutional embedding needs 2 channels or more (row and column)"
            )
        self.conv = nn.Conv2d(inputs, outputs, 1)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, C, H, W) -> embedding (B, D, H, W) and its learned offset (B, 2, H, W) from the coordinates."""
        learned = self.gate * self.conv(features)  # (B, D, H, W)
        place = coordinates(learned.shape[2], learned.shape[3], learned).expand(len(learned), -1, -1, -1)
        embedding = torch.cat([learned[:, :-2], learned[:, -2:] + place], dim=1)
        return embedding, learned[:, -2:]


class InstanceColoring(nn.Module):
    """IC-SBP: embeddings to masks.

    Args:
        slots: K, number of masks for which the kernel's width is initialized; `forward` may use another K.
        kernel: membership of a pixel at distance d from the seed: "gaussian" exp(-d^2 / sigma), "laplacian"
            exp(-d / sigma), "epanechnikov" max(0, 1 - d^2 / sigma). Sigma is one learned scalar, initialized so that
            the membership is 1/2 at d^2 = 1/K.
    """

    def __init__(self, *, slots: int, kernel: str = "gaussian") -> None:
        super().__init__()
        if slots < 1:
            raise ValueError(f"slots={slots}; at least 1 is needed")
        if kernel not in KERNELS:
            raise ValueError(f"kernel={kernel!r}; choose one of {', '.join(KERNELS)}")
        self.slots, self.kernel = slots, kernel
        sigma = {
            "gaussian": 1 / (slots * math.log(2)),
            "laplacian": 1 / (math.sqrt(slots) * math.log(2)),
            "epanechnikov": 2 / slots,
        }[kernel]
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))

    def forward(
        self,
        embeddings: Tensor,
        *,
        slots: int | None = None,
        noise: Tensor | None = None,
        densest: bool = False,
        min_pixels: float = 0.0,
    ) -> Coloring:
        """Masks from pixel embeddings.

        The seed of a step is the pixel with the largest noise times scope. The noise is uniform, drawn once per pixel
        and shared by all steps (0.5 under `posterior_means`: then the first pixel of the largest scope). With `densest`
        the product also counts how many unexplained pixels would join the seed, which finds the middle of the largest
        group left. That costs O((HW)^2) memory per image, so it suits coarse grids. With constant noise it is
        deterministic.

        Args:
            embeddings: (B, D, H, W).
            slots: K; by default the constructor's.
            noise: (B, H, W) or (B, 1, H, W) in [0, 1], in place of the draw.
            densest: weight seeds by the number of pixels that would join them.
            min_pixels: stop an image before it adds a mask with a smaller sum (dynamic K); 0 never stops. Each image
                stops by itself, whatever else is in the batch.
        """
        slots = self.slots if slots is None else slots
        if slots < 1:
            raise ValueError(f"slots={slots}; at least 1 is needed")
        batch, _, height, width = embeddings.shape
        with torch.autocast(embeddings.device.type, enabled=False):
            pixels = embeddings.float().flatten(2).transpose(1, 2)  # (B, N, D), N = H W
            noise = sample_uniform((batch, height, width), pixels, noise).reshape(batch, -1)  # (B, N)
            with torch.no_grad():
                pairs = self._alpha((pixels[:, :, None] - pixels[:, None]).square().sum(-1)) if densest else None
            log_scope = pixels.new_zeros(batch, height * width)
            running = torch.ones(batch, dtype=torch.bool, device=pixels.device)
            log_masks, log_scopes, seeds, colors = [], [log_scope], [], []
            for _ in range(slots - 1):  # each seed depends on the scope that the steps before it left
                scope = log_scope.detach().exp()
                score = noise * scope if pairs is None else noise * scope * torch.einsum("bnm,bm->bn", pairs, scope)
                seed = score.argmax(1)  # (B,) ties: the first pixel
                color = pixels[torch.arange(batch, device=seed.device), seed]  # (B, D)
                alpha = self._alpha((pixels - color[:, None]).square().sum(-1))  # (B, N)
                log_mask = log_scope + alpha.log()
                seeds.append(torch.where(running, seed, -1))
                colors.append(color)
                rest = log_scope + torch.log1p(-alpha)
                if min_pixels > 0:
                    goes_on = running & (log_mask.detach().exp().sum(1) >= min_pixels)
                    # an image that stops here hands all of its scope to this slot, and nothing to the later ones
                    log_mask = torch.where(
                        goes_on[:, None], log_mask, torch.where(running[:, None], log_scope, LOG_ABSENT)
                    )
                    rest = torch.where(goes_on[:, None], rest, torch.where(running[:, None], LOG_ABSENT, log_scope))
                    running = goes_on
                log_masks.append(log_mask)
                log_scope = rest
                log_scopes.append(log_scope)
            log_masks.append(log_scope)
            stacked = torch.stack(log_masks, 1)
            return Coloring(
                log_masks=stacked.unflatten(2, (height, width)),
                log_scopes=torch.stack(log_scopes, 1).unflatten(2, (height, width)),
                seeds=torch.stack(seeds, 1) if seeds else pixels.new_zeros(batch, 0, dtype=torch.long),
                seed_embeddings=torch.stack(colors, 1) if colors else pixels[:, :0],
                counts=(stacked.detach().amax(2) > LOG_ABSENT / 2).sum(1),
            )

    def _alpha(self, square: Tensor) -> Tensor:
        """Membership from squared distance, clamped in value, with the gradient of the unclamped function."""
        sigma = self.log_sigma.float().exp()
        if self.kernel == "gaussian":
            alpha = torch.exp(-square / sigma)
        elif self.kernel == "laplacian":
            alpha = torch.exp(-_clamp_value(square, 1e-10, 1e10).sqrt() / sigma)
        else:
            alpha = torch.relu(1 - square / sigma)
        return _clamp_value(alpha, *ALPHA_RANGE)


def _clamp_value(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp the value but not the gradient (straight-through)."""
    return x + (x.clamp(low, high) - x).detach()
