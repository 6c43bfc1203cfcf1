"""The notebooks of examples/ run from top to bottom, and stand in git without outputs."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(notebook: Path) -> Iterator[str]:
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "outputs are stripped"
            assert cell["execution_count"] is None
            yield "".join(cell["source"])


def show(code: str, namespace: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line, as a notebook shows it."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if last else None


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown = [show(code, namespace) for code in cells(notebook)]
    torch.set_num_threads(threads)
    assert all(value in (None, 0) or repr(value) for value in shown)
    if notebook.stem == "tour":
        assert any("iframe" in (getattr(value, "_repr_html_", lambda: "")() or "") for value in shown)
        assert (tmp_path / "tour.html").is_file()
    assert any(tmp_path.iterdir())


def test_the_notebooks_are_listed() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text()
    assert len(NOTEBOOKS) == 3
    assert all(f"examples/{notebook.name}" in page for notebook in NOTEBOOKS)
