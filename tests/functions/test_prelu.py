"""prelu and the gradient of its weight, against float64 formulas that are written here a second time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastact as fa

Array = NDArray[Any]

DTYPES = [np.float16, np.float32, np.float64]
UNTOUCHED = 77.0

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def random(dtype: Any, shape: Any, seed: int = 0) -> tuple[Array, Array]:
    """Return x and dy; some x are zero, of either sign."""
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=(2, *shape)).astype(dtype)
    x[rng.random(shape) < 0.1] = 0
    x[rng.random(shape) < 0.05] = -0.0
    return x, dy


def random_weight(dtype: Any, channels: int | None) -> Any:
    """Return a weight: one number where `channels` is None."""
    return np.random.default_rng(7).uniform(-0.5, 1.5, channels or ()).astype(dtype)[()]


def slopes(x: Array, weight: Any, axis: int = 1) -> Array:
    """Return the derivative in float64: the weight where x is not positive."""
    weight = np.asarray(weight, np.float64)
    if weight.size == 1:
        weight = weight.reshape(())
    else:
        axis %= x.ndim
        weight = weight.reshape([-1 if k == axis else 1 for k in range(x.ndim)])
    return np.where(np.asarray(x, np.float64) > 0, 1, weight)


def expected(x: Array, dy: Array, weight: Any, axis: int = 1) -> tuple[Array, Array, Array, Array]:
    """Return y, dx, dweight and the sum of the sizes of the terms of dweight, in float64."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    slope = slopes(x, weight, axis)
    terms = np.where(x > 0, 0, dy * x)
    kept = None if np.size(weight) == 1 else axis % x.ndim
    others = tuple(k for k in range(x.ndim) if k != kept)
    dweight, size = (
        each.sum(axis=others).reshape(np.shape(weight)) for each in (terms, np.abs(terms))
    )
    return slope * x, slope * dy, dweight, size


def assert_close(actual: Any, wanted: Any, dtype: Any, size: Any = None) -> None:
    """Compare within two roundings of a type.

    A sum is compared on the scale of what was added, because each term is rounded to the type.
    """
    eps = float(np.finfo(dtype).eps)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    assert np.shape(actual) == np.shape(wanted)
    assert np.asarray(actual).dtype == dtype
    error = np.abs(np.asarray(actual, np.float64) - wanted)
    assert np.all(error <= 2 * eps * (np.abs(wanted) if size is None else size) + tiny)


def check(x: Array, dy: Array, weight: Any, dtype: Any, **options: Any) -> None:
    """Check all operations."""
    y, dx, dweight, size = expected(x, dy, weight, **options)
    slope = slopes(x, weight, **options)
    assert_close(fa.prelu(x, weight, **options), y, dtype)
    assert_close(fa.prelu.derivative(x, weight, **options), slope, dtype)
    for actual, wanted in zip(
        fa.prelu.value_and_derivative(x, weight, **options), (y, slope), strict=True
    ):
        assert_close(actual, wanted, dtype)
    for results, wanted in (
        (fa.prelu.backward(dy, x, weight, **options), (dx,)),
        (fa.prelu.forward_backward(x, dy, weight, **options), (y, dx)),
    ):
        assert_close(results[-1], dweight, dtype, size)
        for actual, right in zip(results[:-1], wanted, strict=True):
            assert_close(actual, right, dtype)
    if np.all(np.asarray(weight) > 0):
        assert_close(fa.prelu.backward_from_output(dy, x, weight, **options), dx, dtype)


# (shape, axis): channels first, in the middle and last; few and many, long and short.
SHAPES = [
    ((7,), 0),
    ((1,), 0),
    ((1000,), -1),
    ((4, 5), 1),
    ((4, 5), 0),
    ((5, 1), 1),
    ((1, 5), 1),
    ((300, 70), 1),
    ((70, 300), 0),
    ((3, 20_000), 1),
    ((3, 20_000), 0),
    ((20_000, 3), 1),
    ((20_000, 3), -2),
    ((40_001, 2), 1),
    ((2, 3, 4), 1),
    ((2, 3, 4), 2),
    ((2, 3, 4), -3),
    ((5, 17, 33), 1),
    ((2, 3, 16_385), 1),
    ((2, 3, 5, 7), 1),
    ((4, 16, 31, 33), 1),
    ((4, 31, 33, 16), 3),
    ((4, 31, 33, 17), -1),
    ((2, 3, 4, 5, 6), 1),
    ((2, 3, 4, 5, 6), 4),
    ((2, 3, 4, 5, 6), 2),
    ((1, 1, 1, 1, 1), 2),
    ((0,), 0),
    ((0, 3), 1),
    ((3, 0), 0),
    ((3, 0), 1),
    ((2, 3, 0), 1),
    ((2, 0, 4), 1),
    ((0, 3, 4, 5), 1),
]
every_shape = pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)


@every_dtype
@every_shape
def test_a_weight_for_each_channel(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    x, dy = random(dtype, shape)
    channels = np.atleast_1d(np.empty(shape[axis]))
    check(x, dy, random_weight(dtype, 1) * np.ones(channels.size, dtype), dtype, axis=axis)
    check(
        x, dy, np.resize(np.linspace(-0.5, 1.5, 29), channels.size).astype(dtype), dtype, axis=axis
    )


@every_dtype
@every_shape
def test_one_weight_for_all(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    x, dy = random(dtype, shape)
    number = random_weight(dtype, None)
    check(x, dy, number, dtype)
    check(x, dy, np.asarray(number), dtype, axis=axis)
    check(x, dy, np.full(1, number), dtype)
    check(x, dy, np.full(1, number), dtype, axis=axis)


@every_dtype
def test_numbers(dtype: Any) -> None:
    for x in (-2.0, -0.0, 0.0, 3.0):
        check(np.asarray(dtype(x)), np.asarray(dtype(0.5)), dtype(0.25), dtype)
    for given in (np.asarray(dtype(-2)), dtype(-2)):
        assert fa.prelu(given, dtype(0.25)) == dtype(-0.5)
        dx, dweight = fa.prelu.backward(dtype(3), given, dtype(0.25))
        assert (dx, dweight) == (0.75, -6)
        assert np.shape(dx) == np.shape(dweight) == ()


def test_the_default_axis_is_1() -> None:
    x, dy = random(np.float32, (4, 4, 4))
    weight = random_weight(np.float32, 4)
    for one, other in zip(
        fa.prelu.backward(dy, x, weight), fa.prelu.backward(dy, x, weight, axis=1), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    check(x, dy, weight, np.float32)


@every_dtype
def test_the_weight_by_position_and_by_name(dtype: Any) -> None:
    x, dy = random(dtype, (3, 4))
    weight = random_weight(dtype, 4)
    np.testing.assert_array_equal(fa.prelu(x, weight), fa.prelu(x, weight=weight))
    for by_position, by_name in (
        (fa.prelu.backward(dy, x, weight), fa.prelu.backward(dy, x, weight=weight)),
        (fa.prelu.forward_backward(x, dy, weight), fa.prelu.forward_backward(x, dy, weight=weight)),
    ):
        for one, other in zip(by_position, by_name, strict=True):
            np.testing.assert_array_equal(one, other)


# Types.


@pytest.mark.parametrize("weight_dtype", [*DTYPES, float, int], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dy_dtype", DTYPES)
@pytest.mark.parametrize(
    "x_dtype", [*DTYPES, np.int8, np.int32, np.bool_], ids=lambda kind: kind.__name__
)
def test_all_results_have_the_type_that_the_ufunc_gives(
    x_dtype: Any, dy_dtype: Any, weight_dtype: Any
) -> None:
    x = np.arange(-6, 6).reshape(3, 4).astype(x_dtype)
    dy = np.ones((3, 4), dy_dtype)
    weight = weight_dtype(2)
    y = fa.prelu.ufuncs["forward"](x, weight)
    # A Python number leaves the type to x: what NumPy's own functions of one argument make of it.
    is_weak = weight_dtype in (float, int)
    assert fa.prelu(x, weight).dtype == (np.tanh(x) if is_weak else y).dtype
    wanted, _ = fa.prelu.ufuncs["forward_backward"](x, dy, weight)
    # The sum is not rounded to less than the weight that it is for.
    of_weight = wanted.dtype if is_weak else np.promote_types(wanted.dtype, weight_dtype)
    for results in (fa.prelu.backward(dy, x, weight), fa.prelu.forward_backward(x, dy, weight)):
        *arrays, dweight = results
        assert all(array.dtype == wanted.dtype for array in arrays)
        assert np.asarray(dweight).dtype == of_weight
    dx, dweight = fa.prelu.backward(dy, x, weight)
    np.testing.assert_array_equal(dx, np.where(x > 0, 1, 2))
    assert dweight == np.where(x > 0, 0, x).sum()


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.bool_])
@pytest.mark.parametrize("weight", [2, 2.0])
def test_a_python_number_does_not_change_what_integers_become(kind: Any, weight: Any) -> None:
    x = np.arange(-6, 6).reshape(3, 4).astype(kind)
    dy = np.ones((3, 4), kind)
    wanted = np.tanh(x).dtype
    for result in (*fa.prelu.backward(dy, x, weight), *fa.prelu.forward_backward(x, dy, weight)):
        assert np.asarray(result).dtype == wanted


def test_python_numbers_are_weak() -> None:
    x, dy = random(np.float32, (3, 4))
    for result in (fa.prelu(x, 0.25), *fa.prelu.forward_backward(x, dy, 0.25)):
        assert result.dtype == np.float32
    for result in (fa.prelu(x, np.float64(0.25)), *fa.prelu.backward(dy, x, np.float64(0.25))):
        assert result.dtype == np.float64


def test_lists() -> None:
    x, dy = random(np.float64, (3, 4))
    weight = random_weight(np.float64, 4)
    for result, wanted in zip(
        fa.prelu.forward_backward(x.tolist(), dy.tolist(), weight.tolist()),
        fa.prelu.forward_backward(x, dy, weight),
        strict=True,
    ):
        np.testing.assert_array_equal(result, wanted)


# Layouts and outputs.


def _every_second(array: Array) -> Array:
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _unaligned(array: Array) -> Array:
    view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


LAYOUTS = {
    "contiguous": np.copy,
    "fortran": np.asfortranarray,
    "every_second": _every_second,
    "reversed": lambda array: np.flip(np.flip(array).copy()),
    "moved_axes": lambda array: np.moveaxis(np.moveaxis(array, 0, -1).copy(), -1, 0),
    "unaligned": _unaligned,
    "swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "repeated": lambda array: np.broadcast_to(array[:1], array.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_dtype
def test_layouts(dtype: Any, layout: str) -> None:
    x, dy = random(dtype, (3, 5, 37))
    for axis in range(3):
        weight = random_weight(dtype, x.shape[axis])
        for one, other in ((x, LAYOUTS[layout](dy)), (LAYOUTS[layout](x), dy)):
            check(one, other, weight, dtype, axis=axis)
            for kind in ("every_second", "reversed", "swapped", "unaligned"):
                check(one, other, LAYOUTS[kind](weight), dtype, axis=axis)
    check(LAYOUTS[layout](x), LAYOUTS[layout](dy), random_weight(dtype, None), dtype)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "repeated"])
@every_dtype
def test_outputs(dtype: Any, layout: str) -> None:
    x, dy = random(dtype, (3, 5, 37))
    for weight in (random_weight(dtype, 5), random_weight(dtype, 1), random_weight(dtype, None)):
        y, dx, dweight, size = expected(x, dy, weight)
        shapes = (x.shape, x.shape, np.shape(weight))
        out = [np.full(shape, UNTOUCHED, dtype) for shape in shapes]
        out[:2] = (LAYOUTS[layout](each) for each in out[:2])
        results = fa.prelu.forward_backward(x, dy, weight, out=tuple(out))
        for result, given in zip(results[:2], out, strict=False):
            assert result is given
        for result, given, wanted in zip(results, out, (y, dx, dweight), strict=True):
            np.testing.assert_array_equal(result, given)
            assert_close(given, wanted, given.dtype, size if wanted is dweight else None)
        for number in range(3):  # each by itself
            single: list[Any] = [None] * 3
            single[number] = np.full(shapes[number], UNTOUCHED, dtype)
            results = fa.prelu.forward_backward(x, dy, weight, out=tuple(single))
            np.testing.assert_array_equal(results[number], single[number])
            for result, wanted in zip(results, (y, dx, dweight), strict=True):
                assert_close(result, wanted, dtype, size if wanted is dweight else None)
        only = np.full(x.shape, UNTOUCHED, dtype)
        assert fa.prelu.backward(dy, x, weight, out=only)[0] is only
        assert_close(only, dx, dtype)


def test_the_weights_gradient_into_a_given_array() -> None:
    x, dy = random(np.float32, (3, 4))
    for weight in (random_weight(np.float32, 4), np.full(1, 0.25, np.float32)):
        out = np.full(weight.shape, UNTOUCHED, np.float32)
        assert fa.prelu.backward(dy, x, weight, out=(None, out))[1] is out


@every_dtype
def test_outputs_of_another_type(dtype: Any) -> None:
    x, dy = random(np.float32, (3, 5))
    weight = random_weight(np.float32, 5)
    wanted = fa.prelu.forward_backward(x, dy, weight)
    out = tuple(np.full(each.shape, UNTOUCHED, dtype) for each in wanted)
    fa.prelu.forward_backward(x, dy, weight, out=out)
    for given, right in zip(out[:2], wanted, strict=False):
        np.testing.assert_array_equal(given, right.astype(dtype))
    _, _, dweight, size = expected(x, dy, weight)
    assert np.all(np.abs(out[2] - dweight) <= 2 * np.finfo(np.float16).eps * size)


@every_dtype
def test_in_place(dtype: Any) -> None:
    for shape in ((40,), (3, 5, 37), (60_000,)):
        axis = len(shape) // 2
        for weight in (random_weight(dtype, None), random_weight(dtype, shape[axis])):
            x, dy = random(dtype, shape)
            y, dx, dweight, size = expected(x, dy, weight, axis)
            for replaced in ("x", "dy"):
                arrays = {"x": x.copy(), "dy": dy.copy()}
                out = arrays[replaced]
                results = fa.prelu.backward(
                    arrays["dy"], arrays["x"], weight, axis=axis, out=(out, None)
                )
                assert results[0] is out
                assert_close(out, dx, dtype)
                assert_close(results[1], dweight, dtype, size)
                for number, wanted in ((0, y), (1, dx)):
                    arrays = {"x": x.copy(), "dy": dy.copy()}
                    given: list[Any] = [None] * 3
                    given[number] = out = arrays[replaced]
                    results = fa.prelu.forward_backward(
                        arrays["x"], arrays["dy"], weight, axis=axis, out=tuple(given)
                    )
                    assert results[number] is out
                    assert_close(results[0], y, dtype)
                    assert_close(results[1], dx, dtype)
                    assert_close(results[2], dweight, dtype, size)
                    assert_close(out, wanted, dtype)
            for order in ((0, 1), (1, 0)):
                both = (x.copy(), dy.copy())
                out = tuple(both[k] for k in order)
                fa.prelu.forward_backward(*both, weight, axis=axis, out=(*out, None))
                assert_close(out[0], y, dtype)
                assert_close(out[1], dx, dtype)


@pytest.mark.parametrize("shift", [-33, -16, -1, 1, 15, 32])
def test_outputs_overlap_inputs(shift: int) -> None:
    for n in (100, 40_000):
        x, dy = random(np.float32, (n,))
        weight = random_weight(np.float32, n)
        y, dx, dweight, _ = expected(x, dy, weight, 0)
        for overlapped in range(3):
            for number in range(2):
                memory = np.zeros(n + 80, np.float32)
                arrays = [x, dy, weight]
                arrays[overlapped] = memory[40 : n + 40]
                arrays[overlapped][...] = (x, dy, weight)[overlapped]
                out: list[Any] = [None] * 3
                out[number] = memory[40 + shift : n + 40 + shift]
                results = fa.prelu.forward_backward(*arrays, axis=0, out=tuple(out))
                for result, wanted in zip(results, (y, dx, dweight), strict=True):
                    assert_close(result, wanted, np.float32)


def test_inputs_stay_as_they_are() -> None:
    x, dy = random(np.float32, (3, 5, 37))
    weight = random_weight(np.float32, 5)
    copies = [each.copy() for each in (x, dy, weight)]
    for array in (x, dy, weight):
        array.flags.writeable = False
    fa.prelu.forward_backward(x, dy, weight)
    fa.prelu.backward(dy, x, weight)
    for array, copy in zip((x, dy, weight), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# Special values.


@every_dtype
def test_nan_and_infinity(dtype: Any) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1, -1], dtype)
    dy = np.ones(5, dtype)
    with np.errstate(all="raise"):
        y, dx, dweight = fa.prelu.forward_backward(x, dy, np.full(5, 0.25, dtype), axis=0)
    np.testing.assert_array_equal(y, [np.nan, np.inf, -np.inf, 1, -0.25])
    np.testing.assert_array_equal(dx, [np.nan, 1, 0.25, 1, 0.25])
    np.testing.assert_array_equal(dweight, [np.nan, 0, -np.inf, 0, -1])
    assert np.isnan(fa.prelu.backward(dy, x, dtype(0.25))[1])
    y, dx, dweight = fa.prelu.forward_backward(-dy, dy * dtype(np.nan), np.ones(5, dtype), axis=0)
    assert np.all(np.isnan(dx) & np.isnan(dweight))
    assert np.all(y == -1)


@every_dtype
def test_the_derivative_at_zero_is_the_weight(dtype: Any) -> None:
    x = np.array([0.0, -0.0], dtype)
    dy = np.array([2, 3], dtype)
    dx, dweight = fa.prelu.backward(dy, x, dtype(0.5))
    np.testing.assert_array_equal(dx, [1, 1.5])
    assert dweight == 0


# The sum.


@pytest.mark.parametrize(
    "shape", [(10**7,), (10**7, 1), (1, 10**7), (10**3, 1, 10**4), (5 * 10**6, 2)], ids=str
)
def test_the_sum_of_many_equal_terms_is_exact(shape: tuple[int, ...]) -> None:
    sum_of_equal_terms(shape)


@pytest.mark.long
@pytest.mark.parametrize("shape", [(10**8,), (10**8, 1), (10**4, 1, 10**4)], ids=str)
def test_the_sum_of_very_many_equal_terms_is_exact(shape: tuple[int, ...]) -> None:
    sum_of_equal_terms(shape)


def sum_of_equal_terms(shape: tuple[int, ...]) -> None:
    """Add up as many times minus a third as there are elements."""
    third = np.float32(1 / 3)
    x, dy = np.full(shape, -third), np.ones(shape, np.float32)
    scratch = np.empty_like(x)
    count = x.size
    _, total = fa.prelu.backward(dy, x, 0.25, out=(scratch, None))
    assert total == np.float32(-count * float(third))
    if len(shape) > 1:
        _, totals = fa.prelu.backward(
            dy, x, np.full(shape[1], 0.25, np.float32), out=(scratch, None)
        )
        np.testing.assert_array_equal(totals, np.float32(-count / shape[1] * float(third)))


def test_a_float16_sum_beyond_what_float16_can_add() -> None:
    x, dy = np.full(30_000, -1, np.float16), np.ones(30_000, np.float16)
    assert fa.prelu.backward(dy, x, 0.25)[1] == np.float16(-30_000)
    x[15_000:] = 1
    assert fa.prelu.backward(dy, x, 0.25)[1] == np.float16(-15_000)


def test_small_terms_beside_large_ones() -> None:
    x = np.full(100_001, -(2.0**-10), np.float32)
    x[0] = -(2.0**27)
    dy = np.ones_like(x)
    dy[-1] = -(2.0**37)  # its term takes the large one away again
    assert fa.prelu.backward(dy, x, 0.25)[1] == -99_999 * 2.0**-10


# The same bits.


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let the test use two threads; the number is set back after it."""
    before = fa.get_num_threads()
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this process has one CPU")
    yield
    fa.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((300_001,), None), ((1000, 301), 1), ((301, 1000), 0), ((64, 8, 1001), 1), ((9, 40_000), 0)],
    ids=str,
)
@every_dtype
def test_the_same_bits_with_one_thread_and_two(
    dtype: Any, shape: tuple[int, ...], axis: int | None
) -> None:
    x, dy = random(dtype, shape)
    weight = random_weight(dtype, None if axis is None else shape[axis])
    options = {} if axis is None else {"axis": axis}
    seen = set()
    for threads in (1, 2, 2, 2, 1):
        fa.set_num_threads(threads)
        for results in (
            fa.prelu.backward(dy, x, weight, **options),
            fa.prelu.forward_backward(x, dy, weight, **options)[1:],
        ):
            seen.add(b"".join(np.asarray(each).tobytes() for each in results))
    assert len(seen) == 1
    check(x, dy, weight, dtype, **options)


def test_the_same_bits_in_another_process() -> None:
    program = (
        "import sys, numpy as np, fastact as fa;"
        "x, dy = np.random.default_rng(0).normal(size=(2, 50, 7, 321)).astype(np.float32);"
        "weight = np.linspace(0, 1, 7, dtype=np.float32);"
        "print([fa.prelu.backward(dy, x, w)[1].tobytes().hex() for w in (weight, weight[:1])])"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"FASTACT_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", str(len(os.sched_getaffinity(0))))
    ]
    assert answers[0] == answers[1]


@every_dtype
def test_the_same_bits_in_any_layout(dtype: Any) -> None:
    x, dy = random(dtype, (6, 5, 37))
    for axis in range(3):
        weight = random_weight(dtype, x.shape[axis])
        wanted = fa.prelu.forward_backward(x, dy, weight, axis=axis)
        for name, layout in LAYOUTS.items():
            if name == "repeated":
                continue
            results = fa.prelu.forward_backward(layout(x), layout(dy), weight, axis=axis)
            for result, right in zip(results, wanted, strict=True):
                assert np.ascontiguousarray(result).tobytes() == right.tobytes()


# The peer.


@pytest.mark.parametrize("channels", [None, 1, 6])
@pytest.mark.parametrize("shape", [(20, 6), (4, 6, 31), (3, 6, 7, 9), (2, 6, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_like_torch(dtype: Any, shape: tuple[int, ...], channels: int | None) -> None:
    torch = pytest.importorskip("torch")
    x, dy = random(dtype, shape)
    weight = random_weight(dtype, channels)
    tensor = torch.tensor(x, requires_grad=True)
    slope = torch.tensor(np.atleast_1d(weight), requires_grad=True)
    value = torch.nn.functional.prelu(tensor, slope)
    value.backward(torch.tensor(dy))
    y, dx, dweight = fa.prelu.forward_backward(x, dy, weight)
    size = np.atleast_1d(expected(x, dy, weight)[3])
    np.testing.assert_array_equal(y, value.detach().numpy())
    np.testing.assert_array_equal(dx, tensor.grad.numpy())
    assert_close(np.atleast_1d(dweight), slope.grad.numpy(), dtype, 4 * size)


@pytest.mark.parametrize("shape", [(1, 20_000), (5, 40_000), (3, 70_001), (40, 30_000)])
def test_wide(shape: tuple[int, int]) -> None:
    """Arrays of so many channels that these are cut into blocks, too: values, gradients and sums of each channel."""
    random = np.random.default_rng(0)
    x, dy = random.standard_normal((2, *shape), np.float32)
    slopes = random.standard_normal(shape[1], np.float32)
    wanted = np.where(x > 0, x, slopes * x)
    np.testing.assert_array_equal(fa.prelu(x, slopes), wanted)
    y, dx, dslopes = fa.prelu.forward_backward(x, dy, slopes)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(dx, np.where(x > 0, dy, slopes * dy))
    sums = np.sum(dy.astype(float) * np.minimum(x, 0), axis=0)
    np.testing.assert_allclose(dslopes, sums, rtol=1e-6, atol=1e-6)
