"""The evaluation of a function's syntax tree."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types

from fastact import simd
from fastact.simd.differentiation import Dual
from fastact.simd.lowering import OPERATIONS, OVERLOADS, Mask, Vector
from fastact.simd.staged import scalars
from fastact.simd.staged.syntax import assigned_in, tree_of
from fastact.simd.staged.values import (
    CONTEXT,
    UnsupportedError,
    Value,
    at_run_time,
    converted,
    is_known,
    kind_of,
    llvm_of,
    lowered,
    mapped,
    raised,
    unified,
)

_BINARY: dict[type[ast.AST], Any] = {
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
# Loops over known ranges up to this length are unrolled.
_UNROLLED = 64
# Python's functions that are called where all arguments are known.
_PURE: tuple[Any, ...] = (abs, bool, float, int, len, max, min, range, tuple)

_Names = dict[str, Any]


class State(NamedTuple):
    """A point that control flow leaves, before its branch: the variables, and the block."""

    names: _Names
    block: Any


class _Loop(NamedTuple):
    """The points where iterations of a loop end."""

    continued: list[State]
    broken: list[State]


class _PromotedError(Exception):
    """A variable of a loop that needs other types than it starts with."""

    def __init__(self, name: str, kind: Any) -> None:
        super().__init__(name)
        self.name, self.kind = name, kind


_RESULT = "return"


class Evaluator:
    """The evaluation of one function's code in an LLVM function, into which all that it calls is inlined.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where code goes.
    outline : callable
        Emits a call of a function that is not to be inlined: ``outline(evaluator, function, arguments)``.
    """

    def __init__(self, builder: ir.IRBuilder, outline: Callable[..., Any]) -> None:
        self.builder = builder
        self._outline = outline

    # --- Calls ------------------------------------------------------------------------------------

    def call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        """Call a function with values; return its result."""
        if keywords and not isinstance(function, FunctionType):
            raise UnsupportedError(f"{function} with keywords")
        if isinstance(function, FunctionType):
            special = self._special(function, arguments)
            if special is not None:
                return special
            rule = simd.DERIVATIVE_RULES.get(function)
            if rule and any(isinstance(kind_of(each), Dual) for each in arguments):
                function = rule
            return self._inlined(function, arguments, keywords)
        of_python = getattr(function, "py_func", None)
        if of_python is not None:
            is_outlined = getattr(function, "is_outlined", False)
            return self._outline(self, of_python, arguments) if is_outlined else self.call(of_python, *arguments)
        if hasattr(function, "_defn"):  # an intrinsic
            return self._intrinsic(function, arguments)
        if isinstance(function, type) and issubclass(function, tuple) and hasattr(function, "_fields"):
            return function(*arguments)
        if function in _PURE and all(map(is_known, arguments)):
            return function(*arguments)
        if function is len:
            return len(arguments[0])
        special = self._special(function, arguments)
        if special is not None:
            return special
        if function in scalars.FUNCTIONS:
            return scalars.FUNCTIONS[function](self.builder, *arguments)
        raise UnsupportedError(f"a call of {function}")

    def _special(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Call an operation on vectors, in whose place it may stand."""
        if function not in OPERATIONS and function not in OVERLOADS:
            return None
        kinds = tuple(map(kind_of, arguments))
        for typed, emit in OPERATIONS.get(function, ()):
            signature = typed(kinds)
            if signature:
                return self._emitted(emit, signature, arguments, kinds)
        for choose, prefers_literals in OVERLOADS.get(function, ()):
            chosen = choose(*(map(_literal, arguments, kinds) if prefers_literals else kinds))
            if chosen is not None:
                return self._inlined(chosen, arguments, {})
        return None

    def _intrinsic(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        kinds = tuple(map(kind_of, arguments))
        found = function._defn(None, *kinds)
        if not found or found[0] is None:
            raise UnsupportedError(f"{function} of {kinds}")
        signature, emit = found
        return self._emitted(emit, signature, arguments, kinds)

    def _emitted(self, emit: Any, signature: Any, arguments: Any, kinds: Any) -> Any:
        values = []
        for argument, kind, wanted in zip(arguments, kinds, signature.args, strict=True):
            is_number = isinstance(wanted, types.Number | types.Boolean)
            converts = is_number and kind != wanted
            values.append(converted(self.builder, argument, wanted) if converts else lowered(self.builder, argument))
        result = emit(CONTEXT, self.builder, signature, values)
        return raised(self.builder, signature.return_type, result)

    def _inlined(self, function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return _Frame(self, function).run(arguments, keywords)

    # --- Control flow -----------------------------------------------------------------------------

    def here(self, names: _Names) -> State:
        """Return the point that has been reached."""
        return State(dict(names), self.builder.block)

    def join(self, states: list[State]) -> _Names:
        """Go on where several points meet, with the variables that all of them have."""
        if len(states) == 1:
            self.builder.position_at_end(states[0].block)
            return states[0].names
        first, *others = states
        shared = [name for name in first.names if all(name in each.names for each in others)]
        same = [name for name in shared if all(_is_same(first.names[name], each.names[name]) for each in others)]
        names = {name: first.names[name] for name in same}
        kinds = {}
        for name in shared:
            if name not in names:
                kinds[name] = self._kind_of_join([each.names[name] for each in states])
        kinds = {name: kind for name, kind in kinds.items() if kind is not None}
        join = self.builder.append_basic_block("join")
        incoming: list[tuple[dict[str, Any], Any]] = []
        for each in states:
            self.builder.position_at_end(each.block)
            values = {name: converted(self.builder, each.names[name], kind) for name, kind in kinds.items()}
            incoming.append((values, self.builder.block))
            self.builder.branch(join)
        self.builder.position_at_end(join)
        for name, kind in kinds.items():
            names[name] = phi = self.phi(kind)
            for values, block in incoming:
                add_incoming(phi, values[name], block)
        return names

    def _kind_of_join(self, values: list[Any]) -> Any:
        """Return the types of a variable where branches meet; None if it is not to be used afterwards."""
        kinds = list(map(at_run_time, values))
        if None in kinds:
            return None
        first, *others = kinds
        for each in others:
            try:
                first = unified(first, each)
            except UnsupportedError:
                return None
        return first

    def phi(self, kind: Any) -> Any:
        """Return a value of given types that depends on where control comes from."""
        if isinstance(kind, tuple):
            return mapped(self.phi, kind)
        return Value(kind, self.builder.phi(llvm_of(kind)))

    def branch(self, condition: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]) -> None:
        """Run two continuations behind a condition of the machine."""
        yes, no = (self.builder.append_basic_block(each) for each in ("then", "else"))
        self.builder.cbranch(condition, yes, no)
        for block, run in ((yes, if_true), (no, if_false)):
            self.builder.position_at_end(block)
            run()

    def condition(self, value: Any) -> Any:
        """Return a value as a condition: a bool, or that of the machine."""
        if is_known(value):
            return bool(value)
        if not isinstance(value, Value) or isinstance(value.kind, Vector | Mask):
            raise UnsupportedError(f"a branch on {value}")
        return scalars.truth(self.builder, value)


def add_incoming(phi: Any, value: Any, block: Any) -> None:
    """Tell a phi, or a tuple of them, its value from a block."""
    if isinstance(phi, tuple):
        for part, each in zip(phi, value, strict=True):
            add_incoming(part, each, block)
    else:
        phi.llvm.add_incoming(value, block)


def _literal(value: Any, kind: types.Type) -> types.Type:
    return types.literal(value) if isinstance(value, int) else kind


def _is_same(x: Any, y: Any) -> bool:
    """Return whether two values are one."""
    if x is y:
        return True
    if isinstance(x, Value) and isinstance(y, Value):
        return x.kind == y.kind and x.llvm is y.llvm
    if isinstance(x, tuple) and isinstance(y, tuple):
        return len(x) == len(y) and all(map(_is_same, x, y))
    numbers = (bool, int)  # not floats: 0.0 == -0.0
    return isinstance(x, numbers) and isinstance(y, numbers) and type(x) is type(y) and x == y


class _Frame:
    """The evaluation of one call."""

    def __init__(self, evaluator: Evaluator, function: FunctionType) -> None:
        self._evaluator = evaluator
        self._builder = evaluator.builder
        self._function = function
        self._tree = tree_of(function)
        self._names: _Names = {}
        self._is_reachable = True
        self._returned: list[State] = []
        self._loops: list[_Loop] = []

    def run(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Return the result for given arguments."""
        self._names = self._bound(arguments, keywords)
        if isinstance(self._tree, ast.Lambda):
            return self._value(self._tree.body)
        self._run_all(self._tree.body)
        if self._is_reachable:
            self._return(None)
        return self._evaluator.join(self._returned)[_RESULT]

    def _bound(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> _Names:
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
            run = getattr(self, f"_run_{type(statement).__name__}", None)
            if run is None:
                raise UnsupportedError(f"{type(statement).__name__} in {self._function.__name__}")
            run(statement)

    def _run_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self._value(node.value)

    def _run_Pass(self, node: ast.Pass) -> None:
        pass

    def _run_Assert(self, node: ast.Assert) -> None:
        pass  # for type checkers

    def _run_Assign(self, node: ast.Assign) -> None:
        value = self._value(node.value)
        for target in node.targets:
            self._assign(target, value)

    def _run_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign(node.target, self._value(node.value))

    def _run_AugAssign(self, node: ast.AugAssign) -> None:
        before = self._value(_as_load(node.target))
        self._assign(node.target, self._binary(_BINARY[type(node.op)], before, self._value(node.value)))

    def _assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name():
                self._names[target.id] = value
            case ast.Tuple():
                for each, part in zip(target.elts, value, strict=True):
                    self._assign(each, part)
            case ast.Subscript():
                pointer, index = self._value(target.value), self._value(target.slice)
                self._builder.store(converted(self._builder, value, _pointed(pointer)), self._at(pointer, index))
            case _:
                raise UnsupportedError(f"an assignment to {ast.unparse(target)}")

    def _at(self, pointer: Value, index: Any) -> Any:
        return self._builder.gep(pointer.llvm, [converted(self._builder, index, types.int64)])

    def _run_Return(self, node: ast.Return) -> None:
        self._return(None if node.value is None else self._value(node.value))

    def _return(self, value: Any) -> None:
        self._returned.append(State({_RESULT: value}, self._builder.block))
        self._is_reachable = False

    def _run_Break(self, node: ast.Break) -> None:
        self._loops[-1].broken.append(self._here())
        self._is_reachable = False

    def _run_Continue(self, node: ast.Continue) -> None:
        self._loops[-1].continued.append(self._here())
        self._is_reachable = False

    def _here(self) -> State:
        return self._evaluator.here(self._names)

    def _join(self, states: list[State]) -> None:
        """Go on where these points meet, if there are any."""
        self._is_reachable = bool(states)
        if states:
            self._names = self._evaluator.join(states)

    def _run_If(self, node: ast.If) -> None:
        condition = self._evaluator.condition(self._value(node.test))
        if isinstance(condition, bool):
            self._run_all(node.body if condition else node.orelse)
            return
        before, ends = dict(self._names), []

        def run(body: list[ast.stmt]) -> None:
            self._names, self._is_reachable = dict(before), True
            self._run_all(body)
            if self._is_reachable:
                ends.append(self._here())

        self._evaluator.branch(condition, lambda: run(node.body), lambda: run(node.orelse))
        self._join(ends)

    def _run_For(self, node: ast.For) -> None:
        iterated = self._iterated(node.iter)
        if isinstance(iterated, Value | tuple) and not isinstance(iterated, tuple):
            raise UnsupportedError(f"a loop over {iterated}")
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
            self._loops.append(_Loop([], broken))
            self._run_all(node.body)
            continued = self._loops.pop().continued
            self._join(continued + ([self._here()] if self._is_reachable else []))
            if not self._is_reachable:
                break
        self._join(broken + ([self._here()] if self._is_reachable else []))

    def _run_range(self, node: ast.For, over: _Range) -> None:
        assert isinstance(node.target, ast.Name)
        counter = f"counter of {node.lineno}"
        stop = Value(types.int64, converted(self._builder, over.stop, types.int64))
        self._names[counter] = Value(types.int64, converted(self._builder, over.start, types.int64))

        def test() -> Any:
            compare = operator.lt if over.step > 0 else operator.gt
            return scalars.binary(self._builder, compare, self._names[counter], stop)

        def body() -> None:
            self._names[node.target.id] = self._names[counter]
            self._run_all(node.body)

        def advance() -> None:
            self._names[counter] = scalars.binary(self._builder, operator.add, self._names[counter], over.step)

        self._repeat((*assigned_in(node), counter), test, body, advance)
        self._names.pop(counter, None)

    def _run_While(self, node: ast.While) -> None:
        self._repeat(assigned_in(node), lambda: self._value(node.test), lambda: self._run_all(node.body), lambda: None)

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
            except _PromotedError as promoted:
                kinds[promoted.name] = promoted.kind
                del function.blocks[blocks:], self._loops[loops:]
                del start.block.instructions[instructions:], self._returned[returned:]
                start.block.terminator = None
                self._builder.position_at_end(start.block)

    def _run_loop(self, start: State, kinds: _Names, test: Any, body: Any, advance: Any) -> None:
        builder = self._builder
        entering = {name: converted(builder, start.names[name], kind) for name, kind in kinds.items() if kind is not None}
        entry, header = builder.block, builder.append_basic_block("loop")
        builder.branch(header)
        builder.position_at_end(header)
        self._names = dict(start.names)
        phis = {name: self._evaluator.phi(kinds[name]) for name in entering}
        for name, phi in phis.items():
            add_incoming(phi, entering[name], entry)
        self._names |= phis

        self._is_reachable = True
        loop, ended = _Loop([], []), []
        condition = self._evaluator.condition(test())
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
            for name, phi in phis.items():
                kind = unified(kinds[name], at_run_time(self._names[name]))
                if kind != kinds[name]:
                    raise _PromotedError(name, kind)
                add_incoming(phi, converted(builder, self._names[name], kind), builder.block)
            for name, kind in kinds.items():
                if kind is None and not _is_same(self._names[name], start.names[name]):
                    raise UnsupportedError(f"{name} changes in a loop")
            builder.branch(header)
        self._join(ended + loop.broken)

    # --- Expressions ------------------------------------------------------------------------------

    def _value(self, node: ast.expr) -> Any:
        evaluate = getattr(self, f"_of_{type(node).__name__}", None)
        if evaluate is None:
            raise UnsupportedError(f"{type(node).__name__} in {self._function.__name__}")
        return evaluate(node)

    def _of_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def _of_Name(self, node: ast.Name) -> Any:
        if node.id in self._names:
            return self._names[node.id]
        code, closure = self._function.__code__, self._function.__closure__ or ()
        if node.id in code.co_freevars:
            return closure[code.co_freevars.index(node.id)].cell_contents
        found = self._function.__globals__.get(node.id, _BUILTINS.get(node.id, _BUILTINS))
        if found is _BUILTINS:
            raise UnsupportedError(f"{node.id} in {self._function.__name__}")
        return found

    def _of_Attribute(self, node: ast.Attribute) -> Any:
        of = self._value(node.value)
        if isinstance(of, Value):
            raise UnsupportedError(f"{node.attr} of {of.kind}")
        return getattr(of, node.attr)

    def _of_Tuple(self, node: ast.Tuple) -> Any:
        return tuple(self._listed(node.elts))

    def _listed(self, nodes: list[ast.expr]) -> Iterator[Any]:
        for each in nodes:
            if isinstance(each, ast.Starred):
                yield from self._value(each.value)
            else:
                yield self._value(each)

    def _of_Subscript(self, node: ast.Subscript) -> Any:
        of = self._value(node.value)
        if isinstance(node.slice, ast.Slice):
            bounds = [each and self._value(each) for each in (node.slice.lower, node.slice.upper, node.slice.step)]
            return of[slice(*bounds)]
        index = self._value(node.slice)
        if isinstance(of, Value):
            return Value(_pointed(of), self._builder.load(self._at(of, index)))
        if not is_known(index):
            raise UnsupportedError("a tuple at an index of the machine")
        return of[index]

    def _of_Call(self, node: ast.Call) -> Any:
        function, arguments = self._value(node.func), list(self._listed(node.args))
        keywords = {str(each.arg): self._value(each.value) for each in node.keywords}
        return self._evaluator.call(function, *arguments, **keywords)

    def _of_BinOp(self, node: ast.BinOp) -> Any:
        return self._binary(_BINARY[type(node.op)], self._value(node.left), self._value(node.right))

    def _binary(self, function: Any, x: Any, y: Any) -> Any:
        if isinstance(x, tuple) and isinstance(y, tuple) and function is operator.add:
            return tuple(x) + tuple(y)
        if is_known(x) and is_known(y) and not isinstance(x, simd.PerDtype) and not isinstance(y, simd.PerDtype):
            return function(x, y)
        found = self._evaluator._special(function, (x, y))
        return scalars.binary(self._builder, function, x, y) if found is None else found

    def _of_UnaryOp(self, node: ast.UnaryOp) -> Any:
        function, x = _UNARY[type(node.op)], self._value(node.operand)
        if is_known(x):
            return function(x)
        found = self._evaluator._special(function, (x,))
        return scalars.unary(self._builder, function, x) if found is None else found

    def _of_Compare(self, node: ast.Compare) -> Any:
        left, result = self._value(node.left), None
        for symbol, right_node in zip(node.ops, node.comparators, strict=True):
            right = self._value(right_node)
            compared = self._binary(_COMPARE[type(symbol)], left, right)
            result = compared if result is None else self._binary(operator.and_, result, compared)
            left = right
        return result

    def _of_BoolOp(self, node: ast.BoolOp) -> Any:
        is_and, (first, *others) = isinstance(node.op, ast.And), node.values
        result = self._value(first)
        for each in others:
            result = self._chosen(result, (lambda each=each: self._value(each)), None, is_and, result)
        return result

    def _of_IfExp(self, node: ast.IfExp) -> Any:
        test = self._value(node.test)
        return self._chosen(test, lambda: self._value(node.body), lambda: self._value(node.orelse), True, None)

    def _chosen(self, test: Any, then: Any, otherwise: Any, if_true: bool, default: Any) -> Any:
        """Return one of two values: `then` if the test is as `if_true` says."""
        condition = self._evaluator.condition(test)
        otherwise = otherwise or (lambda: default)
        if isinstance(condition, bool):
            return then() if condition == if_true else otherwise()
        before, ends = dict(self._names), []

        def run(value: Any) -> None:
            self._names = dict(before)
            found = value()
            ends.append(State({_RESULT: found}, self._builder.block))

        pair = (then, otherwise) if if_true else (otherwise, then)
        self._evaluator.branch(condition, lambda: run(pair[0]), lambda: run(pair[1]))
        joined = self._evaluator.join(ends)
        self._names = before
        if _RESULT not in joined:
            raise UnsupportedError("a choice between values of two types")
        return joined[_RESULT]


class _Range(NamedTuple):
    """A range that the machine runs over."""

    start: Any
    stop: Any
    step: int


def _pointed(pointer: Any) -> types.Type:
    if not isinstance(pointer, Value) or not isinstance(pointer.kind, types.CPointer):
        raise UnsupportedError("an element of something else than memory")
    return pointer.kind.dtype


def _as_load(target: ast.expr) -> ast.expr:
    """Return the target of an assignment as an expression."""
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    assert isinstance(target, ast.Subscript)
    return ast.Subscript(target.value, target.slice, ast.Load())


_BUILTINS: dict[str, Any] = vars(__import__("builtins"))
