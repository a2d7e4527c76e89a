"""sigmoid_binary_cross_entropy against float64 and mpmath, PyTorch and JAX; layouts, extremes and wrong calls."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import fastact as fa

Array = np.ndarray[Any, Any]
bce = fa.sigmoid_binary_cross_entropy


def truth(x: Array, z: Array, weight: Any = 1.0) -> tuple[Array, Array, Array]:
    """Return losses, gradients, and the sizes of the terms that gradients are differences of."""
    x, z, weight = (np.asarray(each, np.longdouble) for each in (x, z, weight))
    of_one, of_zero = np.logaddexp(0, -x), np.logaddexp(0, x)
    up, down = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))
    terms = np.maximum((1 - z) * up, weight * z * down)
    return weight * z * of_one + (1 - z) * of_zero, (1 - z) * up - weight * z * down, terms


def numbers(shape: tuple[int, ...], dtype: Any = np.float32, scale: float = 6) -> Any:
    random = np.random.default_rng(sum(shape))
    x, z = random.standard_normal(shape) * scale, random.random(shape)
    z[: shape[0] // 2] = z[: shape[0] // 2] > 0.5
    return x.astype(dtype), z.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [0.1, 6, 60])
@pytest.mark.parametrize("weight", [1.0, 2.5, "classes"])
def test_errors(dtype: Any, scale: float, weight: Any) -> None:
    x, z = numbers((40, 77), dtype, scale)
    if weight == "classes":
        weight = np.random.default_rng(1).random(77).astype(dtype) * 3
    loss, dx = bce.forward_backward(x, z, pos_weight=weight, reduction="none")
    assert loss.dtype == dx.dtype == dtype
    right, gradient, terms = truth(x, z, weight)
    assert (np.abs(loss - right) <= 4 * np.spacing(right.astype(dtype))).all()
    assert (np.abs(dx - gradient) <= 4 * np.spacing(terms.astype(dtype))).all()
    np.testing.assert_array_equal(bce(x, z, pos_weight=weight, reduction="none"), loss)
    np.testing.assert_array_equal(bce.backward(1.0, x, z, pos_weight=weight, reduction="none"), dx)
    total, unit = right.astype(np.float64).sum(), np.finfo(dtype).eps
    for reduction, divisor in (("sum", 1), ("mean", x.size)):
        loss, part = bce.forward_backward(x, z, 3.0, pos_weight=weight, reduction=reduction)
        assert isinstance(loss, dtype)
        np.testing.assert_allclose(loss, total / divisor, rtol=4 * unit)
        scaled = gradient * 3 / divisor
        bound = 4 * np.spacing(terms.astype(dtype)).astype(float) * 3 / divisor
        assert (np.abs(part - scaled) <= bound + 2 * np.spacing(np.abs(scaled).astype(dtype))).all()
        assert bce(x, z, pos_weight=weight, reduction=reduction) == loss


def test_digits_next_to_zero() -> None:
    for x in (20.0, 50.0, 300.0):
        with mpmath.workdps(60):
            expected = float(mpmath.log1p(mpmath.exp(-mpmath.mpf(x))))
        np.testing.assert_allclose(bce([x, -x], [1.0, 0.0], reduction="none"), expected, rtol=1e-15)


def test_infinite_logits() -> None:
    """A target of 0 or 1 takes nothing from the other term."""
    x, z = np.array([np.inf, -np.inf, np.inf, -np.inf]), np.array([1.0, 0.0, 0.0, 1.0])
    loss, dx = bce.forward_backward(x, z, reduction="none")
    assert loss.tolist() == [0, 0, np.inf, np.inf]
    assert dx.tolist() == [0, 0, 1, -1]
    assert np.isnan(bce([np.nan, 0, 0], [1, np.nan, 0], reduction="none")).tolist() == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_classes_along_an_axis_and_layouts(axis: int) -> None:
    x, z = numbers((6, 70, 7))
    weight = np.arange(1.0, x.shape[axis] + 1, dtype=np.float32)
    shape = [1, 1, 1]
    shape[axis] = -1
    right, gradient, _ = truth(x, z, weight.reshape(shape))
    for layout in (
        np.asarray,
        np.asfortranarray,
        lambda a: a.astype(">f4"),
        lambda a: np.repeat(a, 2, 1)[:, ::2],
    ):
        loss, dx = bce.forward_backward(
            layout(x), layout(z), pos_weight=weight, axis=axis, reduction="none"
        )
        np.testing.assert_allclose(loss, right.astype(float), rtol=1e-6)
        np.testing.assert_allclose(dx, gradient.astype(float), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_types(kind: str) -> None:
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if kind == "bfloat16" else kind)
    x, z = numbers((20, 33))
    x, z = x.astype(dtype), z.astype(dtype)
    loss, dx = bce.forward_backward(x, z, reduction="none")
    assert loss.dtype == dx.dtype == dtype
    right, gradient, _ = truth(x.astype(float), z.astype(float))
    unit = 2.0**-8 if kind == "bfloat16" else 2.0**-11
    np.testing.assert_allclose(loss.astype(float), right.astype(float), rtol=unit, atol=1e-7)
    np.testing.assert_allclose(dx.astype(float), gradient.astype(float), rtol=1.1 * unit, atol=1e-6)
    assert bce(x, z).dtype == dtype


def test_finite_differences() -> None:
    x, z = numbers((3, 5), np.float64, 2)
    dloss, step = np.random.default_rng(0).random((3, 5)), 1e-6
    _, dx = bce.forward_backward(x, z, dloss, pos_weight=1.7, reduction="none")
    for place in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        up, down = (bce(x + sign * moved, z, pos_weight=1.7, reduction="none") for sign in (1, -1))
        assert abs(dx[place] - ((up - down) * dloss).sum() / (2 * step)) < 1e-8


def test_outputs() -> None:
    x, z = numbers((30, 41))
    loss, dx = bce.forward_backward(x, z)
    own = x.copy()
    result = bce.forward_backward(own, z, out=(None, own))
    assert result[1] is own
    assert result[0] == loss
    np.testing.assert_array_equal(own, dx)
    wide = np.empty_like(x, dtype=np.float64), np.empty((30, 41))
    bce.forward_backward(x, z, reduction="none", out=wide)
    np.testing.assert_array_equal(wide[0], bce(x, z, reduction="none"))
    targets = z.copy()
    np.testing.assert_array_equal(bce.backward(1.0, x, targets, out=targets), dx)


def test_empty() -> None:
    empty = np.empty((0, 3), np.float32)
    assert bce(empty, empty, reduction="none").shape == (0, 3)
    assert bce(empty, empty, reduction="sum") == 0
    loss, dx = bce.forward_backward(empty, empty)
    assert np.isnan(loss)
    assert dx.shape == (0, 3)
    assert bce(2.0, 1.0) == bce([2.0], [1.0])


def test_same_bits_with_any_number_of_threads() -> None:
    x, z = numbers((900, 333))
    before, results = fa.get_num_threads(), set()
    try:
        for threads in {1, before}:
            fa.set_num_threads(threads)
            for _ in range(10):
                loss, dx = bce.forward_backward(x, z)
                results.add((loss.tobytes(), dx.tobytes()))
    finally:
        fa.set_num_threads(before)
    assert len(results) == 1


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: bce(np.ones(3, complex), np.ones(3)), TypeError, "logits has dtype complex128"),
    (lambda: bce(np.ones(3), np.ones(4)), ValueError, "logits has shape (3,), targets has (4,)"),
    (lambda: bce(np.ones(3), np.ones(3), reduction="max"), ValueError, "reduction must be one of"),
    (
        lambda: bce(np.ones(3), np.ones(3), pos_weight=np.ones(2)),
        ValueError,
        "pos_weight has 2 values",
    ),
    (
        lambda: bce.forward_backward(np.ones(3), np.ones(3), np.ones(3)),
        ValueError,
        "dloss has shape (3,), the loss has ()",
    ),
    (lambda: bce(np.ones(3), np.ones(3), out=np.ones(3)), ValueError, "out has shape (3,)"),
]


@pytest.mark.parametrize(("call", "kind", "said"), WRONG)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert said in str(raised.value)


def test_objects() -> None:
    assert fa.get("sigmoid_binary_cross_entropy") is bce
    assert pickle.loads(pickle.dumps(bce)) is bce
    for ufunc in bce.ufuncs.values():
        assert isinstance(ufunc, np.ufunc)
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc


PEERS = {
    "torch": """
import itertools, numpy as np, torch, fastact as fa
random = np.random.default_rng(0)
x, z = (random.standard_normal((20, 30)) * 6).astype("f4"), random.random((20, 30)).astype("f4")
weight = random.random(30).astype("f4") * 3
for reduction, w in itertools.product(("mean", "sum", "none"), (None, weight)):
    t = torch.from_numpy(x).requires_grad_()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        t, torch.from_numpy(z), pos_weight=None if w is None else torch.from_numpy(w), reduction=reduction
    )
    (dx,) = torch.autograd.grad(loss.sum(), t)
    ours = fa.sigmoid_binary_cross_entropy.forward_backward(x, z, pos_weight=w, reduction=reduction)
    for our, their in zip(ours, (loss.detach(), dx)):
        np.testing.assert_allclose(our, their.numpy(), rtol=3e-6, atol=1e-6)
""",
    "jax": """
import numpy as np, jax, jax.numpy as jnp, fastact as fa
random = np.random.default_rng(0)
x, z = (random.standard_normal((20, 30)) * 6).astype("f4"), random.random((20, 30)).astype("f4")
def loss(x):
    return -(z * jax.nn.log_sigmoid(x) + (1 - z) * jax.nn.log_sigmoid(-x)).mean()
ours = fa.sigmoid_binary_cross_entropy.forward_backward(x, z)
for our, their in zip(ours, jax.value_and_grad(loss)(x)):
    np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-7)
""",
}


@pytest.mark.parametrize("package", PEERS)
def test_peers(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    code = [sys.executable, "-c", PEERS[package]]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
