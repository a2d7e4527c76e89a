"""Random numbers: the key that an ``rng`` argument stands for, and the probability of a dropout.

Random numbers come from Philox4x32-10 (J. Salmon, M. Moraes, R. Dror, D. Shaw, Parallel random numbers: as easy as
1, 2, 3, SC 2011), a function of a 64-bit key and a counter. The random word of an element depends only on the key and
on the element's index in C order, never on threads, strides or the dtype. So a gradient regenerates the words of the
forward pass, and nothing is stored in between. Element ``64 g + 16 w + l``, where ``w < 4`` and ``l < 16``, takes word
``w`` of counter ``16 g + l``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastact.arrays.arguments import as_real_array, random_types
from fastact.runtime.replays import Input

_KEYS = 2**64
# NumPy's bit generators whose raw words are what `integers` returns; MT19937 has 32 bits.
_WITH_64_BITS = ("PCG64", "PCG64DXSM", "Philox", "SFC64")


def key_of(caller: str, rng: Any, *, again: bool = False) -> int:
    """Return the 64-bit key that an ``rng`` argument stands for.

    Parameters
    ----------
    caller : str
        The operation's name in error messages.
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or numpy.random.RandomState
        A seed, from 0 to ``2**64 - 1``, is the key itself, and a seed sequence generates one: the same in every call. A
        generator draws a new one in each call.
    again : bool, default False
        Whether the operation must repeat the random numbers of another call, which a generator cannot.

    Raises
    ------
    TypeError
        If `rng` is missing or of another type, or a generator although numbers must be repeated.
    ValueError
        If a seed is out of range.
    """
    if rng is None:
        raise TypeError(
            f"{caller}: rng is missing: pass a seed, an int, which draws the same numbers in every call, so that "
            "the gradient matches the value; or a numpy.random.Generator"
        )
    if not isinstance(rng, int | np.integer):
        if isinstance(rng, random_types()[0]):
            return int(rng.generate_state(1, np.uint64)[0])
        generator = _generator_of(rng)
        if generator is not None:
            if again:
                raise TypeError(
                    f"{caller}: a generator cannot repeat the random numbers of the forward call: pass the same seed, "
                    "an int, to both calls, or call forward_backward"
                )
            if type(generator.bit_generator).__name__ in _WITH_64_BITS:
                return int(generator.bit_generator.random_raw())  # 0.2 us instead of 3
            return int(generator.integers(_KEYS, dtype=np.uint64))
    try:
        if isinstance(rng, bool | np.bool_):
            raise TypeError
        seed = operator.index(rng)
    except TypeError:
        raise _not_a_source(caller, rng) from None
    if not 0 <= seed < _KEYS:
        raise ValueError(f"{caller}: the seed rng must be from 0 to 2**64 - 1, got {seed}")
    return seed


def as_generator(caller: str, rng: Any) -> np.random.Generator:
    """Return the generator that an ``rng`` argument stands for: itself, or a new one from a seed.

    Raises
    ------
    TypeError
        If it is of another type.
    """
    generator = _generator_of(rng)
    if generator is not None:
        return generator
    seed_sequence = random_types()[0]
    if isinstance(rng, seed_sequence | int | np.integer) and not isinstance(rng, bool):
        return np.random.default_rng(rng)
    raise _not_a_source(caller, rng)


def _generator_of(rng: Any) -> np.random.Generator | None:
    """Return a generator, or one that shares the state of a RandomState; None for anything else."""
    _, generator, legacy = random_types()
    if isinstance(rng, legacy):
        return generator(rng._bit_generator)
    return rng if isinstance(rng, generator) else None


def _not_a_source(caller: str, rng: Any) -> TypeError:
    return TypeError(
        f"{caller}: rng must be an int, or of numpy.random a SeedSequence, Generator or RandomState, got {rng!r}"
    )


def as_probability(caller: str, name: str, p: Any) -> float:
    """Return an argument as a probability.

    Raises
    ------
    TypeError
        If it is not a real number.
    ValueError
        If it is not a scalar from 0 to 1.
    """
    number = as_real_array(caller, name, p)
    if number.ndim or not 0 <= float(number) <= 1:
        raise ValueError(f"{caller}: {name} must be a number from 0 to 1, got {p!r}")
    return float(number)


def new_key(caller: str, rng: Any) -> int:
    """Return a key that is kept for the backward pass; None draws it from the system's entropy."""
    return key_of(caller, np.random.SeedSequence() if rng is None else rng)


@dataclass(eq=False, repr=False)
class Draw:
    """The random operands of a call that drops elements.

    Attributes
    ----------
    caller : str
        The operation's name in error messages.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        The ``rng`` argument.
    again : bool
        Whether the operation must repeat the random numbers of another call.
    p : float
        The probability of a drop.
    """

    caller: str
    rng: Any
    again: bool
    p: float

    def key_and_threshold(self) -> tuple[np.int64, np.int64]:
        """Return the key and the threshold in the types that kernels take; a generator draws a key."""
        return key_and_threshold(key_of(self.caller, self.rng, again=self.again), self.p)

    def operands(self, at: int, *strides: np.int64) -> tuple[Input, ...]:
        """Return the random operands of a block that starts at index 0, with ``rng`` at a position among the values."""
        rest = np.int64(0), key_and_threshold(0, self.p)[1], *strides
        return Input(at), *(Input(np.asarray(each)) for each in rest)

    def key_at(self, at: int) -> tuple[int, Callable[[Any], int]]:
        """Return a position, and the function from the ``rng`` there to the key."""
        return at, partial(key_of, self.caller, again=self.again)


def key_and_threshold(key: int, p: float) -> tuple[np.int64, np.int64]:
    """Return the key, and the threshold of a drop with this probability, in the types that kernels take.

    An element is kept if its random word is at least the threshold, ``p * 2**32``, rounded.
    """
    return np.int64(_signed(key)), np.int64(round(math.ldexp(p, 32)))


def _signed(key: int) -> int:
    """Return the signed integer of the same 64 bits."""
    return key - _KEYS if key >= _KEYS // 2 else key
