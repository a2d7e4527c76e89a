"""What this installation can do, and what to do about each thing that is not as good as it could be: ``fastact doctor``.

A check is a generator of remarks. Each imports what it needs itself, so that the others work where one cannot: a broken
installation is when one needs them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

from fastact.bench.checkup import installation, machine, results
from fastact.bench.checkup.remarks import Check, Finding, Remark, State, Tell, wrong

__all__ = ["CHECKS", "Check", "Finding", "Remark", "State", "examine"]


def examine(checks: Sequence[Check], tell: Tell) -> Iterator[Finding]:
    """Yield what comes of checks; one that fails is a finding itself."""
    seen: set[str] = set()
    for check in checks:
        tell(check.title)
        remarks: list[Remark] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they are about, a check says
            try:
                remarks.extend(check.remarks(tell))
            except Exception as error:
                remarks.append(_failure(error, seen))
        yield Finding(check.title, tuple(remarks))


def _failure(error: Exception, seen: set[str]) -> Remark:
    """Return what to say of a check that failed: the same error only once."""
    said = f"{type(error).__name__}: {error}"
    if said in seen:
        return wrong("the same error")
    seen.add(said)
    advice = "python -m pip check, then install anew" if isinstance(error, ImportError) else ""
    return wrong(f"this failed with {said}", advice)


#: All checks, in the order in which one reads them.
CHECKS = (
    Check("versions", installation.versions),
    Check("processor", machine.processor),
    Check("cores", machine.cores),
    Check("threading layer", machine.threading_layer),
    Check("memory", machine.memory),
    Check("load", machine.load),
    Check("kernel cache", installation.kernel_cache),
    Check("settings", installation.settings),
    Check("self-test", results.self_test, is_slow=True),
    Check("streaming limit", results.streaming, is_slow=True),
)
