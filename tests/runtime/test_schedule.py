"""How a call is divided among threads: rules for any number of cores, and the same bits with up to 128 threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fresh_process import runner
from hypothesis import given
from hypothesis import strategies as st
from representatives import only_long

from fastact.runtime.schedule import chunk_length, thread_count, wanted_threads
from fastact.runtime.settings import CHUNK_SIZE, PARALLEL_ELEMENTS

SIZES = st.integers(1, 2**48)
THREADS = st.integers(2, 4096)


@given(SIZES, SIZES, THREADS, st.integers(1, sys.maxsize))
def test_threads_grow_with_work(one: int, other: int, most: int, threshold: int) -> None:
    """More elements never use fewer threads, none uses more than there are, and small calls use one."""
    small, large = sorted((one, other))
    for has_fixed_team in (0, 1):
        few, many = (
            thread_count(wanted_threads(size, threshold), most, has_fixed_team)
            for size in (small, large)
        )
        assert 1 <= few <= many <= most
        assert few == 1 or small >= threshold
        if has_fixed_team:
            assert {few, many} <= {1, most}


@given(SIZES, THREADS)
def test_threads_have_work(elements: int, most: int) -> None:
    """Each thread has enough for two chunks, and a call that is large enough uses all threads."""
    threads = thread_count(wanted_threads(elements, PARALLEL_ELEMENTS), most, 0)
    assert threads == 1 or elements >= 2 * 8_192 * threads
    if elements >= PARALLEL_ELEMENTS * most:
        assert threads == most


@given(st.integers(1, 2**40), st.integers(1, 2**20), THREADS, st.integers(1, 2**40))
def test_chunks(iterations: int, elements: int, threads: int, least: int) -> None:
    """Chunks are whole cache lines of bytes, not smaller than asked, and and no more than 16 for each thread."""
    length = chunk_length(iterations, elements, threads, least)
    assert length >= 1
    assert length * elements % 64 == 0 or elements > 1
    assert length * elements > least - elements
    assert -(-iterations // length) <= 16 * threads
    if elements == 1:  # all threads have some, if there are chunks enough
        assert -(-iterations // length) >= min(threads, iterations // (least + 64))


def test_threads_of_defaults() -> None:
    """As documented: two threads from the threshold on if there are two, and six if there are more."""
    assert wanted_threads(PARALLEL_ELEMENTS - 1, PARALLEL_ELEMENTS) == 1
    wanted = wanted_threads(PARALLEL_ELEMENTS, PARALLEL_ELEMENTS)
    assert [thread_count(wanted, most, 0) for most in (1, 2, 4, 128)] == [1, 2, 4, 6]
    assert CHUNK_SIZE.least == 1


MANY = """
import ctypes, hashlib, os, threading
from concurrent.futures import ThreadPoolExecutor

from fastact.system import machine

THREADS = {threads}
machine.available_cpus = lambda: THREADS  # nobody sets more threads than there are CPUs

import numpy as np
import fastact as fa
from fastact.runtime import pool
from fresh_process import in_fork

class Control(ctypes.Structure):
    _fields_ = [("value", ctypes.c_size_t), ("reserved", ctypes.c_ssize_t), ("parameter", ctypes.c_int)]

if {layer!r} == "tbb":  # which starts no more than there are, either, unless told to
    assert pool._preload_tbb()
    control = Control(THREADS, 0, 0)
    ctypes.CDLL("libtbb.so.12")["_ZN3tbb6detail2r16createERNS0_2d114global_controlE"](ctypes.byref(control))

fa.set_parallel_threshold(1_000)
fa.set_chunk_size(64)
random = np.random.default_rng(0)
x, dy = random.standard_normal((2, 777, 260), np.float32)
wide = random.standard_normal((5, 40_000), np.float32)
images = random.standard_normal((9, 2, 17_000), np.float32)
labels = random.integers(260, size=777)

CALLS = {{
    "elementwise": lambda: fa.sigmoid.forward_backward(x, dy),
    "rows": lambda: [fa.softmax(x)],
    "columns": lambda: [fa.softmax(x, axis=0)],
    "losses": lambda: fa.softmax_cross_entropy.forward_backward(x, labels),
    "sums of channels": lambda: fa.prelu.backward(dy, x, x[0]),
    "sums of wide channels": lambda: fa.prelu.backward(wide, wide[::-1], wide[0]),
    "sums of images": lambda: fa.prelu.backward(images, images[::-1], images[0, :, 0], axis=1),
    "sums over rows": lambda: fa.layer_norm.backward(dy, x, weight=x[0]),
    "random": lambda: [fa.dropout(x, rng=7)],
    "a trailing output": lambda: [fa.sigmoid(trail[:-1], out=trail[1:])],
}}

def digests():
    global trail
    found = {{}}
    for name, call in CALLS.items():
        trail = x.ravel().copy()
        found[name] = hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in call())).hexdigest()
    return found

def check():
    found = digests()
    assert found == right, [name for name in found if found[name] != right[name]]

fa.set_num_threads(1)
right = digests()
fa.set_num_threads(THREADS)
"""


Run = Callable[..., str]


@pytest.fixture(params=["tbb", "omp"])
def layer(request: pytest.FixtureRequest, require_layer: Callable[[str], str]) -> str:
    """Return a threading layer."""
    return require_layer(request.param)


@pytest.fixture
def run_many(layer: str, filled_by: Callable[[str], Path]) -> Callable[[int], Run]:
    """Return what returns a function that runs a script in a process with many threads, and all kernels in the cache."""

    def many(threads: int) -> Run:
        folder = filled_by(MANY.format(threads=1, layer="none"))
        return runner(
            MANY.format(threads=threads, layer=layer),
            FASTACT_CACHE=str(folder),
            NUMBA_THREADING_LAYER=layer,
            NUMBA_NUM_THREADS=str(threads),
        )

    return many


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="nothing lists threads here")
@pytest.mark.parametrize("threads", [16, *only_long(64), 128])
def test_many_threads(run_many: Callable[[int], Run], layer: str, threads: int) -> None:
    """All schedules give the bits of one thread: with more threads than CPUs, from Python threads, and after a fork."""
    run_many(threads)(
        """
        for _ in range(3):
            check()
        assert pool.POOL.layer == LAYER
        assert len(os.listdir("/proc/self/task")) >= THREADS

        in_fork(check)
        check()
        fa.set_num_threads(2)
        check()
    """.replace("LAYER", repr(layer))
    )


def test_many_threads_in_python_threads(run_many: Callable[[int], Run]) -> None:
    """Python threads that share many threads, some of them not for long."""
    run_many(16)("""
        def work(number):
            global x  # none of them changes it
            y = fa.sigmoid(x)
            assert np.array_equal(y, expected), number

        expected = fa.sigmoid(x)
        for _ in range(3):
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(work, range(18)))
        check()
    """)
