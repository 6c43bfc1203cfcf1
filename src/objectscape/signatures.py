"""The arguments of a class, read from its source: importing torch and Lightning takes seconds, a typo should not."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from functools import cache
from pathlib import Path


def parameters(target: str) -> dict[str, inspect.Parameter] | None:
    """What the constructor of the class at an import path takes, without `self`; None if its source does not say.

    Names, defaults and annotations are as `inspect.signature` gives them, except that annotations are as they are
    written, and a default that is computed is None.
    """
    module, _, name = target.rpartition(".")
    home, cls = _find(module, name)
    if not isinstance(cls, ast.ClassDef) or cls.decorator_list:
        return None
    init = next((node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)
    if init is None:
        return None  # inherited
    args = init.args
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    empty, kinds = inspect.Parameter.empty, inspect.Parameter
    result = {}
    for arg, default in pairs[1:]:
        annotation = ast.unparse(arg.annotation) if arg.annotation else empty
        value = empty if default is None else _value(home, default)
        result[arg.arg] = kinds(arg.arg, kinds.KEYWORD_ONLY, default=value, annotation=annotation)
    for star, kind in ((args.vararg, kinds.VAR_POSITIONAL), (args.kwarg, kinds.VAR_KEYWORD)):
        if star is not None:
            result[star.arg] = kinds(star.arg, kind)
    return result


@cache
def _source(module: str) -> tuple[list[ast.stmt], bool]:
    """The statements of a module (none if it is not found), and whether it is a package. Nothing is imported."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations or spec.origin is None:
        return [], False
    path = Path(spec.origin).parent.joinpath(*rest)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.parse(file.read_bytes()).body if file.is_file() else []), path.is_dir()


def _find(module: str, name: str, depth: int = 5) -> tuple[str, ast.stmt | None]:
    """Where a class or constant is defined, followed through the imports of modules that only pass it on."""
    statements, package = _source(module) if depth else ([], False)
    for node in statements:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return module, node
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) == name:
                parts = module.split(".")
                above = parts[: len(parts) + package - node.level] if node.level else []
                return _find(".".join([*above, *filter(None, [node.module])]), alias.name, depth - 1)
    return module, None


def _value(module: str, node: ast.expr) -> object:
    """A literal, or the literal that a constant stands for; None for anything else."""
    if isinstance(node, ast.Name):
        _, constant = _find(module, node.id)
        node = constant.value if isinstance(constant, ast.Assign) else node
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
