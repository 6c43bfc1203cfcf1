"""Slot Attention: the EfficientMORL repository's version and the authors' own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from objectscape.checkpoints import slot_attention as importer
from objectscape.models.slot_attention import SlotAttentionModel, SlotAttentionOutput
from objectscape.nn.slot_attention import SlotStep
from objectscape.scene import Scene
from tests.parity.case import Case


class Probe(nn.Module):
    """Runs the model and opens it: encoder features and tokens, every iteration, the output."""

    def __init__(self, model: SlotAttentionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, scene: Scene, noise: Tensor) -> tuple[Tensor, Tensor, list[SlotStep], SlotAttentionOutput]:
        features = self.model.encoder.convs(2 * scene.pixels - 1)
        tokens = self.model.encoder(2 * scene.pixels - 1)
        return features, tokens, self.model.attention.trajectory(tokens, noise), self.model(scene, noise=noise)


def run(case: Case, *, linear: bool, loss_name: str) -> None:
    model = importer.build(case.config)
    leaves = case.weights(requires_grad=True)
    params = {f"model.{key}": value for key, value in importer.convert(leaves, case.config).items()}
    inputs = case.inputs()
    scene = Scene(image=inputs["image"])
    # oneDNN computes wrong weight gradients for some small convolutions at batch 1 (torch 2.13, CPU)
    with torch.backends.mkldnn.flags(enabled=False):
        features, tokens, steps, output = functional_call(Probe(model), params, (scene, inputs["eps_slots"]))
        loss = model.loss(scene, output, 0).total
        case.compare_gradients(loss, leaves)

    def unscale(image: Tensor) -> Tensor:
        return 2 * image - 1 if linear else image  # the authors record images in [-1, 1]

    computed = {
        "enc_conv": features,
        "enc_tokens": tokens,
        "tokens_head": tokens[:, :64],
        "slots": output.slots,
        "rgb": unscale(output.components),
        "rgb_slot0": unscale(output.components[:, 0]),
        "masks": output.masks,
        "recon": unscale(output.recon),
        "attn_last": steps[-1].weights,
        loss_name: loss,
    }
    for index, step in enumerate(steps):
        computed |= {f"slots_{index}": step.slots, f"attn_{index}": step.weights, f"update_{index}": step.update}
    for name in case.group("outputs"):
        case.compare(name, computed[name])
    case.finish()


KINDS = {
    "slot_attention/emorl": lambda case: run(case, linear=False, loss_name="total_loss"),
    "slot_attention/google": lambda case: run(case, linear=True, loss_name="loss"),
}
