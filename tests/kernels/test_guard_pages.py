"""No ufunc touches memory outside its operands: of any layout, on threads, with any label, index or key.

Every operand lies between two pages that may not be touched, and reaches to one of them; results have the bits of
those in plain memory. The calls are in processes of their own, which a wrong one ends.
"""

from __future__ import annotations

import sys
from typing import Any

import guard_pages
import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from representatives import REPRESENTATIVES
from test_same_bits import NARROWER

import fastact as fa
import fastact.ufuncs
from fastact.runtime.dtypes import dtypes
from fastact.system.target import host

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")

OBJECTS = list(dict.fromkeys(name.partition(".")[0] for name, _ in guard_pages.ufuncs()))
# Rounds of random layouts for each size.
FEW, MANY = 2, 50
# These stand for all: for every kind of loop.
SOME = [*REPRESENTATIVES, "gelu", "softmax", "logsumexp", "sparsemax", "hardmax", "gumbel_softmax"]
SOME += ["glu", "crelu", "dropout", "softmax_cross_entropy", "sigmoid_binary_cross_entropy", "math"]
# Those without fused variants, each of which is a kernel more.
CHEAP = ["maxout", "softmax", "sparsemax", "dropout", "crelu", "softmax_cross_entropy"]
# With and without a parameter, and every loop that is not elementwise.
TELLING = ["sigmoid.forward", "leaky_relu.backward", "prelu.backward_with_sums", "maxout.backward"]
TELLING += ["maxout.forward_backward", "gelu.forward_backward_with_bias_dropout", "dropout.forward"]
TELLING += ["softmax.forward", "softmax.masked_forward_backward", "crelu.backward"]
TELLING += ["softmax_cross_entropy.forward_backward"]

every_dtype = pytest.mark.parametrize("dtype", dtypes())


def check(dtype: str, rounds: int, names: list[str], **environment: str) -> None:
    script = f"from guard_pages import check_all; check_all({dtype!r}, {rounds}, {names})"
    assert set(assert_clean(run_python(script, **environment)).split()) >= {
        n for n in names if "." in n
    }


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.long)])
def test_every_kind(dtype: str) -> None:
    check(dtype, FEW, TELLING)


@pytest.mark.long
@every_dtype
@pytest.mark.parametrize("name", OBJECTS)
def test_every_ufunc(name: str, dtype: str) -> None:
    check(dtype, MANY, [name])


@pytest.mark.long
@pytest.mark.skipif(not host().has_avx512, reason="this CPU has no AVX-512")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cpu", NARROWER)
def test_narrower_vectors(cpu: str, dtype: str) -> None:
    check(dtype, FEW, TELLING, NUMBA_CPU_NAME=cpu)


def test_all_that_is_public_is_there() -> None:
    found = {ufunc for _, ufunc in guard_pages.ufuncs()}
    assert {getattr(fa.ufuncs, name) for name in dir(fa.ufuncs)} <= found


def test_the_fence_holds() -> None:
    """The tests above would notice: NumPy's copy of one number too many ends the process."""
    script = """
        import numpy as np
        from guard_pages import Fence, Layout

        numbers = Fence().place((5,), "f8", Layout((1,), at_end={}))
        np.lib.stride_tricks.as_strided(numbers{}, (6,)).copy()
    """
    assert run_python(script.format(True, "")).returncode < 0
    assert run_python(script.format(False, "[::-1]")).returncode < 0


def test_what_is_written_between_elements_is_seen() -> None:
    fence = guard_pages.Fence()
    array = fence.place((3, 4), "f4", guard_pages.Layout((-2, 3), "F"))
    array[...] = 1
    assert fence.is_untouched_but_for(array)
    array[...] = 1
    fence.memory[array[1, 1:].__array_interface__["data"][0] - fence.memory.ctypes.data - 1] = 0
    assert not fence.is_untouched_but_for(array)


def overlapping_pairs(operands: guard_pages.Operands) -> list[tuple[int, int]]:
    """Return the inputs and outputs of a ufunc that may be one array."""
    inputs, outputs = range(operands.ufunc.nin), range(operands.ufunc.nin, operands.ufunc.nargs)
    kinds = list(zip(operands.cores, operands.types, strict=True))
    return [(i, o) for i in inputs for o in outputs if kinds[i] == kinds[o] and operands.cores[i]]


@pytest.mark.parametrize(
    "name",
    [each if each in CHEAP else pytest.param(each, marks=pytest.mark.long) for each in SOME],
)
def test_outputs_that_overlap_inputs(name: str) -> None:
    """NumPy takes copies where a generalized ufunc's output lies in an input."""
    for of, ufunc in guard_pages.ufuncs():
        if of.partition(".")[0] != name or ufunc.signature is None:
            continue
        operands = guard_pages.Operands(ufunc, "float32", 0)
        shapes = operands.shapes({"": 5, "n": 40, "c": 3, "s": 20, "p": 3})
        for i, o in overlapping_pairs(operands):
            inputs = list(map(operands.numbers, shapes[: ufunc.nin], operands.types))
            with np.errstate(all="ignore"):
                expected = call(ufunc, inputs, [np.empty(s, "f4") for s in shapes[ufunc.nin :]])
                whole = np.empty((shapes[i][0] + 2, *shapes[i][1:]), "f4")
                for there in (whole[:-2], whole[1:-1], whole[1:-1, ..., ::-1], whole[-3::-1]):
                    whole[1:-1] = inputs[i]
                    given = [whole[1:-1] if k == i else each for k, each in enumerate(inputs)]
                    outputs = [np.empty(shape, "f4") for shape in shapes[ufunc.nin :]]
                    outputs[o - ufunc.nin] = there
                    for found, wanted in zip(call(ufunc, given, outputs), expected, strict=True):
                        np.testing.assert_array_equal(found, wanted, of)


def call(ufunc: np.ufunc, inputs: list[Any], outputs: list[Any]) -> list[Any]:
    ufunc(*inputs, out=tuple(outputs), casting="unsafe")
    return outputs
