"""What a sentence of Simple Shapes that leaves things open can mean, said in full."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from objectscape.data.synthetic import captions
from objectscape.data.synthetic.simple_shapes import SimpleShapes
from objectscape.nn.attribute_vectors import complete, to_vector

WORDINGS = 64
"""Captions that are tried for each meaning."""
SPREAD = (0.0, 1.5, 1.5, 0.0, 0.0, 40.0, 40.0, 40.0)
"""How far the attributes of a caption that is tried may be from what was understood: pixels, radians, 0..255."""

POINTING, ROTATION = "pointing", 1
"""Every phrase of a direction has this word: "at the top right" alone is a place."""


def say(rows: Tensor, rng: random.Random) -> Tensor:
    """(n, L) words of full captions of (n, 8) attribute rows."""
    texts = []
    for row in rows.tolist():
        attributes = captions.Attributes.of(row)
        texts.append(captions.compose(attributes, captions.draw_choices(rng, attributes)))
    return torch.from_numpy(captions.tokens_of(texts))


def say_in_full(
    tokens: Tensor, understand: Callable[[Tensor], tuple[Tensor, Tensor]], n: int, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Full captions of `n` things that a sentence can mean; the sentence alone, if it leaves nothing open.

    What is open is drawn. What is named is kept: "yellow" is understood as the mean of all yellows, which a caption may
    call green-yellow, so of several captions the one that is understood most like the sentence is taken.

    Args:
        tokens: (1, L) words.
        understand: as `objectscape.models.domains.text.Text.understand`.
        n: meanings.
        rng: of the draws.

    Returns:
        (n, L) words; (n, 8) attribute rows, as they are understood. Of a sentence that leaves nothing open n is 1.
    """
    rows, said = (found.cpu() for found in understand(tokens))
    said[:, ROTATION] &= POINTING in captions.words_of(tokens[0].tolist())
    if said.all():
        return tokens, rows
    others: Any = SimpleShapes(count=n, seed=rng.randrange(2**31), domains=["attr"]).batch(range(n))
    meant = complete(rows.expand(n, -1), said.expand(n, -1), others.domains["attr"])
    tried = meant.repeat_interleave(WORDINGS, 0)
    noise = torch.randn(tried.shape, generator=torch.Generator().manual_seed(rng.randrange(2**31)))
    tried = tried + noise * torch.tensor(SPREAD)
    tried[:, 5:] = tried[:, 5:].clamp(0, 255)
    words = say(tried, rng)
    read = understand(words.to(tokens.device))[0].cpu()
    shape, rotation, color, size, place = said[0].float()
    named = torch.stack([shape, shape, shape, place, place, size, rotation, rotation, color, color, color])
    target = to_vector(meant).repeat_interleave(WORDINGS, 0)
    apart = ((to_vector(read) - target).square() @ named).unflatten(0, (n, WORDINGS))
    best = apart.argmin(1) + WORDINGS * torch.arange(n)
    return words[best], read[best]
