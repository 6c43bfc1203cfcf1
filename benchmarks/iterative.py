"""Iterative models: forward and backward pass of EfficientMORL and IODINE at their published settings

"theirs" is the same model with the same weights as a straightforward port would compute it, slot by slot: a Python loop
over the slots for every decoder, and for IODINE's refinement network; IODINE's decoder tiles the slot over the picture
before its first convolution; what the picture is like without a slot is computed once per slot. Before anything is
timed the two must give the same result. I is the number of refinements; IODINE needs at least one.

Modes: "eager" is float32; "bf16" runs both sides under autocast; "compiled" compiles ours (static shapes; the other
side stays eager).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import Row, device, empty_compile_cache, in_turns, peak_memory, row, seconds, why_no_compiler
from benchmarks.models import MODES, SlotDecoderBySlot, check_equal, passes
from objectscape.cli import config as configs
from objectscape.contract import Model
from objectscape.models import iodine
from objectscape.models.efficientmorl import EfficientMORL
from objectscape.scene import Scene

SETTINGS = {  # recipe: images at once on a CPU
    "efficientmorl/tetrominoes": 4,
    "efficientmorl/clevr6": 1,
    "iodine/tetrominoes": 4,
    "iodine/clevr6": 1,
}
STEPS = (0, 1, 3)


class TiledDecoder(nn.Module):
    """IODINE's decoder as it is usually written: one slot at a time, at every pixel, through all convolutions."""

    def __init__(self, part: iodine.SlotDecoder) -> None:
        super().__init__()
        self.part = part

    def forward(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        grid = self.part.get_buffer("grid")
        drawn = []
        for slot in slots.unbind(1):
            vector = F.pad(slot, (0, 1), value=iodine.CONSTANT)[:, :, None, None]
            tiled = vector.expand(-1, -1, *grid.shape[1:])
            drawn.append(self.part.layers(torch.cat([tiled, grid.expand(len(slot), -1, -1, -1)], 1)))
        result = torch.stack(drawn, 1).to(slots.dtype)
        return result[:, :, 1:], result[:, :, :1]


class RefinementBySlot(nn.Module):
    """IODINE's refinement network, called once per slot."""

    def __init__(self, part: iodine.RefinementNetwork) -> None:
        super().__init__()
        self.part = part

    def forward(
        self, spatial: dict[str, Tensor], flat: dict[str, Tensor], state: iodine.State | None
    ) -> tuple[Tensor, iodine.State]:
        slots = flat["zp"].shape[1]
        deltas, states = [], []
        for k in range(slots):
            own = {name: x if x.shape[1] == 1 else x[:, k : k + 1] for name, x in spatial.items()}
            one = {name: x[:, k : k + 1] for name, x in flat.items()}
            before = None if state is None else [(h[k::slots], c[k::slots]) for h, c in state]
            delta, after = self.part(own, one, before)
            deltas.append(delta)
            states.append(after)
        layers = [tuple(torch.stack(parts, 1).flatten(0, 1) for parts in zip(*layer)) for layer in zip(*states)]
        return torch.cat(deltas, 1), layers  # type: ignore[return-value]


def leave_one_out(terms: Tensor) -> Tensor:
    """As `iodine.leave_one_out`, with one sum per slot."""
    slots = range(terms.shape[1])
    return torch.stack([terms[:, [j for j in slots if j != k]].logsumexp(1) for k in slots], 1)


class LeaveOneOut(nn.Module):
    """IODINE's inputs of the refinement network, with `leave_one_out` of this module."""

    def __init__(self, part: iodine.RefinementInputs) -> None:
        super().__init__()
        self.part = part

    def forward(self, *arguments: object) -> object:
        ours = iodine.leave_one_out
        iodine.leave_one_out = leave_one_out
        try:
            return self.part(*arguments)
        finally:
            iodine.leave_one_out = ours


def build(recipe: str, steps: int, *, plain: bool) -> Model:
    torch.manual_seed(0)
    settings = {**configs.load([f"recipe={recipe}"]).model}
    option = "iterations" if recipe.startswith("iodine") else "refinement_steps"
    model = instantiate({**settings, option: steps}, _convert_="all").to(device())
    if not plain:
        return model
    model = copy.deepcopy(model)
    if isinstance(model, EfficientMORL):
        model.decoder = SlotDecoderBySlot(model.decoder)
    else:
        model.decoder = TiledDecoder(model.decoder)
        model.refiner = RefinementBySlot(model.refiner)
        model.refinement_inputs = LeaveOneOut(model.refinement_inputs)
    return model


def images(recipe: str, batch: int) -> Scene:
    side = configs.load([f"recipe={recipe}"]).model.image_size
    return Scene(image=torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device()))


def one_pass(recipe: str, steps: int, batch: int, mode: str, plain: bool) -> Callable[[], object]:
    """For `peak_memory`."""
    return partial(passes, build(recipe, steps, plain=plain), images(recipe, batch), mode)


def run(*, quick: bool = False, mode: str = "eager") -> list[Row]:
    """Milliseconds and MiB."""
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}; choose one of {', '.join(MODES)}")
    missing = why_no_compiler() if mode == "compiled" else ""
    if missing:
        return [row(f"iterative models, {mode}", None, None, "ms", note=missing)]
    rows: list[Row] = []
    for recipe, few in SETTINGS.items():
        if quick and recipe.endswith("clevr6"):
            continue
        batch = 1 if quick else 32 if device().type == "cuda" else few
        turns = 1 if quick else 10 if device().type == "cuda" else 2
        scene = images(recipe, batch)
        for steps in (1,) if quick else STEPS:
            if recipe.startswith("iodine") and not steps:
                continue
            label, size = f"{recipe}, I = {steps}", f"batch {batch}, {mode}"
            ours, theirs = (build(recipe, steps, plain=plain) for plain in (False, True))
            check_equal(ours, theirs, scene)
            works = {"ours": partial(passes, ours, scene, mode), "theirs": partial(passes, theirs, scene, mode)}
            if mode == "compiled":
                torch._dynamo.config.trace_autograd_ops = True  # as Task does
                ours.compile(dynamic=False)
                with empty_compile_cache():
                    rows.append(row(f"{label}, compiling, once", seconds(works["ours"]), None, "s"))
            times = {key: 1e3 * value for key, value in in_turns(works, turns=turns, warm=not quick).items()}
            rows.append(row(f"{label}, forward and backward", times["ours"], times["theirs"], "ms", note=size))
            if mode != "compiled" and not (quick and rows[1:]):  # a fresh process each takes its time
                peaks = [peak_memory(one_pass, recipe, steps, batch, mode, plain) for plain in (False, True)]
                rows.append(row(f"{label}, peak memory", *peaks, "MiB", note=size))
    return rows
