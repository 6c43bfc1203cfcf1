"""A small network whose features compare sets of synthetic scenes without any download.

Four convolutions and a mean over pixels, trained by `benchmarks/small_features.py` to count the objects of each shape
and color in Colored Shapes and Tetrominoes. A Frechet distance on these features is called `frechet_small`. It is not
an FID, and neither its size nor its order of models need agree with one.
"""

from __future__ import annotations

from torch import Tensor, nn

from objectscape.nn.preprocessing import Preprocessing

SIDE = 32


class SmallFeatures(nn.Module):
    """Images to 64 features: the means over pixels of the last convolution's maps."""

    dim = 64

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(size=SIDE)
        layers: list[nn.Module] = []  # batch norms: a norm over the image would hide how many objects there are
        for inputs, outputs, kernel, stride in ((3, 16, 5, 2), (16, 32, 3, 1), (32, 64, 3, 2), (64, self.dim, 3, 1)):
            layers += [
                nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or floating point in [0, 1] -> (B, 64)."""
        return self.layers(self.preprocessing(images)).mean((2, 3))
