"""Framed slots, a model of this library's own: it finds, follows and imagines objects after minutes on a CPU.

1. The first frame is seen by the quick start's image model (`instance_coloring`): K slots, each a content and a place.
   The decoder draws a content in coordinates relative to its place, so what a thing is and where it is stay apart.
2. A later frame is seen by one step of attention: every slot looks for itself around the place where it should be, and
   all slots compete for every patch. Its place is the middle of what it got, with a learned correction.
3. Content is averaged over the frames seen and then stays as it is; only places and velocities move on. Noise in
   the content would be a random walk that fades things away.
4. The dynamics (a GRU for every slot, and what all other slots do to it) turns a few random numbers and the state into
   a change of velocity, so it can tell chance (the angle of a bounce) from law (a straight flight). What an action
   does is multiplied by a gate for every slot, as in OP3: most actions are done to one thing.
5. Imagined places are compared with those seen later by the energy score (Gneiting and Raftery 2007), which is best
   only if the futures are spread as the truth is. No picture has to be drawn for that.

Decisions: train it on single frames first (`clip.length` in stages). Places that are predicted from, and those
predicted, count as constants in the energy score, so that nothing is gained by places that are easy to predict. No
likelihood and no prior of contents: the model continues clips, it does not invent them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from objectscape.contract import Model
from objectscape.models.instance_coloring import ColoringAutoencoder, FourierCode, is_own
from objectscape.nn.clips import check_actions, check_clips
from objectscape.nn.distributions import sample_gaussian
from objectscape.nn.instance_coloring import coordinates
from objectscape.nn.recurrent import GRUCell
from objectscape.nn.validation import check_at_least, check_positive
from objectscape.scene import Decomposition, Losses, Scene, Tensors, record


@record
class FramedState(Tensors):
    """What the model knows of a moment, or of many: lead axes (B,) or (B, S, T)."""

    content: Tensor
    """(..., K, D) what each thing is."""
    place: Tensor
    """(..., K, 2) where it is: row and column, -1..1 from the first patch to the last."""
    velocity: Tensor
    """(..., K, 2) change of place since the frame before."""
    memory: Tensor
    """(..., K, H) of the dynamics."""
    size: Tensor
    """(..., K, 1) logarithm of the number of patches it was seen in: of things that could both draw a pixel, the larger
    one takes it. A constant for the gradient."""

    @property
    def slots(self) -> Tensor:
        """(..., K, D + 4) all that a thing is, but for the memory."""
        return torch.cat([self.content, self.place, self.velocity], -1)


@record
class FramedOutput(Decomposition):
    """A Decomposition of a clip (B, T, ...), every frame seen."""

    attention: Tensor
    """(B, T, K, h, w) who got which patch; sums to 1 over K."""
    place: Tensor
    """(B, T, K, 2)"""
    size: Tensor
    """(B, T, K, 1) logarithm of the number of patches, as in `FramedState`"""
    score: Tensor
    """(B, F) energy score of futures begun at some frames, a mean over steps and slots; F may be 0."""

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """Those of the attention, on the patches."""
        return {"attention": self.attention.unsqueeze(-3)}


class Dynamics(nn.Module):
    """State, effects of the other slots, action and random numbers -> change of velocity."""

    def __init__(self, *, content: int, hidden: int, action_size: int, noise_size: int) -> None:
        super().__init__()
        self.noise_size, self.hidden = noise_size, hidden
        self.own = nn.Linear(content + 4 + action_size, hidden)
        if action_size:
            self.told = nn.Linear(action_size, hidden)
            self.gate = nn.Sequential(
                nn.Linear(content + 4 + action_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden)
            )
        self.pair_own = nn.Linear(content + 4, hidden)
        self.pair_other = nn.Linear(content + 4, hidden, bias=False)
        self.pair = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.recurrence = GRUCell(2 * hidden, hidden)
        self.change = nn.Sequential(
            nn.Linear(2 * hidden + noise_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 2),
        )  # fmt: skip
        last: nn.Linear = self.change[-1]  # type: ignore[assignment]
        nn.init.zeros_(last.weight)  # at first, everything flies straight on
        nn.init.zeros_(last.bias)

    def remember(self, state: FramedState, action: Tensor | None) -> tuple[Tensor, Tensor]:
        """The memory (N, K, H), and what is felt (N, K, 2H), after a moment (N, K, ...) and its action (N, A)."""
        slots = state.slots
        if action is None:
            own = self.own(slots).relu()
        else:  # what the action does, times whether it is done to this slot
            both = torch.cat([slots, action[:, None].expand(-1, slots.shape[1], -1)], -1)
            own = self.own(both).relu() + self.told(action)[:, None] * self.gate(both).sigmoid()
        pairs = self.pair(self.pair_own(slots)[:, :, None] + self.pair_other(slots)[:, None])  # (N, K, K, H)
        itself = torch.eye(slots.shape[1], dtype=torch.bool, device=slots.device)[:, :, None]
        felt = torch.cat([own, pairs.masked_fill(itself, 0).sum(2)], -1)
        memory = self.recurrence(felt.flatten(0, 1), state.memory.flatten(0, 1)).unflatten(0, slots.shape[:2])
        return memory, torch.cat([memory, own], -1)

    def forward(self, felt: Tensor, noise: Tensor) -> Tensor:
        """What is felt (N, K, 2H) and random numbers (N, K, Z) -> change of velocity (N, K, 2)."""
        return self.change(torch.cat([felt, noise], -1))


class FramedSlots(Model):
    """Framed slots.

    Args:
        image_size: side of the square picture in pixels, a multiple of `patch`.
        slots: number K of slots, background included. Settable.
        patch: side in pixels of the patches that are seen and drawn in one piece.
        width: width D of contents and patches.
        hidden: width of the decoder's, the slots' and the dynamics' hidden layers.
        embedding: width of a patch's color in the first frame, at least 2.
        frequencies: of the position codes.
        rollouts: number of futures in training; settable.
        noise_size: how many random numbers move a slot.
        content_noise: standard deviation of the noise on contents in training.
        place_noise: that on places, in half pictures. With it the futures are as spread as places in training are
            uncertain, and too spread without it.
        size_prior: weight of a slot's size in its mask logits; see `instance_coloring`. Small, because sprites are.
        content_rate: smallest weight of a new frame in the average of contents.
        action_size: width A of an action; 0 for none. Action t of a clip leads to frame t + 1.
        pixel_std: standard deviation of the pixels in the loss.
        score_weight: of the energy score in the loss.

    Raises:
        ValueError: for a value outside its range.
    """

    reads_clips = True

    def __init__(
        self,
        *,
        image_size: int = 32,
        slots: int = 4,
        patch: int = 4,
        width: int = 32,
        hidden: int = 64,
        embedding: int = 8,
        frequencies: int = 2,
        rollouts: int = 4,
        noise_size: int = 4,
        content_noise: float = 0.3,
        place_noise: float = 0.0,
        size_prior: float = 0.1,
        content_rate: float = 0.2,
        action_size: int = 0,
        pixel_std: float = 0.2,
        score_weight: float = 100.0,
    ) -> None:
        super().__init__()
        check_at_least(1, image_size=image_size, patch=patch, rollouts=rollouts, noise_size=noise_size)
        check_at_least(0, action_size=action_size)
        check_positive(pixel_std=pixel_std, content_rate=content_rate)
        if image_size % patch or content_noise < 0 or place_noise < 0:
            raise ValueError(
                f"image_size={image_size} must be a multiple of patch={patch}, and content_noise={content_noise} and "
                f"place_noise={place_noise} standard deviations, 0 or more."
            )
        self.image_size, self.rollouts, self.action_size = (image_size, image_size), rollouts, action_size
        self.content_noise, self.place_noise, self.content_rate = content_noise, place_noise, content_rate
        self.pixel_std, self.score_weight = pixel_std, score_weight
        self.grid = image_size // patch
        self.image = ColoringAutoencoder(
            slots=slots, patch=patch, width=width, hidden=hidden, embedding=embedding, frequencies=frequencies,
            noise=content_noise,
            size_prior=size_prior,
        )  # fmt: skip
        self.correction = nn.Linear(width, 2)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        self.key, self.query = nn.Linear(width, hidden), nn.Linear(width, hidden, bias=False)
        self.key_place = FourierCode(frequencies=frequencies, outputs=hidden)
        self.score = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.dynamics = Dynamics(content=width, hidden=hidden, action_size=action_size, noise_size=noise_size)

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return self.image.slots

    @slots.setter
    def slots(self, value: int) -> None:
        self.image.slots = value

    def forward(self, scene: Scene) -> FramedOutput:
        """See every frame of clips (B, T, ...); in training also imagine how it goes on from all but the first.

        Raises:
            ValueError: for pictures of another size, a still image, or actions that are missing or of another width.
        """
        check_clips(scene.pixels, self.image_size)
        image, frames = scene.pixels, scene.pixels.shape[1]
        actions = check_actions(scene.actions, needed=frames - 1, width=self.action_size)
        actions = None if actions is None else actions[:, 0]
        states, attention = self._see(image, actions)  # (B, T, ...)
        drawn = self.draw(states)
        score = image.new_zeros(len(image), 0)
        if self.training and frames > 2:
            own = is_own(drawn.masks.flatten(0, 1)).unflatten(0, (-1, frames))
            score = self._score(states, actions, own)
        return FramedOutput(
            recon=drawn.recon,
            masks=drawn.masks,
            components=drawn.components,
            slots=states.slots,
            attention=attention,
            place=states.place,
            size=states.size,
            score=score,
        )

    def loss(self, scene: Scene, output: Decomposition, step: int) -> Losses:
        """Squared error of the frames seen, in nats for `pixel_std`, and the energy score; `step` is unused."""
        assert isinstance(output, FramedOutput)
        square = (output.recon - scene.pixels).square()
        error = square.sum((2, 3, 4)).mean() / (2 * self.pixel_std**2)  # nats per frame
        score = output.score.mean() if output.score.shape[1] else error.new_zeros(())
        terms = {"mse": square.mean(), "score": score}
        total = error + self.score_weight * score
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})

    def observe(self, scene: Scene) -> FramedState:
        """What the model knows after the last frame of the clips."""
        check_clips(scene.pixels, self.image_size)
        needed = scene.pixels.shape[1] - 1
        actions = check_actions(scene.actions, needed=needed, width=self.action_size)
        states, _ = self._see(scene.pixels, None if actions is None else actions[:, 0])
        return states.map(lambda x: x[:, -1])

    def imagine(
        self, state: FramedState, *, steps: int, samples: int = 1, actions: Tensor | None = None
    ) -> FramedState:
        """Futures (B, S, T, ...) of a state (B, ...); see `contract.Imagines`."""
        check_at_least(1, steps=steps, samples=samples)
        actions = check_actions(actions, needed=steps, width=self.action_size, samples=samples)
        state = state.map(lambda x: x.repeat_interleave(samples, 0))  # (B*S, K, ...)
        done = []
        for t in range(steps):
            action = None if actions is None else actions[:, :, t].expand(-1, samples, -1).flatten(0, 1)
            state = self._advance(state, action)
            done.append(state)
        states: FramedState = FramedState.stack(done)  # (T, B*S, ...)
        return states.map(lambda x: x.movedim(0, 1).unflatten(0, (-1, samples)))

    def draw(self, states: FramedState) -> Decomposition:
        """States with any lead axes as pictures."""
        lead = states.content.shape[:-2]
        drawn = self.image.decode(states.content.flatten(0, -3), states.place.flatten(0, -3), self.grid, self.grid)
        components, logits = (x.unflatten(0, lead) for x in drawn)
        masks = (logits + self.image.size_prior * states.size[..., None, None]).softmax(-4)
        recon = (masks * components).sum(-4)
        return Decomposition(recon=recon, masks=masks, components=components, slots=states.slots)

    def latents(self, output: FramedOutput) -> Tensor:
        """(B, T, K, D + 3) all that a slot is drawn from: content, place, logarithm of its size in patches."""
        content = output.slots[..., : output.slots.shape[-1] - 4]
        return torch.cat([content, output.place, output.size], -1)

    def shift(self, latents: Tensor, by: Tensor, *, size: tuple[int, int]) -> Tensor:
        """See `ColoringAutoencoder.shift`."""
        return self.image.shift(latents, by, size=size)

    def redraw(self, latents: Tensor, *, size: tuple[int, int], present: Tensor | None = None) -> Decomposition:
        """The frame that `latents` (B, K, D + 3) give; see `ColoringAutoencoder.redraw`."""
        content, place, log_sizes = latents.split([latents.shape[-1] - 3, 2, 1], -1)
        components, logits = self.image.decode(content, place, self.grid, self.grid)
        logits = logits + self.image.size_prior * log_sizes[..., None, None]
        if present is not None:
            logits = logits.masked_fill(present[..., None, None, None] <= 0, -torch.inf)
        masks = logits.softmax(1)
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=content)

    def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Decomposition:
        """Futures (B, S, T, ...) of clips: `observe`, `imagine`, `draw`."""
        return self.draw(self.imagine(self.observe(context), steps=steps, samples=samples, actions=actions))

    def _see(self, image: Tensor, actions: Tensor | None) -> tuple[FramedState, Tensor]:
        """Clips (B, T, 3, H, W) -> states (B, T, ...) and attention (B, T, K, h, w)."""
        batch, frames = image.shape[:2]
        tokens = self.image.encode(image.flatten(0, 1)).unflatten(0, (batch, frames))  # (B, T, h, w, D)
        attention = self._color(tokens[:, 0])
        content, place = self._pool(tokens[:, 0], attention)
        memory = content.new_zeros(*content.shape[:2], self.dynamics.hidden)
        state = FramedState(
            content=content, place=place, velocity=torch.zeros_like(place), memory=memory, size=_size(attention)
        )
        states, attentions = [state], [attention]
        for t in range(1, frames):
            expected = self._advance(state, None if actions is None else actions[:, t - 1], chance=False)
            attention = self._attend(tokens[:, t], expected)
            content, place = self._pool(tokens[:, t], attention)
            rate = max(1 / (t + 1), self.content_rate)
            state = FramedState(
                content=torch.lerp(state.content, content, rate),
                place=place,
                velocity=place - state.place,
                memory=expected.memory,
                size=torch.lerp(state.size, _size(attention), rate),
            )
            states.append(state)
            attentions.append(attention)
        together: FramedState = FramedState.stack(states)
        together = together.map(lambda x: x.movedim(0, 1))
        return together, torch.stack(attentions, 1)

    def _color(self, tokens: Tensor) -> Tensor:
        """The image model's division (B, K, h, w) of the first frame's patches (B, h, w, D)."""
        embeddings, _ = self.image.embed(tokens.movedim(-1, 1))
        noise = None if self.training else torch.ones_like(embeddings[:, 0])
        return self.image.coloring(embeddings, slots=self.slots, noise=noise, densest=True).log_masks.exp()

    def _attend(self, tokens: Tensor, expected: FramedState) -> Tensor:
        """Who gets which patch (B, K, h, w) of a later frame (B, h, w, D), if things are as expected."""
        grid = coordinates(self.grid, self.grid, tokens)
        near = self.key_place(
            2 * (grid[0, :, 0] - expected.place[..., :1]), 2 * (grid[1, 0] - expected.place[..., 1:])
        )  # (B, K, h, w, H)
        seen = self.key(tokens)[:, None] + self.query(expected.content)[:, :, None, None] + near
        return self.score(seen).squeeze(-1).softmax(1)

    def _pool(self, tokens: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Contents (B, K, D) and places (B, K, 2), with noise in training."""
        content, place = self.image.pool(tokens, attention)
        place = place + self.correction(content) / self.grid
        if self.training:
            content = sample_gaussian(content, content.new_tensor(self.content_noise))
            place = sample_gaussian(place, place.new_tensor(self.place_noise))
        return content, place

    def _advance(self, state: FramedState, action: Tensor | None, *, chance: bool = True) -> FramedState:
        """The next moment (N, K, ...): one that may be, or without chance, the middle one."""
        memory, felt = self.dynamics.remember(state, action)
        noise = felt.new_zeros(*felt.shape[:2], self.dynamics.noise_size)
        if chance:
            noise = sample_gaussian(noise, noise.new_ones(()))
        velocity = state.velocity + self.dynamics(felt, noise)
        place = state.place + velocity
        return FramedState(content=state.content, place=place, velocity=velocity, memory=memory, size=state.size)

    def _score(self, states: FramedState, actions: Tensor | None, own: Tensor) -> Tensor:
        """(B, F) energy scores of the futures begun at frames 1 .. T - 2, in half pictures; smaller is better.

        A spare slot, without pixels of its own then (`own` (B, T, K)), is anywhere and does not count.
        """
        batch, frames = states.place.shape[:2]
        starts, steps = frames - 2, frames - 2
        begun = states.detach().map(lambda x: x[:, 1:-1].flatten(0, 1))  # (B*F, K, ...)
        target = states.place.detach()
        # Step i of the future begun at frame f is frame f + 1 + i; what would lie beyond the clip does not count.
        index = torch.arange(starts, device=target.device)[:, None] + torch.arange(steps, device=target.device) + 2
        counts = (index < frames).to(target.dtype)  # (F, T)
        index = index.clamp(max=frames - 1)
        told = None
        if actions is not None:
            told = actions[:, index - 1].flatten(0, 1)  # (B*F, T, A)
        futures = self.imagine(begun, steps=steps, samples=self.rollouts, actions=told).place  # (B*F, S, T, K, 2)
        futures = futures.unflatten(0, (batch, starts))
        truth = target[:, index]  # (B, F, T, K, 2)
        away = _distance(futures - truth[:, :, None]).mean(2)  # (B, F, T, K)
        apart = _distance(futures[:, :, :, None] - futures[:, :, None]).sum((2, 3))
        many = self.rollouts
        score = away - apart / (2 * max(many * (many - 1), 1))  # (B, F, T, K)
        weights = own[:, 1:-1, None].to(score.dtype)
        score = (score * weights).sum(-1) / weights.sum(-1)
        return (score * counts).sum(-1) / counts.sum(-1)


def _size(attention: Tensor) -> Tensor:
    """(B, K, h, w) -> (B, K, 1) logarithm of the number of patches."""
    return attention.detach().sum((2, 3)).clamp_min(0.05).log().unsqueeze(-1)


def _distance(apart: Tensor) -> Tensor:
    """(..., 2) -> (...,); smooth at zero."""
    return (apart.square().sum(-1) + 1e-8).sqrt()
