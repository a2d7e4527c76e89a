"""Functions of arrays that hold two halves along an axis: gated linear units and concatenated activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_axis,
    as_real_array,
)
from fastact.arrays.broadcast import BroadcastCall
from fastact.arrays.packed import PackedCall
from fastact.arrays.plans import Call
from fastact.catalogue.definition import ConcatenatedDefinition, GateDefinition
from fastact.functions.function import Function
from fastact.functions.operation import SUMMARIES, Family, Operation
from fastact.functions.options import AXIS, DY, OUT, Argument, array, gradient
from fastact.functions.pointwise import multiplication
from fastact.kernels.kernel import Elementwise, Kernel, Operand, Packed

_HALVES = ("2", "n")
_RAISES = {
    "TypeError": "If an input is not real.",
    "ValueError": "If the axis is out of bounds or its length is odd, or shapes or `out` do not match.",
}


def _kernel(inputs: str, outputs: str, halves: tuple[str, ...], compute: Any) -> Kernel:
    """Return a kernel over rows, where the operands in `halves` hold two halves."""
    read, written = (
        tuple(Operand(name, _HALVES if name in halves else ("n",)) for name in names.split())
        for names in (inputs, outputs)
    )
    return Kernel(read, written, Packed(compute))


def _call(
    caller: str,
    ufunc: Any,
    kernel: Kernel,
    arrays: dict[str, NDArray[Any]],
    shapes: dict[str, tuple[int, ...]],
    axis: int,
    out: Any,
    given_as: Mapping[str, str] = MappingProxyType({}),
    **order: bool,
) -> PackedCall:
    """Return the call of a ufunc on all rows, with outputs of these shapes.

    `given_as` has the arguments that are called otherwise than the kernel's inputs.
    """
    for each in kernel.inputs:
        if arrays[each.name].shape != shapes[each.name]:
            raise ValueError(
                f"{caller}: {each.name} has shape {arrays[each.name].shape}, the output has "
                f"{shapes[each.name]}"
            )
    inputs = {given_as.get(each.name, each.name): arrays[each.name] for each in kernel.inputs}
    results = tuple(shapes[each.name] for each in kernel.outputs)
    parts = [2 if each.core == _HALVES else 1 for each in kernel.operands]
    return PackedCall(caller, ufunc, inputs, results, parts, axis, out, **order)


def family(definition: GateDefinition | ConcatenatedDefinition) -> Family:
    """Return the family of a definition."""
    if isinstance(definition, GateDefinition):
        return _gate_family(definition)
    return _concatenated_family(definition)


# Concatenated activations ------------------------------------------------------------------------


def _concatenated(f: Any) -> Any:
    return lambda x: (f(x)[0], f(-x)[0])


def _concatenated_backward(f: Any) -> Any:
    times = multiplication(f)
    return lambda right, left, x: (times(right, f(x)[1]) - times(left, f(-x)[1]),)


def _concatenated_forward_backward(f: Any) -> Any:
    times = multiplication(f)

    def operation(x: Any, right: Any, left: Any) -> Any:
        one, other = f(x), f(-x)
        return one[0], other[0], times(right, one[1]) - times(left, other[1])

    return operation


_CONCATENATED: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "forward": ("x", "y", _concatenated),
    "backward": ("dy x", "dx", _concatenated_backward),
    "forward_backward": ("x dy", "y dx", _concatenated_forward_backward),
}
_CONCATENATED_ARRAYS = {"x": array("x", "The input, of a real dtype."), "dy": DY}
_CONCATENATED_RETURNS = {
    "y": "The value, with the shape of `x` but twice the length along the axis.",
    "dx": "The gradient with respect to the input, with its shape.",
}
_CONCATENATED_EXAMPLES = {
    "vjp": """\
>>> y, vjp = {f}.vjp([-1.0, 3.0])
>>> vjp([1.0, 2.0, 3.0, 4.0])
array([-3.,  2.])""",
    "backward": """\
>>> {f}.backward([1.0, 2.0, 3.0, 4.0], [-1.0, 3.0])
array([-3.,  2.])""",
    "forward_backward": """\
>>> y, dx = {f}.forward_backward([-1.0, 3.0], [1.0, 2.0, 3.0, 4.0])
>>> y
array([0., 3., 1., 0.])
>>> dx
array([-3.,  2.])""",
}


def _concatenated_family(definition: ConcatenatedDefinition) -> Family:
    def kernel(name: str) -> Kernel:
        inputs, outputs, compute = _CONCATENATED[name]
        return _kernel(inputs, outputs, ("y", "dy"), lambda: compute(definition.function))

    def operation(name: str) -> Operation:
        inputs, outputs, _ = _CONCATENATED[name]
        arrays = tuple(_CONCATENATED_ARRAYS[each] for each in inputs.split())
        returns = {each: _CONCATENATED_RETURNS[each] for each in outputs.split()}

        def run(
            function: Function,
            operation: Operation,
            given: tuple[Any, ...],
            options: dict[str, Any],
        ) -> Any:
            caller = function.caller(name)
            named = zip(operation.inputs, given, strict=True)
            found = {each: as_real_array(caller, each, value) for each, value in named}
            x = found["x"]
            axis = as_axis(caller, options.get("axis", -1), x.ndim)
            wide = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
            shapes = {"x": x.shape, "dx": x.shape, "y": wide, "dy": wide}
            ufunc = function.kernels[name]
            declared = function._family.kernel(name)
            return _call(caller, ufunc, declared, found, shapes, axis, options.get("out"))

        example = _CONCATENATED_EXAMPLES.get(name, "")
        return Operation(
            name, SUMMARIES[name], arrays, (AXIS, OUT), returns, run, _RAISES, example=example
        )

    return Family(
        {name: operation(name) for name in _CONCATENATED},
        tuple(_CONCATENATED),
        kernel,
        vjp_example=_CONCATENATED_EXAMPLES["vjp"],
    )


# Gates -------------------------------------------------------------------------------------------

_GATES = ("first", "second")
_PACKED = "_packed"
_GATE = Argument(
    "gate",
    '{"first", "second"}, optional',
    "Which half is the gate. The default depends on the unit; its docstring states it.",
    annotation='Literal["first", "second"] | None',
)
_INTERLEAVED = Argument(
    "interleaved",
    "bool, default False",
    "Whether the halves are the elements at even and at odd positions.",
    False,
    "bool",
)
_X = array(
    "x",
    "Both halves along `axis`, whose length must be even; or the first half, if `second` is given.",
)
_SECOND = array(
    "second",
    "The second half; it broadcasts with `x`.",
    "array_like, optional",
    None,
)
_SECOND_OR_DY = array(
    "second",
    "The second half; or without `dy`, the gradient with respect to the output: ``(x, dy)`` or ``(first, second, dy)``.",
)
_LAST_DY = gradient("dy", DY.text, "array_like, optional", None)


def _gate(f: Any) -> Any:
    times = multiplication(f)
    return lambda gate, value: (times(value, f(gate)[0]),)


def _gate_backward(f: Any) -> Any:
    times = multiplication(f)

    def operation(dy: Any, gate: Any, value: Any) -> Any:
        opening = f(gate)
        return times(dy * value, opening[1]), times(dy, opening[0])

    return operation


def _gate_forward_backward(f: Any) -> Any:
    times = multiplication(f)

    def operation(gate: Any, value: Any, dy: Any) -> Any:
        opening = f(gate)
        gradients = times(dy * value, opening[1]), times(dy, opening[0])
        return times(value, opening[0]), *gradients

    return operation


_GATED: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "forward": ("x", "y", _gate),
    "backward": ("dy x", "dx", _gate_backward),
    "forward_backward": ("x dy", "y dx", _gate_forward_backward),
}
_GATED_ARRAYS = {
    "forward": (_X, _SECOND),
    "backward": (DY, _X, _SECOND),
    "forward_backward": (_X, _SECOND_OR_DY, _LAST_DY),
}
_GATED_RETURNS = {
    "y": "The value, with the shape of one half.",
    "dx": "The gradient with respect to `x`, packed like `x`; for two arrays a tuple of both gradients.",
}
_GATED_EXAMPLES = {
    "vjp": """\
>>> x, dy = np.array([1.0, -2.0, 3.0, 4.0]), np.array([1.0, 0.5])
>>> y, vjp = {f}.vjp(x)
>>> np.array_equal(vjp(dy), {f}.backward(dy, x))
True""",
    "backward": """\
>>> x, dy = np.array([1.0, -2.0, 3.0, 4.0]), np.array([1.0, 0.5])
>>> dx = {f}.backward(dy, x)
>>> dfirst, dsecond = {f}.backward(dy, x[:2], x[2:])
>>> np.array_equal(dx, [*dfirst, *dsecond])
True""",
    "forward_backward": """\
>>> x, dy = np.array([1.0, -2.0, 3.0, 4.0]), np.array([1.0, 0.5])
>>> y, dx = {f}.forward_backward(x, dy)
>>> np.array_equal(y, {f}(x))
True
>>> np.array_equal(dx, {f}.backward(dy, x))
True""",
}
_PARTS = {"x": ("gate", "value"), "dx": ("dgate", "dvalue")}


def _parts(names: str) -> list[str]:
    """Return names in which the two halves, gate first, replace a packed operand."""
    return [part for name in names.split() for part in _PARTS.get(name, (name,))]


def _gate_family(definition: GateDefinition) -> Family:
    def kernel(key: str) -> Kernel:
        inputs, outputs, compute = _GATED[key.removesuffix(_PACKED)]
        if key.endswith(_PACKED):
            return _kernel(inputs, outputs, ("x", "dx"), lambda: compute(definition.function))
        read, written = (tuple(map(Operand, _parts(names))) for names in (inputs, outputs))
        return Kernel(read, written, Elementwise(lambda: compute(definition.function)))

    def operation(name: str) -> Operation:
        _, outputs, _ = _GATED[name]
        returns = {each: _GATED_RETURNS[each] for each in outputs.split()}
        options = (AXIS, _INTERLEAVED, _GATE, OUT)
        return Operation(
            name,
            SUMMARIES[name],
            _GATED_ARRAYS[name],
            options,
            returns,
            _run_gate,
            _RAISES,
            example=_GATED_EXAMPLES.get(name, ""),
        )

    return Family(
        {name: operation(name) for name in _GATED},
        tuple(_GATED),
        kernel,
        others=tuple(name + _PACKED for name in _GATED),
        vjp_example=_GATED_EXAMPLES["vjp"],
    )


def _run_gate(
    function: Function, operation: Operation, given: tuple[Any, ...], options: dict[str, Any]
) -> Call:
    """Return the call of an operation on one packed array or on two arrays."""
    caller, definition, name = function.caller(operation.name), function._definition, operation.name
    assert isinstance(definition, GateDefinition)
    gate = options.get("gate") or definition.gate
    if gate not in _GATES:
        raise ValueError(f"{caller}: gate must be one of {_GATES}, got {gate!r}")
    values, given_as = dict(zip(operation.inputs, given, strict=True)), {}
    if name == "forward_backward" and values["dy"] is None:
        values |= {"second": None, "dy": values["second"]}
        given_as = {"dy": "second"}
    arrays = {
        each: as_real_array(caller, each, value)
        for each, value in values.items()
        if not (each == "second" and value is None)
    }
    gate_first, out = gate == "first", options.get("out")
    if "second" in arrays:
        return _on_two(function, name, arrays, gate_first, out)
    x, kernel = arrays["x"], function._family.kernel(name + _PACKED)
    axis = as_axis(caller, options.get("axis", -1), x.ndim)
    if x.shape[axis] % 2:
        raise ValueError(
            f"{caller}: the length of axis {axis} must be even, got x of shape {x.shape}"
        )
    half = (*x.shape[:axis], x.shape[axis] // 2, *x.shape[axis + 1 :])
    shapes = {"x": x.shape, "dx": x.shape, "y": half, "dy": half}
    order = {"interleaved": options.get("interleaved", False), "second_first": not gate_first}
    ufunc = function.kernels[name + _PACKED]
    return _call(caller, ufunc, kernel, arrays, shapes, axis, out, given_as, **order)


def _on_two(
    function: Function, name: str, arrays: dict[str, NDArray[Any]], gate_first: bool, out: Any
) -> Call:
    """Return the call of the elementwise ufunc, with gradients in the order of the arrays."""
    inputs, outputs, _ = _GATED[name]
    halves = ["x", "second"] if gate_first else ["second", "x"]
    names = dict(zip(("gate", "value"), halves, strict=True))
    taken = {names.get(each, each): arrays[names.get(each, each)] for each in _parts(inputs)}
    of = [names.get(each.removeprefix("d")) for each in _parts(outputs)]
    order = sorted(range(len(of)), key=lambda k: (None, "x", "second").index(of[k]))
    ufunc = function.kernels[name]
    return BroadcastCall(function.caller(name), ufunc, taken, of, order, out)
