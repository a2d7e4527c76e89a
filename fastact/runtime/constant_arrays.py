"""Arrays and lists of constants inside a definition: evaluated once, by the compiler.

Numba would make ``np.array([1.0, 0.5])`` anew in each call, in memory from its own run time, which kernels do without.
Its value is put into the code instead, as that of a global array is. Importing this module registers that with Numba,
for the functions that kernels consist of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import ir
from numba.core.rewrites import Rewrite, register_rewrite

from fastact.simd.compilable import is_compilable

# Functions without effects, whose value depends on their arguments alone.
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
# Methods of lists and arrays that change them.
_CHANGING = ("append", "extend", "fill", "insert", "pop", "remove", "reverse", "sort")


class NotConstantError(Exception):
    """A value that is known only when the kernel runs."""


@register_rewrite("before-inference")
class ConstantArrays(Rewrite):
    """Put the value in place of each expression that gives a constant array, or a list of constants."""

    def match(self, function: Any, block: Any, types: Any, signatures: Any) -> bool:
        """Find such expressions in a block of a function."""
        if not is_compilable(function.func_id.func):
            return False
        self._block, self._found = block, {}
        for assignment in block.find_insts(ir.Assign):
            value = value_of(function, assignment)
            if value is not None:
                self._found[assignment] = ir.Global("constant", value, assignment.loc)
        return bool(self._found)

    def apply(self) -> Any:
        """Return the block with the values in it."""
        block = self._block.copy()
        block.clear()
        for each in self._block.body:
            value = self._found.get(each) if isinstance(each, ir.Assign) else None
            block.append(each if value is None else ir.Assign(value, each.target, each.loc))
        return block


def value_of(function: Any, assignment: Any) -> np.ndarray[Any, Any] | None:
    """Return the array that takes the place of an assignment's expression, if there is one."""
    kind = getattr(assignment.value, "op", None)
    if kind not in ("call", "build_list") or _may_change(function, assignment.target.name):
        return None
    try:
        value = np.asarray(evaluate(function, assignment.value))
    except Exception:  # it is no constant, or not one that can be made: Numba will tell
        return None
    return value if value.size and value.ndim and value.dtype.kind in "fiub" else None


def _may_change(function: Any, name: str) -> bool:
    """Whether something is stored into what a variable holds, or a method such as ``append`` is asked for."""
    nodes = [node for block in function.blocks.values() for node in block.body]
    values = [node.value for node in nodes if isinstance(node, ir.Assign)]
    stored = [node.target.name for node in nodes if isinstance(node, ir.SetItem | ir.StaticSetItem)]
    asked = [
        value.value.name
        for value in values
        if getattr(value, "op", None) == "getattr" and value.attr in _CHANGING
    ]
    return name in stored or name in asked


def evaluate(function: Any, node: Any) -> Any:
    """Return the value of a node of Numba's intermediate representation, if it is constant."""
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
