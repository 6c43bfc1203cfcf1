"""Opening what a user named: clear answers when it is not there, and handles that survive worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from objectscape.files import expanded
from objectscape.names import did_you_mean


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Give the handle back to the operating system."""


Handle = TypeVar("Handle", bound=Closable)

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
GZIP_SIGNATURE = b"\x1f\x8b"


def existing_file(path: str | os.PathLike[str], kind: str) -> Path:
    """`path` as a Path if it is a file with content.

    Raises:
        FileNotFoundError: naming similar files of the same folder.
        ValueError: if it is a folder or empty.
    """
    file = expanded(path)
    if not file.exists():
        folder = file.parent
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{file}: no such file; its folder {folder} does not exist either. Expected {kind}."
            )
        near = did_you_mean(file.name, (entry.name for entry in folder.iterdir()))
        raise FileNotFoundError(f"{file}: no such file. Expected {kind}.{near}")
    if file.is_dir():
        raise ValueError(f"{file} is a folder; expected {kind}.")
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty (0 bytes); expected {kind}. Fetch or make it again.")
    return file


def existing_folder(path: str | os.PathLike[str], kind: str) -> Path:
    """`path` as a Path if it is a folder.

    Raises:
        FileNotFoundError: if it does not exist, naming similar folders beside it.
        ValueError: if it is a file.
    """
    folder = expanded(path)
    if not folder.exists():
        near = ""
        if folder.parent.is_dir():
            near = did_you_mean(folder.name, (entry.name for entry in folder.parent.iterdir() if entry.is_dir()))
        raise FileNotFoundError(f"{folder}: no such folder. Expected {kind}.{near}")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected {kind}.")
    return folder


def signature(path: Path, length: int = 8) -> bytes:
    """The first bytes of a file, which tell its format whatever its name."""
    with path.open("rb") as stream:
        return stream.read(length)


class PerProcess(Generic[Handle]):
    """A handle that is opened on first use and again in each worker process: file positions are never shared.

    Args:
        opener: a picklable function without arguments that opens the handle.
    """

    def __init__(self, opener: Callable[[], Handle]) -> None:
        self.opener = opener
        self._handle: Handle | None = None
        self._pid = -1

    def __call__(self) -> Handle:
        """The handle of this process."""
        if self._handle is None or self._pid != os.getpid():
            self._handle, self._pid = self.opener(), os.getpid()
        return self._handle

    def close(self) -> None:
        """Close this process's handle; the next call opens it again."""
        if self._handle is not None and self._pid == os.getpid():
            self._handle.close()
        self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {"opener": self.opener, "_handle": None, "_pid": -1}
