"""Every model keeps the contract; and the checker finds the ways to break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from objectscape.check import ContractError, check_model
from objectscape.cli.config import load, options
from objectscape.contract import Model, see
from objectscape.data.synthetic.shapes import ColoredShapes
from objectscape.nn.distributions import posterior_means
from objectscape.scene import Decomposition, Losses, Multimodal, Scene

SPACE = {"image_size": 32, "grid": 4, "components": 3, "glimpse_size": 8, "width": 4, "what_size": 6, "mask_size": 4,
         "component_size": 4, "features": 8, "background_features": 8, "mask_hidden_size": 8, "prior_hidden_size": 8,
         "component_hidden_size": 8}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "slot_attention": {"image_size": 32, "slots": 4, "slot_size": 16, "encoder_channels": 8, "decoder": "broadcast",
                       "decoder_channels": 8},
    "isa": {"image_size": 32, "slots": 4, "slot_size": 16, "encoder_channels": 8, "decoder_channels": 8},
    "instance_coloring": {"slots": 4, "patch": 4, "width": 16, "hidden": 16},
    "genesis": {"image_size": 32, "slots": 4},
    "genesis_s": {"image_size": 32, "slots": 4},
    "genesis_v2": {"image_size": 32, "slots": 4, "width": 8},
    "monet": {"image_size": 32, "slots": 4},
    "efficientmorl": {"image_size": 32, "slots": 4, "slot_size": 8, "decoder": "small", "refinement_steps": 2},
    "iodine": {"image_size": 32, "slots": 4, "slot_size": 8, "iterations": 2, "decoder_channels": [8],
               "refinement_channels": [8, 8], "refinement_mlp": [16], "lstm": [16]},
    "space": {**SPACE},
    "space_time": {**SPACE, "injection": None},  # with motion alone at first, presence is not asked of the network
    "vae": {"image_size": 32},
    "vae_broadcast": {"image_size": 32},
}  # fmt: skip
ELSEWHERE = {
    "slot_attention_moc",
    "savi",
    "slotformer",
    "framed_slots",
    "sswm",
    "op3",
    "vrnn",
    "global_workspace",
    "visual_vae",
    "text",
}
"""They read clips or domains: tests/test_slot_attention_moc.py, test_savi.py,
test_slotformer.py, test_world_models.py and test_workspace.py."""
NO_GRADIENT: dict[str, tuple[str, ...]] = {
    "instance_coloring": ("embed.conv",),  # behind a gate that starts at 0
    "genesis_v2": ("segmentation_head", "embedding.conv"),  # likewise
    "slot_attention": ("attention.norm_slots.bias",),  # a shift of all queries cancels in the softmax over slots
}


def small(name: str) -> nn.Module:
    from hydra.utils import instantiate

    torch.manual_seed(0)
    return instantiate({**load([f"model={name}"]).model, **SMALL[name]}, _convert_="all")


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Shapes, as if all of them moved."""
    shapes = ColoredShapes(split="train", count=3, image_size=32).batch([0, 1, 2])
    return replace(shapes, motion=(shapes.segments[:, None] > 0).float(), motion_boxes=shapes.boxes)


def test_every_model_is_in_the_list() -> None:
    assert set(options("model")) == SMALL.keys() | ELSEWHERE


@pytest.mark.parametrize("name", SMALL)
def test_every_model_keeps_the_contract(name: str, scene: Scene) -> None:
    check_model(small(name), scene, without_gradient=NO_GRADIENT.get(name, ()))


# the slots of its untrained network share all pixels, and which of them is left out is a matter of rounding:
# tests/test_instance_coloring.py compares what it draws before that
NOT_IN_BFLOAT16 = {"instance_coloring"}


@pytest.mark.parametrize("name", sorted(SMALL.keys() - NOT_IN_BFLOAT16))
def test_bfloat16_is_close_and_trains(name: str, scene: Scene) -> None:
    model, batch = small(name), replace(scene, image=scene.pixels)
    outputs, losses = [], []
    for enabled in (False, True):
        torch.manual_seed(0)
        with posterior_means(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs.append(model(batch))
            losses.append(model.loss(batch, outputs[-1], 0).total)
    full, half = outputs
    for part in (losses[1], *tree_leaves(half)):
        assert part.dtype in (torch.float32, torch.int64), "what leaves a model is in full precision"
        assert part.isfinite().all()
    torch.testing.assert_close(half.masks.sum(1), torch.ones_like(full.masks.sum(1)), rtol=0, atol=1e-2)
    assert (half.recon - full.recon).abs().mean() < 0.05
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0)
    losses[1].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", SMALL)
def test_plain_tensors_are_images(name: str, scene: Scene) -> None:
    model = small(name).eval()
    results = []
    for batch in (Scene(image=scene.pixels), scene.image, scene.pixels):
        torch.manual_seed(0)
        with torch.no_grad():
            results.append(model(batch))
    for result in results[1:]:
        assert torch.equal(result.recon, results[0].recon)
        assert torch.equal(result.masks, results[0].masks)
    with pytest.raises(ValueError, match=r"resize|Resize"):
        model(torch.rand(2, 3, 31, 31))


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), r"numpy.ndarray.*Use torch.from_numpy\(images\)\.$"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"torch.from_numpy\(images\)\[..., :3\].movedim\(-1, 1\)"),
        ([torch.zeros(3, 8, 8)], r"builtins.list.*torch.stack"),
        (torch.zeros(3, 8, 8), r"\(3, 8, 8\).*model\(image\[None\]\)"),
        (torch.zeros(2, 8, 8, 3), r"images.movedim\(-1, 1\)"),
        (torch.zeros(2, 1, 8, 8), "repeat a gray"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), r"images.byte\(\)"),
        (torch.full((2, 3, 8, 8), 255.0), "values from 255 to 255.*Divide by 255"),
        (torch.linspace(-1, 1, 384).view(2, 3, 8, 8), "Undo the normalization"),
    ],
)
def test_what_is_no_batch_of_images_is_said(images: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        Toy()(images)


def test_plain_tensors_pass_through_everything_that_wraps_a_call() -> None:
    """Clips, hooks, functional calls, compiled models; a model of another batch says what it reads."""
    model, images = Toy().eval(), torch.rand(2, 3, 8, 8)
    expected = model(Scene(image=images)).recon
    seen: list[Any] = []
    handle = model.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    assert torch.equal(model(images).recon, expected)
    assert [type(batch) for batch in seen] == [Scene]
    handle.remove()
    assert torch.equal(torch.func.functional_call(model, dict(model.named_parameters()), (images,)).recon, expected)
    assert torch.equal(model(images[:, None].expand(2, 4, 3, 8, 8)).recon[:, 3], expected)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(images).recon, expected)
    assert torch.equal(compiled(Scene(image=images)).recon, expected)

    class Words(Model[Multimodal, Multimodal]):
        def forward(self, batch: Multimodal) -> Multimodal:
            return batch

        def loss(self, batch: Multimodal, output: Multimodal, step: int) -> Losses:
            raise AssertionError

    with pytest.raises(ValueError, match="Words reads a Multimodal, but got Tensor"):
        Words()(images)


class Toy(Model):
    """The smallest model that keeps the contract."""

    def __init__(self, *, slots: int = 2, fault: str = "") -> None:
        super().__init__()
        self.slots, self.fault = slots, fault
        self.color, self.logits = nn.Parameter(torch.rand(1, 1, 3, 1, 1)), nn.Conv2d(3, 1, 1)
        self.idle = nn.Parameter(torch.zeros(1)) if fault == "idle" else None

    def forward(self, scene: Scene) -> Decomposition:
        image = scene.pixels
        logits = torch.stack([k * self.logits(image) for k in range(self.slots)], 1)
        masks = logits.sigmoid() if self.fault == "masks" else logits.softmax(1)
        shades = torch.linspace(0.5, 1, self.slots).view(-1, 1, 1, 1)  # equal slots would get no gradient for masks
        components = (self.color * shades).expand(len(image), self.slots, 3, *image.shape[-2:])
        if self.fault == "random":
            components = components + 0.1 * float(
                torch.empty(1).uniform_(generator=torch.Generator().manual_seed(Toy.calls))
            )
            Toy.calls += 1
        return Decomposition(
            recon=(masks * components).sum(1), masks=masks, components=components, slots=logits.mean((3, 4))
        )

    calls = 0

    def loss(self, scene: Scene, output: Decomposition, step: int) -> Losses:
        error = (scene.pixels - output.recon).square().sum((1, 2, 3)).mean()
        return Losses(total=error, terms={"error": error if self.fault == "graph" else error.detach()})


def test_what_is_seen_without_gradients_needs_none(scene: Scene) -> None:
    class Constant(Toy):
        def forward(self, scene: Scene) -> Decomposition:
            return replace(super().forward(scene), slots=self.color.view(1, 1, 3).expand(len(scene), 2, 3))

    with torch.no_grad():
        slots = see(Constant(), scene).slots
    assert not slots.requires_grad  # torch says that a view of a parameter needs one
    assert slots.numpy().shape == (3, 2, 3)


def test_a_good_model_passes(scene: Scene) -> None:
    check_model(Toy(), scene)


def test_everything_that_is_wrong_is_said_at_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    class Worse(Toy):
        def __init__(self, slots: int = 2) -> None:
            super().__init__(slots=slots, fault="random")
            self.spare = nn.Linear(2, 2)

    with pytest.raises(ContractError) as caught:
        check_model(Worse(), scene)
    text = "\n".join(caught.value.findings)
    for part in (
        "spare.weight gets no gradient",
        "spare.bias gets no gradient",
        "same seed differ",
        "by position",
    ):
        assert part in text
    assert f"in {len(caught.value.findings)} ways" in str(caught.value)
    check_model(Worse(), scene, strict=False)  # nothing that makes training impossible
    assert "spare.weight gets no gradient" in caplog.text
    with pytest.raises(ContractError, match="no parameter is called so"):
        check_model(Toy(), scene, without_gradient=("colour",))


def test_an_error_of_the_model_is_a_finding(scene: Scene) -> None:
    class Crashing(Toy):
        def forward(self, scene: Scene) -> Decomposition:
            raise KeyError("pixels")

    with pytest.raises(ContractError, match=r"forward\(batch\) raised KeyError: 'pixels'"):
        check_model(Crashing(), scene, strict=False)


def test_checking_leaves_the_model_and_the_stream_of_random_numbers_alone(scene: Scene) -> None:
    model = small("genesis").train()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    check_model(model, scene)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("fault", "message"),
    [("idle", "idle gets no gradient"), ("masks", "sums to 1"), ("graph", "detach it"), ("random", "same seed differ")],
)
def test_a_broken_model_is_told_what_is_wrong(fault: str, message: str, scene: Scene) -> None:
    with pytest.raises(ContractError, match=message):
        check_model(Toy(fault=fault), scene)
