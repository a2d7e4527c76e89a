"""What all user-defined functions share: their sources, errors, copies and pickles."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastact.catalogue.definition import REQUIRED, Definition
from fastact.custom.snapshot import Snapshot
from fastact.functions import Function
from fastact.system.first_use import first_use

if TYPE_CHECKING:
    from fastact.runtime.compiler import NotSelfContainedError


@dataclass(frozen=True, eq=False, repr=False)
class CustomDefinition(Definition):
    """A function that a user wrote.

    Attributes
    ----------
    make : callable
        The decorator that made it.
    metadata : dict of str to Any
        Its keywords.
    """

    make: Callable[..., Function] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def _snapshot(self) -> Snapshot:
        """The source of all kernels; threads that race for it get the same one."""
        found: Snapshot | None = vars(self).get("_snapshot")
        if found is None:
            assert isinstance(self.function, FunctionType)
            found = vars(self).setdefault("_snapshot", Snapshot(self.function))
        return found

    @property
    def on_vectors(self) -> Callable[..., Any]:
        """The function that kernels call: the snapshot's, for which NumPy's functions have a meaning on vectors."""
        from fastact.numba_support import extension, numpy_names  # noqa: F401  registers overloads

        extension.init()
        function: Callable[..., Any] = self._snapshot.function
        return function

    @property
    def module(self) -> str:
        """The function's module, where pickle looks for it."""
        return self.function.__module__

    @cached_property
    def wrapped(self) -> FunctionType:
        """A copy of the function that carries the metadata, under the name by which pickle finds it."""
        function: Any = self.function
        copied = _renamed(function, function.__qualname__ + _WRAPPED)
        vars(copied).update(make=self.make, metadata=self.metadata)
        return copied

    def ufunc_name(self, operation: str) -> str:
        """Return the dotted path from the module to a ufunc."""
        return f"{self.function.__qualname__}.ufuncs.{operation}"

    @first_use()
    def explain(self, error: BaseException) -> str:
        """Say what is wrong with the user's function, and on which line."""
        from fastact.runtime.compiler import NotSelfContainedError, default_settings

        with default_settings():
            if isinstance(error, NotSelfContainedError):
                return self._explain_needs(error)
            from fastact.custom.diagnosis import first_line

            return self._explain_types() or f"{self.name}: {first_line(error)}"

    def _explain_needs(self, error: NotSelfContainedError) -> str:
        """Name the constructs that need Numba's runtime."""
        from fastact.custom.constructs import constructs

        found = constructs(self._snapshot.function, error.symbols)
        return (
            f"{self.name} cannot be compiled: kernels have neither Numba's runtime nor exceptions, which these need: "
            f"{', '.join(dict.fromkeys(found)) or ', '.join(sorted(error.symbols))}"
        )

    def _explain_types(self) -> str | None:
        """Say in one line why the function alone does not compile; None if it does."""
        from numba import njit, types
        from numba.core.errors import NumbaError, UnsupportedBytecodeError

        from fastact.custom.diagnosis import diagnose, first_line
        from fastact.simd.compilable import make_compilable
        from fastact.simd.lowering import Vector

        function = self._snapshot.function
        make_compilable(function)  # and with it the functions that it calls
        dispatcher = njit(function)
        for kinds in self.trials(Vector(types.float32, 0)):
            try:
                dispatcher.compile(kinds)
            except (NumbaError, UnsupportedBytecodeError) as error:
                return f"{self.name}: {diagnose(function, kinds) or first_line(error)}"
            result = dispatcher.overloads[kinds].signature.return_type
            said = self.check_result(result)
            if said:
                return f"{self.name}: {said}"
        return None

    def trials(self, vector: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the types of arguments with which kernels call the function."""
        raise NotImplementedError

    def check_result(self, kind: Any) -> str | None:
        """Say what is wrong with the type of the function's result, if anything."""
        raise NotImplementedError

    @property
    def role(self) -> str:
        """What kernels depend on beside the function."""
        raise NotImplementedError

    def kernel_name(self, loop: str) -> str | None:
        """Return a name that covers all dependencies of the function, or None if they cannot be described."""
        digest = self._snapshot.digest
        return digest and f"custom.{digest}.{self.role}.{loop}"


class CustomFunction(Function):
    """A function that a user wrote, and how it is copied and pickled.

    Pickle finds it as it finds a function: by its name in its module. cloudpickle takes functions by value where that
    name does not serve elsewhere (``__main__``, notebooks, lambdas, nested functions), and decides so from the
    function itself. So what is pickled is a function: `__wrapped__`, which is found under the object's name.
    """

    @property
    def __wrapped__(self) -> FunctionType:
        definition: Any = self._definition
        wrapped: FunctionType = definition.wrapped
        return wrapped

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.__wrapped__, self._bound)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


_WRAPPED = ".__wrapped__"


def _restore(wrapped: FunctionType, bound: dict[str, Any]) -> Function:
    """Return the object in whose module the function was found, or a new one of a function that came by value."""
    name = wrapped.__qualname__.removesuffix(_WRAPPED)
    try:
        found: Any = attrgetter(name)(sys.modules[wrapped.__module__])
    except (AttributeError, KeyError):
        found = None
    if getattr(found, "__wrapped__", None) is not wrapped:
        made_by: Any = wrapped
        found = made_by.make(_renamed(wrapped, name), **made_by.metadata)
    restored: Function = found.bind(**bound)
    return restored


def _renamed(function: FunctionType, qualname: str) -> FunctionType:
    """Copy a function under another qualified name."""
    copied = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__qualname__, copied.__module__ = qualname, function.__module__
    copied.__doc__, copied.__annotations__ = function.__doc__, function.__annotations__
    return copied


def prepare(caller: str, function: Any) -> dict[str, Any]:
    """Return the default of each argument of a user's function, or raise an error if it cannot be compiled."""
    if not isinstance(function, FunctionType):
        raise TypeError(f"{caller}: expected a plain function, got {function!r}")
    found, name = inspect.signature(function).parameters, function.__name__
    if {parameter.kind for parameter in found.values()} != {
        inspect.Parameter.POSITIONAL_OR_KEYWORD
    }:
        raise TypeError(f"{caller}: {name} must take arguments with names of their own")
    for each, use in _TAKEN.items():
        if each in found:
            raise TypeError(f"{caller}: {name} has an argument {each!r}, {use}")
    defaults = {each: parameter.default for each, parameter in found.items()}
    for each, default in defaults.items():
        if default is not REQUIRED and not _is_real(default):
            raise TypeError(
                f"{caller}: the default of {each} in {name} must be a number, got {default!r}"
            )
    return defaults


_TAKEN = {
    "out": "which calls take for results",
    "self": "which methods have: use a staticmethod, or a function outside of the class",
}


def _is_real(value: Any) -> bool:
    """Whether a default is a real number that float64 holds."""
    if isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return isinstance(value, float | np.integer | np.floating | np.bool_)
