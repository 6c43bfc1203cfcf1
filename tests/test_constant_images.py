"""The first convolution of a broadcast decoder, against the convolution of the broadcast image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from objectscape.nn.constant_images import convolve_broadcast
from objectscape.nn.slot_decoders import SLOT_DECODERS, make_slot_decoder


@settings(max_examples=30)
@given(st.sampled_from([1, 3, 5]), st.data())
def test_it_is_the_convolution_of_the_broadcast_image(kernel: int, data: st.DataObject) -> None:
    padding = data.draw(st.integers(0, kernel // 2))
    height, width = (data.draw(st.integers(kernel, 9)) for _ in range(2))
    torch.manual_seed(0)
    vectors, place = torch.randn(3, 4, dtype=torch.float64), torch.randn(4, height, width, dtype=torch.float64)
    weight, bias = torch.randn(2, 4, kernel, kernel, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (vectors, place, weight, bias)]
    plain = F.conv2d(vectors[:, :, None, None] + place, weight, bias, padding=padding)
    ours = convolve_broadcast(vectors, place, weight, bias, on_place=weight, padding=padding)
    torch.testing.assert_close(ours, plain)
    pull = torch.randn_like(plain)
    for one, two in zip(torch.autograd.grad(plain, leaves, pull), torch.autograd.grad(ours, leaves, pull)):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("name", SLOT_DECODERS)
def test_a_slot_decoder_is_its_layers_on_the_broadcast_image(name: str) -> None:
    torch.manual_seed(0)
    decoder = make_slot_decoder(name, slot_size=6, image_size=(16, 32), channels=8).double()
    slots = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    place = decoder.position().permute(2, 0, 1)
    plain = decoder.layers(slots.flatten(0, 1)[:, :, None, None] + place).unflatten(0, (2, 3))
    rgb, logits = decoder(slots)
    torch.testing.assert_close(torch.cat([rgb, logits], 2), plain)
    leaves = [slots, *decoder.parameters()]
    pull = torch.randn_like(plain)
    ours = torch.autograd.grad(torch.cat([rgb, logits], 2), leaves, pull)
    for one, two in zip(torch.autograd.grad(plain, leaves, pull), ours, strict=True):
        torch.testing.assert_close(one, two)
