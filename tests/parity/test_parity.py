"""Runs every recorded case below `--parity-root`: dispatch on the JSON's `kind` only."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import pytest

from tests.parity import runners
from tests.parity.case import Case

KINDS = {
    kind: run
    for module in pkgutil.iter_modules(runners.__path__)
    for kind, run in importlib.import_module(f"{runners.__name__}.{module.name}").KINDS.items()
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root: Path = metafunc.config.getoption("--parity-root")
    if not root.is_dir():
        raise pytest.UsageError(f"--parity-root {root}: no such folder")
    paths = [path for path in sorted(root.rglob("*.json")) if "kind" in json.loads(path.read_text())]
    metafunc.parametrize("path", paths, ids=[path.relative_to(root).with_suffix("").as_posix() for path in paths])


def test_case(path: Path) -> None:
    case = Case.read(path)
    if case.kind not in KINDS:
        pytest.skip(f"no code handles the kind {case.kind!r} yet")
    KINDS[case.kind](case)
