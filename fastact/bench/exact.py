"""The formulas of definitions on mpmath's numbers, and errors measured against them in units in the last place."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from fastact.catalogue.definition import REQUIRED, Context, Definition, Number, Pair

Array = NDArray[Any]

# A context of our own: the global precision of mpmath stays as it is.
context: Context = mpmath.mp.clone()
context.dps = 50
_exp, _erfc = context.exp, context.erfc


def _far_exp(x: Number) -> Number:
    """Return exp(x), which takes mpmath seconds far out, where it raises e to a huge whole power."""
    if context.mag(x) < 100:
        return _exp(x)
    with context.extraprec(context.mag(x)):
        exponent = context.floor(x / context.ln2)
        rest = x - exponent * context.ln2
    return context.ldexp(_exp(rest), int(exponent))


def _far_erfc(x: Number) -> Number:
    """Return erfc(x), by its asymptote far out, where mpmath overflows."""
    return _erfc(x) if x < 1e100 else context.exp(-x * x) / (x * context.sqrt(context.pi))


context.exp, context.erfc = _far_exp, _far_erfc


# Where a function is at its limit to more digits than any number here has.
_FAR = context.mpf(10) ** 350


class Formula:
    """The formula of a definition; its functions take the parameters by name.

    Attributes
    ----------
    defaults : dict
        The parameters that need not be given.
    settings : tuple of dict
        Parameters to test with; an empty one stands for the defaults.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        parameters = definition.parameters
        self.defaults = {key: value for key, value in parameters.items() if value is not REQUIRED}
        samples = tuple(dict(sample) for sample in definition.samples)
        self.settings = samples if len(self.defaults) < len(parameters) else ({}, *samples)

    def exact(self, x: Number, **parameters: float) -> Pair:
        """Return value and derivative at one of mpmath's numbers."""
        wide = {key: context.convert(value) for key, value in parameters.items()}
        with context.extraprec(2 * max(0, context.mag(x))):  # x**2 in an exponent, to the unit
            found = self._formula(context, x, **wide)
            if not isinstance(found, tuple):
                found = next(results for applies, *results in found if applies)
        value, derivative = map(context.convert, found)
        return value, derivative

    @cached_property
    def _formula(self) -> Any:
        if self.definition.exact is None:
            raise NotImplementedError(f"the definition of {self.definition.name} has no exact=")
        return self.definition.exact

    def at(self, x: float, **parameters: float) -> Pair:
        """Return the same at any float: the limits at the infinities, NaN for NaN."""
        if math.isnan(x):
            return context.nan, context.nan
        if math.isinf(x):
            return self.limits(**parameters)[x > 0]
        return self.exact(context.convert(x), **parameters)

    def limits(self, **parameters: float) -> tuple[Pair, Pair]:
        """Return (value, derivative) at minus infinity and at infinity; NaN where there is no limit."""
        low, high = (
            tuple(map(_limit, self.exact(far, **parameters), self.exact(3 * far, **parameters)))
            for far in (-_FAR, _FAR)
        )
        return low, high

    def kinks(self, **parameters: float) -> tuple[float, ...]:
        """Return the places where the derivative jumps: there others are asked for theirs."""
        return tuple(float(eval(place, {}, parameters)) for place in self.definition.kinks)

    def is_near_root(self, x: Number, **parameters: float) -> bool:
        """Whether the derivative's error is stated in absolute terms here: at most 2**-23 or 2**-52."""
        if self.definition.near_root is None:
            return any(abs(x - root) <= 0.4 for root in self.definition.roots)
        wide = {key: context.convert(value) for key, value in parameters.items()}
        return bool(self.definition.near_root(context, x, **wide))


def _limit(here: Number, farther: Number) -> Number:
    """Return what both are, NaN if they round to different floats."""
    if float(here) != float(farther):
        return context.nan
    return context.mpf(float(here)) if float(here) in (0, -math.inf, math.inf) else here


def errors_in_ulps(got: Array, exact: Iterable[Number]) -> NDArray[np.float64]:
    """Return by how many units in the last place, at the exact result, each result is off.

    Below the normal range the unit is the spacing of the subnormal numbers. Infinity counts as the power of two
    behind the largest number, and is right where the exact result is beyond that. NaN is right where the exact
    result is NaN, else infinitely wrong.
    """
    precision = np.finfo(got.dtype)
    overflow = context.ldexp(1, int(precision.maxexp))
    errors = []
    for number, right in zip(got, exact, strict=True):
        if np.isnan(number) or not context.isfinite(right):
            is_same = np.isnan(number) if context.isnan(right) else number == right
            errors.append(0.0 if is_same else math.inf)
            continue
        if np.isinf(number):
            number = math.copysign(1, number) * overflow
            right = min(max(right, -overflow), overflow)
        exponent = max(context.mag(right), precision.minexp + 1) if right else precision.minexp + 1
        exponent = min(int(exponent), int(precision.maxexp))
        difference = abs(context.convert(number) - right)
        errors.append(float(context.ldexp(difference, int(precision.nmant) + 1 - exponent)))
    return np.array(errors)
