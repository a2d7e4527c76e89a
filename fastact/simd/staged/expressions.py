"""The expressions of a function's syntax tree."""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Iterator
from functools import singledispatchmethod
from types import FunctionType
from typing import Any

from numba.core import types

from fastact.simd.staged import calls
from fastact.simd.staged.flow import Names, State, branch, condition_of, join
from fastact.simd.staged.values import UnsupportedError, Value, converted, is_known

BINARY: dict[type[ast.AST], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type[ast.AST], Any] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
_COMPARE: dict[type[ast.AST], Any] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
#: The name of the result of a branch.
RESULT = "return"
_BUILTINS: dict[str, Any] = vars(builtins)


class Expressions:
    """The evaluation of a function's expressions.

    Parameters
    ----------
    code : Code
        Where code goes.
    function : function
        The function, for its globals and closure.
    """

    def __init__(self, code: calls.Code, function: FunctionType) -> None:
        self._code = code
        self._builder = code.builder
        self._function = function
        self._names: Names = {}

    @singledispatchmethod
    def _value(self, node: ast.expr) -> Any:
        """Return the value of an expression."""
        raise UnsupportedError(f"{type(node).__name__} in {self._function.__name__}")

    @_value.register
    def _(self, node: ast.Constant) -> Any:
        return node.value

    @_value.register
    def _(self, node: ast.Name) -> Any:
        if node.id in self._names:
            return self._names[node.id]
        code, closure = self._function.__code__, self._function.__closure__ or ()
        if node.id in code.co_freevars:
            return closure[code.co_freevars.index(node.id)].cell_contents
        if node.id in code.co_varnames:
            raise UnsupportedError(f"{node.id} may be undefined in {self._function.__name__}")
        found = self._function.__globals__.get(node.id, _BUILTINS.get(node.id, _BUILTINS))
        if found is _BUILTINS:
            raise UnsupportedError(f"{node.id} in {self._function.__name__}")
        return found

    @_value.register
    def _(self, node: ast.Attribute) -> Any:
        of = self._value(node.value)
        if isinstance(of, Value):
            raise UnsupportedError(f"{node.attr} of {of.kind}")
        return getattr(of, node.attr)

    @_value.register
    def _(self, node: ast.Tuple) -> Any:
        return tuple(self._listed(node.elts))

    def _listed(self, nodes: list[ast.expr]) -> Iterator[Any]:
        for each in nodes:
            if isinstance(each, ast.Starred):
                yield from self._value(each.value)
            else:
                yield self._value(each)

    @_value.register
    def _(self, node: ast.Subscript) -> Any:
        of = self._value(node.value)
        if isinstance(node.slice, ast.Slice):
            bounds = [
                each and self._value(each)
                for each in (node.slice.lower, node.slice.upper, node.slice.step)
            ]
            return of[slice(*bounds)]
        index = self._value(node.slice)
        if isinstance(of, Value):
            return Value(pointed(of), self._builder.load(self._at(of, index)))
        if not is_known(index):
            raise UnsupportedError("a tuple at an index of the machine")
        return of[index]

    @_value.register
    def _(self, node: ast.Call) -> Any:
        function, arguments = self._value(node.func), list(self._listed(node.args))
        keywords = {str(each.arg): self._value(each.value) for each in node.keywords}
        return calls.call(self._code, function, tuple(arguments), keywords)

    @_value.register
    def _(self, node: ast.BinOp) -> Any:
        return calls.binary(
            self._code, BINARY[type(node.op)], self._value(node.left), self._value(node.right)
        )

    @_value.register
    def _(self, node: ast.UnaryOp) -> Any:
        return calls.unary(self._code, _UNARY[type(node.op)], self._value(node.operand))

    @_value.register
    def _(self, node: ast.Compare) -> Any:
        left, result = self._value(node.left), None
        for symbol, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._value(right_node)
            compared = calls.binary(self._code, _COMPARE[type(symbol)], left, right)
            result = (
                compared
                if result is None
                else calls.binary(self._code, operator.and_, result, compared)
            )
            left = right
        return result

    @_value.register
    def _(self, node: ast.BoolOp) -> Any:
        is_and, (first, *others) = isinstance(node.op, ast.And), node.values
        result = self._value(first)
        for each in others:
            result = self._chosen(
                result, (lambda each=each: self._value(each)), None, is_and, result
            )
        return result

    @_value.register
    def _(self, node: ast.IfExp) -> Any:
        test = self._value(node.test)
        return self._chosen(
            test, lambda: self._value(node.body), lambda: self._value(node.orelse), True, None
        )

    def _chosen(self, test: Any, then: Any, otherwise: Any, if_true: bool, default: Any) -> Any:
        """Return one of two values: `then` if the test is as `if_true` says."""
        condition = condition_of(self._builder, test)
        otherwise = otherwise or (lambda: default)
        if isinstance(condition, bool):
            return then() if condition == if_true else otherwise()
        before, ends = dict(self._names), []

        def run(value: Any) -> None:
            self._names = dict(before)
            found = value()
            ends.append(State({RESULT: found}, self._builder.block))

        pair = (then, otherwise) if if_true else (otherwise, then)
        branch(self._builder, condition, lambda: run(pair[0]), lambda: run(pair[1]))
        joined = join(self._builder, ends)
        self._names = before
        if RESULT not in joined:
            raise UnsupportedError("a choice between values of two types")
        return joined[RESULT]

    def _at(self, pointer: Value, index: Any) -> Any:
        return self._builder.gep(pointer.llvm, [converted(self._builder, index, types.int64)])


def pointed(pointer: Any) -> types.Type:
    """Return the type of what a pointer points to."""
    if not isinstance(pointer, Value) or not isinstance(pointer.kind, types.CPointer):
        raise UnsupportedError("an element of something else than memory")
    return pointer.kind.dtype
