"""The syntax tree of a function of fastact's own."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from fastact.simd.staged.values import UnsupportedError

_PACKAGE = "fastact."
_Tree = ast.FunctionDef | ast.Lambda


@cache
def _trees(module: str) -> dict[tuple[str, int], list[_Tree]]:
    """Return the functions of a module's source, by name and first line."""
    found: dict[tuple[str, int], list[_Tree]] = {}
    source = _loader(module).get_source(module)
    for node in ast.walk(ast.parse(source or "")):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found.setdefault((node.name, first), []).append(node)
        elif isinstance(node, ast.Lambda):
            found.setdefault(("<lambda>", node.lineno), []).append(node)
    return found


@cache
def _codes(module: str) -> frozenset[CodeType]:
    """Return all code objects of a module's source, or of bytecode that is up to date with it."""
    code = _loader(module).get_code(module)
    return frozenset(_inner(code)) if code else frozenset()


def _loader(module: str) -> Any:
    spec = getattr(sys.modules.get(module), "__spec__", None)
    if not module.startswith(_PACKAGE) or spec is None or not hasattr(spec.loader, "get_source"):
        raise UnsupportedError(f"no source of {module}")
    return spec.loader


def _inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _inner(each)


@cache
def _tree_of_code(code: CodeType, module: str) -> _Tree:
    # A file that has changed since its import describes another function.
    if code not in _codes(module):
        raise UnsupportedError(f"the source of {code.co_name} has changed")
    found = _trees(module).get((code.co_name, code.co_firstlineno), [])
    if len(found) > 1:  # lambdas on one line
        places = set(code.co_positions())
        found = [
            each for each in found if isinstance(each, ast.Lambda) and _place(each.body) in places
        ]
    if len(found) != 1:
        raise UnsupportedError(f"no source of {code.co_name}")
    return found[0]


def _place(node: ast.expr) -> tuple[Any, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def tree_of(function: FunctionType) -> _Tree:
    """Return the syntax tree of a function.

    Raises
    ------
    UnsupportedError
        If it is not fastact's own, or its source is not what was imported.
    """
    return _tree_of_code(function.__code__, str(function.__module__))


@cache
def assigned_in(node: ast.For | ast.While) -> tuple[str, ...]:
    """Return the names that a loop assigns."""
    names = (
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    )
    return tuple(dict.fromkeys(names))
