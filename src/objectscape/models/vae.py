"""The baseline VAEs of the GENESIS papers: the whole scene in one latent.

1. Six gated convolutions encode the image; two linear heads give q(z | x) (Kingma and Welling 2014, arXiv 1312.6114).
2. DC-VAE decodes z by gated transposed convolutions; BD-VAE by a spatial broadcast decoder (arXiv 1901.07017).
3. Pixels are Gaussian around the redrawn image. The loss is the negative log-likelihood plus beta times the KL to
   N(0, 1): a constant beta makes a beta-VAE, GECO (`objectscape.training.geco`) a constrained one, as published.

It generates and redraws but does not decompose, so it has no `slots`: its Decomposition is one slot that owns all.
The KL is a one-sample estimate, as in the released code, whose unreachable flow posteriors are left out.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from objectscape.contract import Model
from objectscape.nn.broadcast_decoder import BroadcastDecoder
from objectscape.nn.distributions import sample_gaussian
from objectscape.nn.gated_conv import GatedDecoder, GatedEncoder
from objectscape.nn.initialization import scale_weights
from objectscape.nn.mixtures import full_precision, gaussian_log_likelihood, posterior_parameters, sampled_kl
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_noise, check_positive
from objectscape.scene import Decomposition, Losses, Scene, record

FEATURES = 256
"""Length of the encoder's result."""


@record
class VAEOutput(Decomposition):
    """What the VAE makes of a scene; K = 1."""

    mean: Tensor
    """(B, D) of q(z | x)."""
    std: Tensor
    """(B, D)"""
    nll: Tensor
    """(B,) negative log-likelihood in nats, summed over pixels and channels."""
    kl: Tensor
    """(B,) one-sample estimate of the KL in nats; it can be negative."""

    @property
    def bound(self) -> dict[str, Tensor]:
        """The likelihood and the KL."""
        return {"nll": self.nll, "kl": self.kl}


class VAE(Model[Scene, VAEOutput]):
    """DC-VAE and BD-VAE. The defaults are the papers' DC-VAE for 64 x 64 images.

    Args:
        image_size: side S of the square images in pixels: 32, 64, 128 or 256.
        latent_dim: D.
        decoder: "deconvolution" (DC-VAE) or "broadcast" (BD-VAE).
        core_channels: of the outer gated convolutions; the inner ones have twice as many, and so has every convolution
            of the broadcast decoder.
        pixel_std: standard deviation of every pixel and channel.
        pixel_bound: a sigmoid on the redrawn image.
        initialization: "released" (PyTorch's), or "sharp" for short trainings (ours): weights of encoder and decoder
            times 2. As released, latents carry almost no image information at first.
        beta: weight of the KL; GECO sets it before each step.
        beta_warmup: optimizer steps over which the constant weight rises linearly from 0; 0 is none.

    Raises:
        ValueError: if an option is out of its range.
    """

    def __init__(
        self,
        *,
        image_size: int = 64,
        latent_dim: int = 64,
        decoder: Literal["deconvolution", "broadcast"] = "deconvolution",
        core_channels: int = 32,
        pixel_std: float = 0.7,
        pixel_bound: bool = True,
        initialization: Literal["released", "sharp"] = "released",
        beta: float = 0.5,
        beta_warmup: int = 0,
    ) -> None:
        super().__init__()
        check_at_least(1, latent_dim=latent_dim)
        check_at_least(0, beta_warmup=beta_warmup)
        check_positive(pixel_std=pixel_std)
        check_choice("initialization", initialization, ("released", "sharp"))
        check_choice("decoder", decoder, ("deconvolution", "broadcast"))
        self.image_size, self.latent_dim = image_size, latent_dim
        self.pixel_std, self.pixel_bound = pixel_std, pixel_bound
        self.beta, self.beta_warmup = beta, beta_warmup
        self.encoder = GatedEncoder(image_size=image_size, out_features=FEATURES, norm="none", channels=core_channels)
        self.posterior = nn.Linear(FEATURES, 2 * latent_dim)
        self.decoder: nn.Module
        if decoder == "broadcast":
            self.decoder = nn.Sequential(
                BroadcastDecoder(
                    latent_dim=latent_dim,
                    out_channels=2 * core_channels,
                    image_size=image_size,
                    hidden_channels=2 * core_channels,
                ),
                nn.ELU(),
                nn.Conv2d(2 * core_channels, 3, 1),
            )
        else:
            self.decoder = GatedDecoder(
                image_size=image_size, latent_dim=latent_dim, out_channels=3, norm="none", channels=core_channels
            )
        scale_weights(self.encoder, self.decoder, gain=2.0 if initialization == "sharp" else 1.0)

    def forward(self, scene: Scene) -> VAEOutput:
        """Redraw a batch of images of the constructor's size."""
        image = scene.pixels  # (B, 3, H, W)
        check_images(image, self.image_size)
        mean, std = posterior_parameters(self.posterior(self.encoder(image)))  # (B, D)
        z = sample_gaussian(mean, std)
        drawn = self.decode(z[:, None])
        return VAEOutput(
            recon=drawn.recon,
            masks=drawn.masks,
            components=drawn.components,
            slots=drawn.slots,
            mean=mean,
            std=std,
            nll=-gaussian_log_likelihood(image, drawn.recon, self.pixel_std).sum((1, 2, 3)),  # over channels and pixels
            kl=sampled_kl(z, mean, std, torch.zeros_like(z), torch.ones_like(z)),
        )

    def loss(self, scene: Scene, output: VAEOutput, step: int) -> Losses:
        """Negative log-likelihood + beta * KL, in nats, averaged over the batch.

        Args:
            scene: unused; the likelihood is part of `output`.
            output: what `forward` returned.
            step: counts for the warm-up of the constant weight.
        """
        beta = self.beta * min(1.0, step / self.beta_warmup) if self.beta_warmup else self.beta
        nll, kl = output.nll.mean(), output.kl.mean()
        terms = {"nll": nll, "kl": kl, "negative_elbo": nll + kl}
        return Losses(total=nll + beta * kl, terms={name: value.detach() for name, value in terms.items()})

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition:
        """Imagine `n` scenes; `noise` (n, 1, D) standard normal replaces the draw."""
        check_noise(noise, n, 1, self.latent_dim)
        zeros = self.posterior.weight.new_zeros(n, 1, self.latent_dim)
        return self.decode(sample_gaussian(zeros, torch.ones_like(zeros), noise))

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw latents (B, 1, D)."""
        drawn = full_precision(self.decoder(slots.squeeze(1)))  # (B, 3, H, W)
        recon = drawn.sigmoid() if self.pixel_bound else drawn
        return Decomposition(
            recon=recon, masks=torch.ones_like(recon[:, None, :1]), components=recon[:, None], slots=slots
        )
