"""objectscape translate: say what a workspace sees, draw what it is told."""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectscape.checkpoints.run_folder import RunFolder
from objectscape.cli.common import HelpText, at_least, console

if TYPE_CHECKING:
    from torch import Tensor

NAMES = {"text": ("t", "bert"), "image": ("v", "slots"), "attributes": ("attr",)}


def main(words: list[str]) -> int:
    """Parse the command line, encode, decode, say or draw."""
    parser = argparse.ArgumentParser(
        prog="objectscape translate",
        description="Translate with a trained workspace: from one domain, or several at once, to any other. A domain "
        "is text, image or attributes. A sentence may leave things open; -n draws several things that it can mean. A "
        "workspace of scenes (recipe=workspace/slots) says each object of a picture, and draws one for each --from.",
        epilog='examples:\n  objectscape translate RUN --from text "a small red egg at the top left" --to image.png\n'
        "  objectscape translate RUN --from image picture.png --to text\n"
        '  objectscape translate RUN --from attributes "egg x=10 y=22 size=9 rotation=1.2 red=250" --to image.png\n'
        '  objectscape translate RUN --from text "a red egg" --from text "a blue triangle at the top" --to scene.png',
        formatter_class=HelpText,
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--from", dest="sources", nargs=2, action="append", required=True, metavar=("DOMAIN", "WHAT"))
    parser.add_argument("--to", required=True, metavar="text | attributes | image | FILE.png")
    parser.add_argument("-n", type=at_least(1), default=1, help="things that an open sentence can mean (default 1)")
    parser.add_argument("--sentences", metavar="MODEL", help="that made the workspace's vectors of sentences (latents)")
    parser.add_argument("--seed", type=int, default=0, help="of what a sentence leaves open, and of the wording")
    options = parser.parse_args(words)
    import torch

    from objectscape.contract import Translates
    from objectscape.scene import Multimodal

    model: Any = RunFolder.open(options.run).load_model().eval()
    can = isinstance(model, Translates)  # a name of its own: a type checker would forget the model's other methods
    if not can:
        raise ValueError(f"{type(model).__name__} cannot translate; give the run of a workspace")
    to = _domain("image" if Path(options.to).suffix else options.to, model, options.run)
    names = [_domain(name, model, options.run) for name, _ in options.sources]
    scene = "slots" in model.domains  # a state for each object
    if len(set(names)) > 1 and scene:
        raise ValueError("a workspace of scenes translates from one domain at a time, one object after the other")
    if len(set(names)) < len(names) and not scene:
        raise ValueError(f"--from is given twice for one domain; {options.run} knows pictures of one object only")
    rng = random.Random(options.seed)
    latents: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for name, (_, what) in zip(names, options.sources, strict=True):
            latents.setdefault(name, []).append(_latents(model.domain(name), what, options, rng))
        joined = {f"{name}_latent": torch.cat(parts) for name, parts in latents.items()}
        rows = len(next(iter(joined.values())))
        if not rows:
            raise ValueError(f"no object is found in {options.sources[0][1]}")
        present = {name: torch.ones(rows, dtype=torch.bool) for name in joined}
        state = model.encode(Multimodal(domains=joined, present=present), *latents)
        if to == "slots":
            together = 1 if names[0] == "slots" else options.n  # pictures
            objects = model.domain(to).adapt(model.decode_latent(state, to)).unflatten(0, (-1, together))
            decoded = model.domain(to).paint(objects.transpose(0, 1))
        elif to == "bert":
            domain = model.domain(to)
            decoded = domain.tell(domain.adapt(model.decode_latent(state, to)))
        else:
            decoded = model.decode(state, to)
    if decoded.ndim == 4:
        from objectscape.viz import save_image

        target = Path(options.to if Path(options.to).suffix else "image.png")
        console.print(str(save_image(_grid(decoded), target)))
    else:
        for row in decoded:
            console.print(_say(row, rng) if to in NAMES["text"] else _list(row), highlight=False, soft_wrap=True)
    return 0


def _domain(word: str, model: Any, run: Path) -> str:
    """The domain of a workspace that a word of the command line means: text, image, attributes, or its own name."""
    from objectscape.names import unknown

    if word in model.domains:
        return word
    if word not in NAMES and word not in itertools.chain(*NAMES.values()):
        raise ValueError(unknown("domain", word, NAMES))
    found = [name for name in NAMES.get(word, ()) if name in model.domains]
    if not found:
        raise ValueError(f"{run} has no domain {word!r}; it joins {', '.join(model.domains)}")
    return found[0]


def _latents(domain: Any, what: str, options: argparse.Namespace, rng: random.Random) -> Tensor:
    """(rows, D): n of what is given; of a picture of a scene, one for each object in it."""
    if domain.domain == "slots":
        latents, objects, _ = domain.encode_scene(_read_image(what, 1, rng, domain))
        found: Tensor = latents[objects]
        return found
    if domain.domain == "bert":
        return _read_sentence(what, options, domain)
    read = {"t": _read_text, "v": _read_image, "attr": _read_attributes}
    if domain.domain not in read:
        raise ValueError(f"there is no way to write {domain.domain!r} on a command line")
    encoded: Tensor = domain.encode(read[domain.domain](what, options.n, rng, domain))
    return encoded


def _read_sentence(sentence: str, options: argparse.Namespace, domain: Any) -> Tensor:
    """(n, D) latent of a sentence's vector."""
    import torch

    from objectscape.data.sentence_vectors import SentenceEncoder
    from objectscape.data.synthetic import captions

    if options.sentences is None:
        raise ValueError("this workspace reads vectors of sentences: say --sentences MODEL, which made them")
    words = captions.words_of(captions.tokenize(sentence).tolist())  # in the words, and with the checks, of the data
    vector = torch.from_numpy(SentenceEncoder(options.sentences)([words]))
    expected = getattr(domain, "input_size", vector.shape[1])
    if vector.shape[1] != expected:
        raise ValueError(f"{options.sentences} gives {vector.shape[1]} numbers; the workspace reads {expected}")
    encoded: Tensor = domain.encode(vector.expand(options.n, -1))
    return encoded


def _read_text(sentence: str, n: int, rng: random.Random, domain: Any) -> Tensor:
    """(n, L) words: the sentence with what it leaves open filled in by n draws."""
    import torch

    from objectscape.data.synthetic import captions
    from objectscape.data.synthetic.open_sentences import say_in_full
    from objectscape.models.domains.text import Text

    tokens = torch.from_numpy(captions.tokenize(sentence)).unsqueeze(0)
    if not isinstance(domain, Text):
        raise ValueError(
            f"the workspace's text domain is a {type(domain).__name__}, which reads no words; train one with "
            "recipe=workspace/text"
        )
    return say_in_full(tokens, domain.understand, n, rng)[0].expand(n, -1)


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

    from objectscape.data.synthetic.simple_shapes_render import CLASSES, COLUMNS
    from objectscape.names import unknown

    values = dict(zip(COLUMNS, (0.0, 16.0, 16.0, 10.0, 0.0, 200.0, 200.0, 200.0), strict=True))
    for word in text.replace(",", " ").split():
        key, equals, value = word.partition("=")
        if not equals:
            key, value = "class", word
        if key not in values:
            raise ValueError(unknown("attribute", key, values))
        if key == "class":
            if value not in CLASSES:
                raise ValueError(unknown("shape", value, CLASSES))
            values[key] = float(CLASSES.index(value))
            continue
        try:
            values[key] = float(value)
        except ValueError:
            raise ValueError(f"{word}: expected a number, as in {key}=12") from None
    return torch.tensor([list(values.values())]).expand(n, -1)


def _say(row: Tensor, rng: random.Random) -> str:
    """A sentence from attribute rows and grammar classes."""
    from objectscape.data.synthetic import captions

    classes = dict(zip(captions.heads(), row[8:].long().tolist(), strict=True))
    return captions.describe(captions.Attributes.of(row.tolist()), classes, rng)


def _list(row: Tensor) -> str:
    from objectscape.data.synthetic.simple_shapes_render import CLASSES, COLUMNS

    values = row.tolist()
    rest = ", ".join(f"{name}={value:.3g}" for name, value in zip(COLUMNS[1:], values[1:], strict=False))
    return f"{CLASSES[int(values[0])]} {rest}"


def _grid(images: Tensor, scale: int = 8) -> Any:
    """(H, W, 3) uint8: the pictures side by side, enlarged."""
    import numpy as np

    tiles = [image.permute(1, 2, 0).numpy() for image in images]
    gap = np.full((tiles[0].shape[0], 1, 3), 90, dtype=np.uint8)
    row = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
    return row.repeat(scale, 0).repeat(scale, 1)
