"""SlotFormer: a transformer that continues the slots of a video (Wu et al., "SlotFormer: Unsupervised Visual Dynamics
Simulation with Object-Centric Models", ICLR 2023).

1. A trained model of clips, kept as it is, turns the first frames into slots; slot k is the same object in each.
2. All slots of the last `context` frames are the tokens of one transformer, so every object sees every other, now and
   before. A token has an embedding of its frame; slots of a frame have none, so their order does not matter.
3. The outputs of the last frame's tokens are the change from there to the next frame.
4. Predicted slots are appended, the oldest ones dropped, and so on for as long as wanted. Nothing is random.
5. The loss is the squared error of predicted slots, and of the pictures that the kept decoder draws from them, over the
   whole rollout: the model learns from its own predictions, which are what it will read when it is used.

Design decisions
- `forward` shows what it is trained for: the first `context` frames of a clip as the kept model sees them, those after
  them as they are predicted.
- Sizes by default are the paper's for OBJ3D: 6 frames of context, 128 wide, 4 layers, 8 heads, 512 hidden.

Deviation from the released code: the transformer gives the change of a slot, not the slot (a new model then predicts
that nothing moves).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from objectscape.building import build_part
from objectscape.contract import Model
from objectscape.nn.clips import check_clips
from objectscape.nn.frozen import Frozen
from objectscape.nn.validation import check_at_least
from objectscape.scene import Decomposition, Losses, Scene, record


@record
class SlotFormerOutput(Decomposition):
    """A Decomposition of clips: frames of the context as they were seen, later ones as they are predicted."""

    seen_slots: Tensor
    """(B, T, K, D) the slots of the kept model in every frame; no gradient."""


class SlotFormer(Model[Scene, SlotFormerOutput]):
    """Predicts the slots of a trained model of clips.

    Args:
        base: a trained model of clips with `decode`, such as `SAVi`: the model, its run folder, or its description.
        context: frames that a prediction is made from; fewer will do when it is used.
        width: of the transformer's tokens.
        layers: of the transformer.
        heads: of its attention.
        hidden_size: hidden width of its MLPs.
        image_weight: weight of the pictures' error beside the slots'.

    Raises:
        ValueError: for a value out of its range, or a base that is no model of clips.
        FileNotFoundError: if there is no trained model in the folder.
    """

    reads_clips = True

    def __init__(
        self,
        *,
        base: Any = None,
        context: int = 6,
        width: int = 128,
        layers: int = 4,
        heads: int = 8,
        hidden_size: int = 512,
        image_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_at_least(1, context=context, width=width, layers=layers, heads=heads, hidden_size=hidden_size)
        if width % heads:
            raise ValueError(f"width={width} is not a multiple of heads={heads}")
        if image_weight < 0:
            raise ValueError(f"image_weight={image_weight}; expected 0 or more")
        self.context, self.image_weight = context, image_weight
        kept = _base(base)
        self.kept = Frozen(kept)
        self.image_size: tuple[int, int] = kept.image_size
        size = int(kept.slot_size)
        self.enter = nn.Linear(size, width)
        self.time = nn.Parameter(0.02 * torch.randn(context, width))
        layer = nn.TransformerEncoderLayer(width, heads, hidden_size, dropout=0.0, batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, size)
        nn.init.zeros_(self.leave.bias)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)

    @property
    def base(self) -> Any:
        """The kept model of clips."""
        return self.kept.module

    @property
    def slots(self) -> int:
        """Number K of slots."""
        return self.base.slots

    @slots.setter
    def slots(self, value: int) -> None:
        self.base.slots = value

    @property
    def hints(self) -> tuple[str, ...]:
        """Fields of ground truth that the kept model reads."""
        return getattr(self.base, "hints", ())

    @property
    def config(self) -> dict[str, Any]:
        """Every constructor argument; the base as a description, so that a saved model needs no other folder."""
        return {**super().config, "base": self.base.description}

    def forward(self, scene: Scene) -> SlotFormerOutput:
        """Clips (B, T, 3, H, W): the first `context` frames seen, the others predicted from them."""
        check_clips(scene.pixels, self.image_size)
        seen = self._see(scene)  # (B, T, K, D)
        context, steps = seen[:, : self.context], max(0, seen.shape[1] - self.context)
        drawn = self.base.decode(torch.cat([context, self.continue_slots(context, steps)], 1))
        return SlotFormerOutput(
            recon=drawn.recon, masks=drawn.masks, components=drawn.components, slots=drawn.slots, seen_slots=seen
        )

    def loss(self, batch: Scene, output: SlotFormerOutput, step: int) -> Losses:
        """Mean squared error of the predicted slots + image_weight * that of the predicted frames.

        Raises:
            ValueError: if the clips are not longer than the context.
        """
        if output.slots.shape[1] <= self.context:
            raise ValueError(
                f"clips of {output.slots.shape[1]} frames leave nothing to predict after context={self.context}; set "
                "clip.length to more, or model.context to less"
            )
        late = slice(self.context, None)
        slots = (output.slots[:, late] - output.seen_slots[:, late]).square().mean()
        image = (output.recon[:, late] - batch.pixels[:, late]).square().mean()
        terms = {"slot_error": slots.detach(), "mse": image.detach()}
        return Losses(total=slots + self.image_weight * image, terms=terms)

    def predict(self, context: Scene, *, steps: int, samples: int = 1, actions: Tensor | None = None) -> Decomposition:
        """The next `steps` frames of clips, (B, S, steps, ...). All `samples` are alike, and actions are not read."""
        check_clips(context.pixels, self.image_size)
        check_at_least(1, steps=steps, samples=samples)
        future = self.continue_slots(self._see(context), steps)  # (B, steps, K, D)
        return self.base.decode(future).map(lambda t: t.unsqueeze(1).expand(-1, samples, *t.shape[1:]))

    def decode(self, slots: Tensor) -> Decomposition:
        """Draw slots (..., K, D)."""
        return self.base.decode(slots)

    def continue_slots(self, slots: Tensor, steps: int) -> Tensor:
        """(B, T, K, D) slots of the frames so far -> (B, steps, K, D) those of the next ones."""
        history = list(slots[:, -self.context :].unbind(1))
        first = len(history)
        for _ in range(steps):
            recent = torch.stack(history[-self.context :], 1)  # (B, T, K, D)
            history.append(recent[:, -1] + self.change(recent))
        return torch.stack(history, 1)[:, first:]

    def change(self, slots: Tensor) -> Tensor:
        """(B, T, K, D) slots of at most `context` frames -> (B, K, D) the change from the last to the next."""
        time, count = slots.shape[1:3]
        tokens = self.enter(slots) + self.time[-time:, None]  # (B, T, K, width); the last frame has the last embedding
        out = self.transformer(tokens.flatten(1, 2))[:, -count:]  # (B, K, width)
        return self.leave(self.norm(out))

    @torch.no_grad()
    def _see(self, scene: Scene) -> Tensor:
        return self.kept(scene).slots


def _base(given: Any) -> Any:
    """The kept model from itself, from the folder of a trained one, or from a description."""
    found = build_part(given, "base")
    if not (getattr(found, "reads_clips", False) and hasattr(found, "decode") and hasattr(found, "slot_size")):
        raise ValueError(
            f"base is a {type(found).__name__}; expected a model of clips with decode and slot_size, such as SAVi"
        )
    return found
