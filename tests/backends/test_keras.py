"""Keras' NumPy backend with fastact's functions, against itself without and formulas."""

from __future__ import annotations

import inspect
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastact as fa

os.environ.setdefault("KERAS_BACKEND", "numpy")
keras = pytest.importorskip("keras")

from keras import ops
from keras.src.backend.numpy import nn

from fastact.backends import keras as fak

NAMES = sorted(fak.counterparts())
DTYPES = {"bfloat16": 2e-2, "float16": 3e-3, "float32": 2e-6, "float64": 1e-13}
#: Keras to 3.15.1 computes another threshold, and float64 (its issue 23425).
WRONG_IN_KERAS = ("sparsemax",)


def numbers(dtype: str = "float32") -> Any:
    return ops.cast(np.random.default_rng(0).standard_normal((5, 6)) * 3, dtype)


def arguments(name: str) -> tuple[Any, ...]:
    """Return values for the parameters without a default."""
    _, *others = inspect.signature(getattr(nn, name)).parameters.values()
    return tuple(0.5 for each in others if each.default is inspect.Parameter.empty)


def test_all_that_keras_and_the_registry_have() -> None:
    assert len(NAMES) >= 26  # of Keras 3.8; 3.15 has 27
    elsewhere = [fa.get(name)._definition.elsewhere for name in fa.names("activation", "row")]
    claimed = {each["keras"] for each in elsewhere if "keras" in each}
    assert {each for each in claimed if hasattr(nn, each)} <= set(NAMES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_dtypes_are_those_of_keras(name: str, dtype: str) -> None:
    x, more = numbers(dtype), arguments(name)
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    original = getattr(nn, name)
    expected = original(x, *more)
    with fak.patched():
        assert getattr(nn, name) is not original
        found = getattr(nn, name)(x, *more)
    assert getattr(nn, name) is original
    if name in WRONG_IN_KERAS:
        return
    assert found.dtype == expected.dtype
    tolerance = DTYPES[found.dtype.name]
    np.testing.assert_allclose(
        found.astype(float), expected.astype(float), rtol=tolerance, atol=tolerance
    )


def test_parameters_by_keras_names_and_defaults() -> None:
    x = np.linspace(-3, 3, 7).astype(np.float32)
    with fak.patched():
        np.testing.assert_allclose(ops.leaky_relu(x), np.where(x > 0, x, 0.2 * x), rtol=1e-6)
        np.testing.assert_allclose(
            ops.leaky_relu(x, negative_slope=0.5), np.where(x > 0, x, 0.5 * x), rtol=1e-6
        )
        np.testing.assert_allclose(
            ops.soft_shrink(x, 1.5), np.sign(x) * np.maximum(abs(x) - 1.5, 0)
        )
        np.testing.assert_allclose(ops.threshold(x, 1.0, default_value=-7), np.where(x > 1, x, -7))
        tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        np.testing.assert_allclose(ops.gelu(x, approximate=True), tanh, rtol=1e-5)
        assert np.abs(ops.gelu(x, approximate=False) - tanh).max() > 1e-5
        square = numbers()
        exponentials = np.exp(square - square.max())
        shares = ops.softmax(square, axis=(0, 1))
        np.testing.assert_allclose(shares, exponentials / exponentials.sum(), rtol=1e-5)
        with pytest.raises(TypeError, match="slope"):
            nn.leaky_relu(x, slope=0.1)


def test_sparsemax_is_a_projection() -> None:
    x = np.array([[0.0, 0.5, 1.0]], np.float32)
    with fak.patched():
        np.testing.assert_allclose(ops.sparsemax(x), [[0.0, 0.25, 0.75]])


def test_what_fastact_does_not_compute_is_left_to_keras() -> None:
    with fak.patched():
        found = nn.relu(np.array([-2, 3], np.int8))
        np.testing.assert_array_equal(found, np.array([0, 3], np.int8))
        assert found.dtype == np.int8


def test_special_inputs() -> None:
    with fak.patched():
        for x in (np.float32(np.nan), np.zeros((0, 3), np.float32), np.ones((), np.float32)):
            np.testing.assert_array_equal(ops.relu(x), np.maximum(x, 0))
        x = np.asfortranarray(numbers())[:, ::-1]
        x.flags.writeable = False
        np.testing.assert_array_equal(ops.relu(x), np.maximum(x, 0))
        np.testing.assert_allclose(ops.sigmoid([0.0, 1.0]), 1 / (1 + np.exp([0.0, -1.0])))


def test_models_predict_the_same() -> None:
    layers = [keras.layers.Dense(32, activation=each) for each in ("gelu", "silu", "selu")]
    model = keras.Sequential(
        [keras.Input((6,)), *layers, keras.layers.Dense(4), keras.layers.Softmax()]
    )
    expected = model.predict(numbers(), verbose=0)
    with fak.patched():
        found = model.predict(numbers(), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_switch() -> None:
    before = dict(vars(nn))
    fak.patch()
    fak.patch()
    assert nn.gelu is not before["gelu"]
    with fak.patched(), fak.patched():
        fak.unpatch()
        assert nn.gelu is not before["gelu"]  # until the blocks end
    assert vars(nn) == before
    fak.patch()
    with pytest.raises(ZeroDivisionError), fak.patched():
        raise ZeroDivisionError
    assert nn.gelu is not before["gelu"]
    fak.unpatch()
    fak.unpatch()
    assert vars(nn) == before


def test_blocks_of_threads_overlap() -> None:
    before = dict(vars(nn))

    def run(seed: int) -> None:
        with fak.patched():
            assert nn.gelu is not before["gelu"]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(200)))
    assert vars(nn) == before


def test_another_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fak, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="Keras computes with jax; set KERAS_BACKEND=numpy"):
        fak.patch()
    monkeypatch.undo()
    fak.unpatch()
