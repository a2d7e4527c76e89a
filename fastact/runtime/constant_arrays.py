"""Constant folding of arrays and lists inside a definition.

Numba would build ``np.array([1.0, 0.5])`` anew in each call, in memory from its runtime, which
kernels must not depend on. Here its value becomes a constant in the code, like a global array.
Importing this module registers the rewrite with Numba; it applies to the functions that kernels
consist of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import ir
from numba.core.rewrites import Rewrite, register_rewrite

from fastact.simd.compilable import is_compilable

# Pure functions.
PURE: tuple[Any, ...] = (
    np.array,
    np.asarray,
    np.zeros,
    np.ones,
    np.full,
    np.arange,
    np.linspace,
    np.float32,
)
PURE += (np.float64, np.int32, np.int64)
# Methods that modify a list or array in place.
_MUTATORS = ("append", "extend", "fill", "insert", "pop", "remove", "reverse", "sort")


class NotConstantError(Exception):
    """A value that is known only at run time."""


@register_rewrite("before-inference")
class ConstantArrays(Rewrite):
    """Replace each expression that evaluates to a constant array or list by its value."""

    def match(self, function: Any, block: Any, types: Any, signatures: Any) -> bool:
        """Find constant expressions in a block of a function."""
        if not is_compilable(function.func_id.func):
            return False
        self._block, self._found = block, {}
        for assignment in block.find_insts(ir.Assign):
            value = value_of(function, assignment)
            if value is not None:
                self._found[assignment] = ir.Global("constant", value, assignment.loc)
        return bool(self._found)

    def apply(self) -> Any:
        """Return the block with values in place of the expressions."""
        block = self._block.copy()
        block.clear()
        for each in self._block.body:
            value = self._found.get(each) if isinstance(each, ir.Assign) else None
            block.append(each if value is None else ir.Assign(value, each.target, each.loc))
        return block


def value_of(function: Any, assignment: Any) -> np.ndarray[Any, Any] | None:
    """Return the constant array that an assignment's expression evaluates to, or None."""
    kind = getattr(assignment.value, "op", None)
    if kind not in ("call", "build_list") or _may_be_mutated(function, assignment.target.name):
        return None
    try:
        value = np.asarray(evaluate(function, assignment.value))
    except Exception:  # not constant, or invalid: Numba reports the error
        return None
    return value if value.size and value.ndim and value.dtype.kind in "fiub" else None


def _may_be_mutated(function: Any, name: str) -> bool:
    """Whether the function assigns to an item of a variable, or uses a mutating method of it."""
    nodes = [node for block in function.blocks.values() for node in block.body]
    values = [node.value for node in nodes if isinstance(node, ir.Assign)]
    stored = [node.target.name for node in nodes if isinstance(node, ir.SetItem | ir.StaticSetItem)]
    mutated = [
        value.value.name
        for value in values
        if getattr(value, "op", None) == "getattr" and value.attr in _MUTATORS
    ]
    return name in stored or name in mutated


def evaluate(function: Any, node: Any) -> Any:
    """Return the value of a constant node of Numba's intermediate representation."""
    if isinstance(node, ir.Var):
        return evaluate(function, function.get_definition(node))
    if isinstance(node, ir.Const | ir.Global | ir.FreeVar):
        return node.value
    kind = node.op if isinstance(node, ir.Expr) else None
    if kind in ("build_list", "build_tuple"):
        return [evaluate(function, each) for each in node.items]
    if kind == "unary":
        return node.fn(evaluate(function, node.value))
    if kind == "binop":
        return node.fn(evaluate(function, node.lhs), evaluate(function, node.rhs))
    if kind == "getattr":
        return getattr(evaluate(function, node.value), node.attr)
    if kind == "call" and not node.vararg and not node.varkwarg:
        called = evaluate(function, node.func)
        if any(called is each for each in PURE):
            options = {name: evaluate(function, value) for name, value in node.kws}
            return called(*[evaluate(function, each) for each in node.args], **options)
    raise NotConstantError
