"""Simple Shapes (Devillers et al., 2023): one colored diamond, egg or triangle on black, with its attributes in words.

The label rows are those of the published generators, bit for bit for a seed (`published_labels`); pictures and
sentences come from `simple_shapes_render` and `captions`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from objectscape.data.matched import MatchedOrder, pairs_of, reveal
from objectscape.data.synthetic import captions
from objectscape.data.synthetic.base import Draws, SyntheticScenes
from objectscape.data.synthetic.captions import ATTRIBUTES, Attributes
from objectscape.data.synthetic.simple_shapes_render import hls_to_rgb, render
from objectscape.data.synthetic.simple_shapes_tasks import Bounds, inside
from objectscape.names import unknown
from objectscape.scene import Multimodal, Spec

PUBLISHED = {"train": 500_000, "val": 1000, "test": 1000}
COLUMNS = ("class", "x", "y", "size", "rotation", "red", "green", "blue", "hue", "lightness", "saturation", "unpaired")
"""Of a label row. x, y: the center in pixels from the left and BOTTOM edge; rotation: radians counter-clockwise."""


def published_labels(
    counts: Mapping[str, int],
    seed: int,
    *,
    image_size: int = 32,
    sizes: tuple[int, int] = (7, 14),
    lightness: tuple[int, int] = (46, 255),
    generator: Literal["package", "bimgw"] = "package",
) -> dict[str, np.ndarray]:
    """The label rows that the published generators make from a seed.

    Args:
        counts: {split: rows}; the splits are drawn one after the other from one stream, in this order.
        seed: of NumPy's legacy generator.
        image_size: pixels.
        sizes: smallest and largest size, pixels.
        lightness: smallest and largest lightness.
        generator: the two codes call the upper bound of the lightness differently. In the "package" (command `shapesd`)
            it is exclusive, 256 by default; given 255, as on its command line, nothing lighter than 254 comes out. Here
            the bound is always the largest value that can occur, so that both make the same rows.

    Returns:
        {split: (n, 12) float32} with the columns `COLUMNS`.
    """
    if generator not in ("package", "bimgw"):
        raise ValueError(f"generator={generator!r}; choose package or bimgw")
    stream = np.random.RandomState(seed)
    low, high = sizes
    margin = high // 2
    found = {}
    for split, n in counts.items():
        kind = stream.randint(3, size=n)
        size = stream.randint(low, high + 1, n)
        place = stream.randint(margin, image_size - margin, (n, 2))
        rotation = stream.rand(n) * 2 * np.pi
        bounds = [181, lightness[1] + 1, 256]
        hls = stream.randint([0, lightness[0], 0], bounds, size=(1, n, 3), dtype=np.uint8)[0]
        rgb = hls_to_rgb(torch.from_numpy(hls)).numpy()
        unpaired = stream.rand(n)
        columns = [kind[:, None], place, size[:, None], rotation[:, None], rgb, hls, unpaired[:, None]]
        found[split] = np.concatenate(columns, axis=1).astype(np.float32)
    return found


def published_unpaired(counts: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """{split: (n, 32) float64} the package's numbers that no other domain can tell."""
    stream = np.random.RandomState(seed)
    return {split: stream.normal(size=(n, 32)) for split, n in counts.items()}


DOMAINS = {
    "v": "(3, H, W) uint8 RGB picture",
    "attr": "(8,) float32 class 0 diamond 1 egg 2 triangle, x, y (pixels, y up), size, rotation (radians), RGB 0..255",
    "t": "(48,) uint8 words of a caption as places in `captions.vocabulary()`, padded with 0",
    "grammar": "(39,) uint8 classes of the caption's grammar, as `captions.heads()`",
    "said": "(6,) uint8: does the sentence name shape, rotation, color, size, location; is it a full caption",
}


class SimpleShapes(SyntheticScenes):
    """Simple Shapes, drawn by us: items are `Multimodal`.

    Args:
        split: "train", "val" or "test".
        count: of rows; None for the published 500 000, 1000 and 1000.
        seed: of the stream.
        image_size: pixels.
        domains: which of `DOMAINS` an item has.
        open_sentences: share of the sentences that leave attributes open and follow no template.
        unpaired: attributes end in a ninth number, in [0, 1), that no other domain tells.
        matched: share of the training rows (or, above 1, their number) that are known in all domains at once.
        matched_part: share of a training batch that is matched rows; the rest is rows of one domain each.
        hole: {attribute: (low, high)} held out: no row lies in it; see `simple_shapes_tasks.inside`.
        in_hole: only rows in the hole, to evaluate on what training never saw.

    Raises:
        ValueError: for an unknown domain, or more matched rows than rows.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        count: int | None = None,
        seed: int = 0,
        image_size: int = 32,
        domains: Sequence[str] = ("v", "attr"),
        open_sentences: float = 0.0,
        unpaired: bool = False,
        matched: float = 1.0,
        matched_part: float = 0.75,
        hole: Mapping[str, Bounds] | None = None,
        in_hole: bool = False,
    ) -> None:
        super().__init__(split=split, count=count, seed=seed, published=PUBLISHED)
        for name in domains:
            if name not in DOMAINS:
                raise ValueError(unknown("domain", name, DOMAINS))
        if in_hole and not hole:
            raise ValueError("in_hole=true needs a hole, for example data.hole.rotation=[0,2.1]")
        self.domains, self.image_size, self.open_sentences = list(domains), image_size, open_sentences
        self.matched_part, self.hole, self.in_hole = matched_part, dict(hole or {}), in_hole
        self.unpaired = unpaired
        self.pairs = pairs_of(matched, self.count, split)
        self.spec = Spec(
            name="simple_shapes",
            image_size=(image_size, image_size),
            splits={**PUBLISHED, split: self.count},
            fields={f"domains/{name}": DOMAINS[name].replace("H, W", f"{image_size}, {image_size}") for name in domains}
            | ({"domains/attr": DOMAINS["attr"].replace("(8,)", "(9,)") + ", a number of its own"} if unpaired else {}),
            max_objects=1,
            license="Apache-2.0 (rendered by objectscape; the words are of attributes-to-language, MIT)",
            source="rendered after Simple Shapes (Devillers et al., 2023, arXiv 2306.15711)",
            notes="Pictures follow the published drawing code to 6 of 255 levels. The published rows for a seed: "
            "simple_shapes.published_labels.",
        )

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """Label rows, with the published distributions, and a number for the wording of each caption."""
        labels = self._draw_labels(n, generator)
        for _ in range(1000):
            wrong = inside(labels, self.hole) != self.in_hole if self.hole else torch.zeros(n, dtype=torch.bool)
            if not wrong.any():
                break
            labels[wrong] = self._draw_labels(int(wrong.sum()), generator)
        return {"labels": labels, "wording": torch.randint(2**62, (n,), generator=generator)}

    def _draw_labels(self, n: int, generator: torch.Generator) -> Tensor:
        def below(low: int, high: int) -> Tensor:
            return torch.randint(low, high, (n,), generator=generator)

        smallest, largest = 7 * self.image_size // 32, 14 * self.image_size // 32
        kind, size = below(0, 3), below(smallest, largest + 1)
        margin = largest // 2
        x, y = below(margin, self.image_size - margin), below(margin, self.image_size - margin)
        rotation = torch.rand(n, generator=generator) * 2 * np.pi
        hls = torch.stack([below(0, 181), below(46, 256), below(0, 256)], 1)
        columns = [kind, x, y, size, rotation, *hls_to_rgb(hls).unbind(1), *hls.unbind(1)]
        unpaired = torch.rand(n, generator=generator)
        return torch.stack([column.float() for column in [*columns, unpaired]], 1)

    def paint(self, draws: Draws, device: torch.device | str = "cpu") -> Any:
        """See `SyntheticScenes.paint`."""
        labels = draws["labels"].to(device)
        found: dict[str, Tensor] = {}
        if "v" in self.domains:
            x, y, size, rotation = labels[:, 1:5].unbind(1)
            kind, color = labels[:, 0].long(), labels[:, 5:8]
            found["v"] = render(kind, x, y, size, rotation, color, image_size=self.image_size)[0]
        if "attr" in self.domains:
            found["attr"] = torch.cat([labels[:, :8], labels[:, 11:]], 1) if self.unpaired else labels[:, :8]
        if set(self.domains) & {"t", "grammar", "said"}:
            words = self._speak(draws)
            found |= {name: words[name].to(device) for name in ("t", "grammar", "said") if name in self.domains}
        ordered = {name: found[name] for name in self.domains}
        everywhere = torch.ones(len(labels), dtype=torch.bool, device=device)
        return Multimodal(domains=ordered, present=dict.fromkeys(ordered, everywhere))

    def _speak(self, draws: Draws) -> dict[str, Tensor]:
        texts, classes, said = [], [], []
        scale = 32 / self.image_size
        for row, number in zip(draws["labels"].tolist(), draws["wording"].tolist(), strict=True):
            rng = random.Random(number)
            attributes = Attributes.of([row[0], *(scale * v for v in row[1:4]), *row[4:]])
            choices = captions.draw_choices(rng, attributes)
            if rng.random() < self.open_sentences:
                named = [name for name in ATTRIBUTES if rng.random() < 0.6] or [rng.choice(ATTRIBUTES)]
                blank = {name: None for name in ATTRIBUTES if name not in named}
                texts.append(captions.compose_partial(replace(attributes, **blank), rng))
                said.append([*(name in named for name in ATTRIBUTES), False])
            else:
                texts.append(captions.compose(attributes, choices))
                said.append([True] * 6)
            classes.append(list(captions.categories(choices, as_released=False).values()))
        return {
            "t": torch.from_numpy(captions.tokens_of(texts)),
            "grammar": torch.tensor(classes, dtype=torch.uint8),
            "said": torch.tensor(said, dtype=torch.uint8),
        }

    def learning(self) -> SimpleShapes:
        """See `SceneDataset.learning`."""
        return SimpleShapes(
            split="train",
            seed=self.seed,
            image_size=self.image_size,
            domains=self.domains,
            open_sentences=self.open_sentences,
            unpaired=self.unpaired,
            hole=self.hole,
        )

    def order(self, **options: Any) -> Iterator[list[int]] | None:
        """Batches for training with few pairs; see `MatchedOrder`. None if every row is matched."""
        if self.pairs == self.count:
            return None
        domains = len(self.domains)
        return iter(MatchedOrder(self.count, pairs=self.pairs, domains=domains, part=self.matched_part, **options))

    def pick(self, resident: Any, indices: Sequence[int]) -> Any:
        """Rows of a resident split, of which `order` shows some in one domain only."""
        return reveal(resident, indices, self.count)
