"""Layer classes: the book's own, written out, and finite differences for every function."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from representatives import REPRESENTATIVES, with_long

import fastact as fa
from fastact.backends import layers
from fastact.backends.layers import KINDS, Affine, Layer

# One of each kind of layer.
STAND_FOR_ALL = (
    *REPRESENTATIVES,
    *("rrelu", "silu", "threshold", "softmax", "logsumexp", "hardmax", "gumbel_softmax", "crelu"),
    *fa.names("dropout", "normalization", "loss"),
    "swiglu",
)
ROWS, COLUMNS = 6, 8
STEP = 1e-6
LABELS = np.array([0, 7, 2, 2, 5, 1])


def numbers(*shape: int, seed: int = 0) -> Any:
    """Return float64 numbers away from the kinks at 0, 0.5 and 1."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.05, 0.4, shape) * rng.choice([-1, 1], shape)


def softmax(x: Any) -> Any:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def class_of(name: str) -> Any:
    """Return the class of a function, by its name with capitals."""
    return getattr(layers, "".join(part.capitalize() for part in name.split("_")))


def made(name: str) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """Return a layer, its differentiable inputs and its other ones."""
    function, x = fa.get(name), numbers(ROWS, COLUMNS)
    values = {"pieces": 2, "weight": np.full(COLUMNS, 0.3), "threshold": 0.2, "value": -0.7}
    values |= {"rng": 3}
    if name == "linear_cross_entropy":
        return class_of(name)(numbers(5, COLUMNS, seed=2)), (x,), (LABELS % 5,)
    required = inspect.signature(class_of(name)).parameters
    options = {n: values[n] for n in values if n in required}
    if function.kind != "activation":
        options.pop("weight", None)
    if "dropout" in function.operations["vjp"].option_names and name != "rrelu":
        options.pop("rng", None)
    if name == "log1mexp":
        x = abs(x)
    if function.kind != "loss":
        return class_of(name)(**options), (x,), ()
    if "ignore_index" not in function.operations["forward"].option_names:
        return class_of(name)(**options), (x,), (abs(numbers(ROWS, COLUMNS, seed=1)),)
    probabilities = softmax(x)
    x = {"nll": np.log(probabilities), "cross_entropy": probabilities}.get(name, x)
    return class_of(name)(**options), (x,), (LABELS,)


def check(call: Callable[..., Any], array: Any, gradient: Any, upstream: Any) -> None:
    """Compare a gradient with central differences in a random direction."""
    direction = np.random.default_rng(5).standard_normal(np.shape(array))
    above, below = call(array + STEP * direction), call(array - STEP * direction)
    expected = np.sum(upstream * (above - below)) / (2 * STEP)
    np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("name", with_long(fa.names(*KINDS), STAND_FOR_ALL))
def test_every_function_has_a_layer_with_its_gradient(name: str) -> None:
    layer, inputs, others = made(name)
    y = layer.forward(*inputs, *others)
    upstream = numbers(*np.shape(y), seed=4)
    if name in ("hardmax", "threshold"):
        assert not np.any(layer.backward(upstream)[inputs[0] < 0])
        return
    found = layer.backward(upstream)
    gradients = found if isinstance(found, tuple) else (found,)
    for k, gradient in enumerate(gradients):
        assert gradient.shape == inputs[k].shape
        check(lambda x: layer.forward(x, *others), inputs[k], gradient, upstream)


@pytest.mark.parametrize("name", with_long(fa.names(*KINDS), STAND_FOR_ALL))
def test_layers_pickle(name: str) -> None:
    layer, inputs, others = made(name)
    y = layer.forward(*inputs, *others)
    upstream = numbers(*np.shape(y), seed=4)
    copy = pickle.loads(pickle.dumps(layer))
    assert type(copy) is type(layer)
    np.testing.assert_array_equal(copy.backward(upstream), layer.backward(upstream))
    np.testing.assert_array_equal(copy.forward(*inputs, *others), y)


def test_the_names_are_those_of_the_registry() -> None:
    listed = dir(layers)
    for name in fa.names(*KINDS):
        assert "".join(part.capitalize() for part in name.split("_")) in listed
    assert layers.Swish is layers.Silu
    assert layers.HardTanh is layers.Hardtanh
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        layers.Nothing  # noqa: B018


def test_newcomer(newcomer: str) -> None:
    assert "Newcomer" in dir(layers)
    x, layer = numbers(3), layers.Newcomer()
    np.testing.assert_allclose(layer.forward(x), x * x / 2)
    np.testing.assert_allclose(layer.backward(x), x * x)
    assert layers.NewOne is layers.Newcomer


def test_signatures_are_the_functions_own() -> None:
    assert next(iter(inspect.signature(layers.Softmax).parameters)) == "axis"
    assert "negative_slope" in inspect.signature(layers.LeakyRelu).parameters
    for name in ("out", "x", "casting", "residual"):
        assert name not in inspect.signature(layers.LeakyRelu).parameters
    with pytest.raises(TypeError, match=r"LeakyRelu: .*slope"):
        layers.LeakyRelu(slope=0.1)
    with pytest.raises(TypeError, match=r"Prelu: .*weight"):
        layers.Prelu()


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x[:, ::-1], np.asfortranarray])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_relu_is_the_books(dtype: Any, make: Callable[[Any], Any]) -> None:
    x = make(np.array([[-1.0, 0.0, 2.0], [np.nan, 3.0, -0.0]], dtype))
    x.flags.writeable = False
    layer = layers.Relu()
    y = layer.forward(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.where(x <= 0, 0, x))
    dout = np.full(x.shape, 2, dtype)
    np.testing.assert_array_equal(layer.backward(dout)[~np.isnan(x)], 2.0 * (x > 0)[~np.isnan(x)])
    assert (dout == 2).all()  # unlike the book's, it leaves dout alone


@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0)])
def test_empty_and_single_numbers(shape: tuple[int, ...]) -> None:
    layer = layers.Sigmoid()
    x = np.zeros(shape)
    np.testing.assert_array_equal(layer.forward(x), 0.5 * np.ones(shape))
    np.testing.assert_array_equal(layer.backward(np.ones(shape)), 0.25 * np.ones(shape))


def test_integers_become_floats() -> None:
    layer = layers.Tanh()
    np.testing.assert_allclose(layer.forward(np.arange(3)), np.tanh(np.arange(3)), rtol=1e-6)


def test_learnable_parameters_have_gradients() -> None:
    x, upstream = numbers(ROWS, COLUMNS), numbers(ROWS, COLUMNS, seed=4)
    layer = layers.Prelu(np.full(COLUMNS, 0.25))
    layer.forward(x)
    layer.backward(upstream)
    np.testing.assert_allclose(layer.dweight, np.sum(upstream * np.minimum(x, 0), axis=0))
    layer = layers.Relu(bias=np.full(COLUMNS, 0.1))
    np.testing.assert_allclose(layer.forward(x), np.maximum(x + 0.1, 0))
    layer.backward(upstream)
    np.testing.assert_allclose(layer.dbias, np.sum(upstream * (x + 0.1 > 0), axis=0))
    layer = layers.LayerNorm(weight=np.full(COLUMNS, 2.0), bias=np.ones(COLUMNS), eps=0.0)
    scaled = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    np.testing.assert_allclose(layer.forward(x), 2 * scaled + 1)
    layer.backward(upstream)
    np.testing.assert_allclose(layer.dweight, np.sum(upstream * scaled, axis=0))
    np.testing.assert_allclose(layer.dbias, np.sum(upstream, axis=0))


def test_weights_of_a_loss_are_learned() -> None:
    weight, x = numbers(5, COLUMNS, seed=2), numbers(ROWS, COLUMNS)
    layer = layers.LinearCrossEntropy(weight)
    layer.forward(x, LABELS % 5)
    layer.backward()

    def loss(weight: Any) -> Any:
        return -np.mean(np.log(softmax(x @ weight.T)[np.arange(ROWS), LABELS % 5]))

    check(loss, weight, layer.dweight, 1.0)


def test_gates_take_two_arrays() -> None:
    first, second = numbers(2, ROWS, COLUMNS)
    layer, upstream = layers.Bilinear(), numbers(ROWS, COLUMNS, seed=4)
    np.testing.assert_allclose(layer.forward(first, second), first * second)
    dfirst, dsecond = layer.backward(upstream)
    np.testing.assert_allclose(dfirst, upstream * second)
    np.testing.assert_allclose(dsecond, upstream * first)


def test_batches_have_running_statistics() -> None:
    x = numbers(ROWS, COLUMNS)
    layer = layers.BatchNorm(running_mean=np.zeros(COLUMNS), running_var=np.ones(COLUMNS))
    layer.forward(x, True)
    np.testing.assert_allclose(layer.running_mean, 0.1 * x.mean(axis=0))
    np.testing.assert_allclose(layer.running_var, 0.9 + 0.1 * x.var(axis=0, ddof=1))
    expected = (x - layer.running_mean) / np.sqrt(layer.running_var + 1e-5)
    np.testing.assert_allclose(layer.forward(x, False), expected)


def test_own_functions_and_bound_ones() -> None:
    x = numbers(ROWS, COLUMNS)
    layer = Layer(fa.get("elu", alpha=0.5))
    np.testing.assert_allclose(layer.forward(x), np.where(x > 0, x, 0.5 * np.expm1(x)))
    assert (
        repr(Layer("leaky_relu", negative_slope=0.2)) == "<layer 'leaky_relu', negative_slope=0.2>"
    )


def test_what_is_random_follows_the_seed_and_stops_in_inference() -> None:
    x = np.ones((50, 50))
    for layer in (layers.Relu(dropout=0.5), layers.AlphaDropout(0.5), layers.Dropout(0.5)):
        np.random.seed(7)  # noqa: NPY002
        y = layer.forward(x)
        np.random.seed(7)  # noqa: NPY002
        np.testing.assert_array_equal(layer.forward(x, True), y)
        assert (layer.forward(x, train_flg=True) != y).any()
        assert np.unique(layer.forward(x, False)).size == 1
    layer = layers.Rrelu()
    assert np.unique(layer.forward(-x)).size > 100
    np.testing.assert_allclose(layer.forward(-x, False), -x * (1 / 8 + 1 / 3) / 2)


def test_dropout_is_the_books() -> None:
    """It scales in inference, not in training."""
    x = numbers(50, 50)
    layer = layers.Dropout(0.3)
    y = layer.forward(x, True)
    kept = y != 0
    assert 0.6 < kept.mean() < 0.8
    np.testing.assert_allclose(y[kept], x[kept], rtol=1e-14)
    np.testing.assert_allclose(layer.backward(np.ones_like(x)), kept * 1.0, rtol=1e-14)
    np.testing.assert_allclose(layer.forward(x, False), 0.7 * x, rtol=1e-14)


@pytest.mark.parametrize("shape", [(ROWS, COLUMNS), (ROWS, 2, 3, 4)])
def test_batch_normalization_is_the_books(shape: tuple[int, ...]) -> None:
    x, upstream = numbers(*shape), numbers(*shape, seed=4)
    rows, dout = x.reshape(ROWS, -1), upstream.reshape(ROWS, -1)
    gamma, beta = np.linspace(1, 2, rows.shape[1]), np.linspace(-1, 1, rows.shape[1])
    layer = layers.BatchNormalization(gamma, beta)
    centered = rows - rows.mean(axis=0)
    std = np.sqrt(np.mean(centered**2, axis=0) + 10e-7)
    out = layer.forward(x, True)
    assert out.shape == shape
    np.testing.assert_allclose(out.reshape(ROWS, -1), gamma * centered / std + beta)
    np.testing.assert_allclose(layer.running_mean, 0.1 * rows.mean(axis=0))
    np.testing.assert_allclose(layer.running_var, 0.1 * rows.var(axis=0))
    dx = layer.backward(upstream)
    dxn = gamma * dout
    dstd = -np.sum(dxn * centered / std**2, axis=0)
    dxc = dxn / std + centered * dstd / std / ROWS
    np.testing.assert_allclose(dx.reshape(ROWS, -1), dxc - dxc.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(layer.dgamma, np.sum(dout * centered / std, axis=0))
    np.testing.assert_allclose(layer.dbeta, dout.sum(axis=0))
    out = layer.forward(x, False).reshape(ROWS, -1)
    expected = (rows - layer.running_mean) / np.sqrt(layer.running_var + 10e-7)
    np.testing.assert_allclose(out, gamma * expected + beta)


def test_softmax_with_loss_is_the_books() -> None:
    """Labels and one-hot rows give the same; the book adds 1e-7 to each probability."""
    x = numbers(ROWS, COLUMNS)
    probabilities = softmax(x)
    one_hot = np.eye(COLUMNS, dtype=int)[LABELS]
    for targets in (LABELS, one_hot):
        layer = layers.SoftmaxWithLoss()
        loss = layer.forward(x, targets)
        expected = -np.sum(np.log(probabilities[np.arange(ROWS), LABELS] + 1e-7)) / ROWS
        assert loss == pytest.approx(expected, rel=1e-6)
        assert layer.loss == loss
        np.testing.assert_allclose(layer.backward(), (probabilities - one_hot) / ROWS)
        np.testing.assert_allclose(layer.backward(2), 2 * (probabilities - one_hot) / ROWS)


@pytest.mark.parametrize("activation", [None, "tanh", "softmax", "layer_norm", "maxout"])
def test_affine_with_an_activation(activation: str | None) -> None:
    x, W, b = numbers(ROWS, 2, 4), numbers(COLUMNS, 6, seed=1), numbers(6, seed=2)
    options = {"pieces": 2} if activation == "maxout" else {}
    layer = Affine(W, b, activation=activation, **options)
    product = x.reshape(ROWS, -1) @ W + b
    y = layer.forward(x)
    expected: Any = {
        None: lambda z: z,
        "tanh": np.tanh,
        "softmax": softmax,
        "layer_norm": lambda z: (
            (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)
        ),
        "maxout": lambda z: z.reshape(ROWS, -1, 2).max(axis=-1),
    }[activation]
    np.testing.assert_allclose(y, expected(product), atol=1e-14)
    upstream = numbers(*y.shape, seed=4)
    dx = layer.backward(upstream)
    assert dx.shape == x.shape
    check(lambda x: expected(x.reshape(ROWS, -1) @ W + b), x, dx, upstream)
    check(lambda W: expected(x.reshape(ROWS, -1) @ W + b), W, layer.dW, upstream)
    check(lambda b: expected(x.reshape(ROWS, -1) @ W + b), b, layer.db, upstream)


def test_affine_with_dropout_in_the_same_pass() -> None:
    x, W = numbers(50, COLUMNS), numbers(COLUMNS, 6, seed=1)
    layer = Affine(W, np.zeros(6), activation="relu", dropout=0.5)
    value = np.maximum(x @ W, 0)
    y = layer.forward(x, True)
    assert ((y == 0) | np.isclose(y, 2 * value)).all()
    np.testing.assert_allclose(layer.forward(x, False), value)


def test_layers_of_threads_are_their_own() -> None:
    def run(seed: int) -> Any:
        x, layer = numbers(40, 50, seed=seed), layers.Tanh()
        layer.forward(x)
        return layer.backward(np.ones_like(x)), 1 - np.tanh(x) ** 2

    with ThreadPoolExecutor(4) as pool:
        for found, expected in pool.map(run, range(16)):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
