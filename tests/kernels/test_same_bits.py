"""The same number gives the same bits: wherever it stands, with any number of threads, on any CPU.

Here fastact is compared with itself, and with nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from numpy.typing import NDArray
from representatives import REPRESENTATIVES

import fastact as fa
import fastact.math
from fastact.system.target import host

Array = NDArray[Any]

DTYPES = [np.float16, np.float32, np.float64]
UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}

UFUNCS = {
    f"{name}.{operation}": fa.get(name).ufuncs[operation]
    for name in REPRESENTATIVES
    for operation in fa.get(name).ufuncs
} | {
    f"math.{name}": getattr(fastact.math, name)
    for name in dir(fastact.math)
    if isinstance(getattr(fastact.math, name), np.ufunc)
}
ELEMENTWISE = {name: ufunc for name, ufunc in UFUNCS.items() if ufunc.signature is None}

every_elementwise_ufunc = pytest.mark.parametrize("name", ELEMENTWISE)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let the test use two threads; the number is set back after it."""
    before = fa.get_num_threads()
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this process has one CPU")
    yield
    fa.set_num_threads(before)


@cache
def walk(dtype: Any) -> Array:
    """Return numbers of all kinds: every so many bit patterns of a type, and the special ones."""
    limits = np.finfo(dtype)
    width = np.dtype(dtype).itemsize
    count, period = 3000, 2 ** (8 * width)
    patterns = [k * (period // count) for k in range(count)]
    # About the smallest and the largest of each sign, of subnormal, normal, infinite and NaN.
    for edge in (0.0, limits.smallest_normal, 1.0, np.inf):
        middle = int(np.array(edge, dtype).view(UNSIGNED[width]))
        for sign in (0, period // 2):
            patterns += [(middle + offset + sign) % period for offset in range(-8, 9)]
    some = np.geomspace(2.0**-14, 800, 500, dtype=np.float64).astype(dtype)
    return np.concatenate(
        [np.array(patterns, UNSIGNED[width]).view(dtype), some, -some, np.array([np.nan], dtype)]
    )


def inputs_of(ufunc: np.ufunc, dtype: Any) -> list[Array]:
    """Return an array for each input: the numbers of the walk, each time in another order.

    At most one of the numbers that belong together is a NaN; see `test_two_nans`.
    """
    order = np.random.default_rng(0)
    inputs = [walk(dtype)]
    while len(inputs) < ufunc.nin:
        numbers = order.permutation(walk(dtype))
        numbers[np.isnan(numbers) & np.any(np.isnan(inputs), axis=0)] = 1
        inputs.append(numbers)
    return inputs


def outputs_of(ufunc: np.ufunc, *inputs: Any, **options: Any) -> tuple[Array, ...]:
    """Call a ufunc; return its outputs as a tuple of arrays."""
    results = ufunc(*inputs, **options)
    return tuple(map(np.asarray, results if isinstance(results, tuple) else (results,)))


def assert_same_bits(actual: tuple[Array, ...], expected: tuple[Array, ...]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        kind = UNSIGNED[one.dtype.itemsize]
        np.testing.assert_array_equal(
            np.ascontiguousarray(one).view(kind), np.ascontiguousarray(other).view(kind)
        )


@cache
def reference(name: str, dtype: Any) -> tuple[list[Array], tuple[Array, ...]]:
    """Return inputs, and the outputs of one call on contiguous arrays on one thread."""
    ufunc = UFUNCS[name]
    inputs = inputs_of(ufunc, dtype)
    before = fa.get_num_threads()
    fa.set_num_threads(1)
    outputs = outputs_of(ufunc, *inputs)
    fa.set_num_threads(before)
    return inputs, outputs


def part(arrays: Any, index: Any) -> tuple[Array, ...]:
    """Take the same part of several arrays."""
    return tuple(array[index] for array in arrays)


@every_dtype
@every_elementwise_ufunc
def test_one_element(name: str, dtype: Any) -> None:
    inputs, outputs = reference(name, dtype)
    for index in range(0, inputs[0].size, 7):
        alone = outputs_of(ELEMENTWISE[name], *part(inputs, slice(index, index + 1)))
        assert_same_bits(alone, part(outputs, slice(index, index + 1)))
        scalar = outputs_of(ELEMENTWISE[name], *part(inputs, index))
        assert_same_bits(part(scalar, None), part(outputs, slice(index, index + 1)))


@every_dtype
@every_elementwise_ufunc
def test_positions_and_tails(name: str, dtype: Any) -> None:
    inputs, outputs = reference(name, dtype)
    rng = np.random.default_rng(1)
    for length in range(1, 71):
        for start in (0, *rng.integers(0, inputs[0].size - length, 2)):
            here = slice(start, start + length)
            assert_same_bits(
                outputs_of(ELEMENTWISE[name], *part(inputs, here)), part(outputs, here)
            )
    for start in range(1, 65):
        here = slice(start, None)
        assert_same_bits(outputs_of(ELEMENTWISE[name], *part(inputs, here)), part(outputs, here))


@every_dtype
@every_elementwise_ufunc
def test_strides(name: str, dtype: Any) -> None:
    inputs, outputs = reference(name, dtype)
    for step in (2, 3, 5, -1, -2):
        here = slice(None, None, step)
        assert_same_bits(outputs_of(ELEMENTWISE[name], *part(inputs, here)), part(outputs, here))
    for columns in (2, 7, 64):
        matrices = [np.empty((array.size, columns), dtype) for array in inputs]
        for matrix, array in zip(matrices, inputs, strict=True):
            matrix[:, 1] = array
        assert_same_bits(outputs_of(ELEMENTWISE[name], *part(matrices, (slice(None), 1))), outputs)
        results = [np.empty((array.size, columns), dtype) for array in outputs]
        outputs_of(ELEMENTWISE[name], *inputs, out=part(results, (slice(None), 1)))
        assert_same_bits(part(results, (slice(None), 1)), outputs)
    # Each input at a stride of its own.
    for moved in range(len(inputs)):
        mixed = list(inputs)
        mixed[moved] = np.repeat(inputs[moved], 2)[::2]
        assert_same_bits(outputs_of(ELEMENTWISE[name], *mixed), outputs)


@every_dtype
@every_elementwise_ufunc
def test_broadcast(name: str, dtype: Any) -> None:
    ufunc = ELEMENTWISE[name]
    inputs, outputs = reference(name, dtype)
    for index in range(0, inputs[0].size, 61):
        repeated = [np.broadcast_to(array[index], (37,)) for array in inputs]
        expected = tuple(np.repeat(array[index], 37) for array in outputs)
        assert_same_bits(outputs_of(ufunc, *repeated), expected)
        assert_same_bits(outputs_of(ufunc, *(each.copy() for each in repeated)), expected)
        # One number for all but the first input, as with a parameter.
        if len(inputs) > 1:
            here = slice(index, index + 70)
            scalars = part(inputs[1:], index)
            full = [np.full(inputs[0][here].shape, scalar) for scalar in scalars]
            assert_same_bits(
                outputs_of(ufunc, inputs[0][here], *scalars),
                outputs_of(ufunc, inputs[0][here], *full),
            )
            last = [*(np.full(1, each[index]) for each in inputs[:-1]), inputs[-1][here]]
            full = [np.full(inputs[0][here].shape, each[index]) for each in inputs[:-1]]
            assert_same_bits(outputs_of(ufunc, *last), outputs_of(ufunc, *full, inputs[-1][here]))
    rows = [np.broadcast_to(array, (3, array.size)) for array in inputs]
    assert_same_bits(outputs_of(ufunc, *rows), tuple(np.stack([array] * 3) for array in outputs))


@every_dtype
@every_elementwise_ufunc
def test_unaligned_and_swapped(name: str, dtype: Any) -> None:
    inputs, outputs = reference(name, dtype)
    for offset in (1, 3):
        unaligned = []
        for array in inputs:
            memory = np.zeros(array.nbytes + 8, np.uint8)
            view = memory[offset : offset + array.nbytes]
            view[...] = array.view(np.uint8)
            unaligned.append(view.view(dtype))
        assert_same_bits(outputs_of(ELEMENTWISE[name], *unaligned), outputs)
    swapped = [array.byteswap().view(array.dtype.newbyteorder()) for array in inputs]
    assert_same_bits(outputs_of(ELEMENTWISE[name], *swapped), outputs)


@pytest.mark.usefixtures("two_threads")
@every_dtype
@every_elementwise_ufunc
def test_threads(name: str, dtype: Any) -> None:
    inputs, outputs = reference(name, dtype)
    times = fa.get_parallel_threshold() * 2 // inputs[0].size + 1
    many = [np.tile(array, times)[17:] for array in inputs]
    expected = tuple(np.tile(array, times)[17:] for array in outputs)
    matrices = [np.stack([array, array], axis=1) for array in many]
    for threads in (1, 2):
        fa.set_num_threads(threads)
        assert_same_bits(outputs_of(ELEMENTWISE[name], *many), expected)
        assert_same_bits(
            outputs_of(ELEMENTWISE[name], *part(many, slice(None, None, -1))),
            part(expected, slice(None, None, -1)),
        )
        assert_same_bits(outputs_of(ELEMENTWISE[name], *part(matrices, (slice(None), 0))), expected)


@every_dtype
@every_elementwise_ufunc
def test_where_and_in_place(name: str, dtype: Any) -> None:
    inputs, outputs = reference(name, dtype)
    mask = np.random.default_rng(2).random(inputs[0].shape) < 0.7
    results = tuple(np.zeros_like(array) for array in outputs)
    outputs_of(ELEMENTWISE[name], *inputs, out=results, where=mask)
    assert_same_bits(part(results, mask), part(outputs, mask))
    for replaced in range(len(inputs)):
        copies = [array.copy() for array in inputs]
        out = (copies[replaced],) + (None,) * (len(outputs) - 1)
        assert_same_bits(outputs_of(ELEMENTWISE[name], *copies, out=out), outputs)


@every_dtype
@pytest.mark.parametrize("name", [name for name, ufunc in ELEMENTWISE.items() if ufunc.nin > 1])
def test_two_nans(name: str, dtype: Any) -> None:
    """Two NaNs give a NaN wherever they stand; whose payload it has is not promised."""
    ufunc = ELEMENTWISE[name]
    inputs = [np.full(67, np.nan, dtype) for _ in range(ufunc.nin)]
    for ordinary in (None, *range(ufunc.nin)):
        many = [np.ones(67, dtype) if k == ordinary else each for k, each in enumerate(inputs)]
        single = outputs_of(ufunc, *part(many, 0))
        for some in (many, part(many, slice(None, None, -1))):
            for one, output in zip(single, outputs_of(ufunc, *some), strict=True):
                np.testing.assert_array_equal(output, np.repeat(one, 67))


# Other instruction sets.


def outputs_to_compare(dtype: Any) -> dict[str, Array]:
    """Compute what there is to compare in one type: the outputs by name and number."""
    found = {}
    for name, ufunc in UFUNCS.items():
        if not any(word in name for word in TELLING):
            continue
        inputs = [quieted(array) for array in inputs_of(ufunc, dtype)]
        call = outputs_of if ufunc.signature is None else outputs_of_groups
        for number, output in enumerate(call(ufunc, *inputs)):
            found[f"{name} {number}"] = output
    return found


def quieted(array: Array) -> Array:
    """Make NaNs quiet ones: which operation does that to a signalling one is the compiler's choice."""
    kind = UNSIGNED[array.dtype.itemsize]
    quiet = np.array(np.nan, array.dtype).view(kind)
    return np.where(np.isnan(array), array.view(kind) | quiet, array.view(kind)).view(array.dtype)


def outputs_of_groups(ufunc: np.ufunc, *inputs: Array) -> tuple[Array, ...]:
    """Call a generalized ufunc with groups of several sizes and return all outputs."""
    assert ufunc.signature is not None
    inputs_in, outputs_in = (side.split("),(") for side in ufunc.signature.split("->"))
    dtype = inputs[0].dtype
    outputs: list[Array] = []
    for pieces in (1, 2, 3, 4, 5):
        shape = (inputs[0].size // pieces, pieces)
        arrays = [np.resize(array, shape) for array in inputs]
        types = next(loop for loop in ufunc.types if dtype.char in loop).split("->")
        given = [
            (array if "p" in core else array[:, 0])
            if letter == dtype.char
            else np.arange(shape[0]) % pieces
            for array, core, letter in zip(arrays, inputs_in, types[0], strict=True)
        ]
        out = tuple(
            np.empty(shape if "p" in core else shape[:1], letter)
            for core, letter in zip(outputs_in, types[1], strict=True)
        )
        outputs += outputs_of(ufunc, *given, out=out)
    return tuple(outputs)


#: CPUs with narrower vectors: with 32 bytes, and with 16, no fused multiply-add and no conversions of float16.
NARROWER = ("haswell", "x86-64-v2")

# There, where all must be compiled anew, operations that show all of a definition must do.
TELLING = ("math.", "value_and_derivative", "backward_from_output", "forward_with_index")


@pytest.mark.skipif(not host().has_avx512, reason="this CPU has no AVX-512")
@pytest.mark.parametrize(
    "dtype",
    [
        np.float32,
        *(pytest.param(each, marks=pytest.mark.long) for each in (np.float16, np.float64)),
    ],
)
@pytest.mark.parametrize("cpu", NARROWER)
def test_narrower_vectors(cpu: str, dtype: Any, tmp_path: Path) -> None:
    file = tmp_path / "outputs.npz"
    script = f"""
        import numpy as np
        import test_same_bits

        np.savez({str(file)!r}, **test_same_bits.outputs_to_compare(np.{dtype.__name__}))
    """
    assert_clean(run_python(script, NUMBA_CPU_NAME=cpu))
    expected = outputs_to_compare(dtype)
    kind = UNSIGNED[np.dtype(dtype).itemsize]
    different = []
    with np.load(file) as found:
        assert sorted(found) == sorted(expected)
        for name, output in expected.items():
            assert output.dtype == found[name].dtype
            one, other = (
                array.view(kind) if array.dtype.kind == "f" else array
                for array in (output, found[name])
            )
            wrong = one != other
            if wrong.any():
                different.append(
                    f"{name}: {wrong.sum()} of {wrong.size}: {one[wrong][:3]}, {other[wrong][:3]}"
                )
    assert not different, "\n".join(different)
