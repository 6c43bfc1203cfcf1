"""SPACE (Lin et al., "Unsupervised Object-Oriented Scene Representation via Spatial Attention", ICLR 2020).

1. Foreground: the image is divided into a grid of cells. Each says whether it holds an object (`presence`), where
   (a box), how near, and what: a code for the glimpse under the box. Codes are decoded to small pictures with alpha
   and pasted back; where they overlap, a softmax over presence and nearness decides.
2. Background: K components with masks (`nn.mixture_background`), which explain what is left.
3. A pixel belongs to the foreground with probability alpha, else to a component: a mixture of Gaussians, per channel.
4. Presence, box size and the sharpness of presence are annealed by `Ramp`s: first the foreground is kept small, then
   few cells may hold objects.

The loss is the negative bound in nats, plus a boundary loss that keeps objects whole at the edges of their glimpses.

Decisions: results are computed from posterior means in eval mode, and with the final values of the ramps; the released
code draws samples there too (`sample_in_eval`). `recon` is the paper's, whose foreground fades towards its edges
(alpha counts twice). Only the `cells` most present cells are decoded and drawn, if that is given: an absent cell
draws nothing.

Deviations from the released code: images, glimpses and the canvas may have other sizes; scale and shift priors are
part of the configuration. Kept: the fixed alpha starts at step 1, not 0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.contract import Model
from objectscape.nn.distributions import gaussian_kl, posterior_means, sample_gaussian
from objectscape.nn.grid_objects import (
    LOGIT_BOUND,
    Classifier,
    Drawing,
    GridObjects,
    presence_kl,
    ramp,
    sample_presence,
)
from objectscape.nn.mixture_background import MixtureBackground, layered_log_likelihood
from objectscape.nn.mixtures import gaussian_log_likelihood
from objectscape.nn.spatial_transformer import boxes_of
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_noise, check_positive
from objectscape.scene import Decomposition, Detections, Losses, Scene, record

BOUND = ("nll", "kl_presence", "kl_depth", "kl_scale", "kl_shift", "kl_what", "kl_background")
END = 10**8
"""The step at which every ramp has ended."""
BOUNDARY_STD = 0.7


@record
class SpaceOutput(Decomposition):
    """What SPACE makes of a scene. The first slots are objects, in the order of their presence if `cells` is given,
    else row by row; the last K are the background. A slot's latents are where (4), depth (1), what (D) for an object;
    mask and picture for a background component; zeros fill the shorter ones up.

    `boxes` and `present` belong to objects; background components have empty boxes and are always present."""

    cells: Tensor
    """(B, N) int64 grid cell of each object, row-major"""
    presence: Tensor
    """(B, N) probability that the cell holds an object; without the background's ones, unlike `present`"""
    alpha: Tensor
    """(B, 1, H, W) how much of each pixel is foreground"""
    foreground: Tensor
    """(B, 3, H, W) the objects on black"""
    background: Tensor
    """(B, 3, H, W)"""
    nll: Tensor
    """(B,) nats, as are the following; summed over pixels, cells and latents"""
    kl_presence: Tensor
    kl_depth: Tensor
    kl_scale: Tensor
    kl_shift: Tensor
    kl_what: Tensor
    kl_background: Tensor
    boundary_loss: Tensor

    @property
    def bound(self) -> dict[str, Tensor]:
        """The parts of the negative bound, (B,) nats."""
        return {name: getattr(self, name) for name in BOUND}


class Space(Model[Scene, SpaceOutput]):
    """SPACE. The defaults are those of the released code's 3-D rooms with small objects.

    A ramp is (first step, last step, value before, value after), linear between.

    Args:
        image_size: side of the square images in pixels, 1 to 32 times `grid` by a power of two.
        grid: G; there are G x G cells.
        components: K of the background; 1 gives it the strong decoder and no masks.
        glimpse_size: side of a glimpse in pixels: 8, 16 or 32.
        render_size: side of the canvas on which the scene is drawn and compared, a multiple of 32; None: `image_size`.
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
        size_prior: ramp of the prior mean of width and height, before the sigmoid.
        size_std: its standard deviation.
        temperature: ramp of the temperature of the relaxed presence.
        fixed_alpha: alpha in the likelihood of the first `fixed_alpha_steps` steps.
        fixed_alpha_steps: see `fixed_alpha`.
        boundary_steps: steps during which the boundary loss acts; 0 turns it off.
        align_corners: convention of glimpses: True as in the PyTorch of the paper's time, False as in today's.
        sample_in_eval: draw latents in eval mode too, as the released code does.
        static_background: a learned picture as a part of every component, see `MixtureBackground`.
        channel_order: of the images that the weights were trained on. Scenes are always RGB; "bgr" swaps them inside.

    Raises:
        ValueError: if an option is out of its range, or the sizes do not fit each other.
    """

    def __init__(
        self,
        *,
        image_size: int = 128,
        grid: int = 8,
        components: int = 5,
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
        foreground_std: float = 0.15,
        background_std: float = 0.15,
        presence_prior: Sequence[float] = (4000, 10000, 0.1, 0.01),
        size_prior: Sequence[float] = (10000, 20000, -1.0, -2.0),
        size_std: float = 0.1,
        temperature: Sequence[float] = (0, 20000, 2.5, 0.5),
        fixed_alpha: float = 0.1,
        fixed_alpha_steps: int = 0,
        boundary_steps: int = 100_000,
        align_corners: bool = True,
        sample_in_eval: bool = False,
        static_background: bool = False,
        channel_order: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        super().__init__()
        check_at_least(1, grid=grid, components=components, what_size=what_size, width=width)
        check_positive(foreground_std=foreground_std, background_std=background_std, size_std=size_std)
        check_choice("channel_order", channel_order, ("rgb", "bgr"))
        if cells is not None and not 1 <= cells <= grid**2:
            raise ValueError(
                f"cells={cells}; expected 1 to {grid**2}, the number of cells of the grid, or None for all"
            )
        self.image_size, self.render_size = image_size, render_size or image_size
        self.grid, self.components, self.cells = grid, components, cells or grid**2
        self.what_size, self.size_std = what_size, size_std
        self.foreground_std, self.background_std = foreground_std, background_std
        self.presence_prior, self.size_prior = ramp(presence_prior), ramp(size_prior)
        self.temperature = ramp(temperature)
        self.fixed_alpha, self.fixed_alpha_steps = fixed_alpha, fixed_alpha_steps
        self.boundary_steps = boundary_steps
        self.sample_in_eval, self.channel_order = sample_in_eval, channel_order
        self.step = END
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

    @property
    def slots(self) -> int:
        """Objects that are drawn, and background components."""
        return self.cells + self.components

    @slots.setter
    def slots(self, slots: int) -> None:
        raise ValueError(
            f"slots={slots}; SPACE has a slot per grid cell: build it with another grid, cells or components"
        )

    @property
    def slot_size(self) -> int:
        """Numbers per slot."""
        return max(self.what_size + 5, self.background.mask_dim + self.background.component_dim)

    def set_step(self, step: int) -> None:
        """Where the ramps stand in training; in eval mode they have always ended."""
        self.step = step

    def forward(self, scene: Scene) -> SpaceOutput:
        """Decompose a batch of images of the constructor's size."""
        image = scene.pixels  # (B, 3, H, W)
        check_images(image, self.image_size)
        image = self._swap(image)
        step = self.step if self.training else END
        means = not self.training and not self.sample_in_eval
        with posterior_means() if means else contextlib.nullcontext():
            return self._explain(image, step)

    def _explain(self, image: Tensor, step: int) -> SpaceOutput:
        seen = self.foreground.encoder(image)  # N cells
        logits = LOGIT_BOUND * seen.presence.tanh()  # (B, N, 1)
        presence = sample_presence(logits, self.temperature.at(step))
        depth, scale, shift = (sample_gaussian(*x) for x in (seen.depth, seen.scale, seen.shift))
        where = self.foreground.where(scale, shift)  # (B, N, 4)

        chosen = self.foreground.choose(logits, self.cells)  # (B, K, 1)
        where, depth, presence = (x.take_along_dim(chosen, 1) for x in (where, depth, presence))
        what_posterior = self.foreground.look(image, where)
        what = sample_gaussian(*what_posterior)  # (B, K, D)
        canvas = F.interpolate(image, self.render_size, mode="area") if self.render_size != self.image_size else image
        bounded = step <= self.boundary_steps and self.boundary_steps > 0
        drawing = self.foreground.draw(
            what, where, depth, presence, self.render_size, absent=self.grid**2 - self.cells, boundary=bounded
        )
        back = self.background(canvas)

        fixed = 0 < step < self.fixed_alpha_steps
        alpha = torch.full_like(drawing.alpha, self.fixed_alpha) if fixed else drawing.alpha
        log_likelihood = layered_log_likelihood(
            canvas,
            drawing.color,
            alpha,
            back.components,
            back.masks,
            front_std=self.foreground_std,
            back_std=self.background_std,
        )
        latents = torch.cat([where, depth, what], -1)  # (B, K, 5 + D)
        scale_mean = self.size_prior.at(step)
        probability = logits.sigmoid().take_along_dim(chosen, 1)[..., 0]
        return SpaceOutput(
            **self._pictures(drawing, back.components, back.masks, alpha),
            **self._slots(latents, back.latents, probability),
            cells=chosen[..., 0],
            presence=probability,
            nll=-log_likelihood.sum((1, 2, 3)),
            kl_presence=presence_kl(logits, self.presence_prior.at(step)).sum((1, 2)),
            kl_depth=gaussian_kl(*seen.depth).sum((1, 2)),
            kl_scale=gaussian_kl(seen.scale[0], seen.scale[1], scale_mean, self.size_std).sum((1, 2)),
            kl_shift=gaussian_kl(*seen.shift).sum((1, 2)),
            kl_what=gaussian_kl(*what_posterior).sum((1, 2)),
            kl_background=back.kl,
            boundary_loss=self._boundary(drawing),
        )

    def loss(self, scene: Scene, output: SpaceOutput, step: int) -> Losses:
        """The negative bound plus the boundary loss, in nats, averaged over the batch."""
        parts = {name: value.mean() for name, value in output.bound.items()}
        boundary = output.boundary_loss.mean()
        bound = torch.stack(list(parts.values())).sum()
        terms = parts | {"negative_elbo": bound, "boundary": boundary, "count": output.presence.sum(1).mean()}
        return Losses(total=bound + boundary, terms={name: value.detach() for name, value in terms.items()})

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition:
        """Imagine `n` scenes from the priors, as they are at the end of their ramps.

        A prior that was annealed to almost no objects gives backgrounds without objects.

        Args:
            n: number of scenes.
            noise: (n, G * G + K, slot_size + 1) standard normal numbers, instead of a draw.
        """
        total = self.grid**2 + self.components
        check_noise(noise, n, total, self.slot_size + 1)
        zeros = self.foreground.cell_centers.new_zeros(n, total, self.slot_size + 1)
        noise = sample_gaussian(zeros, torch.ones_like(zeros), noise)
        front, behind = noise.split([self.grid**2, self.components], 1)
        there = torch.special.ndtr(front[..., :1]) < self.presence_prior.end  # (n, N, 1)
        depth, scale, shift = front[..., 1:2], front[..., 2:4], front[..., 4:6]
        where = self.foreground.where(self.size_prior.end + self.size_std * scale, shift)
        latents = torch.cat([where, depth, front[..., 6 : 6 + self.what_size]], -1)
        chosen = self.foreground.choose(there.to(latents), self.cells)
        width = self.background.mask_dim + self.background.component_dim
        parts = self._slots(
            latents.take_along_dim(chosen, 1),
            self.background.sample(behind[..., :width]),
            there.to(latents).take_along_dim(chosen, 1)[..., 0],
        )
        return self.decode(parts["slots"], present=parts["present"])

    def decode(self, slots: Tensor, *, present: Tensor | None = None) -> Decomposition:
        """Draw latents: those of a scene, of several mixed, or of objects put elsewhere.

        Args:
            slots: (B, N + K, slot_size) as in `SpaceOutput`: objects, then the K background components.
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
        parts = self._pictures(drawing, components, masks, drawing.alpha)
        boxes = F.pad(boxes_of(where, (self.image_size, self.image_size)), (0, 0, 0, self.components))
        return Decomposition(
            recon=parts["recon"], masks=parts["masks"], components=parts["components"],
            slots=slots, boxes=boxes, present=there,
        )  # fmt: skip

    def latents(self, output: SpaceOutput) -> Tensor:
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
        """The `cells` most probable objects of images, without drawing them; `latents` is their appearance."""
        image = scene.pixels
        check_images(image, self.image_size)
        probability, where, rest = self.foreground.find(self._swap(image), self.cells)
        return Detections(
            boxes=boxes_of(where, (self.image_size, self.image_size)), confidence=probability, latents=rest[..., 1:]
        )

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

    def _pictures(self, drawing: Drawing, components: Tensor, masks: Tensor, alpha: Tensor) -> dict[str, Tensor]:
        behind = (masks * components).sum(1)
        with torch.no_grad():
            every_mask = torch.cat([drawing.share, (1 - drawing.alpha)[:, None] * masks], 1)
            every_picture = torch.cat([drawing.colors, components], 1)
        return {
            "recon": self._enlarge(self._swap(alpha * drawing.color + (1 - alpha) * behind)),
            "masks": self._enlarge(every_mask.clamp_min(0)),
            "components": self._enlarge(self._swap(every_picture)),
            "alpha": self._enlarge(drawing.alpha),
            "foreground": self._enlarge(self._swap(drawing.color)),
            "background": self._enlarge(self._swap(behind)),
        }

    def _slots(self, front: Tensor, behind: Tensor, probability: Tensor) -> dict[str, Tensor]:
        front = F.pad(front, (0, self.slot_size - front.shape[-1]))
        behind = F.pad(behind, (0, self.slot_size - behind.shape[-1]))
        boxes = boxes_of(front[..., :4], (self.image_size, self.image_size))
        return {
            "slots": torch.cat([front, behind], 1),
            "boxes": F.pad(boxes, (0, 0, 0, self.components)),
            "present": F.pad(probability, (0, self.components), value=1.0),
        }

    def _boundary(self, drawing: Drawing) -> Tensor:
        if drawing.boundary is None:
            return drawing.alpha.new_zeros(len(drawing.alpha))
        touched = drawing.boundary * drawing.alpha
        return -gaussian_log_likelihood(torch.zeros_like(touched), touched, BOUNDARY_STD).sum((1, 2, 3))
