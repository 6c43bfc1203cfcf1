"""The U-Net of MONet's attention and GENESIS-V2's encoder, with an MLP as its bottleneck.

Source: Burgess et al. 2019, MONet (arXiv 1901.11390), appendix B.2, as re-implemented for GENESIS-V2 (Engelcke et al.
2021, arXiv 2104.09958). The released GENESIS code handles 32, 64 and 128 pixels; the same pattern continues upwards.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
"""Groups of every GroupNorm in the GENESIS family."""


class UNet(nn.Module):
    """Blocks down to 4 x 4, an MLP on the flattened result, blocks with skip connections back up.

    A block is a 3 x 3 convolution without bias, a normalization and a ReLU. There are log2(S) - 1 blocks each way for
    an image of side S; the last three on the way down are twice as wide as the others.

    Args:
        in_channels: channels C of the input.
        out_channels: channels of the output; None leaves out the final 1 x 1 convolution, so that it is `width`.
        image_size: side S of the square input in pixels, a power of two and at least 32.
        width: channels c of the outer blocks; the inner ones have 2c.
        norm: "instance" (affine InstanceNorm) or "group" (GroupNorm with 8 groups).

    Raises:
        ValueError: if an option is out of its range, or `width` is not a multiple of 8 under `norm="group"`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int | None,
        image_size: int,
        width: int,
        norm: Literal["instance", "group"],
    ) -> None:
        super().__init__()
        if image_size < 32 or image_size & (image_size - 1):
            raise ValueError(
                f"image_size={image_size}; the U-Net halves the image down to 4 x 4: its side must be a power of two, "
                "32 or more (32, 64, 128, 256); resize or crop the images"
            )
        if norm not in ("instance", "group"):
            raise ValueError(f"norm={norm!r}; choose 'instance' or 'group'")
        if width < 1 or (norm == "group" and width % GROUPS):
            raise ValueError(
                f"width={width}; must be at least 1, and a multiple of {GROUPS} with norm='group' ({GROUPS} groups)"
            )
        depth = int(math.log2(image_size)) - 1
        widths = [width] * (depth - 3) + [2 * width] * 3
        self.down = nn.ModuleList(
            _block(before, after, norm) for before, after in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        ups = [*reversed(widths[:-1]), width]  # what the up blocks put out: the width of the next skip
        self.up = nn.ModuleList(
            _block(below + skip, after, norm)
            for below, skip, after in zip([widths[-1], *ups[:-1]], reversed(widths), ups, strict=True)
        )
        flat = widths[-1] * 4 * 4
        self.mlp = nn.Sequential(
            nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, flat), nn.ReLU()
        )
        self.head = nn.Identity() if out_channels is None else nn.Conv2d(width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, S, S) -> (B, out_channels or width, S, S)."""
        skips = []
        for index, block in enumerate(self.down):
            x = block(x if index == 0 else x[..., ::2, ::2])
            skips.append(x)
        x = self.mlp(x.flatten(1)).view_as(x)  # (B, 2c, 4, 4)
        for index, block in enumerate(self.up):
            x = x if index == 0 else F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat((x, skips.pop()), 1))
        return self.head(x)


def _block(before: int, after: int, norm: str) -> nn.Sequential:
    normalize = nn.InstanceNorm2d(after, affine=True) if norm == "instance" else nn.GroupNorm(GROUPS, after)
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), normalize, nn.ReLU())
