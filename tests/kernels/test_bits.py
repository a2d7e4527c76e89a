"""The bits of every pointwise function are those of the file: on this processor as on any other."""

from __future__ import annotations

from itertools import product

import pytest
from bits import CALLS, DTYPES, FILE, computed, recorded
from representatives import REPRESENTATIVES

WRITE = "python tools/reference_bits.py writes the file anew, after a change that alters results on purpose"


def test_the_file_has_every_function() -> None:
    assert list(recorded()) == list(product(CALLS, DTYPES)), WRITE


def stands_for_others(label: str, dtype: str) -> bool:
    """Whether a kernel is compared by default: one has value and gradient, and rounding is the same code in all."""
    name, operation = label.split(".")
    return operation == "forward_backward" and (dtype == "float32" or name in REPRESENTATIVES)


@pytest.mark.parametrize(
    ("label", "dtype"),
    [
        pytest.param(*case, marks=[] if stands_for_others(*case) else pytest.mark.long)
        for case in product(CALLS, DTYPES)
    ],
)
def test_bits_are_those_of_the_file(label: str, dtype: str) -> None:
    assert computed(label, dtype) == recorded()[label, dtype], (
        f"{label} in {dtype} does not give the bits of {FILE.name}; {WRITE}"
    )
