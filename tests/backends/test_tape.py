"""Taped calls, and what is propagated through their gradients, against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import POINTWISE
from own_activations import pair, swishy

import fastact as fa
from fastact.backends._tape import TapedCall

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 6)) + 0.03
MASK = RNG.random((4, 6)) > 0.4
LABELS = RNG.integers(0, 6, 4)
STEP = 1e-6


def slope(compute: Callable[..., Any], inputs: Any, directions: Any, weights: Any) -> float:
    """Return the derivative of the weighted sum of results in a direction."""

    def total(step: float) -> Any:
        results = compute(*(x + step * d for x, d in zip(inputs, directions, strict=True)))
        results = results if isinstance(results, tuple) else (results,)
        return sum(np.vdot(w, r) for w, r in zip(weights, results, strict=False))

    return float((total(STEP) - total(-STEP)) / (2 * STEP))


def randoms(arrays: Any) -> list[Any]:
    return [RNG.standard_normal(np.shape(each)) for each in arrays]


def check(function: Any, *args: Any, order: int = 2, **options: Any) -> None:
    """Compare gradients, and what is propagated through them, with central differences in a random direction."""
    call = TapedCall(function, args, options)
    inputs = [np.asarray(each, float) for each in call.inputs.values()]
    results, pullback = call.vjp(*inputs)
    # The others, such as running averages, have no gradient.
    results = results[: sum(each.is_gradient for each in function.operations["backward"].arrays)]
    # Masked elements are minus infinity in a logarithm.
    dys = [dy * np.isfinite(y) for y, dy in zip(results, randoms(results), strict=True)]

    def finite(*given: Any) -> Any:
        found = call(*given)
        found = found if isinstance(found, tuple) else (found,)
        return tuple(np.where(np.isfinite(each), each, 0) for each in found[: len(results)])

    for one, other in zip(finite(*inputs), results, strict=True):
        np.testing.assert_allclose(one, np.where(np.isfinite(other), other, 0), rtol=1e-13)
    directions = randoms(inputs)
    found = sum(np.vdot(*pair) for pair in zip(pullback(*dys), directions, strict=True))
    assert slope(finite, inputs, directions, dys) == pytest.approx(found, rel=1e-5, abs=1e-6)
    everything = (*dys, *inputs)
    gradients, second = call.gradient.vjp(*everything)
    for one, other in zip(gradients, inputs, strict=True):
        assert one.shape == other.shape
    weights, directions = randoms(gradients), randoms(everything)
    if order == 1:
        with pytest.raises(NotImplementedError, match="there is no second derivative"):
            second(*weights)
        return
    through = second(*weights)
    pairs = zip(through, directions, strict=True)
    found = sum(np.vdot(each, d) for each, d in pairs if each is not None)
    expected = slope(call.gradient, everything, directions, weights)
    assert expected == pytest.approx(found, rel=1e-5, abs=1e-6)
    of_output = call.gradient_of_output
    if of_output is not None:
        again, through_output = of_output.vjp(dys[0], results[0])
        np.testing.assert_allclose(again[0], gradients[0], rtol=1e-12, atol=1e-14)
        ddy, of_y = through_output(*weights)
        np.testing.assert_allclose(ddy, through[0], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(pullback(of_y)[0], through[1], rtol=1e-10, atol=1e-12)


def parameters(name: str) -> tuple[Any, dict[str, float]]:
    """Return an activation whose learnable parameter is bound, and the other parameters without a default."""
    function = fa.get(name)
    given = function._definition.required_parameters
    bound = {key: value for key, value in given.items() if key in function.learnable}
    return function.bind(**bound), {k: v for k, v in given.items() if k not in bound}


@pytest.mark.parametrize("name", POINTWISE)
def test_activations(name: str) -> None:
    function, others = parameters(name)
    check(function, abs(X), **others)
    if function.limits[0] != "nan":
        check(function, X, **others)


@pytest.mark.parametrize("name", ["gelu", "relu", "elu"])
@pytest.mark.parametrize(
    "options",
    [
        {"bias": X[0]},
        {"bias": X[:, :1], "residual": X, "scale": 0.7},
        {"bias": X[:, 0], "axis": 0, "dropout": 0.4, "rng": 3},
        {"bias": 0.3, "dropout": 0.4, "rng": np.random.default_rng(1)},
    ],
)
def test_fused(name: str, options: dict[str, Any]) -> None:
    check(fa.get(name), X, **options)


def test_parameters() -> None:
    check(fa.prelu, X, X[0], axis=1, order=1)
    check(fa.silu, X, beta=1.5, order=1)
    check(fa.prelu.bind(weight=X[0]), X)
    check(fa.elu, X, alpha=0.5)
    check(fa.gelu, X, approximate="tanh")
    check(fa.leaky_relu, X, convention="jax")
    check(fa.rrelu, X, rng=np.random.default_rng(2))
    check(swishy, X, beta=1.2)
    check(pair, X)


@pytest.mark.parametrize(
    "name", ["softmax", "log_softmax", "softmin", "logsumexp", "gumbel_softmax"]
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7, "axis": 0},
        {"scale": 0.3, "axis": None},
        {"axis": (0, 1)},
        {"where": MASK},
        {"where": MASK[0]},
        {"causal": True},
        {"causal": True, "where": MASK},
        {"lengths": [2, 0, 4]},
        {"lengths": [1, 2, 1], "axis": 0},
    ],
)
def test_rows(name: str, options: dict[str, Any]) -> None:
    function = fa.get(name)
    if function._definition.is_random:
        options = {**options, "rng": 3}
    check(function, X, **options)
    if function._definition.is_reduced:
        check(function, X, keepdims=True, **options)


@pytest.mark.parametrize(
    ("function", "args", "options"),
    [
        (fa.logmeanexp, (X,), {}),
        (fa.sparsemax, (X,), {}),
        (fa.maxout, (X,), {"pieces": 3}),
        (fa.swiglu, (X,), {}),
        (fa.swiglu, (X, X[::-1]), {}),
        (fa.lstm_cell, (X[:, :4], X[:, 4:5]), {}),
        (fa.gru_cell, (X[:, :3], X[:, 3:], X[:, :1]), {}),
        (fa.dropout, (X,), {"rng": np.random.default_rng(3)}),
        (fa.layer_norm, (X,), {"weight": X[0], "bias": X[1]}),
        (fa.batch_norm, (X,), {"weight": X[0], "running_mean": X[1], "running_var": X[2] ** 2}),
        (fa.softmax_cross_entropy, (X, LABELS), {}),
        (fa.softmax_cross_entropy, (X, LABELS), {"return_probabilities": True}),
        (fa.mse, (X, X[::-1]), {"reduction": "none"}),
        (fa.linear_cross_entropy, (X, X[::-1].copy(), LABELS % 4), {}),
    ],
    ids=lambda each: getattr(each, "name", None),
)
def test_others(function: Any, args: Any, options: Any) -> None:
    check(function, *args, order=2 if function is fa.logmeanexp else 1, **options)


def test_types_of_gradients() -> None:
    x, bias = X.astype(np.float32), X[0]
    call = TapedCall(fa.gelu, (x,), {"bias": bias})
    results, pullback = call.vjp(x, bias)
    dx, dbias = pullback(results[0])
    assert (dx.dtype, dbias.dtype) == (np.float32, np.float64)
    ddy, ddx, _ = call.gradient.vjp(results[0], x, bias)[1](dx, dbias)
    assert (ddy.dtype, ddx.dtype) == (results[0].dtype, np.float32)


def test_wrong_calls() -> None:
    with pytest.raises(TypeError, match="gelu: a call on a tape takes no 'out'"):
        TapedCall(fa.gelu, (X,), {"out": X})
    with pytest.raises(TypeError, match="elu: there is no gradient with respect to 'alpha'"):
        TapedCall(fa.elu, (X,), {"alpha": X}, lambda each: each is X)
    with pytest.raises(TypeError, match="gelu: got an unexpected keyword argument 'beta'"):
        TapedCall(fa.gelu, (X,), {"beta": 1.0})
    with pytest.raises(NotImplementedError, match="tanh: there is no third derivative"):
        _ = TapedCall(fa.tanh, (X,), {}).gradient.gradient
