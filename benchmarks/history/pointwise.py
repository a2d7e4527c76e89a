"""How long do value and gradient of an activation take, in one call that returns new arrays?

On one number, which is what a call costs; on a batch of 32 with 100 features; and on a large array.
"""

from __future__ import annotations

from functools import partial

from .pairs import Call, Pair, Suite, deviates, functions_of

#: Those with parameters of their own come last.
FUNCTIONS = (
    *("sigmoid", "tanh", "relu", "gelu_tanh", "elu", "leaky_relu", "silu", "mish"),
    *("prelu", "maxout"),
)
PARAMETERS = {"prelu": (0.25,), "maxout": (2,)}


def calls(name: str, shape: tuple[int, ...]) -> tuple[Call, Call]:
    """Return the calls on an array of a shape."""
    if name == "maxout" and shape == (1, 1):
        shape = (1, 2)
    x = 4 * deviates(shape)
    dy = deviates((shape[0], shape[1] // 2) if name == "maxout" else shape)
    ours, theirs = functions_of(name)
    arguments = (x, dy, *PARAMETERS.get(name, ()))
    return partial(ours, *arguments), partial(theirs, *arguments)


SUITE = Suite(FUNCTIONS, ["32x100", "1000x1000", "1x1"], calls)
track_time, track_ratio = SUITE.benchmarks()


def setup_cache() -> dict[tuple[str, str], Pair]:
    """Measure all calls."""
    return SUITE.measure()
