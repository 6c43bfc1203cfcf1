"""Invariant Slot Attention (Biza, van Steenkiste, Sajjadi, Elsayed, Mahendran & Kipf, "Invariant Slot Attention: Object
Discovery with Slot-Centric Reference Frames", ICML 2023, arXiv 2302.04973).

Slot Attention whose slots have frames of reference. A slot is a content and a frame: position p, scale s, and if wanted
an angle. Wherever Slot Attention uses absolute positions, coordinates relative to the slot's frame stand instead:

    relative grid        g_k = R(angle_k)^T (grid - p_k) / (spread * s_k)                        (sections 3.1 to 3.3)
    keys, values         f(k(x) + e(g_k)),  f(v(x) + e(g_k))          one for each slot; x: tokens without positions
    frames               p_k: mean of the grid under the slot's attention; s_k: its standard deviation; angle_k: of the
                         first principal axis, within 45 degrees of the vertical or horizontal one, whichever is nearer
    decoder              draws content_k on a grid with e'(g_k)

So the content of an object is the same wherever it is and however large it is drawn, and one that has been seen in one
place is known in all: this is worth most with few images. One more attention at the end sets the frames, not the
contents.

Design decisions
- `slots` of the output are content and frame side by side, (B, K, D + 4): content, row and column of the position,
  scale along rows and columns (and the angle). `decode` draws from them alone, so that an object is moved by writing
  two numbers (`contract.Places`).
- Coordinates run from -1 to 1 over the image, edge to edge. Initial positions are uniform in it, scales come from
  N(0.1, 0.1) cut off at `SMALLEST`; `spread` 5 as in the paper.
- The angle counts as a constant for the gradient: that of a principal axis has none where a shape is round.
- Masks, objective, grids of the decoder and initialization are those of `slot_attention`, including "sharp" for short
  trainings. Frames are computed in single precision.

Deviation from the paper: initial slots are always drawn, never learned one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from objectscape.contract import Model
from objectscape.nn.distributions import drawing_means, fixed_noise
from objectscape.nn.initialization import initialize_glorot, scale_weights
from objectscape.nn.recurrent import GRUCell
from objectscape.nn.slot_decoders import make_slot_decoder
from objectscape.nn.slot_encoder import SlotEncoder
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_positive
from objectscape.scene import Decomposition, Losses, Scene, Stage, record

SMALLEST = 0.01
"""Scale that no slot falls below: half a percent of the image."""
EPSILON = 1e-8
"""Added to the attention before it is normalized over the tokens."""


class Frames(NamedTuple):
    """Where slots are, and how large."""

    position: Tensor
    """(B, K, 2) row and column, -1..1 from edge to edge"""
    scale: Tensor
    """(B, K, 2) standard deviation along the frame's axes, in the same unit"""
    angle: Tensor
    """(B, K, 1) radians in (-pi / 4, pi / 4], from the row axis to the frame's first axis; 0 without rotation"""


@record
class ISAOutput(Decomposition):
    """A Decomposition, where the slots looked, and what they were after every iteration."""

    attention: Tensor
    """(B, K, h, w) attention that the frames come from; sums to 1 over K."""
    step_slots: Tensor
    """(B, I, K, D + 4) after every iteration."""
    step_attention: Tensor
    """(B, I, K, h, w)"""

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """The attention."""
        return {"attention": self.attention.unsqueeze(2)}

    @property
    def stages(self) -> list[Stage]:
        """The slots after every iteration, not decoded."""
        pairs = zip(self.step_slots.unbind(1), self.step_attention.unbind(1), strict=True)
        return [Stage(name=f"iteration {i}", slots=s, attention=a) for i, (s, a) in enumerate(pairs, 1)]


class InvariantSlotAttention(Model[Scene, ISAOutput]):
    """The autoencoder with frames of reference.

    Args:
        image_size: height and width in pixels, or one number for both.
        slots: number K of slots, settable.
        slot_size: width D of a slot's content.
        frames: what a frame has: "translation", "scale" (and translation), or "rotation" (and both).
        iterations: refinements of the slots, settable.
        hidden_size: hidden width of the residual MLP, and of f.
        spread: scales that half a relative grid spans: at 5, pixels at five standard deviations have coordinates of 1.
        encoder_channels: width of the encoder's convolutions and of the tokens.
        encoder_strides: of its four convolutions; with all 1, every pixel is a token.
        decoder: "broadcast" (2-D data), "deconvolution" (sides must be multiples of 16), or the fast "patch" (4).
        decoder_channels: width of its convolutions; None for the published one.
        initialization: "released" (Slot Attention's), or "sharp" for short trainings: see `SlotAttentionModel`.

    Raises:
        ValueError: for a value outside its range, or an image size that the decoder cannot draw.
    """

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] = 35,
        slots: int = 4,
        slot_size: int = 64,
        frames: Literal["translation", "scale", "rotation"] = "scale",
        iterations: int = 3,
        hidden_size: int = 128,
        spread: float = 5.0,
        encoder_channels: int = 32,
        encoder_strides: Sequence[int] = (1, 1, 1, 1),
        decoder: Literal["broadcast", "deconvolution", "patch"] = "broadcast",
        decoder_channels: int | None = None,
        initialization: Literal["released", "sharp"] = "released",
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"image_size={image_size}: expected one number of pixels, or height and width.")
        check_choice("frames", frames, ("translation", "scale", "rotation"))
        check_choice("decoder", decoder, ("broadcast", "deconvolution", "patch"))
        check_choice("initialization", initialization, ("released", "sharp"))
        check_at_least(1, slots=slots, slot_size=slot_size, iterations=iterations, hidden_size=hidden_size)
        check_positive(spread=spread)
        self.image_size = (size[0], size[1])
        self.slots, self.iterations, self.slot_size = slots, iterations, slot_size
        self.frames, self.spread = frames, spread

        self.encoder = SlotEncoder(
            image_size=self.image_size, channels=encoder_channels, strides=encoder_strides, positions=False
        )
        self.initial_mean = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, slot_size))[0])
        self.initial_log_std = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, slot_size))[0])
        self.norm_inputs = nn.LayerNorm(encoder_channels)
        self.norm_slots, self.norm_mlp = nn.LayerNorm(slot_size), nn.LayerNorm(slot_size)
        self.to_queries = nn.Linear(slot_size, slot_size, bias=False)
        self.to_keys = nn.Linear(encoder_channels, slot_size, bias=False)
        self.to_values = nn.Linear(encoder_channels, slot_size, bias=False)
        self.place = nn.Linear(2, slot_size)  # e
        self.join = nn.Sequential(  # f
            nn.LayerNorm(slot_size),
            nn.Linear(slot_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, slot_size),
        )
        self.gru = GRUCell(slot_size, slot_size)
        self.mlp = nn.Sequential(nn.Linear(slot_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, slot_size))
        drawing = make_slot_decoder(decoder, slot_size=slot_size, image_size=self.image_size, channels=decoder_channels)
        rows, columns = drawing.position.get_buffer("grid").shape[:2]
        self.grid = (rows, columns)
        self.drawn_place = nn.Linear(2, slot_size)  # e'
        self.decoder = drawing.layers
        initialize_glorot(self)
        if initialization == "sharp":
            scale_weights(self.encoder.convs, gain=2.0)
            scale_weights(self.to_queries, self.to_keys, gain=3.0)

    def forward(self, scene: Scene, *, noise: Tensor | None = None) -> ISAOutput:
        """Decompose a batch of images; `noise` (B, K, D + 4) replaces the draw of the initial slots."""
        image = scene.pixels
        check_images(image, self.image_size)
        tokens = self.encoder(2 * image - 1)  # (B, N, C)
        with torch.autocast(image.device.type, enabled=False):
            tokens = self.norm_inputs(tokens.to(self.initial_mean.dtype))
            keys, values = self.to_keys(tokens).unsqueeze(1), self.to_values(tokens).unsqueeze(1)  # (B, 1, N, D)
            content, frames = self.start(len(image), noise)
            contents, steps, maps = [], [], []
            for _ in range(self.iterations):
                place = self.place(self.relative(frames, self.encoder.size))  # (B, K, N, D)
                attention, weights = self.look(content, keys, place)
                update = torch.einsum("bkn,bknd->bkd", weights, self.join(values + place))
                content = self.gru(update.flatten(0, 1), content.flatten(0, 1)).view_as(content)
                content = content + self.mlp(self.norm_mlp(content))
                frames = self.measure(weights, frames)
                contents.append(content)
                steps.append(frames)
                maps.append(attention)
            place = self.place(self.relative(frames, self.encoder.size))
            attention, weights = self.look(content, keys, place)
            steps[-1] = self.measure(weights, frames)  # of the last contents
            maps[-1] = attention
        each = [self.slots_of(c, f) for c, f in zip(contents, steps, strict=True)]
        step_attention = torch.stack(maps, 1).unflatten(-1, self.encoder.size)  # (B, I, K, h, w)
        drawn = self.decode(each[-1])
        return ISAOutput(
            recon=drawn.recon,
            masks=drawn.masks,
            components=drawn.components,
            slots=each[-1],
            attention=step_attention[:, -1],
            step_slots=torch.stack(each, 1),
            step_attention=step_attention,
        )

    def start(self, batch: int, noise: Tensor | None = None) -> tuple[Tensor, Frames]:
        """Contents (B, K, D) and frames before the first iteration; under `posterior_means` always the same."""
        shape = (batch, self.slots, self.slot_size + 4)
        if noise is None:
            like = self.initial_mean
            noise = fixed_noise(shape[1:], like).expand(shape) if drawing_means() else torch.randn(shape).to(like)
        if noise.shape != shape:
            raise ValueError(f"noise has shape {tuple(noise.shape)}; expected (B, K, D + 4) = {shape}.")
        content, position, scale = noise.split([self.slot_size, 2, 2], -1)
        content = self.initial_mean + self.initial_log_std.exp() * content
        position = torch.erf(position / math.sqrt(2))  # uniform in [-1, 1]
        scale = (0.1 + 0.1 * scale).clamp_min(SMALLEST) if self.frames != "translation" else torch.ones_like(scale)
        return content, Frames(position, scale, torch.zeros_like(scale[..., :1]))

    def look(self, content: Tensor, keys: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Attention (B, K, N), which sums to 1 over the slots, and normalized over the tokens."""
        queries = self.to_queries(self.norm_slots(content)) * self.slot_size**-0.5
        attention = torch.einsum("bkd,bknd->bkn", queries, self.join(keys + place)).softmax(1)
        weights = attention + EPSILON
        return attention, weights / weights.sum(-1, keepdim=True)

    def measure(self, weights: Tensor, before: Frames) -> Frames:
        """Frames from attention (B, K, N) that sums to 1 over the tokens."""
        grid = centers(self.encoder.size, weights)  # (N, 2)
        position = weights @ grid  # (B, K, 2)
        if self.frames == "translation":
            return before._replace(position=position)
        away = grid - position.unsqueeze(2)  # (B, K, N, 2)
        angle = before.angle
        if self.frames == "rotation":
            with torch.no_grad():
                rows, columns, both = (
                    (weights * product).sum(-1, keepdim=True)
                    for product in (away[..., 0].square(), away[..., 1].square(), away.prod(-1))
                )
                angle = torch.atan2(2 * both, rows - columns) / 2  # of the first principal axis, within a half turn
                angle = angle - (angle / (math.pi / 2)).round() * (math.pi / 2)  # the nearer axis of the image is first
            away = turned(away, angle)
        variance = (weights.unsqueeze(-1) * away.square()).sum(2)
        return Frames(position, (variance + SMALLEST**2).sqrt(), angle)

    def relative(self, frames: Frames, size: tuple[int, int]) -> Tensor:
        """(B, K, h * w, 2) coordinates of a grid of `size` in every slot's frame."""
        away = centers(size, frames.position) - frames.position.unsqueeze(2)  # (B, K, N, 2)
        if self.frames == "translation":
            return away
        if self.frames == "rotation":
            away = turned(away, frames.angle)
        return away / (self.spread * frames.scale.unsqueeze(2))

    def slots_of(self, content: Tensor, frames: Frames) -> Tensor:
        """(B, K, D + 2), (B, K, D + 4) with scale, (B, K, D + 5) with rotation: content and frame side by side."""
        parts = {"translation": 1, "scale": 2, "rotation": 3}[self.frames]
        return torch.cat([content, *frames[:parts]], -1)

    def frames_of(self, slots: Tensor) -> tuple[Tensor, Frames]:
        """The opposite of `slots_of`."""
        content, position, rest = slots.tensor_split([self.slot_size, self.slot_size + 2], -1)
        scale = rest[..., :2].clamp_min(SMALLEST) if rest.shape[-1] else torch.ones_like(position)
        angle = rest[..., 2:] if self.frames == "rotation" else torch.zeros_like(position[..., :1])
        return content, Frames(position, scale, angle)

    def decode(self, slots: Tensor, *, present: Tensor | None = None) -> Decomposition:
        """Draw slots (B, K, D + 4): of a scene, of several mixed, or changed; those not `present` are left out."""
        content, frames = self.frames_of(slots)
        rows, columns = self.grid
        with torch.autocast(slots.device.type, enabled=False):
            place = self.drawn_place(self.relative(frames, (rows, columns)))  # (B, K, N, D)
        tiles = (content.unsqueeze(2) + place).mT.unflatten(-1, (rows, columns))  # (B, K, D, h, w)
        drawn = self.decoder(tiles.flatten(0, 1)).to(slots.dtype).unflatten(0, slots.shape[:2])  # (B, K, 4, H, W)
        logits = drawn[:, :, 3:]
        if present is not None:
            logits = logits.masked_fill(present[..., None, None, None] <= 0, -torch.inf)
        masks, components = logits.softmax(1), (drawn[:, :, :3] + 1) / 2
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=slots)

    # An object is moved by writing two numbers (`contract.Places`)

    def latents(self, output: ISAOutput) -> Tensor:
        """(B, K, D + 5) the slots; the last number is always 1."""
        return torch.cat([output.slots, torch.ones_like(output.slots[..., :1])], -1)

    def shift(self, latents: Tensor, by: Tensor, *, size: tuple[int, int]) -> Tensor:
        """`latents` of an image of `size` (H, W), `by` (B, K, 2) pixels to the right and down."""
        content, position, rest = latents.tensor_split([self.slot_size, self.slot_size + 2], -1)
        return torch.cat([content, position + 2 * by.flip(-1) / by.new_tensor(size), rest], -1)

    def redraw(self, latents: Tensor, *, size: tuple[int, int], present: Tensor | None = None) -> Decomposition:
        """The image that `latents` give; the size is the model's own."""
        return self.decode(latents[..., :-1], present=present)

    def loss(self, scene: Scene, output: ISAOutput, step: int) -> Losses:
        """Mean squared error of images in [-1, 1], as Slot Attention's."""
        mse = (output.recon - scene.pixels).square().mean()
        return Losses(total=4 * mse, terms={"mse": mse.detach()})


def centers(size: tuple[int, int], like: Tensor) -> Tensor:
    """(h * w, 2) row and column of the cells of a grid over the image, -1..1 from edge to edge."""
    rows, columns = ((torch.arange(n, dtype=like.dtype, device=like.device) * 2 + 1) / n - 1 for n in size)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)


def turned(away: Tensor, angle: Tensor) -> Tensor:
    """Vectors (B, K, N, 2) in axes that are turned by `angle` (B, K, 1)."""
    rows, columns = away.unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * rows + sin * columns, cos * columns - sin * rows], -1)
