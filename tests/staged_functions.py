"""Functions of integers for the staged compiler, which Python runs as well: one for each construct."""

from __future__ import annotations

from typing import Any, NamedTuple


class Pair(NamedTuple):
    """Two values."""

    first: Any
    second: Any


def branches(a: int, b: int) -> int:
    if a > b:
        c = a - b
    elif a == b:
        c = 7
    else:
        c, a = b - a, 3
    return c * 10 + a


def returns_inside(a: int, b: int) -> int:
    for i in range(a):
        for j in range(b):
            if i * j > 6:
                return i * 100 + j
        if i > 4:
            break
    return -1


def breaks_and_continues(a: int, b: int) -> int:
    total = 0
    for i in range(b, a, 2):
        if i % 3 == 0:
            continue
        if total > 50:
            total += 1000
            break
        total += i
    return total


def counts_down(a: int, b: int) -> int:
    total = 0
    for i in range(a, b, -3):
        total = total * 3 + i
    return total


def while_true(a: int, b: int) -> int:
    steps = 0
    while True:
        if a == 0:
            return steps
        a, steps = abs(a) // 2, steps + 1
        if steps > 40:
            break
    return b


def divisions(a: int, b: int) -> int:
    if b == 0:
        return 0
    return (a // b) * 1000 + a % b + (a // 4) * 7 + a % 4 - (-a // 5)


def bits(a: int, b: int) -> int:
    return (a & b) + (a | b) * 3 + (a ^ b) * 5 + (~a) + (a << 2) + (b >> 1)


def chains(a: int, b: int) -> int:
    return (
        int(0 < a <= b)
        + 2 * int(a != b)
        + 4 * int(not a < b)
        + 8 * int(a == b or (b > 3 and a > 1))
    )


def chosen(a: int, b: int) -> int:
    return (a if a > b else b) + (1 if a else 2) + min(a, b, 4) * 3 + max(a, b)


def tuples(a: int, b: int) -> int:
    pair = Pair(a, (b, 3))
    for _ in range(b):
        pair = Pair(pair.first + pair.second[1], (pair.second[0] + 1, pair.second[1]))
    first, (second, third) = pair
    return first * 100 + second * 10 + third + len(pair)


def unrolled(a: int, b: int) -> int:
    total = 0
    for weight in (3, 5, 7):
        if weight * a > b:
            continue
        total += weight
        if total > 9:
            break
    for k in range(4):
        total = total * 2 + (a if k % 2 else b)
    return total


def promoted(a: int, b: int) -> int:
    total, factor = 0, 1
    for _ in range(a):
        factor = factor * 0.5 + b
        total = total + factor
    return int(total * 4)


def changes_in_one_branch(a: int, b: int) -> int:
    x = 1
    if a > 2:
        x = 2.5
        if b > 2:
            x = 4
    return int(x * 2)


def calls(a: int, b: int) -> int:
    add = lambda *values: _sum_of(values, scale=2)  # noqa: E731  inlined as closures are

    def never(x: int) -> int:
        return x

    return add(a, b, 3) if a > 0 else never(b)


def _sum_of(values: Any, start: int = 1, scale: int = 1) -> int:
    for each in values:
        start += each * scale
    return start


def calls_with_defaults(a: int, b: int) -> int:
    return _sum_of((a, b, 3), scale=2) + _sum_of((a,)) + _sum_of((), 5)


FUNCTIONS = (
    branches, returns_inside, breaks_and_continues, counts_down, while_true, divisions, bits, chains, chosen,
    tuples, unrolled, promoted, changes_in_one_branch, calls_with_defaults,
)  # fmt: skip
UNSUPPORTED = (calls,)
