"""User-defined elementwise functions of several arrays: a plain Python function becomes one compiled pass."""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, overload

from fastact.arrays.arguments import as_integer
from fastact.catalogue.definition import REQUIRED
from fastact.custom.base import CustomDefinition, CustomFunction, prepare
from fastact.functions import make_function
from fastact.functions.elementwise import ElementwiseDefinition
from fastact.system.numpy_api import MAX_OPERANDS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False, repr=False)
class CustomElementwiseDefinition(CustomDefinition, ElementwiseDefinition):
    """An elementwise function that a user wrote."""

    def trials(self, vector: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the types of arguments with which kernels call the function."""
        from fastact.simd.differentiation import Dual

        rest = [vector] * len(self.parameters)
        yield *[vector] * len(self.arrays), *rest
        yield *[Dual(vector)] * len(self.arrays), *rest

    def check_result(self, kind: Any) -> str | None:
        """Say what is wrong with the type of the function's result, if anything."""
        from numba.core import types

        from fastact.simd.differentiation import Dual, is_constant
        from fastact.simd.lowering import Mask

        if isinstance(kind, types.List):
            return "it returns a list; return a tuple"
        results = list(kind) if isinstance(kind, types.BaseTuple) else [kind]
        if len(results) != self.nout:
            return f"it returns {len(results)} results; pass nout={len(results)} to elementwise"
        if not all(isinstance(each, Dual | Mask) or is_constant(each) for each in results):
            return "its results must be numbers, or depend on its arrays"
        return None

    @property
    def role(self) -> str:
        """The arrays, which have gradients, and the number of results."""
        return f"{','.join(self.arrays)}.{self.nout}"


if TYPE_CHECKING:

    class _Elementwise(CustomFunction):  # at run time, each has a class with methods of its own
        def __call__(self, *arrays: ArrayLike, **options: Any) -> Any: ...
        def backward(self, *arrays: ArrayLike, **options: Any) -> Any: ...
        def forward_backward(self, *arrays: ArrayLike, **options: Any) -> tuple[Any, ...]: ...
        def vjp(self, *arrays: ArrayLike, **options: Any) -> tuple[Any, ...]: ...

else:
    _Elementwise = CustomFunction


class CustomElementwise(_Elementwise):
    """An elementwise function that a user wrote."""


@overload
def elementwise(function: Callable[..., Any], /) -> CustomElementwise: ...


@overload
def elementwise(
    *, nout: int | None = None
) -> Callable[[Callable[..., Any]], CustomElementwise]: ...


def elementwise(function: Any = None, /, *, nout: int | None = None) -> Any:
    """Make a fused elementwise function of several arrays from a function of numbers.

    Parameters
    ----------
    function : callable
        A plain function. Its arguments without a default are arrays, those with one are parameters: numbers, or arrays
        that have no gradient. It computes one element, of what `fastact.activation` lists, and returns one result or a
        tuple of them.
    nout : int, optional
        The number of results. By default it is read off the ``return`` statements, which must then say
        ``return a, b``.

    Returns
    -------
    Function
        ``f(*arrays, **parameters)`` is a NumPy ufunc: arrays broadcast, `out` takes new or existing arrays, which may
        be the inputs themselves. It computes all results in one pass over memory, with SIMD and threads.
        ``y, vjp = f.vjp(*arrays)`` returns the results, and a function from the gradients with respect to them to
        those with respect to each array, summed to its shape; ``f.backward(*dys, *arrays)`` and
        ``f.forward_backward(*arrays, *dys)`` compute the same in one pass. Gradients are those of forward-mode
        automatic differentiation. It pickles like an activation of one's own, and its errors are those of
        `fastact.activation`.

    Raises
    ------
    TypeError
        If `function` is not a plain function, has no array, or its arguments have no names of their own.
    ValueError
        If `nout` is not positive, or the ``return`` statements differ in the number of results.

    Examples
    --------
    >>> @fa.elementwise
    ... def momentum_step(w, gradient, velocity, rate=0.1, momentum=0.9):
    ...     velocity = momentum * velocity - rate * gradient
    ...     return w + velocity, velocity
    >>> w, gradient, velocity = np.ones(3), np.array([1.0, -2.0, 0.0]), np.zeros(3)
    >>> w, velocity = momentum_step(w, gradient, velocity, out=(w, velocity))
    >>> w
    array([0.9, 1.2, 1. ])
    """
    made = partial(_make, nout=nout)
    return made if function is None else made(function)


def _make(function: Any, /, *, nout: int | None = None) -> Any:
    arguments = prepare("elementwise", function)
    arrays = tuple(name for name, default in arguments.items() if default is REQUIRED)
    if not arrays:
        raise TypeError(
            f"elementwise: {function.__name__} takes no array: an argument without a default"
        )
    count = _results_of(function) if nout is None else as_integer("elementwise", "nout", nout)
    if count < 1:
        raise ValueError(f"elementwise: nout must be a positive integer, got {count!r}")
    operands = len(arguments) + count + max(count, len(arrays))
    if operands > MAX_OPERANDS:
        raise ValueError(
            f"elementwise: {function.__name__} needs {operands} operands with its gradients; NumPy's ufuncs have "
            f"{MAX_OPERANDS}"
        )
    definition = CustomElementwiseDefinition(
        function, arrays=arrays, nout=count, make=_make, metadata={"nout": nout}
    )
    return make_function(definition, CustomElementwise)


def _results_of(function: FunctionType) -> int:
    """Return the number of results: the length of the tuple that each ``return`` builds, else 1."""
    counts, before = set(), None
    for each in dis.get_instructions(function):
        if each.opname == "RETURN_VALUE" and before is not None:
            counts.add(before.argval if before.opname == "BUILD_TUPLE" else 1)
        before = each
    if len(counts) > 1:
        raise ValueError(
            f"elementwise: {function.__name__} returns {' or '.join(map(str, sorted(counts)))} results; pass nout="
        )
    return counts.pop() if counts else 1
