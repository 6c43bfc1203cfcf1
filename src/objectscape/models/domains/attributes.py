"""Attributes of a Simple Shape as a domain: directly (bimGW's "proto-language"), or through a small VAE (shimmer-ssd).

Both turn a row of attributes into a vector: see `objectscape.nn.attribute_vectors`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.models.domains.domain import Domain, DomainOutput
from objectscape.nn.attribute_vectors import CLASSES, NUMBERS, WIDTH, Scale, to_rows, to_vector
from objectscape.scene import Losses, Multimodal


class Attributes(Domain):
    """Attributes without parameters: the latent is the vector itself, in two parts.

    Args:
        domain: name of the entry in a batch, (B, 8) rows.
        scale: "image" divides lengths by `image_size`, "ranges" by the ranges of the published data.
        image_size: pixels.
        metric: loss of the class. "likelihood": the decoder's class scores are log-probabilities (bimGW); "squared":
            the whole vector under a squared error, as shimmer treats raw attributes.
        number_weight: of the mean squared error of the eight numbers beside the class; 8 makes it a sum.
    """

    def __init__(
        self,
        *,
        domain: str = "attr",
        scale: Scale = "image",
        image_size: int = 32,
        metric: Literal["likelihood", "squared"] = "likelihood",
        number_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if metric not in ("likelihood", "squared"):
            raise ValueError(f"metric={metric!r}; choose likelihood or squared")
        self.domain, self.scale, self.image_size, self.metric = domain, scale, image_size, metric
        self.number_weight = number_weight
        self.parts = {"z_cls": CLASSES, "z_attr": NUMBERS}

    def encode(self, raw: Tensor) -> Tensor:
        return to_vector(raw, scale=self.scale, image_size=self.image_size)

    def decode(self, latent: Tensor) -> Tensor:
        return to_rows(latent, scale=self.scale, image_size=self.image_size)

    def activate(self, latent: Tensor) -> Tensor:
        if self.metric == "squared":
            return latent
        return torch.cat([latent[:, :3].log_softmax(1), latent[:, 3:].tanh()], 1)

    def adapt(self, latent: Tensor) -> Tensor:
        return latent if self.metric == "squared" else torch.cat([latent[:, :3].exp(), latent[:, 3:]], 1)

    def latent_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        if self.metric == "squared":
            return super().latent_loss(predicted, target)
        kind = -predicted[:, :3].gather(1, target[:, :3].argmax(1, keepdim=True)).squeeze(1)
        return kind + self.number_weight * (predicted[:, 3:] - target[:, 3:]).square().mean(1)


class AttributeVAE(Domain):
    """shimmer-ssd's VAE of the attribute vector; a row may end in numbers that no other domain can tell.

    Args:
        domain: name of the entry in a batch, (B, 8 + unpaired) rows.
        latent_size: of the VAE.
        hidden_size: of its layers.
        beta: weight of the KL.
        class_weight, number_weight: of the two parts of the reconstruction.
        unpaired: numbers that are passed on beside the latent.
    """

    def __init__(
        self,
        *,
        domain: str = "attr",
        latent_size: int = 10,
        hidden_size: int = 64,
        beta: float = 0.05,
        class_weight: float = 1.0,
        number_weight: float = 1.0,
        unpaired: int = 0,
    ) -> None:
        super().__init__()
        self.domain, self.beta = domain, beta
        self.class_weight, self.number_weight = class_weight, number_weight
        self.parts = {"z": latent_size} | ({"unpaired": unpaired} if unpaired else {})
        h = hidden_size
        self.encoder = nn.Sequential(
            nn.Linear(CLASSES + NUMBERS, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, latent_size), nn.ReLU()
        )
        self.mean, self.logvar = nn.Linear(latent_size, latent_size), nn.Linear(latent_size, latent_size)
        self.decoder = nn.Sequential(nn.Linear(latent_size, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU())
        self.to_class, self.to_numbers = nn.Linear(h, CLASSES), nn.Linear(h, NUMBERS)

    def encode(self, raw: Tensor) -> Tensor:
        mean = self.mean(self.encoder(to_vector(raw[:, :WIDTH], scale="ranges")))
        return torch.cat([mean, raw[:, WIDTH:]], 1)

    def draw(self, latent: Tensor) -> Tensor:
        """(B, 11) class scores and numbers in [-1, 1]."""
        hidden = self.decoder(latent[:, : self.parts["z"]])
        return torch.cat([self.to_class(hidden), self.to_numbers(hidden).tanh()], 1)

    def decode(self, latent: Tensor) -> Tensor:
        return torch.cat([to_rows(self.draw(latent), scale="ranges"), latent[:, self.parts["z"] :]], 1)

    def latent_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The mean squared difference of each part, summed over the parts."""
        split = self.parts["z"]
        loss = (predicted[:, :split] - target[:, :split]).square().mean(1)
        if "unpaired" in self.parts:
            loss = loss + (predicted[:, split:] - target[:, split:]).square().mean(1)
        return loss

    def forward(self, batch: Multimodal) -> DomainOutput:
        raw = batch.domains[self.domain]
        hidden = self.encoder(to_vector(raw[:, :WIDTH], scale="ranges"))
        mean, logvar = self.mean(hidden), self.logvar(hidden)
        latent = mean + (logvar / 2).exp() * torch.randn_like(mean) if self.training else mean
        return DomainOutput(latent=mean, logvar=logvar, decoded=self.draw(latent))

    def loss(self, batch: Multimodal, output: DomainOutput, step: int) -> Losses:
        assert output.logvar is not None
        assert output.decoded is not None
        rows = batch.domains[self.domain]
        target = to_vector(rows[:, :WIDTH], scale="ranges")
        kind = F.cross_entropy(output.decoded[:, :3], rows[:, 0].long())
        squared = (output.decoded[:, 3:] - target[:, 3:]).square().sum(1).mean()
        numbers = 0.5 * squared + NUMBERS * 0.5 * math.log(2 * math.pi)
        kl = gaussian_kl(output.latent, output.logvar).mean()
        total = self.class_weight * kind + self.number_weight * numbers + self.beta * kl
        return Losses(total=total, terms={"class": kind.detach(), "numbers": numbers.detach(), "kl": kl.detach()})


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """(B,) KL of a diagonal Gaussian from the standard one, in nats."""
    return -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1)
