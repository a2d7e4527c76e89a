"""The gradients of a taped call: a `fastact.functions.vjp.Vjp` as tapes use it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastact.functions.fused import RESIDUAL
from fastact.functions.vjp import Vjp


class Kind(NamedTuple):
    """The shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: Any) -> Kind:
        """Return those of an array or a number."""
        array = array if hasattr(array, "dtype") else np.asarray(array)
        return cls(array.shape, array.dtype)

    def zeros(self) -> NDArray[Any]:
        """Return an array of zeros."""
        return np.zeros(self.shape, self.dtype)

    def fit(self, gradient: Any) -> Any:
        """Return a gradient of this shape, and of this dtype unless that holds integers."""
        if gradient.dtype != self.dtype and self.dtype.kind not in "iub":
            gradient = gradient.astype(self.dtype)
        return gradient if gradient.shape == self.shape else gradient.reshape(self.shape)


class Pullback:
    """The gradients of a taped call, as a function of those with respect to its results.

    Parameters
    ----------
    call : TapedCall
        The call.
    vjp : Vjp
        What fastact returned.
    inputs, results : sequence of ndarray
        Its inputs and results.

    Attributes
    ----------
    count : int
        How many of the results have gradients; running averages, which follow, have none.
    options : mapping of str to Any
        The options of the gradient; inputs may be among them.
    saved : tuple of ndarray
        The arrays that it keeps, some of which may be inputs or results. They must not be modified. A tape may keep them
        its own way, and set this to an empty tuple.
    """

    __slots__ = ("_call", "_inputs", "_results", "_vjp", "count", "options", "saved")

    def __init__(self, call: Any, vjp: Vjp, inputs: Sequence[Any], results: Sequence[Any]) -> None:
        self._call, self._inputs = call, list(map(Kind.of, inputs))
        self._vjp = partial(Vjp, vjp._recipe, options=vjp.options)
        self.saved, self.options, self.count = vjp.saved, vjp.options, len(vjp.gradients)
        self._results = list(map(Kind.of, results[: self.count]))

    def __call__(self, *gradients: Any, saved: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """Compute the gradients with respect to the inputs of the call, with their shapes and dtypes.

        Parameters
        ----------
        *gradients : ndarray or None
            The gradient with respect to each result; None for 0. Those of results without a gradient, such as running
            averages, are ignored.
        saved : tuple of ndarray, optional
            What `saved` was.
        """
        pairs = zip(gradients, self._results, strict=False)
        dys = [result.zeros() if dy is None else dy for dy, result in pairs]
        found = self._vjp(saved=self.saved if saved is None else saved)(*dys)
        each = iter(found if isinstance(found, tuple) else (found,))
        by_name = {
            n: dys[0] if n == RESIDUAL.name else next(each) for n in self._call.differentiable
        }
        pairs = zip(self._call.inputs, self._inputs, strict=True)
        return tuple([kind.fit(by_name[name]) for name, kind in pairs])
