"""VRNN: a world model without objects (Chung et al., "A Recurrent Latent Variable Model for Sequential Data", NeurIPS
2015, with pictures), as the baseline of Emami et al.'s SSWM.

1. A long short-term memory carries everything that has happened.
2. Before a frame is seen, the prior guesses its latent from memory and action; afterwards the posterior, which has also
   seen the frame, does. The KL holds them together.
3. The decoder draws the frame from latent and memory; both, the frame and the latent, enter the memory.
4. To imagine, the latent is drawn from the prior, and the model's own picture enters the memory.

VRNN* (`open_loop=True`) sees `context` frames in training and is then left alone, blamed for its own pictures. This is
our reading of a name for which no code was published, after a branch of the released code that nothing reaches.

Defaults are the released settings. Decisions: one picture, so one slot whose mask is everywhere. The encoder is run
frame by frame, because its batch normalization counts over the clips of one frame. Deviation: the released code reads
the last action of the clip at the first frame (`first_action="released"`); ours reads zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import Model
from objectscape.nn.clips import check_actions, check_clips
from objectscape.nn.distributions import gaussian_kl, sample_gaussian
from objectscape.nn.mixtures import gaussian_log_likelihood
from objectscape.nn.raw_scales import std_of
from objectscape.nn.recurrent import LSTMCell
from objectscape.nn.tiled_decoder import TiledDecoder
from objectscape.nn.validation import check_at_least, check_choice, check_positive
from objectscape.scene import Decomposition, Losses, Scene, Tensors, record

HALF_LOG_2PI = 0.9189385332046727


@record
class VRNNState(Tensors):
    """What the model knows of a moment, or of many: lead axes (B,) or (B, S, T)."""

    hidden: Tensor
    """(..., H) of the memory, the moment's frame included."""
    cell: Tensor
    """(..., H)"""
    latent: Tensor
    """(..., D)"""
    image: Tensor
    """(..., 3, H, W) the moment as the model draws it: to imagine, it has to look at its own pictures."""

    @property
    def slots(self) -> Tensor:
        """(..., 1, D) the latent, as that of a single slot."""
        return self.latent.unsqueeze(-2)


@record
class VRNNOutput(Decomposition):
    """A Decomposition with one slot, (B, T, ...)."""

    nll: Tensor
    """(B, T) negative log-likelihood in nats, without log(2 pi) / 2 per value."""
    kl: Tensor
    """(B, T) KL of posterior and prior in nats; 0 where the frame was imagined."""
    hidden: Tensor
    """(B, T, H)"""
    cell: Tensor
    """(B, T, H)"""
    imagined: Tensor
    """(B, T) 1 where the frame was imagined, else 0."""


class GatedConv2d(nn.Module):
    """Convolution times gate, both with batch normalization."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.value = nn.Conv2d(inputs, outputs, 5, stride=stride, padding=2)
        self.gate = nn.Conv2d(inputs, outputs, 5, stride=stride, padding=2)
        self.value_norm, self.gate_norm = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

    def forward(self, image: Tensor) -> Tensor:
        return self.value_norm(self.value(image)) * self.gate_norm(self.gate(image)).sigmoid()


class ImageEncoder(nn.Module):
    """Five gated convolutions with strides 1, 2, 1, 2, 1, then one linear layer."""

    STRIDES = (1, 2, 1, 2, 1)

    def __init__(self, *, image_size: tuple[int, int], channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(GatedConv2d(a, b, s) for (a, b), s in zip(pairwise([3, *channels]), self.STRIDES, strict=True))
        )
        self.linear = nn.Linear(channels[-1] * (image_size[0] // 4) * (image_size[1] // 4), outputs)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, outputs)."""
        return F.elu(self.linear(self.layers(image).flatten(1)))


class _Step(NamedTuple):
    """One frame; rows N are clips, or clips and futures."""

    latent: Tensor
    """(N, D)"""
    image: Tensor
    """(N, 3, H, W)"""
    hidden: Tensor
    """(N, H)"""
    cell: Tensor
    """(N, H)"""
    kl: Tensor
    """(N,)"""


class VRNN(Model):
    """A recurrent variational autoencoder of clips.

    Args:
        image_size: height and width in pixels, or one number for both; multiples of 4.
        latent_size: width D of the latent.
        hidden_size: width H of the memory and of all layers between vectors.
        encoder_channels: widths of the encoder's five convolutions.
        decoder_channels: width of the decoder's convolutions.
        context: frames that VRNN* sees in training. Settable.
        open_loop: train as VRNN*.
        action_size: width A of an action; 0 for none.
        action_shift: frame t is led to by action t - shift of the clip.
        action_noise: standard deviation of Gaussian noise on an action whenever it is read, in evaluation as well.
        noise_per: the futures of a "video" share this noise, or each "rollout" has its own.
        first_action: what is read before the first action: "zero", or "released", an action from the clip's end.
        pixel_std: standard deviation of the pixels.
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
        latent_size: int = 64,
        hidden_size: int = 256,
        encoder_channels: Sequence[int] = (32, 32, 64, 64, 64),
        decoder_channels: int = 32,
        context: int = 2,
        open_loop: bool = False,
        action_size: int = 0,
        action_shift: int = 1,
        action_noise: float = 0.05,
        noise_per: Literal["video", "rollout"] = "rollout",
        first_action: Literal["zero", "released"] = "zero",
        pixel_std: float = 0.3,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        check_at_least(1, latent_size=latent_size, hidden_size=hidden_size, decoder_channels=decoder_channels)
        check_at_least(1, context=context)
        check_at_least(0, action_size=action_size, action_shift=action_shift)
        check_positive(pixel_std=pixel_std)
        check_choice("noise_per", noise_per, ("video", "rollout"))
        check_choice("first_action", first_action, ("zero", "released"))
        if len(size) != 2 or any(length < 4 or length % 4 for length in size):
            raise ValueError(f"image_size={image_size}: expected height and width in pixels, multiples of 4.")
        if len(encoder_channels) != len(ImageEncoder.STRIDES):
            raise ValueError(f"encoder_channels={encoder_channels}: expected {len(ImageEncoder.STRIDES)} numbers.")
        if action_noise < 0:
            raise ValueError(f"action_noise={action_noise}: a standard deviation is 0 or more.")
        self.image_size = (size[0], size[1])
        self.hidden_size, self.context, self.open_loop = hidden_size, context, open_loop
        self.action_size, self.action_shift, self.first_action = action_size, action_shift, first_action
        self.action_noise, self.noise_per = action_noise, noise_per
        self.pixel_std, self.kl_weight = pixel_std, kl_weight

        self.see_image = ImageEncoder(image_size=self.image_size, channels=encoder_channels, outputs=hidden_size)
        self.see_latent = _layers(latent_size, hidden_size)
        self.posterior = _layers(action_size + 2 * hidden_size, hidden_size)
        self.posterior_mean = nn.Linear(hidden_size, latent_size)
        self.posterior_raw = nn.Linear(hidden_size, latent_size)
        self.prior = _layers(action_size + hidden_size, hidden_size)
        self.prior_mean = nn.Linear(hidden_size, latent_size)
        self.prior_raw = nn.Linear(hidden_size, latent_size)
        self.decoder = TiledDecoder(
            inputs=2 * hidden_size, image_size=self.image_size, channels=[decoder_channels] * 4
        )  # of its four channels the last, a mask elsewhere, is not used
        self.recurrence = LSTMCell(2 * hidden_size, hidden_size)
        self.register_buffer("reconstruction_weight", torch.tensor(1.0))
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_normal_(layer.weight, gain=0.02)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1, 0.02)

    def forward(self, scene: Scene) -> VRNNOutput:
        """A batch of clips (B, T, ...), every frame seen; by VRNN* in training only the `context`.

        Raises:
            ValueError: for pictures of another size, a still image, or actions that are missing or of another width.
        """
        image = scene.pixels
        check_clips(image, self.image_size)
        frames = image.shape[1]
        seen = min(self.context, frames) if self.training and self.open_loop else frames
        actions = check_actions(scene.actions, needed=frames - self.action_shift, width=self.action_size)
        hidden = cell = image.new_zeros(len(image), self.hidden_size)
        steps: list[_Step] = []
        for t in range(frames):
            action = None if actions is None else self._action(actions[:, 0], t)
            steps.append(self._step(image[:, t] if t < seen else None, action, hidden, cell))
            hidden, cell = steps[-1].hidden, steps[-1].cell
        latent, recon, hidden, cell, kl = (torch.stack(parts, 1) for parts in zip(*steps, strict=True))
        log_prob = gaussian_log_likelihood(image, recon, self.pixel_std) + HALF_LOG_2PI
        return VRNNOutput(
            **_alone(recon, latent),
            nll=-log_prob.sum((2, 3, 4)),
            kl=kl,
            hidden=hidden,
            cell=cell,
            imagined=(torch.arange(frames, device=image.device) >= seen).to(image.dtype).expand(len(image), -1),
        )

    def loss(self, scene: Scene, output: Decomposition, step: int) -> Losses:
        """Sum over the frames of the weighted negative ELBO in nats; `nll` of the terms is per frame."""
        assert isinstance(output, VRNNOutput)
        nll, kl = output.nll.sum(1).mean(), output.kl.sum(1).mean()
        square = (output.recon - scene.pixels).square()
        terms = {"nll": output.nll.mean(), "kl": kl, "mse": square.mean()}
        total = self.reconstruction_weight * nll + self.kl_weight * kl
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})

    def observe(self, scene: Scene) -> VRNNState:
        """What the model knows after the last frame of the clips, all of them seen."""
        open_loop, self.open_loop = self.open_loop, False
        try:
            output = self.forward(scene)
        finally:
            self.open_loop = open_loop
        return VRNNState(
            hidden=output.hidden[:, -1],
            cell=output.cell[:, -1],
            latent=output.slots[:, -1, 0],
            image=output.recon[:, -1],
        )

    def imagine(self, state: VRNNState, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> VRNNState:
        """Futures (B, S, T, ...) of a state (B, ...); see `contract.Imagines`."""
        check_at_least(1, steps=steps, samples=samples)
        actions = check_actions(actions, needed=steps, width=self.action_size, samples=samples)
        hidden, cell = (x.repeat_interleave(samples, 0) for x in (state.hidden, state.cell))  # (B*S, H)
        done: list[_Step] = []
        for t in range(steps):
            action = None if actions is None else self._noisy(actions[..., t, :], samples)
            done.append(self._step(None, None if action is None else action.flatten(0, 1), hidden, cell))
            hidden, cell = done[-1].hidden, done[-1].cell
        latent, image, hidden, cell, _ = (
            torch.stack(parts, 1).unflatten(0, (-1, samples)) for parts in zip(*done, strict=True)
        )
        return VRNNState(hidden=hidden, cell=cell, latent=latent, image=image)

    def draw(self, states: VRNNState) -> Decomposition:
        """States with any lead axes as pictures."""
        return Decomposition(**_alone(states.image, states.latent))

    def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Decomposition:
        """Futures (B, S, T, ...) of clips: `observe`, `imagine`, `draw`."""
        return self.draw(self.imagine(self.observe(context), steps=steps, samples=samples, actions=actions))

    def _step(self, image: Tensor | None, action: Tensor | None, hidden: Tensor, cell: Tensor) -> _Step:
        """See one frame (N, 3, H, W), or imagine one."""
        told = [] if action is None else [action]
        guess = self.prior(torch.cat([*told, hidden], 1))
        mean, std = self.prior_mean(guess), std_of(self.prior_raw(guess))
        kl = mean.new_zeros(len(mean))
        if image is not None:
            features = self.see_image(image)
            guess = self.posterior(torch.cat([*told, features, hidden], 1))
            prior = mean, std
            mean, std = self.posterior_mean(guess), std_of(self.posterior_raw(guess))
            kl = gaussian_kl(mean, std, *prior).sum(1)
        latent = sample_gaussian(mean, std)
        seen = self.see_latent(latent)
        drawn = self.decoder(torch.cat([seen, hidden], 1))[:, :3].sigmoid()
        if image is None:
            features = self.see_image(drawn)
        hidden, cell = self.recurrence(torch.cat([features, seen], 1), (hidden, cell))
        return _Step(latent, drawn, hidden, cell, kl)

    def _action(self, actions: Tensor, frame: int) -> Tensor:
        """(B, T, A) -> (B, A) the action that leads to a frame of a clip, with its noise."""
        index = frame - self.action_shift
        if index < 0 and self.first_action == "zero":
            return torch.zeros_like(actions[:, 0])
        return self._noisy(actions[:, None, index], 1)[:, 0]

    def _noisy(self, action: Tensor, samples: int) -> Tensor:
        """(B, S or 1, A) -> (B, S, A) with the noise that a video or each of its S futures has."""
        action = action.expand(-1, samples, -1)
        if not self.action_noise:
            return action
        shape = (len(action), samples if self.noise_per == "rollout" else 1, action.shape[-1])
        return action + sample_gaussian(action.new_zeros(shape), action.new_tensor(self.action_noise))


def _layers(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ELU(), nn.Linear(width, width), nn.ELU())


def _alone(image: Tensor, latent: Tensor) -> dict[str, Tensor]:
    """Pictures (..., 3, H, W) as a decomposition with one slot."""
    components = image.unsqueeze(-4)
    return {
        "recon": image,
        "components": components,
        "masks": torch.ones_like(components[..., :1, :, :]),
        "slots": latent.unsqueeze(-2),
    }
