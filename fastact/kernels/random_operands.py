"""Random operands of a kernel: Philox words and the threshold that they are compared with."""

from __future__ import annotations

from typing import Any

from fastact.simd.compilable import internal
from fastact.simd.lowering import Vector
from fastact.simd.memory import words
from fastact.simd.random import RandomWords


class RandomOperands:
    """Access to the random operands, which precede all others, as functions for compiled code.

    They are integers: the key, the index of the first element, and the threshold for `fastact.simd.at_least`.

    Parameters
    ----------
    vector : Vector
        The type of a vector of elements.
    is_deinterleaved : bool, default False
        Whether elements at even positions precede those at odd ones.
    """

    #: The number of random operands.
    count = 3

    def __init__(self, vector: Vector, is_deinterleaved: bool = False) -> None:
        random = RandomWords(vector, is_deinterleaved)
        take, words_at = random.take, random.words_at

        @internal
        def begin(source: Any) -> Any:
            """Return the state that `at` needs, at one step of the outer loop."""
            window, args, steps, block = source
            key = words(args[0] + block * steps[0])[0]
            take(window, key)
            return (
                window,
                key,
                words(args[1] + block * steps[1])[0],
                words(args[2] + block * steps[2])[0],
            )

        @internal
        def at(state: Any, index: int, end: int) -> Any:
            """Return the random words of the elements from `index` on, and the threshold."""
            window, key, first, threshold = state
            return words_at(window, key, first + index, first + end), threshold

        self.reserve = random.reserve
        self.begin = begin
        self.at = at


class NoRandomOperands:
    """The stand-in for `RandomOperands` in kernels without them."""

    count = 0

    def __init__(self) -> None:
        self.reserve = internal(lambda: 0)
        self.begin = internal(lambda source: ())
        self.at = internal(lambda state, index, end: ())
