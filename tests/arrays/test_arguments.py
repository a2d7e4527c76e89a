"""Arguments of all kinds of functions: overlap, domains, others' arrays, types of results, and broadcast gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from representatives import only_long, with_long

import fastact as fa

Array = np.ndarray[Any, Any]


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


# Overlap: a call gives what it gives on copies, however it is cut ------------------------------------------------------

ROWS = ("softmax", "log_softmax", "sparsemax", "entmax15")
N = 40_000  # more than a block, and no multiple of one
MASK = np.random.default_rng(5).random((4, N // 4)) < 0.7
LENGTHS = [N // 8, 0, N // 8 - 7, N // 4 - 2 * (N // 8) + 7]


def calls() -> Iterator[tuple[str, Callable[..., Any], int, int]]:
    """Yield a name, a call of an input of 4 rows and an output, and the sizes of both."""
    quarter = N // 4
    for name in ROWS:
        f = getattr(fa, name)
        yield f"{name} where", lambda x, out, f=f: f(x, where=MASK, out=out), N, N
        yield f"{name} lengths", lambda x, out, f=f: f(x, lengths=LENGTHS, out=out), N, N
        yield f"{name} axis", lambda x, out, f=f: f(x, axis=0, out=out), N, N
        yield f"{name} axes", lambda x, out, f=f: f(x, axis=None, out=out), N, N
    yield "logsumexp where", lambda x, out: fa.logsumexp(x, where=MASK, out=out[:, 0]), N, N
    for options in (
        {"bias": 0.5},
        {"dropout": 0.3, "rng": 1},
        {"bias": 0.5, "dropout": 0.3, "rng": 1},
    ):
        yield f"gelu {options}", lambda x, out, o=options: fa.gelu(x, **o, out=out), N, N
    yield "dropout", lambda x, out: fa.dropout(x, 0.3, rng=1, out=out), N, N
    yield "gumbel", lambda x, out: fa.gumbel_softmax(x, rng=1, out=out), N, N
    yield "swiglu", lambda x, out: fa.swiglu(x, interleaved=True, out=out), N, N // 2
    yield "glu", lambda x, out: fa.glu(x, out=out), N, N // 2
    yield "crelu", lambda x, out: fa.crelu(x, out=out), N, 2 * N
    yield "maxout", lambda x, out: fa.maxout(x, 2, out=out), N, N // 2
    labels = np.arange(4) * 7
    yield (
        "cross-entropy",
        lambda x, out: fa.softmax_cross_entropy.backward(1.0, x, labels, out=out),
        N,
        N,
    )
    targets = np.random.default_rng(1).random((4, quarter), np.float32)
    yield (
        "bce",
        lambda x, out: fa.sigmoid_binary_cross_entropy.backward(1.0, x, targets, out=out),
        N,
        N,
    )
    yield (
        "prelu",
        lambda x, out: fa.prelu.backward(targets, x, weight=0.3, out=(out, None))[0],
        N,
        N,
    )


CALLS = {name: rest for name, *rest in calls()}


@pytest.mark.parametrize("shift", [0, 1, 3, 4096, "reversed"])
@pytest.mark.parametrize(
    "name",
    with_long(
        CALLS, [each for each in CALLS if each.split()[0] not in ("log_softmax", "entmax15")]
    ),
)
def test_an_output_may_overlap_the_input(name: str, shift: Any) -> None:
    call, size, out_size = CALLS[name]
    memory = np.zeros(3 * N, np.float32)
    x = memory[:size].reshape(4, -1)
    if shift == "reversed":
        out = memory[:out_size][::-1].reshape(4, -1)
    else:
        out = memory[shift : shift + out_size].reshape(4, -1)
    x[...] = numbers(4, size // 4)
    right = call(x.copy(), np.empty((4, out_size // 4), np.float32))
    np.testing.assert_array_equal(call(x, out), right)


def test_parameters_and_masks_may_overlap_an_output() -> None:
    memory = numbers(5 * N).astype(np.float32)
    x, bias = numbers(4, N // 4).astype(np.float32), memory[: N // 4]
    right = fa.gelu(x, bias=bias.copy())
    np.testing.assert_array_equal(fa.gelu(x, bias=bias, out=memory[:N].reshape(4, -1)), right)
    weight = memory[:4]
    right = fa.prelu.forward_backward(x, x, weight=weight.copy(), axis=0)
    found = fa.prelu.forward_backward(
        x, x, weight=weight, axis=0, out=(memory[:N].reshape(4, -1), None, None)
    )
    for one, other in zip(found, right, strict=True):
        np.testing.assert_array_equal(one, other)


def test_outputs_that_share_memory_are_refused() -> None:
    x, out = numbers(3, 4), np.empty((3, 4))
    for call in (
        fa.gelu.value_and_derivative,
        fa.softmax.forward_backward,
        fa.gelu.forward_backward,
    ):
        arrays = (x,) if call == fa.gelu.value_and_derivative else (x, x)
        with pytest.raises(ValueError, match="share memory") as raised:
            call(*arrays, out=(out, out))
        assert "\n" not in str(raised.value)


# Domains ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("softshrink", "lambd", -0.5),
        ("shrink", "lambd", -0.5),
        ("smelu", "beta", 0),
        ("smelu", "beta", -1.0),
        ("celu", "alpha", 0.0),
        ("softplus", "beta", 0),
        ("squareplus", "b", -1.0),
        ("hardsigmoid", "alpha", 0.0),
        ("hardswish", "alpha", -0.2),
        ("softmax", "temperature", 0),
        ("softmax", "temperature", np.nan),
        ("softmax", "temperature", 1e-320),
    ],
)
def test_outside_the_domain(name: str, parameter: str, value: float) -> None:
    f, x = getattr(fa, name), numbers(5)
    for call in (
        lambda: f(x, **{parameter: value}),
        lambda: f.forward_backward(x, x, **{parameter: value}),
        lambda: f.bind(**{parameter: value})(x),
    ):
        with pytest.raises(ValueError, match=parameter) as raised:
            call()
        assert "\n" not in str(raised.value)
    out = np.full(5, 77.0)
    with pytest.raises(ValueError, match=parameter):
        f(x, **{parameter: value}, out=out)
    assert (out == 77).all()


@pytest.mark.parametrize(
    ("low", "high"), [(2.0, 1.0), (np.nan, 1.0), (-1.0, np.nan), (-np.inf, 0.5)]
)
def test_bounds_of_all_kinds(low: float, high: float) -> None:
    """What NumPy's clip says, crossing bounds and NaN included."""
    x = np.array([-5, 0, 0.7, 1.5, 5])
    np.testing.assert_array_equal(fa.hardtanh(x, low, high), np.clip(x, low, high))
    np.testing.assert_array_equal(fa.clipped_linear(x, 1, 0, low, high), np.clip(x, low, high))
    inside = np.where(np.isnan(low + high), np.nan, (low < x) & (x < high))
    np.testing.assert_array_equal(fa.hardtanh.derivative(x, low, high), inside)
    np.testing.assert_array_equal(fa.clipped_relu(x, high), np.clip(x, 0, high))


def test_formulas_at_the_edge_of_their_domains() -> None:
    x = np.array([-5, -0.1, 0, 0.1, 5])
    np.testing.assert_array_equal(fa.squareplus(x, b=0), np.maximum(x, 0))
    assert not np.isnan(fa.squareplus.derivative(x, b=0)).any()
    expected = np.where(x > 0, x, -0.5 * np.expm1(x / -0.5))
    np.testing.assert_allclose(fa.celu(x, alpha=-0.5), expected, rtol=1e-14)
    np.testing.assert_allclose(fa.celu(x, alpha=np.inf), x)
    np.testing.assert_allclose(fa.softplus(x, beta=-2.0), np.logaddexp(0, -2 * x) / -2, rtol=1e-14)


# Others' arrays --------------------------------------------------------------------------------------------------------


def others() -> Iterator[Any]:
    yield np.matrix([[1.0, 2], [3, 4]])
    yield np.ma.array([[1.0, 2], [3, 4]], mask=[[0, 1], [0, 0]])
    for module, make in (
        ("pandas", lambda library: library.DataFrame([[1.0, 2], [3, 4]])),
        ("xarray", lambda library: library.DataArray([[1.0, 2], [3, 4]])),
        ("dask.array", lambda library: library.ones((2, 2))),
    ):
        try:
            library = __import__(module, fromlist=["array"])
        except ImportError:
            continue
        yield make(library)


@pytest.mark.parametrize("given", others(), ids=lambda given: type(given).__name__)
def test_arrays_that_mean_more_are_refused_in_one_line(given: Any) -> None:
    x = np.ones((2, 2))
    for call in (
        lambda: fa.softmax(given),
        lambda: fa.softmax.backward(x, given),
        lambda: fa.logsumexp(given),
        lambda: fa.maxout(given, 2),
        lambda: fa.swiglu(given),
        lambda: fa.swiglu(x, given),
        lambda: fa.crelu(given),
        lambda: fa.dropout(given, 0.5, rng=1),
        lambda: fa.gelu(given, bias=1.0),
        lambda: fa.gelu(x, residual=given),
        lambda: fa.prelu(x, given),
        lambda: fa.softmax_cross_entropy(given, [0, 1]),
        lambda: fa.sigmoid_binary_cross_entropy(x, given),
        lambda: fa.linear_cross_entropy(x, given, [0, 1]),
    ):
        with pytest.raises(TypeError, match=r"np\.asarray") as raised:
            call()
        assert "\n" not in str(raised.value)


def test_plain_ufuncs_leave_others_arrays_to_numpy() -> None:
    masked = np.ma.array([1.0, 2], mask=[0, 1])
    assert isinstance(fa.gelu(masked), np.ma.MaskedArray)
    assert isinstance(fa.gelu(np.matrix([[1.0, 2]])), np.matrix)


# Types of results ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["gelu", "softmax", "swiglu", "crelu", *only_long("softplus", "logsumexp")]
)
def test_types_are_those_of_numpy(name: str) -> None:
    function = fa.get(name)
    for given in (np.int8([2, 4]), np.int16([2, 4]), np.array([2, 4]), [True, False], [2, 4]):
        assert function(given).dtype == np.exp(given).dtype, given
    if function.kind != "packed":
        for scalar in (2, 2.5, np.int8(1), np.float16(2), np.float32(2), True):
            assert function(scalar).dtype == np.exp(scalar).dtype, scalar
    assert fa.softmax(100_000, None) == 1


def test_scalars_come_back_as_scalars() -> None:
    for results in (
        fa.prelu.forward_backward(np.array(2.0), np.array(1.0), weight=0.5),
        fa.softmax.forward_backward(3.0, 1.0),
        fa.elu.forward_backward(2.0, 1.0),
    ):
        assert all(isinstance(each, np.float64) for each in results)
    assert fa.softmax(3.0) == 1


def test_lengths_whose_sum_wraps() -> None:
    with pytest.raises(ValueError, match="lengths"):
        fa.softmax(numbers(4), lengths=np.array([2**63, 2**63, 4], np.uint64))


# Gradients by what is broadcast ----------------------------------------------------------------------------------------


def test_the_gradient_by_a_broadcast_input_is_summed() -> None:
    x, dy = numbers(1, 3), numbers(4, 3, seed=1)
    dx = dy * fa.gelu.derivative(x)
    np.testing.assert_allclose(fa.gelu.backward(dy, x), dx.sum(0, keepdims=True), rtol=1e-14)
    _, found = fa.gelu.forward_backward(x, dy)
    np.testing.assert_allclose(found, dx.sum(0, keepdims=True), rtol=1e-14)
    bounds = np.linspace(-2, -1, 4)[:, None], np.linspace(1, 2, 4)[:, None]
    inside = (bounds[0] < x) & (x < bounds[1])
    found = fa.hardtanh.backward(np.ones((1, 3)), x, *bounds)
    np.testing.assert_array_equal(found, inside.sum(0, keepdims=True))
    assert np.shape(fa.gelu.backward(dy, 0.5)) == ()
    out = np.empty((1, 3))
    assert fa.gelu.backward(dy, x, out=out) is out
    np.testing.assert_allclose(out, dx.sum(0, keepdims=True), rtol=1e-14)
    _, dfirst, dsecond = fa.swiglu.forward_backward(x, numbers(4, 3, seed=2), dy)
    assert (dfirst.shape, dsecond.shape) == ((1, 3), (4, 3))


@pytest.mark.parametrize("name", with_long((*ROWS, "softmin"), ("softmax", "sparsemax")))
def test_where_in_the_backward_pass_of_rows(name: str) -> None:
    x, dy = (numbers(4, 9, seed=seed).astype(np.float32) for seed in (0, 1))
    mask = np.random.default_rng(2).random((4, 9)) < 0.6
    mask[2] = False
    f = getattr(fa, name)
    y, dx = f.forward_backward(x, dy, where=mask)
    np.testing.assert_allclose(f.backward(dy, y, where=mask), dx, rtol=1e-5, atol=1e-6)
    assert (dx[~mask] == 0).all()


def test_warnings_point_to_the_caller() -> None:
    with pytest.warns(UserWarning, match="sigmoid: 'where' without 'out'") as warned:
        fa.sigmoid(numbers(3), where=np.array([True, False, True]))
    assert warned[0].filename == __file__


def test_unknown_arguments_name_those_that_there_are() -> None:
    with pytest.raises(TypeError, match="did you mean 'axis'"):
        fa.softmax(numbers(3), axes=0)
    with pytest.raises(TypeError, match="did you mean 'pos_weight'"):
        fa.sigmoid_binary_cross_entropy([1.0], [1.0], positive_weight=2)


@pytest.mark.parametrize("rng", [3, np.int64(3), np.random.SeedSequence(3)])
def test_rrelu_takes_seeds(rng: Any) -> None:
    x = numbers(100)
    y, slope = fa.rrelu(x, rng=rng)
    again, _ = fa.rrelu(x, rng=rng)
    np.testing.assert_array_equal(y, again)
    assert ((slope >= 1 / 8) & (slope <= 1 / 3)).all()
    with pytest.raises(TypeError, match="rng must be"):
        fa.rrelu(x, rng="3")
    with pytest.raises(ValueError, match="lower"):
        fa.rrelu(x, lower=0.5, upper=0.1, rng=rng)
