"""English sentences about Simple Shapes: composed from attributes and choices, and read back into both.

A caption is a function of the five attributes of a shape and of a record of choices (which template, which synonym,
which way to name a direction, ...). The grammar, `simple_shapes_grammar.json`, is that of attributes-to-language
(Devillers, MIT License). A record is written in its own form:

    {"structure": template, "groups": order of the bracketed parts,
     "writers": {attribute: {"_writer": which of several, "val": synonym, option: index, ...}},
     "variants": {slot: index}}

`read_caption` inverts `compose`. For a text model, `tokenize` cuts a sentence into the words of the grammar.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from objectscape.names import did_you_mean

GRAMMAR: dict[str, Any] = json.loads(
    resources.files(__package__).joinpath("simple_shapes_grammar.json").read_text(encoding="utf-8")
)
ATTRIBUTES = ("shape", "rotation", "color", "size", "location")
"""In the order in which they are put into words."""
COLORS = tuple(name for name, _ in GRAMMAR["colors"])
COLOR_VALUES = np.array([rgb for _, rgb in GRAMMAR["colors"]], dtype=np.float64)
SLOT = re.compile(r"\{([^{}]*)\}")

Record = dict[str, Any]


@dataclass(frozen=True)
class Attributes:
    """What a caption speaks of; an attribute that is None is left out of the sentence."""

    shape: int | None
    """0 diamond, 1 egg, 2 triangle."""
    rotation: float | None
    """radians, counter-clockwise, 0 points up."""
    color: tuple[float, float, float] | None
    """RGB 0..255."""
    size: float | None
    """pixels."""
    location: tuple[float, float] | None
    """x, y of the center in pixels; y points up."""

    @classmethod
    def of(cls, row: Sequence[float]) -> Attributes:
        """From a label row: class, x, y, size, rotation, red, green, blue, ..."""
        return cls(int(row[0]), float(row[4]), tuple(map(float, row[5:8])), float(row[3]), (row[1], row[2]))  # type: ignore[arg-type]


def label_index(attribute: str, writer: int, value: Any) -> Any:
    """Which label of a writer fits a value: an index, or (column, row) for the grid of places."""
    rule = GRAMMAR["writers"][attribute][writer]
    match rule["kind"]:
        case "options":
            return int(value)
        case "angle":  # nearest anchor without going round: just below a full turn is the last one, not the first
            angle = value + 2 * math.pi if value < 0 else value
            return min(range(rule["n"]), key=lambda i: abs(angle - 2 * math.pi * i / rule["n"]))
        case "bins":
            return sum(value >= edge for edge in rule["bins"])
        case "nearest_rgb":
            return int(((COLOR_VALUES - np.asarray(value, dtype=np.float64)) ** 2).sum(-1).argmin())
        case "bins2d":
            return tuple(sum(v >= edge for edge in rule["bins"]) for v in value)
        case "nearest_xy":
            column, row = (min(range(3), key=lambda i: abs(v - rule["grid"][i])) for v in value)
            return 3 * row + column
    raise ValueError(f"the grammar has no rule {rule['kind']!r}")


def _labels(attribute: str, writer: int) -> dict[Any, list[str]]:
    """{label index: its synonyms}."""
    rule = GRAMMAR["writers"][attribute][writer]
    match rule["kind"]:
        case "options":
            found: dict[Any, Any] = {int(key): words for key, words in rule["options"].items()}
        case "nearest_rgb":
            found = dict(enumerate(COLORS))
        case "bins2d":
            found = {(i, j): words for i, column in enumerate(rule["labels_x_y"]) for j, words in enumerate(column)}
        case "nearest_xy":
            found = dict(enumerate(rule["labels_y_major"]))
        case _:
            found = dict(enumerate(rule["labels"]))
    return {key: [words] if isinstance(words, str) else words for key, words in found.items()}


def _fill(text: str, words: Mapping[str, str]) -> str:
    while SLOT.search(text):
        text = SLOT.sub(lambda match: words[match[1]], text)
    return text


def _phrase(attribute: str, writer: int, label: Any, choice: Mapping[str, int]) -> str:
    rule = GRAMMAR["writers"][attribute][writer]
    synonyms = _labels(attribute, writer)[label]
    synonym = choice.get("val", choice.get("name", 0)) if len(synonyms) > 1 else 0
    variants = {name: options[choice.get(name, 0)] for name, options in rule.get("variants", {}).items()}
    return _fill(rule.get("caption", "{val}"), {**variants, "val": synonyms[synonym]})


def structure(template: int, groups: Sequence[int]) -> str:
    """A template with its bracketed parts in the order `groups`."""
    text = GRAMMAR["templates"][template]
    parts = re.findall(r"<([^>]*)>", text)
    order = iter(groups)
    return re.sub(r"<[^>]*>", lambda _: parts[next(order)], text)


def compose(attributes: Attributes, choices: Record) -> str:
    """The caption of `attributes` for a record of choices.

    Raises:
        ValueError: if an attribute is None; `compose_partial` writes sentences that leave things open.
    """
    words = {}
    for name in ATTRIBUTES:
        value = getattr(attributes, name)
        if value is None:
            raise ValueError(f"a full caption needs the {name}; use compose_partial to leave it open")
        choice = choices["writers"].get(name, {})
        writer = choice.get("_writer", 0)
        words[name] = _phrase(name, writer, label_index(name, writer, value), choice)
    return _write(structure(choices["structure"], choices["groups"]), words, choices["variants"])


def _write(text: str, words: Mapping[str, str], variants: Mapping[str, int]) -> str:
    """`text` with every slot filled from left to right."""
    while (match := SLOT.search(text)) is not None:
        slot = match[1]
        if slot == "n?":  # the article looks at the next attribute, which is still a slot
            following = next((words[s] for s in SLOT.findall(text[match.end() :]) if s in words), "")
            put = "n" if following[:1] in set("aeiou") else ""
        else:
            put = words[slot] if slot in words else GRAMMAR["variants"][slot][variants.get(slot, 0)]
        text = text[: match.start()] + put + text[match.end() :]
    return _tidy(text)


def _tidy(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace(" .", ".")


# --- choices ---


def _orders(template: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(GRAMMAR["templates"][template].count("<"))))


@cache
def structures() -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Every (template, order of its bracketed parts): the 18 classes of the head `structure`."""
    return tuple((t, order) for t in range(len(GRAMMAR["templates"])) for order in _orders(t))


def draw_choices(rng: random.Random, attributes: Attributes) -> Record:
    """A complete record, every choice uniform."""
    template = rng.randrange(len(GRAMMAR["templates"]))
    writers = {}
    for name in ATTRIBUTES:
        value = getattr(attributes, name)
        writer = rng.randrange(len(GRAMMAR["writers"][name]))
        rule = GRAMMAR["writers"][name][writer]
        synonyms = 1 if value is None else len(_labels(name, writer)[label_index(name, writer, value)])
        options = {option: rng.randrange(len(words)) for option, words in rule.get("variants", {}).items()}
        writers[name] = {"_writer": writer, "val": rng.randrange(synonyms), **options}
    variants = {slot: rng.randrange(len(words)) for slot, words in GRAMMAR["variants"].items()}
    return {
        "structure": template,
        "groups": list(rng.choice(_orders(template))),
        "writers": writers,
        "variants": variants,
    }


@cache
def heads(version: int = 1) -> dict[str, int]:
    """{decision: number of options} that a text model can learn to make.

    Args:
        version: 1 for bimGW's 39 decisions, 2 for the 27 of the newer package, which hides those of the directions.
    """
    found = {"structure": len(structures())}
    for slot, options in GRAMMAR["variants"].items():
        if len(options) > 1:
            found[f"variant_{slot}"] = len(options)
    for name in ATTRIBUTES:
        writers = GRAMMAR["writers"][name]
        if len(writers) < 2:
            continue
        found[f"writer_{name}"] = len(writers)
        for index, rule in enumerate(writers):
            if version == 2 and rule["kind"] == "angle":
                continue
            for option, words in rule.get("variants", {}).items():
                if len(words) > 1:
                    found[f"writer_{name}_{index}_{option}"] = len(words)
    return found


def categories(choices: Record, version: int = 1, *, as_released: bool = True) -> dict[str, int]:
    """The class of every decision in a record; 0 for those that the caption does not use.

    Args:
        choices: a record.
        version: see `heads`.
        as_released: options whose names hold an underscore ("in_the") are always class 0, as in both published codes,
            which cut names there.
    """
    found = {}
    for head in heads(version):
        kind, _, rest = head.partition("_")
        if kind == "structure":
            found[head] = structures().index((choices["structure"], tuple(choices["groups"])))
        elif kind == "variant":
            found[head] = choices["variants"].get(rest, 0)
        else:
            name, _, option = rest.partition("_")
            choice = choices["writers"].get(name, {})
            if not option:
                found[head] = choice.get("_writer", 0)
            else:
                index, _, option = option.partition("_")
                used = choice.get("_writer", 0) == int(index) and not (as_released and "_" in option)
                found[head] = choice.get(option, 0) if used else 0
    return found


def choices_of(classes: Mapping[str, int], rng: random.Random | None = None) -> Record:
    """A record from the classes of its decisions; what they do not say (synonyms) is drawn from `rng`, or the first."""
    template, groups = structures()[classes["structure"]]
    writers: dict[str, dict[str, int]] = {}
    for name in ATTRIBUTES:
        writer = classes.get(f"writer_{name}", 0)
        options = {
            option: classes.get(f"writer_{name}_{writer}_{option}", 0)
            for option in GRAMMAR["writers"][name][writer].get("variants", {})
        }
        writers[name] = {"_writer": writer, **options}
        if rng is not None:
            writers[name]["_draw"] = rng.randrange(2**16)
    variants = {slot: classes.get(f"variant_{slot}", 0) for slot in GRAMMAR["variants"]}
    return {"structure": template, "groups": list(groups), "writers": writers, "variants": variants}


def describe(attributes: Attributes, classes: Mapping[str, int], rng: random.Random | None = None) -> str:
    """The caption of `attributes` in the manner of `classes`; synonyms are drawn from `rng`, or are the first."""
    choices = choices_of(classes, rng)
    for name, choice in choices["writers"].items():
        draw = choice.pop("_draw", 0)
        synonyms = _labels(name, choice["_writer"])[label_index(name, choice["_writer"], getattr(attributes, name))]
        choice["val"] = draw % len(synonyms)
    return compose(attributes, choices)


# --- reading ---


@cache
def _phrases(attribute: str) -> dict[str, list[tuple[int, Any, dict[str, int]]]]:
    """{phrase: [(writer, label, choice), ...]} of everything that can be said about an attribute."""
    found: dict[str, list[tuple[int, Any, dict[str, int]]]] = {}
    for writer, rule in enumerate(GRAMMAR["writers"][attribute]):
        options = rule.get("variants", {})
        for label, synonyms in _labels(attribute, writer).items():
            for val, synonym in enumerate(synonyms):
                text = rule.get("caption", "{val}").replace("{val}", synonym)
                used = [name for name in options if "{" + name + "}" in text]
                for picks in itertools.product(*(range(len(options[name])) for name in used)):
                    choice = dict(zip(used, picks, strict=True))
                    phrase = _tidy(_fill(text, {name: options[name][pick] for name, pick in choice.items()}))
                    found.setdefault(phrase, []).append((writer, label, {"val": val, **choice}))
    return found


def _spaced(text: str, space: str) -> str:
    return re.escape(text).replace("\\ ", space)


@cache
def _pattern(number: int) -> tuple[re.Pattern[str], dict[str, str]]:
    """A regular expression for every caption of structure `number`, and {its group: attribute or slot}."""
    names: dict[str, str] = {}

    def group(slot: str, inside: str) -> str:
        names[name := f"g{len(names)}"] = slot
        return f"(?P<{name}>{inside})"

    def expand(text: str, top: dict[str, str]) -> str:
        parts, position = [], 0
        for match in SLOT.finditer(text):
            parts += [_spaced(text[position : match.start()], r"\s*"), one(match[1], top)]
            position = match.end()
        return "".join([*parts, _spaced(text[position:], r"\s*")])

    def one(slot: str, top: dict[str, str]) -> str:
        if slot == "n?":
            return "n?"
        if slot in ATTRIBUTES:
            phrases = sorted(_phrases(slot), key=len, reverse=True)
            return group(slot, "|".join(_spaced(phrase, r"\s+") for phrase in phrases))
        if slot in top:  # a slot says the same wherever it stands
            return f"(?P={top[slot]})"
        inside = "|".join(expand(option, {}) for option in sorted(GRAMMAR["variants"][slot], key=len, reverse=True))
        found = group(slot, inside)
        top[slot] = found[4 : found.index(">")]
        return found

    return re.compile(expand(structure(*structures()[number]), {})), names


@dataclass(frozen=True)
class Reading:
    """What a caption says."""

    choices: Record
    labels: dict[str, tuple[int, Any]]
    """{attribute: (writer, label index)}."""


def read_caption(text: str, attributes: Attributes | None = None) -> Reading:
    """The choices behind a caption of the grammar: composing them gives it back.

    Args:
        text: a full caption.
        attributes: of the shape. Without them, of several readings ("in the middle" is a place of the coarse and of the
            fine grid) the first is returned.

    Raises:
        ValueError: if the grammar has no such caption.
    """
    sentence = _tidy(text)
    for number, (template, groups) in enumerate(structures()):
        pattern, names = _pattern(number)
        match = pattern.fullmatch(sentence)
        if match is None:
            continue
        said = {slot: value for name, slot in names.items() if (value := match[name]) is not None}
        variants = {slot: _option(slot, said[slot]) for slot in GRAMMAR["variants"] if slot in said}
        readings: list[tuple[int, Any, dict[str, int]]] = []
        for name in ATTRIBUTES:
            value = None if attributes is None else getattr(attributes, name)
            options = _phrases(name)[said[name]]
            fitting = [o for o in options if value is None or o[1] == label_index(name, o[0], value)]
            if not fitting:
                break
            readings.append(fitting[0])
        else:
            writers = {n: {"_writer": w, **choice} for n, (w, _, choice) in zip(ATTRIBUTES, readings, strict=True)}
            choices = {"structure": template, "groups": list(groups), "writers": writers, "variants": variants}
            labels = {n: (w, label) for n, (w, label, _) in zip(ATTRIBUTES, readings, strict=True)}
            if _write(structure(template, groups), {n: said[n] for n in ATTRIBUTES}, variants) == sentence:
                return Reading(choices, labels)
    raise ValueError(f"{text!r} is no caption of the grammar" + (" for these attributes." if attributes else "."))


def _option(slot: str, said: str) -> int:
    options = GRAMMAR["variants"][slot]
    forms = [{_tidy(re.sub(r"\{,\?\}", comma, option)) for comma in (", ", " ")} for option in options]
    bare = re.sub(r"\{\w+\}", "", said)
    for index, form in enumerate(forms):
        if _tidy(bare) in form:
            return index
    # a slot around an attribute ("{color} colored") or an article ("It is a{n?}"): compare what is around it
    for index, option in sorted(enumerate(options), key=lambda item: -len(item[1])):
        around = "".join("n?" if part == "{n?}" else r".*" if part[:1] == "{" else _spaced(part, r"\s*")
                         for part in re.split(r"(\{[^{}]*\})", option))  # fmt: skip
        if re.fullmatch(around, said):
            return index
    raise ValueError(f"{said!r} is none of {options}")


# --- words ---

LENGTH = 48
"""Tokens of a sentence, padded; the longest caption has 46."""
PAD = 0
SAME = {"gray": "grey", "colour": "color", "coloured": "colored", "centre": "center", "up": "top", "down": "bottom"}
"""Common words that the grammar writes otherwise."""
WORD = re.compile(r"[a-z]+(?:-[a-z]+)*|[.,]")


@cache
def vocabulary() -> tuple[str, ...]:
    """The grammar's words in alphabetical order, after the padding; a token is a place in this list."""
    texts = [*GRAMMAR["templates"], *itertools.chain(*GRAMMAR["variants"].values()), "an"]
    texts += [phrase for name in ATTRIBUTES for phrase in _phrases(name)]
    return ("", *sorted({word for text in texts for word in WORD.findall(SLOT.sub(" ", text).lower())}))


@cache
def _numbers() -> dict[str, int]:
    return {word: number for number, word in enumerate(vocabulary())}


@cache
def meaningful() -> frozenset[str]:
    """Words that say something about a shape."""
    filler = {"the", "in", "at", "on", "to", "and", "of", "image", "side", "shape", "that", "with", "has", "located"}
    filler |= {"pointing", "towards", "sized", "corner", "corners", ",", ".", "like", "structure", "shaped"}
    said = {word for name in ATTRIBUTES for phrase in _phrases(name) for word in WORD.findall(phrase)}
    return frozenset(said - filler)


def tokenize(text: str) -> np.ndarray:
    """(LENGTH,) uint8 tokens of a sentence.

    Raises:
        ValueError: for a word outside the grammar (with the nearest), a sentence too long, or one that says nothing.
    """
    words = [SAME.get(word, word) for word in re.findall(r"[^\s.,;:!?]+|[.,]", text.lower())]
    numbers = _numbers()
    for word in words:
        if word not in numbers:
            raise ValueError(
                f"{text!r}: the word {word!r} is not among the {len(numbers) - 1} words of Simple Shapes."
                + did_you_mean(word, [w for w in numbers if w.isalpha()])
            )
    if len(words) > LENGTH:
        raise ValueError(f"{text!r} has {len(words)} words and marks; at most {LENGTH} are read.")
    if not set(words) & meaningful():
        raise ValueError(
            f"{text!r} says nothing about a shape. Name its kind, size, color, place or direction, as in "
            "'a small red egg at the top left'."
        )
    return _padded([numbers[word] for word in words])


def _padded(tokens: list[int]) -> np.ndarray:
    return np.array([*tokens, *[PAD] * (LENGTH - len(tokens))], dtype=np.uint8)


def tokens_of(texts: Sequence[str]) -> np.ndarray:
    """(B, LENGTH) uint8 tokens of captions of the grammar."""
    numbers = _numbers()
    return np.stack([_padded([numbers[word] for word in WORD.findall(text.lower())]) for text in texts])


def words_of(tokens: Sequence[int]) -> str:
    """The words of a sentence that `tokenize` or `tokens_of` gave, in small letters."""
    return " ".join(vocabulary()[token] for token in tokens if token != PAD)


def compose_partial(attributes: Attributes, rng: random.Random) -> str:
    """A sentence that may leave attributes open and need not follow a template: "a red egg at the top".

    What is None is left out. The noun group comes first or, sometimes, the place or direction; clauses are joined in
    ways that the full captions do not have.
    """
    words = {}
    for name in ATTRIBUTES:
        value = getattr(attributes, name)
        if value is not None:
            writer = rng.randrange(len(GRAMMAR["writers"][name]))
            label = label_index(name, writer, value)
            options = [p for p, said in _phrases(name).items() if any(w == writer and k == label for w, k, _ in said)]
            words[name] = rng.choice(options)
    adjectives = [words[name] for name in ("size", "color") if name in words]
    rng.shuffle(adjectives)
    noun = words.get("shape", rng.choice(["shape", "object"]))
    clauses = [words[name] for name in ("location", "rotation") if name in words]
    rng.shuffle(clauses)
    head = " ".join([*adjectives, noun])
    if "color" in words and rng.random() < 0.15:
        head = " ".join([*[a for a in adjectives if a != words["color"]], noun, "in", words["color"]])
    article = "an" if head[0] in "aeiou" else "a"
    start = rng.choice(["", "", "it is", "this is", "there is", "the image is", "the image contains"])
    sentence = f"{start} {article} {head}"
    for clause in clauses:
        sentence += rng.choice([" ", ", ", " and ", ", and ", ", it is ", ". it is ", " and it is "]) + clause
    if clauses and rng.random() < 0.1:
        sentence = f"{clauses[0]}, {start} {article} {head}"
    return _tidy(sentence + rng.choice(["", "."]))
