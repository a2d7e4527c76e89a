"""Batch normalization, against a formula in longdouble, PyTorch and finite differences."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from references import needs_long_double
from representatives import only_long

import fastact as fa
from fastact import baseline

Array = NDArray[Any]

# Small and large, of 2 to 4 dimensions: kernels differ.
SHAPES = [(2, 3), (32, 100), (5, 7, 3), (4, 3, 6, 5), (300, 70), (40, 3, 25, 25), (2, 2, 9000)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def parameters(channels: int, dtype: Any = np.float64) -> dict[str, Array]:
    return {
        "weight": numbers(channels, seed=2, dtype=dtype),
        "bias": numbers(channels, seed=3, dtype=dtype),
    }


def averages(channels: int, dtype: Any = np.float64) -> dict[str, Array]:
    return {
        "running_mean": numbers(channels, seed=4, dtype=dtype),
        "running_var": np.random.default_rng(5).random(channels).astype(dtype) + dtype(0.5),
    }


def reference(x: Array, dy: Array, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """Return y, dx, dweight, dbias, mean and unbiased variance, and the sizes of the terms; channels along axis 1."""
    channels = x.shape[1]
    x, dy = (np.moveaxis(np.asarray(each, np.longdouble), 1, -1) for each in (x, dy))
    shape, count = x.shape, x.size // channels
    x, dy = x.reshape(-1, channels), dy.reshape(-1, channels)
    weight, bias = np.asarray(weight, np.longdouble), np.asarray(bias, np.longdouble)
    deviation = x - x[0]  # exact in longdouble
    mean = deviation.mean(axis=0)
    deviation = deviation - mean
    variance = (deviation**2).mean(axis=0)
    rstd = 1 / np.sqrt(variance + np.longdouble(eps))
    normal = deviation * rstd
    dweight, dbias = (dy * normal).sum(axis=0), dy.sum(axis=0)
    dx = (dy - dbias / count - normal * dweight / count) * rstd * weight
    size = 1 + np.abs(normal)
    sizes = [
        size * np.abs(weight) + np.abs(bias),
        (np.abs(dy) + np.abs(dy).mean(0) + size * np.abs(dy * normal).mean(0)) * rstd * abs(weight),
        (np.abs(dy) * size).sum(axis=0),
        np.abs(dy).sum(axis=0),
    ]
    results = [normal * weight + bias, dx, dweight, dbias]
    for some in (results, sizes):
        some[:2] = [np.moveaxis(each.reshape(shape), -1, 1) for each in some[:2]]
    return [*results, x[0] + mean, variance * count / (count - 1)], sizes


def assert_close(got: Any, exact: Array, size: Array, ulps: float) -> None:
    limits = np.finfo(got.dtype)
    unit = np.maximum(size, float(limits.tiny)) * float(limits.eps)
    worst = np.max(np.abs(got - exact) / unit, initial=0)
    assert worst <= ulps, worst


@needs_long_double
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@every_shape
def test_values_and_gradients(dtype: str, shape: tuple[int, ...]) -> None:
    inner = np.float64 if dtype == "float64" else np.float32
    x, dy = numbers(*shape, dtype=dtype), numbers(*shape, seed=1, dtype=dtype)
    given, running = parameters(shape[1], inner), averages(shape[1], inner)
    exact, sizes = reference(x, dy, **given)
    *results, mean, variance = fa.batch_norm.forward_backward(x, dy, **given, **running)
    for got, right, size in zip(results, exact, sizes, strict=False):
        assert_close(got, right, size, 8)
    for got, old, new in ((mean, "running_mean", 4), (variance, "running_var", 5)):
        expected = 0.9 * running[old] + 0.1 * exact[new].astype(np.float64)
        np.testing.assert_allclose(got, expected, rtol=8 * np.finfo(inner).eps, atol=1e-7)
        assert got.dtype == inner
    y, *again = fa.batch_norm(x, **given, **running)
    np.testing.assert_array_equal(y, results[0])
    np.testing.assert_array_equal(again, [mean, variance])
    for got, same in zip(fa.batch_norm.backward(dy, x, **given), results[1:], strict=True):
        np.testing.assert_array_equal(got, same)
    exact, sizes = reference(x, dy, np.ones(shape[1]), 0.0)
    for got, right, size in zip(fa.batch_norm.forward_backward(x, dy), exact, sizes, strict=False):
        assert_close(got, right, size, 8)


@needs_long_double
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(40, 6), (3000, 6), (20, 3, 400)], ids=str)
def test_magnitudes_and_offsets(dtype: str, shape: tuple[int, ...]) -> None:
    base, dy = numbers(*shape), numbers(*shape, seed=1, dtype=dtype)
    largest = 1e35 if dtype == "float32" else 1e150
    for scale in (1 / largest, 1e-20, 1.0, 1e10, largest):
        for offset in (0.0, 100.0, 1e6):
            with np.errstate(over="ignore"):
                x = ((base + offset) * scale).astype(dtype)
            if not np.isfinite(x).all():
                continue
            exact, sizes = reference(x, dy, 1.0, 0.0)
            for got, right, size in zip(
                fa.batch_norm.forward_backward(x, dy), exact, sizes, strict=False
            ):
                assert_close(got, right, size, 8)
    x = base.astype(dtype)
    x[0] = 1e8  # what differences are taken from may be anything
    exact, sizes = reference(x, dy, 1.0, 0.0)
    for got, right, size in zip(fa.batch_norm.forward_backward(x, dy), exact, sizes, strict=False):
        assert_close(got, right, size, 32)  # sums in float64, of terms far smaller than one of them


@every_shape
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float32", *only_long("float64", "bfloat16")])
def test_pytorch(shape: tuple[int, ...], training: bool, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x, dy = numbers(*shape, dtype=dtype), numbers(*shape, seed=1, dtype=dtype)
    given, running = parameters(shape[1], np.float32), averages(shape[1], np.float32)
    inputs = [
        torch.tensor(each.astype(np.float64), requires_grad=True) for each in (x, *given.values())
    ]
    new = [torch.tensor(each.astype(np.float64)) for each in running.values()]
    y = torch.nn.functional.batch_norm(inputs[0], *new, *inputs[1:], training, 0.3, 1e-3)
    y.backward(torch.tensor(dy.astype(np.float64)))
    expected = [y.detach(), *(each.grad for each in inputs), *(new if training else [])]
    options: dict[str, Any] = {"training": training, "momentum": 0.3, "eps": 1e-3}
    results = fa.batch_norm.forward_backward(x, dy, **given, **running, **options)
    for got, right in zip(results, expected, strict=True):
        unit = np.finfo(np.float32).eps if got.dtype.itemsize > 2 else 2.0**-8
        tolerance = 16 * float(unit)
        scale = float(np.abs(right.numpy()).max())
        np.testing.assert_allclose(
            got.astype(float), right.numpy(), rtol=tolerance, atol=tolerance * scale
        )
    gradients = fa.batch_norm.backward(dy, x, **given, **running, **options)
    for one, other in zip(gradients, results[1:4], strict=True):
        np.testing.assert_array_equal(one, other)
    y = fa.batch_norm(x, **given, **running, **options)
    np.testing.assert_array_equal(y[0] if training else y, results[0])
    for key, array in averages(shape[1], np.float32).items():
        np.testing.assert_array_equal(running[key], array)  # unchanged


@pytest.mark.parametrize("shape", [(6, 3), (3, 2, 4), (1200, 20)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_finite_differences(shape: tuple[int, ...], training: bool) -> None:
    x, dy = numbers(*shape), numbers(*shape, seed=1)
    given, running = parameters(shape[1]), averages(shape[1])
    arguments = {"x": x, **given}

    def loss(x: Array, **given: Array) -> float:
        y = fa.batch_norm(x, **given, **running, training=training)
        return float(np.sum((y[0] if training else y) * dy))

    gradients = fa.batch_norm.backward(dy, x, **given, **running, training=training)
    for key, gradient in zip(arguments, gradients, strict=True):
        for index in list(np.ndindex(gradient.shape))[:30]:
            step = np.zeros_like(arguments[key])
            step[index] = 1e-5
            above, below = (
                loss(**(arguments | {key: arguments[key] + sign * step})) for sign in (1, -1)
            )
            assert abs((above - below) / 2e-5 - gradient[index]) < 1e-6


@pytest.mark.parametrize("shape", [(12, 40), (6, 5, 8), (1000, 40), (30, 5, 200)], ids=str)
def test_layouts(shape: tuple[int, ...]) -> None:
    """Any layout gives the bits of contiguous arrays, in place as well."""
    x, dy, given = numbers(*shape), numbers(*shape, seed=1), parameters(shape[1])
    expected = fa.batch_norm.forward_backward(x, dy, **given)
    read_only = x.copy()
    read_only.flags.writeable = False
    for change in (
        np.asfortranarray,
        lambda a: a[::-1, ..., ::-1].copy()[::-1, ..., ::-1],
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        lambda a: a.astype(a.dtype.newbyteorder()),
        lambda a: read_only if a is x else a,
    ):
        outs = tuple(np.asfortranarray(np.zeros(shape)) for _ in range(2)) + (None, None)
        for out in (None, outs):
            results = fa.batch_norm.forward_backward(change(x), change(dy), **given, out=out)
            for got, right in zip(results, expected, strict=True):
                np.testing.assert_array_equal(got, right)
    last = fa.batch_norm.forward_backward(
        np.moveaxis(x, 1, -1), np.moveaxis(dy, 1, -1), axis=-1, **given
    )
    for got, right in zip(last[:2], expected[:2], strict=True):
        np.testing.assert_allclose(np.moveaxis(got, -1, 1), right, rtol=1e-9, atol=1e-11)
    first, second = x.copy(), dy.copy()
    fa.batch_norm.forward_backward(first, second, **given, out=(first, second, None, None))
    np.testing.assert_array_equal(first, expected[0])
    np.testing.assert_array_equal(second, expected[1])
    memory = np.zeros((shape[0] + 1, *shape[1:]))
    memory[:-1] = x
    fa.batch_norm(memory[:-1], **given, out=memory[1:])
    np.testing.assert_array_equal(memory[1:], expected[0])


def test_running_averages_in_place() -> None:
    x, running = numbers(20, 4), averages(4)
    expected = fa.batch_norm(x, **running)
    mean, variance = (each.copy() for each in running.values())
    results = fa.batch_norm(x, running_mean=mean, running_var=variance, out=(None, mean, variance))
    assert results[1] is mean
    np.testing.assert_array_equal(mean, expected[1])
    np.testing.assert_array_equal(variance, expected[2])
    _, mean = fa.batch_norm(x, running_mean=running["running_mean"])
    np.testing.assert_array_equal(mean, expected[1])


@pytest.mark.parametrize("shape", [(4000, 30), (16, 300), (30, 4, 2000)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_bits(shape: tuple[int, ...], dtype: str) -> None:
    given = parameters(shape[1], np.dtype(dtype).type)
    x, dy = numbers(*shape, dtype=dtype), numbers(*shape, seed=1, dtype=dtype)
    before, threshold, found = fa.get_num_threads(), fa.get_parallel_threshold(), []
    try:
        fa.set_parallel_threshold(1000)
        for threads in (1, 2):
            fa.set_num_threads(threads)
            found.append((*fa.batch_norm.forward_backward(x, dy, **given), fa.batch_norm(x)))
    finally:
        fa.set_num_threads(before)
        fa.set_parallel_threshold(threshold)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("shape", [(20, 5), (5000, 5)], ids=str)
def test_special_values(shape: tuple[int, ...]) -> None:
    """NaN and infinity spoil their channel only; a constant channel gives the bias."""
    x, bias = numbers(*shape), numbers(5, seed=1)
    clean = fa.batch_norm(x)
    x[1, 0], x[2, 1], x[:, 2] = np.nan, -np.inf, 7.1
    y, dx = fa.batch_norm.forward_backward(x, np.ones(shape))
    assert np.isnan(y[:, :2]).all()
    assert np.isnan(dx[:, :2]).all()
    np.testing.assert_array_equal(y[:, 3:], clean[:, 3:])
    np.testing.assert_array_equal(fa.batch_norm(x, bias=bias)[:, 2], np.full(len(x), bias[2]))


def test_empty() -> None:
    for shape in ((0, 3), (4, 0), (2, 3, 0)):
        x, given = np.ones(shape), parameters(shape[1])
        y, dx, dweight, dbias, *running = fa.batch_norm.forward_backward(
            x, x, **given, **averages(shape[1])
        )
        assert y.shape == dx.shape == shape
        assert (dweight == 0).all()
        assert (dbias == 0).all()
        for got, old in zip(running, averages(shape[1]).values(), strict=True):
            np.testing.assert_array_equal(got, old)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"eps": -1.0}, ValueError, "eps must be at least 0"),
        ({"momentum": -1.0}, ValueError, "momentum must be at least 0"),
        ({"weight": np.ones(3)}, ValueError, r"weight has shape \(3,\), expected \(5,\)"),
        ({"running_var": np.ones(3)}, ValueError, r"running_var has shape \(3,\)"),
        ({"training": False}, ValueError, "running_mean and running_var are required"),
        ({"axis": 2}, ValueError, "axis 2 is out of bounds"),
        ({"wieght": 1}, TypeError, "did you mean 'weight'"),
    ],
)
def test_errors(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        fa.batch_norm(np.ones((3, 5)), **options)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="one element for each channel"):
        fa.batch_norm(np.ones((1, 5)))


def test_what_the_backward_pass_needs() -> None:
    assert fa.batch_norm.operations["backward"].saved == ("x",)
    assert "running_mean" not in fa.batch_norm.operations["backward"].outputs


@pytest.mark.parametrize("has_parameters", [False, True])
@pytest.mark.parametrize("shape", [(12, 5), (3, 4, 5)], ids=str)
def test_baseline(has_parameters: bool, shape: tuple[int, ...]) -> None:
    """The yardstick, in plain NumPy, is right."""
    x, dy = numbers(*shape), numbers(*shape, seed=1)
    given = parameters(shape[1]) if has_parameters else {}
    exact, _ = reference(x, dy, given.get("weight", 1.0), given.get("bias", 0.0))
    results = baseline.batch_norm.forward_backward(x, dy, **given)
    for got, right in zip(results, exact[: 2 + len(given)], strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(baseline.batch_norm(x, **given), results[0])
    gradients = baseline.batch_norm.backward(dy, x, **given)
    for got, right in zip(gradients if given else (gradients,), results[1:], strict=True):
        np.testing.assert_array_equal(got, right)


def test_unpickled_arrays() -> None:
    """Their dtype is another object, so that the plan of earlier calls is not theirs."""
    x = numbers(6, 8)
    results = [fa.batch_norm(x) for _ in range(3)]
    np.testing.assert_array_equal(fa.batch_norm(pickle.loads(pickle.dumps(x))), results[-1])
