"""The U-Net of MONet and GENESIS-V2."""

from __future__ import annotations

import pytest
import torch

from objectscape.nn.unet import UNet


@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("image_size", [32, 64])
def test_keeps_the_side_and_reaches_every_parameter(image_size, norm):
    torch.manual_seed(0)
    net = UNet(in_channels=4, out_channels=2, image_size=image_size, width=8, norm=norm)
    result = net(torch.rand(2, 4, image_size, image_size))
    assert result.shape == (2, 2, image_size, image_size)
    result.square().sum().backward()
    assert all(p.grad is not None and p.grad.norm() > 0 for p in net.parameters())


@pytest.mark.parametrize("image_size", [32, 64, 128, 256])
def test_widths_follow_the_published_table(image_size):
    c = 4
    net = UNet(in_channels=3, out_channels=None, image_size=image_size, width=c, norm="instance")
    outer = {32: 1, 64: 2, 128: 3, 256: 4}[image_size]
    down = [block[0].out_channels for block in net.down]
    up = [(block[0].in_channels, block[0].out_channels) for block in net.up]
    assert down == [c] * outer + [2 * c] * 3
    assert up == [(4 * c, 2 * c)] * 2 + [(4 * c, c)] + [(2 * c, c)] * outer
    assert isinstance(net.head, torch.nn.Identity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 48}, "image_size=48"),
        ({"image_size": 16}, "image_size=16"),
        ({"norm": "batch"}, "norm='batch'"),
        ({"width": 12, "norm": "group"}, "width=12"),
        ({"width": 0}, "width=0"),
    ],
)
def test_refuses_what_cannot_work(options, message):
    with pytest.raises(ValueError, match=message):
        UNet(**{"in_channels": 3, "out_channels": 1, "image_size": 32, "width": 8, "norm": "instance", **options})
