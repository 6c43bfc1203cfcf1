"""Packages whose names are imported on first use, so that importing the package costs nothing and tab shows them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        homes: {public name: module that has it; a module of that very name is the value itself}.
    """

    def get(name: str) -> Any:
        if name in homes:
            home = importlib.import_module(homes[name])
            return home if home.__name__ == f"{package}.{name}" else getattr(home, name)
        from objectscape.names import did_you_mean

        raise AttributeError(f"module {package!r} has no attribute {name!r}.{did_you_mean(name, homes)}")

    return get, lambda: sorted(homes)
