"""What is random in an operation: the key that an argument ``rng`` means, and the chance of a dropout.

Random numbers come from Philox4x32-10 (J. Salmon, M. Moraes, R. Dror, D. Shaw, Parallel random numbers: as
easy as 1, 2, 3, SC 2011), which makes them of a 64-bit key and a counter: the word of an element depends on
the key and on the element's index in C order alone, never on threads, strides or the type. So a gradient draws
again what the value has drawn, and nothing is kept in between. Element ``64 g + 16 w + l``, where ``w < 4`` and
``l < 16``, takes word ``w`` of counter ``16 g + l``.
"""

from __future__ import annotations

import math
import operator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastact.arrays.arguments import as_real_array
from fastact.system.first_use import first_use

_KEYS = 2**64
_WORDS = 2**32


def key_of(caller: str, rng: Any, *, again: bool = False) -> int:
    """Return the 64-bit key that an argument ``rng`` means.

    Parameters
    ----------
    caller : str
        What an error message calls the operation.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        A seed, from 0 to ``2**64 - 1``, is the key itself, and a seed sequence has one: the same in every call. A
        generator draws one for this call.
    again : bool, default False
        Whether the operation must draw again what another call has drawn, which no generator can.

    Raises
    ------
    TypeError
        If `rng` is missing or of another type, or a generator where it must be drawn again.
    ValueError
        If a seed is out of range.
    """
    if rng is None:
        raise TypeError(
            f"{caller}: rng is missing: give a seed, an int, which draws the same in every call, so that a "
            "gradient fits to its value; or a numpy.random.Generator"
        )
    if not isinstance(rng, int | np.integer):
        seed_sequence, generator = random_types()
        if isinstance(rng, seed_sequence):
            return int(rng.generate_state(1, np.uint64)[0])
        if isinstance(rng, generator):
            if again:
                raise TypeError(
                    f"{caller}: a generator cannot draw again what the forward call has drawn: give both "
                    "calls one seed, an int, or call forward_backward"
                )
            return int(rng.integers(_KEYS, dtype=np.uint64))
    try:
        if isinstance(rng, bool | np.bool_):
            raise TypeError
        seed = operator.index(rng)
    except TypeError:
        raise TypeError(
            f"{caller}: rng must be an int, a numpy.random.SeedSequence or a numpy.random.Generator, "
            f"got {rng!r}"
        ) from None
    if not 0 <= seed < _KEYS:
        raise ValueError(f"{caller}: the seed rng must be from 0 to 2**64 - 1, got {seed}")
    return seed


@cache
@first_use()
def random_types() -> tuple[type[np.random.SeedSequence], type[np.random.Generator]]:
    """Return the classes that stand for seeds; NumPy imports them when they are first asked for."""
    return np.random.SeedSequence, np.random.Generator


class Chance(NamedTuple):
    """The chance of an element to be dropped, and what that means in a kernel.

    Attributes
    ----------
    p : float
        From 0 to 1.
    threshold : int
        ``p * 2**32``, rounded: an element is kept whose word is at least that.
    scale : float
        What kept elements are multiplied with to keep the mean: ``1 / (1 - p)``; 0 where none is kept.
    """

    p: float
    threshold: int
    scale: float


def chance_of(caller: str, name: str, p: Any) -> Chance:
    """Return the chance that an argument means.

    Raises
    ------
    TypeError
        If it is not real.
    ValueError
        If it is not a number from 0 to 1.
    """
    number = as_real_array(caller, name, p)
    if number.ndim or not 0 <= float(number) <= 1:
        raise ValueError(f"{caller}: {name} must be a number from 0 to 1, got {p!r}")
    value = float(number)
    return Chance(value, round(math.ldexp(value, 32)), 1 / (1 - value) if value < 1 else 0.0)


def key_and_threshold(key: int, chance: Chance) -> tuple[np.int64, np.int64]:
    """Return key and threshold as kernels take them."""
    return np.uint64(key).view(np.int64), np.int64(chance.threshold)
