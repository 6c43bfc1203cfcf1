"""Text domains over a sentence vector (BERT): VAEs with heads that turn their latent back into a sentence.

The heads predict the attributes and, for every decision of the caption grammar, which option was taken. `TextVAE` is
bimGW's, `SharedTextVAE` the older one of shimmer-ssd.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.models.domains.attributes import gaussian_kl
from objectscape.models.domains.domain import Domain, DomainOutput
from objectscape.models.domains.latents import symlog
from objectscape.nn.attribute_vectors import to_rows, to_vector
from objectscape.scene import Losses, Multimodal


class _SymLog(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return symlog(x)


class TextVAE(Domain):
    """A VAE of sentence vectors. A batch holds them, the attribute rows "attr" and the grammar's classes "grammar".

    Args:
        domain: name of the entry in a batch, (B, input_size), standardized.
        input_size: of the sentence vectors; 768 for BERT.
        latent_size: z.
        heads: {decision: options}; None for the 39 of bimGW.
        beta: weight of the KL.
        attribute_weight, vae_weight: of the heads and of the VAE.
        attributes_train_encoder: let the attribute head's loss reach the encoder; the grammar's never does.
    """

    def __init__(
        self,
        *,
        domain: str = "t",
        input_size: int = 768,
        latent_size: int = 24,
        heads: Mapping[str, int] | None = None,
        beta: float = 0.1,
        attribute_weight: float = 100_000.0,
        vae_weight: float = 1.0,
        attributes_train_encoder: bool = False,
    ) -> None:
        super().__init__()
        self.domain, self.beta, self.parts, self.input_size = domain, beta, {"z": latent_size}, input_size
        self.attribute_weight, self.vae_weight = attribute_weight, vae_weight
        self.attributes_train_encoder = attributes_train_encoder
        n, z = input_size, latent_size
        self.encoder = nn.Sequential(
            nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n // 2), nn.ReLU(), nn.Linear(n // 2, 2 * z), _SymLog()
        )
        self.decoder = nn.Sequential(nn.Linear(z, n // 2), nn.ReLU(), nn.Linear(n // 2, n), nn.ReLU(), nn.Linear(n, n))
        self.attributes = nn.Sequential(nn.Linear(z, z), nn.ReLU(), nn.Linear(z, 11))
        self.heads = dict(HEADS if heads is None else heads)
        self.grammar = nn.ModuleList(
            nn.Sequential(nn.Linear(z, z), nn.ReLU(), nn.Linear(z, options)) for options in self.heads.values()
        )

    def encode(self, raw: Tensor) -> Tensor:
        return self.encoder(raw).chunk(2, 1)[0]

    def decode(self, latent: Tensor) -> Tensor:
        """(B, input_size) sentence vectors; `read` gives attributes and grammar classes."""
        return self.decoder(latent)

    def activate(self, latent: Tensor) -> Tensor:
        return symlog(latent)

    def read(self, latent: Tensor) -> dict[str, Tensor]:
        """{"attributes": (B, 11) log-probabilities of the class and numbers, decision: (B, options) logits}."""
        scores = self.attributes(latent)
        attributes = torch.cat([scores[:, :3].log_softmax(1), scores[:, 3:].tanh()], 1)
        return {"attributes": attributes, **self._decide(latent)}

    def tell(self, latent: Tensor) -> Tensor:
        """(B, 8 + decisions) attribute rows and the class of each decision: what a sentence is composed of."""
        read = self.read(latent)
        classes = [read[name].argmax(1, keepdim=True) for name in self.heads]
        return torch.cat([to_rows(read["attributes"]), *(c.to(latent.dtype) for c in classes)], 1)

    def _decide(self, latent: Tensor) -> dict[str, Tensor]:
        return {name: head(latent) for name, head in zip(self.heads, self.grammar, strict=True)}

    def forward(self, batch: Multimodal) -> DomainOutput:
        mean, logvar = self.encoder(batch.domains[self.domain]).chunk(2, 1)
        latent = mean + (logvar / 2).exp() * torch.randn_like(mean) if self.training else mean
        heads = self.read(mean if self.attributes_train_encoder else mean.detach()) | self._decide(mean.detach())
        return DomainOutput(latent=mean, logvar=logvar, decoded=self.decoder(latent), heads=heads)

    def loss(self, batch: Multimodal, output: DomainOutput, step: int) -> Losses:
        assert output.logvar is not None
        assert output.decoded is not None
        assert output.heads is not None
        rec = (batch.domains[self.domain] - output.decoded).square().sum(1).mean()
        kl = gaussian_kl(output.latent, output.logvar).mean()
        rows, classes = batch.domains["attr"], batch.domains["grammar"].long()
        target = to_vector(rows)
        kind = F.nll_loss(output.heads["attributes"][:, :3], rows[:, 0].long())
        numbers = F.mse_loss(output.heads["attributes"][:, 3:], target[:, 3:])
        decisions = [F.cross_entropy(output.heads[name], classes[:, i]) for i, name in enumerate(self.heads)]
        words = torch.stack(decisions).mean()
        vae, heads = rec + self.beta * kl, kind + numbers + words
        terms: dict[str, Any] = {"rec": rec, "kl": kl, "class": kind, "numbers": numbers, "grammar": words}
        total = self.vae_weight * vae + self.attribute_weight * heads
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})


class SharedTextVAE(Domain):
    """shimmer-ssd's older text module: its heads share a trunk, and every loss reaches the encoder.

    A batch holds the vectors, the attribute rows "attr" and the grammar's classes "grammar".

    Args:
        domain: name of the entry in a batch, (B, input_size).
        input_size: of the sentence vectors; 768 for BERT. The decoder ends in tanh.
        latent_size: z.
        hidden_size: of all hidden layers.
        heads: {decision: options}; None for the 27 of the newer captions, which hide the wording of the rotation.
        beta: weight of the KL.
    """

    def __init__(
        self,
        *,
        domain: str = "t",
        input_size: int = 768,
        latent_size: int = 12,
        hidden_size: int = 256,
        heads: Mapping[str, int] | None = None,
        beta: float = 0.1,
    ) -> None:
        super().__init__()
        self.domain, self.beta, self.parts = domain, beta, {"z": latent_size}
        n, h, z = input_size, hidden_size, latent_size

        def layers(*sizes: int) -> list[nn.Module]:
            return [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]

        self.encoder = nn.Sequential(*layers(n, h, h, z))
        self.mean, self.logvar = nn.Linear(z, z), nn.Linear(z, z)
        self.decoder = nn.Sequential(*layers(z, h, h), nn.Linear(h, n), nn.Tanh())
        self.attributes, self.grammar = nn.Sequential(*layers(z, h, h)), nn.Sequential(*layers(z, h, h))
        self.to_class, self.to_numbers = nn.Linear(h, 3), nn.Linear(h, 8)
        self.heads = dict(NEWER_HEADS if heads is None else heads)
        self.decisions = nn.ModuleList(nn.Linear(h, options) for options in self.heads.values())

    def encode(self, raw: Tensor) -> Tensor:
        return self.mean(self.encoder(raw))

    def decode(self, latent: Tensor) -> Tensor:
        """(B, input_size) sentence vectors; `read` gives attributes and grammar classes."""
        return self.decoder(latent)

    def read(self, latent: Tensor) -> dict[str, Tensor]:
        """{"attributes": (B, 11) logits of the class and numbers in [-1, 1], decision: (B, options) logits}."""
        hidden, words = self.attributes(latent), self.grammar(latent)
        told = torch.cat([self.to_class(hidden), self.to_numbers(hidden).tanh()], 1)
        return {"attributes": told} | {n: head(words) for n, head in zip(self.heads, self.decisions, strict=True)}

    def rows(self, latent: Tensor) -> Tensor:
        """(B, 8) the attribute rows that the latent tells."""
        return to_rows(self.read(latent)["attributes"], scale="ranges")

    def forward(self, batch: Multimodal) -> DomainOutput:
        hidden = self.encoder(batch.domains[self.domain])
        mean, logvar = self.mean(hidden), self.logvar(hidden)
        latent = mean + (logvar / 2).exp() * torch.randn_like(mean) if self.training else mean
        return DomainOutput(latent=mean, logvar=logvar, decoded=self.decoder(latent), heads=self.read(latent))

    def loss(self, batch: Multimodal, output: DomainOutput, step: int) -> Losses:
        """Everything is summed over dimensions and decisions, and averaged over sentences."""
        assert output.logvar is not None
        assert output.decoded is not None
        assert output.heads is not None
        squared = (batch.domains[self.domain] - output.decoded).square()
        rec = (0.5 * squared + 0.5 * math.log(2 * math.pi)).sum(1).mean()
        kl = gaussian_kl(output.latent, output.logvar).mean()
        rows, classes = batch.domains["attr"], batch.domains["grammar"].long()
        told, target = output.heads["attributes"], to_vector(rows, scale="ranges")
        kind = F.cross_entropy(told[:, :3], rows[:, 0].long())
        numbers = (told[:, 3:] - target[:, 3:]).square().sum(1).mean()
        decisions = [F.cross_entropy(output.heads[name], classes[:, i]) for i, name in enumerate(self.heads)]
        words = torch.stack(decisions).sum()
        terms: dict[str, Any] = {"rec": rec, "kl": kl, "class": kind, "numbers": numbers, "grammar": words}
        total = rec + self.beta * kl + kind + numbers + words
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})


_ROTATION = {"of_image": 2, "rotated": 2, "corner": 2, "side": 2}, {"of_image": 2, "rotated": 3}
_LOCATION = ("bottom", "middle", "top", "in_the", "on_the", "side?", "located?")
# fmt: off
HEADS = {
    "structure": 18, "variant_start": 8, "variant_object": 2, "variant_colored?": 2, "variant_colorBefore": 2,
    "variant_colorAfter": 2, "variant_colorBoth": 4, "variant_,?": 2, "variant_link": 5, "variant_link2": 4,
    "variant_link3": 6, "writer_rotation": 4,
    **{f"writer_rotation_{i}_{option}": n for i in range(4) for option, n in _ROTATION[i % 2].items()},
    "writer_location": 2,
    **{f"writer_location_{i}_{option}": 2 for i in range(2) for option in _LOCATION},
}
# fmt: on
"""Decisions of the caption grammar and their numbers of options, as `objectscape.data.synthetic.captions.heads`."""
NEWER_HEADS = {name: options for name, options in HEADS.items() if not name.startswith("writer_rotation_")}
"""The 27 of the newer package: its angles hide the options of their writers."""
