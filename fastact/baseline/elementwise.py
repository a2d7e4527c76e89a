"""Baselines of activations from one function for value and derivative: silu, gelu and mish by hand, the rest by formula.

Inputs must be finite. The functions by hand write to existing arrays and compute common subexpressions once. The formula
is `Definition.exact`, the textbook's, evaluated on arrays as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastact.baseline.base import (
    Array,
    Out,
    PointwiseBaseline,
    float_array,
    prepare,
    prepare_both,
    restore_nan,
    result,
    times,
)

if TYPE_CHECKING:
    from fastact.catalogue.definition import Definition

#: Writes the value of an activation to `y`, and its derivative to `d` unless that is None.
ValueAndDerivative = Callable[..., None]

_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR


def elementwise(name: str, write: ValueAndDerivative) -> PointwiseBaseline:
    """Return the baseline of an activation that `write` computes."""

    def forward(x: ArrayLike, out: Out = None, **parameters: Any) -> Array:
        x = float_array(x)
        y = result(out, x)
        write(x, y, None, **parameters)
        return y

    def forward_backward(
        x: ArrayLike, dy: ArrayLike, out: Out = None, **parameters: Any
    ) -> tuple[Array, Array]:
        x, dy, y, dx = prepare_both(x, dy, out)
        write(x, y, dx, **parameters)
        times(dx, dy)
        return y, dx

    def backward(dy: ArrayLike, x: ArrayLike, out: Out = None, **parameters: Any) -> Array:
        dy, x, dx = prepare(dy, x, out)
        write(x, np.empty_like(dx), dx, **parameters)
        dx *= dy
        return dx

    return PointwiseBaseline(name, forward, backward, forward_backward)


# By hand ----------------------------------------------------------------------------------------


@np.errstate(over="ignore")
def write_sigmoid(x: Array, y: Array, d: Array | None) -> None:
    """Write the sigmoid s, and its derivative s (1 - s)."""
    np.negative(x, out=y)
    np.exp(y, out=y)
    y += 1
    np.divide(1, y, out=y)
    if d is not None:
        np.subtract(1, y, out=d)
        d *= y


def write_relu(x: Array, y: Array, d: Array | None) -> None:
    """Write the rectifier and its derivative."""
    np.clip(x, 0, np.inf, out=y)
    if d is not None:
        np.greater(x, 0, out=d)
        restore_nan(x, d)


def write_squared_relu(x: Array, y: Array, d: Array | None) -> None:
    """Write the square of the rectifier, and its derivative, twice the rectifier."""
    np.clip(x, 0, np.inf, out=y)
    if d is not None:
        np.add(y, y, out=d)
    np.square(y, out=y)


def write_silu(x: Array, y: Array, d: Array | None) -> None:
    """Write y = x s(x), and its derivative s (1 + x - y)."""
    sigmoid = y if d is None else d
    write_sigmoid(x, sigmoid, None)
    np.multiply(x, sigmoid, out=y)
    if d is not None:
        factor = np.subtract(x, y)
        factor += 1
        d *= factor


def write_gelu(x: Array, y: Array, d: Array | None) -> None:
    """Write y = x P(x), and its derivative P(x) + x p(x); P comes from SciPy, as NumPy lacks it."""
    from scipy.special import ndtr

    probability = y if d is None else d
    ndtr(x, out=probability)
    np.multiply(x, probability, out=y)
    if d is not None:
        density = np.square(x)
        density *= -0.5
        np.exp(density, out=density)
        density *= (2 * np.pi) ** -0.5
        density *= x
        d += density


def write_gelu_tanh(x: Array, y: Array, d: Array | None) -> None:
    """Write y = x s(w), and its derivative s + x w' s (1 - s): the tanh would cancel on the left."""
    square = np.square(x)
    np.multiply(square, _CUBIC, out=y)
    y += _LINEAR
    y *= x
    write_sigmoid(y, y, d)
    if d is not None:
        square *= 3 * _CUBIC
        square += _LINEAR
        square *= x
        d *= square
        d += y
    y *= x


def write_mish(x: Array, y: Array, d: Array | None) -> None:
    """Write y = x g with g = n / (n + 2) and n = e (e + 2), and its derivative g + 4 x e (e + 1) / (n + 2)^2."""
    e = np.clip(x, -np.inf, 20)  # where g is 1, and its square does not overflow
    np.exp(e, out=e)
    np.add(e, 2, out=y)
    y *= e
    bottom = np.add(y, 2, out=d)
    y /= bottom
    if d is not None:
        np.square(d, out=d)
        slope = np.add(e, 1)
        slope *= e
        slope *= 4
        np.divide(slope, d, out=d)
        d *= x
        d += y
    y *= x


silu = elementwise("silu", write_silu)
gelu = elementwise("gelu", write_gelu)
gelu_tanh = elementwise("gelu_tanh", write_gelu_tanh)
mish = elementwise("mish", write_mish)
squared_relu = elementwise("squared_relu", write_squared_relu)


# By formula -------------------------------------------------------------------------------------


def _on_arrays_and_numbers(name: str) -> Any:
    """Return NumPy's function, but Python's for numbers: NumPy's would turn float32 into float64."""
    of_arrays, of_numbers = getattr(np, name), getattr(math, name)
    return staticmethod(lambda x: (of_arrays if isinstance(x, np.ndarray) else of_numbers)(x))


def _from_scipy(name: str) -> Any:
    def call(x: Array) -> Any:
        from scipy import special

        return getattr(special, name)(x)

    return staticmethod(call)


class _Numpy:
    """What `Definition.exact` takes from mpmath, for arrays."""

    pi, inf, nan = math.pi, math.inf, math.nan
    mpf = float
    sech = staticmethod(lambda x: 1 / np.cosh(x))
    erf, erfc = _from_scipy("erf"), _from_scipy("erfc")


for _each in ("cos", "cosh", "exp", "expm1", "log", "log1p", "sin", "sqrt", "tanh"):
    setattr(_Numpy, _each, _on_arrays_and_numbers(_each))


def _select(condition: Any, first: Any, second: Any, dtype: np.dtype[Any]) -> Any:
    """Return the same as `numpy.where`, which mispredicts branches and takes eight times as long, by masks of bits."""
    if condition is True:
        return first
    bits = np.dtype(f"i{dtype.itemsize}")
    mask = np.asarray(condition).astype(bits)
    np.negative(mask, out=mask)
    one, other = (np.asarray(each, dtype).view(bits) for each in (first, second))
    chosen = (one ^ other) & mask
    chosen ^= other
    return chosen.view(dtype)


def by_formula(definition: Definition) -> PointwiseBaseline:
    """Return the baseline of an activation that evaluates its formula."""
    exact = definition.exact
    if exact is None:
        raise ValueError(f"{definition.name} has no formula")
    defaults: Mapping[str, Any] = {**definition.parameters, **definition.required_parameters}

    @np.errstate(all="ignore")  # in pieces that do not apply
    def write(x: Array, y: Array, d: Array | None, **parameters: Any) -> None:
        found = exact(_Numpy, x, **{**defaults, **parameters})
        pieces = [(True, *found)] if isinstance(found, tuple) else list(found)
        for out, which in ((y, 1), (d, 2)):
            if out is not None:
                value = pieces[-1][which]
                for piece in reversed(pieces[:-1]):
                    value = _select(piece[0], piece[which], value, x.dtype)
                np.copyto(out, value, casting="same_kind")

    return elementwise(definition.name, write)
