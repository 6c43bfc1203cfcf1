"""The foreground of SPACE (Lin et al. 2020, section 2.1): a grid of cells, each of which may hold an object.

`GridObjects` has the networks: image -> cells, glimpse -> appearance, appearance -> glimpse; and it draws objects.
What is drawn from which distribution, and priors, is the model's business.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.nn.distributions import sample_uniform
from objectscape.nn.ramps import Ramp
from objectscape.nn.spatial_transformer import extract, paste

LOGIT_BOUND = 8.8
"""Presence logits are this times a tanh."""
TINY = 1e-15  # inside the logarithms of the presence's KL
BOUNDARY_WIDTH = 6
"""Pixels of a 32-pixel glimpse that count as its edge."""


class Cells(NamedTuple):
    """Posterior of the cells, row by row from the top left; N = G * G cells."""

    presence: Tensor
    """(B, N, 1) before the bounding tanh."""
    depth: tuple[Tensor, Tensor]
    """mean and std (B, N, 1)"""
    scale: tuple[Tensor, Tensor]
    """mean and std (B, N, 2), before the sigmoid: width, height"""
    shift: tuple[Tensor, Tensor]
    """mean and std (B, N, 2), before the tanh: x, y"""


class Drawing(NamedTuple):
    """Objects on a canvas; K is the number of cells drawn."""

    color: Tensor
    """(B, 3, H, W) blend of the objects' colors, already multiplied by their alphas."""
    alpha: Tensor
    """(B, 1, H, W) how much of each pixel is foreground."""
    share: Tensor
    """(B, K, 1, H, W) each object's part in `alpha`."""
    colors: Tensor
    """(B, K, 3, H, W) each object's own color, where it is."""
    boundary: Tensor | None
    """(B, 1, H, W) edges of the glimpses, weighted by presence."""


def ramp(numbers: Sequence[float]) -> Ramp:
    """A `Ramp` from (first step, last step, value before, value after)."""
    first, last, start, end = numbers
    return Ramp(int(first), int(last), start, end)


def sample_presence(logits: Tensor, temperature: float) -> Tensor:
    """A draw from the relaxed Bernoulli (binary Concrete) distribution, in (0, 1); logits / temperature on means."""
    uniform = sample_uniform(logits.shape, logits).clamp(1e-6, 1 - 1e-6)
    return ((logits + uniform.log() - (-uniform).log1p()) / temperature).sigmoid()


def presence_kl(logits: Tensor, prior: float) -> Tensor:
    """Elementwise KL(Bernoulli(sigmoid(logits)) || Bernoulli(prior)) in nats."""
    p, q = logits.sigmoid(), (-logits).sigmoid()
    on, off = (p + TINY).log() - math.log(prior + TINY), (q + TINY).log() - math.log(1 - prior + TINY)
    return p * on + q * off


def scaled(groups: int, width: int) -> int:
    """Groups of a normalization, so that a group has as many channels as at the published width of 16.

    With a single channel per group a normalization would wash out colors.
    """
    return max(1, groups * width // 16)


def celu_block(
    inputs: int, outputs: int, kernel: int, *, groups: int, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    """Convolution, CELU, group normalization, in this order."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding),
        nn.CELU(),
        nn.GroupNorm(math.gcd(groups, outputs), outputs),
    ]


def upsampling(latent_dim: int, first: int, stages: list[tuple[int, int, int]], *, width: int) -> list[nn.Module]:
    """1x1 convolution of a vector, then per stage (factor, channels, groups) a pixel shuffle and a 3x3 convolution."""
    layers = celu_block(latent_dim, first, 1, groups=scaled(16, width))
    channels = first
    for factor, outputs, groups in stages:
        layers += [nn.Conv2d(channels, outputs * factor**2, 1), nn.PixelShuffle(factor), nn.CELU()]
        layers += [nn.GroupNorm(math.gcd(scaled(groups, width), outputs), outputs)]
        layers += celu_block(outputs, outputs, 3, groups=scaled(groups, width), padding=1)
        channels = outputs
    return layers


class Classifier(Protocol):
    """Names what an appearance belongs to; `objectscape.metrics.few_shot.RidgeClassifier` is one."""

    model: str

    def predict(self, latents: Tensor) -> Tensor: ...

    def name(self, label: int) -> str: ...


def describe(what: Tensor, where: Tensor, classifier: Classifier) -> dict[str, list[tuple[float, ...]]]:
    """{class: boxes (sx, sy, tx, ty)} of objects (K, D), (K, 4), in their order; {} without objects."""
    found: dict[str, list[tuple[float, ...]]] = {}
    if len(what):
        for label, box in zip(classifier.predict(what).tolist(), where.tolist(), strict=True):
            found.setdefault(classifier.name(label), []).append(tuple(box))
    return found


class GridEncoder(nn.Module):
    """Image -> features of every cell (B, 128, G, G), and four heads on them."""

    def __init__(self, *, image_size: int, grid: int, features: int, width: int) -> None:
        super().__init__()
        halvings = round(math.log2(image_size / grid))
        if image_size != grid * 2**halvings or not 0 <= halvings <= 5:
            raise ValueError(
                f"image_size={image_size} and grid={grid}; the image must be 1, 2, 4, 8, 16 or 32 times the grid"
            )
        w = width
        # with fewer than five halvings the later convolutions keep the size; four: the fourth does
        strides = [2, 2, 2, 1, 2] if halvings == 4 else [2] * halvings + [1] * (5 - halvings)
        layers: list[nn.Module] = []
        channels = 3
        for i, (outputs, groups) in enumerate(((w, 4), (2 * w, 8), (4 * w, 8), (8 * w, 16), (16 * w, 32))):
            kernel = 4 if i < 3 and strides[i] == 2 else 3
            layers += celu_block(channels, outputs, kernel, groups=scaled(groups, w), stride=strides[i], padding=1)
            channels = outputs
        self.base = nn.Sequential(*layers, *celu_block(channels, features, 1, groups=scaled(16, w)))
        self.lateral = nn.Sequential(
            *celu_block(features, features, 3, groups=scaled(16, w), padding=1),
            *celu_block(features, features, 3, groups=scaled(16, w), padding=1),
        )
        self.joint = nn.Sequential(*celu_block(2 * features, 8 * w, 3, groups=scaled(16, w), padding=1))
        self.scale, self.shift = nn.Conv2d(8 * w, 4, 1), nn.Conv2d(8 * w, 4, 1)
        self.presence, self.depth = nn.Conv2d(8 * w, 1, 1), nn.Conv2d(8 * w, 2, 1)

    def forward(self, image: Tensor) -> Cells:
        """(B, 3, H, W) -> Cells."""
        base = self.base(image)  # (B, E, G, G)
        features = self.joint(torch.cat([base, self.lateral(base)], 1))  # (B, 8 * width, G, G)
        scale, shift, presence, depth = (
            head(features).float().flatten(2).mT for head in (self.scale, self.shift, self.presence, self.depth)
        )  # (B, N, ...)
        return Cells(presence, _gaussian(depth), _gaussian(scale, 1e-15), _gaussian(shift))


def _gaussian(raw: Tensor, least: float = 0.0) -> tuple[Tensor, Tensor]:
    mean, std = raw.chunk(2, -1)
    return mean, F.softplus(std) + least


_GLIMPSE_ENCODERS = {  # (channels / 16, kernel, stride, groups); the last one leaves one pixel
    8: ((1, 3, 1, 4), (2, 4, 2, 8), (4, 3, 1, 8), (8, 4, 1, 8)),
    16: ((1, 3, 1, 4), (2, 4, 2, 8), (2, 3, 1, 4), (4, 4, 2, 8), (8, 4, 1, 8)),
    32: ((1, 3, 1, 4), (2, 4, 2, 8), (2, 3, 1, 4), (4, 4, 2, 8), (8, 4, 2, 8), (16, 4, 1, 16)),
}


class GlimpseEncoder(nn.Module):
    """Glimpses (N, 3, g, g) -> mean and std of what they show, (N, D) each."""

    def __init__(self, *, glimpse_size: int, latent_dim: int, width: int) -> None:
        super().__init__()
        if glimpse_size not in _GLIMPSE_ENCODERS:
            raise ValueError(f"glimpse_size={glimpse_size}; choose one of 8, 16, 32")
        layers: list[nn.Module] = []
        channels = 3
        for multiple, kernel, stride, groups in _GLIMPSE_ENCODERS[glimpse_size]:
            last = multiple == _GLIMPSE_ENCODERS[glimpse_size][-1][0]
            outputs = multiple * width
            layers += celu_block(
                channels, outputs, kernel, groups=scaled(groups, width), stride=stride, padding=0 if last else 1
            )
            channels = outputs
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 2 * latent_dim)

    def forward(self, glimpses: Tensor) -> tuple[Tensor, Tensor]:
        return _gaussian(self.head(self.convolutions(glimpses).flatten(1)).float())


class GlimpseDecoder(nn.Module):
    """Appearance (N, D) -> colors (N, 3, g, g) and alpha (N, 1, g, g), both in [0, 1]."""

    def __init__(self, *, glimpse_size: int, latent_dim: int, width: int) -> None:
        super().__init__()
        stages = [(2, 8 * width, 16), (2, 8 * width, 16), (2, 4 * width, 8), (2, 2 * width, 8), (2, width, 4)]
        stages = stages[-round(math.log2(glimpse_size)) :]
        first = 16 * width if len(stages) == 5 else 8 * width
        self.layers = nn.Sequential(*upsampling(latent_dim, first, stages, width=width))
        self.colors, self.alpha = nn.Conv2d(width, 3, 3, padding=1), nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, what: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layers(what[:, :, None, None])
        return self.colors(x).float().sigmoid(), self.alpha(x).float().sigmoid()


class GridObjects(nn.Module):
    """Networks and renderer of the foreground.

    Args:
        image_size: side of the images that the encoder reads, pixels.
        grid: G, cells per side.
        glimpse_size: side of a glimpse: 8, 16 or 32 pixels.
        latent_dim: D, numbers that describe an appearance.
        features: E, channels of the encoder's output.
        width: channels of the first convolutions, of which all others are multiples; 16 as published.
        align_corners: convention of the sampling grid, see `nn.spatial_transformer`.
    """

    cell_centers: Tensor
    edge: Tensor

    def __init__(
        self,
        *,
        image_size: int,
        grid: int,
        glimpse_size: int,
        latent_dim: int,
        features: int,
        width: int,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.grid, self.glimpse_size, self.align_corners = grid, glimpse_size, align_corners
        self.encoder = GridEncoder(image_size=image_size, grid=grid, features=features, width=width)
        self.glimpse_encoder = GlimpseEncoder(glimpse_size=glimpse_size, latent_dim=latent_dim, width=width)
        self.glimpse_decoder = GlimpseDecoder(glimpse_size=glimpse_size, latent_dim=latent_dim, width=width)
        index = torch.arange(grid) + 0.5
        centers = torch.stack([index.expand(grid, grid), index[:, None].expand(grid, grid)], -1)  # x, y
        self.register_buffer("cell_centers", centers.flatten(0, 1), persistent=False)  # (N, 2)
        edge = torch.ones(glimpse_size, glimpse_size)
        border = round(BOUNDARY_WIDTH * glimpse_size / 32)
        edge[border:-border, border:-border] = 0
        self.register_buffer("edge", edge / glimpse_size**2, persistent=False)

    def where(self, scale: Tensor, shift: Tensor) -> Tensor:
        """(..., N, 4) boxes from scale and shift (..., N, 2); a center moves by at most one cell."""
        return torch.cat([scale.sigmoid(), 2 / self.grid * (self.cell_centers + shift.tanh()) - 1], -1)

    def look(self, image: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std (B, K, D) of what is under the boxes (B, K, 4) of images (B, 3, H, W)."""
        glimpses = extract(image, where, self.glimpse_size, align_corners=self.align_corners)  # (B, K, 3, g, g)
        mean, std = self.glimpse_encoder(glimpses.flatten(0, 1))
        return mean.unflatten(0, where.shape[:2]), std.unflatten(0, where.shape[:2])

    def choose(self, presence: Tensor, cells: int) -> Tensor:
        """(B, K, 1) numbers of the `cells` most present of cells (B, N, 1), in this order; all of them: row by row."""
        if cells == self.grid**2:
            return torch.arange(cells, device=presence.device)[None, :, None].expand(len(presence), -1, 1)
        return presence.topk(cells, 1).indices

    def find(self, image: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
        """The `cells` most probable objects, on posterior means and without drawing anything.

        Returns:
            probability (B, K), where (B, K, 4), and depth and what (B, K, 1 + D).
        """
        seen = self.encoder(image)
        chosen = self.choose(seen.presence, cells)
        where = self.where(seen.scale[0], seen.shift[0]).take_along_dim(chosen, 1)
        probability = (LOGIT_BOUND * seen.presence.tanh()).sigmoid().take_along_dim(chosen, 1)
        what = self.look(image, where)[0]
        return probability[..., 0], where, torch.cat([seen.depth[0].take_along_dim(chosen, 1), what], -1)

    def fingerprint(self) -> str:
        """What tells these weights from others: a classifier of appearances works with no others."""
        digest = hashlib.sha256()
        for name, value in self.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def describe(self, image: Tensor, cells: int, classifier: Classifier | None) -> dict[str, list[tuple[float, ...]]]:
        """What is where in one image (1, 3, H, W), by class; None puts all objects under "object".

        Raises:
            ValueError: if the classifier belongs to another model.
        """
        if classifier is not None and classifier.model not in ("", self.fingerprint()):
            raise ValueError("the classifier belongs to another model; fit one to this model's objects")
        probability, where, rest = self.find(image, cells)
        there = probability[0] > 0.5
        if classifier is None:
            return {"object": [tuple(box) for box in where[0][there].tolist()]} if bool(there.any()) else {}
        return describe(rest[0][there][:, 1:], where[0][there], classifier)

    def draw(
        self,
        what: Tensor,
        where: Tensor,
        depth: Tensor,
        presence: Tensor,
        size: int,
        *,
        absent: int = 0,
        boundary: bool = False,
    ) -> Drawing:
        """Draw K objects; nearer ones, those of small depth, hide those behind.

        Args:
            what, where, depth, presence: (B, K, D), (B, K, 4), (B, K, 1), (B, K, 1)
            size: side S of the canvas.
            absent: how many further cells there are that hold nothing.
            boundary: also draw the edges of the glimpses.
        """
        colors, alpha = (x.unflatten(0, what.shape[:2]) for x in self.glimpse_decoder(what.flatten(0, 1)))
        here = presence[..., None, None]  # (B, K, 1, 1, 1)
        alpha = here * alpha
        importance = alpha * 100 * torch.sigmoid(-depth[..., None, None])
        layers = [importance, alpha, alpha * colors]
        if boundary:
            layers.append(here * self.edge.expand_as(alpha))
        drawn = paste(torch.cat(layers, 2), where, (size, size), align_corners=self.align_corners)  # (B, K, 5, S, S)
        importance, alpha, colors = drawn[:, :, :1], drawn[:, :, 1:2], drawn[:, :, 2:5]
        # softmax over all cells; a cell that does not cover the pixel, or is absent, counts exp(0)
        top = importance.amax(1, keepdim=True).clamp_min(0).detach()
        weight = (importance - top).exp()
        weight = weight / (weight.sum(1, keepdim=True) + absent * (-top).exp())  # (B, K, 1, S, S)
        share = weight * alpha
        with torch.no_grad():
            own = (colors / alpha.clamp_min(1e-6)).clamp(0, 1)
        return Drawing(
            color=(weight * colors).sum(1),
            alpha=share.sum(1),
            share=share,
            colors=own,
            boundary=1000 * drawn[:, :, 5:].sum(1) if boundary else None,
        )
