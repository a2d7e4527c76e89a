"""Recycled outputs: memory that anything refers to is never used again, what is held is bounded and gives way."""

from __future__ import annotations

import ctypes
import gc
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from numpy._core.multiarray import get_handler_name

import fastact as fa
from fastact.runtime import output_pool
from fastact.system import numpy_api
from fastact.system.machine import available_memory
from fastact.system.memory_layout import keep_alive

MIB = 2**20
X = np.linspace(-3, 3, 2**19, dtype=np.float32)  # 2 MiB


@pytest.fixture(autouse=True)
def _an_empty_cache() -> Iterator[None]:
    before = fa.output_cache_info().max_bytes
    fa.set_output_cache(max_bytes=0)
    fa.set_output_cache(max_bytes=64 * MIB, idle_seconds=math.inf)
    yield
    fa.set_output_cache(max_bytes=before, idle_seconds=30)


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
    assert fa.output_cache_info()[2:5] == (1, 2 * MIB, 3 * MIB)


def test_many_blocks() -> None:
    fa.set_output_cache(max_bytes=2**30)
    arrays = [fa.relu(X[: 2**18 + i]) for i in range(100)]
    del arrays
    assert fa.output_cache_info().blocks == 64


def test_turned_off() -> None:
    y = fa.relu(X)
    fa.set_output_cache(max_bytes=0)
    del y  # was made when it was on
    assert fa.output_cache_info()[2:5] == (0, 0, 0)
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


@pytest.mark.parametrize("value", [1.5, "1", math.nan])
def test_wrong_type(value: Any) -> None:
    with pytest.raises(TypeError, match="max_bytes must be an integer"):
        fa.set_output_cache(max_bytes=value)
    with pytest.raises(TypeError, match="idle_seconds must be a number"):
        fa.set_output_cache(idle_seconds=[value])  # type: ignore[arg-type]


def test_wrong_value() -> None:
    before = fa.output_cache_info()
    with pytest.raises(ValueError, match="max_bytes must be from 0"):
        fa.set_output_cache(max_bytes=-1)
    for value in (-1, math.nan):
        with pytest.raises(ValueError, match="idle_seconds must not be negative"):
            fa.set_output_cache(max_bytes=1, idle_seconds=value)
    assert fa.output_cache_info() == before


def test_idle_blocks_are_given_back() -> None:
    y = fa.relu(X)
    fa.set_output_cache(idle_seconds=0)
    del y
    before = fa.output_cache_info()
    assert before.blocks == 1
    y = fa.relu(X)  # a block of the right size is used, however long it has been kept
    assert fa.output_cache_info().hits == before.hits + 1
    del y
    z = fa.relu(X[: 2**18])  # any other goes when a new one is needed,
    assert fa.output_cache_info()[2:4] == (0, 0)
    y = fa.relu(X)
    del y, z  # when one is let go,
    assert fa.output_cache_info()[2:4] == (1, X.nbytes // 2)
    gc.collect()  # and after a garbage collection
    assert fa.output_cache_info()[2:4] == (0, 0)


def test_others_are_kept() -> None:
    for seconds in (3600, math.inf):
        fa.set_output_cache(idle_seconds=seconds)
        fa.relu(X)
        gc.collect()
        assert fa.output_cache_info().blocks == 1


def test_sizes_that_there_are_none_of() -> None:
    """What NumPy would never ask for fails, or is served, but frees nothing twice."""
    y = fa.relu(X)
    state = output_pool._STATE.ctypes.data

    def call(name: str, *words: int) -> int:
        kinds = [ctypes.c_ssize_t] * (len(words) + 1)
        function = ctypes.PYFUNCTYPE(ctypes.c_ssize_t, *kinds)
        return function(output_pool._kernel(name, len(kinds)))(state, *words)

    before = fa.output_cache_info()
    for size in (2**63 - 1, 2**63 - 2**20, -1, -(2**63), 2**62):
        assert call("allocate", size) == 0
        assert call("allocate_zeros", size, 2**20 + 1) == 0
    assert fa.output_cache_info() == before
    for size in (0, 1):
        block = call("allocate", size)
        assert block
        block = call("reallocate", block, 0)
        assert block
        assert call("reallocate", block, 2**62) == 0
        call("release", block, size)
        block = call("allocate_zeros", size, size)
        assert block
        call("release", block, size)
    assert np.array_equal(y, np.maximum(X, 0))


def test_tracemalloc() -> None:
    """Python counts an output's memory as in use until it is let go, and what is kept as free."""
    script = (
        CALL
        + """
import tracemalloc
del y
tracemalloc.start()
y = fa.relu(x)
assert fa.output_cache_info().hits == 1
used, _ = tracemalloc.get_traced_memory()
assert x.nbytes <= used < 1.1 * x.nbytes, used
del y
assert fa.output_cache_info().blocks == 1
used, _ = tracemalloc.get_traced_memory()
assert used < 0.1 * x.nbytes, used
"""
    )
    assert_clean(run_python(script))


CALL = """
import sys
import numpy as np
import fastact as fa
x = np.ones(2**19, np.float32)
y = fa.relu(x)
"""


def test_environment() -> None:
    show = CALL + "print(fa.output_cache_info()[2:5])"
    usual = min(2**29, int(available_memory() // 8))
    for value, most in (("0", 0), ("4000000", 4_000_000), ("", usual)):
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


needs_limits = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems keep no such limits"
)

# One thread: where others can start under a limit is the subject of other tests.
SHORT_OF_MEMORY = """
import gc, random, resource, sys
from pathlib import Path
import numpy as np
import fastact as fa

MIB = 2**20
fa.set_output_cache(max_bytes=2**29, idle_seconds=3600)

def size(field="VmSize"):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))

def leave(count):
    resource.setrlimit(resource.RLIMIT_AS, (size() + count, resource.RLIM_INFINITY))

def keep(arrays, function=fa.relu):
    results = [function(each) for each in arrays]
    results.clear()

whole = np.arange(-2000, 16 * MIB - 2000, dtype=np.float32)
integers = np.arange(-2000, 10 * MIB - 2000, dtype=np.int32)
index = np.zeros(2 * MIB, np.int32)
rng = np.random.default_rng(0)
rows, columns = whole.reshape(-1, 1024), integers.reshape(-1, 1024)
CALLS = {
    "a new size": lambda n: fa.relu(whole[:n]),
    "several outputs": lambda n: fa.gelu.forward_backward(whole[: n // 2], whole[: n // 2]),
    "a cast": lambda n: fa.relu(integers[: n // 4]),
    "a wider type": lambda n: fa.relu(whole[: n // 2], dtype=np.float64),
    "one small array": lambda n: fa.elu(whole[:1], alpha=whole[:n]),
    "rows of integers": lambda n: fa.softmax(columns[: n // 4096]),
    "rows along two axes": lambda n: fa.softmax(whole[: n // 2].reshape(-1, 8, 8), axis=(0, 2)),
    "a strided input": lambda n: fa.dropout(whole[: n // 2][::-1], rng=1),
    "groups of integers": lambda n: fa.maxout(integers[: n // 2], 2),
    "an index": lambda n: fa.maxout.backward(whole[: n // 8], index[: n // 8], 2),
    "gates of integers": lambda n: fa.glu(integers[: n // 2]),
    "a bias": lambda n: fa.gelu(integers[: n // 4].reshape(-1, 1024), bias=np.ones(1024)),
    "draws": lambda n: fa.rrelu(whole[: n // 2], rng=rng),
    "integers with labels": lambda n: fa.sigmoid_binary_cross_entropy.forward_backward(
        integers[: n // 4], whole[: n // 4]
    ),
}
for call in CALLS.values():
    call(2**18)
CALLS["rows along two axes"](12 * MIB)  # long rows have kernels of their own
"""


def run_short_of_memory(script: str) -> str:
    return assert_clean(run_python(SHORT_OF_MEMORY + script, FASTACT_NUM_THREADS="1"))


@needs_limits
def test_blocks_make_room() -> None:
    """Calls of all kinds that need a third of what is kept, with next to nothing beside it."""
    output = run_short_of_memory("""
for name, call in CALLS.items():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    keep([whole[: 5 * MIB + i] for i in range(8)])
    assert fa.output_cache_info().bytes > 150 * MIB
    leave(6 * MIB)
    try:
        call(12 * MIB)
    except MemoryError:
        print(name)
""")
    assert not output


@needs_limits
def test_an_array_grows() -> None:
    run_short_of_memory("""
y = fa.relu(whole[:MIB])
keep([whole[: 5 * MIB + i] for i in range(8)])
leave(6 * MIB)
y.resize(12 * MIB, refcheck=False)
assert np.array_equal(y[:MIB], np.maximum(whole[:MIB], 0)) and not y[MIB:].any()
""")


@needs_limits
def test_a_thousand_calls() -> None:
    """Of all kinds and sizes, with 64 MiB beside what the process holds: no error while anything is kept."""
    output = run_short_of_memory("""
fa.set_output_cache(max_bytes=0)
fa.set_output_cache(max_bytes=2**29)
leave(64 * MIB)
chosen, names, count = random.Random(0), list(CALLS), 0
for _ in range(1000):
    try:
        result = CALLS[chosen.choice(names)](2 ** chosen.randrange(15, 23))
        count += 1
    except MemoryError:
        assert fa.output_cache_info()[2:4] == (0, 0)
    result = None
print(count, fa.output_cache_info().hits)
""")
    count, hits = map(int, output.split())
    assert count > 700
    assert hits > 100


@needs_limits
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_less_and_less_memory(limit: str) -> None:
    """Each call is right or raises a MemoryError, whatever is left."""
    output = run_short_of_memory(f"""
x = whole[:MIB]
expected = np.maximum(x, 0)
keep([whole[: MIB + 512 * i] for i in range(16)])
count, full = 0, size("{"VmSize" if limit == "RLIMIT_AS" else "VmData"}")
for step, left in enumerate(range(96, -100, -4)):
    resource.setrlimit(resource.{limit}, (full + left * MIB, resource.RLIM_INFINITY))
    for n in (MIB - 100 * step, 2 * MIB - 100 * step, 4 * MIB - 100 * step, 100):
        try:
            y = fa.relu(whole[:n])
        except MemoryError:
            assert fa.output_cache_info()[2:4] == (0, 0)
        else:
            part = min(n, MIB)
            assert y[0] == 0 and y[-1] == max(whole[n - 1], 0) and y.shape == (n,)
            assert all((y[i : i + 100] == expected[i : i + 100]).all() for i in range(0, part, 2**14))
            count += 1
        y = None
print(count)
""")
    assert int(output) > 100


@needs_limits
def test_the_system_has_it_back() -> None:
    """Idle blocks leave the process, small ones too, which the C library would keep in its heap."""
    run_short_of_memory("""
keep([whole[: 8 * MIB]], lambda x: np.array(x))  # from now on its heap takes what is smaller than 32 MiB
held = []
before = size("VmRSS")
for i in range(32):
    held.append(fa.relu(whole[: MIB + 512 * i]))
    held.append(np.ones(100_000, np.uint8))  # nothing between them goes to the heap's end
del held[::2]
assert size("VmRSS") - before > 120 * MIB
fa.set_output_cache(idle_seconds=0)
assert fa.output_cache_info().blocks == 0
assert size("VmRSS") - before < 20 * MIB
""")


@needs_limits
def test_starts_smaller_under_a_limit() -> None:
    script = """
import resource
import numpy
from pathlib import Path
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.{}, (pages * resource.getpagesize() + 2**28, resource.RLIM_INFINITY))
import fastact as fa
print(fa.output_cache_info().max_bytes)
"""
    for limit in ("RLIMIT_AS", "RLIMIT_DATA"):
        most = int(assert_clean(run_python(script.format(limit))))
        assert 2**24 < most <= 2**28
        assert most <= 2**25 or limit == "RLIMIT_DATA"  # which leaves out what is only read
        chosen = run_python(script.format(limit), FASTACT_OUTPUT_CACHE="123456789")
        assert assert_clean(chosen).strip() == "123456789"


# Calls that are replayed ------------------------------------------------------------------------


def repeated_calls() -> list[Callable[[], Any]]:
    """Return calls with large outputs, which have been made often enough to be replayed."""
    x, rows = X[:50_000], X[:50_000].reshape(-1, 100)
    calls: list[Callable[[], Any]] = [
        lambda: fa.relu(x),
        lambda: fa.tanh.forward_backward(x, x)[1],
        lambda: fa.elu(x, alpha=0.5),
        lambda: fa.relu(rows, bias=rows[0]),
        lambda: fa.softmax(rows),
        lambda: fa.layer_norm(rows),
    ]
    for call in calls:
        for _ in range(4):
            call()
    return calls


def test_replays_take_outputs_from_the_pool() -> None:
    """They leave NumPy's memory handler as it was, and count references to it right."""
    calls = repeated_calls()
    _, own, default = output_pool._handlers()
    counts = sys.getrefcount(own), sys.getrefcount(default)
    for call in calls:
        before = fa.output_cache_info()
        for _ in range(100):
            y = call()
            assert get_handler_name(y) == "fastact"
            del y
        assert fa.output_cache_info().hits >= before.hits + 99
        assert fa.output_cache_info().misses <= before.misses + 1
        assert get_handler_name(np.empty(MIB)) == "default_allocator"
    gc.collect()
    assert (sys.getrefcount(own), sys.getrefcount(default)) == counts


def test_replays_follow_the_settings() -> None:
    calls, before = repeated_calls(), fa.output_cache_info()
    try:
        fa.set_output_cache(max_bytes=0)
        assert {get_handler_name(call()) for call in calls} == {"default_allocator"}
        fa.set_output_cache(max_bytes=before.max_bytes, min_bytes=10**7)
        assert {get_handler_name(call()) for call in calls} == {"default_allocator"}
        fa.set_output_cache(min_bytes=100)
        assert {get_handler_name(call()) for call in calls} == {"fastact"}
    finally:
        fa.set_output_cache(max_bytes=before.max_bytes, min_bytes=before.min_bytes)


def test_replays_leave_another_librarys_handler_in_charge() -> None:
    calls = repeated_calls()
    set_handler, _, default = output_pool._handlers()
    pointer = numpy_api.pointer_in(default, b"mem_handler")
    other = keep_alive(
        output_pool._Handler.from_buffer_copy(
            ctypes.string_at(pointer, ctypes.sizeof(output_pool._Handler))
        )
    )
    other.name = b"other"
    new_capsule = ctypes.pythonapi.PyCapsule_New
    capsule = keep_alive(new_capsule(ctypes.addressof(other), b"mem_handler", None))
    before = set_handler(capsule)
    try:
        count = sys.getrefcount(capsule)
        for call in calls:
            for _ in range(3):
                assert get_handler_name(call()) == "other"
        assert get_handler_name(np.empty(MIB)) == "other"
        gc.collect()
        assert sys.getrefcount(capsule) == count
    finally:
        set_handler(before)
    assert get_handler_name(calls[0]()) == "fastact"
