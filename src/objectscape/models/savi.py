"""SAVi: Slot Attention for Video (Kipf et al., "Conditional Object-Centric Learning from Video", ICLR 2022).

1. A convolutional network turns every frame into tokens with a position embedding.
2. Corrector: the predicted slots compete for the tokens of the frame (slot attention), which gives the frame's slots.
3. Predictor: a transformer block over the slots of the frame predicts the slots of the next one. A slot therefore
   begins every frame where it left the one before, and keeps its object.
4. The slots before the first frame are learned (unconditional), or made from a hint at the objects in the first frame:
   their boxes or centers (conditional). Which slot gets which object is then the user's choice.
5. The corrected slots are drawn as RGB and masks, as by Slot Attention; the loss is the squared error of all frames.

Design decisions
- Defaults are the paper's small model for 64x64 (four convolutions, 24 tokens a side in the paper's larger one): 128
  wide slots, one iteration of attention per frame, a predictor with four heads and 256 hidden units.
- Hints are ground truth that training normally does not see. `hints` names the field that the model reads; it uses the
  first frame of it only.
- A row without an object (a hint that is empty) starts with one learned vector, and slot 0 with another: it is the
  background's. The paper gives such rows a box of zeros.

Deviations: the target is the frame itself, not optical flow (the paper compares both); the corrector keeps the
residual MLP of Slot Attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from objectscape.contract import Model
from objectscape.nn.clips import check_clips
from objectscape.nn.initialization import initialize_glorot, scale_weights
from objectscape.nn.slot_attention import SlotAttention
from objectscape.nn.slot_decoders import make_slot_decoder
from objectscape.nn.slot_encoder import SlotEncoder
from objectscape.nn.validation import check_at_least, check_choice
from objectscape.scene import Decomposition, Losses, Scene, record


@record
class SAViOutput(Decomposition):
    """A Decomposition of clips, and where the slots looked."""

    attention: Tensor
    """(B, T, K, h, w) attention of each frame's last iteration on the grid of tokens; sums to 1 over K."""
    predicted: Tensor
    """(B, T, K, D) the slots with which each frame began: the first are the initial ones."""

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """The attention."""
        return {"attention": self.attention.unsqueeze(-3)}


class SlotPredictor(nn.Module):
    """A transformer block over the slots, with the normalizations after the additions (Vaswani et al. 2017)."""

    def __init__(self, *, slot_size: int, heads: int, hidden_size: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(slot_size, heads, batch_first=True)
        self.norm_attention = nn.LayerNorm(slot_size)
        self.mlp = nn.Sequential(nn.Linear(slot_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, slot_size))
        self.norm_mlp = nn.LayerNorm(slot_size)

    def forward(self, slots: Tensor) -> Tensor:
        """(B, K, D) of one frame -> (B, K, D) expected in the next."""
        slots = self.norm_attention(slots + self.attention(slots, slots, slots, need_weights=False)[0])
        return self.norm_mlp(slots + self.mlp(slots))


class SAVi(Model[Scene, SAViOutput]):
    """Slot Attention for Video: reads clips, and slot k is the same object in every frame.

    Args:
        image_size: height and width in pixels, or one number for both.
        slots: number K of slots; the background needs one. Settable if the slots are sampled.
        slot_size: width D of a slot.
        condition: "none"; or "boxes" or "centers" of the objects in the first frame, from `scene.boxes`.
        initial_slots: without a condition: "learned" one by one, or "sampled" from one learned Gaussian.
        iterations: refinements of the slots in every frame.
        hidden_size: hidden width of the slots' residual MLP.
        predictor_heads: attention heads of the predictor.
        predictor_hidden: hidden width of the predictor's MLP.
        encoder_channels: width of the encoder's convolutions and of the tokens.
        encoder_strides: of its four convolutions.
        initialization: "released", or "sharp" for short trainings (ours; the same as Slot Attention's).
        decoder: one of the names of `objectscape.nn.slot_decoders`.
        decoder_channels: width of the decoder's convolutions; None for the published one.

    Raises:
        ValueError: for a value outside its range, or an image size that the decoder cannot draw.
    """

    reads_clips = True

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] = 64,
        slots: int = 11,
        slot_size: int = 128,
        condition: Literal["none", "boxes", "centers"] = "none",
        initial_slots: Literal["learned", "sampled"] = "learned",
        iterations: int = 1,
        hidden_size: int = 256,
        predictor_heads: int = 4,
        predictor_hidden: int = 256,
        encoder_channels: int = 32,
        encoder_strides: Sequence[int] = (1, 1, 1, 1),
        initialization: Literal["released", "sharp"] = "released",
        decoder: Literal["deconvolution", "broadcast", "small", "iodine", "big", "patch"] = "deconvolution",
        decoder_channels: int | None = None,
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"image_size={image_size}: expected one number of pixels, or height and width.")
        check_choice("condition", condition, ("none", "boxes", "centers"))
        check_at_least(1, predictor_heads=predictor_heads, predictor_hidden=predictor_hidden)
        check_choice("initialization", initialization, ("released", "sharp"))
        if slot_size % predictor_heads:
            raise ValueError(f"slot_size={slot_size} is not a multiple of predictor_heads={predictor_heads}")
        self.image_size = (size[0], size[1])
        self.condition = condition
        self.slot_size = slot_size
        self.encoder = SlotEncoder(image_size=self.image_size, channels=encoder_channels, strides=encoder_strides)
        self.corrector = SlotAttention(
            input_size=encoder_channels,
            slots=slots,
            slot_size=slot_size,
            iterations=iterations,
            hidden_size=hidden_size,
            initial_slots="given" if condition != "none" else initial_slots,
        )
        self.predictor = SlotPredictor(slot_size=slot_size, heads=predictor_heads, hidden_size=predictor_hidden)
        self.decoder = make_slot_decoder(
            decoder, slot_size=slot_size, image_size=self.image_size, channels=decoder_channels
        )
        for part in (self.encoder, self.corrector, self.decoder):
            initialize_glorot(part)
        if initialization == "sharp":
            scale_weights(self.encoder.convs, gain=2.0)
            scale_weights(self.corrector.to_queries, self.corrector.to_keys, gain=3.0)
        if condition != "none":
            inputs = 4 if condition == "boxes" else 2
            self.hint = nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, slot_size))
            self.unhinted = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2, slot_size)))  # background, no object

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return self.corrector.slots

    @slots.setter
    def slots(self, value: int) -> None:
        self.corrector.slots = value

    @property
    def hints(self) -> tuple[str, ...]:
        """Fields of ground truth that the model reads."""
        return () if self.condition == "none" else ("boxes",)

    def forward(self, scene: Scene, *, noise: Tensor | None = None) -> SAViOutput:
        """Decompose clips (B, T, 3, H, W); `noise` (B, K, D) replaces the draw of sampled initial slots."""
        image = scene.pixels
        check_clips(image, self.image_size)
        frames = image.shape[1]
        tokens = self.encoder(2 * image.flatten(0, 1) - 1)  # (B T, h w, C)
        keys, values = (t.unflatten(0, (-1, frames)) for t in self.corrector.project(tokens))  # (B, T, h w, D)
        slots = self.initial(scene, noise)  # (B, K, D)
        predicted, corrected, attention = [], [], []
        for t in range(frames):
            predicted.append(slots)
            step = self.corrector.refine(slots, keys[:, t], values[:, t])[-1]
            corrected.append(step.slots)
            attention.append(step.attention)
            if t + 1 < frames:
                slots = self.predictor(step.slots)
        drawn = self.decode(torch.stack(corrected, 1))
        return SAViOutput(
            recon=drawn.recon,
            masks=drawn.masks,
            components=drawn.components,
            slots=drawn.slots,
            attention=torch.stack(attention, 1).unflatten(-1, self.encoder.size),
            predicted=torch.stack(predicted, 1),
        )

    def initial(self, scene: Scene, noise: Tensor | None = None) -> Tensor:
        """(B, K, D) the slots before the first frame."""
        if self.condition == "none":
            return self.corrector.start(len(scene), noise)
        if scene.boxes is None:
            raise ValueError(
                f"the model is conditioned on the {self.condition} of the objects in the first frame, but the data "
                "have no boxes. Train it with model.condition=none, or use data with boxes."
            )
        boxes = scene.boxes[:, 0, : self.slots - 1].float()  # (B, N, 4) pixels
        height, width = self.image_size
        boxes = boxes / boxes.new_tensor([width, height, width, height])
        there = (boxes[..., 2:] > boxes[..., :2]).all(-1, keepdim=True)  # NaN compares as absent
        boxes = torch.where(there, boxes, 0.0)
        hint = boxes if self.condition == "boxes" else (boxes[..., :2] + boxes[..., 2:]) / 2
        rows = torch.where(there, self.hint(2 * hint - 1), self.unhinted[1])
        missing = self.slots - 1 - rows.shape[1]
        return torch.cat([
            self.unhinted[0].expand(len(rows), 1, -1), rows, self.unhinted[1].expand(len(rows), missing, -1)
        ], 1)  # fmt: skip

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw slots (..., K, D)."""
        rgb, logits = self.decoder(slots.flatten(0, -3))  # (n, K, 3, H, W), (n, K, 1, H, W)
        components, masks = (rgb + 1) / 2, logits.softmax(1)
        recon = (masks * components).sum(1)
        lead = slots.shape[:-2]
        return Decomposition(
            recon=recon.unflatten(0, lead),
            masks=masks.unflatten(0, lead),
            components=components.unflatten(0, lead),
            slots=slots,
        )

    def loss(self, batch: Scene, output: SAViOutput, step: int) -> Losses:
        """Squared error of the frames, images in [-1, 1], averaged over pixels, channels and frames."""
        mse = (output.recon - batch.pixels).square().mean()
        return Losses(total=4 * mse, terms={"mse": mse.detach()})
