"""How long does a step of training take, of small nets in plain NumPy and with fastact's functions in their place?

On one thread, as products of matrices on several vary more than all activations take.
"""

from __future__ import annotations

import sys

from .pairs import (
    IMPLEMENTATIONS,
    ROOT,
    Pair,
    declare,
    fastest,
    in_fresh_processes,
    reported,
)

NETS = ("MLP, relu, batch 32", "MLP, gelu, batch 1000", "LSTM language model")
ROUNDS = 3


def setup_cache() -> dict[str, Pair]:
    """Train all nets."""
    return fastest(in_fresh_processes(train, count=2))


def train() -> dict[str, Pair]:
    """Return the seconds of a step."""
    sys.path.append(str(ROOT))  # last: fastact is not this checkout's
    from benchmarks import nets
    from benchmarks.nets.measure import keep_memory, limited_to, measure

    found = {}
    keep_memory()
    for name in NETS:
        with reported(name), limited_to(1):
            steps = measure(name, nets.NETS[name], ROUNDS, IMPLEMENTATIONS).steps
            found[name] = Pair(steps["fastact"], steps["numpy"])
    return found


def track_time(found: dict[str, Pair], implementation: str, net: str) -> float:
    """Return the seconds of a step."""
    return getattr(found.get(net, Pair()), implementation)


def track_ratio(found: dict[str, Pair], net: str) -> float:
    """Return fastact's part of NumPy's time."""
    return found.get(net, Pair()).ratio


declare(track_time, "time of a step", "seconds", implementation=IMPLEMENTATIONS, net=NETS)
declare(track_ratio, "ratio to NumPy", "of NumPy's time", net=NETS)
