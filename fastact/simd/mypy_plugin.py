"""A plugin that makes mypy reject a branch on a comparison of vectors, such as ``if x > 0``.

mypy's own check of conditions, ``truthy-bool``, passes over comparisons, which it takes to be bools::

    [tool.mypy]
    plugins = ["fastact.simd.mypy_plugin"]
    enable_error_code = ["truthy-bool"]
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the package can be imported without mypy
    from mypy.plugin import MethodContext, Plugin
    from mypy.types import Type

_COMPARISONS = {f"__{name}__" for name in ("lt", "le", "gt", "ge", "eq", "ne")}


def _conditions(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the parts of a node that Python converts to bool."""
    match node:
        case ast.If() | ast.While() | ast.Assert() | ast.IfExp():
            yield node.test
        case ast.BoolOp():
            yield from node.values
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Compare() if len(node.ops) > 1:  # a < b < c is (a < b) and (b < c)
            yield node
        case ast.comprehension():
            yield from node.ifs


@cache
def _positions(path: str) -> frozenset[tuple[int, int, int | None, int | None]]:
    """Return the positions of a file's conditions. They come from `ast` because mypy's nodes do not know their parents."""
    file = ast.parse(Path(path).read_bytes())
    return frozenset(
        (each.lineno, each.col_offset, each.end_lineno, each.end_col_offset)
        for node in ast.walk(file)
        for each in _conditions(node)
    )


def _is_vector(operand: Type) -> bool:
    from mypy.types import Instance, get_proper_type

    operand = get_proper_type(operand)
    return isinstance(operand, Instance) and operand.type.fullname.startswith("fastact.simd.")


def _check(context: MethodContext) -> Type:
    from mypy.checker import TypeChecker
    from mypy.errorcodes import TRUTHY_BOOL

    checker, comparison = context.api, context.context
    assert isinstance(checker, TypeChecker)
    operands = context.type, *(each for argument in context.arg_types for each in argument)
    position = comparison.line, comparison.column, comparison.end_line, comparison.end_column
    if any(map(_is_vector, operands)) and position in _positions(checker.path):
        message = "A branch on a mask: use select(mask, a, b), or ask any_lane(mask)"
        checker.fail(message, comparison, code=TRUTHY_BOOL)
    return context.default_return_type


def plugin(version: str) -> type[Plugin]:
    """Return the plugin; mypy calls this."""
    from mypy.plugin import Plugin

    class Branches(Plugin):
        def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
            return _check if fullname.rpartition(".")[2] in _COMPARISONS else None

    return Branches
