"""GENESIS-V2 (Engelcke, Parker Jones, Posner 2021, arXiv 2104.09958): instance coloring, then a scene prior over slots.

1. A U-Net gives every pixel features; a head turns them into an embedding, which starts as the pixel's position.
2. IC-SBP: a seed pixel is drawn among those not yet explained, pixels with an embedding like the seed's form a mask,
   and so on; what is left is the last mask. No slot has weights of its own.
3. Each mask pools the features of its pixels into a Gaussian posterior over a slot's latent z_k.
4. One decoder draws every slot's picture and mask logit; masks are normalized over slots by a softmax.
5. An LSTM is the prior p(z_k | z_1..k-1): scenes can be imagined slot by slot.

The loss is the negative log-likelihood of a pixelwise Gaussian mixture plus beta times the KL of the slots; training
as published sets beta by GECO (`objectscape.training.geco`).

Decisions: the likelihood uses the decoder's masks, as in the released code; `masks` are these, `attention_masks` those
of step 2. All slots are decoded in one call; only IC-SBP and the imagination of latents go slot by slot.

Deviations from the released code: the mixture is a log-sum-exp; sides above 128 pixels work; with `dynamic_slots` a
slot that an image does not use takes no part in masks and KL, so that a result does not depend on the rest of the
batch, and a single remaining slot is not an error. `padded_slots_compete=True` brings back what was released.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from objectscape.contract import Model
from objectscape.nn.broadcast_decoder import spatial_broadcast
from objectscape.nn.distributions import sample_gaussian
from objectscape.nn.instance_coloring import LOG_ABSENT, InstanceColoring, SemiConvolution, coordinates
from objectscape.nn.latent_prior import AutoregressivePrior
from objectscape.nn.mixtures import full_precision, mask_kl, mixture_log_likelihood, posterior_parameters, sampled_kl
from objectscape.nn.unet import GROUPS, UNet
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_noise, check_positive
from objectscape.scene import Decomposition, Losses, Scene, record

EMBEDDING = 8
"""Channels of the pixel embedding."""
FEATURE_SHARE = 1 / 400
"""Weight of the features beside place and color, with `pool_input`, when training starts."""

POSTERIOR_OFFSET = {"released": 0.5, "sharp": -2.5}
"""Added to the raw scale of a posterior before the softplus, by `initialization`."""


@record
class GenesisV2Output(Decomposition):
    """What GENESIS-V2 makes of a scene. `masks` are the decoder's; `present` is 1 where an image uses a slot."""

    attention_masks: Tensor
    """(B, K, 1, H, W) masks of IC-SBP, summing to 1 over K."""
    log_attention_masks: Tensor
    """(B, K, 1, H, W) their log; -1e10 where a slot is not used."""
    log_scopes: Tensor
    """(B, K, 1, H, W) log of what is unexplained before slot k."""
    seeds: Tensor
    """(B, K-1) int64 row-major index of each seed pixel; -1 after an image has stopped."""
    log_masks: Tensor
    """(B, K, 1, H, W) log of `masks`."""
    posterior_mean: Tensor
    """(B, K, D)"""
    posterior_std: Tensor
    """(B, K, D)"""
    prior_mean: Tensor
    """(B, K, D) of p(z_k | z_1..k-1)."""
    prior_std: Tensor
    """(B, K, D)"""
    nll: Tensor
    """(B,) negative log-likelihood in nats, summed over pixels and channels."""
    kl_slots: Tensor
    """(B, K) one-sample estimate of each slot's KL in nats; it can be negative."""
    kl_masks: Tensor
    """(B,) KL(attention masks || masks) in nats, summed over pixels; 0 without `mask_kl`."""

    @property
    def bound(self) -> dict[str, Tensor]:
        """The likelihood, the KL of the latents, and the KL between both kinds of masks (part of the released code)."""
        return {"nll": self.nll, "kl_slots": self.kl_slots, "kl_masks": self.kl_masks}

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """Those of IC-SBP."""
        return {"attention": self.attention_masks}


class GenesisV2(Model[Scene, GenesisV2Output]):
    """GENESIS-V2. The defaults are the paper's, for 64 x 64 images with up to six objects.

    Args:
        image_size: side S of the square images in pixels: 32, 64, 128 or 256.
        slots: K, background included. It may be changed after construction; only the kernel's initial width knows it.
        width: D, features per pixel and latents per slot; a multiple of 8, at most 64.
        kernel: how membership falls with the distance from the seed.
        semiconv: whether pixel embeddings are semi-convolutional (position plus a gated convolution); else they are
            a 1 x 1 convolution of the features.
        dynamic_slots: stop before a slot whose attention mask sums to less than `min_pixels`, image by image.
        min_pixels: see `dynamic_slots`; an absolute number of pixels, whatever the image size.
        padded_slots_compete: as released, a slot that an image does not use is decoded nevertheless, takes part in the
            softmax of the masks, and pays its KL. Only to reproduce results with `dynamic_slots` and batches above 1.
        autoregressive_prior: the LSTM prior; else N(0, 1) for every slot.
        mask_kl: whether the auxiliary KL between attention masks and decoded masks is part of the loss.
        detach_masks: no gradient of that KL into the decoded masks.
        pixel_std: standard deviation sigma of every pixel and channel.
        pixel_bound: a sigmoid on the decoded colors.
        initialization: "released", or "sharp" for short trainings (ours): posteriors start with a standard deviation
            near 0.1 in place of 1, so that the image is seen through the noise from the first step.
        pool_input: a mask pools row, column and color (in standard deviations of the image) beside the features, which
            count for little at first. Not in the paper, where a slot sees only features: there all slots learn to read
            the whole scene from the U-Net's bottleneck, and draw all of it, long before each has a piece of its own.
        beta: weight of both KLs; GECO sets it before each step.

    Raises:
        ValueError: if an option is out of its range.
    """

    def __init__(
        self,
        *,
        image_size: int = 64,
        slots: int = 7,
        width: int = 64,
        kernel: Literal["gaussian", "laplacian", "epanechnikov"] = "gaussian",
        semiconv: bool = True,
        dynamic_slots: bool = False,
        min_pixels: float = 20.0,
        padded_slots_compete: bool = False,
        autoregressive_prior: bool = True,
        mask_kl: bool = False,
        detach_masks: bool = True,
        pixel_std: float = 0.7,
        pixel_bound: bool = True,
        initialization: Literal["released", "sharp"] = "released",
        pool_input: bool = False,
        beta: float = 0.5,
    ) -> None:
        super().__init__()
        check_choice("initialization", initialization, tuple(POSTERIOR_OFFSET))
        self.posterior_offset = POSTERIOR_OFFSET[initialization]
        check_positive(pixel_std=pixel_std)
        if not 8 <= width <= 64 or width % GROUPS:
            raise ValueError(f"width={width}; must be a multiple of {GROUPS} from 8 to 64 (group normalization)")
        if beta < 0 or min_pixels < 0:
            raise ValueError(f"beta={beta}, min_pixels={min_pixels}; neither may be negative")
        self.image_size, self.slots, self.width = image_size, slots, width
        self.dynamic_slots, self.min_pixels = dynamic_slots, min_pixels
        self.padded_slots_compete = padded_slots_compete
        self.mask_kl, self.detach_masks = mask_kl, detach_masks
        self.pixel_std, self.pixel_bound, self.beta = pixel_std, pixel_bound, beta
        self.pool_input = pool_input

        self.encoder = UNet(in_channels=3, out_channels=None, image_size=image_size, width=width, norm="group")
        self.segmentation_head = _head(width)
        self.embedding = (
            SemiConvolution(inputs=width, outputs=EMBEDDING) if semiconv else nn.Conv2d(width, EMBEDDING, 1)
        )
        self.coloring = InstanceColoring(slots=slots, kernel=kernel)
        self.feature_head = nn.Sequential(_head(width), nn.Conv2d(width, 2 * width, 1))
        pooled = 2 * width + (5 if pool_input else 0)
        self.posterior = nn.Sequential(
            nn.LayerNorm(pooled), nn.Linear(pooled, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2 * width)
        )
        self.decoder = _Decoder(width, image_size)
        self.prior = AutoregressivePrior(latent_dim=width, hidden_dim=4 * width) if autoregressive_prior else None

    @property
    def slots(self) -> int:
        """K: how many slots the next `forward` or `sample` uses."""
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        check_at_least(1, slots=slots)
        self._slots = slots

    def forward(self, scene: Scene, *, seed_noise: Tensor | None = None) -> GenesisV2Output:
        """Decompose a batch.

        Args:
            scene: images of the constructor's size.
            seed_noise: (B, 1, H, W) numbers in [0, 1) that pick the seed pixels, instead of a draw.
        """
        image = scene.pixels  # (B, 3, H, W)
        check_images(image, self.image_size)
        features = self.encoder(image)  # (B, D, H, W)
        embedding = self.embedding(self.segmentation_head(features))
        if isinstance(embedding, tuple):
            embedding = embedding[0]  # (B, 8, H, W)
        coloring = self.coloring(
            embedding,
            slots=self.slots,
            noise=seed_noise,
            min_pixels=self.min_pixels if self.dynamic_slots else 0.0,
        )
        order = torch.arange(self.slots, device=image.device)
        present = order < coloring.counts[:, None]  # (B, K) bool
        attention_masks = coloring.log_masks.exp()  # (B, K, H, W)
        slot_features = self.feature_head(features)  # (B, 2D, H, W)
        if self.pool_input:
            place = coordinates(self.image_size, self.image_size, image).expand(len(image), -1, -1, -1)
            std, mean = torch.std_mean(image, (2, 3), keepdim=True)
            color = (image - mean) / std.mean(1, keepdim=True).clamp_min(0.01)
            seen = full_precision(slot_features) * FEATURE_SHARE
            slot_features = torch.cat([seen, place, color / 2], 1)  # (B, 2D + 5, H, W)
        with torch.autocast(image.device.type, enabled=False):  # a mean over thousands of pixels
            pooled = torch.einsum("bkhw,bdhw->bkd", attention_masks, full_precision(slot_features))
            pooled = pooled / (attention_masks.sum((2, 3)).unsqueeze(2) + 1e-5)  # (B, K, 2D)
        mean, std = posterior_parameters(self.posterior(pooled), offset=self.posterior_offset)  # (B, K, D)
        z = sample_gaussian(mean, std)

        counted = torch.ones_like(present) if self.padded_slots_compete else present
        components, log_masks = self._decode(z, counted)
        masks = log_masks.exp()
        prior_mean, prior_std = self._prior(z)
        kl_slots = sampled_kl(z, mean, std, prior_mean, prior_std)  # (B, K)
        log_attention = coloring.log_masks.unsqueeze(2)  # (B, K, 1, H, W)
        kl_masks = image.new_zeros(len(image))
        if self.mask_kl:
            kl_masks = mask_kl(log_attention, log_masks.detach() if self.detach_masks else log_masks, present=counted)
        return GenesisV2Output(
            recon=(masks * components).sum(1),
            masks=masks,
            components=components,
            slots=z * counted.unsqueeze(-1),
            present=present.to(z.dtype),
            attention_masks=attention_masks.unsqueeze(2),
            log_attention_masks=log_attention,
            log_scopes=coloring.log_scopes.unsqueeze(2),
            seeds=coloring.seeds,
            log_masks=log_masks,
            posterior_mean=mean,
            posterior_std=std,
            prior_mean=prior_mean,
            prior_std=prior_std,
            nll=-mixture_log_likelihood(image, components, log_masks, self.pixel_std).sum((1, 2, 3)),
            kl_slots=kl_slots * counted,
            kl_masks=kl_masks,
        )

    def loss(self, scene: Scene, output: GenesisV2Output, step: int) -> Losses:
        """Negative log-likelihood + beta * (slot KL + mask KL), in nats, averaged over the batch.

        Args:
            scene: unused; the likelihood is part of `output`.
            output: what `forward` returned.
            step: unused; the objective does not change.
        """
        nll = output.nll.mean()
        kl_slots = output.kl_slots.sum(1).mean()  # sum over slots, mean over the batch
        kl_masks = output.kl_masks.mean()
        total = nll + self.beta * (kl_slots + kl_masks)
        kl = kl_slots + kl_masks
        terms = {"nll": nll, "kl": kl, "kl_slots": kl_slots, "kl_masks": kl_masks, "negative_elbo": nll + kl}
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition:
        """Imagine `n` scenes with `slots` slots each.

        Args:
            n: number of scenes.
            noise: (n, K, D) standard normal numbers, instead of a draw.
        """
        check_noise(noise, n, self.slots, self.width)
        if self.prior is not None:
            return self.decode(self.prior.sample(n, self.slots, noise=noise))
        zeros = self.coloring.log_sigma.new_zeros(n, self.slots, self.width)
        return self.decode(sample_gaussian(zeros, torch.ones_like(zeros), noise))

    def decode(self, slots: Tensor, *, present: Tensor | None = None) -> Decomposition:
        """Draw latents: those of a scene, of several mixed, or of points in between.

        Args:
            slots: (B, K, D)
            present: (B, K), zero for slots to leave out; None draws all.
        """
        drawn = torch.ones(slots.shape[:2], dtype=torch.bool, device=slots.device) if present is None else present > 0
        components, log_masks = self._decode(slots, drawn)
        masks = log_masks.exp()
        return Decomposition(
            recon=(masks * components).sum(1), masks=masks, components=components, slots=slots, present=present
        )

    def _decode(self, z: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, K, D) -> pictures (B, K, 3, H, W) and log masks (B, K, 1, H, W) of `counted` (B, K) slots."""
        drawn = full_precision(self.decoder(z.flatten(0, 1))).unflatten(0, z.shape[:2])  # (B, K, 4, H, W)
        colors, logits = drawn.split((3, 1), 2)
        logits = logits.masked_fill(~counted[:, :, None, None, None], LOG_ABSENT)
        return colors.sigmoid() if self.pixel_bound else colors, logits.log_softmax(1)

    def _prior(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if self.prior is None:
            return torch.zeros_like(z), torch.ones_like(z)
        return self.prior(z)


class _Decoder(nn.Module):
    """A latent at every place of a small grid, with coordinates, then four transposed convolutions that double it."""

    def __init__(self, width: int, image_size: int) -> None:
        super().__init__()
        self.side = image_size // 16
        layers: list[nn.Module] = []
        for before in (width + 2, width, width, width):
            layers += [
                nn.ConvTranspose2d(before, width, 5, stride=2, padding=2, output_padding=1),
                nn.GroupNorm(GROUPS, width),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 4, 1))

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> (B, 4, H, W): colors before their bound, mask logit."""
        return self.layers(spatial_broadcast(z, self.side))


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, width), nn.ReLU())
