"""shimmer-ssd's text domain: a VAE of BERT vectors whose latent a GRU turns into words."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.models.domains.attributes import gaussian_kl
from objectscape.models.domains.domain import Domain, DomainOutput
from objectscape.nn.recurrent import GRU
from objectscape.scene import Losses, Multimodal


class TextGRU(Domain):
    """A VAE of sentence vectors with a language model on its latent. A batch holds the vectors and "tokens" (B, L).

    Args:
        domain: name of the entry in a batch, (B, input_size).
        input_size: of the sentence vectors; 768 for BERT.
        latent_size: of the latent and of the word vectors.
        hidden_size: of all hidden layers and of the GRU.
        vocabulary: number of tokens; 0 is padding.
        length: tokens of a sentence.
        gru_layers: of the GRU.
        reconstruction_weight, kl_weight: of the vectors' likelihood and of the KL, which are summed over the batch as
            released; the loss of the tokens is their mean over all places.
        noise: standard deviation of what is added to the latent that the GRU reads in training.
    """

    def __init__(
        self,
        *,
        domain: str = "t",
        input_size: int = 768,
        latent_size: int = 64,
        hidden_size: int = 256,
        vocabulary: int = 822,
        length: int = 64,
        gru_layers: int = 2,
        reconstruction_weight: float = 1.0,
        kl_weight: float = 0.1,
        noise: float = 0.5,
    ) -> None:
        super().__init__()
        self.domain, self.length, self.noise = domain, length, noise
        self.reconstruction_weight, self.kl_weight = reconstruction_weight, kl_weight
        self.parts = {"z": latent_size}
        n, h, z = input_size, hidden_size, latent_size
        self.encoder = nn.Sequential(nn.Linear(n, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, z), nn.ReLU())
        self.mean, self.logvar = nn.Linear(z, z), nn.Linear(z, z)
        self.decoder = nn.Sequential(nn.Linear(z, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, n))
        self.words = nn.Embedding(vocabulary, z)
        self.gru = GRU(z, h, gru_layers, batch_first=True)
        self.head = nn.Linear(h, vocabulary)

    def encode(self, raw: Tensor) -> Tensor:
        return self.mean(self.encoder(raw))

    def decode(self, latent: Tensor) -> Tensor:
        """(B, L) tokens, each the likeliest after those before it."""
        return self.write(latent).argmax(2)

    def write(self, latent: Tensor, tokens: Tensor | None = None) -> Tensor:
        """(B, L, vocabulary) logits of every token, after the true `tokens` before it or after those chosen so far."""
        first = latent.unsqueeze(1)
        if tokens is not None:
            hidden, _ = self.gru(torch.cat([first, self.words(tokens[:, :-1].long())], 1))
            return self.head(hidden)
        logits: list[Tensor] = []
        state = None
        for _ in range(self.length):  # each word depends on the one before it
            hidden, state = self.gru(first, state)
            logits.append(self.head(hidden))
            first = self.words(logits[-1].argmax(2))
        return torch.cat(logits, 1)

    def forward(self, batch: Multimodal) -> DomainOutput:
        hidden = self.encoder(batch.domains[self.domain])
        mean, logvar = self.mean(hidden), self.logvar(hidden)
        latent = mean + (logvar / 2).exp() * torch.randn_like(mean) if self.training else mean
        heard = latent + self.noise * torch.randn_like(latent) if self.training else latent
        logits = self.write(heard, batch.domains["tokens"])
        return DomainOutput(latent=mean, logvar=logvar, decoded=self.decoder(latent), heads={"tokens": logits})

    def loss(self, batch: Multimodal, output: DomainOutput, step: int) -> Losses:
        assert output.logvar is not None
        assert output.decoded is not None
        assert output.heads is not None
        tokens, logits = batch.domains["tokens"].long(), output.heads["tokens"]
        words = F.cross_entropy(logits.transpose(1, 2), tokens)
        there = tokens != 0
        right = ((logits.argmax(2) == tokens) & there).sum() / there.sum()
        squared = (batch.domains[self.domain] - output.decoded).square()
        rec = (0.5 * squared + 0.5 * math.log(2 * math.pi)).sum()
        kl = gaussian_kl(output.latent, output.logvar).sum()
        total = words + self.reconstruction_weight * rec + self.kl_weight * kl
        terms = {"words": words, "accuracy": right, "rec": rec, "kl": kl}
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})


class AttributeReader(nn.Module):
    """shimmer-ssd's Text2Attr: attributes from a text latent.

    Args:
        latent_size: of the text domain.
        hidden_size: of its layers.
    """

    def __init__(self, *, latent_size: int = 64, hidden_size: int = 128) -> None:
        super().__init__()
        self.numbers, self.kind = (self._layers(latent_size, hidden_size, out) for out in (8, 3))

    def _layers(self, inside: int, hidden: int, outside: int) -> nn.Sequential:
        sizes = [inside, hidden, hidden, hidden]
        layers: list[nn.Module] = []
        for place in range(3):
            layers += [nn.Linear(sizes[place], sizes[place + 1]), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(hidden, outside))

    def forward(self, latent: Tensor) -> Tensor:
        """(B, 11) probabilities of the class, and numbers in [-1, 1]."""
        return torch.cat([self.kind(latent).softmax(1), self.numbers(latent).tanh()], 1)

    def losses(self, latent: Tensor, kind: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Class and number losses, as released: the cross-entropy takes the probabilities for logits."""
        found = self(latent)
        return F.cross_entropy(found[:, :3], kind), F.mse_loss(found[:, 3:], numbers)
