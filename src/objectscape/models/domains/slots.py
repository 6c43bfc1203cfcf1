"""Slots of a model that finds objects, as a domain: a workspace of scenes with several objects, one state for each.

A row of the domain is one object. `encode_scene` gives the slots of a picture and says which of them hold objects,
`paint` draws slots together, over what the model makes of an empty picture. In training a scene comes as the set of its
slots beside the set of its descriptions; `objectscape.models.pairing` finds out which belong together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from objectscape.building import build_part, model_folder
from objectscape.contract import Decomposes, Places
from objectscape.files import sha256_of
from objectscape.models.domains.domain import Domain
from objectscape.nn.distributions import posterior_means
from objectscape.nn.frozen import Frozen
from objectscape.scene import Decomposition, Scene

VISIBLE = 0.003
"""Least share of a picture that an object's slot owns."""
BORDER = 0.2
"""Share of a picture's border from which on a slot is background."""


class Slots(Domain):
    """One slot of a decomposing model. The latent is all that the slot is drawn from, its place included.

    A latent has the part "slot", and for models whose slots have a place of their own (`Places`) what comes on top of
    the slot as the part "place": the two count the same in the loss, however many numbers they have.

    Args:
        model: that finds objects: a module, a description, or the folder of a trained one.
        domain: name of the entry in a batch, (B, 3, H, W) pictures of one object each.
        image_size: side of the pictures in pixels.
        background: RGB 0..255 of an empty picture.

    Raises:
        ValueError: for a model that does not decompose, or cannot draw its slots.
    """

    def __init__(
        self,
        *,
        model: Any = None,
        domain: str = "slots",
        image_size: int = 40,
        background: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__()
        finder: Any = build_part(model, f"domains.{domain}.model")
        if isinstance(model, str | Path):
            weights = model_folder(model, f"domains.{domain}.model") / "model.safetensors"
            self.weights_hash = sha256_of(weights)
        finds, places = isinstance(finder, Decomposes), isinstance(finder, Places)
        if not finds or not (places or hasattr(finder, "decode")):
            raise ValueError(f"{type(finder).__name__} does not find objects whose slots can be drawn")
        self.domain, self.image_size, self.places = domain, image_size, places
        self.finder = Frozen(finder)
        empty = torch.tensor(background, dtype=torch.float32).view(1, 3, 1, 1) / 255
        with torch.no_grad():
            output, latents = self._find(empty.expand(1, 3, image_size, image_size))
        self.register_buffer("empty", latents[0].clone())  # (K, E)
        self.empty: Tensor
        wide, slot = latents.shape[-1], output.slots.shape[-1]
        self.parts = {"slot": slot, "place": wide - slot} if wide > slot else {"slot": wide}

    @property
    def model(self) -> Any:
        """What finds the objects."""
        return self.finder.module

    @property
    def config(self) -> dict[str, Any]:
        """Every constructor argument; the model as a description, so that a saved workspace needs no other folder."""
        return {**super().config, "model": self.model.description}

    def encode(self, raw: Tensor) -> Tensor:
        """(B, 3, H, W) pictures -> (B, E) latent of the largest object."""
        latents, objects, sizes = self._objects(raw)
        largest = torch.where(objects, sizes, -1.0).argmax(1)
        return latents[torch.arange(len(latents), device=latents.device), largest]

    def encode_scene(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> (B, K, E) latents, (B, K) bool which hold objects, (B, H, W) the slot that owns a pixel."""
        output, latents = self._find(_pixels(raw))
        return latents, _hold_objects(output)[0], output.segments

    def decode(self, latent: Tensor) -> Tensor:
        """(B, E) -> (B, 3, H, W) uint8, each object alone."""
        return self.paint(latent.unsqueeze(1))

    def paint(self, latents: Tensor) -> Tensor:
        """(B, N, E) objects of a scene -> (B, 3, H, W) uint8, over an empty picture."""
        together = torch.cat([latents, self.empty.expand(len(latents), -1, -1)], 1)
        with posterior_means():
            if self.places:
                drawn = self.model.redraw(together, size=(self.image_size, self.image_size))
            else:
                drawn = self.model.decode(together)
        return drawn.recon.float().mul(255).round().clamp(0, 255).to(torch.uint8)

    def latent_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """(B,) the mean squared difference of each part, summed over the parts."""
        squared = (predicted - target).square().split(list(self.parts.values()), 1)
        return torch.stack([part.mean(1) for part in squared]).sum(0)

    def _objects(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output, latents = self._find(_pixels(raw))
        return latents, *_hold_objects(output)

    def _find(self, pixels: Tensor) -> tuple[Decomposition, Tensor]:
        """What the model makes of pictures, and (B, K, E) all that its slots are drawn from."""
        with posterior_means():
            output = self.model(Scene(image=pixels))
        return output, (self.model.latents(output) if self.places else output.slots).float()


def _pixels(raw: Tensor) -> Tensor:
    return raw.float() / 255 if raw.dtype == torch.uint8 else raw


def _hold_objects(output: Decomposition) -> tuple[Tensor, Tensor]:
    """(B, K) bool: slots with pixels, and not much of the border; (B, K) float their share of the picture."""
    count = output.masks.shape[1]
    owned = (output.segments[:, None] == torch.arange(count, device=output.masks.device)[:, None, None]).float()
    border = torch.cat([owned[..., 0, :], owned[..., -1, :], owned[..., 1:-1, 0], owned[..., 1:-1, -1]], -1).mean(-1)
    share = owned.mean((-2, -1))
    held = (share >= VISIBLE) & (border <= BORDER)
    return (held if output.present is None else held & (output.present > 0.5)), share
