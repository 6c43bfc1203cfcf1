"""One seed, many independent streams: every generator of the library is seeded by `derive_seed`."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *keys: int | str) -> int:
    """A 63-bit seed for the stream named by `keys`; the same arguments give the same seed on every machine."""
    text = "/".join(str(part) for part in (seed, *keys))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def derive_generator(seed: int, *keys: int | str) -> torch.Generator:
    """A CPU generator for the stream named by `keys`."""
    return torch.Generator().manual_seed(derive_seed(seed, *keys))
