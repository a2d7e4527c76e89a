"""xarray: labels, attributes and names of dimensions; lazily over dask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastact as fa

pytest.importorskip("xarray")

import xarray as xr
from array_cases import Case, check

import fastact.backends.xarray as fx


@pytest.mark.parametrize("lazily", [False, True], ids=["numpy", "dask"])
def test_every_operation(case: Case, lazily: bool) -> None:
    if lazily:
        pytest.importorskip("dask.array")
    if case.draws and lazily:
        pytest.skip("chunks draw numbers of their own")

    def own(array: Any) -> Any:
        if array.shape == (7, 8):  # the weights of a layer
            found = xr.DataArray(array, dims=("class", "feature"))
        else:
            dims = (
                ("sample", "feature")
                if array.ndim > 1
                else ("sample" if len(array) == 6 else "feature",)
            )
            found = xr.DataArray(array, dims=dims)
        return found.chunk(dict.fromkeys(found.dims, 4)) if lazily else found

    def plain(result: Any) -> Any:
        assert isinstance(result, xr.DataArray)
        assert not lazily or result.chunks is not None
        return result.values

    check(case, getattr(fx, case.name), own, plain)


@pytest.fixture
def signal() -> Any:
    values = np.random.default_rng(0).standard_normal((4, 6, 5))
    coords = {"n": [3, 1, 2, 9], "label": ("n", list("wxyz")), "c": list("abcdef")}
    return xr.DataArray(
        values, dims=("n", "c", "t"), coords=coords, attrs={"units": "V"}, name="signal"
    )


def test_labels_attributes_and_name(signal: Any) -> None:
    y, dx = fx.gelu.forward_backward(signal, signal)
    for each in (
        y,
        dx,
        fa.gelu(signal),
        fx.softmax(signal, dim="c"),
        *fx.gelu.value_and_derivative(signal),
    ):
        xr.testing.assert_identical(each, signal.copy(data=each.values))
    assert fx.gelu(signal, keep_attrs=False).attrs == {}
    with xr.set_options(keep_attrs=False):
        assert fx.gelu(signal).attrs == {}
    assert fx.gelu(signal, keep_attrs=True).attrs == signal.attrs


@pytest.mark.parametrize("lazily", [False, True], ids=["numpy", "dask"])
def test_dimensions_by_name(signal: Any, lazily: bool) -> None:
    if lazily:
        pytest.importorskip("dask.array")
        signal = signal.chunk({"n": 2, "c": 4})
    y = fx.softmax(signal, dim="c")
    e = np.exp(signal)
    xr.testing.assert_allclose(y, e / e.sum("c"))
    reduced = fx.logsumexp(signal, dim=["c", "t"])
    xr.testing.assert_allclose(reduced, np.log(e.sum(["c", "t"])))
    assert list(reduced.coords) == ["n", "label"]
    assert fx.logsumexp(signal, dim=...).ndim == 0
    assert fx.logsumexp(signal, dim="c", keepdims=True).sizes["c"] == 1
    half = fx.glu(signal, dim="c")
    assert half.sizes == {"n": 4, "c": 3, "t": 5}
    assert "c" not in half.coords
    normal = fx.layer_norm(signal, dim="t")
    xr.testing.assert_allclose(normal.mean("t"), 0 * signal.mean("t"), atol=1e-12)


def test_other_arrays_are_matched_by_name(signal: Any) -> None:
    bias = xr.DataArray(np.arange(6.0), dims="c", coords={"c": signal.c})
    dy = signal.transpose("t", "n", "c")
    y, dx, dbias = fx.tanh.forward_backward(signal, dy, bias=bias)
    xr.testing.assert_allclose(y, np.tanh(signal + bias))
    right = signal * (1 - np.tanh(signal + bias) ** 2)
    xr.testing.assert_allclose(dx, right)
    xr.testing.assert_allclose(dbias, right.sum(["n", "t"]))
    labels = xr.DataArray(np.arange(20).reshape(5, 4) % 6, dims=("t", "n"), coords={"n": signal.n})
    losses = fx.softmax_cross_entropy(signal, labels, dim="c", reduction="none")
    picked = np.log(np.exp(signal).sum("c")) - signal.isel(c=labels).drop_vars("c")
    xr.testing.assert_allclose(losses, picked.transpose("n", "t"))
    mask = xr.DataArray(np.arange(6) < 3, dims="c", coords={"c": signal.c})
    inside = np.exp(signal).where(mask, 0)
    xr.testing.assert_allclose(fx.softmax(signal, dim="c", where=mask), inside / inside.sum("c"))


def test_gradients_later(signal: Any) -> None:
    weight = xr.DataArray(np.arange(6.0), dims="c", coords={"c": signal.c})
    y, vjp = fx.prelu.vjp(signal, weight=weight)
    dx, dweight = vjp(signal.transpose("t", "n", "c"))
    xr.testing.assert_allclose(y, signal.where(signal > 0, signal * weight))
    xr.testing.assert_allclose(dx, signal * xr.ones_like(signal).where(signal > 0, weight))
    xr.testing.assert_allclose(dweight, (signal**2).where(signal <= 0, 0).sum(["n", "t"]))


def test_datasets(signal: Any) -> None:
    data = xr.Dataset({"a": signal, "b": signal.isel(t=0, drop=True)}, attrs={"title": "T"})
    y = fx.softmax(data, dim="c")
    xr.testing.assert_identical(y.b, fx.softmax(data.b, dim="c"))
    assert y.attrs == data.attrs
    y, dx = fx.gelu.forward_backward(data, data)
    xr.testing.assert_identical(dx.a, fx.gelu.backward(data.a, data.a))
    y, vjp = fx.gelu.vjp(data)
    xr.testing.assert_identical(vjp(data).a, fx.gelu.vjp(data.a)[1](data.a))


def test_dask_stays_lazy(signal: Any) -> None:
    da = pytest.importorskip("dask.array")

    def never(block: Any) -> Any:
        raise AssertionError("computed")

    x = signal.copy(data=da.map_blocks(never, da.zeros((4, 6, 5)), meta=np.zeros((0, 0, 0))))
    for y in (*fx.gelu.forward_backward(x, x), fx.softmax(x, dim="c"), fx.mse(x, x)):
        assert y.chunks is not None
    with pytest.raises(AssertionError, match="computed"):
        y.compute()


def test_errors_are_one_line(signal: Any) -> None:
    for call, text in (
        (lambda: fx.softmax(signal, dim="k"), "no dimension 'k'; the dimensions are n, c, t"),
        (lambda: fx.softmax(signal, dim=("n", "k")), "no dimension 'k'"),
        (lambda: fx.softmax(signal, dim="c", axis=1), "either dim or axis"),
        (lambda: fx.mse(signal, signal, dim="c"), "takes no 'dim'"),
        (lambda: fx.gelu(signal, residual=signal.rename(t="k")), "dimension 'k'"),
        (lambda: fx.gelu(np.ones(3)), "none of its inputs"),
    ):
        with pytest.raises((TypeError, ValueError), match=text) as raised:
            call()
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="align"):
        fx.gelu.backward(signal.isel(n=[1, 0, 2, 3]), signal)
