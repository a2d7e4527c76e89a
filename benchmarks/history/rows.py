"""How long do value and gradient of functions of rows take: softmax and its kin, gated units, normalizations?"""

from __future__ import annotations

from functools import partial

from .pairs import Call, Pair, Suite, deviates, functions_of

FUNCTIONS = ("softmax", "log_softmax", "layer_norm", "swiglu")


def calls(name: str, shape: tuple[int, ...]) -> tuple[Call, Call]:
    """Return the calls on an array of a shape."""
    x = 4 * deviates(shape)
    ours, theirs = functions_of(name)
    rows, columns = shape
    dy = deviates((rows, columns // 2) if name == "swiglu" else shape)
    return partial(ours, x, dy), partial(theirs, x, dy)


SUITE = Suite(FUNCTIONS, ["32x100", "1000x1000"], calls)
track_time, track_ratio = SUITE.benchmarks()


def setup_cache() -> dict[tuple[str, str], Pair]:
    """Measure all calls."""
    return SUITE.measure()
