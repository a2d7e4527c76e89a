"""linear_cross_entropy: losses and gradients against formulas with all logits, PyTorch and finite differences."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from scipy import special

import fastact as fa

FEATURES, CLASSES = 5, 11
IGNORED = -100


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def arrays(*rows: int, dtype: Any = np.float64) -> tuple[Any, Any, Any, Any]:
    """Return x, weight, labels of which some are ignored, and a bias."""
    labels = np.random.default_rng(3).integers(0, CLASSES, rows)
    labels[np.random.default_rng(4).random(rows) < 0.2] = IGNORED
    x, weight = normal(*rows, FEATURES, dtype=dtype), normal(CLASSES, FEATURES, dtype=dtype, seed=1)
    return x, weight, labels, normal(CLASSES, dtype=dtype, seed=2)


def expected(
    x: Any,
    weight: Any,
    targets: Any,
    dloss: Any = 1.0,
    *,
    bias: Any = None,
    class_weight: Any = None,
    ignore_index: int = IGNORED,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> list[Any]:
    """Return the loss, dx, dweight and dbias in float64, from all logits."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    logits = np.einsum("...f,cf->...c", x, weight) + (0 if bias is None else bias)
    weights = np.ones(len(weight)) if class_weight is None else class_weight
    if np.shape(targets) == logits.shape:
        shares, divisor = targets, targets[..., 0].size
    else:
        shares = targets[..., np.newaxis] == np.arange(len(weight))
        divisor = (shares * weights).sum()
    shares = ((1 - label_smoothing) * shares + label_smoothing / len(weight)) * weights
    if np.shape(targets) != logits.shape:
        shares[targets == ignore_index] = 0
    losses = (shares * (special.logsumexp(logits, -1, keepdims=True) - logits)).sum(-1)
    if reduction != "mean":
        divisor = 1
    loss = losses if reduction == "none" else losses.sum() / divisor
    scale = np.broadcast_to(np.divide(dloss, divisor), losses.shape)[..., np.newaxis]
    dlogits = scale * (shares.sum(-1, keepdims=True) * special.softmax(logits, -1) - shares)
    rows = tuple(range(dlogits.ndim - 1))
    dweight = np.tensordot(dlogits, x, (rows, rows))
    return [loss, dlogits @ weight, dweight, dlogits.sum(rows)]


def close(found: Any, wanted: Any, tolerance: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, tolerance, tolerance)


@pytest.mark.parametrize("chunk", [None, 1, 4, 20, 21, 1000])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("of_probabilities", [False, True])
def test_against_all_logits(chunk: int | None, reduction: str, of_probabilities: bool) -> None:
    """Chunks that fit and that leave a rest, labels and shares, with and without each option."""
    x, weight, targets, bias = arrays(3, 7)
    if of_probabilities:
        targets = np.random.default_rng(5).dirichlet(np.ones(CLASSES), (3, 7))
    dloss = normal(3, 7, seed=6) if reduction == "none" else 0.5
    class_weight = np.random.default_rng(7).random(CLASSES)
    choices = product((None, bias), (None, class_weight), (0.0, 0.1))
    for given, weights, smoothing in choices:
        options = {
            "bias": given,
            "class_weight": weights,
            "label_smoothing": smoothing,
            "reduction": reduction,
        }
        wanted = expected(x, weight, targets, dloss, **options)
        wanted = wanted if given is not None else wanted[:-1]
        found = fa.linear_cross_entropy.forward_backward(
            x, weight, targets, dloss, chunk=chunk, **options
        )
        close(found, wanted, 1e-12)
        loss = fa.linear_cross_entropy(x, weight, targets, chunk=chunk, **options)
        np.testing.assert_array_equal(loss, found[0])
        gradients = fa.linear_cross_entropy.backward(
            dloss, x, weight, targets, chunk=chunk, **options
        )
        for one, other in zip(gradients, found[1:], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rows", [(), (1,), (4,), (2, 1, 3)])
def test_leading_shapes(rows: tuple[int, ...]) -> None:
    x, weight, _, bias = arrays(*rows)
    labels = np.arange(np.prod(rows, dtype=int)).reshape(rows) % CLASSES
    found = fa.linear_cross_entropy.forward_backward(x, weight, labels, bias=bias, chunk=3)
    close(found, expected(x, weight, labels, bias=bias), 1e-12)


def test_layouts() -> None:
    """Of inputs and of outputs."""
    x, weight, labels, bias = arrays(6, 4)
    wanted = fa.linear_cross_entropy.forward_backward(x, weight, labels, bias=bias)
    strided = np.repeat(x, 2, 2)[:, :, ::2], np.repeat(weight, 3, 1)[:, ::3]
    turned = x.transpose(1, 0, 2).copy().transpose(1, 0, 2), np.asfortranarray(weight)
    for own_x, own_weight in (strided, turned):
        out = (
            np.empty(()),
            np.empty_like(own_x),
            np.empty_like(own_weight),
            np.empty(2 * CLASSES)[::2],
        )
        found = fa.linear_cross_entropy.forward_backward(
            own_x, own_weight, labels, bias=bias, chunk=5, out=out
        )
        close(found, wanted, 1e-13)
        assert all(one is other for one, other in zip(found[1:], out[1:], strict=True))
        close(out, wanted, 1e-13)


def test_outputs_over_inputs() -> None:
    x, weight, labels, bias = arrays(20)
    wanted = fa.linear_cross_entropy.backward(1.0, x, weight, labels, bias=bias, chunk=6)
    fa.linear_cross_entropy.backward(
        1.0, x, weight, labels, bias=bias, chunk=6, out=(x, weight, bias)
    )
    close((x, weight, bias), wanted, 0)


def test_finite_differences() -> None:
    x, weight, labels, bias = arrays(9)
    options = {"label_smoothing": 0.2, "chunk": 4}
    gradients = fa.linear_cross_entropy.backward(1.0, x, weight, labels, bias=bias, **options)
    places = x, weight, bias
    for place, gradient in zip(places, gradients, strict=True):
        direction, step = normal(*place.shape, seed=8), 1e-6
        losses = []
        for sign in (1, -1):
            place += sign * step * direction
            losses.append(fa.linear_cross_entropy(x, weight, labels, bias=bias, **options))
            place -= sign * step * direction
        slope = (losses[0] - losses[1]) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-7)


def test_float32() -> None:
    """Several chunks and blocks of classes, each with a rest."""
    rows, features, classes = 700, 300, 5000
    x, weight = normal(rows, features, dtype="f"), normal(classes, features, dtype="f", seed=1) / 16
    labels, bias = np.random.default_rng(0).integers(0, classes, rows), normal(classes, dtype="f")
    found = fa.linear_cross_entropy.forward_backward(
        x, weight, labels, bias=bias, chunk=150, reduction="sum"
    )
    wanted = expected(x, weight, labels, bias=bias, reduction="sum")
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == np.float32
        assert np.max(abs(one - other)) <= 1e-6 * np.max(abs(other))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types(dtype: str) -> None:
    """They are computed in float32, and rounded once."""
    kind = np.dtype(dtype) if dtype != "bfloat16" else pytest.importorskip("ml_dtypes").bfloat16
    x, weight, labels, bias = arrays(40, dtype=kind)
    found = fa.linear_cross_entropy.forward_backward(x, weight, labels, bias=bias, chunk=9)
    wanted = fa.linear_cross_entropy.forward_backward(
        *(each.astype(np.float32) for each in (x, weight)),
        labels,
        bias=bias.astype(np.float32),
        chunk=9,
    )
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == kind
        np.testing.assert_array_equal(one, np.asarray(other).astype(kind))


def test_types_together() -> None:
    x, weight, labels, bias = arrays(4)
    single = fa.linear_cross_entropy(x.astype("f"), weight.astype("f"), labels.astype(np.uint8) % 7)
    assert single.dtype == np.float32
    assert fa.linear_cross_entropy(x.astype("f"), weight, labels).dtype == np.float64
    integers = np.ones((4, FEATURES), int)
    assert fa.linear_cross_entropy(integers, weight.tolist(), labels).dtype == np.float64
    assert fa.linear_cross_entropy(x.astype(">f8"), weight, labels, bias=bias).dtype == np.float64


@pytest.mark.parametrize("rows", [(0,), (3, 0), (5,)])
def test_nothing_to_learn_from(rows: tuple[int, ...]) -> None:
    """Without rows, or with none that is not ignored, the mean is NaN and the gradients are 0."""
    x, weight, _, bias = arrays(*rows)
    labels = np.full(rows, 7)
    options = {"bias": bias, "ignore_index": 7, "chunk": 2}
    loss, *gradients = fa.linear_cross_entropy.forward_backward(x, weight, labels, **options)
    assert np.isnan(loss)
    close(gradients, [np.zeros_like(each) for each in (x, weight, bias)], 0)
    assert fa.linear_cross_entropy(x, weight, labels, reduction="sum", **options) == 0


def test_what_is_not_finite() -> None:
    """It spoils the loss of its row."""
    x, weight, labels, _ = arrays(4)
    x[1], x[2], labels[:] = np.nan, np.inf, 1
    losses, dx, dweight = fa.linear_cross_entropy.forward_backward(
        x, weight, labels, reduction="none", chunk=2
    )
    np.testing.assert_array_equal(np.isnan(losses), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(dx).all(axis=1), np.isnan(losses))
    assert np.isnan(dweight).all()


@pytest.mark.parametrize("classes", [7, 3000])
def test_same_bits(classes: int) -> None:
    """Ten runs, for any number of fastact's threads."""
    x, weight = normal(600, 40, dtype="f"), normal(classes, 40, dtype="f", seed=1)
    labels = np.random.default_rng(0).integers(0, classes, 600)
    before = fa.get_num_threads()
    try:
        results = set()
        for threads in (1, 2) * 5:
            fa.set_num_threads(threads)
            found = fa.linear_cross_entropy.forward_backward(x, weight, labels)
            results.add(tuple(each.tobytes() for each in found))
    finally:
        fa.set_num_threads(before)
    assert len(results) == 1


def test_against_pytorch() -> None:
    """In a process of its own: PyTorch brings threads that a later fork would not survive."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    code = """
        from itertools import product
        import numpy as np
        import torch
        from torch.nn.functional import cross_entropy, linear
        import fastact as fa
        from test_linear_cross_entropy import arrays, close
        x, weight, labels, bias = arrays(30)
        shares = np.random.default_rng(5).dirichlet(np.ones(len(weight)), 30)
        class_weight = np.random.default_rng(7).random(len(weight))
        choices = product((labels, shares), (None, class_weight), (0.0, 0.1), ("mean", "sum"))
        for targets, weights, smoothing, reduction in choices:
            options = dict(label_smoothing=smoothing, reduction=reduction)
            leaves = [torch.tensor(each, requires_grad=True) for each in (x, weight, bias)]
            given = None if weights is None else torch.tensor(weights)
            loss = cross_entropy(linear(*leaves), torch.tensor(targets), given, **options)
            wanted = [loss.detach().numpy(), *(each.numpy() for each in torch.autograd.grad(loss, leaves))]
            found = fa.linear_cross_entropy.forward_backward(
                x, weight, targets, bias=bias, class_weight=weights, chunk=8, **options
            )
            close(found, wanted, 1e-12)
    """
    assert_clean(run_python(code))


def test_lookup() -> None:
    layer = fa.linear_cross_entropy
    assert fa.get("linear_cross_entropy") is layer
    assert "linear_cross_entropy" in dir(fa)
    assert pickle.loads(pickle.dumps(layer)) is layer
    assert not layer.ufuncs  # it calls those of others


X, WEIGHT, LABELS, BIAS = arrays(4)
FAR = np.array([0, 1, 2, CLASSES])
loss_of = fa.linear_cross_entropy


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: loss_of(1.0, WEIGHT, 1), ValueError, ["x", "()", "(..., features)"]),
        (lambda: loss_of(X, X.T, LABELS), ValueError, ["weight", "(5, 4)", "(classes, 5)"]),
        (lambda: loss_of(X, WEIGHT[0], LABELS), ValueError, ["weight", "(5,)", "(classes, 5)"]),
        (lambda: loss_of(X, WEIGHT, LABELS[1:]), ValueError, ["targets", "(3,)", "(4,)"]),
        (lambda: loss_of(X, WEIGHT, LABELS, bias=X), ValueError, ["bias", "(4, 5)", "(11,)"]),
        (
            lambda: loss_of(X, WEIGHT, LABELS, class_weight=X[0]),
            ValueError,
            ["class_weight", "(5,)", "(11,)"],
        ),
        (lambda: loss_of(X, WEIGHT, LABELS * 1.0), TypeError, ["labels", "integers", "float64"]),
        (lambda: loss_of(X * 1j, WEIGHT, LABELS), TypeError, ["x", "complex128"]),
        (lambda: loss_of(X, WEIGHT * 1j, LABELS), TypeError, ["weight", "complex128"]),
        (lambda: loss_of(X, WEIGHT, LABELS, chunk=1.5), TypeError, ["chunk", "integer", "1.5"]),
        (lambda: loss_of(X, WEIGHT, LABELS, chunk=0), ValueError, ["chunk", "at least 1", "0"]),
        (lambda: loss_of(X, WEIGHT, LABELS, reduction="all"), ValueError, ["reduction", "all"]),
        (lambda: loss_of(X, WEIGHT, LABELS, label_smoothing=2), ValueError, ["smoothing", "2"]),
        (
            lambda: loss_of.backward(X, X, WEIGHT, LABELS, reduction="none"),
            ValueError,
            ["dloss", "(4, 5)", "(4,)"],
        ),
        (
            lambda: loss_of.backward(1.0, X, WEIGHT, LABELS, out=(X,)),
            ValueError,
            ["out", "2 entries"],
        ),
        (lambda: loss_of(X, WEIGHT, FAR, chunk=1), ValueError, ["targets[3] is 11", "0 to 10"]),
    ],
)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    for word in ("linear_cross_entropy", *words):
        assert word in str(caught.value)


def test_wrong_labels_leave_outputs_alone() -> None:
    """The place is that in all rows, although a chunk has only some."""
    x, weight, labels, _ = arrays(3, 4)
    labels[2, 1] = -1
    out = np.ones(()), np.ones_like(x), np.ones_like(weight)
    with pytest.raises(ValueError, match=r"targets\[2, 1\] is -1"):
        fa.linear_cross_entropy.forward_backward(x, weight, labels, chunk=2, out=out)
    close(out, [np.ones_like(each) for each in out], 0)
