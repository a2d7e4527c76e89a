"""Every activation in the catalogue: all that is derived from its definition is there, and is right.

The machinery itself is tested with a few activations that stand for all, see `representatives`.
"""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import EXACT, FROM_OUTPUT, POINTWISE, complete, references, silently
from references import REFERENCES, Array, assert_same_bits, context
from representatives import only_long, with_long

import fastact as fa
from fastact.catalogue import catalogue
from fastact.catalogue.definition import Definition
from fastact.functions import Function

LONGEST_DEFINITION = 14  # lines

every_activation = pytest.mark.parametrize("name", fa.names("activation"))
every_pointwise = pytest.mark.parametrize("name", POINTWISE)
few_pointwise = pytest.mark.parametrize("name", with_long(POINTWISE))
LEARNABLE = [name for name in EXACT if fa.get(name).learnable]
SMOOTH = [name for name in EXACT if "second_derivative" in fa.get(name).ufuncs]
CONVENTIONS = [
    (name, library)
    for name in POINTWISE
    for library in catalogue()[name].choices.get("convention", {})
]
KINKS = [
    *((name, None) for name in POINTWISE if fa.get(name).kinks),
    *((name, library) for name, library in CONVENTIONS if fa.get(name, convention=library).kinks),
]


@pytest.fixture(autouse=True)
def floating_point_errors_raise() -> Iterator[None]:
    """Turn each floating-point warning into an error."""
    with np.errstate(all="raise"):
        yield


def first_parameters(name: str) -> dict[str, float]:
    """Return all parameters of the first setting, as they are in float32."""
    return complete(name, REFERENCES[name].settings[0], np.float32)


def samples(name: str) -> Array:
    """Return a few float32 numbers of every kind, kinks among them."""
    kinks = REFERENCES[name].kinks(**{**REFERENCES[name].defaults, **REFERENCES[name].settings[0]})
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e30, -1e30, *kinks]
    numbers = np.concatenate([special, np.linspace(-6, 6, 50)])
    return silently(numbers.astype, np.float32)  # type: ignore[no-any-return]


# What is written in the definitions.


def definitions() -> list[Definition]:
    """Return all definitions, those in other conventions too."""
    found = list(catalogue().values())
    for definition in catalogue().values():
        for choices in definition.choices.values():
            found += choices.values()
    return list({each.name: each for each in found}.values())


@pytest.mark.parametrize(
    "definition",
    [each for each in definitions() if each.kind == "activation"],
    ids=lambda definition: definition.name,
)
def test_definitions_are_short(definition: Definition) -> None:
    """A definition is read at a glance: what is longer belongs into helpers."""
    source = textwrap.dedent(inspect.getsource(definition.function))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    body = function.body[1:] if ast.get_docstring(function) else function.body
    assert function.end_lineno is not None
    assert function.end_lineno - body[0].lineno + 1 < LONGEST_DEFINITION


@every_activation
def test_definitions_say_everything(name: str) -> None:
    definition = catalogue()[name]
    assert set(definition.parameters_are) == set(definition.parameters)
    assert "xponential" in definition.summary or "logarithm" in definition.summary
    assert definition.errors[0] <= 5
    assert definition.errors[1] <= 12
    assert set(definition.learnable) <= set(definition.parameters)
    assert set(definition.from_output_needs) <= set(definition.parameters)
    if definition.from_output is not None:
        taken = inspect.signature(definition.from_output).parameters
        assert len(taken) == 1 + len(definition.parameters)


@every_activation
def test_names_elsewhere_are_known(name: str) -> None:
    """What another library calls an activation finds one that this library has."""
    for library, their_name in catalogue()[name].elsewhere.items():
        assert library in ("pytorch", "jax", "keras", "onnx", "thinc", "chainer", "tensorflow")
        assert library in catalogue()[fa.get(their_name).name].elsewhere


def test_no_alias_is_a_name() -> None:
    aliases = [alias for name in fa.names("activation") for alias in fa.get(name).aliases]
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & set(fa.names("activation"))


# Objects and ufuncs.


@every_activation
def test_pickling(name: str) -> None:
    """Objects and ufuncs come back as the very same."""
    item = fa.get(name)
    for each in (item, *item.ufuncs.values()):
        assert pickle.loads(pickle.dumps(each)) is each
        assert copy.deepcopy(each) is each


# Each kernel takes a second to compile. `test_accuracy` has value and derivative of all activations in one pass, in float32
# and float64; the other operations and the half types are the same definition in other loops, of which a few activations
# have all. float16 has the value alone (and in long runs the derivative alone, which float32 has at kinks), bfloat16 both
# with a gradient, and float32 what is left.


def outputs_in_float32(name: str, x: Array) -> tuple[Array, Array]:
    """Return value and derivative of narrower numbers, in float32."""
    wide = silently(x.astype, np.float32)
    results = fa.get(name).value_and_derivative(wide, **REFERENCES[name].settings[0])
    assert [result.dtype for result in results] == [np.float32] * 2
    return results  # type: ignore[no-any-return]


def assert_rounded_once(got: Array, wide: Array, dtype: Any) -> None:
    assert got.dtype == dtype
    assert_same_bits(got.astype(np.float32), silently(wide.astype, dtype).astype(np.float32))


@pytest.mark.parametrize("operation", ["forward", *only_long("derivative")])
@few_pointwise
def test_float16(name: str, operation: str) -> None:
    """Each of the 65,536 inputs gives the float32 result, rounded once."""
    item = fa.get(name)
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    parameters = REFERENCES[name].settings[0]
    value, derivative = outputs_in_float32(name, x)
    got = item(x, **parameters) if operation == "forward" else item.derivative(x, **parameters)
    assert_rounded_once(got, value if operation == "forward" else derivative, np.float16)


@few_pointwise
def test_bfloat16(name: str) -> None:
    """Each of the 65,536 inputs gives the float32 result, rounded once."""
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    x = np.arange(2**16, dtype=np.uint16).view(bfloat16)
    results = fa.get(name).forward_backward(x, np.ones_like(x), **REFERENCES[name].settings[0])
    for got, wide in zip(results[:2], outputs_in_float32(name, x), strict=True):
        assert_rounded_once(got, wide, bfloat16)


@few_pointwise
def test_backward(name: str) -> None:
    """The gradient is dy times the derivative, rounded once."""
    parameters = REFERENCES[name].settings[0]
    x, dy = samples(name), gradients_like(samples(name))
    _, derivative = fa.get(name).value_and_derivative(x, **parameters)
    ufunc = fa.get(name).ufuncs["backward"]
    dx = ufunc(dy, x, *first_parameters(name).values())
    assert_same_bits(dx, silently(np.multiply, dy, derivative))


@pytest.mark.parametrize("name", FROM_OUTPUT)
def test_backward_from_output(name: str) -> None:
    """Outputs that are not large, nor round to where the derivative jumps, tell the derivative."""
    parameters = first_parameters(name)
    x = samples(name)
    x = x[(abs(x) > 1e-3) & (abs(x) < 4)]
    dy = gradients_like(x)
    y, derivative = fa.get(name).value_and_derivative(x, **parameters)
    dx = fa.get(name).backward_from_output(dy, y, **parameters)
    np.testing.assert_allclose(dx, dy * derivative, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivative(name: str) -> None:
    """It is what differences of first derivatives give; NaN gives NaN."""
    parameters = first_parameters(name)
    got = fa.get(name).second_derivative(samples(name), **parameters)
    np.testing.assert_array_equal(
        np.isnan(got), np.isnan(references(name, samples(name), parameters)[1])
    )
    x = np.linspace(-6, 6, 200, dtype=np.float32)
    got = fa.get(name).second_derivative(x, **parameters)
    step = np.longdouble(2.0**-16)
    function = REFERENCES[name].on_arrays
    (_, low), (_, high) = (
        silently(lambda z: function(z, **parameters), x + h) for h in (-step, step)
    )
    expected = np.asarray((high - low) / (2 * step), np.float64)
    # The reference has jumps in the second derivative where a parabola ends.
    is_smooth = np.abs(np.gradient(expected)) < 0.2
    np.testing.assert_allclose(got[is_smooth], expected[is_smooth], rtol=2e-5, atol=2e-6)


def gradients_like(x: Array) -> Array:
    return np.linspace(-2, 3, x.size, dtype=np.float32)


@pytest.mark.parametrize("name", LEARNABLE)
def test_gradients_by_learnable_parameters(name: str) -> None:
    """They are sums of dy times the derivative by the parameter."""
    parameters = first_parameters(name)
    x = np.linspace(-3, 3, 41, dtype=np.float32)[1::2]
    dy = np.linspace(-2, 3, x.size, dtype=np.float32)
    _, *gradients = fa.get(name).backward(dy, x, **parameters)
    for parameter, gradient in zip(fa.get(name).learnable, gradients, strict=True):
        slopes = [
            context.diff(
                lambda p, z=z, q=parameter: REFERENCES[name].exact(z, **(parameters | {q: p}))[0],
                parameters[parameter],
            )
            for z in map(context.convert, x)
        ]
        expected = float(sum(float(g) * slope for g, slope in zip(dy, slopes, strict=True)))
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


# Other conventions.


def in_convention(name: str, library: str | None) -> Function:
    return fa.get(name) if library is None else fa.get(name, convention=library)


@pytest.mark.parametrize(("name", "library"), CONVENTIONS)
def test_conventions_differ_at_kinks_only(name: str, library: str) -> None:
    """Beside defaults, no more than the derivative at a kink is other than usual."""
    theirs = fa.get(name, convention=library)
    defaults = dict(theirs.parameters)
    if "approximate" in catalogue()[name].choices:
        pytest.skip("the convention is another formula")
    parameters = REFERENCES[name].settings[0] | {
        key: value for key, value in defaults.items() if isinstance(value, int | float)
    }
    x = samples(name)
    places = np.array(REFERENCES[name].kinks(**parameters), np.float32)
    ours = fa.get(name).value_and_derivative(x, **parameters)
    results = theirs.value_and_derivative(x, **parameters)
    assert_same_bits(results[0], ours[0])
    is_kink = np.isin(x, places)
    assert_same_bits(results[1][~is_kink], ours[1][~is_kink])


@pytest.mark.parametrize(("name", "library"), KINKS)
def test_derivatives_at_kinks_are_as_stated(name: str, library: str | None) -> None:
    """The metadata's expressions, with the parameters put in, say what is computed."""
    item = in_convention(name, library)
    names = REFERENCES[name].defaults | dict(item.parameters) | REFERENCES[name].settings[0]
    for place, chosen in item.kinks.items():
        x = np.float32(eval(place, {}, names))
        given = {key: names[key] for key in item.parameters}
        derivative = item.derivative(x, **given)
        np.testing.assert_allclose(derivative, eval(chosen, {}, names), rtol=1e-6)
