"""A function that is added to the registry appears in every adapter by itself."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

import fastact as fa

OF_ARRAYS = ["array_api", "autograd", "dask", "functional", "jax", "pandas", "xarray"]


def adapter(name: str) -> Any:
    return pytest.importorskip(f"fastact.backends.{name}", exc_type=ImportError)


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_functions(newcomer: str, name: str) -> None:
    module, x = adapter(name), np.array([1.0, 3.0])
    if name in ("pandas", "xarray"):
        x = getattr(import_module(name), {"pandas": "Series", "xarray": "DataArray"}[name])(x)
    if name == "functional":
        y, cache = getattr(module, f"{newcomer}_forward")(x)
        np.testing.assert_array_equal(module.__getattr__(f"{newcomer}_backward")(x, cache), x * x)
    else:
        assert newcomer in dir(module)
        y = getattr(module, newcomer)(x)
    np.testing.assert_allclose(np.asarray(y), [0.5, 4.5])


def test_torch(newcomer: str) -> None:
    torch = pytest.importorskip("torch")
    functional = adapter("torch").functional
    assert newcomer in dir(functional)
    x = torch.tensor([1.0, 3.0], requires_grad=True)
    getattr(functional, newcomer)(x).sum().backward()
    assert x.grad.tolist() == [1.0, 3.0]
    module = import_module("fastact.backends.torch").Newcomer
    assert module()(x).tolist() == [0.5, 4.5]


@pytest.mark.parametrize("name", ["layers", "mygrad", "dezero", "numpy_ml"])
def test_classes_and_operations(newcomer: str, name: str) -> None:
    module = adapter(name)
    assert {newcomer, newcomer.capitalize()} & set(dir(module))


def test_by_name(newcomer: str) -> None:
    sklearn = adapter("sklearn")
    net = sklearn.MLPRegressor(
        hidden_layer_sizes=[4], activation=newcomer, max_iter=3, random_state=0, tol=0.0
    )
    with pytest.warns(UserWarning, match="converged"):
        assert np.isfinite(net.fit([[0.0], [1.0]], [0.0, 1.0]).predict([[0.5]])).all()


def test_in_thinc(newcomer: str) -> None:
    layer = adapter("thinc").activation(newcomer)
    y, backprop = layer.begin_update(np.array([[1.0, 3.0]], np.float32))
    np.testing.assert_array_equal(y, [[0.5, 4.5]])
    np.testing.assert_array_equal(backprop(np.ones_like(y)), [[1.0, 3.0]])


@pytest.mark.parametrize("name", ["astropy", "unyt"])
def test_quantities(newcomer: str, name: str) -> None:
    module = adapter(name)
    module.register(fa.get(newcomer))
    library = import_module("astropy.units" if name == "astropy" else "unyt")
    ratio = (
        library.Quantity([1.0, 3.0], "m/m") if name == "astropy" else library.unyt_array([1.0, 3.0])
    )
    np.testing.assert_array_equal(np.asarray(fa.get(newcomer)(ratio)), [0.5, 4.5])
