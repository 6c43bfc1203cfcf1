"""Where a pixel is: coordinate grids and their learned embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def coordinate_grid(size: tuple[int, int]) -> Tensor:
    """(H, W, 2) row and column of every pixel, from 0 at the first pixel center to 1 at the last."""
    rows, columns = (torch.linspace(0, 1, length) for length in size)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)


def coordinates(height: int, width: int, like: Tensor) -> Tensor:
    """(2, H, W) row, then column coordinate of every pixel, each from -1 to 1, with dtype and device of `like`."""
    rows = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)
    columns = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


class PositionEmbedding(nn.Module):
    """The soft position embedding of Slot Attention (Locatello et al. 2020, appendix): four ramps, projected.

    With row r and column c in [0, 1], the channels (r, c, 1 - r, 1 - c) go through one learned linear map with bias.
    """

    def __init__(self, *, size: tuple[int, int], channels: int) -> None:
        super().__init__()
        grid = coordinate_grid(size)
        self.register_buffer("grid", torch.cat([grid, 1 - grid], -1), persistent=False)  # (H, W, 4)
        self.projection = nn.Linear(4, channels)

    def forward(self) -> Tensor:
        """(H, W, C), to be added to features. In float32 under autocast: bfloat16 blurs neighboring coordinates."""
        grid: Tensor = self.get_buffer("grid")
        with torch.autocast(grid.device.type, enabled=False):
            return self.projection(grid)
