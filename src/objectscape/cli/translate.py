"""objectscape translate: say what a workspace sees, draw what it is told."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import at_least, console

if TYPE_CHECKING:
    from torch import Tensor

NAMES = {"text": "t", "image": "v", "attributes": "attr", "t": "t", "v": "v", "attr": "attr"}
ATTRIBUTES = ("class", "x", "y", "size", "rotation", "red", "green", "blue")
KINDS = ("diamond", "egg", "triangle")


def main(words: list[str]) -> int:
    """Parse the command line, encode, decode, say or draw."""
    parser = argparse.ArgumentParser(
        prog="objectscape translate",
        description="Translate with a trained workspace: from one domain, or several at once, to any other. A domain "
        "is text, image or attributes. A sentence may leave things open; -n draws several things that it can mean.",
        epilog='examples:\n  objectscape translate RUN --from text "a small red egg at the top left" --to image.png\n'
        "  objectscape translate RUN --from image picture.png --to text\n"
        '  objectscape translate RUN --from attributes "egg x=10 y=22 size=9 rotation=1.2 red=250" --to image.png',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--from", dest="sources", nargs=2, action="append", required=True, metavar=("DOMAIN", "WHAT"))
    parser.add_argument("--to", required=True, metavar="text | attributes | image | FILE.png")
    parser.add_argument("-n", type=at_least(1), default=1, help="things that an open sentence can mean (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of what a sentence leaves open, and of the wording")
    options = parser.parse_args(words)
    import torch

    from objectscape.contract import Translates
    from objectscape.names import unknown
    from objectscape.scene import Multimodal

    model: Any = RunFolder.open(options.run).load_model().eval()
    can = isinstance(model, Translates)  # a name of its own: a type checker would forget the model's other methods
    if not can:
        raise ValueError(f"{type(model).__name__} cannot translate; give the run of a workspace")
    to = "image" if Path(options.to).suffix else options.to
    for name in (to, *(name for name, _ in options.sources)):
        if name not in NAMES:
            raise ValueError(unknown("domain", name, ("text", "image", "attributes")))
    for name in {NAMES[to], *(NAMES[name] for name, _ in options.sources)}:
        if name not in model.domains:
            raise ValueError(f"{options.run} has no domain {name!r}; it joins {', '.join(model.domains)}")
    rng = random.Random(options.seed)
    domains: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, what in options.sources:
            read = {"t": _read_text, "v": _read_image, "attr": _read_attributes}[NAMES[name]]
            domains[NAMES[name]] = read(what, options.n, rng, model.domain(NAMES[name]))
        present = {name: torch.ones(options.n, dtype=torch.bool) for name in domains}
        state = model.encode(Multimodal(domains=domains, present=present), *domains)
        decoded = model.decode(state, NAMES[to])
    if NAMES[to] == "v":
        from objectscape.viz import save_image

        target = Path(options.to if Path(options.to).suffix else "image.png")
        console.print(str(save_image(_grid(decoded), target)))
    else:
        for row in decoded:
            console.print(_say(row, rng) if NAMES[to] == "t" else _list(row), highlight=False, soft_wrap=True)
    return 0


def _read_text(sentence: str, n: int, rng: random.Random, domain: Any) -> Tensor:
    """(n, L) words: the sentence with what it leaves open filled in by n draws."""
    import torch

    from objectscape.data.synthetic import captions
    from objectscape.data.synthetic.simple_shapes import SimpleShapes
    from objectscape.models.domains.text import Text, complete

    tokens = torch.from_numpy(captions.tokenize(sentence)).unsqueeze(0)
    if not isinstance(domain, Text):
        raise ValueError(
            f"the workspace's text domain is a {type(domain).__name__}, which reads sentence vectors, not words; "
            "train one with recipe=workspace/text"
        )
    rows, said = domain.understand(tokens)
    if said.all():
        return tokens.expand(n, -1)
    others: Any = SimpleShapes(count=n, seed=rng.randrange(2**31), domains=["attr"]).batch(range(n))
    filled = complete(rows.expand(n, -1), said.expand(n, -1), others.domains["attr"])
    texts = []
    for row in filled.tolist():
        attributes = captions.Attributes.of(row)
        texts.append(captions.compose(attributes, captions.draw_choices(rng, attributes)))
    return torch.from_numpy(captions.tokens_of(texts))


def _read_image(path: str, n: int, rng: random.Random, domain: Any) -> Tensor:
    from objectscape.viz.files import load_image

    image = load_image(Path(path))
    side = getattr(domain, "image_size", 32)
    if tuple(image.shape[-2:]) != (side, side):
        raise ValueError(f"{path} has {image.shape[-1]}x{image.shape[-2]} pixels; the workspace reads {side}x{side}")
    return image.unsqueeze(0).expand(n, -1, -1, -1)


def _read_attributes(text: str, n: int, rng: random.Random, domain: Any) -> Tensor:
    """(n, 8) rows of "egg x=10 y=22 ..."; what is not given is the middle of its range."""
    import torch

    from objectscape.names import unknown

    values = {
        "class": 0.0,
        "x": 16.0,
        "y": 16.0,
        "size": 10.0,
        "rotation": 0.0,
        "red": 200.0,
        "green": 200.0,
        "blue": 200.0,
    }
    for word in text.replace(",", " ").split():
        key, equals, value = word.partition("=")
        if not equals:
            key, value = "class", word
        if key not in values:
            raise ValueError(unknown("attribute", key, values))
        if key == "class":
            if value not in KINDS:
                raise ValueError(unknown("shape", value, KINDS))
            values[key] = float(KINDS.index(value))
            continue
        try:
            values[key] = float(value)
        except ValueError:
            raise ValueError(f"{word}: expected a number, as in {key}=12") from None
    return torch.tensor([[values[name] for name in ATTRIBUTES]]).expand(n, -1)


def _say(row: Tensor, rng: random.Random) -> str:
    """A sentence from attribute rows and grammar classes."""
    from objectscape.data.synthetic import captions

    classes = dict(zip(captions.heads(), row[8:].long().tolist(), strict=True))
    return captions.describe(captions.Attributes.of(row.tolist()), classes, rng)


def _list(row: Tensor) -> str:
    values = row.tolist()
    rest = ", ".join(f"{name}={value:.3g}" for name, value in zip(ATTRIBUTES[1:], values[1:], strict=False))
    return f"{KINDS[int(values[0])]} {rest}"


def _grid(images: Tensor, scale: int = 8) -> Any:
    """(H, W, 3) uint8: the pictures side by side, enlarged."""
    import numpy as np

    tiles = [image.permute(1, 2, 0).numpy() for image in images]
    gap = np.full((tiles[0].shape[0], 1, 3), 90, dtype=np.uint8)
    row = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
    return row.repeat(scale, 0).repeat(scale, 1)
