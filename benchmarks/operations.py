"""Time and memory of the operations, fastact and the NumPy baseline in one plot."""

from __future__ import annotations

from functools import lru_cache

from fastact.bench.contenders import ACTIVATIONS, NATIVE, make_call
from fastact.bench.peers import Call
from fastact.bench.workloads import Workload

SIZES = (1_000, 100_000, 10_000_000)


@lru_cache(maxsize=1)
def prepare(
    activation: str,
    implementation: str,
    elements: int,
    operation: str,
    dtype: str,
    given_outputs: bool,
) -> Call:
    """Return the call to measure, cached because asv repeats the setup before each sample."""
    work = Workload.of(activation, (elements,), dtype)
    return make_call(work, implementation, operation, given_outputs)


class _Operation:
    """Base class: every activation in both implementations."""

    version = "1"
    param_names = ("activation", "implementation", "elements")
    params: tuple[tuple[object, ...], ...] = (ACTIVATIONS, NATIVE, SIZES)
    operation = "forward_backward"
    dtype = "float32"
    given_outputs = True

    def setup(self, activation: str, implementation: str, elements: int) -> None:
        self.call = prepare(
            activation, implementation, elements, self.operation, self.dtype, self.given_outputs
        )

    def time_call(self, activation: str, implementation: str, elements: int) -> None:
        self.call()


class Forward(_Operation):
    """The value, into a given array."""

    operation = "forward"


class Backward(_Operation):
    """The gradient of the input, into a given array."""

    operation = "backward"


class ForwardBackward(_Operation):
    """Value and gradient in one call, into given arrays."""


class ForwardBackwardFloat64(_Operation):
    """The same in double precision."""

    dtype = "float64"
    params = (*_Operation.params[:2], SIZES[1:2])


class ForwardBackwardFreshOutputs(_Operation):
    """The same into new arrays, for which the operating system must clear pages."""

    given_outputs = False
    params = (*_Operation.params[:2], SIZES[-1:])

    def peakmem_call(self, activation: str, implementation: str, elements: int) -> None:
        self.call()
