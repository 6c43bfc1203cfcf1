"""Writing files so that a crash or a full disk never costs what was there before."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

FIGURE_FORMATS = (".png", ".pdf", ".svg")
ANIMATIONS = (".gif", ".mp4")


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with ~ as the user's home; a name such as ~odd, whose user there is not, stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def check_suffix(path: Path, allowed: tuple[str, ...]) -> str:
    """The suffix in lower case, if it is one of `allowed`."""
    suffix = path.suffix.lower()
    if suffix not in allowed:
        raise ValueError(f"cannot write {path}: the name must end in {', '.join(allowed)}, not {suffix or 'nothing'!r}")
    return suffix


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path`, with its suffix, to write to; on success it replaces `path` at once, else it is removed.

    The folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace the content of a text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        raise ValueError(f"{path} is damaged: it is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: expected a JSON object, found a {type(content).__name__}")
    return content


def read_yaml(path: Path) -> DictConfig:
    """A configuration file.

    Raises:
        ValueError: if it does not hold one.
    """
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(path.read_text())):
            raise yaml.YAMLError("it refers to itself by aliases (*name), which could stand for any amount of memory")
        loaded = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError, TypeError, OSError) as error:
        if isinstance(error, OSError) and not path.is_file():
            raise
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(loaded, DictConfig):
        raise ValueError(f"{path} is damaged: expected lines `key: value`, as in the config.yaml of a run")
    return loaded
