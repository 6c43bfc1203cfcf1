"""What a workspace asks of a domain: a latent for what it shows, the way back, and a loss between latents."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from objectscape.contract import Model
from objectscape.scene import Losses, Multimodal, Tensors, record


@record
class DomainOutput(Tensors):
    """What a domain makes of its part of a batch."""

    latent: Tensor
    """(B, D) the latent that a workspace reads: for a variational model the mean."""
    logvar: Tensor | None = None
    """(B, D) log-variance of the latent."""
    decoded: Tensor | None = None
    """(B, ...) the reconstruction, in the form in which the model draws it."""
    heads: dict[str, Tensor] | None = None
    """{name: (B, n)} logits or values of further heads."""


class Domain(Model[Multimodal, DomainOutput]):
    """Base of the domains. `domain` names its entry of `Multimodal.domains`.

    A latent may have parts of different kinds (a class, numbers); they stand side by side in one tensor (B, D).
    """

    domain: str
    weights_hash: str | None = None
    """SHA-256 of the file of weights, for a domain that was read from a folder."""
    parts: dict[str, int]
    """{part of the latent: its width}; the widths sum to `latent_size`."""

    @property
    def latent_size(self) -> int:
        return sum(self.parts.values())

    @abstractmethod
    def encode(self, raw: Tensor) -> Tensor:
        """(B, ...) what the domain shows -> (B, D) latent."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """(B, D) latent -> (B, ...) in the form in which data sets give the domain."""

    def activate(self, latent: Tensor) -> Tensor:
        """What a workspace's decoder applies to its last layer for this domain; nothing by default."""
        return latent

    def adapt(self, latent: Tensor) -> Tensor:
        """A predicted latent in the form in which `encode` gives it, to be encoded again."""
        return latent

    def latent_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """(B,) how far predicted latents are from encoded ones; the mean squared difference by default."""
        return (predicted - target).square().mean(1)

    def forward(self, batch: Multimodal) -> DomainOutput:
        """The latent only; a domain that learns by itself does more."""
        return DomainOutput(latent=self.encode(batch.domains[self.domain]))

    def loss(self, batch: Multimodal, output: DomainOutput, step: int) -> Losses:
        """Raises ValueError: a domain without parameters has nothing to learn."""
        raise ValueError(f"{type(self).__name__} has nothing to learn; train a workspace that joins it.")
