"""GENESIS (Engelcke, Kosiorek, Parker Jones, Posner, ICLR 2020, arXiv 1907.13052): scenes from an autoregressive prior.

1. A recurrent posterior q(z^m_k | x, z^m_<k) reads the image and says, slot after slot, which region comes next.
2. All mask latents are decoded at once; stick-breaking turns the logits into masks that sum to one.
3. A component encoder sees each slot's log mask and the image: q(z^c_k | x, m_k); a component decoder redraws the slot.
4. The prior is a scene model: p(z^m_k | z^m_<k) by an LSTM, p(z^c_k | z^m_k) by an MLP; both are trained with the rest.
5. The image is a pixelwise Gaussian mixture of the slots. The loss is its negative log-likelihood plus beta times the
   KL of both kinds of latents; as published, beta is steered by GECO (`objectscape.training.geco`).

Decisions: all slots are decoded in one call; only the two recursions over mask latents are loops. KLs are one-sample
estimates, as published. GENESIS-S, which has no component latents, is its own model (`genesis_s.py`). A model built
with one slot has no mask latents: it is a VAE with a broadcast decoder, as in the released code.

Deviations from the released code: the mixture is a log-sum-exp; imagining uses the tanh of the prior mean that training
uses (`linear_sampling_mean=True` brings back the released sampler, which forgot it and made the published samples);
`autoregressive_prior=False` works; a one-slot model can sample; gated components work at 128 and 256 pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from objectscape.contract import Model
from objectscape.nn.broadcast_decoder import BroadcastDecoder
from objectscape.nn.component_encoder import ComponentEncoder, mask_and_image
from objectscape.nn.distributions import sample_gaussian
from objectscape.nn.gated_conv import NORMS, GatedDecoder, GatedEncoder
from objectscape.nn.latent_masks import LatentMasks
from objectscape.nn.latent_prior import AutoregressivePrior
from objectscape.nn.mixtures import (
    full_precision,
    mixture_log_likelihood,
    posterior_parameters,
    prior_parameters,
    sampled_kl,
)
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_noise, check_positive
from objectscape.scene import Decomposition, Losses, Scene, record

PRIOR_WIDTH = 256
"""Width of the prior LSTM and of the component prior's MLP."""

POSTERIOR_OFFSET = {"released": 0.5, "sharp": -2.5}
"""Added to the raw scale of a posterior before the softplus, by `initialization`."""


@record
class GenesisOutput(Decomposition):
    """What GENESIS infers from a scene. `slots` holds [z^m | z^c]: D = D_m + D_c, with D_m = 0 for a single slot."""

    log_masks: Tensor
    """(B, K, 1, H, W) log of `masks`."""
    log_scopes: Tensor
    """(B, K, 1, H, W) log of what the slots before k have left over."""
    mask_mean: Tensor
    """(B, K, D_m) of q(z^m_k | x, z^m_<k)."""
    mask_std: Tensor
    """(B, K, D_m)"""
    mask_prior_mean: Tensor
    """(B, K, D_m) of p(z^m_k | z^m_<k)."""
    mask_prior_std: Tensor
    """(B, K, D_m)"""
    component_mean: Tensor
    """(B, K, D_c) of q(z^c_k | x, m_k)."""
    component_std: Tensor
    """(B, K, D_c)"""
    component_prior_mean: Tensor
    """(B, K, D_c) of p(z^c_k | z^m_k)."""
    component_prior_std: Tensor
    """(B, K, D_c)"""
    nll: Tensor
    """(B,) negative log-likelihood in nats, summed over pixels and channels."""
    kl_mask_latents: Tensor
    """(B, K) one-sample estimate of the mask latent's KL in nats; it can be negative."""
    kl_component_latents: Tensor
    """(B, K) the same for the component latent."""

    @property
    def bound(self) -> dict[str, Tensor]:
        """The likelihood and both KLs."""
        return {
            "nll": self.nll,
            "kl_mask_latents": self.kl_mask_latents,
            "kl_component_latents": self.kl_component_latents,
        }


class Genesis(Model[Scene, GenesisOutput]):
    """GENESIS. The defaults are the paper's for Multi-dSprites (64 x 64 images, 5 slots).

    Args:
        image_size: side S of the square images in pixels: 32, 64, 128 or 256.
        slots: K, background included. It may be changed after construction, but a model built with one slot keeps one.
        mask_latent_dim: D_m.
        component_latent_dim: D_c: the narrower, the stronger the reconstruction bottleneck of each slot.
        encoder_norm: "batch", "instance" or "none", in the gated encoders.
        decoder_norm: the same, in the gated decoders.
        component_network: "broadcast" (convolutional encoder, broadcast decoder) or "gated" (the architecture of the
            mask network for both: a far stronger decoder, from the reconstruction-bottleneck study, arXiv 2007.06245).
        core_channels: of the outer convolutions of the mask network; the inner ones have twice as many.
        encoder_channels: of the component encoder's first layers ("broadcast" only).
        decoder_channels: of the component decoder ("broadcast" only).
        decoder_layers: 3 x 3 convolutions of the component decoder ("broadcast" only).
        autoregressive_prior: the LSTM prior over mask latents; else N(0, 1).
        component_prior: the MLP prior of the component latent given the mask latent; else N(0, 1).
        pixel_std: standard deviation of every pixel and channel.
        first_pixel_std: that of the first slot; None is `pixel_std`.
        pixel_bound: a sigmoid on the decoded colors.
        initialization: "released", or "sharp" for short trainings (ours): posteriors start with a standard deviation
            near 0.1 in place of 1, so that the image is seen through the noise from the first step.
        linear_sampling_mean: imagine without the tanh of the prior mean, as the released code did; off for a sampler
            that follows the trained density.
        beta: weight of both KLs; GECO sets it before each step.
        beta_warmup: optimizer steps over which the constant weight rises linearly from 0; 0 is none.

    Raises:
        ValueError: if an option is out of its range.
    """

    def __init__(
        self,
        *,
        image_size: int = 64,
        slots: int = 5,
        mask_latent_dim: int = 64,
        component_latent_dim: int = 16,
        encoder_norm: Literal["batch", "instance", "none"] = "batch",
        decoder_norm: Literal["batch", "instance", "none"] = "batch",
        component_network: Literal["broadcast", "gated"] = "broadcast",
        core_channels: int = 32,
        encoder_channels: int = 32,
        decoder_channels: int = 32,
        decoder_layers: int = 4,
        autoregressive_prior: bool = True,
        component_prior: bool = True,
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
        check_at_least(1, slots=slots, mask_latent_dim=mask_latent_dim, component_latent_dim=component_latent_dim)
        check_at_least(0, beta_warmup=beta_warmup)
        first_pixel_std = pixel_std if first_pixel_std is None else first_pixel_std
        check_positive(pixel_std=pixel_std, first_pixel_std=first_pixel_std)
        check_choice("encoder_norm", encoder_norm, NORMS)
        check_choice("decoder_norm", decoder_norm, NORMS)
        check_choice("component_network", component_network, ("broadcast", "gated"))
        self.image_size = image_size
        self.pixel_std, self.first_pixel_std, self.pixel_bound = pixel_std, first_pixel_std, pixel_bound
        self.linear_sampling_mean = linear_sampling_mean
        self.beta, self.beta_warmup = beta, beta_warmup
        self.component_latent_dim = component_latent_dim
        self.mask_latent_dim = mask_latent_dim if slots > 1 else 0
        self._slots = slots

        self.masks: LatentMasks | None = None
        self.mask_prior: AutoregressivePrior | None = None
        self.component_prior: nn.Sequential | None = None
        if slots > 1:
            self.masks = LatentMasks(
                image_size=image_size,
                latent_dim=mask_latent_dim,
                encoder_norm=encoder_norm,
                decoder_norm=decoder_norm,
                channels=core_channels,
            )
            if autoregressive_prior:
                self.mask_prior = AutoregressivePrior(latent_dim=mask_latent_dim, hidden_dim=PRIOR_WIDTH)
            if component_prior:
                self.component_prior = nn.Sequential(
                    nn.Linear(mask_latent_dim, PRIOR_WIDTH),
                    nn.ELU(),
                    nn.Linear(PRIOR_WIDTH, PRIOR_WIDTH),
                    nn.ELU(),
                    nn.Linear(PRIOR_WIDTH, 2 * component_latent_dim),
                )
        self.component_encoder: nn.Module
        self.component_decoder: nn.Module
        if component_network == "gated":
            self.component_encoder = GatedEncoder(
                image_size=image_size, in_channels=4, out_features=2 * component_latent_dim, norm=encoder_norm
            )
            self.component_decoder = GatedDecoder(
                image_size=image_size, latent_dim=component_latent_dim, out_channels=3, norm=decoder_norm
            )
        else:
            self.component_encoder = ComponentEncoder(
                latent_dim=component_latent_dim, image_size=image_size, hidden_channels=encoder_channels
            )
            self.component_decoder = BroadcastDecoder(
                latent_dim=component_latent_dim,
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
        check_at_least(1, slots=slots)
        if slots > 1 and self.masks is None:
            raise ValueError(
                f"slots={slots}: this model was built with one slot and has no mask latents; build another"
            )
        self._slots = slots

    def forward(self, scene: Scene) -> GenesisOutput:
        """Decompose a batch of images of the constructor's size."""
        image = scene.pixels  # (B, 3, H, W)
        check_images(image, self.image_size)
        if self.masks is None:
            mask_z = mask_mean = mask_std = image.new_zeros(len(image), self.slots, 0)
        else:
            mask_z, mask_mean, mask_std = self._infer_masks(image)  # (B, K, D_m)
        log_masks, log_scopes = self._decode_masks(mask_z)  # (B, K, 1, H, W)

        raw = self.component_encoder(mask_and_image(log_masks, image))  # (B * K, 2 * D_c)
        raw = raw.unflatten(0, mask_z.shape[:2])
        component_mean, component_std = posterior_parameters(raw, offset=self.posterior_offset)  # (B, K, D_c)
        component_z = sample_gaussian(component_mean, component_std)
        components = self._decode_components(component_z)  # (B, K, 3, H, W)

        mask_prior_mean, mask_prior_std = self._mask_prior(mask_z)
        component_prior_mean, component_prior_std = self._component_prior(mask_z)
        std = image.new_full((self.slots,), self.pixel_std)
        std[0] = self.first_pixel_std
        masks = log_masks.exp()
        return GenesisOutput(
            recon=(masks * components).sum(1),
            masks=masks,
            components=components,
            slots=torch.cat([mask_z, component_z], -1),
            log_masks=log_masks,
            log_scopes=log_scopes,
            mask_mean=mask_mean,
            mask_std=mask_std,
            mask_prior_mean=mask_prior_mean,
            mask_prior_std=mask_prior_std,
            component_mean=component_mean,
            component_std=component_std,
            component_prior_mean=component_prior_mean,
            component_prior_std=component_prior_std,
            nll=-mixture_log_likelihood(image, components, log_masks, std).sum((1, 2, 3)),  # over channels and pixels
            kl_mask_latents=sampled_kl(mask_z, mask_mean, mask_std, mask_prior_mean, mask_prior_std),
            kl_component_latents=sampled_kl(
                component_z, component_mean, component_std, component_prior_mean, component_prior_std
            ),
        )

    def _infer_masks(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample, mean and std of q(z^m_k | x, z^m_<k), each (B, K, D_m), from images (B, 3, H, W)."""
        networks = self.masks
        assert networks is not None
        features = full_precision(networks.encoder(image))  # (B, F)
        mean, std = posterior_parameters(networks.first(features), offset=self.posterior_offset)  # (B, D_m)
        means, stds, samples = [mean], [std], [sample_gaussian(mean, std)]
        state = None
        for _ in range(self.slots - 1):  # sequential by its mathematics: each step sees the sample before it
            state = networks.recurrence(torch.cat([features, samples[-1]], dim=1), state)
            mean, std = posterior_parameters(networks.next(state[0]), offset=self.posterior_offset)
            means.append(mean)
            stds.append(std)
            samples.append(sample_gaussian(mean, std))
        return torch.stack(samples, 1), torch.stack(means, 1), torch.stack(stds, 1)

    def loss(self, scene: Scene, output: GenesisOutput, step: int) -> Losses:
        """Negative log-likelihood + beta * (mask KL + component KL), in nats, averaged over the batch.

        Args:
            scene: unused; the likelihood is part of `output`.
            output: what `forward` returned.
            step: counts for the warm-up of the constant weight.
        """
        beta = self.beta * min(1.0, step / self.beta_warmup) if self.beta_warmup else self.beta
        nll = output.nll.mean()
        kl_mask = output.kl_mask_latents.sum(1).mean()  # sum over slots, mean over the batch
        kl_component = output.kl_component_latents.sum(1).mean()
        kl = kl_mask + kl_component
        terms = {
            "nll": nll,
            "kl": kl,
            "kl_mask_latents": kl_mask,
            "kl_component_latents": kl_component,
            "negative_elbo": nll + kl,
        }
        return Losses(total=nll + beta * kl, terms={name: value.detach() for name, value in terms.items()})

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition:
        """Imagine `n` scenes with `slots` slots each. Call `eval()` before: batch norms must use what they learned.

        Args:
            n: number of scenes.
            noise: (n, K, D_m + D_c) standard normal numbers instead of a draw.
        """
        check_noise(noise, n, self.slots, self.mask_latent_dim + self.component_latent_dim)
        noise_m, noise_c = (
            (None, None) if noise is None else noise.split([self.mask_latent_dim, self.component_latent_dim], dim=-1)
        )
        zeros = next(self.parameters()).new_zeros(n, self.slots, self.mask_latent_dim)
        if self.mask_prior is None:
            mask_z = sample_gaussian(zeros, torch.ones_like(zeros), noise_m)
        else:
            mask_z = self.mask_prior.sample(n, self.slots, noise=noise_m, tanh_mean=not self.linear_sampling_mean)
        return self.decode(torch.cat([mask_z, sample_gaussian(*self._component_prior(mask_z), noise_c)], -1))

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw latents (B, K, D_m + D_c): those of a scene, of several mixed, or of points in between."""
        mask_z, component_z = slots.split([self.mask_latent_dim, self.component_latent_dim], dim=-1)
        log_masks, _ = self._decode_masks(mask_z)
        components = self._decode_components(component_z)
        masks = log_masks.exp()
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=slots)

    def _decode_masks(self, mask_z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, D_m) -> log masks and log scopes (B, K, 1, H, W)."""
        if self.masks is None:
            whole = mask_z.new_zeros(*mask_z.shape[:2], 1, self.image_size, self.image_size)
            return whole, whole
        return self.masks.decode(mask_z)

    def _decode_components(self, component_z: Tensor) -> Tensor:
        """(B, K, D_c) -> (B, K, 3, H, W)."""
        drawn = full_precision(self.component_decoder(component_z.flatten(0, 1))).unflatten(0, component_z.shape[:2])
        return drawn.sigmoid() if self.pixel_bound else drawn

    def _mask_prior(self, mask_z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std (B, K, D_m) of p(z^m_k | z^m_<k)."""
        if self.mask_prior is None:
            return torch.zeros_like(mask_z), torch.ones_like(mask_z)
        return self.mask_prior(mask_z)

    def _component_prior(self, mask_z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std (B, K, D_c) of p(z^c_k | z^m_k)."""
        if self.component_prior is None:
            zeros = mask_z.new_zeros(*mask_z.shape[:2], self.component_latent_dim)
            return zeros, torch.ones_like(zeros)
        return prior_parameters(self.component_prior(mask_z))
