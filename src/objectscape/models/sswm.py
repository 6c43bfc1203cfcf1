"""SSWM (Emami, He, Rangarajan, Ranka, "A Symmetric and Object-Centric World Model for Stochastic Environments", NeurIPS
2020 workshop on object representations): sees objects, and imagines many futures of them.

1. K slots share one decoder; a pixel is a mixture of the K pictures, each color on its own.
2. Context frames are seen by iterative inference (IODINE's): a guess of every slot is corrected by a network that reads
   the gradient of the loss. The first guess of a frame is what the dynamics expects.
3. An interaction network, with the action and a memory, gives a Gaussian for every slot of the next frame.
4. Futures are drawn from it, each from its own past draws. In training, many are drawn and only the one nearest to the
   truth is blamed ("best of many"), so that the others may differ.

Defaults are the published `bair_actions` settings. The same class is the paper's own ablations: one future
(`objective="single"`), no memory (`memory="none"`), and its version of OP3 (`memory="state"`, `shared_std=False`,
`objective="single"`, `rollouts=1`).

Decisions: the memory is carried from frame to frame, with the same numbers as reading the whole past again at every
frame. Of many futures the best is chosen without recording, and only that one is drawn for the gradient. GECO's
multiplier is the buffer `reconstruction_weight`; 1 means that GECO is not (yet) at work, and softplus(beta) is never 1.

Deviations from the released code, whose behavior is an option: it shows the refinement network frames of other clips of
the batch (`frames="released"`), and counts a pair of slots in one direction only (`pairs="released"`). Its per-step
best-of-many ("best_step") keeps the draw that was best; the released code keeps one of another clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import Model
from objectscape.nn.clips import check_actions, check_clips
from objectscape.nn.distributions import gaussian_kl, sample_gaussian
from objectscape.nn.inner_gradients import follows_gradients, node
from objectscape.nn.interaction import Interaction
from objectscape.nn.mixtures import mixture_log_likelihood
from objectscape.nn.raw_scales import mean_and_std, std_of
from objectscape.nn.recurrent import LSTMCell
from objectscape.nn.tiled_decoder import TiledDecoder
from objectscape.nn.validation import check_at_least, check_choice, check_positive
from objectscape.scene import Decomposition, Losses, Scene, Tensors, record

HALF_LOG_2PI = 0.9189385332046727
OBJECTIVES = ("best_of_many", "single", "best_step")


@record
class SSWMState(Tensors):
    """What the model knows of a moment, or of many: lead axes (B,) or (B, S, T)."""

    slots: Tensor
    """(..., K, D)"""
    memory: Tensor
    """(..., K, M) of the dynamics; M may be 0."""


@record
class SSWMOutput(Decomposition):
    """A Decomposition of a clip, (B, T, ...): `observed` frames seen, the rest imagined (the future that was kept).

    E is the number of evaluations of the posterior, over all observed frames. A Gaussian is its mean and raw scale.
    """

    memory: Tensor
    """(B, T, K, M)"""
    nll: Tensor
    """(B, T) negative log-likelihood in nats, without log(2 pi) / 2 per value: last evaluation, or imagined."""
    kl: Tensor
    """(B, T, K) KL of the last posterior in nats; 0 where the frame was imagined."""
    params: Tensor
    """(B, T, K, 2D) last posterior, or the dynamics' Gaussian where the frame was imagined."""
    evaluation_nll: Tensor
    """(B, E)"""
    evaluation_kl: Tensor
    """(B, E, K)"""
    evaluation_weight: Tensor
    """(B, E) i / I for the i-th of the I evaluations of a frame."""
    imagined: Tensor
    """(B, T) 1 where the frame was imagined, else 0."""


class Refinement(nn.Module):
    """From pictures, gradients and the posterior to a correction of the posterior."""

    def __init__(
        self, *, slot_size: int, image_size: tuple[int, int], channels: int, kernel: int, lstm_size: int
    ) -> None:
        super().__init__()
        rows, columns = (torch.linspace(-1, 1, length) for length in image_size)
        grid = torch.stack([columns.expand(image_size), rows[:, None].expand(image_size)])
        self.register_buffer("grid", grid, persistent=False)
        self.convs = nn.Sequential(
            nn.Conv2d(13, channels, kernel, padding=kernel // 2),
            nn.ELU(inplace=True),
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2),
            nn.ELU(inplace=True),
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2),
            nn.ELU(inplace=True),
            nn.AvgPool2d(4),
            nn.Flatten(),
            nn.Linear(channels * (image_size[0] // 4) * (image_size[1] // 4), lstm_size),
            nn.ELU(),
        )
        self.merge = nn.Linear(lstm_size + 4 * slot_size, lstm_size)
        self.lstm = LSTMCell(lstm_size, lstm_size)
        self.mean = nn.Linear(lstm_size, slot_size)
        self.raw_scale = nn.Linear(lstm_size, slot_size)

    def forward(
        self, pictures: Tensor, vectors: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Pictures (N, 13, H, W), vectors (N, 4D), LSTM state (None: zeros) -> correction (N, 2D), new state."""
        hidden = F.elu(self.merge(torch.cat([self.convs(pictures).to(vectors.dtype), vectors], 1)))
        hidden, cell = self.lstm(hidden, state)
        return torch.cat([self.mean(hidden), self.raw_scale(hidden)], 1), (hidden, cell)


class _Drawing(NamedTuple):
    components: Tensor
    """(N, K, 3, H, W) in [0, 1]"""
    log_masks: Tensor
    """(N, K, 1, H, W)"""


class _Frame(NamedTuple):
    """One frame of a clip, as it goes into the output."""

    slots: Tensor
    memory: Tensor
    params: Tensor
    nll: Tensor
    kl: Tensor
    drawing: _Drawing


class SSWM(Model):
    """SSWM: clips are seen, futures imagined.

    Args:
        image_size: height and width in pixels, or one number for both; multiples of 4.
        slots: number K of slots; settable.
        slot_size: width D of a slot.
        channels: width of all convolutions.
        refinement_kernel: side of the refinement network's kernels; 5 in the released settings, 3 in the paper.
        lstm_size: width of the refinement network's memory.
        context: frames that are seen in training; the rest of a clip is imagined. Settable.
        evaluations: how often the posterior is evaluated in each frame that is seen (one correction less); the last
            number counts for all further frames. Settable.
        rollouts: number S of futures in training. Settable.
        objective: "best_of_many" blames the best of S futures; "single" blames one; "best_step" chooses the best of S
            draws at every step.
        memory: "history", "none" or "state"; see `objectscape.nn.interaction.Interaction`.
        shared_std: the expected slots of a frame that is seen have one learned standard deviation; otherwise that of
            the dynamics.
        pairs: "directed" or "released"; see `Interaction`.
        frames: "right", or "released": slot k of clip n of N is corrected by looking at clip (n K + k) mod N.
        action_size: width A of an action; 0 for none.
        action_shift: frame t is led to by action t - shift of the clip.
        action_noise: standard deviation of Gaussian noise on an action whenever it is read, in evaluation as well.
        noise_per: the futures of a "video" share this noise, or each "rollout" has its own.
        pixel_std: standard deviation of the pixels of every slot but the first.
        background_std: that of the first.
        kl_weight: of the KL.

    Raises:
        ValueError: for a value outside its range.
    """

    reads_clips = True
    reconstruction_weight: Tensor
    """() weight of the negative log-likelihood, steered by GECO."""

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] = 64,
        slots: int = 6,
        slot_size: int = 64,
        channels: int = 32,
        refinement_kernel: int = 5,
        lstm_size: int = 128,
        context: int = 2,
        evaluations: Sequence[int] = (4, 2),
        rollouts: int = 10,
        objective: Literal["best_of_many", "single", "best_step"] = "best_of_many",
        memory: Literal["history", "none", "state"] = "history",
        shared_std: bool = True,
        pairs: Literal["directed", "released"] = "directed",
        frames: Literal["right", "released"] = "right",
        action_size: int = 0,
        action_shift: int = 1,
        action_noise: float = 0.05,
        noise_per: Literal["video", "rollout"] = "video",
        pixel_std: float = 0.11,
        background_std: float = 0.09,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        check_at_least(1, slots=slots, slot_size=slot_size, channels=channels, lstm_size=lstm_size)
        check_at_least(1, context=context, rollouts=rollouts, refinement_kernel=refinement_kernel)
        check_at_least(0, action_size=action_size, action_shift=action_shift)
        check_positive(pixel_std=pixel_std, background_std=background_std)
        check_choice("objective", objective, OBJECTIVES)
        check_choice("frames", frames, ("right", "released"))
        check_choice("noise_per", noise_per, ("video", "rollout"))
        if len(size) != 2 or any(length < 4 or length % 4 for length in size):
            raise ValueError(f"image_size={image_size}: expected height and width in pixels, multiples of 4.")
        if isinstance(evaluations, int) or not evaluations or min(evaluations) < 1:
            raise ValueError(f"evaluations={evaluations}: expected a list of numbers of at least 1, such as [4, 2].")
        if action_noise < 0:
            raise ValueError(f"action_noise={action_noise}: a standard deviation is 0 or more.")
        self.image_size = (size[0], size[1])
        self.slots, self.slot_size, self.context, self.rollouts = slots, slot_size, context, rollouts
        self.evaluations, self.objective, self.shared_std, self.frames = evaluations, objective, shared_std, frames
        self.action_size, self.action_shift = action_size, action_shift
        self.action_noise, self.noise_per = action_noise, noise_per
        self.pixel_std, self.background_std, self.kl_weight = pixel_std, background_std, kl_weight

        self.initial = nn.Parameter(torch.cat([torch.zeros(slot_size), torch.ones(slot_size)]))  # mean, raw scale
        self.dynamics = Interaction(slot_size=slot_size, action_size=action_size, memory=memory, pairs=pairs)
        self.draws_memory = memory == "state"
        drawn = slot_size + (self.dynamics.memory_size if self.draws_memory else 0)
        self.decoder = TiledDecoder(inputs=drawn, image_size=self.image_size, channels=[channels] * 4)
        self.refiner = Refinement(
            slot_size=slot_size,
            image_size=self.image_size,
            channels=channels,
            kernel=refinement_kernel,
            lstm_size=lstm_size,
        )
        self.register_buffer("reconstruction_weight", torch.tensor(1.0))
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_normal_(layer.weight, gain=0.02)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, scene: Scene) -> SSWMOutput:
        """A batch of clips (B, T, ...): `context` frames seen and the rest imagined in training, else all seen.

        Raises:
            ValueError: for pictures of another size, a still image, or actions that are missing or of another width.
        """
        frames = scene.pixels.shape[1] if scene.pixels.ndim == 5 else 0
        seen = min(self.context, frames) if self.training else frames
        return self.unroll(scene, imagined=[t >= seen for t in range(frames)])

    @follows_gradients
    def unroll(self, scene: Scene, *, imagined: Sequence[bool]) -> SSWMOutput:
        """As `forward`, with the frames to imagine. With "best_of_many" a clip ends in them."""
        image = scene.pixels
        check_clips(image, self.image_size)
        actions = check_actions(scene.actions, needed=image.shape[1] - self.action_shift, width=self.action_size)
        together = self.objective == "best_of_many"
        if list(imagined) != sorted(imagined) and together:
            raise ValueError("best of many futures needs a clip whose imagined frames are its last ones.")
        done: list[_Frame] = []
        evaluations: list[tuple[Tensor, Tensor, Tensor]] = []
        for t, guess in enumerate(imagined):
            if guess and together:
                done += self._best_of_many(image[:, t:], done[-1], actions, first=t)
                break
            last = done[-1] if done else None
            if guess:
                assert last is not None, "the first frame is seen"
                done.append(self._imagine_step(image[:, t], last, self._action(actions, t, 1)))
            else:
                frame, traced = self._observe(image[:, t], last, self._action(actions, t, 1), index=t)
                done.append(frame)
                evaluations.append(traced)
        slots, memory, params, nll, kl = (torch.stack(parts, 1) for parts in zip(*(f[:5] for f in done), strict=True))
        components, log_masks = (torch.stack(parts, 1) for parts in zip(*(f.drawing for f in done), strict=True))
        masks = log_masks.exp()
        output = SSWMOutput(
            recon=(masks * components).sum(2),
            masks=masks,
            components=components,
            slots=slots,
            memory=memory,
            nll=nll,
            kl=kl,
            params=params,
            evaluation_nll=torch.cat([traced[0] for traced in evaluations], 1),
            evaluation_kl=torch.cat([traced[1] for traced in evaluations], 1),
            evaluation_weight=torch.cat([traced[2] for traced in evaluations]).expand(len(image), -1),
            imagined=nll.new_tensor(list(imagined)).expand(len(image), -1),
        )
        return output if torch.is_grad_enabled() else output.detach()

    def loss(self, scene: Scene, output: Decomposition, step: int) -> Losses:
        """Weighted negative ELBOs of the frames that were seen, and the error of those imagined, in nats per clip.

        While GECO is at work the best of many futures counts with the mean over its frames, as released; else with the
        sum. `nll` of the terms is per frame, which is what GECO's target means; `step` is unused.
        """
        assert isinstance(output, SSWMOutput)
        weight = self.reconstruction_weight
        each = weight * output.evaluation_nll + self.kl_weight * output.evaluation_kl.sum(2)  # (B, E)
        seen = (output.evaluation_weight * each).sum(1).mean()
        future = (output.nll * output.imagined).sum(1)  # (B,)
        if self.objective == "best_of_many":
            future = torch.where(weight == 1, future, future / output.imagined.sum(1).clamp_min(1))
        square = (output.recon - scene.pixels).square()
        terms = {
            "nll": output.nll.mean(),
            "kl": output.kl.sum((1, 2)).mean(),
            "mse": square.mean(),
            "mse_imagined": (square.mean((2, 3, 4)) * output.imagined).sum() / output.imagined.sum().clamp_min(1),
        }
        return Losses(
            total=seen + weight * future.mean(), terms={name: value.detach() for name, value in terms.items()}
        )

    def observe(self, scene: Scene) -> SSWMState:
        """What the model knows after the last frame of the clips."""
        frames = scene.pixels.shape[1] if scene.pixels.ndim == 5 else 0
        output = self.unroll(scene, imagined=[False] * frames)
        return SSWMState(slots=output.slots[:, -1], memory=output.memory[:, -1])

    def imagine(self, state: SSWMState, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> SSWMState:
        """Futures (B, S, T, ...) of a state (B, ...); see `contract.Imagines`."""
        check_at_least(1, steps=steps, samples=samples)
        actions = check_actions(actions, needed=steps, width=self.action_size, samples=samples)
        slots, memory = (x[:, None].expand(-1, samples, -1, -1) for x in (state.slots, state.memory))
        futures, memories = [], []
        for t in range(steps):
            action = None if actions is None else self._noisy(actions[..., t, :], samples)
            mean, raw, memory = self._expect(slots, memory, action)
            slots = sample_gaussian(mean, std_of(raw))
            futures.append(slots)
            memories.append(memory)
        return SSWMState(slots=torch.stack(futures, 2), memory=torch.stack(memories, 2))

    def draw(self, states: SSWMState) -> Decomposition:
        """States with any lead axes as pictures."""
        lead = states.slots.shape[:-2]
        drawing = self._draw(states.slots.flatten(0, -3), states.memory.flatten(0, -3))
        components, masks = (x.unflatten(0, lead) for x in (drawing.components, drawing.log_masks.exp()))
        recon = (masks * components).sum(-4)
        return Decomposition(recon=recon, masks=masks, components=components, slots=states.slots)

    def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Decomposition:
        """Futures (B, S, T, ...) of clips: `observe`, `imagine`, `draw`."""
        return self.draw(self.imagine(self.observe(context), steps=steps, samples=samples, actions=actions))

    def _observe(
        self, image: Tensor, last: _Frame | None, action: Tensor | None, *, index: int
    ) -> tuple[_Frame, tuple[Tensor, Tensor, Tensor]]:
        """See one frame: (B, 3, H, W). Returns it, and nll (B, I), kl (B, I, K) and weight (I,) of its evaluations."""
        shape = (len(image), self.slots, self.slot_size)
        initial = self.initial.expand(*shape[:2], -1)
        if last is None:
            memory = initial.new_zeros(*shape[:2], self.dynamics.memory_size)
            params = initial
            prior = initial.new_zeros(shape), initial.new_ones(shape)
        else:
            mean, raw, memory = self._expect(last.slots[:, None], last.memory[:, None], action)
            mean, raw, memory = mean[:, 0], raw[:, 0], memory[:, 0]
            raw = initial[..., self.slot_size :] if self.shared_std else raw
            params, prior = torch.cat([mean, raw], -1), (mean, std_of(raw))
        recording = torch.is_grad_enabled()
        count = self.evaluations[min(index, len(self.evaluations) - 1)]
        state, nlls, kls = None, [], []
        for remaining in range(count - 1, -1, -1):
            # If the caller records nothing, every evaluation has a graph of its own, gone when it has its gradients.
            with torch.set_grad_enabled(recording or remaining > 0):
                params = node(params if recording else params.detach()) if torch.is_grad_enabled() else params
                mean, std = mean_and_std(params)
                slots = sample_gaussian(mean, std)
                drawing = self._draw(slots, memory)
                nll = self._nll(image, drawing)  # (B,)
                kl = gaussian_kl(mean, std, *prior).sum(-1)  # (B, K)
                nlls.append(nll)
                kls.append(kl)
                if remaining:
                    weight = self.reconstruction_weight if self.training else 1.0
                    objective = weight * nll.mean() + self.kl_weight * kl.sum(1).mean()
                    inputs = (drawing.components, drawing.log_masks, params)
                    gradients = torch.autograd.grad(objective, inputs, retain_graph=recording)
            if remaining:
                delta, state = self.refiner(*self._refinement_inputs(image, drawing, params, gradients), state)
                params = params + delta.unflatten(0, shape[:2])
        weights = torch.arange(1, count + 1, dtype=nll.dtype, device=nll.device) / count
        frame = _Frame(slots, memory, params, nll, kl, drawing)
        return frame, (torch.stack(nlls, 1), torch.stack(kls, 1), weights)

    def _refinement_inputs(
        self, image: Tensor, drawing: _Drawing, params: Tensor, gradients: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Pictures (B*K, 13, H, W) and vectors (B*K, 4D)."""
        batch, slots = params.shape[:2]
        by_components, by_masks, by_params = gradients
        shown = image[:, None].expand(-1, slots, -1, -1, -1)
        if self.frames == "released":
            shown = image.repeat(slots, 1, 1, 1).unflatten(0, (batch, slots))
        pictures = [
            shown,
            drawing.components,
            drawing.log_masks.exp(),
            F.layer_norm(by_components, by_components.shape[-3:]),
            F.layer_norm(by_masks, by_masks.shape[-3:]),
            self.refiner.get_buffer("grid").expand(batch, slots, -1, -1, -1),
        ]
        by_mean, by_raw = (F.layer_norm(part, part.shape[-1:]) for part in by_params.chunk(2, -1))
        return torch.cat(pictures, 2).flatten(0, 1), torch.cat([params, by_mean, by_raw], -1).flatten(0, 1)

    def _imagine_step(self, image: Tensor, last: _Frame, action: Tensor | None) -> _Frame:
        """The next frame (B, 3, H, W), imagined: one draw, or the best of many."""
        many = self.rollouts if self.objective == "best_step" else 1
        mean, raw, memory = self._expect(last.slots[:, None], last.memory[:, None], action)
        slots = sample_gaussian(mean.expand(-1, many, -1, -1), std_of(raw))  # (B, S, K, D)
        memory = memory.expand(-1, many, -1, -1)
        best = self._errors(image, slots, memory).argmin(1)
        slots, memory = _chosen(slots, best), _chosen(memory, best)
        drawing = self._draw(slots, memory)
        nll = self._nll(image, drawing)
        params = torch.cat([mean, raw], -1)[:, 0]
        return _Frame(slots, memory, params, nll, nll.new_zeros(nll.shape[0], self.slots), drawing)

    def _best_of_many(self, image: Tensor, last: _Frame, actions: Tensor | None, *, first: int) -> list[_Frame]:
        """The rest of the clips (B, T, 3, H, W), imagined S times; only the best future is drawn for the gradient."""
        many, steps = self.rollouts, image.shape[1]
        slots, memory = (x[:, None].expand(-1, many, -1, -1) for x in (last.slots, last.memory))
        futures, memories, params = [], [], []
        error = image.new_zeros(len(image), many)
        for t in range(steps):
            mean, raw, memory = self._expect(slots, memory, self._action(actions, first + t, many))
            slots = sample_gaussian(mean, std_of(raw))
            error += self._errors(image[:, t], slots, memory)
            futures.append(slots)
            memories.append(memory)
            params.append(torch.cat([mean, raw], -1))
        best = error.argmin(1)
        kept, memory, parameters = (
            torch.stack([_chosen(step, best) for step in part], 1) for part in (futures, memories, params)
        )  # (B, T, K, ...)
        drawing = self._draw(kept.flatten(0, 1), memory.flatten(0, 1))
        nll = self._nll(image.flatten(0, 1), drawing).unflatten(0, (-1, steps))
        drawing = _Drawing(*(x.unflatten(0, (-1, steps)) for x in drawing))
        kl = nll.new_zeros(len(nll), self.slots)
        return [
            _Frame(kept[:, t], memory[:, t], parameters[:, t], nll[:, t], kl, _Drawing(*(x[:, t] for x in drawing)))
            for t in range(steps)
        ]

    @torch.no_grad()
    def _errors(self, image: Tensor, slots: Tensor, memory: Tensor) -> Tensor:
        """(B, S) negative log-likelihood of one frame (B, 3, H, W) under S draws; not computed for one."""
        batch, many = slots.shape[:2]
        if many == 1:
            return image.new_zeros(batch, 1)
        drawing = self._draw(slots.flatten(0, 1), memory.flatten(0, 1))
        return self._nll(image.repeat_interleave(many, 0), drawing).unflatten(0, (batch, many))

    def _expect(self, slots: Tensor, memory: Tensor, action: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The dynamics on (B, S, K, ...) and an action (B, S, A): mean, raw scale and memory of the next frame."""
        lead = slots.shape[:2]
        action = None if action is None else action.expand(*lead, -1).flatten(0, 1)
        mean, raw, memory = self.dynamics(slots.flatten(0, 1), memory.flatten(0, 1), action)
        return mean.unflatten(0, lead), raw.unflatten(0, lead), memory.unflatten(0, lead)

    def _action(self, actions: Tensor | None, frame: int, samples: int) -> Tensor | None:
        """(B, S or 1, A) the action that leads to a frame of a clip, with its noise."""
        if actions is None or frame < self.action_shift:
            return None
        return self._noisy(actions[:, 0, frame - self.action_shift][:, None], samples)

    def _noisy(self, action: Tensor, samples: int) -> Tensor:
        """(B, S or 1, A) -> with the noise that a video or each of its S futures has."""
        if not self.action_noise:
            return action
        shape = (len(action), samples if self.noise_per == "rollout" else 1, action.shape[-1])
        return action + sample_gaussian(action.new_zeros(shape), action.new_tensor(self.action_noise))

    def _draw(self, slots: Tensor, memory: Tensor) -> _Drawing:
        """Slots and memory (N, K, ...) as pictures."""
        vectors = torch.cat([slots, memory], -1) if self.draws_memory else slots
        drawn = self.decoder(vectors.flatten(0, 1)).unflatten(0, slots.shape[:2])  # (N, K, 4, H, W)
        return _Drawing(drawn[:, :, :3].sigmoid(), drawn[:, :, 3:].log_softmax(1))

    def _nll(self, image: Tensor, drawing: _Drawing) -> Tensor:
        """(N,) nats, without the constant log(2 pi) / 2 of every value."""
        std = torch.full((drawing.components.shape[1],), self.pixel_std, dtype=image.dtype, device=image.device)
        std[0] = self.background_std
        log_prob = mixture_log_likelihood(image, drawing.components, drawing.log_masks, std)
        return -(log_prob + HALF_LOG_2PI).sum((1, 2, 3))


def _chosen(values: Tensor, index: Tensor) -> Tensor:
    """(B, S, ...), (B,) -> (B, ...)."""
    return values[torch.arange(len(values), device=values.device), index]
