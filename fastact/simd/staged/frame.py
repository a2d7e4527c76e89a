"""The evaluation of a call: the statements of a function's syntax tree."""

from __future__ import annotations

import ast
import operator
from functools import singledispatchmethod
from types import FunctionType
from typing import Any, NamedTuple

from numba.core import types

from fastact.simd.staged import calls, scalars
from fastact.simd.staged.calls import Code
from fastact.simd.staged.expressions import BINARY, RESULT, Expressions, pointed
from fastact.simd.staged.flow import (
    Loop,
    Names,
    PromotedError,
    State,
    add_incoming,
    branch,
    condition_of,
    join,
    phi,
)
from fastact.simd.staged.syntax import assigned_in, tree_of
from fastact.simd.staged.values import (
    UnsupportedError,
    Value,
    at_run_time,
    converted,
    is_known,
    is_same,
    unified,
)

# Loops over known ranges up to this length are unrolled.
_UNROLLED = 64


class Frame(Expressions):
    """The evaluation of one call."""

    def __init__(self, code: Code, function: FunctionType) -> None:
        super().__init__(code, function)
        self._tree = tree_of(function)
        self._is_reachable = True
        self._returned: list[State] = []
        self._loops: list[Loop] = []

    def run(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Return the result for given arguments."""
        self._names = self._bound(arguments, keywords)
        if isinstance(self._tree, ast.Lambda):
            return self._value(self._tree.body)
        self._run_all(self._tree.body)
        if self._is_reachable:
            self._return(None)
        return join(self._builder, self._returned)[RESULT]

    def _bound(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Names:
        taken, function = self._tree.args, self._function
        names = [each.arg for each in (*taken.posonlyargs, *taken.args)]
        defaults = function.__defaults__ or ()
        bound = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
        bound |= dict(zip(names, arguments, strict=False)) | keywords
        if taken.vararg is not None:
            bound[taken.vararg.arg] = tuple(arguments[len(names) :])
        elif len(arguments) > len(names) or len(bound) != len(names):
            raise UnsupportedError(f"{len(arguments)} arguments of {function.__name__}")
        if taken.kwonlyargs or taken.kwarg:
            raise UnsupportedError(f"keywords of {function.__name__}")
        return bound

    # --- Statements -------------------------------------------------------------------------------

    def _run_all(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if not self._is_reachable:
                return
            self._run(statement)

    @singledispatchmethod
    def _run(self, node: ast.stmt) -> None:
        """Run a statement."""
        raise UnsupportedError(f"{type(node).__name__} in {self._function.__name__}")

    @_run.register
    def _(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self._value(node.value)

    @_run.register
    def _(self, node: ast.Pass) -> None:
        pass

    @_run.register
    def _(self, node: ast.Assert) -> None:
        pass  # for type checkers

    @_run.register
    def _(self, node: ast.Assign) -> None:
        value = self._value(node.value)
        for target in node.targets:
            self._assign(target, value)

    @_run.register
    def _(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign(node.target, self._value(node.value))

    @_run.register
    def _(self, node: ast.AugAssign) -> None:
        before = self._value(_as_load(node.target))
        self._assign(
            node.target,
            calls.binary(self._code, BINARY[type(node.op)], before, self._value(node.value)),
        )

    def _assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name():
                self._names[target.id] = value
            case ast.Tuple():
                for each, part in zip(target.elts, value, strict=True):
                    self._assign(each, part)
            case ast.Subscript():
                pointer, index = self._value(target.value), self._value(target.slice)
                self._builder.store(
                    converted(self._builder, value, pointed(pointer)), self._at(pointer, index)
                )
            case _:
                raise UnsupportedError(f"an assignment to {ast.unparse(target)}")

    @_run.register
    def _(self, node: ast.Return) -> None:
        self._return(None if node.value is None else self._value(node.value))

    def _return(self, value: Any) -> None:
        self._returned.append(State({RESULT: value}, self._builder.block))
        self._is_reachable = False

    @_run.register
    def _(self, node: ast.Break) -> None:
        self._loops[-1].broken.append(self._here())
        self._is_reachable = False

    @_run.register
    def _(self, node: ast.Continue) -> None:
        self._loops[-1].continued.append(self._here())
        self._is_reachable = False

    def _here(self) -> State:
        return State(dict(self._names), self._builder.block)

    def _join(self, states: list[State]) -> None:
        """Go on where these points meet, if there are any."""
        self._is_reachable = bool(states)
        if states:
            self._names = join(self._builder, states)

    @_run.register
    def _(self, node: ast.If) -> None:
        condition = condition_of(self._builder, self._value(node.test))
        if isinstance(condition, bool):
            self._run_all(node.body if condition else node.orelse)
            return
        before, ends = dict(self._names), []

        def run(body: list[ast.stmt]) -> None:
            self._names, self._is_reachable = dict(before), True
            self._run_all(body)
            if self._is_reachable:
                ends.append(self._here())

        branch(self._builder, condition, lambda: run(node.body), lambda: run(node.orelse))
        self._join(ends)

    @_run.register
    def _(self, node: ast.For) -> None:
        iterated = self._iterated(node.iter)
        if isinstance(iterated, _Range):
            self._run_range(node, iterated)
        else:
            self._run_unrolled(node, iterated)

    def _iterated(self, node: ast.expr) -> Any:
        """Return what a loop runs over: a sequence of values, or a `_Range`."""
        if isinstance(node, ast.Call) and self._value(node.func) is range:
            bounds = [self._value(each) for each in node.args]
            if all(map(is_known, bounds)) and len(range(*bounds)) <= _UNROLLED:
                return range(*bounds)
            start, stop, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
            if not isinstance(step, int):
                raise UnsupportedError("a range with a step of the machine")
            return _Range(start, stop, step)
        sequence = self._value(node)
        if isinstance(sequence, Value):
            raise UnsupportedError(f"a loop over {sequence.kind}")
        return sequence

    def _run_unrolled(self, node: ast.For, sequence: Any) -> None:
        broken: list[State] = []
        for item in sequence:
            self._assign(node.target, item)
            self._loops.append(Loop([], broken))
            self._run_all(node.body)
            continued = self._loops.pop().continued
            self._join(continued + ([self._here()] if self._is_reachable else []))
            if not self._is_reachable:
                break
        self._join(broken + ([self._here()] if self._is_reachable else []))

    def _run_range(self, node: ast.For, over: _Range) -> None:
        assert isinstance(node.target, ast.Name)
        name, counter = node.target.id, f"counter of {node.lineno}"
        stop = Value(types.int64, converted(self._builder, over.stop, types.int64))
        self._names[counter] = Value(types.int64, converted(self._builder, over.start, types.int64))

        def test() -> Any:
            compare = operator.lt if over.step > 0 else operator.gt
            return scalars.binary(self._builder, compare, self._names[counter], stop)

        def body() -> None:
            self._names[name] = self._names[counter]
            self._run_all(node.body)

        def advance() -> None:
            self._names[counter] = scalars.binary(
                self._builder, operator.add, self._names[counter], over.step
            )

        self._repeat((*assigned_in(node), counter), test, body, advance)
        self._names.pop(counter, None)

    @_run.register
    def _(self, node: ast.While) -> None:
        self._repeat(
            assigned_in(node),
            lambda: self._value(node.test),
            lambda: self._run_all(node.body),
            lambda: None,
        )

    def _repeat(self, assigned: tuple[str, ...], test: Any, body: Any, advance: Any) -> None:
        """Run a loop; where a variable needs other types than it starts with, once more with these."""
        start = self._here()
        kinds = {name: at_run_time(start.names[name]) for name in assigned if name in start.names}
        function = self._builder.function
        blocks, loops = len(function.blocks), len(self._loops)
        instructions, returned = len(start.block.instructions), len(self._returned)
        while True:
            try:
                self._run_loop(start, kinds, test, body, advance)
                return
            except PromotedError as promoted:
                kinds[promoted.name] = promoted.kind
                del function.blocks[blocks:], self._loops[loops:]
                del start.block.instructions[instructions:], self._returned[returned:]
                start.block.terminator = None
                self._builder.position_at_end(start.block)

    def _run_loop(self, start: State, kinds: Names, test: Any, body: Any, advance: Any) -> None:
        builder = self._builder
        entering = {
            name: converted(builder, start.names[name], kind)
            for name, kind in kinds.items()
            if kind is not None
        }
        entry, header = builder.block, builder.append_basic_block("loop")
        builder.branch(header)
        builder.position_at_end(header)
        self._names = dict(start.names)
        phis = {name: phi(self._builder, kinds[name]) for name in entering}
        for name, value in entering.items():
            add_incoming(phis[name], value, entry)
        self._names |= phis

        self._is_reachable = True
        loop, ended = Loop([], []), []
        condition = condition_of(self._builder, test())
        if isinstance(condition, bool):
            if not condition:
                return
        else:
            inside, outside = (builder.append_basic_block(each) for each in ("body", "end"))
            builder.cbranch(condition, inside, outside)
            ended.append(State(dict(self._names), outside))
            builder.position_at_end(inside)
        self._loops.append(loop)
        body()
        self._loops.pop()
        self._join(loop.continued + ([self._here()] if self._is_reachable else []))
        if self._is_reachable:
            advance()
            for name in phis:
                kind = unified(kinds[name], at_run_time(self._names[name]))
                if kind != kinds[name]:
                    raise PromotedError(name, kind)
                add_incoming(phis[name], converted(builder, self._names[name], kind), builder.block)
            for name, kind in kinds.items():
                if kind is None and not is_same(self._names[name], start.names[name]):
                    raise UnsupportedError(f"{name} changes in a loop")
            builder.branch(header)
        self._join(ended + loop.broken)


class _Range(NamedTuple):
    """A range that the machine runs over."""

    start: Any
    stop: Any
    step: int


def _as_load(target: ast.expr) -> ast.expr:
    """Return the target of an assignment as an expression."""
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    assert isinstance(target, ast.Subscript)
    return ast.Subscript(target.value, target.slice, ast.Load())
