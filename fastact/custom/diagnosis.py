"""Why a user's function does not compile, in one line that says what to write instead.

Numba's own messages list every candidate that it tried. This module runs type inference again on the function alone and
describes the first statement whose operands have types but whose result has none.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from numba import typeof
from numba.core import ir, types
from numba.core.compiler import run_frontend
from numba.core.errors import NumbaError, UnsupportedBytecodeError
from numba.core.registry import cpu_target
from numba.core.ssa import reconstruct_ssa
from numba.core.typed_passes import type_inference_stage

from fastact.custom.constructs import constant_of, text_of
from fastact.functions import Function
from fastact.numba_support.numpy_names import OFFERED
from fastact.simd.differentiation import Dual
from fastact.simd.lowering import Mask, Vector

_LANES = Vector | Mask | Dual
_SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
    "lshift": "<<", "rshift": ">>", "and_": "&", "or_": "|", "xor": "^", "invert": "~", "contains": "in",
    "is_": "is", "is_not": "is not", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip


class _Diagnosis:
    """A function's IR and what type inference finds in it."""

    def __init__(self, function: FunctionType, kinds: tuple[Any, ...]) -> None:
        self.graph = reconstruct_ssa(run_frontend(function, inline_closures=True))
        self.arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
        found = type_inference_stage(
            cpu_target.typing_context,
            cpu_target.target_context,
            self.graph,
            kinds,
            None,
            raise_errors=False,
        )
        self._types, self.errors = found[0], found[3]

    def type_of(self, variable: ir.Var) -> Any:
        """Return the type of a variable, or None."""
        found = self._types.get(variable.name)
        return None if found in (types.unknown, types.undefined) else found

    def statements(self) -> Iterator[Any]:
        """Yield the assignments in source order."""
        for _, block in sorted(self.graph.blocks.items()):
            yield from block.find_insts(ir.Assign)

    def depends_on(self, variable: ir.Var, seen: set[str]) -> Iterator[str]:
        """Yield the arguments that a variable is computed from."""
        if variable.name in seen:
            return
        seen.add(variable.name)
        for node in self.graph._definitions[variable.name]:
            if isinstance(node, ir.Arg):
                yield node.name
            elif isinstance(node, ir.Var):
                yield from self.depends_on(node, seen)
            elif isinstance(node, ir.Expr):
                for each in node.list_vars():
                    yield from self.depends_on(each, seen)


def diagnose(function: FunctionType, kinds: tuple[Any, ...]) -> str | None:
    """Say what in a function does not compile and on which line; None if nothing is found.

    Parameters
    ----------
    function : function
        A Python function.
    kinds : tuple of numba.types.Type
        The types of its arguments.
    """
    try:
        found = _Diagnosis(function, kinds)
    except (NumbaError, UnsupportedBytecodeError) as error:
        return first_line(error)
    except RecursionError:  # lambdas among the operands
        return None
    for statement in found.statements():
        said = _describe(found, statement)
        if said is not None:
            return said
    return first_line(found.errors[0]) if found.errors else None


def _describe(found: _Diagnosis, statement: ir.Assign) -> str | None:
    """Describe a statement if it is the one that fails, else return None."""
    node, graph = statement.value, found.graph
    line = f"(line {statement.loc.line})"
    fails = found.type_of(statement.target) is None
    if isinstance(node, ir.Global) and isinstance(node.value, ir.UndefinedType):
        return f"the name {node.name!r} is not defined {line}"
    if not isinstance(node, ir.Expr):
        is_global = isinstance(node, ir.Global | ir.FreeVar)
        return f"{node.name} is not available {line}" if fails and is_global else None
    operands = [found.type_of(each) for each in _operands(node)]
    called = constant_of(graph, node.func) if node.op == "call" else None
    on_lanes = any(isinstance(each, _LANES) for each in operands)
    if on_lanes and (called is bool or (node.op == "unary" and "not" in str(node.fn))):
        names = dict.fromkeys(found.depends_on(_operands(node)[0], set()))
        on = " and ".join(each for each in found.arguments if each in names) or "x"
        return f"a kernel cannot branch on {on} {line}: use fa.math.where(condition, a, b)"
    if on_lanes and called is not None and _is_foreign(called):
        text = text_of(graph, node.func)
        return f"{text} is not available in a kernel {line}: dir(fa.math) lists what is"
    if not fails or None in operands:
        return None
    if node.op in ("getattr", "getitem", "static_getitem", "getiter") and on_lanes:
        asked = f"attribute {node.attr!r}" if node.op == "getattr" else "elements"
        return f"a kernel computes one element: {text_of(graph, node.value)} has no {asked} {line}"
    if node.op in ("binop", "inplace_binop", "unary") and on_lanes:
        name = node.fn.__name__
        name = name[1:] if node.op == "inplace_binop" else name
        return f"the operator {_SYMBOLS.get(name, name)} is not available between these operands {line}"
    if isinstance(called, FunctionType) and not _is_own(called) and not _is_library(called):
        said = _describe_call(called, operands, dict(node.kws))
        if said is not None:
            return said
    if called is not None and not isinstance(called, Function):
        name = getattr(called, "__name__", "")
        if name == "exception_match":
            return f"a kernel cannot catch exceptions {line}"
        return f"{text_of(graph, node.func)} does not take these arguments in a kernel {line}"
    for error in found.errors:
        if error.loc is not None and error.loc.line == statement.loc.line:
            return first_line(error)
    return None


def _operands(node: ir.Expr) -> list[ir.Var]:
    """Return the operands of an expression, without the function that it calls."""
    if node.op == "call":
        return [*node.args, *(value for _, value in node.kws)]
    if node.op == "phi":
        return []
    return list(node.list_vars())


def _is_own(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("fastact.")


def _is_library(called: Any) -> bool:
    module = str(getattr(called, "__module__", None) or type(called).__module__)
    return module.partition(".")[0] in ("builtins", "cmath", "math", "numpy", "scipy")


def _is_foreign(called: Any) -> bool:
    """Whether it is a library function that is not defined on vectors."""
    is_known = any(called is each for each in (abs, pow, *OFFERED))
    return _is_library(called) and not is_known and not hasattr(called, "fastact_function")


def _describe_call(
    called: FunctionType, operands: list[Any], keywords: dict[str, Any]
) -> str | None:
    """Say what is wrong in a called function."""
    count = len(operands) - len(keywords)
    given = dict(zip(keywords, operands[count:], strict=True))
    signature = inspect.signature(called)
    try:
        bound = signature.bind(*operands[:count], **given).arguments
    except TypeError as error:
        return f"{called.__name__}: {error}"
    kinds = [
        bound[name] if name in bound else typeof(parameter.default)
        for name, parameter in signature.parameters.items()
    ]
    said = diagnose(called, tuple(kinds))
    return said and f"{called.__name__}: {said}"


_UNTYPED = re.compile(r"Untyped global name '(\w+)'")
_NOT_UNIFIED = re.compile(r"Cannot unify .* and .* for '(\w+)")


def first_line(error: Any) -> str:
    """Return the first line of Numba's message, and its position."""
    text = str(error).removeprefix("Failed in nopython mode pipeline (step: nopython frontend)")
    lines = [each.strip() for each in text.splitlines() if each.strip()]
    loc = getattr(error, "loc", None)
    place = f" (line {loc.line})" if loc is not None else ""
    mixed = _NOT_UNIFIED.match(lines[0]) if lines else None
    if mixed:
        return f"{mixed[1]} is a number first and later depends on x{place}: start from 0 * x"
    untyped = _UNTYPED.match(lines[0]) if lines else None
    if untyped:
        return f"{untyped[1]} is not available in a kernel{place}"
    return f"{lines[0]}{place}" if lines else f"{type(error).__name__}{place}"
