"""The bits of results, as hashes: the same on every processor, whatever the width of its vectors.

`FILE` has those of today, which ``tools/reference_bits.py`` writes. All numbers are made of integers, so that
they are the same everywhere too. Which NaN a NaN is depends on the processor: it counts as any other.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact import math
from fastact.catalogue.definition import ElementwiseLossDefinition
from fastact.runtime.dtypes import dtype_of

Array = NDArray[Any]
Call = Callable[[str], Iterator[Array]]

FILE = Path(__file__).parent / "data" / "bits.txt"
DTYPES = ("float16", "bfloat16", "float32", "float64")

_UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}
_MANTISSA_BITS = {"float32": 23, "float64": 52}
_GOLDEN_RATIO = 0x9E37_79B9_7F4A_7C15  # its multiples are spread evenly over all integers


@cache
def numbers(dtype: str) -> Array:
    """Return the numbers that functions are called with.

    All of them in 16 bits. In others, every exponent and sign with a few mantissas: zeros, subnormal numbers, infinities
    and NaNs of several payloads; then quarters and their neighbours as far as exponentials go, for kinks and
    saturation; then some anywhere.
    """
    kind = dtype_of(dtype)
    if kind.itemsize == 2:
        return np.arange(2**16, dtype=np.uint16).view(kind)
    word, mantissa_bits = _UNSIGNED[kind.itemsize], _MANTISSA_BITS[dtype]
    bits, largest = 8 * kind.itemsize, 2**mantissa_bits - 1
    mantissas = (
        [0, 1, largest] if dtype == "float64" else [0, 1, largest // 3, largest - 1, largest]
    )
    upper = range(2 ** (bits - mantissa_bits))
    magnitudes = [each << mantissa_bits | mantissa for each in upper for mantissa in mantissas]
    reach, step = (750, 0.5) if dtype == "float64" else (110, 0.25)
    near = np.arange(-reach, reach, step).astype(kind).view(word)
    scattered = np.arange(2000, dtype=np.uint64) * np.uint64(_GOLDEN_RATIO)
    anywhere = (scattered >> np.uint64(64 - bits)).astype(word)
    moderate = ((scattered >> np.uint64(44)).astype(kind) - 2**19) / 2**15  # exact: in [-16, 16)
    parts = [np.array(magnitudes, word), near, near + word(1), near - word(1), anywhere]
    return np.concatenate([*parts, moderate.view(word)]).view(kind)


def _seconds(dtype: str) -> Array:
    """Return the same numbers in another order, for a second operand."""
    first = numbers(dtype)
    return first[np.arange(first.size) * 7919 % first.size]


def _settings(name: str) -> Iterator[list[float]]:
    """Yield the parameters to call an activation with."""
    definition = fa.get(name)._definition
    for sample in ({}, *definition.samples):
        parameters = [*(definition.parameters | sample).values()]
        if not any(isinstance(each, type) for each in parameters):  # one is required
            yield parameters


def _pointwise(name: str, operation: str, dtype: str) -> Iterator[Array]:
    ufunc = fa.get(name).ufuncs[operation]
    operands = [_seconds(dtype), numbers(dtype)]["backward" not in operation :]
    for parameters in _settings(name):
        found = ufunc(*operands, *parameters)
        yield from found if isinstance(found, tuple) else (found,)


def _of_math(name: str, dtype: str) -> Iterator[Array]:
    yield getattr(math, name)(numbers(dtype))


# Lengths of rows, on both sides of every one at which blocks change.
_LENGTHS = (1, 4, 7, 8, 10, 16, 17, 32, 33, 63, 64, 65, 129, 1000, 4001)
_LEARNABLE = [name for name in fa.names("activation") if fa.get(name).learnable]
# Not the linear cross-entropy: matrix products are the BLAS library's.
OF_SUMS = [
    name
    for name in (*fa.names("row", "loss", "normalization"), *_LEARNABLE)
    if not name.startswith("linear_")
]


def _of_sums(name: str, dtype: str) -> Iterator[Array]:
    """Yield what a function with sums over rows or channels returns, for rows of all lengths."""
    f, drawn, kind = fa.get(name), zlib.crc32(name.encode()), dtype_of(dtype)

    def moderate(*shape: int) -> Array:
        nonlocal drawn
        drawn += int(np.prod(shape))
        scattered = np.arange(drawn, drawn + np.prod(shape), dtype=np.uint64) * np.uint64(
            _GOLDEN_RATIO
        )
        exact = ((scattered >> np.uint64(44)).astype(np.float64) - 2**19) / 2**16  # in [-8, 8)
        return exact.astype(kind).reshape(shape)

    for n in _LENGTHS:
        x, other = moderate(7, n), moderate(7, n)
        if name in _LEARNABLE:
            weight = {f.learnable[0]: moderate(7)}
            yield from f.backward(other, x, **weight, axis=0)
            yield from f.backward(other.T.copy(), x.T.copy(), **weight, axis=1)
        elif f.kind == "row":
            random = {"rng": 5} if name.startswith("gumbel") else {}
            dy = moderate(7) if np.ndim(f(x, **random)) == 1 else other
            yield from f.forward_backward(x, dy, **random)
        elif f.kind == "normalization":
            weighted = "weight" in f.operations["forward"].option_names
            yield from f.forward_backward(x, other, **({"weight": moderate(n)} if weighted else {}))
        elif isinstance(f._definition, ElementwiseLossDefinition):
            yield from f.forward_backward(x, abs(other), reduction="sum")
        else:
            x = abs(x)  # those that take probabilities give NaN elsewhere
            yield from f.forward_backward(x, np.arange(7) % n, reduction="none")
            yield from f.forward_backward(x, abs(other))


def _calls() -> Iterator[tuple[str, Call]]:
    """Yield what there are hashes of, and a function of the dtype that computes it."""
    for name in fa.names("activation"):
        operations = fa.get(name).ufuncs
        if "derivative" in operations:
            for operation in operations:
                yield f"{name}.{operation}", partial(_pointwise, name, operation)
    for name in math.__all__:
        if isinstance(getattr(math, name), np.ufunc):
            yield f"math.{name}", partial(_of_math, name)
    for name in OF_SUMS:
        yield f"{name}.sums", partial(_of_sums, name)


CALLS = dict(_calls())


def digest(arrays: Iterator[Array]) -> str:
    """Return a hash of the bits of arrays."""
    found = hashlib.sha256()
    for array in map(np.asarray, arrays):
        found.update(f"{array.dtype.name}{array.shape}".encode())
        # Least byte first on every processor.
        word = np.dtype(_UNSIGNED[array.dtype.itemsize]).newbyteorder("<")
        bits = np.where(np.isnan(array), array.dtype.type(np.nan), array).view(word)
        found.update(bits.tobytes())
    return found.hexdigest()[:16]


def computed(label: str, dtype: str) -> str:
    """Return the hash of what is computed in a type."""
    with np.errstate(all="ignore"):
        return digest(CALLS[label](dtype))


def recorded() -> dict[tuple[str, str], str]:
    """Return the hashes of the file, by label and type."""
    dtypes, *rows = (line.split() for line in FILE.read_text().splitlines())
    return {
        (label, dtype): each
        for label, *hashes in rows
        for dtype, each in zip(dtypes, hashes, strict=True)
    }


def table(hashes: dict[tuple[str, str], str]) -> str:
    """Return the text of the file."""
    width = max(map(len, CALLS))
    rows = [(label, *(hashes[label, dtype] for dtype in DTYPES)) for label in CALLS]
    lines = [
        "  ".join([f"{label:{width}}", *(f"{each:16}" for each in cells)]).rstrip()
        for label, *cells in [("", *DTYPES), *rows]
    ]
    return "\n".join(lines) + "\n"
