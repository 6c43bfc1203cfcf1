"""The names of splits, and near matches for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SPLITS = ("train", "val", "test")


def near_matches(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like `name`, best first."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x' or 'y'?" (with the leading space), or "" if nothing is near."""
    matches = near_matches(name, known)
    return f" Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: near matches if there are any, else everything that is known."""
    known = sorted(known)
    return f"unknown {kind} {name!r}.{did_you_mean(name, known) or ' Known: ' + ', '.join(known) + '.'}"
