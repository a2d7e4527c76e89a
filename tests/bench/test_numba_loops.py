"""The peer that a user of Numba would write: right, by mpmath and by the baseline in float64."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import fastact as fa
from fastact import baseline
from fastact.bench import numba_loops
from fastact.bench.contenders import OPERATIONS, make_call
from fastact.bench.workloads import Workload

#: The activations of the table on which the project is judged.
REFERENCE = {
    *("relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "silu", "gelu"),
    *("gelu_tanh", "mish", "hardswish"),
}
POINTS = [-30.0, -8.5, -3.0, -1.25, -0.3, 0.0, 0.01, 0.7, 2.0, 3.5, 25.0]


def test_names() -> None:
    assert set(fa.names("activation")) >= set(numba_loops.NAMES) >= REFERENCE


@pytest.mark.parametrize("name", numba_loops.NAMES)
def test_formulas(name: str) -> None:
    """Value and derivative in plain Python are those of mpmath, away from kinks."""
    definition = fa.get(name)._definition
    parameters = {key: mpmath.mpf(value) for key, value in fa.get(name).parameters.items()}
    value, derivative = numba_loops._formulas(float)[name]
    for x in POINTS:
        exact = definition.exact(mpmath.mp, mpmath.mpf(x), **parameters)
        if isinstance(exact, list):
            exact = next(piece[1:] for piece in exact if piece[0])
        y = value(x)
        assert abs(y - float(exact[0])) <= 1e-12 * max(1, abs(y)), x
        if x not in (0.0, -3.0):
            assert abs(derivative(x, y) - float(exact[1])) <= 1e-12, x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["relu", "sigmoid"])
def test_loops(name: str, dtype: str) -> None:
    """All operations, in new arrays and in given ones, against the baseline in float64."""
    work = Workload.of(name, (1001,), dtype)
    reference = getattr(baseline, name)
    x, dy = work.x.astype(float), work.others[0].astype(float)
    y, dx = reference.forward_backward(x, dy)
    expected = {"forward": [y], "backward": [dx], "forward_backward": [y, dx]}
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    for operation in OPERATIONS:
        for given in (False, True):
            call = make_call(work, "numba", operation, given)
            results, again = (r if isinstance(r, tuple) else (r,) for r in (call(), call()))
            for one, other, exact in zip(results, again, expected[operation], strict=True):
                assert one.dtype == dtype
                assert (one is other) is given
                np.testing.assert_allclose(one, exact, rtol=tolerance, atol=tolerance)


def test_lacking() -> None:
    for work in (Workload.of("maxout", (8,)), Workload.of("softmax", (4, 6))):
        with pytest.raises(NotImplementedError, match="there is no loop for"):
            make_call(work, "numba", "forward")
    with pytest.raises(NotImplementedError, match="gelu with bias"):
        make_call(Workload.of("gelu", (4, 6), with_bias=True), "numba", "forward")
