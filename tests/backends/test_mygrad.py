"""The MyGrad adapter, against MyGrad's own functions and finite differences."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastact as fa

mygrad = pytest.importorskip("mygrad")

import mygrad.nnet as nnet
from representatives import with_long

from fastact.backends import mygrad as fam

N, D = 4, 6
LABELS = np.array([0, 5, 2, 2])
POINTWISE = [name for name in fa.names("activation") if "derivative" in fa.get(name).operations]
ROWS = [name for name in fa.names("row") if not fa.get(name)._definition.is_random]


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Any:
    """Return a tensor away from the kinks."""
    rng = np.random.default_rng(seed)
    return mygrad.tensor((rng.uniform(0.05, 0.4, shape) * rng.choice([-1, 1], shape)).astype(dtype))


def check(function: Callable[..., Any], *tensors: Any) -> None:
    """Compare gradients with central differences in random directions."""
    value = function(*tensors)
    upstream = np.random.default_rng(1).standard_normal(value.shape)
    (value * upstream).sum().backward()
    for k, tensor in enumerate(tensors):
        direction = np.random.default_rng(2).standard_normal(tensor.shape)
        arrays = [each.data.copy() for each in tensors]
        sides = []
        for step in (1e-6, -1e-6):
            arrays[k] = tensor.data + step * direction
            sides.append(np.sum(upstream * function(*map(mygrad.tensor, arrays)).data))
        expected = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(np.sum(tensor.grad * direction), expected, rtol=2e-5, atol=1e-8)


PEERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "relu": (nnet.relu, {}),
    "sigmoid": (nnet.sigmoid, {}),
    "softsign": (nnet.soft_sign, {}),
    "hardtanh": (nnet.hard_tanh, {}),
    "selu": (nnet.selu, {}),
    "elu": (lambda x, alpha: nnet.elu(x, alpha), {"alpha": 0.5}),
    "leaky_relu": (
        lambda x, negative_slope: nnet.leaky_relu(x, negative_slope),
        {"negative_slope": 0.2},
    ),
    "glu": (nnet.glu, {}),
    "softmax": (nnet.softmax, {}),
    "log_softmax": (nnet.logsoftmax, {}),
    "tanh": (mygrad.tanh, {}),
    "mse": (lambda x, t: ((x - t) ** 2).mean(), {}),
    "softmax_cross_entropy": (nnet.softmax_crossentropy, {}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PEERS)
def test_against_mygrad(name: str, dtype: Any) -> None:
    theirs, options = PEERS[name]
    more = {"mse": (np.ones((N, D), dtype),), "softmax_cross_entropy": (LABELS,)}.get(name, ())
    found, expected = numbers(N, D, dtype=dtype), numbers(N, D, dtype=dtype)
    y, wanted = getattr(fam, name)(found, *more, **options), theirs(expected, *more, **options)
    assert y.dtype == dtype
    tolerance = {"rtol": 16 * np.finfo(dtype).eps, "atol": 16 * np.finfo(dtype).eps}
    np.testing.assert_allclose(y.data, wanted.data, **tolerance)
    y.backward()
    wanted.backward()
    assert found.grad.dtype == dtype
    np.testing.assert_allclose(found.grad, expected.grad, **tolerance)


@pytest.mark.parametrize("name", with_long(POINTWISE))
def test_gradients_of_elements(name: str) -> None:
    parameters = fa.get(name)._definition.required_parameters
    x = numbers(N, D)
    check(lambda x: getattr(fam, name)(mygrad.abs(x) if name == "log1mexp" else x, **parameters), x)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "hardmax"])
def test_gradients_of_rows(name: str) -> None:
    check(lambda x: getattr(fam, name)(x, axis=0), numbers(N, D))


def test_gradients_of_parameters_and_options() -> None:
    x, b, r = numbers(N, D), numbers(D, seed=1), numbers(N, D, seed=2)
    check(lambda x, w: fam.prelu(x, w), x, numbers(D, seed=3))
    check(lambda x, b: fam.silu(x, bias=b, scale=0.5), x, b)
    check(lambda x, b, r: fam.tanh(x, bias=b, residual=r), x, b, r)
    check(lambda x, s: fam.swiglu(x, s), x, r)
    check(lambda x, w, b: fam.layer_norm(x, weight=w, bias=b), x, numbers(D, seed=3), b)
    check(lambda x, w: fam.linear_cross_entropy(x, w, LABELS), x, numbers(6, D, seed=3))
    check(lambda x: fam.relu(x, dropout=0.5, rng=3), x)


def test_several_results() -> None:
    gates, c = numbers(N, 4 * D), numbers(N, D, seed=1)

    def both(gates: Any, c: Any) -> Any:
        h, new = fam.lstm_cell(gates, c)
        return h + 2 * new

    check(both, gates, c)
    mean, var = np.zeros(D), np.ones(D)
    x = numbers(N, D)
    y, new_mean, new_var = fam.batch_norm(x, running_mean=mean, running_var=var)
    assert isinstance(y, mygrad.Tensor)
    np.testing.assert_allclose(new_mean, 0.1 * x.data.mean(axis=0))
    np.testing.assert_allclose(new_var, 0.9 + 0.1 * x.data.var(axis=0, ddof=1))
    check(lambda x: fam.batch_norm(x, running_mean=mean, running_var=var)[0], x)


def test_constants_have_no_graph() -> None:
    x = numbers(N, D)
    with mygrad.no_autodiff:
        assert fam.gelu(x).creator is None
    y = fam.gelu(x, constant=True)
    assert y.constant
    constant = fam.gelu(mygrad.tensor(x.data, constant=True))
    assert constant.constant
    np.testing.assert_array_equal(constant.data, fa.gelu(x.data))
    y = fam.relu(x.data, bias=mygrad.tensor(np.zeros(D)))  # an array, and a tensor with a gradient
    y.backward()
    b = numbers(D)
    fam.mse(fam.relu(x, bias=b), mygrad.tensor(np.ones((N, D)))).backward()
    assert b.grad is not None


def test_inputs_of_all_layouts() -> None:
    x = np.asfortranarray(numbers(N, D).data)[:, ::-1]
    tensor = mygrad.tensor(x, copy=False)
    fam.relu(tensor).backward()
    np.testing.assert_array_equal(tensor.grad, x > 0)
    for shape in ((), (0, 3)):
        tensor = mygrad.tensor(np.ones(shape))
        fam.tanh(tensor).sum().backward()
        np.testing.assert_allclose(tensor.grad, 1 - np.tanh(np.ones(shape)) ** 2)
    assert np.isnan(fam.relu(mygrad.tensor([np.nan, 1.0])).data[0])


def test_gradients_add_up() -> None:
    x = numbers(N, D)
    (fam.tanh(x) + fam.tanh(x)).backward()
    np.testing.assert_allclose(x.grad, 2 * (1 - np.tanh(x.data) ** 2))


def test_newcomer_and_own_functions(newcomer: str) -> None:
    assert newcomer in dir(fam)
    x = numbers(N, D)
    getattr(fam, newcomer)(x).backward()
    np.testing.assert_allclose(x.grad, x.data)
    check(fam.wrap(fa.get("elu", alpha=0.5)), x)


def test_signatures_and_errors() -> None:
    assert "constant" in inspect.signature(fam.gelu).parameters
    assert "residual" in inspect.signature(fam.gelu).parameters
    with pytest.raises(TypeError, match=r"gelu: .*foo"):
        fam.gelu(numbers(3), foo=1)
    with pytest.raises(AttributeError, match="no attribute 'gleu'"):
        fam.gleu  # noqa: B018


def test_threads() -> None:
    def run(seed: int) -> Any:
        x = numbers(30, 40, seed=seed)
        fam.tanh(x).backward()
        return x.grad, 1 - np.tanh(x.data) ** 2

    with ThreadPoolExecutor(4) as pool:
        for found, expected in pool.map(run, range(16)):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
