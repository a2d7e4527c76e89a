"""pandas: functions of rows or columns of DataFrames, and of several results, that keep index, columns and missing values.

Activations of elements take Series and DataFrames without this module: ``fa.gelu(frame)``. Here each function of the
registry is under its name, with its operations; `wrap` adapts other functions.

Examples
--------
>>> import pandas as pd
>>> import fastact.backends.pandas as fp
>>> scores = pd.DataFrame({"cat": [0.0, 2.0], "dog": [0.0, 2.0]}, index=["one", "two"])
>>> fp.softmax(scores, axis="columns")  # each row
     cat  dog
one  0.5  0.5
two  0.5  0.5
>>> fp.relu(pd.Series([-1.0, None, 3.0], dtype="Float32"))
0     0.0
1    <NA>
2     3.0
dtype: Float32
"""

from __future__ import annotations

from fastact.backends._requirements import require

require(__name__)

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionDtype

from fastact.backends._calls import Adapted, Request, as_tuple, main_array, unpacked, whole_axes
from fastact.backends._exports import exports

_AXES = {"index": 0, "rows": 0, "columns": 1}  # as pandas names them


def wrap(function: Any) -> Adapted:
    """Return a function of fastact for Series and DataFrames.

    Parameters
    ----------
    function : Function
        A function of the registry, bound or not, or one's own.

    Returns
    -------
    Adapted
        Takes Series and DataFrames, also mixed with arrays of NumPy's. A missing value counts as NaN.
    """
    return Adapted(function, _run)


__getattr__, __dir__ = exports(__name__, wrap)


def _run(request: Request) -> Any:
    axis = request.given.get("axis")
    if isinstance(axis, str):
        if axis not in _AXES:
            raise ValueError(
                f"{request.caller}: axis must be one of {', '.join(_AXES)}, got {axis!r}"
            )
        request = request.updated({"axis": _AXES[axis]})
    return _Labelled(request).results()


class _Labelled:
    """A call on Series and DataFrames.

    Attributes
    ----------
    request : Request
        The call.
    frames : dict of str to Series or DataFrame
        The arguments with labels.
    """

    def __init__(self, request: Request) -> None:
        given = request.given.items()
        self.frames = {k: v for k, v in given if isinstance(v, pd.Series | pd.DataFrame)}
        self.request, self._main = request, self.frames[main_array(request, self.frames)]
        for name, frame in self.frames.items():
            self._check_labels(name, frame)

    def results(self) -> Any:
        """Return the results, with their labels."""
        plain = {name: _values(frame) for name, frame in self.frames.items()}
        results = self.request.updated(plain).compute()
        return unpacked(map(self._labelled, self.request.results(len(results)), results))

    def _check_labels(self, name: str, frame: Any) -> None:
        """Raise an error if the labels are not those of the largest frame, as nothing is aligned."""
        main = self._main.axes
        for k, own in enumerate(frame.axes):
            axes = [main[k]] if frame.ndim == len(main) else main
            alike = [each for each in axes if len(each) == len(own)]
            if alike and not any(map(own.equals, alike)):
                raise ValueError(
                    f"{self.request.caller}: the labels of {name} differ from those of the largest argument: "
                    "align them first, or pass plain arrays"
                )

    def _labelled(self, name: str | None, result: Any) -> Any:
        """Return a result with the labels of the axes that it has."""
        if callable(result):
            return partial(self._pull_back, result)
        of, axes, dimensions = (name or "").removeprefix("d"), self._main.axes, np.ndim(result)
        if of != name and self.request.has(of):  # a gradient
            return (
                _wrapped(result, self.frames[of].axes, self.frames[of])
                if of in self.frames
                else result
            )
        if dimensions < len(axes):
            whole = whole_axes(self.request, len(axes))
            axes = [each for k, each in enumerate(axes) if k not in whole][:dimensions]
        lengths = zip(axes, np.shape(result), strict=True)
        axes = [each if len(each) == n else pd.RangeIndex(n) for each, n in lengths]
        return _wrapped(result, axes, self._main) if dimensions else result

    def _pull_back(self, vjp: Any, *gradients: Any) -> Any:
        """Return the gradients with respect to the inputs, given those with respect to the results."""
        given = [
            _values(each) if isinstance(each, pd.Series | pd.DataFrame) else each
            for each in gradients
        ]
        names = [f"d{name}" for name in self.request.differentiable()]
        return unpacked(map(self._labelled, names, as_tuple(vjp(*given))))


def _values(frame: Any) -> Any:
    """Return the numbers of a Series or DataFrame as an array, NaN where one is missing."""
    kinds = frame.dtypes if frame.ndim > 1 else [frame.dtype]
    if not any(isinstance(each, ExtensionDtype) for each in kinds):
        return frame.to_numpy()
    if frame.ndim > 1:
        return np.column_stack([_values(frame.iloc[:, k]) for k in range(frame.shape[1])])
    kind = getattr(frame.dtype, "numpy_dtype", np.dtype(object))
    if kind.kind in "iub" and frame.hasnans:
        kind = np.dtype(float)
    return frame.to_numpy(kind, na_value=np.nan) if kind.kind == "f" else frame.to_numpy(kind)


def _wrapped(array: Any, axes: list[Any], like: Any) -> Any:
    """Return an array with labels, in columns of the kinds of another frame."""
    kinds = list(like.dtypes) if like.ndim > 1 else [like.dtype]
    others = [each for each in kinds if isinstance(each, ExtensionDtype)]
    if len(axes) == 1:
        name = like.name if like.ndim == 1 else None
        return pd.Series(_column(array, others[0] if others else None), axes[0], name=name)
    if not others:
        return pd.DataFrame(array, *axes)
    kinds = kinds if len(kinds) == array.shape[1] else [others[0]] * array.shape[1]
    columns = {k: _column(array[:, k], kind) for k, kind in enumerate(kinds)}
    return pd.DataFrame(columns, axes[0]).set_axis(axes[1], axis=1)


def _column(values: Any, kind: Any) -> Any:
    """Return values as an array of a kind, in which NaN are missing."""
    if not isinstance(kind, ExtensionDtype) or values.dtype.kind != "f":
        return values
    values = values.astype(np.result_type(values, np.float32), copy=False)
    mask = np.isnan(values)
    array = pd.arrays.FloatingArray(values, mask)
    if isinstance(kind, pd.ArrowDtype):
        return array.astype("float[pyarrow]" if values.itemsize == 4 else "double[pyarrow]")
    return array
