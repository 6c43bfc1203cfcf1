"""The background of SPACE (Lin et al. 2020, section 2.2): K components, each with a mask and a picture, as in GENESIS.

Masks come one after the other: an LSTM infers a latent per mask, stick-breaking makes them share every pixel. A
component's latent is inferred from its mask and the image. One component needs no mask and gets a stronger decoder.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.nn.broadcast_decoder import spatial_broadcast
from objectscape.nn.distributions import gaussian_kl, sample_gaussian
from objectscape.nn.grid_objects import celu_block, scaled, upsampling
from objectscape.nn.mixtures import gaussian_log_likelihood, stick_breaking_from_logits
from objectscape.nn.recurrent import LSTMCell

STD_LEAST = 1e-4
MASK_LEAST = 1e-5


class Background(NamedTuple):
    """K components and where they are."""

    components: Tensor
    """(B, K, 3, S, S) in [0, 1]"""
    masks: Tensor
    """(B, K, 1, S, S), summing to 1 over K"""
    latents: Tensor
    """(B, K, Dm + Dc) samples: mask, then component"""
    mask_posterior: tuple[Tensor, Tensor]
    """mean and std (B, K, Dm)"""
    mask_prior: tuple[Tensor, Tensor]
    component_posterior: tuple[Tensor, Tensor]
    """mean and std (B, K, Dc)"""
    component_prior: tuple[Tensor, Tensor]

    @property
    def kl(self) -> Tensor:
        """(B,) of masks and components, in nats."""
        masks = gaussian_kl(*self.mask_posterior, *self.mask_prior).sum((1, 2))
        return masks + gaussian_kl(*self.component_posterior, *self.component_prior).sum((1, 2))


def layered_log_likelihood(
    image: Tensor,
    front: Tensor,
    alpha: Tensor,
    components: Tensor,
    masks: Tensor,
    *,
    front_std: float,
    back_std: float,
) -> Tensor:
    """log p(x) per pixel and channel: the foreground, or else one of the background's components.

    Args:
        image, front: (B, 3, S, S) the image, and the foreground drawn on black.
        alpha: (B, 1, S, S), or a number, probability of the foreground.
        components, masks: (B, K, 3, S, S), (B, K, 1, S, S) the background.
        front_std, back_std: standard deviations of a pixel.

    Returns:
        (B, 3, S, S) nats.
    """
    near = gaussian_log_likelihood(image, front, front_std) + (alpha + MASK_LEAST).log()
    far = gaussian_log_likelihood(image[:, None], components, back_std) + (masks + MASK_LEAST).log()
    return torch.logaddexp(near, far.logsumexp(1) + (1 - alpha + MASK_LEAST).log())


def _encoder(inputs: int, channels: tuple[int, ...], size: int, outputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for count in channels:
        layers += [nn.Conv2d(inputs, count, 3, 2, 1), nn.BatchNorm2d(count), nn.ELU()]
        inputs = count
    return [*layers, nn.Flatten(), nn.Linear(inputs * (size // 16) ** 2, outputs)]


def _gaussian(raw: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = raw.float().chunk(2, -1)
    return mean, F.softplus(std) + STD_LEAST


class _BroadcastDecoder(nn.Module):
    """Component latent (N, D) -> logits (N, 3, S, S): spatial broadcast, four 3x3 convolutions without padding."""

    def __init__(self, *, latent_dim: int, size: int, channels: int) -> None:
        super().__init__()
        self.side = size + 8
        layers: list[nn.Module] = []
        inputs = latent_dim + 2
        for _ in range(4):
            layers += [nn.Conv2d(inputs, channels, 3), nn.BatchNorm2d(channels), nn.ELU()]
            inputs = channels
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 3, 1))

    def forward(self, z: Tensor) -> Tensor:
        tiled = spatial_broadcast(z, self.side)
        return self.layers(torch.cat([tiled[:, :-2], tiled[:, -1:], tiled[:, -2:-1]], 1))  # x before y


class _ShuffleDecoder(nn.Module):
    """Latent (N, D) -> logits (N, C, S, S) by pixel shuffles; S is a multiple of 32."""

    def __init__(self, *, latent_dim: int, size: int, outputs: int, width: int, strong: bool = False) -> None:
        super().__init__()
        w = width
        second, third = ((4, 8 * w, 16), (2, 4 * w, 8)) if strong else ((2, 8 * w, 16), (4, 4 * w, 8))
        stages = [(size // 32, 16 * w, 16), second, third, (4, w, 4)]
        self.layers = nn.Sequential(
            *upsampling(latent_dim, 16 * w, stages, width=w),
            *celu_block(w, w, 3, groups=scaled(4, w), padding=1),
            nn.Conv2d(w, outputs, 3, 1, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])


class MixtureBackground(nn.Module):
    """Infers and draws the background.

    Args:
        size: side S of the images, a multiple of 32 pixels.
        components: K.
        mask_dim: Dm, numbers that describe a mask.
        component_dim: Dc, numbers that describe a component's picture.
        features: numbers that the image encoder hands to the LSTM.
        mask_hidden: of the LSTM that infers masks.
        prior_hidden: of the LSTM of the masks' prior.
        component_hidden: of the network of the components' prior.
        width: base of all numbers of channels; 16 as published.
        static: add a learned picture, the same in every image, to the logits of the components' colors. Not in the
            paper: where the camera stands still it is learned in a hundred steps instead of thousands.

    Raises:
        ValueError: if `size` does not fit.
    """

    def __init__(
        self,
        *,
        size: int,
        components: int,
        mask_dim: int,
        component_dim: int,
        features: int,
        mask_hidden: int,
        prior_hidden: int,
        component_hidden: int,
        width: int,
        static: bool,
    ) -> None:
        super().__init__()
        if size < 32 or size % 32:
            raise ValueError(f"the background is drawn at {size} pixels a side; expected a multiple of 32")
        w = width
        self.size, self.components = size, components
        self.mask_dim, self.component_dim = mask_dim, component_dim
        self.image_encoder = nn.Sequential(*_encoder(3, (4 * w,) * 4, size, features), nn.ELU())
        self.mask_cell = LSTMCell(mask_dim + features, mask_hidden)
        self.mask_hidden, self.mask_memory = (nn.Parameter(torch.zeros(mask_hidden)) for _ in range(2))
        self.mask_start = nn.Parameter(torch.zeros(mask_dim))
        self.mask_head = nn.Linear(mask_hidden, 2 * mask_dim)
        self.mask_decoder = _ShuffleDecoder(latent_dim=mask_dim, size=size, outputs=1, width=w)
        self.component_encoder = nn.Sequential(*_encoder(4, (2 * w, 2 * w, 4 * w, 4 * w), size, 2 * component_dim))
        self.component_decoder: nn.Module = (
            _ShuffleDecoder(latent_dim=component_dim, size=size, outputs=3, width=w, strong=True)
            if components == 1
            else _BroadcastDecoder(latent_dim=component_dim, size=size, channels=2 * w)
        )
        self.prior_cell = LSTMCell(mask_dim, prior_hidden)
        self.prior_hidden, self.prior_memory = (nn.Parameter(torch.zeros(prior_hidden)) for _ in range(2))
        self.prior_head = nn.Linear(prior_hidden, 2 * mask_dim)
        self.component_prior = nn.Sequential(
            nn.Linear(mask_dim, component_hidden),
            nn.ELU(),
            nn.Linear(component_hidden, component_hidden),
            nn.ELU(),
            nn.Linear(component_hidden, 2 * component_dim),
        )
        self.static = nn.Parameter(torch.zeros(3, size, size)) if static else None

    def forward(self, image: Tensor) -> Background:
        """Explain images (B, 3, S, S)."""
        z_mask, mask_posterior = self._infer_masks(image)  # (B, K, Dm)
        masks = self._masks(z_mask)  # (B, K, 1, S, S)
        seen = torch.cat([(masks + MASK_LEAST).log(), image[:, None].expand(-1, self.components, -1, -1, -1)], 2)
        raw = self.component_encoder(seen.flatten(0, 1)).unflatten(0, masks.shape[:2])
        component_posterior = _gaussian(raw)
        z_component = sample_gaussian(*component_posterior)  # (B, K, Dc)
        return Background(
            components=self._components(z_component),
            masks=masks,
            latents=torch.cat([z_mask, z_component], -1),
            mask_posterior=mask_posterior,
            mask_prior=self._mask_prior(z_mask),
            component_posterior=component_posterior,
            component_prior=_gaussian(self.component_prior(z_mask)),
        )

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Components (B, K, 3, S, S) and masks (B, K, 1, S, S) of latents (B, K, Dm + Dc)."""
        z_mask, z_component = latents.split([self.mask_dim, self.component_dim], -1)
        return self._components(z_component), self._masks(z_mask)

    def sample(self, noise: Tensor) -> Tensor:
        """(n, K, Dm + Dc) latents from the prior, made of as many standard normal numbers."""
        state = self._start(self.prior_hidden, self.prior_memory, len(noise))
        for_masks, for_components = noise.split([self.mask_dim, self.component_dim], -1)
        drawn = []
        for part in for_masks.unbind(1):  # autoregressive: each mask depends on those before it
            z = sample_gaussian(*_gaussian(self.prior_head(state[0])), part)
            drawn.append(z)
            state = self.prior_cell(z, state)
        z_mask = torch.stack(drawn, 1)
        return torch.cat([z_mask, sample_gaussian(*_gaussian(self.component_prior(z_mask)), for_components)], -1)

    def _infer_masks(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        features = self.image_encoder(image).float()  # (B, features)
        z = self.mask_start.expand(len(image), -1)
        state = self._start(self.mask_hidden, self.mask_memory, len(image))
        means, stds, samples = [], [], []
        with torch.autocast(image.device.type, enabled=False):
            for _ in range(self.components):  # autoregressive: each mask depends on those before it
                state = self.mask_cell(torch.cat([z, features], 1), state)
                mean, std = _gaussian(self.mask_head(state[0]))
                z = sample_gaussian(mean, std)
                means.append(mean)
                stds.append(std)
                samples.append(z)
        return torch.stack(samples, 1), (torch.stack(means, 1), torch.stack(stds, 1))

    def _mask_prior(self, z_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Prior of each mask given the posterior samples before it."""
        state = self._start(self.prior_hidden, self.prior_memory, len(z_mask))
        hidden = [state[0]]
        with torch.autocast(z_mask.device.type, enabled=False):
            for z in z_mask.unbind(1)[:-1]:
                state = self.prior_cell(z, state)
                hidden.append(state[0])
            return _gaussian(self.prior_head(torch.stack(hidden, 1)))

    def _masks(self, z_mask: Tensor) -> Tensor:
        size = self.size
        if self.components == 1:
            return z_mask.new_ones(len(z_mask), 1, 1, size, size)
        logits = self.mask_decoder(z_mask.flatten(0, 1)).float().unflatten(0, z_mask.shape[:2])
        return stick_breaking_from_logits(logits[:, :-1])[0].exp()  # the last one takes the rest

    def _components(self, z: Tensor) -> Tensor:
        logits = self.component_decoder(z.flatten(0, 1)).float().unflatten(0, z.shape[:2])
        return (logits if self.static is None else logits + self.static).sigmoid()

    @staticmethod
    def _start(hidden: Tensor, memory: Tensor, n: int) -> tuple[Tensor, Tensor]:
        return hidden.expand(n, -1), memory.expand(n, -1)
