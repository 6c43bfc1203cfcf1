"""GENESIS' generator on a bank of formula-defined squares instead of dSprites: the random stream and the pixels."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from objectscape.data.synthetic.multi_dsprites import GenesisStream, paint_sprites
from tests.parity.case import Case


class Squares:
    """The stand-in bank of the recorded cases."""

    def masks(self, numbers: Tensor, device: torch.device | str) -> Tensor:
        span = torch.arange(64)
        side = (8 + numbers % 8).unsqueeze(-1)
        top, left = (numbers // 8 % 48).unsqueeze(-1), (numbers // 384 % 48).unsqueeze(-1)
        rows = (span >= top) & (span < top + side)
        columns = (span >= left) & (span < left + side)
        return (rows.unsqueeze(-1) & columns.unsqueeze(-2)).to(device)


def run_generator(case: Case) -> None:
    formula = "s=8+(i mod 8) with top-left corner at row y=(i//8) mod 48, column x=(i//384) mod 48"
    assert formula in case.info["sprite_bank"], f"unknown sprite bank: {case.info['sprite_bank']}"
    stream = GenesisStream(case.info["seed"])
    families = [key.removeprefix("outputs/images") for key in case.info["outputs"] if key.startswith("outputs/images")]
    for family in families:  # "", "_unique", "_fixed4", ...: in the order in which they were generated
        fixed = re.search(r"_fixed(\d+)", family)
        recorded = case.arrays[f"outputs/images{family}"]
        draws = stream.draw(len(recorded), unique="_unique" in family, objects=int(fixed[1]) if fixed else None)
        scene = paint_sprites(draws, Squares())
        case.compare(f"images{family}", scene.pixels.permute(0, 2, 3, 1))
        case.compare(f"masks{family}", scene.segments.double().unsqueeze(-1))
    case.finish()


KINDS = {"datasets_genesis/multid_generator": run_generator}
