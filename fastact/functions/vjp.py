"""Vector-Jacobian products: the value now, the gradient later, as layers and tapes call them.

``y, vjp = fa.gelu.vjp(x)`` computes the value and keeps what the gradient needs; ``dx = vjp(dy)`` computes the gradient.
Both are calls of other operations: for most functions the backward pass with what it needs saved (`Operation.saved`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastact.arrays.arguments import as_real_array, each_output, outputs_for, same_shape
from fastact.arrays.random_numbers import new_key
from fastact.catalogue.definition import REQUIRED
from fastact.functions.operation import Family, Operation
from fastact.functions.options import Argument
from fastact.runtime.output_pool import with_output_pool

SAVES = ("input", "output", "derivative")
PRODUCT = "product"
SAVE = Argument(
    "save",
    '{"input", "output", "derivative"}, optional',
    "What to keep for the gradient. By default the output if the derivative is a function of it. Else, for smooth "
    "functions of arrays in cache (up to 1 MiB) the derivative, an array more, of which the gradient is one product; "
    "otherwise the input.",
    annotation='Literal["input", "output", "derivative"] | None',
)
_RETURNS = {
    "vjp": "A `fastact.functions.vjp.Vjp`: takes the gradients with respect to the results, and returns those that "
    "`backward` returns. It may be called again, and pickled. What it keeps must not be modified in between."
}


@dataclass(frozen=True, eq=False)
class Vjp:
    """The gradient of an earlier call: a function of the gradient with respect to its result.

    Attributes
    ----------
    function : Function
        The function that was called.
    operation : str
        The operation that computes the gradient, or ``"product"`` if what is saved is the derivative.
    gradients : tuple of str
        What it takes: ``("dy",)``, or ``("dloss",)`` for a loss, whose gradient is 1 by default.
    saved : tuple of ndarray
        The arrays that it needs.
    options : dict of str to Any
        The options of the call.
    """

    function: Any
    operation: str
    gradients: tuple[str, ...]
    saved: tuple[Any, ...]
    options: Mapping[str, Any]

    def __call__(self, *gradients: Any, out: Any = None) -> Any:
        """Return the gradients with respect to the inputs, as `backward` of the function does.

        Parameters
        ----------
        *gradients : array_like
            The gradient with respect to each result.
        out : ndarray or tuple, optional
            Where the results go.
        """
        if not gradients and self.gradients == ("dloss",):
            gradients = (1.0,)
        caller, wanted = self.function.caller("vjp"), ", ".join(self.gradients)
        if len(gradients) != len(self.gradients):
            raise TypeError(
                f"{caller}: the gradient is a function of {wanted}; got {len(gradients)}"
            )
        if self.operation == PRODUCT:
            return _products(caller, wanted, self.saved, gradients[0], out)
        backward = self.function.operations[self.operation]
        options = dict(self.options) if out is None else {**self.options, "out": out}
        return self.function._call(backward, (*gradients, *self.saved), (), options)

    @property
    def nbytes(self) -> int:
        """The size of the arrays that it keeps, in bytes; the caller's own are among them."""
        kept = (*self.saved, *self.options.values())
        return sum(each.nbytes for each in kept if isinstance(each, np.ndarray))

    def __repr__(self) -> str:
        return f"<vjp of {self.function.name!r}, {self.nbytes} bytes saved>"


def _products(caller: str, name: str, saved: tuple[Any, ...], gradient: Any, out: Any) -> Any:
    """Return the products of derivatives and one gradient, a number or of the first derivative's shape."""
    array = as_real_array(caller, name, gradient)
    if array.ndim:
        same_shape(caller, ("the derivative", name), (saved[0], array))
    outputs = each_output(caller, out, len(saved))
    found = tuple(
        with_output_pool(np.multiply, derivative, gradient, out=output, casting="same_kind")
        for derivative, output in zip(saved, outputs, strict=True)
    )
    return found[0] if len(found) == 1 else found


def vjp_operation(family: Family) -> Operation:
    """Return the operation `vjp` of a family."""
    forward = family.operations["forward"]
    return replace(
        forward,
        name="vjp",
        summary=f"{forward.summary}, and a function that computes the gradient later",
        options=(*forward.options, *family.vjp_options),
        returns={**forward.returns, **_RETURNS},
        run=family.vjp or by_backward,
        plain=None,
        example=family.vjp_example,
    )


def by_backward(
    function: Any,
    operation: Operation,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
    *,
    forward: str = "forward",
    backward: str = "backward",
) -> Any:
    """Run the forward pass, and keep what the backward pass needs."""
    first, second = function.operations[forward], function.operations[backward]
    caller = function.caller(operation.name)
    always_draws = "dropout" not in first.option_names
    if "rng" in first.option_names and (always_draws or options.get("dropout") is not None):
        options["rng"] = new_key(caller, options.get("rng"))
    given = dict(zip(first.inputs, arrays, strict=True))
    kept = {
        name: value
        for name, value in options.items()
        if name in second.option_names and name != "out"
    }
    needed = [given[name] for name in second.saved if name in given]
    _check_kept(caller, [*needed, *kept.values()], options.get("out"))
    outputs = _as_tuple(function._call(first, arrays, (), dict(options)))
    given |= zip(first.outputs, outputs, strict=False)  # the last may be optional
    for name, argument in second.option_names.items():
        if argument.default is REQUIRED and name in function.parameters:
            kept.setdefault(name, function.parameters[name])
    saved = tuple(given[name] for name in second.saved)
    wanted = tuple(name for name in second.inputs if name not in second.saved)
    results = outputs[: len(function.operations["forward"].outputs)]
    return (*results, Vjp(function, backward, wanted, saved, kept))


def by_derivative(
    function: Any,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
    both: str,
    gradient: str,
    further: int = 0,
) -> Any:
    """Run an operation that computes the value and the gradients for a gradient of 1, and keep the latter.

    The last `further` results are returned beside the value.
    """
    out, operation = options.pop("out", None), function.operations[both]
    if gradient in operation.inputs:
        arrays = (*arrays, 1.0)
    value, *derivatives = function._call(operation, arrays, (), options)
    last = len(derivatives) - further
    results = (value, *derivatives[last:])
    if out is not None:
        shapes, types = zip(*((np.shape(each), each.dtype) for each in results), strict=True)
        outputs = outputs_for(function.caller("vjp"), out, shapes, types)
        for output, result in zip(outputs, results, strict=True):
            np.copyto(output, result, casting="same_kind")
        results = outputs
    return (*results, Vjp(function, PRODUCT, (gradient,), tuple(derivatives[:last]), {}))


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def _check_kept(caller: str, values: list[Any], out: Any) -> None:
    """Raise an error if a result would overwrite an array that the gradient needs."""
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    for output in _as_tuple(out):
        for array in arrays:
            if isinstance(output, np.ndarray) and np.may_share_memory(output, array):
                raise ValueError(
                    f"{caller}: out would overwrite an input that the gradient needs; pass another array"
                )
