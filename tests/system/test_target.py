"""The CPU that a name stands for, as the documents of their makers tell."""

from __future__ import annotations

import pytest
from fresh_process import assert_clean, run_python

from fastact.system.target import host

SCRIPT = """
    from fastact.system.target import TARGET
    print(TARGET.vector_bytes, TARGET.has_fma, TARGET.converts_float16, TARGET.has_masked_moves(2))
"""


@pytest.mark.skipif(not host().is_x86, reason="the names are those of x86")
@pytest.mark.parametrize(
    ("cpu", "vector_bytes", "has_fma", "converts_float16", "has_masked_bytes"),
    [
        ("x86-64-v2", 16, False, False, False),
        ("sandybridge", 32, False, False, False),
        ("ivybridge", 32, False, True, False),
        ("haswell", 32, True, True, False),
        ("znver3", 32, True, True, False),
        ("knl", 64, True, True, False),
        ("skylake-avx512", 64, True, True, True),
        ("znver5", 64, True, True, True),
    ],
)
def test_a_name_means_the_features_of_that_cpu(
    cpu: str, vector_bytes: int, has_fma: bool, converts_float16: bool, has_masked_bytes: bool
) -> None:
    expected = f"{vector_bytes} {has_fma} {converts_float16} {has_masked_bytes}"
    assert assert_clean(run_python(SCRIPT, NUMBA_CPU_NAME=cpu)).strip() == expected


def test_given_features_are_those_given() -> None:
    chosen = {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": "+avx,+fma"}
    assert assert_clean(run_python(SCRIPT, **chosen)).startswith(
        "32 True" if host().is_x86 else "16 True"
    )
