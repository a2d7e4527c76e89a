"""Row functions, such as softmax, and reductions of rows, such as log-sum-exp."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.arguments import (
    as_real_array,
    as_returned,
    copy_overlapping,
    float_type,
    outputs_for,
)
from fastact.arrays.contiguous import BLOCK, RANDOM_OPERANDS, run_contiguous
from fastact.arrays.long_rows import LONG, run_in_chunks
from fastact.arrays.plans import MAX_BYTES, SMALL_BYTES, Call, KernelPlan, Plan, are_plain, shaped
from fastact.arrays.random_numbers import Draw
from fastact.arrays.rows import (
    Axes,
    RowArray,
    RowShape,
    Segments,
    as_mask,
    layout_of,
    run_on_rows,
)
from fastact.catalogue.definition import ExponentialsDefinition, RowDefinition
from fastact.catalogue.normalized import hardmax
from fastact.functions.function import Function, function_of
from fastact.functions.operation import SUMMARIES, Family, Operation
from fastact.functions.options import (
    DY,
    KEEPDIMS,
    LENGTHS,
    OUT,
    RNG,
    ROW_AXIS,
    WHERE,
    Argument,
    X,
    array,
)
from fastact.functions.vjp import by_backward
from fastact.kernels.algorithms.exponentials import TOTALS
from fastact.kernels.algorithms.softmax import largest_of_chunk, totals_of_chunk
from fastact.kernels.kernel import Contiguous, Kernel, Rows
from fastact.runtime.dtypes import dtype_of, has_loop, inner_type
from fastact.runtime.output_pool import POOLED
from fastact.runtime.replays import Input, Output
from fastact.simd import uniform
from fastact.vecmath import log

_SIGNATURES = {
    "forward": "x(n), temperature: parameter -> y(n)",
    "backward": "dy(n), y(n), temperature: parameter -> dx(n)",
    "forward_backward": "x(n), dy(n), temperature: parameter -> y(n), dx(n)",
}
_REDUCED_SIGNATURES = {
    "forward": "x(n), temperature: parameter -> y",
    "backward": "dy, x(n), temperature: parameter -> dx(n)",
    "forward_backward": "x(n), dy, temperature: parameter -> y, dx(n)",
}
# Kernels for masks and causal calls, which others need not compile.
_MASKED = "masked_"
_SCALARS = "temperature: parameter"
_MASKED_SCALARS = f"mask(n): bool, {_SCALARS}, length: intp"
# Kernels for chunks of long rows: their maxima, their totals given the row's maximum, and then their results.
_TOPS, _TOTALS, CHUNKS = "tops", "totals_", "chunks_"
_TOP, _OF_TOTALS = "top: parameter", ", ".join(f"{name}: float64" for name in TOTALS)
#: What the results of a chunk need to know of its row.
OF_ROW = f"{_TOP}, {_OF_TOTALS}, count: float64"
# The length of rows that are not cut short.
_WHOLE = np.asarray(np.iinfo(np.intp).max, np.intp)
_PERTURB = f"{', '.join(f'{name}: int64' for name in RANDOM_OPERANDS)}, x(n) -> y(n)"
_SCALE = Argument(
    "scale",
    "float, optional",
    "The positive factor of the elements, in place of `temperature`, its reciprocal: that of attention scores, for "
    "instance. It costs one rounding of the reciprocal, no more than scaling `x` before.",
    annotation="float | None",
)
_CAUSAL = Argument(
    "causal",
    "bool, default False",
    "Whether no query sees a later key: in the last two axes (n, m), element j of row i takes part only if "
    "``j <= i + m - n``. If n and m differ, the last row still sees all, as with cached keys; PyTorch's ``is_causal`` "
    "aligns the first row instead. The other elements are neither read nor computed, and give what masked ones do; "
    "their `dy` counts as 0. `where` may exclude more; rows run along the last axis, without `lengths`.",
    False,
    "bool",
)
_HARD = Argument(
    "hard",
    "bool, default False",
    "Whether the value is one-hot: 1 for the maximum of each row and 0 for the others. The gradient is that of the soft "
    "value (straight-through estimator).",
    False,
    "bool",
)
_ARRAYS = {
    "x": X,
    "y": array("y", "The result of the forward call."),
    "dy": DY,
}
_RETURNS = {
    "y": "The value, with the shape and dtype of `x`. A row that contains NaN or plus infinity, or only minus infinity, gives "
    "NaN, as in PyTorch.",
    "dx": "The gradient with respect to the input, with its shape. Sums over a row are accumulated in float64.",
}
_REDUCED_VALUE = {
    "y": "The value, with the shape of `x` without the reduced axes; with `lengths`, one value for each row along the "
    "axis. A row that contains NaN gives NaN, otherwise one that contains plus infinity gives plus infinity."
}
_RAISES = {
    "TypeError": "If an input is not real, or `axis` or `lengths` are not integers.",
    "ValueError": "If `axis` is out of bounds, temperature or scale are not positive or both given, the lengths do not "
    "add up to that of the axis, `causal` does not go with them or `axis`, shapes do not match, or `out` does not match.",
}
_EXAMPLES = {
    "vjp": """\
>>> x, dy = np.array([1.0, 2.0, 2.5]), {dy}
>>> y, vjp = {{f}}.vjp(x{rng})
>>> _, dx = {{f}}.forward_backward(x, dy{rng})
>>> np.allclose(vjp(dy), dx)
True""",
    "backward": """\
>>> x, dy = np.array([1.0, 2.0, 2.5]), {dy}
>>> y = {{f}}(x{rng})
>>> dx = {{f}}.backward(dy, {saved})
>>> np.allclose(dx, {{f}}.forward_backward(x, dy{rng})[1])
True""",
    "forward_backward": """\
>>> x, dy = np.array([1.0, 2.0, 2.5]), {dy}
>>> y, dx = {{f}}.forward_backward(x, dy{rng})
>>> h = np.array([1e-6, 0.0, -1e-6])
>>> rise = {{f}}(x + h{rng})
>>> rise -= {{f}}(x - h{rng})
>>> np.allclose(np.sum(dy * rise) / 2e-6, dx[0] - dx[2])
True""",
}


def family(definition: RowDefinition) -> Family:
    """Return the family of a definition."""
    others = ("perturb",) if definition.is_random else ()
    return Family(
        {name: _operation(definition, name) for name in _SIGNATURES},
        (*_SIGNATURES, *others),
        partial(_kernel, definition),
        others=_others(definition),
        vjp=_random_vjp if definition.is_random else None,
        vjp_example=_example(definition, "vjp"),
        constants=_constants_of,
    )


def _others(definition: RowDefinition) -> tuple[str, ...]:
    """Return the keys of the kernels that only some calls need."""
    masked = tuple(_MASKED + name for name in _SIGNATURES)
    if not _has_chunks(definition):
        return masked
    return (*masked, _TOPS, *(of + name for of in (_TOTALS, CHUNKS) for name in _SIGNATURES))


def _has_chunks(definition: Any) -> bool:
    """Whether long rows are computed in chunks."""
    return isinstance(definition, ExponentialsDefinition)


def _operation(definition: RowDefinition, name: str) -> Operation:
    kernel = _kernel(definition, name)
    draws = definition.is_random and name != "backward"
    temperature = Argument(
        "temperature",
        "float, default 1",
        definition.parameters_are["temperature"],
        annotation="float | None",
    )
    options = (
        ROW_AXIS,
        *((RNG,) if draws else ()),
        temperature,
        _SCALE,
        *((_HARD,) if draws else ()),
        WHERE,
        _CAUSAL,
        LENGTHS,
        *((KEEPDIMS,) if definition.is_reduced else ()),
        OUT,
    )
    arrays = tuple(_ARRAYS[each.name] for each in kernel.inputs if each.name != "temperature")
    texts = _RETURNS | (_REDUCED_VALUE if definition.is_reduced else {})
    returns = {each.name: texts[each.name] for each in kernel.outputs}
    run, plain = (_run_random, None) if draws else (_run, _plain_call(kernel, name))
    example = _example(definition, name)
    return Operation(name, SUMMARIES[name], arrays, options, returns, run, _RAISES, plain, example)


def _example(definition: RowDefinition, name: str) -> str:
    return _EXAMPLES.get(name, "").format(
        dy="-2.0" if definition.is_reduced else "np.array([1.0, 0.0, -1.0])",
        saved="x" if definition.is_reduced else "y",
        rng=", rng=0" if definition.is_random else "",
    )


def _kernel(definition: RowDefinition, name: str) -> Kernel:
    if name == "perturb":
        return Kernel.of(_PERTURB, Contiguous(lambda: _perturbed))
    if name == _TOPS:
        return Kernel.of(f"x(n) -> {_TOP}", Rows(lambda: partial(largest_of_chunk, definition)))
    signatures = _REDUCED_SIGNATURES if definition.is_reduced else _SIGNATURES
    operation = name.split("_", 1)[-1] if name not in signatures else name
    signature = signatures[operation]
    if name.startswith(_TOTALS):
        rows = signature.replace("dy, ", "").split("->")[0]
        return Kernel.of(
            f"{rows}, {_TOP} -> {_OF_TOTALS}", Rows(lambda: partial(totals_of_chunk, definition))
        )
    if name.startswith(_MASKED):
        signature = signature.replace(_SCALARS, _MASKED_SCALARS)
    elif name.startswith(CHUNKS):
        signature = signature.replace(_SCALARS, f"{_SCALARS}, {OF_ROW}")
    return Kernel.of(signature, Rows(lambda: definition.algorithm, _absent(definition)))


def _absent(definition: RowDefinition) -> dict[str, float]:
    """Return what masked elements count as and give, by operand."""
    absent = {"x": definition.excluded, "y": definition.masked_value, "dx": 0.0}
    # The gradient of a logarithm takes the sum of all dy, of masked elements among them.
    return absent if definition.masked_value else absent | {"dy": 0.0}


def _perturbed(words: Any, threshold: Any, x: Any) -> Any:
    return (x - log(-log(uniform(words))),)


def _constants_of(function: Function) -> Callable[[np.dtype[Any]], NDArray[Any]]:
    """Return a function from a dtype to the temperature as an operand for that dtype."""
    name = function.name
    return partial(_as_operand, name, _as_temperature(name, function.parameters["temperature"]))


def _as_operand(caller: str, temperature: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    inner = inner_type(dtype)
    limits = np.finfo(inner)
    # Outside, the reciprocal would overflow or vanish.
    if not float(limits.tiny) <= temperature <= float(limits.max):
        raise ValueError(
            f"{caller}: temperature must be from {limits.tiny:.3g} to {limits.max:.3g} in {inner}, "
            f"got {temperature:.3g}"
        )
    return np.asarray(temperature, inner)


def _as_temperature(caller: str, temperature: Any, name: str = "temperature") -> float:
    number = as_real_array(caller, name, temperature)
    if number.ndim or not 0 < number < math.inf:
        raise ValueError(f"{caller}: {name} must be a positive number, got {temperature!r}")
    return float(number)


def _temperature_of(
    function: Function, caller: str, options: Mapping[str, Any], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the operand of the temperature that the options choose."""
    temperature, scale = options.get("temperature"), options.get("scale")
    if temperature is None and scale is None:
        operand: NDArray[Any] = function.constants[dtype]
        return operand
    if temperature is None:
        return _as_operand(caller, 1 / _as_temperature(caller, scale, "scale"), dtype)
    if scale is not None:
        raise ValueError(f"{caller}: temperature and scale, its reciprocal, exclude each other")
    return _as_operand(caller, _as_temperature(caller, temperature), dtype)


def _causal_lengths(
    caller: str, axis: Any, layout: Axes | Segments, shape: tuple[int, ...]
) -> NDArray[np.intp]:
    """Return how many elements of each row a causal call sees, which is less than 1 for none."""
    if not isinstance(layout, Axes):
        raise ValueError(f"{caller}: causal and lengths exclude each other")
    if not layout.is_last or len(shape) < 2:
        raise ValueError(
            f"{caller}: causal needs two axes, of which the last is the row, got axis {axis!r} of shape {shape}"
        )
    rows, length = shape[-2:]
    return np.arange(length - rows, length, dtype=np.intp) + 1


def _plain_call(kernel: Kernel, name: str) -> Callable[..., Any]:
    """Return the shortcut for small arrays of one dtype with rows along the last axis: a single ufunc call."""
    inputs = [each for each in kernel.inputs if each.kind == "array"]
    whole = next(k for k, each in enumerate(inputs) if each.core)
    others = [(k, bool(each.core)) for k, each in enumerate(inputs) if k != whole]

    def plain(function: Function, *arrays: Any, out: Any = None) -> Any:
        x = arrays[whole]
        if out is not None:
            pass
        elif (
            type(x) is np.ndarray
            and x.ndim
            and x.nbytes < MAX_BYTES
            and x.shape[-1] <= LONG
            and has_loop(x.dtype)
        ):
            for k, is_row in others:
                array = arrays[k]
                if type(array) is not np.ndarray or array.dtype is not x.dtype:
                    break
                if array.shape != (x.shape if is_row else x.shape[:-1]):
                    break
            else:  # 2 us instead of 16
                if function._has_repeated(name, x):
                    return function._call(function.operations[name], arrays, (), {})
                if x.nbytes < POOLED.min_bytes:
                    return function.kernels[name](*arrays, function.constants[x.dtype])
        return _run(function, function.operations[name], arrays, {"out": out})()

    return plain


def _run_random(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> GumbelCall:
    """Return the call of an operation on logits with Gumbel noise."""
    caller, hard = function.caller(operation.name), options.pop("hard", False)
    draw = Draw(caller, options.pop("rng", None), again=False, p=0.0)
    return GumbelCall(_run(function, operation, arrays, options), draw, hard, _of_rows(options))


@dataclass(eq=False, repr=False)
class GumbelCall(Call):
    """A call of a kernel over rows of logits, to which noise is added first.

    Attributes
    ----------
    rows : RowsCall
        The call on logits.
    draw : Draw
        The random numbers.
    hard : bool
        Whether the value is one-hot.
    of_rows : dict of str to Any
        The options that say which elements form a row.
    """

    rows: RowsCall
    draw: Draw
    hard: bool
    of_rows: dict[str, Any]

    def __call__(self) -> Any:
        """Make the call and return the results."""
        perturb = partial(_perturb, self.rows.function, self.draw.key_and_threshold())
        results = replace(self.rows, perturb=perturb)()
        if self.hard:
            y = results[0] if isinstance(results, tuple) else results
            of_largest: Any = function_of(hardmax)
            of_largest(y, **self.of_rows, out=y)
        return results

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for a soft value of logits that fit one block."""
        x, of_logits = self.rows.inputs[0].array, self.rows.plan(positions)
        if of_logits is None or self.hard or x.size > BLOCK:
            return None
        at, shape = positions["rng"], x.shape
        add_noise = KernelPlan(
            self.rows.function.kernels["perturb"],
            (*self.draw.operands(at), Input(0, shaped((-1,)))),
            (Output(shape, x.dtype, shaped((-1,))),),
            key=self.draw.key_at(at),
        )

        def run(given: Sequence[Any]) -> Any:
            return of_logits((add_noise(given), *given[1:]))

        return run


def _of_rows(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that say which elements form a row."""
    return {
        name: options[name] for name in ("axis", "where", "causal", "lengths") if name in options
    }


def _random_vjp(
    function: Function, operation: Operation, arrays: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Run the operation `vjp`: also with a hard value, the gradient is that of the soft one, which is kept."""
    hard, out = (
        options.pop("hard", False),
        options.pop("out", None) if options.get("hard") else None,
    )
    y, vjp = by_backward(function, operation, arrays, options)()
    if hard:
        of_largest: Any = function_of(hardmax)
        y = of_largest(y, **_of_rows(options), out=out)
    return y, vjp


def _perturb(
    function: Function,
    draws: tuple[np.int64, np.int64],
    x: NDArray[Any],
    y: NDArray[Any],
) -> NDArray[Any]:
    """Write x plus noise into y; softmax then runs in place."""
    run_contiguous(function.kernels["perturb"], draws, (x,), (), (y,), dtype_of(y.dtype.name))
    return y


def _run(
    function: Function,
    operation: Operation,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
) -> RowsCall:
    """Return the call of the ufunc on all rows, for any layout."""
    caller, kernel = function.caller(operation.name), function._family.kernel(operation.name)
    axis, where = options.get("axis", -1), options.get("where")
    are_rows = [bool(each.core) for each in kernel.inputs[:-1]]
    whole = are_rows.index(True)
    given = [as_real_array(caller, *each) for each in zip(operation.inputs, arrays, strict=True)]
    shape = given[whole].shape
    if shape == () and axis in (-1, 0):
        axis = None  # one element is a row
    layout = layout_of(caller, axis, options.get("lengths"), shape)
    reduced = layout.reduced_shape(bool(options.get("keepdims", False)))
    for k, is_row in enumerate(are_rows):
        given[k] = _fitting(
            caller, operation.inputs[k], given[k], shape if is_row else reduced, is_row
        )
    dtype = float_type(arrays, given)
    scalars: tuple[NDArray[Any], ...] = (_temperature_of(function, caller, options, dtype),)
    mask = None if where is None else as_mask(caller, where, shape)
    if options.get("causal"):
        scalars += (_causal_lengths(caller, axis, layout, shape),)
        # Along a row it is contiguous, as the kernel likes it.
        mask = np.broadcast_to(np.ones(shape[-1], bool), shape) if mask is None else mask
    elif mask is not None:
        scalars += (_WHOLE,)
    inputs = [RowArray(*each) for each in zip(given, are_rows, strict=True)]
    if mask is not None:
        inputs.append(RowArray(mask, True))
    return RowsCall(
        function,
        operation,
        operation.name if mask is None else _MASKED + operation.name,
        inputs,
        [RowShape(shape if each.core else reduced, bool(each.core)) for each in kernel.outputs],
        layout,
        dtype,
        scalars,
        options.get("out"),
    )


@dataclass(eq=False, repr=False)
class RowsCall(Call):
    """A call of a kernel over rows.

    Attributes
    ----------
    function, operation : Function, Operation
        What is computed.
    kernel : str
        The key of the kernel.
    inputs : list of RowArray
        The arrays, and a mask behind them if the kernel takes one.
    outputs : list of RowShape
        The shapes of the results.
    layout : Axes or Segments
        Where the rows are.
    dtype : dtype
        The dtype of the results.
    scalars : tuple of ndarray
        The kernel's other operands: the temperature, and with a mask the lengths of rows.
    out : ndarray or tuple, optional
        Where the results go.
    perturb : callable, optional
        Takes the first input and the first output, and returns the new first input.
    """

    function: Function
    operation: Operation
    kernel: str
    inputs: list[RowArray]
    outputs: list[RowShape]
    layout: Axes | Segments
    dtype: np.dtype[Any]
    scalars: tuple[NDArray[Any], ...]
    out: Any
    perturb: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]] | None = None

    def __call__(self) -> Any:
        """Make the call and return the results."""
        caller = self.function.caller(self.operation.name)
        shapes = tuple(each.shape for each in self.outputs)
        results = outputs_for(caller, self.out, shapes, (self.dtype,) * len(shapes))
        given = list(copy_overlapping([each.array for each in self.inputs], results))
        if self.perturb is not None:
            given[0] = self.perturb(given[0], results[0])
        named = zip(given, self.inputs, strict=True)
        inputs = [RowArray(array, each.is_row) for array, each in named]
        found = zip(results, self.outputs, strict=True)
        outputs = [RowArray(array, each.is_row) for array, each in found]
        run_on_rows(self.layout, self._run, inputs, outputs)
        return as_returned(results, self.out)

    def _run(self, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> None:
        if self._is_long(max((each.shape for each in inputs), key=len)[-1]):
            self._run_in_chunks(inputs, outputs)
            return
        self._with_types(self.kernel)(*inputs, *self.scalars, out=tuple(outputs))

    def _is_long(self, length: int) -> bool:
        """Whether rows of this length are computed in chunks; those with a mask are not."""
        has_mask = self.kernel != self.operation.name
        return length > LONG and not has_mask and _has_chunks(self.function._definition)

    def _run_in_chunks(self, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> None:
        keys = (_TOPS, _TOTALS + self.kernel, CHUNKS + self.kernel)
        largest_of, totals_of, compute = (self._with_types(key) for key in keys)
        count = float(max((each.shape for each in inputs), key=len)[-1])

        def results_of(*given: Any) -> None:
            *chunks, top, totals, _, into = given
            compute(*chunks, *self.scalars, top, *totals, count, out=tuple(into))

        run_in_chunks(
            largest_of if "x" in self.operation.inputs else None,
            lambda *given: totals_of(*given[:-1], *self.scalars, given[-1]),
            results_of,
            inputs,
            outputs,
        )

    def _with_types(self, key: str) -> Callable[..., Any]:
        """Return the ufunc of a kernel for the dtype of the results."""
        types = self.function._family.kernel(key).types(self.dtype)
        return partial(self.function.kernels[key], casting="same_kind", signature=types)

    def plan(self, positions: Mapping[str, Any]) -> Plan | None:
        """Return a plan for rows along one axis."""
        if self.out is not None:
            return None
        layout, names = self.layout, self.operation.inputs
        if not isinstance(layout, Axes) or layout.rows_last is None:
            return None
        if self._is_long(*layout.row_shape):
            return None
        if any(name not in positions for name in names):
            return None
        limit = MAX_BYTES if layout.is_last else SMALL_BYTES  # threads divide the axes before a row
        arrays = (each.array for each in self.inputs[: len(names)])
        if not are_plain(arrays, self.dtype, any_layout=True, limit=limit):
            return None
        if any(each.shape == () for each in self.outputs):
            return None
        # Where a mask excludes elements, nothing may read them, not even to copy them.
        if len(self.inputs) > len(names) and not all(
            each.array.flags.c_contiguous for each in self.inputs[: len(names)]
        ):
            return None
        own, view = self.inputs[: len(names)], layout.view
        inputs = [Input(k, view(each.is_row)) for k, each in enumerate(own)]
        for mask, _ in self.inputs[len(own) :]:
            # Without `where`, it is the same in all calls.
            source = positions.get("where", mask)
            inputs.append(Input(source, _mask_view(mask.shape, view(True), layout.is_last)))
        rows = next(each.array.shape[:-1] for each in own if each.is_row)
        for each in self.scalars:  # the lengths of causal rows are those of each row
            whole = np.broadcast_to(each, rows).copy() if each.ndim else each
            inputs.append(Input(whole))
        return KernelPlan(
            self.function.kernels[self.kernel],
            inputs,
            [Output(each.shape, self.dtype, view(each.is_row)) for each in self.outputs],
        )


def _mask_view(
    shape: tuple[int, ...], view: Callable[[NDArray[Any]], NDArray[Any]], is_last: bool
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return a function that views a mask as a kernel takes it, beside an array of this shape."""

    def view_of(mask: NDArray[Any]) -> NDArray[Any]:
        if is_last and mask.shape[-1:] == shape[-1:]:
            return mask  # NumPy broadcasts along the axes before a row
        return view(np.broadcast_to(mask, shape))

    return view_of


def _fitting(
    caller: str, name: str, array: NDArray[Any], shape: tuple[int, ...], is_row: bool
) -> NDArray[Any]:
    """Return an input broadcast to the expected shape, or raise an error that names both."""
    if array.shape == shape:
        return array
    if not is_row:
        try:
            return np.broadcast_to(array, shape)
        except ValueError:
            pass
    raise ValueError(f"{caller}: {name} has shape {array.shape}, expected {shape}") from None
