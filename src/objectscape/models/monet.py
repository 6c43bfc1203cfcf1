"""MONet (Burgess, Matthey, Watters, Kabra, Higgins, Botvinick, Lerchner 2019, arXiv 1901.11390).

1. Attention: a U-Net sees the image and the log of what is not yet explained (the scope) and takes a fraction of it as
   the mask of a slot; the rest is the scope of the next slot; the last slot takes what is left.
2. A component VAE encodes the image together with each log mask into a latent of its own.
3. Its decoder draws every slot's picture, and its mask, from the latent alone.
4. Loss: negative log-likelihood of a pixelwise Gaussian mixture weighted by the attention masks, plus beta times the
   KL of the latents, plus gamma times the KL between attention masks and decoded masks.

Decisions: the attention is the only part that goes slot by slot, because each step needs the scope that the step before
it left; all slots are encoded in one call and decoded in one call. The defaults are those of "MONet-G", the version
trained with GECO in the GENESIS papers. The original's settings are `pixel_std=0.11, first_pixel_std=0.09` with the
constant weights `beta=0.5, gamma=0.5` (RMSprop 1e-4, batch 64, a million steps); the recipe `monet_burgess` has them.

Deviations: the likelihood is a log-sum-exp (the released GENESIS code, whose re-implementation this follows, overflows
for small standard deviations); the KL of latents is a one-sample estimate as in that code, `analytic_kl=True` is the
paper's closed form; gamma is separate as in the paper (that code has one weight: `gamma=None`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import Model
from objectscape.nn.broadcast_decoder import BroadcastDecoder
from objectscape.nn.component_encoder import ComponentEncoder, mask_and_image
from objectscape.nn.distributions import gaussian_kl, sample_gaussian
from objectscape.nn.initialization import scale_weights
from objectscape.nn.mixtures import (
    full_precision,
    mask_kl,
    mixture_log_likelihood,
    posterior_parameters,
    sampled_kl,
    stick_breaking_from_logits,
)
from objectscape.nn.unet import UNet
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_noise, check_positive
from objectscape.scene import Decomposition, Losses, Scene, record

POSTERIOR_OFFSET = {"released": 0.5, "sharp": -2.5}
"""Added to the raw scale of a posterior before the softplus, by `initialization`."""


@record
class MONetOutput(Decomposition):
    """What MONet makes of a scene. `masks` are those of the attention."""

    log_masks: Tensor
    """(B, K, 1, H, W) log of `masks`."""
    log_scopes: Tensor
    """(B, K, 1, H, W) log of what is unexplained before slot k; 0 for the first."""
    log_decoded_masks: Tensor
    """(B, K, 1, H, W) log of the masks that the component VAE decodes; they sum to 1 over K."""
    posterior_mean: Tensor
    """(B, K, D)"""
    posterior_std: Tensor
    """(B, K, D)"""
    nll: Tensor
    """(B,) negative log-likelihood in nats, summed over pixels and channels."""
    kl_slots: Tensor
    """(B, K) KL of each slot's latent to N(0, 1) in nats; a one-sample estimate can be negative."""
    kl_masks: Tensor
    """(B,) KL(masks || decoded masks) in nats, summed over pixels."""

    @property
    def bound(self) -> dict[str, Tensor]:
        """The likelihood, the KL of the latents, and the KL between both kinds of masks (part of the released code)."""
        return {"nll": self.nll, "kl_slots": self.kl_slots, "kl_masks": self.kl_masks}

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """Those that the component VAE decodes."""
        return {"decoded": self.log_decoded_masks.exp()}


class MONet(Model[Scene, MONetOutput]):
    """MONet. The defaults are those of MONet-G for 64 x 64 images with up to four objects.

    Args:
        image_size: side S of the square images in pixels: 32, 64, 128 or 256.
        slots: K, background included. It may be changed after construction: no weight depends on it.
        latent_dim: D, latents per slot.
        attention_channels: channels of the U-Net's outer blocks.
        encoder_channels: channels of the component encoder's first convolutions.
        decoder_channels: channels of the component decoder.
        decoder_layers: 3 x 3 convolutions of the component decoder.
        mask_decoding: how decoded mask logits become masks: "softmax" over slots, or "stick_breaking" in their order.
        pixel_std: standard deviation of every pixel and channel.
        first_pixel_std: that of the first slot, where it differs; None for the same.
        pixel_bound: a sigmoid on the decoded colors.
        initialization: "released" (PyTorch's), or "sharp" for short trainings (ours): posteriors start with a standard
            deviation near 0.1 in place of 1, and the weights of the component VAE and of the attention's MLP, which
            have no normalization, times 2.45 = sqrt(6), which keeps the variance from ReLU layer to ReLU layer (He et
            al. 2015). As released, latents carry almost no image information at first.
        analytic_kl: closed-form KL of the latents in place of the one-sample estimate.
        beta: weight of the latent KL; GECO sets it before each step.
        gamma: constant weight of the mask KL; None for the weight of the latent KL, whatever it is at the time.

    Raises:
        ValueError: if an option is out of its range.
    """

    def __init__(
        self,
        *,
        image_size: int = 64,
        slots: int = 5,
        latent_dim: int = 16,
        attention_channels: int = 32,
        encoder_channels: int = 32,
        decoder_channels: int = 32,
        decoder_layers: int = 4,
        mask_decoding: Literal["softmax", "stick_breaking"] = "softmax",
        pixel_std: float = 0.7,
        first_pixel_std: float | None = None,
        pixel_bound: bool = True,
        initialization: Literal["released", "sharp"] = "released",
        analytic_kl: bool = False,
        beta: float = 0.5,
        gamma: float | None = None,
    ) -> None:
        super().__init__()
        check_choice("initialization", initialization, tuple(POSTERIOR_OFFSET))
        self.posterior_offset = POSTERIOR_OFFSET[initialization]
        check_choice("mask_decoding", mask_decoding, ("softmax", "stick_breaking"))
        check_positive(pixel_std=pixel_std)
        if first_pixel_std is not None:
            check_positive(first_pixel_std=first_pixel_std)
        if beta < 0 or (gamma is not None and gamma < 0):
            raise ValueError(f"beta={beta}, gamma={gamma}; the weights of the KLs must not be negative")
        self.image_size, self.slots, self.latent_dim = image_size, slots, latent_dim
        self.mask_decoding, self.pixel_bound, self.analytic_kl = mask_decoding, pixel_bound, analytic_kl
        self.pixel_std = pixel_std
        self.first_pixel_std = pixel_std if first_pixel_std is None else first_pixel_std
        self.beta, self.gamma = beta, gamma

        self.attention = UNet(
            in_channels=4, out_channels=1, image_size=image_size, width=attention_channels, norm="instance"
        )
        self.encoder = ComponentEncoder(
            latent_dim=latent_dim, image_size=image_size, hidden_channels=encoder_channels, activation=nn.ReLU
        )
        self.decoder = BroadcastDecoder(
            latent_dim=latent_dim,
            out_channels=4,
            image_size=image_size,
            hidden_channels=decoder_channels,
            layers=decoder_layers,
            activation=nn.ReLU,
        )
        scale_weights(self.encoder, self.decoder, self.attention.mlp, gain=2.45 if initialization == "sharp" else 1.0)

    @property
    def slots(self) -> int:
        """K: how many slots the next `forward` or `sample` uses."""
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        check_at_least(1, slots=slots)
        self._slots = slots

    def forward(self, scene: Scene) -> MONetOutput:
        """Decompose a batch of images (B, 3, S, S)."""
        image = scene.pixels
        check_images(image, self.image_size)
        log_masks, log_scopes = self._attend(image)  # (B, K, 1, H, W) each
        raw = self.encoder(mask_and_image(log_masks, image))  # (B K, 2D)
        raw = raw.unflatten(0, log_masks.shape[:2])
        mean, std = posterior_parameters(raw, offset=self.posterior_offset)  # (B, K, D)
        z = sample_gaussian(mean, std)
        components, log_decoded_masks = self._decode(z)

        if self.analytic_kl:
            kl_slots = gaussian_kl(mean, std).sum(-1)  # (B, K)
        else:
            kl_slots = sampled_kl(z, mean, std, torch.zeros_like(z), torch.ones_like(z))
        pixel_stds = torch.full((self.slots,), self.pixel_std, device=image.device)
        pixel_stds[0] = self.first_pixel_std
        masks = log_masks.exp()
        return MONetOutput(
            recon=(masks * components).sum(1),
            masks=masks,
            components=components,
            slots=z,
            log_masks=log_masks,
            log_scopes=log_scopes,
            log_decoded_masks=log_decoded_masks,
            posterior_mean=mean,
            posterior_std=std,
            nll=-mixture_log_likelihood(image, components, log_masks, pixel_stds).sum((1, 2, 3)),
            kl_slots=kl_slots,
            kl_masks=mask_kl(log_masks, log_decoded_masks),
        )

    def loss(self, scene: Scene, output: MONetOutput, step: int) -> Losses:
        """Negative log-likelihood + beta * latent KL + gamma * mask KL, in nats, averaged over the batch.

        Args:
            scene: unused; the likelihood is part of `output`.
            output: what `forward` returned.
            step: unused; the objective does not change.
        """
        nll = output.nll.mean()
        kl_slots = output.kl_slots.sum(1).mean()  # sum over slots, mean over the batch
        kl_masks = output.kl_masks.mean()
        gamma = self.beta if self.gamma is None else self.gamma
        total = nll + self.beta * kl_slots + gamma * kl_masks
        kl = kl_slots + kl_masks
        terms = {"nll": nll, "kl": kl, "kl_slots": kl_slots, "kl_masks": kl_masks, "negative_elbo": nll + kl}
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition:
        """Imagine `n` scenes: independent latents, so the slots of a scene know nothing of each other.

        Args:
            n: number of scenes.
            noise: (n, K, D) standard normal numbers, instead of a draw.
        """
        check_noise(noise, n, self.slots, self.latent_dim)
        zeros = next(self.parameters()).new_zeros(n, self.slots, self.latent_dim)
        return self.decode(sample_gaussian(zeros, torch.ones_like(zeros), noise))

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw latents (B, K, D), masks included: those of a scene, of several mixed, or of points in between."""
        components, log_masks = self._decode(slots)
        masks = log_masks.exp()
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=slots)

    def _attend(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Log masks and log scopes, both (B, K, 1, H, W)."""
        logits = []
        log_scope = torch.zeros_like(image[:, :1])  # (B, 1, H, W)
        for _ in range(self.slots - 1):
            logit = full_precision(self.attention(torch.cat((image, log_scope), 1)))  # (B, 1, H, W)
            logits.append(logit)
            log_scope = log_scope + F.logsigmoid(-logit)
        stacked = torch.stack(logits, 1) if logits else image.new_zeros(len(image), 0, 1, *image.shape[2:])
        return stick_breaking_from_logits(stacked)

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, K, D) -> pictures (B, K, 3, H, W) and log masks (B, K, 1, H, W)."""
        drawn = full_precision(self.decoder(z.flatten(0, 1))).unflatten(0, z.shape[:2])  # (B, K, 4, H, W)
        colors, logits = drawn.split((3, 1), 2)
        if self.mask_decoding == "softmax":
            log_masks = logits.log_softmax(1)
        else:
            log_masks, _ = stick_breaking_from_logits(logits[:, :-1])
        return colors.sigmoid() if self.pixel_bound else colors, log_masks
