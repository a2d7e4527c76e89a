"""How long do a loss and its gradient take, in one call?"""

from __future__ import annotations

from functools import partial
from typing import Any

from .pairs import Call, Pair, Suite, deviates, functions_of

FUNCTIONS = ("softmax_cross_entropy", "sigmoid_binary_cross_entropy", "mse", "huber")


def calls(name: str, shape: tuple[int, ...]) -> tuple[Call, Call]:
    """Return the calls on logits or predictions of a shape."""
    import numpy as np

    x = 4 * deviates(shape)
    random = np.random.default_rng(21)
    targets: Any = random.random(shape, np.float32)
    if name == "softmax_cross_entropy":
        targets = random.integers(0, shape[1], shape[0])
    ours, theirs = functions_of(name)
    return partial(ours, x, targets), partial(theirs, x, targets)


SUITE = Suite(FUNCTIONS, ["32x100", "1000x1000"], calls)
track_time, track_ratio = SUITE.benchmarks()


def setup_cache() -> dict[tuple[str, str], Pair]:
    """Measure all calls."""
    return SUITE.measure()
