"""Bias, dropout and residual around an activation, in one pass: against formulas and finite differences.

`test_bias` has what concerns a bias alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import special
from test_dropout import KEY, is_kept, normal

import fastact as fa

P = 0.25  # so that the scale, 4 / 3, is not exact
FORMS = [form for form in product((False, True), repeat=3) if any(form)]

every_form = pytest.mark.parametrize(("has_bias", "has_residual", "has_dropout"), FORMS)


def gelu(z: Any) -> tuple[Any, Any]:
    """Return value and derivative in float64."""
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return z * special.ndtr(z), special.ndtr(z) + z * density


def mask_and_scale(shape: tuple[int, ...]) -> Any:
    """Return what a dropout multiplies with."""
    return is_kept(KEY, int(np.prod(shape)), P).reshape(shape) / (1 - P)


def expected(x: Any, dy: Any, bias: Any, axis: int, residual: Any, has_dropout: bool) -> Any:
    """Return y, dx and dbias in float64, of gelu."""
    x, dy = np.float64(x), np.float64(dy)
    aligned = np.float64(0 if bias is None else bias)
    if aligned.ndim:
        aligned = aligned.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    factor = mask_and_scale(x.shape) if has_dropout else 1
    value, slope = gelu(x + aligned)
    y, dx = value * factor, dy * factor * slope
    if residual is not None:
        y = y + np.float64(residual)
    if bias is None:
        return y, dx
    others = tuple(i for i in range(x.ndim) if np.ndim(bias) == 0 or i != axis % x.ndim)
    return y, dx, dx.sum(others)


@every_form
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((7,), -1),
        ((5, 37), -1),
        ((64, 70), 0),
        ((3, 4, 5, 6), 1),
        ((2, 3, 1100), 1),
        ((40, 500), -1),
    ],
)
def test_values_and_gradients(
    shape: tuple[int, ...], axis: int, has_bias: bool, has_residual: bool, has_dropout: bool
) -> None:
    """Whatever the layout: rows shorter and longer than what is drawn at a time."""
    bias = normal(shape[axis], seed=2) if has_bias else None
    options: dict[str, Any] = {"bias": bias, "axis": axis} if has_bias else {}
    if has_dropout:
        options |= {"dropout": P, "rng": KEY}
    for layout in (
        np.ascontiguousarray,
        np.asfortranarray,
        lambda a: np.repeat(a, 2, -1)[..., ::2],
    ):
        x, dy, r = (layout(normal(*shape, seed=seed)) for seed in (0, 1, 3))
        residual = r if has_residual else None
        wanted = expected(x, dy, bias, axis, residual, has_dropout)
        results = fa.gelu.forward_backward(x, dy, residual=residual, **options)
        for found, exact in zip(results, wanted, strict=True):
            assert found.shape == exact.shape
            np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-13)
        np.testing.assert_array_equal(fa.gelu(x, residual=residual, **options), results[0])
        y, slope = fa.gelu.value_and_derivative(x, residual=residual, **options)
        np.testing.assert_array_equal(y, results[0])
        of_ones = expected(x, np.ones(shape), bias, axis, residual, has_dropout)[1]
        np.testing.assert_allclose(slope, of_ones, rtol=1e-12, atol=1e-13)
        if has_bias or has_dropout:
            back = fa.gelu.backward(dy, x, **options)
            for found, same in zip(back if has_bias else (back,), results[1:], strict=True):
                np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(
    ("has_bias", "has_residual", "has_dropout"),
    [
        form if form[1:] == (True, True) else pytest.param(*form, marks=pytest.mark.long)
        for form in FORMS
    ],
)
def test_types(dtype: str, has_bias: bool, has_residual: bool, has_dropout: bool) -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    unit = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23}[dtype]
    x, dy, r = (normal(40, 70, dtype=kind, seed=seed) for seed in (0, 1, 3))
    bias = normal(70, seed=2).astype(kind) if has_bias else None
    options: dict[str, Any] = {"bias": bias} if has_bias else {}
    if has_dropout:
        options |= {"dropout": P, "rng": KEY}
    residual = r if has_residual else None
    wanted = expected(x, dy, bias, -1, residual, has_dropout)
    results = fa.gelu.forward_backward(x, dy, residual=residual, **options)
    for found, exact in zip(results, wanted, strict=True):
        assert found.dtype == kind
        np.testing.assert_allclose(found.astype(float), exact, rtol=8 * unit, atol=8 * unit)


def test_other_types() -> None:
    """Integers become floats; a residual of a wider type makes the result so wide."""
    x, small = np.arange(-3, 4), np.arange(-3, 4, dtype=np.int8)
    y = fa.relu(x, residual=x)
    np.testing.assert_array_equal(y, np.maximum(x, 0) + x, strict=False)
    assert y.dtype == np.float64
    assert fa.relu(small, dropout=0.5, rng=1).dtype == np.float16
    assert fa.relu(normal(3, dtype="f"), residual=normal(3)).dtype == np.float64
    assert fa.relu(normal(3, dtype="f"), residual=small[:3]).dtype == np.float32


def test_dropout_drops_what_the_layer_drops() -> None:
    x, dy = normal(300, 70), normal(300, 70, seed=1)
    y = fa.tanh(x, dropout=P, rng=KEY)
    np.testing.assert_array_equal(y, fa.dropout(fa.tanh(x), P, rng=KEY))
    dx = fa.tanh.backward(dy, x, dropout=P, rng=KEY)
    np.testing.assert_array_equal(dx, fa.tanh.backward(fa.dropout.backward(dy, P, rng=KEY), x))


def test_finite_differences() -> None:
    x, dy, bias, r, step = (
        normal(5, 30),
        normal(5, 30, seed=1),
        normal(30, seed=2),
        normal(5, 30),
        1e-6,
    )
    options: dict[str, Any] = {"residual": r, "dropout": P, "rng": KEY}
    _, dx, dbias = fa.gelu.forward_backward(x, dy, bias=bias, **options)

    def loss(x: Any, bias: Any) -> Any:
        return np.sum(dy * fa.gelu(x, bias=bias, **options))

    for channel in range(30):
        change = np.where(np.arange(30) == channel, step, 0)
        slope = (loss(x, bias + change) - loss(x, bias - change)) / (2 * step)
        assert np.isclose(dbias[channel], slope, rtol=1e-6, atol=1e-8)
        change = change * (np.arange(5)[:, None] == 2)
        slope = (loss(x + change, bias) - loss(x - change, bias)) / (2 * step)
        assert np.isclose(dx[2, channel], slope, rtol=1e-6, atol=1e-8)


def test_parameters_and_choices() -> None:
    x, r = normal(6, 50), normal(6, 50, seed=3)
    factor = mask_and_scale(x.shape)
    for call in (
        lambda: fa.leaky_relu(x, 0.3, residual=r, dropout=P, rng=KEY),
        lambda: fa.leaky_relu.bind(negative_slope=0.3)(x, residual=r, dropout=P, rng=KEY),
    ):
        value = np.where(x > 0, x, 0.3 * x)
        np.testing.assert_allclose(call(), value * factor + r, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(
        fa.gelu(x, residual=r, approximate="tanh"), fa.gelu_tanh(x, residual=r)
    )
    y = fa.shrink(np.array([-2.0, 0, 2]), bias=0.5, lambd=1.0, residual=np.ones(3))
    np.testing.assert_array_equal(y, [-0.5, 1, 2.5])


def test_none_is_left_out() -> None:
    x, dy = normal(6, 5), normal(6, 5, seed=1)
    nothing: dict[str, Any] = {"bias": None, "residual": None, "dropout": None, "rng": 1}
    np.testing.assert_array_equal(fa.gelu(x, **nothing), fa.gelu(x))
    np.testing.assert_array_equal(fa.gelu.backward(dy, x, **nothing), fa.gelu.backward(dy, x))


def test_ends_of_the_chance() -> None:
    x, dy, r = normal(6, 50), normal(6, 50, seed=1), normal(6, 50, seed=3)
    y, dx = fa.gelu.forward_backward(x, dy, residual=r, dropout=1, rng=1)
    np.testing.assert_array_equal(y, r)
    np.testing.assert_array_equal(dx, np.zeros_like(x))
    y, dx = fa.gelu.forward_backward(x, dy, dropout=0.0, rng=1)
    np.testing.assert_array_equal(y, fa.gelu(x))
    np.testing.assert_array_equal(dx, fa.gelu.backward(dy, x))


@pytest.fixture
def threads() -> Iterator[None]:
    before = fa.get_num_threads()
    yield
    fa.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", [(40, 3, 5003), (700, 901), (300_007,)])
def test_the_same_with_any_number_of_threads(shape: tuple[int, ...]) -> None:
    x, dy, r = (normal(*shape, dtype="f", seed=seed) for seed in (0, 1, 3))
    axis = 1 if len(shape) > 1 else 0
    options: dict[str, Any] = {"residual": r, "dropout": P, "rng": KEY}
    for bias in (None, normal(shape[axis], dtype="f")):
        given = options if bias is None else options | {"bias": bias, "axis": axis}
        found = set()
        for number in (1, min(2, fa.get_num_threads())) * 5:
            fa.set_num_threads(number)
            results = fa.gelu.forward_backward(x, dy, **given)
            found.add(b"".join(result.tobytes() for result in results))
        assert len(found) == 1


def test_out_and_in_place() -> None:
    x, dy, r, bias = normal(6, 50), normal(6, 50, seed=1), normal(6, 50, seed=3), normal(50)
    for more in ({}, {"bias": bias}):
        options: dict[str, Any] = {"residual": r, "dropout": P, "rng": KEY, **more}
        wanted = fa.gelu.forward_backward(x, dy, **options)
        for position in range(2):
            own = x.copy(), dy.copy(), r.copy()
            out = (own[2], own[position], *[None] * (len(wanted) - 2))
            found = fa.gelu.forward_backward(
                own[0], own[1], out=out, **(options | {"residual": own[2]})
            )
            assert found[0] is own[2]
            assert found[1] is own[position]
            for result, exact in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(result, exact)
        apart = np.empty((50, 6)).T
        assert fa.gelu(x, out=apart, **options) is apart
        np.testing.assert_array_equal(apart, wanted[0])


def test_empty_and_a_number() -> None:
    for shape in ((0, 3), (2, 0, 3)):
        nothing = np.ones(shape)
        y, dx = fa.relu.forward_backward(nothing, nothing, residual=nothing, dropout=P, rng=1)
        assert y.shape == dx.shape == shape
    assert fa.relu(2.0, residual=1.0) == 3


def test_rng() -> None:
    """One generator gives another mask in each call, the same one to value and gradient."""
    x, rng = np.ones(1000), np.random.default_rng(0)
    y, dx = fa.relu.forward_backward(x, x, dropout=0.5, rng=rng)
    np.testing.assert_array_equal(y, dx)
    assert (fa.relu(x, dropout=0.5, rng=rng) != y).any()
    seeds = np.random.SeedSequence((1, 2, 3))
    np.testing.assert_array_equal(
        fa.relu(x, dropout=0.5, rng=seeds), fa.relu.backward(x, x, dropout=0.5, rng=seeds)
    )


X = np.ones((2, 4))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: fa.elu(X, residual=np.ones(4)), ValueError, ["residual", "(2, 4)", "(4,)"]),
        (lambda: fa.elu(X, residual=X * 1j), TypeError, ["residual", "complex"]),
        (lambda: fa.elu(X, dropout=0.5), TypeError, ["elu", "rng is missing", "seed"]),
        (lambda: fa.elu(X, rng=1), TypeError, ["rng", "without dropout"]),
        (lambda: fa.elu(X, dropout=1.5, rng=1), ValueError, ["dropout", "0 to 1", "1.5"]),
        (lambda: fa.elu(X, dropout=np.nan, rng=1), ValueError, ["dropout", "nan"]),
        (lambda: fa.elu(X, dropout=X, rng=1), ValueError, ["dropout", "number"]),
        (lambda: fa.elu(X, dropout="a", rng=1), TypeError, ["dropout"]),
        (lambda: fa.elu(X, dropout=0.5, rng=0.5), TypeError, ["rng", "int", "0.5"]),
        (lambda: fa.elu(X, residual=X, axis=0), TypeError, ["axis", "bias"]),
        (lambda: fa.elu(X, residual=X, where=X > 0), TypeError, ["where", "residual"]),
        (lambda: fa.elu(X, alpha=X, residual=X), ValueError, ["alpha", "number", "(2, 4)"]),
        (
            lambda: fa.elu.backward(X, X, residual=X),
            TypeError,
            ["no 'residual'", "elu.forward_backward"],
        ),
        (
            lambda: fa.elu.derivative(X, dropout=0.5, rng=1),
            TypeError,
            ["no 'dropout'", "elu.backward"],
        ),
        (lambda: fa.elu.backward(X[0], X, dropout=0.5, rng=1), ValueError, ["dy", "(4,)"]),
        (
            lambda: fa.elu.backward(X, X, dropout=0.5, rng=np.random.default_rng()),
            TypeError,
            ["elu.backward", "generator", "seed"],
        ),
        (lambda: fa.prelu.backward(X, X, 0.2, dropout=0.5, rng=1), TypeError, ["weight"]),
        (lambda: fa.rrelu(X, dropout=0.5, rng=np.random.default_rng()), TypeError, ["dropout"]),
        (lambda: fa.rrelu.backward(X, X, dropout=0.5, rng=1), TypeError, ["dropout"]),
        (lambda: fa.elu(X, residual=X, out=np.ones(3)), ValueError, ["out", "(3,)", "(2, 4)"]),
    ],
)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"bias": 0.5}, {"dropout": P, "rng": KEY}])
def test_scale(options: dict[str, Any]) -> None:
    """The value is scaled after the activation, and so is the gradient that comes to it."""
    x, dy = normal(3, 50, seed=0), normal(3, 50, seed=1)
    y, dx, *dbias = fa.gelu.forward_backward(x, dy, scale=2.5, **options)
    value, slope = gelu(x + options.get("bias", 0))
    factor = 2.5 * (mask_and_scale(x.shape) if "dropout" in options else 1)
    np.testing.assert_allclose(y, factor * value, rtol=1e-13)
    np.testing.assert_allclose(dx, dy * factor * slope, rtol=1e-13)
    np.testing.assert_allclose(fa.gelu(x, scale=2.5, **options), factor * value, rtol=1e-13)
    if dbias:
        np.testing.assert_allclose(dbias[0], (dy * factor * slope).sum(), rtol=1e-12)
    assert fa.selu(1.0, scale=2.0) == 2.0, "a parameter of that name goes before"
