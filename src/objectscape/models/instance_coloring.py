"""A small autoencoder that finds objects in minutes on a CPU: the model behind `objectscape quickstart`.

Four ideas, each from a larger model:

1. Instance coloring (IC-SBP of GENESIS-V2; Engelcke et al., 2021): tokens choose slots by stick breaking.
2. Coarse tokens: one token per patch of the image, so the coloring works on a 7x7 grid and not on pixels.
3. Slots in their own reference frame (invariant slot attention; Biza et al., 2023): a slot is pooled and decoded in
   coordinates relative to its own center, so that drawing one compact piece is cheap wherever it lies, while drawing
   two distant pieces with one slot is not. This, not color, makes the masks follow objects.
4. A patch decoder: every patch of pixels is one output of a small network.

Decisions: the decoder does not see the coloring's masks (with them, painting through color masks is perfect and shape
is never needed); gradients reach the embeddings only through pooling weights and centers; small Gaussian noise on the
slots in training; no prior over slots, so the model does not generate. Where several slots can draw the same pixels,
as any slot can a plain background, the one that holds more tokens takes them, or else they would be shared at random.
In training the seeds are random; in evaluation they are the densest tokens, so that the same image always gives the
same answer, and a slot that would share its pixels with another one is left out, so that the background has one slot.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from objectscape.contract import Model
from objectscape.nn.distributions import sample_gaussian
from objectscape.nn.instance_coloring import InstanceColoring, SemiConvolution, coordinates
from objectscape.scene import Decomposition, Losses, Scene, record


@record
class ColoringOutput(Decomposition):
    """A Decomposition (its masks are the decoder's) plus the coloring that the slots were pooled with."""

    attention: Tensor
    """(B, K, h, w) the coloring's masks on the token grid, summing to 1 over K."""
    centers: Tensor
    """(B, K, 2) row and column of each slot's center, -1..1 from the first token to the last."""

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """Those of the coloring, on the token grid."""
        return {"attention": self.attention.unsqueeze(2)}


class FourierCode(nn.Module):
    """Linear map of the Fourier code [sin(f p), cos(f p), p] of a position p = (row, column), f = pi/2 2^j.

    The code has no products of row and column, so the map of a whole grid is a sum of one term per row and one per
    column, and costs h + w evaluations in place of h w.

    Args:
        frequencies: number of frequencies, j = 0 .. frequencies - 1.
        outputs: D.
    """

    def __init__(self, *, frequencies: int, outputs: int) -> None:
        super().__init__()
        self.rows = nn.Linear(2 * frequencies + 1, outputs)
        self.columns = nn.Linear(2 * frequencies + 1, outputs, bias=False)
        self.register_buffer("scales", math.pi / 2 * 2.0 ** torch.arange(frequencies), persistent=False)
        self.scales: Tensor

    def forward(self, rows: Tensor, columns: Tensor, *, offset: Tensor | None = None) -> Tensor:
        """Rows (..., h) and columns (..., w) of a grid, and what is added everywhere (..., D) -> (..., h, w, D)."""
        by_row = self.rows(self._code(rows))  # (..., h, D)
        if offset is not None:
            by_row = by_row + offset[..., None, :]  # here and not on the whole grid, which is w times larger
        return by_row[..., :, None, :] + self.columns(self._code(columns))[..., None, :, :]

    def _code(self, x: Tensor) -> Tensor:
        angles = x[..., None] * self.scales
        return torch.cat([angles.sin(), angles.cos(), x[..., None]], dim=-1)


class ColoringAutoencoder(Model[Scene, ColoringOutput]):
    """Instance coloring on coarse tokens, slots in their own frame, patch decoder.

    Args:
        slots: K, masks per image, background included; may be set to another number later.
        patch: side of a token's patch in pixels; must divide the image's height and width.
        width: channels of tokens and slots (D).
        hidden: channels of the decoder's and the slot network's hidden layers.
        embedding: channels of a token's color, at least 2.
        frequencies: of the position codes. More give finer shapes within a slot and slower learning.
        noise: standard deviation of the Gaussian noise on the (normalized) slots in training.
        size_prior: weight of a slot's size in its mask logits, which get `size_prior` times the log of the number of
            tokens that the coloring gave it. It decides between slots that can draw the same pixels: with 0 the spare
            slots share a plain background with the slot that holds it.
        evaluation_size_prior: the same in evaluation, once the spare slots are left out; None for `size_prior`. With
            less, edges that object and background draw alike go to the object: right for textured pieces on black,
            wrong for solids on a ground with shadows.

    Raises:
        ValueError: in `forward`, for images whose sides are not multiples of `patch`, or clips.
    """

    def __init__(
        self,
        *,
        slots: int = 5,
        patch: int = 5,
        width: int = 64,
        hidden: int = 128,
        embedding: int = 8,
        frequencies: int = 2,
        noise: float = 0.3,
        size_prior: float = 1.0,
        evaluation_size_prior: float | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"patch": patch, "width": width, "hidden": hidden, "frequencies": frequencies}.items():
            if value < 1:
                raise ValueError(f"{name}={value}; at least 1 is needed")
        if noise < 0:
            raise ValueError(f"noise={noise}; a standard deviation is 0 or more")
        if evaluation_size_prior is None:
            evaluation_size_prior = size_prior
        if min(size_prior, evaluation_size_prior) < 0:
            raise ValueError(f"{size_prior=}, {evaluation_size_prior=}; weights of 0 or more are needed")
        self.slots, self.patch, self.noise = slots, patch, noise
        self.size_prior, self.evaluation_size_prior = size_prior, evaluation_size_prior
        reach = patch // 2  # a token also sees this many pixels around its patch
        self.stem = nn.Conv2d(3, width, patch + 2 * reach, stride=patch, padding=reach)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.place = FourierCode(frequencies=frequencies, outputs=width)
        self.tokens = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())
        self.embed = SemiConvolution(inputs=width, outputs=embedding)
        self.coloring = InstanceColoring(slots=slots)
        self.values = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.pool_place = FourierCode(frequencies=frequencies, outputs=width)
        self.slot = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.LayerNorm(width)
        )
        self.draw_slot = nn.Linear(width, hidden, bias=False)
        self.draw_place = FourierCode(frequencies=frequencies, outputs=hidden)
        self.draw = nn.Sequential(
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, 4 * patch * patch),
        )

    def forward(self, scene: Scene, *, noise: Tensor | None = None) -> ColoringOutput:
        """Decompose images; in training `noise` (B, h, w) in [0, 1] replaces the draw that chooses the seeds."""
        pixels = scene.pixels
        if pixels.ndim != 4 or pixels.shape[-2] % self.patch or pixels.shape[-1] % self.patch:
            raise ValueError(
                f"images of shape {tuple(pixels.shape)}; expected (B, 3, H, W) with H and W multiples of "
                f"patch={self.patch}. Resize or crop the images, or choose another patch."
            )
        tokens = self.encode(pixels)  # (B, h, w, D)
        embeddings, _ = self.embed(tokens.movedim(-1, 1))  # (B, E, h, w)
        if noise is None and not self.training:
            noise = torch.ones_like(embeddings[:, 0])
        coloring = self.coloring(embeddings, slots=self.slots, noise=noise, densest=True)
        attention = coloring.log_masks.exp()  # (B, K, h, w)
        slots, centers = self.pool(tokens, attention)  # (B, K, D), (B, K, 2)
        if self.training:
            slots = sample_gaussian(slots, slots.new_tensor(self.noise))
        drawn = self.decode(slots, centers, tokens.shape[1], tokens.shape[2])
        components, masks = self._share(*drawn, attention.detach().sum((2, 3)).log())
        return ColoringOutput(
            recon=(masks * components).sum(1),
            masks=masks,
            components=components,
            slots=slots,
            attention=attention,
            centers=centers,
        )

    def latents(self, output: ColoringOutput) -> Tensor:
        """(B, K, D + 3) all that a slot is drawn from: its content, its center, the logarithm of its size in tokens."""
        return torch.cat([output.slots, output.centers, output.attention.sum((2, 3)).log().unsqueeze(-1)], -1)

    def shift(self, latents: Tensor, by: Tensor, *, size: tuple[int, int]) -> Tensor:
        """`latents` (B, K, D + 3) of an image of `size` (H, W), `by` (B, K, 2) pixels to the right and down."""
        last = torch.as_tensor(size, device=by.device) / self.patch - 1  # tokens from the first to the last
        content, centers, log_sizes = latents.split([latents.shape[-1] - 3, 2, 1], -1)
        centers = centers + by.flip(-1) / self.patch * 2 / last.clamp_min(1)
        return torch.cat([content, centers, log_sizes], -1)

    def redraw(self, latents: Tensor, *, size: tuple[int, int], present: Tensor | None = None) -> Decomposition:
        """The image of `size` (H, W) that `latents` (B, K, D + 3) give; slots not `present` (B, K) are left out."""
        content, centers, log_sizes = latents.split([latents.shape[-1] - 3, 2, 1], -1)
        drawn = self.decode(content, centers, size[0] // self.patch, size[1] // self.patch)
        components, masks = self._share(*drawn, log_sizes[..., 0], present)
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=content)

    def _share(
        self, components: Tensor, logits: Tensor, log_sizes: Tensor, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Components and masks from what `decode` drew.

        Large slots come first. In evaluation that decides which slots have pixels of their own, and these alone then
        share the image. `log_sizes` (B, K) is a constant for the gradient.
        """
        log_sizes = log_sizes[..., None, None, None]
        if present is not None:
            logits = logits.masked_fill(present[..., None, None, None] <= 0, -torch.inf)
        masks = (logits + self.size_prior * log_sizes).softmax(1)
        if not self.training:
            logits = logits + self.evaluation_size_prior * log_sizes
            masks = logits.masked_fill(~is_own(masks)[..., None, None, None], -torch.inf).softmax(1)
        return components, masks

    def encode(self, pixels: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> tokens (B, h, w, D), h = H / patch."""
        x = self.stem(pixels)  # (B, D, h, w)
        x = (x + self.mix(x.relu())).movedim(1, -1)  # (B, h, w, D)
        rows, columns = _axes(x.shape[1], x.shape[2], x)
        return self.tokens(x + self.place(rows, columns))

    def pool(self, tokens: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, h, w, D) and masks (B, K, h, w) -> slots (B, K, D) and their centers (B, K, 2)."""
        weights = attention / (attention.sum((2, 3), keepdim=True) + 1e-3)
        grid = coordinates(weights.shape[2], weights.shape[3], weights)  # (2, h, w)
        centers = torch.einsum("bkhw,chw->bkc", weights, grid)
        place = self.pool_place(*_relative(centers, *weights.shape[2:]))  # (B, K, h, w, D)
        seen = (self.values(tokens)[:, None] + place).relu_()
        return self.slot(torch.einsum("bkhw,bkhwd->bkd", weights, seen)), centers

    def decode(self, slots: Tensor, centers: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Slots (B, K, D), centers (B, K, 2), grid size h, w -> pictures (B, K, 3, H, W) and logits (B, K, 1, H, W)."""
        hidden = self.draw_place(*_relative(centers, height, width), offset=self.draw_slot(slots)).relu_()
        drawn = self.draw(hidden.flatten(0, 3))  # (B K h w, 4 P P); two axes, as it works in place
        drawn = drawn.view(*hidden.shape[:4], 4, self.patch, self.patch).permute(0, 1, 4, 2, 5, 3, 6)
        drawn = drawn.flatten(5, 6).flatten(3, 4)  # (B, K, 4, h, P, w, P) -> (B, K, 4, H, W)
        components, logits = drawn.split([3, 1], dim=2)
        return components, logits

    def loss(self, scene: Scene, output: ColoringOutput, step: int) -> Losses:
        """Negative log-likelihood of the image under a Gaussian of unit variance, without its constant."""
        square = (scene.pixels - output.recon).square()  # (B, 3, H, W)
        total = 0.5 * square.sum((1, 2, 3)).mean()  # nats: sum over channels and pixels, mean over the batch
        return Losses(total=total, terms={"mse": square.detach().mean()})


def is_own(masks: Tensor) -> Tensor:
    """(B, K) which slots have pixels of their own, from masks (B, K, 1, H, W).

    Slot j has not if its pixels belong more to another slot i than to itself: sum_p m_i m_j > sum_p m_j^2. Such slots
    draw what the other one draws too, most often the background. As sum_p m_i m_j <= |m_i| |m_j|, only a slot with a
    larger norm can take a slot's place; the one with the largest norm always has its own.
    """
    flat = masks.flatten(2)  # (B, K, N)
    shared = flat @ flat.mT  # (B, K, K)
    return shared.diagonal(dim1=1, dim2=2) >= shared.amax(2)


def _axes(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Row coordinates (h,) and column coordinates (w,) of the token grid, each linspace(-1, 1)."""
    grid = coordinates(height, width, like)
    return grid[0, :, 0], grid[1, 0, :]


def _relative(centers: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows (B, K, h) and columns (B, K, w) of the grid seen from each center (B, K, 2), in half-widths of an object."""
    rows, columns = _axes(height, width, centers)
    return 2 * (rows - centers[..., :1]), 2 * (columns - centers[..., 1:])
