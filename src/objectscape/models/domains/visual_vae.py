"""The visual domain of the global workspace: a VAE of small pictures (Devillers et al., 2023, section "Vision").

`network="strided"` is the published one: four strided convolutions, three transposed ones. On two CPU cores it is slow,
and at its published pixel error it draws gray shapes. `network="patches"` is ours: patches in, patches out, batch
normalization (without it, it falls back to a black picture), first output near black.

Hue comes last under a squared error: it is a small part of the variance of the pixels, and neither the encoder nor the
decoder has a use for it before the other one has. `paints="mask"` draws one mask times one color, and `tint` hands the
mean color of the picture to the latent: with both, hue is learned within the first minute.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.models.domains.attributes import gaussian_kl
from objectscape.models.domains.domain import Domain, DomainOutput
from objectscape.scene import Losses, Multimodal

LEAST_LOG_SIGMA = -6.0


class VisualVAE(Domain):
    """A VAE of pictures.

    Args:
        domain: name of the entry in a batch, (B, 3, H, W) pictures.
        image_size: 32 or 64 pixels.
        latent_size: of the latent.
        width: channels of the widest layer.
        network: "strided" (published) or "patches" (ours).
        paints: "pixels" or "mask" (a mask times a color).
        beta: weight of the KL.
        sigma: of the pixels: "one", "learned", or "optimal" (the batch's own error).
        kl_warmup: steps over which the weight of the KL rises from 0.
        tint: give the layers of the latent the color of the picture, apart from its brightness, beside the features.
        gray: replace the channels by their mean (a color-blind model).
    """

    def __init__(
        self,
        *,
        domain: str = "v",
        image_size: int = 32,
        latent_size: int = 12,
        width: int = 512,
        network: Literal["strided", "patches"] = "strided",
        paints: Literal["pixels", "mask"] = "pixels",
        beta: float = 0.1,
        sigma: Literal["one", "learned", "optimal"] = "one",
        kl_warmup: int = 0,
        tint: bool = False,
        gray: bool = False,
    ) -> None:
        super().__init__()
        if image_size not in (32, 64):
            raise ValueError(f"image_size={image_size}; the visual VAE has networks for 32 and 64 pixels")
        for name, value, known in (
            ("network", network, ("strided", "patches")),
            ("paints", paints, ("pixels", "mask")),
            ("sigma", sigma, ("one", "learned", "optimal")),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r}; choose one of {', '.join(known)}")
        self.domain, self.image_size, self.paints, self.beta = domain, image_size, paints, beta
        self.sigma, self.kl_warmup, self.gray = sigma, kl_warmup, gray
        self.parts = {"z_img": latent_size}
        channels = 1 if paints == "mask" else 3
        build = _strided if network == "strided" else _patches
        self.encoder, features, self.decoder = build(image_size, latent_size, width, channels)
        self.tint = nn.BatchNorm1d(3) if tint else None
        seen = features + 3 if tint else features
        self.mean, self.logvar = nn.Linear(seen, latent_size), nn.Linear(seen, latent_size)
        self.color = (
            nn.Sequential(nn.Linear(latent_size, 64), nn.SiLU(), nn.Linear(64, 3), nn.Sigmoid())
            if paints == "mask"
            else None
        )
        self.log_sigma = nn.Parameter(torch.zeros(())) if sigma == "learned" else None

    def _pixels(self, image: Tensor) -> Tensor:
        pixels = image.float() / 255 if image.dtype == torch.uint8 else image
        return pixels.mean(1, keepdim=True).expand_as(pixels) if self.gray else pixels

    def _features(self, pixels: Tensor) -> Tensor:
        features = self.encoder(pixels)
        if self.tint is None:
            return features
        color = pixels.sum((2, 3)) / (1 + pixels.amax(1).sum((1, 2)))[:, None]  # (B, 3), the largest about 1
        return torch.cat([features, self.tint(color)], 1)

    def encode(self, raw: Tensor) -> Tensor:
        return self.mean(self._features(self._pixels(raw)))

    def draw(self, latent: Tensor) -> Tensor:
        """(B, D) -> (B, 3, H, W) in [0, 1]."""
        drawn = self.decoder(latent[:, :, None, None])
        return drawn if self.color is None else drawn * self.color(latent)[:, :, None, None]

    def decode(self, latent: Tensor) -> Tensor:
        """uint8 pictures."""
        return self.draw(latent).float().mul(255).round().clamp(0, 255).to(torch.uint8)

    def forward(self, batch: Multimodal) -> DomainOutput:
        features = self._features(self._pixels(batch.domains[self.domain]))
        mean, logvar = self.mean(features), self.logvar(features)
        latent = mean + (logvar / 2).exp() * torch.randn_like(mean) if self.training else mean
        return DomainOutput(latent=mean, logvar=logvar, decoded=self.draw(latent))

    def loss(self, batch: Multimodal, output: DomainOutput, step: int) -> Losses:
        """Gaussian likelihood of the pixels and KL, in nats per picture; `mse` is of a pixel and channel."""
        assert output.logvar is not None
        assert output.decoded is not None
        squared = (self._pixels(batch.domains[self.domain]) - output.decoded.float()).square()
        log_sigma = self._log_sigma(squared)
        constant = log_sigma + 0.5 * math.log(2 * math.pi)
        nll = (squared / (2 * (2 * log_sigma).exp()) + constant).flatten(1).sum(1).mean()
        kl = gaussian_kl(output.latent.float(), output.logvar.float()).mean()
        beta = self.beta * min(1.0, step / self.kl_warmup) if self.kl_warmup else self.beta
        terms = {"nll": nll, "kl": kl, "mse": squared.mean(), "log_sigma": log_sigma}
        return Losses(total=nll + beta * kl, terms={name: value.detach() for name, value in terms.items()})

    def _log_sigma(self, squared: Tensor) -> Tensor:
        if self.sigma == "optimal":  # smoothly kept above the least value, with its gradient
            return LEAST_LOG_SIGMA + F.softplus(0.5 * squared.mean().log() - LEAST_LOG_SIGMA)
        return squared.new_zeros(()) if self.log_sigma is None else self.log_sigma


def _strided(size: int, latent: int, width: int, channels: int) -> tuple[nn.Module, int, nn.Module]:
    """(encoder, its features, decoder) of the paper."""
    kernel, pad = (4, 1) if size == 32 else (5, 2)
    sizes = [3, width // 8, width // 4, width // 2, width]
    encoder: list[nn.Module] = []
    for inside, outside in itertools.pairwise(sizes):
        conv = nn.Conv2d(inside, outside, kernel, 2, pad, bias=False)
        encoder += [conv, nn.BatchNorm2d(outside), nn.ReLU()]
    wide = [width, width // 2, width // 4] if size == 32 else [width, width // 2, width // 4, width // 8]
    decoder: list[nn.Module] = [
        nn.ConvTranspose2d(latent, width, 8, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    for inside, outside in itertools.pairwise(wide):
        up = nn.ConvTranspose2d(inside, outside, kernel, 2, pad, output_padding=int(size == 64), bias=False)
        decoder += [up, nn.BatchNorm2d(outside), nn.ReLU()]
    if size == 32:
        decoder += [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(wide[-1], channels, 4, 1, 1)]
    else:
        decoder += [nn.Identity(), nn.Conv2d(wide[-1], channels, 5, 1, 2)]
    features = width * (size // 16) ** 2
    return nn.Sequential(*encoder, nn.Flatten()), features, nn.Sequential(*decoder, nn.Sigmoid())


def _patches(size: int, latent: int, width: int, channels: int) -> tuple[nn.Module, int, nn.Module]:
    """(encoder, its features, decoder) that see the picture as 8 x 8 patches."""
    patch, features = size // 8, 2 * width

    def block(layer: nn.Module, wide: int) -> list[nn.Module]:
        return [layer, nn.BatchNorm2d(wide), nn.SiLU()]

    encoder = nn.Sequential(
        *block(nn.Conv2d(3, width // 2, patch, patch, bias=False), width // 2),
        *block(nn.Conv2d(width // 2, width // 2, 3, 1, 1, bias=False), width // 2),
        *block(nn.Conv2d(width // 2, width, 4, 2, 1, bias=False), width),
        nn.Flatten(),
        nn.Linear(16 * width, features, bias=False),
        nn.BatchNorm1d(features),
        nn.SiLU(),
    )
    last = nn.Conv2d(width // 2, channels * patch * patch, 3, 1, 1)
    nn.init.constant_(last.bias, -3.0)  # type: ignore[arg-type]
    decoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(latent, features),
        nn.SiLU(),
        nn.Linear(features, 16 * width, bias=False),
        nn.Unflatten(1, (width, 4, 4)),
        nn.BatchNorm2d(width),
        nn.SiLU(),
        *block(nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), width // 2),
        *block(nn.Conv2d(width // 2, width // 2, 3, 1, 1, bias=False), width // 2),
        last,
        nn.PixelShuffle(patch),
        nn.Sigmoid(),
    )
    return encoder, features, decoder
