"""Gated-convolution encoder and decoder: the core of GENESIS' mask latents and of the baseline VAEs.

The architecture is that of van den Berg et al., "Sylvester Normalizing Flows" (UAI 2018). A gated convolution computes
value * sigmoid(gate), both halves of one convolution, each half with its own normalization.

The two layers whose kernel covers the whole feature map are computed as matrix products. That is the same function,
and it avoids a defect of torch 2.13 on the CPU: oneDNN returns wrong weight gradients for the 16x16 kernels at batch 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.nn.sparing_gate import gate_sparingly
from objectscape.nn.validation import check_at_least, check_choice

GEOMETRY = {  # image side: (side of the last feature map, strides of the five convolutions before it)
    32: (8, (1, 2, 1, 2, 1)),
    64: (16, (1, 2, 1, 2, 1)),
    128: (16, (2, 2, 2, 1, 1)),
    256: (16, (2, 2, 2, 2, 1)),
}
NORMS = ("batch", "instance", "none")


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.Identity()


def _check(image_size: int, norm: str) -> None:
    if image_size not in GEOMETRY:
        raise ValueError(f"image_size={image_size}; the gated core exists for sides {', '.join(map(str, GEOMETRY))}")
    check_choice("norm", norm, NORMS)


class Gated(nn.Module):
    """value * sigmoid(gate), where `convolution` gives 2 * channels: first the value, then the gate."""

    def __init__(self, convolution: nn.Module, channels: int, norm: str) -> None:
        super().__init__()
        self.conv = convolution
        self.value_norm = _norm(norm, channels)
        self.gate_norm = _norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels, H', W')."""
        halves = self.conv(x)
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._gate(halves)
        return gate_sparingly(halves, self.value_norm, self.gate_norm)  # the same, with less kept

    def _gate(self, halves: Tensor) -> Tensor:
        value, gate = halves.chunk(2, dim=1)
        return self.value_norm(value) * torch.sigmoid(self.gate_norm(gate))


class Collapse(nn.Conv2d):
    """A convolution whose kernel is as large as its input: (N, C, k, k) -> (N, out, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, k, k) -> (N, out, 1, 1)."""
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]


class Expand(nn.ConvTranspose2d):
    """A transposed convolution of a single place: (N, C, 1, 1) -> (N, out, k, k)."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, C, 1, 1) -> (N, out, k, k); `output_size` is part of the base class's signature and not used."""
        spread = F.linear(x.flatten(1), self.weight.flatten(1).T).unflatten(1, self.weight.shape[1:])
        return spread if self.bias is None else spread + self.bias[:, None, None]


class Unstrided(nn.ConvTranspose2d):
    """A transposed convolution of stride 1, as the convolution with the mirrored kernel that it is.

    The same function; on CPUs torch computes it up to three times faster.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, C, H, W) -> (N, out, H, W), 5 x 5 kernel; `output_size` is part of the base class's signature."""
        return F.conv2d(x, self.weight.flip(2, 3).transpose(0, 1), self.bias, padding=2)


class GatedEncoder(nn.Module):
    """Six gated convolutions from an image to one vector.

    Args:
        image_size: side H = W: 32, 64, 128 or 256.
        in_channels: C.
        out_features: length of the vector.
        norm: "batch", "instance" or "none", after every convolution but the last.
        channels: c; the convolutions have c, c, 2c, 2c, 2c channels. 32 everywhere in the literature.

    Raises:
        ValueError: for another image size or norm.
    """

    def __init__(
        self,
        *,
        image_size: int,
        in_channels: int = 3,
        out_features: int = 256,
        norm: str = "batch",
        channels: int = 32,
    ) -> None:
        super().__init__()
        _check(image_size, norm)
        check_at_least(1, channels=channels)
        side, strides = GEOMETRY[image_size]
        widths = (in_channels, channels, channels, 2 * channels, 2 * channels, 2 * channels)
        self.layers = nn.Sequential(
            *(Gated(nn.Conv2d(widths[i], 2 * widths[i + 1], 5, strides[i], 2), widths[i + 1], norm) for i in range(5)),
            Gated(Collapse(widths[-1], 2 * out_features, side), out_features, "none"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_features)."""
        return self.layers(x).flatten(1)


class GatedDecoder(nn.Module):
    """The mirror image of `GatedEncoder`: six gated transposed convolutions and one 1x1 convolution.

    Args:
        image_size: side H = W: 32, 64, 128 or 256.
        latent_dim: D.
        out_channels: C.
        norm: "batch", "instance" or "none", after every transposed convolution but the first.
        channels: c; the convolutions have 2c, 2c, c, c, c, c channels.

    Raises:
        ValueError: for another image size or norm.
    """

    def __init__(
        self, *, image_size: int, latent_dim: int, out_channels: int, norm: str = "batch", channels: int = 32
    ) -> None:
        super().__init__()
        _check(image_size, norm)
        check_at_least(1, channels=channels)
        side, strides = GEOMETRY[image_size]
        widths = (2 * channels, 2 * channels, channels, channels, channels, channels)
        self.layers = nn.Sequential(Gated(Expand(latent_dim, 2 * widths[0], side), widths[0], "none"))
        for i, stride in enumerate(reversed(strides)):
            transposed = Unstrided if stride == 1 else nn.ConvTranspose2d
            convolution = transposed(widths[i], 2 * widths[i + 1], 5, stride, 2, output_padding=stride - 1)
            self.layers.append(Gated(convolution, widths[i + 1], norm))
        self.head = nn.Conv2d(channels, out_channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        """(N, D) -> (N, out_channels, H, W)."""
        return self.head(self.layers(z[:, :, None, None]))
