"""EfficientMORL (Emami, He, Ranka, Rangarajan, "Efficient Iterative Amortized Inference for Learning Symmetric and
Disentangled Multi-Object Representations", ICML 2021, arXiv 2106.03630): a set of latents, inferred in two stages.

1. Bottom-up: K slots start from one learned Gaussian and compete for the pixels' tokens in L attention layers that
   share their weights. Every layer is a posterior q(z^l | x): a pair of GRUs updates its mean and its raw scale.
2. A hierarchical prior ties the layers together; only the top one, z^L, is drawn: RGB and a mask logit for each slot.
3. Refinement: I times, the gradient of the loss with respect to the top posterior's parameters (2D numbers for each
   slot, no pictures) goes through a small recurrent network that corrects them.
4. The loss sums the negative ELBO after the bottom-up pass and after every refinement, the first weighing most; GECO
   can hold the error at a target.
5. Trained with fewer and fewer refinements, the first stage learns to do without them.

Decisions: the refinement's input is detached, so its gradient is taken without a second-order graph; it is taken inside
`forward`, whether or not the caller records gradients. Position grids, hidden states and draws follow the batch, so any
batch size, number of slots and refinements works at any time. The weight that GECO gives the reconstruction shapes that
gradient, hence it is a buffer, `reconstruction_weight`, which whoever trains sets and which is saved with the weights.

As in the released code and unlike the paper: the loss weights are (I + 3 - i) / (I + 1); the variance is softplus(s) +
1e-5; the refinement normalizes gradients only, without trainable gain; the refinement KL of the bottom-up prior is
against N(0, 1). The likelihoods leave out log(2 pi) / 2 per value, as the published targets and numbers do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import Model
from objectscape.nn.distributions import drawing_means, fixed_noise, gaussian_kl, sample_gaussian
from objectscape.nn.initialization import initialize_glorot, scale_weights
from objectscape.nn.inner_gradients import follows_gradients, gradient_at_once, node
from objectscape.nn.mixtures import gaussian_log_likelihood, mixture_log_likelihood
from objectscape.nn.recurrent import GRUCell
from objectscape.nn.slot_decoders import make_slot_decoder
from objectscape.nn.slot_encoder import SlotEncoder
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_noise, check_positive
from objectscape.scene import Decomposition, Losses, Scene, Stage, record

HIDDEN_SIZE = 128
"""Hidden width of the prior network and of the refinement's MLP."""
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@record
class EfficientMORLOutput(Decomposition):
    """A Decomposition after the last refinement, and how it came about.

    L is the number of bottom-up layers, I + 1 the number of times the scene is decoded: after the bottom-up pass,
    and after each of the I refinements. `params` of a Gaussian are its mean and its raw scale s, std = sqrt(softplus(s)
    + 1e-5).
    """

    nll: Tensor
    """(B,) negative log-likelihood after the last refinement in nats, without log(2 pi) / 2 per value."""
    kl_slots: Tensor
    """(B, K) KL of each slot's last posterior in nats."""
    params: Tensor
    """(B, K, 2D) the last posterior: the representation."""
    step_nll: Tensor
    """(B, I + 1)"""
    step_kl_slots: Tensor
    """(B, I + 1, K) the first: summed over the layers of the hierarchy; the others: against the refinement's prior."""
    step_params: Tensor
    """(B, I + 1, K, 2D)"""
    step_recon: Tensor
    """(B, I + 1, 3, H, W)"""
    step_masks: Tensor
    """(B, I + 1, K, 1, H, W)"""
    step_components: Tensor
    """(B, I + 1, K, 3, H, W)"""
    layer_params: Tensor
    """(B, L, K, 2D) posteriors of the bottom-up pass."""
    layer_slots: Tensor
    """(B, L, K, D) the draws from them; `EfficientMORL.decode` shows what each layer has found."""
    layer_attention: Tensor
    """(B, L, K, h, w) which slot explains which token; sums to 1 over K. (h, w) is the grid of tokens, (H, W) if all
    `encoder_strides` are 1."""
    layer_kl: Tensor
    """(B, L, K) KL of each layer against its prior in nats."""
    prior_mean: Tensor
    """(B, L, K, D) of the prior of each layer."""
    prior_std: Tensor
    """(B, L, K, D)"""

    @property
    def other_masks(self) -> dict[str, Tensor]:
        """The attention of the last layer."""
        return {"attention": self.layer_attention[:, -1, :, None]} if self.layer_attention.shape[1] else {}

    @property
    def bound(self) -> dict[str, Tensor]:
        """The likelihood and the KL of the last posterior."""
        return {"nll": self.nll, "kl_slots": self.kl_slots}

    @property
    def stages(self) -> list[Stage]:
        """Every layer of the bottom-up pass, and every refinement; the last layer is decoded as step 0."""
        below = self.layer_slots.shape[1]
        found = [
            Stage(name=f"layer {i}", slots=slots, attention=attention)
            for i, (slots, attention) in enumerate(
                zip(self.layer_slots.unbind(1), self.layer_attention.unbind(1), strict=True), 1
            )
        ][: below - 1]
        parts = (self.step_recon, self.step_masks, self.step_components, self.step_params, self.step_nll)
        for i, (recon, masks, components, params, nll) in enumerate(zip(*(p.unbind(1) for p in parts), strict=True)):
            slots = params.chunk(2, -1)[0]  # posterior means
            drawn = Decomposition(recon=recon, masks=masks, components=components, slots=slots)
            found.append(Stage(name=f"step {i}", slots=slots, drawn=drawn, nll=nll))
        if below:
            first = found[below - 1]
            first.name, first.attention = f"layer {below}\n= step 0", self.layer_attention[:, -1]
        return found


def gaussian_parameters(params: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std (..., D) from mean and raw scale (..., 2D): the softplus of the raw scale is the variance."""
    mean, scale = params.chunk(2, -1)
    return mean, (F.softplus(scale.clamp_max(80)) + 1e-5).sqrt()


def draw(params: Tensor, noise: Tensor | None = None) -> Tensor:
    """A reparameterized draw (..., D) from the Gaussian with `params` (..., 2D)."""
    return sample_gaussian(*gaussian_parameters(params), noise)


class DualGRU(nn.Module):
    """Two independent GRUs, one for the means and one for the raw scales, that see the same input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean, self.scale = GRUCell(size, size), GRUCell(size, size)

    def forward(self, update: Tensor, params: Tensor) -> Tensor:
        """(N, D), (N, 2D) -> (N, 2D)."""
        mean, scale = params.chunk(2, -1)
        return torch.cat([self.mean(update, mean), self.scale(update, scale)], -1)


class SingleGRU(nn.Module):
    """One GRU for means and raw scales together."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, 2 * size)
        self.cell = GRUCell(2 * size, 2 * size)

    def forward(self, update: Tensor, params: Tensor) -> Tensor:
        """(N, D), (N, 2D) -> (N, 2D)."""
        return self.cell(self.project(update), params)


class BottomUpLayer(nn.Module):
    """One layer of the first stage; the same weights serve all layers."""

    def __init__(self, *, slot_size: int, gru: str) -> None:
        super().__init__()
        self.norm_slots = nn.LayerNorm(slot_size)
        self.to_queries = nn.Linear(slot_size, slot_size, bias=False)
        self.gru = DualGRU(slot_size) if gru == "dual" else SingleGRU(slot_size)
        self.norm_mean, self.norm_scale = nn.LayerNorm(slot_size), nn.LayerNorm(slot_size)
        self.mlp_mean, self.mlp_scale = (
            nn.Sequential(nn.Linear(slot_size, 2 * slot_size), nn.ReLU(), nn.Linear(2 * slot_size, slot_size))
            for _ in range(2)
        )

    def forward(self, slots: Tensor, params: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Draws (B, K, D), params (B, K, 2D), keys, values (B, N, D) -> new params (B, K, 2D), attention (B, K, N)."""
        queries = self.to_queries(self.norm_slots(slots)) * slots.shape[-1] ** -0.5
        attention = (queries @ keys.mT).softmax(1)  # (B, K, N), over the slots
        weights = attention + 1e-8
        update = weights / weights.sum(-1, keepdim=True) @ values  # (B, K, D)
        params = self.gru(update.flatten(0, 1), params.flatten(0, 1)).view_as(params)
        mean, scale = params.chunk(2, -1)
        mean = mean + self.mlp_mean(self.norm_mean(mean))
        scale = scale + self.mlp_scale(self.norm_scale(scale))
        return torch.cat([mean, scale], -1), attention


class PriorNetwork(nn.Module):
    """The conditional prior between two neighboring layers; the same weights serve all pairs."""

    def __init__(self, slot_size: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(slot_size, HIDDEN_SIZE), nn.ELU())
        self.mean = nn.Linear(HIDDEN_SIZE, slot_size)
        self.scale = nn.Linear(HIDDEN_SIZE, slot_size)

    def forward(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Draws of the neighboring layer (..., D) -> mean and std (..., D)."""
        hidden = self.hidden(slots)
        return gaussian_parameters(torch.cat([self.mean(hidden), self.scale(hidden)], -1))


class RefinementNetwork(nn.Module):
    """Corrects a posterior by the gradient of the loss."""

    def __init__(self, slot_size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(4 * slot_size, HIDDEN_SIZE), nn.ELU(), nn.Linear(HIDDEN_SIZE, slot_size))
        self.gru = GRUCell(slot_size, slot_size)
        self.mean = nn.Linear(slot_size, slot_size)
        self.scale = nn.Linear(slot_size, slot_size)

    def forward(self, params: Tensor, gradient: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Params (B, K, 2D), their gradient (a constant), hidden (B, K, D) -> correction (B, K, 2D), new hidden."""
        normed = [F.layer_norm(half, half.shape[-1:]) for half in gradient.chunk(2, -1)]
        features = self.mlp(torch.cat([params, *normed], -1))  # (B, K, D)
        hidden = self.gru(features.flatten(0, 1), hidden.flatten(0, 1)).view_as(hidden)
        return torch.cat([self.mean(hidden), self.scale(hidden)], -1), hidden


class _Picture(NamedTuple):
    """What slots look like."""

    recon: Tensor
    """(B, 3, H, W)"""
    components: Tensor
    """(B, K, 3, H, W)"""
    log_masks: Tensor
    """(B, K, 1, H, W)"""


class EfficientMORL(Model[Scene, EfficientMORLOutput]):
    """EfficientMORL. The defaults are the paper's for CLEVR6 at 96 x 96, with three refinements throughout.

    Args:
        image_size: height and width in pixels, or one number for both.
        slots: number K of slots; give every object one, and the background one. Settable.
        slot_size: width D of a slot.
        layers: number L of bottom-up layers, 0 for refinement alone.
        refinement_steps: number I of refinements, 0 or more. Settable; with a `curriculum`, the number for tests.
        curriculum: pairs (step, refinements), steps increasing: how many refinements to train with from which optimizer
            step on. It acts through `set_step`. Empty: always `refinement_steps`.
        prior: "reversed++" (p(z^L) = N(0, 1), p(z^l | z^(l+1)); refinements are held to p(z^1 | z^2)), "reversed" (the
            same, refinements held to N(0, 1)), or "bottom_up" (p(z^1) = N(0, 1), p(z^l | z^(l-1))).
        gru: "dual" (one GRU for means, one for scales), or "single".
        encoder_channels: width of the encoder's convolutions and of the tokens.
        encoder_strides: of its four convolutions. With all 1, every pixel is a token; larger ones save time.
        decoder: "iodine", "small", "big" (sides must be multiples of 16), Slot Attention's "broadcast" and
            "deconvolution", or the fast "patch" (sides multiples of 4); see `objectscape.nn.slot_decoders`.
        decoder_channels: width of the decoder's convolutions; None for the published one.
        initialization: "released" (Xavier weights times 0.02, so that the first pictures are flat gray and all slots
            alike; the dual GRU's from N(0, 1)), or "sharp" (ours, see `_initialize_sharp`: slots compete and tell
            objects apart from the first step on, which saves thousands of steps).
        likelihood: "mixture" of one Gaussian per slot at every pixel and channel (backgrounds go to one slot), or one
            "gaussian" around the blended picture.
        pixel_std: standard deviation of every pixel and channel.
        beta: weight of the KL.

    Raises:
        ValueError: for a value outside its range, or an image size that the decoder cannot draw.
    """

    reconstruction_weight: Tensor
    """() float32 weight of the negative log-likelihood, in the loss and in the refinement's gradient: 1 unless GECO
    sets it before each training step (`geco.steer(model)`). Part of the saved state, because
    a test must refine with the weight that training ended with."""

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] = 96,
        slots: int = 7,
        slot_size: int = 64,
        layers: int = 3,
        refinement_steps: int = 3,
        curriculum: Sequence[Sequence[int]] = (),
        prior: Literal["reversed++", "reversed", "bottom_up"] = "reversed++",
        gru: Literal["dual", "single"] = "dual",
        encoder_channels: int = 64,
        encoder_strides: Sequence[int] = (1, 1, 1, 1),
        decoder: Literal["iodine", "small", "big", "broadcast", "deconvolution", "patch"] = "iodine",
        decoder_channels: int | None = None,
        initialization: Literal["released", "sharp"] = "released",
        likelihood: Literal["mixture", "gaussian"] = "mixture",
        pixel_std: float = 0.1,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2 or min(size) < 2:
            raise ValueError(
                f"image_size={image_size}: expected one number of pixels, or height and width, at least 2."
            )
        check_at_least(1, slot_size=slot_size)
        check_at_least(0, layers=layers)
        check_choice("prior", prior, ("reversed++", "reversed", "bottom_up"))
        check_choice("gru", gru, ("dual", "single"))
        check_choice("initialization", initialization, ("released", "sharp"))
        check_choice("likelihood", likelihood, ("mixture", "gaussian"))
        check_positive(pixel_std=pixel_std)
        if beta < 0:
            raise ValueError(f"beta={beta}; expected the weight of the KL, 0 or more")
        self.image_size = (size[0], size[1])
        self.slots, self.slot_size, self.layers = slots, slot_size, layers
        self.refinement_steps, self.curriculum = refinement_steps, _check_curriculum(curriculum)
        self.prior, self.likelihood = prior, likelihood
        self.pixel_std, self.beta = pixel_std, beta

        self.encoder = SlotEncoder(image_size=self.image_size, channels=encoder_channels, strides=encoder_strides)
        self.to_keys = nn.Linear(encoder_channels, slot_size, bias=False)
        self.to_values = nn.Linear(encoder_channels, slot_size, bias=False)
        self.initial = nn.Parameter(torch.cat([torch.zeros(slot_size), torch.ones(slot_size)]))  # std 1.146
        self.bottom_up = BottomUpLayer(slot_size=slot_size, gru=gru)
        self.prior_network = PriorNetwork(slot_size)
        self.refiner = RefinementNetwork(slot_size)
        self.decoder = make_slot_decoder(
            decoder, slot_size=slot_size, image_size=self.image_size, channels=decoder_channels
        )
        self.register_buffer("reconstruction_weight", torch.tensor(1.0))
        if initialization == "released":
            self._initialize_released()
        else:
            self._initialize_sharp()

    def _initialize_sharp(self) -> None:
        """Weights that keep the size of what they map, but for those that decide how slots begin to differ."""
        initialize_glorot(self, weights=nn.init.xavier_normal_)
        scale_weights(self.encoder.convs, gain=2)  # otherwise tokens encode only position
        scale_weights(self.bottom_up.to_queries, self.to_keys, gain=3)  # else the layers make all slots alike
        spread = self.bottom_up.mlp_scale[-1]
        scale_weights(spread, self.refiner.mean, self.refiner.scale, gain=0.02)
        nn.init.constant_(spread.get_parameter("bias"), -2.5)  # a small std, else noise hides the means

    def _initialize_released(self) -> None:
        """The released code's start."""
        position = self.encoder.position.projection
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer is not position:
                nn.init.xavier_normal_(layer.weight, 0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, DualGRU):
                for parameter in layer.parameters():
                    nn.init.normal_(parameter)

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return self._slots

    @slots.setter
    def slots(self, value: int) -> None:
        check_at_least(1, slots=value)
        self._slots = value

    @property
    def refinement_steps(self) -> int:
        """Number I of refinements of the next forward pass."""
        return self._refinement_steps

    @refinement_steps.setter
    def refinement_steps(self, value: int) -> None:
        check_at_least(0, refinement_steps=value)
        self._refinement_steps = value

    def set_step(self, step: int) -> None:
        """Set `refinement_steps` to what the curriculum asks for after `step` optimizer steps."""
        for start, count in self.curriculum:
            if start <= step:
                self.refinement_steps = count

    @follows_gradients
    def forward(self, scene: Scene, *, noise: Tensor | None = None) -> EfficientMORLOutput:
        """Decompose a batch of images.

        Args:
            scene: B images of the constructor's size.
            noise: (B, K, D) replaces the standard normal draw of the initial slots.

        Raises:
            ValueError: if image or noise have another shape.
        """
        image = scene.pixels
        check_images(image, self.image_size)
        recording = torch.is_grad_enabled()
        layer_params, layer_slots, attention, noise = self._infer(image, noise)

        # Below, `params` is the node of the graph that a refinement differentiates by. If the caller records nothing,
        # every refinement starts a graph of its own, which is gone when it has its gradient.
        params = layer_params[-1] if layer_params else self.initial.expand(len(image), self.slots, -1)
        pictures: list[_Picture] = []
        step_params, step_nll, step_kl_slots = [], [], []
        hidden = torch.zeros_like(params[..., : self.slot_size])  # (B, K, D)
        with torch.set_grad_enabled(recording or self.refinement_steps > 0):
            params = node(params, recording)
            slots = draw(params, noise)
            layer_params, layer_slots = [*layer_params[:-1], params], [*layer_slots, slots]
            layers = _stack(layer_params, self.layers)  # (B, L, K, 2D)
            prior_mean, prior_std = self._priors(layers)  # (B, L, K, D)
            layer_kl = gaussian_kl(*gaussian_parameters(layers), prior_mean, prior_std).sum(-1)  # (B, L, K)
            kl = layer_kl.sum(1)  # (B, K), summed over the layers
            target = self._refinement_prior(prior_mean, prior_std, recording)
        for remaining in range(self.refinement_steps, -1, -1):
            with torch.set_grad_enabled(recording or remaining > 0):
                if recording:  # what the line below does, with the gradient for the refinement and for the loss in one
                    nll, *drawn = gradient_at_once(self._score, slots, image, module=self.decoder)
                else:
                    nll, *drawn = self._score(slots, image)  # (B,), and the picture
                pictures.append(_Picture(*drawn))
                step_params.append(params)
                step_nll.append(nll)
                step_kl_slots.append(kl)
                if not remaining:
                    break
                objective = self._objective(nll, kl)
                (gradient,) = torch.autograd.grad(objective, params, retain_graph=recording)  # (B, K, 2D)
                with torch.autocast(image.device.type, enabled=False):
                    delta, hidden = self.refiner(params, gradient, hidden)
                params = node(params + delta, recording)
                slots = draw(params)
                kl = gaussian_kl(*gaussian_parameters(params), *target).sum(-1)  # (B, K)
        recon, components, log_masks = (torch.stack(values, 1) for values in zip(*pictures, strict=True))
        masks = log_masks.exp()
        output = EfficientMORLOutput(
            recon=recon[:, -1],
            masks=masks[:, -1],
            components=components[:, -1],
            slots=slots,
            nll=nll,
            kl_slots=kl,
            params=params,
            step_nll=torch.stack(step_nll, 1),
            step_kl_slots=torch.stack(step_kl_slots, 1),
            step_params=torch.stack(step_params, 1),
            step_recon=recon,
            step_masks=masks,
            step_components=components,
            layer_params=layers,
            layer_slots=_stack(layer_slots, self.layers),
            layer_attention=attention,
            layer_kl=layer_kl,
            prior_mean=prior_mean,
            prior_std=prior_std,
        )
        return output if recording else output.detach()

    def loss(self, scene: Scene, output: EfficientMORLOutput, step: int) -> Losses:
        """Sum over the S = 1 + I drawings of (I + 3 - i) / (I + 1) times the negative ELBO, in nats.

        Args:
            scene: the images.
            output: what `forward` returned.
            step: unused; see `set_step`.
        """
        last = output.step_nll.shape[1] - 1  # I
        total = output.nll.new_zeros(())
        for i in range(last + 1):
            total = total + (last + 3 - i) / (last + 1) * self._objective(
                output.step_nll[:, i], output.step_kl_slots[:, i]
            )
        moved = (output.step_params[:, 1:] - output.step_params[:, :-1]).norm(dim=-1)  # (B, I, K)
        terms = {
            "nll": output.nll.mean(),
            "kl": output.kl_slots.sum(1).mean(),  # over slots, then the batch
            "nll_bottom_up": output.step_nll[:, 0].mean(),
            "kl_bottom_up": output.step_kl_slots[:, 0].sum(1).mean(),
            "mse": (output.recon - scene.pixels).square().mean(),
            "refinement": moved.mean() if last else total.new_zeros(()),
        }
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()})

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition:
        """Imagine `n` scenes. The prior draws every slot on its own, so objects need not fit together.

        Args:
            n: number of scenes.
            noise: (n, K, D) standard normal numbers instead of a draw; with the bottom-up prior (n, K, L * D).
        """
        draws = max(1, self.layers) if self.prior == "bottom_up" else 1
        check_noise(noise, n, self.slots, draws * self.slot_size)
        parts = [None] * draws if noise is None else noise.split(self.slot_size, -1)
        zeros = self.initial.new_zeros(n, self.slots, self.slot_size)
        slots = sample_gaussian(zeros, torch.ones_like(zeros), parts[0])
        for part in parts[1:]:
            mean, std = self.prior_network(slots)
            slots = sample_gaussian(mean, std, part)
        return self.decode(slots)

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw latents (B, K, D): those of a scene, of several mixed, or with a dimension moved."""
        picture = self._draw(slots)
        return Decomposition(
            recon=picture.recon, masks=picture.log_masks.exp(), components=picture.components, slots=slots
        )

    def _infer(self, image: Tensor, noise: Tensor | None) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor | None]:
        """The bottom-up pass, all but the draw from the top posterior.

        Returns:
            posteriors (B, K, 2D) of all L layers, draws (B, K, D) of all but the top one, attention (B, L, K, h, w),
            and the noise for the next draw: None, unless L = 0.
        """
        shape = (len(image), self.slots, self.slot_size)
        check_noise(noise, *shape)
        if noise is None and drawing_means():
            noise = fixed_noise(shape[1:], like=self.initial).expand(shape)
        dtype = self.initial.dtype  # autocast leaves parameters in float32
        tokens = self.encoder(2 * image - 1)  # (B, h*w, C)
        keys, values = self.to_keys(tokens).to(dtype), self.to_values(tokens).to(dtype)  # (B, h*w, D)
        params = self.initial.expand(*shape[:2], -1)  # (B, K, 2D)
        posteriors, draws, maps = [], [], []
        with torch.autocast(image.device.type, enabled=False):
            for index in range(self.layers):
                slots = draw(params, noise)
                noise = None
                if index:
                    draws.append(slots)
                params, attention = self.bottom_up(slots, params, keys, values)
                posteriors.append(params)
                maps.append(attention)
        empty = keys.new_zeros(len(image), 0, self.slots, keys.shape[1])
        attention = torch.stack(maps, 1) if maps else empty  # (B, L, K, h*w)
        return posteriors, draws, attention.unflatten(-1, self.encoder.size), noise

    def _priors(self, layers: Tensor) -> tuple[Tensor, Tensor]:
        """Posteriors (B, L, K, 2D) -> mean, std (B, L, K, D) of the layers' priors, given fresh draws of neighbors."""
        mean, std = gaussian_parameters(layers)
        unit = torch.zeros_like(mean[:, :1]), torch.ones_like(std[:, :1])  # no layer has no prior
        bottom_up = self.prior == "bottom_up"
        neighbors = layers[:, :-1] if bottom_up else layers[:, 1:]
        if not neighbors.shape[1]:
            return unit
        with torch.autocast(layers.device.type, enabled=False):
            learned = self.prior_network(draw(neighbors))  # (B, L - 1, K, D)
        pairs = zip(unit, learned, strict=True) if bottom_up else zip(learned, unit, strict=True)
        mean, std = (torch.cat(pair, 1) for pair in pairs)
        return mean, std

    def _refinement_prior(self, mean: Tensor, std: Tensor, recording: bool) -> tuple[Tensor, Tensor] | tuple[()]:
        """Mean and std (B, K, D) of what refined posteriors are held to; () is N(0, 1)."""
        if self.prior != "reversed++" or not self.layers:
            return ()
        mean, std = mean[:, 0], std[:, 0]  # p(z^1 | z^2): its gradient pulls the lower posteriors towards the top one
        return (mean, std) if recording else (mean.detach(), std.detach())

    def _draw(self, slots: Tensor) -> _Picture:
        rgb, logits = self.decoder(slots)  # (B, K, 3, H, W), (B, K, 1, H, W)
        components, log_masks = rgb.sigmoid(), logits.log_softmax(1)
        return _Picture((log_masks.exp() * components).sum(1), components, log_masks)

    def _score(self, slots: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        """What slots look like, and how likely that makes the image: nll (B,), and the parts of a `_Picture`."""
        picture = self._draw(slots)
        return self._nll(image, picture), *picture

    def _nll(self, image: Tensor, picture: _Picture) -> Tensor:
        """(B,) nats, summed over pixels and channels."""
        if self.likelihood == "gaussian":
            log_likelihood = gaussian_log_likelihood(image, picture.recon, self.pixel_std)
        else:
            log_likelihood = mixture_log_likelihood(image, picture.components, picture.log_masks, self.pixel_std)
        return -(log_likelihood + _HALF_LOG_2PI).sum((1, 2, 3))

    def _objective(self, nll: Tensor, kl: Tensor) -> Tensor:
        """() what one drawing costs: (B,), (B, K) -> nats, summed over slots and averaged over the batch."""
        return (self.reconstruction_weight * nll + self.beta * kl.sum(1)).mean()


def _stack(values: list[Tensor], layers: int) -> Tensor:
    """(B, L, ...) from the values of the layers; a model without layers has one value too many."""
    return torch.stack(values, 1)[:, :layers]


def _check_curriculum(curriculum: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    pairs = [tuple(entry) for entry in curriculum]
    whole = all(len(pair) == 2 and all(type(value) is int for value in pair) for pair in pairs)
    starts = [pair[0] for pair in pairs]
    if not whole or starts != sorted(set(starts)) or any(count < 0 for _, count in pairs):
        raise ValueError(
            f"curriculum={curriculum}; expected pairs (step, refinements) in the order of their steps, "
            "[[0, 3], [100000, 1]] for example"
        )
    return [(start, count) for start, count in pairs]
