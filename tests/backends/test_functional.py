"""Pairs of functions with caches: the formulas of CS231n, and finite differences."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.backends import functional

N, D = 6, 8
STEP = 1e-6


def numbers(*shape: int, seed: int = 0) -> Any:
    """Return float64 numbers away from 0."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 1, shape) * rng.choice([-1, 1], shape)


def check(call: Callable[..., Any], array: Any, gradient: Any, upstream: Any) -> None:
    """Compare a gradient with central differences in a random direction."""
    direction = np.random.default_rng(5).standard_normal(np.shape(array))
    above, below = call(array + STEP * direction), call(array - STEP * direction)
    expected = np.sum(upstream * (above - below)) / (2 * STEP)
    np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("name", fa.names())
def test_every_function_has_two_pairs(name: str) -> None:
    for base in (name, f"affine_{name}"):
        for suffix in ("forward", "backward"):
            assert callable(getattr(functional, f"{base}_{suffix}"))
            assert f"{base}_{suffix}" in dir(functional)


def test_newcomer(newcomer: str) -> None:
    assert f"{newcomer}_forward" in dir(functional)
    x = numbers(N, D)
    out, cache = getattr(functional, f"{newcomer}_forward")(x)
    np.testing.assert_allclose(out, x * x / 2)
    np.testing.assert_allclose(getattr(functional, f"{newcomer}_backward")(x, cache), x * x)


def test_unknown_names() -> None:
    for name in ("nothing_forward", "relu_sideways", "_forward", "affine_nothing_backward"):
        with pytest.raises(AttributeError, match=name):
            getattr(functional, name)


def test_pairs() -> None:
    x, dout = numbers(N, D), numbers(N, D, seed=1)
    out, cache = functional.relu_forward(x)
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    np.testing.assert_array_equal(functional.relu_backward(dout, cache), dout * (x > 0))
    out, cache = functional.swish_forward(x)  # an alias
    np.testing.assert_allclose(out, x / (1 + np.exp(-x)))
    out, cache = functional.leaky_relu_forward(x, negative_slope=0.2)
    cache = pickle.loads(pickle.dumps(cache))
    expected = dout * np.where(x > 0, 1, 0.2)
    np.testing.assert_allclose(functional.leaky_relu_backward(dout, cache), expected)


def test_cells_take_a_gradient_for_each_value() -> None:
    gates, c = numbers(N, 4 * D), numbers(N, D, seed=1)
    dh, dc = numbers(2, N, D, seed=2)
    *_, cache = functional.lstm_cell_forward(gates, c, order="ifog")
    dgates, _ = functional.lstm_cell_backward(dh, dc, cache)

    def values(gates: Any) -> Any:
        i, f, o, g = np.split(gates, 4, axis=1)
        new = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        return np.stack([np.tanh(new) / (1 + np.exp(-o)), new])

    check(values, gates, dgates, np.stack([dh, dc]))


@pytest.mark.parametrize("name", ["affine", "affine_tanh", "affine_log_softmax"])
def test_affine(name: str) -> None:
    x, w, b = numbers(N, 2, 4), numbers(D, 5, seed=1), numbers(5, seed=2)
    functions: dict[str, Callable[[Any], Any]] = {
        "affine": lambda z: z,
        "affine_tanh": np.tanh,
        "affine_log_softmax": lambda z: z - np.log(np.exp(z).sum(axis=1, keepdims=True)),
    }

    def value(x: Any, w: Any, b: Any) -> Any:
        return functions[name](x.reshape(N, -1) @ w + b)

    out, cache = getattr(functional, f"{name}_forward")(x, w, b)
    np.testing.assert_allclose(out, value(x, w, b))
    dout = numbers(N, 5, seed=3)
    dx, dw, db = getattr(functional, f"{name}_backward")(dout, cache)
    check(lambda x: value(x, w, b), x, dx, dout)
    check(lambda w: value(x, w, b), w, dw, dout)
    check(lambda b: value(x, w, b), b, db, dout)


@pytest.mark.parametrize("shape", [(N, D), (N, 3, 4, 5)])
def test_batchnorm(shape: tuple[int, ...]) -> None:
    x, dout = numbers(*shape), numbers(*shape, seed=1)
    channels = shape[1]
    gamma, beta = np.linspace(1, 2, channels), np.linspace(-1, 1, channels)
    axes = (0, *range(2, len(shape)))

    def along(each: Any) -> Any:
        return np.reshape(each, (1, -1, *(1,) * (len(shape) - 2)))

    def value(x: Any, gamma: Any, beta: Any) -> Any:
        mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
        return along(gamma) * (x - mean) / np.sqrt(var + 1e-5) + along(beta)

    bn_param: dict[str, Any] = {"mode": "train"}
    out, cache = functional.spatial_batchnorm_forward(x, gamma, beta, bn_param)
    np.testing.assert_allclose(out, value(x, gamma, beta))
    np.testing.assert_allclose(bn_param["running_mean"], 0.1 * x.mean(axis=axes), atol=1e-15)
    np.testing.assert_allclose(bn_param["running_var"], 0.1 * x.var(axis=axes))
    dx, dgamma, dbeta = functional.batchnorm_backward_alt(dout, cache)
    check(lambda x: value(x, gamma, beta), x, dx, dout)
    check(lambda gamma: value(x, gamma, beta), gamma, dgamma, dout)
    check(lambda beta: value(x, gamma, beta), beta, dbeta, dout)
    bn_param["mode"] = "test"
    out, _ = functional.batchnorm_forward(x, gamma, beta, bn_param)
    mean, var = along(bn_param["running_mean"]), along(bn_param["running_var"])
    np.testing.assert_allclose(out, along(gamma) * (x - mean) / np.sqrt(var + 1e-5) + along(beta))
    with pytest.raises(ValueError, match="mode"):
        functional.batchnorm_forward(x, gamma, beta, {"mode": "validation"})


def test_layernorm() -> None:
    x, dout = numbers(N, D), numbers(N, D, seed=1)
    gamma, beta = np.linspace(1, 2, D), np.linspace(-1, 1, D)

    def value(x: Any) -> Any:
        mean, var = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        return gamma * (x - mean) / np.sqrt(var + 0.1) + beta

    out, cache = functional.layernorm_forward(x, gamma, beta, {"eps": 0.1})
    np.testing.assert_allclose(out, value(x))
    dx, _, dbeta = functional.layernorm_backward(dout, cache)
    check(value, x, dx, dout)
    np.testing.assert_allclose(dbeta, dout.sum(axis=0))


def test_dropout_keeps_with_probability_p() -> None:
    x, dout = numbers(100, 100), numbers(100, 100, seed=1)
    parameters: dict[str, Any] = {"mode": "train", "p": 0.8, "seed": 1}
    out, cache = functional.dropout_forward(x, parameters)
    kept = out != 0
    assert 0.78 < kept.mean() < 0.82
    np.testing.assert_allclose(out, x * kept / 0.8)
    np.testing.assert_allclose(functional.dropout_backward(dout, cache), dout * kept / 0.8)
    np.testing.assert_array_equal(functional.dropout_forward(x, parameters)[0], out)
    out, cache = functional.dropout_forward(x, {"mode": "test", "p": 0.8})
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(functional.dropout_backward(dout, cache), dout)


def test_softmax_loss() -> None:
    x, y = numbers(N, D), np.arange(N)
    probabilities = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    loss, dx = functional.softmax_loss(x, y)
    assert loss == pytest.approx(-np.log(probabilities[y, y]).mean())
    np.testing.assert_allclose(dx, (probabilities - np.eye(N, D)) / N)
