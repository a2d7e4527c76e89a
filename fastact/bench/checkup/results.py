"""Checks of results and speed, which take seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter

from fastact.bench.checkup.remarks import Remark, Tell, better, good, size_of, wrong

_ELEMENTS = 2**24  # of the measurement: 64 MiB an array, in no cache
_ENOUGH_OF_LIMIT, _TOO_MUCH_OF_LIMIT = 0.7, 1.15


def self_test(tell: Tell) -> Iterator[Remark]:
    """Compare a few functions of each family with NumPy in a wider type."""
    import numpy as np

    from fastact.bench import verification

    cases = [(name, dtype) for name in _representatives() for dtype in verification.DTYPES]
    compared = differing = 0
    for number, (name, dtype) in enumerate(cases):
        tell(f"self-test {number + 1} of {len(cases)}")
        verdict = verification.beside_baseline(name, dtype)
        compared += bool(verdict.errors)
        differing += verdict.is_wrong
        for each in filter(attrgetter("is_exceeded"), verdict.errors):
            yield wrong(
                f"{name} in {dtype}: the {each.what} is off by {each.found:.3g} units in the last place, "
                f"{each.bound:g} are allowed",
                "fastact cache clear, then fastact verify; if that finds the same, please report it",
            )
    yield good(
        f"{compared - differing} of {compared} comparisons agree with NumPy in a wider type; fastact verify makes more"
    )
    with np.errstate(all="ignore"):
        if not np.float32(1e-40) * np.ones(1, np.float32).any():
            yield better(
                "subnormal numbers are flushed to zero in this process, though not by fastact",
                "find the library that was built with -ffast-math",
            )


def _representatives() -> list[str]:
    """Return the activations with a baseline that takes any number, and one function of each other family."""
    import fastact as fa
    from fastact import baseline

    others = {
        definition.family: definition.name
        for definition in (fa.get(name)._definition for name in reversed(fa.names()))
        if definition.kind not in ("activation", "dropout")
    }
    return [*baseline.names(), *reversed(others.values())]


def streaming(tell: Tell) -> Iterator[Remark]:
    """Measure how fast memory can be read and written, and which part of that relu reaches."""
    from functools import partial

    import numpy as np

    import fastact as fa
    from fastact.bench import limit, timing
    from fastact.bench.workloads import Workload
    from fastact.system.machine import available_memory

    tell("streaming limit: measuring")
    needed = 8 * 4 * _ELEMENTS
    if available_memory() < needed:
        yield good(f"not measured: it takes {size_of(needed)} of memory")
        return
    work = Workload.of("relu", (_ELEMENTS,))
    moved = limit.Moved.by(work, "forward")
    relu: Callable[..., object] = partial(fa.get("relu"), work.x, out=np.empty_like(work.x))
    loops = limit.loops()
    calls = {**dict(loops.calls(moved, fa.get_num_threads())), "relu": relu}
    times = timing.measure_in_turn(
        {name: timing.Contender(call) for name, call in calls.items()}, samples=5
    )
    seconds = {name: each.lower for name, each in times.items()}
    ours = seconds.pop("relu")
    fastest = min(seconds, key=lambda name: seconds[name])
    nbytes = moved.nbytes * (moved.inputs + moved.outputs)
    by = f"{loops.title}, {fastest}".rstrip(", ")
    yield good(f"memory: {nbytes / seconds[fastest] / 1e9:.3g} GB/s ({by})")
    share = seconds[fastest] / ours
    said = f"relu, which computes next to nothing, reaches {100 * share:.0f} % of that"
    if share < _ENOUGH_OF_LIMIT:
        yield better(said, "repeat it on a quiet machine; then fastact tune")
    elif share > _TOO_MUCH_OF_LIMIT:
        yield better(
            f"{said}: other processes disturbed the measurement", "repeat it on a quiet machine"
        )
    else:
        yield good(said)
