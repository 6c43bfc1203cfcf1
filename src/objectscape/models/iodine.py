"""IODINE (Greff et al., "Multi-Object Representation Learning with Iterative Variational Inference", ICML 2019,
arXiv 1903.00450): slots found by correcting a guess again and again.

1. K slots share one decoder: a slot and a mask logit per pixel; each pixel is a mixture of the K pictures.
2. All slots start from one learned Gaussian; the noise of the first draw alone makes them different.
3. T times: draw the scene, take the gradient of the loss with respect to the pictures and to the posterior's
   parameters, and give it, with pictures, masks and likelihoods, to a refinement network (convolutions and an LSTM),
   which corrects the posterior of every slot.
4. The loss sums the negative ELBO over all drawings, late ones weighing most.

Defaults are DeepMind's released settings for CLEVR6. The paper's Gaussian pixels and unit prior are
`likelihood="gaussian", pixel_scale=0.1, prior_std=1.0`.

Decisions: gradients enter the refinement network as constants, so no second-order graph is made; they are taken inside
`forward`, whether or not the caller records gradients. A slot looks the same everywhere before the coordinates are
added, so the decoder's first convolution is computed on one small tile and stretched. Leaving each slot out of the
likelihood takes two running sums, not K. Unlike in the released code, the raw scale is clamped from below, where its
square root would fail. The released video mode and factor regressor are not part of the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objectscape.contract import Model
from objectscape.nn.constant_images import convolve_broadcast
from objectscape.nn.distributions import drawing_means, fixed_noise, gaussian_kl, sample_gaussian
from objectscape.nn.inner_gradients import follows_gradients, node
from objectscape.nn.mixtures import gaussian_log_likelihood
from objectscape.nn.validation import check_at_least, check_choice, check_images, check_noise, check_positive
from objectscape.scene import Decomposition, Losses, Scene, Stage, record

COORDINATES = {"linear": 2, "cosine": 8}
"""Kinds of coordinate channels, and how many there are."""
CONSTANT, CAPACITY = 5.0, 0.5
"""Constant inputs of the decoder and of the refinement network: without use, but the released weights expect them."""

State = list[tuple[Tensor, Tensor]]
"""Hidden and cell state (B*K, H) of every LSTM layer."""


@record
class IODINEOutput(Decomposition):
    """A Decomposition after the last iteration, and how it came about.

    The scene is decoded I + 1 times: at the start, and after each of the I iterations. `params` of a Gaussian are
    its mean and raw scale s, std = sqrt(softplus(s)).
    """

    nll: Tensor
    """(B,) negative log-likelihood after the last iteration in nats."""
    kl_slots: Tensor
    """(B, K) KL of each slot's last posterior in nats."""
    params: Tensor
    """(B, K, 2D) the last posterior."""
    step_nll: Tensor
    """(B, I + 1)"""
    step_kl_slots: Tensor
    """(B, I + 1, K)"""
    step_params: Tensor
    """(B, I + 1, K, 2D)"""
    step_slots: Tensor
    """(B, I + 1, K, D) draws from them."""
    step_recon: Tensor
    """(B, I + 1, 3, H, W)"""
    step_masks: Tensor
    """(B, I + 1, K, 1, H, W)"""
    step_components: Tensor
    """(B, I + 1, K, 3, H, W)"""

    @property
    def bound(self) -> dict[str, Tensor]:
        """The likelihood and the KL of the last posterior."""
        return {"nll": self.nll, "kl_slots": self.kl_slots}

    @property
    def stages(self) -> list[Stage]:
        """The scene as decoded at the start and after every iteration."""
        parts = (self.step_slots, self.step_recon, self.step_masks, self.step_components, self.step_nll)
        return [
            Stage(
                name=f"step {i}",
                slots=slots,
                drawn=Decomposition(recon=recon, masks=masks, components=components, slots=slots),
                nll=nll,
            )
            for i, (slots, recon, masks, components, nll) in enumerate(
                zip(*(part.unbind(1) for part in parts), strict=True)
            )
        ]


def gaussian_parameters(params: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std (..., D) from mean and raw scale (..., 2D): the softplus of the raw scale is the variance."""
    mean, scale = params.chunk(2, -1)
    return mean, F.softplus(scale.clamp_min(-60)).sqrt()


def logistic_log_likelihood(image: Tensor, mean: Tensor, scale: float) -> Tensor:
    """log Logistic(image; mean, scale) per pixel and channel in nats; shapes broadcast."""
    distance = (image - mean) / scale
    return -distance - 2 * F.softplus(-distance) - math.log(scale)


def leave_one_out(terms: Tensor) -> Tensor:
    """(B, K, ...) -> (B, K, ...): log of the sum of exp over the slots but the k-th, by running sums on both sides."""
    nothing = torch.full_like(terms[:, :1], -torch.inf)
    before = torch.cat([nothing, terms.logcumsumexp(1)[:, :-1]], 1)
    after = torch.cat([terms.flip(1).logcumsumexp(1).flip(1)[:, 1:], nothing], 1)
    return torch.logaddexp(before, after)


def coordinate_channels(kind: str, size: tuple[int, int]) -> Tensor:
    """(C, H, W): "linear" column and row from -1 to 1, or "cosine" products cos(i pi column) cos(j pi row).

    i, j = 0..2 without (0, 0), j running fastest, column and row from 0 to 1.
    """
    if kind == "linear":
        rows, columns = (torch.linspace(-1, 1, length) for length in size)
        return torch.stack([columns.expand(size), rows[:, None].expand(size)])
    frequencies = torch.arange(3)[:, None]
    rows, columns = (torch.cos(frequencies * torch.linspace(0, math.pi, length)) for length in size)  # (3, H), (3, W)
    return torch.einsum("iw,jh->ijhw", columns, rows).flatten(0, 1)[1:]


class SlotDecoder(nn.Module):
    """Spatial broadcast decoder: the slot at every pixel, coordinates, convolutions that keep the size."""

    def __init__(
        self,
        *,
        slot_size: int,
        image_size: tuple[int, int],
        channels: Sequence[int],
        kernel: int,
        coordinates: str,
        patch: int,
    ) -> None:
        super().__init__()
        grid = coordinate_channels(coordinates, (image_size[0] // patch, image_size[1] // patch))
        if coordinates == "linear":
            grid = grid.flip(0)  # the released decoder wants the row first
        self.register_buffer("grid", grid, persistent=False)
        self.inputs = slot_size + 1  # with the constant
        widths = [self.inputs + len(grid), *channels, 4 * patch**2]
        self.layers = nn.Sequential()
        for before, after in pairwise(widths):
            self.layers.extend([nn.Conv2d(before, after, kernel, padding="same"), nn.ELU(inplace=True)])
        self.layers.pop(-1)
        if patch > 1:
            self.layers.append(nn.PixelShuffle(patch))

    def forward(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, D) -> RGB (B, K, 3, H, W), unbounded, and mask logits (B, K, 1, H, W), in the slots' dtype."""
        grid: Tensor = self.get_buffer("grid")
        first: nn.Conv2d = self.layers[0]  # type: ignore[assignment]
        vectors = F.pad(slots.flatten(0, 1), (0, 1), value=CONSTANT)  # (B*K, D + 1)
        on_vectors, on_grid = first.weight.split([self.inputs, len(grid)], 1)
        drawn = convolve_broadcast(vectors, grid, on_vectors, first.bias, on_place=on_grid, padding="same")
        drawn = self.layers[1:](drawn).to(slots.dtype).unflatten(0, slots.shape[:2])
        return drawn[:, :, 1:], drawn[:, :, :1]


class HalvingConv2d(nn.Conv2d):
    """Convolution of stride 2 with TensorFlow's SAME padding: an even side gets the odd zero at its end."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, stride=2)

    def forward(self, input: Tensor) -> Tensor:
        padding = []
        for length in (input.shape[3], input.shape[2]):
            total = max((length - 1) // 2 * 2 + self.kernel_size[0] - length, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(input, padding))


class LSTMCell(nn.Module):
    """A long short-term memory with one matrix for input and hidden state, its forget gate opened by 1."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + size, 4 * size)

    def forward(self, input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(N, I), hidden and cell (N, H) -> new hidden and cell."""
        hidden, cell = state
        enter, candidate, forget, leave = self.gates(torch.cat([input, hidden], 1)).chunk(4, 1)
        cell = torch.sigmoid(forget + 1) * cell + torch.sigmoid(enter) * candidate.tanh()
        return torch.sigmoid(leave) * cell.tanh(), cell


class _Drawing(NamedTuple):
    """Slots as pictures, and how well they explain the image."""

    components: Tensor
    """(B, K, 3, H, W)"""
    logits: Tensor
    """(B, K, 1, H, W)"""
    log_density: Tensor
    """(B, K, 1, H, W) of the image under each slot's picture, summed over channels."""
    log_masks: Tensor
    """(B, K, 1, H, W)"""
    log_prob: Tensor
    """(B, 1, 1, H, W) of the image under the mixture."""


class RefinementInputs(nn.Module):
    """What the refinement network sees, some of it normalized over channels and pixels together."""

    def __init__(self, *, slot_size: int, image_size: tuple[int, int], coordinates: str) -> None:
        super().__init__()
        grid = coordinate_channels(coordinates, image_size)
        self.register_buffer("grid", grid, persistent=False)
        widths = {"log_prob": 1, "dmask": 1, "dcomponents": 3, "counterfactual": 1, "dzp": 2 * slot_size}
        self.norms = nn.ModuleDict({name: nn.GroupNorm(1, width) for name, width in widths.items()})
        self.channels, self.features = 16 + len(grid), 4 * slot_size + 1

    def forward(
        self, image: Tensor, drawing: _Drawing, params: Tensor, gradients: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Spatial inputs (B, K or 1, C, H, W) and flat inputs (B, K, F) by name, in the order the network takes them.

        Args:
            image: (B, 3, H, W) in [0, 1].
            drawing: of the present slots.
            params: (B, K, 2D) of their posterior.
            gradients: of the loss with respect to components, mask logits and params.
        """
        components, logits, log_density, log_masks, log_prob = drawing
        with torch.no_grad():
            # log p(x) minus log p(x) without slot k, the other masks renormalized
            counterfactual = log_prob - (leave_one_out(log_masks + log_density) - leave_one_out(log_masks))
        density = log_density.exp()
        dcomponents, dmask, dparams = gradients
        one = torch.ones_like(logits)
        spatial = {
            "capacity": CAPACITY * one,
            "components": components,
            "coordinates": self.get_buffer("grid").expand(len(image), 1, -1, -1, -1),
            "counterfactual": self._norm("counterfactual", counterfactual),
            "dcomponents": self._norm("dcomponents", dcomponents),
            "dmask": self._norm("dmask", dmask),
            "image": image[:, None],
            "log_prob": self._norm("log_prob", log_prob.detach()),
            "mask": logits,
            "posterior": density / (density.sum(1, keepdim=True) + 1e-6),  # without the masks
            "pred_mask": log_masks.exp(),
        }
        flat = {
            "dzp": self._norm("dzp", dparams),
            "flat_capacity": CAPACITY * torch.ones_like(params[..., :1]),
            "zp": params,
        }
        return spatial, flat

    def _norm(self, name: str, value: Tensor) -> Tensor:
        """Per image and slot."""
        return self.norms[name](value.flatten(0, 1)).view_as(value)


class RefinementNetwork(nn.Module):
    """From its inputs to a correction of the posterior's parameters."""

    def __init__(
        self,
        *,
        inputs: RefinementInputs,
        slot_size: int,
        channels: Sequence[int],
        kernel: int,
        mlp: Sequence[int],
        lstm: Sequence[int],
    ) -> None:
        super().__init__()
        widths = [inputs.channels, *channels]
        self.convs = nn.Sequential()
        for before, after in pairwise(widths):
            self.convs.extend([HalvingConv2d(before, after, kernel), nn.ELU(inplace=True)])
        widths = [channels[-1], *mlp]
        self.mlp = nn.Sequential()
        for before, after in pairwise(widths):
            self.mlp.extend([nn.Linear(before, after), nn.ELU()])
        self.mlp.pop(-1)
        widths = [mlp[-1] + inputs.features, *lstm]
        self.lstm_sizes = widths[1:]
        self.lstm = nn.ModuleList(LSTMCell(before, after) for before, after in pairwise(widths))
        self.head = nn.Linear(widths[-1], 2 * slot_size)

    def forward(self, spatial: dict[str, Tensor], flat: dict[str, Tensor], state: State | None) -> tuple[Tensor, State]:
        """Inputs by name, state (None: zeros) -> correction (B, K, 2D), new state."""
        slots = flat["zp"].shape[:2]  # (B, K)
        pictures = torch.cat([x.expand(*slots, -1, -1, -1).flatten(0, 1) for x in spatial.values()], 1)
        features = self.mlp(self.convs(pictures).mean((2, 3)))  # (B*K, M)
        with torch.autocast(features.device.type, enabled=False):
            vectors = [x.flatten(0, 1) for x in flat.values()]
            hidden = torch.cat([features.to(vectors[0].dtype), *vectors], 1)  # (B*K, M + 4D + 1)
            if state is None:
                zeros = [hidden.new_zeros(len(hidden), size) for size in self.lstm_sizes]
                state = list(zip(zeros, zeros, strict=True))
            after = []
            for cell, before in zip(self.lstm, state, strict=True):
                hidden, memory = cell(hidden, before)
                after.append((hidden, memory))
            return self.head(hidden).unflatten(0, slots), after


class IODINE(Model[Scene, IODINEOutput]):
    """IODINE. The defaults are DeepMind's released settings for CLEVR6 at 128 x 128.

    Args:
        image_size: height and width in pixels, or one number for both; at least `decoder_kernel`.
        slots: number K of slots, 2 or more; give every object one, and the background one. Settable.
        slot_size: width D of a slot.
        iterations: number T of refinements, 1 or more. Settable.
        decoder_channels: widths of the decoder's hidden convolutions.
        decoder_kernel: side of its kernels, odd.
        decoder_coordinates: "linear" or "cosine" coordinate channels in the decoder.
        decoder_patch: side in pixels of the square that the decoder draws at each place of its grid; both sides of the
            image must be multiples of it. 1 is the paper's; 4 saves most of the time.
        refinement_channels: widths of the refinement network's convolutions, each of stride 2.
        refinement_kernel: side of their kernels.
        refinement_mlp: widths of the layers after the average over pixels.
        refinement_coordinates: "linear" or "cosine" coordinate channels in the refinement network.
        lstm: widths of the refinement network's LSTM layers; empty for none.
        likelihood: "logistic" or "gaussian" distribution of the pixels around a slot's picture.
        pixel_scale: its scale; of the Gaussian, the standard deviation.
        prior_std: standard deviation of the prior N(0, prior_std^2) of every latent. The released code's is sqrt(ln 2).

    Raises:
        ValueError: for a value outside its range.
    """

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] = 128,
        slots: int = 7,
        slot_size: int = 64,
        iterations: int = 5,
        decoder_channels: Sequence[int] = (64, 64, 64, 64),
        decoder_kernel: int = 3,
        decoder_coordinates: Literal["linear", "cosine"] = "linear",
        decoder_patch: int = 1,
        refinement_channels: Sequence[int] = (64, 64, 64, 64),
        refinement_kernel: int = 3,
        refinement_mlp: Sequence[int] = (256, 256),
        refinement_coordinates: Literal["linear", "cosine"] = "linear",
        lstm: Sequence[int] = (256,),
        likelihood: Literal["logistic", "gaussian"] = "logistic",
        pixel_scale: float = 0.03,
        prior_std: float = math.sqrt(math.log(2)),
    ) -> None:
        super().__init__()
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        check_at_least(
            1,
            slot_size=slot_size,
            decoder_kernel=decoder_kernel,
            decoder_patch=decoder_patch,
            refinement_kernel=refinement_kernel,
        )
        if decoder_kernel % 2 == 0:
            raise ValueError(f"decoder_kernel={decoder_kernel}; expected an odd number, so that pictures stay in place")
        if len(size) != 2 or min(size) < max(2, decoder_kernel):
            raise ValueError(
                f"image_size={image_size}: expected one number of pixels, or height and width, at least 2 and at least "
                f"decoder_kernel={decoder_kernel}."
            )
        if any(length % decoder_patch or length // decoder_patch < decoder_kernel for length in size):
            raise ValueError(
                f"decoder_patch={decoder_patch} does not fit image_size={image_size} and decoder_kernel="
                f"{decoder_kernel}: both sides must be multiples of it, and the grid no smaller than a kernel."
            )
        _check_widths("decoder_channels", decoder_channels)
        _check_widths("refinement_channels", refinement_channels)
        _check_widths("refinement_mlp", refinement_mlp)
        _check_widths("lstm", lstm, minimum=0)
        check_choice("decoder_coordinates", decoder_coordinates, tuple(COORDINATES))
        check_choice("refinement_coordinates", refinement_coordinates, tuple(COORDINATES))
        check_choice("likelihood", likelihood, ("logistic", "gaussian"))
        check_positive(pixel_scale=pixel_scale, prior_std=prior_std)
        self.image_size = (size[0], size[1])
        self.slots, self.slot_size, self.iterations = slots, slot_size, iterations
        self.likelihood, self.pixel_scale, self.prior_std = likelihood, pixel_scale, prior_std

        self.initial = nn.Parameter(torch.empty(2 * slot_size))
        self.decoder = SlotDecoder(
            slot_size=slot_size,
            image_size=self.image_size,
            channels=decoder_channels,
            kernel=decoder_kernel,
            coordinates=decoder_coordinates,
            patch=decoder_patch,
        )
        self.refinement_inputs = RefinementInputs(
            slot_size=slot_size, image_size=self.image_size, coordinates=refinement_coordinates
        )
        self.refiner = RefinementNetwork(
            inputs=self.refinement_inputs,
            slot_size=slot_size,
            channels=refinement_channels,
            kernel=refinement_kernel,
            mlp=refinement_mlp,
            lstm=lstm,
        )
        self._initialize()

    def _initialize(self) -> None:
        """TensorFlow's and Sonnet's defaults."""
        bound = math.sqrt(6 / (2 * len(self.initial)))  # Glorot's, for a vector
        nn.init.uniform_(self.initial, -bound, bound)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                std = layer.weight[0].numel() ** -0.5
                nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return self._slots

    @slots.setter
    def slots(self, value: int) -> None:
        check_at_least(2, slots=value)  # what a scene looks like without its only slot has no answer
        self._slots = value

    @property
    def iterations(self) -> int:
        """Number T of refinements of the next forward pass."""
        return self._iterations

    @iterations.setter
    def iterations(self, value: int) -> None:
        check_at_least(1, iterations=value)
        self._iterations = value

    @follows_gradients
    def forward(self, scene: Scene, *, noise: Tensor | None = None) -> IODINEOutput:
        """Decompose a batch of images.

        Args:
            scene: B images of the constructor's size.
            noise: (B, K, D) replaces the standard normal draw of the initial slots.

        Raises:
            ValueError: if image or noise have another shape.
        """
        image = scene.pixels
        check_images(image, self.image_size)
        shape = (len(image), self.slots, self.slot_size)
        check_noise(noise, *shape)
        if noise is None and drawing_means():
            noise = fixed_noise(shape[1:], like=self.initial).expand(shape)
        recording = torch.is_grad_enabled()
        params = self.initial.expand(*shape[:2], -1)  # (B, K, 2D)
        state: State | None = None
        drawings: list[_Drawing] = []
        step_params, step_slots, step_nll, step_kl_slots = [], [], [], []
        for remaining in range(self.iterations, -1, -1):
            # If the caller records nothing, every iteration has a graph of its own, gone when it has its gradients.
            with torch.set_grad_enabled(recording or remaining > 0):
                params = node(params, recording)
                mean, std = gaussian_parameters(params)
                slots = sample_gaussian(mean, std, noise)
                drawing = self._draw(image, slots)
                nll = -drawing.log_prob.sum((1, 2, 3, 4))  # (B,)
                kl = gaussian_kl(mean, std, 0.0, self.prior_std).sum(-1)  # (B, K)
                drawings.append(drawing)
                step_params.append(params)
                step_slots.append(slots)
                step_nll.append(nll)
                step_kl_slots.append(kl)
                if not remaining:
                    break
                objective = nll.mean() + kl.sum(1).mean()
                gradients = torch.autograd.grad(
                    objective, (drawing.components, drawing.logits, params), retain_graph=recording
                )
            with torch.autocast(image.device.type, enabled=False):
                spatial, flat = self.refinement_inputs(image, drawing, params, gradients)
            delta, state = self.refiner(spatial, flat, state)
            params, noise = params + delta, None
        components = torch.stack([drawing.components for drawing in drawings], 1)  # (B, S, K, 3, H, W)
        masks = torch.stack([drawing.log_masks for drawing in drawings], 1).exp()  # (B, I + 1, K, 1, H, W)
        recon = (masks * components).sum(2)
        output = IODINEOutput(
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
            step_slots=torch.stack(step_slots, 1),
            step_recon=recon,
            step_masks=masks,
            step_components=components,
        )
        return output if recording else output.detach()

    def loss(self, scene: Scene, output: IODINEOutput, step: int) -> Losses:
        """Sum over the S = 1 + T drawings of t / T times the negative ELBO, in nats; `step` is unused."""
        cost = output.step_nll.mean(0) + output.step_kl_slots.sum(2).mean(0)  # (S,): over slots, then the batch
        weights = torch.linspace(0, 1, len(cost), dtype=cost.dtype, device=cost.device)
        terms = {
            "nll": output.nll.mean(),
            "kl": output.kl_slots.sum(1).mean(),
            "mse": (output.recon - scene.pixels).square().mean(),
        }
        return Losses(total=(weights * cost).sum(), terms={name: value.detach() for name, value in terms.items()})

    def sample(self, n: int, *, noise: Tensor | None = None) -> Decomposition:
        """Imagine `n` scenes. The prior draws every slot on its own, so objects need not fit together.

        Args:
            n: number of scenes.
            noise: (n, K, D) standard normal numbers instead of a draw.
        """
        shape = (n, self.slots, self.slot_size)
        check_noise(noise, *shape)
        mean = self.initial.new_zeros(shape)
        return self.decode(sample_gaussian(mean, torch.full_like(mean, self.prior_std), noise))

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw latents (B, K, D): those of a scene, of several mixed, or with a dimension moved."""
        components, logits = self.decoder(slots)
        masks = logits.softmax(1)
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=slots)

    def _draw(self, image: Tensor, slots: Tensor) -> _Drawing:
        components, logits = self.decoder(slots)
        density = logistic_log_likelihood if self.likelihood == "logistic" else gaussian_log_likelihood
        log_density = density(image[:, None], components, self.pixel_scale).sum(2, keepdim=True)  # (B, K, 1, H, W)
        log_masks = logits.log_softmax(1)
        log_prob = (log_masks + log_density).logsumexp(1, keepdim=True)  # (B, 1, 1, H, W)
        return _Drawing(components, logits, log_density, log_masks, log_prob)


def _check_widths(name: str, widths: Sequence[int], *, minimum: int = 1) -> None:
    """Raise ValueError unless `widths` are at least `minimum` positive integers."""
    if isinstance(widths, int) or len(widths) < minimum or any(type(width) is not int or width < 1 for width in widths):
        raise ValueError(
            f"{name}={widths!r}; expected a list of positive integers, one for each layer"
            + (", at least one" if minimum else "")
        )
