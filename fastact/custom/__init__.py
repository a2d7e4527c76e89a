"""User-defined activations: a plain Python function becomes an object like those of the catalogue."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from fastact.catalogue.definition import Definition
from fastact.custom.snapshot import Snapshot
from fastact.functions import Function, make_function
from fastact.functions.fused import max_parameters
from fastact.functions.pointwise import run_elementwise
from fastact.simd import dual, isnan, select, value_and_derivative_of
from fastact.system.first_use import first_use

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastact.runtime.compiler import NotSelfContainedError


@dataclass(frozen=True)
class CustomDefinition(Definition):
    """An activation that a user wrote: its function returns the value, or value and derivative.

    Attributes
    ----------
    metadata : dict of str to Any
        The keywords of `activation`.
    """

    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def _snapshot(self) -> Snapshot:
        """The source of all kernels; threads that race for it get the same one."""
        found: Snapshot | None = vars(self).get("_snapshot")
        if found is None:
            assert isinstance(self.function, FunctionType)
            found = vars(self).setdefault("_snapshot", Snapshot(self.function))
        return found

    @cached_property
    def on_vectors(self) -> Callable[..., Any]:
        """The function that kernels call, which runs the user's on dual numbers."""
        from fastact.numba_support import extension, numpy_names  # noqa: F401  registers overloads

        extension.init()
        indices = tuple(list(self.parameters).index(name) for name in self.learnable)
        return _differentiable(self._snapshot.function, indices)

    @property
    def module(self) -> str:
        """The function's module, where pickle looks for it."""
        return self.function.__module__

    @cached_property
    def wrapped(self) -> FunctionType:
        """A copy of the function that carries the metadata, under the name by which pickle finds it."""
        function: Any = self.function
        copied = _renamed(function, function.__qualname__ + _WRAPPED)
        vars(copied).update(self.metadata)
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
        from fastact.simd.differentiation import Dual
        from fastact.simd.lowering import Mask, Vector

        function, vector = self._snapshot.function, Vector(types.float32, 0)
        kinds = (Dual(vector), *[vector] * len(self.parameters))
        make_compilable(function)  # and with it the functions that it calls
        dispatcher = njit(function)
        try:
            dispatcher.compile(kinds)
        except (NumbaError, UnsupportedBytecodeError) as error:
            return f"{self.name}: {diagnose(function, kinds) or first_line(error)}"
        result = dispatcher.nopython_signatures[0].return_type
        if not isinstance(result, Dual | Vector | Mask | types.BaseTuple):
            return f"{self.name}: its result does not depend on x"
        return None

    def kernel_name(self, loop: str) -> str | None:
        """Return a name that covers all dependencies of the function, or None if they cannot be described."""
        digest = self._snapshot.digest
        return digest and f"custom.{digest}.{','.join(self.learnable)}.{loop}"


def _differentiable(function: Any, indices: tuple[int, ...]) -> Callable[..., Any]:
    """Return a function that computes the value, its derivative, and the gradient by the learnable parameter."""

    def value_and_derivative(x: Any, *parameters: Any) -> Any:
        seed = dual(x, select(isnan(x), x, 1))
        return value_and_derivative_of(function(seed, *parameters))

    if not indices:
        return value_and_derivative
    (index,) = indices
    after = index + 1

    def with_parameter(x: Any, *parameters: Any) -> Any:
        seed = (dual(parameters[index], 1),)
        result = function(x, *(parameters[:index] + seed + parameters[after:]))
        return value_and_derivative(x, *parameters) + (value_and_derivative_of(result)[1],)

    return with_parameter


if TYPE_CHECKING:

    class _Activation(Function):  # at run time, each function has a class with methods of its own
        def __call__(self, x: ArrayLike, /, *args: ArrayLike, **options: Any) -> Any: ...
        def derivative(self, x: ArrayLike, /, *args: ArrayLike, **options: Any) -> Any: ...
        def value_and_derivative(
            self, x: ArrayLike, /, *args: ArrayLike, **options: Any
        ) -> tuple[Any, Any]: ...
        def backward(
            self, dy: ArrayLike, x: ArrayLike, /, *args: ArrayLike, **options: Any
        ) -> Any: ...
        def forward_backward(
            self, x: ArrayLike, dy: ArrayLike, /, *args: ArrayLike, **options: Any
        ) -> Any: ...
        def second_derivative(self, x: ArrayLike, /, *args: ArrayLike, **options: Any) -> Any: ...

else:
    _Activation = Function


class CustomFunction(_Activation):
    """An activation that a user wrote, and how it is copied and pickled.

    Pickle finds it as it finds a function: by its name in its module. cloudpickle takes functions by value where that
    name does not serve elsewhere (``__main__``, notebooks, lambdas, nested functions), and decides so from the
    function itself. So what is pickled is a function: `__wrapped__`, which is found under the activation's name.
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
    """Return the activation in whose module the function was found, or a new one of a function that came by value."""
    name = wrapped.__qualname__.removesuffix(_WRAPPED)
    try:
        found: Any = attrgetter(name)(sys.modules[wrapped.__module__])
    except (AttributeError, KeyError):
        found = None
    if getattr(found, "__wrapped__", None) is not wrapped:
        metadata = dict(vars(wrapped))
        found = _make(metadata.pop("learnable"), metadata, _renamed(wrapped, name))
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


@overload
def activation(function: Callable[..., Any], /) -> CustomFunction: ...


@overload
def activation(
    *,
    formula: str = ...,
    derivative: str = ...,
    kinks: dict[str, str] = ...,
    learnable: str | None = ...,
    parameters_are: dict[str, str] = ...,
    reference: str = ...,
) -> Callable[[Callable[..., Any]], CustomFunction]: ...


def activation(function: Any = None, /, *, learnable: str | None = None, **metadata: Any) -> Any:
    r"""Make an activation from a function.

    Parameters
    ----------
    function : callable
        A plain function of `x` and of parameters, which may have defaults. It may use arithmetic, ``**``,
        comparisons, ``abs``, ``max``, ``min``, ``round``, the functions of `fastact.math`, and most elementwise
        functions of NumPy and `math`, such as ``np.clip`` and ``np.where``; and it may call other such functions and
        activations. Comparisons give masks, which count as 0 and 1 in arithmetic. It cannot branch on `x`: use
        ``fa.math.where``. Globals, closures, attributes of modules, classes and data classes, and arrays or lists of
        constants are frozen at the first call. It returns the value, which is then differentiated automatically, or
        the value and the derivative.
    formula, derivative : str, optional
        TeX, for the documentation.
    kinks : dict of str to str, optional
        The derivative chosen at each point where it jumps: ``{"0": "1"}``. An activation with kinks has no
        second derivative.
    learnable : str, optional
        A parameter with a gradient.
    parameters_are : dict of str to str, optional
        The meaning of each parameter.
    reference : str, optional
        The paper that proposed it.

    Returns
    -------
    Function
        It has everything that those of the catalogue have. It pickles by name, as a function does; cloudpickle takes
        it by value where it takes functions so, in ``__main__`` for instance. Its kernels are cached on disk if it
        depends on constants alone. A call raises a RuntimeError if the function does not compile: because it allocates
        memory, as ``np.zeros`` and ``list.append`` do, may raise an exception, branches on `x`, or calls a function
        that is not available. The message is one line that names the construct and the line.

    Raises
    ------
    TypeError
        If `function` is not a plain function, or has no parameter of the name `learnable`.
    ValueError
        If it has more parameters than a ufunc can take.

    Examples
    --------
    >>> @fa.activation
    ... def swishy(x, beta=1.5):
    ...     return x * fa.math.logistic(beta * x)
    >>> float(swishy(0.0)), float(swishy.derivative(0.0))
    (0.0, 0.5)
    """
    if function is None:
        return partial(_make, learnable, metadata)
    return _make(learnable, metadata, function)


def _make(
    learnable: str | None, metadata: dict[str, Any], function: Callable[..., Any]
) -> Function:
    if not isinstance(function, FunctionType):
        raise TypeError(f"activation: expected a plain function, got {function!r}")
    found = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in found.values()}
    if kinds != {inspect.Parameter.POSITIONAL_OR_KEYWORD}:
        raise TypeError(
            f"activation: {function.__name__} must take x and parameters with names of their own"
        )
    if learnable is not None and learnable not in list(found)[1:]:
        raise TypeError(f"activation: {function.__name__} has no parameter {learnable!r}")
    if len(found) - 1 > max_parameters():
        raise ValueError(
            f"activation: {function.__name__} has {len(found) - 1} parameters; NumPy's ufuncs have room "
            f"for {max_parameters()} beside the arrays"
        )
    definition = CustomDefinition(
        function,
        learnable=(learnable,) if learnable else (),
        metadata={"learnable": learnable, **metadata},
        **metadata,
    )
    return make_function(definition, CustomFunction)


def check_derivative(
    activation: Function,
    x: Any = None,
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    **parameters: Any,
) -> float:
    """Compare an activation's derivative with the automatic derivative of its value.

    Parameters
    ----------
    activation : Function
        A function of the catalogue, or a user-defined one.
    x : array_like, optional
        The points to compare at, in float64; by default of both signs from 1e-6 to 40.
    rtol, atol : float
        The tolerance: ``atol + rtol * abs(automatic derivative)``.
    **parameters
        As in a call.

    Returns
    -------
    float
        The largest difference.

    Raises
    ------
    ValueError
        If they differ by more; the message gives the worst point and both values. At a kink both may be right: pass
        an `x` without it.

    Examples
    --------
    >>> @fa.activation
    ... def bent(x):
    ...     return fa.math.where(x > 0, x, x * x), fa.math.where(x > 0, 1, 2 * x)
    >>> fa.check_derivative(bent) < 1e-9
    True
    """
    if x is None:
        magnitudes = np.concatenate([np.geomspace(1e-6, 40, 2001), np.linspace(0.01, 6, 600)])
        x = np.concatenate([-magnitudes[::-1], magnitudes])
    points = np.asarray(x, np.float64)
    differentiated: Any = activation
    stated = differentiated.derivative(points, **parameters)
    automatic = run_elementwise(activation, "automatic_derivative", (points,), parameters)
    difference = np.abs(stated - automatic)
    wrong = ~(difference <= atol + rtol * np.abs(automatic))
    wrong &= ~(np.isnan(stated) & np.isnan(automatic))
    if wrong.any():
        index = np.flatnonzero(wrong)[np.argmax(difference[wrong])]
        raise ValueError(
            f"{activation.name}: at x = {points.flat[index]:.6g} the derivative is "
            f"{stated.flat[index]:.12g}, automatic differentiation of the value gives "
            f"{automatic.flat[index]:.12g}; they differ at {np.count_nonzero(wrong)} of {points.size} "
            "points"
        )
    return float(np.nanmax(difference, initial=0))
