"""Who competes, and for what: the calls that all benchmarks make, derived from the registry."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact import baseline
from fastact.bench import peers
from fastact.bench.peers import Call

#: The activations that there is a baseline of: those whose history is kept.
ACTIVATIONS = baseline.names()
OPERATIONS = ("forward", "backward", "forward_backward")
#: What stands for each parameter that has no default.
REQUIRED_PARAMETERS = {"weight": 0.25, "pieces": 2, "threshold": 0.5, "value": 0.25}


def required_parameters(name: str) -> dict[str, Any]:
    """Return what a call of the activation `name` cannot do without."""
    return {
        parameter: REQUIRED_PARAMETERS[parameter]
        for parameter, default in fa.get(name).parameters.items()
        if default is inspect.Parameter.empty
    }


class Case:
    """One activation and the arrays that everybody computes it on.

    Parameters
    ----------
    name : str
        The activation's name.
    elements : int
        The length of the input, rounded up to whole groups where there are groups.
    dtype : str
        The type of all arrays.

    Attributes
    ----------
    x, dy : ndarray
        The input, normal deviates times 4, and the gradient by the output. No two runs differ.
    parameters : dict
        The parameters that have no default.
    """

    def __init__(self, name: str, elements: int, dtype: str = "float32") -> None:
        self.name = name
        self.definition = fa.get(name)._definition
        self.parameters = required_parameters(name)
        pieces = self.parameters.get("pieces", 1)
        groups = -(-elements // pieces)
        random = np.random.default_rng(20)
        self.x, self.dy = (
            random.standard_normal(length, dtype=dtype)  # type: ignore[call-overload]
            for length in (groups * pieces, groups)
        )
        self.x *= 4

    def call(self, implementation: str, operation: str, given_outputs: bool = False) -> Call:
        """Return a call without arguments, warmed up: its kernel is compiled.

        Parameters
        ----------
        implementation : str
            One of `IMPLEMENTATIONS`.
        operation : str
            One of `OPERATIONS`.
        given_outputs : bool
            Whether fastact and NumPy write to arrays that exist already, each time the same. The calls
            of the others do not change.

        Raises
        ------
        NotImplementedError
            If the implementation lacks the activation. To asv, this says: skip it.
        """
        call = IMPLEMENTATIONS[implementation].make(self, operation)
        results = call()
        if given_outputs and implementation in NATIVE:
            return partial(call, out=_as_outputs(results))
        return call

    def moved(self, operation: str) -> tuple[int, int, int]:
        """Return how many inputs and outputs an operation has, and the bytes of all together."""
        x, dy = self.x.nbytes, self.dy.nbytes
        return {
            "forward": (1, 1, x + dy),
            "backward": (2, 1, 2 * x + dy),
            "forward_backward": (2, 2, 2 * (x + dy)),
        }[operation]


def _ours(case: Case, operation: str) -> Call:
    return _array_call(fa.get(case.name), case, operation)


def _numpy(case: Case, operation: str) -> Call:
    if case.name not in baseline.names():
        raise NotImplementedError(f"there is no baseline of {case.name}")
    return _array_call(baseline.get(case.name), case, operation)


def _array_call(activation: Any, case: Case, operation: str) -> partial[Any]:
    """Return the call of an object whose methods are those of fastact's activations."""
    arrays: tuple[NDArray[Any], ...]
    if operation == "forward":
        function, arrays = getattr(activation, "forward", activation), (case.x,)
    elif operation == "forward_backward":
        function, arrays = activation.forward_backward, (case.x, case.dy)
    elif hasattr(activation, "forward_with_index"):  # its gradient needs to know the choice
        _, which = activation.forward_with_index(case.x, **case.parameters)
        function, arrays = activation.backward, (case.dy, which)
    else:
        function, arrays = activation.backward, (case.dy, case.x)
    return partial(function, *arrays, **case.parameters)


@dataclass(frozen=True)
class Implementation:
    """One of those who compete.

    Attributes
    ----------
    title : str
        What tables call it.
    packages : tuple of str
        What must be installed for it.
    make : callable
        Takes a `Case` and an operation and returns the call without arguments.
    set_threads : callable, optional
        Takes the number of threads that it may use.
    """

    title: str
    packages: tuple[str, ...]
    make: Callable[[Case, str], Call]
    set_threads: Callable[[int], object] = lambda number: None


#: All who compete. The first two are always there.
IMPLEMENTATIONS = {
    "fastact": Implementation("fastact", ("fastact",), _ours),
    "numpy": Implementation("NumPy", ("numpy",), _numpy),
    "torch": Implementation("PyTorch", ("torch",), peers.torch, peers.set_torch_threads),
    "torch_raw": Implementation("kernels", ("torch",), peers.torch_raw, peers.set_torch_threads),
    "torch_compile": Implementation(
        "compiled", ("torch",), peers.torch_compile, peers.set_torch_threads
    ),
    "jax": Implementation("JAX", ("jax",), peers.jax),
    "numexpr": Implementation("numexpr", ("numexpr",), peers.numexpr, peers.set_numexpr_threads),
    "scipy": Implementation("SciPy", ("scipy",), peers.scipy),
    "thinc": Implementation("thinc", ("thinc",), peers.thinc),
    "onnxruntime": Implementation("ONNX R.", ("onnx", "onnxruntime"), peers.onnxruntime),
}
#: Those that can write to arrays that exist already.
NATIVE = ("fastact", "numpy")


def installed_implementations() -> tuple[str, ...]:
    """Return all implementations that can be measured here."""
    return tuple(
        name for name, each in IMPLEMENTATIONS.items() if all(map(find_spec, each.packages))
    )


def _as_outputs(results: Any) -> Any:
    """Return results as the ``out`` of another call; a number cannot be one."""
    if isinstance(results, tuple):
        return tuple(result if isinstance(result, np.ndarray) else None for result in results)
    return results
