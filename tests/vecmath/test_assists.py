"""No cliffs in the data: intermediate results are normal numbers, whatever the magnitude of the input.

Each definition and each function of the vector maths runs on `tracing.Traced` numbers. Only where the result itself is
next to the subnormal numbers may an operation have a subnormal operand or result, and in the tails not even there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest
from tracing import Trace, Traced, traced

import fastact as fa
from fastact import vecmath
from fastact.functions.pointwise import OPERATIONS, compute, missing
from fastact.vecmath.exponential import NUDGE, reduce
from fastact.vecmath.products import exp_times, logistic_times
from fastact.vecmath.relative_exponential import at_least, relative_exponential
from fastact.vecmath.scaling import ldexp, product

Array = Any
DTYPES = (np.float32, np.float64)
#: Results below this multiple of the smallest normal number are next to the subnormal ones.
NEXT = 16
#: The most assists of an element whose result is next to them because its input is.
MOST = 16
#: The most in the tails: products of gradients in float64, and the square in the gradient by a learnable parameter.
MOST_IN_TAIL = 2
#: Definitions that multiply the input by a parameter where that is not the result.
OF_INPUT = {"clipped_linear", "leaky_relu", "prelu", "rrelu"}
ACTIVATIONS = [
    name for name in fa.names("activation") if fa.get(name)._definition.family == "activations"
]


@cache
def points(dtype: type) -> Array:
    """Return numbers of all magnitudes, many of them where exponentials underflow."""
    limits, rng = np.finfo(dtype), np.random.default_rng(0)
    lowest = int(np.log10(limits.tiny)) - 6
    decades = np.longdouble(10) ** np.arange(lowest, 6 - lowest)
    magnitudes = np.concatenate(
        [
            decades,
            np.linspace(0, -1.2 * np.log(limits.tiny), 1500),
            2.0 ** rng.uniform(limits.minexp, limits.maxexp, 1500),
            *(np.abs(rng.normal(0, scale, 300)) for scale in (1, 4, 30)),
        ]
    )
    with np.errstate(over="ignore"):
        return np.concatenate([magnitudes, -magnitudes, [0, np.inf, np.nan]]).astype(dtype)


def arrays_in(results: Any) -> Iterator[Array]:
    """Yield all arrays of nested results."""
    if isinstance(results, tuple):
        for each in results:
            yield from arrays_in(each)
    elif isinstance(results, Traced):
        yield results.values


def run(function: Any, operands: Any) -> tuple[Array, list[Array], Trace]:
    """Trace a function of one array, among numbers; return the array, the results and the trace."""
    (x,) = (each for each in operands if isinstance(each, np.ndarray))
    trace = Trace()
    with np.errstate(all="ignore"):
        given = [Traced(np.broadcast_to(x.dtype.type(each), x.shape), trace) for each in operands]
        return x, list(arrays_in(traced(function)(*given))), trace


def assert_few_assists(
    function: Any, *operands: Any, others: Any = (), of_input: bool = False
) -> None:
    """Count the assists of each element, of which there must be none unless one of its results, or the others, is subnormal."""
    x, results, trace = run(function, operands)
    assert results
    smallest = NEXT * np.finfo(x.dtype).tiny
    is_next = (np.abs(x) < 2**7 * smallest) & of_input
    for each in (*results, *others):
        is_next |= (np.abs(each) < smallest) & (each != 0)
    total = trace.total + np.zeros(x.shape, int)
    found = {where: x[(lanes > 0) & ~is_next][:3] for where, lanes in trace.assists.items()}
    assert not total[~is_next].any(), {where: each for where, each in found.items() if each.size}
    is_tail = is_next & (np.abs(x) > 1) & (np.abs(x) < 1e9)
    assert total[is_tail].max(initial=0) <= MOST_IN_TAIL, trace.assists
    assert total.max() <= MOST, x[total > MOST][:5]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", vecmath.FUNCTIONS, ids=lambda each: each.__name__)
def test_vector_maths_take_no_assists(function: Any, dtype: type) -> None:
    assert_few_assists(function, points(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_take_no_assists(name: str, dtype: type) -> None:
    definition = fa.get(name)._definition
    without = dict(missing(definition))
    for sample in ({}, *definition.samples[:1]):
        parameters = (definition.parameters | definition.required_parameters | sample).values()
        # The compiler leaves out what an operation does not need of the definition; the tracer does not.
        _, own, _ = run(definition.on_vectors, [points(dtype), *parameters])
        for operation, (_, arrays, _, _) in OPERATIONS.items():
            if operation in without or operation.endswith(
                ("second_derivative", "automatic_derivative")
            ):
                continue
            operands = [0.75 if each.name == "dy" else points(dtype) for each in arrays]
            function = compute(definition, operation)
            others = () if operation == "backward_from_output" else own
            assert_few_assists(
                function, *operands, *parameters, others=others, of_input=name in OF_INPUT
            )


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_parts_take_no_assists(dtype: type) -> None:
    x = points(dtype)
    nonpositive = -np.abs(x)
    assert_few_assists(exp_times, nonpositive, 0.0, -3.0)
    least = {np.float32: -120.0, np.float64: -768.0}[dtype]
    reduced, bounded, exponential = map(traced, (reduce, at_least, relative_exponential))
    # Relative to a maximum of 0; see `relative_to`.
    assert_few_assists(
        lambda x: exponential(x - NUDGE, least, 1.0, *reduced(bounded(x - NUDGE, least))),
        nonpositive,
    )
    assert_few_assists(logistic_times, x, 0.0, 3.0)
    assert_few_assists(product, 0.75, x)


def exact(value: mpmath.mpf, dtype: type) -> float:
    """Return the number nearest to a value, ties to even; subnormal numbers are multiples of the smallest one."""
    limits = np.finfo(dtype)
    if abs(value) >= limits.tiny:
        unit = mpmath.mpf(2) ** (mpmath.floor(mpmath.log(abs(value), 2)) - limits.nmant)
    else:
        unit = mpmath.mpf(2) ** (limits.minexp - limits.nmant)
    return float(mpmath.nint(value / unit) * unit)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ldexp_and_product_round_once(dtype: type) -> None:
    limits, rng = np.finfo(dtype), np.random.default_rng(1)
    count = 2000
    x = (rng.uniform(0.1, 4, count) * rng.choice([-1, 1], count)).astype(dtype)
    n = rng.integers(limits.minexp - limits.nmant - 10, limits.minexp + 40, count).astype(dtype)
    x[:4] = 0.0, -0.0, 1.0, 1.5  # ties: 1.5 units of the smallest subnormal number, and half of one
    n[:4] = limits.minexp - limits.nmant, limits.minexp, limits.minexp - limits.nmant - 1, n[0]
    factor = np.ldexp(x, n.astype(int))  # rounded: subnormal factors
    with mpmath.workdps(400), np.errstate(all="ignore"):
        trace = Trace()
        scaled = traced(ldexp)(Traced(x, trace), Traced(n, trace)).values
        dy = rng.normal(size=count).astype(dtype)
        products = traced(product)(Traced(dy, trace), Traced(factor, trace)).values
        for k in range(count):
            value = mpmath.mpf(float(x[k])) * mpmath.mpf(2) ** int(n[k])
            assert scaled[k] == exact(value, dtype)
            assert np.signbit(scaled[k]) == np.signbit(x[k])
            value = mpmath.mpf(float(dy[k])) * mpmath.mpf(float(factor[k]))
            assert products[k] == exact(value, dtype)
            assert np.signbit(products[k]) == (np.signbit(dy[k]) ^ np.signbit(factor[k]))
