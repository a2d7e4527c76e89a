"""Quantities of astropy and unyt: dimensionless where a function needs it, their unit kept where it has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import own_activations
import pytest

import fastact as fa
from fastact.catalogue.definition import GroupDefinition
from fastact.functions.registry import functions

POINTWISE = [
    each
    for each in functions()
    if each.kind == "activation" and not isinstance(each._definition, GroupDefinition)
]


class Library(NamedTuple):
    """A library of units: how to make a quantity, its number, its unit, and the error of a wrong unit."""

    quantity: Callable[[Any, str], Any]
    number: Callable[[Any], Any]
    unit: Callable[[Any], str]
    error: type[Exception]
    register: Callable[[Any], None]


def _astropy() -> Library:
    units = pytest.importorskip("astropy.units")
    import fastact.backends.astropy as backend

    def unit(quantity: Any) -> str:
        assert isinstance(quantity, units.Quantity)
        return str(quantity.unit)

    return Library(
        lambda value, unit: units.Quantity(value, unit),
        lambda quantity: quantity.value,
        unit,
        units.UnitsError,
        backend.register,
    )


def _unyt() -> Library:
    unyt = pytest.importorskip("unyt")
    import fastact.backends.unyt as backend

    def quantity(value: Any, unit: str) -> Any:
        return unyt.unyt_array(value, unit or "dimensionless")

    def unit(quantity: Any) -> str:
        assert isinstance(quantity, unyt.unyt_array)
        return "" if quantity.units.is_dimensionless else str(quantity.units)

    error = unyt.exceptions.UnitConversionError
    return Library(quantity, lambda q: q.view(np.ndarray), unit, error, backend.register)


@pytest.fixture(params=[_astropy, _unyt], ids=["astropy", "unyt"])
def library(request: pytest.FixtureRequest) -> Library:
    found: Library = request.param()
    return found


@pytest.mark.parametrize("f", POINTWISE, ids=lambda f: f.name)
def test_every_ufunc(f: Any, library: Library) -> None:
    """Results have the bits of those on numbers, and the units that follow from dimensions."""
    x, dy = np.random.default_rng(0).standard_normal((2, 9))
    parameters = tuple({**f.parameters, **f._definition.required_parameters}.values())
    is_homogeneous = f._definition.is_homogeneous
    values, gradients = (
        library.quantity(x, "m" if is_homogeneous else ""),
        library.quantity(dy, "J"),
    )
    for name, ufunc in f.ufuncs.items():
        arrays = [each.name for each in f.operations[name].arrays]
        given = [gradients if each == "dy" else values for each in arrays]
        results = ufunc(*given, *parameters)
        numbers = ufunc(*(dy if each == "dy" else x for each in arrays), *parameters)
        results = results if isinstance(results, tuple) else (results,)
        numbers = numbers if isinstance(numbers, tuple) else (numbers,)
        of_d = "1 / m" if name == "second_derivative" and is_homogeneous else ""
        units = {"y": "m" if is_homogeneous else "", "d": of_d, "dx": "J"}
        outputs = [each.name for each in f._family.kernel(name).outputs]
        for output, result, number in zip(outputs, results, numbers, strict=True):
            np.testing.assert_array_equal(library.number(result), number)
            assert library.unit(result).replace("1/m", "1 / m") == units[output]


def test_scaled_numbers_are_converted(library: Library) -> None:
    x = library.quantity([-1.0, 2.0], "m") / library.quantity(1.0, "km")
    right = 1 / (1 + np.exp(-np.array([-0.001, 0.002])))
    np.testing.assert_allclose(library.number(fa.sigmoid(x)), right, rtol=1e-15)
    y, d = fa.sigmoid.value_and_derivative(x)
    np.testing.assert_allclose(library.number(y), right, rtol=1e-15)
    np.testing.assert_allclose(library.number(d), right * (1 - right), rtol=1e-15)
    alpha = library.quantity(1.0, "km") / library.quantity(1.0, "m")
    found = fa.elu(np.array([-1.0, 2.0]), alpha)
    np.testing.assert_allclose(library.number(found), [1000 * np.expm1(-1), 2], rtol=1e-15)


def test_units_of_relu(library: Library) -> None:
    x, dy = library.quantity([-1.0, 2.0], "m"), library.quantity([1.0, 3.0], "J")
    y, dx = fa.relu.forward_backward(x, dy)
    assert (library.unit(y), library.unit(dx)) == ("m", "J")
    np.testing.assert_array_equal(library.number(dx), [0, 3])
    y, vjp = fa.relu.vjp(x)
    assert library.unit(vjp(dy)) == "J"
    assert fa.relu(x.astype(np.float32)).dtype == np.float32
    assert (
        library.unit(fa.prelu(x, weight=0.1))
        == library.unit(fa.leaky_relu(x, convention="jax"))
        == "m"
    )
    one = fa.relu(library.quantity(3.0, "m"))
    assert (library.number(one), library.unit(one)) == (3, "m")


def test_outputs(library: Library) -> None:
    x, out = library.quantity([-1.0, 2.0], "m"), library.quantity([0.0, 0.0], "s")
    assert fa.relu(x, out=out) is out
    np.testing.assert_array_equal(library.number(out), [0, 2])
    assert library.unit(out) == "m"


def test_a_unit_where_there_can_be_none(library: Library) -> None:
    x, number = library.quantity([1.0, 2.0], "m"), library.quantity([1.0, 2.0], "")
    for call in (
        lambda: fa.sigmoid(x),
        lambda: fa.sigmoid.derivative(x),
        lambda: fa.sigmoid.backward(number, x),
        lambda: fa.sigmoid.value_and_derivative(x),
        lambda: fa.elu(number, alpha=library.quantity(1.0, "km")),
    ):
        with pytest.raises(library.error) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_own_activations(library: Library) -> None:
    x = library.quantity([1.0, 2.0], "m") / library.quantity(1.0, "m")
    library.register(own_activations.swishy)
    right = own_activations.swishy(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(library.number(own_activations.swishy(x)), right)
    with pytest.raises(TypeError, match="elements only"):
        library.register(fa.softmax)


def test_the_librarys_own_ufuncs_are_as_before(library: Library) -> None:
    x = library.quantity([1.0, 4.0], "m")
    assert library.unit(np.sqrt(x * x)) == "m"
    assert library.unit(np.multiply(x, x)) in ("m2", "m**2")
