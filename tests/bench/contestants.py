"""Implementations that misbehave, for workers to import, and the one they are compared with."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from fastact.bench.contenders import Implementation, make_call
from fastact.bench.workloads import Workload


def good(work: Workload, operation: str) -> Any:
    return make_call(work, "fastact", operation)


def different(work: Workload, operation: str) -> Any:
    call = make_call(work, "fastact", operation)

    def differing() -> Any:
        results = call()
        *others, last = results if isinstance(results, tuple) else (results,)
        return *others, last + 0.1 * abs(last).max()

    return differing


def raises(work: Workload, operation: str) -> Any:
    raise ValueError("it does not like\nthe input")


def lacks(work: Workload, operation: str) -> Any:
    raise NotImplementedError(f"there is no {work.name}")


def is_missing(work: Workload, operation: str) -> Any:
    import no_such_package  # type: ignore[import-not-found]  # noqa: F401


def is_killed(work: Workload, operation: str) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves(work: Workload, operation: str) -> Any:
    os._exit(3)


def dies_later(work: Workload, operation: str) -> Any:
    """Return a call that works for the sample, and ends the process with more elements."""
    return good(work, operation) if work.x.size == 1000 else leaves(work, operation)


def never_sleeps(work: Workload, operation: str) -> Any:
    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()
    return good(work, operation)


def fake(make: Any) -> Implementation:
    return Implementation(make.__name__, (), make, only_activations=False)
