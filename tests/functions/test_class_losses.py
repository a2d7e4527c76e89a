"""nll and cross_entropy, of logarithms and of probabilities, against longdouble, PyTorch and finite differences."""

from __future__ import annotations

import importlib.util
import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from representatives import only_long

import fastact as fa

Array = np.ndarray[Any, Any]
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
LEAST = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}
# The cross-entropy with softmax stands for these in half types.
DTYPES = ["float32", "float64", *only_long("float16", "bfloat16")]
LENGTHS = [1, 2, 15, 16, 17, 33, 64, 65, 1000]
REDUCTIONS = ("mean", "sum", "none")
# What a class of probability 1 loses, and the derivative.
FORMULAS: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "nll": lambda x: (-x, -np.ones_like(x)),
    "cross_entropy": lambda x: (-np.log(x), -1 / x),
}
of_each = pytest.mark.parametrize("f", [fa.nll, fa.cross_entropy], ids=lambda f: f.name)


class Truth(NamedTuple):
    """Losses and gradients, and the sizes of the terms that the losses are sums of."""

    loss: Array
    dx: Array
    loss_scale: Array


def truth(
    f: Any,
    x: Array,
    targets: Array,
    dloss: Any = 1.0,
    *,
    axis: int = -1,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Truth:
    """Compute the formula class by class in what is wider than float64, on x86."""
    wide = np.moveaxis(np.asarray(x).astype(np.longdouble), axis, -1)
    classes = wide.shape[-1]
    weights = np.ones(classes) if weight is None else np.asarray(weight).astype(x.dtype)
    weights = weights.astype(np.longdouble)
    if targets.shape == x.shape:
        shares = np.moveaxis(targets.astype(x.dtype).astype(np.longdouble), axis, -1)
        is_known = np.ones(wide.shape[:-1], bool)
        divisor: Any = is_known.size
    else:
        is_known = targets != ignore_index
        shares = (targets[..., None] == np.arange(classes)).astype(np.longdouble)
        divisor = (weights * shares)[is_known].sum()
    smoothing = np.longdouble(label_smoothing)
    shares = weights * ((1 - smoothing) * shares + smoothing / classes)
    shares = np.where(is_known[..., None], shares, 0)
    losses, derivatives = FORMULAS[f.name](wide)
    terms = np.where(shares == 0, 0, shares * losses)
    total, scale = terms.sum(-1), np.abs(terms).sum(-1)
    if reduction != "mean":
        divisor = 1
    factor = np.broadcast_to(np.asarray(dloss, np.longdouble), total.shape) / divisor
    dx = np.where(shares == 0, 0, shares * derivatives) * factor[..., None]
    if reduction != "none":
        total, scale = total.sum() / divisor, scale.sum() / divisor
    return Truth(total, np.moveaxis(dx, -1, axis), scale)


def dtype_of(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def given(f: Any, shape: tuple[int, ...], dtype: Any = np.float32, axis: int = -1) -> Array:
    """Return probabilities that add up to 1, or their logarithms."""
    e = np.exp(np.random.default_rng(sum(shape)).standard_normal(shape) * 2)
    p = e / e.sum(axis, keepdims=True)
    return (np.log(p) if f is fa.nll else p).astype(dtype)


def labels_of(shape: tuple[int, ...], classes: int) -> Array:
    return np.random.default_rng(classes).integers(0, classes, shape)


def shares_of(shape: tuple[int, ...], dtype: Any = np.float32, axis: int = -1) -> Array:
    """Return what adds up to 1, a quarter of it zeros."""
    random = np.random.default_rng(sum(shape) + 1)
    parts = random.random(shape) * (random.random(shape) < 0.75)
    parts[..., :1] += 1e-3
    return (parts / parts.sum(axis, keepdims=True)).astype(dtype)


def unit(sizes: Any, dtype: np.dtype[Any]) -> Array:
    """Return a unit in the last place of numbers of these sizes."""
    _, exponents = np.frexp(np.abs(np.asarray(sizes, np.float64)))
    return np.maximum(np.ldexp(EPSILON[dtype.name], exponents - 1), LEAST[dtype.name])


def check(f: Any, x: Array, targets: Array, dloss: Any = 1.0, **options: Any) -> None:
    """All operations against the truth, in units in the last place at the scale of the terms."""
    expected = truth(f, x, targets, dloss, **options)
    loss, dx = f.forward_backward(x, targets, dloss, **options)
    assert loss.dtype == dx.dtype == x.dtype
    assert loss.shape == expected.loss.shape
    assert dx.shape == x.shape
    inner = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    bound = 4 if f is fa.nll else 5
    for found, right, scale in (
        (loss, expected.loss, expected.loss_scale),
        (dx, expected.dx, expected.dx),
    ):
        allowed = bound * unit(scale, inner)
        if x.dtype != inner:  # rounded once from what it was computed in
            allowed = allowed + unit(right, x.dtype) / 2
        worst = np.max(np.abs(found.astype(np.longdouble) - right) / allowed, initial=0)
        assert worst <= 1, (options, float(worst))
    np.testing.assert_array_equal(f(x, targets, **options), loss)
    np.testing.assert_array_equal(f.backward(dloss, x, targets, **options), dx)
    for found, right in zip(f.vjp(x, targets, **options), (loss, dx), strict=True):
        result = found(np.float64(dloss)) if callable(found) else found
        rtol = (
            0
            if result is found or options.get("reduction") == "none"
            else 2 * EPSILON[x.dtype.name]
        )
        np.testing.assert_allclose(
            result.astype(float), right.astype(float), rtol=rtol, atol=2 * LEAST[x.dtype.name]
        )


@of_each
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["labels", "shares"])
def test_values_and_gradients(f: Any, kind: str, dtype: str, length: int) -> None:
    x = given(f, (5, length), dtype_of(dtype))
    x = np.maximum(x, dtype_of(dtype).type(1e-3)) if f is fa.cross_entropy else x
    targets = labels_of((5,), length) if kind == "labels" else shares_of(x.shape, x.dtype)
    if kind == "labels":
        targets[2] = -100
    weights = np.random.default_rng(length).uniform(0.2, 3, length)
    for weight, smoothing, reduction in itertools.product((None, weights), (0, 0.1, 1), REDUCTIONS):
        dloss = np.arange(1.0, 6) if reduction == "none" else 2.5
        check(f, x, targets, dloss, weight=weight, label_smoothing=smoothing, reduction=reduction)


@of_each
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [3, 100, 70_000])
def test_special_elements(f: Any, dtype: str, length: int) -> None:
    """NaN gives NaN for its row where it has a share, and nothing where it has none."""
    x = np.full((6, length), 0.5, dtype_of(dtype))
    x[0, 1], x[1, 0] = np.nan, np.nan
    loss, dx = f.forward_backward(x, np.zeros(6, int), reduction="none")
    assert np.isnan(loss).tolist() == [False, True] + [False] * 4
    assert np.isnan(dx[:, 0]).tolist() == np.isnan(loss).tolist()
    assert (dx[:, 1:] == 0).all()
    shares = np.zeros(x.shape)
    shares[:, 0] = 1
    dense = f.forward_backward(x, shares, reduction="none")
    # NumPy finds no NaN in bfloat16.
    np.testing.assert_array_equal(dense[0].astype(float), loss.astype(float))
    np.testing.assert_array_equal(dense[1].astype(float), dx.astype(float))
    loss, dx = f.forward_backward(x, np.zeros(6, int), reduction="none", label_smoothing=0.1)
    assert np.isnan(loss).tolist() == [True] * 2 + [False] * 4
    assert np.isnan(dx).sum() == 2
    assert np.isnan([dx[0, 1], dx[1, 0]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_impossible_labels(dtype: str) -> None:
    """A probability of 0, of either sign, loses infinity; one that is negative gives NaN."""
    x = np.array([[0.0, 1], [-0.0, 1], [-0.5, 1], [np.inf, 1]], dtype_of(dtype))
    one_hot = np.tile([1.0, 0], (4, 1))
    for targets, smoothing in ((np.zeros(4, int), 0), (one_hot, 0), (np.zeros(4, int), 0.5)):
        loss, dx = fa.cross_entropy.forward_backward(
            x, targets, reduction="none", label_smoothing=smoothing
        )
        np.testing.assert_array_equal(loss.astype(float), [np.inf, np.inf, np.nan, -np.inf])
        np.testing.assert_array_equal(dx[:, 0].astype(float), [-np.inf, -np.inf, np.nan, 0])
        np.testing.assert_array_equal(dx[:, 1], -smoothing / 2)
    loss, dx = fa.nll.forward_backward(np.array([-np.inf, 0], x.dtype), 0)
    assert loss == np.inf
    np.testing.assert_array_equal(dx, [-1, 0])
    # Nothing is lost where there is no weight.
    for f, targets in itertools.product((fa.nll, fa.cross_entropy), (0, [1, 0])):
        row = np.array([np.nan, 0.5], x.dtype)
        loss, dx = f.forward_backward(row, targets, weight=[0, 1], reduction="sum")
        assert loss == 0
        np.testing.assert_array_equal(dx, [0, 0])


def test_tiny_probabilities() -> None:
    """The quotient overflows only if the gradient does."""
    x = np.array([[1e-40, 0.5]] * 1000, np.float32)
    loss, dx = fa.cross_entropy.forward_backward(x, np.zeros(1000, int))
    np.testing.assert_allclose(loss, -np.log(np.float64(x[0, 0])), rtol=1e-6)
    np.testing.assert_allclose(dx[:, 0], -1 / np.float64(x[:, 0]) / 1000, rtol=1e-6)


@of_each
@pytest.mark.parametrize("smoothing", [0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ignored_rows(f: Any, dtype: str, smoothing: float) -> None:
    """They have no loss and no gradient, whatever they hold; what is left is as if they were not there."""
    x, labels = given(f, (7, 20), dtype), labels_of((7,), 20)
    ignored = np.array([1, 4])
    x[1], x[4, 3] = np.nan, np.inf
    others = np.setdiff1d(np.arange(7), ignored)
    for index, weight, reduction in itertools.product(
        (-100, 255, -1), (None, np.linspace(0.5, 2, 20)), REDUCTIONS
    ):
        marked = labels.copy()
        marked[ignored] = index
        options = {"ignore_index": index, "label_smoothing": smoothing, "weight": weight}
        loss, dx = f.forward_backward(x, marked, reduction=reduction, **options)
        alone = f.forward_backward(x[others], labels[others], reduction=reduction, **options)
        assert (dx[ignored] == 0).all()
        np.testing.assert_array_equal(dx[others], alone[1])
        if reduction == "none":
            assert (loss[ignored] == 0).all()
            loss = loss[others]
        np.testing.assert_allclose(loss, alone[0], rtol=1e-15 if dtype == "float64" else 1e-7)


@of_each
def test_nothing_to_reduce(f: Any) -> None:
    """No rows, no classes, and all rows ignored: the sum is 0, the mean NaN, the gradient 0."""
    for x, targets in (
        (np.zeros((0, 3)), np.zeros(0, int)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.zeros((4, 3)), np.full(4, -100)),
        (np.zeros((4, 0)), np.full(4, -100)),
    ):
        for options in ({}, {"label_smoothing": 0.1}, {"weight": np.ones(x.shape[1])}):
            loss, dx = f.forward_backward(x, targets, **options)
            assert np.isnan(loss)
            assert dx.shape == x.shape
            assert (dx == 0).all()
            assert f(x, targets, reduction="sum", **options) == 0
            each = f(x, targets, reduction="none", **options)
            assert each.shape == x.shape[:1]
            assert (each == 0).all()


@of_each
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", ["labels", "shares"])
def test_axes_and_layouts(f: Any, axis: int, kind: str) -> None:
    """All give the bits of contiguous rows."""
    shape = 6, 70, 7
    x, others = given(f, shape, axis=axis), tuple(np.delete(shape, axis))
    targets = shares_of(shape, axis=axis) if kind == "shares" else labels_of(others, shape[axis])
    rows = np.ascontiguousarray(np.moveaxis(targets, axis, -1)) if kind == "shares" else targets
    last = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    layouts: list[Callable[[Array], Array]] = [
        lambda array: np.repeat(np.repeat(array, 2, 0), 3, -1)[::-1][::-2, ..., ::3],
        lambda array: np.ascontiguousarray(array[::-1, ..., ::-1])[::-1, ..., ::-1],
        np.asfortranarray,
        lambda array: array.astype(array.dtype.newbyteorder(">")),
    ]
    for layout, options in itertools.product(layouts, ({}, {"label_smoothing": 0.1})):
        expected = f.forward_backward(last, rows, reduction="none", **options)
        loss, dx = f.forward_backward(
            layout(x), layout(targets), axis=axis, reduction="none", **options
        )
        assert dx.dtype == np.float32
        np.testing.assert_array_equal(loss, expected[0])
        np.testing.assert_array_equal(np.moveaxis(dx, axis, -1), expected[1])
    check(f, x, targets, axis=axis)


@of_each
@pytest.mark.parametrize("kind", ["labels", "shares"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(f: Any, dtype: str, kind: str) -> None:
    """The gradient takes the place of the input, or of the shares; other overlaps are as if read first."""
    for length in (1, 5, 65, 1000, 70_000):
        x = given(f, (5, length), dtype_of(dtype))
        x = np.maximum(x, x.dtype.type(1e-3)) if f is fa.cross_entropy else x
        targets = labels_of((5,), length) if kind == "labels" else shares_of(x.shape, x.dtype)
        loss, dx = f.forward_backward(x, targets)
        for own in (x.copy(), x.copy(order="F"), x.astype(x.dtype.newbyteorder(">"))):
            results = f.forward_backward(own, targets, out=(None, own))
            assert results[0] == loss
            assert results[1] is own
            np.testing.assert_array_equal(own, dx)
        if kind == "shares":
            own = targets.copy()
            assert f.forward_backward(x, own, out=(None, own))[1] is own
            np.testing.assert_array_equal(own, dx)
    x = given(f, (9, 3))
    targets = labels_of((8,), 3) if kind == "labels" else shares_of((8, 3))
    expected = f.backward(1.0, x[:-1], targets)
    own = x.copy()
    np.testing.assert_array_equal(f.backward(1.0, own[:-1], targets, out=own[1:]), expected)


@of_each
@pytest.mark.parametrize("kind", ["labels", "shares"])
def test_finite_differences(f: Any, kind: str) -> None:
    x, step = given(f, (3, 6), np.float64), 1e-6
    targets = np.array([1, -100, 5]) if kind == "labels" else shares_of((3, 6), np.float64)
    weights = np.linspace(0.5, 2, 6)
    for weight, smoothing, reduction in itertools.product((None, weights), (0, 0.3), REDUCTIONS):
        options = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
        dloss = np.array([1, 2, -3]) if reduction == "none" else 2
        dx = f.backward(dloss, x, targets, **options)
        for place in np.ndindex(x.shape):
            moved = np.zeros_like(x)
            moved[place] = step * x[place]
            change = f(x + moved, targets, **options) - f(x - moved, targets, **options)
            slope = np.sum(change * dloss) / (2 * moved[place])
            np.testing.assert_allclose(dx[place], slope, rtol=1e-7, atol=1e-7)


@of_each
@pytest.mark.parametrize("shape", [(900, 333), (70_000, 5)])
@pytest.mark.parametrize("kind", ["labels", "smoothed", "shares"])
def test_same_bits_with_any_number_of_threads(f: Any, kind: str, shape: tuple[int, int]) -> None:
    x = given(f, shape)
    targets = shares_of(shape) if kind == "shares" else labels_of(shape[:1], shape[1])
    before, results = fa.get_num_threads(), set()
    try:
        for threads in {1, 2, before}:
            fa.set_num_threads(threads)
            for _ in range(5):
                smoothing = 0.1 if kind == "smoothed" else 0
                loss, dx = f.forward_backward(x, targets, label_smoothing=smoothing)
                results.add((loss.tobytes(), dx.tobytes()))
    finally:
        fa.set_num_threads(before)
    assert len(results) == 1


@of_each
@pytest.mark.parametrize("name", ["forward", "dense_forward"])
def test_labels_that_are_no_classes(f: Any, name: str) -> None:
    """The ufuncs cannot raise: NaN is the loss of a row with a label out of range, the least integer aside."""
    script = f"""
        import numpy as np

        import fastact as fa

        for classes in (0, 1, 7, 130):
            x = np.linspace(0.1, 1, 9 * classes, dtype=np.float32).reshape(9, classes)
            labels = np.array([classes, classes + 1, 10**9, 2**40, 2**63 - 1, -2, -100, -(2**63), 0])
            rest = (1.0, 1.0) if "{name}" == "forward" else (1.0, 0.0, 0.0, 1.0)
            rows = (x,) if "{name}" == "forward" else (x, x, x)
            loss = fa.{f.name}.ufuncs["{name}"](*rows, labels, *rest)
            found, dx = fa.{f.name}.ufuncs["{name}_backward"](*rows, labels, *rest)
            np.testing.assert_array_equal(loss, found)
            assert np.isnan(loss[:7]).all() and np.isnan(dx[:7]).all(), (loss, dx)
            assert not loss[7].any() and not dx[7].any(), (loss, dx)
            if classes:
                assert np.isfinite(loss[8]) and dx[8, 0] < 0 and not dx[8, 1:].any()
    """
    assert_clean(run_python(script))


WRONG: list[tuple[Callable[[Any, Array], Any], type[Exception], str]] = [
    (lambda f, x: f(x, [0, 3]), ValueError, "targets[1] is 3; labels are from 0 to 2"),
    (lambda f, x: f(x, [0.0, 1.0]), TypeError, "labels must be integers, got float64"),
    (lambda f, x: f(x, [0, 1, 2]), ValueError, "targets has shape (3,), expected (2,) for labels"),
    (lambda f, x: f(x, [0, 1], weight=[1, 2]), ValueError, "weight has shape (2,), expected (3,)"),
    (lambda f, x: f(x, [0, 1], reduction="avg"), ValueError, "reduction must be one of"),
    (lambda f, x: f(x, [0, 1], label_smoothing=2), ValueError, "label_smoothing must be a number"),
    (lambda f, x: f(x, [0, 1], ignore_index=1.0), TypeError, "ignore_index must be an integer"),
    (lambda f, x: f(x, [0, 1], axis=2), ValueError, "axis 2 is out of bounds"),
    (lambda f, x: f(x, [0, 1], out=np.ones(2)), ValueError, "out has shape (2,)"),
    (lambda f, x: f.backward(np.ones(3), x, [0, 1]), ValueError, "dloss has shape (3,)"),
    (
        lambda f, x: f(x.astype(complex), [0, 1]),
        TypeError,
        "probabilities has dtype complex128",
    ),
    (
        lambda f, x: f(x, [0, 1], return_probabilities=True),
        TypeError,
        "unknown argument 'return_probabilities'",
    ),
]


@of_each
@pytest.mark.parametrize(("call", "kind", "said"), WRONG)
def test_wrong_calls(f: Any, call: Any, kind: type[Exception], said: str) -> None:
    x = np.ones((2, 3))
    with pytest.raises(kind) as raised:
        call(f, x)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (x == 1).all()


@of_each
def test_object(f: Any) -> None:
    assert fa.get(f.name) is f
    assert pickle.loads(pickle.dumps(f)) is f
    for ufunc in f.ufuncs.values():
        assert isinstance(ufunc, np.ufunc)
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc


TORCH = """
import itertools
import numpy as np, torch
import fastact as fa
from torch.nn import functional
random = np.random.default_rng(0)

THEIRS = {
    fa.nll: functional.nll_loss,
    fa.cross_entropy: lambda x, *rest, **options: functional.nll_loss(x.log(), *rest, **options),
}
for f, shape in itertools.product(THEIRS, ((9,), (40, 9), (6, 9, 5), (3, 9, 4, 2))):
    axis = min(1, len(shape) - 1)
    others = shape[:axis] + shape[axis + 1:]
    x = np.ascontiguousarray(np.moveaxis(random.dirichlet(np.ones(9), others), -1, axis))
    x = (np.log(x) if f is fa.nll else x).astype(np.float32)
    labels = random.integers(0, 9, others)
    weights = random.uniform(0.2, 3, 9).astype(np.float32)
    for weight, reduction, index in itertools.product(
        (None, weights), ("mean", "sum", "none"), (-100, 4)
    ):
        if x.ndim == 1 and labels == index:
            continue
        dloss = random.standard_normal(others if reduction == "none" else ()).astype(np.float32)
        t = torch.from_numpy(x).requires_grad_()
        loss = THEIRS[f](
            t,
            torch.from_numpy(np.asarray(labels)),
            weight=None if weight is None else torch.from_numpy(weight),
            reduction=reduction,
            ignore_index=index,
        )
        (dx,) = torch.autograd.grad(loss, t, torch.from_numpy(dloss))
        ours = f.forward_backward(
            x, labels, dloss, axis=axis, weight=weight, reduction=reduction, ignore_index=index
        )
        for our, their in zip(ours, (loss.detach(), dx)):
            assert our.shape == tuple(their.shape)
            np.testing.assert_allclose(our, their.numpy(), rtol=1e-5, atol=1e-6)
"""


def test_pytorch() -> None:
    """In a process of its own: it brings threads that a later fork would not survive."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TORCH], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
