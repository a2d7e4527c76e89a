"""What a loop hands to an operation that draws: random words and a whole number to compare them with."""

from __future__ import annotations

from typing import Any

from fastact.simd.compilable import internal
from fastact.simd.lowering import Vector
from fastact.simd.memory import words
from fastact.simd.random import RandomWords


class Draws:
    """The operands of what is drawn, which come before all others, as functions for compiled code.

    They are whole numbers: the key, the index of the first element, and the threshold, which operations
    give to `fastact.simd.at_least`.

    Parameters
    ----------
    vector : Vector
        What is computed with.
    is_deinterleaved : bool, default False
        Whether elements at even places come before those at odd ones.
    """

    #: How many operands these are.
    count = 3

    def __init__(self, vector: Vector, is_deinterleaved: bool = False) -> None:
        random = RandomWords(vector, is_deinterleaved)
        take, words_at = random.take, random.words_at

        @internal
        def numbers(source: Any) -> Any:
            """Return what `draw` needs, at one step of the loop."""
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
        def draw(drawn: Any, index: int, end: int) -> Any:
            """Return the words from an element on, counted from the first one, and the threshold."""
            window, key, first, threshold = drawn
            return words_at(window, key, first + index, first + end), threshold

        self.reserve = random.reserve
        self.numbers = numbers
        self.draw = draw


class NoDraws:
    """Nothing in place of `Draws`."""

    count = 0

    def __init__(self) -> None:
        self.reserve = internal(lambda: 0)
        self.numbers = internal(lambda source: ())
        self.draw = internal(lambda drawn, index, end: ())
