"""Keys of `nn.unet.UNet` in the GENESIS code base."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from objectscape.checkpoints.genesis_family.keys import Table, same


def unet(ours: str, theirs: str, image_size: int) -> Table:
    """The blocks and the bottleneck, without the final convolution."""
    table: Table = {}
    for i in range(int(math.log2(image_size)) - 1):
        for path in ("down", "up"):
            table |= same(f"{ours}.{path}.{i}.0", f"{theirs}.{path}.{i}.0", ("weight",))
            table |= same(f"{ours}.{path}.{i}.1", f"{theirs}.{path}.{i}.1")
    for i in (0, 2, 4):  # upstream's number 0 is the flattening
        table |= same(f"{ours}.mlp.{i}", f"{theirs}.mlp.{i + 1}")
    return table


def unet_image_size(weights: Mapping[str, Tensor], theirs: str) -> int:
    """Side of the images that a stored U-Net takes, from its number of blocks."""
    blocks = sum(key.startswith(f"{theirs}.down.") and key.endswith(".0.weight") for key in weights)
    return 2 ** (blocks + 1)
