"""The spatial broadcast decoder of the world models: a vector at every place, two coordinates, convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.nn.constant_images import convolve_broadcast
from objectscape.nn.validation import check_at_least


class TiledDecoder(nn.Module):
    """Tiles a vector over a grid, appends column and row from -1 to 1, and convolves with ELU between the layers.

    A vector looks the same everywhere before the coordinates are added, so the first convolution, which is the widest,
    is computed on one tile as large as its kernel and stretched.

    Args:
        inputs: width D of the vectors.
        image_size: (H, W) pixels of the result.
        channels: widths of the hidden convolutions.
        padding: zeros on each side before every hidden convolution; the grid is as much larger as the layers eat.
        last_kernel: side of the last convolution's kernel; its padding keeps the size.
        outputs: channels C of the result.
    """

    KERNEL = 5

    def __init__(
        self,
        *,
        inputs: int,
        image_size: tuple[int, int],
        channels: Sequence[int] = (32, 32, 32, 32),
        padding: int = 1,
        last_kernel: int = 1,
        outputs: int = 4,
    ) -> None:
        super().__init__()
        check_at_least(1, inputs=inputs, outputs=outputs, layers=len(channels))
        self.inputs = inputs
        eaten = len(channels) * (self.KERNEL - 1 - 2 * padding)
        rows, columns = (torch.linspace(-1, 1, length + eaten) for length in image_size)
        grid = torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))])
        self.register_buffer("grid", grid, persistent=False)  # (2, H + eaten, W + eaten)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, self.KERNEL, padding=padding)
            for before, after in pairwise([inputs + 2, *channels])
        )
        self.last = nn.Conv2d(channels[-1], outputs, last_kernel, padding=last_kernel // 2)

    def forward(self, vectors: Tensor) -> Tensor:
        """(N, D) -> (N, C, H, W), in the vectors' dtype."""
        first, *others = self.layers
        assert isinstance(first, nn.Conv2d)
        grid: Tensor = self.get_buffer("grid")
        on_vectors, on_grid = first.weight.split([self.inputs, 2], 1)
        drawn = convolve_broadcast(vectors, grid, on_vectors, first.bias, on_place=on_grid, padding=first.padding[0])
        drawn = F.elu(drawn, inplace=True)
        for layer in others:
            drawn = F.elu(layer(drawn), inplace=True)
        return self.last(drawn).to(vectors.dtype)
