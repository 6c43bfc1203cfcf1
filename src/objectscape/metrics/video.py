"""How far imagined clips are from real ones, and how different two pictures look.

`fvd` is the Frechet video distance (Unterthiner et al. 2018) only with the weights of the public I3D network;
`frechet_clips` is a distance on features of ours, which needs no download and is comparable with itself only. Two sets
of real clips are not at distance 0 either, the less the more clips there are: always give that value beside.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from objectscape.files import expanded
from objectscape.metrics.generation import FrechetDistance, small_features
from objectscape.nn.i3d import I3DFeatures, check_hash, load_i3d
from objectscape.nn.lpips import LPIPS, AlexNetFeatures
from objectscape.nn.small_features import SmallFeatures

ALEXNET_FILES = {"7be5be79": "alexnet-owt-7be5be79.pth", "4df8aa71": "alexnet-owt-4df8aa71.pth"}
"""{first digits of the SHA-256: torchvision's name} of the ImageNet weights; both hold the same numbers."""
CHANNEL_WEIGHTS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
"""Of LPIPS 0.1 for AlexNet; the file is part of torchmetrics."""


class ClipFeatures(nn.Module):
    """Clips to 128 features: of every frame those of the package's small network; their means over time, and the means
    of their changes from frame to frame without sign. A clip and its reverse have the same."""

    dim = 2 * SmallFeatures.dim

    def __init__(self) -> None:
        super().__init__()
        self.network = small_features()

    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) uint8 or floating point in [0, 1], T at least 2 -> (B, 128)."""
        if clips.ndim != 5 or clips.shape[1] < 2:
            raise ValueError(f"clips of shape {tuple(clips.shape)}; expected (B, T, 3, H, W) with at least two frames")
        frames = self.network(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])  # (B, T, 64)
        return torch.cat([frames.mean(1), frames.diff(dim=1).abs().mean(1)], 1)


def frechet_clips() -> FrechetDistance:
    """The distance on features of ours, in deviations of the real clips. Not an FVD, and never to be called so."""
    return FrechetDistance(ClipFeatures(), dim=ClipFeatures.dim, scaled=True)


def fvd(weights: str | Path, *, sha256: str | None = None) -> FrechetDistance:
    """The Frechet video distance: its `update` takes clips (B, T, 3, H, W) in [0, 1] of at least nine frames.

    Args:
        weights: path of the I3D weights; see `objectscape.nn.i3d.load_i3d`.
        sha256: what the file's SHA-256 must be; None takes any.
    """
    return FrechetDistance(I3DFeatures(load_i3d(weights, sha256=sha256)), dim=I3DFeatures.dim)


def lpips(alexnet: str | Path, *, check: bool = True) -> LPIPS:
    """LPIPS with torchvision's AlexNet weights, a file that the user names, and the channel weights in torchmetrics.

    Args:
        alexnet: path of one of `ALEXNET_FILES`, read with `weights_only=True`.
        check: refuse a file with another SHA-256. Without it, never report the distance as LPIPS.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a SHA-256 or the entries differ.
    """
    path = expanded(alexnet)
    if not path.is_file():
        raise FileNotFoundError(
            f"no AlexNet weights at {path}. LPIPS needs torchvision's {' or '.join(ALEXNET_FILES.values())} (244 MB), "
            "which objectscape does not fetch."
        )
    found = check_hash(path, None)
    if check and not found.startswith(tuple(ALEXNET_FILES)):
        raise ValueError(
            f"{path} has SHA-256 {found}, expected one that begins with {' or '.join(ALEXNET_FILES)}: it is damaged, "
            "or another network's weights"
        )
    network = AlexNetFeatures()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    missing = [
        key for key, value in network.state_dict().items() if getattr(weights.get(key), "shape", 0) != value.shape
    ]
    if missing:
        raise ValueError(f"{path} has not the entries of torchvision's AlexNet: {missing[0]} is missing or misshapen")
    network.load_state_dict({key: weights[key] for key in network.state_dict()})
    with resources.as_file(resources.files("torchmetrics") / "functional/image/lpips_models/alex.pth") as file:
        check_hash(file, CHANNEL_WEIGHTS_SHA256)
        channels = torch.load(file, map_location="cpu", weights_only=True)
    model = LPIPS(network, [channels[f"lin{layer}.model.1.weight"].flatten() for layer in range(5)])
    return model.eval().requires_grad_(False)
