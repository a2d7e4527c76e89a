"""The DeZero adapter, against DeZero's own functions and its gradient check."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastact as fa

with pytest.MonkeyPatch.context() as patch:
    # What releases 0.0.12 and 0.0.13 need of their users to be imported.
    patch.setattr(np, "int", int, raising=False)
    dezero = pytest.importorskip("dezero")

import dezero.functions as F
from dezero.utils import gradient_check
from representatives import with_long

from fastact.backends import dezero as fad

N, D = 4, 6
LABELS = np.array([0, 5, 2, 2])
POINTWISE = [name for name in fa.names("activation") if "derivative" in fa.get(name).operations]
ROWS = [name for name in fa.names("row") if not fa.get(name)._definition.is_random]


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Any:
    """Return an array away from the kinks."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.05, 0.4, shape) * rng.choice([-1, 1], shape)).astype(dtype)


def check(function: Callable[..., Any], *arrays: Any) -> None:
    """Compare gradients with central differences in random directions."""
    variables = [dezero.Variable(each) for each in arrays]
    value = function(*variables)
    upstream = np.random.default_rng(1).standard_normal(value.shape)
    F.sum(value * upstream).backward()
    for k, variable in enumerate(variables):
        direction = np.random.default_rng(2).standard_normal(variable.shape)
        moved, sides = list(arrays), []
        for step in (1e-6, -1e-6):
            moved[k] = arrays[k] + step * direction
            sides.append(np.sum(upstream * function(*map(dezero.Variable, moved)).data))
        expected = (sides[0] - sides[1]) / 2e-6
        found = np.sum(variable.grad.data * direction)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-8)


PEERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "relu": (F.relu, {}),
    "sigmoid": (F.sigmoid, {}),
    "tanh": (F.tanh, {}),
    "sine": (F.sin, {}),
    "exponential": (F.exp, {}),
    "softmax": (F.softmax, {}),
    "log_softmax": (F.log_softmax, {}),
    "softmax_cross_entropy": (F.softmax_cross_entropy, {}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PEERS)
def test_against_dezero(name: str, dtype: Any) -> None:
    theirs, options = PEERS[name]
    more = (LABELS,) if fa.get(name).kind == "loss" else ()
    found, expected = (dezero.Variable(numbers(N, D, dtype=dtype)) for _ in range(2))
    y, wanted = getattr(fad, name)(found, *more, **options), theirs(expected, *more, **options)
    tolerance = {"rtol": 16 * np.finfo(dtype).eps, "atol": 16 * np.finfo(dtype).eps}
    assert y.dtype == dtype
    np.testing.assert_allclose(y.data, wanted.data, **tolerance)
    y.backward()
    wanted.backward()
    assert found.grad.dtype == dtype
    np.testing.assert_allclose(found.grad.data, expected.grad.data, **tolerance)


@pytest.mark.parametrize("name", with_long(POINTWISE))
def test_gradients_of_elements(name: str) -> None:
    parameters = fa.get(name)._definition.required_parameters
    x = abs(numbers(N, D)) if name == "log1mexp" else numbers(N, D)
    check(lambda x: getattr(fad, name)(x, **parameters), x)


@pytest.mark.skipif(dezero.__version__ == "0.0.11", reason="its check fails for its own functions")
@pytest.mark.parametrize("name", with_long(POINTWISE))
def test_dezeros_own_check(name: str) -> None:
    parameters = fa.get(name)._definition.required_parameters
    x = abs(numbers(N, D)) if name == "log1mexp" else numbers(N, D)
    assert gradient_check(lambda x: getattr(fad, name)(x, **parameters), x)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "hardmax"])
def test_gradients_of_rows(name: str) -> None:
    check(lambda x: getattr(fad, name)(x, axis=0), numbers(N, D))


def test_gradients_of_parameters_and_options() -> None:
    x, b, r = numbers(N, D), numbers(D, seed=1), numbers(N, D, seed=2)
    check(lambda x, w: fad.prelu(x, w), x, numbers(D, seed=3))
    check(lambda x, b: fad.silu(x, bias=b, scale=0.5), x, b)
    check(lambda x, b, r: fad.tanh(x, bias=b, residual=r), x, b, r)
    check(lambda x, s: fad.swiglu(x, s), x, r)
    check(lambda x, w, b: fad.layer_norm(x, weight=w, bias=b), x, numbers(D, seed=3), b)
    check(lambda x, w: fad.linear_cross_entropy(x, w, LABELS), x, numbers(6, D, seed=3))
    check(lambda x: fad.relu(x, dropout=0.5, rng=3), x)


def test_several_results() -> None:
    gates, c = numbers(N, 4 * D), numbers(N, D, seed=1)

    def both(gates: Any, c: Any) -> Any:
        h, new = fad.lstm_cell(gates, c)
        return F.sum(h + 2 * new)

    check(both, gates, c)
    mean, var, x = np.zeros(D), np.ones(D), numbers(N, D)
    y, new_mean, _ = fad.batch_norm(x, running_mean=mean, running_var=var)
    assert isinstance(y, dezero.Variable)
    np.testing.assert_allclose(new_mean, 0.1 * x.mean(axis=0))
    check(lambda x: fad.batch_norm(x, running_mean=mean, running_var=var)[0], x)


def test_without_a_graph() -> None:
    x = dezero.Variable(numbers(N, D))
    with dezero.no_grad():
        y = fad.gelu(x)
    assert y.creator is None
    np.testing.assert_array_equal(y.data, fa.gelu(x.data))


def test_inputs_of_all_layouts() -> None:
    for array in (np.asfortranarray(numbers(N, D))[:, ::-1], np.ones(()), np.ones((0, 3))):
        array.flags.writeable = False
        x = dezero.Variable(array)
        fad.relu(x).backward()
        np.testing.assert_array_equal(x.grad.data, array > 0)


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "softmax"])
def test_gradients_of_gradients(name: str) -> None:
    """Of a penalty on the gradient, by central differences."""
    array, step = numbers(N, D), 1e-5

    def penalty(array: Any) -> tuple[Any, Any]:
        x = dezero.Variable(array)
        F.sum(getattr(fad, name)(x) ** 2).backward(create_graph=True)
        gradient = x.grad
        x.cleargrad()
        loss = F.sum(gradient**2)
        loss.backward()
        return loss.data, x.grad.data

    direction = numbers(N, D, seed=1)
    _, gradient = penalty(array)
    sides = [penalty(array + sign * step * direction)[0] for sign in (1, -1)]
    expected = (sides[0] - sides[1]) / (2 * step)
    np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=1e-6, atol=1e-9)


def test_what_has_no_second_derivative_has_a_gradient_of_zeros() -> None:
    x = dezero.Variable(numbers(N, D))
    F.sum(fad.relu(x)).backward(create_graph=True)
    gradient = x.grad
    x.cleargrad()
    F.sum(gradient * F.tanh(x)).backward()
    expected = (x.data > 0) * (1 - np.tanh(x.data) ** 2)
    np.testing.assert_allclose(x.grad.data, expected)
    x.cleargrad()
    F.sum(fad.gelu(x)).backward(create_graph=True)
    gradient = x.grad
    x.cleargrad()
    with pytest.raises(NotImplementedError, match="third derivative"):
        gradient.backward(create_graph=True)


def test_newcomer_and_own_functions(newcomer: str) -> None:
    assert newcomer in dir(fad)
    x = dezero.Variable(numbers(N, D))
    getattr(fad, newcomer)(x).backward()
    np.testing.assert_allclose(x.grad.data, x.data)
    check(fad.wrap(fa.get("elu", alpha=0.5)), numbers(N, D))


def test_signatures_and_errors() -> None:
    assert "residual" in inspect.signature(fad.gelu).parameters
    with pytest.raises(TypeError, match=r"gelu: .*foo"):
        fad.gelu(numbers(3), foo=1)
    with pytest.raises(AttributeError, match="no attribute 'gleu'"):
        fad.gleu  # noqa: B018
