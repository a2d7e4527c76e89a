"""The softmax cross-entropy against wider references, mpmath, PyTorch and JAX; layouts, outputs and wrong calls."""

from __future__ import annotations

import importlib.util
import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from representatives import HALF_TYPES, only_long

import fastact as fa
from fastact.system.memory_layout import SETTING, SETTINGS

Array = np.ndarray[Any, Any]
f = fa.softmax_cross_entropy
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
LEAST = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}
DTYPES = ["float32", "float64", *HALF_TYPES]
# Longer rows than 65,536 are not kept, but computed again.
LENGTHS = [1, 2, 15, 16, 17, 33, 64, 65, 1000, 65_537]
REDUCTIONS = ("mean", "sum", "none")


class Truth(NamedTuple):
    """Losses and gradients, and the sizes of the terms that they are sums of."""

    loss: Array
    dx: Array
    loss_scale: Array
    dx_scale: Array


def truth(
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
    top = wide.max(-1, keepdims=True)
    below = wide - top
    # The largest is left out of the sum: next to 0, its logarithm has no digits else.
    e = np.exp(below)
    equal = (below == 0).sum(-1, keepdims=True)
    rest = np.where(below == 0, 0, e).sum(-1, keepdims=True) + (equal - 1)
    log_total = np.log1p(rest)
    distances = np.where(shares == 0, 0, log_total - below)
    losses = np.where(is_known, (shares * distances).sum(-1), 0)
    sizes = np.abs(shares) * np.where(shares == 0, 0, log_total + np.abs(below))
    loss_scale = np.where(is_known, sizes.sum(-1), 0)
    if reduction != "mean":
        divisor = 1
    factor = np.broadcast_to(np.asarray(dloss, np.longdouble), losses.shape) / divisor
    factor = factor[..., None]
    taken = shares.sum(-1, keepdims=True) * e / (1 + rest)
    dx = np.where(is_known[..., None], (taken - shares) * factor, 0)
    dx_scale = np.maximum(np.abs(taken), np.abs(shares)) * np.abs(factor)
    if reduction != "none":
        losses, loss_scale = losses.sum() / divisor, loss_scale.sum() / divisor
    return Truth(losses, np.moveaxis(dx, -1, axis), loss_scale, np.moveaxis(dx_scale, -1, axis))


def dtype_of(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def logits_of(shape: tuple[int, ...], dtype: Any = np.float32, scale: float = 4) -> Array:
    random = np.random.default_rng(sum(shape))
    return (random.standard_normal(shape) * scale).astype(dtype)


def labels_of(shape: tuple[int, ...], classes: int) -> Array:
    return np.random.default_rng(classes).integers(0, classes, shape)


def shares_of(shape: tuple[int, ...], dtype: Any = np.float32, axis: int = -1) -> Array:
    """Return what adds up to 1, a quarter of it zeros."""
    random = np.random.default_rng(sum(shape) + 1)
    parts = random.random(shape) * (random.random(shape) < 0.75) + 1e-3
    return (parts / parts.sum(axis, keepdims=True)).astype(dtype)


def unit(sizes: Any, dtype: np.dtype[Any]) -> Array:
    """Return a unit in the last place of numbers of these sizes."""
    _, exponents = np.frexp(np.abs(np.asarray(sizes, np.float64)))
    return np.maximum(np.ldexp(EPSILON[dtype.name], exponents - 1), LEAST[dtype.name])


def check(x: Array, targets: Array, dloss: Any = 1.0, **options: Any) -> None:
    """All operations against the truth, in units in the last place at the scale of the terms."""
    expected = truth(x, targets, dloss, **options)
    loss, dx = f.forward_backward(x, targets, dloss, **options)
    assert loss.dtype == dx.dtype == x.dtype
    assert loss.shape == expected.loss.shape
    assert dx.shape == x.shape
    inner = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    bound = 8 if inner == np.float64 else 4
    for found, right, scale in (
        (loss, expected.loss, expected.loss_scale),
        (dx, expected.dx, expected.dx_scale),
    ):
        allowed = bound * unit(scale, inner)
        if x.dtype != inner:  # rounded once from what it was computed in
            allowed = allowed + unit(right, x.dtype) / 2
        worst = np.max(np.abs(found.astype(np.longdouble) - right) / allowed, initial=0)
        assert worst <= 1, (options, float(worst))
    np.testing.assert_array_equal(f(x, targets, **options), loss)
    np.testing.assert_array_equal(f.backward(dloss, x, targets, **options), dx)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_labels(dtype: str, length: int) -> None:
    x, labels = logits_of((5, length), dtype_of(dtype)), labels_of((5,), length)
    labels[2] = -100
    weights = np.random.default_rng(length).uniform(0.2, 3, length)
    for weight, smoothing, reduction in itertools.product((None, weights), (0, 0.1, 1), REDUCTIONS):
        dloss = np.arange(1.0, 6) if reduction == "none" else 2.5
        check(x, labels, dloss, weight=weight, label_smoothing=smoothing, reduction=reduction)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shares(dtype: str, length: int) -> None:
    x = logits_of((5, length), dtype_of(dtype))
    shares = shares_of(x.shape, x.dtype)
    weights = np.random.default_rng(length).uniform(0.2, 3, length)
    for weight, smoothing, reduction in itertools.product((None, weights), (0, 0.1), REDUCTIONS):
        dloss = np.arange(1.0, 6) if reduction == "none" else 2.5
        check(x, shares, dloss, weight=weight, label_smoothing=smoothing, reduction=reduction)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-3, 4, 30, 1e4])
def test_labels_have_all_digits(dtype: str, scale: float) -> None:
    """Of a label, losses and gradients are within 4 units of themselves: nothing cancels."""
    for length in (2, 17, 1000):
        x, labels = logits_of((40, length), dtype, scale), labels_of((40,), length)
        labels[:20] = x[:20].argmax(-1)
        expected = truth(x, labels, reduction="none")
        loss, dx = f.forward_backward(x, labels, reduction="none")
        places = np.arange(40), labels
        label_dx = expected.dx.copy()
        # The label's gradient, from the other classes'.
        label_dx[places] = 0
        label_dx[places] = -label_dx.sum(-1)
        for found, right in ((loss, expected.loss), (dx, label_dx)):
            assert (np.abs(found - right) <= 4 * unit(right, found.dtype)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sure_of_the_label(dtype: str) -> None:
    """A loss near 0, and the label's gradient, which is the sum of the others' shares."""
    x = np.array([0, -50, -51], dtype)
    with mpmath.workdps(80):
        others = [mpmath.exp(-50), mpmath.exp(-51)]
        total = 1 + sum(others)
        loss_is = mpmath.log(total)
        dx_is = [-sum(others) / total, *(each / total for each in others)]
    loss, dx = f.forward_backward(x, 0)
    for found, right in zip([loss, *dx], [loss_is, *dx_is], strict=True):
        assert abs(float(found) - float(right)) <= 2 * np.spacing(abs(found))
    dense, _ = f.forward_backward(x, np.array([1, 0, 0]))
    assert abs(float(dense) - float(loss_is)) <= 2 * np.spacing(abs(dense))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_logits(dtype: str) -> None:
    for row in ([1e4, 1e4 - 3, -1e4], [1e38, -1e38, 0], [-1e38, -1e38, -3e38]):
        x = np.array(row, dtype)
        for label in range(3):
            check(x, np.array(label))
        check(x, np.array([0.5, 0.25, 0.25]))
    assert f(np.array([3e38, -3e38], np.float32), 1) == np.inf
    assert f(np.array([[6e4, -6e4]], np.float16), [1], reduction="none") == np.inf


def test_sums_beyond_the_largest_number() -> None:
    """Of several parts, each summed for itself."""
    x, labels = np.zeros((2**16, 2)), np.zeros(2**16, int)
    x[[0, -1]], labels[[0, -1]] = [8e307, -8e307], 1
    assert f(x, labels, reduction="sum") == np.inf
    x[0], x[-1] = [-np.inf, 0], [0, -np.inf]
    labels[0] = 0
    assert f(x, labels, reduction="sum") == np.inf
    assert np.isnan(f(x, labels, reduction="sum", weight=[1, -1]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [3, 100, 70_000])
def test_special_rows(dtype: str, length: int) -> None:
    """NaN, plus infinity, and minus infinities alone give NaN for their row, and for no other."""
    x = np.zeros((5, length), dtype_of(dtype))
    x[0, 1], x[1, 0], x[2] = np.nan, np.inf, -np.inf
    for targets, smoothing in itertools.product(
        (np.zeros(5, int), np.ones(5, int), np.full(x.shape, 1 / length)), (0, 0.1)
    ):
        loss, dx = f.forward_backward(x, targets, reduction="none", label_smoothing=smoothing)
        assert np.isnan(loss[:3]).all()
        assert np.isnan(dx[:3]).all()
        assert np.isfinite(loss[3:]).all()
        assert np.isfinite(dx[3:]).all()
        assert np.isnan(f(x, targets, label_smoothing=smoothing))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_excluded_classes(dtype: str) -> None:
    """A class of no share or weight adds nothing, though its logit be minus infinity; of some, infinity."""
    x = np.array([0, -np.inf, 1], dtype)
    check(x, np.array([0.25, 0, 0.75]))
    check(x, np.array(2))
    check(x, np.array([0.25, 0.5, 0.25]), weight=[2, 0, 3])
    check(x, np.array(0), weight=[2, 0, 3], label_smoothing=0.1)
    check(x, np.array(1), weight=[2, 0, 3], reduction="sum")
    assert f(x, 1, weight=[2, 0, 3], reduction="sum") == 0
    for targets, smoothing in ((1, 0), ([0, 1, 0], 0), ([0.5, 0.5, 0], 0), (0, 0.1)):
        loss, dx = f.forward_backward(x, targets, label_smoothing=smoothing)
        assert loss == np.inf
        assert np.isfinite(dx).all()
    _, dx = f.forward_backward(x, 1)
    np.testing.assert_allclose(dx, [1 / (1 + np.e), -1, np.e / (1 + np.e)], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_labels_are_shares_of_one(dtype: str) -> None:
    x, labels = logits_of((6, 40), dtype), labels_of((6,), 40)
    weight = np.linspace(0.1, 2, 40)
    one_hot = np.eye(40)[labels]
    for smoothing in (0, 0.3):
        options = {"weight": weight, "label_smoothing": smoothing, "reduction": "none"}
        for found, right in zip(
            f.forward_backward(x, labels, **options),
            f.forward_backward(x, one_hot, **options),
            strict=True,
        ):
            np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ignored_rows(dtype: str, smoothing: float) -> None:
    """They have no loss and no gradient, whatever they hold; what is left is as if they were not there."""
    x, labels = logits_of((7, 20), dtype), labels_of((7,), 20)
    ignored = np.array([1, 4])
    x[1], x[4, 3] = np.nan, np.inf
    others = np.setdiff1d(np.arange(7), ignored)
    weight = np.linspace(0.5, 2, 20)
    for index, kind, weights in itertools.product((-100, 255, -1), (int, np.uint8), (None, weight)):
        if index < 0 and kind is np.uint8:
            continue
        marked = labels.astype(kind)
        marked[ignored] = index
        options = {"ignore_index": index, "label_smoothing": smoothing, "weight": weights}
        for reduction in REDUCTIONS:
            loss, dx = f.forward_backward(x, marked, reduction=reduction, **options)
            alone = f.forward_backward(x[others], labels[others], reduction=reduction, **options)
            assert (dx[ignored] == 0).all()
            np.testing.assert_array_equal(dx[others], alone[1])
            if reduction == "none":
                assert (loss[ignored] == 0).all()
                loss = loss[others]
            np.testing.assert_allclose(loss, alone[0], rtol=1e-15 if dtype == "float64" else 1e-7)
    # The number of a class may be the mark: that of padding.
    loss, dx = f.forward_backward(x[others], np.zeros(5, int), ignore_index=0)
    assert np.isnan(loss)
    assert (dx == 0).all()


def test_nothing_to_reduce() -> None:
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
    assert f(np.zeros((4, 0)), np.zeros((4, 0)), reduction="none").tolist() == [0] * 4


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(
    "layout", ["plain", "strided", "fortran", "swapped", "unaligned", "read-only"]
)
@pytest.mark.parametrize("kind", ["labels", "shares"])
def test_axes_and_layouts(axis: int, layout: str, kind: str) -> None:
    """All give the bits of contiguous rows."""
    shape = 6, 70, 7
    x, others = logits_of(shape), tuple(np.delete(shape, axis))
    targets = shares_of(shape, axis=axis)
    if kind == "labels":
        targets = labels_of(others, shape[axis])
    last = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    rows = np.ascontiguousarray(np.moveaxis(targets, axis, -1)) if kind == "shares" else targets

    def laid_out(array: Array) -> Array:
        if layout == "strided":
            twice = np.repeat(np.repeat(array, 2, 0), 3, -1)[::-1]
            return twice[::-2, ..., ::3]
        if layout == "fortran":
            return np.asfortranarray(array)
        if layout == "swapped":
            return array.astype(array.dtype.newbyteorder(">"))
        if layout == "unaligned":
            view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
            view[...] = array
            return view
        array = array.copy()
        array.flags.writeable = layout != "read-only"
        return array

    for options in ({}, {"label_smoothing": 0.1}):
        expected = f.forward_backward(last, rows, reduction="none", **options)
        given = laid_out(x), laid_out(targets)
        np.testing.assert_array_equal(given[0], x)
        np.testing.assert_array_equal(given[1], targets)
        loss, dx = f.forward_backward(*given, axis=axis, reduction="none", **options)
        assert dx.dtype == np.float32
        assert dx.dtype.isnative
        np.testing.assert_array_equal(loss, expected[0])
        np.testing.assert_array_equal(np.moveaxis(dx, axis, -1), expected[1])
    check(x, targets, axis=axis)


@pytest.mark.parametrize("kind", ["labels", "shares"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_past_the_caches(dtype: str, kind: str) -> None:
    """They have the same bits, wherever they begin and end."""
    before = SETTINGS[SETTING.streaming]
    for length, offset in itertools.product((1, 2, 17, 32, 65, 1000, 70_000), (0, 1, 6)):
        x = logits_of((5, length), dtype_of(dtype))
        targets = labels_of((5,), length) if kind == "labels" else shares_of(x.shape, x.dtype)
        expected = f.forward_backward(x, targets)
        memory = np.full(x.size + offset + 40, 7, x.dtype)
        first = -memory.ctypes.data % 64 // x.itemsize + offset
        dx = memory[first : first + x.size].reshape(x.shape)
        SETTINGS[SETTING.streaming] = 0
        try:
            loss, _ = f.forward_backward(x, targets, out=(None, dx))
        finally:
            SETTINGS[SETTING.streaming] = before
        assert loss == expected[0]
        np.testing.assert_array_equal(dx, expected[1])
        assert (memory[:first] == 7).all()
        assert (memory[first + x.size :] == 7).all()


def test_larger_than_the_last_cache() -> None:
    """As `test_outputs_past_the_caches`, without being told."""
    x = logits_of((SETTINGS[SETTING.streaming] // 8000 + 1, 1001))
    labels = labels_of(x.shape[:1], 1001)
    _, dx = f.forward_backward(x, labels)
    for first in range(0, len(x), 500):
        part = slice(first, first + 500)
        alone = f.backward(1 / len(x), x[part], labels[part], reduction="sum")
        np.testing.assert_array_equal(dx[part], alone)


@pytest.mark.parametrize("kind", ["labels", "shares"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(dtype: str, kind: str) -> None:
    """The gradient takes the place of the logits, or of the shares."""
    for length in (1, 5, 65, 1000, 70_000):
        x = logits_of((5, length), dtype_of(dtype))
        targets = labels_of((5,), length) if kind == "labels" else shares_of(x.shape, x.dtype)
        loss, dx = f.forward_backward(x, targets)
        for own in (x.copy(), np.asfortranarray(x), x.astype(x.dtype.newbyteorder(">"))):
            results = f.forward_backward(own, targets, out=(None, own))
            assert results[0] == loss
            assert results[1] is own
            np.testing.assert_array_equal(own, dx)
        own = x.copy()
        assert f.backward(1, own, targets, out=own) is own
        np.testing.assert_array_equal(own, dx)
        if kind == "shares":
            own = targets.copy()
            assert f.forward_backward(x, own, out=(None, own))[1] is own
            np.testing.assert_array_equal(own, dx)


def test_outputs_that_overlap_inputs() -> None:
    """Results are as if inputs were read first, though rows are taken in several parts."""
    count = 2**16 + 1
    x, shares = logits_of((count + 1, 3)), shares_of((count + 1, 3))
    labels = labels_of((count,), 3)
    for targets in (labels, shares[1:]):
        expected = f.forward_backward(x[:-1], targets, reduction="none")
        for places in (slice(1, None), slice(None, 0, -1), slice(-2, None, -1)):
            own = x.copy()
            loss, dx = f.forward_backward(
                own[:-1], targets, out=(None, own[places]), reduction="none"
            )
            np.testing.assert_array_equal(loss, expected[0])
            np.testing.assert_array_equal(dx, expected[1])
        own = x.copy()
        f(own[:-1], targets, out=own.reshape(-1)[-count:], reduction="none")
        np.testing.assert_array_equal(own.reshape(-1)[-count:], expected[0])
    own = shares.copy()
    _, dx = f.forward_backward(x[:-1], own[1:], out=(None, own[:-1]), reduction="none")
    np.testing.assert_array_equal(dx, expected[1])
    bits = np.zeros((count, 3), np.float32)
    marks = bits.reshape(-1)[-count:].view(np.int32)
    marks[...] = labels
    right = f.backward(1, x[:-1], labels)
    np.testing.assert_array_equal(f.backward(1, x[:-1], marks, out=bits), right)


def test_other_outputs() -> None:
    """Of other layouts and float types, with or without a tuple around them."""
    x, labels = logits_of((8, 70)), labels_of((8,), 70)
    loss, dx = f.forward_backward(x, labels)
    losses = f(x, labels, reduction="none")
    for out in (np.empty((8, 70)), np.empty((70, 8), np.float32).T, np.empty((8, 70), np.float16)):
        assert f.forward_backward(x, labels, out=(None, out))[1] is out
        np.testing.assert_array_equal(out, dx.astype(out.dtype))
        assert f.backward(1, x, labels, out=out) is out
        assert f.backward(1, x, labels, out=(out,)) is out
    for out in (np.empty((), np.float32), np.empty((), np.float16), np.empty(())):
        assert f(x, labels, out=out) is out
        assert out.astype(np.float32).astype(out.dtype) == loss.astype(out.dtype)
        out[...] = 0
        assert f(x, labels, out=(out,)) is out
        assert f.forward_backward(x, labels, out=(out, None))[0] is out
        assert out.astype(np.float32).astype(out.dtype) == loss.astype(out.dtype)
    for out in (np.empty(16, np.float32)[::2], np.empty(8)):
        assert f(x, labels, out=out, reduction="none") is out
        np.testing.assert_array_equal(out.astype(np.float32), losses)


def test_read_only_outputs() -> None:
    x, labels = logits_of((4, 5)), labels_of((4,), 5)
    loss, dx = np.full((), 7.0), np.full((4, 5), 7.0)
    for fixed in (loss, dx):
        fixed.flags.writeable = False
        with pytest.raises(ValueError, match="out is read-only"):
            f.forward_backward(x, labels, out=(loss, dx))
        assert loss == 7
        assert (dx == 7).all()
        fixed.flags.writeable = True


def test_types_and_shapes() -> None:
    assert f([1, 2, 3], 0).dtype == np.float64
    assert f(np.array([1, 2], np.int8), 0).dtype == np.float16
    assert f(np.array([[1, 2]], np.float32), np.array([[0, 1]])).dtype == np.float32
    x = logits_of((300, 7))
    labels = labels_of((300,), 7)
    expected = f(x, labels)
    for kind in ("u1", "i1", "u2", ">i4", "u8"):
        assert f(x, labels.astype(kind)) == expected
    assert f(x, labels.tolist()) == expected
    assert f(x, labels, ignore_index=2**70) == expected
    one = f.forward_backward(x[3], labels[3], weight=np.arange(1, 8.0), label_smoothing=0.1)
    row = f.forward_backward(x[3:4], labels[3:4], weight=np.arange(1, 8.0), label_smoothing=0.1)
    assert isinstance(one[0], np.float32)
    assert one[0] == row[0]
    np.testing.assert_array_equal(one[1], row[1][0])
    loss, dx = f.forward_backward(x[3], -100, weight=np.arange(7.0))
    assert np.isnan(loss)
    assert (dx == 0).all()
    for dloss in (np.arange(3.0), np.ones(1), 2.0, np.float16(2)):
        many = logits_of((4, 5, 3))
        check(many, labels_of((4, 3), 5), dloss, axis=1, reduction="none")
    check(logits_of((2, 3, 4, 5)), labels_of((2, 4, 5), 3), axis=1, ignore_index=1)


@pytest.mark.parametrize("kind", ["labels", "shares"])
def test_finite_differences(kind: str) -> None:
    x, step = logits_of((3, 6), np.float64, 2), 1e-6
    targets = np.array([1, -100, 5]) if kind == "labels" else shares_of((3, 6), np.float64)
    weights = np.linspace(0.5, 2, 6)
    for weight, smoothing, reduction in itertools.product((None, weights), (0, 0.3), REDUCTIONS):
        options = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
        dloss = np.array([1, 2, -3]) if reduction == "none" else 2
        dx = f.backward(dloss, x, targets, **options)
        for place in np.ndindex(x.shape):
            moved = np.zeros_like(x)
            moved[place] = step
            change = f(x + moved, targets, **options) - f(x - moved, targets, **options)
            assert abs(dx[place] - np.sum(change * dloss) / (2 * step)) < 1e-8


@pytest.mark.parametrize("shape", [(900, 333), (70_000, 5)])
@pytest.mark.parametrize("kind", ["labels", "smoothed", "shares"])
def test_same_bits_with_any_number_of_threads(kind: str, shape: tuple[int, int]) -> None:
    x = logits_of(shape)
    targets = shares_of(shape) if kind == "shares" else labels_of(shape[:1], shape[1])
    before, results = fa.get_num_threads(), set()
    try:
        for threads in {1, before}:
            fa.set_num_threads(threads)
            for _ in range(10):
                loss, dx = f.forward_backward(
                    x, targets, label_smoothing=0.1 if kind == "smoothed" else 0
                )
                results.add((loss.tobytes(), dx.tobytes()))
    finally:
        fa.set_num_threads(before)
    assert len(results) == 1


@pytest.mark.parametrize("name", ["forward", "dense_forward"])
def test_labels_that_are_no_classes(name: str) -> None:
    """The ufuncs cannot raise: NaN is the loss of a row with a label out of range, the least integer aside."""
    script = f"""
        import numpy as np

        import fastact as fa

        for classes in (0, 1, 7, 130):
            x = np.linspace(-1, 1, 9 * classes, dtype=np.float32).reshape(9, classes)
            labels = np.array([classes, classes + 1, 10**9, 2**40, 2**63 - 1, -2, -100, -(2**63), 0])
            rest = (1.0, 1.0) if "{name}" == "forward" else (1.0, 0.0, 0.0, 1.0)
            rows = (x,) if "{name}" == "forward" else (x, x, x)
            loss = fa.softmax_cross_entropy.ufuncs["{name}"](*rows, labels, *rest)
            found, dx = fa.softmax_cross_entropy.ufuncs["{name}_backward"](*rows, labels, *rest)
            np.testing.assert_array_equal(loss, found)
            assert np.isnan(loss[:7]).all() and np.isnan(dx[:7]).all(), (loss, dx)
            assert not loss[7].any() and not dx[7].any(), (loss, dx)
            if classes:
                wanted = np.log(np.exp(np.float64(x[8])).sum()) - x[8, 0]
                np.testing.assert_allclose(loss[8], wanted, 1e-5, 1e-7)
                np.testing.assert_allclose(dx[8].sum(), 0, atol=1e-6)
    """
    assert_clean(run_python(script))


@pytest.mark.parametrize("dtype", ["float32", *only_long("float64", "bfloat16", "float16")])
@pytest.mark.parametrize("kind", ["labels", "smoothed", "shares"])
def test_probabilities(kind: str, dtype: str) -> None:
    """The softmax beside the loss has a few units of error; loss and gradient have the same bits as alone."""
    for length in (1, 2, 17, 64, 65, 1000, 70_000):
        x = logits_of((5, length), dtype_of(dtype))
        targets = shares_of(x.shape, x.dtype) if kind == "shares" else labels_of((5,), length)
        if kind != "shares":
            targets[2] = -100
        options = {"label_smoothing": 0.1 if kind == "smoothed" else 0}
        wide = x.astype(np.longdouble)
        e = np.exp(wide - wide.max(-1, keepdims=True))
        right = e / e.sum(-1, keepdims=True)
        inner = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
        allowed = 4 * unit(right, inner) + (x.dtype != inner) * unit(right, x.dtype) / 2
        for reduction in REDUCTIONS:
            both = f.forward_backward(x, targets, reduction=reduction, **options)
            loss, dx, found = f.forward_backward(
                x, targets, reduction=reduction, return_probabilities=True, **options
            )
            assert found.dtype == x.dtype
            assert (np.abs(found.astype(np.longdouble) - right) <= allowed).all()
            np.testing.assert_array_equal(loss, both[0])
            np.testing.assert_array_equal(dx, both[1])
            results = f(x, targets, reduction=reduction, return_probabilities=True, **options)
            np.testing.assert_array_equal(results[0], loss)
            np.testing.assert_array_equal(results[1], found)
            *results, vjp = f.vjp(
                x, targets, reduction=reduction, return_probabilities=True, **options
            )
            np.testing.assert_array_equal(results[0], loss)
            np.testing.assert_array_equal(results[1], found)
            np.testing.assert_array_equal(vjp(1.0), dx)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_outputs_of_probabilities(axis: int) -> None:
    """In place, in other layouts, and of rows that are ignored or hold what is no number."""
    x = logits_of((6, 70, 7))
    labels = labels_of(tuple(np.delete(x.shape, axis)), x.shape[axis])
    labels[1, 2] = -100
    options = {"axis": axis, "return_probabilities": True}
    loss, dx, right = f.forward_backward(x, labels, **options)
    e = np.exp(x - x.max(axis, keepdims=True))
    np.testing.assert_allclose(right, e / e.sum(axis, keepdims=True), rtol=1e-5)
    for k in (1, 2):
        own = x.copy()
        out = [None, None, None]
        out[k] = own
        results = f.forward_backward(own, labels, out=tuple(out), **options)
        assert results[k] is own
        for found, expected in zip(results, (loss, dx, right), strict=True):
            np.testing.assert_array_equal(found, expected)
    own, wide = np.asfortranarray(x), np.empty(x.shape)
    assert f(own, labels, out=(None, own), **options)[1] is own
    np.testing.assert_array_equal(own, right)
    outputs = np.empty(()), wide
    *results, vjp = f.vjp(x, labels, out=outputs, **options)
    assert results[0] is outputs[0]
    assert results[1] is wide
    np.testing.assert_array_equal(wide, right)
    np.testing.assert_array_equal(vjp(), dx)
    for strange in (np.nan, np.inf, -np.inf):
        row = np.full((2, 3), strange, np.float32)
        row[1] = 0
        _, dx, found = f.forward_backward(row, [-100, 0], return_probabilities=True)
        assert (dx[0] == 0).all()
        assert np.isnan(found[0]).all()
        np.testing.assert_allclose(found[1], 1 / 3, rtol=1e-6)
    for shape in ((0, 3), (4, 0)):
        nothing = np.zeros(shape[:1], int) - 100
        assert f(np.zeros(shape), nothing, return_probabilities=True)[1].shape == shape


@pytest.mark.parametrize("shape", [(900, 333), (70_000, 5)])
def test_same_bits_of_probabilities_with_any_number_of_threads(shape: tuple[int, int]) -> None:
    x, labels = logits_of(shape), labels_of(shape[:1], shape[1])
    before, results = fa.get_num_threads(), set()
    try:
        for threads in {1, 2, before}:
            fa.set_num_threads(threads)
            for _ in range(5):
                found = f.forward_backward(x, labels, return_probabilities=True)
                results.add(tuple(each.tobytes() for each in found))
    finally:
        fa.set_num_threads(before)
    assert len(results) == 1


def with_label(shape: tuple[int, ...], place: tuple[int, ...], label: int) -> Array:
    labels = np.zeros(shape, int)
    labels[place] = label
    return labels


X = np.ones((2, 3))
WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: f(X, [0, 3]),
        ValueError,
        "softmax_cross_entropy: targets[1] is 3; labels are from 0 to 2, or -100 to ignore a row",
    ),
    (
        lambda: f(X, [-1, 3], ignore_index=7),
        ValueError,
        "targets[0] is -1; labels are from 0 to 2, or 7 to ignore a row",
    ),
    (lambda: f(X[0], 3), ValueError, "targets is 3; labels are from 0 to 2"),
    (lambda: f(X, np.array([0, 255], np.uint8)), ValueError, "targets[1] is 255; labels are"),
    (lambda: f(X, np.array([2**64 - 100, 0], np.uint64)), ValueError, f"[0] is {2**64 - 100}; "),
    (
        lambda: f(np.ones((3, 2, 20, 4)), with_label((3, 20, 4), (2, 17, 3), 2), axis=1),
        ValueError,
        "targets[2, 17, 3] is 2; labels are from 0 to 1",
    ),
    (
        lambda: f(np.ones((70_000, 2)), with_label((70_000,), (69_999,), -7)),
        ValueError,
        "targets[69999] is -7; labels are from 0 to 1",
    ),
    (
        lambda: f(np.ones((2, 30_000, 3)), with_label((30_000, 3), (29_998, 1), 2), axis=0),
        ValueError,
        "targets[29998, 1] is 2; labels are from 0 to 1",
    ),
    (lambda: f(np.ones((3, 0)), [0] * 3), ValueError, "targets[0] is 0; labels are"),
    (lambda: f(X, [0.0, 1.0]), TypeError, "labels must be integers, got float64"),
    (lambda: f(X, [True, False]), TypeError, "labels must be integers, got bool"),
    (
        lambda: f(X, [0, 1, 2]),
        ValueError,
        "targets has shape (3,), expected (2,) for labels, or (2, 3) for class probabilities",
    ),
    (lambda: f(X, 1), ValueError, "targets has shape (), expected (2,)"),
    (lambda: f(X, np.ones((3, 2))), ValueError, "targets has shape (3, 2), expected (2,)"),
    (lambda: f(X, np.ones((2, 3), complex)), TypeError, "targets has dtype complex128"),
    (lambda: f(X, [[0], [1, 2]]), ValueError, "targets is not an array"),
    (
        lambda: f(X, [0, 1], weight=[1, 2]),
        ValueError,
        "weight has shape (2,), expected (3,)",
    ),
    (lambda: f(X, [0, 1], weight=2), ValueError, "weight has shape (), expected (3,)"),
    (lambda: f(X, [0, 1], weight=[1j] * 3), TypeError, "weight has dtype complex128"),
    (
        lambda: f(X, [0, 1], reduction="avg"),
        ValueError,
        "reduction must be one of ('mean', 'sum', 'none'), got 'avg'",
    ),
    (lambda: f(X, [0, 1], reduction=None), ValueError, "reduction must be one of"),
    (lambda: f(X, [0, 1], reduction=np.ones(2)), ValueError, "reduction must be one of"),
    *(
        (
            lambda smoothing=smoothing: f(X, [0, 1], label_smoothing=smoothing),
            ValueError,
            f"label_smoothing must be a number from 0 to 1, got {smoothing!r}",
        )
        for smoothing in (-0.1, 1.5, np.nan, "0.1", None, [0.1], 0.1j, np.complex64(0.5))
    ),
    *(
        (
            lambda index=index: f(X, [0, 1], ignore_index=index),
            TypeError,
            f"ignore_index must be an integer, got {index!r}",
        )
        for index in (1.0, None, "1")
    ),
    (
        lambda: f.forward_backward(X, [0, 1], [1, 2]),
        ValueError,
        "softmax_cross_entropy.forward_backward: dloss has shape (2,), the loss has ()",
    ),
    (
        lambda: f.backward(np.ones(3), X, [0, 1], reduction="none"),
        ValueError,
        "softmax_cross_entropy.backward: dloss has shape (3,), the loss has (2,)",
    ),
    (lambda: f.backward(1j, X, [0, 1]), TypeError, "dloss has dtype complex128"),
    (lambda: f(np.ones((2, 3), complex), [0, 1]), TypeError, "logits has dtype complex128"),
    (lambda: f(X, [0, 1], axis=2), ValueError, "axis 2 is out of bounds for 2 dimensions"),
    (lambda: f(1.0, 0), ValueError, "axis -1 is out of bounds for 0 dimensions"),
    (lambda: f(X, [0, 1], axis=(0, 1)), TypeError, "axis must be an integer"),
    (lambda: f(X, [0, 1], out=np.ones(2)), ValueError, "out has shape (2,), the result has ()"),
    (lambda: f(X, [0, 1], out=np.ones((), int)), TypeError, "out has dtype int64"),
    (lambda: f(X, [0, 1], out=(None, X)), ValueError, "out must have 1 entries, got 2"),
    *(
        (
            lambda out=out: f.forward_backward(X, [0, 1], out=out),
            ValueError,
            f"out must have 2 entries, got {len(out)}",
        )
        for out in ((), (None,), (None,) * 3)
    ),
    (
        lambda: f.forward_backward(X, [0, 1], out=(None, np.ones((3, 2)))),
        ValueError,
        "out has shape (3, 2), the result has (2, 3)",
    ),
    (lambda: f(X, [0, 1], dim=1), TypeError, "dim"),
    (
        lambda: f(X, [0, 1], return_probabilities=1),
        TypeError,
        "softmax_cross_entropy: return_probabilities must be a bool, got 1",
    ),
    (
        lambda: f.backward(1, X, [0, 1], return_probabilities=True),
        TypeError,
        "softmax_cross_entropy.backward takes no 'return_probabilities'; it is an option of",
    ),
    (
        lambda: f(X, [0, 1], return_probabilities=True, out=(None, np.ones(2))),
        ValueError,
        "out has shape (2,), the result has (2, 3)",
    ),
    (
        lambda: f.vjp(X, [0, 1], return_probabilities=True, out=(None, np.ones(2))),
        ValueError,
        "out has shape (2,), the result has (2, 3)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "said"), WRONG)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert said in str(raised.value)


def test_object() -> None:
    assert fa.get("softmax_cross_entropy") is f
    assert "softmax_cross_entropy" in dir(fa)
    assert pickle.loads(pickle.dumps(f)) is f
    assert set(f.ufuncs) >= {"forward", "forward_backward"}
    for operation, ufunc in f.ufuncs.items():
        assert isinstance(ufunc, np.ufunc)
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc
        assert ("dx" in ufunc.__doc__) == operation.endswith("forward_backward")
    x, labels = logits_of((4, 5)), labels_of((4,), 5)
    losses = f.ufuncs["forward"](x, labels, 1, 1)
    np.testing.assert_array_equal(losses.astype(np.float32), f(x, labels, reduction="none"))


TORCH = """
import itertools
import numpy as np, torch
import fastact as fa
from torch.nn.functional import cross_entropy
f, random = fa.softmax_cross_entropy, np.random.default_rng(0)

def compare(x, targets, dloss, **options):
    t = torch.from_numpy(x).requires_grad_()
    weight = options.get("weight")
    theirs = {**options, "weight": None if weight is None else torch.from_numpy(weight)}
    loss = cross_entropy(t, torch.from_numpy(targets), **theirs)
    (dx,) = torch.autograd.grad(loss, t, torch.from_numpy(np.asarray(dloss, x.dtype)))
    ours = f.forward_backward(x, targets, dloss, axis=min(1, x.ndim - 1), **options)
    for our, their in zip(ours, (loss.detach(), dx)):
        assert our.shape == tuple(their.shape)
        np.testing.assert_allclose(our, their.numpy(), rtol=1e-5, atol=1e-6)

for shape in ((9,), (40, 9), (6, 9, 5), (3, 9, 4, 2)):
    x = random.standard_normal(shape).astype(np.float32) * 4
    axis = min(1, x.ndim - 1)
    others = shape[:axis] + shape[axis + 1:]
    labels = random.integers(0, 9, others)
    shares = random.dirichlet(np.ones(9), others).astype(np.float32)
    shares = np.ascontiguousarray(np.moveaxis(shares, -1, axis))
    weights = random.uniform(0.2, 3, 9).astype(np.float32)
    for weight, smoothing, reduction in itertools.product(
        (None, weights), (0.0, 0.1, 1.0), ("mean", "sum", "none")
    ):
        dloss = random.standard_normal(others if reduction == "none" else ())
        options = dict(weight=weight, label_smoothing=smoothing, reduction=reduction)
        compare(x, shares, dloss, **options)
        compare(x, labels, dloss, **options)
        if x.ndim > 1:
            compare(x, labels, dloss, ignore_index=4, **options)
            some = np.where(random.random(others) < 0.3, -100, labels)
            compare(x, some, dloss, **options)

x, nothing = np.zeros((2, 3), np.float32), np.full(2, -100)
assert np.isnan(f(x, nothing)) and cross_entropy(*map(torch.from_numpy, (x, nothing))).isnan()
# The difference that the documentation states: what is excluded and has no share.
x, shares = np.float32([[0, -np.inf]]), np.float32([[1, 0]])
assert cross_entropy(*map(torch.from_numpy, (x, shares))).isnan() and f(x, shares) == 0
"""
JAX = """
import jax, numpy as np
from jax import numpy as jnp
import fastact as fa
f, random = fa.softmax_cross_entropy, np.random.default_rng(0)
x = random.standard_normal((40, 9)).astype(np.float32) * 4
labels, dloss = random.integers(0, 9, 40), random.standard_normal(40).astype(np.float32)
shares = random.dirichlet(np.ones(9), 40).astype(np.float32)

def of_labels(x):
    return jax.nn.logsumexp(x, axis=-1) - jnp.take_along_axis(x, labels[:, None], -1)[:, 0]

def of_probabilities(x, shares, smoothing=0):
    return -((1 - smoothing) * shares + smoothing / 9) * jax.nn.log_softmax(x)

for theirs, targets, smoothing in (
    (of_labels, labels, 0),
    (lambda x: of_probabilities(x, shares).sum(-1), shares, 0),
    (lambda x: of_probabilities(x, shares, 0.1).sum(-1), shares, 0.1),
    (lambda x: of_probabilities(x, jax.nn.one_hot(labels, 9), 0.1).sum(-1), labels, 0.1),
):
    loss, pull = jax.vjp(theirs, x)
    ours = f.forward_backward(x, targets, dloss, label_smoothing=smoothing, reduction="none")
    for our, their in zip(ours, (loss, pull(dloss)[0])):
        np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-5)
"""


@pytest.mark.parametrize(("package", "code"), [("torch", TORCH), ("jax", JAX)])
def test_peers(package: str, code: str) -> None:
    """In a process of their own: they bring threads that a later fork would not survive."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
