"""Layer and RMS normalization, against formulas in longdouble, PyTorch and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from references import needs_long_double

import fastact as fa
from fastact import baseline

Array = NDArray[Any]

NAMES = ("layer_norm", "rms_norm")
BIAS = {"layer_norm": ("weight", "bias"), "rms_norm": ("weight",)}
DTYPES = ("float16", "float32", "float64")

every_name = pytest.mark.parametrize("name", NAMES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def parameters(name: str, length: int, dtype: Any = np.float64) -> dict[str, Array]:
    return {each: numbers(length, seed=len(each), dtype=dtype) for each in BIAS[name]}


def reference(
    name: str, x: Array, dy: Array, weight: Array, bias: Any = 0.0, eps: float = 1e-5
) -> tuple[list[Array], list[Array]]:
    """Return y, dx, dweight and dbias for rows along the last axis, and the sizes of the terms that each sums.

    Subtracting the mean leaves an error of the size of the deviation, also where an element is near the mean.
    """
    x, dy, weight, bias = (np.asarray(each, np.longdouble) for each in (x, dy, weight, bias))
    deviation = x
    if name == "layer_norm" and x.size:
        deviation = (
            x - x[..., :1]
        )  # exact in longdouble, whose digits the mean of a large offset would take
        deviation = deviation - deviation.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt(np.mean(deviation**2, axis=-1, keepdims=True) + np.longdouble(eps))
    normal = deviation * rstd
    g = dy * weight
    along = normal * np.mean(g * normal, axis=-1, keepdims=True)
    g_mean = g.mean(axis=-1, keepdims=True) if name == "layer_norm" else np.longdouble(0)
    size = np.abs(normal) + (name == "layer_norm")
    terms = size * np.mean(np.abs(g * normal), axis=-1, keepdims=True)
    terms += np.mean(np.abs(g), axis=-1, keepdims=True) + np.abs(g)
    others = tuple(range(x.ndim - 1))
    results = [
        normal * weight + bias,
        (g - g_mean - along) * rstd,
        (dy * normal).sum(axis=others),
        dy.sum(axis=others),
    ]
    sizes = [
        size * np.abs(weight) + np.abs(bias),
        terms * rstd,
        (np.abs(dy) * size).sum(axis=others),
        np.abs(dy).sum(axis=others),
    ]
    return results, sizes


def assert_close(got: Any, exact: Array, size: Array, ulps: float) -> None:
    """Check errors in units in the last place of the size of the terms; below the normal range, of its end."""
    limits = np.finfo(got.dtype)
    unit = np.maximum(size, float(limits.tiny)) * float(limits.eps)
    worst = np.max(np.abs(got - exact) / unit, initial=0)
    assert worst <= ulps, worst


@needs_long_double
@every_dtype
@every_name
@pytest.mark.parametrize(
    ("rows", "length"), [(1, 1), (3, 2), (5, 31), (4, 128), (37, 129), (3, 1000), (300, 70)]
)
def test_values_and_gradients(name: str, dtype: str, rows: int, length: int) -> None:
    f = fa.get(name)
    x, dy = numbers(rows, length, dtype=dtype), numbers(rows, length, seed=1, dtype=dtype)
    given = parameters(name, length, np.float64 if dtype == "float64" else np.float32)
    exact, sizes = reference(name, x, dy, **given)
    results = f.forward_backward(x, dy, **given)
    assert len(results) == 2 + len(given)
    for got, right, size in zip(results, exact, sizes, strict=False):
        assert_close(got, right, size, 4)
    assert [each.dtype for each in results[:2]] == [dtype] * 2
    np.testing.assert_array_equal(f(x, **given), results[0])
    for got, same in zip(f.backward(dy, x, **given), results[1:], strict=True):
        np.testing.assert_array_equal(got, same)
    exact, sizes = reference(name, x, dy, np.ones(length))
    for got, right, size in zip(f.forward_backward(x, dy), exact, sizes, strict=False):
        assert_close(got, right, size, 4)


@needs_long_double
@every_name
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_numbers_of_all_magnitudes(name: str, dtype: str, eps: float) -> None:
    """Squares neither overflow nor vanish, and an offset costs no digits."""
    f, limits = fa.get(name), np.finfo(dtype)
    base = numbers(7, 200)
    exponents = np.linspace(int(limits.minexp) - 12, int(limits.maxexp) - 4, 60)
    for exponent in exponents:
        scale = np.longdouble(2.0) ** np.longdouble(exponent)
        for offset in (0.0, 1.0, 1e3, 1e6):
            with np.errstate(under="ignore", over="ignore"):
                x = ((base + offset) * scale).astype(dtype)
            if not np.isfinite(x).all() or (eps == 0 and (np.ptp(x, axis=-1) == 0).any()):
                continue
            dy = numbers(7, 200, seed=1, dtype=dtype)
            exact, sizes = reference(name, x, dy, np.ones(200), eps=eps)
            with np.errstate(over="ignore"):
                y, dx = f.forward_backward(x, dy, eps=eps)
            assert_close(y, exact[0], sizes[0], 4)
            if np.max(sizes[1]) < limits.max / 4:
                assert_close(dx, exact[1], sizes[1], 6)


@every_name
def test_outliers_and_large_first_elements(name: str) -> None:
    """The first element, from which differences are taken, may be anything."""
    for dtype in ("float32", "float64"):
        for first in (1e4, 1e8, -1e15, 1e30):
            x, dy = numbers(3, 500, dtype=dtype), numbers(3, 500, seed=1, dtype=dtype)
            x[:, 0] = first
            exact, sizes = reference(name, x, dy, np.ones(500))
            for got, right, size in zip(
                fa.get(name).forward_backward(x, dy), exact, sizes, strict=False
            ):
                assert_close(got, right, size, 6)


@every_name
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_pytorch(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    f, given = fa.get(name), parameters(name, 96, np.float32)
    x, dy = numbers(4, 5, 96, dtype=dtype), numbers(4, 5, 96, seed=1, dtype=dtype)
    inputs = [
        torch.tensor(each.astype(np.float64), requires_grad=True) for each in (x, *given.values())
    ]
    function = getattr(torch.nn.functional, name)
    y = function(inputs[0], (96,), *inputs[1:], eps=1e-5)
    y.backward(torch.tensor(dy.astype(np.float64)))
    tolerance = 4 * float(np.finfo(np.float32).eps if x.dtype.itemsize > 2 else 2.0**-7)
    expected = [y.detach().numpy(), *(each.grad.numpy() for each in inputs)]
    for got, right in zip(f.forward_backward(x, dy, **given), expected, strict=True):
        np.testing.assert_allclose(
            got.astype(np.float64), right, rtol=tolerance, atol=tolerance * 4
        )


@every_name
def test_special_values_as_in_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = numbers(6, 40, dtype=np.float32)
    x[0, 3], x[1, 5], x[2, 7], x[3] = np.nan, np.inf, -np.inf, 2.5
    x[4] = 0
    dy = numbers(6, 40, seed=1, dtype=np.float32)
    dy[5, 2] = np.nan
    given = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, name)(given, (40,), eps=1e-5)
    expected.backward(torch.tensor(dy))
    y, dx = fa.get(name).forward_backward(x, dy)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, given.grad.numpy(), rtol=1e-4, atol=1e-3)


@every_name
def test_finite_differences(name: str) -> None:
    f, given = fa.get(name), parameters(name, 9)
    arguments = {"x": numbers(4, 9), **given}
    dy = numbers(4, 9, seed=3)

    def loss(arguments: dict[str, Array]) -> float:
        return float(np.sum(f(arguments["x"], weight=arguments["weight"], **bias(arguments)) * dy))

    def bias(arguments: dict[str, Array]) -> dict[str, Array]:
        return {"bias": arguments["bias"]} if "bias" in arguments else {}

    gradients = f.backward(dy, arguments["x"], **given)
    for key, gradient in zip(arguments, gradients, strict=True):
        for index in np.ndindex(gradient.shape):
            step = np.zeros_like(arguments[key])
            step[index] = 1e-6
            above, below = (
                loss(arguments | {key: arguments[key] + sign * step}) for sign in (1, -1)
            )
            assert abs((above - below) / 2e-6 - gradient[index]) < 1e-7


def layouts() -> dict[str, Callable[[Array], Array]]:
    def unaligned(x: Array) -> Array:
        memory = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        memory[...] = x
        return memory

    def read_only(x: Array) -> Array:
        x = x.copy()
        x.flags.writeable = False
        return x

    return {
        "reversed": lambda x: x[::-1, ..., ::-1].copy()[::-1, ..., ::-1],
        "fortran": np.asfortranarray,
        "strided": lambda x: np.repeat(np.repeat(x, 2, axis=-1), 3, axis=0)[::3, ..., ::2],
        "swapped": lambda x: x.astype(x.dtype.newbyteorder()),
        "unaligned": unaligned,
        "read-only": read_only,
        "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    }


@every_name
@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("length", [5, 70, 300])
def test_layouts(name: str, layout: str, length: int) -> None:
    """Any layout gives the bits of contiguous arrays."""
    f, change = fa.get(name), layouts()[layout]
    given = parameters(name, length)
    x, dy = change(numbers(6, 3, length)), change(numbers(6, 3, length, seed=1))
    expected = f.forward_backward(np.ascontiguousarray(x), np.ascontiguousarray(dy), **given)
    for got, right in zip(f.forward_backward(x, dy, **given), expected, strict=True):
        np.testing.assert_array_equal(got, right)
    outs = tuple(change(np.zeros_like(each)) for each in expected[:2]) + (None,) * len(given)
    if all(each is None or each.flags.writeable for each in outs):
        results = f.forward_backward(x, dy, **given, out=outs)
        assert results[0] is outs[0]
        assert results[1] is outs[1]
        for got, right in zip(results, expected, strict=True):
            np.testing.assert_array_equal(got, right)


@every_name
@pytest.mark.parametrize("axis", [0, 1, (1, 2), (0, 2), None, (2, 0), -2])
def test_axes(name: str, axis: Any) -> None:
    f, x, dy = fa.get(name), numbers(3, 4, 5), numbers(3, 4, 5, seed=1)
    axes = tuple(range(3)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(each % 3 for each in axes)
    shape = tuple(x.shape[each] for each in axes)
    given = {
        each: array.reshape(shape) for each, array in parameters(name, int(np.prod(shape))).items()
    }

    def rows_last(array: Array) -> Array:
        moved = np.moveaxis(array, axes, tuple(range(-len(axes), 0)))
        return moved.reshape(-1, int(np.prod(shape)))

    flat = {each: array.reshape(-1) for each, array in given.items()}
    expected = f.forward_backward(rows_last(x), rows_last(dy), **flat)
    results = f.forward_backward(x, dy, axis, **given)
    for got, right in zip(results[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(rows_last(got), right)
    for got, right in zip(results[2:], expected[2:], strict=True):
        assert got.shape == shape
        np.testing.assert_array_equal(got.reshape(-1), right)
    np.testing.assert_array_equal(f(x, axis, **given), results[0])


@every_name
def test_in_place_and_overlapping(name: str) -> None:
    f, given = fa.get(name), parameters(name, 50)
    x, dy = numbers(8, 50), numbers(8, 50, seed=1)
    expected = f.forward_backward(x, dy, **given)
    first, second = x.copy(), dy.copy()
    f.forward_backward(first, second, **given, out=(first, second, *(None,) * len(given)))
    np.testing.assert_array_equal(first, expected[0])
    np.testing.assert_array_equal(second, expected[1])
    memory = np.zeros((9, 50))
    memory[:8] = x
    f(memory[:8], **given, out=memory[1:])
    np.testing.assert_array_equal(memory[1:], expected[0])
    weight = given["weight"].copy()
    others = given | {"weight": weight}
    f.forward_backward(x, dy, **others, out=(None, None, weight, *(None,) * (len(given) - 1)))
    np.testing.assert_array_equal(weight, expected[2])


@every_name
@every_dtype
@pytest.mark.parametrize("shape", [(4000, 30), (70, 900), (3, 40_000)])
def test_threads_do_not_change_bits(name: str, dtype: str, shape: tuple[int, int]) -> None:
    f = fa.get(name)
    given = parameters(name, shape[1], np.float64 if dtype == "float64" else np.float32)
    x, dy = numbers(*shape, dtype=dtype), numbers(*shape, seed=1, dtype=dtype)
    before, found = fa.get_num_threads(), []
    try:
        for threads in (1, 2):
            fa.set_num_threads(threads)
            found.append((*f.forward_backward(x, dy, **given), *f.backward(dy, x, **given), f(x)))
    finally:
        fa.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@every_name
def test_empty_and_scalar(name: str) -> None:
    f = fa.get(name)
    for shape in ((0, 5), (5, 0), (0, 0), (2, 0, 3)):
        x, given = np.ones(shape), parameters(name, shape[-1])
        y, dx, *others = f.forward_backward(x, x, **given)
        assert y.shape == dx.shape == shape
        assert [each.shape for each in others] == [(shape[-1],)] * len(given)
        assert all((each == 0).all() for each in others)
    assert f(3.0).shape == ()
    assert f(np.float32(3)).dtype == np.float32
    np.testing.assert_allclose(f(3.0), 0.0 if name == "layer_norm" else 1.0, atol=1e-6)
    assert f(np.array([1, 2], np.int8)).dtype == np.float16
    assert f([1, 2, 3]).dtype == np.float64


def test_bias_alone_and_zeros() -> None:
    """The gradient is that of what is passed; a constant row gives the bias, and zeros keep their sign."""
    x, dy, bias = numbers(4, 6), numbers(4, 6, seed=1), numbers(6, seed=2)
    dx, dbias = fa.layer_norm.backward(dy, x, bias=bias)
    np.testing.assert_allclose(dbias, dy.sum(0), rtol=1e-14)
    np.testing.assert_array_equal(dx, fa.layer_norm.backward(dy, x))
    np.testing.assert_array_equal(fa.layer_norm(np.full((2, 6), 7.1), bias=bias), [bias, bias])
    assert np.signbit(fa.rms_norm(np.array([-0.0, 1.0])))[0]


def test_types_of_parameters() -> None:
    """Parameters of float32 do not widen float16; those of float64 widen float32, as in a product."""
    for x, weight, value, gradient in (
        ("float16", "float32", "float16", "float32"),
        ("float16", "float16", "float16", "float16"),
        ("float32", "float16", "float32", "float32"),
        ("float32", "float64", "float64", "float64"),
        ("float64", "float32", "float64", "float64"),
    ):
        array = numbers(3, 8, dtype=x)
        y, dx, dweight = fa.rms_norm.forward_backward(array, array, weight=np.ones(8, weight))
        assert (y.dtype, dx.dtype, dweight.dtype) == (value, value, gradient)


@every_name
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"eps": -1.0}, ValueError, "eps must be at least 0"),
        ({"eps": [1.0]}, ValueError, "eps must be a number"),
        ({"weight": np.ones(4)}, ValueError, r"weight has shape \(4,\), expected \(5,\)"),
        ({"weight": np.ones(5, complex)}, TypeError, "weight has dtype complex128"),
        ({"axis": 2}, ValueError, "axis 2 is out of bounds"),
        ({"axis": 0.5}, TypeError, "axis must be an integer"),
        ({"axis": (0, 0)}, ValueError, "repeats an axis"),
        ({"wieght": 1}, TypeError, "did you mean 'weight'"),
        ({"out": np.empty((3, 4))}, ValueError, "out has shape"),
    ],
)
def test_errors(name: str, options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        fa.get(name)(np.ones((3, 5)), **options)
    assert "\n" not in str(raised.value)


def test_shapes_of_gradients_must_match() -> None:
    with pytest.raises(ValueError, match=r"dy has shape \(5,\), x has \(3, 5\)"):
        fa.layer_norm.backward(np.ones(5), np.ones((3, 5)))


def test_bound_eps() -> None:
    x = numbers(3, 5)
    np.testing.assert_array_equal(fa.layer_norm.bind(eps=0.1)(x), fa.layer_norm(x, eps=0.1))
    with pytest.raises(ValueError, match="eps"):
        fa.layer_norm.bind(eps=-1)


def test_what_the_backward_pass_needs() -> None:
    for name in NAMES:
        assert fa.get(name).operations["backward"].saved == ("x",)


@every_name
@pytest.mark.parametrize("has_parameters", [False, True])
def test_baseline(name: str, has_parameters: bool) -> None:
    """The yardstick, in plain NumPy, is right."""
    x, dy = numbers(4, 5, 30), numbers(4, 5, 30, seed=1)
    given = parameters(name, 30) if has_parameters else {}
    exact, _ = reference(name, x, dy, **({"weight": np.ones(30)} | given))
    f = getattr(baseline, name)
    assert name in baseline.normalization_names()
    results = f.forward_backward(x, dy, **given)
    for got, right in zip(results, exact[: 2 + len(given)], strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(f(x, **given), results[0])
    gradients = f.backward(dy, x, **given)
    for got, right in zip(gradients if given else (gradients,), results[1:], strict=True):
        np.testing.assert_array_equal(got, right)
