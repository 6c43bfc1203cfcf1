"""Models: forward and backward pass of each at 64x64, against a plain port that goes slot by slot

"theirs" is the same model with the same weights as a straightforward port would compute it: a Python loop over the
slots for every component encoder, component decoder and mask decoder, and a broadcast decoder that tiles its latent and
convolves it. Before anything is timed the two must give the same result. The attention recursions of MONet and GENESIS
are sequential in both. The VAE has no slots, so there is nothing to compare it with.

Modes: "eager" is float32; "bf16" runs both sides under autocast; "compiled" compiles ours (static shapes; the other
side stays eager).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Row, device, empty_compile_cache, in_turns, peak_memory, row, seconds, why_no_compiler
from objectscape.contract import Model
from objectscape.models.genesis import Genesis
from objectscape.models.genesis_s import GenesisS
from objectscape.models.genesis_v2 import GenesisV2
from objectscape.models.monet import MONet
from objectscape.models.slot_attention import SlotAttentionModel
from objectscape.models.vae import VAE
from objectscape.nn.broadcast_decoder import BroadcastDecoder, spatial_broadcast
from objectscape.nn.slot_decoders import SlotDecoder
from objectscape.scene import Scene

MODELS: dict[str, tuple[Callable[..., Model], tuple[str, ...]]] = {  # name: (class, the parts that work on slots)
    "MONet": (MONet, ("encoder", "decoder")),
    "GENESIS": (Genesis, ("masks.decoder", "component_encoder", "component_decoder")),
    "GENESIS-S": (GenesisS, ("masks.decoder", "decoder")),
    "GENESIS-V2": (GenesisV2, ("decoder",)),
    "Slot Attention": (partial(SlotAttentionModel, image_size=64), ("decoder",)),
    "VAE": (VAE, ()),
}
MODES = ("eager", "bf16", "compiled")


class SlotBySlot(nn.Module):
    """A part of a model, called once per slot; slots are the fastest axis of its input (B * K, ...)."""

    def __init__(self, part: nn.Module, slots: int) -> None:
        super().__init__()
        self.part, self.slots = part, slots

    def forward(self, x: Tensor) -> Tensor:
        results = []
        for slot in x.unflatten(0, (-1, self.slots)).unbind(1):
            results.append(self.one(slot))  # noqa: PERF401  the loop is the point
        return torch.stack(results, 1).flatten(0, 1)

    def one(self, x: Tensor) -> Tensor:
        if not isinstance(self.part, BroadcastDecoder):
            return self.part(x)
        return self.part.rest(self.part.first(spatial_broadcast(x, self.part.side)))


class SlotDecoderBySlot(nn.Module):
    """The same for the decoder of Slot Attention: (B, K, D) to colors and mask logits, each with axes B, K."""

    def __init__(self, part: SlotDecoder) -> None:
        super().__init__()
        self.part = part

    def forward(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        drawn = [self.part(slots[:, k : k + 1]) for k in range(slots.shape[1])]
        return torch.cat([colors for colors, _ in drawn], 1), torch.cat([logits for _, logits in drawn], 1)


def build(name: str, slots: int, *, plain: bool) -> Model:
    torch.manual_seed(0)
    make, parts = MODELS[name]
    model = (make(slots=slots) if parts else make()).to(device())
    if plain:
        model = copy.deepcopy(model)
        for path in parts:
            part = model.get_submodule(path)
            looped = SlotDecoderBySlot(part) if isinstance(part, SlotDecoder) else SlotBySlot(part, slots)
            parent, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(parent), leaf, looped)
    return model


def images(batch: int) -> Scene:
    generator = torch.Generator().manual_seed(0)
    return Scene(image=torch.rand(batch, 3, 64, 64, generator=generator).to(device()))


def passes(model: Model, scene: Scene, mode: str) -> None:
    """Forward and backward."""
    model.zero_grad()
    torch.manual_seed(0)
    with torch.autocast(device().type, torch.bfloat16, enabled=mode == "bf16"):
        loss = model.loss(scene, model(scene), 0).total
    loss.backward()


def check_equal(ours: Model, theirs: Model, scene: Scene) -> None:
    """Both compute the same; in eval mode, because batch norms see all slots at once here and one at a time there."""
    outputs = []
    for model in (ours, theirs):
        torch.manual_seed(0)
        with torch.no_grad():
            outputs.append(model.eval()(scene))
        model.train()
    torch.testing.assert_close(outputs[0].recon, outputs[1].recon, rtol=1e-3, atol=1e-4)


def one_pass(name: str, slots: int, batch: int, mode: str, plain: bool) -> Callable[[], object]:
    """For `peak_memory`."""
    return partial(passes, build(name, slots, plain=plain), images(batch), mode)


def run(*, quick: bool = False, mode: str = "eager") -> list[Row]:
    """Milliseconds and MiB for K = 5 and 9."""
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}; choose one of {', '.join(MODES)}")
    missing = why_no_compiler() if mode == "compiled" else ""
    if missing:
        return [row(f"all models, {mode}", None, None, "ms", note=missing)]
    batch = 1 if quick else 32 if device().type == "cuda" else 4
    turns = 1 if quick else 10 if device().type == "cuda" else 3
    scene = images(batch)
    rows = []
    for name, (_, parts) in MODELS.items():
        for slots in ((2,) if quick else (5, 9)) if parts else (1,):
            label, size = f"{name}, K = {slots}", f"batch {batch}, {mode}"
            ours = build(name, slots, plain=False)
            works: dict[str, Callable[[], Any]] = {"ours": partial(passes, ours, scene, mode)}
            if parts:
                theirs = build(name, slots, plain=True)
                check_equal(ours, theirs, scene)
                works["theirs"] = partial(passes, theirs, scene, mode)
            if mode == "compiled":
                ours.compile(dynamic=False)
                with empty_compile_cache():
                    rows.append(row(f"{label}, compiling, once", seconds(works["ours"]), None, "s"))
            times = {key: 1e3 * value for key, value in in_turns(works, turns=turns, warm=not quick).items()}
            rows.append(row(f"{label}, forward and backward", times["ours"], times.get("theirs"), "ms", note=size))
            if mode != "compiled" and not (quick and rows[1:]):  # a fresh process each takes its time
                peaks = [
                    peak_memory(one_pass, name, slots, batch, mode, plain) for plain in (False, True)[: len(works)]
                ]
                rows.append(row(f"{label}, peak memory", peaks[0], peaks[1] if parts else None, "MiB", note=size))
    return rows
