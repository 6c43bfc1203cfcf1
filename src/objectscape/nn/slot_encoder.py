"""From an image to the tokens that slots compete for (Slot Attention, EfficientMORL)."""

from __future__ import annotations

from torch import Tensor, nn

from objectscape.nn.positions import PositionEmbedding


class SlotEncoder(nn.Module):
    """Four 5x5 convolutions at full resolution, a position embedding, and an MLP on every pixel.

    Args:
        image_size: (H, W) pixels.
        channels: width of the convolutions, of the MLP and of the tokens.
        norm_epsilon: epsilon of the layer normalization.
    """

    def __init__(self, *, image_size: tuple[int, int], channels: int = 64, norm_epsilon: float = 1e-5) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(
                layer
                for width in (3, channels, channels, channels)
                for layer in (nn.Conv2d(width, channels, 5, padding=2), nn.ReLU())
            )
        )
        self.position = PositionEmbedding(size=image_size, channels=channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels, eps=norm_epsilon),
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> tokens (B, H*W, C), pixels in row-major order."""
        features = self.convs(image).permute(0, 2, 3, 1)  # (B, H, W, C)
        tokens = (features + self.position()).flatten(1, 2)  # (B, H*W, C), float32 also under autocast
        return self.mlp(tokens)
