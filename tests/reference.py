"""What one activation is held against: all of it comes from its definition in the catalogue."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from wide import DoubleContext, Wide, WideContext

from fastact.bench.exact import Formula, context

Array = NDArray[Any]
Number = Any  # mpmath's numbers are not annotated
Pair = tuple[Any, Any]

_DOUBLE, _WIDE = DoubleContext(), WideContext(context)


class Reference(Formula):
    """The formulas, limits and parameters of a definition; the functions take the parameters by name."""

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

    def near_root(self, x: Array, **parameters: float) -> Any:
        """Return where the derivative's error is stated in absolute terms: at most 2**-23 or 2**-52."""
        if self.definition.near_root is None:
            return functools.reduce(
                np.logical_or,
                (abs(x - root) <= 0.4 for root in self.definition.roots),
                np.zeros(x.shape, bool),
            )
        return self.definition.near_root(_WIDE, Wide(x), **parameters)
