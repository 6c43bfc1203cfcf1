"""The training steps of the released codes, written anew from their descriptions: what `originals` compares with.

Each port has the layers of the original, computed as it computes them: vectors are tiled over the whole image before
the first convolution of a decoder, transposed convolutions and full-size kernels are what they are called, likelihoods
are exponentiated, summed, and their logarithm taken, EfficientMORL keeps a graph of second order while it trains,
GENESIS-V2 computes its feature head anew for every slot. Parameters come in the order of our models', so that `same`
can give a port our weights and compare the losses.

Sources of the descriptions: the papers, and the released codes' behavior (GENESIS, MONet, GENESIS-V2 and VAE:
applied-ai-lab/genesis; EfficientMORL: pemami4911/EfficientMORL; Slot Attention: google-research/slot_attention).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from objectscape.nn.distributions import sample_gaussian, sample_uniform

STD = 0.7
"""Of pixels, in the GENESIS family."""


class Port(nn.Module):
    """An original: `forward(image, noise)` returns the loss () and the redrawn image (B, 3, H, W)."""

    needs_gradients = False
    """Whether it cannot be evaluated under `torch.no_grad`."""


def draw(mean: Tensor, std: Tensor) -> Tensor:
    """A reparameterized draw. It is the library's, because `same` takes the noise away."""
    return sample_gaussian(mean, std)


def grid(height: int, width: int) -> Tensor:
    """(H, W, 4) ramps."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([rows, columns, 1 - rows, 1 - columns], -1)


def convolutions(
    widths: Sequence[int], kernel: int, padding: int, activation: Callable[[], nn.Module]
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, kernel, padding=padding), activation()]
    return layers


class TokenEncoder(nn.Module):
    """Four convolutions, positions, an MLP on every pixel."""

    def __init__(self, side: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.convs = nn.Sequential(*convolutions([3, width, width, width, width], 5, 2, nn.ReLU))
        self.position = nn.Linear(4, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width, eps=epsilon), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.register_buffer("grid", grid(side, side), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        features = self.convs(2 * image - 1).permute(0, 2, 3, 1)
        return self.mlp((features + self.position(self.get_buffer("grid"))).flatten(1, 2))


class TiledDecoder(nn.Module):
    """Tile, add positions, convolve."""

    def __init__(self, kind: str, side: int, size: int) -> None:
        super().__init__()
        margin = {"broadcast": 0, "small": 6, "iodine": 10}[kind]
        self.position = nn.Linear(4, size)
        if kind == "iodine":
            layers = convolutions([size, 64, 64, 64, 64], 3, 0, lambda: nn.ELU(inplace=True))
            self.layers = nn.Sequential(*layers, nn.Conv2d(64, 4, 3))
        else:
            layers = convolutions([size, 32, 32, 32], 5, 2 if kind == "broadcast" else 1, nn.ReLU)
            self.layers = nn.Sequential(*layers, nn.Conv2d(32, 4, 3, padding=1))
        self.register_buffer("grid", grid(side + margin, side + margin), persistent=False)

    def forward(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        ramps = self.get_buffer("grid")
        tiled = slots.flatten(0, 1)[:, None, None].repeat(1, *ramps.shape[:2], 1) + self.position(ramps)
        drawn = self.layers(tiled.permute(0, 3, 1, 2)).unflatten(0, slots.shape[:2])
        return drawn[:, :, :3], drawn[:, :, 3:]


def compete(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Means of the values under attention that is normalized over the slots."""
    attention = torch.softmax(queries @ keys.transpose(1, 2) * queries.shape[-1] ** -0.5, 1) + 1e-8
    return attention / attention.sum(-1, keepdim=True) @ values


class SlotAttention(Port):
    def __init__(self, *, side: int, slots: int, size: int = 64, width: int = 32) -> None:
        super().__init__()
        self.slots, self.size = slots, size
        self.encoder = TokenEncoder(side, width, 1e-3)
        self.start = nn.ParameterList([torch.randn(size), torch.randn(size)])
        self.norm_inputs, self.norm_slots, self.norm_mlp = (nn.LayerNorm(s, eps=1e-3) for s in (width, size, size))
        self.to_queries = nn.Linear(size, size, bias=False)
        self.to_keys, self.to_values = (nn.Linear(width, size, bias=False) for _ in range(2))
        self.gru = nn.GRUCell(size, size)
        self.mlp = nn.Sequential(nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, size))
        self.decoder = TiledDecoder("broadcast", side, size)

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        tokens = self.norm_inputs(self.encoder(image))
        keys, values = self.to_keys(tokens), self.to_values(tokens)
        shape = (len(image), self.slots, self.size)
        slots = self.start[0] + self.start[1].exp() * (torch.randn(shape) if noise is None else noise)
        for _ in range(3):
            update = compete(self.to_queries(self.norm_slots(slots)), keys, values)
            slots = self.gru(update.flatten(0, 1), slots.flatten(0, 1)).view(shape)
            slots = slots + self.mlp(self.norm_mlp(slots))
        colors, logits = self.decoder(slots)
        recon = (colors * logits.softmax(1)).sum(1)
        return F.mse_loss(recon, 2 * image - 1), recon


class BottomUp(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.to_queries = nn.Linear(size, size, bias=False)
        self.gru_mean, self.gru_scale = nn.GRUCell(size, size), nn.GRUCell(size, size)
        self.norm_mean, self.norm_scale = nn.LayerNorm(size), nn.LayerNorm(size)
        self.mlp_mean, self.mlp_scale = (
            nn.Sequential(nn.Linear(size, 2 * size), nn.ReLU(), nn.Linear(2 * size, size)) for _ in range(2)
        )


class Heads(nn.Module):
    """A network with two outputs."""

    def __init__(self, hidden: nn.Module, width: int, size: int) -> None:
        super().__init__()
        self.hidden, self.mean, self.scale = hidden, nn.Linear(width, size), nn.Linear(width, size)


class Refiner(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(4 * size, 128), nn.ELU(), nn.Linear(128, size))
        self.gru = nn.GRUCell(size, size)
        self.mean, self.scale = nn.Linear(size, size), nn.Linear(size, size)


def gaussian(params: Tensor) -> Normal:
    mean, scale = params.chunk(2, -1)
    return Normal(mean, torch.sqrt(torch.log1p(scale.clamp_max(80).exp()) + 1e-5))


class EfficientMORL(Port):
    needs_gradients = True

    def __init__(
        self, *, side: int, slots: int, size: int, decoder: str, mixture: bool, std: float, refinements: int
    ) -> None:
        super().__init__()
        self.slots, self.size, self.mixture, self.std, self.refinements = slots, size, mixture, std, refinements
        self.initial = nn.Parameter(torch.cat([torch.zeros(size), torch.ones(size)]))
        self.encoder = TokenEncoder(side, 64, 1e-5)
        self.to_keys, self.to_values = (nn.Linear(64, size, bias=False) for _ in range(2))
        self.layer = BottomUp(size)
        self.prior = Heads(nn.Sequential(nn.Linear(size, 128), nn.ELU()), 128, size)
        self.refiner = Refiner(size)
        self.decoder = TiledDecoder(decoder, side, size)

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shape = (len(image), self.slots, self.size)
        tokens = self.encoder(image)
        keys, values = self.to_keys(tokens), self.to_values(tokens)
        params, layer = self.initial.expand(*shape[:2], -1), self.layer
        start = gaussian(params)
        slots = draw(start.mean, start.stddev) if noise is None else start.mean + start.stddev * noise
        posteriors = []
        for _ in range(3):
            update = compete(layer.to_queries(layer.norm(slots)), keys, values).flatten(0, 1)
            mean, scale = (half.reshape(-1, self.size) for half in params.chunk(2, -1))
            mean, scale = layer.gru_mean(update, mean), layer.gru_scale(update, scale)
            mean = mean + layer.mlp_mean(layer.norm_mean(mean))
            scale = scale + layer.mlp_scale(layer.norm_scale(scale))
            params = torch.cat([mean, scale], -1).view(*shape[:2], -1)
            posteriors.append(gaussian(params))
            slots = draw(posteriors[-1].mean, posteriors[-1].stddev)
        priors = []
        for above in posteriors[1:]:
            hidden = self.prior.hidden(draw(above.mean, above.stddev))
            priors.append(gaussian(torch.cat([self.prior.mean(hidden), self.prior.scale(hidden)], -1)))
        target = priors[0]
        priors.append(Normal(torch.zeros(shape), torch.ones(shape)))
        kl = sum(kl_divergence(q, p).sum((1, 2)) for q, p in zip(posteriors, priors, strict=True))
        total, state = image.new_zeros(()), image.new_zeros(shape[0] * shape[1], self.size)
        for i in range(self.refinements + 1):
            colors, logits = self.decoder(slots)
            components, log_masks = colors.sigmoid(), logits.log_softmax(1)
            recon = (log_masks.exp() * components).sum(1)
            if self.mixture:
                each = log_masks - math.log(self.std) - (image[:, None] - components) ** 2 / (2 * self.std**2)
                nll = -each.logsumexp(1).sum((1, 2, 3))
            else:
                nll = (math.log(self.std) + (image - recon) ** 2 / (2 * self.std**2)).sum((1, 2, 3))
            loss = (nll + kl).mean()
            total = total + (self.refinements + 3 - i) / (self.refinements + 1) * loss
            if i == self.refinements:
                break
            (slope,) = torch.autograd.grad(loss, params, create_graph=self.training, retain_graph=True)
            normed = [F.layer_norm(half, half.shape[-1:]).detach() for half in slope.chunk(2, -1)]
            features = self.refiner.mlp(torch.cat([params, *normed], -1)).flatten(0, 1)
            state = self.refiner.gru(features, state)
            params = params + torch.cat([self.refiner.mean(state), self.refiner.scale(state)], -1).view_as(params)
            now = gaussian(params)
            slots = draw(now.mean, now.stddev)
            kl = kl_divergence(now, target).sum((1, 2))
        return total, recon


def tile(z: Tensor, side: int) -> Tensor:
    """(N, D) -> (N, D + 2, side, side): the vector everywhere, row and column."""
    place = torch.stack(torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij"))
    return torch.cat([z[:, :, None, None].repeat(1, 1, side, side), place.repeat(len(z), 1, 1, 1)], 1)


class Broadcast(nn.Module):
    def __init__(self, size: int, width: int, out: int, side: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.side = side + 8
        layers = convolutions([size + 2, width, width, width, width], 3, 0, activation)
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, out, 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(tile(z, self.side))


class ComponentEncoder(nn.Module):
    def __init__(self, size: int, side: int, activation: type[nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((4, 32), (32, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), activation()]
        self.convs = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(64 * (side // 16) ** 2, 256), activation(), nn.Linear(256, 2 * size))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.convs(x).flatten(1))


def posterior(raw: Tensor) -> Normal:
    mean, scale = raw.chunk(2, -1)
    return Normal(mean, F.softplus(scale + 0.5) + 1e-8)


def learned_prior(raw: Tensor) -> Normal:
    mean, scale = raw.chunk(2, -1)
    return Normal(mean.tanh(), torch.sigmoid(scale + 4) + 1e-4)


def monte_carlo_kl(z: Tensor, q: Normal, p: Normal) -> Tensor:
    return (q.log_prob(z) - p.log_prob(z)).sum(-1)


def unit(like: Tensor) -> Normal:
    return Normal(torch.zeros_like(like), torch.ones_like(like))


def by_slot(log_masks: list[Tensor], image: Tensor) -> Tensor:
    """All images of the first slot, then of the second: log mask and image."""
    return torch.cat([torch.cat([log_mask, image], 1) for log_mask in log_masks])


def mixture_error(image: Tensor, log_masks: Tensor, components: Tensor) -> Tensor:
    """(B,) of (K, B, ...)."""
    likelihood = log_masks.exp() * Normal(components, STD).log_prob(image).exp()
    return -likelihood.sum(0).log().sum((1, 2, 3))


class Block(nn.Sequential):
    def __init__(self, before: int, after: int, group: bool) -> None:
        norm = nn.GroupNorm(8, after) if group else nn.InstanceNorm2d(after, affine=True)
        super().__init__(nn.Conv2d(before, after, 3, padding=1, bias=False), norm, nn.ReLU())


class UNet(nn.Module):
    def __init__(self, channels: int, width: int, side: int, *, group: bool, out: int | None) -> None:
        super().__init__()
        outer = int(math.log2(side)) - 4
        c = [width] * outer + [2 * width] * 3
        ups = [*c[-2::-1], width]
        self.down = nn.ModuleList(Block(a, b, group) for a, b in zip([channels, *c[:-1]], c, strict=True))
        self.up = nn.ModuleList(
            Block(a + skip, b, group) for a, skip, b in zip([c[-1], *ups[:-1]], c[::-1], ups, strict=True)
        )
        flat = 2 * width * 16
        self.mlp = nn.Sequential(
            nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, flat), nn.ReLU()
        )
        self.last = nn.Identity() if out is None else nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, block in enumerate(self.down):
            x = block(x)
            skips.append(x)
            if i < len(self.down) - 1:
                x = F.interpolate(x, scale_factor=0.5)
        x = self.mlp(x.flatten(1)).view_as(x)
        for i, block in enumerate(self.up):
            x = block(torch.cat([x, skips[-1 - i]], 1))
            if i < len(self.up) - 1:
                x = F.interpolate(x, scale_factor=2.0)
        return self.last(x)


class MONet(Port):
    def __init__(self, *, side: int, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self.attention = UNet(4, 32, side, group=False, out=1)
        self.encoder = ComponentEncoder(16, side, nn.ReLU)
        self.decoder = Broadcast(16, 32, 4, side, nn.ReLU)

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scope, log_masks = torch.zeros_like(image[:, :1]), []
        for _ in range(self.slots - 1):
            logit = self.attention(torch.cat([image, log_scope], 1))
            log_masks.append(log_scope + F.logsigmoid(logit))
            log_scope = log_scope + F.logsigmoid(-logit)
        log_masks.append(log_scope)
        q = posterior(self.encoder(by_slot(log_masks, image)))
        z = draw(q.mean, q.stddev)
        drawn = self.decoder(z).unflatten(0, (self.slots, -1))
        components, log_decoded = drawn[:, :, :3].sigmoid(), drawn[:, :, 3:].log_softmax(0)
        stacked = torch.stack(log_masks)
        kl = monte_carlo_kl(z, q, unit(z)).view(self.slots, -1).sum(0)
        masks, decoded = (x.exp().clamp_min(1e-5) for x in (stacked, log_decoded))
        masks, decoded = masks / masks.sum(0), decoded / decoded.sum(0)
        kl_masks = (masks * (masks.log() - decoded.log())).sum((0, 2, 3, 4))
        error = mixture_error(image, stacked, components)
        return (error + 0.5 * (kl + kl_masks)).mean(), (stacked.exp() * components).sum(0)


class Gated(nn.Module):
    def __init__(self, conv: nn.Module, width: int, norm: bool) -> None:
        super().__init__()
        self.conv = conv
        self.value_norm, self.gate_norm = (nn.BatchNorm2d(width) if norm else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.conv(x).chunk(2, 1)
        return self.value_norm(value) * torch.sigmoid(self.gate_norm(gate))


def gated_encoder(side: int, norm: bool) -> nn.Sequential:
    strides, c = (1, 2, 1, 2, 1), (3, 32, 32, 64, 64, 64)
    layers = [Gated(nn.Conv2d(c[i], 2 * c[i + 1], 5, strides[i], 2), c[i + 1], norm) for i in range(5)]
    return nn.Sequential(*layers, Gated(nn.Conv2d(64, 512, side // 4), 256, False), nn.Flatten())


def gated_decoder(size: int, side: int, norm: bool, out: int) -> nn.Sequential:
    strides, c = (1, 2, 1, 2, 1), (64, 64, 32, 32, 32, 32)
    layers = [Gated(nn.ConvTranspose2d(size, 128, side // 4), 64, False)]
    for i, stride in enumerate(strides):
        conv = nn.ConvTranspose2d(c[i], 2 * c[i + 1], 5, stride, 2, output_padding=stride - 1)
        layers.append(Gated(conv, c[i + 1], norm))
    return nn.Sequential(*layers, nn.Conv2d(32, out, 1))


class Genesis(Port):
    def __init__(self, *, side: int, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self.encoder = gated_encoder(side, True)
        self.first = nn.Linear(256, 128)
        self.recurrence, self.next = nn.LSTMCell(256 + 64, 128), nn.Linear(128, 128)
        self.decoder = gated_decoder(64, side, True, 1)
        self.prior, self.prior_head = nn.LSTM(64, 256), nn.Linear(256, 128)
        self.component_prior = nn.Sequential(
            nn.Linear(64, 256), nn.ELU(), nn.Linear(256, 256), nn.ELU(), nn.Linear(256, 32)
        )
        self.component_encoder = ComponentEncoder(16, side, nn.ELU)
        self.component_decoder = Broadcast(16, 32, 3, side, nn.ELU)

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        features = self.encoder(image)
        posteriors, state = [posterior(self.first(features))], None
        latents = [draw(posteriors[0].mean, posteriors[0].stddev)]
        for _ in range(self.slots - 1):
            state = self.recurrence(torch.cat([features, latents[-1]], 1), state)
            posteriors.append(posterior(self.next(state[0])))
            latents.append(draw(posteriors[-1].mean, posteriors[-1].stddev))
        logits = self.decoder(torch.cat(latents)[:, :, None, None]).chunk(self.slots)
        log_scope, log_masks = torch.zeros_like(logits[0]), []
        for logit in logits[:-1]:
            log_masks.append(log_scope + F.logsigmoid(logit))
            log_scope = log_scope + F.logsigmoid(-logit)
        log_masks.append(log_scope)
        q = posterior(self.component_encoder(by_slot(log_masks, image)))
        z = draw(q.mean, q.stddev)
        components = self.component_decoder(z).sigmoid().unflatten(0, (self.slots, -1))
        raw = self.prior_head(self.prior(torch.stack(latents[:-1]))[0])
        priors = [unit(latents[0]), *map(learned_prior, raw)]
        kl = sum(monte_carlo_kl(*x) for x in zip(latents, posteriors, priors, strict=True))
        prior = learned_prior(self.component_prior(torch.cat(latents)))
        kl = kl + monte_carlo_kl(z, q, prior).view(self.slots, -1).sum(0)
        stacked = torch.stack(log_masks)
        return (mixture_error(image, stacked, components) + 0.5 * kl).mean(), (stacked.exp() * components).sum(0)


class SemiConvolution(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))
        self.conv = nn.Conv2d(width, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        learned = self.gate * self.conv(x)
        return learned + F.pad(tile(learned[:, :0, 0, 0], learned.shape[-1]), (0, 0, 0, 0, 6, 0))


class GenesisV2(Port):
    def __init__(self, *, side: int, slots: int, width: int = 64) -> None:
        super().__init__()
        self.slots, self.side = slots, side
        self.encoder = UNet(3, width, side, group=True, out=None)
        self.segmentation_head = Block(width, width, True)
        self.embedding = SemiConvolution(width)
        self.log_sigma = nn.ParameterList([torch.tensor(-math.log(slots * math.log(2)))])
        self.feature_head = nn.Sequential(Block(width, width, True), nn.Conv2d(width, 2 * width, 1))
        self.posterior = nn.Sequential(
            nn.LayerNorm(2 * width), nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2 * width)
        )
        layers: list[nn.Module] = []
        for before in (width + 2, width, width, width):
            conv = nn.ConvTranspose2d(before, width, 5, 2, 2, output_padding=1)
            layers += [conv, nn.GroupNorm(8, width), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.Conv2d(width, 4, 1))
        self.prior, self.prior_head = nn.LSTM(width, 4 * width), nn.Linear(4 * width, 2 * width)

    def color(self, embedding: Tensor) -> list[Tensor]:
        """Log masks (B, 1, H, W) by stick-breaking from random seeds."""
        noise = sample_uniform((len(embedding), 1, self.side, self.side), embedding)
        log_scope, log_masks = torch.zeros_like(noise), []
        for _ in range(self.slots - 1):
            seed = (noise * log_scope.exp()).flatten(1).argmax(1)
            color = embedding.flatten(2)[torch.arange(len(seed)), :, seed][:, :, None, None]
            distance = (embedding - color).square().sum(1, keepdim=True)
            alpha = torch.exp(-distance / self.log_sigma[0].exp())
            alpha = alpha + (alpha.clamp(0.01, 0.99) - alpha).detach()
            log_masks.append(log_scope + alpha.log())
            log_scope = log_scope + (1 - alpha).log()
        return [*log_masks, log_scope]

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        features = F.relu(self.encoder(image))
        latents, posteriors = [], []
        for log_mask in self.color(self.embedding(self.segmentation_head(features))):
            mask = log_mask.exp()
            pooled = (mask * self.feature_head(features)).sum((2, 3)) / (mask.sum((2, 3)) + 1e-5)
            posteriors.append(posterior(self.posterior(pooled)))
            latents.append(draw(posteriors[-1].mean, posteriors[-1].stddev))
        drawn = self.decoder(tile(torch.cat(latents), self.side // 16)).unflatten(0, (self.slots, -1))
        components, log_masks = drawn[:, :, :3].sigmoid(), drawn[:, :, 3:].log_softmax(0)
        raw = self.prior_head(self.prior(torch.stack(latents[:-1]))[0])
        priors = [unit(latents[0]), *map(learned_prior, raw)]
        kl = sum(monte_carlo_kl(*x) for x in zip(latents, posteriors, priors, strict=True))
        return (mixture_error(image, log_masks, components) + 0.5 * kl).mean(), (log_masks.exp() * components).sum(0)


class VAE(Port):
    def __init__(self, *, side: int, broadcast: bool) -> None:
        super().__init__()
        self.encoder = gated_encoder(side, False)
        self.posterior = nn.Linear(256, 128)
        if broadcast:
            self.decoder = nn.Sequential(Broadcast(64, 64, 64, side, nn.ELU), nn.ELU(), nn.Conv2d(64, 3, 1))
        else:
            self.decoder = nn.Sequential(nn.Unflatten(1, (64, 1, 1)), gated_decoder(64, side, False, 3))

    def forward(self, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q = posterior(self.posterior(self.encoder(image)))
        z = draw(q.mean, q.stddev)
        recon = self.decoder(z).sigmoid()
        error = -Normal(recon, STD).log_prob(image).sum((1, 2, 3))
        return (error + 0.5 * monte_carlo_kl(z, q, unit(z))).mean(), recon
