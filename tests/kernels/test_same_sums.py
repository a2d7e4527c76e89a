"""Sums have the same bits on every CPU: their order depends on the number of terms, not on the width of vectors.

Here fastact is compared with itself, and with nothing else.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from fresh_process import assert_clean, run_python
from representatives import only_long, with_long
from test_same_bits import NARROWER

import fastact as fa
from fastact.catalogue.definition import ElementwiseLossDefinition

LEARNABLE = [name for name in fa.names("activation") if fa.get(name).learnable]
# Not the linear cross-entropy: matrix products are the BLAS library's.
NAMES = [
    name
    for name in (*fa.names("row", "loss", "normalization"), *LEARNABLE)
    if not name.startswith("linear_")
]
# On both sides of every length at which blocks change.
LENGTHS = (1, 4, 7, 8, 10, 16, 17, 32, 33, 63, 64, 65, 129, 1000, 4001)
BY_DEFAULT = ("softmax", "mse", "prelu")


def calls(name: str, dtype: Any) -> Iterator[Any]:
    """Yield what a function returns, for rows of all lengths and for sums over rows and channels."""
    f, rng = fa.get(name), np.random.default_rng(zlib.crc32(name.encode()))

    def normal(*shape: int) -> Any:
        return (3 * rng.standard_normal(shape)).astype(dtype)

    for n in LENGTHS:
        x, other = normal(7, n), normal(7, n)
        if name in LEARNABLE:
            weight = {f.learnable[0]: normal(7)}
            yield f.backward(other, x, **weight, axis=0)
            yield f.backward(other.T.copy(), x.T.copy(), **weight, axis=1)
        elif f.kind == "row":
            random = {"rng": 5} if name.startswith("gumbel") else {}
            dy = normal(7) if np.ndim(f(x, **random)) == 1 else other
            yield f.forward_backward(x, dy, **random)
        elif f.kind == "normalization":
            if "weight" in f.operations["forward"].option_names:
                yield f.forward_backward(x, other, weight=normal(n))
            else:
                yield f.forward_backward(x, other)
        elif isinstance(f._definition, ElementwiseLossDefinition):
            yield f.forward_backward(x, abs(other), reduction="sum")
        else:
            x = abs(x)  # those that take probabilities give NaN elsewhere
            yield f.forward_backward(x, np.arange(7) % n, reduction="none")
            yield f.forward_backward(x, abs(other))


def digests(name: str, dtype: str) -> list[str]:
    """Return a digest of each result."""
    found = []
    for result in calls(name, np.dtype(dtype)):
        arrays = result if isinstance(result, tuple) else (result,)
        found.append(sha256(b"".join(np.asarray(each).tobytes() for each in arrays)).hexdigest())
    return found


@pytest.mark.skipif(
    not llvm.get_host_cpu_features().get("avx512f", False), reason="this CPU has no AVX-512"
)
@pytest.mark.parametrize("dtype", ["float32", *only_long("float64", "float16")])
@pytest.mark.parametrize("instructions", ["avx2", *only_long("sse")])
@pytest.mark.parametrize("name", with_long(NAMES, BY_DEFAULT))
def test_sums_on_narrower_vectors(name: str, instructions: str, dtype: str) -> None:
    if instructions == "sse" and dtype == "float16":
        pytest.skip("there is no float16 without the CPU's conversions")
    script = f"""
        import json
        import test_same_sums

        print(json.dumps(test_same_sums.digests({name!r}, {dtype!r})))
    """
    process = run_python(script, **NARROWER[instructions])
    assert_clean(process)
    assert json.loads(process.stdout) == digests(name, dtype)
