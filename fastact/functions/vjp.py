"""Vector-Jacobian products: the value now, the gradient later, as layers and tapes call them.

``y, vjp = fa.gelu.vjp(x)`` computes the value and keeps what the gradient needs; ``dx = vjp(dy)`` computes the gradient.
Both are calls of other operations: for most functions the backward pass with what it needs saved (`Operation.saved`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_real_array,
    as_returned,
    each_output,
    outputs_for,
    same_shape,
)
from fastact.arrays.channels import as_sums, run_with_sums, sum_of_channels, sums_plan
from fastact.arrays.contiguous import BLOCK
from fastact.arrays.plans import RNG, Call, KernelPlan, Plan, plan_key
from fastact.arrays.random_numbers import new_key
from fastact.catalogue.definition import REQUIRED
from fastact.functions.operation import Family, Operation, replay_key
from fastact.functions.options import Argument
from fastact.kernels.door import make_ufunc
from fastact.kernels.kernel import Channels, Kernel
from fastact.runtime.output_pool import POOLED, retry_without_pool, with_output_pool
from fastact.runtime.replays import Replay
from fastact.vecmath.scaling import product

SAVES = ("input", "output", "derivative")
PRODUCT = "product"
# The largest arrays, in bytes, whose derivative with dropout is worth storing; else the backward pass draws the same
# random numbers again.
MAX_FUSED_DERIVATIVE = 2**18
SAVE = Argument(
    "save",
    '{"input", "output", "derivative"}, optional',
    "What to keep for the gradient. By default the output if the derivative is a function of it. Else, for smooth "
    "functions of arrays in cache (up to 2 MiB) the derivative, an array more, of which the gradient is one product; "
    "otherwise the input.",
    annotation='Literal["input", "output", "derivative"] | None',
)
_RETURNS = {
    "vjp": "A `fastact.functions.vjp.Vjp`: takes the gradients with respect to the results, and returns those that "
    "`backward` returns. It may be called again, and pickled. What it keeps must not be modified in between."
}


class ChannelSums(NamedTuple):
    """Where a bias was added: its shape and dtype, and the axis along which it varies, None for one number."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axis: int | None


class Recipe:
    """How to compute the gradient of a call; calls of one plan share it.

    Attributes
    ----------
    function, operation, gradients, bias
        As in `Vjp`.
    replay : callable, optional
        Takes the gradients, what is saved and the options, and returns the results, or None for arrays of another kind.
    """

    __slots__ = ("_runs", "bias", "function", "gradients", "operation", "replay")

    def __init__(
        self,
        function: Any,
        operation: str,
        gradients: tuple[str, ...],
        bias: ChannelSums | None = None,
    ) -> None:
        self.function, self.operation = function, operation
        self.gradients, self.bias = gradients, bias
        self.replay: Replay | None = None
        self._runs = 0

    def find_replay(self, options: Mapping[str, Any], *arrays: Any) -> None:
        """Find what replays the computation, in its second run."""
        self._runs += 1
        if self._runs != 2:
            return
        if self.operation == PRODUCT and self.bias is None:
            if self.gradients == ("dy",):
                self.replay = _product_of_one
        elif self.bias is None:
            key = replay_key(self.operation, 0, options)
            self.replay = self.function._replays.get(key)
        elif arrays and arrays[0].size <= BLOCK:
            plan = sums_plan(_product_with_sums(), arrays, *self.bias)
            plan(arrays)
            self.replay = plan.replay


class Vjp:
    """The gradient of an earlier call: a function of the gradient with respect to its result.

    Attributes
    ----------
    saved : tuple of ndarray
        The arrays that it needs.
    options : mapping of str to Any
        The options of the call.
    """

    __slots__ = ("_recipe", "options", "saved")

    def __init__(
        self, recipe: Recipe, saved: tuple[NDArray[Any], ...], options: Mapping[str, Any]
    ) -> None:
        self._recipe, self.saved, self.options = recipe, saved, options

    @property
    def function(self) -> Any:
        """The function that was called."""
        return self._recipe.function

    @property
    def operation(self) -> str:
        """The operation that computes the gradient, or ``"product"`` if what is saved is the derivative."""
        return self._recipe.operation

    @property
    def gradients(self) -> tuple[str, ...]:
        """What it takes: ``("dy",)``, or ``("dloss",)`` for a loss, whose gradient is 1 by default."""
        return self._recipe.gradients

    @property
    def bias(self) -> ChannelSums | None:
        """The bias, if its gradient is the sum of the result of `operation`."""
        return self._recipe.bias

    def __reduce__(self) -> tuple[Any, ...]:  # without the replay
        recipe = self.function, self.operation, self.gradients, self.bias
        return _restored, (recipe, self.saved, dict(self.options))

    def __call__(self, *gradients: Any, out: Any = None) -> Any:
        """Return the gradients with respect to the inputs, as `backward` of the function does.

        Parameters
        ----------
        *gradients : array_like
            The gradient with respect to each result.
        out : ndarray or tuple, optional
            Where the results go.
        """
        replay = self._recipe.replay
        if replay is not None and out is None:
            results = replay(*gradients, *self.saved, *self.options.values())
            if results is not None:
                return results
        if not gradients and self.gradients == ("dloss",):
            gradients = (1.0,)
        if len(gradients) != len(self.gradients):
            raise TypeError(
                f"{self._caller}: the gradient is a function of {', '.join(self.gradients)}; got {len(gradients)}"
            )
        if self.bias is None:
            return self._gradients(gradients, out)
        return self._gradients_with_sums(self.bias, gradients, out)

    def _gradients_with_sums(
        self, bias: ChannelSums, gradients: tuple[Any, ...], out: Any
    ) -> tuple[Any, Any]:
        """Return the gradient, and that of the bias."""
        own, of_bias = (None, None) if out is None else each_output(self._caller, out, 2)
        if of_bias is not None:  # checked before anything is written
            outputs_for(self._caller, (of_bias,), (bias.shape,), (bias.dtype,))
        if self.operation == PRODUCT and _are_alike(self.saved[0], gradients[0]):
            arrays = gradients[0], self.saved[0]
            dx, total = run_with_sums(_product_with_sums(), arrays, bias.axis)
            if own is not None:
                (output,) = outputs_for(self._caller, (own,), (dx.shape,), (dx.dtype,))
                np.copyto(output, dx, casting="same_kind")
                dx = output
            self._recipe.find_replay(self.options, *arrays)
        else:
            dx = self._gradients(gradients, own)
            total = sum_of_channels(dx, bias.axis)
        sums = as_sums(total, bias.shape, bias.dtype)
        if of_bias is not None:
            np.copyto(of_bias, sums, casting="same_kind")
            sums = of_bias
        return dx, sums

    def _gradients(self, gradients: tuple[Any, ...], out: Any) -> Any:
        """Return the gradients without that of a bias."""
        if self.operation == PRODUCT:
            results = _products(self, gradients[0], out)
        else:
            backward, arrays = self.function.operations[self.operation], (*gradients, *self.saved)
            options = dict(self.options) if out is None else {**self.options, "out": out}
            results = self.function._call(backward, arrays, (), options)
        if self.bias is None:
            self._recipe.find_replay(self.options)
        return results

    @property
    def _caller(self) -> str:
        """Its name in error messages."""
        caller: str = self.function.caller("vjp")
        return caller

    @property
    def nbytes(self) -> int:
        """The size of the arrays that it keeps, in bytes; the caller's own are among them."""
        kept = (*self.saved, *self.options.values())
        return sum(each.nbytes for each in kept if isinstance(each, ndarray))

    def __repr__(self) -> str:
        return f"<vjp of {self.function.name!r}, {self.nbytes} bytes saved>"


def _restored(recipe: tuple[Any, ...], saved: tuple[Any, ...], options: dict[str, Any]) -> Vjp:
    return Vjp(Recipe(*recipe), saved, options)


def _product_and_summand(dy: Any, derivative: Any) -> Any:
    dx = product(dy, derivative)
    return dx, dx


@cache
def _product_with_sums() -> np.ufunc:
    """Return the ufunc of the product with a derivative, and its sums over each channel: all functions share it."""
    name = "product_with_sums"
    kernel = Kernel.of(
        "dy(n,c,s), derivative(n,c,s) -> dx(n,c,s), sums(c): float64",
        Channels(lambda: _product_and_summand),
    )
    doc = "Compute dy times derivative, and the sums of that over n and s."
    return make_ufunc(kernel, __name__, name, doc, lambda dtype: f"{name}.{dtype}", repr)


def _are_alike(derivative: Any, gradient: Any) -> bool:
    """Whether kernels take a derivative and a gradient as they are, in a dtype that they compute in."""
    if not type(gradient) is type(derivative) is ndarray:
        return False
    alike = gradient.shape == derivative.shape and gradient.dtype is derivative.dtype
    return (
        alike
        and derivative.dtype in (np.float32, np.float64)
        and derivative.flags.c_contiguous
        and gradient.flags.c_contiguous
        and gradient.flags.aligned
    )


def _product_of_one(*given: Any) -> Any:
    """Return the product of a gradient and a derivative, if they are small arrays of one shape and dtype."""
    if len(given) != 2:
        return None
    gradient, derivative = given
    if type(gradient) is not ndarray or gradient.shape != derivative.shape:
        return None
    if gradient.dtype is not derivative.dtype or derivative.nbytes >= POOLED.min_bytes:
        return None
    return np.multiply(derivative, gradient)


def _products(vjp: Vjp, gradient: Any, out: Any) -> Any:
    """Return the products of derivatives and one gradient, a number or of the first derivative's shape."""
    saved = vjp.saved
    first = saved[0]
    is_loss = vjp.gradients == ("dloss",)
    caller, (name,) = vjp._caller, vjp.gradients
    array = as_real_array(caller, name, gradient)
    is_weak = type(gradient) in (int, float)
    if is_loss:
        if array.ndim:
            raise ValueError(f"{caller}: dloss has shape {array.shape}, the loss has ()")
        is_weak = True  # the gradients of a loss have the dtypes of its inputs
    elif array.ndim:
        same_shape(caller, ("the derivative", name), (first, array))
    types = tuple(each.dtype if is_weak else np.result_type(each, array) for each in saved)
    outputs = outputs_for(caller, out, tuple(each.shape for each in saved), types)
    # The first use of the pool compiles it.
    call: Any = with_output_pool if first.nbytes >= POOLED.min_bytes else retry_without_pool
    for derivative, kind, output in zip(saved, types, outputs, strict=True):
        factor = array.astype(kind, copy=False)
        call(np.multiply, derivative, factor, out=output, casting="same_kind")
    return as_returned(outputs, out)


def vjp_operation(family: Family) -> Operation:
    """Return the operation `vjp` of a family."""
    forward = family.operations["forward"]
    # What the `where` of a ufunc leaves out has no value, and hence no gradient; that of row functions is a mask.
    options = [
        each for each in forward.options if not (each.name == "where" and each.default is True)
    ]
    return replace(
        forward,
        name="vjp",
        summary=f"{forward.summary}, and a function that computes the gradient later",
        options=(*options, *family.vjp_options),
        returns={**forward.returns, **_RETURNS},
        run=family.vjp or by_backward,
        plain=None,
        example=family.vjp_example,
    )


@dataclass(eq=False, repr=False)
class VjpCall(Call):
    """A forward pass that keeps what the gradient needs.

    Attributes
    ----------
    function : Function
        The function.
    arrays : tuple
        Its arrays.
    options : dict of str to Any
        The options of the forward pass.
    forward : str
        The operation that computes the results, and for a product the derivatives.
    backward : str
        The operation that computes the gradient, or ``"product"``.
    kept : dict of str to Any
        The options of the gradient.
    bias : ChannelSums, optional
        See `Vjp`.
    more : tuple
        What the forward pass takes after the arrays.
    """

    function: Any
    arrays: tuple[Any, ...]
    options: dict[str, Any]
    forward: str
    backward: str
    kept: dict[str, Any]
    bias: ChannelSums | None = None
    more: tuple[Any, ...] = ()

    def __call__(self) -> Any:
        """Make the call and return the results."""
        return self._run()(self.arrays, self.options, self.kept)

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan that runs the operation by its own plan."""
        if "out" in self.options:
            return None
        changing = {name: k for name, k in positions.items() if name in self.options}
        later = {name: k for name, k in changing.items() if name in self.kept}
        replayed = self._replayed(positions, later)
        if replayed is not None:
            return replayed
        options, kept = (
            {name: None if name in changing else value for name, value in given.items()}
            for given in (self.options, self.kept)
        )
        run, count = self._run(self._forward_plan()), len(self.arrays)
        if not changing:
            return lambda given: run(given[:count], options, kept)

        def plan(given: Sequence[Any]) -> Any:
            values = {name: given[k] for name, k in changing.items()}
            of_later = {name: given[k] for name, k in later.items()}
            return run(given[:count], options | values, kept | of_later)

        return plan

    def _replayed(
        self, positions: Mapping[str, int], later: Mapping[str, int]
    ) -> KernelPlan | None:
        """Return the plan if the forward pass is one call of a kernel: that kernel, and the creation of the `Vjp`."""
        first, options = self.function.operations[self.forward], dict(self.options)
        key_of = None
        if self._draws:
            if RNG not in positions:
                return None
            key_of = partial(new_key, self.function.caller("vjp"))
            options[RNG] = 0
            if self._keeps_key:
                later = {**later, RNG: positions[RNG]}
        call = self.function._start(first, (*self.arrays, *self.more), (), options)
        constants = zip(first.inputs[len(self.arrays) :], self.more, strict=True)
        places = {**positions, **{name: each for name, each in constants if type(each) is ndarray}}
        forward = call.plan(places) if isinstance(call, Call) else None
        if not isinstance(forward, KernelPlan):
            return None
        recipe, count = self._recipe, len(self.arrays)
        kept = {name: None if name in later else value for name, value in self.kept.items()}
        are_results, of_backward = self._are_results, self.backward != PRODUCT
        are_derivatives = [not each for each in are_results]
        at = _positions(first, self._second) if of_backward else []

        def finish(*given: Any, results: int = len(forward.outputs)) -> Any:
            outputs, own = given[-results:], kept
            if later:
                own = {**kept, **{name: given[k] for name, k in later.items()}}
            if of_backward:
                saved = tuple([given[k] if k < count else outputs[k - count] for k in at])
            else:
                saved = tuple(compress(outputs, are_derivatives))
            return *compress(outputs, are_results), Vjp(recipe, saved, own)

        return forward.then(finish, key_of)

    def _forward_plan(self) -> Plan | None:
        """Return the plan that the forward pass has left."""
        options = self.options | {RNG: 0} if self._draws else self.options
        values = (*self.arrays, *self.more, *options.values())
        key = plan_key(self.forward, values, options, RNG not in self.function.parameters)
        plan: Plan | None = None if key is None else self.function._plans.get(key)
        return plan

    @property
    def _draws(self) -> bool:
        names = self.function.operations[self.forward].option_names
        return RNG in names and ("dropout" not in names or self.options.get("dropout") is not None)

    @property
    def _keeps_key(self) -> bool:
        if self.backward == PRODUCT:
            return False
        return RNG in self.kept or (self._draws and RNG in self._second.option_names)

    @property
    def _second(self) -> Operation:
        """The operation whose gradients are returned."""
        name = "backward" if self.backward == PRODUCT else self.backward
        operation: Operation = self.function.operations[name]
        return operation

    @property
    def _are_results(self) -> list[bool]:
        """For each output of the forward pass, whether it is a result, or else a derivative."""
        known = self.function.operations["forward"].outputs
        return [name in known for name in self.function.operations[self.forward].outputs]

    @property
    def _recipe(self) -> Recipe:
        wanted = tuple(each.name for each in self._second.arrays if each.is_gradient)
        return Recipe(self.function, self.backward, wanted, self.bias)

    def _run(
        self, forward: Plan | None = None
    ) -> Callable[[Sequence[Any], dict[str, Any], dict[str, Any]], Any]:
        """Return a function of arrays, options and the gradient's options that makes the call."""
        function, more, recipe = self.function, self.more, self._recipe
        first, are_results = function.operations[self.forward], self._are_results
        are_derivatives = [not each for each in are_results]
        at = None if self.backward == PRODUCT else _positions(first, self._second)
        draws, plain, keeps_key = self._draws, first.plain, self._keeps_key

        def run(arrays: Sequence[Any], options: dict[str, Any], kept: dict[str, Any]) -> Any:
            if draws:
                options = options | {RNG: new_key(function.caller("vjp"), options.get(RNG))}
                kept = kept | {RNG: options[RNG]} if keeps_key else kept
            results = None
            if forward is not None:
                results = forward((*arrays, *more, *options.values()))
            elif plain is not None and not options:
                results = plain(function, *arrays, *more)
            if results is None:
                results = function._call(first, (*arrays, *more), (), dict(options))
            outputs = results if isinstance(results, tuple) else (results,)
            if at is None:
                saved = tuple(compress(outputs, are_derivatives))
            else:
                everything = (*arrays, *outputs)
                saved = tuple([everything[k] for k in at])
            return *compress(outputs, are_results), Vjp(recipe, saved, kept)

        return run


def _positions(first: Operation, second: Operation) -> list[int]:
    """Return where among the inputs and outputs of an operation another one finds what it needs saved.

    A function of one's own may have an input of the name of an output: the input is meant.
    """
    names = (*first.inputs, *first.outputs)
    return [names.index(name) for name in second.saved]


def by_backward(
    function: Any,
    operation: Operation,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
    *,
    forward: str = "forward",
    backward: str = "backward",
    bias: ChannelSums | None = None,
) -> VjpCall:
    """Return the forward pass that keeps what a backward pass takes."""
    first, second = function.operations[forward], function.operations[backward]
    given = dict(zip(first.inputs, arrays, strict=True))
    later = {k: v for k, v in options.items() if k in second.option_names and k != "out"}
    if bias is not None:
        later.pop("bias", None)
        later.pop("axis", None)
    needed = [given[name] for name in second.saved if name in given]
    _check_kept(function.caller(operation.name), [*needed, *later.values()], options.get("out"))
    for name, argument in second.option_names.items():
        is_bound = name in function.parameters and name not in function.learnable
        if argument.default is REQUIRED and is_bound:
            later.setdefault(name, function.parameters[name])
    return VjpCall(function, arrays, options, forward, backward, later, bias)


def by_derivative(
    function: Any,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
    forward: str,
    *more: Any,
    results: int = 1,
    bias: ChannelSums | None = None,
) -> VjpCall:
    """Return an operation that computes the results, so many, and their derivatives, which are kept."""
    out = options.pop("out", None)
    if out is not None:
        own, known = (
            each_output(function.caller("vjp"), out, results),
            function.operations["forward"].outputs,
        )
        given = dict(zip(known, own, strict=False))
        both = function.operations[forward].outputs
        options["out"] = tuple(
            given.get(name) for name in both if name in given or name not in known
        )
    return VjpCall(function, arrays, options, forward, PRODUCT, {}, bias, more)


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def _check_kept(caller: str, values: list[Any], out: Any) -> None:
    """Raise an error if a result would overwrite an array that the gradient needs."""
    arrays = [value for value in values if isinstance(value, ndarray)]
    for output in _as_tuple(out):
        for array in arrays:
            if isinstance(output, ndarray) and np.may_share_memory(output, array):
                raise ValueError(
                    f"{caller}: out would overwrite an input that the gradient needs; pass another array"
                )
