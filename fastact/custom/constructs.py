"""The constructs in a user's function that need Numba's runtime, for the message that rejects it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from numba.core import ir
from numba.core.compiler import run_frontend

from fastact.functions import Function
from fastact.numba_support.numpy_names import OFFERED
from fastact.runtime.compiler import C_LIBRARY
from fastact.runtime.constant_arrays import NotConstantError, evaluate, value_of
from fastact.simd.references import used_by

_BUILTINS = (abs, len, max, min, pow, round, sum)  # `range` and the like are classes
_KINDS = {"build_list": "a list", "build_map": "a dict", "build_set": "a set"}


def constructs(
    function: Callable[..., Any], symbols: set[str], seen: set[Any] | None = None
) -> Iterator[str]:
    """Yield the constructs that need or may need the runtime, each with its line, callees included.

    Parameters
    ----------
    function : function
        A Python function.
    symbols : set of str
        The symbols in its machine code that kernels cannot resolve.
    seen : set of function, optional
        Functions to skip.
    """
    seen = set() if seen is None else seen
    seen.add(function)
    graph = run_frontend(function)
    for block in graph.blocks.values():
        for node in block.body:
            if isinstance(node, ir.Raise | ir.StaticRaise | ir.TryRaise):
                yield f"raise (line {node.loc.line})"
            if isinstance(node, ir.Assign) and isinstance(node.value, ir.Expr):
                said = _construct(graph, node.value, symbols)
                if said and value_of(graph, node) is None:
                    yield f"{said} (line {node.loc.line})"
    for used in used_by(function):
        is_own = isinstance(used, FunctionType) and str(used.__module__).startswith("fastact.")
        if isinstance(used, FunctionType) and not is_own and used not in seen:
            yield from constructs(used, symbols, seen)


def _construct(graph: Any, node: Any, symbols: set[str]) -> str | None:
    """Describe a node of Numba's IR if it may need the runtime."""
    if node.op == "getitem" and constant_of(graph, node.index) is None:
        return "an index that may be out of bounds"
    if node.op == "make_function" and "<listcomp>" in repr(node.code):
        return "a list"
    called = constant_of(graph, node.func) if node.op == "call" else None
    if called is None:
        return _KINDS.get(node.op)
    name = getattr(called, "__name__", "")
    is_fine = (
        isinstance(called, FunctionType | Function | type)
        or hasattr(called, "fastact_function")
        or any(called is each for each in _BUILTINS)
        or any(called is each for each in OFFERED)
        or (name in C_LIBRARY and f"numba_{name}" not in symbols)
    )
    return None if is_fine else text_of(graph, node.func)


def constant_of(graph: Any, node: Any) -> Any:
    """Return the value of a constant node, else None."""
    try:
        return evaluate(graph, node)
    except (NotConstantError, KeyError):
        return None


def text_of(graph: Any, node: Any) -> str:
    """Return the source text of an expression such as ``np.zeros``."""
    if isinstance(node, ir.Var):
        if not node.name.startswith("$"):
            return str(node.name)
        return text_of(graph, graph.get_definition(node))
    if isinstance(node, ir.Expr) and node.op == "getattr":
        return f"{text_of(graph, node.value)}.{node.attr}"
    return str(node.name) if isinstance(node, ir.Global | ir.FreeVar) else "this"
