"""Calls of elementwise kernels on arrays that broadcast, with gradients summed to the arrays' own shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import as_returned, broadcast_shape, float_type, outputs_for, sum_into
from fastact.arrays.plans import MAX_BYTES, Call, KernelPlan, Plan, are_plain, is_number
from fastact.runtime.dtypes import inner_type
from fastact.runtime.output_pool import empty, with_output_pool
from fastact.runtime.replays import Input, Output


@dataclass(eq=False, repr=False)
class BroadcastCall(Call):
    """A call of an elementwise kernel, some of whose results are gradients with respect to its arrays.

    Attributes
    ----------
    caller : str
        The operation's name in error messages.
    ufunc : numpy.ufunc
        The kernel's ufunc.
    arrays : dict of str to ndarray
        Its arrays by name, in its order.
    of : sequence of str or None
        For each result, in its order, the array whose gradient it is; None for a value.
    order : sequence of int
        The positions of its results in the order in which the call returns them.
    out : ndarray or tuple, optional
        Where the results go.
    parameters : dict of str to Any
        Its other inputs: numbers and arrays.
    """

    caller: str
    ufunc: np.ufunc
    arrays: Mapping[str, NDArray[Any]]
    of: Sequence[str | None]
    order: Sequence[int]
    out: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        """Make the call and return the results."""
        given = list(self.arrays.values())
        parameters = {name: np.asarray(value) for name, value in self.parameters.items()}
        shape = broadcast_shape(self.caller, {**self.arrays, **parameters})
        arrays = [*given, *(each for each in parameters.values() if each.ndim)]
        dtype = float_type(arrays, arrays)
        inner = inner_type(dtype)
        inputs = [
            *given,
            *(each if each.ndim else each.astype(inner) for each in parameters.values()),
        ]
        shapes = tuple(
            self.arrays[each].shape if each else shape for each in self._returned(self.of)
        )
        results = outputs_for(self.caller, self.out, shapes, (dtype,) * len(shapes))
        buffers = [each if each.shape == shape else empty(shape, dtype) for each in results]
        written: list[Any] = [None] * len(buffers)
        for k, buffer in zip(self.order, buffers, strict=True):
            written[k] = buffer
        with_output_pool(self.ufunc, *inputs, out=tuple(written), casting="same_kind")
        for result, buffer in zip(results, buffers, strict=True):
            if buffer is not result:
                sum_into(result, buffer)
        return as_returned(results, self.out)

    def _returned(self, results: Sequence[Any]) -> list[Any]:
        """Return results of the kernel in the order in which the call returns them."""
        return [results[k] for k in self.order]

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for arrays of one shape and dtype, and parameters that are numbers."""
        given, parameters = list(self.arrays.values()), self.parameters.values()
        dtype = given[0].dtype
        if (
            self.out is not None
            or not are_plain(given, dtype, limit=MAX_BYTES)
            or not all(map(is_number, parameters))
        ):
            return None
        if any(each.shape != given[0].shape for each in given):
            return None
        shape, inner, returned = given[0].shape, inner_type(dtype), self._returned
        first, finish = -len(self.of), None
        if [*self.order] != [*range(len(self.of))]:

            def finish(*given: Any) -> Any:
                return tuple(returned(given[first:]))

        inputs = [
            *(Input(positions[name]) for name in self.arrays),
            *(Input(np.asarray(each, inner)) for each in parameters),
        ]
        return KernelPlan(self.ufunc, inputs, [Output(shape, dtype)] * len(self.of), finish)
