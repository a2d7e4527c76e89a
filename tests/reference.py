"""What one activation is held against: its formulas, limits and settings; see `references`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mpmath
from numpy.typing import NDArray

Array = NDArray[Any]
Number = Any  # mpmath's numbers are not annotated
Pair = tuple[Any, Any]

# A context of our own: the global precision of mpmath stays as it is.
context = mpmath.mp.clone()
context.dps = 50


@dataclass(frozen=True)
class Reference:
    """The references of one activation. All functions take its parameters by name.

    Attributes
    ----------
    exact : callable
        Takes one of mpmath's numbers, gives value and derivative.
    on_arrays : callable
        Takes an array of float64 or longdouble, gives value and derivative in its type.
    limits : callable
        Gives (value, derivative) at minus infinity and at infinity.
    defaults : dict
        The parameters that need not be given.
    settings : tuple of dict
        Parameters to test with; an empty one stands for the defaults.
    is_scaled : bool
        Whether a parameter is a factor of the result, where the stated error is for 1: as the
        product's significand may be half as large, the same error is up to twice as many units in
        the last place, and half a unit is added.
    rises : bool
        Whether it is smooth and rises, and must not fall from one float to the next.
    near_root : callable, optional
        Takes an array and the parameters, gives the mask of the places where the derivative's error
        is stated in absolute terms: it is at most 2**-23 in float32 and 2**-52 in float64.
    kinks : callable
        Gives the places where the derivative jumps: there others are asked for theirs.
    pytorch, jax : callable, optional
        Takes the library and its array, gives the value: where name or parameters are others there.
    """

    exact: Callable[..., Pair]
    on_arrays: Callable[..., Pair]
    limits: Callable[..., tuple[Pair, Pair]]
    defaults: Mapping[str, float] = field(default_factory=dict)
    settings: tuple[dict[str, float], ...] = ({},)
    is_scaled: bool = False
    rises: bool = False
    near_root: Callable[..., Any] | None = None
    kinks: Callable[..., tuple[float, ...]] = lambda **_: ()
    pytorch: Callable[..., Any] | None = None
    jax: Callable[..., Any] | None = None
