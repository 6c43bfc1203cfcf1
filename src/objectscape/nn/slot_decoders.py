"""From slots back to pixels: every slot is drawn on its own, as RGB and a mask logit (Slot Attention, EfficientMORL).

All decoders tile a slot over a grid, add a position embedding, and convolve. They differ in the grid:

| name            | grid            | layers                                                    |
|-----------------|-----------------|-----------------------------------------------------------|
| `broadcast`     | H x W           | 3 x (k5, same padding, ReLU), k3                          |
| `deconvolution` | H/16 x W/16     | 4 x (transposed k5, stride 2, ReLU), (k5, ReLU), k3       |
| `small`         | (H+6) x (W+6)   | 3 x (k5, padding 1, ReLU), k3                             |
| `iodine`        | (H+10) x (W+10) | 4 x (k3, no padding, ELU), k3                             |
| `big`           | H/16 x W/16     | as `deconvolution`, but shifted by a pixel at each stride |
| `patch`         | H/4 x W/4       | 2 x (k3, same padding, ReLU), k1 to patches of 4x4 pixels |

The first two are Slot Attention's (2-D data sets; CLEVR), the next three EfficientMORL's. The last is ours:
without a layer at full resolution it is several times faster, for small experiments on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from objectscape.nn.constant_images import convolve_broadcast
from objectscape.nn.positions import PositionEmbedding
from objectscape.nn.validation import check_at_least, check_choice


class SlotDecoder(nn.Module):
    """Tiles each slot over a grid, adds positions, convolves. Build one with `make_slot_decoder`.

    Args:
        slot_size: width D of a slot.
        grid: (h, w) of the grid.
        layers: convolutions from (B*K, D, h, w) to (B*K, 4, H, W).
    """

    def __init__(self, *, slot_size: int, grid: tuple[int, int], layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.position = PositionEmbedding(size=grid, channels=slot_size)
        self.layers = nn.Sequential(*layers)

    def forward(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, D) -> RGB before any squashing (B, K, 3, H, W), mask logits (B, K, 1, H, W); both float32."""
        vectors, place, first = slots.flatten(0, 1), self.position().permute(2, 0, 1), self.layers[0]
        if type(first) is nn.Conv2d and min(place.shape[1:]) >= first.kernel_size[0]:
            weight, padding = first.weight, first.padding[0]
            drawn = convolve_broadcast(vectors, place, weight, first.bias, on_place=weight, padding=padding)
        else:
            drawn = first(vectors[:, :, None, None] + place)  # of (B*K, D, h, w)
        drawn = self.layers[1:](drawn).to(slots.dtype).unflatten(0, slots.shape[:2])  # (B, K, 4, H, W)
        return drawn[:, :, :3], drawn[:, :, 3:]


class _ShiftedConvTranspose2d(nn.ConvTranspose2d):
    """Doubles the size with TensorFlow's SAME alignment: output pixel = 2 * input pixel + tap - 1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 5, stride=2, padding=1)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(input)[..., :-1, :-1]


def _centered(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)


def _convolutions(
    slot_size: int,
    image_size: tuple[int, int],
    channels: int,
    *,
    layers: int,
    kernel: int,
    padding: int,
    last_padding: int,
    activation: type[nn.Module] = nn.ReLU,
) -> SlotDecoder:
    """`layers` hidden convolutions and a last one of kernel 3; the grid is as much larger as they eat."""
    stack: list[nn.Module] = []
    for index in range(layers):
        stack += [
            nn.Conv2d(channels if index else slot_size, channels, kernel, padding=padding),
            activation(inplace=True),
        ]
    stack.append(nn.Conv2d(channels, 4, 3, padding=last_padding))
    margin = layers * (kernel - 1 - 2 * padding) + 2 - 2 * last_padding
    return SlotDecoder(slot_size=slot_size, grid=(image_size[0] + margin, image_size[1] + margin), layers=stack)


def _deconvolutions(
    slot_size: int, image_size: tuple[int, int], channels: int, *, double: Callable[[int, int], nn.Module]
) -> SlotDecoder:
    """Four doublings, then two convolutions at full size (written as transposed ones, as the originals are)."""
    stack: list[nn.Module] = []
    for index in range(4):
        stack += [double(channels if index else slot_size, channels), nn.ReLU()]
    stack += [nn.ConvTranspose2d(channels, channels, 5, padding=2), nn.ReLU()]
    stack.append(nn.ConvTranspose2d(channels, 4, 3, padding=1))
    return SlotDecoder(slot_size=slot_size, grid=(image_size[0] // 16, image_size[1] // 16), layers=stack)


def _patches(slot_size: int, image_size: tuple[int, int], channels: int) -> SlotDecoder:
    """Every place of the grid draws its own 4 x 4 pixels."""
    stack: list[nn.Module] = []
    for index in range(2):
        stack += [nn.Conv2d(channels if index else slot_size, channels, 3, padding=1), nn.ReLU()]
    stack += [nn.Conv2d(channels, 4 * PATCH**2, 1), nn.PixelShuffle(PATCH)]
    return SlotDecoder(slot_size=slot_size, grid=(image_size[0] // PATCH, image_size[1] // PATCH), layers=stack)


SLOT_DECODERS = ("broadcast", "deconvolution", "small", "iodine", "big", "patch")
PATCH = 4
"""Side in pixels of the patches of the decoder `patch`."""


def make_slot_decoder(
    name: str, *, slot_size: int, image_size: tuple[int, int], channels: int | None = None
) -> SlotDecoder:
    """The decoder called `name` in the table above.

    Args:
        name: one of `SLOT_DECODERS`.
        slot_size: width D of a slot.
        image_size: (H, W) pixels of the result.
        channels: width of the convolutions; None for the published one (32 for `broadcast` and `small`, otherwise 64).

    Raises:
        ValueError: for an unknown name, or an image size that the decoder cannot draw.
    """
    check_choice("decoder", name, SLOT_DECODERS)
    if channels is not None:
        check_at_least(1, decoder_channels=channels)
    unit = {"deconvolution": 16, "big": 16, "patch": PATCH}.get(name, 1)
    if any(length < unit or length % unit for length in image_size):
        raise ValueError(
            f"image_size={tuple(image_size)} does not fit decoder={name!r}, which enlarges a grid {unit} times: "
            f'height and width must be multiples of {unit}. Resize the images, or use decoder="broadcast".'
        )
    if name in ("deconvolution", "big"):
        double = _ShiftedConvTranspose2d if name == "deconvolution" else _centered
        return _deconvolutions(slot_size, image_size, channels or 64, double=double)
    if name == "patch":
        return _patches(slot_size, image_size, channels or 64)
    if name == "broadcast":
        return _convolutions(slot_size, image_size, channels or 32, layers=3, kernel=5, padding=2, last_padding=1)
    if name == "small":
        return _convolutions(slot_size, image_size, channels or 32, layers=3, kernel=5, padding=1, last_padding=1)
    return _convolutions(
        slot_size, image_size, channels or 64, layers=4, kernel=3, padding=0, last_padding=0, activation=nn.ELU
    )
