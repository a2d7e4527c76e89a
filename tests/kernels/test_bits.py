"""The bits of every function are those of the file: on this processor as on any other."""

from __future__ import annotations

import json
from itertools import product

import pytest
from bits import CALLS, DTYPES, FILE, computed, recorded
from fresh_process import assert_clean, run_python
from representatives import REPRESENTATIVES

from fastact.system.target import TARGET

WRITE = "python tools/reference_bits.py writes the file anew, after a change that alters results on purpose"
#: Functions that another CPU computes too by default: elementwise, over rows and channels, a loss and a normalization.
_ELSEWHERE = ("gelu.forward_backward", "softmax.sums", "prelu.sums", "mse.sums", "layer_norm.sums")


def test_the_file_has_every_function() -> None:
    assert list(recorded()) == list(product(CALLS, DTYPES)), WRITE


def stands_for_others(label: str, dtype: str) -> bool:
    """Whether a kernel is compared by default: one has value and gradient, and rounding is the same code in all."""
    name, operation = label.split(".")
    return operation in ("forward_backward", "sums") and (
        dtype == "float32" or name in REPRESENTATIVES
    )


@pytest.mark.parametrize(
    ("label", "dtype"),
    [
        pytest.param(*case, marks=[] if stands_for_others(*case) else pytest.mark.long)
        for case in product(CALLS, DTYPES)
    ],
)
def test_bits_are_those_of_the_file(label: str, dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    assert computed(label, dtype) == recorded().get((label, dtype)), (
        f"{label} in {dtype} does not give the bits of {FILE.name}; {WRITE}"
    )


@pytest.mark.skipif(not TARGET.has_avx512, reason="this CPU has no wider vectors")
def test_narrower_vectors_give_the_same_bits() -> None:
    script = f"""
        import json
        from bits import computed
        print(json.dumps([computed(each, "float32") for each in {_ELSEWHERE!r}]))
    """
    found = json.loads(assert_clean(run_python(script, NUMBA_CPU_NAME="haswell")))
    assert found == [recorded()[each, "float32"] for each in _ELSEWHERE]
