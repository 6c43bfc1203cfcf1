"""SPACE-Time: SPACE on clips, with motion as a teacher (Delfosse et al., "Boosting Object Representation Learning via
Motion and Object Continuity", ECML PKDD 2023, arXiv 2211.09771).

1. Every frame is explained as in SPACE (`models.space`): objects in a grid of cells, and a background.
2. Motion, found in the pixels beforehand, teaches where objects are: presence, boxes and alpha are compared with
   what moves. At first it is also mixed into them ("injection"), so that glimpses are cut at the right places at once.
3. Object continuity: an object's appearance resembles that of one object near it in the next frame, and no other's.
4. lambda moves the weight from motion to continuity, on a schedule or as the model finds what moves by itself.

At evaluation nothing but the image is used. `continuity_weight=0` is SPACE-Flow.

Decisions: eval mode works on posterior means with the final values of all ramps (`sample_in_eval` as released). The
defaults are the published settings for Pong, with the motion inputs that the last commit of the released code sets to
zero by accident. For training from scratch in minutes the recipes `space_time/*_tiny` choose other losses, each an
option here: a box loss relative to the size of the box, cross-entropy for presence, a size prior estimated from what
moves, no injection, and motion that is never turned off. With the published size prior a box is a tenth of the image,
whatever the object's size.

Deviations from the released code: losses are right for every batch size; its losses of weight zero are left out.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import Model
from objectscape.nn.distributions import gaussian_kl, posterior_means, sample_gaussian
from objectscape.nn.grid_objects import (
    LOGIT_BOUND,
    Classifier,
    GridObjects,
    presence_kl,
    ramp,
    sample_presence,
)
from objectscape.nn.mixture_background import MixtureBackground, layered_log_likelihood
from objectscape.nn.motion_supervision import (
    DynamicSchedule,
    MotionSizes,
    MotionTargets,
    continuity_loss,
    motion_targets,
    presence_cross_entropy,
    relative_box_loss,
    squared_box_loss,
    squared_presence_loss,
)
from objectscape.nn.spatial_transformer import boxes_of
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_positive
from objectscape.scene import Decomposition, Detections, Losses, Scene, record

BOUND = ("nll", "kl_presence", "kl_depth", "kl_scale", "kl_shift", "kl_what", "kl_background")
END = 10**8
"""The step at which every ramp has ended."""
PIXEL_MOVES = 0.1
"""A pixel moves where its motion is above this share of the clip's mean."""
_log = logging.getLogger(__name__)


@record
class SpaceTimeOutput(Decomposition):
    """What SPACE-Time makes of a clip; slots as in `SpaceOutput`. Numbers are in nats, or as the losses define them."""

    cells: Tensor
    """(B, [T,] N) int64 grid cell of each object, row-major"""
    presence: Tensor
    """(B, [T,] N) probability that the cell holds an object"""
    alpha: Tensor
    """(B, [T,] 1, H, W) how much of each pixel is foreground"""
    foreground: Tensor
    """(B, [T,] 3, H, W) the objects on black"""
    background: Tensor
    """(B, [T,] 3, H, W)"""
    nll: Tensor
    """(B, [T]) as are those that follow"""
    kl_presence: Tensor
    kl_depth: Tensor
    kl_scale: Tensor
    kl_shift: Tensor
    kl_what: Tensor
    kl_background: Tensor
    motion_presence: Tensor
    """error of presence against motion; this and the next two are zero without motion, and in eval mode"""
    motion_box: Tensor
    motion_alpha: Tensor
    continuity: Tensor
    """(B,) continuity loss of each clip"""
    alignment: Tensor
    """(B,) lambda, the same everywhere: 0 all motion, 1 all continuity"""

    @property
    def bound(self) -> dict[str, Tensor]:
        """The parts of the negative bound, (B,) nats of a clip."""
        return {name: getattr(self, name).reshape(len(self), -1).sum(1) for name in BOUND}


class SpaceTime(Model[Scene, SpaceTimeOutput]):
    """SPACE-Time. The defaults are those published for Pong.

    A ramp is (first step, last step, value before, value after), linear between.

    Args:
        image_size: side of the square frames in pixels, 1 to 32 times `grid` by a power of two.
        grid: G; there are G x G cells.
        components: K of the background.
        glimpse_size: side of a glimpse in pixels: 8, 16 or 32.
        render_size: side of the canvas on which a frame is drawn and compared, a multiple of 32; None: `image_size`.
        cells: how many cells are decoded and drawn, the most present ones; None: all, as published.
        what_size: D, numbers that describe an appearance.
        mask_size: numbers that describe a background component's mask.
        component_size: numbers that describe its picture.
        features: channels of the grid encoder's output.
        background_features: numbers that the background's image encoder gives.
        mask_hidden_size: of the LSTM that infers masks.
        prior_hidden_size: of the LSTM of their prior.
        component_hidden_size: of the components' prior.
        width: base of all numbers of channels; 16 as published.
        foreground_std: standard deviation of a pixel of the foreground.
        background_std: of the background.
        presence_prior: ramp of the prior probability that a cell holds an object.
        size_prior: ramp of the prior mean of width and height before the sigmoid, or "motion": mean and standard
            deviation of the moving boxes seen so far.
        size_std: its standard deviation, if it is a ramp.
        temperature: ramp of the temperature of the relaxed presence.
        injection: ramp of the share of motion in presence, boxes and alpha; None: never.
        schedule: "dynamic", or a ramp of 1 - lambda, the weight of motion.
        motion_weight: of the three motion losses together.
        presence_weight: of presence against motion.
        box_weight: of boxes against moving boxes.
        alpha_weight: of alpha against moving pixels.
        presence_loss: "squared" error or "cross_entropy".
        box_loss: "squared" error in image units, or "relative" to the size of the box.
        alpha_loss: "injected": alpha against alpha with motion mixed in, so that it ends with the injection;
            "motion": alpha against moving pixels.
        continuity_weight: of the continuity loss; 0 is SPACE-Flow.
        match_weight: of the most similar object against the sum of all candidates.
        cosine: similarity by cosine, else by squared distance.
        agreement: the most similar of several candidates must be the nearest, too.
        steepness, underestimating, found_weight, box_tolerance, use_variance, variance_steps: of the dynamic schedule,
            see `DynamicSchedule`.
        what_beta: weight of the appearance's KL; 1 is the bound. Small objects are worth few nats, so that in a short
            training their appearance is forgotten before the decoder has learned to read it.
        bound: how SPACE's own loss is reduced over frames, while the others are sums: "mean" as published, or "sum" as
            in the authors' follow-up.
        initial_presence: probability that a cell holds an object in a fresh network; None: what chance gives, near .5.
        align_corners: convention of glimpses, see `Space`.
        sample_in_eval: draw latents in eval mode too, as the released code does.
        static_background: a learned picture as a part of every component, see `MixtureBackground`.
        channel_order: of the images that the weights were trained on. Scenes are always RGB; "bgr" swaps them inside.

    Raises:
        ValueError: if an option is out of its range, or the sizes do not fit each other.
    """

    reads_clips = True

    def __init__(
        self,
        *,
        image_size: int = 128,
        grid: int = 16,
        components: int = 3,
        glimpse_size: int = 32,
        render_size: int | None = None,
        cells: int | None = None,
        what_size: int = 32,
        mask_size: int = 32,
        component_size: int = 32,
        features: int = 128,
        background_features: int = 64,
        mask_hidden_size: int = 64,
        prior_hidden_size: int = 64,
        component_hidden_size: int = 64,
        width: int = 16,
        foreground_std: float = 0.2,
        background_std: float = 0.1,
        presence_prior: Sequence[float] = (1000, 5000, 0.1, 1e-10),
        size_prior: Sequence[float] | Literal["motion"] = (0, 5000, -2.0, -2.5),
        size_std: float = 0.1,
        temperature: Sequence[float] = (0, 1, 2.5, 2.5),
        injection: Sequence[float] | None = (0, 3000, 1.0, 0.0),
        schedule: Sequence[float] | Literal["dynamic"] = "dynamic",
        motion_weight: float = 100.0,
        presence_weight: float = 10.0,
        box_weight: float = 100.0,
        alpha_weight: float = 1.0,
        presence_loss: Literal["squared", "cross_entropy"] = "squared",
        box_loss: Literal["squared", "relative"] = "squared",
        alpha_loss: Literal["injected", "motion"] = "injected",
        continuity_weight: float = 10.0,
        match_weight: float = 5.0,
        cosine: bool = True,
        agreement: bool = True,
        steepness: float = 2.0,
        underestimating: float = 1.5,
        found_weight: float = 0.025,
        box_tolerance: float = 0.1,
        use_variance: bool = True,
        variance_steps: int = 20,
        what_beta: float = 1.0,
        bound: Literal["mean", "sum"] = "mean",
        initial_presence: float | None = None,
        align_corners: bool = True,
        sample_in_eval: bool = False,
        static_background: bool = False,
        channel_order: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        super().__init__()
        check_at_least(1, grid=grid, components=components, what_size=what_size, width=width)
        check_positive(foreground_std=foreground_std, background_std=background_std, size_std=size_std)
        check_choice("channel_order", channel_order, ("rgb", "bgr"))
        check_choice("presence_loss", presence_loss, ("squared", "cross_entropy"))
        check_choice("box_loss", box_loss, ("squared", "relative"))
        check_choice("alpha_loss", alpha_loss, ("injected", "motion"))
        check_choice("bound", bound, ("mean", "sum"))
        if cells is not None and not 1 <= cells <= grid**2:
            raise ValueError(
                f"cells={cells}; expected 1 to {grid**2}, the number of cells of the grid, or None for all"
            )
        self.image_size, self.render_size = image_size, render_size or image_size
        self.grid, self.components, self.cells = grid, components, cells or grid**2
        self.what_size, self.size_std = what_size, size_std
        self.foreground_std, self.background_std = foreground_std, background_std
        self.presence_prior, self.temperature = ramp(presence_prior), ramp(temperature)
        self.injection = ramp((0, 1, 0.0, 0.0) if injection is None else injection)
        self.motion_weight, self.continuity_weight = motion_weight, continuity_weight
        self.presence_weight, self.box_weight, self.alpha_weight = presence_weight, box_weight, alpha_weight
        self.presence_loss, self.box_loss, self.alpha_loss = presence_loss, box_loss, alpha_loss
        self.match_weight, self.cosine, self.agreement = match_weight, cosine, agreement
        self.bound, self.what_beta = bound, what_beta
        self.sample_in_eval, self.channel_order = sample_in_eval, channel_order
        self.step, self._warned = END, False
        self.foreground = GridObjects(
            image_size=image_size,
            grid=grid,
            glimpse_size=glimpse_size,
            latent_dim=what_size,
            features=features,
            width=width,
            align_corners=align_corners,
        )
        self.background = MixtureBackground(
            size=self.render_size,
            components=components,
            mask_dim=mask_size,
            component_dim=component_size,
            features=background_features,
            mask_hidden=mask_hidden_size,
            prior_hidden=prior_hidden_size,
            component_hidden=component_hidden_size,
            width=width,
            static=static_background,
        )
        self.sizes = MotionSizes() if size_prior == "motion" else None
        self.size_prior = ramp((0, 1, 0.0, 0.0) if isinstance(size_prior, str) else size_prior)
        self.schedule = ramp((0, 1, 1.0, 1.0) if isinstance(schedule, str) else schedule)
        self.dynamic = None
        if schedule == "dynamic":
            self.dynamic = DynamicSchedule(
                steepness=steepness,
                underestimating=underestimating,
                found_weight=found_weight,
                tolerance=box_tolerance,
                use_variance=use_variance,
                variance_steps=variance_steps,
            )
        if initial_presence is not None:
            raw = math.atanh(math.log(initial_presence / (1 - initial_presence)) / LOGIT_BOUND)
            nn.init.constant_(self.foreground.encoder.presence.bias, raw)  # type: ignore[arg-type]

    @property
    def slots(self) -> int:
        """Objects that are drawn, and background components."""
        return self.cells + self.components

    @slots.setter
    def slots(self, slots: int) -> None:
        raise ValueError(
            f"slots={slots}; SPACE-Time has a slot per grid cell: build it with another grid, cells or components"
        )

    @property
    def slot_size(self) -> int:
        """Numbers per slot."""
        return max(self.what_size + 5, self.background.mask_dim + self.background.component_dim)

    def set_step(self, step: int) -> None:
        """Where the ramps stand in training; in eval mode they have always ended."""
        self.step = step

    def forward(self, scene: Scene, *, targets: MotionTargets | None = None) -> SpaceTimeOutput:
        """Decompose clips (B, T, 3, H, W), or images (B, 3, H, W), of the constructor's size.

        Args:
            scene: in training also with `motion` and `motion_boxes`.
            targets: instead of those made from `motion_boxes`, for B * T frames.

        Raises:
            ValueError: in training, if the scene has no motion.
        """
        image = scene.pixels
        clip = image.ndim == 5
        frames = self._swap(image.flatten(0, 1) if clip else image)  # (F, 3, H, W), F = B * T
        check_images(frames, self.image_size)
        count = image.shape[1] if clip else 1
        step = self.step if self.training else END
        motion = None
        if self.training:
            motion, targets = self._motion(scene, targets, clip)
        with posterior_means() if not self.training and not self.sample_in_eval else contextlib.nullcontext():
            per_frame, per_clip = self._explain(frames, step, count, motion, targets)
        if clip:
            per_frame = {name: value.unflatten(0, (-1, count)) for name, value in per_frame.items()}
        return SpaceTimeOutput(**per_frame, **per_clip)

    def _motion(self, scene: Scene, targets: MotionTargets | None, clip: bool) -> tuple[Tensor, MotionTargets]:
        """Which pixels of the canvas move (F, 1, S, S), and targets for the cells."""
        if scene.motion is None or (targets is None and scene.motion_boxes is None):
            raise ValueError(
                "SPACE-Time learns from motion, and these scenes have no `motion` or no `motion_boxes`; make data with "
                "`objectscape data make atari` or `data make video`, or train `space`, which needs none"
            )
        motion = scene.motion
        over = tuple(range(1, motion.ndim))
        motion = (motion > PIXEL_MOVES * motion.mean(over, keepdim=True)).float()
        motion = motion.flatten(0, 1) if clip else motion
        if targets is None:
            assert scene.motion_boxes is not None
            boxes = scene.motion_boxes.flatten(0, 1) if clip else scene.motion_boxes
            targets = motion_targets(boxes, self.grid, (self.image_size, self.image_size))
        if self.sizes is not None:
            fresh = not self.sizes.sums[0, 0]
            self.sizes.remember(targets)
            if fresh:  # the network starts with boxes of the size of what moves
                with torch.no_grad():
                    self.foreground.encoder.scale.bias[:2] = self.sizes()[0]  # type: ignore[index]
        return F.interpolate(motion, self.render_size, mode="area"), targets

    def _explain(
        self, image: Tensor, step: int, frames: int, motion: Tensor | None, targets: MotionTargets | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Everything about frames (F, 3, H, W), and everything about the clips they come from."""
        seen = self.foreground.encoder(image)  # N cells
        own_logits = logits = LOGIT_BOUND * seen.presence.tanh()  # (F, N, 1)
        depth, scale, shift = (sample_gaussian(*x) for x in (seen.depth, seen.scale, seen.shift))
        own_where = where = self.foreground.where(scale, shift)  # (F, N, 4)
        injected = self.injection.at(step) if targets is not None else 0.0
        if targets is not None and injected:
            logits = (1 - injected) * own_logits + injected * LOGIT_BOUND * (2 * targets.presence - 1)
            where = (1 - injected) * own_where + injected * targets.where
        presence = sample_presence(logits, self.temperature.at(step))
        everywhere = (where, logits.sigmoid())

        chosen = self.foreground.choose(logits, self.cells)  # (F, K, 1)
        where, depth, presence = (x.take_along_dim(chosen, 1) for x in (where, depth, presence))
        what_posterior = self.foreground.look(image, where)
        what = sample_gaussian(*what_posterior)  # (F, K, D)
        canvas = F.interpolate(image, self.render_size, mode="area") if self.render_size != self.image_size else image
        drawing = self.foreground.draw(what, where, depth, presence, self.render_size, absent=self.grid**2 - self.cells)
        back = self.background(canvas)
        alpha = drawing.alpha
        if motion is not None and injected:
            alpha = (1 - injected) * alpha + injected * motion
        log_likelihood = layered_log_likelihood(
            canvas,
            drawing.color,
            alpha,
            back.components,
            back.masks,
            front_std=self.foreground_std,
            back_std=self.background_std,
        )
        scale_prior = (self.size_prior.at(step), self.size_std) if self.sizes is None else self.sizes()
        probability = logits.sigmoid().take_along_dim(chosen, 1)[..., 0]
        behind = (back.masks * back.components).sum(1)
        with torch.no_grad():
            masks = torch.cat([drawing.share, (1 - drawing.alpha)[:, None] * back.masks], 1)
            pictures = torch.cat([drawing.colors, back.components], 1)
        latents = torch.cat([where, depth, what], -1)
        latents = F.pad(latents, (0, self.slot_size - latents.shape[-1]))
        boxes = boxes_of(where, (self.image_size, self.image_size))
        result = {
            "recon": self._enlarge(self._swap(alpha * drawing.color + (1 - alpha) * behind)),
            "masks": self._enlarge(masks.clamp_min(0)),
            "components": self._enlarge(self._swap(pictures)),
            "slots": torch.cat([latents, F.pad(back.latents, (0, self.slot_size - back.latents.shape[-1]))], 1),
            "boxes": F.pad(boxes, (0, 0, 0, self.components)),
            "present": F.pad(probability, (0, self.components), value=1.0),
            "cells": chosen[..., 0],
            "presence": probability,
            "alpha": self._enlarge(drawing.alpha),
            "foreground": self._enlarge(self._swap(drawing.color)),
            "background": self._enlarge(self._swap(behind)),
            "nll": -log_likelihood.sum((1, 2, 3)),
            "kl_presence": presence_kl(logits, self.presence_prior.at(step)).sum((1, 2)),
            "kl_depth": gaussian_kl(*seen.depth).sum((1, 2)),
            "kl_scale": gaussian_kl(*seen.scale, *scale_prior).sum((1, 2)),
            "kl_shift": gaussian_kl(*seen.shift).sum((1, 2)),
            "kl_what": gaussian_kl(*what_posterior).sum((1, 2)),
            "kl_background": back.kl,
            **self._motion_losses(own_logits, own_where, drawing.alpha, alpha, motion, targets),
        }
        clips = len(image) // frames
        continuity = image.new_zeros(clips)
        if frames > 1 and self.continuity_weight > 0:
            continuity = self._continuity(what, *everywhere, chosen, frames)
        alignment = image.new_tensor(1 - self.schedule.at(step))
        if targets is not None and self.dynamic is not None:
            alignment = self.dynamic(own_logits.sigmoid(), own_where, targets, frames)
        if targets is not None:
            self._watch(step, own_logits, targets)
        return result, {"continuity": continuity, "alignment": alignment.expand(clips)}

    def _motion_losses(
        self,
        logits: Tensor,
        where: Tensor,
        own_alpha: Tensor,
        alpha: Tensor,
        motion: Tensor | None,
        targets: MotionTargets | None,
    ) -> dict[str, Tensor]:
        """Errors of the model's own presence, boxes and alpha against motion, (F,) each."""
        if motion is None or targets is None:
            none = logits.new_zeros(len(logits))
            return {"motion_presence": none, "motion_box": none, "motion_alpha": none}
        probability = logits.sigmoid()
        squared = self.presence_loss == "squared"
        goal = motion if self.alpha_loss == "motion" else alpha
        return {
            "motion_presence": squared_presence_loss(probability, targets)
            if squared
            else presence_cross_entropy(logits, targets),
            "motion_box": squared_box_loss(where, probability, targets)
            if self.box_loss == "squared"
            else relative_box_loss(where, targets),
            "motion_alpha": (goal - own_alpha).square().sum((1, 2, 3)),
        }

    def _continuity(self, what: Tensor, where: Tensor, probability: Tensor, chosen: Tensor, frames: int) -> Tensor:
        """(B,) from appearances (F, K, D) of the chosen cells (F, K, 1), and boxes and presence of all."""
        cells = self.grid**2
        everywhere = what.new_zeros(len(what), cells, what.shape[-1])
        everywhere = everywhere.scatter(1, chosen.expand_as(what), what)
        drawn = torch.zeros_like(probability).scatter(1, chosen, 1.0)
        what, where, probability = (
            x.unflatten(0, (-1, frames)).unflatten(2, (self.grid, self.grid))
            for x in (everywhere, where, probability * drawn)
        )
        return continuity_loss(
            what,
            where,
            probability[..., 0],
            match_weight=self.match_weight,
            cosine=self.cosine,
            agreement=self.agreement,
        ).loss

    def loss(self, scene: Scene, output: SpaceTimeOutput, step: int) -> Losses:
        """SPACE's negative bound, plus lambda * continuity, plus (1 - lambda) * motion."""
        per_frame = {name: getattr(output, name).flatten() for name in BOUND}
        parts = {name: value.mean() for name, value in per_frame.items()}
        bound = torch.stack(list(parts.values())).sum()
        alignment = output.alignment[0]
        motion = {name: getattr(output, f"motion_{name}").sum() for name in ("presence", "box", "alpha")}
        taught = (
            self.presence_weight * motion["presence"]
            + self.box_weight * motion["box"]
            + self.alpha_weight * motion["alpha"]
        )
        continuity = output.continuity.sum()
        total = bound + (self.what_beta - 1) * parts["kl_what"]
        total = total if self.bound == "mean" else total * len(per_frame["nll"])
        total = total + alignment * self.continuity_weight * continuity
        total = total + (1 - alignment) * self.motion_weight * taught
        terms = parts | {f"motion_{name}": value for name, value in motion.items()}
        terms |= {"negative_elbo": bound, "continuity": continuity, "lambda": alignment}
        terms |= {"count": output.presence.sum(-1).mean()}
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})

    def decode(self, slots: Tensor, *, present: Tensor | None = None) -> Decomposition:
        """Draw latents of frames: those of a scene, of several mixed, or of objects put elsewhere.

        Args:
            slots: (B, N + K, slot_size) objects, then the K background components.
            present: (B, N + K) between 0 and 1; an absent background component leaves its place black.
        """
        front, behind = slots.split([slots.shape[1] - self.components, self.components], 1)
        count = front.shape[1]
        there = slots.new_ones(slots.shape[:2]) if present is None else present.to(slots)
        where, depth, what = front[..., : self.what_size + 5].split([4, 1, self.what_size], -1)
        drawing = self.foreground.draw(
            what, where, depth, there[:, :count, None], self.render_size, absent=self.grid**2 - count
        )
        components, masks = self.background.decode(
            behind[..., : self.background.mask_dim + self.background.component_dim]
        )
        components = components * there[:, count:, None, None, None]
        recon = drawing.alpha * drawing.color + (1 - drawing.alpha) * (masks * components).sum(1)
        return Decomposition(
            recon=self._enlarge(self._swap(recon)),
            masks=self._enlarge(torch.cat([drawing.share, (1 - drawing.alpha)[:, None] * masks], 1)),
            components=self._enlarge(self._swap(torch.cat([drawing.colors, components], 1))),
            slots=slots,
            boxes=F.pad(boxes_of(where, (self.image_size, self.image_size)), (0, 0, 0, self.components)),
            present=there,
        )

    def latents(self, output: SpaceTimeOutput) -> Tensor:
        """(B, [T,] N + K, slot_size + 1) all that a slot is drawn from: its latents, and whether it is present."""
        assert output.present is not None
        return torch.cat([output.slots, output.present.unsqueeze(-1)], -1)

    def shift(self, latents: Tensor, by: Tensor, *, size: tuple[int, int]) -> Tensor:
        """`latents` (B, N + K, slot_size + 1), objects `by` (B, N + K, 2) pixels to the right and down."""
        height, width = size
        moved = latents[..., 2:4] + 2 * by / by.new_tensor([width, height])
        objects = torch.arange(latents.shape[1], device=by.device) < latents.shape[1] - self.components
        center = torch.where(objects[:, None], moved, latents[..., 2:4])
        return torch.cat([latents[..., :2], center, latents[..., 4:]], -1)

    def redraw(self, latents: Tensor, *, size: tuple[int, int], present: Tensor | None = None) -> Decomposition:
        """The scene that `latents` (B, N + K, slot_size + 1) give, without slots that are not `present` (B, N + K)."""
        there = latents[..., -1] if present is None else latents[..., -1] * present
        return self.decode(latents[..., :-1], present=there)

    @torch.no_grad()
    def detect(self, scene: Scene) -> Detections:
        """The `cells` most probable objects of images or clips, without drawing them; `latents` is their appearance."""
        image = scene.pixels
        clip = image.ndim == 5
        frames = image.shape[1] if clip else 1
        image = image.flatten(0, 1) if clip else image
        check_images(image, self.image_size)
        probability, where, rest = self.foreground.find(self._swap(image), self.cells)
        found = Detections(
            boxes=boxes_of(where, (self.image_size, self.image_size)), confidence=probability, latents=rest[..., 1:]
        )
        return found.unfold_time(frames) if clip else found

    def fingerprint(self) -> str:
        """What tells this model's objects from another's: a classifier keeps it."""
        return self.foreground.fingerprint()

    def describe(self, image: Tensor, classifier: Classifier | None) -> dict[str, list[tuple[float, ...]]]:
        """What is where in one image, by class.

        Args:
            image: (3, H, W) RGB, uint8 or in [0, 1].
            classifier: fitted to this model's objects; None puts all of them under "object".

        Returns:
            {class: [(sx, sy, tx, ty), ...]}: width and height as fractions of the image, center from -1 to 1. Empty
            if there is no object.

        Raises:
            ValueError: if the classifier belongs to another model.
        """
        pixels = Scene(image=image[None].to(self.foreground.cell_centers.device)).pixels
        check_images(pixels, self.image_size)
        return self.foreground.describe(self._swap(pixels), self.cells, classifier)

    def _swap(self, image: Tensor) -> Tensor:
        """RGB to the order of the weights, and back."""
        return image.flip(-3) if self.channel_order == "bgr" else image

    @torch.no_grad()
    def _enlarge(self, x: Tensor) -> Tensor:
        """From the canvas (..., C, S, S) to the image's size, by nearest."""
        if self.render_size == self.image_size:
            return x
        return F.interpolate(x.flatten(0, -4), self.image_size).unflatten(0, x.shape[:-3])

    def _watch(self, step: int, logits: Tensor, targets: MotionTargets) -> None:
        """Warn once if the network has stopped to see objects where something moves."""
        if self._warned or step < 50 or step % 50:
            return
        found, moving = float(logits.detach().sigmoid().mean()), float(targets.presence.mean())
        if found < 0.2 * moving:
            self._warned = True
            _log.warning(
                "the presence head has collapsed: at step %d it finds %.2f objects per frame where %.2f move. It will "
                "hardly recover: start again with presence_loss=cross_entropy, initial_presence=0.07 or another seed",
                step,
                found * logits.shape[1],
                moving * logits.shape[1],
            )
