"""The I3D network that defines the Frechet video distance: RGB stream, 400 classes of Kinetics.

Architecture: Carreira and Zisserman, "Quo Vadis, Action Recognition?" (CVPR 2017, arXiv 1705.07750), an Inception
network whose kernels are inflated in time. Its use: Unterthiner et al., "Towards Accurate Generative Models of Video"
(arXiv 1812.01717): frames of 224 x 224 in [-1, 1], features are the 400 logits, a mean over time.

State dict keys are those of the public ports `rgb_imagenet.pt` and `i3d_pretrained_400.pt`. Padding is TensorFlow's
"SAME", which puts the odd pixel behind; frames are resized as TensorFlow 1 did, without half-pixel centers.

The weights are never downloaded: `load_i3d` reads a file that the user names.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.files import expanded, sha256_of

CLASSES, SIDE, SHORTEST = 400, 224, 9
"""Of the Kinetics weights; of a frame; the fewest frames that leave the two steps that the last pool needs."""

Triple = tuple[int, int, int]
BLOCKS = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
"""{block: channels of its input, b0, b1a, b1b, b2a, b2b, b3b}"""


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Zeros around (B, C, T, H, W) so that a length L becomes ceil(L / stride); the odd one goes behind."""
    pads: list[int] = []
    for length, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        total = max((-(-length // s) - 1) * s + k - length, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Maximum pool of what is nowhere negative."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


class Unit(nn.Module):
    """Convolution, batch normalization (epsilon 0.001), ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride=stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))).relu_()


class Mixed(nn.Module):
    """Four paths over one input, joined along the channels."""

    def __init__(self, inputs: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int) -> None:
        super().__init__()
        self.b0 = Unit(inputs, b0)
        self.b1a, self.b1b = Unit(inputs, b1a), Unit(b1a, b1b, 3)
        self.b2a, self.b2b = Unit(inputs, b2a), Unit(b2a, b2b, 3)
        self.b3b = Unit(inputs, b3b)

    def forward(self, x: Tensor) -> Tensor:
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


class Logits(nn.Module):
    """The last convolution, with a bias and nothing after it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


class I3D(nn.Module):
    """The network as it is in the weights file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, channels in BLOCKS.items():
            self.add_module(name, Mixed(*channels))
        self.logits = Logits(1024, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, 224, 224) in [-1, 1], T at least 9 -> (B, 400) logits, a mean over time."""
        x = max_pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = max_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in BLOCKS:
            if name == "Mixed_4b":
                x = max_pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = max_pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        x = F.avg_pool3d(x, (2, 7, 7), 1)  # (B, 1024, ceil(T / 8) - 1, 1, 1)
        return self.logits(x).mean((2, 3, 4))


def resize(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W) -> (N, C, side, side), bilinear as in TensorFlow 1: pixel i of the result is at i H / side."""
    for axis in (2, 3):
        length = images.shape[axis]
        place = torch.arange(side, device=images.device, dtype=images.dtype) * (length / side)
        low = place.long().clamp_max(length - 1)
        high = (low + 1).clamp_max(length - 1)
        share = (place - low).view(-1, *[1] * (3 - axis))
        images = torch.lerp(images.index_select(axis, low), images.index_select(axis, high), share)
    return images


class I3DFeatures(nn.Module):
    """Clips to the 400 features of the Frechet video distance.

    Args:
        network: from `load_i3d`.
        batch_size: clips at once, which bounds the memory.
    """

    dim = CLASSES

    def __init__(self, network: I3D, *, batch_size: int = 16) -> None:
        super().__init__()
        self.network, self.batch_size = network.eval(), batch_size

    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) in [0, 1] -> (B, 400).

        Raises:
            ValueError: for clips of fewer than nine frames.
        """
        if clips.ndim != 5 or clips.shape[1] < SHORTEST:
            frames = clips.shape[1] if clips.ndim == 5 else 1
            raise ValueError(
                f"the Frechet video distance needs clips of at least {SHORTEST} frames, these have {frames}: its "
                "network halves the time three times and then looks at two steps. Use longer clips."
            )
        found = [self._look(part) for part in clips.split(self.batch_size)]
        return torch.cat(found) if found else clips.new_zeros(0, self.dim)

    def _look(self, clips: Tensor) -> Tensor:
        frames = 2 * resize(clips.float().flatten(0, 1), SIDE) - 1
        return self.network(frames.unflatten(0, clips.shape[:2]).transpose(1, 2))


def load_i3d(path: str | Path, *, sha256: str | None = None) -> I3D:
    """The network with the weights of a file with the public ports' keys.

    Args:
        path: the file. It is read with `weights_only=True`; a TorchScript file is a program and is refused.
        sha256: what the file's SHA-256 must be; None takes any.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the SHA-256 or the entries differ, or the file needs unpickling.
    """
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no I3D weights at {path}. The Frechet video distance needs the public port of Kinetics-400 weights to "
            "PyTorch (rgb_imagenet.pt or i3d_pretrained_400.pt, 50 MB), which objectscape does not fetch; no other "
            "network takes its place."
        )
    check_hash(path, sha256)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for broken files, programs and refused pickles
        what = str(error).partition("\n")[0][:120]
        raise ValueError(
            f"{path} is no plain file of weights ({what}); a state dict of the network is needed"
        ) from error
    network = I3D()
    expected = network.state_dict()
    found = weights if isinstance(weights, dict) else {}
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    wrong = sorted(
        f"{key}: {'missing' if key not in found else 'unexpected' if key not in expected else 'wrong shape'}"
        for key in (expected.keys() | found.keys()) - optional
        if key not in found or key not in expected or getattr(found[key], "shape", None) != expected[key].shape
    )
    if wrong:
        raise ValueError(
            f"{path} has not the entries of I3D with {CLASSES} classes: {len(wrong)} of {len(expected)} differ, the "
            f"first are {'; '.join(wrong[:3])}"
        )
    network.load_state_dict({**expected, **found})
    return network.eval().requires_grad_(False)


def check_hash(path: Path, sha256: str | None) -> str:
    """The SHA-256 of a file.

    Args:
        path: the file.
        sha256: what it must be, or its first digits; None takes any.

    Raises:
        ValueError: if it is another.
    """
    found = sha256_of(path)
    if sha256 is not None and not found.startswith(sha256.lower()):
        raise ValueError(f"{path} has SHA-256 {found}, expected {sha256}: it is damaged, or another network's weights")
    return found
