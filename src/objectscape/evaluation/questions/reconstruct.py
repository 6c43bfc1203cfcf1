"""How well is the image reconstructed?"""

from __future__ import annotations

from torch import nn

from objectscape.evaluation.questions.question import Answer, Means, Question, higher, lower
from objectscape.metrics.reconstruction import mse, psnr
from objectscape.scene import Decomposition, Scene, Tensors


class Reconstruct(Question):
    """How well is the image reconstructed?"""

    name = "reconstruct"
    needs = "scenes with images"
    scores = {
        "mse": lower("Squared error per value of images in [0, 1].", "MSE"),
        "psnr": higher("Peak signal-to-noise ratio in dB.", "PSNR"),
    }
    headline = ("mse",)

    def __init__(self) -> None:
        self.means = Means()

    @classmethod
    def applies(cls, model: nn.Module, batch: Tensors) -> bool:
        return isinstance(batch, Scene)

    def update(self, batch: Scene, seen: Decomposition) -> None:
        pixels, recon = batch.pixels, seen.recon.float()
        self.means.add({"mse": mse(pixels, recon), "psnr": psnr(pixels, recon)})

    def compute(self, model: nn.Module) -> Answer:
        return Answer(self.means.scores())

    def baseline(self, batch: Scene) -> Decomposition:
        """Every image as a plain area of its mean color."""
        pixels = batch.pixels
        plain = pixels.mean((-2, -1), keepdim=True).expand_as(pixels)
        return Decomposition(
            recon=plain,
            masks=plain.new_ones(plain[..., :1, :, :].shape).unsqueeze(-4),
            components=plain.unsqueeze(-4),
            slots=plain.new_zeros(*plain.shape[:-3], 1, 0),
        )
