"""User-defined activations: a plain Python function becomes an object like those of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from fastact.custom.base import CustomDefinition, CustomFunction, prepare
from fastact.functions import Function, make_function
from fastact.functions.fused import max_parameters
from fastact.functions.pointwise import run_elementwise
from fastact.simd import dual, isnan, select, value_and_derivative_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class ActivationDefinition(CustomDefinition):
    """An activation that a user wrote: its function returns the value, or value and derivative."""

    @cached_property
    def on_vectors(self) -> Callable[..., Any]:
        """The function that kernels call, which runs the user's on dual numbers."""
        indices = tuple(list(self.parameters).index(name) for name in self.learnable)
        return _differentiable(super().on_vectors, indices)

    def trials(self, vector: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the types of arguments with which kernels call the function."""
        from fastact.simd.differentiation import Dual

        yield Dual(vector), *[vector] * len(self.parameters)

    def check_result(self, kind: Any) -> str | None:
        """Say what is wrong with the type of the function's result, if anything."""
        from numba.core import types

        from fastact.simd.differentiation import Dual
        from fastact.simd.lowering import Mask, Vector

        if isinstance(kind, Dual | Vector | Mask | types.BaseTuple):
            return None
        return "its result does not depend on x"

    @property
    def role(self) -> str:
        """The learnable parameters, which have gradients."""
        return ",".join(self.learnable)


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

    class _Activation(CustomFunction):  # at run time, each has a class with methods of its own
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
    _Activation = CustomFunction


class CustomActivation(_Activation):
    """An activation that a user wrote."""


@overload
def activation(function: Callable[..., Any], /) -> CustomActivation: ...


@overload
def activation(
    *,
    formula: str = ...,
    derivative: str = ...,
    kinks: dict[str, str] = ...,
    learnable: str | None = ...,
    parameters_are: dict[str, str] = ...,
    reference: str = ...,
) -> Callable[[Callable[..., Any]], CustomActivation]: ...


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
    made = partial(_make, learnable=learnable, **metadata)
    return made if function is None else made(function)


def _make(function: Any, /, *, learnable: str | None = None, **metadata: Any) -> Function:
    _, *parameters = prepare("activation", function)
    if learnable is not None and learnable not in parameters:
        raise TypeError(f"activation: {function.__name__} has no parameter {learnable!r}")
    if len(parameters) > max_parameters():
        raise ValueError(
            f"activation: {function.__name__} has {len(parameters)} parameters; NumPy's ufuncs have room "
            f"for {max_parameters()} beside the arrays"
        )
    definition = ActivationDefinition(
        function,
        learnable=(learnable,) if learnable else (),
        make=_make,
        metadata={"learnable": learnable, **metadata},
        **metadata,
    )
    return make_function(definition, CustomActivation)


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
