"""Training steps and inference against plain ports of the released codes

"theirs" is a port of the original's step with the same layers and number of parameters (`benchmarks.ports`). With our
weights and without noise both have the same loss, which is checked before anything is timed. A step is zero_grad,
forward, loss, backward, clipping where the recipe has it, and Adam, fused for ours (the default of a run), a loop for
theirs (torch's default on a CPU). Both sides take turns in one process with one thread; time is CPU time of the
process, which other work on the machine moves little. The ratio is the median over pairs of neighbors; the note says
its range.

Inference is one image batch without gradients; EfficientMORL's original cannot be evaluated without them. Activations
are what graphs hold for the backward pass at the worst moment. The share is the operations counted per second, of what
one thread attains in the fastest of some convolutions and matrix products.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import ports
from benchmarks.measure import Row, cpu_seconds, kept_for_backward, row
from objectscape.contract import Model
from objectscape.models.efficientmorl import EfficientMORL
from objectscape.models.genesis import Genesis
from objectscape.models.genesis_v2 import GenesisV2
from objectscape.models.monet import MONet
from objectscape.models.slot_attention import SlotAttentionModel
from objectscape.models.vae import VAE
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Scene


@dataclass(kw_only=True)
class Case:
    """A model and its original at one setting."""

    ours: Callable[[], Model]
    theirs: Callable[[], ports.Port]
    side: int
    batch: int
    slots: tuple[int, int] | None = None
    """(K, D) of the noise that both take."""
    clip: float | None = None
    learning_rate: float = field(default=4e-4)


def _slot_attention(side: int, batch: int, slots: int) -> Case:
    return Case(
        ours=partial(SlotAttentionModel, image_size=side, slots=slots, encoder_channels=32, decoder="broadcast"),
        theirs=partial(ports.SlotAttention, side=side, slots=slots),
        side=side,
        batch=batch,
        slots=(slots, 64),
    )


def _efficientmorl(side: int, batch: int, slots: int, size: int, decoder: str, std: float, refinements: int) -> Case:
    mixture = decoder == "iodine"
    return Case(
        ours=partial(
            EfficientMORL,
            image_size=side,
            slots=slots,
            slot_size=size,
            decoder=decoder,  # type: ignore[arg-type]
            likelihood="mixture" if mixture else "gaussian",
            pixel_std=std,
            refinement_steps=refinements,
        ),
        theirs=partial(
            ports.EfficientMORL,
            side=side, slots=slots, size=size, decoder=decoder, mixture=mixture, std=std, refinements=refinements,
        ),
        side=side, batch=batch, slots=(slots, size), clip=5.0,
    )  # fmt: skip


def _family(ours: Callable[..., Model], theirs: Callable[..., ports.Port], side: int, batch: int, slots: int) -> Case:
    return Case(
        ours=partial(ours, image_size=side, slots=slots),
        theirs=partial(theirs, side=side, slots=slots),
        side=side, batch=batch, learning_rate=1e-4,
    )  # fmt: skip


def _vae(side: int, batch: int, *, broadcast: bool) -> Case:
    return Case(
        ours=partial(VAE, image_size=side, decoder="broadcast" if broadcast else "deconvolution"),
        theirs=partial(ports.VAE, side=side, broadcast=broadcast),
        side=side, batch=batch, learning_rate=1e-4,
    )  # fmt: skip


CASES: dict[str, Case] = {
    "Slot Attention Tetrominoes": _slot_attention(35, 4, 4),
    "EfficientMORL Tetrominoes I=1": _efficientmorl(35, 4, 4, 32, "small", 0.3, 1),
    "EfficientMORL Tetrominoes I=3": _efficientmorl(35, 4, 4, 32, "small", 0.3, 3),
    "EfficientMORL CLEVR6 96 I=1": _efficientmorl(96, 1, 7, 64, "iodine", 0.1, 1),
    "MONet 64 K=5": _family(MONet, ports.MONet, 64, 2, 5),
    "GENESIS 64 K=5": _family(Genesis, ports.Genesis, 64, 2, 5),
    "GENESIS-V2 64 K=7": _family(GenesisV2, ports.GenesisV2, 64, 2, 7),
    "VAE deconvolution 64": _vae(64, 2, broadcast=False),
    "VAE broadcast 64": _vae(64, 2, broadcast=True),
}
QUICK: dict[str, Case] = {
    "Slot Attention": _slot_attention(12, 1, 2),
    "EfficientMORL": _efficientmorl(8, 1, 2, 8, "small", 0.3, 1),
    "EfficientMORL mixture": _efficientmorl(8, 2, 3, 8, "iodine", 0.1, 2),
    "MONet": _family(MONet, ports.MONet, 32, 1, 2),
    "GENESIS": _family(Genesis, ports.Genesis, 32, 1, 3),
    "GENESIS-V2": _family(GenesisV2, ports.GenesisV2, 32, 1, 3),
    "VAE deconvolution": _vae(32, 1, broadcast=False),
    "VAE broadcast": _vae(32, 1, broadcast=True),
}
PAIRS, LONG_PAIRS, LONG = 7, 3, 20.0
"""How often both sides take a turn; how often if a turn of both takes longer than so many seconds."""


def loss_of(model: nn.Module, image: Tensor, noise: Tensor | None = None) -> Tensor:
    """() the training loss of either side."""
    if isinstance(model, ports.Port):
        return model(image, noise)[0]
    assert isinstance(model, Model)
    scene = Scene(image=image)
    output = model(scene) if noise is None else model(scene, noise=noise)
    return model.loss(scene, output, 0).total


def same(ours: Model, theirs: ports.Port, case: Case, image: Tensor) -> None:
    """Give `theirs` our weights; both must then have the same loss without noise."""
    pairs = list(zip(theirs.parameters(), ours.parameters(), strict=True))
    for one, two in pairs:
        one.data.copy_(two.data.view_as(one))
    noise = None if case.slots is None else torch.randn(len(image), *case.slots)
    with posterior_means(), torch.no_grad():
        expected = loss_of(ours, image, noise)
        with torch.enable_grad():
            found = loss_of(theirs, image, noise)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-3)


def stepper(model: nn.Module, case: Case, image: Tensor, *, fused: bool) -> Callable[[], None]:
    """A function that trains `model` for one step."""
    optimizer = torch.optim.Adam(model.parameters(), case.learning_rate, fused=fused or None)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model, image).backward()
        if case.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), case.clip)
        optimizer.step()

    return step


def seer(model: nn.Module, image: Tensor) -> Callable[[], None]:
    """A function that decomposes a batch once, as the side's users do."""

    def see() -> None:
        model.eval()
        gradients = isinstance(model, ports.Port) and model.needs_gradients
        with nullcontext() if gradients else torch.no_grad():
            model(image if isinstance(model, ports.Port) else Scene(image=image))
        model.train()

    return see


def turns(ours: Callable[[], None], theirs: Callable[[], None], *, quick: bool) -> tuple[list[float], list[float]]:
    """CPU seconds of every turn, A B A B, after one turn each that is thrown away."""
    gc.collect()
    first = cpu_seconds(ours) + cpu_seconds(theirs)
    count = 1 if quick else LONG_PAIRS if first > LONG else PAIRS
    pairs = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(count)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def compared(name: str, seconds: tuple[list[float], list[float]], images: int, unit: str) -> Row:
    """Medians per image, the median of the ratios of neighbors, and their range."""
    ratios = sorted(b / a for a, b in zip(*seconds, strict=True))
    ours, theirs = (1e3 * statistics.median(s) / images for s in seconds)
    result = row(name, ours, theirs, unit, note=f"{ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} pairs")
    return result | {"ratio": statistics.median(ratios)}


def operations(work: Callable[[], object]) -> float:
    """Floating-point operations of convolutions and matrix products in one call."""
    with _Count() as counter:
        work()
    return float(counter.total)


class _Count(TorchDispatchMode):
    """What `FlopCounterMode` counts. That one follows modules, too, and cannot do so below `torch.autograd.grad`."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def attainable(*, quick: bool = False) -> float:
    """Operations per second of the fastest of some convolutions and a matrix product, one thread, float32."""
    scale = 4 if quick else 1
    n = 1024 // scale
    matrix = torch.randn(n, n)
    works: list[Callable[[], object]] = [lambda: matrix @ matrix]
    for channels, kernel, side in ((64, 5, 128), (64, 3, 128), (32, 5, 72)):
        x, weight = (
            torch.randn(1, channels, side // scale, side // scale),
            torch.randn(channels, channels, kernel, kernel),
        )
        works.append(partial(F.conv2d, x, weight, padding=kernel // 2))
    best = 0.0
    with torch.no_grad():
        for work in works:
            count = operations(work)
            best = max(best, *(count / cpu_seconds(work) for _ in range(2 if quick else 20)))
    return best


def run(*, quick: bool = False) -> list[Row]:
    """Step and inference in CPU milliseconds per image, activations in MiB per image, share of the attainable rate."""
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        rate = attainable(quick=quick)
        rows = [row("attainable, one thread", rate / 1e9, None, "GFLOP/s")]
        for name, case in (QUICK if quick else CASES).items():
            rows += _measure(name, case, rate, quick=quick)
    return rows


def _measure(name: str, case: Case, rate: float, *, quick: bool) -> list[Row]:
    torch.manual_seed(0)
    image = torch.rand(case.batch, 3, case.side, case.side)
    ours, theirs = case.ours(), case.theirs()
    same(ours, theirs, case, image)
    step = [stepper(ours, case, image, fused=True), stepper(theirs, case, image, fused=False)]
    seconds = turns(*step, quick=quick)
    rows = [compared(f"{name}, step", seconds, case.batch, "CPU ms/image")]
    seen = turns(seer(ours, image), seer(theirs, image), quick=quick)
    rows.append(compared(f"{name}, inference", seen, case.batch, "CPU ms/image"))
    kept = [
        kept_for_backward(lambda m=m: loss_of(m, image).backward(), without=[*m.parameters(), image]) / case.batch  # type: ignore[misc]
        for m in (ours, theirs)
    ]
    rows.append(row(f"{name}, activations", *kept, "MiB/image"))
    counts = [operations(work) for work in step]
    rows.append(row(f"{name}, operations", *(1e-9 * c / case.batch for c in counts), "GFLOP/image"))
    shares = [100 * c / statistics.median(s) / rate for c, s in zip(counts, seconds, strict=True)]
    rows.append(row(f"{name}, share of the attainable rate", *shares, "%", higher=True))
    return rows
