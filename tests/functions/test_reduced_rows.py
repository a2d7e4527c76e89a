"""logsumexp and logmeanexp against wider references, SciPy, PyTorch and JAX; shapes, masks and special rows."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastact as fa

Array = np.ndarray[Any, Any]
NAMES = ["logsumexp", "logmeanexp"]


def value(name: str, x: Array, axis: Any = -1) -> Array:
    """Return it in what is wider than float64, on x86."""
    wide = np.asarray(x, np.longdouble)
    top = wide.max(axis, keepdims=True)
    total = np.exp(wide - top).sum(axis, keepdims=True)
    count = wide.size // total.size if name == "logmeanexp" else 1
    return (top + np.log(total / count)).squeeze(axis)


def shares(x: Array, axis: Any = -1) -> Array:
    wide = np.asarray(x, np.longdouble)
    e = np.exp(wide - wide.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def numbers(shape: tuple[int, ...], dtype: Any = np.float32, scale: float = 4) -> Array:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * scale).astype(dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 63, 64, 65, 1000, 70_000])
@pytest.mark.parametrize("scale", [0.01, 4, 1e4])
def test_errors(name: str, dtype: Any, length: int, scale: float) -> None:
    """Within 4 units in the last place of the result, or of the terms that it is a difference of."""
    x = numbers((3, length), dtype, scale)
    y = getattr(fa, name)(x)
    assert y.dtype == dtype
    assert y.shape == (3,)
    expected = value(name, x)
    terms = np.maximum(np.abs(x).max(-1), 1 if name == "logmeanexp" else 0)
    unit = np.spacing(np.maximum(np.abs(expected), terms).astype(dtype))
    assert (np.abs(y - expected) <= 4 * unit).all()
    dy = numbers((3,), dtype, 1)
    both = getattr(fa, name).forward_backward(x, dy)
    np.testing.assert_array_equal(both[0], y)
    right = shares(x) * dy[:, None]
    assert (np.abs(both[1] - right) <= 4 * np.spacing(np.abs(right).astype(dtype))).all()
    np.testing.assert_array_equal(getattr(fa, name).backward(dy, x), both[1])


def test_small_sums() -> None:
    """What one number adds to another much larger one is not lost where the larger one is 0."""
    x = np.array([0, -50, -51], np.float64)
    expected = np.exp(np.float64(-50)) + np.exp(np.float64(-51))
    np.testing.assert_allclose(fa.logsumexp(x), expected, rtol=1e-15)


def test_mean_of_equals_is_exact() -> None:
    for number in (0.1, -7.3, 1e4):
        row = np.full(37, number, np.float32)
        assert fa.logmeanexp(row) == row[0]


@pytest.mark.parametrize("name", NAMES)
def test_special_rows(name: str) -> None:
    f = getattr(fa, name)
    for length in (2, 100):
        row = np.zeros(length)
        row[1] = np.inf
        assert f(row) == np.inf
        row[0] = np.nan
        assert np.isnan(f(row))
        row[:] = -np.inf
        assert f(row) == -np.inf
        row[1] = np.nan
        assert np.isnan(f(row))
    assert fa.logsumexp(np.zeros((2, 0))).tolist() == [-np.inf, -np.inf]
    assert np.isnan(fa.logmeanexp(np.zeros((2, 0)))).all()
    assert f(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (2, 0), (-1, 1), None])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("fortran", [False, True])
def test_axes(name: str, axis: Any, keepdims: bool, fortran: bool) -> None:
    x = np.asarray(numbers((6, 70, 7), np.float64), order="F" if fortran else "C")
    y = getattr(fa, name)(x, axis=axis, keepdims=keepdims)
    expected = x.sum(axis, keepdims=keepdims)
    assert y.shape == expected.shape
    wide = value(name, x, axis).astype(float)
    np.testing.assert_allclose(y.reshape(wide.shape), wide, rtol=1e-13, atol=1e-13)
    dy = numbers(expected.shape, np.float64, 1)
    both = getattr(fa, name).forward_backward(x, dy, axis=axis, keepdims=keepdims)
    spread = dy.reshape(x.sum(axis, keepdims=True).shape)
    np.testing.assert_array_equal(both[0], y)
    np.testing.assert_allclose(both[1], shares(x, axis).astype(float) * spread, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_temperature_and_finite_differences(name: str) -> None:
    x, f, step = numbers((3, 9), np.float64, 2), getattr(fa, name), 1e-6
    np.testing.assert_allclose(
        f(x, temperature=2.5), value(name, x / 2.5).astype(float), rtol=1e-13
    )
    _, dx = f.forward_backward(x, 1.0, temperature=2.5)
    for place in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        change = f(x + moved, temperature=2.5) - f(x - moved, temperature=2.5)
        assert abs(dx[place] - change.sum() / (2 * step)) < 1e-8


@pytest.mark.parametrize("name", NAMES)
def test_where(name: str) -> None:
    x, mask = numbers((5, 33), np.float64), np.random.default_rng(1).random((5, 33)) < 0.5
    mask[2] = False
    y, dx = getattr(fa, name).forward_backward(x, 1.0, where=mask)
    for row in (0, 1, 3, 4):
        chosen = x[row, mask[row]]
        np.testing.assert_allclose(y[row], float(value(name, chosen)), rtol=1e-12)
        np.testing.assert_allclose(dx[row, mask[row]], shares(chosen).astype(float), rtol=1e-12)
        assert (dx[row, ~mask[row]] == 0).all()
    assert np.isnan(y[2]) if name == "logmeanexp" else y[2] == -np.inf
    assert (dx[2] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_types(name: str) -> None:
    f, x = getattr(fa, name), numbers((4, 50))
    out = np.empty(4)
    assert f(x, out=out) is out
    np.testing.assert_array_equal(out, f(x))
    own = x.copy()
    _, dx = f.forward_backward(own, 1.0, out=(None, own))
    assert dx is own
    np.testing.assert_array_equal(dx, f.backward(1.0, x))
    assert f(x.astype(np.float16)).dtype == np.float16
    assert isinstance(f(x[0]), np.float32)
    assert f([1, 2]).dtype == np.float64
    assert pickle.loads(pickle.dumps(f)) is f
    for operation in ("forward", "backward", "forward_backward"):
        assert isinstance(f.ufuncs[operation], np.ufunc)


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_with_any_number_of_threads(name: str) -> None:
    x, before, results = numbers((900, 333)), fa.get_num_threads(), set()
    try:
        for threads in {1, before}:
            fa.set_num_threads(threads)
            for _ in range(10):
                y, dx = getattr(fa, name).forward_backward(x, 1.0)
                results.add((y.tobytes(), dx.tobytes()))
    finally:
        fa.set_num_threads(before)
    assert len(results) == 1


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fa.logsumexp(np.ones(3, complex)), TypeError, "x has dtype complex128"),
    (
        lambda: fa.logsumexp.backward(np.ones(3), np.ones((2, 5))),
        ValueError,
        "dy has shape (3,), expected (2,)",
    ),
    (lambda: fa.logsumexp(np.ones(3), axis=2), ValueError, "axis 2 is out of bounds"),
    (lambda: fa.logsumexp(np.ones((2, 3)), out=np.ones(3)), ValueError, "out has shape (3,)"),
]


@pytest.mark.parametrize(("call", "kind", "said"), WRONG)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert said in str(raised.value)


PEERS = {
    "torch": """
import numpy as np, torch, fastact as fa
x = (np.random.default_rng(0).standard_normal((4, 30, 5)) * 5).astype(np.float32)
for axis in (0, 1, (0, 2)):
    t = torch.from_numpy(x).requires_grad_()
    y = torch.logsumexp(t, axis)
    (dx,) = torch.autograd.grad(y.sum(), t)
    for our, their in zip(fa.logsumexp.forward_backward(x, 1.0, axis=axis), (y.detach(), dx)):
        np.testing.assert_allclose(our, their.numpy(), rtol=2e-6, atol=1e-6)
""",
    "jax": """
import numpy as np, jax, fastact as fa
x = (np.random.default_rng(0).standard_normal((4, 30)) * 5).astype(np.float32)
for name in ("logsumexp", "logmeanexp"):
    theirs = getattr(jax.nn, name)
    for axis in (0, 1, (0, 1)):
        y = theirs(x, axis=axis)
        dx = jax.grad(lambda x: theirs(x, axis=axis).sum())(x)
        for our, their in zip(getattr(fa, name).forward_backward(x, 1.0, axis=axis), (y, dx)):
            np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-5)
""",
}


@pytest.mark.parametrize("package", PEERS)
def test_peers(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    code = [sys.executable, "-c", PEERS[package]]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
