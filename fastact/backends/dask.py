"""dask arrays: functions that compute chunk by chunk, when the result is needed.

Each function of the registry is here under its name, with its operations; `wrap` adapts other functions. Several results
are computed in one pass over each chunk.

Examples
--------
>>> import dask.array as da
>>> import fastact.backends.dask as fd
>>> x = da.ones((1000, 50), chunks=(100, 25))
>>> fd.softmax(x, axis=1).chunksize  # a row is in one chunk
(50, 50)
>>> y, dx = fd.gelu.forward_backward(x, x)
>>> dx.chunksize
(100, 25)
"""

from __future__ import annotations

from fastact.backends._requirements import require

require(__name__)

import math
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from fastact.backends._calls import Adapted, Request, arrays_of, as_tuple, main_array, unpacked
from fastact.backends._chunks import Chunks
from fastact.backends._exports import exports
from fastact.catalogue.definition import ElementwiseLossDefinition
from fastact.functions.cross_entropy import Classes, classes_of
from fastact.functions.losses import loss_shape
from fastact.functions.options import REDUCTION
from fastact.runtime.dtypes import inner_type


def wrap(function: Any) -> Adapted:
    """Return a function of fastact for dask arrays.

    Parameters
    ----------
    function : Function
        A function of the registry, bound or not, or one's own.

    Returns
    -------
    Adapted
        Takes dask arrays, also mixed with NumPy's, and returns dask arrays.

    Examples
    --------
    >>> import dask.array as da
    >>> import fastact.backends.dask as fd
    >>> elu = fd.wrap(fa.get("elu", alpha=0.5))
    >>> elu(da.ones(3)).compute()
    array([1., 1., 1.])
    """
    return Adapted(function, run)


__getattr__, __dir__ = exports(__name__, wrap)


def run(request: Request) -> Any:
    """Make a call lazily, and return its results."""
    if request.has("out"):
        raise TypeError(f"{request.caller}: dask arrays are immutable: it takes no out here")
    if REDUCTION.name not in request.operation.arguments:
        return Chunks(request).results()
    reduction = request.option(REDUCTION.name)
    loss_shape(request.caller, reduction, ())  # which checks it
    return Chunks(request).results() if reduction == "none" else _reduced(request)


def _reduced(request: Request) -> Any:
    """Return the results of a loss with a reduction: each chunk gives a sum."""
    arrays = arrays_of(request)
    main = main_array(request, arrays)
    x = da.asarray(arrays[main])
    # In half precision, the sum of a chunk may be too large.
    inner = inner_type(x.dtype) if x.dtype.kind == "f" else x.dtype
    divisor = _divisor(request, x) if request.option(REDUCTION.name) == "mean" else 1.0
    given = {main: x.astype(inner), REDUCTION.name: "sum"}
    if "dloss" in request.operation.arguments:
        given["dloss"] = da.asarray(request.option("dloss")) / divisor
    results = as_tuple(Chunks(request.updated(given)).results())

    def rounded(array: Any) -> Any:
        return array.astype(x.dtype) if inner != x.dtype else array

    def finished(name: str | None, result: Any) -> Any:
        if not isinstance(result, da.Array):
            return lambda dloss=1.0: unpacked(
                map(rounded, as_tuple(result(da.asarray(dloss) / divisor)))
            )
        return rounded((result / divisor).astype(result.dtype) if name == "loss" else result)

    return unpacked(map(finished, request.results(len(results)), results))


def _divisor(request: Request, x: Any) -> Any:
    """Return the divisor of a mean: the number of elements or rows, or their total weight."""
    definition, weight = request.function._definition, request.given.get("weight")
    if isinstance(definition, ElementwiseLossDefinition):
        if weight is None or not definition.mean_by_weight:
            return x.size
        return da.asarray(weight).sum(dtype=float) * (x.size / max(1, np.size(weight)))
    axis, targets = request.option("axis"), request.given["targets"]
    is_composite = "class_weight" in request.operation.arguments
    count = len(request.given["weight"]) if is_composite else x.shape[axis]
    if np.ndim(targets) == x.ndim:
        return math.prod(x.shape) / x.shape[-1 if is_composite else axis]
    name = "class_weight" if is_composite else "weight"
    weights = None if request.given.get(name) is None else np.asarray(request.given[name])
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(float)
    ignored = request.option("ignore_index")
    classes = classes_of(request.caller, count, dtype, weights, ignored, 0.0, name)
    labels = da.asarray(targets)
    ones = tuple((1,) * len(each) for each in labels.chunks)
    return labels.map_blocks(partial(_total, classes), chunks=ones, dtype=float).sum()


def _total(classes: Classes, labels: Any) -> Any:
    return np.full((1,) * labels.ndim, classes.divisor(labels, False, labels.shape))
