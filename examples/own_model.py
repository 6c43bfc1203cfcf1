"""Your own model, from nothing but PyTorch and the contract, trained for a few steps: `python own_model.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from objectscape import Decomposition, Losses, Model, Scene, check_model
from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.metrics import AdjustedRandIndex


class TinySlots(Model):
    """A convolutional encoder makes K slots at once; each is drawn, with a mask, at every pixel.

    Args:
        slots: K, fixed by the encoder.
        slot_size: D.
        hidden: channels of the hidden layers.
    """

    def __init__(self, *, slots: int = 5, slot_size: int = 16, hidden: int = 32) -> None:
        super().__init__()
        if slots < 2:
            raise ValueError(f"slots={slots}; an image is not taken apart by fewer than 2")
        self._slots, self.slot_size = slots, slot_size
        self.encoder = nn.Sequential(
            nn.Conv2d(3, hidden, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 5, stride=2, padding=2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * hidden, slots * slot_size),
        )  # fmt: skip
        self.decoder = nn.Sequential(nn.Linear(slot_size + 2, hidden), nn.ReLU(), nn.Linear(hidden, 4))

    @property
    def slots(self) -> int:
        """K; without a setter, because the encoder fixes it."""
        return self._slots

    def forward(self, scene: Scene) -> Decomposition:
        pixels = scene.pixels  # (B, 3, H, W) in [0, 1]
        slots = self.encoder(pixels).unflatten(1, (self.slots, self.slot_size))  # (B, K, D)
        axes = (torch.linspace(-1, 1, size, device=pixels.device) for size in pixels.shape[-2:])
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # (H, W, 2)
        grid = grid.expand(*slots.shape[:2], *grid.shape)  # (B, K, H, W, 2)
        everywhere = slots[:, :, None, None].expand(*grid.shape[:4], -1)  # (B, K, H, W, D)
        drawn = self.decoder(torch.cat([everywhere, grid], -1)).movedim(-1, 2)  # (B, K, 4, H, W)
        components, masks = drawn[:, :, :3].sigmoid(), drawn[:, :, 3:].softmax(1)
        return Decomposition(recon=(masks * components).sum(1), masks=masks, components=components, slots=slots)

    def loss(self, scene: Scene, output: Decomposition, step: int) -> Losses:
        square = (scene.pixels - output.recon).square()
        total = 0.5 * square.sum((1, 2, 3)).mean()  # sum over channels and pixels, mean over the batch
        return Losses(total=total, terms={"mse": square.detach().mean()})


def train(model: Model, *, steps: int) -> list[float]:
    """The loss at every step."""
    data = ColoredShapes(split="train", seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    history = []
    for step in range(steps):
        scene = data.stream(step, batch_size=16)  # fresh scenes at every step
        losses = model.loss(scene, model(scene), step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(losses.total.item())
    return history


def score(model: Model) -> Tensor:
    """Foreground ARI on 32 held-out scenes."""
    scene = ColoredShapes(split="test").batch(range(32))
    metric = AdjustedRandIndex()
    with torch.no_grad():
        metric.update(scene.segments, model.eval()(scene).masks)
    return metric.compute()


if __name__ == "__main__":
    torch.manual_seed(0)
    model = TinySlots()
    check_model(model, ColoredShapes(split="train", count=2).batch(range(2)))  # silent if all is well
    history = train(model, steps=40)
    print(f"loss {history[0]:.0f} -> {history[-1]:.0f}, foreground ARI {score(model):.2f} after {len(history)} steps")
    model.save_pretrained("own_model")  # config.json + model.safetensors
