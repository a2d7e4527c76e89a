"""Control flow of staged code: points, and variables where they meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastact.simd.lowering import Mask, Vector
from fastact.simd.staged import scalars
from fastact.simd.staged.values import (
    UnsupportedError,
    Value,
    at_run_time,
    converted,
    is_known,
    is_same,
    llvm_of,
    mapped,
    unified,
)

Names = dict[str, Any]


class State(NamedTuple):
    """A point that control flow leaves, before its branch: the variables, and the block."""

    names: Names
    block: Any


class Loop(NamedTuple):
    """The points where iterations of a loop end."""

    continued: list[State]
    broken: list[State]


class PromotedError(Exception):
    """A variable of a loop that needs other types than it starts with."""

    def __init__(self, name: str, kind: Any) -> None:
        super().__init__(name)
        self.name, self.kind = name, kind


def condition_of(builder: Any, value: Any) -> Any:
    """Return a value as a condition: a bool, or that of the machine."""
    if is_known(value):
        return bool(value)
    if not isinstance(value, Value) or isinstance(value.kind, Vector | Mask):
        raise UnsupportedError(f"a branch on {value}")
    return scalars.truth(builder, value)


def branch(
    builder: Any, condition: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]
) -> None:
    """Emit two continuations behind a condition of the machine."""
    yes, no = (builder.append_basic_block(each) for each in ("then", "else"))
    builder.cbranch(condition, yes, no)
    for block, emit in ((yes, if_true), (no, if_false)):
        builder.position_at_end(block)
        emit()


def phi(builder: Any, kind: Any) -> Any:
    """Return a value of given types that depends on where control comes from."""
    if isinstance(kind, tuple):
        return mapped(lambda part: phi(builder, part), kind)
    return Value(kind, builder.phi(llvm_of(kind)))


def add_incoming(to: Any, value: Any, block: Any) -> None:
    """Tell a phi, or a tuple of them, its value from a block."""
    if isinstance(to, tuple):
        for part, each in zip(to, value, strict=True):
            add_incoming(part, each, block)
    else:
        to.llvm.add_incoming(value, block)


def join(builder: Any, states: list[State]) -> Names:
    """Go on where several points meet; return the variables that all of them have."""
    first, *others = states
    if not others:
        builder.position_at_end(first.block)
        return first.names
    names, kinds = {}, {}
    for name, value in first.names.items():
        found = [each.names[name] for each in others if name in each.names]
        if len(found) < len(others):
            continue
        if all(is_same(value, each) for each in found):
            names[name] = value
        else:
            kinds[name] = _common_kind([value, *found])
    kinds = {name: kind for name, kind in kinds.items() if kind is not None}
    block, incoming = builder.append_basic_block("join"), []
    for each in states:
        builder.position_at_end(each.block)
        values = {name: converted(builder, each.names[name], kind) for name, kind in kinds.items()}
        incoming.append((values, builder.block))
        builder.branch(block)
    builder.position_at_end(block)
    for name, kind in kinds.items():
        names[name] = phi(builder, kind)
        for values, origin in incoming:
            add_incoming(names[name], values[name], origin)
    return names


def _common_kind(values: list[Any]) -> Any:
    """Return the types of a variable where branches meet; None if nothing may use it afterwards."""
    first, *others = map(at_run_time, values)
    for each in others:
        if first is None or each is None:
            return None
        try:
            first = unified(first, each)
        except UnsupportedError:
            return None
    return first
