"""The numpy-ml adapter, against numpy-ml's own activations and finite differences."""

from __future__ import annotations

import collections
import collections.abc
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import fastact as fa

with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that gym is missing
    # What release 0.1.2 needs of its users to be imported.
    patch.setattr(collections, "Hashable", collections.abc.Hashable, raising=False)
    numpy_ml = pytest.importorskip("numpy_ml")

from numpy_ml.neural_nets import activations
from numpy_ml.neural_nets.initializers import ActivationInitializer
from numpy_ml.neural_nets.layers import FullyConnected
from representatives import with_long

from fastact.backends import numpy_ml as fanm
from fastact.backends._exports import class_name

POINTWISE = [name for name in fa.names("activation") if "derivative" in fa.get(name).operations]


def numbers(*shape: int) -> Any:
    """Return numbers away from the kinks."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.05, 0.4, shape) * rng.choice([-1, 1], shape)


def of(name: str) -> Any:
    return getattr(fanm, class_name(name))(**fa.get(name)._definition.required_parameters)


@pytest.mark.parametrize("name", with_long(POINTWISE))
def test_derivatives(name: str) -> None:
    x, step = numbers(4, 5), 1e-6
    x = abs(x) if name == "log1mexp" else x
    activation = of(name)
    expected = (activation.fn(x + step) - activation.fn(x - step)) / (2 * step)
    np.testing.assert_allclose(activation.grad(x), expected, rtol=1e-5, atol=1e-8)
    expected = (activation.grad(x + step) - activation.grad(x - step)) / (2 * step)
    np.testing.assert_allclose(activation.grad2(x), expected, rtol=1e-5, atol=1e-7)


PEERS = {
    "Sigmoid": activations.Sigmoid(),
    "Tanh": activations.Tanh(),
    "Relu": activations.ReLU(),
    "Selu": activations.SELU(),
    "Softplus": activations.SoftPlus(),
    "Exponential": activations.Exponential(),
}


@pytest.mark.parametrize("name", PEERS)
def test_against_numpy_ml(name: str) -> None:
    x, found = numbers(4, 5), getattr(fanm, name)()
    np.testing.assert_allclose(found(x), PEERS[name](x), rtol=1e-13)
    np.testing.assert_allclose(found.grad(x), PEERS[name].grad(x), rtol=1e-12)
    np.testing.assert_allclose(found.grad2(x), PEERS[name].grad2(x), rtol=1e-10, atol=1e-14)
    assert found(x[0]).shape == (1, 5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_are_kept(dtype: Any) -> None:
    x = numbers(4, 5).astype(dtype)
    for activation in (fanm.Gelu(), fanm.LeakyRelu(negative_slope=0.1), fanm.Elu(alpha=0.5)):
        for method in (activation.fn, activation.grad, activation.grad2):
            assert method(x).dtype == dtype


def test_in_layers() -> None:
    """The gradient of a layer and what its own second backward pass makes of the second derivative."""
    X, step = numbers(4, 5), 1e-6
    layer = FullyConnected(3, act_fn=fanm.Gelu())
    y = layer.forward(X)
    dX = layer.backward(np.ones_like(y))
    W, b = layer.parameters["W"], layer.parameters["b"]

    def value(X: Any) -> Any:
        return fa.gelu(X @ W + b).sum()

    direction = numbers(4, 5)
    expected = (value(X + step * direction) - value(X - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(dX * direction), expected, rtol=1e-6)
    *_, ddB = layer._bwd2(np.ones((4, 5)), X, np.ones((4, 3)))
    second = fa.gelu.second_derivative(X @ W + b)
    np.testing.assert_allclose(ddB, np.sum(np.ones((4, 5)) @ W * second, axis=0, keepdims=True))


def test_by_name() -> None:
    original = ActivationInitializer.init_from_str
    with pytest.raises(ValueError, match="Unknown activation"):
        FullyConnected(3, act_fn="gelu")
    with fanm.patched():
        layer = FullyConnected(3, act_fn="elu(alpha=0.5)")
        np.testing.assert_allclose(layer.act_fn(np.array([-1.0])), [[0.5 * np.expm1(-1)]])
        assert isinstance(FullyConnected(3, act_fn="ReLU").act_fn, fanm.Activation)
        for theirs in ("Leaky ReLU(alpha=0.3)", "Affine(slope=2, intercept=1)"):
            assert not isinstance(FullyConnected(3, act_fn=theirs).act_fn, fanm.Activation)
        with pytest.raises(ValueError, match="Unknown activation: gleu"):
            FullyConnected(3, act_fn="gleu")
        name = str(fanm.Elu(alpha=0.25))  # what summaries of layers keep
        assert str(FullyConnected(3, act_fn=name).act_fn) == name
    assert ActivationInitializer.init_from_str is original
    fanm.patch()
    assert str(FullyConnected(3, act_fn="swish").act_fn) == "silu"
    fanm.unpatch()
    assert ActivationInitializer.init_from_str is original


def test_pickle_and_bound_functions() -> None:
    x = numbers(4, 5)
    for activation in (
        fanm.LeakyRelu(negative_slope=0.2),
        fanm.Activation(fa.get("elu", alpha=0.5)),
    ):
        copy = pickle.loads(pickle.dumps(activation))
        np.testing.assert_array_equal(copy.grad(x), activation.grad(x))
        assert str(copy) == str(activation)


def test_newcomer_and_errors(newcomer: str) -> None:
    assert "Newcomer" in dir(fanm)
    x = numbers(4, 5)
    np.testing.assert_allclose(fanm.Newcomer().fn(x), x * x / 2)
    np.testing.assert_allclose(fanm.Newcomer().grad2(x), np.ones_like(x))
    with pytest.raises(TypeError, match="maxout is no function of elements"):
        fanm.Activation("maxout")
    with pytest.raises(TypeError, match="unknown parameter 'alpha'"):
        fanm.Relu(alpha=1)
