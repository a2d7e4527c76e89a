"""maxout against a plain NumPy argmax, and its generalized ufuncs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastact as fa

Array = NDArray[Any]

DTYPES = [np.float16, np.float32, np.float64]
UNTOUCHED = 77

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
every_number_of_pieces = pytest.mark.parametrize("pieces", [*range(1, 8), 8, 13, 16, 33])


def in_groups(array: Array, pieces: int, axis: int) -> Array:
    """Return a view or a copy whose last dimension is the group."""
    moved = np.moveaxis(array, axis, -1)
    return moved.reshape(*moved.shape[:-1], moved.shape[-1] // pieces, pieces)


def expected(x: Array, dy: Array, pieces: int, axis: int = -1) -> tuple[Array, Array, Array]:
    """Return y, which and dx by NumPy's argmax, which takes the first NaN or else the first largest."""
    groups = in_groups(x, pieces, axis)
    which = np.argmax(groups, axis=-1)
    y = np.take_along_axis(groups, which[..., None], -1)[..., 0]
    dx = np.zeros(groups.shape, dy.dtype)
    np.put_along_axis(dx, which[..., None], np.moveaxis(dy, axis, -1)[..., None], -1)
    dx = dx.reshape(*dx.shape[:-2], dx.shape[-2] * pieces)
    return np.moveaxis(y, -1, axis), np.moveaxis(which, -1, axis), np.moveaxis(dx, -1, axis)


def random(dtype: Any, shape: tuple[int, ...], pieces: int, axis: int = -1) -> tuple[Array, Array]:
    """Return x, with many ties and some special values, and dy."""
    rng = np.random.default_rng(0)
    axis %= len(shape)
    x = rng.integers(-3, 3, shape).astype(dtype)
    for special, share in ((-0.0, 0.1), (np.nan, 0.03), (np.inf, 0.03), (-np.inf, 0.1)):
        x[rng.random(shape) < share] = special
    shape = (*shape[:axis], shape[axis] // pieces, *shape[axis + 1 :])
    return x, rng.normal(size=shape).astype(dtype)


def assert_same_bits(actual: Any, wanted: Array) -> None:
    """Compare type, shape and bits, so that -0 is not 0; any NaN is as good as another."""
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == wanted.dtype
    np.testing.assert_array_equal(actual, wanted)
    signs = [np.signbit(each) & ~np.isnan(each) for each in (actual, wanted)]
    np.testing.assert_array_equal(*signs)


def check(x: Array, dy: Array, pieces: int, axis: int = -1) -> None:
    """Check all operations."""
    y, which, dx = expected(x, dy, pieces, axis)
    assert_same_bits(fa.maxout(x, pieces, axis=axis), y)
    results = fa.maxout.forward_with_index(x, pieces, axis=axis)
    assert_same_bits(results[0], y)
    assert_same_bits(results[1], which)
    assert_same_bits(fa.maxout.backward(dy, which, pieces, axis=axis), dx)
    results = fa.maxout.forward_backward(x, dy, pieces, axis=axis)
    assert_same_bits(results[0], y)
    assert_same_bits(results[1], dx)


@every_dtype
@every_number_of_pieces
def test_every_number_of_groups(pieces: int, dtype: Any) -> None:
    for groups in (*range(20), 31, 32, 33, 63, 64, 65, 130):
        check(*random(dtype, (pieces * groups,), pieces), pieces)


@every_dtype
@every_number_of_pieces
def test_every_axis(pieces: int, dtype: Any) -> None:
    for shape in ((6 * pieces,), (4, 6 * pieces), (4 * pieces, 6), (3, 5 * pieces, 7)):
        for axis in range(-len(shape), len(shape)):
            if shape[axis] % pieces == 0:
                check(*random(dtype, shape, pieces, axis), pieces, axis)
    shape = (2, 3, 2 * pieces, 3, 2)
    check(*random(dtype, shape, pieces, 2), pieces, 2)
    check(*random(dtype, shape, pieces, -3), pieces, -3)


@every_dtype
def test_every_axis_of_one_array(dtype: Any) -> None:
    for pieces in (2, 3, 4, 6):
        for axis in range(-4, 4):
            check(*random(dtype, (12, 12, 12, 12), pieces, axis), pieces, axis)


@every_dtype
@pytest.mark.parametrize("shape", [(0,), (0, 12), (3, 0), (3, 0, 12), (3, 12, 0)], ids=str)
def test_empty(shape: tuple[int, ...], dtype: Any) -> None:
    for pieces in (1, 2, 3, 4, 6):
        for axis in range(len(shape)):
            if shape[axis] % pieces == 0:
                check(*random(dtype, shape, pieces, axis), pieces, axis)


# Special values.


@every_dtype
@pytest.mark.parametrize("pieces", [2, 3, 4, 5, 7])
def test_ties_go_to_the_first(pieces: int, dtype: Any) -> None:
    for groups in (3, 70):
        x = np.full(pieces * groups, 0.5, dtype)
        y, which = fa.maxout.forward_with_index(x, pieces)
        assert np.all(y == 0.5)
        assert np.all(which == 0)
        dy = np.arange(1, groups + 1).astype(dtype)
        _, dx = fa.maxout.forward_backward(x, dy, pieces)
        np.testing.assert_array_equal(dx[::pieces], dy)
        assert np.sum(dx != 0) == groups
        x[::pieces] = -1  # the second is the first of the largest
        assert np.all(fa.maxout.forward_with_index(x, pieces)[1] == 1)


@every_dtype
@pytest.mark.parametrize("pieces", [2, 3, 4, 5, 7])
def test_zeros_of_either_sign_are_equal(pieces: int, dtype: Any) -> None:
    for groups in (3, 70):
        for first, rest in ((0.0, -0.0), (-0.0, 0.0)):
            x = np.full((groups, pieces), rest, dtype)
            x[:, 0] = first
            y, which = fa.maxout.forward_with_index(x, pieces)
            assert np.all(which == 0)
            assert np.all(np.signbit(y) == np.signbit(first))
            assert np.all(np.signbit(fa.maxout(x, pieces)) == np.signbit(first))


@every_dtype
@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 5, 7])
def test_the_first_nan_wins(pieces: int, dtype: Any) -> None:
    for groups in (3, 70):
        for first in range(pieces):
            for last in range(first, pieces):
                x = np.full((groups, pieces), np.inf, dtype)
                x[:, [first, last]] = np.nan
                with np.errstate(all="raise"):
                    y, which = fa.maxout.forward_with_index(x, pieces)
                    _, dx = fa.maxout.forward_backward(x, np.ones((groups, 1), dtype), pieces)
                assert np.all(np.isnan(y))
                assert np.all(which == first)
                np.testing.assert_array_equal(dx, np.eye(pieces, dtype=dtype)[[first] * groups])


@every_dtype
@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 5, 7])
def test_infinities(pieces: int, dtype: Any) -> None:
    for groups in (3, 70):
        x = np.full((groups, pieces), -np.inf, dtype)
        check(x, np.ones((groups, 1), dtype), pieces)
        x[:, -1] = np.finfo(dtype).min
        assert np.all(fa.maxout.forward_with_index(x, pieces)[1] == pieces - 1)
        x[:, 0] = np.inf
        assert np.all(fa.maxout(x, pieces) == np.inf)


@every_dtype
def test_subnormals(dtype: Any) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    for pieces in (2, 3, 5):
        x = np.zeros((70, pieces), dtype)
        x[:, -1] = tiny
        y, which = fa.maxout.forward_with_index(x, pieces)
        assert np.all(y == tiny)
        assert np.all(which == pieces - 1)


@every_dtype
def test_gradients_go_as_they_are(dtype: Any) -> None:
    """NaN, infinity and zeros of either sign; the others get zero."""
    dy = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0] * 15, dtype)
    for pieces in (1, 2, 3, 4, 5):
        which = np.arange(dy.size) % pieces
        dx = fa.maxout.backward(dy, which, pieces).reshape(-1, pieces)
        chosen = np.take_along_axis(dx, which[:, None], 1)[:, 0]
        assert_same_bits(chosen, dy)
        others = np.arange(pieces) != which[:, None]
        assert not np.any(dx[others])
        assert not np.any(np.signbit(dx[others]))


@every_dtype
def test_an_index_that_is_no_pieces_sends_its_gradient_nowhere(dtype: Any) -> None:
    for pieces in (1, 2, 3, 4, 5):
        wrong = [-1, pieces, pieces + 1, 2**31, 2**32, 2**62, -(2**63), 2**63 - 1]
        which = np.array(wrong * 9)
        assert not np.any(fa.maxout.backward(np.ones(which.size, dtype), which, pieces))


def test_many_pieces() -> None:
    for pieces in (1000, 2**16 + 1):
        rng = np.random.default_rng(0)
        check(
            rng.permutation(3 * pieces).astype(np.float32).reshape(3, pieces),
            np.ones((3, 1), np.float32),
            pieces,
        )
    pieces = 2**24
    x = np.zeros(pieces, np.float16)
    x[-1] = 1
    assert fa.maxout.forward_with_index(x, pieces)[1] == pieces - 1
    dx = fa.maxout.backward(x[-1:], np.array([pieces - 2]), pieces)
    assert np.flatnonzero(dx) == pieces - 2


# Types.


@pytest.mark.parametrize(
    "integer", ["?", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))]
)
def test_integers_become_the_float_type_of_numpy(integer: str) -> None:
    x = np.arange(24).astype(integer)
    wanted = np.tanh(x).dtype
    check(x.astype(wanted), np.ones(8, wanted), 3)
    y, which = fa.maxout.forward_with_index(x, 3)
    assert y.dtype == fa.maxout(x, 3).dtype == wanted
    np.testing.assert_array_equal(y, x.reshape(8, 3).max(axis=1))
    assert fa.maxout.backward(x[:8], which, 3).dtype == wanted
    for result in fa.maxout.forward_backward(x, x[:8], 3):
        assert result.dtype == wanted


@pytest.mark.parametrize("index", [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)])
def test_indices_of_any_integer_type(index: str) -> None:
    x, dy = random(np.float32, (60,), 3)
    _, which, dx = expected(x, dy, 3)
    assert_same_bits(fa.maxout.backward(dy, which.astype(index), 3), dx)
    assert_same_bits(fa.maxout.backward(dy, which.tolist(), 3), dx)


def test_the_index_is_an_intp() -> None:
    for dtype in DTYPES:
        assert fa.maxout.forward_with_index(np.zeros(6, dtype), 3)[1].dtype == np.intp


def test_mixed_types() -> None:
    for first in DTYPES:
        for second in DTYPES:
            x, dy = np.arange(6, dtype=first), np.ones(2, second)
            for result in fa.maxout.forward_backward(x, dy, 3):
                assert result.dtype == np.result_type(first, second)


def test_lists_and_whole_numbers_of_numpy() -> None:
    np.testing.assert_array_equal(fa.maxout([[1, 5, 3, 2]], 2), [[5, 3]])
    np.testing.assert_array_equal(
        fa.maxout([1.0, 5.0, 3.0, 2.0], np.int8(2), axis=np.int64(0)), [5, 3]
    )


# Layouts and outputs.


def _every_second(array: Array) -> Array:
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), UNTOUCHED, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _every_second_row(array: Array) -> Array:
    wide = np.full((2 * array.shape[0], *array.shape[1:]), UNTOUCHED, array.dtype)
    wide[::2] = array
    return wide[::2]


def _unaligned(array: Array) -> Array:
    view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


LAYOUTS = {
    "contiguous": np.copy,
    "fortran": np.asfortranarray,
    "every_second": _every_second,
    "every_second_row": _every_second_row,
    "reversed": lambda array: np.flip(np.flip(array).copy()),
    "transposed": lambda array: np.swapaxes(np.swapaxes(array, 0, -1).copy(), 0, -1),
    "unaligned": _unaligned,
    "swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "repeated": lambda array: np.broadcast_to(array[:1], array.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_dtype
def test_layouts(dtype: Any, layout: str) -> None:
    change = LAYOUTS[layout]
    for pieces in (1, 2, 3, 4, 5):
        for axis in range(3):
            shape = [4, 5, 23]
            shape[axis] *= pieces
            x, dy = random(dtype, tuple(shape), pieces, axis)
            if layout == "repeated":
                x, dy = change(x).copy(), change(dy).copy()
            y, which, dx = expected(x, dy, pieces, axis)
            assert_same_bits(fa.maxout(change(x), pieces, axis=axis), y)
            for first, second in ((change(x), change(dy)), (x, change(dy)), (change(x), dy)):
                results = fa.maxout.forward_backward(first, second, pieces, axis=axis)
                assert_same_bits(results[0], y)
                assert_same_bits(results[1], dx)
            for first, second in ((change(dy), which), (dy, which.astype(np.intp).copy())):
                assert_same_bits(fa.maxout.backward(first, second, pieces, axis=axis), dx)
            if layout != "repeated":
                assert_same_bits(fa.maxout.backward(dy, change(which), pieces, axis=axis), dx)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "repeated"])
@every_dtype
def test_outputs(dtype: Any, layout: str) -> None:
    for pieces in (1, 2, 3, 4, 5):
        for axis in range(3):
            shape = [4, 5, 23]
            shape[axis] *= pieces
            x, dy = random(dtype, tuple(shape), pieces, axis)
            y, which, dx = expected(x, dy, pieces, axis)
            empty_y, empty_which, empty_dx = (
                LAYOUTS[layout](np.full(each.shape, UNTOUCHED, each.dtype))
                for each in (y, which, dx)
            )
            assert fa.maxout(x, pieces, axis=axis, out=empty_y) is empty_y
            np.testing.assert_array_equal(empty_y, y)
            empty_y[...] = UNTOUCHED
            results = fa.maxout.forward_with_index(x, pieces, axis=axis, out=(empty_y, empty_which))
            assert results[0] is empty_y
            assert results[1] is empty_which
            np.testing.assert_array_equal(empty_y, y)
            np.testing.assert_array_equal(empty_which, which)
            assert fa.maxout.backward(dy, which, pieces, axis=axis, out=empty_dx) is empty_dx
            np.testing.assert_array_equal(empty_dx, dx)
            empty_y[...] = empty_dx[...] = UNTOUCHED
            results = fa.maxout.forward_backward(x, dy, pieces, axis=axis, out=(empty_y, empty_dx))
            assert results[0] is empty_y
            assert results[1] is empty_dx
            np.testing.assert_array_equal(empty_y, y)
            np.testing.assert_array_equal(empty_dx, dx)
            empty_dx[...] = UNTOUCHED
            results = fa.maxout.forward_backward(x, dy, pieces, axis=axis, out=(None, empty_dx))
            assert results[1] is empty_dx
            np.testing.assert_array_equal(results[0], y)
            np.testing.assert_array_equal(empty_dx, dx)


@every_dtype
def test_outputs_of_another_type(dtype: Any) -> None:
    x, dy = random(np.float32, (30, 12), 3)
    y, which, dx = expected(x, dy, 3)
    out = np.full(y.shape, UNTOUCHED, dtype), np.full(dx.shape, UNTOUCHED, dtype)
    fa.maxout.forward_backward(x, dy, 3, out=out)
    np.testing.assert_array_equal(out[0], y.astype(dtype))
    np.testing.assert_array_equal(out[1], dx.astype(dtype))
    indices = np.full(which.shape, UNTOUCHED, np.int32)
    assert fa.maxout.forward_with_index(x, 3, out=(None, indices))[1] is indices
    np.testing.assert_array_equal(indices, which)


@every_dtype
def test_outputs_that_overlap_inputs(dtype: Any) -> None:
    for pieces in (1, 2, 3, 4, 5):
        for groups in (20, 40_000 // pieces):
            x, dy = random(dtype, (groups * pieces,), pieces)
            y, which, dx = expected(x, dy, pieces)
            for shift in (0, 1, 5, 16):
                memory = np.zeros(x.size + 40, dtype)
                here = memory[16 : 16 + x.size]
                here[...] = x
                out = memory[16 - shift : 16 - shift + groups]
                assert_same_bits(fa.maxout(here, pieces, out=out), y)
                here[...] = x
                out = memory[16 + shift : 16 + shift + x.size]
                results = fa.maxout.forward_backward(here, dy, pieces, out=(None, out))
                assert_same_bits(results[0], y)
                assert_same_bits(results[1], dx)
                here[:groups] = dy
                assert_same_bits(fa.maxout.backward(here[:groups], which, pieces, out=out), dx)


@every_dtype
def test_in_place(dtype: Any) -> None:
    for pieces in (1, 2, 3, 4, 5):
        x, dy = random(dtype, (7, 30 * pieces), pieces)
        y, _, dx = expected(x, dy, pieces)
        out = x.copy(), dy.copy()
        fa.maxout.forward_backward(*out, pieces, out=out[::-1])
        assert_same_bits(out[0], dx)
        assert_same_bits(out[1], y)


def test_inputs_stay_as_they_are() -> None:
    x, dy = random(np.float32, (7, 60), 3)
    which = np.ones(dy.shape, np.intp)
    copies = [each.copy() for each in (x, dy, which)]
    for array in (x, dy, which):
        array.flags.writeable = False
    fa.maxout.forward_backward(x, dy, 3)
    fa.maxout.backward(dy, which, 3)
    for array, copy in zip((x, dy, which), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_memory_about_the_outputs_is_not_touched() -> None:
    for pieces in (1, 2, 3, 4, 5):
        for groups in range(40):
            x, dy = random(np.float32, (groups * pieces,), pieces)
            y = np.full(groups + 80, UNTOUCHED, np.float32)
            dx = np.full(x.size + 80, UNTOUCHED, np.float32)
            out = y[40 : groups + 40], dx[40 : x.size + 40]
            fa.maxout.forward_backward(x, dy, pieces, out=out)
            for memory, view in zip((y, dx), out, strict=True):
                view[...] = UNTOUCHED
                assert np.all(memory == UNTOUCHED)


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
@every_dtype
@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 5])
def test_one_thread_and_two(pieces: int, dtype: Any) -> None:
    groups = 2 * fa.get_parallel_threshold() + 1001
    x, dy = random(dtype, (groups * pieces,), pieces)
    for threads in (1, 2):
        fa.set_num_threads(threads)
        check(x, dy, pieces)
        check(x.reshape(-1, 1), dy.reshape(-1, 1), pieces, axis=0)
        check(_every_second(x), _every_second(dy), pieces)


@every_dtype
@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 5, 7])
def test_the_same_bits_wherever_a_group_stands(pieces: int, dtype: Any) -> None:
    """Bit patterns of all kinds pass through unchanged, but that NaNs may become quiet ones."""
    unsigned = {2: np.uint16, 4: np.uint32, 8: np.uint64}[np.dtype(dtype).itemsize]
    period = 2 ** (8 * np.dtype(dtype).itemsize)
    patterns = np.array([k * (period // 4201) for k in range(4200)], unsigned)
    rng = np.random.default_rng(0)
    x = rng.permutation(patterns).view(dtype)
    quiet = np.array(np.nan, dtype).view(unsigned)
    x = np.where(np.isnan(x), x.view(unsigned) | quiet, x.view(unsigned)).view(dtype)
    y, which = fa.maxout.forward_with_index(x, pieces)
    groups = x.reshape(-1, pieces)
    np.testing.assert_array_equal(which, np.argmax(groups, axis=1))
    taken = np.take_along_axis(groups.view(unsigned), which[:, None], 1)[:, 0]
    np.testing.assert_array_equal(y.view(unsigned), taken)
    for index in range(0, len(groups), 17):
        assert fa.maxout(groups[index], pieces).tobytes() == y[index].tobytes()
    for count in range(1, 40):
        assert fa.maxout(groups[5 : 5 + count], pieces).tobytes() == y[5 : 5 + count].tobytes()
    for other in (_every_second(x), _unaligned(x), x.astype(x.dtype.newbyteorder())):
        assert fa.maxout(other, pieces).tobytes() == y.tobytes()
    columns = np.ascontiguousarray(groups.T)
    assert fa.maxout(columns, pieces, axis=0).tobytes() == y.tobytes()


# The generalized ufuncs themselves.


def test_core_signatures() -> None:
    signatures = {name: ufunc.signature for name, ufunc in fa.maxout.ufuncs.items()}
    assert signatures == {
        "forward": "(p)->()",
        "forward_with_index": "(p)->(),()",
        "backward": "(),()->(p)",
        "forward_backward": "(p),()->(),(p)",
    }
    assert fa.maxout.ufuncs["forward"].types == ["e->e", "f->f", "d->d"]


@every_dtype
@every_number_of_pieces
def test_ufuncs(pieces: int, dtype: Any) -> None:
    flat, dy = random(dtype, (4, 5 * pieces), pieces)
    y, which, dx = expected(flat, dy, pieces)
    x = flat.reshape(4, 5, pieces)
    dx = dx.reshape(x.shape)
    ufuncs = fa.maxout.ufuncs
    assert_same_bits(ufuncs["forward"](x), y)
    for result, wanted in zip(ufuncs["forward_with_index"](x), (y, which), strict=True):
        assert_same_bits(result, wanted)
    out = np.full(x.shape, UNTOUCHED, dtype)
    assert ufuncs["backward"](dy, which, out=out) is out
    assert_same_bits(out, dx)
    for result, wanted in zip(ufuncs["forward_backward"](x, dy), (y, dx), strict=True):
        assert_same_bits(result, wanted)


def test_ufuncs_take_numpys_options() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 5, 6)).astype(np.float32)
    forward = fa.maxout.ufuncs["forward"]
    for axis in range(-3, 3):
        np.testing.assert_array_equal(forward(x, axis=axis), x.max(axis=axis))
    np.testing.assert_array_equal(forward(x, keepdims=True), x.max(axis=-1, keepdims=True))
    np.testing.assert_array_equal(forward(x, axes=[(1,), ()]), x.max(axis=1))
    assert forward(x, dtype=np.float64).dtype == np.float64
    assert forward(x[0, 0]) == x[0, 0].max()
    assert type(forward(x[0, 0])) is np.float32
    dy = rng.normal(size=(5,)).astype(np.float32)  # broadcasts over the first dimension
    y, dx = fa.maxout.ufuncs["forward_backward"](x, dy)
    np.testing.assert_array_equal(y, x.max(axis=-1))
    np.testing.assert_array_equal(
        dx, np.where(np.arange(6) == x.argmax(axis=-1)[..., None], dy[:, None], 0)
    )
    row = x[0, 0]
    y, dx = fa.maxout.ufuncs["forward_backward"](row, x[..., 0])
    np.testing.assert_array_equal(y, np.full((4, 5), row.max()))
    np.testing.assert_array_equal(
        dx, np.where(np.arange(6) == row.argmax(), x[..., :1], np.float32(0))
    )


def test_the_ufunc_of_the_gradient_needs_to_know_the_pieces() -> None:
    dy, which = np.ones(3, np.float32), np.zeros(3, np.intp)
    with pytest.raises(ValueError, match="p"):
        fa.maxout.ufuncs["backward"](dy, which)


# The peer.


@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_like_torch(axis: int, pieces: int) -> None:
    torch = pytest.importorskip("torch")
    shape = [4, 5, 6]
    shape[axis] *= pieces
    rng = np.random.default_rng(0)
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    dy = rng.normal(size=(4, 5, 6)).astype(np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    value = tensor.unflatten(axis, (-1, pieces)).max(dim=axis + 1).values
    value.backward(torch.tensor(dy))
    y, dx = fa.maxout.forward_backward(x, dy, pieces, axis=axis)
    np.testing.assert_array_equal(y, value.detach().numpy())
    np.testing.assert_array_equal(dx, tensor.grad.numpy())
