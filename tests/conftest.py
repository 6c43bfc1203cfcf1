"""Options shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "parity"
SMALL = Path(__file__).resolve().parent / "data" / "parity"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity-root",
        type=Path,
        default=SHARED if SHARED.is_dir() else SMALL,
        help="folder of recorded cases (NAME.json + NAME.npz), searched recursively",
    )
