"""unyt arrays: importing this module lets unyt's arrays pass through the ufuncs of all activations.

Most activations take dimensionless arrays, and convert km/m to a number; the value of those that commute with a factor,
such as relu, has the unit of the input. The gradient has the unit of `dy`, and a derivative is a number.

unyt's own registry of ufuncs converts no inputs, and takes two at most. So this module answers for its ufuncs before
`unyt.unyt_array.__array_ufunc__` does, and leaves all others to it.

Examples
--------
>>> import unyt
>>> import fastact.backends.unyt
>>> fa.relu([-1.0, 2.0] * unyt.m)
unyt_array([0., 2.], 'm')
>>> fa.sigmoid(0.0 * unyt.km / unyt.m)
unyt_quantity(0.5, '(dimensionless)')
>>> fa.sigmoid(1.0 * unyt.m)
Traceback (most recent call last):
    ...
unyt.exceptions.UnitConversionError: Cannot convert between 'm' (dim '(length)') and 'dimensionless' (dim '1').
"""

from __future__ import annotations

from fastact.backends._requirements import require

require(__name__)

from functools import wraps
from typing import Any

import numpy as np
from unyt import unyt_array, unyt_quantity
from unyt.unit_object import Unit

from fastact.backends._calls import as_tuple, unpacked
from fastact.backends._units import Rule, rules, rules_of, ufunc_names

_names = frozenset(ufunc_names())
_own_rules: dict[np.ufunc, Rule] = {}
_of_unyt = unyt_array.__array_ufunc__


def register(function: Any) -> None:
    """Let unyt's arrays pass through the ufuncs of an activation of one's own.

    Parameters
    ----------
    function : Function
        An activation of elements, made by `fastact.activation`.

    Examples
    --------
    >>> import unyt
    >>> import fastact.backends.unyt
    >>> @fa.activation
    ... def cube(x):
    ...     return x**3
    >>> fastact.backends.unyt.register(cube)
    >>> cube(unyt.unyt_array([2.0, 3.0]))
    unyt_array([ 8., 27.], '(dimensionless)')
    """
    _own_rules.update(rules_of(function))


@wraps(_of_unyt)
def _array_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
    rule = _own_rules.get(ufunc)
    if rule is None and ufunc.__name__ in _names:
        rule = rules().get(ufunc)
    if rule is None or method != "__call__":
        return _of_unyt(self, ufunc, method, *inputs, **options)
    one = Unit(registry=self.units.registry)
    units = {
        name: getattr(value, "units", one) for name, value in zip(rule.inputs, inputs, strict=True)
    }
    plain = [
        _plain(value if rule.takes_unit(name) or name not in units else _to_number(value))
        for name, value in zip(rule.inputs, inputs, strict=True)
    ]
    outputs = options.get("out", ())
    if outputs:
        options["out"] = tuple(map(_plain, outputs))
    results = as_tuple(ufunc(*plain, **options))
    of_results = rule.results(units, one)
    found = []
    for k, (result, unit) in enumerate(zip(results, of_results, strict=True)):
        given = outputs[k] if outputs else None
        if given is not None:
            if isinstance(given, unyt_array):
                given.units = unit
            found.append(given)
        else:
            found.append((unyt_array if np.ndim(result) else unyt_quantity)(result, unit))
    return unpacked(found)


def _to_number(value: Any) -> Any:
    return value.to("dimensionless") if isinstance(value, unyt_array) else value


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, unyt_array) else value


unyt_array.__array_ufunc__ = _array_ufunc
