"""The value now and the gradient later: gradients by finite differences, what is kept, and random numbers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastact as fa

ROWS, COLUMNS = 4, 6
STEP = 1e-6


def arrays_of(*shapes: tuple[int, ...], seed: int = 0) -> list[Any]:
    """Return arrays in float64, away from the kinks at 0."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.2, 1.5, shape) * rng.choice([-1, 1], shape) for shape in shapes]


def check(call: Callable[..., Any], forward: Callable[..., Any], arrays: list[Any]) -> None:
    """Compare the gradients of a vjp with central differences of the forward call, twice."""
    y, vjp = call(*arrays)
    np.testing.assert_allclose(y, forward(*arrays), rtol=1e-12)
    for seed in 1, 2:
        rng = np.random.default_rng(seed)
        dy = rng.standard_normal(np.shape(y))
        found = vjp(dy)
        gradients = found if isinstance(found, tuple) else (found,)
        assert len(gradients) == len(arrays)
        for k, gradient in enumerate(gradients):
            assert gradient.shape == np.shape(arrays[k])
            direction = rng.standard_normal(np.shape(arrays[k]))
            above, below = (
                forward(*arrays[:k], arrays[k] + sign * STEP * direction, *arrays[k + 1 :])
                for sign in (1, -1)
            )
            expected = np.sum(dy * (above - below)) / (2 * STEP)
            np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=1e-6, atol=1e-8)


WHOLE, BIAS = (ROWS, COLUMNS), (COLUMNS,)
LABELS = np.array([0, 5, 2, 2])
ONE_HOT = np.eye(COLUMNS)[LABELS]
MASK = np.arange(ROWS * COLUMNS).reshape(WHOLE) % 5 > 0
# Each: the function, the options, and the shapes of what has a gradient.
CASES: dict[str, tuple[Any, dict[str, Any], list[tuple[int, ...]]]] = {
    "sigmoid": (fa.sigmoid, {}, [WHOLE]),
    "sigmoid input": (fa.sigmoid, {"save": "input"}, [WHOLE]),
    "sigmoid derivative": (fa.sigmoid, {"save": "derivative"}, [WHOLE]),
    "gelu": (fa.gelu, {}, [WHOLE]),
    "gelu derivative": (fa.gelu, {"save": "derivative"}, [WHOLE]),
    "elu": (fa.elu, {"alpha": 0.5}, [WHOLE]),
    "elu without output": (fa.elu, {"alpha": -0.5}, [WHOLE]),
    "leaky_relu": (fa.leaky_relu, {"negative_slope": 0.2, "convention": "pytorch"}, [WHOLE]),
    "gelu scale": (fa.gelu, {"scale": 0.5}, [WHOLE]),
    "gelu dropout": (fa.gelu, {"dropout": 0.5, "rng": 3}, [WHOLE]),
    "dropout": (fa.dropout, {"p": 0.5, "rng": 3}, [WHOLE]),
    "softmax": (fa.softmax, {}, [WHOLE]),
    "softmax axis": (fa.softmax, {"axis": 0, "temperature": 2.0}, [WHOLE]),
    "softmax where": (fa.softmax, {"where": MASK}, [WHOLE]),
    "logsumexp": (fa.logsumexp, {"axis": 0}, [WHOLE]),
    "entmax15": (fa.entmax15, {}, [WHOLE]),
    "gumbel_softmax": (fa.gumbel_softmax, {"rng": 3}, [WHOLE]),
    "swiglu": (fa.swiglu, {}, [WHOLE]),
    "swiglu of two": (fa.swiglu, {"gate": "second"}, [WHOLE, WHOLE]),
    "crelu": (fa.crelu, {}, [WHOLE]),
    "maxout": (fa.maxout, {"pieces": 2}, [WHOLE]),
    "prelu": (fa.prelu.bind(weight=0.3), {}, [WHOLE]),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    function, options, shapes = CASES[name]
    forward = {key: value for key, value in options.items() if key != "save"}
    check(
        lambda *arrays: function.vjp(*arrays, **options),
        lambda *arrays: function(*arrays, **forward),
        arrays_of(*shapes),
    )


@pytest.mark.parametrize("save", ["input", "derivative", None])
@pytest.mark.parametrize(
    "options",
    [{}, {"dropout": 0.5, "rng": 7}, {"axis": 0}, {"scale": 0.5}, {"residual": np.ones(WHOLE)}],
    ids=str,
)
def test_bias(options: dict[str, Any], save: str | None) -> None:
    check(
        lambda x, b: fa.gelu.vjp(x, bias=b, save=save, **options),
        lambda x, b: fa.gelu(x, bias=b, **options),
        arrays_of(WHOLE, (ROWS,) if "axis" in options else BIAS),
    )


@pytest.mark.parametrize("save", ["input", "output", "derivative", None])
@pytest.mark.parametrize("shape", [(), BIAS, (1, COLUMNS), (ROWS, 1)])
@pytest.mark.parametrize("name", ["sigmoid", "relu", "tanh"])
def test_bias_of_functions_of_their_output(
    name: str, shape: tuple[int, ...], save: str | None
) -> None:
    function = fa.get(name)
    check(
        lambda x, b: function.vjp(x, bias=b, save=save),
        lambda x, b: function(x, bias=b),
        arrays_of(WHOLE, shape),
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"dropout": 0.25}, {"scale": 2.0, "dropout": 0.5}])
@pytest.mark.parametrize("shape", [(32, 100), (300, 200), (400, 300)])
def test_repeated_steps(shape: tuple[int, ...], options: dict[str, Any], dtype: Any) -> None:
    """Calls that repeat one with other elements give what `backward` gives for them."""
    for step in range(3):
        rng = np.random.default_rng(step)
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        b = rng.standard_normal(shape[1]).astype(dtype)
        seed = {"rng": step} if "dropout" in options else {}
        y, vjp = fa.gelu.vjp(x, bias=b, **options, **seed)
        np.testing.assert_array_equal(y, fa.gelu(x, bias=b, **options, **seed))
        expected = fa.gelu.backward(dy, x, bias=b, **options, **seed)
        epsilon = float(np.finfo(dtype).eps)
        rounding = 4 * epsilon, 4 * epsilon * np.abs(expected[0].astype(float)).sum(0).max()
        for found, other, allowed in zip(vjp(dy), expected, rounding, strict=True):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, other, 4 * epsilon, allowed)
        dx, db = np.empty(shape, dtype), np.empty(shape[1], dtype)
        results = vjp(dy, out=(dx, db))
        assert results[0] is dx
        assert results[1] is db
        np.testing.assert_array_equal(db, vjp(dy)[1])


def test_parameter_that_decides_what_is_kept() -> None:
    """A plan for slopes that allow the output must not serve those that do not."""
    (x,) = arrays_of(WHOLE)
    for slope in (0.5, -0.5, 0.5):
        slopes = np.full(WHOLE, slope)
        y, vjp = fa.leaky_relu.vjp(x, negative_slope=slopes)
        np.testing.assert_allclose(vjp(np.ones(WHOLE)), np.where(x > 0, 1, slope))
        np.testing.assert_allclose(y, np.where(x > 0, x, slope * x))


def test_learnable_parameter() -> None:
    check(fa.prelu.vjp, fa.prelu, arrays_of(WHOLE, BIAS))


def test_bound_learnable_parameter() -> None:
    """It has no gradient, neither where the input is kept nor beside that of a bias."""
    x, bias = arrays_of(WHOLE, BIAS)
    bound = fa.prelu.bind(weight=0.3)
    y, vjp = bound.vjp(x, save="input")
    np.testing.assert_allclose(vjp(y), np.where(x > 0, 1, 0.3) * y)
    check(lambda x, b: bound.vjp(x, bias=b), lambda x, b: bound(x, bias=b), [x, bias])


@pytest.mark.parametrize(
    ("function", "targets"),
    [
        (fa.softmax_cross_entropy, LABELS),
        (fa.softmax_cross_entropy, ONE_HOT),
        (fa.sigmoid_binary_cross_entropy, ONE_HOT),
        (fa.huber, ONE_HOT),
        (fa.mse, ONE_HOT),
        (fa.nll, LABELS),
        (fa.nll, ONE_HOT),
    ],
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(function: Any, targets: Any, reduction: str) -> None:
    def forward(x: Any) -> Any:
        return function(x, targets, reduction=reduction)

    check(lambda x: function.vjp(x, targets, reduction=reduction), forward, arrays_of(WHOLE))
    if reduction != "none":
        (x,) = arrays_of(WHOLE)
        _, vjp = function.vjp(x, targets, reduction=reduction)
        np.testing.assert_array_equal(vjp(), vjp(1.0))


def test_linear_cross_entropy() -> None:
    check(
        lambda x, w: fa.linear_cross_entropy.vjp(x, w, LABELS % ROWS),
        lambda x, w: fa.linear_cross_entropy(x, w, LABELS % ROWS),
        arrays_of(WHOLE, WHOLE),
    )


def test_random_slopes() -> None:
    (x,) = arrays_of(WHOLE)
    y, vjp = fa.rrelu.vjp(x, rng=np.random.default_rng(1))
    dx = vjp(np.ones(WHOLE))
    np.testing.assert_allclose(dx * x, y)
    assert (dx[x > 0] == 1).all()
    assert np.unique(dx[x < 0]).size > 1


def test_hard_value() -> None:
    (x,) = arrays_of(WHOLE)
    y, vjp = fa.gumbel_softmax.vjp(x, rng=5, hard=True)
    np.testing.assert_array_equal(y, fa.gumbel_softmax(x, rng=5, hard=True))
    np.testing.assert_array_equal(np.sort(y, axis=-1)[:, -1], 1)
    soft = fa.gumbel_softmax.forward_backward(x, x, rng=5)[1]
    np.testing.assert_allclose(vjp(x), soft, rtol=1e-12)


@pytest.mark.parametrize(
    "rng", [None, 5, np.random.SeedSequence(3), np.random.default_rng(3), np.random.RandomState(3)]
)
def test_random_numbers_are_kept(rng: Any) -> None:
    x = np.ones((50, 40))
    y, vjp = fa.dropout.vjp(x, 0.5, rng=rng)
    z, fused = fa.relu.vjp(x, dropout=0.5, rng=rng, bias=0.0)
    for _ in range(2):
        np.testing.assert_array_equal(vjp(x), y)
        np.testing.assert_array_equal(fused(x)[0], z)
    assert 0.3 < (y == 0).mean() < 0.7
    if not isinstance(rng, int | np.random.SeedSequence):
        assert (y != z).any()


def test_what_is_kept() -> None:
    x = np.ones(WHOLE)
    y, vjp = fa.sigmoid.vjp(x)
    assert vjp.saved[0] is y
    assert vjp.nbytes == y.nbytes
    assert fa.hardswish.vjp(x)[1].saved[0] is x
    assert fa.gelu.vjp(x, save="input")[1].saved[0] is x
    _, vjp = fa.gelu.vjp(x)
    np.testing.assert_array_equal(vjp.saved[0], fa.gelu.derivative(x))
    half = x.astype(np.float16)
    assert fa.gelu.vjp(half)[1].saved[0] is half
    assert fa.maxout.vjp(x, 2)[1].saved[0].dtype == np.intp
    assert fa.dropout.vjp(x, 0.5, rng=1)[1].nbytes == x.nbytes
    large = np.ones((300, 300))
    assert fa.dropout.vjp(large, 0.5, rng=1)[1].nbytes == 0
    assert fa.relu.vjp(large, bias=1.0, dropout=0.5, rng=1)[1].saved[0] is large
    assert fa.relu.vjp(large, bias=1.0, dropout=0.5, rng=1, save="derivative")[1].saved[0] is not x


def test_output() -> None:
    x, dy = arrays_of(WHOLE, WHOLE)
    expected = fa.sigmoid(x), fa.sigmoid.backward(dy, x)
    out, dx = np.empty(WHOLE), np.empty(WHOLE)
    y, vjp = fa.sigmoid.vjp(x, out=out)
    assert y is out
    assert vjp(dy, out=dx) is dx
    np.testing.assert_allclose((y, dx), expected, rtol=1e-14)
    before = x.copy()
    with pytest.raises(ValueError, match="out would overwrite"):
        fa.hardswish.vjp(x, out=x)
    np.testing.assert_array_equal(x, before)
    with pytest.raises(ValueError, match="out would overwrite"):
        fa.mse.vjp(x, dy, weight=out, reduction="none", out=out)
    np.testing.assert_allclose(out, expected[0], rtol=1e-14)
    y, vjp = fa.sigmoid.vjp(x, out=x)  # keeps the output only
    np.testing.assert_allclose(vjp(dy), expected[1], rtol=1e-14)
    loss = np.empty(())
    assert fa.huber.vjp(before, dy, out=loss)[0] is loss
    assert loss == fa.huber(before, dy)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda vjp: pickle.loads(pickle.dumps(vjp))])
def test_copies(copied: Callable[[Any], Any]) -> None:
    x, dy, b = arrays_of(WHOLE, WHOLE, BIAS)
    for _, vjp in (
        fa.sigmoid.vjp(x),
        fa.gelu.vjp(x, bias=b, dropout=0.5, rng=1),
        fa.softmax.vjp(x, axis=0),
        fa.elu.bind(alpha=0.5).vjp(x),
        fa.rrelu.vjp(x, rng=np.random.default_rng(1)),
        fa.huber.vjp(x, x - 1, reduction="none"),
    ):
        found, expected = copied(vjp)(dy), vjp(dy)
        for k, array in enumerate(expected):  # an array, or a tuple of two
            np.testing.assert_array_equal(found[k], array)


def test_wrong_calls() -> None:
    (x,) = arrays_of(WHOLE)
    for save in "inputs", 1:
        with pytest.raises(ValueError, match="save must be one of"):
            fa.gelu.vjp(x, save=save)
    with pytest.raises(ValueError, match="not a function of the output"):
        fa.gelu.vjp(x, save="output")
    with pytest.raises(ValueError, match="with dropout, the derivative is not"):
        fa.sigmoid.vjp(x, bias=1.0, dropout=0.5, save="output")
    with pytest.raises(TypeError, match="did you mean 'bias'"):
        fa.gelu.vjp(x, bais=1.0)
    with pytest.raises(TypeError, match="save"):
        fa.softmax.vjp(x, save="input")
    with pytest.raises(TypeError, match="rng has no effect"):
        fa.gelu.vjp(x, rng=1)
    _, vjp = fa.gelu.vjp(x)
    for wrong in (), (x, x):
        with pytest.raises(TypeError, match=f"function of dy; got {len(wrong)}"):
            vjp(*wrong)
    _, vjp = fa.gelu.vjp(x, save="derivative")
    with pytest.raises(ValueError, match="the derivative has shape"):
        vjp(x[0])


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_large_gradients_of_losses_in_half_precision(dtype: Any) -> None:
    """The scale of a loss keeps small gradients from vanishing, as in `backward`."""
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    x, labels = np.full((64, 700), 1e-3, kind), np.arange(64)
    for function, targets in (
        (fa.mse, np.zeros_like(x)),
        (fa.softmax_cross_entropy, labels),
        (fa.nll, labels),
    ):
        _, vjp = function.vjp(x, targets)
        for scale in (1.0, 1024.0, 2.0**14):
            np.testing.assert_array_equal(vjp(scale), function.backward(scale, x, targets))
    assert abs(fa.mse.vjp(x, np.zeros_like(x))[1](2.0**14)).min() > 0


def test_gradients_with_respect_to_losses() -> None:
    x = np.ones((3, 4), np.float32)
    _, vjp = fa.mse.vjp(x, np.zeros_like(x))
    for dloss in (2, 2.0, np.float64(2), np.float32(2), np.array(2.0)):
        dx = vjp(dloss)
        assert dx.dtype == np.float32
        np.testing.assert_allclose(dx, 2 * 2 / 12, 1e-6)
    for wrong in (x, np.ones(1)):
        with pytest.raises(ValueError, match=r"mse\.vjp: dloss has shape .*, the loss has \(\)"):
            vjp(wrong)


@pytest.mark.parametrize("save", ["input", "derivative"])
@pytest.mark.parametrize(
    ("out", "kind"),
    [
        (np.empty((3, 6)), ValueError),
        (np.empty(WHOLE, int), TypeError),
        ([1], TypeError),
        ((np.full(WHOLE, 7.0), np.empty(3)), ValueError),
        ((np.full(WHOLE, 7.0), np.empty(BIAS, int)), TypeError),
    ],
)
def test_wrong_outputs(save: str, out: Any, kind: type[Exception]) -> None:
    """The message names function and argument, and nothing is written."""
    x, b = arrays_of(WHOLE, BIAS)
    options = {"bias": b} if isinstance(out, tuple) else {}
    _, vjp = fa.gelu.vjp(x, save=save, **options)
    with pytest.raises(kind, match=r"gelu\.(vjp|backward): .*out"):
        vjp(x, out=out)
    if isinstance(out, tuple):
        assert (out[0] == 7).all()


def test_where_of_ufuncs_is_no_option() -> None:
    """What `where` leaves out has no value; that of row functions is a mask."""
    x = np.ones(3)
    for function in (fa.gelu, fa.prelu.bind(weight=0.5)):
        with pytest.raises(TypeError, match="vjp takes no 'where'"):
            function.vjp(x, where=x > 0, out=x.copy())
    fa.softmax.vjp(x, where=x > 0)
