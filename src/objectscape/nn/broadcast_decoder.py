"""The spatial broadcast decoder (Watters et al. 2019, arXiv:1901.07017) in the form that GENESIS and MONet use."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.nn.positions import coordinates
from objectscape.nn.validation import check_at_least


def spatial_broadcast(z: Tensor, size: int) -> Tensor:
    """Tile vectors (N, D) over a size x size grid and append the two coordinates: (N, D + 2, size, size)."""
    tiled = z[:, :, None, None].expand(-1, -1, size, size)
    return torch.cat([tiled, coordinates(size, size, z).expand(len(z), -1, -1, -1)], dim=1)


class BroadcastDecoder(nn.Module):
    """Broadcast to side H + 2 * layers, `layers` 3x3 convolutions without padding, one 1x1 convolution.

    Args:
        latent_dim: D.
        out_channels: C of the result.
        image_size: side H = W of the result, pixels.
        hidden_channels: channels of every 3x3 convolution.
        layers: number of 3x3 convolutions, at least 1.
        activation: module class after every 3x3 convolution.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        out_channels: int,
        image_size: int,
        hidden_channels: int = 32,
        layers: int = 4,
        activation: type[nn.Module] = nn.ELU,
    ) -> None:
        super().__init__()
        check_at_least(1, latent_dim=latent_dim, hidden_channels=hidden_channels, layers=layers)
        self.latent_dim = latent_dim
        self.side = image_size + 2 * layers
        self.first = nn.Conv2d(latent_dim + 2, hidden_channels, 3)
        self.rest = nn.Sequential(activation(inplace=True))
        for _ in range(layers - 1):
            self.rest.append(nn.Conv2d(hidden_channels, hidden_channels, 3))
            self.rest.append(activation(inplace=True))
        self.rest.append(nn.Conv2d(hidden_channels, out_channels, 1))

    def forward(self, z: Tensor) -> Tensor:
        """(N, D) -> (N, out_channels, image_size, image_size)."""
        # The first convolution sees the same vector at every place. Its part on the vector is therefore one matrix
        # product and its part on the coordinates is shared by all N: the tiled input is never made.
        on_z, on_grid = self.first.weight.split([self.latent_dim, 2], dim=1)
        vector = F.linear(z, on_z.sum((2, 3)), self.first.bias)[:, :, None, None]  # (N, hidden, 1, 1)
        grid = F.conv2d(coordinates(self.side, self.side, z)[None], on_grid)  # (1, hidden, side - 2, side - 2)
        return self.rest(vector + grid)
