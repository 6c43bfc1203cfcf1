"""Latents of another model as a domain of their own: nothing to encode, nothing to draw."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from objectscape.models.domains.domain import Domain


def symlog(x: Tensor, alpha: float = 1.0) -> Tensor:
    """sign(x) log(1 + alpha |x|) / log(1 + alpha): what bimGW applies to text latents."""
    return x.sign() * torch.log1p(alpha * x.abs()) / math.log1p(alpha)


def symexp(x: Tensor, alpha: float = 1.0, *, as_released: bool = False) -> Tensor:
    """The inverse of `symlog`; bimGW's own (`as_released`) forgets that the logarithm was scaled."""
    base = math.e**alpha if as_released else 1 + alpha
    return x.sign() * (base ** x.abs() - 1) / alpha


class SavedLatents(Domain):
    """Vectors from elsewhere (BLIP, CLIP, BERT, your own model), passed on as they are.

    Args:
        domain: name of the entry in a batch, (B, D).
        latent_size: D.
        activation: of a workspace's decoder: "none" or "symlog".
    """

    def __init__(self, *, domain: str, latent_size: int, activation: Literal["none", "symlog"] = "none") -> None:
        super().__init__()
        if activation not in ("none", "symlog"):
            raise ValueError(f"activation={activation!r}; choose none or symlog")
        self.domain, self.activation, self.parts = domain, activation, {"z": latent_size}

    def encode(self, raw: Tensor) -> Tensor:
        if raw.ndim != 2 or raw.shape[1] != self.latent_size:
            raise ValueError(f"{self.domain}: latents of shape {tuple(raw.shape)}; expected (B, {self.latent_size})")
        return raw

    def decode(self, latent: Tensor) -> Tensor:
        return latent

    def activate(self, latent: Tensor) -> Tensor:
        return symlog(latent) if self.activation == "symlog" else latent
