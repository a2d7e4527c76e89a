"""Recycled outputs: memory that anything refers to is never used again, and what is held is bounded."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from numpy._core.multiarray import get_handler_name

import fastact as fa

MIB = 2**20
X = np.linspace(-3, 3, 2**19, dtype=np.float32)  # 2 MiB


@pytest.fixture(autouse=True)
def _an_empty_cache() -> Iterator[None]:
    before = fa.output_cache_info().max_bytes
    fa.set_output_cache(max_bytes=0)
    fa.set_output_cache(max_bytes=64 * MIB)
    yield
    fa.set_output_cache(max_bytes=before)


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def new_address() -> int:
    """Return where the next output of this size lies."""
    return address(fa.relu(X))


def test_memory_comes_back() -> None:
    y = fa.relu(X)
    assert get_handler_name(y) == "fastact"
    assert y.flags.owndata
    assert y.base is None
    before, held = fa.output_cache_info(), address(y)
    del y
    assert new_address() == held
    after = fa.output_cache_info()
    assert after.hits == before.hits + 1
    assert after.misses == before.misses
    assert after.blocks == 1
    assert after.bytes == X.nbytes


def test_other_arrays_are_not_ours() -> None:
    fa.relu(X)
    assert get_handler_name(np.empty(MIB)) == "default_allocator"
    assert get_handler_name(fa.relu(X[:1000])) == "default_allocator"
    with pytest.raises(TypeError):
        fa.relu(X.astype(complex))
    assert get_handler_name(np.empty(MIB)) == "default_allocator"


def in_an_exception(y: Any) -> Any:
    """Keep an array in the frame of an exception that is kept."""

    def fail() -> None:
        local = y
        raise ValueError(local.size)

    try:
        fail()
    except ValueError as error:
        return error


def in_a_generator(y: Any) -> Any:
    def generate() -> Any:
        yield y[0]
        yield y[1]

    generator = generate()
    next(generator)
    return generator


def in_a_tensor(y: Any) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(y).view(2, -1)[1]


def in_a_cycle(y: Any) -> Any:
    cycle: list[Any] = [y[::2]]
    cycle.append(cycle)
    return cycle


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "the array": lambda y: y,
    "a slice": lambda y: y[5:7],
    "a view of a view": lambda y: y.view(np.uint8)[::4].reshape(-1, 2)[:, 1].T,
    "a memoryview": lambda y: memoryview(y)[3:4],
    "dlpack": lambda y: np.from_dlpack(y)[:1],
    "ctypes": lambda y: y.ctypes.data_as(__import__("ctypes").c_void_p),
    "an iterator": lambda y: iter(y[10:]),
    "a nditer": lambda y: np.nditer(y),
    "a masked array": lambda y: np.ma.masked_array(y, y > 0)[2:],
    "a subclass": lambda y: y.view(np.matrix),
    "an array of objects": lambda y: np.array([y, None], dtype=object),
    "a closure": lambda y: lambda: y[0],
    "an exception": in_an_exception,
    "a generator": in_a_generator,
    "a tensor": in_a_tensor,
    "a cycle": in_a_cycle,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_memory_in_use_stays(holder: str) -> None:
    y = fa.relu(X)
    held = address(y)
    kept = HOLDERS[holder](y)
    del y
    gc.collect()
    taken = [fa.relu(X) for _ in range(5)]
    assert held not in map(address, taken)
    del kept, taken
    gc.collect()
    again = [fa.relu(X) for _ in range(6)]
    assert held in map(address, again)  # or the test above says nothing


def test_nothing_held_is_overwritten() -> None:
    """Calls of all kinds, whose results are kept in all manners and let go at random."""
    rng = np.random.default_rng(0)
    kept: list[tuple[Any, float]] = []
    for round_number in range(300):
        factor = np.float32(round_number + 1)
        x = np.full(int(rng.choice([2**18, 2**19, 3 * 2**18])), factor)
        result = rng.choice(4)
        if result == 0:
            new = [fa.relu(x)]
        elif result == 1:
            new = list(fa.relu.forward_backward(x, x))
        elif result == 2:
            new = [fa.maxout(np.repeat(x, 2), 2)]
        else:
            new = list(fa.prelu.forward_backward(x, x, weight=0.5)[:2])
        for array in new:
            part = array[int(rng.integers(array.size - 1)) :]
            kept.append((part if rng.random() < 0.5 else memoryview(part), float(factor)))
        del new, array, part
        while len(kept) > 6:
            kept.pop(int(rng.integers(len(kept))))
        for part, value in kept:
            assert np.all(np.asarray(part) == value)
    assert fa.output_cache_info().hits > 100


def test_threads() -> None:
    wrong: list[float] = []

    def work(seed: int) -> None:
        kept = []
        for i in range(50):
            value = np.float32(1 + seed * 1000 + i)
            kept.append((fa.relu(np.full(2**18, value)), value))
            if len(kept) > 3:
                kept.pop(0)
            wrong.extend(float(v) for y, v in kept if not np.all(y == v))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_what_is_held_is_bounded() -> None:
    fa.set_output_cache(max_bytes=5 * MIB)
    arrays = [fa.relu(X) for _ in range(10)]
    addresses = [address(each) for each in arrays]
    while arrays:
        arrays.pop(0)
        assert fa.output_cache_info().bytes <= 5 * MIB
    assert fa.output_cache_info().blocks == 2
    assert {new_address()} <= set(addresses[-2:])  # the youngest
    fa.set_output_cache(max_bytes=3 * MIB)
    assert fa.output_cache_info().blocks == 1
    del arrays
    big = np.zeros(MIB, np.float32)
    fa.relu(big)  # 4 MiB: too large to be kept, and nothing makes room for it
    assert fa.output_cache_info()[2:] == (1, 2 * MIB, 3 * MIB)


def test_many_blocks() -> None:
    fa.set_output_cache(max_bytes=2**30)
    arrays = [fa.relu(X[: 2**18 + i]) for i in range(100)]
    del arrays
    assert fa.output_cache_info().blocks == 64


def test_turned_off() -> None:
    y = fa.relu(X)
    fa.set_output_cache(max_bytes=0)
    del y  # was made when it was on
    assert fa.output_cache_info()[2:] == (0, 0, 0)
    assert get_handler_name(fa.relu(X)) == "default_allocator"


def test_resize_and_copy() -> None:
    y = fa.relu(X)
    y.resize(2**20, refcheck=False)
    assert np.array_equal(y[: X.size], np.maximum(X, 0))
    assert not y[X.size :].any()
    copy = y.copy()
    z = weakref.ref(y)
    del y
    assert z() is None
    assert np.array_equal(copy[: X.size], fa.relu(X))


def test_out_and_where() -> None:
    out = np.full_like(X, 7)
    assert fa.relu(X, out=out, where=X > 0) is out
    assert np.array_equal(out, np.where(X > 0, X, 7))
    before = fa.output_cache_info()
    fa.relu(X, out=out)
    assert fa.output_cache_info() == before


@pytest.mark.parametrize("value", [1.5, "1", None])
def test_wrong_type(value: Any) -> None:
    with pytest.raises(TypeError, match="max_bytes must be an integer"):
        fa.set_output_cache(max_bytes=value)


def test_wrong_value() -> None:
    with pytest.raises(ValueError, match="max_bytes must be from 0"):
        fa.set_output_cache(max_bytes=-1)


CALL = """
import sys
import numpy as np
import fastact as fa
x = np.ones(2**19, np.float32)
y = fa.relu(x)
"""


def test_environment() -> None:
    show = CALL + "print(fa.output_cache_info()[2:])"
    for value, most in (("0", 0), ("4000000", 4_000_000), ("", 2**29)):
        output = assert_clean(run_python(show, FASTACT_OUTPUT_CACHE=value))
        assert output.strip() == str((0, 0, most))
    process = run_python(show, FASTACT_OUTPUT_CACHE="-1")
    assert process.returncode == 1
    assert "FASTACT_OUTPUT_CACHE must be an integer from 0 on" in process.stderr


def test_arrays_that_outlive_python() -> None:
    """Arrays are freed while Python shuts down, some after all modules are gone."""
    assert_clean(
        run_python(
            CALL
            + """
z = fa.relu(x); del z
import atexit, builtins, threading
builtins.kept = fa.relu(x)
sys.kept = fa.relu(x)
sys.modules["kept"] = fa.relu(x)
cycle = [fa.relu(x)]; cycle.append(cycle)
atexit.register(lambda y=fa.relu(x): None)
threading.main_thread().kept = fa.relu(x)
"""
        )
    )


def test_fork() -> None:
    assert_clean(
        run_python(
            CALL
            + """
import os
del y
child = os.fork()
z = fa.relu(x)
assert np.array_equal(z, x)
del z
assert fa.output_cache_info().blocks == 1
if not child:
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
""",
            "-W",
            "ignore:This process:DeprecationWarning",
        )
    )
