"""Options shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("no_clock", deadline=None)  # a busy machine is not an error
settings.load_profile("no_clock")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "parity"
SMALL = Path(__file__).resolve().parent / "data" / "parity"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity-root",
        type=Path,
        default=SHARED if SHARED.is_dir() else SMALL,
        help="folder of recorded cases (NAME.json + NAME.npz), searched recursively",
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One torch thread, which is fastest for small scenes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
