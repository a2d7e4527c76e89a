"""What one activation is held against: all of it comes from its definition in the catalogue."""

from __future__ import annotations

import functools
import math
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray
from wide import DoubleContext, Wide, WideContext

from fastact.catalogue.definition import REQUIRED, Definition

Array = NDArray[Any]
Number = Any  # mpmath's numbers are not annotated
Pair = tuple[Any, Any]

# A context of our own: the global precision of mpmath stays as it is.
context = mpmath.mp.clone()
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

_DOUBLE, _WIDE = DoubleContext(), WideContext(context)

# Where a function is at its limit to more digits than any number here has.
_FAR = context.mpf(10) ** 350


class Reference:
    """The formulas, limits and parameters of a definition; the functions take the parameters by name.

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

    @functools.cached_property
    def _formula(self) -> Any:
        if self.definition.exact is None:
            raise NotImplementedError(f"the definition of {self.definition.name} has no exact=")
        return self.definition.exact

    def exact(self, x: Number, **parameters: float) -> Pair:
        """Return value and derivative at one of mpmath's numbers."""
        wide = {key: context.convert(value) for key, value in parameters.items()}
        with context.extraprec(2 * max(0, context.mag(x))):  # x**2 in an exponent, to the unit
            found = self._formula(context, x, **wide)
            if not isinstance(found, tuple):
                found = next(results for applies, *results in found if applies)
        value, derivative = map(context.convert, found)
        return value, derivative

    def on_arrays(self, x: Array, **parameters: float) -> Pair:
        """Return value and derivative at an array of float64 or longdouble, in its type."""
        mp: Any = _DOUBLE if x.dtype == np.float64 else _WIDE
        wide = {key: x.dtype.type(value) for key, value in parameters.items()}
        found = self._formula(mp, x if mp is _DOUBLE else Wide(x), **wide)
        pieces = [(True, *found)] if isinstance(found, tuple) else list(found)
        conditions, *results = zip(*pieces, strict=True)
        conditions = [np.broadcast_to(each, x.shape) for each in conditions]
        limits, computed = self.limits(**parameters), []
        for each, ends in zip(results, zip(*limits, strict=True), strict=True):
            parts = [part.rounded() if isinstance(part, Wide) else part for part in each]
            chosen = np.select(conditions, [np.broadcast_to(part, x.shape) for part in parts])
            for infinity, limit in zip((-math.inf, math.inf), ends, strict=True):
                chosen = np.where(x == infinity, x.dtype.type(context.nstr(limit, 40)), chosen)
            computed.append(np.where(np.isnan(x), x, chosen).astype(x.dtype))
        value, derivative = computed
        return value, derivative

    def limits(self, **parameters: float) -> tuple[Pair, Pair]:
        """Return (value, derivative) at minus infinity and at infinity; NaN where there is no limit."""
        low, high = (
            tuple(map(_limit, self.exact(far, **parameters), self.exact(3 * far, **parameters)))
            for far in (-_FAR, _FAR)
        )
        return low, high  # type: ignore[return-value]

    def kinks(self, **parameters: float) -> tuple[float, ...]:
        """Return the places where the derivative jumps: there others are asked for theirs."""
        return tuple(float(eval(place, {}, parameters)) for place in self.definition.kinks)

    def near_root(self, x: Array, **parameters: float) -> Any:
        """Return where the derivative's error is stated in absolute terms: at most 2**-23 or 2**-52."""
        if self.definition.near_root is None:
            return functools.reduce(
                np.logical_or,
                (abs(x - root) <= 0.4 for root in self.definition.roots),
                np.zeros(x.shape, bool),
            )
        return self.definition.near_root(_WIDE, Wide(x), **parameters)


def _limit(here: Number, farther: Number) -> Number:
    """Return what both are, NaN if they round to different floats."""
    if float(here) != float(farther):
        return context.nan
    return context.mpf(float(here)) if float(here) in (0, -math.inf, math.inf) else here
