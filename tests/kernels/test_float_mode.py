"""The floating-point mode that other libraries set for a thread does not change results, and is left as it is."""

from __future__ import annotations

import pytest
from fresh_process import assert_clean, run_python
from representatives import only_long

from fastact.system.target import TARGET

SCRIPT = """
    import numpy as np
    from float_mode import set_flush_denormal

    import fastact as fa

    fa.set_parallel_threshold({threshold})
    tiny = np.finfo("{dtype}").tiny
    x = np.concatenate([np.linspace(-4, 4, 3001) * tiny, np.linspace(-90, 90, 3001)]).astype("{dtype}")
    bias = np.full(x.size // 2, tiny / 2, x.dtype)
    calls = {{
        "relu": lambda: fa.relu(x),
        "sigmoid": lambda: fa.sigmoid(x),
        "gelu": lambda: fa.gelu.value_and_derivative(x),
        "biased": lambda: fa.silu(x.reshape(2, -1), bias=bias),
        "softmax": lambda: fa.softmax(x),
        "exp": lambda: fa.math.exp(x),
    }}
    for name, call in calls.items():
        set_flush_denormal(False)
        kept = np.asarray(call()).copy()
        set_flush_denormal(True)
        half = np.full(1, tiny) / np.asarray(2, x.dtype)
        assert not half.any(), "the mode is not set"
        for _ in range(5):
            found = np.asarray(call())
            set_flush_denormal(False)
            np.testing.assert_array_equal(found.view("u1"), kept.view("u1"), name)
            set_flush_denormal(True)
            assert not (np.full(1, tiny) / np.asarray(2, x.dtype)).any(), "the mode has changed"
        set_flush_denormal(False)
    assert (np.abs(fa.relu(x))[fa.relu(x) > 0] < tiny).any()
"""


@pytest.mark.skipif(not (TARGET.is_x86 or TARGET.is_arm), reason="the mode is not known")
@pytest.mark.parametrize("threshold", [10**6, 1])
@pytest.mark.parametrize("dtype", ["float32", *only_long("float64")])
def test_flushing_subnormal_numbers_to_zero(dtype: str, threshold: int) -> None:
    """Bits are the same on one thread and several, and in later calls, which are replayed."""
    assert_clean(run_python(SCRIPT.format(dtype=dtype, threshold=threshold)))
