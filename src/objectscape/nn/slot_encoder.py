"""From an image to the tokens that slots compete for (Slot Attention, EfficientMORL)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from objectscape.nn.positions import PositionEmbedding
from objectscape.nn.validation import check_at_least


class SlotEncoder(nn.Module):
    """Four 5x5 convolutions, a position embedding, and an MLP on every token.

    Args:
        image_size: (H, W) pixels.
        channels: width of the convolutions, of the MLP and of the tokens.
        strides: of the four convolutions; with all 1, every pixel is a token.
        norm_epsilon: epsilon of the layer normalization.
        positions: add the position embedding; without, tokens look alike wherever they are.

    Raises:
        ValueError: if `strides` are not four positive integers.
    """

    def __init__(
        self,
        *,
        image_size: tuple[int, int],
        channels: int = 64,
        strides: Sequence[int] = (1, 1, 1, 1),
        norm_epsilon: float = 1e-5,
        positions: bool = True,
    ) -> None:
        super().__init__()
        check_at_least(1, encoder_channels=channels)
        if isinstance(strides, int) or len(strides) != 4 or any(type(s) is not int or s < 1 for s in strides):
            raise ValueError(f"encoder_strides={strides!r}; expected four positive integers, [2, 1, 1, 1] for example")
        self.convs = nn.Sequential()
        height, width = image_size
        for inputs, stride in zip((3, channels, channels, channels), strides, strict=True):
            self.convs.extend([nn.Conv2d(inputs, channels, 5, stride=stride, padding=2), nn.ReLU()])
            height, width = -(-height // stride), -(-width // stride)
        self.size = (height, width)
        """(h, w) of the grid of tokens."""
        self.positions = positions
        if positions:
            self.position = PositionEmbedding(size=self.size, channels=channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels, eps=norm_epsilon),
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> tokens (B, h*w, C) in row-major order; (h, w) is `size`."""
        features = self.convs(image).permute(0, 2, 3, 1)  # (B, h, w, C)
        if self.positions:
            features = features + self.position()  # float32 also under autocast
        tokens = features.flatten(1, 2)  # (B, h*w, C)
        return self.mlp(tokens)
