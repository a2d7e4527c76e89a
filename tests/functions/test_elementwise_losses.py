"""mse, and `weight=` of all elementwise losses, against formulas in longdouble, PyTorch and finite differences."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from representatives import only_long

import fastact as fa
from fastact.arrays import contiguous

Array = np.ndarray[Any, Any]
REDUCTIONS = ("mean", "sum", "none")


def squared(x: Array, z: Array) -> tuple[Array, Array]:
    return (x - z) ** 2, 2 * (x - z)


def huber(x: Array, z: Array) -> tuple[Array, Array]:
    size = np.abs(x - z)
    return np.where(size <= 1, size**2 / 2, size - 0.5), np.clip(x - z, -1, 1)


def binary_cross_entropy(x: Array, z: Array) -> tuple[Array, Array]:
    return np.logaddexp(0, x) - x * z, 1 / (1 + np.exp(-x)) - z


FORMULAS: dict[Any, Callable[[Array, Array], tuple[Array, Array]]] = {
    fa.mse: squared,
    fa.huber: huber,
    fa.sigmoid_binary_cross_entropy: binary_cross_entropy,
}
of_each = pytest.mark.parametrize("f", FORMULAS, ids=lambda f: f.name)
# Each is eight kernels in each type: by default mse stands for the others in types but float32.
BY_DEFAULT = [(fa.mse, "float64"), (fa.mse, "bfloat16")]
IN_DTYPES = [
    pytest.param(
        f,
        dtype,
        id=f"{f.name}-{dtype}",
        marks=[] if dtype == "float32" or (f, dtype) in BY_DEFAULT else pytest.mark.long,
    )
    for f in FORMULAS
    for dtype in ("float32", "float64", "bfloat16", "float16")
]
# Shapes of weights beside an array of (6, 70, 7).
SHAPES = [(), (1,), (7,), (70, 1), (6, 1, 1), (1, 70, 7), (6, 1, 7), (1, 1, 1), (6, 70, 7)]


def dtype_of(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * 3).astype(dtype)


def shares(*shape: int, seed: int = 1, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).random(shape).astype(dtype)


def truth(
    f: Any, x: Array, z: Array, dloss: Any, weight: Any, reduction: str
) -> tuple[Array, Array, Array, Array]:
    """Return loss and gradient, and the sizes of the terms that they are sums of."""
    wide, targets = (each.astype(np.longdouble) for each in (x, z))
    w = np.ones((), np.longdouble) if weight is None else np.asarray(weight).astype(x.dtype)
    w = np.broadcast_to(w.astype(np.longdouble), x.shape)
    losses, slopes = FORMULAS[f](wide, targets)
    losses, slopes = w * losses, w * slopes
    divisor: Any = 1
    if reduction == "mean":
        divisor = w.sum() if f is fa.mse and weight is not None else x.size
    dx = slopes * np.asarray(dloss, np.longdouble) / divisor
    scale = np.abs(w) * np.abs(np.asarray(dloss, float)) / np.abs(divisor) + np.abs(dx)
    if reduction == "none":
        return losses, dx, np.abs(losses), scale
    return losses.sum() / divisor, dx, np.abs(losses).sum() / divisor, scale


def check(f: Any, x: Array, z: Array, dloss: Any = 1.0, **options: Any) -> None:
    weight, reduction = options.get("weight"), options.get("reduction", "mean")
    right, gradient, loss_scale, scale = truth(f, x, z, dloss, weight, reduction)
    loss, dx = f.forward_backward(x, z, dloss, **options)
    assert loss.dtype == dx.dtype == x.dtype.newbyteorder("=")
    assert loss.shape == right.shape
    inner = np.finfo(np.float64 if x.dtype == np.float64 else np.float32).eps
    own = {"bfloat16": 2.0**-8, "float16": 2.0**-11}.get(x.dtype.name, 0)
    for found, expected, size in ((loss, right, loss_scale), (dx, gradient, scale)):
        allowed = 4 * float(inner) * size + own * np.abs(expected) + 2.0**-24 * bool(own)
        assert (np.abs(found.astype(np.longdouble) - expected) <= allowed).all(), options
    np.testing.assert_array_equal(f(x, z, **options), loss)
    np.testing.assert_array_equal(f.backward(dloss, x, z, **options), dx)


@pytest.mark.parametrize(("f", "dtype"), IN_DTYPES)
# Sums of squares fit float16.
@pytest.mark.parametrize("shape", [(1,), (17,), (33, 5), (6, 20, 7)])
def test_values_and_gradients(f: Any, dtype: str, shape: tuple[int, ...]) -> None:
    x, z = numbers(*shape, dtype=dtype_of(dtype)), shares(*shape, dtype=dtype_of(dtype))
    weights = (None, 2.5, 0, shares(*shape, seed=2), np.arange(shape[-1]) + 1)
    for weight, reduction in itertools.product(weights, REDUCTIONS):
        if f is fa.mse and reduction == "mean" and np.array_equal(weight, 0):
            loss, dx = f.forward_backward(x, z, weight=weight)
            assert np.isnan(loss)
            assert np.isnan(dx).all()
            continue
        dloss: Any = 2.0 if reduction == "none" else 2.5
        if reduction == "none" and x.dtype.itemsize > 2:  # half types would be rounded twice
            dloss = numbers(*shape, seed=3)
        check(f, x, z, dloss, weight=weight, reduction=reduction)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_of_mse(dtype: Any) -> None:
    x, z = (numbers(100_000, seed=seed, dtype=dtype) for seed in (4, 5))
    right, slope = squared(x.astype(np.longdouble), z.astype(np.longdouble))
    loss, dx = fa.mse.forward_backward(x, z, reduction="none")
    assert (np.abs(loss - right) <= 2 * np.spacing(right.astype(dtype))).all()
    assert (np.abs(dx - slope) <= 0.5 * np.spacing(np.abs(slope).astype(dtype))).all()


@of_each
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("part", [contiguous._PART, 1000, 300, 5])
def test_shapes_of_weights(
    f: Any, shape: tuple[int, ...], part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are broadcast in parts of any size, with the gradient of the weights themselves."""
    monkeypatch.setattr(contiguous, "_PART", part)
    x, z, weight = numbers(6, 70, 7), shares(6, 70, 7), shares(*shape, seed=2)
    whole = np.ascontiguousarray(np.broadcast_to(weight, x.shape))
    for reduction in REDUCTIONS:
        check(f, x, z, 2.0, weight=weight, reduction=reduction)
        loss, dx = f.forward_backward(x, z, weight=weight, reduction=reduction)
        expected = f.forward_backward(x, z, weight=whole, reduction=reduction)
        np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
        np.testing.assert_allclose(dx, expected[1], rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_weights_beside_parameters_of_classes(
    axis: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part has some of the classes."""
    monkeypatch.setattr(contiguous, "_PART", 64)
    x, z, weight = numbers(6, 70, 7), numbers(6, 70, 7, seed=1), shares(*shape, seed=2)
    delta = np.linspace(0.5, 2, x.shape[axis])
    along = delta.reshape([-1 if k == axis else 1 for k in range(3)])
    error = x.astype(float) - z
    size = np.abs(error)
    right = weight * np.where(size <= along, size**2 / 2, along * (size - along / 2))
    for given in ({"delta": delta, "axis": axis}, {"delta": along}):
        loss, dx = fa.huber.forward_backward(x, z, weight=weight, reduction="none", **given)
        np.testing.assert_allclose(loss, right, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(dx, weight * np.clip(error, -along, along), rtol=1e-6)
        loss = fa.huber(x, z, weight=weight, **given)
        np.testing.assert_allclose(loss, right.mean(), rtol=1e-6)


@of_each
def test_large_arrays(f: Any) -> None:
    """Of several parts and blocks, whose weights are or are not the same."""
    x, z = numbers(700, 1000), shares(700, 1000)
    for shape in ((1000,), (700, 1), (1, 1)):
        check(f, x, z, weight=shares(*shape, seed=2), reduction="none")
        check(f, x, z, weight=shares(*shape, seed=2))


@of_each
@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda array: array.astype(array.dtype.newbyteorder(">")),
        lambda array: np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1],
        lambda array: np.repeat(array, 2, 1)[:, ::2],
    ],
)
def test_layouts(f: Any, layout: Callable[[Array], Array]) -> None:
    """All give the bits of C order."""
    x, z = numbers(60, 70), shares(60, 70)
    for weight in (shares(60, 70, seed=2), shares(60, 1, seed=2), shares(1, 70, seed=2)):
        for reduction in REDUCTIONS:
            expected = f.forward_backward(x, z, weight=weight, reduction=reduction)
            found = f.forward_backward(
                layout(x), layout(z), weight=layout(weight), reduction=reduction
            )
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])


@of_each
@pytest.mark.parametrize("weighted", [False, True])
def test_outputs(f: Any, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the input, the targets or the weights, and overlapping them."""
    monkeypatch.setattr(contiguous, "_PART", 512)
    x, z, full = numbers(31, 41), shares(31, 41), shares(31, 41, seed=2)
    for weight in (full, full[:1]) if weighted else (None,):
        loss, dx = f.forward_backward(x, z, weight=weight)
        for own, call in (
            (x, lambda own, w=weight: f.forward_backward(own, z, weight=w, out=(None, own))),
            (z, lambda own, w=weight: f.forward_backward(x, own, weight=w, out=(None, own))),
        ):
            result = own.copy()
            assert call(result)[0] == loss
            np.testing.assert_array_equal(result, dx)
        longer = np.concatenate([x, x[:1]])
        f.backward(1.0, longer[:-1], z, weight=weight, out=longer[1:])
        np.testing.assert_array_equal(longer[1:], dx)
    if weighted:
        own = full.copy()
        _, dx = f.forward_backward(x, z, weight=full)
        np.testing.assert_array_equal(f.backward(1.0, x, z, weight=own, out=own), dx)
        own = full.copy()
        _, dx = f.forward_backward(x, z, weight=full[:1])
        np.testing.assert_array_equal(f.backward(1.0, x, z, weight=own[:1], out=own), dx)


@of_each
def test_finite_differences(f: Any) -> None:
    x, z, step = numbers(3, 5, dtype=float), shares(3, 5, dtype=float), 1e-6
    for weight, reduction in itertools.product(
        (None, shares(3, 1, seed=2, dtype=float), shares(3, 5, seed=2, dtype=float)), REDUCTIONS
    ):
        options = {"weight": weight, "reduction": reduction}
        dloss = numbers(3, 5, seed=4) if reduction == "none" else 2.0
        dx = f.backward(dloss, x, z, **options)
        _, vjp = f.vjp(x, z, **options)
        np.testing.assert_allclose(vjp(dloss), dx, rtol=1e-14)
        for place in np.ndindex(x.shape):
            moved = np.zeros_like(x)
            moved[place] = step
            change = f(x + moved, z, **options) - f(x - moved, z, **options)
            np.testing.assert_allclose(dx[place], np.sum(change * dloss) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", *only_long("float64", "bfloat16", "float16")])
def test_special_numbers(dtype: str) -> None:
    """NaN gives NaN, and nothing where the weight is 0."""
    kind = dtype_of(dtype)
    x = np.array([np.nan, np.inf, -np.inf, 1, 0], kind)
    z = np.array([0, 0, 0, np.nan, 0], kind)
    loss, dx = fa.mse.forward_backward(x, z, reduction="none")
    np.testing.assert_array_equal(loss.astype(float), [np.nan, np.inf, np.inf, np.nan, 0])
    np.testing.assert_array_equal(dx.astype(float), [np.nan, np.inf, -np.inf, np.nan, 0])
    for f in FORMULAS:
        for weight in (0, np.zeros(5), np.zeros((1,))):
            loss, dx = f.forward_backward(x, z, weight=weight, reduction="none")
            np.testing.assert_array_equal(loss, np.zeros(5))
            np.testing.assert_array_equal(dx, np.zeros(5))
            assert f(x, z, weight=weight, reduction="sum") == 0
        loss, dx = f.forward_backward(x, z, weight=[0, 0, 0, np.nan, 1], reduction="none")
        assert np.isnan(loss).tolist() == np.isnan(dx).tolist() == [False] * 3 + [True, False]


@of_each
def test_empty(f: Any) -> None:
    empty = np.empty((0, 3), np.float32)
    for weight in (None, 1.0, np.ones((0, 3)), np.ones(3), np.ones((1, 1))):
        assert f(empty, empty, weight=weight, reduction="none").shape == (0, 3)
        assert f(empty, empty, weight=weight, reduction="sum") == 0
        loss, dx = f.forward_backward(empty, empty, weight=weight)
        assert np.isnan(loss)
        assert dx.shape == (0, 3)
    assert f(2.0, 1.0, weight=1.0) == f([2.0], [1.0])
    assert isinstance(f(2.0, 1.0, weight=3, reduction="none"), np.float64)


@of_each
@pytest.mark.parametrize("shape", [(900, 333), (333,), (900, 1)])
def test_same_bits_with_any_number_of_threads(f: Any, shape: tuple[int, ...]) -> None:
    x, z, weight = numbers(900, 333), shares(900, 333), shares(*shape, seed=2)
    before, results = fa.get_num_threads(), set()
    try:
        for threads in {1, 2, before}:
            fa.set_num_threads(threads)
            for _ in range(5):
                loss, dx = f.forward_backward(x, z, weight=weight)
                results.add((loss.tobytes(), dx.tobytes()))
    finally:
        fa.set_num_threads(before)
    assert len(results) == 1


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"weight": np.ones(4)},
        ValueError,
        "weight has shape (4,), which does not broadcast to {x} of shape (2, 3)",
    ),
    ({"weight": np.ones((2, 2, 3))}, ValueError, "weight has shape (2, 2, 3), which does not"),
    ({"weight": 1j}, TypeError, "weight has dtype complex128"),
    ({"weight": "1"}, TypeError, "weight has dtype"),
    ({"weight": [[1], [1, 2]]}, ValueError, "weight is not an array"),
    ({"weights": 1}, TypeError, "did you mean 'weight'"),
]


@of_each
@pytest.mark.parametrize(("options", "kind", "said"), WRONG)
def test_wrong_calls(f: Any, options: dict[str, Any], kind: type[Exception], said: str) -> None:
    x, z = np.ones((2, 3)), np.zeros((2, 3))
    with pytest.raises(kind) as raised:
        f.backward(1.0, x, z, out=x, **options)
    assert said.format(x=f.operations["forward"].inputs[0]) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (x == 1).all()


def test_loss_without_parameters() -> None:
    assert fa.get("mse") is fa.mse
    for name in ("delta", "axis"):
        with pytest.raises(TypeError, match=f"unknown argument '{name}'"):
            fa.mse(1.0, 2.0, **{name: 1})


TORCH = """
import itertools, numpy as np, torch, fastact as fa
from torch.nn import functional
random = np.random.default_rng(0)
x, z = random.standard_normal((20, 30)) * 3, random.random((20, 30))
weight = random.random((20, 30))
for (f, theirs), reduction, w in itertools.product(
    (
        (fa.mse, functional.mse_loss),
        (fa.huber, functional.huber_loss),
        (fa.sigmoid_binary_cross_entropy, functional.binary_cross_entropy_with_logits),
    ),
    ("mean", "sum", "none"),
    (None, weight),
):
    t = torch.from_numpy(x).requires_grad_()
    given = {} if w is None else {"weight": torch.from_numpy(w)}
    loss = theirs(t, torch.from_numpy(z), reduction=reduction, **given)
    (dx,) = torch.autograd.grad(loss.sum(), t)
    ours = f.forward_backward(x, z, weight=w, reduction=reduction)
    for our, their in zip(ours, (loss.detach(), dx)):
        np.testing.assert_allclose(our, their.numpy(), rtol=1e-13, atol=1e-15)
"""


def test_pytorch() -> None:
    """In a process of its own: it brings threads that a later fork would not survive."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TORCH], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
