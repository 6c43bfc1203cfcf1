"""A training step of SSWM at its published size, against a plain port: python -m benchmarks.world_models ours plain

`frames=10 batch=1` make clips longer, up to the 10 of the last published stage, and fewer.
The plain port tiles a slot over the whole grid before the decoder's first convolution, and draws every future for the
gradient. Both get the same weights and random numbers, and must give the same loss and gradients.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from objectscape.models import sswm
from objectscape.models.sswm import SSWM
from objectscape.nn.raw_scales import std_of
from objectscape.nn.tiled_decoder import TiledDecoder
from objectscape.scene import Scene


class PlainDecoder(TiledDecoder):
    """The same decoder, computed as it is written down."""

    def forward(self, vectors: Tensor) -> Tensor:
        grid = self.get_buffer("grid")
        tiled = vectors[:, :, None, None].expand(-1, -1, *grid.shape[1:])
        x = torch.cat([tiled, grid.expand(len(vectors), -1, -1, -1)], 1)
        for layer in self.layers:
            x = F.elu(layer(x))
        return self.last(x)


class PlainSSWM(SSWM):
    """The same model with all futures drawn for the gradient."""

    def _best_of_many(self, image: Tensor, last, actions: Tensor | None, *, first: int):  # type: ignore[no-untyped-def]
        many, steps = self.rollouts, image.shape[1]
        slots, memory = (x[:, None].expand(-1, many, -1, -1) for x in (last.slots, last.memory))
        done, error = [], image.new_zeros(len(image), many)
        for t in range(steps):
            mean, raw, memory = self._expect(slots, memory, self._action(actions, first + t, many))
            slots = sswm.sample_gaussian(mean, std_of(raw))
            drawing = self._draw(slots.flatten(0, 1), memory.flatten(0, 1))
            nll = self._nll(image[:, t].repeat_interleave(many, 0), drawing).unflatten(0, (-1, many))
            error = error + nll
            parts = [x.unflatten(0, (-1, many)) for x in drawing]
            done.append((slots, memory, torch.cat([mean, raw], -1), nll, *parts))
        best = error.argmin(1)
        frames = []
        for step in done:
            slots, memory, params, nll, components, masks = (sswm._chosen(x, best) for x in step)
            kl = nll.new_zeros(len(nll), self.slots)
            frames.append(sswm._Frame(slots, memory, params, nll, kl, sswm._Drawing(components, masks)))
        return frames


def step(model: SSWM, scene: Scene) -> tuple[float, float, float]:
    """Loss, gradient norm and CPU seconds of one training step."""
    torch.manual_seed(0)
    model.zero_grad()
    begin = time.process_time()
    total = model.loss(scene, model(scene), 0).total
    total.backward()
    seconds = time.process_time() - begin
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return float(total.detach()), float(norm), seconds


def main(words: Sequence[str]) -> None:
    """Print seconds and peak memory of `plain` or `ours` (a process of its own measures memory), or compare both."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"frames": 3, "batch": 2}
    sizes |= {name: int(value) for name, _, value in (word.partition("=") for word in words if "=" in word)}
    batch, frames = sizes["batch"], sizes["frames"]
    scene = Scene(image=torch.rand(batch, frames, 3, 64, 64), actions=torch.rand(batch, frames, 4))
    torch.manual_seed(1)
    models = {"ours": SSWM(action_size=4), "plain": PlainSSWM(action_size=4)}
    plain = PlainDecoder(inputs=64, image_size=(64, 64))
    models["plain"].load_state_dict(models["ours"].state_dict())
    plain.load_state_dict(models["ours"].decoder.state_dict())
    models["plain"].decoder = plain
    for name in [word for word in words if "=" not in word] or models:
        loss, norm, seconds = step(models[name].train(), scene)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{name}: loss {loss:.4f}, gradient norm {norm:.4f}, {seconds:.2f} CPU s, peak {peak:.2f} GiB", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
