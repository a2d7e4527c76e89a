"""astropy quantities: importing this module registers the ufuncs of all activations with astropy.

Most activations take dimensionless quantities, and convert km/m to a number; the value of those that commute with a
factor, such as relu, has the unit of the input. The gradient has the unit of `dy`, and a derivative is a number.

Examples
--------
>>> import astropy.units as u
>>> import fastact.backends.astropy
>>> fa.relu([-1.0, 2.0] * u.m)
<Quantity [0., 2.] m>
>>> fa.sigmoid(0.0 * u.km / u.m)
<Quantity 0.5>
>>> fa.sigmoid(1.0 * u.m)
Traceback (most recent call last):
    ...
astropy.units.errors.UnitTypeError: Can only apply 'sigmoid' function to dimensionless quantities
"""

from __future__ import annotations

from fastact.backends._requirements import require

require(__name__)

from functools import partial
from typing import Any

import numpy as np
from astropy.units import UnitsError, UnitTypeError, dimensionless_unscaled
from astropy.units.quantity_helper import UFUNC_HELPERS
from astropy.units.quantity_helper.helpers import get_converter

from fastact.backends._units import Rule, rules, rules_of, ufunc_names

_Helpers = dict[np.ufunc, Any]


def register(function: Any) -> None:
    """Register the ufuncs of an activation of one's own.

    Parameters
    ----------
    function : Function
        An activation of elements, made by `fastact.activation`.

    Examples
    --------
    >>> import astropy.units as u
    >>> import fastact.backends.astropy
    >>> @fa.activation
    ... def cube(x):
    ...     return x**3
    >>> fastact.backends.astropy.register(cube)
    >>> cube(2.0 * u.km / u.km)
    <Quantity 8.>
    """
    UFUNC_HELPERS.update(_helpers(rules_of(function)))


def _helpers(rules: dict[np.ufunc, Rule]) -> _Helpers:
    return {ufunc: partial(_helper, rule) for ufunc, rule in rules.items()}


def _helper(rule: Rule, ufunc: np.ufunc, *units: Any) -> tuple[list[Any], Any]:
    """Return the converter of each input, and the units of the results, as astropy asks for them."""
    given = dict(zip(rule.inputs, units, strict=True))
    converters = [
        None if unit is None or rule.takes_unit(name) else _to_number(ufunc, unit)
        for name, unit in given.items()
    ]
    known = {name: unit or dimensionless_unscaled for name, unit in given.items()}
    results = rule.results(known, dimensionless_unscaled)
    return converters, results if len(results) > 1 else results[0]


def _to_number(ufunc: np.ufunc, unit: Any) -> Any:
    try:
        return get_converter(unit, dimensionless_unscaled)
    except UnitsError:
        raise UnitTypeError(
            f"Can only apply '{ufunc.__name__}' function to dimensionless quantities"
        ) from None


UFUNC_HELPERS.register_module("fastact.ufuncs", ufunc_names(), lambda: _helpers(rules()))
