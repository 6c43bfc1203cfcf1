"""Slot Attention for object discovery (Locatello et al., "Object-Centric Learning with Slot Attention", NeurIPS 2020).

An autoencoder whose bottleneck is a set. A full-resolution convolutional network turns each pixel into a token with a
position embedding; K slots, drawn from one shared Gaussian, compete for the tokens through attention that is normalized
over the slots; each slot is decoded on its own as RGB and a mask logit; a softmax over the slots blends the images. The
only objective is squared error, and the slots specialize on objects because each must explain its own pixels.

Design decisions
- Defaults are the authors' settings for CLEVR6 at 128x128, with their code's epsilons and Keras initialization.
- `reduction="mean"` is the published objective, which unlike the library's other losses is not in nats: a mean over
  pixels and channels. "sum" is, up to a constant, the negative log-likelihood of a Gaussian of standard deviation
  sqrt(1/2), as in EfficientMORL's version. Adam ignores the factor between the two, except through its epsilon.
- `output="linear"` lets RGB leave the range and measures the error on images in [-1, 1], four times that in [0, 1].
  Whatever the choice, the Decomposition is in [0, 1].

Deviations from the released codes: the initial slots' spread is always parametrized by its logarithm (EfficientMORL's
version: a softplus variance); non-square images work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from objectscape.contract import Model
from objectscape.nn.initialization import initialize_glorot, scale_weights
from objectscape.nn.slot_attention import SlotAttention
from objectscape.nn.slot_decoders import make_slot_decoder
from objectscape.nn.slot_encoder import SlotEncoder
from objectscape.nn.validation import check_choice, check_images
from objectscape.scene import Decomposition, Losses, Scene, Stage, record


@record
class SlotAttentionOutput(Decomposition):
    """A Decomposition, and where the slots looked."""

    attention: Tensor
    """(B, K, h, w) attention of the last iteration on the grid of tokens, which is (H, W) if all `encoder_strides` are
    1; sums to 1 over K. Coarser than `masks`, and often less clean."""
    step_slots: Tensor
    """(B, I, K, D) after every iteration; `SlotAttentionModel.decode` shows what each has found."""
    step_attention: Tensor
    """(B, I, K, h, w) of every iteration."""

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """The attention."""
        return {"attention": self.attention.unsqueeze(2)}

    @property
    def stages(self) -> list[Stage]:
        """The slots after every iteration, not decoded."""
        pairs = zip(self.step_slots.unbind(1), self.step_attention.unbind(1), strict=True)
        return [Stage(name=f"iteration {i}", slots=s, attention=a) for i, (s, a) in enumerate(pairs, 1)]


class SlotAttentionModel(Model[Scene, SlotAttentionOutput]):
    """The Slot Attention autoencoder.

    Args:
        image_size: height and width in pixels, or one number for both.
        slots: number K of slots; give every object one, and the background one. Settable (if they are sampled).
        slot_size: width D of a slot.
        iterations: refinements of the slots. Settable: more of them at test time help with more slots.
        hidden_size: hidden width of the slots' residual MLP.
        encoder_channels: width of the encoder's convolutions and of the tokens (the authors: 64, on 2-D data 32).
        encoder_strides: of its four convolutions. With all 1, every pixel is a token; larger ones save time (the
            paper's set prediction has [1, 2, 2, 1]).
        decoder: "deconvolution" (the authors' for CLEVR; sides must be multiples of 16), "broadcast" (theirs for 2-D
            data), EfficientMORL's "small", "iodine" and "big", or the fast "patch" (sides multiples of 4).
        decoder_channels: width of the decoder's convolutions; None for the published one.
        initialization: "released" (the authors'); "efficientmorl" (decoder weights times 0.02, as in EfficientMORL's
            version: the first reconstructions are flat gray); or "sharp" for short trainings (ours): encoder weights
            times 2, those of queries and keys times 3. As released, tokens at first encode mostly position, and the
            competition is so soft that the iterations make all slots alike; beyond a factor of 4 it is so hard that it
            stays as it is.
        output: "linear" RGB with the error measured on images in [-1, 1], or "sigmoid" RGB and images in [0, 1].
        reduction: squared error averaged ("mean") or summed ("sum") over pixels and channels.
        initial_slots: "sampled" from one learned Gaussian (any number of slots), or "learned" (a fixed number).
        gradient: "unrolled" through all iterations, or "implicit": through the last only, for memory and stability.
        input_norm: normalize the tokens before the attention (EfficientMORL's version does not).
        epsilon: added to the attention before it is normalized over the pixels.
        norm_epsilon: epsilon of all layer normalizations (the authors' code: 1e-3; PyTorch's usual value: 1e-5).

    Raises:
        ValueError: for a value outside its range, or an image size that the decoder cannot draw.
    """

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] = 128,
        slots: int = 7,
        slot_size: int = 64,
        iterations: int = 3,
        hidden_size: int = 128,
        encoder_channels: int = 64,
        encoder_strides: Sequence[int] = (1, 1, 1, 1),
        decoder: Literal["deconvolution", "broadcast", "small", "iodine", "big", "patch"] = "deconvolution",
        decoder_channels: int | None = None,
        initialization: Literal["released", "efficientmorl", "sharp"] = "released",
        output: Literal["linear", "sigmoid"] = "linear",
        reduction: Literal["mean", "sum"] = "mean",
        initial_slots: Literal["sampled", "learned"] = "sampled",
        gradient: Literal["unrolled", "implicit"] = "unrolled",
        input_norm: bool = True,
        epsilon: float = 1e-8,
        norm_epsilon: float = 1e-3,
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(
                f"image_size={image_size}: expected one number of pixels, or height and width, at least 1."
            )
        check_choice("initialization", initialization, ("released", "efficientmorl", "sharp"))
        check_choice("output", output, ("linear", "sigmoid"))
        check_choice("reduction", reduction, ("mean", "sum"))
        self.image_size = (size[0], size[1])
        self.output = output
        self.reduction = reduction
        self.encoder = SlotEncoder(
            image_size=self.image_size, channels=encoder_channels, strides=encoder_strides, norm_epsilon=norm_epsilon
        )
        self.attention = SlotAttention(
            input_size=encoder_channels,
            slots=slots,
            slot_size=slot_size,
            iterations=iterations,
            hidden_size=hidden_size,
            initial_slots=initial_slots,
            gradient=gradient,
            input_norm=input_norm,
            epsilon=epsilon,
            norm_epsilon=norm_epsilon,
        )
        self.decoder = make_slot_decoder(
            decoder, slot_size=slot_size, image_size=self.image_size, channels=decoder_channels
        )
        for part in (self.encoder, self.attention, self.decoder):
            initialize_glorot(part)
        if initialization == "sharp":
            scale_weights(self.encoder.convs, gain=2.0)
            scale_weights(self.attention.to_queries, self.attention.to_keys, gain=3.0)
        elif initialization == "efficientmorl":
            scale_weights(self.decoder, gain=0.02)

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return self.attention.slots

    @slots.setter
    def slots(self, value: int) -> None:
        self.attention.slots = value

    @property
    def iterations(self) -> int:
        """Refinements of the slots."""
        return self.attention.iterations

    @iterations.setter
    def iterations(self, value: int) -> None:
        self.attention.iterations = value

    def forward(self, scene: Scene, *, noise: Tensor | None = None) -> SlotAttentionOutput:
        """Decompose a batch of images; `noise` (B, K, D) replaces the draw of the initial slots."""
        image = scene.pixels
        check_images(image, self.image_size)
        tokens = self.encoder(2 * image - 1)  # (B, h*w, C)
        steps = self.attention.trajectory(tokens, noise)
        slots = torch.stack([step.slots for step in steps], 1)  # (B, T, K, D)
        maps = torch.stack([step.attention for step in steps], 1)  # (B, T, K, h*w)
        attention = maps.unflatten(-1, self.encoder.size)
        drawn = self.decode(slots[:, -1])
        return SlotAttentionOutput(
            recon=drawn.recon,
            masks=drawn.masks,
            components=drawn.components,
            slots=slots[:, -1],
            attention=attention[:, -1],
            step_slots=slots,
            step_attention=attention,
        )

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw slots (B, K, D): those of a scene, of several mixed, or with a dimension moved."""
        rgb, logits = self.decoder(slots)  # (B, K, 3, H, W), (B, K, 1, H, W)
        components = rgb.sigmoid() if self.output == "sigmoid" else (rgb + 1) / 2
        masks = logits.softmax(1)
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=slots)

    def loss(self, scene: Scene, output: SlotAttentionOutput, step: int) -> Losses:
        """Squared error of the blended picture; see `output` and `reduction` for its scale."""
        error = (output.recon - scene.pixels).square()  # (B, 3, H, W), images in [0, 1]
        mse = error.mean()
        total = mse if self.reduction == "mean" else error.sum((1, 2, 3)).mean()
        if self.output == "linear":
            total = 4 * total  # images in [-1, 1] are twice as far apart
        return Losses(total=total, terms={"mse": mse.detach()})
