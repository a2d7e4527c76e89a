"""Recurrent cells: states and gradients against formulas, PyTorch and finite differences."""

from __future__ import annotations

import itertools
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import fastact as fa
import fastact.ufuncs
from fastact import baseline

GATES = {"lstm_cell": "ifgo", "gru_cell": "rzn"}
every_cell = pytest.mark.parametrize("name", GATES)
wide = np.longdouble


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def inputs_of(name: str, *shape: int, axis: int = -1, dtype: Any = np.float64) -> list[Any]:
    """Return the inputs of a cell whose state has this shape: the gates, then the state."""
    whole = list(shape)
    whole[axis] *= len(GATES[name])
    packed = 1 if name == "lstm_cell" else 2
    gates = [2 * normal(*whole, seed=k) for k in range(packed)]
    return [each.astype(dtype) for each in (*gates, normal(*shape, seed=5))]


def gradients_of(name: str, *shape: int, dtype: Any = np.float64) -> list[Any]:
    return [normal(*shape, dtype=dtype, seed=7 + k) for k in range(1 + (name == "lstm_cell"))]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def lstm(gates: Any, c_prev: Any, axis: int) -> Any:
    """Return the states, and a function that returns the gradients."""
    i, f, g, o = np.split(gates, 4, axis)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c_prev + i * g
    t = np.tanh(c)

    def backward(dh: Any, dc: Any) -> Any:
        d = dc + dh * o * (1 - t * t)
        slopes = d * g * i * (1 - i), d * c_prev * f * (1 - f), d * i * (1 - g * g)
        return np.concatenate([*slopes, dh * t * o * (1 - o)], axis), d * f

    return (o * t, c), backward


def gru(input_gates: Any, hidden_gates: Any, h_prev: Any, axis: int) -> Any:
    """Return the state, and a function that returns the gradients."""
    (ir, iz, i_n), (hr, hz, hn) = (np.split(each, 3, axis) for each in (input_gates, hidden_gates))
    r, z = sigmoid(ir + hr), sigmoid(iz + hz)
    n = np.tanh(i_n + r * hn)

    def backward(dh: Any) -> Any:
        dn = dh * (1 - z) * (1 - n * n)
        dr, dz = dn * hn * r * (1 - r), dh * (h_prev - n) * z * (1 - z)
        by_input = np.concatenate([dr, dz, dn], axis)
        return by_input, np.concatenate([dr, dz, r * dn], axis), dh * z

    return ((1 - z) * n + z * h_prev,), backward


FORMULAS: dict[str, Callable[..., Any]] = {"lstm_cell": lstm, "gru_cell": gru}


def as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def both(name: str, inputs: list[Any], gradients: list[Any], **options: Any) -> tuple[Any, ...]:
    """Return the states and the gradients."""
    cell = getattr(fa, name)
    return *as_tuple(cell(*inputs, **options)), *cell.backward(*gradients, *inputs, **options)


def expected(name: str, inputs: list[Any], gradients: list[Any], axis: int = -1) -> tuple[Any, ...]:
    """Return the same by the formula, in long double."""
    states, backward = FORMULAS[name](*(np.asarray(each, wide) for each in inputs), axis)
    return *states, *backward(*(np.asarray(each, wide) for each in gradients))


def check(found: tuple[Any, ...], wanted: tuple[Any, ...], tolerance: float = 1e-13) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one.astype(wide), other, rtol=tolerance, atol=tolerance)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 2)[::2, :, ::3],
    "swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


@every_cell
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(name: str, layout: str) -> None:
    """Any layout and any axis, read-only; twice, since the second call may run by a plan."""
    for axis in (0, 1, -1):
        inputs = [LAYOUTS[layout](each) for each in inputs_of(name, 6, 4, 5, axis=axis)]
        gradients = [LAYOUTS[layout](each) for each in gradients_of(name, 6, 4, 5)]
        for each in (*inputs, *gradients):
            each.flags.writeable = False
        wanted = expected(name, inputs, gradients, axis)
        for _ in range(2):
            check(both(name, inputs, gradients, axis=axis), wanted)


@every_cell
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 33), (5, 100), (2, 40_000)])
def test_sizes(name: str, shape: tuple[int, ...]) -> None:
    """In one dimension, in rows shorter and longer than a block, and in rows that threads share."""
    inputs, gradients = inputs_of(name, *shape), gradients_of(name, *shape)
    for _ in range(2):
        check(both(name, inputs, gradients), expected(name, inputs, gradients))


@every_cell
def test_orders(name: str) -> None:
    """Every order of the gates gives the same bits."""
    inputs, gradients, letters = inputs_of(name, 3, 10), gradients_of(name, 3, 10), GATES[name]

    def reordered(x: Any, order: str) -> Any:
        parts = dict(zip(letters, np.split(x, len(letters), -1), strict=True))
        return np.concatenate([parts[gate] for gate in order], -1)

    orders = [letters, letters[1:] + letters[:1], letters[::-1]]
    wanted = both(name, inputs, gradients)
    for order in orders:
        *gates, state = inputs
        given = [*(reordered(each, order) for each in gates), state]
        for one, other in zip(both(name, given, gradients, order=order), wanted, strict=True):
            is_packed = one.shape != state.shape
            np.testing.assert_array_equal(one, reordered(other, order) if is_packed else other)


def test_lstm_against_pytorch() -> None:
    """LSTMCell, whose gates are the input if its weights are the identity."""
    torch = pytest.importorskip("torch")
    n, (gates, c_prev), gradients = 6, inputs_of("lstm_cell", 4, 6), gradients_of("lstm_cell", 4, 6)
    cell = torch.nn.LSTMCell(4 * n, n, bias=False, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih[...] = torch.eye(4 * n)
        cell.weight_hh.zero_()
    leaves = [torch.tensor(each, requires_grad=True) for each in (gates, c_prev)]
    states = cell(leaves[0], (torch.zeros(4, n, dtype=torch.float64), leaves[1]))
    slopes = torch.autograd.grad(states, leaves, [torch.tensor(each) for each in gradients])
    wanted = tuple(each.detach().numpy() for each in (*states, *slopes))
    check(both("lstm_cell", [gates, c_prev], gradients), wanted)


def test_gru_against_pytorch() -> None:
    """GRUCell, whose input gates are the input, and whose hidden gates are a product with the state."""
    torch = pytest.importorskip("torch")
    n, (gates, _, h_prev), (dh,) = 6, inputs_of("gru_cell", 4, 6), gradients_of("gru_cell", 4, 6)
    weight, bias = normal(3 * n, n, seed=11), normal(3 * n, seed=12)
    cell = torch.nn.GRUCell(3 * n, n, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih[...] = torch.eye(3 * n)
        cell.bias_ih.zero_()
        cell.weight_hh[...] = torch.tensor(weight)
        cell.bias_hh[...] = torch.tensor(bias)
    leaves = [torch.tensor(each, requires_grad=True) for each in (gates, h_prev)]
    state = cell(*leaves)
    slopes = torch.autograd.grad(state, [*leaves, cell.bias_hh], torch.tensor(dh))
    hidden = h_prev @ weight.T + bias
    h, dinput, dhidden, dh_prev = both("gru_cell", [gates, hidden, h_prev], [dh])
    found = h, dinput, dh_prev + dhidden @ weight, dhidden.sum(0)
    check(found, tuple(each.detach().numpy() for each in (state, *slopes)), 1e-12)


@every_cell
def test_vjp(name: str) -> None:
    """The states now and the gradient later, with the options of the call."""
    cell, inputs, gradients = getattr(fa, name), inputs_of(name, 3, 5), gradients_of(name, 3, 5)
    for options in ({}, {"order": GATES[name][::-1]}):
        *states, vjp = cell.vjp(*inputs, **options)
        check((*states, *vjp(*gradients)), both(name, inputs, gradients, **options), 0)
    assert vjp.nbytes == sum(each.nbytes for each in inputs)


@every_cell
def test_finite_differences(name: str) -> None:
    cell, step = getattr(fa, name), 1e-6
    inputs, gradients = inputs_of(name, 3, 5), gradients_of(name, 3, 5)
    for k, slope in enumerate(cell.backward(*gradients, *inputs)):
        direction = normal(*inputs[k].shape, seed=20 + k)
        ends = []
        for sign in (1, -1):
            moved = [*inputs]
            moved[k] = inputs[k] + sign * step * direction
            states = as_tuple(cell(*moved))
            ends.append(sum(np.sum(d * y) for d, y in zip(gradients, states, strict=True)))
        assert np.isclose(np.sum(slope * direction), (ends[0] - ends[1]) / (2 * step), rtol=1e-7)


def stated_bounds(
    name: str, inputs: list[Any], found: tuple[Any, ...]
) -> list[tuple[Any, Any, Any]]:
    """Return for each state what is found, the exact number, and the unit of the stated bound."""
    if name == "lstm_cell":
        i, f, g, o = np.split(inputs[0].astype(np.float64), 4, -1)
        h, c = (each.astype(np.float64) for each in found)
        kept, added = special.expit(f) * inputs[1].astype(np.float64), special.expit(i) * np.tanh(g)
        exact_h = special.expit(o) * np.tanh(c)
        return [(c, kept + added, abs(kept) + abs(added)), (h, exact_h, abs(exact_h))]
    input_gates, hidden_gates, h_prev = inputs
    sums = np.split((input_gates + hidden_gates).astype(np.float64), 3, -1)
    i_n, h_n = (np.split(each.astype(np.float64), 3, -1)[2] for each in (input_gates, hidden_gates))
    r, z, rest = special.expit(sums[0]), special.expit(sums[1]), special.expit(-sums[1])
    n = np.tanh(i_n + r * h_n)
    kept = z * h_prev.astype(np.float64)
    unit = rest * (abs(n) + (1 - n * n) * (abs(i_n) + abs(r * h_n))) + abs(kept)
    return [(found[0].astype(np.float64), rest * n + kept, unit)]


@every_cell
@pytest.mark.parametrize("size", [0.01, 1.0, 8.0, 40.0])
def test_stated_errors(name: str, size: float) -> None:
    """In float32, small gates, open ones and shut ones."""
    inputs = [(size * each).astype(np.float32) for each in inputs_of(name, 40, 1000)]
    found = as_tuple(getattr(fa, name)(*inputs))
    for state, exact, unit in stated_bounds(name, inputs, found):
        smallest = 2.0**-126 * (1 + np.max(abs(inputs[-1])))  # where a gate underflows
        error = np.max(abs(state - exact) / (unit + smallest))
        assert 0.5 * 2.0**-24 < error <= 3 * 2.0**-23


@every_cell
def test_extreme_gates(name: str) -> None:
    """Gates that are shut or open to the last bit: no overflow, no NaN, and no cancellation."""
    with np.errstate(all="raise"):
        for dtype in (np.float16, np.float32, np.float64):
            *gates, state = inputs_of(name, 4, 25, dtype=dtype)
            largest = np.finfo(dtype).max / 4
            inputs = [*(np.sign(each) * largest for each in gates), state]
            for each in both(name, inputs, gradients_of(name, 4, 25, dtype=dtype)):
                assert each.dtype == dtype
                assert np.isfinite(each).all()
    shut = np.array([[0.0, 60.0, 1.0]])  # the update gate keeps the state; so 1 - z is exp(-60)
    h = fa.gru_cell(shut, np.zeros((1, 3)), np.zeros((1, 1)))
    np.testing.assert_allclose(h, [[np.exp(-60) * np.tanh(1)]], rtol=1e-13)
    _, dinput_n = fa.gru_cell.backward(np.ones((1, 1)), shut, np.zeros((1, 3)), np.zeros((1, 1)))[
        0
    ][0, 1:]
    np.testing.assert_allclose(dinput_n, np.exp(-60) / np.cosh(1) ** 2, rtol=1e-13)


@every_cell
def test_nan(name: str) -> None:
    inputs, gradients = inputs_of(name, 2, 9), gradients_of(name, 2, 9)
    inputs[0][0, 13] = np.nan  # of the forget or update gate, on which all depends
    with np.errstate(all="raise"):
        for each in both(name, inputs, gradients):
            assert np.isnan(each[0]).any()
            assert not np.isnan(each[1]).any()


@every_cell
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(name: str, dtype: str) -> None:
    """They are computed in float32 and rounded once."""
    kind = np.dtype(dtype) if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    inputs, gradients = inputs_of(name, 4, 33, dtype=kind), gradients_of(name, 4, 33, dtype=kind)
    wider = [[each.astype(np.float32) for each in some] for some in (inputs, gradients)]
    for one, other in zip(both(name, inputs, gradients), both(name, *wider), strict=True):
        assert one.dtype == kind
        np.testing.assert_array_equal(one, other.astype(kind))


@every_cell
def test_mixed_types(name: str) -> None:
    """The result has the type that NumPy would choose."""
    *gates, state = inputs_of(name, 3, 4)
    for one, other in itertools.product((np.float16, np.float32, np.float64, np.int8), repeat=2):
        inputs = [*(each.astype(one) for each in gates), state.astype(other)]
        kind = np.result_type(one, other, np.float16)
        for each in as_tuple(getattr(fa, name)(*inputs)):
            assert each.dtype == kind
        check(
            both(name, inputs, gradients_of(name, 3, 4))[:1],
            expected(name, inputs, gradients_of(name, 3, 4))[:1],
            3e-2,
        )


@every_cell
def test_same_bits_for_any_number_of_threads(name: str) -> None:
    inputs = inputs_of(name, 300, 1001, dtype=np.float32)
    gradients = gradients_of(name, 300, 1001, dtype=np.float32)
    before = fa.get_num_threads()
    try:
        results = []
        for threads in (1, 2) * 3:
            fa.set_num_threads(threads)
            results.append([each.tobytes() for each in both(name, inputs, gradients)])
    finally:
        fa.set_num_threads(before)
    assert all(result == results[0] for result in results)
    row = [each[7:8] for each in inputs], [each[7:8] for each in gradients]
    for one, other in zip(both(name, *row), results[0], strict=True):
        size = one.nbytes
        assert one.tobytes() == other[7 * size : 8 * size]


@every_cell
def test_out_and_overlap(name: str) -> None:
    """Results go where they are wanted, over the inputs too."""
    cell, inputs, gradients = getattr(fa, name), inputs_of(name, 6, 8), gradients_of(name, 6, 8)
    count = len(gradients)
    wanted = both(name, inputs, gradients)
    outs = tuple(np.empty(each.shape[::-1]).T for each in wanted)
    cell(*inputs, out=outs[:count])
    results = cell.backward(*gradients, *inputs, out=outs[count:])
    for found, own, each in zip(results, outs[count:], wanted[count:], strict=True):
        assert found is own
        np.testing.assert_array_equal(own, each)
    np.testing.assert_array_equal(outs[0], wanted[0])
    over = [each.copy() for each in inputs]
    cell.backward(*gradients, *over, out=tuple(over))
    for found, each in zip(over, wanted[count:], strict=True):
        np.testing.assert_array_equal(found, each)
    over = [each.copy() for each in inputs]
    inside = over[0][:, 3:11]
    cell(*over, out=(inside, over[-1]) if count == 2 else inside)
    np.testing.assert_array_equal(inside, wanted[0])
    if count == 2:
        np.testing.assert_array_equal(over[-1], wanted[1])


@every_cell
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty(name: str, shape: tuple[int, ...]) -> None:
    inputs, gradients = inputs_of(name, *shape), gradients_of(name, *shape)
    assert [each.shape for each in both(name, inputs, gradients)] == [
        *(each.shape for each in gradients),
        *(each.shape for each in inputs),
    ]


@every_cell
def test_memory(name: str) -> None:
    """A call takes its results and at most a MiB for each thread."""
    arrays = (
        inputs_of(name, 256, 1024, dtype=np.float32),
        gradients_of(name, 256, 1024, dtype=np.float32),
    )
    before = fa.output_cache_info().max_bytes
    fa.set_output_cache(max_bytes=0)  # whose blocks tracemalloc does not see
    try:
        both(name, *arrays)
        tracemalloc.start()
        results = both(name, *arrays)
        peak = tracemalloc.get_traced_memory()[1] - sum(each.nbytes for each in results)
    finally:
        tracemalloc.stop()
        fa.set_output_cache(max_bytes=before)
    assert peak <= 2**20


@every_cell
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_baseline(name: str, dtype: Any) -> None:
    """The NumPy baseline, along any axis."""
    item = getattr(baseline, name)
    for axis in (0, 1, -1):
        inputs, gradients = (
            inputs_of(name, 3, 4, 5, axis=axis, dtype=dtype),
            gradients_of(name, 3, 4, 5, dtype=dtype),
        )
        found = item.forward_backward(*inputs, *gradients, axis=axis)
        assert {each.dtype for each in found} == {np.dtype(dtype)}
        check(found, expected(name, inputs, gradients, axis), 16 * float(np.finfo(dtype).eps))
        check(as_tuple(item(*inputs, axis=axis)), found[: len(gradients)], 0)
    with pytest.raises(ValueError, match="multiple"):
        item(*(each[..., :-1] for each in inputs))


@every_cell
def test_lookup(name: str) -> None:
    cell = getattr(fa, name)
    assert fa.get(name) is cell
    assert cell.kind == "cell"
    assert name in fa.names("cell")
    assert pickle.loads(pickle.dumps(cell)) is cell
    assert cell.operations["backward"].saved == cell.operations["forward"].inputs
    for ufunc in cell.ufuncs.values():
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc
        assert getattr(fastact.ufuncs, ufunc.__name__) is ufunc
    with pytest.raises(
        AttributeError, match="forward_backward: the gradient with respect to a state"
    ):
        cell.forward_backward  # noqa: B018


G, C = np.ones((2, 12)), np.ones((2, 3))
H = np.ones((2, 4))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda: fa.lstm_cell(np.ones((2, 5)), C),
            ValueError,
            ["axis 1", "multiple of 4", "(2, 5)"],
        ),
        (lambda: fa.lstm_cell(G, H), ValueError, ["c_prev", "(2, 4)", "(2, 3)", "(2, 12)"]),
        (lambda: fa.lstm_cell(G, C[0]), ValueError, ["c_prev", "(3,)", "(2, 3)"]),
        (lambda: fa.lstm_cell(np.ones(()), C), ValueError, ["axis", "0 dimensions"]),
        (lambda: fa.lstm_cell(G, C, axis=2), ValueError, ["axis 2"]),
        (lambda: fa.lstm_cell(G, C, axis=0.5), TypeError, ["axis", "0.5"]),
        (lambda: fa.lstm_cell(G, C, order="ifco"), ValueError, ["order", "'ifgo'", "'ifco'"]),
        (lambda: fa.lstm_cell(G, C, order="iffo"), ValueError, ["order", "'iffo'"]),
        (lambda: fa.lstm_cell(G, C, order=3), ValueError, ["order", "3"]),
        (lambda: fa.lstm_cell(G * 1j, C), TypeError, ["gates", "complex128"]),
        (lambda: fa.lstm_cell(G, np.ma.array(C)), TypeError, ["c_prev", "MaskedArray"]),
        (lambda: fa.lstm_cell(G, C, out=(C,)), ValueError, ["out", "2 entries"]),
        (lambda: fa.lstm_cell(G, C, out=(C, G)), ValueError, ["out", "(2, 12)", "(2, 3)"]),
        (lambda: fa.lstm_cell(G, C, out=(C, C)), ValueError, ["out", "share"]),
        (lambda: fa.lstm_cell(G, C, gate="first"), TypeError, ["gate", "order"]),
        (lambda: fa.lstm_cell(G), TypeError, ["missing", "c_prev"]),
        (lambda: fa.lstm_cell.backward(C, G, G, C), ValueError, ["dc", "(2, 12)", "(2, 3)"]),
        (
            lambda: fa.gru_cell(G, np.ones((2, 9)), H),
            ValueError,
            ["hidden_gates", "(2, 9)", "(2, 12)"],
        ),
        (lambda: fa.gru_cell(G, G, H, order="ifgo"), ValueError, ["order", "'rzn'"]),
        (lambda: fa.gru_cell(H, H, H), ValueError, ["axis 1", "multiple of 3", "(2, 4)"]),
    ],
)
def test_wrong_calls(call: Callable[[], Any], kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
