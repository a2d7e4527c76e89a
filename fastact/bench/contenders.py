"""The competing implementations, and the calls that all benchmarks measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from inspect import signature
from typing import Any

import numpy as np

import fastact as fa
from fastact import baseline
from fastact.bench import numba_loops, peers
from fastact.bench.peers import Call
from fastact.bench.workloads import Workload

#: The activations with a baseline by hand.
ACTIVATIONS = baseline.names()
OPERATIONS = ("forward", "backward", "forward_backward")
# Their baselines need the normal distribution.
_WITH_SCIPY = ("gelu", "geglu")


def _fastact(work: Workload, operation: str) -> Call:
    function = fa.get(work.name)
    # PyTorch's kernels and the loops of Numba too compute a gradient from the value where that is enough.
    takes_value = (
        "backward_from_output" in function.operations and not function._definition.learnable
    )
    if operation == "backward" and takes_value and not work.has_bias:
        y = function(*work.inputs, **work.parameters)
        return partial(function.backward_from_output, work.dy, y, **work.parameters)
    return method_call(function, work, operation)


def _numpy(work: Workload, operation: str) -> Call:
    function: Any = getattr(baseline, work.name, None)
    if function is None or not _fits(function, work):
        raise NotImplementedError(f"there is no baseline of {work.title}")
    if work.name in _WITH_SCIPY and find_spec("scipy") is None:
        raise NotImplementedError(f"the baseline of {work.name} needs SciPy")
    return method_call(function, work, operation)


def _fits(function: Any, work: Workload) -> bool:
    """Whether a baseline is one of the function with, or without, a bias; gelu's requires it."""
    if work.has_bias:
        return "bias" in signature(function.forward).parameters
    return work.is_pointwise == (work.name in baseline.names())


def method_call(function: Any, work: Workload, operation: str) -> Call:
    """Return a call of an object with the methods of fastact's functions."""
    inputs, parameters = [*work.inputs], dict(work.parameters)
    if work.has_bias:
        parameters["bias"] = inputs.pop()
    if operation == "forward":
        method = getattr(function, "forward", function)
        return partial(method, *inputs, *work.constants, **parameters)
    if operation == "forward_backward":
        if not hasattr(function, "forward_backward"):
            return partial(_by_vjp, function, inputs, work.dys)
        return partial(function.forward_backward, *inputs, *work.others, **parameters)
    if hasattr(function, "forward_with_index"):  # its gradient takes the index
        _, which = function.forward_with_index(*inputs, **parameters)
        return partial(function.backward, work.dy, which, **parameters)
    backward = fa.get(work.name).operations["backward"]
    names = fa.get(work.name).operations["forward"].inputs
    given = dict(zip(names, (*inputs, *work.constants), strict=False))
    if "y" in backward.saved:
        given["y"] = function(*inputs, **parameters)
    saved = (given[name] for name in backward.saved if name in given)
    taken = signature(function.backward).parameters  # gumbel_softmax's takes no rng
    parameters = {name: value for name, value in parameters.items() if name in taken}
    return partial(function.backward, *(work.dys or (1.0,)), *saved, **parameters)


def _by_vjp(function: Any, inputs: Sequence[Any], dys: Sequence[Any]) -> tuple[Any, ...]:
    """Return values and gradients of what has only passes of their own: recurrent cells."""
    *values, vjp = function.vjp(*inputs)
    return *values, *_as_tuple(vjp(*dys))


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def _keep_threads(number: int) -> None:
    """Leave the number of threads of a library that has no setting for it."""


@dataclass(frozen=True)
class Implementation:
    """An implementation that competes.

    Attributes
    ----------
    title : str
        The column heading in tables.
    packages : tuple of str
        The packages it needs.
    make : callable
        Takes a `Workload` and an operation and returns a call without arguments.
    set_threads : callable, optional
        Sets the number of threads.
    only_activations : bool
        Whether it has neither functions of rows nor layers nor a bias.
    takes_outputs : bool
        Whether its calls take existing arrays as ``out``.
    name : str
        What it is called where there is room; by default the title.
    """

    title: str
    packages: tuple[str, ...]
    make: Callable[[Workload, str], Call]
    set_threads: Callable[[int], object] = _keep_threads
    only_activations: bool = True
    takes_outputs: bool = False
    name: str = ""


#: All implementations. The first three are always available.
IMPLEMENTATIONS = {
    "fastact": Implementation(
        "fastact", ("fastact",), _fastact, fa.set_num_threads, False, takes_outputs=True
    ),
    "numpy": Implementation(
        "NumPy", ("numpy",), _numpy, only_activations=False, takes_outputs=True
    ),
    "numba": Implementation(
        "Numba", ("numba",), numba_loops.numba, numba_loops.set_threads, takes_outputs=True
    ),
    "torch": Implementation("PyTorch", ("torch",), peers.torch, peers.set_torch_threads, False),
    "torch_raw": Implementation(
        "kernels", ("torch",), peers.torch_raw, peers.set_torch_threads, name="PyTorch's kernels"
    ),
    "torch_compile": Implementation(
        "compiled", ("torch",), peers.torch_compile, peers.set_torch_threads, name="torch.compile"
    ),
    "jax": Implementation("JAX", ("jax",), peers.jax, only_activations=False),
    "numexpr": Implementation("numexpr", ("numexpr",), peers.numexpr, peers.set_numexpr_threads),
    "scipy": Implementation("SciPy", ("scipy",), peers.scipy),
    "thinc": Implementation("thinc", ("thinc",), peers.thinc),
    "onnxruntime": Implementation("ONNX R.", ("onnx", "onnxruntime"), peers.onnxruntime),
}
#: Those that need nothing but fastact.
NATIVE = ("fastact", "numpy")


def installed_implementations(*, of_layers: bool = False) -> tuple[str, ...]:
    """Return the implementations that are installed; for rows and layers, those that have any."""
    return tuple(
        name
        for name, each in IMPLEMENTATIONS.items()
        if all(map(find_spec, each.packages)) and not (of_layers and each.only_activations)
    )


def make_call(
    work: Workload, implementation: str, operation: str, given_outputs: bool = False
) -> Call:
    """Return a call without arguments, warmed up: its kernel is compiled.

    Parameters
    ----------
    work : Workload
        The function and its arrays.
    implementation : str
        One of `IMPLEMENTATIONS`.
    operation : str
        One of `OPERATIONS`.
    given_outputs : bool
        Whether implementations that can write to existing arrays do so, the same in every call. The
        others always return new ones.

    Raises
    ------
    NotImplementedError
        If the implementation lacks the function.
    """
    return warm_call(IMPLEMENTATIONS[implementation], work, operation, given_outputs)


def warm_call(
    implementation: Implementation, work: Workload, operation: str, given_outputs: bool
) -> Call:
    """Return the same of an implementation that is an object."""
    call = implementation.make(work, operation)
    results = call()
    if given_outputs and implementation.takes_outputs:
        return partial(call, out=_as_outputs(results))
    return call


def _as_outputs(results: Any) -> Any:
    """Return results as the ``out`` of another call; scalars become None."""
    if isinstance(results, tuple):
        return tuple(map(_as_outputs, results))
    return results if isinstance(results, np.ndarray) else None
