"""Recurrent cells on packed gates: one step of an LSTM or GRU after its matrix products."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastact.arrays.arguments import as_axis, as_real_array
from fastact.arrays.packed import PackedCall
from fastact.catalogue.definition import CellDefinition
from fastact.functions.function import Function
from fastact.functions.operation import Family, Operation
from fastact.functions.options import AXIS, OUT, Argument, array, gradient
from fastact.kernels.kernel import Kernel, Operand, Packed

_SUMMARIES = {
    "forward": "the state after one step",
    "backward": "the gradients with respect to the inputs",
}
_RAISES = {
    "TypeError": "If an input is not real.",
    "ValueError": "If the axis is out of bounds or does not hold all gates, `order` is unknown, or shapes or `out` do not match.",
}
_EXAMPLES = {
    "lstm_cell": {
        "backward": """\
>>> gates, c_prev = np.array([[1.0, 2.0, -1.0, 0.5]]), np.array([[0.5]])
>>> dh, dc = np.ones_like(c_prev), np.zeros_like(c_prev)
>>> dgates, dc_prev = {f}.backward(dh, dc, gates, c_prev)
>>> dgates.round(4), dc_prev.round(4)
(array([[-0.092 ,  0.0322,  0.1885, -0.0272]]), array([[0.5409]]))""",
        "vjp": """\
>>> gates, c_prev = np.array([[1.0, 2.0, -1.0, 0.5]]), np.array([[0.5]])
>>> h, c, vjp = {f}.vjp(gates, c_prev)
>>> dgates, dc_prev = vjp(np.ones_like(h), np.zeros_like(c))
>>> dc_prev.round(4)
array([[0.5409]])""",
    },
    "gru_cell": {
        "backward": """\
>>> input_gates = np.array([[1.0, 2.0, -1.0]])
>>> hidden_gates = np.array([[0.5, -1.0, 2.0]])
>>> h_prev, dh = np.array([[0.5]]), np.array([[1.0]])
>>> dinput_gates, dhidden_gates, dh_prev = {f}.backward(
...     dh, input_gates, hidden_gates, h_prev
... )
>>> dhidden_gates.round(4), dh_prev.round(4)
(array([[ 0.0549, -0.0121,  0.1505]]), array([[0.7311]]))""",
        "vjp": """\
>>> input_gates = np.array([[1.0, 2.0, -1.0]])
>>> hidden_gates = np.array([[0.5, -1.0, 2.0]])
>>> h_prev = np.array([[0.5]])
>>> h, vjp = {f}.vjp(input_gates, hidden_gates, h_prev)
>>> dinput_gates, dhidden_gates, dh_prev = vjp(np.ones_like(h))
>>> dh_prev.round(4)
array([[0.7311]])""",
    },
}


def family(definition: CellDefinition) -> Family:
    """Return the family of a definition."""
    described, examples = dict(definition.arrays_are), _EXAMPLES[definition.name]
    for name in definition.arrays_are:
        described[f"d{name}"] = f"The gradient with respect to `{name}`, with its shape."

    def kernel(key: str) -> Kernel:
        """Return the kernel of an operation, whose name an order of gates may follow."""
        name, _, letters = key.partition("_")
        order = tuple(map(definition.gates.index, letters))
        step = Kernel.of(definition.signature, Packed(lambda: definition.function, order))
        if name == "forward":
            return step
        read = *_gradients(step.outputs), *step.inputs
        return Kernel(read, _gradients(step.inputs), Packed(lambda: definition.gradient, order))

    def operation(name: str) -> Operation:
        inputs, outputs = kernel(name).inputs, kernel(name).outputs
        later = _gradients(kernel("forward").outputs)
        return Operation(
            name,
            _SUMMARIES[name],
            tuple(
                (gradient if each in later else array)(each.name, described[each.name])
                for each in inputs
            ),
            (_order(definition.gates), AXIS, OUT),
            {each.name: described[each.name] for each in outputs},
            _run,
            _RAISES,
            example=examples.get(name, ""),
        )

    return Family(
        {name: operation(name) for name in _SUMMARIES},
        tuple(_SUMMARIES),
        kernel,
        missing={
            "forward_backward": "the gradient with respect to a state comes from the steps after it; call backward"
        },
        # Any order of the gates has kernels; one stands for all.
        others=tuple(f"{name}_{definition.gates[::-1]}" for name in _SUMMARIES),
        vjp_example=examples["vjp"],
    )


def _gradients(operands: Iterable[Operand]) -> tuple[Operand, ...]:
    return tuple(each._replace(name=f"d{each.name}") for each in operands)


def _order(gates: str) -> Argument:
    return Argument(
        "order",
        f'str, default "{gates}"',
        "The order of the gates along the axis, by their letters.",
        gates,
        "str",
    )


def _run(
    function: Function, operation: Operation, given: tuple[Any, ...], options: dict[str, Any]
) -> PackedCall:
    """Return the call of the kernel for an order of the gates."""
    caller, definition, key = function.caller(operation.name), function._definition, operation.name
    assert isinstance(definition, CellDefinition)
    gates, count = definition.gates, len(definition.gates)
    order = options.get("order", gates)
    if not isinstance(order, str) or sorted(order) != sorted(gates):
        raise ValueError(f"{caller}: order must be an order of {gates!r}, got {order!r}")
    if order != gates:
        key = f"{key}_{order}"
    kernel = function._family.kernel(key)
    arrays = {
        name: as_real_array(caller, name, value)
        for name, value in zip(operation.inputs, given, strict=True)
    }
    parts = [count if len(each.core) > 1 else 1 for each in kernel.operands]
    first = operation.inputs[parts.index(count)]
    whole = arrays[first].shape
    axis = as_axis(caller, options.get("axis", -1), len(whole))
    if whole[axis] % count:
        raise ValueError(
            f"{caller}: the length of axis {axis} must be a multiple of {count}, got {first} of shape {whole}"
        )
    part = (*whole[:axis], whole[axis] // count, *whole[axis + 1 :])
    shapes = [whole if each > 1 else part for each in parts]
    for (name, value), shape in zip(arrays.items(), shapes, strict=False):
        if value.shape != shape:
            raise ValueError(
                f"{caller}: {name} has shape {value.shape}, but with {first} of shape {whole} it must be {shape}"
            )
    results, out = tuple(shapes[len(arrays) :]), options.get("out")
    return PackedCall(caller, function.kernels[key], arrays, results, parts, axis, out)
