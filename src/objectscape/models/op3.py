"""OP3 (Veerapaneni et al., "Entity Abstraction in Visual Model-Based Reinforcement Learning", CoRL 2019, arXiv
1910.12827): one function for every object, to see it, to draw it, and to say what it does next.

1. A slot has a deterministic and a stochastic part; both are drawn, only the stochastic one has a posterior.
2. To see a frame, a refinement network reads gradients and likelihoods and replaces the posterior of every slot.
3. To go on, an interaction network takes the action and all ordered pairs of slots, and gives both parts anew; its
   Gaussian is the prior of the next frame.
4. A clip is a list of such moves, refine or advance; late ones weigh most in the loss.

This is the authors' own code (jcoreyes/OP3), with its sizes; SSWM's smaller version of OP3 is `SSWM(memory="state")`.

As in the released code, the refinement gives a new posterior and not a correction, likelihoods are mixed before the
logarithm is taken, and gradients and mixed likelihoods enter the refinement network as constants. Deviation: a state
that is copied keeps its prior; the released code overwrites a part of it.

`schedule="next_step"` is the authors' comparison without dynamics: a refinement is told the action, and what comes out
is drawn as the next frame. In the released code the network for it (`large_sequence`) cannot be built, so ours is the
usual one with the action beside the averaged pixels, and there are no numbers to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import Model
from objectscape.nn.clips import check_actions, check_clips
from objectscape.nn.distributions import gaussian_kl, sample_gaussian, sample_uniform
from objectscape.nn.inner_gradients import follows_gradients
from objectscape.nn.raw_scales import std_of
from objectscape.nn.recurrent import LSTMCell
from objectscape.nn.tiled_decoder import TiledDecoder
from objectscape.nn.validation import check_at_least, check_choice, check_positive
from objectscape.scene import Decomposition, Losses, Scene, Tensors, record

REFINE, ADVANCE, NEXT = MOVES = ("refine", "advance", "next")
SCHEDULES = ("curriculum", "rprp", "next_step")
LOG_VOLUME = math.log(248.05)  # the released constant, about (2 pi)^3
UNIT_RAW = math.log(math.e - 1)  # raw scale of a standard deviation of 1


@record
class OP3State(Tensors):
    """What the model knows of a moment, or of many: lead axes (B,) or (B, S, T)."""

    deterministic: Tensor
    """(..., K, R)"""
    stochastic: Tensor
    """(..., K, Z), a draw"""

    @property
    def slots(self) -> Tensor:
        """(..., K, R + Z)"""
        return torch.cat([self.deterministic, self.stochastic], -1)


@record
class OP3Output(Decomposition):
    """A Decomposition of a clip (B, T, ...), each frame after the last move on it.

    E is the number of moves. In training they may end before the clip: later frames are imagined further, without
    gradient and blame.
    """

    reached: Tensor
    """(B, T) 1 up to the frame of the last move, else 0."""
    move_nll: Tensor
    """(B, E) negative log-likelihood of the frame in nats after each move."""
    move_kl: Tensor
    """(B, E, K) KL of posterior and prior in nats."""
    move_recon: Tensor
    """(B, E, 3, H, W)"""
    move_masks: Tensor
    """(B, E, K, 1, H, W)"""
    move_components: Tensor
    """(B, E, K, 3, H, W)"""


class MLP(nn.Module):
    """Linear, ELU, linear; with the released initial weights."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
        nn.init.uniform_(self.first.weight, -(hidden**-0.5), hidden**-0.5)
        nn.init.constant_(self.first.bias, 0.1)
        nn.init.uniform_(self.last.weight, -3e-3, 3e-3)
        nn.init.uniform_(self.last.bias, -3e-3, 3e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.elu(self.first(x)))

    def on_pairs(self, x: Tensor) -> Tensor:
        """(N, K, D) -> (N, K, K, outputs): of every pair [x_i, x_j], with one product per member."""
        on_own, on_other = self.first.weight.chunk(2, 1)
        own, other = F.linear(x, on_own, self.first.bias), F.linear(x, on_other)
        return self.last(F.elu(own[:, :, None] + other[:, None]))


class Physics(nn.Module):
    """The interaction network: slots of a frame and an action -> slots of the next."""

    def __init__(self, *, deterministic: int, stochastic: int, action_size: int, action_width: int) -> None:
        super().__init__()
        width = deterministic + stochastic
        self.inertia = MLP(width, width, hidden=width)
        if action_size:
            self.action = MLP(action_size, action_width, hidden=width)
            self.action_effect = MLP(width + action_width, width, hidden=width)
            self.action_gate = MLP(width + action_width, 1, hidden=width)
        self.pair = MLP(2 * width, width, hidden=2 * width)
        self.pair_effect = MLP(width, action_width, hidden=width)
        self.pair_gate = MLP(width, 1, hidden=width)
        self.merge = MLP(width + action_width, width, hidden=width)
        self.deterministic = MLP(width, deterministic, hidden=width)
        self.mean = MLP(width, stochastic, hidden=width)
        self.raw_scale = MLP(width, stochastic, hidden=width)

    def forward(self, slots: Tensor, action: Tensor | None) -> tuple[Tensor, Tensor]:
        """Slots (N, K, R + Z) and action (N, A) or None -> deterministic part (N, K, R), Gaussian (N, K, 2Z)."""
        state = F.elu(self.inertia(slots))
        if action is not None:
            told = F.elu(self.action(action))[:, None].expand(-1, slots.shape[1], -1)
            both = torch.cat([state, told], -1)
            state = F.elu(self.action_effect(both)) * self.action_gate(both).sigmoid()
        pairs = F.elu(self.pair.on_pairs(state))  # (N, K, K, W)
        effects = F.elu(self.pair_effect(pairs)) * self.pair_gate(pairs).sigmoid()
        itself = torch.eye(slots.shape[1], dtype=torch.bool, device=slots.device)[:, :, None]
        state = F.elu(self.merge(torch.cat([state, effects.masked_fill(itself, 0).sum(2)], -1)))
        return self.deterministic(state), torch.cat([self.mean(state), self.raw_scale(state)], -1)


class Normalized(nn.Module):
    """Mean 0 and (unbiased) deviation 1 over all axes but the first `lead`, then a learned scale and shift."""

    def __init__(self, size: int, *, lead: int, eps: float) -> None:
        super().__init__()
        self.lead, self.eps = lead, eps
        self.scale, self.shift = nn.Parameter(torch.rand(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, C, H, W) with C channels, or (B, K, Z)."""
        axes = tuple(range(self.lead, x.ndim))
        x = (x - x.mean(axes, keepdim=True)) / (x.std(axes, keepdim=True) + self.eps)
        shape = (-1, *[1] * (x.ndim - 3))
        return self.scale.view(shape) * x + self.shift.view(shape)


class Refinement(nn.Module):
    """From pictures, gradients and the posterior to a new posterior."""

    IMAGE_CHANNELS = 15

    def __init__(
        self,
        *,
        stochastic: int,
        image_size: tuple[int, int],
        channels: Sequence[int],
        mlp: Sequence[int],
        lstm_size: int,
        told: int,
    ) -> None:
        super().__init__()
        rows, columns = (torch.linspace(-1, 1, length) for length in image_size)
        grid = torch.stack([columns.expand(image_size), rows[:, None].expand(image_size)])
        self.register_buffer("grid", grid, persistent=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 5, padding=2) for before, after in pairwise([self.IMAGE_CHANNELS + 2, *channels])
        )
        self.mlp = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise([channels[-1] + told, *mlp]))
        for layer in self.mlp:
            nn.init.uniform_(layer.weight, -1e-4, 1e-4)  # type: ignore[arg-type]
            nn.init.uniform_(layer.bias, -1e-4, 1e-4)  # type: ignore[arg-type]
        self.lstm = LSTMCell(mlp[-1] + 5 * stochastic, lstm_size)
        self.mean, self.raw_scale = nn.Linear(lstm_size, stochastic), nn.Linear(lstm_size, stochastic)
        self.pictures = nn.ModuleDict(
            {
                name: Normalized(size, lead=2, eps=1e-5)
                for name, size in {"by_masks": 1, "likelihood": 1, "leave_one_out": 1, "by_components": 3}.items()
            }
        )
        self.vectors = nn.ModuleDict({name: Normalized(stochastic, lead=2, eps=1e-6) for name in ("by_mean", "by_raw")})

    def forward(
        self, images: Tensor, vectors: Tensor, memory: tuple[Tensor, Tensor] | None, action: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Images (B, K, 15, H, W), vectors (B, K, 5Z), LSTM state (None: zeros) -> Gaussian (B, K, 2Z), new state.

        `action` (B, A) is what a network that is told actions needs.
        """
        lead = images.shape[:2]
        hidden = torch.cat([images, self.get_buffer("grid").expand(*lead, -1, -1, -1)], 2).flatten(0, 1)
        for conv in self.convs:
            hidden = F.elu(conv(hidden))
        hidden = hidden.mean((2, 3))
        if action is not None:
            hidden = torch.cat([hidden, action.repeat_interleave(lead[1], 0)], 1)
        for layer in self.mlp:
            hidden = F.elu(layer(hidden))
        hidden, cell = self.lstm(torch.cat([hidden.to(vectors.dtype), vectors.flatten(0, 1)], 1), memory)
        params = torch.cat([self.mean(hidden), self.raw_scale(hidden)], 1)
        return params.unflatten(0, lead), (hidden, cell)


class _Moment(NamedTuple):
    """A frame as it is understood after some move."""

    deterministic: Tensor
    """(B, K, R)"""
    params: Tensor
    """(B, K, 2Z) posterior"""
    prior: Tensor
    """(B, K, 2Z)"""
    stochastic: Tensor
    """(B, K, Z)"""
    components: Tensor
    """(B, K, 3, H, W)"""
    logits: Tensor
    """(B, K, 1, H, W)"""
    masks: Tensor
    """(B, K, 1, H, W)"""
    log_density: Tensor
    """(B, K, 1, H, W) of the frame under each slot's picture"""
    likelihood: Tensor
    """(B, 1, 1, H, W)"""
    nll: Tensor
    """(B,)"""
    kl: Tensor
    """(B, K)"""


class OP3(Model):
    """OP3 as its authors released it.

    Args:
        image_size: height and width in pixels, or one number for both.
        slots: number K of slots; settable. The authors use 7 for towers, 4 for pick and place.
        stochastic_size: width Z of a slot's stochastic part.
        deterministic_size: width R of the other.
        action_size: width A of an action; 0 for none.
        action_width: width of an embedded action, and of the effect of one slot on another.
        decoder_channels: widths of the decoder's four hidden convolutions.
        refinement_channels: widths of the refinement network's convolutions.
        refinement_mlp: widths of the layers after the average over pixels.
        lstm_size: width of its memory.
        refinements: number of refinements of the first frame. Settable.
        refinements_per_frame: number of refinements of every further frame that is seen. Settable.
        horizon: largest number m of frames imagined in training: each step draws r from 1..m. Settable.
        last_refinements: refinements of the last imagined frame in training. Settable.
        schedule: the moves in training: "curriculum", frames are imagined; "rprp", all frames are seen as in
            evaluation; "next_step", one move for every frame but the last, which is told the action and draws the next
            frame. Such a model has no dynamics and predicts nothing but the frame after one that it sees.
        pixel_std: standard deviation of the pixels.
        kl_weight: of the KL.

    Raises:
        ValueError: for a value outside its range.
    """

    reads_clips = True

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] = 64,
        slots: int = 7,
        stochastic_size: int = 64,
        deterministic_size: int = 64,
        action_size: int = 0,
        action_width: int = 32,
        decoder_channels: Sequence[int] = (32, 32, 32, 32),
        refinement_channels: Sequence[int] = (32, 32, 64),
        refinement_mlp: Sequence[int] = (128,),
        lstm_size: int = 128,
        refinements: int = 4,
        refinements_per_frame: int = 2,
        horizon: int = 4,
        last_refinements: int = 1,
        schedule: Literal["curriculum", "rprp", "next_step"] = "curriculum",
        pixel_std: float = 0.1,
        kl_weight: float = 0.01,
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        check_at_least(1, slots=slots, stochastic_size=stochastic_size, deterministic_size=deterministic_size)
        check_at_least(1, action_width=action_width, lstm_size=lstm_size, refinements=refinements, horizon=horizon)
        check_at_least(0, action_size=action_size, last_refinements=last_refinements)
        check_at_least(0, refinements_per_frame=refinements_per_frame)
        check_positive(pixel_std=pixel_std)
        check_choice("schedule", schedule, SCHEDULES)
        if len(size) != 2 or min(size) < TiledDecoder.KERNEL:
            raise ValueError(f"image_size={image_size}: expected height and width in pixels, at least 5.")
        self.image_size = (size[0], size[1])
        self.slots, self.stochastic_size, self.action_size = slots, stochastic_size, action_size
        self.refinements, self.refinements_per_frame = refinements, refinements_per_frame
        self.horizon, self.last_refinements, self.schedule = horizon, last_refinements, schedule
        self.pixel_std, self.kl_weight = pixel_std, kl_weight

        self.initial_deterministic = nn.Parameter(torch.randn(deterministic_size) / deterministic_size**0.5)
        self.initial = nn.Parameter(torch.randn(2 * stochastic_size) / stochastic_size**0.5)  # mean, raw scale
        self.refiner = Refinement(
            stochastic=stochastic_size,
            image_size=self.image_size,
            channels=refinement_channels,
            mlp=refinement_mlp,
            lstm_size=lstm_size,
            told=action_size if schedule == "next_step" else 0,
        )
        self.physics: Physics | None = None
        if schedule != "next_step":
            self.physics = Physics(
                deterministic=deterministic_size,
                stochastic=stochastic_size,
                action_size=action_size,
                action_width=action_width,
            )
        self.decoder = TiledDecoder(
            inputs=deterministic_size + stochastic_size,
            image_size=self.image_size,
            channels=decoder_channels,
            padding=2,
            last_kernel=5,
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, scene: Scene) -> OP3Output:
        """A batch of clips (B, T, ...): all frames seen; in training the first one seen and the others imagined.

        The first r of these are trained on, r drawn from 1..`horizon`. For other schedules see the class.

        Raises:
            ValueError: for pictures of another size, a still image, or actions that are missing or of another width.
        """
        check_clips(scene.pixels, self.image_size)
        frames = scene.pixels.shape[1]
        if not self.training or self.schedule != "curriculum":
            return self.unroll(scene, self.moves(frames))
        most = min(self.horizon, frames - 1)
        drawn = sample_uniform((), self.initial) * most
        ahead = 1 + int(drawn) if most else 0
        moves = [REFINE] * self.refinements + [ADVANCE] * ahead + [REFINE] * self.last_refinements
        output = self.unroll(scene, moves)
        return output if ahead + 1 == frames else self._imagined_further(scene, output)

    def moves(self, frames: int) -> list[str]:
        """How a clip is seen: refinements of its first frame, then for every further one an advance and refinements.

        With `schedule="next_step"`, every frame but the last is refined into the next.
        """
        if self.schedule == "next_step":
            return [NEXT] * (frames - 1)
        return [REFINE] * self.refinements + ([ADVANCE] + [REFINE] * self.refinements_per_frame) * (frames - 1)

    @follows_gradients
    def unroll(self, scene: Scene, moves: Sequence[str]) -> OP3Output:
        """Make `moves` on clips with a frame for every advance, and one more.

        Args:
            scene: clips (B, T, ...).
            moves: "refine", look at the frame; "advance", apply dynamics and action; "next", look at the frame, told
                the action, and draw the next.
        """
        image = scene.pixels
        check_clips(image, self.image_size)
        self._check_moves(moves)
        advances = sum(move != REFINE for move in moves)
        if advances >= image.shape[1]:
            raise ValueError(
                f"{advances} advances need clips of {advances + 1} frames, these have {image.shape[1]}; read the data "
                "with a larger clip.length."
            )
        actions = check_actions(scene.actions, needed=advances, width=self.action_size)
        recording = torch.is_grad_enabled()
        batch, frame = len(image), 0
        deterministic = self.initial_deterministic.expand(batch, self.slots, -1)
        params = self.initial.expand(batch, self.slots, -1)
        unit = params.new_zeros(batch, self.slots, self.stochastic_size)
        prior = torch.cat([unit, torch.full_like(unit, UNIT_RAW)], -1)
        memory: tuple[Tensor, Tensor] | None = None
        done: list[_Moment] = []
        ends: list[int] = []
        # If the caller records nothing, every move has a graph of its own, and only if a refinement follows.
        with torch.set_grad_enabled(recording or moves[0] != ADVANCE):
            moment = self._understand(image[:, 0], deterministic, params, prior, recording)
        first = moment if recording else _Moment(*(x.detach() for x in moment))
        for move, following in zip(moves, [*moves[1:], None], strict=True):
            action = None if actions is None or move == REFINE else actions[:, 0, frame]
            if move == ADVANCE:
                slots = torch.cat([moment.deterministic, moment.stochastic], -1)
                deterministic, params = self._physics(slots, action)
                prior, memory = params, None
            else:
                params, memory = self._refine(image[:, frame], moment, memory, recording, action)
                deterministic, prior = moment.deterministic, moment.prior
            frame += move != REFINE
            with torch.set_grad_enabled(recording or following in (REFINE, NEXT)):
                moment = self._understand(image[:, frame], deterministic, params, prior, recording)
            done.append(moment if recording else _Moment(*(x.detach() for x in moment)))
            ends.append(frame)
        return self._output(first, done, ends)

    def loss(self, scene: Scene, output: Decomposition, step: int) -> Losses:
        """Mean over the moves of the negative ELBO in nats, the i-th weighing i; `step` is unused."""
        assert isinstance(output, OP3Output)
        weights = torch.arange(1, output.move_nll.shape[1] + 1, device=output.move_nll.device, dtype=output.recon.dtype)
        weights = weights / weights.sum()
        nll = (weights * output.move_nll.mean(0)).sum()
        kl = (weights * output.move_kl.sum(2).mean(0)).sum()
        square = (output.recon - scene.pixels[:, : output.recon.shape[1]]).square().mean((2, 3, 4))
        terms = {"nll": nll, "kl": kl, "mse": (square * output.reached).sum() / output.reached.sum()}
        total = nll + self.kl_weight * kl
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})

    def observe(self, scene: Scene) -> OP3State:
        """What the model knows after the last frame of the clips."""
        output = self.unroll(scene, self.moves(scene.pixels.shape[1] if scene.pixels.ndim == 5 else 1))
        return self._state(output.slots[:, -1])

    def imagine(self, state: OP3State, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> OP3State:
        """Futures (B, S, T, ...) of a state (B, ...); see `contract.Imagines`."""
        check_at_least(1, steps=steps, samples=samples)
        actions = check_actions(actions, needed=steps, width=self.action_size, samples=samples)
        slots = state.slots.repeat_interleave(samples, 0)  # (B*S, K, R + Z)
        futures: list[tuple[Tensor, Tensor]] = []
        for t in range(steps):
            action = None if actions is None else actions[:, :, t].expand(-1, samples, -1).flatten(0, 1)
            deterministic, params = self._physics(slots, action)
            stochastic = _draw_from(params)
            slots = torch.cat([deterministic, stochastic], -1)
            futures.append((deterministic, stochastic))
        deterministic, stochastic = (
            torch.stack(parts, 1).unflatten(0, (-1, samples)) for parts in zip(*futures, strict=True)
        )
        return OP3State(deterministic=deterministic, stochastic=stochastic)

    def draw(self, states: OP3State) -> Decomposition:
        """States with any lead axes as pictures."""
        slots = states.slots
        components, logits = (x.unflatten(0, slots.shape[:-2]) for x in self._draw(slots.flatten(0, -3)))
        masks = logits.softmax(-4)
        return Decomposition(recon=(masks * components).sum(-4), masks=masks, components=components, slots=slots)

    def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Decomposition:
        """Futures (B, S, T, ...) of clips: `observe`, `imagine`, `draw`."""
        return self.draw(self.imagine(self.observe(context), steps=steps, samples=samples, actions=actions))

    @torch.no_grad()
    def _imagined_further(self, scene: Scene, output: OP3Output) -> OP3Output:
        """An output of fewer frames than the clips have, with all of them."""
        there, frames = output.recon.shape[1], scene.pixels.shape[1]
        actions = None if scene.actions is None else scene.actions[:, there - 1 :]
        state = self._state(output.slots[:, -1])
        rest = self.draw(self.imagine(state, steps=frames - there, actions=actions))
        with torch.enable_grad():
            whole = {
                name: torch.cat([getattr(output, name), getattr(rest, name)[:, 0]], 1)
                for name in ("recon", "masks", "components", "slots")
            }
        return replace(output, **whole, reached=F.pad(output.reached, (0, frames - there)))

    def _physics(self, slots: Tensor, action: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.physics is None:
            raise ValueError(
                "a model of schedule='next_step' has no dynamics: it draws the frame after each that it sees (call the "
                "model), and cannot imagine further. Train with schedule='curriculum' to predict."
            )
        return self.physics(slots, action)

    def _check_moves(self, moves: Sequence[str]) -> None:
        for move in moves:
            check_choice("move", move, MOVES)
        if not moves or (NEXT in moves) != (self.schedule == "next_step") or (NEXT in moves and REFINE in moves):
            raise ValueError(
                f"moves {list(moves)} of a model of schedule={self.schedule!r}: with 'next_step' there is 'next' only, "
                "for clips of two frames and more; else 'refine' and 'advance'."
            )

    def _state(self, slots: Tensor) -> OP3State:
        """Slots (..., K, R + Z) as a state."""
        deterministic, stochastic = slots.split([len(self.initial_deterministic), self.stochastic_size], -1)
        return OP3State(deterministic=deterministic, stochastic=stochastic)

    def _draw(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K, R + Z) -> pictures (N, K, 3, H, W), unbounded, and mask logits (N, K, 1, H, W)."""
        drawn = self.decoder(slots.flatten(0, 1)).unflatten(0, slots.shape[:2])
        return drawn[:, :, :3], drawn[:, :, 3:]

    def _understand(
        self, image: Tensor, deterministic: Tensor, params: Tensor, prior: Tensor, recording: bool
    ) -> _Moment:
        """Draw a posterior as pictures, and compare them with the frame (B, 3, H, W)."""
        if torch.is_grad_enabled() and not (recording and params.requires_grad):
            params = params.detach().requires_grad_()
        stochastic = _draw_from(params)
        components, logits = self._draw(torch.cat([deterministic, stochastic], -1))
        masks = logits.softmax(1)
        square = (image[:, None] - components).square().sum(2, keepdim=True)
        scale = self.pixel_std
        log_density = -square / (2 * 3 * scale**2) - 3 * math.log(scale) - LOG_VOLUME
        likelihood = (masks * log_density.exp()).sum(1, keepdim=True)
        nll = -(likelihood + 1e-12).log().sum((1, 2, 3, 4))
        (mean, raw), (prior_mean, prior_raw) = params.chunk(2, -1), prior.chunk(2, -1)
        kl = gaussian_kl(mean, std_of(raw), prior_mean, std_of(prior_raw)).sum(-1)
        return _Moment(
            deterministic, params, prior, stochastic, components, logits, masks, log_density, likelihood, nll, kl
        )

    def _refine(
        self,
        image: Tensor,
        moment: _Moment,
        memory: tuple[Tensor, Tensor] | None,
        recording: bool,
        action: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """A new posterior (B, K, 2Z) of the frame (B, 3, H, W), told the action if there is one."""
        with torch.enable_grad():
            objective = moment.nll.mean() + self.kl_weight * moment.kl.sum(1).mean()
        by_components, by_masks, by_params = torch.autograd.grad(
            objective, (moment.components, moment.masks, moment.params), retain_graph=recording
        )
        by_mean, by_raw = by_params.chunk(2, -1)
        density = moment.log_density.exp()
        norms = self.refiner.pictures
        images = [
            image[:, None].expand_as(moment.components),
            moment.components,
            moment.masks,
            moment.logits,
            density / (density.sum(1, keepdim=True) + 1e-8),
            norms["by_masks"](by_masks),
            norms["likelihood"](moment.likelihood.detach().expand_as(moment.masks)),
            norms["leave_one_out"]((moment.likelihood - moment.masks * density).detach()),
            norms["by_components"](by_components),
        ]
        vectors = [
            self.refiner.vectors["by_mean"](by_mean),
            self.refiner.vectors["by_raw"](by_raw),
            moment.params,
            moment.stochastic,
        ]
        return self.refiner(torch.cat(images, 2), torch.cat(vectors, -1), memory, action)

    def _output(self, first: _Moment, done: list[_Moment], ends: list[int]) -> OP3Output:
        """All moves, and of each frame its last one: of the first frame the initial guess, if no move is made on it."""
        reached = [0, *ends]
        last = [(reached.index(t + 1) if t + 1 in reached else len(reached)) - 1 for t in range(ends[-1] + 1)]
        of_frames = [[first, *done][i] for i in last]
        masks = torch.stack([moment.masks for moment in done], 1)
        components = torch.stack([moment.components for moment in done], 1)
        recon = (masks * components).sum(2)
        slots = torch.stack([torch.cat([each.deterministic, each.stochastic], -1) for each in of_frames], 1)
        frame_masks = torch.stack([each.masks for each in of_frames], 1)
        frame_components = torch.stack([each.components for each in of_frames], 1)
        return OP3Output(
            recon=(frame_masks * frame_components).sum(2),
            masks=frame_masks,
            components=frame_components,
            slots=slots,
            reached=slots.new_ones(slots.shape[:2]),
            move_nll=torch.stack([moment.nll for moment in done], 1),
            move_kl=torch.stack([moment.kl for moment in done], 1),
            move_recon=recon,
            move_masks=masks,
            move_components=components,
        )


def _draw_from(params: Tensor) -> Tensor:
    """Mean and raw scale (..., 2Z) -> a draw (..., Z)."""
    mean, raw = params.chunk(2, -1)
    return sample_gaussian(mean, std_of(raw))
