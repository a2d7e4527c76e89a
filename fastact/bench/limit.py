"""The streaming limit: loops that load and store the bytes of an operation, and compute nothing.

They are a small program in C, compiled when it is needed, with ordinary and with non-temporal stores, on one thread
and on as many as fastact has: whichever is fastest is the limit. Where there is no C compiler, fastact's own engine
has to serve.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact.bench.peers import Call
from fastact.bench.workloads import Workload
from fastact.kernels.door import make_ufunc
from fastact.kernels.kernel import Elementwise, Kernel, Operand

#: Compilers of C by name, the first that works is taken; before them the command in ``CC``.
COMPILERS = ("cc", "gcc", "clang")
_OPTIONS = ("-O3", "-march=native", "-funroll-loops", "-fopenmp", "-shared", "-fPIC")
#: The alignment of arrays: the widest vector and a line of the cache.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Moved:
    """What an operation moves: that many arrays, of so many bytes each."""

    inputs: int
    outputs: int
    nbytes: int

    @classmethod
    def by(cls, work: Workload, operation: str) -> Moved:
        """Return what an operation moves; of functions of rows and layers as one input and one output."""
        read, dys = _nbytes(*work.inputs, *work.constants), _nbytes(*work.dys)
        gradients = _nbytes(*work.inputs)
        # A value is as large as its gradient; that of a loss is one number.
        total = {
            "forward": read + dys,
            "backward": _saved(work) + dys + gradients,
            "forward_backward": read + dys + dys + gradients,
        }[operation]
        arrays = {"forward": (1, 1), "backward": (2, 1), "forward_backward": (2, 2)}[operation]
        if not work.is_pointwise or work.has_bias:
            arrays = (1, 1)
        return cls(*arrays, total // sum(arrays))


def _nbytes(*arrays: NDArray[Any]) -> int:
    return sum(array.nbytes for array in arrays)


def _saved(work: Workload) -> int:
    """Return the bytes that a backward pass reads beside the gradient of the value."""
    saved = fa.get(work.name).operations["backward"].saved
    if not saved:
        return 0
    values = {"y": _nbytes(*work.dys), "which": np.intp().nbytes * sum(dy.size for dy in work.dys)}
    return values.get(saved[0], _nbytes(*work.inputs, *work.constants))


@dataclass(frozen=True)
class Loops:
    """Loops that move arrays.

    Attributes
    ----------
    title : str
        What they are.
    calls : callable
        Takes what is to be moved and a number of threads, and yields calls with what is special about each.
    """

    title: str
    calls: Callable[[Moved, int], Iterator[tuple[str, Call]]]


@cache
def loops() -> Loops:
    """Return the loops in C, or those of fastact's own engine where they cannot be had."""
    reason = "no C compiler"
    for command in _compilers():
        try:
            return _compile(command)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = f"{command[0]} does not compile the loop: {_first_line(error)}"
    return Loops(f"fastact's own engine ({reason})", _calls_of_engine)


def _compilers() -> Iterator[list[str]]:
    for command in (os.environ.get("CC", ""), *COMPILERS):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            yield words


def _first_line(error: Exception) -> str:
    """Return the first line of what a compiler says."""
    said = getattr(error, "stderr", None) or str(error)
    return str(said).strip().partition("\n")[0]


def _compile(command: list[str]) -> Loops:
    """Compile the loops and load them; their file is not needed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stream.so"
        with resources.as_file(resources.files(__package__) / "stream.c") as source:
            subprocess.run(
                [*command, *_OPTIONS, str(source), "-o", str(file)],
                check=True,
                capture_output=True,
                text=True,
            )
        library = ctypes.CDLL(str(file))
    compiler = ctypes.c_char_p.in_dll(library, "compiler").value or b""
    return Loops(f"C ({compiler.decode().strip()})", partial(_calls_in_c, library))


def _calls_in_c(library: Any, moved: Moved, threads: int) -> Iterator[tuple[str, Call]]:
    size = max(1, round(moved.nbytes / _ALIGNMENT)) * _ALIGNMENT
    a, b = _pointers(moved.inputs, size)
    y, z = _pointers(moved.outputs, size)
    library.move_arrays.restype = None
    kinds = ["ordinary stores", "non-temporal stores"]
    if not ctypes.c_int.in_dll(library, "can_stream").value:
        del kinds[1]
    for number in sorted({1, threads}):
        for stream, kind in enumerate(kinds):
            call = partial(library.move_arrays, a, b, y, z, ctypes.c_size_t(size), number, stream)
            yield f"{kind}, {number} thread{'s' * (number > 1)}", call


def _pointers(count: int, size: int) -> list[ctypes.c_void_p | None]:
    """Return pointers to one or two new arrays, which they keep alive; the second may be null."""
    arrays = [_aligned_ones(size) for _ in range(count)]
    return [*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays), None][:2]


def _aligned_ones(size: int) -> NDArray[np.uint8]:
    """Return that many bytes at an aligned address."""
    array = np.ones(size + _ALIGNMENT, np.uint8)
    start = -array.ctypes.data % _ALIGNMENT
    return array[start : start + size]


# By the number of inputs and outputs.
_COPIES: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 1): lambda a: (a,),
    (2, 1): lambda a, b: (a + b,),
    (2, 2): lambda a, b: (a, b),
}


def _calls_of_engine(moved: Moved, threads: int) -> Iterator[tuple[str, Call]]:
    count = max(1, round(moved.nbytes / 4))
    arrays = [np.ones(count, np.float32) for _ in range(moved.inputs + moved.outputs)]
    inputs, outputs = arrays[: moved.inputs], tuple(arrays[moved.inputs :])
    yield "", partial(_copy(moved.inputs, moved.outputs), *inputs, out=outputs)


@cache
def _copy(inputs: int, outputs: int) -> np.ufunc:
    operands = tuple(map(Operand, "ab"[:inputs])), tuple(map(Operand, "yz"[:outputs]))
    kernel = Kernel(*operands, Elementwise(lambda: _COPIES[inputs, outputs]))
    doc = "Move as many arrays as an operation."
    name = f"bench.copy.{inputs}.{outputs}"
    return make_ufunc(kernel, __name__, "copy", doc, lambda dtype: f"{name}.{dtype}", repr)
