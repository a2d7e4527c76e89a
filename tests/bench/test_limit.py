"""The streaming limit: loops in C move what an operation moves; without a compiler, the engine's do."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.bench import contenders, limit
from fastact.bench.competition import HeldLimit
from fastact.bench.contenders import make_call
from fastact.bench.limit import Moved
from fastact.bench.workloads import Cell, Workload

SHAPES = {(1, 1), (2, 1), (2, 2)}
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, limit.COMPILERS)), reason="there is no C compiler"
)


@pytest.fixture(autouse=True)
def fresh_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test find its own compiler."""
    monkeypatch.delenv("CC", raising=False)
    forget = limit.loops.cache_clear
    forget()
    yield
    forget()


@pytest.mark.parametrize("name", ["relu", "maxout", "swiglu", "layer_norm", "lstm_cell"])
@pytest.mark.parametrize("operation", ["forward", "forward_backward"])
def test_as_many_bytes(name: str, operation: str) -> None:
    """The bytes are those of what goes into an operation and what comes out of it."""
    work = Workload.of(name, (1000,) if name in fa.names("activation") else (40, 60))
    results: Any = make_call(work, "fastact", operation)()
    results = results if isinstance(results, tuple) else (results,)
    inputs = work.inputs if operation == "forward" else (*work.inputs, *work.dys)
    moved = Moved.by(work, operation)
    total = moved.nbytes * (moved.inputs + moved.outputs)
    # Less the rounding down to whole bytes of each.
    assert abs(total - sum(array.nbytes for array in (*inputs, *results))) < 4


def test_as_many_arrays() -> None:
    found = [Moved.by(Workload.of("relu", (1000,)), each) for each in contenders.OPERATIONS]
    assert [(moved.inputs, moved.outputs) for moved in found] == [(1, 1), (2, 1), (2, 2)]
    assert all(moved.nbytes == 4000 for moved in found)
    backward = Moved.by(Workload.of("relu", (1000,), "float64"), "backward")
    assert backward == Moved(2, 1, 8000)


def test_bytes_of_gradients() -> None:
    """A backward pass reads what is saved for it: the input, the output, an index, or nothing."""
    maxout = Workload.of("maxout", (1000,))
    _, which = fa.maxout.forward_with_index(maxout.x, **maxout.parameters)
    softmax, dropout = (Workload.of(name, (40, 60)) for name in ("softmax", "dropout"))
    for work, saved in ((maxout, which.nbytes), (softmax, softmax.x.nbytes), (dropout, 0)):
        moved = Moved.by(work, "backward")
        total = moved.nbytes * (moved.inputs + moved.outputs)
        assert abs(total - (saved + work.others[0].nbytes + work.x.nbytes)) < 4


def addressed(call: Any, size: int) -> list[Any]:
    """Return the arrays of a call in C."""
    pointers = [pointer for pointer in call.args[:4] if pointer is not None]
    return [np.ctypeslib.as_array(limit.ctypes.cast(p, BYTES), (size,)) for p in pointers]


BYTES = limit.ctypes.POINTER(limit.ctypes.c_uint8)


@needs_compiler
@pytest.mark.parametrize(("inputs", "outputs"), sorted(SHAPES))
@pytest.mark.parametrize("size", [64, 64 * 1001])
@pytest.mark.parametrize("threads", [1, 3])
def test_loops_in_c_move_all(inputs: int, outputs: int, size: int, threads: int) -> None:
    """Every byte is read and written, by each of the loops."""
    loops = limit.loops()
    assert loops.title.startswith("C (")
    calls = dict(loops.calls(Moved(inputs, outputs, size), threads))
    assert len(calls) == (1 if threads == 1 else 2) * len({kind.split(",")[0] for kind in calls})
    random = np.random.default_rng(0)
    for kind, call in calls.items():
        arrays = addressed(call, size)
        assert all(array.ctypes.data % 64 == 0 for array in arrays)
        for array in arrays:
            array[:] = random.integers(0, 256, size)
        call()
        (a, *more), written = arrays[:inputs], arrays[inputs:]
        expected = [a ^ more[0]] if (inputs, outputs) == (2, 1) else [a, *more]
        for one, other in zip(written, expected, strict=True):
            np.testing.assert_array_equal(one, other, kind)


@pytest.mark.parametrize(("inputs", "outputs"), sorted(SHAPES))
def test_loops_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inputs: int, outputs: int
) -> None:
    """They serve where there is no compiler, and the title tells."""
    monkeypatch.setenv("PATH", str(tmp_path))
    loops = limit.loops()
    assert loops.title == "fastact's own engine (no C compiler)"
    ((kind, call),) = loops.calls(Moved(inputs, outputs, 4000), 2)
    assert kind == ""
    arrays = call.args, call.keywords["out"]  # type: ignore[attr-defined]
    assert [len(each) for each in arrays] == [inputs, outputs]
    assert all(array.nbytes == 4000 for array in itertools.chain(*arrays))
    for array in arrays[1]:
        array[:] = 7
    call()
    assert all((array == (2 if (inputs, outputs) == (2, 1) else 1)).all() for array in arrays[1])


def test_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason is told in one line."""
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'cc: no room' >&2\necho more >&2\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    title = limit.loops().title
    assert title == "fastact's own engine (cc does not compile the loop: cc: no room)"


@needs_compiler
def test_compiler_that_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``CC`` comes first, with options; where it fails, the next is tried."""
    log = tmp_path / "log"
    compiler = tmp_path / "own"
    compiler.write_text(f'#!/bin/sh\necho "$1" > {log}\nexit 1\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CC", f"{compiler} --fast")
    assert limit.loops().title.startswith("C (")
    assert log.read_text() == "--fast\n"


@needs_compiler
def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(limit.tempfile, "tempdir", str(tmp_path))
    limit.loops()
    assert not os.listdir(tmp_path)


def test_the_fastest_loop_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(moved: Moved, threads: int) -> Iterator[tuple[str, Any]]:
        yield "slow", lambda: time.sleep(0.01)
        yield "fast", lambda: None

    monkeypatch.setattr(limit, "loops", lambda: limit.Loops("L", calls))
    threads = fa.get_num_threads()
    held = HeldLimit(threads)
    assert held.set_up(Cell("relu", "forward", (10,))) == "L, fast"
    assert held.sample(0.0) < 0.005
    assert fa.get_num_threads() == threads
