"""What a user of Numba would write: a loop over the elements under ``@njit(parallel=True, fastmath=True)``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import erf, exp, expm1, fabs, log1p, pi, sqrt, tanh
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.bench.workloads import Workload

Array = NDArray[Any]
Formula = Callable[..., Any]


def _formulas(real: Callable[[float], Any]) -> dict[str, tuple[Formula, Formula]]:
    """Return the value from x and the derivative from x and y, with constants of a type."""
    zero, half, one, two, three, six = map(real, (0, 0.5, 1, 2, 3, 6))
    slope, large = real(0.01), real(20)
    alpha, scale = real(1.6732632423543772), real(1.0507009873554805)
    root_half, density = real(sqrt(0.5)), real(1 / sqrt(2 * pi))
    root, cubic, quick = real(sqrt(2 / pi)), real(0.044715), real(1.702)

    def gelu_tanh_derivative(x: Any, y: Any) -> Any:
        t = tanh(root * (x + cubic * x * x * x))
        inner = root * (one + three * cubic * x * x)
        return half * (one + t) + half * x * (one - t * t) * inner

    def mish_derivative(x: Any, y: Any) -> Any:
        t = tanh(x if x > large else log1p(exp(x)))
        return t + x * (one - t * t) / (one + exp(-x))

    def silu_derivative(x: Any, y: Any) -> Any:
        s = one / (one + exp(-x))
        return s * (one + x * (one - s))

    def quick_gelu_derivative(x: Any, y: Any) -> Any:
        s = one / (one + exp(-quick * x))
        return s * (one + quick * x * (one - s))

    def hardswish_derivative(x: Any, y: Any) -> Any:
        if x <= -three:
            return zero
        return one if x >= three else (two * x + three) / six

    return {
        "relu": (lambda x: max(x, zero), lambda x, y: one if x > zero else zero),
        "relu6": (
            lambda x: min(max(x, zero), six),
            lambda x, y: one if zero < x < six else zero,
        ),
        "leaky_relu": (
            lambda x: x if x > zero else slope * x,
            lambda x, y: one if x > zero else slope,
        ),
        "hardtanh": (
            lambda x: min(max(x, -one), one),
            lambda x, y: one if -one < x < one else zero,
        ),
        "hardsigmoid": (
            lambda x: min(max(x + three, zero), six) / six,
            lambda x, y: one / six if -three < x < three else zero,
        ),
        "hardswish": (lambda x: x * min(max(x + three, zero), six) / six, hardswish_derivative),
        "softsign": (
            lambda x: x / (one + fabs(x)),
            lambda x, y: one / ((one + fabs(x)) * (one + fabs(x))),
        ),
        "elu": (
            lambda x: x if x > zero else expm1(x),
            lambda x, y: one if x > zero else y + one,
        ),
        "selu": (
            lambda x: scale * (x if x > zero else alpha * expm1(x)),
            lambda x, y: scale if x > zero else y + scale * alpha,
        ),
        "sigmoid": (lambda x: one / (one + exp(-x)), lambda x, y: y * (one - y)),
        "logsigmoid": (
            lambda x: min(x, zero) - log1p(exp(-fabs(x))),
            lambda x, y: one / (one + exp(x)),
        ),
        "softplus": (
            lambda x: x if x > large else log1p(exp(x)),
            lambda x, y: one / (one + exp(-x)),
        ),
        "tanh": (lambda x: tanh(x), lambda x, y: one - y * y),
        "silu": (lambda x: x / (one + exp(-x)), silu_derivative),
        "quick_gelu": (lambda x: x / (one + exp(-quick * x)), quick_gelu_derivative),
        "gelu": (
            lambda x: half * x * (one + erf(root_half * x)),
            lambda x, y: half * (one + erf(root_half * x)) + density * x * exp(-half * x * x),
        ),
        "gelu_tanh": (
            lambda x: half * x * (one + tanh(root * (x + cubic * x * x * x))),
            gelu_tanh_derivative,
        ),
        "mish": (lambda x: x * tanh(x if x > large else log1p(exp(x))), mish_derivative),
    }


#: The activations that there are formulas for.
NAMES = tuple(_formulas(float))


@cache
def loops(name: str, dtype: str) -> dict[str, Callable[..., None]]:
    """Return the loop of each operation, which writes to given arrays; Numba compiles it when first called."""
    from numba import njit, prange

    value, derivative = map(njit(fastmath=True), _formulas(np.dtype(dtype).type)[name])

    @njit(parallel=True, fastmath=True)
    def forward(x: Array, y: Array) -> None:
        for i in prange(x.size):
            y[i] = value(x[i])

    @njit(parallel=True, fastmath=True)
    def backward(dy: Array, x: Array, y: Array, dx: Array) -> None:
        for i in prange(x.size):
            dx[i] = dy[i] * derivative(x[i], y[i])

    @njit(parallel=True, fastmath=True)
    def forward_backward(x: Array, dy: Array, y: Array, dx: Array) -> None:
        for i in prange(x.size):
            value_here = value(x[i])
            y[i] = value_here
            dx[i] = dy[i] * derivative(x[i], value_here)

    return {"forward": forward, "backward": backward, "forward_backward": forward_backward}


def set_threads(number: int) -> None:
    """Set the number of threads of Numba."""
    from numba import set_num_threads

    set_num_threads(number)


def numba(work: Workload, operation: str) -> Callable[..., Any]:
    """Return such a loop as a call, which makes its outputs or takes them as ``out``."""
    if not work.is_pointwise or work.has_bias or work.name not in NAMES:
        raise NotImplementedError(f"there is no loop for {work.title}")
    compiled, shape = loops(work.name, work.x.dtype.name), work.x.shape
    x, dy = (each.reshape(-1) for each in (work.x, *work.dys))  # as the loops take them
    inputs = {"forward": (x,), "backward": (dy, x, np.empty_like(x)), "forward_backward": (x, dy)}
    if operation == "backward":
        compiled["forward"](x, inputs["backward"][-1])
    loop, arrays = compiled[operation], inputs[operation]

    def one_output(out: Array | None = None) -> Array:
        y = np.empty(shape, x.dtype) if out is None else out
        loop(*arrays, y.reshape(-1))
        return y

    def two_outputs(out: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        y, dx = (np.empty(shape, x.dtype) for _ in range(2)) if out is None else out
        loop(*arrays, y.reshape(-1), dx.reshape(-1))
        return y, dx

    return two_outputs if operation == "forward_backward" else one_output
