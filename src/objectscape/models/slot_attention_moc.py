"""Slot Attention taught by motion and object continuity: our own reading of a variant that Delfosse et al. ("Boosting
Object Representation Learning via Motion and Object Continuity", ECML PKDD 2023, arXiv 2211.09771) name.

The paper's abstract says that the two principles help slot-based models as well as SPACE. No code of that variant is
published and we could read no more of the paper, so everything below is our design, after the losses of SPACE-Time.

1. Every frame of a clip is decomposed by Slot Attention on its own (`models.slot_attention`, the part `image`).
2. Motion: the slot with the largest mask is the background. What the other slots cover is compared with what moves;
   moving and still pixels weigh the same in all, since few pixels move.
3. Object continuity: a slot that owns pixels resembles one of the slots whose masks lie near its own in the next frame,
   and not the others. It is the loss of SPACE-Time with nearness of mask centers in place of cells of a grid.
4. lambda moves the weight from motion to continuity, on a ramp.

At evaluation the model needs single images, without motion. `motion_weight=continuity_weight=0` is Slot Attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.contract import Model
from objectscape.models.slot_attention import SlotAttentionModel
from objectscape.nn.ramps import Ramp
from objectscape.nn.validation import check_positive
from objectscape.scene import Decomposition, Losses, Scene, record


@record
class SlotAttentionMOCOutput(Decomposition):
    """A Decomposition, and what the losses compare with the next frame."""

    attention: Tensor
    """(B, [T,] K, h, w) attention of the last iteration on the grid of tokens; sums to 1 over K"""
    centers: Tensor
    """(B, [T,] K, 2) x and y of the masks' centers of mass, shares of the image"""
    behind: Tensor
    """(B, [T,] K) bool, the slot with the largest mask: the background"""
    owns: Tensor
    """(B, [T,] K) bool: the slot is the most probable one of some pixel"""

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """The attention."""
        return {"attention": self.attention.unsqueeze(-3)}


class SlotAttentionMOC(Model[Scene, SlotAttentionMOCOutput]):
    """Slot Attention + MOC, as we read it.

    Args:
        image_size: height and width in pixels, or one number for both.
        slots: number K of slots; the background needs one. Settable.
        slot_size: width D of a slot.
        iterations: refinements of the slots.
        hidden_size: hidden width of the slots' residual MLP.
        encoder_channels: width of the encoder's convolutions and of the tokens.
        encoder_strides: of its four convolutions.
        initialization: "released", or "sharp" for short trainings; as in `SlotAttentionModel`.
        decoder: one of the names of `objectscape.nn.slot_decoders`.
        decoder_channels: width of the decoder's convolutions; None for the published one.
        motion_weight: of motion against the squared error of images in [-1, 1].
        continuity_weight: of the continuity loss.
        match_weight: of the most similar slot against the sum of all candidates.
        agreement: the most similar of several candidates must be the nearest, too.
        reach: farthest a candidate's center may be in the next frame, a share of the image's side.
        schedule: ramp of 1 - lambda, the weight of motion: (first step, last step, value before, value after).

    Raises:
        ValueError: for a value outside its range, or an image size that the decoder cannot draw.
    """

    reads_clips = True

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
        initialization: Literal["released", "sharp"] = "released",
        decoder: Literal["deconvolution", "broadcast", "small", "iodine", "big", "patch"] = "deconvolution",
        decoder_channels: int | None = None,
        motion_weight: float = 1.0,
        continuity_weight: float = 0.1,
        match_weight: float = 5.0,
        agreement: bool = True,
        reach: float = 0.2,
        schedule: Sequence[float] = (0, 5000, 1.0, 0.5),
    ) -> None:
        super().__init__()
        for name, value in (("motion_weight", motion_weight), ("continuity_weight", continuity_weight)):
            if value < 0:
                raise ValueError(f"{name}={value}; expected a number of at least 0")
        check_positive(reach=reach)
        if len(schedule) != 4:
            raise ValueError(f"schedule={list(schedule)}; expected [first step, last step, value before, value after]")
        self.motion_weight, self.continuity_weight = motion_weight, continuity_weight
        self.match_weight, self.agreement, self.reach = match_weight, agreement, reach
        self.schedule = Ramp(int(schedule[0]), int(schedule[1]), schedule[2], schedule[3])
        self.image = SlotAttentionModel(
            image_size=image_size,
            slots=slots,
            slot_size=slot_size,
            iterations=iterations,
            hidden_size=hidden_size,
            encoder_channels=encoder_channels,
            encoder_strides=encoder_strides,
            initialization=initialization,
            decoder=decoder,
            decoder_channels=decoder_channels,
        )
        self.image_size = self.image.image_size

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return self.image.slots

    @slots.setter
    def slots(self, value: int) -> None:
        self.image.slots = value

    def forward(self, scene: Scene, *, noise: Tensor | None = None) -> SlotAttentionMOCOutput:
        """Decompose clips (B, T, 3, H, W) or images (B, 3, H, W); `noise` (B [* T], K, D) replaces the draw."""
        image = scene.pixels
        clip = image.ndim == 5
        frames = image.flatten(0, 1) if clip else image  # (F, 3, H, W), F = B * T
        seen = self.image(Scene(image=frames), noise=noise)
        masks = seen.masks.squeeze(2)  # (F, K, H, W)
        owner = masks.argmax(1, keepdim=True)
        output = SlotAttentionMOCOutput(
            recon=seen.recon,
            masks=seen.masks,
            components=seen.components,
            slots=seen.slots,
            attention=seen.attention,
            centers=centers_of(masks),
            behind=F.one_hot(masks.mean((2, 3)).argmax(1), masks.shape[1]).bool(),
            owns=(owner == torch.arange(masks.shape[1], device=masks.device)[:, None, None]).any(-1).any(-1),
        )
        return output.unfold_time(image.shape[1]) if clip else output

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw slots (B, K, D): those of a scene, of several mixed, or with a dimension moved."""
        return self.image.decode(slots)

    def loss(self, scene: Scene, output: SlotAttentionMOCOutput, step: int) -> Losses:
        """Squared error, plus (1 - lambda) * motion, plus lambda * continuity, means over frames and objects.

        Raises:
            ValueError: if motion has a weight and the scene has none.
        """
        mse = (output.recon - scene.pixels).square().mean()
        total = 4 * mse  # of images in [-1, 1]
        motion_share = self.schedule.at(step)
        terms = {"mse": mse, "lambda": total.new_tensor(1 - motion_share)}
        if self.motion_weight:
            if scene.motion is None:
                raise ValueError(
                    "Slot Attention + MOC learns from motion, and the data have none: use data=atari or data=video "
                    "with motion, or motion_weight=0"
                )
            terms["motion"] = motion_loss(output.masks, output.behind, scene.motion)
            total = total + motion_share * self.motion_weight * terms["motion"]
        if self.continuity_weight and output.slots.ndim == 4:
            terms["continuity"] = slot_continuity(
                output.slots,
                output.centers,
                output.owns & ~output.behind,
                reach=self.reach,
                match_weight=self.match_weight,
                agreement=self.agreement,
            )
            total = total + (1 - motion_share) * self.continuity_weight * terms["continuity"]
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})


def centers_of(masks: Tensor) -> Tensor:
    """(F, K, 2) x and y of the centers of mass of masks (F, K, H, W), shares of the image."""
    height, width = masks.shape[-2:]
    x = (torch.arange(width, device=masks.device) + 0.5) / width
    y = (torch.arange(height, device=masks.device) + 0.5) / height
    mass = masks.sum((-2, -1)).clamp_min(1e-6)
    return torch.stack([(masks.sum(-2) * x).sum(-1) / mass, (masks.sum(-1) * y).sum(-1) / mass], -1)


def motion_loss(masks: Tensor, behind: Tensor, motion: Tensor) -> Tensor:
    """Squared difference between what the slots in front cover and what moves.

    The mean over moving pixels and the mean over still ones count half each.

    Args:
        masks: (..., K, 1, H, W)
        behind: (..., K) bool, the background's slot.
        motion: (..., 1, H, W); above 0 where something moves.
    """
    covered = 1 - (masks * behind[..., None, None, None]).sum(-4)  # (..., 1, H, W)
    moves = (motion > 0).to(covered)
    missed = ((1 - covered).square() * moves).sum() / moves.sum().clamp_min(1)
    too_much = (covered.square() * (1 - moves)).sum() / (1 - moves).sum().clamp_min(1)
    return (missed + too_much) / 2


def slot_continuity(
    slots: Tensor, centers: Tensor, objects: Tensor, *, reach: float, match_weight: float, agreement: bool
) -> Tensor:
    """Per object of all frames but the last: the sum of its similarities to the candidates, minus `match_weight` times
    the largest; the mean over objects that have candidates, 0 without any.

    Args:
        slots: (B, T, K, D)
        centers: (B, T, K, 2)
        objects: (B, T, K) bool, slots that hold an object.
        reach: candidates are the objects of the next frame whose centers are not farther.
        match_weight: see above.
        agreement: leave out an object with several candidates of which the most similar is not the nearest.
    """
    now, later = slots[:, :-1], slots[:, 1:]
    similar = F.cosine_similarity(now.unsqueeze(3), later.unsqueeze(2), -1)  # (B, T-1, K, K)
    distance = torch.cdist(centers[:, :-1].detach(), centers[:, 1:].detach())
    possible = (distance <= reach) & objects[:, :-1, :, None] & objects[:, 1:, None]
    best = similar.masked_fill(~possible, -torch.inf).argmax(-1, keepdim=True)
    nearest = distance.masked_fill(~possible, torch.inf).argmin(-1, keepdim=True)
    count = possible.sum(-1)
    takes_part = count > 0
    if agreement:
        takes_part = takes_part & ((best == nearest)[..., 0] | (count == 1))
    match = similar.take_along_dim(best, -1)[..., 0]
    value = ((similar * possible).sum(-1) - match_weight * match) * takes_part
    return value.sum() / takes_part.sum().clamp_min(1)
