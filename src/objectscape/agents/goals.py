"""What goals in all worlds share: what has been seen and done so far, and what candidates cost.

The world is always the true simulator; what imagines the candidates is a model, or the simulator itself, which is the
most that planning with this cost can reach.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from objectscape.agents.choices import COSTS
from objectscape.agents.costs import image_cost, mask_places, place_cost, slot_costs, subimage_cost
from objectscape.contract import Predicts
from objectscape.nn.validation import check_choice
from objectscape.scene import Decomposition, Scene

Kind = Literal["image", "subimage", "slots", "places"]
LARGEST, SMALLEST = 0.3, 0.005
"""A slot with more, or less, of the picture than this is no object that can be moved."""
FAR = 2.0
"""Where slots that are no objects are put, in picture widths."""


class Goal:
    """A goal in a world. See `planning.Pursuit`; a world adds `space`, `act`, `score`, and what is seen.

    Args:
        model: imagines; None: `simulator`.
        simulator: the world itself, with `predict`.
        cost: "image", whole pictures; "subimage", slots as pictures, each wanted one's nearest; "slots", matched latent
            slots; "places", where things are, matched.
        action_size: width of an action.
        rollouts: futures of each candidate, for models that draw them.
        entities: actions name an object that is seen; otherwise they are free numbers.

    Raises:
        ValueError: for an unknown cost, or one that the simulator has no slots for.
    """

    def __init__(
        self,
        *,
        model: Predicts | None,
        simulator: Predicts,
        cost: Kind,
        action_size: int,
        rollouts: int,
        entities: bool,
    ) -> None:
        check_choice("cost", cost, COSTS)
        if model is None and cost == "slots":
            raise ValueError("cost='slots' compares what a model knows; the simulator has pictures: cost='image'")
        self.model: Predicts = simulator if model is None else model
        self.true, self.kind, self.action_size = model is None, cost, action_size
        self.rollouts, self.entities = rollouts, entities
        self.images: list[Tensor] = []
        self.facts: list[dict[str, Tensor]] = []
        self.actions: list[Tensor] = []

    def want(self, true: Decomposition, places: Tensor | None = None) -> None:
        """What is wanted: a scene (1, K, ...) as the world draws it, or `places` (G, 2) in picture widths of any
        objects."""
        self.goal_image = true.recon[0]
        self.goal_seen = true
        if not self.true:
            with torch.no_grad():
                self.goal_seen = self._see(Scene(image=true.recon[:, None]))
        self.wanted_places = mask_places(self.goal_seen.masks[0][_small(self.goal_seen.masks[0])])
        if places is not None:
            self.wanted_places = places

    def saw(self, picture: Tensor, facts: dict[str, Tensor]) -> None:
        """A frame (3, H, W), and for the simulator the true state."""
        self.images.append(picture)
        self.facts.append(facts)

    @torch.no_grad()
    def cost(self, plans: Tensor) -> Tensor:
        """See `Pursuit`."""
        plans = plans.repeat_interleave(self.rollouts, 0)[None]  # (1, N*R, H, A)
        futures = self.model.predict(self.scene(), steps=plans.shape[2], samples=plans.shape[1], actions=plans)
        futures = futures.map(lambda x: x[0].unflatten(0, (-1, self.rollouts)))  # (N, R, H, ...)
        if self.kind == "image":
            return image_cost(self.goal_image, futures)
        if self.kind == "subimage":
            return subimage_cost(self.goal_seen, futures)
        if self.kind == "places":
            masks = futures.masks[:, :, -1]  # (N, R, K, 1, H, W)
            places = torch.where(_small(masks)[..., None], mask_places(masks), FAR)
            return place_cost(self.wanted_places, places)
        slots = futures.slots[:, :, -1].flatten(0, 1)
        costs, _ = slot_costs(self.goal_seen.slots[0], slots, together="assignment")
        return costs.unflatten(0, (-1, self.rollouts)).mean(1)

    def scene(self) -> Scene:
        """What has been seen and done: one clip, with the true state for the simulator."""
        actions = torch.stack([*self.actions, torch.zeros(self.action_size)])[None]
        facts = {name: torch.stack([each[name] for each in self.facts])[None] for name in self.facts[0]}
        return Scene(image=torch.stack(self.images)[None], actions=actions, factors=facts if self.true else None)

    @torch.no_grad()
    def objects_seen(self) -> Tensor:
        """(E, 2) column and row, 0..1, of the middle of every object that the model sees now."""
        masks = self._see(self.scene()).masks[0]
        return mask_places(masks[_small(masks)])

    def _see(self, scene: Scene) -> Decomposition:
        """The last frame (1, K, ...) of a clip, as the model sees it."""
        if scene.actions is None:
            scene = Scene(image=scene.image, actions=torch.zeros(1, scene.image.shape[1], self.action_size))
        seen = self.model(scene)  # type: ignore[operator]
        return Decomposition(
            recon=seen.recon[:, -1], masks=seen.masks[:, -1], components=seen.components[:, -1], slots=seen.slots[:, -1]
        )


def _small(masks: Tensor) -> Tensor:
    """(..., K, 1, H, W) -> (..., K) which are objects."""
    share = masks.mean((-3, -2, -1))
    return (share < LARGEST) & (share > SMALLEST)
