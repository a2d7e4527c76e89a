"""What checks find: remarks on single things."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

#: Takes what is being done, for whoever waits.
Tell = Callable[[str], object]


class State(IntEnum):
    """How good something is."""

    GOOD = 0
    BETTER = 1
    WRONG = 2

    def __str__(self) -> str:
        return ("good", "could be better", "wrong")[self]


class Remark(NamedTuple):
    """What was found about one thing, and what to do about it."""

    state: State
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Finding:
    """What came of a check."""

    title: str
    remarks: tuple[Remark, ...]

    @property
    def state(self) -> State:
        """The worst of its remarks."""
        return max((each.state for each in self.remarks), default=State.GOOD)

    def as_json(self) -> dict[str, object]:
        """Return it as JSON has it."""
        remarks = [
            {"state": str(each.state), "found": each.found, "advice": each.advice or None}
            for each in self.remarks
        ]
        return {"title": self.title, "state": str(self.state), "remarks": remarks}


class Check(NamedTuple):
    """A check: its title, what it does, and whether that takes seconds."""

    title: str
    remarks: Callable[[Tell], Iterator[Remark]]
    is_slow: bool = False


def good(found: str) -> Remark:
    """Return a remark on what is as it should be."""
    return Remark(State.GOOD, found)


def better(found: str, advice: str = "") -> Remark:
    """Return a remark on what works, but could be better."""
    return Remark(State.BETTER, found, advice)


def wrong(found: str, advice: str = "") -> Remark:
    """Return a remark on what does not work."""
    return Remark(State.WRONG, found, advice)


def size_of(number: float) -> str:
    """Return a number of bytes as text."""
    if math.isinf(number):
        return "any amount"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"
