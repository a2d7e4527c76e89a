"""xarray: functions that keep labels, and take dimensions by name.

Each function of the registry is here under its name, with its operations; `wrap` adapts other functions. Arrays of dask
stay lazy.

Examples
--------
>>> import xarray as xr
>>> import fastact.backends.xarray as fx
>>> scores = xr.DataArray(np.zeros((2, 4)), dims=("sample", "class"), coords={"sample": [7, 8]})
>>> fx.softmax(scores, dim="class").sizes
Frozen({'sample': 2, 'class': 4})
>>> fx.logsumexp(scores, dim="class")
<xarray.DataArray (sample: 2)> Size: 16B
array([1.38629436, 1.38629436])
Coordinates:
  * sample   (sample) int64 16B 7 8
"""

from __future__ import annotations

from fastact.backends._requirements import require

require(__name__)

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from fastact.backends import _calls
from fastact.backends._calls import Adapted, Request, as_tuple, main_array, unpacked
from fastact.backends._exports import exports
from fastact.catalogue.definition import CompositeDefinition
from fastact.functions.options import WHERE


def wrap(function: Any) -> Adapted:
    """Return a function of fastact for DataArrays and Datasets.

    Parameters
    ----------
    function : Function
        A function of the registry, bound or not, or one's own.

    Returns
    -------
    Adapted
        Takes ``dim=``, a name or several, in place of ``axis=``, and ``keep_attrs=`` as `xarray.apply_ufunc` does.
    """
    return Adapted(function, _run, ("dim", "keep_attrs"))


__getattr__, __dir__ = exports(__name__, wrap)


def _run(request: Request, dim: Any = None, keep_attrs: Any = None) -> Any:
    if any(isinstance(each, xr.Dataset) for each in request.given.values()):
        return _run_on_each(request, dim, keep_attrs)
    return _Labelled(request, dim, keep_attrs).results()


def _run_on_each(request: Request, dim: Any, keep_attrs: Any) -> Any:
    """Return Datasets of the results for each variable."""
    sets = {name: v for name, v in request.given.items() if isinstance(v, xr.Dataset)}
    like = next(iter(sets.values()))
    found = {
        variable: _run(request.updated({k: v[variable] for k, v in sets.items()}), dim, keep_attrs)
        for variable in like.data_vars
    }
    return _datasets(found, like, keep_attrs)


def _datasets(found: dict[Any, Any], like: xr.Dataset, keep_attrs: Any) -> Any:
    """Return the results of each variable as Datasets, and functions as one of Datasets."""

    def joined(each: dict[Any, Any]) -> Any:
        if not callable(next(iter(each.values()), None)):
            return like.map(lambda array: each[array.name], keep_attrs=keep_attrs)
        return lambda *given: _datasets(
            {k: vjp(*(v[k] for v in given)) for k, vjp in each.items()}, like, keep_attrs
        )

    columns = zip(*map(as_tuple, found.values()), strict=True)
    return unpacked(joined(dict(zip(found, each, strict=True))) for each in columns)


class _Labelled:
    """A call on DataArrays.

    Attributes
    ----------
    request : Request
        The call, with the dimensions as axes of the largest array.
    arrays : dict of str to DataArray
        The arguments with labels, with dimensions in the order of the largest array.
    dims : tuple of hashable
        The dimensions of the largest array.
    """

    def __init__(self, request: Request, dim: Any, keep_attrs: Any) -> None:
        arrays = {k: v for k, v in request.given.items() if isinstance(v, xr.DataArray)}
        self._main, self._keep_attrs = arrays[main_array(request, arrays)], keep_attrs
        self.dims = self._main.dims
        if dim is not None:
            request = request.updated({"axis": _axes(request, dim, self.dims)})
        self.request = request
        self.arrays = {name: self._in_order(name, each) for name, each in arrays.items()}

    def results(self) -> Any:
        """Return the results, with their labels."""
        results = _computed(self._plain())
        return unpacked(map(self._labelled, self.request.results(len(results)), results))

    def _in_order(self, name: str, array: Any) -> Any:
        unknown = [str(each) for each in array.dims if each not in self.dims]
        if not unknown:
            return array.transpose(*(each for each in self.dims if each in array.dims))
        if isinstance(self.request.function._definition, CompositeDefinition):
            return array
        raise ValueError(
            f"{self.request.caller}: {name} has the dimension {unknown[0]!r}, the largest array only "
            f"{', '.join(map(str, self.dims))}"
        )

    def _plain(self) -> Request:
        """Return the request with the arrays below the labels."""
        broadcasts = _calls.is_elementwise(self.request.function._definition)
        given = {}
        for name, array in self.arrays.items():
            variable = array.variable
            if broadcasts or name == WHERE.name:
                variable = variable.set_dims(self.dims).transpose(*self.dims)
            given[name] = variable.data
        return self.request.updated(given)

    def _labelled(self, name: str | None, result: Any) -> Any:
        """Return a result with the labels of the dimensions that it has."""
        if callable(result) and not hasattr(result, "ndim"):
            return partial(self._pull_back, result)
        of, dims = (name or "").removeprefix("d"), self.dims
        if of != name and of in self.arrays:  # a gradient
            array = self.arrays[of]
            dims, result = array.dims, result.reshape(array.shape)
        elif np.ndim(result) < len(dims):
            whole = _calls.whole_axes(self.request, len(dims))
            dims = tuple(each for k, each in enumerate(dims) if k not in whole)
            dims = dims if np.ndim(result) else ()
        arrays = list(self.arrays.values())
        lengths = dict(zip(dims, np.shape(result), strict=True))
        other = {d for each in arrays for d, n in each.sizes.items() if lengths.get(d, n) != n}
        return xr.apply_ufunc(
            lambda *_: result,
            *arrays,
            input_core_dims=[each.dims for each in arrays],
            output_core_dims=[dims],
            exclude_dims=other,
            dask="allowed",
            keep_attrs=self._keep_attrs,
        )

    def _pull_back(self, vjp: Any, *gradients: Any) -> Any:
        """Return the gradients with respect to the inputs, given those with respect to the results."""
        in_order = (
            self._in_order("dy", each).data if isinstance(each, xr.DataArray) else each
            for each in gradients
        )
        names = [f"d{name}" for name in self.request.differentiable()]
        return unpacked(map(self._labelled, names, as_tuple(vjp(*in_order))))


def _axes(request: Request, dim: Any, dims: tuple[Any, ...]) -> Any:
    """Return the axes of dimensions, or raise an error that names one that there is not."""
    if "axis" not in request.operation.arguments:
        raise TypeError(f"{request.caller} takes no 'dim'")
    if request.has("axis"):
        raise TypeError(f"{request.caller}: pass either dim or axis")
    if dim is ...:
        return None
    is_one = isinstance(dim, str) or dim in dims
    for each in (dim,) if is_one else dim:
        if each not in dims:
            known = ", ".join(map(str, dims))
            raise ValueError(
                f"{request.caller}: there is no dimension {each!r}; the dimensions are {known}"
            )
    return dims.index(dim) if is_one else tuple(map(dims.index, dim))


def _computed(request: Request) -> tuple[Any, ...]:
    """Return the results of a call on arrays of NumPy, or lazily if one is of dask."""
    if any(hasattr(each, "__dask_graph__") for each in request.given.values()):
        from fastact.backends import dask

        return as_tuple(dask.run(request))
    return request.compute()
