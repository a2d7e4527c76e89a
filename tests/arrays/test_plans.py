"""Calls that repeat an earlier one run by its plan: the values, the checks, and what must not share a plan."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from representatives import only_long

import fastact as fa
from fastact.functions import function

ROWS, COLUMNS = 5, 12


class Case(NamedTuple):
    """A call, and its reference in float64 for the same arrays."""

    function: fa.Function
    call: Callable[..., Any]
    reference: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def softmax_gradient(dy: Any, y: Any, axis: int) -> Any:
    return y * (dy - (dy * y).sum(axis, keepdims=True))


def biased_backward(dy: Any, x: Any, b: Any) -> Any:
    s = sigmoid(x + b)
    dx = dy * s * (1 - s)
    return dx, dx.sum(0)


def prelu_backward(dy: Any, x: Any, w: Any) -> Any:
    return np.where(x > 0, dy, w * dy), np.where(x > 0, 0, x * dy).sum(0)


def halves(x: Any) -> Any:
    return np.split(x, 2, axis=-1)


def swiglu_backward(dy: Any, x: Any) -> Any:
    gate, value = halves(x)
    s = sigmoid(gate)
    return np.concatenate([dy * value * s * (1 + gate * (1 - s)), dy * gate * s], axis=-1)


def binary_cross_entropy(x: Any, targets: Any) -> Any:
    return np.mean(np.logaddexp(0, x) - x * targets), (sigmoid(x) - targets) / x.size


def huber(x: Any, targets: Any) -> Any:
    d = x - targets
    return np.where(np.abs(d) <= 1, d * d / 2, np.abs(d) - 0.5).sum(), np.clip(d, -1, 1)


def weighted_mse(x: Any, targets: Any, weight: Any) -> Any:
    error, total = x - targets, np.broadcast_to(weight, x.shape).sum()
    return (weight * error * error).sum() / total, 2 * weight * error / total


def lstm(gates: Any, c_prev: Any) -> Any:
    i, f, g, o = np.split(gates, 4, axis=-1)
    c = sigmoid(f) * c_prev + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_backward(dh: Any, input_gates: Any, hidden_gates: Any, h_prev: Any) -> Any:
    a, hidden = np.split(input_gates, 3, axis=-1), np.split(hidden_gates, 3, axis=-1)
    r, z = sigmoid(a[0] + hidden[0]), sigmoid(a[1] + hidden[1])
    n = np.tanh(a[2] + r * hidden[2])
    dn = dh * (1 - z) * (1 - n * n)
    dr, dz = dn * hidden[2] * r * (1 - r), dh * (h_prev - n) * z * (1 - z)
    return *(np.concatenate([dr, dz, each], axis=-1) for each in (dn, dn * r)), dh * z


def standardized(x: Any, axis: int) -> Any:
    mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5)


def layer_norm_backward(dy: Any, x: Any, w: Any, b: Any) -> Any:
    y, g = standardized(x, -1), dy * w
    rstd = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    dx = rstd * (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True))
    return dx, (dy * y).sum(0), dy.sum(0)


def batch_norm(x: Any, w: Any, mean: Any, var: Any) -> Any:
    unbiased = x.var(0, ddof=1)
    return standardized(x, 0) * w, 0.9 * mean + 0.1 * x.mean(0), 0.9 * var + 0.1 * unbiased


WHOLE, ROW, COLUMN, HALF = (ROWS, COLUMNS), (COLUMNS,), (ROWS,), (ROWS, COLUMNS // 2)
CASES = {
    "elu alpha": Case(
        fa.elu,
        lambda x: fa.elu(x, 0.5),
        lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)),
        (WHOLE,),
    ),
    "prelu weights": Case(
        fa.prelu,
        lambda x, w: fa.prelu(x, w),
        lambda x, w: np.where(x > 0, x, w * x),
        (WHOLE, ROW),
    ),
    "prelu backward": Case(
        fa.prelu, lambda dy, x, w: fa.prelu.backward(dy, x, w), prelu_backward, (WHOLE, WHOLE, ROW)
    ),
    "bias": Case(
        fa.sigmoid,
        lambda x, b: fa.sigmoid(x, bias=b),
        lambda x, b: sigmoid(x + b),
        (WHOLE, ROW),
    ),
    "bias along axis 0": Case(
        fa.sigmoid,
        lambda x, b: fa.sigmoid(x, bias=b, axis=0),
        lambda x, b: sigmoid(x + b[:, None]),
        (WHOLE, COLUMN),
    ),
    "bias backward": Case(
        fa.sigmoid,
        lambda dy, x, b: fa.sigmoid.backward(dy, x, bias=b),
        biased_backward,
        (WHOLE, WHOLE, ROW),
    ),
    "scale and residual": Case(
        fa.sigmoid,
        lambda x, r: fa.sigmoid(x, scale=0.5, residual=r),
        lambda x, r: r + 0.5 * sigmoid(x),
        (WHOLE, WHOLE),
    ),
    "softmax along axis 0": Case(
        fa.softmax, lambda x: fa.softmax(x, 0), lambda x: softmax(x, 0), (WHOLE,)
    ),
    "softmax backward along axis 0": Case(
        fa.softmax,
        lambda dy, y: fa.softmax.backward(dy, y, axis=0),
        lambda dy, y: softmax_gradient(dy, y, 0),
        (WHOLE, WHOLE),
    ),
    "softmax temperature": Case(
        fa.softmax,
        lambda x: fa.softmax(x, temperature=2.0),
        lambda x: softmax(x / 2, -1),
        (WHOLE,),
    ),
    "logsumexp along axis 0": Case(
        fa.logsumexp,
        lambda x: fa.logsumexp(x, axis=0, keepdims=True),
        lambda x: np.log(np.exp(x).sum(0, keepdims=True)),
        (WHOLE,),
    ),
    "logsumexp forward and backward along axis 0": Case(
        fa.logsumexp,
        lambda x, dy: fa.logsumexp.forward_backward(x, dy, axis=0, keepdims=True),
        lambda x, dy: (np.log(np.exp(x).sum(0, keepdims=True)), dy * softmax(x, 0)),
        (WHOLE, (1, COLUMNS)),
    ),
    "swiglu": Case(
        fa.swiglu,
        lambda x: fa.swiglu(x),
        lambda x: halves(x)[0] * sigmoid(halves(x)[0]) * halves(x)[1],
        (WHOLE,),
    ),
    "swiglu, second half the gate": Case(
        fa.swiglu,
        lambda x: fa.swiglu(x, gate="second"),
        lambda x: halves(x)[1] * sigmoid(halves(x)[1]) * halves(x)[0],
        (WHOLE,),
    ),
    "swiglu backward": Case(
        fa.swiglu, lambda dy, x: fa.swiglu.backward(dy, x), swiglu_backward, (HALF, WHOLE)
    ),
    "swiglu forward and backward": Case(
        fa.swiglu,
        lambda x, dy: fa.swiglu.forward_backward(x, dy)[1],
        lambda x, dy: swiglu_backward(dy, x),
        (WHOLE, HALF),
    ),
    "swiglu of two": Case(
        fa.swiglu, lambda x, s: fa.swiglu(x, s), lambda x, s: x * sigmoid(x) * s, (WHOLE, WHOLE)
    ),
    "reglu backward of two, second the gate": Case(
        fa.reglu,
        lambda dy, x, s: fa.reglu.backward(dy, x, s, gate="second"),
        lambda dy, x, s: (dy * np.maximum(s, 0), dy * x * (s > 0)),
        (WHOLE, WHOLE, WHOLE),
    ),
    "crelu": Case(
        fa.crelu,
        lambda x: fa.crelu(x),
        lambda x: np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis=-1),
        (WHOLE,),
    ),
    "lstm_cell": Case(
        fa.lstm_cell, lambda gates, c: fa.lstm_cell(gates, c), lstm, (WHOLE, (ROWS, COLUMNS // 4))
    ),
    "gru_cell backward": Case(
        fa.gru_cell,
        lambda *arrays: fa.gru_cell.backward(*arrays),
        gru_backward,
        ((ROWS, COLUMNS // 3), WHOLE, WHOLE, (ROWS, COLUMNS // 3)),
    ),
    "maxout": Case(
        fa.maxout,
        lambda x: fa.maxout(x, 3),
        lambda x: x.reshape(ROWS, -1, 3).max(-1),
        (WHOLE,),
    ),
    "rms normalization": Case(
        fa.rms_norm,
        lambda x: fa.rms_norm(x, eps=1e-5),
        lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5),
        (WHOLE,),
    ),
    "layer normalization": Case(
        fa.layer_norm,
        lambda x, b: fa.layer_norm(x, bias=b),
        lambda x, b: standardized(x, -1) + b,
        (WHOLE, ROW),
    ),
    "layer normalization backward": Case(
        fa.layer_norm,
        lambda dy, x, w, b: fa.layer_norm.backward(dy, x, weight=w, bias=b),
        layer_norm_backward,
        (WHOLE, WHOLE, ROW, ROW),
    ),
    "batch normalization": Case(
        fa.batch_norm,
        lambda x, w, mean, var: fa.batch_norm(x, weight=w, running_mean=mean, running_var=var),
        batch_norm,
        (WHOLE, ROW, ROW, ROW),
    ),
    "binary cross-entropy": Case(
        fa.sigmoid_binary_cross_entropy,
        lambda x, t: fa.sigmoid_binary_cross_entropy.forward_backward(x, t),
        binary_cross_entropy,
        (WHOLE, WHOLE),
    ),
    "huber": Case(
        fa.huber,
        lambda x, t: fa.huber.forward_backward(x, t, reduction="sum"),
        huber,
        (WHOLE, WHOLE),
    ),
    "huber of each element": Case(
        fa.huber,
        lambda x, t: fa.huber.forward_backward(x, t, 3.0, reduction="none"),
        lambda x, t: (
            np.where(np.abs(x - t) <= 1, (x - t) ** 2 / 2, np.abs(x - t) - 0.5),
            3 * huber(x, t)[1],
        ),
        (WHOLE, WHOLE),
    ),
    "mse": Case(
        fa.mse,
        lambda x, t: fa.mse.forward_backward(x, t, 2.0),
        lambda x, t: (np.mean((x - t) ** 2), 4 * (x - t) / x.size),
        (WHOLE, WHOLE),
    ),
    "mse weights": Case(
        fa.mse,
        lambda x, t, w: fa.mse.forward_backward(x, t, weight=w * w),
        lambda x, t, w: weighted_mse(x, t, w * w),
        (WHOLE, WHOLE, WHOLE),
    ),
    "mse weights of columns": Case(
        fa.mse,
        lambda x, t, w: fa.mse.forward_backward(x, t, weight=w * w),
        lambda x, t, w: weighted_mse(x, t, w * w),
        (WHOLE, WHOLE, ROW),
    ),
    "huber weights of rows": Case(
        fa.huber,
        lambda x, t, w: fa.huber.backward(1.0, x, t, weight=w, reduction="none"),
        lambda x, t, w: w * huber(x, t)[1],
        (WHOLE, WHOLE, (ROWS, 1)),
    ),
}


def arrays_of(shapes: tuple[tuple[int, ...], ...], dtype: Any, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        rng.uniform(0.1, 2, shape).astype(dtype) * rng.choice([-1, 1], shape).astype(dtype)
        for shape in shapes
    ]


@pytest.mark.parametrize("dtype", [np.float32, *only_long(np.float16, np.float64)])
@pytest.mark.parametrize("name", CASES)
def test_values(name: str, dtype: Any) -> None:
    """The second call, by the plan of the first, computes other arrays as correctly."""
    case = CASES[name]
    case.call(*arrays_of(case.shapes, dtype, 1))
    assert any(case.function._plans.values())
    arrays = arrays_of(case.shapes, dtype, 2)
    found = case.call(*arrays)
    expected = case.reference(*(each.astype(np.float64) for each in arrays))
    if not isinstance(expected, tuple):
        found, expected = (found,), (expected,)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        assert one.shape == np.shape(other)
        np.testing.assert_allclose(
            one, other, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps
        )
    case.function._plans.clear()
    again = case.call(*arrays)
    for one, first in zip(found, again if isinstance(again, tuple) else (again,), strict=True):
        np.testing.assert_array_equal(one, first)
        assert one.flags.c_contiguous == first.flags.c_contiguous
        assert type(one) is type(first)


def spread(array: Any) -> Any:
    """Return the same elements, two apart along the last axis."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


@pytest.mark.parametrize("layout", [np.asfortranarray, spread, lambda array: array[::-1]])
@pytest.mark.parametrize("name", CASES)
def test_layouts(name: str, layout: Callable[[Any], Any]) -> None:
    """Plans take arrays of any layout, and return the same as for contiguous ones, in C order."""
    case = CASES[name]
    for seed in 1, 2:
        arrays = [layout(each) for each in arrays_of(case.shapes, np.float64, seed)]
        found, wanted = (
            results if isinstance(results, tuple) else (results,)
            for results in (case.call(*arrays), case.reference(*arrays))
        )
        contiguous = case.call(*(each.copy() for each in arrays))
        contiguous = contiguous if isinstance(contiguous, tuple) else (contiguous,)
        for one, other, same in zip(found, wanted, contiguous, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-14)
            np.testing.assert_array_equal(one, same)
        case.function._plans.clear()
        again = case.call(*arrays)
        for one, first in zip(found, again if isinstance(again, tuple) else (again,), strict=True):
            np.testing.assert_array_equal(one, first)
            assert np.shape(one) == np.shape(first)
            assert getattr(one, "strides", None) == getattr(first, "strides", None)


@pytest.mark.parametrize("interleaved_axis", [-1, 0])
@pytest.mark.parametrize("gate", ["first", "second"])
def test_interleaved_halves(gate: str, interleaved_axis: int) -> None:
    for seed in 1, 2, 3:
        x, dy = arrays_of((WHOLE, HALF), np.float64, seed)
        if interleaved_axis == 0:
            x, dy = x.T, dy.T
        options = {"interleaved": True, "gate": gate, "axis": interleaved_axis}
        halves = np.moveaxis(x, interleaved_axis, 0)[::2], np.moveaxis(x, interleaved_axis, 0)[1::2]
        opened, value = halves if gate == "first" else halves[::-1]
        opening = sigmoid(opened)
        wanted = np.moveaxis(opened * opening * value, 0, interleaved_axis)
        np.testing.assert_allclose(fa.swiglu(x, **options), wanted, rtol=1e-14)
        dx = np.moveaxis(fa.swiglu.backward(dy, x, **options), interleaved_axis, 0)
        dy = np.moveaxis(dy, interleaved_axis, 0)
        gradients = dy * value * opening * (1 + opened * (1 - opening)), dy * opened * opening
        for k, each in enumerate(gradients if gate == "first" else gradients[::-1]):
            np.testing.assert_allclose(dx[k::2], each, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels(dtype: Any) -> None:
    """Labels are checked in every call, and ignored rows ignored."""
    (x,) = arrays_of((WHOLE,), dtype, 3)
    labels = np.arange(ROWS)
    for _ in range(3):
        loss, dx = fa.softmax_cross_entropy.forward_backward(x, labels)
        p = softmax(x.astype(np.float64), -1)
        one_hot = np.eye(COLUMNS)[labels]
        np.testing.assert_allclose(loss, -np.log(p[one_hot > 0]).mean(), rtol=1e-6)
        np.testing.assert_allclose(dx, (p - one_hot) / ROWS, atol=1e-7)
        for wrong in COLUMNS, -1, 2**40:
            with pytest.raises(ValueError, match=rf"targets\[2\] is {wrong}"):
                fa.softmax_cross_entropy.forward_backward(x, np.array([0, 1, wrong, 3, 4]))
        some = np.array([0, -100, 2, -100, 4])
        loss = fa.softmax_cross_entropy(x, some)
        np.testing.assert_allclose(loss, -np.log(p[[0, 2, 4], [0, 2, 4]]).mean(), rtol=1e-6)
        labels = labels + 1
    x[0, 0] = np.nan
    assert np.isnan(fa.softmax_cross_entropy(x, labels))


def losses_of_classes() -> dict[str, tuple[Any, Callable[[Any], Any], Callable[..., Any]]]:
    """Return, by name, the function, its input from logits, and losses and gradients in float64 of input and labels."""

    def one_hot(labels: Any) -> Any:
        return np.eye(COLUMNS)[labels]

    return {
        "softmax_cross_entropy": (
            fa.softmax_cross_entropy,
            lambda x: x,
            lambda x, z: (-np.log(softmax(x, -1)[one_hot(z) > 0]), softmax(x, -1) - one_hot(z)),
        ),
        "nll": (fa.nll, lambda x: x, lambda x, z: (-x[one_hot(z) > 0], -one_hot(z))),
        "cross_entropy": (
            fa.cross_entropy,
            lambda x: softmax(x, -1),
            lambda x, z: (-np.log(x[one_hot(z) > 0]), -one_hot(z) / x),
        ),
    }


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", losses_of_classes())
def test_losses_of_classes(name: str, reduction: str, dtype: Any) -> None:
    """With and without weights of classes and a gradient of the loss; bits are those of a call without a plan."""
    f, input_of, reference = losses_of_classes()[name]
    weights = np.linspace(0.5, 2, COLUMNS).astype(dtype)
    eps = float(np.finfo(dtype).eps)
    for weight, dloss in (None, 1.0), (weights, 1.0), (None, 2.5), (weights, 3):
        labels = np.arange(ROWS)
        options = {"weight": weight, "reduction": reduction}
        options = {key: value for key, value in options.items() if value is not None}
        f._plans.clear()
        for k in range(3):
            x = input_of(arrays_of((WHOLE,), float, k)[0]).astype(dtype)
            found = f.forward_backward(x, labels, dloss, **options)
            assert all(f._plans.values())
            plans = dict(f._plans)
            f._plans.clear()
            for one, other in zip(
                found, f.forward_backward(x, labels, dloss, **options), strict=True
            ):
                np.testing.assert_array_equal(one, other)
                assert type(one) is type(other)
                assert one.dtype == dtype
            f._plans.update(plans)
            losses, dx = reference(x.astype(float), labels)
            w = np.ones(ROWS) if weight is None else weights.astype(float)[labels]
            divisor = w.sum() if reduction == "mean" else 1
            losses, dx = losses * w, dx * w[:, None] * dloss / divisor
            losses = losses if reduction == "none" else losses.sum() / divisor
            for one, right in zip(found, (losses, dx), strict=True):
                size = np.abs(right).max()
                np.testing.assert_allclose(one, right, rtol=8 * eps, atol=8 * eps * size)
            for wrong in COLUMNS, -1, 2**40:
                some = labels.copy()
                some[2] = wrong
                with pytest.raises(ValueError, match=rf"targets\[2\] is {wrong}"):
                    f.forward_backward(x, some, dloss, **options)
            some = labels.copy()
            some[2] = -100
            loss, dx = f.forward_backward(x, some, dloss, **options)
            assert (dx[2] == 0).all()
            assert np.isfinite(loss).all()
            labels = labels + 1


@pytest.mark.parametrize("shape", [WHOLE, ROW, (ROWS, 1)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_weights_of_other_types(shape: tuple[int, ...], reduction: str) -> None:
    """They are rounded to the type of the predictions, in a plan as without."""
    for kind in np.float64, np.float16, int, ">f4":
        fa.mse._plans.clear()
        for seed in range(3):
            x, z = arrays_of((WHOLE, WHOLE), np.float32, seed)
            weight = (np.abs(arrays_of((shape,), float, seed)[0]) * 2).astype(kind)
            found = fa.mse.forward_backward(x, z, weight=weight, reduction=reduction)
            w = np.broadcast_to(weight.astype(np.float32).astype(float), WHOLE)
            losses, total = w * (x.astype(float) - z) ** 2, w.sum() if reduction == "mean" else 1
            right = losses if reduction == "none" else losses.sum() / total
            slopes = 2 * w * (x.astype(float) - z) / total
            for one, other in zip(found, (right, slopes), strict=True):
                assert one.dtype == np.float32
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_weights_without_a_total() -> None:
    x, labels = np.zeros((2, 3), np.float32), np.array([0, 1])
    for weight in np.ones(3, np.float32), np.zeros(3, np.float32), np.ones(3, np.float32):
        loss = fa.softmax_cross_entropy(x, labels, weight=weight)
        assert np.isnan(loss) == (weight[0] == 0)
    targets = np.ones((2, 3), np.float32)
    for scale in 1, 0, 1:
        weight = np.full(3, scale, np.float32)
        assert np.isnan(fa.mse(x, targets, weight=weight)) == (scale == 0)


def test_probabilities() -> None:
    for _ in range(3):
        x, labels = arrays_of((WHOLE,), np.float32, 7)[0], np.arange(ROWS)
        loss, dx, found = fa.softmax_cross_entropy.forward_backward(
            x, labels, return_probabilities=True
        )
        right = softmax(x.astype(float), -1)
        np.testing.assert_allclose(found, right, rtol=1e-6)
        np.testing.assert_allclose(dx, (right - np.eye(COLUMNS)[labels]) / ROWS, atol=1e-7)
        results = fa.softmax_cross_entropy(x, labels, return_probabilities=True)
        np.testing.assert_array_equal(results[0], loss)
        np.testing.assert_array_equal(results[1], found)


def test_dropout() -> None:
    """A generator goes on, a seed repeats itself, and another seed has other numbers."""
    x = np.ones((ROWS, COLUMNS), np.float32)
    fa.dropout(x, 0.5, rng=np.random.default_rng(0))
    rng, same = np.random.default_rng(7), np.random.default_rng(7)
    keys = [int(same.integers(2**64, dtype=np.uint64)) for _ in range(3)]
    found = [fa.dropout(x, 0.5, rng=rng) for _ in keys]
    for y, key in zip(found, keys, strict=True):
        np.testing.assert_array_equal(y, fa.dropout(x, 0.5, rng=key))
        np.testing.assert_array_equal(y, fa.dropout.backward(x, 0.5, rng=key))
        np.testing.assert_array_equal(y, fa.relu(x, dropout=0.5, rng=key))
    assert (found[0] != found[1]).any()
    for wrong in -1, 2**64:
        with pytest.raises(ValueError, match="seed"):
            fa.dropout(x, 0.5, rng=wrong)
    with pytest.raises(TypeError, match="generator"):
        fa.dropout.backward(x, 0.5, rng=rng)


def test_gumbel_noise() -> None:
    """A seed repeats itself, another has other numbers, and a generator goes on."""
    x, dy = arrays_of((WHOLE, WHOLE), np.float64, 4)
    noise = np.log(np.maximum(fa.gumbel_softmax(np.zeros(WHOLE), rng=5), 1e-300))
    for wanted in (x, 2 * x, x.T.copy().T):
        y, dx = fa.gumbel_softmax.forward_backward(wanted, dy, rng=5)
        np.testing.assert_allclose(y, softmax(wanted + noise, -1), 1e-12, 1e-15)
        np.testing.assert_allclose(dx, softmax_gradient(dy, y, -1), 1e-12, 1e-15)
        np.testing.assert_array_equal(fa.gumbel_softmax(wanted, rng=5), y)
        assert (fa.gumbel_softmax(wanted, rng=6) != y).any()
        hard = fa.gumbel_softmax(wanted, rng=5, hard=True)
        np.testing.assert_array_equal(hard.argmax(-1), y.argmax(-1))
        assert ((hard == 0) | (hard == 1)).all()
    rng = np.random.default_rng(0)
    assert (fa.gumbel_softmax(x, rng=rng) != fa.gumbel_softmax(x, rng=rng)).any()


def test_domains() -> None:
    """Elements of a parameter are checked in every call."""
    x = np.ones((ROWS, COLUMNS), np.float32)
    fa.huber.forward_backward(x, x, delta=np.ones(COLUMNS, np.float32))
    with pytest.raises(ValueError, match="delta"):
        fa.huber.forward_backward(x, x, delta=-np.ones(COLUMNS, np.float32))
    y, positive = fa.prelu(x, 0.5), np.full(COLUMNS, 0.5, np.float32)
    fa.prelu.backward_from_output(x, y, positive)
    with pytest.raises(ValueError, match="weight must not be negative"):
        fa.prelu.backward_from_output(x, y, -positive)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(">f4"),
        lambda x: x.T,
        lambda x: x[:, ::2],
        lambda x: x[0],
        lambda x: x.astype(int),
        lambda x: x.tolist(),
        lambda x: x[:0],
    ],
)
def test_what_plans_do_not_share(change: Callable[[Any], Any]) -> None:
    x = np.linspace(-2, 3, ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
    fa.elu(x, alpha=0.5, bias=1.0)
    other = change(x)
    found = fa.elu(other, alpha=0.5, bias=1.0)
    z = np.asarray(other, np.float64) + 1
    np.testing.assert_allclose(found, np.where(z > 0, z, 0.5 * np.expm1(z)), rtol=1e-6)
    assert found.dtype == np.result_type(np.asarray(other).dtype.newbyteorder("="), np.float32)


def test_signed_zeros() -> None:
    x = np.full((2, 2), -1, np.float32)
    for value in 0.0, -0.0, 0.0:
        for _ in range(2):
            y = fa.threshold(x, threshold=0.0, value=value)
            np.testing.assert_array_equal(np.signbit(y), np.signbit(value))


def test_equal_arrays() -> None:
    """Arguments that were one array in the first call need not be in the next."""
    x = np.linspace(-2, 3, 6, dtype=np.float32).reshape(2, 3)
    dy = np.arange(6, dtype=np.float32).reshape(2, 3)
    fa.relu.backward(x, x, bias=x[0])
    dx, dbias = fa.relu.backward(dy, x, bias=np.zeros(3, np.float32))
    np.testing.assert_array_equal(dx, dy * (x > 0))
    np.testing.assert_array_equal(dbias, (dy * (x > 0)).sum(0))


def test_output() -> None:
    """An output is written, and one that is read-only refused, whatever came before."""
    x, out = np.ones((2, 3), np.float32), np.empty((2, 3), np.float32)
    for _ in range(2):
        assert fa.elu(x, alpha=0.5, out=out) is out
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        fa.elu(x, alpha=0.5, out=out)


def test_bound_functions() -> None:
    """They have plans of their own."""
    x = np.full((2, 3), -1, np.float32)
    for alpha in 1.0, 0.5:
        f = fa.elu.bind(alpha=alpha)
        for _ in range(2):
            np.testing.assert_allclose(f(x, scale=2.0), 2 * alpha * np.expm1(x), rtol=1e-6)


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans keep no array, and are not many."""
    monkeypatch.setattr(function, "_MAX_PLANS", 4)
    for columns in range(1, 20):
        x, b = np.ones((2, columns), np.float32), np.ones(columns, np.float32)
        fa.prelu(x, b)
        fa.prelu.backward(x, x, b)
        fa.relu(x, bias=b)
        fa.logsumexp(x, axis=0)
        fa.layer_norm.backward(x, x, weight=b)
        fa.batch_norm(x, weight=b)
        fa.mse(x, x, weight=b)
        fa.huber(x, x, weight=x, reduction="none")
        fa.nll(x, np.zeros(2, int), weight=b)
        references = [weakref.ref(x), weakref.ref(b)]
        del x, b
        gc.collect()
        assert [reference() for reference in references] == [None, None]
    assert 0 < len(fa.prelu._plans) <= 4
