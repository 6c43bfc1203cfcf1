"""The one place where a class is built from a description: `{_target_: import path, argument: value, ...}`.

Descriptions stand in recipes, in the words of a command line, and in files that may come from a stranger (the
`config.yaml` and `config.json` of a run). A file is data. So a description is built only if

- its class stands where its key allows: a model of `objectscape.models`, an optimizer of `torch.optim`, a logger of
  Lightning, ... (`KINDS`), or in a module that the user trusts by name: `--trust MODULE`, `trust("MODULE")`, a class
  named on the command line, or the environment variable OBJECTSCAPE_TRUST (names with commas between them);
- its class is of the kind that its key needs.

Nothing else is imported, the folder at hand is on the import path only for trusted modules, and values inside a
description are never built, except the parts of a model, which it builds itself with `build_part`.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from objectscape.names import did_you_mean

ABOUT = ("format", "objectscape", "step", "data", "sha256", "weights_hash")
"""Entries of a saved model's config.json that are about it, and no arguments."""
TRUST = "OBJECTSCAPE_TRUST"  # in the environment, so that the processes a run starts know it too
IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True)
class Kind:
    """What a description under some key of a configuration may be."""

    home: tuple[str, ...]
    """Packages and modules whose classes a file may name."""
    base: str | None
    """Import path of the class that it must derive from."""


KINDS = {
    "model": Kind(("objectscape.models",), "torch.nn.Module"),
    "part": Kind(("objectscape.models", "objectscape.nn"), "torch.nn.Module"),
    "data": Kind(("objectscape.data",), "objectscape.data.dataset.SceneDataset"),
    "optimizer": Kind(("torch.optim", "objectscape.nn.optimizers"), "torch.optim.Optimizer"),
    "schedule": Kind(("objectscape.training.schedules",), None),
    "geco": Kind(("objectscape.training.geco",), None),
    "ask": Kind(("objectscape.evaluation.questions",), "objectscape.evaluation.questions.question.Question"),
    "logger": Kind(("lightning.pytorch.loggers",), "lightning.pytorch.loggers.Logger"),
}


def kind_at(key: str) -> str | None:
    """The kind of description that may stand at a key of a run's configuration; None where none may."""
    top, *rest = key.split(".")
    if top == "model":
        return "part" if rest else "model"
    if top == "groups":
        return "optimizer" if rest else None
    if top == "ask":
        return "ask" if len(rest) == 1 else None
    if top == "loggers":
        return "logger" if len(rest) == 1 else None
    return top if top in ("data", "optimizer", "schedule", "geco") and not rest else None


def trust(*modules: str) -> None:
    """Let files name classes of these modules (and of those inside them), until this process and its children end.

    The current folder goes to the end of the import path when such a class is needed.
    """
    for module in modules:
        if not IMPORT_PATH.fullmatch(f"{module}.x"):
            raise ValueError(f"cannot trust {module!r}: expected the name of a module, such as towers or lab.models")
    os.environ[TRUST] = ",".join(dict.fromkeys([*trusted(), *modules]))


def trusted() -> list[str]:
    """Names of the modules that the user trusts."""
    return [name.strip() for name in os.environ.get(TRUST, "").split(",") if name.strip()]


def foreign(config: Mapping[str, Any]) -> list[str]:
    """Modules of the user's own whose classes a run's configuration names: its model and data."""
    modules = []
    for kind in ("model", "data"):
        target = (config.get(kind) or {}).get("_target_")
        module = str(target or "").rpartition(".")[0]
        if module and not _inside(module, KINDS[kind].home):
            modules.append(module)
    return list(dict.fromkeys(modules))


def find_class(target: Any, kind: str) -> type:
    """The class at an import path, if a description of this kind may name it. Otherwise nothing is imported.

    Raises:
        ValueError: if it may not, if there is no such class, or if it is of another kind.
    """
    own = check_target(target, kind)
    module_name, _, name = target.rpartition(".")
    if not own and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"_target_={target}: {error}") from error
    found = getattr(module, name, None)
    base = _class_at(KINDS[kind].base) if KINDS[kind].base else object
    stray = own and not _inside(getattr(found, "__module__", ""), KINDS[kind].home)
    if not (isinstance(found, type) and issubclass(found, base)) or stray:
        classes = [n for n, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)]
        what = KINDS[kind].base or "class of this module"
        raise ValueError(
            f"_target_={target}: {module_name} has no {kind} called {name!r} (a {what}).{did_you_mean(name, classes)}"
        )
    return found


def check_target(target: Any, kind: str, *, key: str = "_target_") -> bool:
    """Whether a class is ours (rather than one of a module that the user trusts), by its name alone.

    Raises:
        ValueError: if a description of this kind may not name it.
    """
    if not isinstance(target, str) or not IMPORT_PATH.fullmatch(target):
        raise ValueError(f"{key}={target!r}: expected the import path of a class, such as objectscape.models.vae.VAE")
    module = target.rpartition(".")[0]
    if _inside(module, KINDS[kind].home):
        return True
    if not _inside(module, tuple(trusted())):
        raise ValueError(
            f"{key}={target}: a {kind} named by a file comes from {' or '.join(KINDS[kind].home)}; files are data, so "
            f"{module} was not imported. If it is yours, or you trust it, add --trust {module}; in Python: "
            f'objectscape.trust("{module}")'
        )
    return False


def check_file(config: Any, source: str) -> None:
    """Raise ValueError unless every `_target_` in a configuration stands where one may, and may be named there."""
    plain = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
    try:
        _check(plain, "")
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def build(description: Mapping[str, Any] | None, kind: str, **more: Any) -> Any:
    """What a description describes, with `more` arguments; None for None.

    Raises:
        ValueError: if it may not be built (see `find_class`), or an argument is unknown or unfit.
        OSError: as its class does.
    """
    if description is None:
        return None
    cls, arguments = resolve(description, kind)
    return construct(cls, {**arguments, **more})


def build_part(given: Any, name: str) -> Any:
    """A part of a model: as it is, from a description among the model's arguments, or from the folder of a trained one.

    Args:
        given: a module, a description, or a run folder or saved model.
        name: of the model's argument, for messages.

    Raises:
        ValueError: if nothing is given, or what a description or folder names may not be built.
        FileNotFoundError: if there is no trained model in the folder.
    """
    if given is None:
        raise ValueError(f"{name} is not set: say model.{name}=RUN, the folder of a trained model")
    if isinstance(given, Mapping):
        return build({key: value for key, value in given.items() if key not in ABOUT}, "part")
    if not isinstance(given, str | Path):
        return given
    folder = model_folder(given, name)
    target = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_target_")
    cls: Any = find_class(target, "part")
    return cls.from_pretrained(str(folder))


def model_folder(given: str | Path, name: str) -> Path:
    """Where a run folder, or a saved model, keeps its config.json and weights.

    Raises:
        FileNotFoundError: if there is none.
    """
    folder = Path(given)
    folder = folder / "model" if (folder / "model" / "config.json").is_file() else folder
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{name}={given}: no trained model there (no config.json). Train it first.")
    return folder


def resolve(description: Mapping[str, Any], kind: str) -> tuple[type, dict[str, Any]]:
    """The class that a description names, and the arguments."""
    plain: Any = (
        OmegaConf.to_container(description, resolve=True) if isinstance(description, DictConfig) else description
    )
    if not isinstance(plain, Mapping) or "_target_" not in plain:
        raise ValueError(f"the {kind} is not described: expected _target_ and arguments, found {plain!r}")
    arguments = {str(key): value for key, value in plain.items() if key != "_target_"}
    for key, value in arguments.items():
        if key.startswith("_"):
            raise ValueError(f"{kind}: {key} is not an argument; only _target_ begins with an underscore")
        _check(value, f"{'model' if kind in ('model', 'part') else kind}.{key}")
    return find_class(plain["_target_"], kind), arguments


def construct(cls: type, arguments: Mapping[str, Any]) -> Any:
    """`cls(**arguments)`; an unknown argument is answered with the near matches, an unfit one in a sentence."""
    parameters = inspect.signature(inspect.unwrap(cls.__init__)).parameters  # type: ignore[misc]
    allowed = [name for name in parameters if name != "self"]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for name in arguments:
            if name not in allowed:
                near = did_you_mean(name, allowed)
                raise ValueError(f"{cls.__name__} has no option {name!r}.{near} Its options: {', '.join(allowed)}")
    try:
        return cls(**arguments)
    except (ValueError, OSError, ImportError):
        raise
    except Exception as error:  # of a value of a type that it does not expect
        raise ValueError(f"{cls.__name__} cannot be built: {type(error).__name__}: {error}") from error


def _check(value: Any, key: str) -> None:
    """Every `_target_` in a plain value found at `key`."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            kind = kind_at(key)
            if kind is None:
                raise ValueError(f"{key or 'the file'} names a class ({value['_target_']}); a value is never built")
            check_target(value["_target_"], kind, key=f"{key}._target_")
        for name, inner in value.items():
            _check(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check(inner, f"{key}.{index}")


def _inside(module: str, homes: tuple[str, ...]) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in homes)


def _class_at(path: str | None) -> type:
    module, _, name = (path or "").rpartition(".")
    return getattr(importlib.import_module(module), name)
