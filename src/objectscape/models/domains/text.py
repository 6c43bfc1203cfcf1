"""Our text domain for short descriptions of a shape: no pretrained language model, and open sentences.

Words are embedded, two convolutions read them, and the mean and largest response give a latent that keeps what is
meant. Heads read the attributes from it and whether each was named at all, so that "a red egg" may leave the rest open;
further heads guess the wording (class of every decision of the caption grammar) from the latent without shaping it.

`complete` fills in what a sentence leaves open with draws of one's choice: what the sentence can mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.models.domains.domain import Domain, DomainOutput
from objectscape.models.domains.text_vae import HEADS
from objectscape.nn.attribute_vectors import to_rows, to_vector
from objectscape.scene import Losses, Multimodal

SLICES = {
    "shape": slice(0, 3),
    "rotation": slice(6, 8),
    "color": slice(8, 11),
    "size": slice(5, 6),
    "location": slice(3, 5),
}
"""Attribute -> its columns of the vector, in the order of the entry "said"."""


class Text(Domain):
    """Sentences as places in a vocabulary, (B, L) padded with 0.

    Training reads the entries `domain`, "attr" (B, 8) rows, "said" (B, 6): which attributes are named, whether the
    sentence is a full caption; and "grammar" (B, 39) classes of full captions.

    Args:
        domain: name of the entry in a batch.
        vocabulary: number of words, padding included.
        latent_size: of the latent.
        width: of the word vectors; the convolutions have twice as many channels.
        image_size: pixels, to scale places and sizes.
        noise: standard deviation of what is added to the latent in training: nearby latents mean the same.
        heads: {decision of the grammar: options}; None for all 39.
    """

    def __init__(
        self,
        *,
        domain: str = "t",
        vocabulary: int = 203,
        latent_size: int = 16,
        width: int = 48,
        image_size: int = 32,
        noise: float = 0.1,
        heads: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.domain, self.image_size, self.noise = domain, image_size, noise
        self.parts = {"z": latent_size}
        self.words = nn.Embedding(vocabulary, width, padding_idx=0)
        self.first = nn.Conv1d(width, 2 * width, 5, padding=2)
        self.second = nn.Conv1d(2 * width, 2 * width, 5, padding=2)
        self.to_latent = nn.Sequential(
            nn.Linear(4 * width, 4 * width), nn.SiLU(), nn.Linear(4 * width, latent_size), nn.LayerNorm(latent_size)
        )
        self.attributes = nn.Sequential(nn.Linear(latent_size, 128), nn.SiLU(), nn.Linear(128, 11))
        self.said = nn.Sequential(nn.Linear(4 * width, 64), nn.SiLU(), nn.Linear(64, len(SLICES)))
        self.heads = dict(HEADS if heads is None else heads)
        self.grammar = nn.Sequential(nn.Linear(latent_size, 64), nn.SiLU(), nn.Linear(64, sum(self.heads.values())))

    def _read(self, raw: Tensor) -> Tensor:
        """(B, L) words -> (B, 4 width): mean and largest response."""
        tokens = raw.long()
        there = (tokens != 0).unsqueeze(1)  # (B, 1, L)
        hidden = F.silu(self.first(self.words(tokens).transpose(1, 2))) * there
        hidden = F.silu(self.second(hidden))
        mean = (hidden * there).sum(2) / there.sum(2).clamp_min(1)
        return torch.cat([mean, hidden.masked_fill(~there, -1e4).amax(2)], 1)

    def encode(self, raw: Tensor) -> Tensor:
        return self.to_latent(self._read(raw))

    def vector(self, latent: Tensor) -> Tensor:
        """(B, 11) log-probabilities of the class, and the numbers that `Attributes` uses."""
        found = self.attributes(latent)
        return torch.cat([found[:, :3].log_softmax(1), found[:, 3:].tanh()], 1)

    def decode(self, latent: Tensor) -> Tensor:
        """(B, 8 + 39) attribute rows and the class of each decision of the grammar: what a sentence is composed of."""
        rows = to_rows(self.vector(latent), image_size=self.image_size)
        scores = self.grammar(latent).split(list(self.heads.values()), 1)
        return torch.cat([rows, *(s.argmax(1, keepdim=True).to(rows.dtype) for s in scores)], 1)

    def understand(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 8) attribute rows, and (B, 5) bool: is each named (shape, rotation, color, size, location)?"""
        features = self._read(raw)
        rows = to_rows(self.vector(self.to_latent(features)), image_size=self.image_size)
        return rows, self.said(features) > 0

    def forward(self, batch: Multimodal) -> DomainOutput:
        features = self._read(batch.domains[self.domain])
        latent = self.to_latent(features)
        noisy = latent + self.noise * torch.randn_like(latent) if self.training else latent
        heads = {
            "attributes": self.vector(noisy),
            "said": self.said(features),
            "grammar": self.grammar(latent.detach()),
        }
        return DomainOutput(latent=latent, heads=heads)

    def loss(self, batch: Multimodal, output: DomainOutput, step: int) -> Losses:
        """What is named must be told; what is not named is not an error."""
        assert output.heads is not None
        rows, said = batch.domains["attr"], batch.domains["said"].float()
        target, found = to_vector(rows, image_size=self.image_size), output.heads["attributes"]
        parts = {}
        for place, (name, columns) in enumerate(SLICES.items()):
            if name == "shape":
                error = F.nll_loss(found[:, :3], rows[:, 0].long(), reduction="none")
            else:
                error = 4 * (found[:, columns] - target[:, columns]).square().sum(1)
            parts[name] = (error * said[:, place]).sum() / said[:, place].sum().clamp_min(1)
        parts["said"] = F.binary_cross_entropy_with_logits(output.heads["said"], said[:, : len(SLICES)])
        full = said[:, len(SLICES)]
        classes = batch.domains["grammar"].long()
        scores = output.heads["grammar"].split(list(self.heads.values()), 1)
        words = torch.stack([F.cross_entropy(s, c, reduction="none") for s, c in zip(scores, classes.T, strict=True)])
        parts["grammar"] = (words.mean(0) * full).sum() / full.sum().clamp_min(1)
        total = torch.stack(list(parts.values())).sum()
        return Losses(total=total, terms={name: value.detach() for name, value in parts.items()})
