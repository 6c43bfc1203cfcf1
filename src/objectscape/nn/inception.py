"""The Inception-v3 that defines the FID: TensorFlow's "2015-12-05" network with 1008 outputs, ported to PyTorch.

Architecture: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer Vision"
(CVPR 2016, arXiv 1512.00567). State dict keys are those of the public file `pt_inception-2015-12-05-6726825d.pth`,
which follow torchvision's names. The network differs from torchvision's in two places, without which features are not
those of the FID: average pools in Mixed_5b..5d, 6b..6e and 7b do not count padding, and the pool of Mixed_7c is a max
pool. There is no auxiliary classifier.

The weights are never downloaded by importing or constructing anything, and never replaced by others: `load_inception`
reads a file that the user names and checks its SHA-256.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.files import sha256_of
from objectscape.nn.inception_file import WEIGHTS_FILE, WEIGHTS_SHA256, WEIGHTS_URL
from objectscape.nn.preprocessing import Preprocessing
from objectscape.nn.validation import check_choice

CLASSES = 1008
FEATURES = {64: "the first max pool", 192: "the second max pool", 768: "Mixed_6e", 2048: "the global average pool"}
"""{number of features: where they are taken}; the spatial maps of the first three are averaged."""

Kernel = int | tuple[int, int]


class Layer(NamedTuple):
    """One convolution of a path."""

    name: str
    outputs: int
    kernel: Kernel


Chain = Sequence[Layer | tuple[Layer, ...]]
"""A chain of layers; a tuple of layers at its end reads one input and joins the outputs."""


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalization (epsilon 0.001), ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, *, stride: int = 1, same: bool = False) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if same else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, sides, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu_()


class Mixed(nn.Module):
    """Parallel chains of convolutions and a pool over one input, joined along the channels in that order.

    Args:
        inputs: channels of the input.
        chains: see `Chain`.
        pool: "average" (3 x 3, stride 1, padding not counted) or "max" (3 x 3, stride 1), followed by a 1 x 1
            convolution; or "halve": a 3 x 3 max pool of stride 2 without one. With "halve" the last convolution of
            every chain has stride 2 and no padding, so that a side S becomes (S - 1) // 2.
        pool_channels: outputs of the convolution after the pool; unused with "halve".
    """

    def __init__(
        self,
        inputs: int,
        chains: Sequence[Chain],
        *,
        pool: Literal["average", "max", "halve"],
        pool_channels: int = 0,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.names: list[list[list[str]]] = []
        for chain in chains:
            channels, names = inputs, []
            for number, step in enumerate(chain):
                layers = (step,) if isinstance(step, Layer) else step
                last = pool == "halve" and number == len(chain) - 1
                for layer in layers:
                    conv = ConvNorm(channels, layer.outputs, layer.kernel, stride=2 if last else 1, same=not last)
                    self.add_module(layer.name, conv)
                names.append([layer.name for layer in layers])
                channels = layers[0].outputs
            self.names.append(names)
        if pool != "halve":
            self.branch_pool = ConvNorm(inputs, pool_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for chain in self.names:
            y = x
            for names in chain:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            parts.append(y)
        return torch.cat([*parts, self.pooled(x)], 1)

    def pooled(self, x: Tensor) -> Tensor:
        """The pool's path."""
        if self.pool == "halve":
            return F.max_pool2d(x, 3, stride=2)
        if self.pool == "max":
            return self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))
        return self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))


def _block_a(inputs: int, pool_channels: int) -> Mixed:
    chains: list[Chain] = [
        [Layer("branch1x1", 64, 1)],
        [Layer("branch5x5_1", 48, 1), Layer("branch5x5_2", 64, 5)],
        [Layer("branch3x3dbl_1", 64, 1), Layer("branch3x3dbl_2", 96, 3), Layer("branch3x3dbl_3", 96, 3)],
    ]
    return Mixed(inputs, chains, pool="average", pool_channels=pool_channels)


def _block_b(inputs: int) -> Mixed:
    chains: list[Chain] = [
        [Layer("branch3x3", 384, 3)],
        [Layer("branch3x3dbl_1", 64, 1), Layer("branch3x3dbl_2", 96, 3), Layer("branch3x3dbl_3", 96, 3)],
    ]
    return Mixed(inputs, chains, pool="halve")


def _block_c(inputs: int, width: int) -> Mixed:
    chains: list[Chain] = [
        [Layer("branch1x1", 192, 1)],
        [Layer("branch7x7_1", width, 1), Layer("branch7x7_2", width, (1, 7)), Layer("branch7x7_3", 192, (7, 1))],
        [
            Layer("branch7x7dbl_1", width, 1),
            Layer("branch7x7dbl_2", width, (7, 1)),
            Layer("branch7x7dbl_3", width, (1, 7)),
            Layer("branch7x7dbl_4", width, (7, 1)),
            Layer("branch7x7dbl_5", 192, (1, 7)),
        ],
    ]
    return Mixed(inputs, chains, pool="average", pool_channels=192)


def _block_d(inputs: int) -> Mixed:
    chains: list[Chain] = [
        [Layer("branch3x3_1", 192, 1), Layer("branch3x3_2", 320, 3)],
        [
            Layer("branch7x7x3_1", 192, 1),
            Layer("branch7x7x3_2", 192, (1, 7)),
            Layer("branch7x7x3_3", 192, (7, 1)),
            Layer("branch7x7x3_4", 192, 3),
        ],
    ]
    return Mixed(inputs, chains, pool="halve")


def _block_e(inputs: int, pool: Literal["average", "max"]) -> Mixed:
    chains: list[Chain] = [
        [Layer("branch1x1", 320, 1)],
        [Layer("branch3x3_1", 384, 1), (Layer("branch3x3_2a", 384, (1, 3)), Layer("branch3x3_2b", 384, (3, 1)))],
        [
            Layer("branch3x3dbl_1", 448, 1),
            Layer("branch3x3dbl_2", 384, 3),
            (Layer("branch3x3dbl_3a", 384, (1, 3)), Layer("branch3x3dbl_3b", 384, (3, 1))),
        ],
    ]
    return Mixed(inputs, chains, pool=pool, pool_channels=192)


class Inception(nn.Module):
    """The network as it is in the weights file; `forward` gives features, `fc` is kept for its weights only."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, same=True)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, 128)
        self.Mixed_6c = _block_c(768, 160)
        self.Mixed_6d = _block_c(768, 160)
        self.Mixed_6e = _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, "average")
        self.Mixed_7c = _block_e(2048, "max")
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: Tensor, features: int = 2048) -> Tensor:
        """(B, 3, 299, 299) in [-1, 1] -> (B, features), one of `FEATURES`."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
        x = F.max_pool2d(x, 3, stride=2)  # (B, 64, 73, 73)
        if features > 64:
            x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, stride=2)  # (B, 192, 35, 35)
        if features > 192:
            x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))  # (B, 768, 17, 17)
            x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        if features > 768:
            x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        return x.mean((2, 3))


class InceptionFeatures(nn.Module):
    """Features of images for a Frechet distance; with the public weights and the defaults it is that of the FID.

    Args:
        network: from `load_inception`.
        dim: length of the features: 64, 192, 768 or 2048. Only 2048 makes an FID.
        preprocessing: of the images.
    """

    def __init__(self, network: Inception, *, dim: int = 2048, preprocessing: Preprocessing | None = None) -> None:
        super().__init__()
        check_choice("dim", dim, tuple(FEATURES))
        self.network, self.dim = network.eval(), dim
        self.preprocessing = Preprocessing() if preprocessing is None else preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 or floating point in [0, 1] -> (B, dim)."""
        return self.network(self.preprocessing(images), self.dim)


def load_inception(path: str | Path, *, sha256: str | None = WEIGHTS_SHA256) -> Inception:
    """The network with the weights of a file in the layout of `WEIGHTS_FILE`.

    Args:
        path: the file. It is read with `weights_only=True`.
        sha256: of the file; None skips the check, for your own weights, whose distance must not be called FID.

    Raises:
        FileNotFoundError: if there is no such file; the message says how to get it.
        ValueError: if the SHA-256 or the entries of the file differ.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no Inception weights at {path}. The FID needs the public file {WEIGHTS_FILE} (91 MiB); fetch it with\n"
            "  objectscape data fetch inception --to FOLDER\n"
            f"or from {WEIGHTS_URL}, and give its path. Without it, use the distance on "
            "small features, which is not an FID (objectscape.metrics.generation.small_features)."
        )
    if sha256 is not None:
        found = sha256_of(path)
        if found != sha256:
            raise ValueError(
                f"{path} has SHA-256 {found}, expected {sha256}: it is damaged or another network's weights. "
                f"Fetch it again from {WEIGHTS_URL}"
            )
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = Inception()
    expected = network.state_dict()
    wrong = sorted(
        f"{key}: {'missing' if key not in weights else 'unexpected' if key not in expected else 'wrong shape'}"
        for key in expected.keys() | weights.keys()
        if key not in weights or key not in expected or weights[key].shape != expected[key].shape
    )
    if wrong:
        raise ValueError(
            f"{path} is not in the layout of {WEIGHTS_FILE}: {len(wrong)} of {len(expected)} entries differ, the first "
            f"are {'; '.join(wrong[:3])}"
        )
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)
