"""GENESIS-S (Engelcke et al., ICLR 2020, arXiv 1907.13052): GENESIS with one latent per slot.

1. The same recurrent posterior, autoregressive prior and stick-breaking masks over z_1..K as GENESIS.
2. The same z_k is also decoded, by a broadcast decoder, into the slot's picture: there are no component latents, and
   the pictures do not see the image again. Inference takes one stage.
3. The loss is the mixture's negative log-likelihood plus beta times the KL of z.

It is a model of its own, not an option of GENESIS, since half of that model's parts and options do not exist here.

Deviations from the released code: those of `genesis.py` (log-sum-exp, the tanh in the sampler).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from objectscape.contract import Model
from objectscape.nn.broadcast_decoder import BroadcastDecoder
from objectscape.nn.distributions import sample_gaussian
from objectscape.nn.gated_conv import NORMS
from objectscape.nn.latent_masks import LatentMasks
from objectscape.nn.latent_prior import AutoregressivePrior
from objectscape.nn.mixtures import full_precision, mixture_log_likelihood, posterior_parameters, sampled_kl
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_noise, check_positive
from objectscape.scene import Decomposition, Losses, Scene, record

POSTERIOR_OFFSET = {"released": 0.5, "sharp": -2.5}
"""Added to the raw scale of a posterior before the softplus, by `initialization`."""


@record
class GenesisSOutput(Decomposition):
    """What GENESIS-S infers from a scene. `slots` holds z."""

    log_masks: Tensor
    """(B, K, 1, H, W) log of `masks`."""
    log_scopes: Tensor
    """(B, K, 1, H, W) log of what the slots before k have left over."""
    mean: Tensor
    """(B, K, D) of q(z_k | x, z_<k)."""
    std: Tensor
    """(B, K, D)"""
    prior_mean: Tensor
    """(B, K, D) of p(z_k | z_<k)."""
    prior_std: Tensor
    """(B, K, D)"""
    nll: Tensor
    """(B,) negative log-likelihood in nats, summed over pixels and channels."""
    kl_slots: Tensor
    """(B, K) one-sample estimate of the KL of z_k in nats; it can be negative."""

    @property
    def bound(self) -> dict[str, Tensor]:
        """The likelihood and the KL of the latents."""
        return {"nll": self.nll, "kl_slots": self.kl_slots}


class GenesisS(Model[Scene, GenesisSOutput]):
    """GENESIS-S. The defaults are the paper's for Multi-dSprites (64 x 64 images, 5 slots).

    Args:
        image_size: side S of the square images in pixels: 32, 64, 128 or 256.
        slots: K, at least 2, background included. It may be changed after construction.
        latent_dim: D.
        encoder_norm: "batch", "instance" or "none", in the gated encoder.
        decoder_norm: the same, in the gated decoder of the masks.
        core_channels: of the outer convolutions of the mask network; the inner ones have twice as many.
        decoder_channels: of the broadcast decoder.
        decoder_layers: 3 x 3 convolutions of the broadcast decoder.
        autoregressive_prior: the LSTM prior; else N(0, 1).
        pixel_std: standard deviation of every pixel and channel.
        first_pixel_std: that of the first slot; None is `pixel_std`.
        pixel_bound: a sigmoid on the decoded colors.
        initialization: "released", or "sharp" for short trainings (ours): posteriors start with a standard deviation
            near 0.1 in place of 1, so that the image is seen through the noise from the first step.
        linear_sampling_mean: imagine without the tanh of the prior mean, as the released code did.
        beta: weight of the KL; GECO sets it before each step.
        beta_warmup: optimizer steps over which the constant weight rises linearly from 0; 0 is none.

    Raises:
        ValueError: if an option is out of its range.
    """

    def __init__(
        self,
        *,
        image_size: int = 64,
        slots: int = 5,
        latent_dim: int = 64,
        encoder_norm: Literal["batch", "instance", "none"] = "batch",
        decoder_norm: Literal["batch", "instance", "none"] = "batch",
        core_channels: int = 32,
        decoder_channels: int = 32,
        decoder_layers: int = 4,
        autoregressive_prior: bool = True,
        pixel_std: float = 0.7,
        first_pixel_std: float | None = None,
        pixel_bound: bool = True,
        initialization: Literal["released", "sharp"] = "released",
        linear_sampling_mean: bool = False,
        beta: float = 0.5,
        beta_warmup: int = 0,
    ) -> None:
        super().__init__()
        check_choice("initialization", initialization, tuple(POSTERIOR_OFFSET))
        self.posterior_offset = POSTERIOR_OFFSET[initialization]
        check_at_least(2, slots=slots)
        check_at_least(0, beta_warmup=beta_warmup)
        first_pixel_std = pixel_std if first_pixel_std is None else first_pixel_std
        check_positive(pixel_std=pixel_std, first_pixel_std=first_pixel_std)
        check_choice("encoder_norm", encoder_norm, NORMS)
        check_choice("decoder_norm", decoder_norm, NORMS)
        self.image_size, self.latent_dim = image_size, latent_dim
        self.pixel_std, self.first_pixel_std, self.pixel_bound = pixel_std, first_pixel_std, pixel_bound
        self.linear_sampling_mean = linear_sampling_mean
        self.beta, self.beta_warmup = beta, beta_warmup
        self._slots = slots
        self.masks = LatentMasks(
            image_size=image_size,
            latent_dim=latent_dim,
            encoder_norm=encoder_norm,
            decoder_norm=decoder_norm,
            channels=core_channels,
        )
        self.prior = AutoregressivePrior(latent_dim=latent_dim) if autoregressive_prior else None
        self.decoder = BroadcastDecoder(
            latent_dim=latent_dim,
            out_channels=3,
            image_size=image_size,
            hidden_channels=decoder_channels,
            layers=decoder_layers,
        )

    @property
    def slots(self) -> int:
        """K: how many slots the next `forward` or `sample` uses."""
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        check_at_least(2, slots=slots)
        self._slots = slots

    def forward(self, scene: Scene) -> GenesisSOutput:
        """Decompose a batch of images of the constructor's size."""
        image = scene.pixels  # (B, 3, H, W)
        check_images(image, self.image_size)
        z, mean, std = self._infer_masks(image)  # (B, K, D)
        prior_mean, prior_std = self._prior(z)
        log_masks, log_scopes = self.masks.decode(z)  # (B, K, 1, H, W)
        components, masks = self._decode_components(z), log_masks.exp()
        pixel_std = image.new_full((self.slots,), self.pixel_std)
        pixel_std[0] = self.first_pixel_std
        log_likelihood = mixture_log_likelihood(image, components, log_masks, pixel_std)  # (B, 3, H, W)
        return GenesisSOutput(
            recon=(masks * components).sum(1),
            masks=masks,
            components=components,
            slots=z,
            log_masks=log_masks,
            log_scopes=log_scopes,
            mean=mean,
            std=std,
            prior_mean=prior_mean,
            prior_std=prior_std,
            nll=-log_likelihood.sum((1, 2, 3)),  # over channels and pixels
            kl_slots=sampled_kl(z, mean, std, prior_mean, prior_std),
        )

    def _infer_masks(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample, mean and std of q(z_k | x, z_<k), each (B, K, D), from images (B, 3, H, W)."""
        networks = self.masks
        features = full_precision(networks.encoder(image))  # (B, F)
        mean, std = posterior_parameters(networks.first(features), offset=self.posterior_offset)  # (B, D)
        means, stds, samples = [mean], [std], [sample_gaussian(mean, std)]
        state = None
        for _ in range(self.slots - 1):  # sequential by its mathematics: each step sees the sample before it
            state = networks.recurrence(torch.cat([features, samples[-1]], dim=1), state)
            mean, std = posterior_parameters(networks.next(state[0]), offset=self.posterior_offset)
            means.append(mean)
            stds.append(std)
            samples.append(sample_gaussian(mean, std))
        return torch.stack(samples, 1), torch.stack(means, 1), torch.stack(stds, 1)

    def loss(self, scene: Scene, output: GenesisSOutput, step: int) -> Losses:
        """Negative log-likelihood + beta * KL, in nats, averaged over the batch.

        Args:
            scene: unused; the likelihood is part of `output`.
            output: what `forward` returned.
            step: counts for the warm-up of the constant weight.
        """
        beta = self.beta * min(1.0, step / self.beta_warmup) if self.beta_warmup else self.beta
        nll = output.nll.mean()
        kl = output.kl_slots.sum(1).mean()  # sum over slots, mean over the batch
        terms = {"nll": nll, "kl": kl, "negative_elbo": nll + kl}
        return Losses(total=nll + beta * kl, terms={name: value.detach() for name, value in terms.items()})

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition:
        """Imagine `n` scenes with `slots` slots each; `noise` (n, K, D) standard normal replaces the draw.

        Call `eval()` before: batch norms must use what they learned.
        """
        check_noise(noise, n, self.slots, self.latent_dim)
        if self.prior is None:
            zeros = self.decoder.first.weight.new_zeros(n, self.slots, self.latent_dim)
            return self.decode(sample_gaussian(zeros, torch.ones_like(zeros), noise))
        return self.decode(self.prior.sample(n, self.slots, noise=noise, tanh_mean=not self.linear_sampling_mean))

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw latents (B, K, D): those of a scene, of several mixed, or of points in between."""
        components, masks = self._decode_components(slots), self.masks.decode(slots)[0].exp()
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=slots)

    def _decode_components(self, z: Tensor) -> Tensor:
        """(B, K, D) -> (B, K, 3, H, W)."""
        drawn = full_precision(self.decoder(z.flatten(0, 1))).unflatten(0, z.shape[:2])
        return drawn.sigmoid() if self.pixel_bound else drawn

    def _prior(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std (B, K, D) of p(z_k | z_<k)."""
        if self.prior is None:
            return torch.zeros_like(z), torch.ones_like(z)
        return self.prior(z)
