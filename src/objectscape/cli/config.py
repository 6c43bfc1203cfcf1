"""From `key=value` words to a configuration, with errors a user can act on."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from objectscape import building, signatures
from objectscape.files import read_yaml
from objectscape.names import did_you_mean, unknown

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
GROUPS = ("recipe", "model", "data", "training")
ANY_DATA: dict[str, Any] = {"image_size": None}
"""Options that every data set has, whatever its class takes: `objectscape.data.building` resizes."""


def options(group: str) -> list[str]:
    """Names of a config group, e.g. all recipes."""
    root = RECIPES / group
    return sorted(file.relative_to(root).with_suffix("").as_posix() for file in root.rglob("*.yaml"))


def sweep_words(words: list[str]) -> list[str]:
    """The words with each `sweep=NAME` replaced by the lists of values in recipes/sweep, or in a YAML file.

    A value that the words give by themselves takes the place of the sweep's.

    Raises:
        ValueError: unknown sweep.
    """
    given = {word.partition("=")[0].lstrip("+") for word in words}
    expanded = []
    for word in words:
        name = word.removeprefix("sweep=")
        if name == word:
            expanded.append(word)
            continue
        file = Path(name) if name.endswith(".yaml") else RECIPES / "sweep" / f"{name}.yaml"
        if not file.is_file():
            raise ValueError(unknown("sweep", name, options("sweep")))
        expanded += [f"{key!s}={values}" for key, values in read_yaml(file).items() if str(key) not in given]
    return expanded


def parse(words: list[str]) -> list[Override]:
    """Hydra's reading of `key=value` words.

    Raises:
        ValueError: for a word that is not an override.
    """
    for word in words:
        if "=" not in word and not word.startswith("~"):
            example = f"recipe={word}" if word in options("recipe") else "seed=1 or model.slots=7"
            raise ValueError(f"cannot read {word!r}: expected key=value, e.g. {example}")
    parser = OverridesParser.create()
    overrides = []
    for word in words:
        try:
            overrides.append(parser.parse_override(word))
        except HydraException as error:
            raise ValueError(f"cannot read {word!r}: {str(error).splitlines()[0]}") from error
    return overrides


def readable(words: list[str]) -> list[str]:
    """The words, with quotes around values that Hydra could not read without: most often paths with an umlaut."""
    parser = OverridesParser.create()
    result = []
    for word in words:
        key, equals, value = word.partition("=")
        try:
            parser.parse_override(word)
        except HydraException:
            if equals and value and value[0] not in "[{(\"'":  # a list, dictionary or quotation with a slip of the pen
                word = f"{key}={_quoted(value)}"
        result.append(word)
    return result


def load(words: list[str]) -> DictConfig:
    """The configuration that the words describe; see `prepare`."""
    return prune(_compose(prepare(words)))


def prune(config: DictConfig) -> DictConfig:
    """Leave out options of a recipe's model or data that the class chosen in their place does not have."""
    for part in ("model", "data"):
        node = config.get(part)
        if node is not None:
            allowed = arguments(node._target_, part) | (ANY_DATA if part == "data" else {})
            surplus = [key for key in node if not str(key).startswith("_") and key not in allowed]
            with open_dict(node):
                for key in surplus:
                    del node[key]
    return config


def prepare(words: list[str], *, sweep: bool = False) -> list[str]:
    """Check `key=value` words and complete them for Hydra. In a `sweep`, commas separate values, also of text.

    Arguments of a `_target_` that its YAML does not mention are accepted under the name the constructor gives them.
    `data=towers.Towers`, an import path, is a class of the user's own; so is `model=...`.

    Raises:
        ValueError: for unknown keys or names (with near matches) and values of the wrong type.
    """
    words = [part for word in words for part in _own_class(word)]
    _trust(words)
    whole = [w for w in words if w.partition("=")[0] in GROUPS or w.startswith("~") or "._target_=" in w]
    base = _chosen(readable(whole))
    words = readable(_literal(base, words, sweep=sweep))
    overrides = parse(words)
    chosen = [o for o in overrides if o.key_or_group in GROUPS and not o.is_delete()]
    several = any(o.is_sweep_override() for o in chosen)  # and not every recipe mentions the same options
    prepared = []
    for override, word in zip(overrides, words, strict=True):
        as_it_is = override.key_or_group in GROUPS or override.key_or_group.startswith("hydra") or word[0] in "+~"
        checked = word if as_it_is else _check(base, override, word)
        prepared.append(checked if as_it_is or not several else f"++{checked.lstrip('+')}")
    if not any(o.key_or_group == "name" for o in overrides):
        recipes = [_values(o) for o in chosen if o.key_or_group == "recipe"]
        prepared += [f"name={r[0]}" if len(r) == 1 else "name=${hydra:runtime.choices.recipe}" for r in recipes]
    return prepared


def _chosen(words: list[str]) -> DictConfig:
    """The configuration of the groups and classes that the words name; of a sweep the first.

    Raises:
        ValueError: for an unknown one.
    """
    overrides = parse(words)
    chosen = [o for o in overrides if o.key_or_group in GROUPS and not o.is_delete()]
    for override in chosen:
        for name in _values(override):
            if name not in options(override.key_or_group):
                raise ValueError(unknown(override.key_or_group, name, options(override.key_or_group)))
    own = [
        w for w in words if w in ("~model", "~data") or w.lstrip("+").startswith(("model._target_=", "data._target_="))
    ]
    return _compose([*(f"{o.key_or_group}={_values(o)[0]}" for o in chosen), *own])


TEXT = re.compile(r"(str|(os\.)?PathLike(\[str\])?|(pathlib\.)?Path|None|Literal\[.*\])")
OUR_TEXT = {"name": "str", "runs": "str", "run_dir": "str | None", "warm_start": "str | None"}


def _literal(config: DictConfig, words: list[str], *, sweep: bool = False) -> list[str]:
    """The words, with the values of options that are text in quotes: a folder called 2024, null or a,b is a name."""
    result = []
    for word in words:
        key, equals, value = word.partition("=")
        kinds = _text_kinds(config, key.lstrip("+")) if equals and value else []
        free = not (value[:1] in "'\"" and value[-1:] == value[:1]) and not value.startswith("${") and value != "???"
        listed = sweep and ("," in value or re.match(r"(choice|range|glob|interval)\(", value))
        if kinds and free and not listed and not (value == "null" and "None" in kinds):
            word = f"{key}={_quoted(value)}"
        result.append(word)
    return result


def _text_kinds(config: DictConfig, key: str) -> list[str]:
    """The types that an option may have, if all of them are text."""
    *parents, leaf = key.split(".")
    annotation: str | None = OUR_TEXT.get(key)
    if parents and parents[0] != "trainer":
        node = OmegaConf.select(config, ".".join(parents))
        target = node.get("_target_") if isinstance(node, DictConfig) else None
        kind = building.kind_at(".".join(parents))
        annotation = _annotation(target, kind, leaf) if target and kind else None
    kinds = [part.strip() for part in (annotation or "").split(" | ")]
    text = all(TEXT.fullmatch(part) for part in kinds) and kinds != ["None"]
    return kinds if annotation and text else []


def _quoted(value: str) -> str:
    """A text as Hydra reads it back: quotes, and the backslashes before them, are escaped."""
    escaped = re.sub(r"(\\*)(?='|$)", lambda match: match[1] * 2, value)
    return "'" + escaped.replace("'", "\\'") + "'"


def from_file(path: Path, words: list[str]) -> DictConfig:
    """A run's saved configuration (the file, or the run's folder), with overrides.

    Raises:
        FileNotFoundError, ValueError: if the file is missing or broken, or an override does not fit.
    """
    path = path / "config.yaml" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"there is no configuration {path}")
    config = read_yaml(path)
    lacking = [part for part in ("model", "data", "trainer") if not isinstance(config.get(part), DictConfig)]
    if lacking:
        raise ValueError(f"{path} has no {' and no '.join(lacking)}: it is not, or not all of, a run's configuration")
    config.run_dir = None  # that folder is taken
    _trust(words)
    building.check_file(config, str(path))
    words = readable(_literal(config, words))
    for override, word in zip(parse(words), words, strict=True):
        if override.key_or_group in GROUPS:
            raise ValueError(f"{word}: the recipe, model and data are fixed by {path}; override their fields instead")
    update(config, words)
    return config


def update(config: DictConfig, words: list[str]) -> None:
    """Set fields of a configuration to what `key=value` words say, with the checks of `prepare`."""
    words = readable(_literal(config, words))
    for override, word in zip(parse(words), words, strict=True):
        _check(config, override, word)
        OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)


def _compose(words: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_module("objectscape.recipes", version_base="1.3"):
        try:
            return compose("config", words)
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(str(error).split("\nSee ")[0].strip()) from error


def _own_class(word: str) -> list[str]:
    """`data=MODULE.CLASS` in Hydra's words: nothing of a recipe's data, and this class. Other words as they are."""
    group, _, name = word.partition("=")
    if group not in ("model", "data") or "." not in name or name in options(group) or set(name) & set(",/'\""):
        return [word]
    return [f"~{group}", f"++{group}._target_={name}"]


def _trust(words: list[str]) -> None:
    """A class that the user names here is one that the user trusts."""
    for word in words:
        key, _, target = word.lstrip("+").partition("=")
        kind = building.kind_at(key.removesuffix("._target_")) if key.endswith("._target_") else None
        for name in target.split(",") if kind else ():
            module = name.strip().rpartition(".")[0]
            try:
                building.check_target(name.strip(), kind or "")
            except ValueError:
                if module:
                    building.trust(module)


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [str(override.value())]


def _check(config: DictConfig, override: Override, word: str) -> str:
    """The word as Hydra needs it, or a ValueError."""
    path = override.key_or_group
    *parents, leaf = path.split(".")
    if parents[:1] == ["groups"]:
        return f"++{word}"  # its keys are the names of the model's own parts
    node: Any = config
    for depth, part in enumerate(parents):
        known = [str(key) for key in node] if isinstance(node, DictConfig) else []
        if part in GROUPS and depth == 0 and node.get(part) is None:
            raise ValueError(f"{path}: there is no {part} yet; name a recipe, or {part}=NAME first")
        if part in known and node[part] is None:
            whole = ".".join(parents[: depth + 1])
            raise ValueError(f"{path}: {whole} is not set; to set it write +{path}=..., and {whole}._target_ likewise")
        if part not in known:
            where = ".".join(parents[:depth]) or "the configuration"
            raise ValueError(f"unknown option {path!r}: {where} has no {part!r}.{did_you_mean(part, known)}")
        node = node[part]
    if not isinstance(node, DictConfig):
        raise ValueError(f"{word}: {'.'.join(parents)} is a value ({node}) without parts; set it as a whole")
    target = "lightning.pytorch.Trainer" if path.startswith("trainer.") else node.get("_target_")
    kind = "trainer" if path.startswith("trainer.") else building.kind_at(".".join(parents)) or ""
    accepted = arguments(target, kind) | (ANY_DATA if parents == ["data"] else {})
    if leaf in node:
        current = node.get(leaf)
        if isinstance(current, DictConfig) and not isinstance(override.value(), dict | None):
            keys = ", ".join(str(key) for key in current)
            raise ValueError(f"{word}: {path} has parts; set them as {path}.KEY=VALUE, KEY one of {keys}")
        _check_type(path, current, override, _annotation(target, kind, leaf))
        return word
    if leaf in accepted:
        _check_type(path, accepted[leaf], override, _annotation(target, kind, leaf))
        return f"++{word}"
    known = sorted({*(str(key) for key in node if not str(key).startswith("_")), *accepted} - {"split", "params"})
    near = _elsewhere(config, leaf) or did_you_mean(leaf, known)
    raise ValueError(f"unknown option {path!r}." + (near if near else f" Options there: {', '.join(known)}"))


def _elsewhere(config: DictConfig, leaf: str) -> str:
    """Where an option of this very name is: " Did you mean 'optimizer.lr'?" for lr; "" if nowhere."""
    places = [leaf] if leaf in config and not isinstance(config[leaf], DictConfig) else []
    for part, node in ((str(key), node) for key, node in config.items() if key != "expected"):
        if isinstance(node, DictConfig):
            target = "lightning.pytorch.Trainer" if part == "trainer" else node.get("_target_")
            known = arguments(target, part if part == "trainer" else building.kind_at(part) or "")
            places += [f"{part}.{leaf}"] if leaf in node or leaf in known else []
    return f" Did you mean {' or '.join(map(repr, places))}?" if places else ""


def arguments(target: str | None, kind: str) -> dict[str, Any]:
    """{name: default} of the arguments that the class at an import path takes (see `objectscape.building`).

    Raises:
        ValueError: if there is no such class, or a description of this kind may not name it.
    """
    return {name: None if p.default is p.empty else p.default for name, p in _parameters(target, kind).items()}


def _parameters(target: str | None, kind: str) -> dict[str, inspect.Parameter]:
    if target is None:
        return {}
    if kind == "trainer" or building.check_target(target, kind):  # ours, torch's or Lightning's
        known = signatures.parameters(target)
        if known is not None:
            return known
    found: Any
    if kind == "trainer":
        found = importlib.import_module("lightning.pytorch").Trainer  # not needed by commands about data
    else:
        found = building.find_class(target, kind)
    parameters = inspect.signature(inspect.unwrap(found.__init__)).parameters  # Lightning wraps it
    return {name: parameter for name, parameter in parameters.items() if name != "self"}


def _annotation(target: str | None, kind: str, name: str) -> str | None:
    """The type that the argument of a `_target_` has, in words; "int" for an option of ours."""
    parameter = _parameters(target, kind).get(name)
    if parameter is None:
        return "int" if target is None else None
    return getattr(parameter.annotation, "__name__", str(parameter.annotation))


def _check_type(path: str, current: Any, override: Override, annotation: str | None) -> None:
    """Raise ValueError unless the override has the type of `current`; a whole number is judged by the annotation."""
    if path == "batch_size" and isinstance(override.value(), list):
        return  # stages of it, which the training checks
    if type(current) is int and annotation not in ("int", "int | None"):
        if annotation not in ("float", "float | None"):
            return  # such as int | Sequence[int]
        current = float(current)
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        (int, "an integer"),
        (float, "a number"),
    )
    for kind, words in kinds:
        if not isinstance(current, kind):
            continue
        for text in _values(override):
            value = yaml.safe_load(text) if isinstance(text, str) else text
            allowed = (int, float, type(None)) if kind is float else (kind, type(None))
            try:
                good = isinstance(value, allowed) or (kind is float and float(value) is not None)
            except (TypeError, ValueError):
                good = False
            if not good:
                raise ValueError(f"{path}={text}: expected {words} (it is {current} by default)")
        return
