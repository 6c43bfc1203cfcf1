"""The component encoder of GENESIS and MONet: a Gaussian for what one slot's mask picks out of the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from objectscape.nn.validation import check_at_least


def mask_and_image(log_masks: Tensor, image: Tensor) -> Tensor:
    """The encoder's input: each slot's log mask as channel 0, then the image.

    log_masks (B, K, 1, H, W), image (B, 3, H, W) -> (B * K, 4, H, W), image-major.
    """
    slots = log_masks.shape[1]
    return torch.cat([log_masks, image[:, None].expand(-1, slots, -1, -1, -1)], dim=2).flatten(0, 1)


class ComponentEncoder(nn.Module):
    """Four 3x3 convolutions of stride 2 and two linear layers.

    Args:
        latent_dim: D; the result has 2D numbers, mean and pre-std (see `posterior_parameters`).
        image_size: side H = W, a multiple of 16 pixels.
        in_channels: mask plus image channels.
        hidden_channels: c; the convolutions have c, c, 2c, 2c channels.
        activation: module class.

    Raises:
        ValueError: if image_size is not a multiple of 16.
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        image_size: int,
        in_channels: int = 4,
        hidden_channels: int = 32,
        activation: type[nn.Module] = nn.ELU,
    ) -> None:
        super().__init__()
        check_at_least(1, latent_dim=latent_dim, hidden_channels=hidden_channels)
        if image_size < 16 or image_size % 16:
            raise ValueError(
                f"image_size={image_size}; the component encoder halves it four times: use a multiple of 16"
            )
        c = hidden_channels
        hidden = max(256, 2 * latent_dim)
        self.convolutions = nn.Sequential()
        for channels, out in ((in_channels, c), (c, c), (c, 2 * c), (2 * c, 2 * c)):
            self.convolutions.append(nn.Conv2d(channels, out, 3, stride=2, padding=1))
            self.convolutions.append(activation(inplace=True))
        self.head = nn.Sequential(
            nn.Linear(2 * c * (image_size // 16) ** 2, hidden), activation(), nn.Linear(hidden, 2 * latent_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 2D)."""
        return self.head(self.convolutions(x).flatten(1))
